// import: a .gguf or a Hugging Face folder becomes the text of a plain model.yaml; model_open does so in memory.
//
// The source is opened and asked what it is; the template of that name says how its config and tensors map to the model language; what is
// written is that description with this source's values and names, the weights and the tokenizer by path, the chat template reduced to
// texts, and the texts that end a turn. Nothing of the template's own notation is left.
#include "frontend/import.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// ---- paths --------------------------------------------------------------------------------------------------------

static const char *folder_of(Arena *arena, const char *path) {
    const char *slash = strrchr(path, '/');
    return !slash ? "." : slash == path ? "/" : arena_strndup(arena, path, (size_t)(slash - path));
}

static const char *real_path(Arena *arena, const char *path) {
    char *real = realpath(path, NULL);
    const char *out = arena_strdup(arena, real ? real : path);
    free(real);
    return out;
}

// A file's path from the root. Its last part is not followed if it is a link: in Hugging Face's cache that leads to a file without its name, whose
// folder holds no other file of the model.
static const char *full_path(Arena *arena, const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *folder = real_path(arena, folder_of(arena, path));
    return arena_printf(arena, strcmp(folder, "/") == 0 ? "%s%s" : "%s/%s", folder, name);
}

// `path` as seen from `folder`; both absolute. What shares nothing but the root stays absolute.
static const char *relative_path(Arena *arena, const char *folder, const char *path) {
    size_t common = 0, i = 0;
    for (; folder[i] && folder[i] == path[i]; i++)
        if (folder[i] == '/')
            common = i + 1;
    if (!folder[i] && path[i] == '/')
        return path + i + 1;
    if (common <= 1)
        return path;
    const char *out = arena_printf(arena, "../%s", path + common);
    for (const char *rest = folder + common; (rest = strchr(rest, '/')); rest++)
        out = arena_printf(arena, "../%s", out);
    return out;
}

static const char *named_path(Arena *arena, const char *out_path, const char *path) {
    const char *full = full_path(arena, path);
    return out_path ? relative_path(arena, real_path(arena, folder_of(arena, out_path)), full) : full;
}

// ---- text ---------------------------------------------------------------------------------------------------------

// A YAML double-quoted scalar.
static void put_quoted(Text *out, const char *text) {
    text_puts(out, "\"");
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            text_printf(out, "\\%c", *c);
        else if (*c == '\n')
            text_puts(out, "\\n");
        else if (*c == '\t')
            text_puts(out, "\\t");
        else if ((unsigned char)*c < 32 || *c == 127)
            text_printf(out, "\\x%02x", (unsigned char)*c);
        else
            text_add(out, c, 1);
    }
    text_puts(out, "\"");
}

// A path or name bare where YAML takes it so.
static void put_plain(Text *out, const char *text) {
    static const char *const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
    if (text[0] && text[0] != '-' && strspn(text, safe) == strlen(text))
        text_puts(out, text);
    else
        put_quoted(out, text);
}

static const char *model_name(Arena *arena, const Source *source) {
    const char *full = source->is_gguf ? full_path(arena, source->path) : real_path(arena, source->path), *slash = strrchr(full, '/');
    char *name = arena_strdup(arena, slash ? slash + 1 : full);
    size_t length = strlen(name);
    if (source->is_gguf && length > 5 && strcasecmp(name + length - 5, ".gguf") == 0)
        name[length - 5] = 0;
    return *name ? name : "model";
}

static void put_files(Text *out, Arena *arena, const Source *source, const char *out_path) {
    text_puts(out, "weights: ");
    if (source->weight_file_count > 1)
        text_puts(out, "[");
    for (int i = 0; i < source->weight_file_count; i++) {
        text_puts(out, i ? ", " : "");
        put_plain(out, named_path(arena, out_path, source->weight_files[i]));
    }
    text_puts(out, source->weight_file_count > 1 ? "]\n" : "\n");
    if (source->tokenizer) {
        text_puts(out, "tokenizer: ");
        put_plain(out, named_path(arena, out_path, source->tokenizer));
        text_puts(out, "\n");
    } else {
        diag(source->diags, DIAG_WARNING, FILE_LOC(source->path), "has no %s: the model will take token ids only",
             source->is_gguf ? "tokenizer" : "tokenizer.json");
    }
}

static void put_stops(Text *out, const Source *source) {
    if (source->stop_count == 0)
        return;
    text_puts(out, "stop: [");
    for (int i = 0; i < source->stop_count; i++) {
        text_puts(out, i ? ", " : "");
        put_quoted(out, source->stops[i]);
    }
    text_puts(out, "]\n");
}

static void put_chat(Text *out, const Source *source) {
    ChatTemplates chat = {0};
    if (!source->chat_template || !chat_reduce(source->chat_template, source->bos, source->eos, &chat, source->diags))
        return;
    const char *const names[] = {"begin", "system", "user", "assistant", "generation"};
    char *texts[] = {chat.begin, chat.system, chat.user, chat.assistant, chat.generation};
    bool any = false;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (texts[i] && *texts[i]) {
            text_puts(out, any ? "" : "chat:\n");
            text_printf(out, "  %s: ", names[i]);
            put_quoted(out, texts[i]);
            text_puts(out, "\n");
            any = true;
        }
        free(texts[i]);
    }
}

