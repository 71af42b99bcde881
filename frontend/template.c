// Architecture templates: the model language, with where each config value and each name comes from in either kind of source.
//
// A template's config entries are worked out when they are asked for, in any order, so a default may use any other entry. Entries that no
// template defines itself are looked for in common.yaml (rope scaling, for one). What is written is constants: those that the rewritten
// body uses.
#include "frontend/expression.h"
#include "frontend/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CONTEXT = 8192, MAX_ENTRIES = 128 };

typedef enum { ENTRY_NEW, ENTRY_BUSY, ENTRY_DONE } EntryState;
typedef struct {
    const char *name;
    const Yaml *yaml;
    EntryState state;
    Constant value;
    const char *key;               // of the source, where the value is from one
} Entry;

struct Template {
    Source *source;
    Arena *arena;
    Diags *diags;
    const Architecture *architecture;
    const char *file;              // for messages
    const Yaml *root, *common;
    Scope scope;                   // finds entries
    Entry entries[MAX_ENTRIES]; int entry_count, own_count;   // own: those of the template itself come first
    const char *prefix;
    int variant_count; const char *variants[MAX_ENTRIES]; bool active[MAX_ENTRIES];
    const char *body;
    int64_t context, made_for;
};

static bool resolve_entry(Template *template, Entry *entry);
static bool number_of(Template *template, const char *name, int64_t *value);

const char *template_name(const Template *template) {
    return template->architecture->name;
}

// ---- source maps in the tree ----------------------------------------------------------------------------------------

static const char *base_source(const Template *template) {
    return template->source->is_gguf ? "gguf" : "hf";
}

// {hf: A, gguf: B} is A or B; anything else is itself.
static const Yaml *side(const Template *template, const Yaml *yaml) {
    if (!yaml || yaml->kind != YAML_MAP || (!yaml_get(yaml, "hf") && !yaml_get(yaml, "gguf")))
        return yaml;
    return yaml_get(yaml, base_source(template));
}

static int choice_rank(void *context, const char *key, size_t length) {
    const Template *template = context;
    for (int i = 0; i < template->variant_count; i++)
        if (template->active[i] && strlen(template->variants[i]) == length && strncmp(template->variants[i], key, length) == 0)
            return i;
    const char *base = base_source(template);
    return strlen(base) == length && strncmp(base, key, length) == 0 ? template->variant_count : -1;
}

static bool is_choice(void *context, const char *key, size_t length) {
    const Template *template = context;
    if ((length == 2 && strncmp(key, "hf", 2) == 0) || (length == 4 && strncmp(key, "gguf", 4) == 0))
        return true;
    for (int i = 0; i < template->variant_count; i++)
        if (strlen(template->variants[i]) == length && strncmp(template->variants[i], key, length) == 0)
            return true;
    return false;
}

// "{arch}.x" and "{prefix}x".
static const char *fill_in(const Template *template, const char *text) {
    const char *const names[] = {"{arch}", "{prefix}"};
    const char *const values[] = {template->source->kinds[0], template->prefix ? template->prefix : ""};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        for (const char *at; (at = strstr(text, names[i]));)
            text = arena_printf(template->arena, "%.*s%s%s", (int)(at - text), text, values[i], at + strlen(names[i]));
    return text;
}

// A tensor's name: "{entry}" is a config entry's whole number, too.
static const TensorInfo *named_tensor(Template *template, const char *text) {
    text = fill_in(template, text);
    for (const char *at; (at = strchr(text, '{'));) {
        size_t length = strcspn(at + 1, "}");
        int64_t number;
        if (!at[1 + length] || !number_of(template, arena_strndup(template->arena, at + 1, length), &number))
            return NULL;
        text = arena_printf(template->arena, "%.*s%lld%s", (int)(at - text), text, (long long)number, at + length + 2);
    }
    return source_tensor(template->source, text);
}

