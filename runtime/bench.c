// --bench: how fast prompts are read, how fast one sequence and several are continued. Each figure is the median of its repetitions, so that a
// neighbour's burst of work does not become the result. Tokens are drawn greedily from fixed prompts; the first step, which brings the weights into memory,
// is reported by itself and is not part of any median.
#include "runtime/run.h"
#include <stdlib.h>
#include <string.h>

enum { BENCH_PREFILL = 512, BENCH_REPEAT = 5, BENCH_PROMPT = 16, BENCH_STEPS = 32, BENCH_BATCHES = 4 };
static const int bench_batches[BENCH_BATCHES] = {1, 4, 8, 16};
static const double bench_seconds = 4;      // a measurement that takes longer is repeated less, but at least twice

typedef struct {
    int prompt;
    double first_seconds, prefill;                               // prefill: tokens a second
    int batches; double decode[BENCH_BATCHES];                   // tokens a second, of all sequences
    unsigned long long *prefill_ns, *decode_ns;                  // of each kernel, NULL without --kernels
    int prefill_steps, decode_steps;
    long peak_kib;
} BenchResult;

static int bench_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double bench_median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, bench_compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static int bench_limit(const Run *run) {
    int limit = run->program->input_limits ? run->program->input_limits[0] : 0;
    if (!limit)
        limit = run->engine->tokenizer ? tokenizer_count(run->engine->tokenizer) : run->program->out_width;
    return limit > 0 ? limit : 1;
}

// A sequence of `count` fixed tokens, queued.
static int bench_sequence(Run *run, int count, int seed) {
    int sequence = tn_sequence_new(run->engine, &run->failure), limit = bench_limit(run);
    for (int i = 0; i < count && sequence >= 0; i++) {
        int id = (int)(((unsigned)(i + seed * 31) * 7919u + 13u) % (unsigned)limit);
        if (tn_add(run->engine, sequence, &id, 1, i == count - 1 ? TN_WANT_LAST : TN_WANT_NONE, &run->failure))
            return -1;
    }
    return sequence;
}

// Runs until nothing waits; the number of steps, or -1.
static int bench_drain(Run *run) {
    int steps = 0;
    for (; tn_pending(run->engine); steps++)
        if (tn_run(run->engine, &run->failure) < 0)
            return -1;
    return steps;
}

static double bench_since(unsigned long long from) { return (double)(tn_now() - from) * 1e-9; }

static void bench_take_kernels(Run *run, unsigned long long **into) {
    *into = run->engine->kernel_ns;
    run->engine->kernel_ns = NULL;
}

static int bench_prefill(Run *run, BenchResult *result) {
    double times[BENCH_REPEAT], total = 0;
    int count = 0;
    result->prompt = tn_context(run->engine) < BENCH_PREFILL ? tn_context(run->engine) : BENCH_PREFILL;
    if (!run->program->causal && result->prompt > run->program->max_tokens)
        result->prompt = run->program->max_tokens;
    if (run->options->kernels && tn_engine_time_kernels(run->engine, &run->failure))
        return -1;
    while (count < BENCH_REPEAT && (count < 2 || total < bench_seconds)) {
        int sequence = bench_sequence(run, result->prompt, 0), steps;
        if (sequence < 0)
            return -1;
        unsigned long long began = tn_now();
        if ((steps = bench_drain(run)) < 0)
            return -1;
        total += times[count++] = bench_since(began);
        result->prefill_steps += steps;
        tn_sequence_free(run->engine, sequence);
    }
    bench_take_kernels(run, &result->prefill_ns);
    result->prefill = result->prompt / bench_median(times, count);
    return 0;
}

// One step of every sequence: its token drawn from its last row, then run.
static int bench_step(Run *run, const int *next, const int *sequences, int batch) {
    for (int i = 0; i < batch; i++)
        if (tn_add(run->engine, sequences[i], &next[i], 1, TN_WANT_LAST, &run->failure))
            return -1;
    return bench_drain(run);
}

