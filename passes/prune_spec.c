// The words of --prune: items with commas or blanks between them.
//
//   0.4  40%  unstructured[=RATE]     of each row so many values become zero (40 %)
//   2:4                               of each 4 values along a row 2 stay
//   block:64x64[=RATE]                of each band of 64 rows so many blocks of 64 columns become zero (40 %)
//   neurons[=RATE] heads[=RATE] experts[=RATE]       these go altogether (25 %)
//   NAME=0, NAME=0.4, NAME=2:4, NAME=block:…         for the matrices of that name, which may have `*`; the last that fits
#include "passes/prune.h"
#include "passes/recipe.h"

#include <stdlib.h>
#include <string.h>

static const double default_rate = 0.4, default_share = 0.25;

static const struct { const char *name; PruneKind kind; } structures[] = {
    {"unstructured", PRUNE_VALUES}, {"neurons", PRUNE_NEURONS}, {"heads", PRUNE_HEADS}, {"experts", PRUNE_EXPERTS}};

static bool explain(const char *at, size_t length, Diags *diags) {
    diag_error(diags, NOWHERE, "--prune: '%.*s' is nothing that can be pruned", (int)length, at);
    diag(diags, DIAG_HINT, NOWHERE, "it is a rate (0.4 or 40%%), 2:4, block:64x64=RATE, neurons=RATE, heads=RATE, experts=RATE, or NAME= and one of the first three");
    return false;
}

static bool read_rate(const char *at, size_t length, double *rate, Diags *diags) {
    char text[32], *end;
    snprintf(text, sizeof text, "%.*s", (int)(length < sizeof text ? length : sizeof text - 1), at);
    *rate = strtod(text, &end);
    bool percent = *end == '%', number = end != text && length < sizeof text && !end[percent];
    if (percent) *rate /= 100;
    if (number && *rate > 0 && *rate < 1) return true;
    if (!number) return explain(at, length, diags);
    diag_error(diags, NOWHERE, "--prune: a rate lies between 0 and 1, not '%s'", text);
    if (*rate > 1 && *rate < 100) diag(diags, DIAG_HINT, NOWHERE, "%g%% is a rate, too", *rate);
    return false;
}

// Digits up to `stop`, or to the end where stop is 0.
static bool read_number(const char **at, const char *end, char stop, int most, int *number) {
    char *after;
    if (*at >= end || **at < '0' || **at > '9') return false;
    long value = strtol(*at, &after, 10);
    if (after > end || value < 1 || value > most || (stop ? after == end || *after != stop : after != end)) return false;
    *number = (int)value;
    *at = after + (stop != 0);
    return true;
}

// N:M, with N < M.
static bool read_pattern(const char *at, size_t length, PruneItem *item) {
    const char *end = at + length;
    item->kind = PRUNE_PATTERN;
    return read_number(&at, end, ':', 63, &item->keep) && read_number(&at, end, 0, 64, &item->of) && item->keep < item->of;
}

// block:ROWSxCOLUMNS[=RATE]
static bool read_block(const char *at, size_t length, PruneItem *item, Diags *diags) {
    const char *begin = at, *end = at + length, *rate = memchr(at, '=', length), *stop = rate ? rate : end;
    at += strlen("block:");
    item->kind = PRUNE_BLOCKS;
    item->rate = default_rate;
    if (!read_number(&at, stop, 'x', 64, &item->rows) || !read_number(&at, stop, 0, 4096, &item->columns)) return explain(begin, length, diags);
    if (64 % item->rows) return diag_error(diags, NOWHERE, "--prune: the rows of a block divide 64, and %d do not", item->rows), false;
    return !rate || read_rate(rate + 1, (size_t)(end - rate - 1), &item->rate, diags);
}

// A rate, a pattern or a block; for a named matrix 0 as well.
static bool read_value(const char *at, size_t length, PruneItem *item, Diags *diags) {
    if (length > 6 && memcmp(at, "block:", 6) == 0) return read_block(at, length, item, diags);
    if (memchr(at, ':', length)) return read_pattern(at, length, item) || explain(at, length, diags);
    item->kind = item->name && length == 1 && *at == '0' ? PRUNE_NONE : PRUNE_VALUES;
    return item->kind == PRUNE_NONE || read_rate(at, length, &item->rate, diags);
}

static bool read_item(const char *at, size_t length, PruneItem *item, Diags *diags) {
    *item = (PruneItem){.rows = 1, .columns = 1};
    size_t name = 0;
    while (name < length && at[name] != '=') name++;
    for (int i = 0; i < (int)COUNT_OF(structures); i++) {
        if (name != strlen(structures[i].name) || memcmp(at, structures[i].name, name) != 0) continue;
        item->kind = structures[i].kind;
        item->rate = item->kind == PRUNE_VALUES ? default_rate : default_share;
        return name == length || read_rate(at + name + 1, length - name - 1, &item->rate, diags);
    }
    if (name == length || (length > 6 && memcmp(at, "block:", 6) == 0)) return read_value(at, length, item, diags);
    item->name = at;
    item->length = (int)name;
    return (name && read_value(at + name + 1, length - name - 1, item, diags)) || (!name && explain(at, length, diags));
}

bool prune_spec_read(const char *text, PruneSpec *spec, Diags *diags) {
    spec->count = 0;
    for (const char *at = text; at && *(at += strspn(at, ", ")); at += strcspn(at, ", ")) {
        if (spec->count == MOST_PRUNE_ITEMS) return diag_error(diags, NOWHERE, "--prune has more than %d items", MOST_PRUNE_ITEMS), false;
        if (!read_item(at, strcspn(at, ", "), &spec->items[spec->count++], diags)) return false;
    }
    return !text || spec->count || (diag_error(diags, NOWHERE, "--prune is empty"), false);
}

const PruneItem *prune_spec_find(const PruneSpec *spec, PruneKind kind) {
    const PruneItem *found = NULL;
    for (int i = 0; i < spec->count; i++)
        if (spec->items[i].kind == kind) found = &spec->items[i];
    return found;
}

const PruneItem *prune_spec_matrix(const PruneSpec *spec, const char *name, bool all) {
    const PruneItem *found = NULL;
    for (int i = 0; i < spec->count; i++) {
        const PruneItem *item = &spec->items[i];
        if (item->kind >= PRUNE_NEURONS || (item->name ? !name_fits(item->name, (size_t)item->length, name) : !all)) continue;
        found = item;
    }
    return found && found->kind != PRUNE_NONE ? found : NULL;
}
