// --quant auto: which format each matrix gets.
//
// What each costs at each format is measured (sensitivity.h). All start at the coarsest; then the finer format that saves most divergence for the
// bytes it takes is given, again and again, until the budget of bytes is spent or the divergence expected, a sum over matrices, is within the budget.
// The whole is measured at the end, as it will run; where a budget of divergence was missed, the choice is made again with the expectation put right.
// Layers that came to agree share a block (passes/split.c). The choice is kept in the cache, in the words of --bits, and so is what was measured: another
// budget takes a moment.
#include "driver/choose.h"
#include "driver/manifest.h"
#include "driver/sensitivity.h"

#include "codegen/cache.h"
#include "codegen/link.h"
#include "passes/recipe.h"
#include "runtime/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_REPAIRS = 2 };
static const double default_budget_kl = 0.01;

typedef struct { double bits, kl; } Budget;   // bits 0: by divergence

// ---- spending the budget -----------------------------------------------------------------------------------------------------------------------

static double total_bits(const Sensitivity *s) {
    double bytes = s->kept_bytes, elements = s->kept_elements;
    for (int u = 0; u < s->unit_count; u++) bytes += s->units[u].bytes[s->units[u].chosen], elements += s->units[u].elements;
    return elements > 0 ? 8 * bytes / elements : 0;
}

static double expected(const Sensitivity *s) {
    double sum = 0;
    for (int u = 0; u < s->unit_count; u++) sum += unit_cost(&s->units[u], s->units[u].chosen);
    return sum;
}

// The step to a finer format that saves most for its bytes, of those that take at most `room` bytes; false: none saves anything.
static bool best_step(const Sensitivity *s, double room, int finest, int *unit, int *format) {
    double best = 0;
    for (int u = 0; u < s->unit_count; u++) {
        const Unit *at = &s->units[u];
        for (int f = at->chosen + 1; f <= finest; f++) {
            double more = at->bytes[f] - at->bytes[at->chosen], saved = unit_cost(at, at->chosen) - unit_cost(at, f);
            if (at->bytes[f] < 0 || more > room || !(saved > 0)) continue;
            double worth = saved / (more > 1 ? more : 1);
            if (worth > best) best = worth, *unit = u, *format = f;
        }
    }
    return best > 0;
}

static void coarsest(Sensitivity *s) {
    for (int u = 0; u < s->unit_count; u++)
        for (s->units[u].chosen = 0; s->units[u].bytes[s->units[u].chosen] < 0;) s->units[u].chosen++;
}

// 16 bits multiply floats, which takes longer: not for a few bytes left.
static int finest_format(const Budget *budget) { return budget->bits > 0 && budget->bits < 9 ? FORMATS - 2 : FORMATS - 1; }

// Steps until the budget is spent, from what is chosen now.
static void spend_rest(Sensitivity *s, const Budget *budget) {
    double elements = s->kept_elements;
    int finest = finest_format(budget);
    for (int u = 0; u < s->unit_count; u++) elements += s->units[u].elements;
    for (int u, f; budget->bits > 0 || expected(s) > budget->kl;) {
        double room = budget->bits > 0 ? (budget->bits - total_bits(s)) * elements / 8 : 1e300;
        if (!best_step(s, room, finest, &u, &f)) break;
        s->units[u].chosen = f;
    }
}

// Steps by worth leave no room for a large matrix whose turn comes late (the table of tokens of a small model): the largest is tried at each format.
static void spend(Sensitivity *s, const Budget *budget) {
    Unit *largest = s->units;
    double best = 1e300;
    int from = 0;
    coarsest(s);
    for (int u = 0; u < s->unit_count; u++)
        if (s->units[u].elements >= largest->elements) largest = &s->units[u], from = largest->chosen;
    for (int f = 0; f <= FORMATS && s->unit_count; f++) {   // at last the best again
        int start = f < FORMATS ? f : from;
        if (largest->bytes[start] < 0 || start > finest_format(budget)) continue;
        coarsest(s);
        largest->chosen = start;
        if (budget->bits > 0 && total_bits(s) > budget->bits && start != from) continue;
        spend_rest(s, budget);
        double worth = budget->bits > 0 ? expected(s) : total_bits(s);
        if (f < FORMATS && (budget->bits > 0 || expected(s) <= budget->kl) && worth < best) best = worth, from = start;
    }
}

// ---- the words of --bits ---------------------------------------------------------------------------------------------------------------------------

// Numbers in a name stand for layers: `*`.
static void place_name(const char *name, char out[128]) {
    size_t n = 0;
    for (; *name && n < 126; name++) {
        bool digit = *name >= '0' && *name <= '9';
        if (!digit) out[n++] = *name;
        else if (!n || out[n - 1] != '*') out[n++] = '*';
    }
    if (*name && out[n - 1] != '*') out[n++] = '*';
    out[n] = 0;
}

