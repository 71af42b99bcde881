// The machine's limits and the program's own times, measured in one process so that they can be compared.
//
// The compiled program brings probes, which runtime/limits.c times; then it runs the three scenarios, each several times. The shortest time counts:
// noise only takes away.
#include "driver/explain.h"

#include "runtime/bench.h"
#include "runtime/engine.h"

#include <string.h>

// ---- kernels --------------------------------------------------------------------------------------------------------------------------

typedef struct { Explain *e; tn_engine *engine; const tn_program *program; tn_failure failure; } Running;

static bool drain(Running *r) { return tn_bench_drain(r->engine, &r->failure) == 0; }
static bool add_tokens(Running *r, int sequence, int count, int seed) { return tn_bench_tokens(r->engine, sequence, count, seed, &r->failure) == 0; }

// One step of what waits. A kernel's time is the mean of its threads', as in --bench: kernels that wait for nothing of each other run side by side. Of its
// times, and of the step's, the shortest stays.
static bool timed_step(Running *r, int scenario) {
    Measured *m = &r->e->measured;
    int kernels = r->program->kernel_count, threads = tn_threads(r->engine);
    unsigned long long *ns = r->engine->kernel_ns;
    memset(ns, 0, sizeof *ns * (size_t)kernels * (size_t)threads);
    double began = seconds_now();
    if (!drain(r)) return false;
    double seconds = seconds_now() - began;
    bool first = !m->seconds[scenario];
    if (first) m->seconds[scenario] = ARENA_ARRAY(r->e->arena, double, kernels);
    if (first || seconds < m->step_seconds[scenario]) m->step_seconds[scenario] = seconds;
    for (int i = 0; i < kernels; i++) {
        double own = 0;
        for (int t = 0; t < threads; t++) own += (double)ns[(size_t)t * (size_t)kernels + (size_t)i] * 1e-9 / threads;
        if (first || own < m->seconds[scenario][i]) m->seconds[scenario][i] = own;
    }
    return true;
}

static bool run_prompt(Running *r, int scenario) {
    const Scenario *s = &r->e->scenarios[scenario];
    double began = seconds_now();
    for (int i = 0; i < 3 && (i < 1 || seconds_now() - began < 3); i++) {
        int sequence = tn_sequence_new(r->engine, &r->failure);
        if (sequence < 0 || !add_tokens(r, sequence, s->tokens, i) || !timed_step(r, scenario)) return false;
        tn_sequence_free(r->engine, sequence);
    }
    return true;
}

static bool run_decode(Running *r, int scenario) {
    const Scenario *s = &r->e->scenarios[scenario];
    int *sequences = ARENA_ARRAY(r->e->arena, int, s->sequences);
    for (int i = 0; i < s->sequences; i++)
        if ((sequences[i] = tn_sequence_new(r->engine, &r->failure)) < 0 || (s->context > 1 && !add_tokens(r, sequences[i], s->context - 1, i))) return false;
    if (!drain(r)) return false;
    double began = seconds_now();
    for (int step = 0; step < 8 && s->context + step < r->program->context && (step < 2 || seconds_now() - began < 3); step++) {
        for (int i = 0; i < s->sequences; i++)
            if (!add_tokens(r, sequences[i], 1, step + i)) return false;
        if (!timed_step(r, scenario)) return false;
    }
    for (int i = 0; i < s->sequences; i++) tn_sequence_free(r->engine, sequences[i]);
    return true;
}

// The names belong to code that will be gone when they are read.
static void measure_limits(Explain *e, const tn_engine *engine) {
    Limits *limits = &e->measured.limits;
    tn_limits_measure(engine, 0.2, limits);
    for (int i = 0; i < limits->peak_count; i++) limits->peaks[i].name = arena_strdup(e->arena, limits->peaks[i].name);
    e->measured.here = limits->memory > 0;
}

static bool run_scenarios(Explain *e, Program *program) {
    Running r = {.e = e, .program = &program->program};
    tn_open_options options = {0};
    r.engine = tn_open_blob(&program->program, program->blob, &options, &r.failure);
    bool done = r.engine && tn_engine_time_kernels(r.engine, &r.failure) == 0;
    if (r.engine) measure_limits(e, r.engine);
    for (int i = SCENARIOS - 1; done && i >= 0; i--) {
        if (i == 1 && e->measured.step_seconds[2] > 20) {
            e->measured.why = "the batch was not run: the prompt alone took more than 20 seconds";
            continue;
        }
        done = e->scenarios[i].prompt ? run_prompt(&r, i) : run_decode(&r, i);
    }
    if (!done) e->measured.why = arena_printf(e->arena, "the program did not run: %s", r.failure.text);
    if (r.engine) tn_close(r.engine);
    return done;
}

void measure(Explain *e, const Text *object) {
    const uint64_t most = (uint64_t)16 << 30;
    Measured *m = &e->measured;
    if (!target_runs_here(e->build->target)) {
        m->why = "this machine cannot run code for the target";
        return;
    }
    Program program = {0};
    Diags *quiet = diags_new();
    program.jit = jit_load(object->data, object->length, quiet);
    const tn_program *model = program.jit ? jit_symbol(program.jit, "tn_model") : NULL;
    if (model) program.program = *model;
    if (!model) m->why = "the compiled code could not be loaded";
    else if (e->build->plan->weights_bytes > most) m->why = "the program was not run: its packed weights are larger than 16 GiB (tenon bench --kernels times them)";
    else if (!program_blob_unnamed(&program, e->build->parts, e->build->part_count, quiet)) m->why = "there was no room for the packed weights";
    else run_scenarios(e, &program);
    program_close(&program);
    diags_free(quiet);
}
