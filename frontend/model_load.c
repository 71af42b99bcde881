// A model description, from its text to a verified module: the top level of the file, config values, weights and the other files it names.
#include "frontend/model.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_CONTEXT = 1 << 24, MOST_STOPS = 64, MOST_INPUTS = 8, MOST_CHAIN = 100, MOST_NAME = 100 };

typedef struct {
    Lower *lower;
    Model *model;
    const Yaml *root;
    const char *path;
    bool unknown_keys;             // one of them may be what seems to be missing
    bool good;
} Load;

static void load_error(Load *load, Loc loc, const char *format, ...) PRINTF_LIKE(3, 4);
static void load_error(Load *load, Loc loc, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(load->lower->diags, DIAG_ERROR, loc, format, args);
    va_end(args);
    load->good = false;
}

static void load_hint(Load *load, const char *hint) { diag(load->lower->diags, DIAG_HINT, NOWHERE, "%s", hint); }

// ---- config -------------------------------------------------------------------------------------------------------

typedef struct {
    Lower *lower;
    const Yaml *map;
    Table *places;                 // name → its number + 1
    char *state;                   // 0 not yet, 1 being worked out, 2 done
    int depth;
    Constant *values;
} Config;

static bool config_find(void *context, const char *name, Constant *value) {
    Config *config = context;
    size_t place = (size_t)table_get(config->places, name);
    if (!place--) return false;
    if (config->state[place] == 1) {
        diag_error(config->lower->diags, config->map->keys[place]->loc, "config value '%s' depends on itself", name);
        config->values[place] = (Constant){.kind = CONSTANT_POISON};
        config->state[place] = 2;
    }
    if (config->state[place] == 0 && config->depth >= MOST_CHAIN) {
        diag_error(config->lower->diags, config->map->keys[place]->loc, "config values depend on each other more than %d deep", MOST_CHAIN);
        config->values[place] = (Constant){.kind = CONSTANT_POISON};
        config->state[place] = 2;
    }
    if (config->state[place] == 0) {
        Constant result;
        config->state[place] = 1;
        config->depth++;
        constant_evaluate(config->lower->arena, config->map->items[place], &config->lower->config, &result, config->lower->diags);
        if (config->state[place] == 1) config->values[place] = result;
        config->state[place] = 2;
        config->depth--;
    }
    *value = config->values[place];
    return true;
}

static bool config_entry(const Yaml *key, Diags *diags) {
    Constant ignored;
    if (!is_name(key->text)) diag_error(diags, key->loc, "a config name is letters, digits and _");
    else if (constant_named(key->text, &ignored)) diag_error(diags, key->loc, "'%s' is a word of the language", key->text);
    else return true;
    return false;
}

static void read_config(Load *load) {
    Lower *lower = load->lower;
    const Yaml *map = yaml_get(load->root, "config");
    if (!map) return;
    if (map->kind != YAML_MAP || map->count > MOST_CONFIG) {
        load_error(load, map->loc, map->kind == YAML_MAP ? "config has too many entries" : "config is a map of names and values");
        return;
    }
    Config config = {.lower = lower, .map = map, .places = table_new(lower->scratch)};
    config.state = ARENA_ARRAY(lower->scratch, char, map->count);
    config.values = ARENA_ARRAY(lower->arena, Constant, map->count);
    for (int i = 0; i < map->count; i++) table_set(config.places, map->keys[i]->text, (void *)(size_t)(i + 1));
    lower->config.names = ARENA_ARRAY(lower->arena, const char *, map->count);
    for (int i = 0; i < map->count; i++) lower->config.names[i] = map->keys[i]->text;
    lower->config.values = config.values;
    lower->config.count = lower->config.capacity = lower->config.value_capacity = map->count;
    lower->config.find = config_find;
    lower->config.context = &config;
    for (int i = 0; i < map->count; i++) {
        Constant value;
        int errors = diags_errors(lower->diags);
        const Yaml *item = map->items[i];
        bool cut = !is_name(map->keys[i]->text) && i > 0 && yaml_ends_at_comma(map->items[i - 1]);   // the rest of the entry before
        if (cut && config.state[i - 1] == 2 && config.values[i - 1].kind == CONSTANT_POISON) continue;
        if (!config_entry(map->keys[i], lower->diags)) load->good = false;
        else if (item->kind == YAML_MAP && (yaml_get(item, "hf") || yaml_get(item, "gguf"))) {
            load_error(load, item->loc, "values from two kinds of files belong to a template");
            load_hint(load, "tenon import writes a model with the values of one source");
            config.state[i] = 2;
            config.values[i] = (Constant){.kind = CONSTANT_POISON};
        } else config_find(&config, map->keys[i]->text, &value);
        if (diags_errors(lower->diags) != errors) load->good = false;
    }
    lower->config.find = NULL;
}

