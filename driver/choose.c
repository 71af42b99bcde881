// --quant auto: which format each class of matrices gets (a class: the same place in all layers, which one kernel serves).
//
// The sensitivity of a class is measured: the model runs over the first tokens of the calibration text with that class alone at 4 bits and all others
// at 8, and the KL divergence of its output from the model as stored says what the class costs (an encoder's output: 1 − cosine). Then classes go to 4
// bits, those first that cost least for the bytes they save, until the budget is spent; costs are taken to add up, and the whole is measured at the end,
// and mended where they did not. Where 8 bits alone are over a budget of error, classes go to bfloat16 by the same measure. Rounding is plain here:
// with --calibrate the program comes out better than what is measured. The choice is kept in the cache.
#include "driver/calibrate.h"
#include "driver/choose.h"
#include "driver/manifest.h"

#include "codegen/cache.h"
#include "codegen/link.h"
#include "passes/recipe.h"
#include "runtime/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 256, MOST_CLASSES = 256, MOST_REPAIRS = 4 };
static const double default_budget_kl = 0.01;

typedef struct {
    const char *name;
    int matrices, bits;
    double elements, bytes_4, bytes_8, cost;   // bytes of its formats; cost: of 4 bits, or what 16 would save
    bool kept;                                 // has its own codes, of at most 4 bits
} Choice;

typedef struct {
    const char *path;
    const BuildOptions *options;
    Arena *arena;
    Choice *choices; int count;
    float *base; int rows, width; bool causal;
    int ids[TOKENS], id_count;
    Progress progress; int steps, done;
} Choose;

// ---- the classes ---------------------------------------------------------------------------------------------------------------------------

static double format_bytes(DType type, const Type *w, double elements) {
    const DTypeInfo *info = &dtype_info[type];
    return info->block ? elements / info->block * info->bytes : elements + 4 * elements / (double)w->dims[w->rank - 1];
}

static void see_classes(void *to, const char *phase, double milliseconds, const struct Module *module) {
    (void)milliseconds;
    Choose *c = to;
    if (strcmp(phase, "rows") != 0) return;
    Diags *quiet = diags_new();
    Recipe recipe;
    Classes classes;
    Arena *scratch = arena_new();
    PassOptions passes = {.quantize = "auto", .symmetric = c->options->symmetric};
    int *of = ARENA_ARRAY(scratch, int, module->weight_count + 1);
    if (recipe_read(&recipe, &passes, quiet)) {
        classes_find(&classes, module, &recipe, scratch);
        for (int w = 0; w < module->weight_count; w++) {
            const Weight *weight = module->weights[w];
            const Class *class = &classes.classes[bindings_weight(classes.bindings, weight)];
            GroupedFormat format;
            if (!class->linear || class->other || weight->type.rank < 2) continue;
            of[w] = class->first == weight ? c->count : of[class->first->id];
            if (class->first == weight) {
                if (c->count == MOST_CLASSES) break;
                bool coded = grouped_format(weight->type.dtype, &format);
                c->choices[c->count++] = (Choice){.name = arena_strdup(c->arena, weight->name), .bits = 8, .kept = coded && format.bits <= 4};
            }
            Choice *choice = &c->choices[of[w]];
            double elements = (double)type_row_elements(&weight->type);
            choice->matrices++;
            choice->elements += elements;
            choice->bytes_4 += format_bytes(choice->kept ? weight->type.dtype : c->options->symmetric ? DT_Q4_0 : DT_Q4_1, &weight->type, elements);
            choice->bytes_8 += format_bytes(choice->kept ? weight->type.dtype : DT_W8, &weight->type, elements);
            if (choice->kept) choice->bits = 4;
        }
    }
    arena_free(scratch);
    diags_free(quiet);
}

static char *bits_text(const Choose *c) {
    Text text = {0};
    text_puts(&text, "");
    for (int i = 0; i < c->count; i++)
        if (!c->choices[i].kept) text_printf(&text, "%s%s=%d", text.length ? " " : "", c->choices[i].name, c->choices[i].bits);
    return text.data;
}

// ---- measuring -------------------------------------------------------------------------------------------------------------------------------

