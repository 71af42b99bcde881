// What --bench measured: filled by bench.c, printed by bench_print.c. And the fixed tokens of all measurements.
#ifndef TENON_RUNTIME_BENCH_H
#define TENON_RUNTIME_BENCH_H
#include "runtime/limits.h"
#include "runtime/run.h"

enum { BENCH_PHASES = 8 };

// What one kernel does in one round of a phase, all its calls together.
typedef struct { double calls, weight_bytes, cache_bytes, row_bytes, operations; } BenchWork;

// A round is a whole prompt, or a step in which every sequence gets a token.
typedef struct {
    bool decode;
    int sequences, context;                    // positions that a sequence holds: at the end of the prompt; in the middle of the steps
    int tokens;                                // of a sequence in a round
    int rounds;                                // of which `seconds` is the median
    double seconds, least, most, p99;          // p99: which 99 of 100 rounds do not exceed
    int kernel_rounds; double kernel_seconds;  // with --kernels: rounds in which kernels were timed, and how long all of those took
    double *kernel_time;                       // [kernel_count], seconds of all kernel_rounds: the mean of the threads
    BenchWork *work;                           // [kernel_count]
} BenchPhase;

typedef struct {
    double first_seconds;                      // from the start to the first step's end
    int first_tokens;
    BenchPhase phases[BENCH_PHASES]; int phase_count;
    long peak_kib;
    bool has_limits;
    Limits limits;
} BenchResult;

void tn_bench_print(const Run *run, const BenchResult *result);

// Queues `count` tokens that the seed alone decides; the last one's output is asked for. 0 or -1 with a failure.
int tn_bench_tokens(tn_engine *engine, int sequence, int count, int seed, tn_failure *failure);
int tn_bench_drain(tn_engine *engine, tn_failure *failure);     // steps, until nothing waits

#endif
