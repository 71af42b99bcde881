// The run time's API on the model of fake.h: the same rows in any company, however a prompt is cut, on any number of threads; blobs whose every
// field was damaged; sampling; stop texts; refusals.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "runtime/cpu.h"
#include "runtime/engine.h"
#include "runtime/numa.h"
#include "tests/runtime/fake.h"

typedef struct { char path[64]; unsigned char *bytes; size_t length; tn_program program; } Fixture;

static void save(const char *path, const unsigned char *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static int fixture_new(void **state) {
    Fixture *fixture = calloc(1, sizeof *fixture);
    strcpy(fixture->path, "/tmp/tenon-runtime-XXXXXX");
    int fd = mkstemp(fixture->path);
    assert_true(fd >= 0);
    close(fd);
    fixture->bytes = fake_blob(0, 0, &fixture->length);
    fixture->program = fake_language(fixture->bytes);
    save(fixture->path, fixture->bytes, fixture->length);
    *state = fixture;
    return 0;
}

static int fixture_free(void **state) {
    Fixture *fixture = *state;
    unlink(fixture->path);
    free(fixture->bytes);
    free(fixture);
    return 0;
}

static tn_engine *open_fake(Fixture *fixture, const tn_program *program, int threads, int chunk) {
    tn_failure failure = {0};
    tn_open_options options = {.weights = fixture->path, .threads = threads, .chunk = chunk};
    tn_engine *engine = tn_open(program, &options, &failure);
    if (!engine)
        fail_msg("%s", failure.text);
    return engine;
}

// ---- rows -------------------------------------------------------------------------------------------------------------------

enum { PROMPTS = 7 };
static const int lengths[PROMPTS] = {1, 9, 8, 60, 25, 3, 130};

static void fill(int *ids, int prompt) {
    for (int i = 0; i < lengths[prompt]; i++)
        ids[i] = (i * 37 + prompt * 11 + i * i) % 250;
}

// All rows of the prompts in `which`, run together: out[prompt] holds [length, width].
static void rows_of(tn_engine *engine, const int *which, int count, float **out) {
    tn_failure failure = {0};
    int width = tn_width(engine), sequences[PROMPTS], got = 0, wanted = 0;
    for (int i = 0; i < count; i++) {
        int ids[FAKE_CONTEXT];
        fill(ids, which[i]);
        sequences[i] = tn_sequence_new(engine, &failure);
        assert_int_equal(tn_add(engine, sequences[i], ids, lengths[which[i]], TN_WANT_ALL, &failure), 0);
        out[which[i]] = calloc((size_t)lengths[which[i]] * (size_t)width, sizeof(float));
        wanted += lengths[which[i]];
    }
    while (tn_pending(engine)) {
        int rows = tn_run(engine, &failure);
        assert_true(rows >= 0);
        for (int r = 0; r < rows; r++) {
            const tn_row *row = &tn_rows(engine)[r];
            for (int i = 0; i < count; i++)
                if (sequences[i] == row->sequence)
                    memcpy(out[which[i]] + (size_t)row->position * (size_t)width, row->values, (size_t)width * sizeof(float));
            got++;
        }
    }
    assert_int_equal(got, wanted);
    for (int i = 0; i < count; i++)
        tn_sequence_free(engine, sequences[i]);
}

static void same_rows(float **a, float **b, int width) {
    for (int p = 0; p < PROMPTS; p++)
        assert_memory_equal(a[p], b[p], (size_t)lengths[p] * (size_t)width * sizeof(float));
}

static void free_rows(float **rows) {
    for (int p = 0; p < PROMPTS; p++)
        free(rows[p]);
}

static void test_same_rows(void **state) {
    Fixture *fixture = *state;
    static const int all[PROMPTS] = {0, 1, 2, 3, 4, 5, 6};
    float *alone[PROMPTS], *other[PROMPTS];
    tn_engine *engine = open_fake(fixture, &fixture->program, 1, 0);
    for (int p = 0; p < PROMPTS; p++)
        rows_of(engine, &p, 1, alone);
    size_t pages = tn_kv_bytes(engine->kv);
    for (int p = PROMPTS - 1; p >= 0; p--)              // pages are used again: the same rows, no more memory
        rows_of(engine, &p, 1, other);
    same_rows(alone, other, FAKE_WIDTH);
    assert_int_equal(tn_kv_bytes(engine->kv), pages);
    free_rows(other);
    tn_close(engine);
    for (int threads = 1; threads <= 5; threads++)
        for (int chunk = 0; chunk < 24; chunk = chunk * 2 + 1) {
            engine = open_fake(fixture, &fixture->program, threads, chunk);
            rows_of(engine, all, PROMPTS, other);
            same_rows(alone, other, FAKE_WIDTH);
            free_rows(other);
            tn_close(engine);
        }
    free_rows(alone);
}

// The last row's logits come alone when only they are wanted, and equal those of the whole.
static void test_last_row(void **state) {
    Fixture *fixture = *state;
    tn_failure failure = {0};
    float *rows[PROMPTS];
    int ids[FAKE_CONTEXT], prompt = 3, seen = 0;
    tn_engine *engine = open_fake(fixture, &fixture->program, 2, 7);
    rows_of(engine, &prompt, 1, rows);
    fill(ids, prompt);
    int s = tn_sequence_new(engine, &failure);
    assert_int_equal(tn_add(engine, s, ids, 20, TN_WANT_NONE, &failure), 0);
    assert_int_equal(tn_add(engine, s, ids + 20, lengths[prompt] - 20, TN_WANT_LAST, &failure), 0);
    while (tn_pending(engine)) {
        int count = tn_run(engine, &failure);
        for (int i = 0; i < count; i++, seen++) {
            assert_int_equal(tn_rows(engine)[i].position, lengths[prompt] - 1);
            assert_memory_equal(tn_rows(engine)[i].values, rows[prompt] + (lengths[prompt] - 1) * FAKE_WIDTH, FAKE_WIDTH * sizeof(float));
        }
    }
    assert_int_equal(seen, 1);
    // back to position 30, and on again: the same rows as the first time
    assert_int_equal(tn_trim(engine, s, 30, &failure), 0);
    assert_int_equal(tn_add(engine, s, ids + 30, lengths[prompt] - 30, TN_WANT_ALL, &failure), 0);
    while (tn_pending(engine)) {
        int count = tn_run(engine, &failure);
        for (int i = 0; i < count; i++, seen++)
            assert_memory_equal(tn_rows(engine)[i].values, rows[prompt] + tn_rows(engine)[i].position * FAKE_WIDTH, FAKE_WIDTH * sizeof(float));
    }
    assert_int_equal(seen, 1 + lengths[prompt] - 30);
    free(rows[prompt]);
    tn_close(engine);
}

static void test_refusals(void **state) {
    Fixture *fixture = *state;
    tn_failure failure = {0};
    int ids[FAKE_CONTEXT + 1] = {0}, bad = FAKE_VOCAB;
    tn_engine *engine = open_fake(fixture, &fixture->program, 1, 0);
    int s = tn_sequence_new(engine, &failure);
    assert_int_equal(tn_add(engine, s, ids, FAKE_CONTEXT + 1, TN_WANT_NONE, &failure), -1);
    assert_string_equal(failure.text, "201 tokens do not fit into a context of 200");
    failure = (tn_failure){0};
    assert_int_equal(tn_add(engine, s, &bad, 1, TN_WANT_NONE, &failure), -1);
    assert_string_equal(failure.text, "token 260: the model's ids are 0 … 259");
    bad = -1;
    assert_int_equal(tn_add(engine, s, &bad, 1, TN_WANT_NONE, NULL), -1);
    assert_int_equal(tn_add(engine, 99, ids, 1, TN_WANT_NONE, NULL), -1);
    assert_int_equal(tn_add(engine, -1, ids, 1, TN_WANT_NONE, NULL), -1);
    assert_int_equal(tn_trim(engine, s, 1, NULL), -1);
    assert_int_equal(tn_add(engine, s, ids, FAKE_CONTEXT, TN_WANT_LAST, NULL), 0);
    assert_int_equal(tn_add(engine, s, ids, 1, TN_WANT_LAST, NULL), -1);
    tn_close(engine);
    failure = (tn_failure){0};
    tn_program other = fixture->program;
    other.abi = TN_ABI + 1;
    assert_null(tn_open(&other, &(tn_open_options){.weights = fixture->path}, &failure));
    assert_int_equal(failure.code, TN_BAD_INPUT);
    assert_null(tn_open(&fixture->program, &(tn_open_options){.weights = fixture->path, .context = FAKE_CONTEXT + 1}, NULL));
    assert_null(tn_open(&fixture->program, &(tn_open_options){.weights = "/nowhere"}, NULL));
}

// ---- encoders ---------------------------------------------------------------------------------------------------------------

static void test_encoders(void **state) {
    Fixture *fixture = *state;
    enum { SHORT = 4 };
    static const int counts[SHORT] = {24, 1, 13, 12};
    for (int kind = TN_PER_TOKEN; kind <= TN_PER_SEQUENCE; kind += TN_PER_SEQUENCE - TN_PER_TOKEN) {
        tn_program program = fake_encoder(fixture->bytes, kind);
        float alone[SHORT][24][FAKE_VECTOR] = {0}, together[SHORT][24][FAKE_VECTOR] = {0};
        for (int batch = 0; batch < 2; batch++) {
            tn_engine *engine = open_fake(fixture, &program, 1 + batch, 5);       // a chunk is no excuse to cut a sequence
            int rows = 0, s[SHORT];
            for (int i = 0; i < SHORT; i++) {
                int ids[24];
                for (int j = 0; j < counts[i]; j++)
                    ids[j] = (i * 50 + j) % 250;
                s[i] = tn_sequence_new(engine, NULL);
                assert_int_equal(tn_add(engine, s[i], ids, counts[i], TN_WANT_ALL, NULL), 0);
                while (tn_pending(engine) && (!batch || i == SHORT - 1)) {
                    int count = tn_run(engine, NULL);
                    rows += count;
                    for (int r = 0; r < count; r++)
                        for (int k = 0; k < SHORT && k <= i; k++)
                            if (tn_rows(engine)[r].sequence == s[k])
                                memcpy((batch ? together : alone)[k][tn_rows(engine)[r].position], tn_rows(engine)[r].values, sizeof alone[0][0]);
                }
            }
            assert_int_equal(rows, kind == TN_PER_SEQUENCE ? SHORT : 50);
            int ids[25] = {0};
            assert_int_equal(tn_add(engine, s[0], ids, 1, TN_WANT_ALL, NULL), -1);
            assert_int_equal(tn_add(engine, tn_sequence_new(engine, NULL), ids, 25, TN_WANT_ALL, NULL), -1);
            tn_close(engine);
        }
        assert_memory_equal(alone, together, sizeof alone);
        assert_true(alone[1][0][0] != 0);
    }
}

// ---- blobs ------------------------------------------------------------------------------------------------------------------

// Opens `bytes`; returns the message, which must be there.
static const char *refused(Fixture *fixture, const unsigned char *bytes, size_t length, const tn_program *program) {
    static tn_failure failure;
    failure = (tn_failure){0};
    save(fixture->path, bytes, length);
    Blob *blob = tn_blob_open(fixture->path, program, &failure);
    if (blob)
        fail_msg("a damaged blob was opened");
    assert_int_equal(failure.code, TN_BAD_INPUT);
    assert_non_null(strstr(failure.text, fixture->path));
    return failure.text;
}

// Every bit of header and trailer, and of the sections that are hashed at once.
static void test_damaged_blob(void **state) {
    Fixture *fixture = *state;
    size_t header = offsetof(BlobHeader, sections) + 3 * sizeof(BlobSection), trailer = fixture->length - sizeof(BlobTrailer);
    const BlobHeader *h = (const BlobHeader *)(const void *)fixture->bytes;
    for (size_t at = 0; at < fixture->length; at++) {
        bool hashed = at < header || at >= trailer;
        for (int s = 1; s < 3; s++)
            hashed |= at >= h->sections[s].offset && at < h->sections[s].offset + h->sections[s].length && at % 61 == 0;
        for (int bit = at % 3; hashed && bit < 8; bit += 3) {
            fixture->bytes[at] ^= (unsigned char)(1 << bit);
            refused(fixture, fixture->bytes, fixture->length, &fixture->program);
            fixture->bytes[at] ^= (unsigned char)(1 << bit);
        }
    }
    for (size_t length = 0; length < fixture->length; length += length < 5000 ? 37 : 1001)
        refused(fixture, fixture->bytes, length, &fixture->program);
    refused(fixture, fixture->bytes, fixture->length - 1, &fixture->program);
    refused(fixture, fixture->bytes, fixture->length - sizeof(BlobTrailer) - 1, &fixture->program);   // header's length says more
    save(fixture->path, fixture->bytes, fixture->length - sizeof(BlobTrailer));                        // without trailer: allowed
    Blob *blob = tn_blob_open(fixture->path, &fixture->program, NULL);
    assert_non_null(blob);
    tn_blob_close(blob);
}

// Tables that are consistent with their hash but lie.
static void test_lying_blob(void **state) {
    Fixture *fixture = *state;
    BlobHeader *header = (BlobHeader *)(void *)fixture->bytes;
    BlobHeader good = *header;
    static const uint64_t values[] = {0, 1, 4095, 4097, 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 4095};
    for (int section = 0; section < 3; section++)
        for (size_t v = 0; v < sizeof values / sizeof *values; v++)
            for (int field = 0; field < 2; field++) {
                *header = good;
                *(field ? &header->sections[section].length : &header->sections[section].offset) = values[v];
                fake_rehash(fixture->bytes, fixture->length);
                fixture->program.blob_hash = header->hash;
                refused(fixture, fixture->bytes, fixture->length, &fixture->program);
            }
    *header = good;
    header->sections[1].kind = SECTION_TOKENIZER;
    fake_rehash(fixture->bytes, fixture->length);
    assert_non_null(strstr(refused(fixture, fixture->bytes, fixture->length, NULL), "two sections"));
    *header = good;
    fake_rehash(fixture->bytes, fixture->length);
    tn_program other = fixture->program;
    other.blob_hash = header->hash ^ 1;
    assert_non_null(strstr(refused(fixture, fixture->bytes, fixture->length, &other), "not the weights of this program"));
    other = fixture->program;
    other.blob_hash = header->hash;
    other.weights_bytes++;
    assert_non_null(strstr(refused(fixture, fixture->bytes, fixture->length, &other), "bytes of weights"));
}

// Records whose lengths lie, with right hashes.
static void test_lying_records(void **state) {
    Fixture *fixture = *state;
    BlobHeader *header = (BlobHeader *)(void *)fixture->bytes;
    unsigned char *meta = fixture->bytes + header->sections[1].offset, good[64];
    memcpy(good, meta, sizeof good);
    static const uint32_t lies[] = {0x7fffffff, 0xffffffff, 100000};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        memcpy(meta + 5, &lies[i], 4);                         // "name\0", then the length
        header->sections[1].hash = tn_hash(meta, header->sections[1].length);
        fake_rehash(fixture->bytes, fixture->length);
        refused(fixture, fixture->bytes, fixture->length, NULL);
    }
    memcpy(meta, good, sizeof good);
    for (uint64_t length = header->sections[1].length - 1; length > 0; length--) {
        header->sections[1].length = length;
        header->sections[1].hash = tn_hash(meta, length);
        fake_rehash(fixture->bytes, fixture->length);
        save(fixture->path, fixture->bytes, fixture->length);
        tn_blob_close(tn_blob_open(fixture->path, NULL, NULL));           // refused, or one record fewer: never a read too far
    }
}

