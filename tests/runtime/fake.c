#include "tests/runtime/fake.h"
#include <stdlib.h>
#include <string.h>
#include "runtime/tokenizer_format.h"

enum { FAKE_BLOCKS = (FAKE_WIDTH + TN_BLOCK - 1) / TN_BLOCK };
enum { WEIGHTS_AT = BLOB_ALIGN, WEIGHT_BYTES = FAKE_VOCAB * 8, META_AT = 3 * BLOB_ALIGN, TOKENIZER_AT = 4 * BLOB_ALIGN };

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t x = a * 0x9e3779b97f4a7c15ull ^ (b + 0x632be59bd9b4e019ull);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// ---- the model --------------------------------------------------------------------------------------------------------------

static uint64_t *slot(const tn_step *step, int sequence, int layer, int position) {
    unsigned char *page = step->pages[(size_t)sequence * (size_t)step->pages_per_sequence + (size_t)(position / FAKE_PAGE)];
    return (uint64_t *)(void *)page + layer * FAKE_PAGE + position % FAKE_PAGE;
}

static uint64_t fold(const tn_step *step, int sequence, int layer, int position) {
    uint64_t hash = 1;
    for (int i = 0; i <= position; i++)
        hash = mix(hash, *slot(step, sequence, layer, i));
    return hash;
}

static void finish(tn_worker *worker, int kernel, unsigned long long *began) {
    if (worker->barrier)
        worker->barrier(worker);
    if (worker->kernel_ns && worker->index == 0) {
        unsigned long long now = worker->now();
        worker->kernel_ns[kernel] += now - *began;
        *began = now;
    }
}

// Letters are likely, every twenty-fourth row or so likes to end.
static void logits(uint64_t hash, float *out) {
    for (int v = 0; v < FAKE_WIDTH; v++) {
        out[v] = (float)(mix(hash, (uint64_t)v) >> 40) * (8.0f / (1 << 24)) - 4.0f;
        if (v >= 'a' && v <= 'z')
            out[v] += 8.0f;
    }
    if (hash % 24 == 0)
        out[FAKE_END] = 20.0f;
}

static void blocks(const float *out, float *largest) {
    for (int v = 0; v < FAKE_WIDTH; v++)
        if (v % TN_BLOCK == 0 || out[v] > largest[v / TN_BLOCK])
            largest[v / TN_BLOCK] = out[v];
}

static void run_language(const tn_step *step, tn_worker *worker) {
    const uint64_t *weights = (const uint64_t *)(const void *)step->weights;
    unsigned long long began = worker->now ? worker->now() : 0;
    for (int t = worker->index; t < step->tokens; t += worker->count)
        *slot(step, step->sequence[t], 0, step->position[t]) = mix(weights[step->inputs[0][t]], (uint64_t)step->position[t]);
    finish(worker, 0, &began);
    for (int t = worker->index; t < step->tokens; t += worker->count)
        *slot(step, step->sequence[t], 1, step->position[t]) = ((uint64_t *)(void *)step->arena)[t] =
            fold(step, step->sequence[t], 0, step->position[t]);
    finish(worker, 1, &began);
    for (int r = worker->index; r < step->rows; r += worker->count) {
        int t = step->keep[r];
        logits(fold(step, step->sequence[t], 1, step->position[t]), step->out + (size_t)r * FAKE_WIDTH);
        if (step->largest)
            blocks(step->out + (size_t)r * FAKE_WIDTH, step->largest + r * FAKE_BLOCKS);
    }
    finish(worker, 2, &began);
}

static uint64_t whole(const tn_step *step, int sequence) {
    uint64_t hash = 2;
    for (int t = step->first[sequence]; t < step->first[sequence + 1]; t++)
        hash = mix(hash, mix((uint64_t)step->inputs[0][t] + (uint64_t)step->inputs[1][t] * 1000, (uint64_t)step->position[t]));
    return hash;
}

static void vector(uint64_t hash, float *out) {
    for (int i = 0; i < FAKE_VECTOR; i++)
        out[i] = (float)(mix(hash, (uint64_t)i) >> 40) / (1 << 24);
}

