// Experts beyond memory, on a model written by hand whose output is a hash of every weight that it visits: the same rows for whatever fits, on any number
// of threads, however a prompt is cut; what is counted; a bound that is too small; a file that is cut short while it is in use; memory of large experts
// that is given back and no other (the linker hands mmap and madvise to this file).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "runtime/engine.h"
#include "runtime/pager.h"

enum { EXPERTS = 8, SLOTS = 2, LAYERS = 3, CALLS = 5, TOKENS = 16, VOCAB = 64, PAGE = 4096, MOST = 150, PINNED = 5 * PAGE, TABLE = 4 * PAGE, WIDTH = 4 };
enum { EXPERT_BYTES = 2 * PAGE + 100, EXPERT_PAGES = 3, PIECES = 1 + LAYERS * EXPERTS, WEIGHTS = PINNED + TABLE + LAYERS * EXPERTS * EXPERT_PAGES * PAGE };
static const int layer_of_call[CALLS] = {0, 0, 0, 1, 2};      // the first is shared by three calls

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t x = a * 0x9e3779b97f4a7c15ull ^ (b + 0x632be59bd9b4e019ull);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    return x ^ (x >> 31);
}

static uint64_t hash_of(const unsigned char *bytes, size_t length) {
    uint64_t hash = 7;
    for (size_t i = 0; i < length; i++)
        hash = hash * 31 + bytes[i];
    return hash;
}

static uint64_t expert_offset(int layer, int expert) { return PINNED + TABLE + (uint64_t)(layer * EXPERTS + expert) * EXPERT_PAGES * PAGE; }

// A token's choice depends on its id and the layer alone; each expert that is chosen is one group.
static int make_groups(const tn_step *step, int call, tn_group *groups) {
    int rows[EXPERTS] = {0}, count = 0, first = 0;
    for (int t = 0; t < step->tokens; t++)
        for (int s = 0; s < SLOTS; s++)
            rows[(step->inputs[0][t] * 5 + layer_of_call[call] + s * 3) % EXPERTS]++;
    for (int e = 0; e < EXPERTS; e++)
        if (rows[e]) {
            groups[count++] = (tn_group){e, first, rows[e], first};
            first += rows[e];
        }
    return count;
}

static void run_layer(const tn_step *step, tn_worker *worker, int call) {
    unsigned long long first[EXPERTS], second[EXPERTS];
    const unsigned long long *p[] = {first, second};
    uint64_t *hashes = (uint64_t *)(void *)step->arena + call * EXPERTS;
    tn_group groups[EXPERTS];
    int count = make_groups(step, call, groups);
    for (int e = 0; e < EXPERTS; e++) {
        first[e] = expert_offset(layer_of_call[call], e);
        second[e] = first[e] + PAGE + 64;
    }
    for (int from = 0, to; from < count; from = to) {
        to = step->page ? step->page(step, worker, p, 2, EXPERTS, groups, from, count) : count;
        for (int g = from; g < to; g++)
            if (groups[g].expert % worker->count == worker->index)
                hashes[groups[g].expert] = hash_of(step->weights + p[0][groups[g].expert], EXPERT_BYTES);
    }
    if (worker->barrier)
        worker->barrier(worker);
}

static void run(const tn_step *step, tn_worker *worker) {
    for (int call = 0; call < CALLS; call++)
        run_layer(step, worker, call);
    const uint64_t *hashes = (const uint64_t *)(const void *)step->arena;
    for (int r = worker->index; r < step->rows; r += worker->count) {
        int id = step->inputs[0][step->keep[r]];
        uint64_t hash = mix(hash_of(step->weights, PINNED), hash_of(step->weights + PINNED + id * (TABLE / VOCAB), TABLE / VOCAB));
        for (int call = 0; call < CALLS; call++)
            for (int s = 0; s < SLOTS; s++)
                hash = mix(hash, hashes[call * EXPERTS + (id * 5 + layer_of_call[call] + s * 3) % EXPERTS]);
        for (int i = 0; i < WIDTH; i++)
            step->out[r * WIDTH + i] = (float)(mix(hash, (uint64_t)i) >> 40);
    }
}

