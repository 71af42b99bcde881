// safetensors: eight bytes of header length, a JSON header, then the tensors' bytes; and the index that names the shards of a large model.
// The format: https://github.com/huggingface/safetensors#format
//
// The header is at most 100 MB. The tensors tile the data exactly: each begins where the one before ends, so there is neither a hole to
// hide something in nor an overlap. A shard is named by a plain file name in the index's own folder.
#include "frontend/json.h"

#include <stdlib.h>
#include <string.h>

#define MAX_HEADER 100000000u

static const struct { const char *name; DType dtype; } tensor_types[] = {
    {"F32", DT_F32}, {"F16", DT_F16}, {"BF16", DT_BF16}, {"F8_E4M3", DT_F8E4M3}, {"F8_E5M2", DT_F8E5M2}, {"BOOL", DT_BOOL}, {"I8", DT_I8},
    {"U8", DT_U8}, {"I32", DT_I32}, {"I64", DT_I64},
};

typedef struct { const char *name; Type type; uint64_t begin, end; } Placed;

typedef struct { const MappedFile *file; uint64_t header, data; Diags *diags; } Reader;   // header: its length; data: where the bytes begin

static bool read_unsigned(const json_t *value, uint64_t *out) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static bool read_dtype(const Reader *reader, const char *name, const json_t *value, Type *type) {
    const char *text = json_string_value(value);
    for (size_t i = 0; text && i < COUNT_OF(tensor_types); i++) {
        if (strcmp(tensor_types[i].name, text) != 0)
            continue;
        type->dtype = tensor_types[i].dtype;
        return true;
    }
    if (text)
        diag_error(reader->diags, FILE_LOC(reader->file->path), "tensor %s has type %s, which is not read", name, text);
    else
        diag_error(reader->diags, FILE_LOC(reader->file->path), "tensor %s has no dtype", name);
    return false;
}

static bool read_shape(const Reader *reader, const char *name, const json_t *shape, Type *type, uint64_t *bytes) {
    Loc loc = FILE_LOC(reader->file->path);
    if (!json_is_array(shape) || json_array_size(shape) > MAX_RANK) {
        diag_error(reader->diags, loc, json_is_array(shape) ? "tensor %s has more than %d dimensions" : "tensor %s has no shape", name,
                   MAX_RANK);
        return false;
    }
    *bytes = (uint64_t)dtype_info[type->dtype].bytes;
    type->rank = (int)json_array_size(shape);
    for (int i = 0; i < type->rank; i++) {
        uint64_t size;
        if (!read_unsigned(json_array_get(shape, (size_t)i), &size)) {
            diag_error(reader->diags, loc, "tensor %s has a size in its shape that is no whole number", name);
            return false;
        }
        if (size == 0) {
            diag_error(reader->diags, loc, "tensor %s has a dimension of size 0", name);
            return false;
        }
        if (!size_mad(*bytes, size, 0, reader->file->size, bytes)) {
            diag_error(reader->diags, loc, "tensor %s is larger than its file", name);
            return false;
        }
        type->dims[i] = (int64_t)size;
    }
    return true;
}

static bool check_keys(const Reader *reader, const char *name, json_t *entry) {
    const char *key;
    json_t *value;
    json_object_foreach(entry, key, value) {
        if (strcmp(key, "dtype") == 0 || strcmp(key, "shape") == 0 || strcmp(key, "data_offsets") == 0)
            continue;
        diag_error(reader->diags, FILE_LOC(reader->file->path), "tensor %s has the unknown key %s", name, key);
        return false;
    }
    return true;
}

static bool read_tensor(const Reader *reader, json_t *entry, Placed *tensor) {
    Loc loc = FILE_LOC(reader->file->path);
    const char *name = tensor->name;
    uint64_t bytes;
    if (!json_is_object(entry)) {
        diag_error(reader->diags, loc, "tensor %s is not described by an object", name);
        return false;
    }
    if (!check_keys(reader, name, entry) || !read_dtype(reader, name, json_object_get(entry, "dtype"), &tensor->type)
        || !read_shape(reader, name, json_object_get(entry, "shape"), &tensor->type, &bytes))
        return false;
    json_t *offsets = json_object_get(entry, "data_offsets");
    if (json_array_size(offsets) != 2 || !read_unsigned(json_array_get(offsets, 0), &tensor->begin)
        || !read_unsigned(json_array_get(offsets, 1), &tensor->end)) {
        diag_error(reader->diags, loc, "tensor %s has no data_offsets of two whole numbers", name);
        return false;
    }
    uint64_t room = reader->file->size - reader->data;
    if (tensor->begin > tensor->end || tensor->end > room) {
        diag_error(reader->diags, loc, "tensor %s reaches past the end of the file: bytes %llu to %llu of %llu", name,
                   (unsigned long long)tensor->begin, (unsigned long long)tensor->end, (unsigned long long)room);
        return false;
    }
    if (tensor->end - tensor->begin != bytes) {
        diag_error(reader->diags, loc, "tensor %s takes %llu bytes by its shape, but its data_offsets span %llu", name,
                   (unsigned long long)bytes, (unsigned long long)(tensor->end - tensor->begin));
        return false;
    }
    return true;
}