// A key of the source, or an expression? Metadata keys of GGUF have a dot; keys of config.json are bare words that mean nothing in the
// language.
static bool is_key(const Template *template, const Yaml *scalar) {
    static const char *const words[] = {"half", "interleaved", "true", "false", "none"};
    static const char *const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char *const letters_and_more = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.";
    if (template->source->is_gguf)
        return strchr(scalar->text, '.') && strspn(scalar->text, "0123456789.eE+-") != scalar->length;
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(scalar->text, words[i]) == 0)
            return false;
    return !scalar->quoted && strspn(scalar->text, letters) > 0 && strspn(scalar->text + 1, letters_and_more) == scalar->length - 1;
}

// ---- config entries -------------------------------------------------------------------------------------------------

static bool number_of(Template *template, const char *name, int64_t *value) {
    Constant constant;
    return scope_get(&template->scope, name, &constant) && constant_integer(&constant, value);
}

// Layers for which it holds: of a list of words those that are `word`, of a list of flags those that are false, of a number p each p-th.
static bool indices_of(Template *template, const char *word, Constant *value) {
    int64_t layers, each = 0;
    if (!number_of(template, "layers", &layers) || layers < 0 || layers > 1 << 16)
        return false;
    constant_integer(value, &each);
    Constant out = {.kind = CONSTANT_LIST, .items = ARENA_ARRAY(template->arena, Constant, layers)};
    if (value->kind == CONSTANT_LIST && value->count < layers)
        return false;
    for (int64_t i = 0; i < layers; i++) {
        const Constant *item = value->kind == CONSTANT_LIST ? &value->items[i] : NULL;
        bool is = each > 0 && (i + 1) % each == 0;
        if (item)
            is = item->kind == CONSTANT_TEXT ? strcmp(item->text, word) == 0 : !constant_true(item);
        if (is)
            out.items[out.count++] = constant_number((double)i);
    }
    *value = out;
    return true;
}

// Per-layer metadata that is the same for every layer is one number.
static void collapse(Constant *value) {
    if (value->kind != CONSTANT_LIST || value->count == 0 || value->items[0].kind != CONSTANT_NUMBER)
        return;
    for (int i = 1; i < value->count; i++)
        if (!constant_equal(&value->items[i], &value->items[0]))
            return;
    *value = value->items[0];
}

static const Yaml *alternative(const Yaml *keys, int i) {
    return keys->kind == YAML_LIST ? (i < keys->count ? keys->items[i] : NULL) : i == 0 ? keys : NULL;
}

// From the source's own words. Returns 1 found, 0 absent, -1 error. All alternatives count as read.
static int value_from_source(Template *template, const Yaml *keys, Entry *entry) {
    int found = 0;
    for (int i = 0; keys && alternative(keys, i); i++) {
        const Yaml *key = alternative(keys, i);
        Constant value;
        if (key->kind == YAML_SCALAR && is_key(template, key)) {
            if (!source_value(template->source, fill_in(template, key->text), &value) || found)
                continue;
            if (template->source->is_gguf)
                collapse(&value);
            if (value.kind == CONSTANT_TEXT && strcmp(value.text, "none") == 0)
                value.kind = CONSTANT_NONE;
            entry->key = fill_in(template, key->text);
        } else if (found || !constant_evaluate(template->arena, key, &template->scope, &value, template->diags)) {
            if (!found)
                return -1;
            continue;
        }
        entry->value = value;
        found = 1;
    }
    return found;
}

static bool value_from_tensor(Template *template, const Yaml *entry, Constant *out) {
    const Yaml *present = side(template, yaml_get(entry, "present")), *absent = side(template, yaml_get(entry, "absent"));
    const Yaml *rows = side(template, yaml_get(entry, "rows"));
    const Yaml *name = present ? present : absent ? absent : rows;
    if (!name || name->kind != YAML_SCALAR)
        return false;
    const TensorInfo *tensor = named_tensor(template, name->text);
    if (name == rows && (!tensor || tensor->type.rank < 1))
        return false;
    *out = name == rows ? constant_number((double)tensor->type.dims[0]) : constant_bool((name == present) == (tensor != NULL));
    return true;
}

