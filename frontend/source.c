// What import reads from: a .gguf, or a Hugging Face folder (config.json, safetensors with or without a shard index, tokenizer.json …),
// behind the same questions: a config value, a tensor, what it is.
//
// Every key that is asked for is remembered. What no one asked for, and is neither neutral (null, false, 0, "", empty) nor known to have
// no part in inference, is an error that names it: a model whose config says something that we do not understand would otherwise run, and
// be wrong.
#include "frontend/import.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_LIST = 1 << 16, MAX_SPLITS = 4096 };

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool is_file(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool has_ending(const char *name, const char *ending) {
    size_t length = strlen(name), tail = strlen(ending);
    return length > tail && strcmp(name + length - tail, ending) == 0;
}

static const char *inside(const Source *source, const char *name) {
    return arena_printf(source->arena, "%s/%s", source->path, name);
}

// ---- values -------------------------------------------------------------------------------------------------------

static Constant from_json(Arena *arena, const json_t *value) {
    Constant out = {.kind = CONSTANT_NONE};
    if (json_is_boolean(value))
        return constant_bool(json_is_true(value));
    if (json_is_number(value))
        return constant_number(json_number_value(value));
    if (json_is_string(value))
        return constant_word(arena, json_string_value(value));
    if (!json_is_array(value) && !json_is_object(value))
        return out;
    size_t count = json_is_array(value) ? json_array_size(value) : json_object_size(value);
    out.kind = json_is_array(value) ? CONSTANT_LIST : CONSTANT_RECORD;
    out.items = ARENA_ARRAY(arena, Constant, count);
    if (json_is_array(value)) {
        for (size_t i = 0; i < count; i++)
            out.items[out.count++] = from_json(arena, json_array_get(value, i));
        return out;
    }
    out.names = ARENA_ARRAY(arena, const char *, count);
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)value, key, item) {
        out.names[out.count] = arena_strdup(arena, key);
        out.items[out.count++] = from_json(arena, item);
    }
    return out;
}

// A dotted path: rope_parameters.full_attention.rope_theta.
static const json_t *json_find(const json_t *object, const char *path) {
    char key[256];
    while (object) {
        size_t length = strcspn(path, ".");
        if (length >= sizeof key)
            return NULL;
        memcpy(key, path, length);
        key[length] = 0;
        object = json_object_get(object, key);
        if (!path[length])
            return json_is_null(object) ? NULL : object;
        path += length + 1;
    }
    return NULL;
}

// Metadata of float32 read as double: the shortest decimal that is that float32, so that 1e-5 is written as 1e-5.
static Constant number_or_bool(double value, bool boolean) {
    if (boolean)
        return constant_bool(value != 0);
    if (value == floor(value) || (double)(float)value != value)
        return constant_number(value);
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtof(text, NULL) == (float)value)
            break;
    }
    return constant_number(strtod(text, NULL));
}

static bool from_gguf(const Source *source, const char *key, Constant *out) {
    const Gguf *gguf = source->gguf;
    bool boolean = gguf_is_bool(gguf, key);
    double number;
    size_t length;
    const char *text = gguf_string(gguf, key, NULL);
    int64_t count = gguf_array(gguf, key);
    if (text) {
        *out = constant_word(source->arena, text);
    } else if (gguf_number(gguf, key, &number)) {
        *out = number_or_bool(number, boolean);
    } else if (count >= 0 && count <= MAX_LIST) {
        *out = (Constant){.kind = CONSTANT_LIST, .count = (int)count, .items = ARENA_ARRAY(source->arena, Constant, count)};
        for (int i = 0; i < out->count; i++) {
            if (gguf_array_number(gguf, key, i, &number))
                out->items[i] = number_or_bool(number, boolean);
            else if ((text = gguf_array_string(gguf, key, i, &length)))
                out->items[i] = constant_word(source->arena, arena_strndup(source->arena, text, length));
        }
    } else {
        return false;
    }
    return true;
}

static bool was_used(const Source *source, const char *key) {
    for (int i = 0; i < source->used_count; i++)
        if (strcmp(source->used[i], key) == 0)
            return true;
    return false;
}