static void put_equals(Text *out, const Equals *equals) {
    if (equals->pair_count)
        text_puts(out, "same:   # equal in the source, and so read once\n");
    for (int i = 0; i < equals->pair_count; i++) {
        text_puts(out, "  ");
        put_quoted(out, equals->pairs[i].name);
        text_puts(out, ": ");
        put_quoted(out, equals->pairs[i].as);
        text_puts(out, "\n");
    }
}

static void put_description(Text *out, Arena *arena, Source *source, const Template *template, const char *out_path, Equals *equals) {
    int64_t made_for, context = template_context(template, &made_for);
    text_printf(out, "# Written by tenon import from the template '%s'.\ntenon: 1\nname: ", template_name(template));
    put_plain(out, model_name(arena, source));
    text_puts(out, "\n");
    template_write_config(template, out);
    text_printf(out, "context: %lld", (long long)context);
    if (made_for > context)
        text_printf(out, "   # the model was made for %lld; a longer context takes more memory", (long long)made_for);
    text_puts(out, "\n");
    put_files(out, arena, source, out_path);
    if (equals) {
        source_find_equals(source, source_tensors_read(source, template_body(template)), equals);
        put_equals(out, equals);
    }
    put_stops(out, source);
    put_chat(out, source);
    text_puts(out, "\n");
    template_write_body(template, out);
}

// ---- import -------------------------------------------------------------------------------------------------------

static bool has_ending(const char *path, const char *ending) {
    size_t length = strlen(path), tail = strlen(ending);
    return length > tail && strcasecmp(path + length - tail, ending) == 0;
}

static bool is_description(const char *path) {
    return has_ending(path, ".yaml") || has_ending(path, ".yml");
}

// ---- a description as the source ------------------------------------------------------------------------------------

static bool read_text(const char *path, Text *out, Diags *diags) {
    FILE *file = fopen(path, "rb");
    char piece[16384];
    for (size_t n; file && (n = fread(piece, 1, sizeof piece, file)) > 0;)
        text_add(out, piece, n);
    bool good = file && !ferror(file);
    if (!good)
        diag_error(diags, FILE_LOC(path), "the model cannot be read: %m");
    if (file)
        fclose(file);
    return good;
}

static const bool *tensors_of(Arena *arena, const Model *model) {
    bool *read = ARENA_ARRAY(arena, bool, model->weights->count);
    for (int i = 0; i < model->module->weight_count; i++) {
        const char *name = model->module->weights[i]->tensor;
        const TensorInfo *tensor = name ? model->weights->find(model->weights, name) : NULL;
        if (tensor)
            read[tensor - model->weights->tensors] = true;
    }
    return read;
}

// A description that is there already stays as it is, with what is equal said at its end.
static bool share_description(Arena *arena, const char *path, const char *out_path, Equals *equals, Text *yaml, Diags *diags) {
    if (!equals) {
        diag_error(diags, FILE_LOC(path), "this is a description already");
        diag(diags, DIAG_HINT, NOWHERE, "with --share, what it reads is searched for equal tensors");
        return false;
    }
    if (out_path && strcmp(real_path(arena, folder_of(arena, out_path)), real_path(arena, folder_of(arena, path))) != 0) {
        diag_error(diags, FILE_LOC(path), "names its files from its own folder: write what is shared there, too");
        return false;
    }
    Model *model = model_load(arena, path, diags);
    if (!model)
        return false;
    bool good = read_text(path, yaml, diags);
    if (good && model->shares) {
        diag_error(diags, FILE_LOC(path), "says what is the same already");
        diag(diags, DIAG_HINT, NOWHERE, "without its `same:` it can be searched anew");
        good = false;
    }
    if (good && model->weights) {
        Source source = {.arena = arena, .diags = diags, .path = path, .weights = model->weights};
        source_find_equals(&source, tensors_of(arena, model), equals);
        text_puts(yaml, equals->pair_count ? "\n" : "");
        put_equals(yaml, equals);
    }
    model_close(model);
    return good;
}

bool import_model(const char *source_path, const char *out_path, Equals *equals, Text *yaml, Diags *diags) {
    int errors = diags_errors(diags);
    Arena *arena = arena_new();
    if (is_description(source_path)) {
        bool good = share_description(arena, source_path, out_path, equals, yaml, diags);
        arena_free(arena);
        return good;
    }
    Source *source = source_open(arena, source_path, diags);
    Template *template = source ? template_pick(source) : NULL;
    if (template && template_resolve(template) && source_read_text(source))
        put_description(yaml, arena, source, template, out_path, equals);
    source_close(source);
    arena_free(arena);
    return diags_errors(diags) == errors;
}

Model *model_open(Arena *arena, const char *path, Diags *diags) {
    if (is_description(path))
        return model_load(arena, path, diags);
    Text yaml = {0};
    Model *model = NULL;
    if (import_model(path, NULL, NULL, &yaml, diags))
        model = model_load_text(arena, path, yaml.data, yaml.length, diags);
    text_free(&yaml);
    return model;
}