static void run_sequences(const tn_step *step, tn_worker *worker) {
    for (int s = worker->index; s < step->sequences; s += worker->count)
        vector(whole(step, s), step->out + (size_t)s * FAKE_VECTOR);
}

static void run_tokens(const tn_step *step, tn_worker *worker) {
    for (int t = worker->index; t < step->tokens; t += worker->count)
        vector(mix(whole(step, step->sequence[t]), (uint64_t)step->position[t]), step->out + (size_t)t * FAKE_VECTOR);
}

static const char *const input_names[] = {"tokens", "types"};
static const int input_limits[] = {FAKE_VOCAB, 2};
static const tn_kernel_info kernels[] = {
    {.name = "fake_read", .what = "decoder: tokens (fake.yaml:1)", .arithmetic = "f32", .weight_bytes = FAKE_VOCAB * 8.0, .operations = 10, .row_bytes = 8, .calls = 1},
    {.name = "fake_mix", .what = "decoder: prefix (fake.yaml:2)", .arithmetic = "f32", .operations = 100, .cache_bytes = 8, .cache_operations = 4, .calls = 1},
    {.name = "fake_logits", .what = "head (fake.yaml:3)", .arithmetic = "f32", .operations = 1000, .row_bytes = FAKE_WIDTH * 4, .calls = 1, .per = TN_PER_ROW}};

#ifndef FAKE_HASH
#define FAKE_HASH 0
#endif
#ifndef FAKE_KIND
#define FAKE_KIND TN_PER_ROW
#endif
#define FAKE_PROGRAM {.abi = TN_ABI, .model = "fake", .target = "generic", .compiler = "tenon test", .blob_hash = FAKE_HASH, .weights_bytes = WEIGHT_BYTES, \
    .arena_bytes = FAKE_TOKENS * 8, .page_bytes = 2 * FAKE_PAGE * 8, .page_tokens = FAKE_PAGE, .context = FAKE_CONTEXT, .max_tokens = FAKE_TOKENS, \
    .max_rows = FAKE_ROWS, .max_sequences = FAKE_SEQUENCES, .input_count = 1, .input_names = input_names, .input_limits = input_limits, \
    .out_kind = TN_PER_ROW, .out_width = FAKE_WIDTH, .out_blocks = FAKE_BLOCKS, .causal = 1, .kernel_count = 3, .kernels = kernels, .run = run_language}

#define FAKE_ENCODER {.abi = TN_ABI, .model = "fake-encoder", .target = "generic", .compiler = "tenon test", .blob_hash = FAKE_HASH, \
    .weights_bytes = WEIGHT_BYTES, .context = FAKE_TOKENS, .max_tokens = FAKE_TOKENS, .max_rows = FAKE_ROWS, .max_sequences = FAKE_SEQUENCES, \
    .input_count = 2, .input_names = input_names, .input_limits = input_limits, .out_kind = FAKE_KIND, .out_width = FAKE_VECTOR, \
    .run = FAKE_KIND == TN_PER_SEQUENCE ? run_sequences : run_tokens}

static const tn_program language = FAKE_PROGRAM, encoder = FAKE_ENCODER;
#if defined(FAKE_ENCODES)
const tn_program tn_model = FAKE_ENCODER;
#else
const tn_program tn_model = FAKE_PROGRAM;
#endif

tn_program fake_language(const unsigned char *blob) {
    tn_program program = language;
    program.blob_hash = fake_hash(blob);
    return program;
}

tn_program fake_encoder(const unsigned char *blob, int out_kind) {
    tn_program program = encoder;
    program.blob_hash = fake_hash(blob);
    program.out_kind = out_kind;
    program.run = out_kind == TN_PER_SEQUENCE ? run_sequences : run_tokens;
    return program;
}

// ---- its tokenizer: a token a byte, and four special ones -------------------------------------------------------------------

static const char *const specials[] = {"<|end|>", "<|user|>", "<|bot|>", "<|bos|>"};