static const char *const input_names[] = {"tokens"};
static const int input_limits[] = {VOCAB};
static const tn_kernel_info kernels[] = {{.name = "expert", .what = "expert", .experts = EXPERTS, .slots = SLOTS, .calls = CALLS}};
static tn_piece pieces[PIECES];

typedef struct { char path[64]; tn_program program; Blob *blob; float want[VOCAB][WIDTH]; } Fixture;

static unsigned char *make_blob(size_t *length, uint64_t *hash) {
    *length = PAGE + WEIGHTS;
    unsigned char *bytes = calloc(1, *length);
    BlobHeader *header = (BlobHeader *)(void *)bytes;
    for (size_t i = 0; i < WEIGHTS; i++)
        bytes[PAGE + i] = (unsigned char)mix(1, i / 3);
    memcpy(header->magic, BLOB_MAGIC, 8);
    header->version = BLOB_VERSION;
    header->section_count = 1;
    header->length = *length;
    header->sections[0] = (BlobSection){.kind = SECTION_WEIGHTS, .offset = PAGE, .length = WEIGHTS, .hash = tn_hash(bytes + PAGE, WEIGHTS)};
    *hash = header->hash = tn_blob_table_hash(header);
    return bytes;
}

static unsigned long long bound(int experts) { return PAGER_OVERHEAD + (unsigned long long)CALLS * EXPERTS * 8 + PINNED + (unsigned long long)experts * EXPERT_PAGES * PAGE; }

static tn_engine *open_engine(Fixture *fixture, int experts, int threads, int chunk) {
    tn_failure failure = {0};
    tn_open_options options = {.threads = threads, .chunk = chunk, .memory = experts ? bound(experts) : 0};
    tn_engine *engine = tn_open_blob(&fixture->program, fixture->blob, &options, &failure);
    if (!engine)
        fail_msg("%s", failure.text);
    return engine;
}

static void collect(tn_engine *engine, const int *ids, int count, float (*rows)[WIDTH]) {
    tn_failure failure = {0};
    int sequence = tn_sequence_new(engine, &failure);
    assert_int_equal(tn_add(engine, sequence, ids, count, TN_WANT_ALL, &failure), 0);
    while (tn_pending(engine)) {
        int made = tn_run(engine, &failure);
        if (made < 0)
            fail_msg("%s", failure.text);
        for (int i = 0; i < made; i++)
            memcpy(rows[tn_rows(engine)[i].position], tn_rows(engine)[i].values, sizeof *rows);
    }
    tn_sequence_free(engine, sequence);
}

static int fixture_new(void **state) {
    Fixture *fixture = calloc(1, sizeof *fixture);
    tn_failure failure = {0};
    size_t length;
    uint64_t hash;
    unsigned char *bytes = make_blob(&length, &hash);
    strcpy(fixture->path, "/tmp/tenon-paging-XXXXXX");
    int fd = mkstemp(fixture->path), all[VOCAB];
    assert_true(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    close(fd);
    free(bytes);
    pieces[0] = (tn_piece){PINNED, TABLE, 0};
    for (int i = 0; i < LAYERS * EXPERTS; i++)
        pieces[1 + i] = (tn_piece){expert_offset(0, i), EXPERT_BYTES, i < EXPERTS ? 3 : 1};
    fixture->program = (tn_program){.abi = TN_ABI, .model = "paged", .target = "generic", .compiler = "tenon test", .blob_hash = hash, .weights_bytes = WEIGHTS,
                                    .piece_count = PIECES, .pieces = pieces, .arena_bytes = CALLS * EXPERTS * 8, .context = 1000, .max_tokens = TOKENS,
                                    .max_rows = TOKENS, .max_sequences = 2, .input_count = 1, .input_names = input_names, .input_limits = input_limits,
                                    .out_kind = TN_PER_ROW, .out_width = WIDTH, .causal = 1, .kernel_count = 1, .kernels = kernels, .run = run};
    fixture->blob = tn_blob_open(fixture->path, &fixture->program, &failure);
    if (!fixture->blob)
        fail_msg("%s", failure.text);
    tn_engine *engine = open_engine(fixture, 0, 1, 0);
    for (int i = 0; i < VOCAB; i++)
        all[i] = i;
    collect(engine, all, VOCAB, fixture->want);
    tn_close(engine);
    *state = fixture;
    return 0;
}

static int fixture_free(void **state) {
    Fixture *fixture = *state;
    tn_blob_close(fixture->blob);
    unlink(fixture->path);
    free(fixture);
    return 0;
}

static void check_same(Fixture *fixture, tn_engine *engine, int seed, int count) {
    float rows[MOST][WIDTH];
    int ids[MOST] = {0};
    for (int i = 0; i < count; i++)
        ids[i] = (int)(mix((uint64_t)seed, (uint64_t)i) % VOCAB);
    collect(engine, ids, count, rows);
    for (int i = 0; i < count; i++)
        assert_memory_equal(rows[i], fixture->want[ids[i]], sizeof *rows);
}

static void test_same_rows(void **state) {
    static const int experts[] = {2, 3, 5, 8, 13, 23}, chunks[] = {1, 3, 16};
    for (size_t e = 0; e < sizeof experts / sizeof *experts; e++)
        for (int threads = 1; threads <= 3; threads++)
            for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
                tn_engine *engine = open_engine(*state, experts[e], threads, chunks[c]);
                tn_paging paging;
                check_same(*state, engine, (int)(e + c), 40);
                assert_int_equal(tn_paging_of(engine, &paging), 1);
                assert_int_equal(paging.pinned, PINNED);
                assert_int_equal(paging.room, experts[e] * EXPERT_PAGES * PAGE);
                assert_true(paging.held <= paging.room && paging.hits <= paging.visits && paging.visits > 0);
                assert_true(paging.bytes_read >= (paging.visits - paging.hits) * EXPERT_PAGES * PAGE / 2);
                tn_close(engine);
            }
}