static double distance(const Choose *c, const float *base, const float *own) {
    int n = c->width;
    double max_p = base[0], max_q = own[0], p = 0, q = 0, sum = 0;
    if (!c->causal) {   // 1 − cosine
        for (int i = 0; i < n; i++) p += (double)base[i] * base[i], q += (double)own[i] * own[i], sum += (double)base[i] * own[i];
        return p > 0 && q > 0 ? 1 - sum / sqrt(p * q) : 0;
    }
    for (int i = 1; i < n; i++) max_p = fmax(max_p, base[i]), max_q = fmax(max_q, own[i]);
    for (int i = 0; i < n; i++) p += exp(base[i] - max_p), q += exp(own[i] - max_q);
    double log_p = max_p + log(p), log_q = max_q + log(q);
    for (int i = 0; i < n; i++) sum += exp(base[i] - log_p) * ((base[i] - log_p) - (own[i] - log_q));
    return sum;
}

static bool read_ids(Choose *c, tn_engine *engine, Diags *diags) {
    Text text = {0};
    tn_failure failure = {0};
    if (!calibration_text_of(c->options, &text, diags)) return false;
    int limit = tn_context(engine) < TOKENS ? tn_context(engine) : TOKENS, most = tn_program_of(engine)->max_tokens;
    if (!c->causal && most < limit) limit = most;
    int prefix = tn_encode(engine, "", 0, 1, c->ids, limit, &failure);
    if (prefix < 0 || prefix > limit / 2) prefix = 0;
    int count = tn_encode(engine, text.data ? text.data : "", text.length, 0, c->ids + prefix, limit - prefix, &failure);
    text_free(&text);
    if (count < 0) return diag_error(diags, FILE_LOC(c->path), "%s", failure.text), diag(diags, DIAG_HINT, NOWHERE, "--bits chooses without measuring"), false;
    c->id_count = prefix + (count < limit - prefix ? count : limit - prefix);
    if (count < 2) return diag_error(diags, NOWHERE, "the calibration text is too short to measure on"), false;
    return true;
}

static bool run_rows(Choose *c, tn_engine *engine, double *cost, Diags *diags) {
    tn_failure failure = {0};
    int sequence = tn_sequence_new(engine, &failure), seen = 0;
    bool done = sequence >= 0 && tn_add(engine, sequence, c->ids, c->id_count, TN_WANT_ALL, &failure) == 0;
    while (done && tn_pending(engine) > 0) {
        int rows = tn_run(engine, &failure);
        done = rows >= 0;
        for (int i = 0; i < rows && seen < TOKENS; i++, seen++) {
            float *base = c->base + (size_t)seen * (size_t)c->width;
            if (cost) *cost += distance(c, base, tn_rows(engine)[i].values);
            else memcpy(base, tn_rows(engine)[i].values, (size_t)c->width * sizeof *base), c->rows++;
        }
    }
    if (cost && seen) *cost /= seen;
    if (!done) diag_error(diags, FILE_LOC(c->path), "%s", failure.text);
    return done;
}

// The distance of the model so quantized; with `cost` NULL, the base itself.
static bool measure(Choose *c, const char *bits, double *cost, Diags *diags) {
    BuildOptions options = *c->options;
    Program program = {0};
    tn_failure failure = {0};
    int code;
    options.target = "native";
    options.kv = options.budget_bits = options.budget_kl = options.calibrate = options.print_after = options.passes = options.skip = NULL;
    options.timing = options.reference = false;
    options.observe = NULL;
    options.no_cache = true;
    options.quantize = cost ? "auto" : "as-stored";
    options.symmetric = cost && options.symmetric;
    options.activation_group = cost ? options.activation_group : NULL;
    options.bits = cost ? bits : NULL;
    if (cost) *cost = 0;
    if (!program_open(&program, c->path, &options, &code, diags)) return false;
    tn_open_options opening = {.context = program.program.context < TOKENS ? program.program.context : TOKENS, .weights = tn_blob_file(program.blob)};
    tn_engine *engine = tn_open_blob(&program.program, program.blob, &opening, &failure);
    if (!engine) diag_error(diags, FILE_LOC(c->path), "%s", failure.text);
    bool done = engine != NULL;
    if (done && !cost) {
        c->width = tn_width(engine);
        c->causal = program.program.out_kind == TN_PER_ROW;
        c->base = malloc((size_t)TOKENS * (size_t)c->width * sizeof *c->base);
        done = c->base && read_ids(c, engine, diags);
    }
    done = done && run_rows(c, engine, cost, diags);
    tn_close(engine);
    program_close(&program);
    tn_progress_show(&c->progress, (uint64_t)++c->done, (uint64_t)c->steps);
    return done;
}