static void test_meta(void **state) {
    Fixture *fixture = *state;
    Blob *blob = tn_blob_open(fixture->path, &fixture->program, NULL);
    assert_string_equal(tn_blob_meta(blob, "source", 1), "fake.gguf");
    assert_null(tn_blob_meta(blob, "source", 2));
    assert_null(tn_blob_meta(blob, "sourc", 0));
    assert_int_equal(tn_blob_verify(blob, NULL), 0);
    tn_blob_close(blob);
    fixture->bytes[BLOB_ALIGN + 100] ^= 1;                                // a weight: seen only by those who ask
    save(fixture->path, fixture->bytes, fixture->length);
    tn_failure failure = {0};
    blob = tn_blob_open(fixture->path, &fixture->program, &failure);
    assert_int_equal(tn_blob_verify(blob, &failure), -1);
    assert_non_null(strstr(failure.text, "weight section is damaged"));
    tn_blob_close(blob);
}

// ---- sampling ---------------------------------------------------------------------------------------------------------------

static void test_exp(void **state) {
    (void)state;
    for (double x = -699; x < 699; x += 0.371)
        assert_true(fabs(tn_exp(x) / exp(x) - 1) < 4e-16 * 4);
    assert_true(tn_exp(-1000) == 0 && tn_exp(-INFINITY) == 0 && tn_exp(NAN) == 0 && tn_exp(0) == 1);
    assert_true(isfinite(tn_exp(INFINITY)));
}