typedef struct { unsigned char *bytes; size_t length; TokenizerHeader *header; } Maker;

static void *part(Maker *maker, int which, size_t length) {
    void *at = maker->bytes + maker->length;
    maker->header->parts[which] = (TokenizerPart){(uint32_t)maker->length, (uint32_t)length};
    maker->length += (length + 7) / 8 * 8;
    return at;
}

static size_t make_tokenizer(unsigned char *bytes) {
    Maker maker = {bytes, sizeof(TokenizerHeader), (TokenizerHeader *)(void *)bytes};
    *maker.header = (TokenizerHeader){.version = TOKENIZER_VERSION, .model = TOKENIZER_BPE, .flags = TOKENIZER_BYTES, .count = FAKE_VOCAB,
                                      .unk = TOKENIZER_NONE, .bos = FAKE_BOS, .eos = FAKE_END};
    memcpy(maker.header->magic, TOKENIZER_MAGIC, 8);
    uint32_t *index = part(&maker, TOKENIZER_TEXT_INDEX, (FAKE_VOCAB + 1) * 4), at = 0;
    char text[512];
    for (int i = 0; i < FAKE_VOCAB; i++) {
        index[i] = at;
        if (i < 256)
            text[at++] = (char)i;
        else
            at += (uint32_t)strlen(strcpy(text + at, specials[i - 256]));
    }
    index[FAKE_VOCAB] = at;
    memcpy(part(&maker, TOKENIZER_TEXT, at), text, at);
    uint8_t *kinds = part(&maker, TOKENIZER_KINDS, FAKE_VOCAB);
    memset(kinds + 256, TOKENIZER_SPECIAL, FAKE_VOCAB - 256);
    TokenizerNode *trie = part(&maker, TOKENIZER_TRIE, 257 * sizeof *trie);
    trie[0] = (TokenizerNode){.first = 1, .value = TOKENIZER_NONE, .count = 256};
    for (int i = 0; i < 256; i++)
        trie[1 + i] = (TokenizerNode){.first = 0, .value = (uint32_t)i, .label = (uint8_t)i};
    // "<|" then one branch for each: b has two ("<|bot|>", "<|bos|>"), so: root-<-|-{b,e,u}
    TokenizerNode *raw = part(&maker, TOKENIZER_RAW_TRIE, 24 * sizeof *raw);
    int used = 0;
#define NODE(label_, first_, count_, value_) raw[used++] = (TokenizerNode){.label = label_, .first = first_, .count = count_, .value = value_}
#define NO TOKENIZER_NONE
    NODE(0, 1, 1, NO);                                         // 0
    NODE('<', 2, 1, NO);                                       // 1
    NODE('|', 3, 3, NO);                                       // 2
    NODE('b', 6, 1, NO); NODE('e', 13, 1, NO); NODE('u', 17, 1, NO);                                        // 3 4 5
    NODE('o', 7, 2, NO);                                       // 6
    NODE('s', 9, 1, NO); NODE('t', 11, 1, NO);                 // 7 8
    NODE('|', 10, 1, NO); NODE('>', 0, 0, 3);                  // 9 10
    NODE('|', 12, 1, NO); NODE('>', 0, 0, 2);                  // 11 12
    NODE('n', 14, 1, NO); NODE('d', 15, 1, NO); NODE('|', 16, 1, NO); NODE('>', 0, 0, 0);                   // 13 … 16
    NODE('s', 18, 1, NO); NODE('e', 19, 1, NO); NODE('r', 20, 1, NO); NODE('|', 21, 1, NO); NODE('>', 0, 0, 1);   // 17 … 21
    maker.header->parts[TOKENIZER_RAW_TRIE].length = (uint32_t)((size_t)used * sizeof *raw);
    TokenizerAdded *added = part(&maker, TOKENIZER_ADDED, 4 * sizeof *added);
    for (int i = 0; i < 4; i++)
        added[i] = (TokenizerAdded){(uint32_t)(256 + i), TOKENIZER_ADDED_SPECIAL};
    uint32_t *byte_ids = part(&maker, TOKENIZER_BYTE_IDS, 256 * 4);
    for (uint32_t i = 0; i < 256; i++)
        byte_ids[i] = i;
    part(&maker, TOKENIZER_MERGE_INDEX, (FAKE_VOCAB + 1) * 4);
    part(&maker, TOKENIZER_MERGES, 0);
    *(uint32_t *)part(&maker, TOKENIZER_PREFIX, 4) = FAKE_BOS;
    *(uint32_t *)part(&maker, TOKENIZER_ENDS, 4) = FAKE_END;
    maker.header->length = (uint32_t)maker.length;
    return maker.length;
}