static const char *keys_text(Template *template, const Yaml *keys) {
    const char *text = "";
    for (int i = 0; keys && alternative(keys, i); i++)
        text = arena_printf(template->arena, "%s%s%s", text, i ? " or " : "", fill_in(template, alternative(keys, i)->text));
    return text;
}

// A word bare, as it stands in the source.
static void put_value(Text *out, const Constant *value) {
    if (value->kind == CONSTANT_TEXT)
        text_puts(out, value->text);
    else
        constant_text(value, out);
}

// What came from a key is one of `allow`, or else a number, a flag or a list.
static bool check_allowed(Template *template, const Entry *entry, const Yaml *allow) {
    Text text = {0}, wanted = {0};
    bool good = !allow && (!entry->key || (entry->value.kind != CONSTANT_TEXT && entry->value.kind != CONSTANT_RECORD));
    for (int i = 0; allow && i < allow->count && !good; i++) {
        Constant value;
        if (!constant_evaluate(template->arena, allow->items[i], &template->scope, &value, template->diags))
            break;
        good = constant_equal(&value, &entry->value);
        text_puts(&wanted, i ? " or " : "");
        put_value(&wanted, &value);
    }
    if (!good) {
        put_value(&text, &entry->value);
        diag_error(template->diags, FILE_LOC(template->source->described_by), "%s is %.100s, but the template '%s' takes %s",
                   entry->key ? entry->key : entry->name, text.data ? text.data : "", template_name(template),
                   allow ? wanted.data : "a number");
        source_settle(template->source, entry->key);
    }
    text_free(&text);
    text_free(&wanted);
    return good;
}

static bool is_sourced(const Yaml *yaml) {
    static const char *const keys[] = {"hf", "gguf", "present", "absent", "rows", "default"};
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (yaml_get(yaml, keys[i]))
            return true;
    return false;
}

// What an entry stands for. With `optional`, absence is no error: the value is then none.
static bool entry_value(Template *template, Entry *entry, bool optional) {
    const Yaml *yaml = entry->yaml;
    if (!is_sourced(yaml))
        return constant_evaluate(template->arena, yaml, &template->scope, &entry->value, template->diags);
    const Yaml *keys = yaml_get(yaml, base_source(template)), *otherwise = yaml_get(yaml, "default");
    int found = value_from_source(template, keys, entry);
    if (found == 0)
        found = value_from_tensor(template, yaml, &entry->value);
    if (found == 0 && side(template, otherwise))
        found = constant_evaluate(template->arena, side(template, otherwise), &template->scope, &entry->value, template->diags) ? 1 : -1;
    if (found < 0)
        return false;
    if (found == 0) {
        entry->value = (Constant){.kind = CONSTANT_NONE};
        if (!optional)
            diag_error(template->diags, FILE_LOC(template->source->described_by), "has no %s, which the template '%s' needs",
                       keys ? keys_text(template, keys) : entry->name, template_name(template));
        return optional;
    }
    const Yaml *of = yaml_get(yaml, "indices_of");
    if (of && !indices_of(template, of->text, &entry->value)) {
        diag_error(template->diags, FILE_LOC(template->source->described_by), "%s does not say something for each layer",
                   entry->key ? entry->key : entry->name);
        return false;
    }
    return check_allowed(template, entry, yaml_get(yaml, "allow"));
}

static bool resolve_entry(Template *template, Entry *entry) {
    if (entry->state == ENTRY_BUSY)
        diag_error(template->diags, entry->yaml->loc, "config entry '%s' depends on itself", entry->name);
    if (entry->state != ENTRY_NEW)
        return entry->state == ENTRY_DONE && entry->value.kind != CONSTANT_POISON;
    entry->state = ENTRY_BUSY;
    if (!entry_value(template, entry, false))
        entry->value = (Constant){.kind = CONSTANT_POISON};
    entry->state = ENTRY_DONE;
    return entry->value.kind != CONSTANT_POISON;
}

