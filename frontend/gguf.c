// GGUF, versions 2 and 3: a header, key-value metadata, tensor descriptions, then the tensors' bytes, aligned.
// The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
// The file is not trusted. Everything is read through a cursor that refuses to pass the end; counts are bounded by the bytes that are left
// before anything is allocated for them; shapes, offsets and padding go through size_mad. Two tensors may not share bytes.
#include "frontend/files.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 1 << 20, MAX_TENSORS = 1 << 22, MAX_NAME = 4096, DEFAULT_ALIGNMENT = 32, GGUF_MAX_RANK = 4 };

typedef enum {
    KV_U8, KV_I8, KV_U16, KV_I16, KV_U32, KV_I32, KV_F32, KV_BOOL, KV_STRING, KV_ARRAY, KV_U64, KV_I64, KV_F64, KV_COUNT
} KvType;

static const uint8_t kv_bytes[KV_COUNT] = {
    [KV_U8] = 1, [KV_I8] = 1, [KV_U16] = 2, [KV_I16] = 2, [KV_U32] = 4, [KV_I32] = 4, [KV_F32] = 4, [KV_BOOL] = 1,
    [KV_U64] = 8, [KV_I64] = 8, [KV_F64] = 8,
};

typedef struct {
    const char *key;            // NUL-terminated, in the arena
    KvType type, element;       // element: of an array
    uint64_t count;             // of an array
    uint64_t at;                // of the value, or the array's first element, in the file
    const uint64_t *strings;    // where each string of an array of strings begins (its length field)
    const char *text;           // of a string: NUL-terminated copy
    size_t text_length;
} KeyValue;

struct Gguf {
    Arena *arena;               // NULL when it belongs to a provider
    MappedFile file;
    KeyValue *pairs; int pair_count, pair_capacity;   // sorted by key
    uint32_t version;
    uint64_t tensor_count;
};

// GGML's numbers for the types that may appear in a file; DT_COUNT: known by name, not read.
static const struct { uint32_t id; const char *name; DType dtype; } tensor_types[] = {
    {0, "F32", DT_F32}, {1, "F16", DT_F16}, {2, "Q4_0", DT_Q4_0}, {3, "Q4_1", DT_Q4_1}, {6, "Q5_0", DT_Q5_0}, {7, "Q5_1", DT_Q5_1},
    {8, "Q8_0", DT_Q8_0}, {9, "Q8_1", DT_COUNT}, {10, "Q2_K", DT_Q2_K}, {11, "Q3_K", DT_Q3_K}, {12, "Q4_K", DT_Q4_K}, {13, "Q5_K", DT_Q5_K},
    {14, "Q6_K", DT_Q6_K}, {15, "Q8_K", DT_COUNT}, {16, "IQ2_XXS", DT_COUNT}, {17, "IQ2_XS", DT_COUNT}, {18, "IQ3_XXS", DT_COUNT},
    {19, "IQ1_S", DT_COUNT}, {20, "IQ4_NL", DT_IQ4_NL}, {21, "IQ3_S", DT_COUNT}, {22, "IQ2_S", DT_COUNT}, {23, "IQ4_XS", DT_IQ4_XS},
    {24, "I8", DT_I8}, {25, "I16", DT_COUNT}, {26, "I32", DT_I32}, {27, "I64", DT_I64}, {28, "F64", DT_COUNT}, {29, "IQ1_M", DT_COUNT},
    {30, "BF16", DT_BF16}, {34, "TQ1_0", DT_COUNT}, {35, "TQ2_0", DT_COUNT}, {39, "MXFP4", DT_MXFP4}, {40, "NVFP4", DT_COUNT},
};

// ---- the cursor ---------------------------------------------------------------------------------------------------

typedef struct { const MappedFile *file; uint64_t at; bool failed; Diags *diags; } Cursor;

#define FAIL(cursor, ...) \
    do { \
        if (!(cursor)->failed) \
            diag_error((cursor)->diags, FILE_LOC((cursor)->file->path), __VA_ARGS__); \
        (cursor)->failed = true; \
    } while (0)