static int bench_decode(Run *run, int batch, double *rate, int *steps_run) {
    static const tn_sampling greedy = {0};
    int sequences[16], next[16] = {0}, room = tn_context(run->engine) - BENCH_PROMPT, steps = room < BENCH_STEPS ? room : BENCH_STEPS, count = 0;
    double times[BENCH_STEPS], total = 0;
    for (int i = 0; i < batch; i++)
        if ((sequences[i] = bench_sequence(run, BENCH_PROMPT, i)) < 0)
            return -1;
    if (bench_drain(run) < 0)
        return -1;
    while (count < steps && (count < 4 || total < bench_seconds)) {
        unsigned long long began = tn_now();
        int ran = bench_step(run, next, sequences, batch);
        if (ran < 0)
            return -1;
        for (int r = 0; r < run->engine->step.row_count; r++)
            for (int i = 0; i < batch; i++)
                if (tn_rows(run->engine)[r].sequence == sequences[i])
                    next[i] = tn_sample(run->engine, sequences[i], tn_rows(run->engine)[r].values, &greedy);
        total += times[count++] = bench_since(began);
        *steps_run += ran;
    }
    for (int i = 0; i < batch; i++)
        tn_sequence_free(run->engine, sequences[i]);
    *rate = batch / bench_median(times, count);
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

static int bench_measure(Run *run, BenchResult *result) {
    int start = tn_context(run->engine) < BENCH_PROMPT ? tn_context(run->engine) : BENCH_PROMPT, sequence = bench_sequence(run, start, 0);
    if (sequence < 0 || bench_drain(run) < 0)
        return -1;
    result->first_seconds = bench_since(run->began_ns);
    tn_sequence_free(run->engine, sequence);
    if (bench_prefill(run, result))
        return -1;
    bool decodes = run->program->out_kind == TN_PER_ROW && run->program->causal && tn_context(run->engine) >= BENCH_PROMPT + 4;
    for (int i = 0; decodes && i < BENCH_BATCHES && bench_batches[i] <= run->program->max_sequences; i++) {
        int steps = 0;
        if (i == 0 && run->options->kernels && tn_engine_time_kernels(run->engine, &run->failure))
            return -1;
        if (bench_decode(run, bench_batches[i], &result->decode[i], &steps))
            return -1;
        if (i == 0) {
            result->decode_steps = steps + 1;                    // and the one of its prompt
            bench_take_kernels(run, &result->decode_ns);
        }
        result->batches++;
    }
    result->peak_kib = bench_peak();
    return 0;
}

// ---- printing -------------------------------------------------------------------------------------------------------------

static double bench_share(const unsigned long long *times, int kernel, int count) {
    double total = 0;
    for (int i = 0; i < count; i++)
        total += (double)times[i];
    return total > 0 ? (double)times[kernel] / total : 0;
}

static double bench_us(const unsigned long long *times, int kernel, int steps) { return times && steps ? (double)times[kernel] * 1e-3 / steps : 0; }

// Microseconds are of one step; GB/s is what its weights make of the decode time.
static void bench_kernels_text(const Run *run, const BenchResult *result) {
    int count = run->program->kernel_count;
    printf("\n%-34s %5s %12s %6s %12s %6s %8s  %s\n", "kernel", "calls", "prefill us", "%", "decode us", "%", "GB/s", "what");
    for (int i = 0; i < count; i++) {
        const tn_kernel_info *info = &run->program->kernels[i];
        double decode = bench_us(result->decode_ns, i, result->decode_steps);
        printf("%-34s %5d %12.1f %6.1f %12.1f %6.1f %8.1f  %s\n", info->name, info->calls, bench_us(result->prefill_ns, i, result->prefill_steps),
               100 * bench_share(result->prefill_ns, i, count), decode, result->decode_ns ? 100 * bench_share(result->decode_ns, i, count) : 0,
               decode > 0 ? info->weight_bytes * info->calls / decode * 1e-3 : 0, info->what);
    }
}

static void bench_text(const Run *run, const BenchResult *result) {
    printf("%s, %s, %d threads\n", run->program->model, run->program->target, tn_threads(run->engine));
    printf("first step  %8.3f s      from the start, a prompt of %d tokens\n", result->first_seconds, BENCH_PROMPT);
    printf("prefill     %8.1f tok/s  %d tokens\n", result->prefill, result->prompt);
    for (int i = 0; i < result->batches; i++)
        printf("decode      %8.1f tok/s  %d sequence%s\n", result->decode[i], bench_batches[i], bench_batches[i] == 1 ? "" : "s");
    printf("peak        %8.1f MiB\n", (double)result->peak_kib / 1024);
    if (result->prefill_ns)
        bench_kernels_text(run, result);
}

static void bench_json(const Run *run, const BenchResult *result) {
    fputs("{\"model\": ", stdout);
    tn_json_string(stdout, run->program->model, strlen(run->program->model));
    fputs(", \"target\": ", stdout);
    tn_json_string(stdout, run->program->target, strlen(run->program->target));
    printf(", \"threads\": %d, \"first_step_seconds\": %.6f, \"prefill_tokens\": %d, \"prefill_tokens_per_second\": %.3f, \"decode\": [",
           tn_threads(run->engine), result->first_seconds, result->prompt, result->prefill);
    for (int i = 0; i < result->batches; i++)
        printf("%s{\"sequences\": %d, \"tokens_per_second\": %.3f}", i ? ", " : "", bench_batches[i], result->decode[i]);
    printf("], \"weights_bytes\": %llu, \"peak_bytes\": %lld", run->program->weights_bytes, (long long)result->peak_kib * 1024);
    for (int i = 0; result->prefill_ns && i < run->program->kernel_count; i++) {
        const tn_kernel_info *info = &run->program->kernels[i];
        fputs(i ? ",\n{\"name\": " : ", \"kernels\": [\n{\"name\": ", stdout);
        tn_json_string(stdout, info->name, strlen(info->name));
        fputs(", \"what\": ", stdout);
        tn_json_string(stdout, info->what, strlen(info->what));
        printf(", \"calls\": %d, \"weight_bytes\": %.0f, \"operations\": %.0f, \"prefill_us\": %.3f, \"decode_us\": %.3f}", info->calls,
               info->weight_bytes, info->operations, bench_us(result->prefill_ns, i, result->prefill_steps),
               bench_us(result->decode_ns, i, result->decode_steps));
    }
    puts(result->prefill_ns && run->program->kernel_count ? "]}" : "}");
}

int tn_run_bench(Run *run) {
    BenchResult result = {0};
    int failed = bench_measure(run, &result);
    if (!failed && run->options->json)
        bench_json(run, &result);
    else if (!failed)
        bench_text(run, &result);
    free(result.prefill_ns);
    free(result.decode_ns);
    return failed || tn_run_flush(run) ? -1 : 0;
}