// ---- its blob ---------------------------------------------------------------------------------------------------------------

static size_t record(unsigned char *meta, size_t at, const char *key, const char *value) {
    uint32_t length = (uint32_t)strlen(value);
    strcpy((char *)meta + at, key);
    at += strlen(key) + 1;
    memcpy(meta + at, &length, 4);
    memcpy(meta + at + 4, value, length);
    return at + 4 + length;
}

uint64_t fake_hash(const unsigned char *blob) { return ((const BlobHeader *)(const void *)blob)->hash; }

void fake_rehash(unsigned char *blob, size_t length) {
    BlobHeader *header = (BlobHeader *)(void *)blob;
    BlobTrailer trailer = {.version = BLOB_VERSION, .offset = 0, .length = length - sizeof trailer};
    header->hash = tn_blob_table_hash(header);
    trailer.hash = header->hash;
    memcpy(trailer.magic, BLOB_TRAILER_MAGIC, 8);
    memcpy(blob + length - sizeof trailer, &trailer, sizeof trailer);
}

unsigned char *fake_blob(int no_tokenizer, int no_chat, size_t *length) {
    unsigned char *blob = calloc(1, 16 * BLOB_ALIGN);
    BlobHeader *header = (BlobHeader *)(void *)blob;
    for (int i = 0; i < FAKE_VOCAB; i++)
        ((uint64_t *)(void *)(blob + WEIGHTS_AT))[i] = mix((uint64_t)i, 77);
    size_t meta = record(blob + META_AT, 0, "name", "fake"), tokenizer = no_tokenizer ? 0 : make_tokenizer(blob + TOKENIZER_AT);
    meta = record(blob + META_AT, meta, "description", "a model for tests");
    meta = record(blob + META_AT, meta, "source", "fake.yaml");
    meta = record(blob + META_AT, meta, "source", "fake.gguf");
    if (!no_chat) {
        meta = record(blob + META_AT, meta, "chat.begin", "<|bos|>[be brief]");
        meta = record(blob + META_AT, meta, "chat.system", "<|bos|>[{text}]");
        meta = record(blob + META_AT, meta, "chat.user", "<|user|>{text}<|end|>");
        meta = record(blob + META_AT, meta, "chat.assistant", "<|bot|>{text}<|end|>");
        meta = record(blob + META_AT, meta, "chat.generation", "<|bot|>");
        meta = record(blob + META_AT, meta, "stop", "<|user|>");
    }
    memcpy(header->magic, BLOB_MAGIC, 8);
    header->version = BLOB_VERSION;
    header->section_count = no_tokenizer ? 2 : 3;
    header->length = TOKENIZER_AT + tokenizer;
    header->sections[0] = (BlobSection){SECTION_WEIGHTS, 0, WEIGHTS_AT, WEIGHT_BYTES, tn_hash(blob + WEIGHTS_AT, WEIGHT_BYTES)};
    header->sections[1] = (BlobSection){SECTION_META, 0, META_AT, meta, tn_hash(blob + META_AT, meta)};
    if (!no_tokenizer)
        header->sections[2] = (BlobSection){SECTION_TOKENIZER, 0, TOKENIZER_AT, tokenizer, tn_hash(blob + TOKENIZER_AT, tokenizer)};
    *length = header->length + sizeof(BlobTrailer);
    fake_rehash(blob, *length);
    return blob;
}
