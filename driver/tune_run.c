// Steps of a chosen size, timed kernel by kernel. A step is one of the whole model, so a kernel finds the caches as it does in use: its weights were
// last read a step ago, its input was just written.
#include "driver/tune.h"
#include "runtime/bench.h"

#include <string.h>

bool stand_open(Stand *stand, const tn_program *program, const Blob *blob, int threads, bool kernels) {
    *stand = (Stand){.program = program};
    tn_open_options options = {.threads = threads};
    stand->engine = tn_open_blob(program, blob, &options, &stand->failure);
    if (stand->engine && kernels) tn_team_clock(stand->engine->team, tn_thread_now);   // a neighbour's turn is no part of a kernel's time
    if (stand->engine && (!kernels || tn_engine_time_kernels(stand->engine, &stand->failure) == 0)) return true;
    stand_close(stand);
    return false;
}

void stand_close(Stand *stand) {
    tn_close(stand->engine);
    stand->engine = NULL;
}

int stand_most_rows(const Stand *stand) {
    int most = stand->program->max_tokens < tn_context(stand->engine) ? stand->program->max_tokens : tn_context(stand->engine);
    if (!stand->program->causal && most > tn_row_limit(stand->program)) most = tn_row_limit(stand->program);
    return most;
}

static int new_sequence(Stand *stand, int tokens, int seed) {
    int sequence = tn_sequence_new(stand->engine, &stand->failure);
    return sequence < 0 || tn_bench_tokens(stand->engine, sequence, tokens, seed, &stand->failure) ? -1 : sequence;
}

// Sequences with a short past, which small steps continue and are cut back to.
static bool want_sequences(Stand *stand, int count, int past) {
    for (; stand->count < count; stand->count++)
        if ((stand->sequences[stand->count] = new_sequence(stand, past, stand->count)) < 0) return false;
    return tn_bench_drain(stand->engine, &stand->failure) == 0;
}

static double timed(Stand *stand) {
    tn_engine *engine = stand->engine;
    if (engine->kernel_ns) memset(engine->kernel_ns, 0, sizeof *engine->kernel_ns * (size_t)stand->program->kernel_count * (size_t)tn_threads(engine));
    double began = seconds_now();
    return tn_bench_drain(stand->engine, &stand->failure) == 0 ? seconds_now() - began : -1;
}

double stand_step(Stand *stand, int rows) {
    int past = tn_context(stand->engine) > STAND_CONTEXT ? STAND_CONTEXT : tn_context(stand->engine) - 1;
    if (stand->program->causal && past > 0 && rows <= STAND_SEQUENCES && rows <= stand->program->max_sequences) {
        int id = 0;
        if (!want_sequences(stand, rows, past)) return -1;
        for (int i = 0; i < rows; i++)
            if (tn_add(stand->engine, stand->sequences[i], &id, 1, TN_WANT_LAST, &stand->failure)) return -1;
        double seconds = timed(stand);
        for (int i = 0; i < rows && seconds >= 0; i++)
            if (tn_trim(stand->engine, stand->sequences[i], past, &stand->failure)) return -1;
        return seconds;
    }
    int sequence = new_sequence(stand, rows, 0);
    double seconds = sequence < 0 ? -1 : timed(stand);
    if (sequence >= 0) tn_sequence_free(stand->engine, sequence);
    return seconds;
}

double stand_kernel_ns(const Stand *stand, int kernel) {
    unsigned long long most = 0;
    for (int t = 0; t < tn_threads(stand->engine); t++) {
        unsigned long long own = stand->engine->kernel_ns[(size_t)t * (size_t)stand->program->kernel_count + (size_t)kernel];
        if (own > most) most = own;
    }
    return (double)most;
}