static uint64_t left(const Cursor *cursor) {
    return cursor->file->size - cursor->at;
}

// The next n bytes, or NULL once the file has ended or anything else was wrong.
static const uint8_t *take(Cursor *cursor, uint64_t n, const char *what) {
    if (!cursor->failed && n > left(cursor))
        FAIL(cursor, "the file ends inside %s: %llu bytes wanted at offset %llu, %llu are left", what, (unsigned long long)n,
             (unsigned long long)cursor->at, (unsigned long long)left(cursor));
    if (cursor->failed)
        return NULL;
    const uint8_t *bytes = cursor->file->bytes + cursor->at;
    cursor->at += n;
    return bytes;
}

static uint64_t little_endian(const uint8_t *bytes, int n) {
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static uint64_t take_int(Cursor *cursor, int bytes, const char *what) {
    const uint8_t *from = take(cursor, (uint64_t)bytes, what);
    return from ? little_endian(from, bytes) : 0;
}

static const char *take_string(Cursor *cursor, uint64_t *length, const char *what) {
    *length = take_int(cursor, 8, what);
    return (const char *)take(cursor, *length, what);
}

// A name: short, without NUL, copied so that it ends with one.
static const char *take_name(Cursor *cursor, Arena *arena, const char *what) {
    uint64_t length;
    const char *text = take_string(cursor, &length, what);
    if (text && (length > MAX_NAME || memchr(text, 0, (size_t)length)))
        FAIL(cursor, "%s at offset %llu is longer than %d bytes or has a NUL in it", what, (unsigned long long)(cursor->at - length),
             MAX_NAME);
    return cursor->failed ? "" : arena_strndup(arena, text, (size_t)length);
}

// ---- metadata -----------------------------------------------------------------------------------------------------

static void read_array(Cursor *cursor, Arena *arena, KeyValue *pair) {
    uint64_t element = take_int(cursor, 4, "an array");
    pair->count = take_int(cursor, 8, "an array");
    if (!cursor->failed && element == KV_ARRAY)
        FAIL(cursor, "%s is an array of arrays, which is not read", pair->key);
    if (!cursor->failed && element >= KV_COUNT)
        FAIL(cursor, "%s is an array of the unknown type %llu", pair->key, (unsigned long long)element);
    if (cursor->failed)
        return;
    pair->element = (KvType)element;
    uint64_t least = element == KV_STRING ? 8 : kv_bytes[element], bytes;   // a string has at least its length
    if (!size_mad(pair->count, least, 0, left(cursor), &bytes)) {
        FAIL(cursor, "%s says it has %llu elements, but the file ends before", pair->key, (unsigned long long)pair->count);
        return;
    }
    pair->at = cursor->at;
    if (element != KV_STRING) {
        take(cursor, bytes, pair->key);
        return;
    }
    uint64_t *strings = arena_alloc(arena, (size_t)(pair->count ? pair->count : 1) * sizeof *strings);
    for (uint64_t i = 0; i < pair->count && !cursor->failed; i++) {
        uint64_t length;
        strings[i] = cursor->at;
        take_string(cursor, &length, pair->key);
    }
    pair->strings = strings;
}

static void read_value(Cursor *cursor, Arena *arena, KeyValue *pair) {
    uint64_t type = take_int(cursor, 4, pair->key), length;
    if (!cursor->failed && type >= KV_COUNT)
        FAIL(cursor, "%s has the unknown type %llu", pair->key, (unsigned long long)type);
    if (cursor->failed)
        return;
    pair->type = (KvType)type;
    pair->at = cursor->at;
    if (type == KV_ARRAY) {
        read_array(cursor, arena, pair);
    } else if (type == KV_STRING) {
        const char *text = take_string(cursor, &length, pair->key);
        if (text) {
            pair->text = arena_strndup(arena, text, (size_t)length);
            pair->text_length = (size_t)length;
        }
    } else {
        take(cursor, kv_bytes[type], pair->key);
    }
}

static int compare_pairs(const void *a, const void *b) {
    return strcmp(((const KeyValue *)a)->key, ((const KeyValue *)b)->key);
}

static void read_header(Cursor *cursor, Gguf *gguf, uint64_t *pair_count) {
    if (!file_is_gguf(cursor->file)) {
        FAIL(cursor, "is not a GGUF file");
        return;
    }
    take(cursor, 4, "the header");
    gguf->version = (uint32_t)take_int(cursor, 4, "the header");
    if (!cursor->failed && gguf->version != 0 && (gguf->version & 0xffff) == 0)
        FAIL(cursor, "is a big-endian GGUF file; only little-endian files are read");
    else if (!cursor->failed && gguf->version != 2 && gguf->version != 3)
        FAIL(cursor, "is GGUF version %u; versions 2 and 3 are read", gguf->version);
    gguf->tensor_count = take_int(cursor, 8, "the header");
    *pair_count = take_int(cursor, 8, "the header");
    if (cursor->failed)
        return;
    if (*pair_count > left(cursor) / 13 || *pair_count > MAX_KEYS)   // a pair: 8 bytes of key length, 4 of type, 1 of value at least
        FAIL(cursor, "says it has %llu metadata keys, more than it has room for", (unsigned long long)*pair_count);
    if (gguf->tensor_count > left(cursor) / 24 || gguf->tensor_count > MAX_TENSORS)   // name length, rank, type, offset
        FAIL(cursor, "says it has %llu tensors, more than it has room for", (unsigned long long)gguf->tensor_count);
}

static void read_metadata(Cursor *cursor, Arena *arena, Gguf *gguf) {
    uint64_t count = 0;
    read_header(cursor, gguf, &count);
    for (uint64_t i = 0; i < count && !cursor->failed; i++) {
        KeyValue pair = {.key = take_name(cursor, arena, "a metadata key")};
        read_value(cursor, arena, &pair);
        if (!cursor->failed)
            ARENA_PUSH(arena, gguf->pairs, gguf->pair_count, gguf->pair_capacity) = pair;
    }
    if (cursor->failed || gguf->pair_count == 0)
        return;
    qsort(gguf->pairs, (size_t)gguf->pair_count, sizeof *gguf->pairs, compare_pairs);
    for (int i = 1; i < gguf->pair_count; i++)
        if (strcmp(gguf->pairs[i - 1].key, gguf->pairs[i].key) == 0)
            FAIL(cursor, "the metadata key %s appears twice", gguf->pairs[i].key);
}

static const KeyValue *find_pair(const Gguf *gguf, const char *key) {
    KeyValue wanted = {.key = key};
    return gguf->pair_count ? bsearch(&wanted, gguf->pairs, (size_t)gguf->pair_count, sizeof wanted, compare_pairs) : NULL;
}

static bool number_at(const Gguf *gguf, KvType type, uint64_t at, double *value) {
    if (type == KV_STRING || type == KV_ARRAY)
        return false;
    int bytes = kv_bytes[type];
    uint64_t bits = little_endian(gguf->file.bytes + at, bytes);
    float f32;
    switch (type) {
    case KV_F32: { uint32_t word = (uint32_t)bits; memcpy(&f32, &word, 4); *value = f32; break; }
    case KV_F64: memcpy(value, &bits, 8); break;
    case KV_I8: *value = (int8_t)bits; break;
    case KV_I16: *value = (int16_t)bits; break;
    case KV_I32: *value = (int32_t)bits; break;
    case KV_I64: *value = (double)(int64_t)bits; break;
    default: *value = (double)bits; break;
    }
    return true;
}

bool gguf_number(const Gguf *gguf, const char *key, double *value) {
    const KeyValue *pair = find_pair(gguf, key);
    return pair && number_at(gguf, pair->type, pair->at, value);
}

const char *gguf_string(const Gguf *gguf, const char *key, size_t *length) {
    const KeyValue *pair = find_pair(gguf, key);
    if (!pair || pair->type != KV_STRING)
        return NULL;
    if (length)
        *length = pair->text_length;
    return pair->text;
}

int64_t gguf_array(const Gguf *gguf, const char *key) {
    const KeyValue *pair = find_pair(gguf, key);
    return pair && pair->type == KV_ARRAY ? (int64_t)pair->count : -1;
}

const char *gguf_array_string(const Gguf *gguf, const char *key, int64_t i, size_t *length) {
    const KeyValue *pair = find_pair(gguf, key);
    if (!pair || pair->type != KV_ARRAY || pair->element != KV_STRING || i < 0 || (uint64_t)i >= pair->count)
        return NULL;
    uint64_t at = pair->strings[i];
    if (length)
        *length = (size_t)little_endian(gguf->file.bytes + at, 8);
    return (const char *)gguf->file.bytes + at + 8;
}

bool gguf_array_number(const Gguf *gguf, const char *key, int64_t i, double *value) {
    const KeyValue *pair = find_pair(gguf, key);
    if (!pair || pair->type != KV_ARRAY || pair->element == KV_STRING || i < 0 || (uint64_t)i >= pair->count)
        return false;
    return number_at(gguf, pair->element, pair->at + (uint64_t)i * kv_bytes[pair->element], value);
}

int gguf_key_count(const Gguf *gguf) {
    return gguf->pair_count;
}

const char *gguf_key(const Gguf *gguf, int index) {
    return gguf->pairs[index].key;
}

bool gguf_is_bool(const Gguf *gguf, const char *key) {
    const KeyValue *pair = find_pair(gguf, key);
    return pair && (pair->type == KV_BOOL || (pair->type == KV_ARRAY && pair->element == KV_BOOL));
}

Gguf *gguf_metadata_open(const char *path, Diags *diags) {
    Arena *arena = arena_new();
    Gguf *gguf = ARENA_NEW(arena, Gguf);
    gguf->arena = arena;
    if (!file_map(&gguf->file, arena_strdup(arena, path), diags)) {
        arena_free(arena);
        return NULL;
    }
    Cursor cursor = {.file = &gguf->file, .diags = diags};
    read_metadata(&cursor, arena, gguf);
    if (!cursor.failed)
        return gguf;
    gguf_metadata_close(gguf);
    return NULL;
}

void gguf_metadata_close(Gguf *gguf) {
    if (!gguf)
        return;
    file_unmap(&gguf->file);
    arena_free(gguf->arena);
}

// ---- tensors ------------------------------------------------------------------------------------------------------

typedef struct { const char *name; Type type; uint64_t offset, bytes; } Placed;   // offset: from the start of the data

static bool alignment_of(Cursor *cursor, const Gguf *gguf, uint64_t *alignment) {
    double value = DEFAULT_ALIGNMENT;
    if (find_pair(gguf, "general.alignment") && !gguf_number(gguf, "general.alignment", &value))
        value = 0;
    *alignment = value >= 1 && value <= 1 << 30 ? (uint64_t)value : 0;
    if (*alignment == 0 || (*alignment & (*alignment - 1)) != 0 || (double)*alignment != value)
        FAIL(cursor, "general.alignment is %g; it must be a power of two", value);
    return !cursor->failed;
}

static void read_type(Cursor *cursor, Placed *tensor, uint32_t id) {
    for (size_t i = 0; i < COUNT_OF(tensor_types); i++) {
        if (tensor_types[i].id != id)
            continue;
        tensor->type.dtype = tensor_types[i].dtype;
        if (tensor_types[i].dtype == DT_COUNT)
            FAIL(cursor, "tensor %s has type %s, which is not read", tensor->name, tensor_types[i].name);
        return;
    }
    FAIL(cursor, "tensor %s has the unknown type %u", tensor->name, id);
}

// Sizes come innermost first; ours go outermost first. The product, in blocks and bytes, is bounded by the file.
static void read_tensor(Cursor *cursor, Arena *arena, Placed *tensor) {
    tensor->name = take_name(cursor, arena, "a tensor's name");
    uint64_t rank = take_int(cursor, 4, "a tensor's description"), sizes[GGUF_MAX_RANK];
    if (!cursor->failed && (rank < 1 || rank > GGUF_MAX_RANK))
        FAIL(cursor, "tensor %s has %llu dimensions; 1 to 4 are read", tensor->name, (unsigned long long)rank);
    for (uint64_t i = 0; i < rank && !cursor->failed; i++)
        sizes[i] = take_int(cursor, 8, "a tensor's description");
    uint32_t id = (uint32_t)take_int(cursor, 4, "a tensor's description");
    tensor->offset = take_int(cursor, 8, "a tensor's description");
    if (!cursor->failed)
        read_type(cursor, tensor, id);
    if (cursor->failed)
        return;
    const DTypeInfo *info = &dtype_info[tensor->type.dtype];
    uint64_t bytes = (uint64_t)info->bytes;
    tensor->type.rank = (int)rank;
    if (sizes[0] % (uint64_t)info->block != 0)
        FAIL(cursor, "tensor %s: a row of %llu elements is no whole number of %s blocks", tensor->name, (unsigned long long)sizes[0],
             info->name);
    for (uint64_t i = 0; i < rank && !cursor->failed; i++) {
        uint64_t size = i == 0 ? sizes[0] / (uint64_t)info->block : sizes[i];
        if (sizes[i] == 0)
            FAIL(cursor, "tensor %s has a dimension of size 0", tensor->name);
        else if (sizes[i] > INT64_MAX || !size_mad(bytes, size, 0, cursor->file->size, &bytes))
            FAIL(cursor, "tensor %s is larger than its file", tensor->name);
        tensor->type.dims[rank - 1 - i] = (int64_t)sizes[i];
    }
    tensor->bytes = bytes;
}

static int compare_offsets(const void *a, const void *b) {
    const Placed *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static void place_tensors(Cursor *cursor, WeightFiles *files, Placed *tensors, int count, uint64_t alignment) {
    uint64_t start, last = 0;
    if (!size_mad(1, cursor->at, alignment - 1, INT64_MAX, &start))
        FAIL(cursor, "the file is too large");
    start &= ~(alignment - 1);
    qsort(tensors, (size_t)count, sizeof *tensors, compare_offsets);
    for (int i = 0; i < count && !cursor->failed; i++) {
        const Placed *tensor = &tensors[i];
        uint64_t at, end;
        if (tensor->offset % alignment != 0) {
            FAIL(cursor, "tensor %s lies at offset %llu, which is no multiple of %llu", tensor->name, (unsigned long long)tensor->offset,
                 (unsigned long long)alignment);
        } else if (!size_mad(1, start, tensor->offset, cursor->file->size, &at)
                   || !size_mad(1, at, tensor->bytes, cursor->file->size, &end)) {
            FAIL(cursor, "tensor %s reaches past the end of the file: %llu bytes at offset %llu of %llu", tensor->name,
                 (unsigned long long)tensor->bytes, (unsigned long long)(start + tensor->offset), (unsigned long long)cursor->file->size);
        } else if (at < last) {
            FAIL(cursor, "tensors %s and %s overlap", tensors[i - 1].name, tensor->name);
        } else {
            last = end;
            weight_files_add(files, tensor->name, tensor->type, cursor->file, at);
        }
    }
}

void gguf_read(WeightFiles *files, const MappedFile *file, Diags *diags) {
    Arena *arena = weight_files_arena(files);
    Gguf gguf = {.file = *file};
    Cursor cursor = {.file = file, .diags = diags};
    Placed *tensors = NULL;
    int count = 0, capacity = 0;
    uint64_t alignment = 0;
    read_metadata(&cursor, arena, &gguf);
    for (uint64_t i = 0; i < gguf.tensor_count && !cursor.failed; i++) {
        Placed tensor = {0};
        read_tensor(&cursor, arena, &tensor);
        if (!cursor.failed)
            ARENA_PUSH(arena, tensors, count, capacity) = tensor;
    }
    if (!cursor.failed && count > 0 && alignment_of(&cursor, &gguf, &alignment))
        place_tensors(&cursor, files, tensors, count, alignment);
}