enum { SMALL = 12 };
static const float small[SMALL] = {0.5f, 2.0f, -1.0f, 1.0f, 2.0f, -INFINITY, 0.0f, NAN, 1.5f, -3.0f, 0.25f, 1.0f};

static void draw_many(const tn_sampling *how, double share[SMALL]) {
    enum { DRAWS = 60000 };
    memset(share, 0, SMALL * sizeof *share);
    for (int i = 0; i < DRAWS; i++) {
        int id = tn_draw(small, NULL, SMALL, NULL, i, how, NULL);      // history NULL: without a penalty only its length is used
        assert_true(id >= 0 && id < SMALL);
        share[id] += 1.0 / DRAWS;
    }
}

// What should come out: probabilities over the ids that are kept.
static void expect_share(const double share[SMALL], const int *kept, int count, double temperature) {
    double total = 0;
    for (int i = 0; i < count; i++)
        total += exp(small[kept[i]] / temperature);
    double sum = 0;
    for (int i = 0; i < count; i++) {
        double p = exp(small[kept[i]] / temperature) / total;
        if (fabs(share[kept[i]] - p) > 5 * sqrt(p / 60000) + 1e-9)
            fail_msg("id %d: %.4f drawn, %.4f expected", kept[i], share[kept[i]], p);
        sum += share[kept[i]];
    }
    assert_true(fabs(sum - 1) < 1e-9);
}

