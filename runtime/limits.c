// How fast this machine reads and multiplies: the program's probes, run by the same team that runs its steps, in the same process and minute. The
// threads meet at a barrier and then work at once. What they share (memory) is timed from the first one's start to the last one's end, what each has
// for itself (registers, a cache) by the slowest one's own time. A limit is the best of its repetitions: what was possible once is possible, and a
// neighbour's burst of work must not make the kernels look better.
#include "runtime/limits.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LIMITS_CACHE = 256 << 10, LIMITS_NEAR = 16 << 10, LIMITS_OPERANDS = 4096, LIMITS_MEMORY = 256 << 20, LIMITS_MOST_MEMORY = 1 << 30, LIMITS_HUGE_PAGE = 2 << 20, LIMITS_MOST_WEIGHTS = 1 << 30, LIMITS_REPEAT = 5 };
static const double limits_shortest = 0.001;      // seconds that a repetition takes at least

// A step for tn_team_run that does not run the model.
typedef struct {
    tn_step step;                      // first: what the team hands to each thread
    const tn_probe *probe;
    const unsigned char *from;
    long rounds, passes;               // of all threads together where `shared`, else of each
    bool shared;
    size_t apart;                      // not shared: where the next thread's own bytes begin
    unsigned long long *began, *ended; // of each thread
    volatile unsigned sink;
} LimitsTask;

static void limits_run(const tn_step *step, tn_worker *worker) {
    LimitsTask *task = (LimitsTask *)(void *)(uintptr_t)step;
    long first = 0, last = task->rounds;
    if (task->shared) {
        first = task->rounds * worker->index / worker->count;
        last = task->rounds * (worker->index + 1) / worker->count;
    }
    const unsigned char *from = task->from + (size_t)first * (size_t)task->probe->bytes + (size_t)worker->index * task->apart;
    unsigned some = 0;
    if (worker->barrier)
        worker->barrier(worker);
    task->began[worker->index] = worker->now();
    for (long i = 0; i < task->passes; i++)
        some |= task->probe->run(from, last - first);
    task->ended[worker->index] = worker->now();
    if (some == 0x5bd1e995u)           // never known to be false: what was read is wanted
        task->sink = some;
}

static double limits_once(const tn_engine *engine, LimitsTask *task) {
    tn_program program = {.run = limits_run};
    tn_team_run(engine->team, &program, &task->step, NULL);
    unsigned long long began = task->began[0], ended = task->ended[0], longest = 0;
    for (int i = 0; i < tn_team_threads(engine->team); i++) {
        began = task->began[i] < began ? task->began[i] : began;
        ended = task->ended[i] > ended ? task->ended[i] : ended;
        longest = task->ended[i] - task->began[i] > longest ? task->ended[i] - task->began[i] : longest;
    }
    return (double)((task->shared ? ended - began : longest) + 1) * 1e-9;
}

// The shortest time of one task, repeated for about `seconds`.
static double limits_time(const tn_engine *engine, LimitsTask *task, double seconds) {
    double best = 0, total = 0;
    for (int i = 0; i < LIMITS_REPEAT || total < seconds; i++) {
        double took = limits_once(engine, task);
        total += took;
        best = i == 0 || took < best ? took : best;
    }
    return best;
}

// As many rounds or passes (*count, in the task) as take long enough for the clock, then their time. 0 when there is no memory.
static double limits_settle(const tn_engine *engine, LimitsTask *task, long *count, double seconds) {
    size_t threads = (size_t)tn_team_threads(engine->team);
    double took = 0;
    if (!(task->began = calloc(2 * threads, sizeof *task->began)))
        return 0;
    task->ended = task->began + threads;
    for (*count = 1; *count < 1L << 40 && (took = limits_time(engine, task, 0)) < limits_shortest;)
        *count *= took < limits_shortest / 10 ? 8 : 2;
    took = limits_time(engine, task, seconds);
    free(task->began);
    return took;
}

static double limits_arithmetic(const tn_engine *engine, const tn_probe *probe, const unsigned char *operands, double seconds) {
    LimitsTask task = {.probe = probe, .from = operands, .passes = 1};
    double took = limits_settle(engine, &task, &task.rounds, seconds);
    return took > 0 ? probe->operations * (double)task.rounds * tn_team_threads(engine->team) / took : 0;
}