static Entry *find_entry(Template *template, const char *name) {
    for (int i = 0; i < template->entry_count; i++)
        if (strcmp(template->entries[i].name, name) == 0)
            return &template->entries[i];
    return NULL;
}

static bool find_name(void *context, const char *name, Constant *value) {
    Entry *entry = find_entry(context, name);
    if (!entry)
        return false;
    if (resolve_entry(context, entry))
        *value = entry->value;
    else
        *value = (Constant){.kind = CONSTANT_POISON};
    return true;
}

static void add_entries(Template *template, const Yaml *config) {
    for (int i = 0; config && i < config->count && template->entry_count < MAX_ENTRIES; i++)
        if (!find_entry(template, config->keys[i]->text))
            template->entries[template->entry_count++] = (Entry){.name = config->keys[i]->text, .yaml = config->items[i]};
}

// ---- picking --------------------------------------------------------------------------------------------------------

static const Yaml *read_template(Arena *arena, const char *name, const Architecture **found, Diags *diags) {
    for (int i = 0; i < architecture_count; i++) {
        const Architecture *architecture = &architectures[i];
        if (strcmp(architecture->name, name) != 0)
            continue;
        *found = architecture;
        return yaml_read(arena, arena_printf(arena, "architectures/%s.yaml", name), architecture->text, architecture->length, diags);
    }
    return NULL;
}

static bool list_names(const Yaml *list, const char *name) {
    for (int i = 0; list && i < list->count; i++)
        if (list->items[i]->kind == YAML_SCALAR && strcmp(list->items[i]->text, name) == 0)
            return true;
    return false;
}

// `needs:` and `lacks:` tell apart what shares a name: a metadata key that is there and not 0, or is not.
static bool has_key(Template *template, const char *which) {
    const Yaml *key = yaml_get(yaml_get(template->root, which), base_source(template));
    Constant value;
    return key && source_value(template->source, fill_in(template, key->text), &value) && constant_true(&value);
}

static bool matches(Template *template) {
    const Yaml *list = yaml_get(yaml_get(template->root, "match"), base_source(template));
    bool named = false;
    for (int i = 0; i < template->source->kind_count; i++)
        named = named || list_names(list, template->source->kinds[i]);
    if (!named)
        return false;
    const Yaml *needs = yaml_get(yaml_get(template->root, "needs"), base_source(template));
    return (!needs || has_key(template, "needs")) && !has_key(template, "lacks");
}

// Spares reading templates that do not even contain the word.
static bool mentions_kind(const Source *source, const char *text) {
    for (int i = 0; i < source->kind_count; i++)
        if (strstr(text, source->kinds[i]))
            return true;
    return false;
}

static void report_unknown_architecture(Source *source) {
    Text supported = {0}, kinds = {0};
    for (int i = 0; i < source->kind_count; i++)
        text_printf(&kinds, "%s%s", i ? ", " : "", source->kinds[i]);
    for (int i = 0; i < architecture_count; i++)
        if (strcmp(architectures[i].name, "common") != 0)
            text_printf(&supported, "%s%s", supported.length ? ", " : "", architectures[i].name);
    diag_error(source->diags, FILE_LOC(source->described_by), "no template describes the architecture %s", kinds.data);
    diag(source->diags, DIAG_NOTE, NOWHERE, "supported: %s", supported.data ? supported.data : "none");
    diag(source->diags, DIAG_HINT, NOWHERE,
         "any decoder or encoder whose only state is a KV cache can be written as YAML (docs/model-language.md)");
    text_free(&supported);
    text_free(&kinds);
}