static void test_sampling(void **state) {
    (void)state;
    double share[SMALL];
    static const int all[] = {0, 1, 2, 3, 4, 6, 8, 9, 10, 11}, three[] = {1, 4, 8}, two[] = {1, 4}, five[] = {1, 4, 8, 3, 11}, four[] = {1, 4, 8, 3};
    draw_many(&(tn_sampling){.temperature = 1.3, .seed = 5}, share);
    expect_share(share, all, 10, 1.3);
    draw_many(&(tn_sampling){.temperature = 0.7, .top_k = 3}, share);
    expect_share(share, three, 3, 0.7);
    draw_many(&(tn_sampling){.temperature = 1, .top_k = 4, .seed = 1ull << 60}, share);         // 3 and 11 tie: the lower id
    expect_share(share, four, 4, 1);
    draw_many(&(tn_sampling){.temperature = 1, .top_p = 0.5}, share);     // 0.270 + 0.270
    expect_share(share, two, 2, 1);
    draw_many(&(tn_sampling){.temperature = 1, .top_p = 0.6}, share);
    expect_share(share, three, 3, 1);
    draw_many(&(tn_sampling){.temperature = 1, .min_p = 0.36}, share);    // e^-1 = 0.368
    expect_share(share, five, 5, 1);
    draw_many(&(tn_sampling){.temperature = 1, .min_p = 0.37}, share);
    expect_share(share, three, 3, 1);
    draw_many(&(tn_sampling){.temperature = 1, .top_p = 1e-9}, share);
    assert_true(share[1] > 0.999999);
    draw_many(&(tn_sampling){0}, share);
    assert_true(share[1] > 0.999999);
    draw_many(&(tn_sampling){.temperature = 1e-3}, share);
    assert_true(fabs(share[1] - 0.5) < 0.02 && fabs(share[4] - 0.5) < 0.02);
    int history[] = {1, 4, 1, 99, -5};
    assert_int_equal(tn_draw(small, NULL, SMALL, history, 5, &(tn_sampling){.repeat_penalty = 1.5}, NULL), 8);
    assert_int_equal(tn_draw(small, NULL, SMALL, history, 5, &(tn_sampling){.repeat_penalty = 1.3}, NULL), 1);
    float odd[3] = {NAN, -INFINITY, NAN}, top[3] = {1, INFINITY, 2};
    assert_int_equal(tn_draw(odd, NULL, 3, NULL, 0, &(tn_sampling){.temperature = 1}, NULL), 1);
    assert_int_equal(tn_draw(top, NULL, 3, NULL, 0, &(tn_sampling){.temperature = 1, .top_p = 0.5}, NULL), 1);
}