static void mark_used(Source *source, const char *key) {
    if (!was_used(source, key))
        ARENA_PUSH(source->arena, source->used, source->used_count, source->used_capacity) = key;
}

void source_settle(Source *source, const char *key) {
    const char *dot = key && !source->is_gguf ? strrchr(key, '.') : NULL;
    if (dot)
        mark_used(source, arena_strndup(source->arena, key, (size_t)(dot - key)));
}

bool source_value(Source *source, const char *key, Constant *value) {
    mark_used(source, arena_strdup(source->arena, key));
    if (source->is_gguf)
        return from_gguf(source, key, value);
    const json_t *found = json_find(source->config, key);
    if (found)
        *value = from_json(source->arena, found);
    return found != NULL;
}

const TensorInfo *source_tensor(const Source *source, const char *name) {
    return source->weights->find(source->weights, name);
}

// ---- what nobody asked for ------------------------------------------------------------------------------------------

static bool is_neutral(const Constant *value) {
    if (value->kind == CONSTANT_TEXT)
        return !value->text[0] || strcmp(value->text, "none") == 0;
    return !constant_true(value);
}

static bool is_ignored(const char *key, const char *const *ignored, int count) {
    for (int i = 0; i < count; i++) {
        size_t length = strlen(ignored[i]);
        bool prefix = length > 0 && ignored[i][length - 1] == '*';
        if (prefix ? strncmp(key, ignored[i], length - 1) == 0 : strcmp(key, ignored[i]) == 0)
            return true;
    }
    return false;
}

static bool was_used_inside(const Source *source, const char *key) {
    size_t length = strlen(key);
    for (int i = 0; i < source->used_count; i++)
        if (strncmp(source->used[i], key, length) == 0 && source->used[i][length] == '.')
            return true;
    return false;
}

typedef struct { Source *source; const char *const *ignored; int ignored_count; const char *architecture; bool good; } UnusedCheck;

static void report_unused(UnusedCheck *check, const char *key, const Constant *value) {
    Text text = {0};
    constant_text(value, &text);
    diag_error(check->source->diags, FILE_LOC(check->source->described_by), "%s is %.100s%s, which the template '%s' does not know", key,
               text.data, text.length > 100 ? " …" : "", check->architecture);
    if (check->good)
        diag(check->source->diags, DIAG_HINT, NOWHERE,
             "if it does not change the model's results, remove it; if it does, write the model as YAML (docs/model-language.md)");
    text_free(&text);
    check->good = false;
}

static void check_unused_json(UnusedCheck *check, const char *prefix, json_t *object) {
    const char *name;
    json_t *item;
    json_object_foreach(object, name, item) {
        const char *key = arena_printf(check->source->arena, "%s%s", prefix, name);
        Constant value = from_json(check->source->arena, item);
        if (was_used(check->source, key) || is_ignored(key, check->ignored, check->ignored_count) || is_neutral(&value))
            continue;
        if (json_is_object(item) && was_used_inside(check->source, key))
            check_unused_json(check, arena_printf(check->source->arena, "%s.", key), item);
        else
            report_unused(check, key, &value);
    }
}

static void check_unused_gguf(UnusedCheck *check) {
    Source *source = check->source;
    const char *prefix = arena_printf(source->arena, "%s.", source->kinds[0]);
    for (int i = 0; i < gguf_key_count(source->gguf); i++) {
        const char *key = gguf_key(source->gguf, i);
        Constant value;
        if (strncmp(key, prefix, strlen(prefix)) != 0 || was_used(source, key) || !from_gguf(source, key, &value))
            continue;
        if (!is_ignored(key + strlen(prefix), check->ignored, check->ignored_count) && !is_neutral(&value))
            report_unused(check, key, &value);
    }
}

bool source_check_unused(Source *source, const char *const *ignored, int count, const char *architecture) {
    UnusedCheck check = {source, ignored, count, architecture, true};
    if (source->is_gguf)
        check_unused_gguf(&check);
    else
        check_unused_json(&check, "", source->config);
    if (!source->is_gguf && source->root != source->config && json_object_get(source->root, "quantization_config"))
        report_unused(&check, "quantization_config", &(Constant){.kind = CONSTANT_RECORD});
    return check.good;
}