// ---- the head -----------------------------------------------------------------------------------------------------

static const char *read_text(Load *load, const Yaml *yaml, const char *what) {
    if (!yaml || yaml->poisoned) return NULL;
    if (yaml->kind == YAML_SCALAR) return yaml->text;
    load_error(load, yaml->loc, "%s is a text, not %s", what, yaml_kind_name(yaml->kind));
    return NULL;
}

// One text or a list of them.
static int read_texts(Load *load, const Yaml *yaml, const char *what, int most, const char ***texts) {
    *texts = NULL;
    if (!yaml || yaml->poisoned) return 0;
    int count = yaml->kind == YAML_LIST ? yaml->count : 1, kept = 0;
    if (count > most) {
        load_error(load, yaml->loc, "%s has more than %d entries", what, most);
        return 0;
    }
    *texts = ARENA_ARRAY(load->lower->arena, const char *, count);
    for (int i = 0; i < count; i++) {
        const char *text = read_text(load, yaml->kind == YAML_LIST ? yaml->items[i] : yaml, what);
        if (text) (*texts)[kept++] = text;
    }
    return kept;
}

static const char *beside(Load *load, const char *file) {
    const char *slash = load->path ? strrchr(load->path, '/') : NULL;
    if (file[0] == '/' || !slash) return file;
    return arena_printf(load->lower->arena, "%.*s%s", (int)(slash - load->path) + 1, load->path, file);
}

static void read_version(Load *load) {
    const Yaml *version = yaml_get(load->root, "tenon");
    if (!version && load->unknown_keys) {
        load->good = false;
    } else if (!version) {
        load_error(load, FILE_LOC(load->root->loc.file), "the line `tenon: 1` is missing");
        load_hint(load, "it says which version of the language the file is written in");
    } else if (version->kind != YAML_SCALAR || strcmp(version->text, "1") != 0) {
        if (!version->poisoned) load_error(load, version->loc, "this version of the language is not known; write `tenon: 1`");
        load->good = false;
    }
}

static void read_context(Load *load) {
    const Yaml *yaml = yaml_get(load->root, "context");
    Lower *lower = load->lower;
    Constant value;
    int64_t context = 0;
    lower->context = 2048;
    if (!yaml && load->unknown_keys) return;
    if (!yaml) {
        load_error(load, FILE_LOC(load->root->loc.file), "context is missing: the longest sequence, such as `context: 2048`");
        return;
    }
    if (!constant_evaluate(lower->arena, yaml, &lower->config, &value, lower->diags)) {
        load->good = false;
    } else if (!constant_integer(&value, &context) || context < 1 || context > MOST_CONTEXT) {
        load_error(load, yaml->loc, "context is a whole number within 1 … %d, not %s", MOST_CONTEXT,
                   constant_describe(lower->arena, &value));
    } else {
        lower->context = context;
    }
}

static void read_chat(Load *load) {
    static const char *const known[] = {"begin", "system", "user", "assistant", "generation"};
    const Yaml *chat = yaml_get(load->root, "chat");
    Model *model = load->model;
    const char **fields[] = {&model->chat_begin, &model->chat_system, &model->chat_user, &model->chat_assistant, &model->chat_generation};
    if (!chat) return;
    if (chat->kind != YAML_MAP) {
        load_error(load, chat->loc, "chat is a map of texts, not %s", yaml_kind_name(chat->kind));
        return;
    }
    if (!yaml_check_keys(chat, "chat", known, COUNT_OF(known), load->lower->diags)) load->good = false;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        const Yaml *yaml = yaml_get(chat, known[i]);
        *fields[i] = read_text(load, yaml, known[i]);
        if (*fields[i] && i > 0 && i < 4 && !strstr(*fields[i], "{text}"))
            load_error(load, yaml->loc, "chat: %s has no {text}, the place of the message", known[i]);
    }
}

