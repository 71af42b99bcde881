// The calibration run: the model as stored, in float32, with an `observe` before every product (passes/observe.c), compiled for this machine and run
// over the text in windows. It runs in one thread, so that rows are added in one order and the result is the same bits each time; adding them up,
// which is most of the work, takes all threads.
#include "driver/calibrate.h"
#include "codegen/plan.h"
#include "runtime/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { WAITING_ROWS = 128, WINDOW = 512, MOST_TOKENS = 4096 };

typedef struct { uint64_t offset; int moments; } SeenWeight;

struct CalibrationRun {
    Calibration *calibration;
    BuildOptions options;
    Build build;
    Program program;
    tn_engine *engine;
    SeenWeight *places; int place_count;   // of the weights that `observe` names, by offset
    int *ids, id_count, prefix;
};

// ---- threads -----------------------------------------------------------------------------------------------------------------------------

typedef struct { atomic_llong next; int64_t count; void (*work)(void *, int64_t); void *to; } Parallel;

static void *parallel_thread(void *argument) {
    Parallel *p = argument;
    for (long long i; (i = atomic_fetch_add(&p->next, 1)) < p->count;) p->work(p->to, i);
    return NULL;
}

void calibrate_parallel(int threads, int64_t count, void (*work)(void *, int64_t), void *to) {
    enum { MOST = 64 };
    pthread_t others[MOST];
    Parallel p = {.count = count, .work = work, .to = to};
    int started = 0;
    while (started < MOST && started + 1 < threads && started + 1 < count && pthread_create(&others[started], NULL, parallel_thread, &p) == 0) started++;
    parallel_thread(&p);
    for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
}

// ---- who shares what ---------------------------------------------------------------------------------------------------------------------

// The weights that a parameter stands for in one call.
typedef struct { Weight *const *weights; int count; } Bound;
typedef struct { int *leader; Arena *arena; } Sharing;   // leader: of each weight by id; -1: not multiplied with

static Bound bound(const Value *value, const Bound *params) {
    if (value->kind == VALUE_PARAM) return params[value->index];
    return (Bound){value->weights, value->count > 0 ? value->count : 1};
}

static int root(const int *leader, int id) {
    while (leader[id] != id) id = leader[id];
    return id;
}

static void joined(Sharing *s, int a, int b) {
    if (s->leader[a] < 0) s->leader[a] = a;
    if (s->leader[b] < 0) s->leader[b] = b;
    s->leader[root(s->leader, b)] = root(s->leader, a);
}

static void walk(Sharing *s, const Func *func, const Bound *params) {
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        if (node->op == OP_LINEAR && node->operands[0]->kind == VALUE_RESULT && node->operands[0]->node->op == OP_OBSERVE) {
            Bound shown = bound(node->operands[0]->node->operands[1], params), own = bound(node->operands[1], params);
            for (int e = 0; e < own.count; e++) joined(s, shown.weights[e < shown.count ? e : 0]->id, own.weights[e]->id);
        }
        if (node->op != OP_CALL && node->op != OP_MOE && node->op != OP_MOE_EXPERTS) continue;
        const Func *callee = node_attr(node, "block")->func;
        int first = node_params(node);
        Bound *inner = ARENA_ARRAY(s->arena, Bound, callee->param_count);
        for (int p = 0; p < callee->param_count; p++) inner[p] = bound(node->operands[first + p], params);
        walk(s, callee, inner);
    }
}

static void need(const void *memory) {
    if (!memory) abort();
}

static void moments_new(Calibration *c, int weights) {
    size_t count = (size_t)weights + 1;
    need(c->moments = calloc(count, sizeof *c->moments));
    need(c->of = malloc(count * sizeof *c->of));
    for (size_t w = 0; w < count; w++) c->of[w] = -1;
}

static void see_all(Calibration *c, const Module *module) {
    moments_new(c, module->weight_count);
    need(c->names = calloc((size_t)module->weight_count + 1, sizeof *c->names));
    c->seen_count = module->weight_count;
    for (int w = 0; w < module->weight_count; w++) c->names[w] = module->weights[w]->name;
}