typedef struct { char name[128]; int count[FORMATS]; double cost, coarse; } Row;   // coarse: the cost at the format that was measured

static Row *row_of(Row *rows, int *count, const char *weight) {
    char name[128];
    place_name(weight, name);
    for (int i = 0; i < *count; i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    rows[*count] = (Row){0};
    memcpy(rows[*count].name, name, sizeof name);
    return &rows[(*count)++];
}

static Row *find_rows(const Sensitivity *s, int *count) {
    const Module *module = s->build.model->module;
    Row *rows = ARENA_ARRAY(s->arena, Row, module->weight_count + 1);
    *count = 0;
    for (int u = 0; u < s->unit_count; u++) {
        const Unit *unit = &s->units[u];
        for (int i = 0; i < unit->count; i++) {
            Row *row = row_of(rows, count, module->weights[unit->weights[i]]->name);
            row->count[unit->chosen]++;
            row->cost += unit_cost(unit, unit->chosen) / unit->count;
            row->coarse += unit_cost(unit, unit->probe) / unit->count;
        }
    }
    return rows;
}

// Do these words give the matrix this format?
static bool gives(const char *words, const char *name, const char *format) {
    char one[16];
    int bits, group, wanted_bits, wanted_group;
    snprintf(one, sizeof one, "x=%s", format);
    chosen_format(one, "x", &wanted_bits, &wanted_group);
    return chosen_format(words, name, &bits, &group) && bits == wanted_bits && group == wanted_group;
}

// Layers by what most of them have, then by name those that have something else.
static char *bits_text(const Sensitivity *s) {
    const Module *module = s->build.model->module;
    const char **formats = ARENA_ARRAY(s->arena, const char *, module->weight_count + 1);
    int count;
    const Row *rows = find_rows(s, &count);
    Text text = {0};
    text_puts(&text, "");
    for (int i = 0; i < count; i++) {
        int most = 0;
        for (int f = 1; f < FORMATS; f++)
            if (rows[i].count[f] > rows[i].count[most]) most = f;
        text_printf(&text, "%s%s=%s", i ? " " : "", rows[i].name, format_names[most]);
    }
    for (int u = 0; u < s->unit_count; u++)
        for (int i = 0; i < s->units[u].count; i++) formats[s->units[u].weights[i]] = format_names[s->units[u].chosen];
    for (int w = 0; w < module->weight_count; w++) {
        int bits, group;
        const char *name = module->weights[w]->name, *format = formats[w];
        if (!format && chosen_format(text.data, name, &bits, &group)) format = "8";   // a pattern that says too much: as all others start
        if (format && !gives(text.data, name, format)) text_printf(&text, " %s=%s", name, format);
    }
    return text.data;
}

// ---- measuring the whole ---------------------------------------------------------------------------------------------------------------------------

// The distance of the program as it will run.
static bool measure(const Sensitivity *s, double *distance, Diags *diags) {
    BuildOptions options = *s->options;
    Program program = {0};
    tn_failure failure = {0};
    int code;
    char *bits = bits_text(s);
    options.target = "native";
    options.budget_bits = options.budget_kl = options.print_after = options.passes = options.skip = NULL;
    options.kv = "f32";
    options.timing = options.reference = false;
    options.observe = NULL;
    options.bits = bits;
    bool done = program_open(&program, s->path, &options, &code, diags);
    if (done) {
        tn_open_options opening = {.context = probe_context(&program), .weights = tn_blob_file(program.blob)};
        tn_engine *engine = tn_open_blob(&program.program, program.blob, &opening, &failure);
        done = engine ? sensitivity_distance(s, engine, distance, diags) : (diag_error(diags, FILE_LOC(s->path), "%s", failure.text), false);
        tn_close(engine);
        program_close(&program);
    }
    free(bits);
    return done;
}

// ---- saying it -----------------------------------------------------------------------------------------------------------------------------------

static char *report(const Sensitivity *s, double distance, const char *bits) {
    const char *what = !s->probe ? "error" : s->probe->causal ? "KL" : "1 - cosine";
    int count;
    const Row *rows = find_rows(s, &count);
    Text text = {0};
    text_printf(&text, "%-36s", "matrices");
    for (int f = 0; f < FORMATS; f++) text_printf(&text, " %6s", format_names[f]);
    text_printf(&text, " %12s %12s\n", what, "at 4 bits");
    for (int i = 0; i < count; i++) {
        text_printf(&text, "%-36s", rows[i].name);
        for (int f = 0; f < FORMATS; f++)
            if (rows[i].count[f]) text_printf(&text, " %6d", rows[i].count[f]);
            else text_printf(&text, " %6s", "");
        text_printf(&text, " %12.2e %12.2e\n", rows[i].cost, rows[i].coarse);
    }
    text_printf(&text, "%.2f bits a weight; expected %s %.2e", total_bits(s), what, expected(s));
    const char *how = s->options->calibrate ? "calibrated" : "rounded plainly";
    int tokens = 0;
    for (int i = 0; s->probe && i < PROBE_WINDOWS; i++) tokens += s->probe->counts[i];
    if (s->probe) text_printf(&text, "; measured on %d tokens, %s: %.2e", tokens, how, distance);
    text_printf(&text, "\nthe same again: --quant auto --bits \"%s\"\n", bits);
    return text.data;
}

// `budget`: of the choice; without, of what was measured, which serves all budgets.
static char *cached_name(const Build *build, const char *path, const Cache *cache, bool budget) {
    const BuildOptions *o = build->options;
    Text key = {0};
    text_printf(&key, "tenon %s 3\n%s %d\n", budget ? "choice" : "sensitivity", o->activation_group ? o->activation_group : "", o->symmetric);
    if (budget) text_printf(&key, "%s %s\n", o->budget_bits ? o->budget_bits : "", o->budget_kl ? o->budget_kl : "");
    bool done = manifest_files(path, build->model, &key) && calibration_key(o, &key);
    char *name = done ? cache_name(cache, budget ? 'a' : 's', cache_key(&key), budget ? ".choice" : ".sensitivity") : NULL;
    text_free(&key);
    return name;
}

static bool read_cached(const char *name, Text *text) {
    Diags *quiet = diags_new();
    bool done = name && cache_touch(name) && read_text(name, text, quiet) && strchr(text->data, '\n');
    diags_free(quiet);
    return done;
}

static void write_cached(const char *name, const Text *text) {
    Diags *quiet = diags_new();
    if (name) write_file(name, text->data, text->length, quiet);
    diags_free(quiet);
}

// The choice, a line; what is to be warned of, a line; the table.
static bool choose(Sensitivity *s, const char *measured, Text *out, Diags *diags) {
    Budget budget = {0, default_budget_kl};
    double distance = 0, asked;
    if (s->options->budget_bits) budget.bits = strtod(s->options->budget_bits, NULL);
    if (s->options->budget_kl) budget.kl = strtod(s->options->budget_kl, NULL);
    asked = budget.kl;
    Text known = {0};
    bool have = read_cached(measured, &known);
    bool done = sensitivity_measure(s, have ? known.data : NULL, diags);
    known.length = 0;
    if (done && !have) sensitivity_write(s, &known), write_cached(measured, &known);
    text_free(&known);
    if (!done) return false;
    for (int i = 0; i <= MOST_REPAIRS; i++) {
        spend(s, &budget);
        if (s->probe && !measure(s, &distance, diags)) return false;
        if (!s->probe || budget.bits > 0 || distance <= asked) break;
        budget.kl = expected(s) * fmin(0.9, asked / distance);
    }
    char *bits = bits_text(s), *table = report(s, distance, bits);
    text_printf(out, "%s\n", bits);
    double reached = s->probe ? distance : expected(s);
    if (budget.bits > 0 && total_bits(s) > budget.bits)
        text_printf(out, "the budget of %g bits a weight is not met: the coarsest formats that fit these matrices take %.2f", budget.bits, total_bits(s));
    else if (!(budget.bits > 0) && !(reached <= asked)) text_printf(out, "the budget of %g is not met: what was chosen costs %.2e", asked, reached);
    text_printf(out, "\n%s", table);
    free(bits), free(table);
    return true;
}

static void take(Build *build, const char *text, Diags *diags) {
    size_t bits = strcspn(text, "\n");
    const char *warning = text + bits + (text[bits] == '\n');
    size_t length = strcspn(warning, "\n");
    build->chosen = *build->options;
    build->chosen.bits = arena_strndup(build->arena, text, bits);
    build->chosen_table = arena_strdup(build->arena, warning + length + (warning[length] == '\n'));
    build->options = &build->chosen;
    fprintf(stderr, "%s", build->chosen_table);
    if (length) diag(diags, DIAG_WARNING, NOWHERE, "%.*s", (int)length, warning);
}

bool build_choose(Build *build, const char *path, Diags *diags) {
    const BuildOptions *o = build->options;
    bool wanted = o->quantize && strcmp(o->quantize, "auto") == 0 && !o->bits;
    if (!wanted) return true;
    Cache cache = {0};
    char why[300];
    bool cached = o->cache_size && !o->no_cache && cache_open(&cache, o->cache_size, why, sizeof why);
    char *name = cached ? cached_name(build, path, &cache, true) : NULL, *measured = cached ? cached_name(build, path, &cache, false) : NULL;
    Text text = {0};
    bool done = read_cached(name, &text);
    if (!done) {
        Sensitivity s = {.path = path, .options = o, .arena = build->arena};
        text.length = 0;
        done = choose(&s, measured, &text, diags);
        sensitivity_close(&s);
        if (done) write_cached(name, &text);
    }
    if (done) take(build, text.data, diags);
    text_free(&text);
    free(name), free(measured);
    if (cached) cache_close(&cache);
    return done;
}