// ---- opening a GGUF file ----------------------------------------------------------------------------------------------

static void add_kind(Source *source, const char *kind) {
    const char **kinds = ARENA_ARRAY(source->arena, const char *, source->kind_count + 1);
    for (int i = 0; i < source->kind_count; i++)
        kinds[i] = source->kinds[i];
    kinds[source->kind_count++] = arena_strdup(source->arena, kind);
    source->kinds = kinds;
}

// model-00001-of-00003.gguf stands for all three.
static bool list_splits(Source *source) {
    double count = 1;
    gguf_number(source->gguf, "split.count", &count);
    source->weight_file_count = 1;
    source->weight_files = ARENA_ARRAY(source->arena, const char *, 1);
    source->weight_files[0] = source->path;
    if (!(count > 1))
        return true;
    const char *tail = arena_printf(source->arena, "-00001-of-%05d.gguf", count <= MAX_SPLITS ? (int)count : 0);
    size_t length = strlen(source->path), tail_length = strlen(tail);
    if (length < tail_length || strcmp(source->path + length - tail_length, tail) != 0) {
        diag_error(source->diags, FILE_LOC(source->path), "is one part of %g, but is not called …%s", count, tail);
        diag(source->diags, DIAG_HINT, NOWHERE, "import the first part under the name it was published with");
        return false;
    }
    source->weight_file_count = (int)count;
    source->weight_files = ARENA_ARRAY(source->arena, const char *, source->weight_file_count);
    for (int i = 0; i < source->weight_file_count; i++)
        source->weight_files[i] = arena_printf(source->arena, "%.*s-%05d-of-%05d.gguf", (int)(length - tail_length), source->path, i + 1,
                                               (int)count);
    return true;
}

static bool open_gguf(Source *source) {
    source->is_gguf = true;
    source->described_by = source->tokenizer = source->path;
    source->gguf = gguf_metadata_open(source->path, source->diags);
    if (!source->gguf) {
        if (!has_ending(source->path, ".gguf"))
            diag(source->diags, DIAG_HINT, NOWHERE,
                 "a model is a .yaml, a .gguf, or a Hugging Face folder with config.json and .safetensors files");
        return false;
    }
    const char *arch = gguf_string(source->gguf, "general.architecture", NULL);
    if (!arch) {
        diag_error(source->diags, FILE_LOC(source->path), "does not say its general.architecture");
        return false;
    }
    add_kind(source, arch);
    if (!gguf_string(source->gguf, "tokenizer.ggml.model", NULL))
        source->tokenizer = NULL;
    return list_splits(source);
}

// ---- opening a folder --------------------------------------------------------------------------------------------------

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// The shard index, or model.safetensors, or all .safetensors of the folder.
static bool list_safetensors(Source *source) {
    int count = 0, capacity = 0;
    const char **files = NULL, *index = inside(source, "model.safetensors.index.json"), *single = inside(source, "model.safetensors");
    bool torch = false;
    if (is_file(index) || is_file(single)) {
        ARENA_PUSH(source->arena, files, count, capacity) = is_file(index) ? index : single;
    } else {
        DIR *folder = opendir(source->path);
        for (struct dirent *entry; folder && (entry = readdir(folder));) {
            torch = torch || has_ending(entry->d_name, ".bin") || has_ending(entry->d_name, ".pth");
            if (has_ending(entry->d_name, ".safetensors"))
                ARENA_PUSH(source->arena, files, count, capacity) = inside(source, entry->d_name);
        }
        if (folder)
            closedir(folder);
        if (count > 1)
            qsort(files, (size_t)count, sizeof *files, compare_strings);
    }
    source->weight_files = files;
    source->weight_file_count = count;
    if (count)
        return true;
    diag_error(source->diags, FILE_LOC(source->path), "has no .safetensors file");
    if (torch)
        diag(source->diags, DIAG_HINT, NOWHERE,
             "PyTorch's pickled weights are not read: save the model again with safe_serialization=True");
    return false;
}

