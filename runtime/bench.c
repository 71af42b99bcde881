// --bench: how fast prompts are read, how fast one sequence and several are continued; with --kernels what each kernel does of it, and how near that
// is to what this machine can do.
//
// A figure is the median of its rounds, so that a neighbour's burst of work does not become the result; the first step, which brings the weights into
// memory, is reported by itself and is part of no median. Kernels are timed in rounds of their own, after the others, because clocks cost time
// too. What they had to read and compute is counted from the model (codegen/cost.c), not measured. Tokens are drawn greedily from fixed prompts.
#include "runtime/bench.h"
#include <stdlib.h>
#include <string.h>
#include "runtime/progress.h"

enum { BENCH_PREFILL = 512, BENCH_CONTEXT = 160, BENCH_FIRST = 16, BENCH_ROUNDS = 5, BENCH_STEPS = 32, BENCH_LATENCY = 128, BENCH_QUICK = 4, BENCH_MOST = 16 };
static const int bench_batches[] = {1, 2, 4, 8, BENCH_MOST};
static const double bench_seconds = 3;      // what takes longer is repeated less, but at least twice
static const double bench_latency_seconds = 20;   // … where the worst of 100 tokens is asked for

typedef struct { Run *run; BenchResult *result; Progress progress; int done, total; } Bench;

static int bench_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void bench_take(BenchPhase *phase, double *times, int count) {
    qsort(times, (size_t)count, sizeof *times, bench_compare);
    phase->rounds = count;
    phase->seconds = count % 2 ? times[count / 2] : (times[count / 2 - 1] + times[count / 2]) / 2;
    phase->least = times[0];
    phase->most = times[count - 1];
    phase->p99 = times[(count * 99 + 99) / 100 - 1];
}

static void bench_progress(Bench *bench) { tn_progress_show(&bench->progress, (uint64_t)bench->done++, (uint64_t)bench->total); }

static int bench_limit(const tn_engine *engine) {
    int limit = engine->program->input_limits ? engine->program->input_limits[0] : 0;
    if (!limit)
        limit = engine->tokenizer ? tokenizer_count(engine->tokenizer) : engine->program->out_width;
    return limit > 0 ? limit : 1;
}

int tn_bench_tokens(tn_engine *engine, int sequence, int count, int seed, tn_failure *failure) {
    int limit = bench_limit(engine);
    for (int i = 0; i < count; i++) {
        int id = (int)(((unsigned)(i + seed * 31) * 7919u + 13u) % (unsigned)limit);
        if (tn_add(engine, sequence, &id, 1, i == count - 1 ? TN_WANT_LAST : TN_WANT_NONE, failure))
            return -1;
    }
    return 0;
}

int tn_bench_drain(tn_engine *engine, tn_failure *failure) {
    while (tn_pending(engine))
        if (tn_run(engine, failure) < 0)
            return -1;
    return 0;
}

static int bench_sequence(Run *run, int count, int seed) {
    int sequence = tn_sequence_new(run->engine, &run->failure);
    return sequence < 0 || tn_bench_tokens(run->engine, sequence, count, seed, &run->failure) ? -1 : sequence;
}

static double bench_since(unsigned long long from) { return (double)(tn_now() - from) * 1e-9; }

// ---- what a phase's kernels must do ---------------------------------------------------------------------------------------

// One step of `tokens` tokens of each of `sequences`, the first at position `start`; `rows`: how many outputs of a sequence are asked for.
static void bench_count(const tn_program *program, const tn_kernel_info *info, BenchWork *work, int sequences, int start, int tokens, int rows) {
    double units = info->per == TN_PER_ROW ? (double)rows * sequences : info->per == TN_PER_SEQUENCE ? sequences : (double)tokens * sequences;
    double matrices = 1, seen = 0, end = start + tokens, oldest = 0;
    if (units <= 0)
        return;
    if (info->experts > 0) {           // how many experts n tokens choose among them, at random
        double missed = 1, one = 1 - (double)info->slots / info->experts;
        for (int i = 0; i < tokens * sequences && missed > 1e-9; i++)
            missed *= one;
        matrices = info->experts * (1 - missed);
        units *= info->slots;
    }
    if (info->cache_bytes > 0) {
        for (int t = 0; t < tokens; t++) {
            int visible = program->causal ? start + t + 1 : (int)end;
            seen += info->window && visible > info->window ? info->window : visible;
        }
        oldest = info->window && start + 1 > info->window ? start + 1 - info->window : 0;
    }
    work->calls += info->calls;
    work->weight_bytes += info->calls * info->weight_bytes * matrices;
    work->cache_bytes += info->calls * info->cache_bytes * (end - oldest) * sequences;
    work->row_bytes += info->calls * info->row_bytes * units;
    work->operations += info->calls * (info->operations * units + info->cache_operations * seen * sequences);
}