// The layer that three of five calls visit is kept: eight places are its experts', and what is left passes through the ninth and tenth.
static void test_what_is_kept(void **state) {
    tn_engine *engine = open_engine(*state, 10, 1, 1);
    tn_paging paging;
    check_same(*state, engine, 9, MOST);
    tn_paging_of(engine, &paging);
    assert_int_equal(paging.visits, MOST * CALLS * SLOTS);
    assert_true(paging.hits >= MOST * 3 * SLOTS * 9 / 10);
    tn_close(engine);
}

static void test_all_fit(void **state) {
    tn_paging paging;
    tn_engine *engine = open_engine(*state, LAYERS * EXPERTS + TABLE / PAGE, 2, 0);
    assert_int_equal(tn_paging_of(engine, &paging), 0);
    tn_close(engine);
}

static void test_too_small(void **state) {
    Fixture *fixture = *state;
    tn_failure failure = {0};
    tn_open_options options = {.memory = bound(2) - 1};
    assert_null(tn_open_blob(&fixture->program, fixture->blob, &options, &failure));
    assert_int_equal(failure.code, TN_BAD_MACHINE);
    assert_non_null(strstr(failure.text, "too little"));
}

// No experts, but a table that is mapped: nothing needs room.
static void test_table_alone(void **state) {
    Fixture *fixture = *state;
    tn_failure failure = {0};
    tn_program program = fixture->program;
    program.piece_count = 1;
    unsigned long long others = 1 << 20, stay = WEIGHTS - TABLE;
    PagerPlan enough = tn_pager_plan(&program, others + stay, others), little = tn_pager_plan(&program, others + stay - 1, others);
    assert_true(tn_pager_needed(&enough, others + stay));
    assert_int_equal(tn_pager_fits(&enough, others + stay, &failure), 0);
    assert_int_equal(tn_pager_fits(&little, others + stay - 1, &failure), -1);
}

static void test_cut_short(void **state) {
    Fixture *fixture = *state;
    tn_failure failure = {0};
    tn_engine *engine = open_engine(fixture, 2, 2, 0);
    int sequence = tn_sequence_new(engine, &failure), rows = 0;
    check_same(fixture, engine, 1, 40);
    assert_int_equal(truncate(fixture->path, PAGE + PINNED + TABLE + PAGE), 0);
    for (int id = 0; id < VOCAB && rows >= 0; id++) {
        assert_int_equal(tn_add(engine, sequence, &id, 1, TN_WANT_LAST, &failure), 0);
        rows = tn_run(engine, &failure);
    }
    assert_int_equal(rows, -1);
    assert_int_equal(failure.code, TN_BAD_INPUT);
    assert_non_null(strstr(failure.text, fixture->path));
    assert_non_null(strstr(failure.text, "cut short"));
    tn_close(engine);
}