// Called after each pass: the module behind `observe` still has its blocks and products.
static void see_module(void *to, const char *phase, double milliseconds, const struct Module *module) {
    (void)milliseconds;
    if (strcmp(phase, "observe") != 0) return;
    CalibrationRun *run = to;
    Calibration *c = run->calibration;
    Arena *scratch = arena_new();
    Sharing s = {.leader = ARENA_ARRAY(scratch, int, module->weight_count), .arena = scratch};
    for (int w = 0; w < module->weight_count; w++) s.leader[w] = -1;
    walk(&s, module->main, NULL);
    int *moments = ARENA_ARRAY(scratch, int, module->weight_count);
    for (int w = 0; w < module->weight_count; w++) moments[w] = -1;
    if (!c->module) see_all(c, module);
    int count = !c->module || c->module->weight_count > module->weight_count ? module->weight_count : c->module->weight_count;
    for (int w = 0; w < count; w++) {
        const Weight *weight = c->module ? c->module->weights[w] : module->weights[w];   // the same passes went before: the same weights in the same order
        bool wanted = c->module ? calibrated(weight) && strcmp(weight->name, module->weights[w]->name) == 0 : weight->type.rank == 2;
        if (!wanted || s.leader[w] < 0) continue;
        int *at = &moments[root(s.leader, w)];
        int64_t k = weight->type.dims[weight->type.rank - 1];
        if (*at < 0) c->moments[*at = c->moments_count++] = (Moments){.k = k, .rotation = weight->rotate};
        if (c->moments[*at].k == k && c->moments[*at].rotation == weight->rotate) c->of[w] = *at;
    }
    run->places = calloc((size_t)module->weight_count + 1, sizeof *run->places);
    if (!run->places) abort();
    for (int w = 0; w < module->weight_count; w++)   // `offset` is a weight's number until the plan is made
        if (s.leader[w] >= 0 && moments[root(s.leader, w)] >= 0) run->places[run->place_count++] = (SeenWeight){(uint64_t)w, moments[root(s.leader, w)]};
    arena_free(scratch);
}

// ---- rows --------------------------------------------------------------------------------------------------------------------------------

enum { SHARES = 16 };
typedef struct { Moments *moments; } Adding;

static void add_share(void *to, int64_t i) {
    const Moments *m = ((Adding *)to)->moments;
    for (int b = 0; b < m->block_count; b++) {   // the upper triangle in parts of about one size
        const GptqBlock *block = &m->blocks[b];
        int64_t step = (block->n + 2 * SHARES - 1) / (2 * SHARES), low = i * step, high = (2 * SHARES - 1 - i) * step;
        gptq_add(block, m->rows, m->row_count, m->k, low < block->n ? low : block->n, low + step < block->n ? low + step : block->n);
        gptq_add(block, m->rows, m->row_count, m->k, high < block->n ? high : block->n, high + step < block->n ? high + step : block->n);
    }
}

static void add_waiting(const Calibration *c, Moments *m) {
    Adding adding = {m};
    if (m->row_count) calibrate_parallel(c->threads, SHARES, add_share, &adding);
    m->row_count = 0;
}