static bool fresh_input(Load *load, const Yaml *key) {
    Model *model = load->model;
    Constant ignored;
    if (!is_name(key->text) || constant_named(key->text, &ignored) || key->length > MOST_NAME) {
        load_error(load, key->loc, "an input is a name: letters, digits and _");
        return false;
    }
    for (int i = 0; i < model->input_count; i++)
        if (strcmp(model->input_names[i], key->text) == 0) {
            load_error(load, key->loc, "input 'tokens' is always there");
            return false;
        }
    for (int i = 0; i < load->lower->main.param_count; i++)
        if (strcmp(load->lower->main.params[i].name, key->text) == 0) {
            load_error(load, key->loc, "'%s' is both an input and a parameter", key->text);
            return false;
        }
    return true;
}

// inputs: {types: {ids: true, default: 0}}, beside tokens.
static void read_inputs(Load *load) {
    static const char *const known[] = {"ids", "default"};
    Lower *lower = load->lower;
    Model *model = load->model;
    const Yaml *inputs = yaml_get(yaml_get(load->root, "model"), "inputs");
    model->input_names = ARENA_ARRAY(lower->arena, const char *, MOST_INPUTS);
    model->input_defaults = ARENA_ARRAY(lower->arena, int64_t, MOST_INPUTS);
    model->input_names[model->input_count++] = "tokens";
    if (!inputs) return;
    if (inputs->kind != YAML_MAP || inputs->count >= MOST_INPUTS) {
        load_error(load, inputs->loc, "inputs is a map of at most %d, such as {types: {ids: true, default: 0}}", MOST_INPUTS - 1);
        return;
    }
    for (int i = 0; i < inputs->count; i++) {
        const Yaml *key = inputs->keys[i], *map = inputs->items[i];
        if (!fresh_input(load, key)) continue;
        Constant ids = constant_bool(false), value = constant_number(0);
        int64_t number = 0;
        if (map->kind != YAML_MAP) {
            load_error(load, map->loc, "an input is written {ids: true, default: 0}");
        } else {
            if (!yaml_check_keys(map, "an input", known, COUNT_OF(known), lower->diags)) load->good = false;
            const Yaml *is_ids = yaml_get(map, "ids"), *otherwise = yaml_get(map, "default");
            if (is_ids && !constant_evaluate(lower->arena, is_ids, &lower->config, &ids, lower->diags)) load->good = false;
            else if (!constant_true(&ids))
                load_error(load, is_ids ? is_ids->loc : key->loc, "only inputs of ids are there yet: {ids: true}");
            if (otherwise && !constant_evaluate(lower->arena, otherwise, &lower->config, &value, lower->diags)) load->good = false;
            else if (!constant_integer(&value, &number) || number < 0 || number > INT32_MAX)
                load_error(load, otherwise->loc, "default is an id: a whole number from 0, not %s",
                           constant_describe(lower->arena, &value));
        }
        model->input_defaults[model->input_count] = number;
        model->input_names[model->input_count++] = key->text;
    }
}

static void open_weights(Load *load, Provider *given) {
    Lower *lower = load->lower;
    const Yaml *yaml = yaml_get(load->root, "weights");
    const char **files;
    int count = read_texts(load, yaml, "weights", 4096, &files);
    for (int i = 0; i < count; i++) files[i] = beside(load, files[i]);
    load->model->weights_count = count;
    load->model->weights_paths = files;
    lower->provider = given;
    if (given || !yaml) return;
    if (count) lower->provider = weights_open(files, count, lower->diags);
    else load_error(load, yaml->loc, "weights names no file");
    lower->provider_failed = !lower->provider;
    if (count && lower->provider_failed) diag(lower->diags, DIAG_NOTE, yaml->loc, "the model names its weights here");
    if (lower->provider_failed) load->good = false;
}

static void read_head(Load *load) {
    static const char *const known[] = {"tenon", "name", "config", "context", "weights", "same", "tokenizer", "stop", "chat", "blocks", "model"};
    Lower *lower = load->lower;
    Model *model = load->model;
    const Yaml *match = yaml_get(load->root, "match");
    if (match) {
        load_error(load, match->loc, "this is a template: it has `match`");
        load_hint(load, "tenon import writes a model from it");
    } else if (!yaml_check_keys(load->root, "a model", known, COUNT_OF(known), lower->diags)) {
        load->good = false;
        load->unknown_keys = true;
    }
    read_version(load);
    read_config(load);
    read_context(load);
    model->name = read_text(load, yaml_get(load->root, "name"), "name");
    if (model->name && strlen(model->name) > MOST_NAME) load_error(load, yaml_get(load->root, "name")->loc, "the name is too long");
    if (model->name && (!*model->name || strlen(model->name) > MOST_NAME)) model->name = NULL;
    const char *tokenizer = read_text(load, yaml_get(load->root, "tokenizer"), "tokenizer");
    model->tokenizer_path = tokenizer && *tokenizer ? beside(load, tokenizer) : NULL;
    model->stop_count = read_texts(load, yaml_get(load->root, "stop"), "stop", MOST_STOPS, &model->stops);
    read_chat(load);
}

