// `same:` names tensors that are others once more, so that each is read, packed and kept once: {"lm_head.weight": "model.embed_tokens.weight"}.
// A name that ends in * speaks of all that begin alike: {"model.layers.1.*": "model.layers.0.*"}.
//
// It is applied to a tensor's name before anything is looked up, the longest match first, and again to what comes out: a layer may be the same as
// one of whose tensors two are the same. So sharing is a matter of names alone, and what follows cannot tell such a model from one that calls the
// same layer twice.
#include "frontend/model.h"

#include <string.h>

enum { MOST_SAME_NAME = 255 };

static bool same_error(Lower *lower, Loc loc, const char *text, const char *hint) {
    diag_error(lower->diags, loc, "%s", text);
    if (hint) diag(lower->diags, DIAG_HINT, NOWHERE, "%s", hint);
    return false;
}

static bool is_open(const char *name) { return *name && name[strlen(name) - 1] == '*'; }

// A * is the last of several characters.
static bool is_well_formed(const char *name) {
    const char *star = strchr(name, '*');
    return !star || (star > name && !star[1]);
}

static bool read_entry(Lower *lower, const Yaml *key, const Yaml *item) {
    if (item->kind != YAML_SCALAR) return item->poisoned || same_error(lower, item->loc, "same: what a tensor equals is the name of another", NULL);
    if (key->length > MOST_SAME_NAME || item->length > MOST_SAME_NAME) return same_error(lower, key->loc, "same: the name is too long", NULL);
    if (is_open(key->text) != is_open(item->text))
        return same_error(lower, key->loc, "same: either both names end in * or neither does",
                          "\"model.layers.1.*\": \"model.layers.0.*\" says it of all that begin so");
    if (!is_well_formed(key->text) || !is_well_formed(item->text))
        return same_error(lower, is_well_formed(key->text) ? item->loc : key->loc, "same: a * stands at the end of a name, behind what it begins with", NULL);
    if (strcmp(key->text, item->text) == 0) return same_error(lower, key->loc, "same: the name says that it equals itself", NULL);
    table_set(lower->same, key->text, arena_strdup(lower->arena, item->text));
    return true;
}

bool parse_same(Lower *lower, const Yaml *root) {
    const Yaml *map = yaml_get(root, "same");
    lower->same = table_new(lower->scratch);
    if (!map || map->poisoned) return !map;
    if (map->kind != YAML_MAP) return same_error(lower, map->loc, "same is a map from names of tensors to names that they equal", NULL);
    bool good = true;
    for (int i = 0; i < map->count; i++) good = read_entry(lower, map->keys[i], map->items[i]) && good;
    lower->same_count = map->count;
    return good;
}

// What one step makes of a name; NULL: it is its own.
static const char *one_step(const Lower *lower, const char *name) {
    const char *other = table_get(lower->same, name);
    if (other) return other;
    char prefix[MOST_SAME_NAME + 2];
    size_t length = strlen(name);
    for (size_t kept = length < MOST_SAME_NAME ? length : MOST_SAME_NAME; kept > 0; kept--) {
        memcpy(prefix, name, kept);
        memcpy(prefix + kept, "*", 2);
        other = table_get(lower->same, prefix);
        if (other) return arena_printf(lower->arena, "%.*s%s", (int)strlen(other) - 1, other, name + kept);
    }
    return NULL;
}

const char *same_name(const Lower *lower, const char *name) {
    if (!lower->same_count) return name;
    int steps = 0;
    for (const char *next; (next = one_step(lower, name)); name = next)
        if (++steps > lower->same_count || strlen(next) > MOST_SAME_NAME) return NULL;
    return name;
}