// ---- generation -------------------------------------------------------------------------------------------------------------

typedef struct { char text[PROMPTS][2048]; } Texts;

static int collect(void *to, int sequence, const char *text, size_t length) {
    Texts *texts = to;
    assert_true(length > 0);
    strncat(texts->text[sequence], text, length);
    return 0;
}

static void generate(tn_engine *engine, const char *const *prompts, int count, tn_generation how, Texts *texts, int *results) {
    tn_failure failure = {0};
    int sequences[PROMPTS], ids[64];
    memset(texts, 0, sizeof *texts);
    how.on_text = collect;
    how.to = texts;
    for (int i = 0; i < count; i++) {
        int n = tn_encode(engine, prompts[i], strlen(prompts[i]), 1, ids, 64, &failure);
        assert_int_equal(n, strlen(prompts[i]) + 1);
        sequences[i] = tn_sequence_new(engine, &failure);
        assert_int_equal(sequences[i], i);
        assert_int_equal(tn_add(engine, sequences[i], ids, n, TN_WANT_LAST, &failure), 0);
    }
    if (tn_generate(engine, sequences, count, &how, results, &failure))
        fail_msg("%s", failure.text);
    for (int i = 0; i < count; i++)
        tn_sequence_free(engine, sequences[i]);
}

static void test_generate(void **state) {
    Fixture *fixture = *state;
    static const char *const prompts[5] = {"a", "one two three", "x y", "a longer one that takes several pages of the cache", "Grüße"};
    Texts together, alone;
    int results[5], result;
    tn_program plain = fixture->program;
    plain.out_blocks = 0;                        // tokens are the same without the largest of each block
    for (int sampled = 0; sampled < 3; sampled++) {
        tn_generation how = {.most = 60, .sampling = {.temperature = sampled ? 1.5 : 0, .top_p = 0.9, .repeat_penalty = sampled == 2 ? 1.1 : 1, .seed = 3}};
        tn_engine *engine = open_fake(fixture, &fixture->program, 2, 0), *other = open_fake(fixture, &plain, 2, 0);
        generate(engine, prompts, 5, how, &together, results);
        for (int i = 0; i < 5; i++) {
            generate(i % 2 ? engine : other, &prompts[i], 1, how, &alone, &result);
            assert_string_equal(alone.text[0], together.text[i]);
            assert_int_equal(result, results[i]);
            assert_true(result == TN_STOPPED_AT_LENGTH ? strlen(alone.text[0]) >= 60 : result == TN_STOPPED_AT_END);
        }
        tn_close(engine);
        tn_close(other);
    }
}