Template *template_pick(Source *source) {
    const Architecture *common;
    Template *template = ARENA_NEW(source->arena, Template);
    template->source = source;
    template->arena = source->arena;
    template->diags = source->diags;
    template->scope = (Scope){.find = find_name, .context = template};
    template->common = read_template(source->arena, "common", &common, source->diags);
    for (int i = 0; i < architecture_count; i++) {
        if (strcmp(architectures[i].name, "common") == 0 || !mentions_kind(source, architectures[i].text))
            continue;
        template->root = read_template(source->arena, architectures[i].name, &template->architecture, source->diags);
        if (!template->root)
            return NULL;
        if (matches(template))
            return template;
    }
    report_unknown_architecture(source);
    return NULL;
}

// ---- resolving ------------------------------------------------------------------------------------------------------

// The folder may hold the model itself or the model inside a larger one: `prefix: {tensor: NAME, of: [PREFIX, …]}`; the first that has the
// tensor.
static void find_prefix(Template *template) {
    const Yaml *prefix = yaml_get(template->root, "prefix"), *of = yaml_get(prefix, "of"), *tensor = yaml_get(prefix, "tensor");
    template->prefix = "";
    if (template->source->is_gguf || !of || !tensor || of->kind != YAML_LIST)
        return;
    template->prefix = of->count ? of->items[0]->text : "";
    for (int i = 0; i < of->count; i++)
        if (source_tensor(template->source, arena_printf(template->arena, "%s%s", of->items[i]->text, tensor->text))) {
            template->prefix = of->items[i]->text;
            return;
        }
}

static bool find_variants(Template *template) {
    const Yaml *variants = yaml_get(template->root, "variants");
    for (int i = 0; variants && i < variants->count && i < MAX_ENTRIES; i++) {
        Constant value;
        if (!constant_evaluate(template->arena, variants->items[i], &template->scope, &value, template->diags))
            return false;
        template->variants[i] = variants->keys[i]->text;
        template->active[i] = constant_true(&value);
        template->variant_count = i + 1;
    }
    return true;
}

// A check of common.yaml does not hold for a template that has an entry of that name itself.
static void run_checks(Template *template, const Yaml *checks, bool common) {
    for (int i = 0; checks && i < checks->count; i++) {
        Entry entry = {.name = checks->keys[i]->text, .yaml = checks->items[i]};
        if (!common || !yaml_get(yaml_get(template->root, "config"), entry.name))
            entry_value(template, &entry, true);
    }
}

// The texts of a list that both common.yaml and the template may have, by source or not.
static int common_and_own(Template *template, const char *key, const char ***texts) {
    const Yaml *roots[] = {template->common, template->root};
    int count = 0, capacity = 0;
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        const Yaml *list = side(template, yaml_get(roots[i], key));
        for (int j = 0; list && list->kind == YAML_LIST && j < list->count; j++)
            ARENA_PUSH(template->arena, *texts, count, capacity) = list->items[j]->text;
    }
    return count;
}

static void check_unused(Template *template, int errors) {
    const char **keys = NULL, **tensors = NULL;
    int count = common_and_own(template, "ignore", &keys);
    source_check_unused(template->source, keys, count, template_name(template));
    count = common_and_own(template, "extra", &tensors);
    if (diags_errors(template->diags) > errors)
        return;
    source_warn_unused_tensors(template->source, template->body ? template->body : "", tensors, count);
}

static int condition(void *context, const char *text) {
    Template *template = context;
    Constant value;
    Yaml *scalar = yaml_read(template->arena, template->file, text, strlen(text), template->diags);
    if (!scalar || !constant_evaluate(template->arena, scalar, &template->scope, &value, template->diags))
        return -1;
    return constant_true(&value);
}

static bool is_none(void *context, const char *name) {
    Entry *entry = find_entry(context, name);
    return entry && resolve_entry(context, entry) && entry->value.kind == CONSTANT_NONE;
}