static int by_offset(const void *a, const void *b) {
    const SeenWeight *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void take_row(void *to, unsigned long long weight, const float *row, long n) {
    CalibrationRun *run = to;
    SeenWeight key = {.offset = weight};
    const SeenWeight *place = bsearch(&key, run->places, (size_t)run->place_count, sizeof key, by_offset);
    Moments *m = place ? &run->calibration->moments[place->moments] : NULL;
    if (!m || n != m->k) return;
    for (long i = 0; m->energy && i < n; i++) m->energy[i] += (double)row[i] * row[i];
    if (!m->blocks) return;
    memcpy(m->rows + m->row_count++ * m->k, row, sizeof *row * (size_t)n);
    if (m->row_count == WAITING_ROWS) add_waiting(run->calibration, m);
}

// ---- the program -------------------------------------------------------------------------------------------------------------------------

bool calibration_program(Build *build, Program *program, Diags *diags) {
    Text object = {0};
    bool done = build_code(build, EMIT_OBJECT, 0, &object, diags) && (program->jit = jit_load(object.data, object.length, diags));
    text_free(&object);
    const tn_program *model = done ? jit_symbol(program->jit, "tn_model") : NULL;
    if (!model) return false;
    program->program = *model;
    return program_blob_unnamed(program, build->parts, build->part_count, diags);
}

static bool encode(CalibrationRun *run, Diags *diags) {
    const Text *text = &run->calibration->text;
    tn_failure failure = {0};
    int prefix[WINDOW], count = tn_encode(run->engine, text->data ? text->data : "", text->length, 0, NULL, 0, &failure);
    if (count < 0) {
        diag_error(diags, FILE_LOC(run->calibration->path), "%s", failure.text);
        diag(diags, DIAG_HINT, NOWHERE, "calibration reads a text, so the model needs a tokenizer");
        return false;
    }
    if (!count) return diag_error(diags, NOWHERE, "the calibration text has no tokens"), false;
    run->ids = malloc(((size_t)count + WINDOW) * sizeof *run->ids);
    if (!run->ids) abort();
    run->prefix = tn_encode(run->engine, "", 0, 1, prefix, WINDOW, &failure);
    if (run->prefix < 0 || run->prefix > tn_context(run->engine) / 2 || run->prefix > WINDOW / 2) run->prefix = 0;
    memcpy(run->ids, prefix, (size_t)run->prefix * sizeof *run->ids);
    tn_encode(run->engine, text->data, text->length, 0, run->ids + run->prefix, count, &failure);
    run->id_count = count < MOST_TOKENS ? count : MOST_TOKENS;
    return true;
}

void calibration_options(BuildOptions *to, const BuildOptions *from) {
    *to = *from;
    to->target = "native";
    to->kv = to->quantize = to->group = to->activation_group = to->calibrate = to->bits = to->budget_bits = to->budget_kl = NULL;
    to->passes = to->skip = to->print_after = NULL;
    to->symmetric = to->timing = to->reference = false;
    to->observe = NULL;
}

CalibrationRun *calibration_run_open(Calibration *calibration, Diags *diags) {
    CalibrationRun *run = calloc(1, sizeof *run);
    need(run);
    if (calibration->module) moments_new(calibration, calibration->module->weight_count);
    run->calibration = calibration;
    calibration_options(&run->options, calibration->options);
    run->options.inputs = true;
    run->options.observe = see_module;
    run->options.observe_to = run;
    bool done = build_open(&run->build, calibration->path, &run->options, diags);
    for (int i = 0; done && i < run->place_count; i++) run->places[i].offset = run->build.plan->offset[run->places[i].offset];
    if (run->place_count) qsort(run->places, (size_t)run->place_count, sizeof *run->places, by_offset);
    tn_failure failure = {0};
    done = done && calibration_program(&run->build, &run->program, diags);
    tn_open_options options = {.threads = 1, .weights = done ? tn_blob_file(run->program.blob) : NULL};
    int window = done && run->program.program.context < WINDOW ? run->program.program.context : WINDOW;
    options.context = window;
    if (done && !(run->engine = tn_open_blob(&run->program.program, run->program.blob, &options, &failure)))
        done = (diag_error(diags, FILE_LOC(calibration->path), "%s", failure.text), false);
    if (done && encode(run, diags)) return run;
    calibration_run_close(run);
    return NULL;
}

static bool run_window(CalibrationRun *run, const int *ids, int count, Diags *diags) {
    tn_failure failure = {0};
    int sequence = tn_sequence_new(run->engine, &failure);
    bool done = sequence >= 0 && tn_add(run->engine, sequence, ids, count, TN_WANT_ALL, &failure) == 0;
    while (done && tn_pending(run->engine) > 0) done = tn_run(run->engine, &failure) >= 0;
    if (sequence >= 0) tn_sequence_free(run->engine, sequence);
    if (!done) diag_error(diags, FILE_LOC(run->calibration->path), "%s", failure.text);
    return done;
}

// A window is the prefix (a begin token, say) and a part of the text.
bool calibration_run(CalibrationRun *run, Diags *diags) {
    Calibration *c = run->calibration;
    for (int i = 0; i < c->moments_count; i++)
        if (!c->module) need(c->moments[i].energy = calloc((size_t)c->moments[i].k, sizeof(double)));
        else if (c->moments[i].blocks) need(c->moments[i].rows = malloc((size_t)(WAITING_ROWS * c->moments[i].k) * sizeof(float)));
    run->engine->observe = take_row;
    run->engine->observe_to = run;
    int limit = tn_context(run->engine), most = run->program.program.max_tokens;
    if (!run->program.program.causal && most < limit) limit = most;
    int ids[WINDOW], step = (limit < WINDOW ? limit : WINDOW) - run->prefix;
    Progress progress;
    bool done = true;
    tn_progress_begin(&progress, "calibrating");
    memcpy(ids, run->ids, (size_t)run->prefix * sizeof *ids);
    for (int at = 0; at < run->id_count && done; at += step) {
        int count = run->id_count - at < step ? run->id_count - at : step;
        memcpy(ids + run->prefix, run->ids + run->prefix + at, (size_t)count * sizeof *ids);
        done = run_window(run, ids, run->prefix + count, diags);
        tn_progress_show(&progress, (uint64_t)(at + count), (uint64_t)run->id_count);
    }
    tn_progress_end(&progress);
    for (int i = 0; i < c->moments_count; i++) {
        if (c->moments[i].blocks) add_waiting(c, &c->moments[i]);
        free(c->moments[i].rows);
        c->moments[i].rows = NULL;
    }
    return done;
}

void calibration_close(Calibration *calibration) {
    for (int i = 0; i < calibration->moments_count; i++) free(calibration->moments[i].energy);
    free(calibration->moments), free(calibration->of), free(calibration->names);
    text_free(&calibration->text);
}

void calibration_run_close(CalibrationRun *run) {
    if (!run) return;
    tn_close(run->engine);
    program_close(&run->program);
    if (run->build.arena) build_close(&run->build);
    free(run->places), free(run->ids);
    free(run);
}