static bool measure_choice(Choose *c, double *cost, Diags *diags) {
    char *bits = bits_text(c);
    bool done = measure(c, bits, cost, diags);
    free(bits);
    return done;
}

// ---- spending the budget -----------------------------------------------------------------------------------------------------------------------

static double total_bits(const Choose *c) {
    double bytes = 0, elements = 0;
    for (int i = 0; i < c->count; i++) {
        const Choice *choice = &c->choices[i];
        bytes += choice->bits == 4 ? choice->bytes_4 : choice->bits == 8 ? choice->bytes_8 : 2 * choice->elements;
        elements += choice->elements;
    }
    return elements > 0 ? 8 * bytes / elements : 0;
}

static double price(const Choice *choice) { return choice->cost / (choice->bytes_8 - choice->bytes_4 + 1); }

static int by_price(const void *a, const void *b) {
    double x = price(*(Choice *const *)a), y = price(*(Choice *const *)b);
    return x < y ? -1 : x > y;
}

static int by_gain(const void *a, const void *b) {
    const Choice *x = *(Choice *const *)a, *y = *(Choice *const *)b;
    double p = x->cost / x->elements, q = y->cost / y->elements;
    return p > q ? -1 : p < q;
}

// The cost of each open class at other bits than 8, against that of all at 8.
static bool measure_each(Choose *c, Choice **open, int count, int bits, double start, Diags *diags) {
    for (int i = 0; i < count; i++) {
        double cost;
        open[i]->bits = bits;
        bool done = measure_choice(c, &cost, diags);
        open[i]->bits = 8;
        if (!done) return false;
        open[i]->cost = fmax(bits == 4 ? cost - start : start - cost, 0);
    }
    return true;
}

static bool spend(Choose *c, double budget_bits, double budget_kl, double *start, double *end, Diags *diags) {
    Choice **open = ARENA_ARRAY(c->arena, Choice *, c->count);
    int count = 0, taken = 0;
    for (int i = 0; i < c->count; i++)
        if (!c->choices[i].kept) open[count++] = &c->choices[i];
    c->steps = count + 3;
    if (!measure(c, NULL, NULL, diags) || !measure_choice(c, start, diags)) return false;
    *end = *start;
    bool finer = budget_bits <= 0 && *start > budget_kl;
    if (!measure_each(c, open, count, finer ? 16 : 4, *start, diags)) return false;
    qsort(open, (size_t)count, sizeof *open, finer ? by_gain : by_price);
    double expected = *start;
    for (; taken < count; taken++) {
        if (finer ? expected <= budget_kl : budget_bits > 0 ? total_bits(c) <= budget_bits : expected + open[taken]->cost > budget_kl) break;
        expected += finer ? -open[taken]->cost : open[taken]->cost;
        open[taken]->bits = finer ? 16 : 4;
    }
    if (!taken || !measure_choice(c, end, diags)) return !taken;
    for (int i = 0; i < MOST_REPAIRS && budget_bits <= 0 && *end > budget_kl && (finer ? taken < count : taken > 0); i++) {
        if (finer) open[taken++]->bits = 16;
        else open[--taken]->bits = 8;
        if (!measure_choice(c, end, diags)) return false;
    }
    return true;
}

// ---- saying and keeping it ----------------------------------------------------------------------------------------------------------------------

static char *report(const Choose *c, double start, double end) {
    Text text = {0};
    const char *what = c->causal ? "KL" : "1 - cosine";
    text_printf(&text, "%-32s %8s %10s %12s\n", "class, by its first matrix", "matrices", "bits", what);
    for (int i = 0; i < c->count; i++) {
        const Choice *choice = &c->choices[i];
        char cost[32] = "";
        if (!choice->kept) snprintf(cost, sizeof cost, "%s%.2e", choice->bits == 16 ? "-" : "", choice->cost);
        text_printf(&text, "%-32s %8d %10s %12s\n", choice->name, choice->matrices, choice->kept ? "as stored" : choice->bits == 4 ? "4" : choice->bits == 8 ? "8" : "16", cost);
    }
    text_printf(&text, "%.2f bits a weight; measured on %d tokens, rounded plainly: %s %.2e (all at 8 bits: %.2e)\n", total_bits(c), c->id_count, what, end, start);
    return text.data;
}