// Sentence-transformers keep the pooling in files of their own; templates see it as sentence_transformers.pooling and .normalize.
static bool read_sentence_pooling(Source *source) {
    static const char *const modes[][2] = {
        {"pooling_mode_cls_token", "cls"}, {"pooling_mode_mean_tokens", "mean"}, {"pooling_mode_lasttoken", "last"},
        {"pooling_mode_max_tokens", "max"}, {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"},
        {"pooling_mode_weightedmean_tokens", "weightedmean"},
    };
    const char *path = inside(source, "1_Pooling/config.json"), *modules = inside(source, "modules.json");
    if (!is_file(path))
        return true;
    json_t *pooling = json_read_object(path, source->diags);
    if (!pooling)
        return false;
    Text mode = {0};
    for (size_t i = 0; i < COUNT_OF(modes); i++)
        if (json_is_true(json_object_get(pooling, modes[i][0])))
            text_printf(&mode, "%s%s", mode.length ? "+" : "", modes[i][1]);
    if (!mode.length && json_is_string(json_object_get(pooling, "pooling_mode")))
        text_puts(&mode, json_string_value(json_object_get(pooling, "pooling_mode")));
    MappedFile list = {0};
    bool normalize = is_file(modules) && file_map(&list, modules, source->diags) && list.size > 0
        && memmem(list.bytes, (size_t)list.size, "Normalize\"", 10);
    file_unmap(&list);
    json_object_set_new(source->config, "sentence_transformers",
                        json_pack("{s:s, s:b}", "pooling", mode.length ? mode.data : "none", "normalize", normalize));
    source->has_sentence_pooling = true;
    text_free(&mode);
    json_decref(pooling);
    return true;
}

static bool open_folder(Source *source) {
    source->described_by = inside(source, "config.json");
    if (!is_file(source->described_by)) {
        diag_error(source->diags, FILE_LOC(source->path), "is a folder without a config.json");
        diag(source->diags, DIAG_HINT, NOWHERE,
             "import takes a .gguf file, or a Hugging Face folder with config.json and .safetensors files");
        return false;
    }
    source->root = source->config = json_read_object(source->described_by, source->diags);
    if (!source->root)
        return false;
    if (!read_sentence_pooling(source))
        return false;
    json_t *names = json_object_get(source->root, "architectures"), *type = json_object_get(source->root, "model_type");
    for (size_t i = 0; i < json_array_size(names); i++)
        if (json_is_string(json_array_get(names, i)))
            add_kind(source, json_string_value(json_array_get(names, i)));
    if (json_is_string(type) && (source->kind_count == 0 || source->has_sentence_pooling))
        add_kind(source, json_string_value(type));
    if (json_is_object(json_object_get(source->root, "text_config")))
        source->config = json_object_get(source->root, "text_config");
    if (is_file(inside(source, "tokenizer.json")))
        source->tokenizer = inside(source, "tokenizer.json");
    if (source->kind_count == 0)
        diag_error(source->diags, FILE_LOC(source->described_by), "has neither architectures nor model_type");
    return source->kind_count > 0 && list_safetensors(source);
}

Source *source_open(Arena *arena, const char *path, Diags *diags) {
    Source *source = ARENA_NEW(arena, Source);
    source->arena = arena;
    source->diags = diags;
    char *copy = arena_strdup(arena, path);
    for (size_t length = strlen(copy); length > 1 && copy[length - 1] == '/'; length--)
        copy[length - 1] = 0;
    source->path = copy;
    bool good = is_folder(path) ? open_folder(source) : open_gguf(source);
    if (good)
        source->weights = weights_open(source->weight_files, source->weight_file_count, diags);
    if (source->weights)
        return source;
    source_close(source);
    return NULL;
}

void source_close(Source *source) {
    if (!source)
        return;
    if (source->weights)
        source->weights->close(source->weights);
    gguf_metadata_close(source->gguf);
    json_decref(source->root);
    source->weights = NULL;
    source->gguf = NULL;
    source->root = NULL;
}