// Bytes a second over `bytes`, by the reading probe that does it best: shared among the threads, or each its own.
static double limits_reading(const tn_engine *engine, const unsigned char *from, size_t bytes, bool shared, double seconds) {
    double best = 0;
    for (int i = 0; i < engine->program->probe_count; i++) {
        const tn_probe *probe = &engine->program->probes[i];
        if (probe->bytes <= 0 || (double)bytes < probe->bytes)
            continue;
        LimitsTask task = {.probe = probe, .from = from, .shared = shared, .apart = shared ? 0 : bytes};
        task.rounds = (long)((double)bytes / probe->bytes);
        double took = limits_settle(engine, &task, &task.passes, seconds / 2);
        double read = probe->bytes * (double)task.rounds * (double)task.passes * (shared ? 1 : tn_team_threads(engine->team));
        best = took > 0 && read / took > best ? read / took : best;
    }
    return best;
}

// Twice the last cache, which on a server can hold hundreds of MiB: else it is the cache that is read.
static size_t limits_memory_bytes(void) {
    size_t kib = 0;
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "re");
    if (file && fscanf(file, "%zuK", &kib) != 1)
        kib = 0;
    if (file)
        fclose(file);
    size_t bytes = kib < LIMITS_MOST_MEMORY / 2048 ? 2048 * kib : LIMITS_MOST_MEMORY;
    return bytes > LIMITS_MEMORY ? bytes / LIMITS_HUGE_PAGE * LIMITS_HUGE_PAGE : LIMITS_MEMORY;
}

static unsigned char *limits_buffer(size_t bytes) {
    bool large = bytes >= LIMITS_HUGE_PAGE;
    unsigned char *buffer = aligned_alloc(large ? LIMITS_HUGE_PAGE : 4096, bytes);
    if (buffer && large)
        madvise(buffer, bytes, MADV_HUGEPAGE);
    if (buffer)
        memset(buffer, 0x3c, bytes);       // as float 0.0115, as bf16 the same, as int8 60: sums stay small and no number is denormal
    return buffer;
}

double tn_limits_memory(const tn_engine *engine, size_t most, double seconds) {
    size_t bytes = limits_memory_bytes();
    if (bytes > most)
        bytes = most / LIMITS_HUGE_PAGE * LIMITS_HUGE_PAGE;
    unsigned char *memory = bytes ? limits_buffer(bytes) : NULL;
    double rate = memory ? limits_reading(engine, memory, bytes, true, seconds) : 0;
    free(memory);
    return rate;
}

void tn_limits_measure(const tn_engine *engine, double seconds, Limits *limits) {
    *limits = (Limits){0};
    size_t weights = 0, threads = (size_t)tn_team_threads(engine->team);
    const unsigned char *mapped = tn_blob_section(engine->blob, SECTION_WEIGHTS, &weights);
    if (engine->pager)
        mapped = NULL;                     // not in memory as a whole
    if (weights > LIMITS_MOST_WEIGHTS)
        weights = LIMITS_MOST_WEIGHTS;
    unsigned char *own = limits_buffer(threads * LIMITS_CACHE);
    for (int i = 0; own && i < engine->program->probe_count && limits->peak_count < LIMITS_MOST; i++) {
        const tn_probe *probe = &engine->program->probes[i];
        if (probe->operations > 0)
            limits->peaks[limits->peak_count++] = (LimitPeak){probe->name, limits_arithmetic(engine, probe, own, seconds)};
    }
    for (int i = 0; own && i < 2; i++) {
        limits->cache_bytes[i] = i ? LIMITS_CACHE : LIMITS_NEAR;
        limits->cache[i] = limits_reading(engine, own, (size_t)limits->cache_bytes[i], false, seconds);
    }
    free(own);
    limits->threads = (int)threads;
    if (mapped)
        limits->weights = limits_reading(engine, mapped, weights, true, seconds);
    limits->weights_bytes = limits->weights > 0 ? weights : 0;
    limits->memory = tn_limits_memory(engine, SIZE_MAX, seconds);
    limits->memory_bytes = limits->memory > 0 ? limits_memory_bytes() : 0;
}

double tn_limits_peak(const Limits *limits, const char *arithmetic) {
    for (int i = 0; i < limits->peak_count; i++)
        if (arithmetic && !strcmp(limits->peaks[i].name, arithmetic))
            return limits->peaks[i].operations;
    return 0;
}

double tn_limits_read(const Limits *limits, double bytes) {
    for (int i = 0; i < 2; i++)
        if (bytes <= (double)limits->cache_bytes[i] * limits->threads)
            return limits->cache[i];
    return limits->weights > limits->memory ? limits->weights : limits->memory;
}