static bool rewrite_body(Template *template) {
    const char *text = template->architecture->text, *start = strstr(text, "\nblocks:"), *model = strstr(text, "\nmodel:");
    if (!start || (model && model < start))
        start = model;
    if (!start)
        return false;
    Text out = {0};
    BodyRewrite rewrite = {template->arena, template, choice_rank, is_choice, condition, is_none, template->prefix};
    bool good = body_rewrite(&rewrite, start + 1, strlen(start + 1), &out);
    template->body = good ? arena_strndup(template->arena, out.data, out.length) : "";
    text_free(&out);
    return good;
}

static bool find_context(Template *template) {
    Entry made_for = {.name = "context", .yaml = yaml_get(template->root, "context")}, *given = find_entry(template, "context_limit");
    if (!made_for.yaml || !entry_value(template, &made_for, false))
        return false;
    if (!constant_integer(&made_for.value, &template->made_for) || template->made_for < 1) {
        diag_error(template->diags, FILE_LOC(template->source->described_by), "the longest context is not a positive number");
        return false;
    }
    int64_t limit = MOST_CONTEXT;
    if (given && resolve_entry(template, given))
        constant_integer(&given->value, &limit);
    template->context = template->made_for < limit ? template->made_for : limit;
    return true;
}

bool template_resolve(Template *template) {
    int errors = diags_errors(template->diags);
    template->file = arena_printf(template->arena, "architectures/%s.yaml", template_name(template));
    add_entries(template, yaml_get(template->root, "config"));
    template->own_count = template->entry_count;
    add_entries(template, yaml_get(template->common, "config"));
    find_prefix(template);
    for (int i = 0; i < template->own_count; i++)
        resolve_entry(template, &template->entries[i]);
    find_context(template);
    run_checks(template, yaml_get(template->common, "check"), true);
    run_checks(template, yaml_get(template->root, "check"), false);
    if (find_variants(template))
        rewrite_body(template);
    for (int i = template->own_count; i < template->entry_count; i++)
        if (text_uses_name(template->body ? template->body : "", template->entries[i].name))
            resolve_entry(template, &template->entries[i]);
    check_unused(template, errors);
    return diags_errors(template->diags) == errors;
}

// ---- writing --------------------------------------------------------------------------------------------------------

int64_t template_context(const Template *template, int64_t *made_for) {
    *made_for = template->made_for;
    return template->context;
}

// A parameter of that name hides the entry.
static bool is_parameter(const char *body, const char *name) {
    const char *wanted = name;
    size_t length = strlen(name);
    for (const char *at = body; (at = strstr(at, wanted)); at++) {
        const char *line = at;
        while (line > body && line[-1] == ' ')
            line--;
        if (line == at || (line > body && line[-1] != '\n') || at[length] != ':')
            continue;
        if (strncmp(at + length + 1 + strspn(at + length + 1, " "), "{shape", 6) == 0)
            return true;
    }
    return false;
}

// A word stands bare; other text keeps the language's quotes inside YAML's.
static void write_constant(const Template *template, const Constant *value, Text *out) {
    bool word = value->kind == CONSTANT_TEXT && value->text[0] && strspn(value->text, "abcdefghijklmnopqrstuvwxyz_") == strlen(value->text);
    Constant named;
    if (value->kind != CONSTANT_TEXT) {
        constant_text(value, out);
    } else if (word && !constant_named(value->text, &named) && !find_entry((Template *)(uintptr_t)template, value->text)) {
        text_puts(out, value->text);
    } else {
        text_puts(out, "\"");
        constant_text(value, out);
        text_puts(out, "\"");
    }
}

void template_write_config(const Template *template, Text *out) {
    text_puts(out, "config:\n");
    for (int i = 0; i < template->entry_count; i++) {
        const Entry *entry = &template->entries[i];
        if (entry->state != ENTRY_DONE || !text_uses_name(template->body, entry->name) || is_parameter(template->body, entry->name))
            continue;
        text_printf(out, "  %s: ", entry->name);
        write_constant(template, &entry->value, out);
        text_puts(out, "\n");
    }
}

const char *template_body(const Template *template) {
    return template->body;
}

void template_write_body(const Template *template, Text *out) {
    text_puts(out, template->body);
}