static const char *name_of_file(Arena *arena, const char *path) {
    const char *slash = path ? strrchr(path, '/') : NULL, *base = slash ? slash + 1 : path ? path : "model";
    const char *dot = strrchr(base, '.');
    size_t length = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    return length ? arena_strndup(arena, base, length < MOST_NAME ? length : MOST_NAME) : "model";
}

// ---- the whole ----------------------------------------------------------------------------------------------------

static bool build(Load *load, Provider *given) {
    Lower *lower = load->lower;
    if (load->root->kind != YAML_MAP) {
        load_error(load, load->root->loc, "a model is a map that begins with `tenon: 1`, not %s", yaml_kind_name(load->root->kind));
        return false;
    }
    read_head(load);
    if (!parse_same(lower, load->root)) load->good = false;
    load->model->shares = lower->same_count > 0;
    if (!parse_blocks(lower, load->root)) load->good = false;
    read_inputs(load);
    open_weights(load, given);
    if (!load->model->name) load->model->name = name_of_file(lower->arena, load->path);
    lower->module = module_new(lower->arena, load->model->name);
    lower->module->context = load->model->context = lower->context;
    bool lowered = lower_main(lower, load->model->input_names, load->model->input_count);
    Module *module = lower->module;
    if (lowered && !module_causal(module) && module->context > module->max_tokens) module->max_tokens = (int)module->context;   // whole sequences
    for (int i = 0; i < lower->block_count; i++)
        if (!lower->blocks[i].called && lowered)
            diag(lower->diags, DIAG_WARNING, lower->blocks[i].loc, "block '%s' is never called", lower->blocks[i].name);
    return lowered && load->good;
}

Model *model_build(Arena *arena, const char *path, const char *yaml, size_t length, Provider *given, Diags *diags) {
    int errors = diags_errors(diags);
    Model *model = ARENA_NEW(arena, Model);
    Lower *lower = ARENA_NEW(arena, Lower);
    *lower = (Lower){.arena = arena, .scratch = arena_new(), .diags = diags, .mute = diags_new(), .context = 2048};
    lower->calls = table_new(lower->scratch);
    lower->folds = table_new(lower->scratch);
    lower->sources = table_new(lower->scratch);
    Load load = {.lower = lower, .model = model, .path = path, .good = true};
    load.root = yaml_read_anyway(arena, path, yaml, length, diags);
    bool good = load.root && build(&load, given);
    good = good && diags_errors(diags) == errors && module_verify(lower->module, diags);
    model->module = lower->module;
    model->weights = lower->provider;
    arena_free(lower->scratch);
    diags_free(lower->mute);
    if (good) return model;
    model_close(model);
    return NULL;
}

Model *model_load_text(Arena *arena, const char *path, const char *yaml, size_t length, Diags *diags) {
    return model_build(arena, path, yaml, length, NULL, diags);
}

static Model *load_file(Arena *arena, const char *path, Provider *given, Diags *diags) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        diag_error(diags, FILE_LOC(path), "the model cannot be opened: %m");
        if (given) given->close(given);
        return NULL;
    }
    Text text = {0};
    char piece[16384];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, file)) > 0 && text.length < (128u << 20)) text_add(&text, piece, n);
    bool failed = ferror(file);
    fclose(file);
    Model *model = NULL;
    if (failed && given) given->close(given);
    if (failed) diag_error(diags, FILE_LOC(path), "the model cannot be read: %m");
    else model = model_build(arena, path, text.data ? text.data : "", text.length, given, diags);
    text_free(&text);
    return model;
}

Model *model_load(Arena *arena, const char *path, Diags *diags) { return load_file(arena, path, NULL, diags); }

Model *model_load_declared(Arena *arena, const char *path, Diags *diags) { return load_file(arena, path, weights_declared(), diags); }

void model_close(Model *model) {
    if (model && model->weights && model->weights->close) model->weights->close(model->weights);
    if (model) model->weights = NULL;
}