// More sequences than a step takes: the memory of one step's, and the same texts.
static void test_many(void **state) {
    Fixture *fixture = *state;
    enum { MANY = 41 };
    tn_engine *engine = open_fake(fixture, &fixture->program, 2, 0);
    int sequences[MANY], results[MANY], alone, result;
    for (int i = 0; i < MANY; i++) {
        sequences[i] = tn_sequence_new(engine, NULL);
        for (int id = 0; id <= i % 13; id++)
            assert_int_equal(tn_add(engine, sequences[i], &(int){id * 7 + i}, 1, id == i % 13 ? TN_WANT_LAST : TN_WANT_NONE, NULL), 0);
    }
    tn_generation how = {.most = 50, .many = 1};
    assert_int_equal(tn_generate(engine, sequences, MANY, &how, results, NULL), 0);
    assert_true(tn_kv_bytes(engine->kv) <= FAKE_SEQUENCES * 8 * 4096);
    assert_int_equal(tn_pending(engine), 0);
    how.many = 0;
    for (int i = 0; i < MANY; i++) {
        alone = tn_sequence_new(engine, NULL);
        tn_add(engine, alone, tn_tokens(engine, sequences[i]), i % 13 + 1, TN_WANT_LAST, NULL);
        assert_int_equal(tn_generate(engine, &alone, 1, &how, &result, NULL), 0);
        assert_int_equal(result, results[i]);
        assert_int_equal(tn_length(engine, alone), tn_length(engine, sequences[i]));
        assert_memory_equal(tn_tokens(engine, alone), tn_tokens(engine, sequences[i]), (size_t)tn_length(engine, alone) * sizeof(int));
        tn_sequence_free(engine, alone);
    }
    // one that gave its cache back goes on as one that did not
    alone = tn_sequence_new(engine, NULL);
    tn_add(engine, alone, tn_tokens(engine, sequences[40]), tn_length(engine, sequences[40]), TN_WANT_NONE, NULL);
    for (int i = 0; i < 2; i++)
        tn_add(engine, i ? alone : sequences[40], &(int){77}, 1, TN_WANT_LAST, NULL);
    int both[2] = {sequences[40], alone};
    assert_int_equal(tn_generate(engine, both, 2, &how, results, NULL), 0);
    assert_int_equal(tn_length(engine, both[0]), tn_length(engine, both[1]));
    assert_memory_equal(tn_tokens(engine, both[0]), tn_tokens(engine, both[1]), (size_t)tn_length(engine, alone) * sizeof(int));
    tn_close(engine);
}

static void test_stops(void **state) {
    Fixture *fixture = *state;
    static const char *const prompt[] = {"once"};
    Texts whole, cut;
    int result;
    tn_engine *engine = open_fake(fixture, &fixture->program, 1, 0);
    generate(engine, prompt, 1, (tn_generation){.most = 100, .ignore_end = 1}, &whole, &result);
    assert_int_equal(result, TN_STOPPED_AT_LENGTH);
    assert_true(strlen(whole.text[0]) > 40);
    for (int at = 0; at < 30; at++)
        for (int length = 1; length < 9; length++) {
            char stop[16] = "";
            strncat(stop, whole.text[0] + at, (size_t)length);
            const char *stops[] = {"never to be seen", stop, "Z"};
            generate(engine, prompt, 1, (tn_generation){.most = 100, .ignore_end = 1, .stops = stops, .stop_count = 3}, &cut, &result);
            assert_int_equal(result, TN_STOPPED_AT_TEXT);
            size_t expected = (size_t)(strstr(whole.text[0], stop) - whole.text[0]);
            assert_int_equal(strlen(cut.text[0]), expected);
            assert_memory_equal(cut.text[0], whole.text[0], expected);
        }
    char half[16] = "";                                   // a stop text that begins but does not come: nothing is lost
    strncat(half, whole.text[0] + strlen(whole.text[0]) - 3, 3);
    strcat(half, "!!");
    generate(engine, prompt, 1, (tn_generation){.most = 100, .ignore_end = 1, .stops = (const char *const[]){half}, .stop_count = 1}, &cut, &result);
    assert_string_equal(cut.text[0], whole.text[0]);
    generate(engine, prompt, 1, (tn_generation){.most = -1, .ignore_end = 1}, &cut, &result);
    assert_int_equal(result, TN_STOPPED_AT_CONTEXT);
    generate(engine, prompt, 1, (tn_generation){.most = 0}, &cut, &result);
    assert_int_equal(result, TN_STOPPED_AT_LENGTH);
    assert_string_equal(cut.text[0], "");
    // the model's end token, and a special token given as a stop text
    static const char *const many[] = {"a", "b", "c", "d", "e"};
    int results[5], ended = 0;
    generate(engine, many, 5, (tn_generation){.most = -1}, &whole, results);
    for (int i = 0; i < 5; i++)
        ended += results[i] == TN_STOPPED_AT_END;
    assert_true(ended >= 4);
    generate(engine, many, 5, (tn_generation){.most = -1, .ignore_end = 1, .stops = (const char *const[]){"<|end|>"}, .stop_count = 1}, &cut, results);
    assert_memory_equal(&whole, &cut, sizeof cut);
    tn_close(engine);
}