// Three experts whose memory is rounded up to huge pages, the last at the end of the weights; there is room for two.
enum { LARGE = (8 << 20) + PAGE, LARGE_PLACE = 10 << 20, LARGE_FIRST = 2 << 20, LARGE_COUNT = 3, LARGE_WEIGHTS = LARGE_FIRST + (LARGE_COUNT - 1) * LARGE_PLACE + LARGE };
static struct { unsigned char *from; size_t bytes; int given_back; bool beyond; } reserved;

void *__real_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
int __real_madvise(void *at, size_t length, int advice);
int __wrap_madvise(void *at, size_t length, int advice);

// What is reserved for weights begins a page behind a huge page's beginning: the farthest from the next.
void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    if (!(flags & MAP_NORESERVE) || !(protection & PROT_WRITE) || length < LARGE_WEIGHTS)
        return __real_mmap(at, length, protection, flags, fd, offset);
    size_t huge = 2 << 20, room = length + 2 * huge;
    uintptr_t free_at = (uintptr_t)__real_mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    munmap((void *)free_at, room);
    reserved.from = __real_mmap((void *)((free_at + huge) / huge * huge + PAGE), length, protection, flags, fd, offset);
    reserved.bytes = length;
    return reserved.from;
}

int __wrap_madvise(void *at, size_t length, int advice) {
    const unsigned char *from = at;
    if (reserved.from && advice == MADV_DONTNEED) {
        reserved.given_back++;
        reserved.beyond |= from < reserved.from || from + length > reserved.from + reserved.bytes;
    }
    return __real_madvise(at, length, advice);
}

static void test_large_experts(void **state) {
    Fixture *fixture = *state;
    tn_failure failure = {0};
    tn_piece large[LARGE_COUNT];
    unsigned long long offsets[LARGE_COUNT];
    const unsigned long long *p[] = {offsets};
    for (int i = 0; i < LARGE_COUNT; i++)
        large[i] = (tn_piece){offsets[i] = LARGE_FIRST + (unsigned long long)i * LARGE_PLACE, LARGE, 1};
    BlobHeader header = {.version = BLOB_VERSION, .section_count = 1, .length = PAGE + LARGE_WEIGHTS};
    memcpy(header.magic, BLOB_MAGIC, 8);
    header.sections[0] = (BlobSection){.kind = SECTION_WEIGHTS, .offset = PAGE, .length = LARGE_WEIGHTS};
    header.hash = tn_blob_table_hash(&header);
    FILE *file = fopen(fixture->path, "we");
    assert_true(file && fwrite(&header, sizeof header, 1, file) == 1 && !fclose(file) && !truncate(fixture->path, PAGE + LARGE_WEIGHTS));
    tn_program program = fixture->program;
    program.blob_hash = header.hash;
    program.weights_bytes = LARGE_WEIGHTS;
    program.pieces = large;
    program.piece_count = LARGE_COUNT;
    Blob *blob = tn_blob_open(fixture->path, &program, &failure);
    memset(&reserved, 0, sizeof reserved);
    Pager *pager = blob ? tn_pager_new(&program, blob, 2 * LARGE_PLACE, &failure) : NULL;
    if (!pager)
        fail_msg("%s", failure.text);
    tn_step step = {.pager = pager, .tokens = 1};
    tn_worker worker = {.count = 1};
    for (int i = 0; i < 4 * LARGE_COUNT; i++) {
        tn_group group = {i % LARGE_COUNT, 0, 1, 0};
        assert_int_equal(tn_pager_page(&step, &worker, p, 1, LARGE_COUNT, &group, 0, 1), 1);
        assert_int_equal(tn_pager_end_step(pager, &failure), 0);
    }
    assert_true(reserved.given_back >= LARGE_COUNT);
    assert_false(reserved.beyond);
    tn_pager_free(pager);
    tn_blob_close(blob);
    reserved.from = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_same_rows), TEST(test_what_is_kept), TEST(test_all_fit), TEST(test_too_small), TEST(test_table_alone), TEST(test_cut_short), TEST(test_large_experts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