static bool read_budget(const char *text, const char *option, double *value, Diags *diags) {
    char *end;
    if (!text) return true;
    *value = strtod(text, &end);
    if (end != text && !*end && *value > 0 && *value < 1e6) return true;
    return diag_error(diags, NOWHERE, "%s is a number greater than 0, not '%s'", option, text), false;
}

static char *cached_choice(const Build *build, const char *path, const Cache *cache) {
    const BuildOptions *o = build->options;
    Text key = {0};
    text_printf(&key, "tenon choice 1\n%s %s %s %d\n", o->budget_bits ? o->budget_bits : "", o->budget_kl ? o->budget_kl : "",
                o->activation_group ? o->activation_group : "", o->symmetric);
    bool done = manifest_files(path, build->model, &key) && calibration_key(o, &key);
    char *name = done ? cache_name(cache, 'a', cache_key(&key), ".choice") : NULL;
    text_free(&key);
    return name;
}

static bool choose(Choose *c, Text *out, Diags *diags) {
    double budget_bits = 0, budget_kl = default_budget_kl, start = 0, end = 0;
    if (c->options->budget_bits && c->options->budget_kl) return diag_error(diags, NOWHERE, "--budget-bits and --budget-kl: one of them"), false;
    if (!read_budget(c->options->budget_bits, "--budget-bits", &budget_bits, diags) || !read_budget(c->options->budget_kl, "--budget-kl", &budget_kl, diags))
        return false;
    Build build;
    BuildOptions options = *c->options;
    options.quantize = "as-stored";
    options.budget_bits = options.budget_kl = options.calibrate = options.activation_group = options.passes = options.skip = NULL;
    options.symmetric = false;
    options.target = "native";
    options.observe = see_classes;
    options.observe_to = c;
    bool done = build_load(&build, c->path, &options, diags);
    done = done && build_passes(build.model->module, &options, diags);
    if (build.arena) build_close(&build);
    tn_progress_begin(&c->progress, "choosing formats");
    done = done && spend(c, budget_bits, budget_kl, &start, &end, diags);
    tn_progress_end(&c->progress);
    if (!done) return false;
    char *bits = bits_text(c), *table = report(c, start, end);
    text_printf(out, "%s\n%s", bits, table);
    free(bits), free(table);
    return true;
}

bool build_choose(Build *build, const char *path, Diags *diags) {
    const BuildOptions *o = build->options;
    bool wanted = o->quantize && strcmp(o->quantize, "auto") == 0 && !o->bits;
    if (!wanted && (o->budget_bits || o->budget_kl)) return diag_error(diags, NOWHERE, "a budget is for --quant auto without --bits"), false;
    if (!wanted) return true;
    Cache cache = {0};
    char why[300];
    bool cached = o->cache_size && !o->no_cache && cache_open(&cache, o->cache_size, why, sizeof why);
    char *name = cached ? cached_choice(build, path, &cache) : NULL;
    Text text = {0};
    Diags *quiet = diags_new();
    bool done = name && cache_touch(name) && read_text(name, &text, quiet) && strchr(text.data, '\n');
    diags_free(quiet);
    if (!done) {
        Choose c = {.path = path, .options = o, .arena = build->arena, .choices = ARENA_ARRAY(build->arena, Choice, MOST_CLASSES)};
        text.length = 0;
        done = choose(&c, &text, diags);
        free(c.base);
        quiet = diags_new();
        if (done && name) write_file(name, text.data, text.length, quiet);
        diags_free(quiet);
    }
    if (done) {
        size_t line = strcspn(text.data, "\n");
        build->chosen = *o;
        build->chosen.bits = arena_strndup(build->arena, text.data, line);
        build->options = &build->chosen;
        if (isatty(2) || !build->variant.code_only) fprintf(stderr, "%s", text.data + line + 1);
    }
    text_free(&text);
    free(name);
    if (cached) cache_close(&cache);
    return done;
}