static int stop_after(void *to, int sequence, const char *text, size_t length) {
    (void)sequence, (void)text, (void)length;
    return --*(int *)to == 0;
}

static void test_caller_stops(void **state) {
    Fixture *fixture = *state;
    int left = 7, result, id = 5;
    tn_engine *engine = open_fake(fixture, &fixture->program, 1, 0);
    int s = tn_sequence_new(engine, NULL);
    tn_add(engine, s, &id, 1, TN_WANT_LAST, NULL);
    tn_generation how = {.most = -1, .ignore_end = 1, .on_text = stop_after, .to = &left};
    assert_int_equal(tn_generate(engine, &s, 1, &how, &result, NULL), 0);
    assert_int_equal(result, TN_STOPPED_BY_CALLER);
    assert_in_range(tn_length(engine, s), 8, 10);          // seven texts; an end token has none
    assert_int_equal(tn_tokens(engine, s)[0], 5);
    tn_failure failure = {0};
    int empty = tn_sequence_new(engine, NULL);
    assert_int_equal(tn_generate(engine, &empty, 1, &how, &result, &failure), -1);
    tn_close(engine);
}

static void test_text(void **state) {
    Fixture *fixture = *state;
    int ids[32];
    char text[16];
    tn_engine *engine = open_fake(fixture, &fixture->program, 1, 0);
    assert_int_equal(tn_encode(engine, "a<|end|>", 8, 0, ids, 32, NULL), 8);
    assert_int_equal(tn_encode(engine, "a<|end|>", 8, 2, ids, 32, NULL), 2);
    assert_int_equal(ids[1], FAKE_END);
    assert_int_equal(tn_encode(engine, "a<|end|>", 8, 1, ids, 32, NULL), 3);
    assert_int_equal(ids[0], FAKE_BOS);
    assert_int_equal(tn_encode(engine, "abcdef", 6, 0, ids, 2, NULL), 6);
    assert_int_equal(tn_decode(engine, (int[]){'h', 'i', FAKE_END}, 3, 0, text, sizeof text), 2);
    assert_string_equal(text, "hi");
    assert_int_equal(tn_decode(engine, (int[]){'h', 'i', FAKE_END}, 3, 1, text, 4), 9);
    assert_string_equal(text, "hi<");
    assert_int_equal(tn_is_end(engine, FAKE_END), 1);
    assert_int_equal(tn_is_end(engine, 'a'), 0);
    assert_string_equal(tn_meta(engine, "chat.generation", 0), "<|bot|>");
    tn_close(engine);
}

// Many barriers by more threads than there are CPUs: everybody sees everything of the phase before.
enum { PHASES = 1000, CROWD = 9 };
static int phase_of[CROWD];

static void run_phases(const tn_step *step, tn_worker *worker) {
    for (int phase = 1; phase <= PHASES; phase++) {
        phase_of[worker->index] = phase;
        if (worker->barrier)
            worker->barrier(worker);
        for (int i = 0; i < worker->count; i++)
            if (phase_of[i] != phase)
                *step->out = 1;
        if (worker->barrier)
            worker->barrier(worker);
    }
}

static void test_barriers(void **state) {
    (void)state;
    tn_program program = {.run = run_phases};
    float wrong = 0;
    tn_step step = {.out = &wrong};
    for (int threads = 1; threads <= CROWD; threads += 2) {
        Team *team = tn_team_new(threads, NULL);
        for (int i = 0; i < 3; i++)
            tn_team_run(team, &program, &step, NULL);
        tn_team_free(team);
        assert_true(wrong == 0);
    }
    assert_true(tn_team_available() >= 1);
}