static int compare_begins(const void *a, const void *b) {
    const Placed *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static void place_tensors(const Reader *reader, WeightFiles *files, Placed *tensors, int count) {
    Loc loc = FILE_LOC(reader->file->path);
    uint64_t last = 0;
    if (count > 1)
        qsort(tensors, (size_t)count, sizeof *tensors, compare_begins);
    for (int i = 0; i < count; i++) {
        if (tensors[i].begin != last) {
            diag_error(reader->diags, loc, "tensor %s %s", tensors[i].name,
                       tensors[i].begin > last ? "has a hole of bytes before it" : "overlaps the one before");
            return;
        }
        last = tensors[i].end;
        weight_files_add(files, tensors[i].name, tensors[i].type, reader->file, reader->data + tensors[i].begin);
    }
    if (last != reader->file->size - reader->data)
        diag_error(reader->diags, loc, "%llu bytes after the last tensor belong to none",
                   (unsigned long long)(reader->file->size - reader->data - last));
}

static bool read_header(Reader *reader) {
    const MappedFile *file = reader->file;
    Loc loc = FILE_LOC(file->path);
    if (file->size < 8) {
        diag_error(reader->diags, loc, "is too short for a safetensors file");
        return false;
    }
    for (int i = 7; i >= 0; i--)
        reader->header = reader->header << 8 | file->bytes[i];
    if (reader->header > file->size - 8 || reader->header > MAX_HEADER || reader->header < 2 || file->bytes[8] != '{') {
        if (reader->header > MAX_HEADER && reader->header <= file->size - 8)
            diag_error(reader->diags, loc, "has a safetensors header of %llu bytes; at most %u are read",
                       (unsigned long long)reader->header, MAX_HEADER);
        else
            diag_error(reader->diags, loc, "is neither a safetensors nor a GGUF file, or it is cut short");
        return false;
    }
    reader->data = 8 + reader->header;
    return true;
}

void safetensors_read(WeightFiles *files, const MappedFile *file, Diags *diags) {
    Reader reader = {.file = file, .diags = diags};
    if (!read_header(&reader))
        return;
    json_t *root = json_parse_object(file->path, (const char *)file->bytes + 8, (size_t)reader.header, diags);
    if (!root)
        return;
    Arena *arena = weight_files_arena(files);
    Placed *tensors = NULL;
    int count = 0, capacity = 0, errors = diags_errors(diags);
    const char *name;
    json_t *entry;
    json_object_foreach(root, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        Placed tensor = {.name = arena_strdup(arena, name)};
        if (read_tensor(&reader, entry, &tensor))
            ARENA_PUSH(arena, tensors, count, capacity) = tensor;
    }
    json_decref(root);
    if (diags_errors(diags) == errors)
        place_tensors(&reader, files, tensors, count);
}

// ---- the shard index ----------------------------------------------------------------------------------------------

typedef struct { const char *tensor, *file; } Shard;

static int compare_shards(const void *a, const void *b) {
    const Shard *x = a, *y = b;
    int order = strcmp(x->file, y->file);
    return order ? order : strcmp(x->tensor, y->tensor);
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Maps and reads one shard, then looks for every tensor that the index places in it.
static void read_shard(WeightFiles *files, const MappedFile *index, const Shard *shards, int count, Diags *diags) {
    Arena *arena = weight_files_arena(files);
    const char *slash = strrchr(index->path, '/');
    const char *path = slash ? arena_printf(arena, "%.*s/%s", (int)(slash - index->path), index->path, shards->file) : shards->file;
    int errors = diags_errors(diags), before = weight_files_count(files);
    const MappedFile *file = weight_files_map(files, path, diags);
    if (file)
        safetensors_read(files, file, diags);
    if (diags_errors(diags) != errors)
        return;
    int found = weight_files_count(files) - before;
    const char **names = ARENA_ARRAY(arena, const char *, found);
    for (int i = 0; i < found; i++)
        names[i] = weight_files_get(files, before + i)->name;
    qsort(names, (size_t)found, sizeof *names, compare_strings);
    for (int i = 0; i < count; i++)
        if (!bsearch(&shards[i].tensor, names, (size_t)found, sizeof *names, compare_strings))
            diag_error(diags, FILE_LOC(index->path), "tensor %s is not in %s", shards[i].tensor, shards->file);
}

void safetensors_index_read(WeightFiles *files, const MappedFile *file, Diags *diags) {
    Arena *arena = weight_files_arena(files);
    json_t *root = json_parse_object(file->path, (const char *)file->bytes, (size_t)file->size, diags);
    if (!root)
        return;
    json_t *map = json_object_get(root, "weight_map");
    if (json_object_size(map) == 0)
        diag_error(diags, FILE_LOC(file->path), "is no shard index: it has no weight_map");
    Shard *shards = ARENA_ARRAY(arena, Shard, json_object_size(map));
    int count = 0, errors = diags_errors(diags);
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const char *shard = json_string_value(value);
        if (!shard || !*shard || strchr(shard, '/') || strcmp(shard, ".") == 0 || strcmp(shard, "..") == 0)
            diag_error(diags, FILE_LOC(file->path), "the shard of tensor %s is not a plain file name", name);
        else
            shards[count++] = (Shard){arena_strdup(arena, name), arena_strdup(arena, shard)};
    }
    json_decref(root);
    if (diags_errors(diags) != errors)
        return;
    if (count > 1)
        qsort(shards, (size_t)count, sizeof *shards, compare_shards);
    for (int first = 0, next; first < count; first = next) {
        for (next = first + 1; next < count && strcmp(shards[next].file, shards[first].file) == 0; next++) {}
        read_shard(files, file, shards + first, next - first, diags);
    }
}