static int bench_work(const Run *run, BenchPhase *phase) {
    const tn_program *program = run->engine->program;
    int start = phase->decode ? phase->context - 1 : 0, chunk = phase->decode ? 1 : run->engine->chunk;
    phase->work = calloc((size_t)program->kernel_count + 1, sizeof *phase->work);
    for (int k = 0; phase->work && k < program->kernel_count; k++)
        for (int done = 0; done < phase->tokens; done += chunk) {
            int tokens = phase->tokens - done < chunk ? phase->tokens - done : chunk;
            bench_count(program, &program->kernels[k], &phase->work[k], phase->sequences, start + done, tokens, done + tokens == phase->tokens);
        }
    return phase->work ? 0 : -1;
}

// Each kernel's time is the mean of its threads': kernels that wait for nothing of each other run side by side, each on some of the threads.
static int bench_take_kernels(Run *run, BenchPhase *phase) {
    int count = run->engine->program->kernel_count, threads = tn_threads(run->engine);
    unsigned long long *times = run->engine->kernel_ns;
    run->engine->kernel_ns = NULL;
    phase->kernel_time = calloc((size_t)count + 1, sizeof *phase->kernel_time);
    for (int k = 0; phase->kernel_time && k < count; k++)
        for (int t = 0; t < threads; t++)
            phase->kernel_time[k] += (double)times[(size_t)t * (size_t)count + (size_t)k] * 1e-9 / threads;
    free(times);
    if (!phase->kernel_time || bench_work(run, phase))
        return tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for the times of %d kernels", count);
    return 0;
}

// ---- phases ---------------------------------------------------------------------------------------------------------------

static int bench_prompt(Run *run, int tokens, double *seconds) {
    int sequence = bench_sequence(run, tokens, 0);
    if (sequence < 0)
        return -1;
    unsigned long long began = tn_now();
    if (tn_bench_drain(run->engine, &run->failure))
        return -1;
    *seconds = bench_since(began);
    tn_sequence_free(run->engine, sequence);
    return 0;
}

static int bench_prefill(Bench *bench) {
    Run *run = bench->run;
    const RunOptions *options = run->options;
    double times[BENCH_ROUNDS], total = 0, took;
    int wanted = options->prefill ? options->prefill : BENCH_PREFILL, most = options->quick ? 2 : BENCH_ROUNDS, count = 0;
    BenchPhase *phase = &bench->result->phases[bench->result->phase_count++];
    phase->tokens = tn_context(run->engine) < wanted ? tn_context(run->engine) : wanted;
    if (!run->engine->program->causal && phase->tokens > run->engine->program->max_tokens)
        phase->tokens = run->engine->program->max_tokens;
    phase->context = phase->tokens;
    phase->sequences = 1;
    while (count < most && (count < 2 || total < bench_seconds)) {
        if (bench_prompt(run, phase->tokens, &times[count]))
            return -1;
        total += times[count++];
        bench_progress(bench);
    }
    bench_take(phase, times, count);
    if (!options->kernels)
        return 0;
    if (tn_engine_time_kernels(run->engine, &run->failure))
        return -1;
    for (phase->kernel_rounds = 0; phase->kernel_rounds < 2; phase->kernel_rounds++, phase->kernel_seconds += took)
        if (bench_prompt(run, phase->tokens, &took))
            return -1;
    return bench_take_kernels(run, phase);
}

// One step of every sequence, and the tokens drawn from it that the next will run.
static int bench_step(Run *run, int *next, const int *sequences, int batch, double *seconds) {
    static const tn_sampling greedy = {0};
    unsigned long long began = tn_now();
    for (int i = 0; i < batch; i++)
        if (tn_add(run->engine, sequences[i], &next[i], 1, TN_WANT_LAST, &run->failure))
            return -1;
    if (tn_bench_drain(run->engine, &run->failure))
        return -1;
    for (int r = 0; r < run->engine->step.row_count; r++)
        for (int i = 0; i < batch; i++)
            if (tn_rows(run->engine)[r].sequence == sequences[i])
                next[i] = tn_sample(run->engine, sequences[i], tn_rows(run->engine)[r].values, &greedy);
    *seconds = bench_since(began);
    return 0;
}

