// The machine's limits and the program's own times, measured in one process so that they can be compared.
//
// The compiled program brings probes (tn_program.probes): loops on registers for each arithmetic, and a plain read, here of a buffer far larger than
// the caches. Then it runs the three scenarios. Each figure is the best of several repetitions: a limit is what the machine can do, and noise only
// takes away.
#include "driver/explain.h"

#include "runtime/engine.h"
#include "runtime/team.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// ---- threads -----------------------------------------------------------------------------------------------------------------

enum { MOST_THREADS = 256 };
typedef struct { void (*work)(void *, int, int); void *with; int index, count; pthread_t thread; } Crew;

static void *crew_main(void *argument) {
    Crew *one = argument;
    one->work(one->with, one->index, one->count);
    return NULL;
}

static double crew_run(int count, void (*work)(void *, int, int), void *with) {
    Crew crew[MOST_THREADS];
    int started = 0;
    double began = seconds_now();
    for (int i = 0; i < count; i++) crew[i] = (Crew){work, with, i, count, 0};
    for (int i = 1; i < count && pthread_create(&crew[i].thread, NULL, crew_main, &crew[i]) == 0; i++) started = i;
    crew_main(&crew[0]);
    for (int i = 1; i <= started; i++) pthread_join(crew[i].thread, NULL);
    for (int i = started + 1; i < count; i++) crew_main(&crew[i]);
    return seconds_now() - began;
}

// ---- probes ----------------------------------------------------------------------------------------------------------------------

enum { PROBE_REPEATS = 6, READ_BYTES = 256 << 20, OPERAND_BYTES = 4096 };
typedef struct { const tn_probe *probe; const unsigned char *from; long rounds; unsigned results[MOST_THREADS]; } Probing;

// A reader's rounds are divided among the threads, each its own stretch; of arithmetic every thread does them all.
static void probe_part(void *with, int index, int count) {
    Probing *p = with;
    bool reads = p->probe->bytes > 0;
    long rounds = reads ? p->rounds / count : p->rounds;
    const unsigned char *from = reads ? p->from + (size_t)index * (size_t)rounds * (size_t)p->probe->bytes : p->from;
    p->results[index] = p->probe->run(from, rounds);
}

// Operations or bytes a second of all threads. Rounds of arithmetic are doubled until a run takes ten milliseconds.
static double probe_rate(const tn_probe *probe, const unsigned char *buffer, int threads) {
    Probing p = {.probe = probe, .from = buffer, .rounds = probe->bytes > 0 ? (long)(READ_BYTES / probe->bytes) : 1 << 10};
    double best = 0, amount = probe->bytes > 0 ? probe->bytes : probe->operations * threads;
    while (probe->bytes <= 0 && p.rounds < (long)1 << 30 && crew_run(threads, probe_part, &p) < 10e-3) p.rounds *= 2;
    for (int i = 0; i < PROBE_REPEATS; i++) {
        double rate = amount * (double)p.rounds / crew_run(threads, probe_part, &p);
        if (rate > best) best = rate;
    }
    return best;
}

static double *peak_slot(Explain *e, const char *name) {
    Measured *m = &e->measured;
    for (int i = 0; i < m->peak_count; i++)
        if (strcmp(m->peaks[i].name, name) == 0) return &m->peaks[i].rate;
    if (m->peak_count == (int)COUNT_OF(m->peaks)) return NULL;
    m->peaks[m->peak_count].name = arena_strdup(e->arena, name);
    return &m->peaks[m->peak_count++].rate;
}

// Called before and after the program runs, so that a neighbour's burst does not become a limit.
static void measure_limits(Explain *e, const tn_program *program) {
    Measured *m = &e->measured;
    unsigned char *buffer;
    if (posix_memalign((void **)&buffer, 4096, READ_BYTES) != 0) {
        m->why = "there was no memory to read for the bandwidth";
        return;
    }
    memset(buffer, 0, READ_BYTES);
    for (int i = 0; i < program->probe_count; i++) {
        const tn_probe *probe = &program->probes[i];
        double rate = probe_rate(probe, buffer, m->threads);
        double *best = probe->bytes > 0 ? &m->bandwidth : peak_slot(e, probe->name);
        if (best && rate > *best) *best = rate;
    }
    free(buffer);
    m->here = m->bandwidth > 0;
}

// ---- kernels --------------------------------------------------------------------------------------------------------------------------

typedef struct { Explain *e; tn_engine *engine; const tn_program *program; tn_failure failure; } Running;

static int token_of(const Running *r, int i, int seed) {
    int limit = r->program->input_limits && r->program->input_limits[0] > 0 ? r->program->input_limits[0] : 1;
    return (int)(((unsigned)(i + seed * 31) * 7919u + 13u) % (unsigned)limit);
}

static bool drain(Running *r) {
    while (tn_pending(r->engine))
        if (tn_run(r->engine, &r->failure) < 0) return false;
    return true;
}

static bool add_tokens(Running *r, int sequence, int count, int seed) {
    for (int i = 0; i < count; i++) {
        int id = token_of(r, i, seed);
        if (tn_add(r->engine, sequence, &id, 1, i == count - 1 ? TN_WANT_LAST : TN_WANT_NONE, &r->failure)) return false;
    }
    return true;
}

// One step of what waits. Each kernel's time is that of the thread that took longest; of its times, and of the step's, the shortest stays.
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
        unsigned long long most = 0;
        for (int t = 0; t < threads; t++)
            if (ns[(size_t)t * (size_t)kernels + (size_t)i] > most) most = ns[(size_t)t * (size_t)kernels + (size_t)i];
        if (first || (double)most * 1e-9 < m->seconds[scenario][i]) m->seconds[scenario][i] = (double)most * 1e-9;
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

static bool run_scenarios(Explain *e, Program *program) {
    Running r = {.e = e, .program = &program->program};
    tn_open_options options = {0};
    r.engine = tn_open_blob(&program->program, program->blob, &options, &r.failure);
    bool done = r.engine && tn_engine_time_kernels(r.engine, &r.failure) == 0;
    if (r.engine) e->measured.threads = tn_threads(r.engine) < MOST_THREADS ? tn_threads(r.engine) : MOST_THREADS;
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
    const uint64_t most = (uint64_t)4 << 30;
    Measured *m = &e->measured;
    if (!target_runs_here(e->build->target)) {
        m->why = "this machine cannot run code for the target";
        return;
    }
    m->threads = tn_team_available() < MOST_THREADS ? tn_team_available() : MOST_THREADS;
    Program program = {0};
    Diags *quiet = diags_new();
    program.jit = jit_load(object->data, object->length, quiet);
    const tn_program *model = program.jit ? jit_symbol(program.jit, "tn_model") : NULL;
    if (model) program.program = *model;
    if (model) measure_limits(e, model);
    if (!model) m->why = "the compiled code could not be loaded";
    else if (e->build->plan->weights_bytes > most) m->why = "the program was not run: its packed weights are larger than 4 GiB (tenon bench --kernels times them)";
    else if (!program_blob_unnamed(&program, e->build->parts, e->build->part_count, quiet)) m->why = "there was no room for the packed weights";
    else run_scenarios(e, &program);
    if (model) measure_limits(e, model);
    program_close(&program);
    diags_free(quiet);
}