// ---- memory nodes -----------------------------------------------------------------------------------------------------------

static void put(const char *folder, const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    save(path, (const unsigned char *)text, strlen(text));
}

static unsigned long long nodes_of(const char *folder, const char *memory, const char *first, const char *second, const char *third) {
    put(folder, "has_memory", memory);
    put(folder, "node0/cpulist", first);
    put(folder, "node1/cpulist", second);
    put(folder, "node5/cpulist", third);
    return tn_numa_nodes(folder);
}

static void test_nodes(void **state) {
    (void)state;
    char folder[] = "/tmp/tenon-nodes-XXXXXX", path[200];
    static const char *const folders[] = {"node0", "node1", "node5"};
    assert_non_null(mkdtemp(folder));
    assert_true(tn_numa_nodes(folder) == 0);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, folders[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_true(nodes_of(folder, "0\n", "0-8191\n", "\n", "\n") == 1);
    assert_true(nodes_of(folder, "0-1,5\n", "0-8191\n", "0,2-8191\n", "0-4000,4001-8191\n") == 0x23);
    assert_true(nodes_of(folder, "0-1,5\n", "0-8191\n", "\n", "0-8191\n") == 0x21);        // a node without CPUs
    assert_true(nodes_of(folder, "0,5\n", "0-8191\n", "0-8191\n", "8190-8191\n") == 1);     // CPUs that are not ours
    assert_true(nodes_of(folder, "0-4\n", "0-8191\n", "0-8191\n", "0-8191\n") == 3);        // folders that are missing
    assert_true(nodes_of(folder, "rubbish", "", "", "") == 0);
    assert_true(nodes_of(folder, "0-1,9-3,-5", "-", "99999999999999999999-1", "5-") == 0);
    assert_int_equal(tn_numa_spread(0), 0);
    assert_int_equal(tn_numa_spread(1), 0);
    snprintf(path, sizeof path, "rm -r %s", folder);
    assert_int_equal(system(path), 0);
}

// ---- processors -------------------------------------------------------------------------------------------------------------

static void test_choice(void **state) {
    (void)state;
    char missing[64];
    assert_true(tn_cpu_has(NULL, NULL, 0) && tn_cpu_has("", missing, sizeof missing) && tn_cpu_has("  ", NULL, 0) && !*missing);
    assert_false(tn_cpu_has(" flux-capacitor  warp", missing, sizeof missing));
    assert_string_equal(missing, "flux-capacitor warp");
    assert_false(tn_cpu_has("flux-capacitor warp", missing, 8));    // as much as there is room for
    assert_string_equal(missing, "flux-ca");
    tn_program best = {.abi = TN_ABI, .model = "m", .target = "best", .needs = "warp"}, good = {.abi = TN_ABI, .model = "m", .target = "good"};
    const tn_program *two[] = {&best, &good, NULL}, *one[] = {&best, NULL};
    tn_program fat = {.abi = TN_ABI, .model = "m", .target = "best,good", .variants = two};
    tn_failure failure = {0};
    assert_ptr_equal(tn_choose(&fat, &failure), &good);
    assert_ptr_equal(tn_choose(&good, &failure), &good);
    setenv("TENON_TARGET", "good", 1);
    assert_ptr_equal(tn_choose(&fat, &failure), &good);
    setenv("TENON_TARGET", "best", 1);
    assert_null(tn_choose(&fat, &failure));
    assert_int_equal(failure.code, TN_BAD_MACHINE);
    assert_ptr_equal(tn_choose(&good, &failure), &good);
    setenv("TENON_TARGET", "bad", 1);
    failure = (tn_failure){0};
    assert_null(tn_choose(&fat, &failure));
    assert_int_equal(failure.code, TN_BAD_USAGE);
    unsetenv("TENON_TARGET");
    fat.variants = one;
    failure = (tn_failure){0};
    assert_null(tn_choose(&fat, &failure));
    assert_int_equal(failure.code, TN_BAD_MACHINE);
    assert_non_null(strstr(failure.text, "best lacks warp"));
    fat.abi = 1;
    failure = (tn_failure){0};
    assert_null(tn_choose(&fat, &failure));
    assert_int_equal(failure.code, TN_BAD_INPUT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_same_rows), TEST(test_last_row), TEST(test_refusals), TEST(test_encoders), TEST(test_damaged_blob), TEST(test_lying_blob),
        TEST(test_lying_records), TEST(test_meta), TEST(test_exp), TEST(test_sampling), TEST(test_generate), TEST(test_many), TEST(test_stops), TEST(test_caller_stops),
        TEST(test_text), TEST(test_barriers), TEST(test_nodes), TEST(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