static int bench_steps(Bench *bench, BenchPhase *phase, const int *sequences, int most) {
    Run *run = bench->run;
    double times[BENCH_LATENCY], total = 0, took, seconds = run->options->latency > 0 && phase->sequences == 1 ? bench_latency_seconds : bench_seconds;
    int next[BENCH_MOST] = {0}, count = 0;
    while (count < most && (count < 2 || total < seconds)) {
        if (bench_step(run, next, sequences, phase->sequences, &times[count]))
            return -1;
        total += times[count++];
    }
    bench_take(phase, times, count);
    bench_progress(bench);
    if (!run->options->kernels)
        return 0;
    for (int i = 0; i < phase->sequences; i++)      // back to where the timed steps began, so that the kernels see the same contexts
        if (tn_trim(run->engine, sequences[i], tn_length(run->engine, sequences[i]) - count, &run->failure))
            return -1;
    if (tn_engine_time_kernels(run->engine, &run->failure))
        return -1;
    for (phase->kernel_rounds = 0; phase->kernel_rounds < count; phase->kernel_rounds++, phase->kernel_seconds += took)
        if (bench_step(run, next, sequences, phase->sequences, &took))
            return -1;
    return bench_take_kernels(run, phase);
}

static int bench_decode(Bench *bench, int batch, int context) {
    Run *run = bench->run;
    BenchPhase *phase = &bench->result->phases[bench->result->phase_count++];
    int sequences[BENCH_MOST], steps = run->options->quick ? BENCH_QUICK : BENCH_STEPS, room = tn_context(run->engine);
    if (run->options->latency > 0 && batch == 1 && !run->options->quick)
        steps = room - 4 < BENCH_LATENCY ? room - 4 : BENCH_LATENCY;
    if (context > room - steps / 2)
        context = room - steps / 2;
    int before = context - steps / 2 > 1 ? context - steps / 2 : 1;
    *phase = (BenchPhase){.decode = true, .sequences = batch, .context = before + steps / 2, .tokens = 1};
    for (int i = 0; i < batch; i++)
        if ((sequences[i] = bench_sequence(run, before, i)) < 0)
            return -1;
    while (tn_pending(run->engine)) {
        if (tn_run(run->engine, &run->failure) < 0)
            return -1;
        tn_progress_show(&bench->progress, (uint64_t)bench->done, (uint64_t)bench->total);
    }
    if (bench_steps(bench, phase, sequences, steps))
        return -1;
    for (int i = 0; i < batch; i++)
        tn_sequence_free(run->engine, sequences[i]);
    return 0;
}

static long bench_peak(void) {
    FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    long peak = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %ld", &peak) == 1)
            break;
    if (file)
        fclose(file);
    return peak;
}

static int bench_measure(Bench *bench) {
    Run *run = bench->run;
    BenchResult *result = bench->result;
    const RunOptions *options = run->options;
    int context = tn_context(run->engine), most = options->batches ? options->batches : BENCH_MOST;
    const int count = (int)(sizeof bench_batches / sizeof *bench_batches);
    double took;
    result->first_tokens = context < BENCH_FIRST ? context : BENCH_FIRST;
    if (bench_prompt(run, result->first_tokens, &took))
        return -1;
    result->first_seconds = bench_since(run->began_ns);
    if (bench_prefill(bench))
        return -1;
    bool decodes = run->engine->program->out_kind == TN_PER_ROW && run->engine->program->causal && context >= BENCH_STEPS + 4;
    if (run->engine->program->max_sequences < most)
        most = run->engine->program->max_sequences;
    for (int i = 0; decodes && i < count; i++)
        if (bench_batches[i] <= most && bench_decode(bench, bench_batches[i], BENCH_CONTEXT))
            return -1;
    if (decodes && options->decode_at && bench_decode(bench, 1, options->decode_at))
        return -1;
    result->peak_kib = bench_peak();        // before the limits' own buffers
    result->has_limits = options->kernels;
    if (options->kernels)
        tn_limits_measure(run->engine, options->quick ? 0.1 : 0.25, &result->limits);
    return 0;
}

// --latency: 99 of 100 tokens of one sequence must come in time.
static int bench_in_time(Run *run, const BenchResult *result) {
    double bound = run->options->latency;
    for (int i = 0; i < result->phase_count && bound > 0; i++) {
        const BenchPhase *phase = &result->phases[i];
        if (phase->decode && phase->sequences == 1 && phase->p99 * 1e3 > bound)
            return tn_fail(&run->failure, TN_BAD_MACHINE, "a token takes %.2f ms, and 99 of 100 take at most %.2f ms: more than --latency %g, at context %d",
                           phase->seconds * 1e3, phase->p99 * 1e3, bound, phase->context);
    }
    return 0;
}

int tn_run_bench(Run *run) {
    BenchResult result = {0};
    Bench bench = {.run = run, .result = &result, .total = BENCH_ROUNDS + (int)(sizeof bench_batches / sizeof *bench_batches) + 2};
    tn_progress_begin(&bench.progress, "measuring");
    int failed = bench_measure(&bench);
    tn_progress_end(&bench.progress);
    if (!failed)
        tn_bench_print(run, &result);
    for (int i = 0; i < result.phase_count; i++) {
        free(result.phases[i].kernel_time);
        free(result.phases[i].work);
    }
    return failed || tn_run_flush(run) || bench_in_time(run, &result) ? -1 : 0;
}
