// The result of --bench as a table and as JSON. Under each table stands how its figures came about; in JSON every name says its unit.
#include "runtime/bench.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- a kernel against the machine ---------------------------------------------------------------------------------------------

typedef struct { double seconds, share, bytes, operations, fraction; const char *bound; } BenchKernel;

// What a round reads of weights and KV cache.
static double bench_memory(const Run *run, const BenchPhase *phase) {
    double bytes = 0;
    for (int k = 0; phase->work && k < run->engine->program->kernel_count; k++)
        bytes += phase->work[k].weight_bytes + phase->work[k].cache_bytes;
    return bytes;
}

// The least time that the machine's limits allow, as a share of the time it took. Weights and KV cache come from wherever the whole round's have
// room, which is memory for all but toys; operands and results of a call may have stayed in a cache.
static BenchKernel bench_kernel(const Run *run, const BenchResult *result, const BenchPhase *phase, int k) {
    const BenchWork *work = &phase->work[k];
    const Limits *limits = &result->limits;
    BenchKernel out = {.seconds = phase->kernel_time[k] / phase->kernel_rounds, .operations = work->operations, .bound = "none"};
    double peak = tn_limits_peak(limits, run->engine->program->kernels[k].arithmetic), least = 0;
    double total = phase->kernel_seconds / phase->kernel_rounds;
    double memory = work->weight_bytes + work->cache_bytes, read = tn_limits_read(limits, bench_memory(run, phase));
    double rows = work->calls > 0 ? tn_limits_read(limits, fmin(work->row_bytes / work->calls, (double)limits->cache_bytes[1])) : 0;
    double bounds[3] = {read > 0 ? memory / read : 0, peak > 0 ? out.operations / peak : 0, rows > 0 ? work->row_bytes / rows : 0};
    static const char *const names[] = {"memory", "arithmetic", "cache"};
    out.bytes = memory + work->row_bytes;
    for (int i = 0; i < 3; i++)
        if (bounds[i] > least) {
            least = bounds[i];
            out.bound = names[i];
        }
    if (out.seconds > 0) {
        out.fraction = least / out.seconds;
        out.share = total > 0 ? out.seconds / total : 0;
    }
    return out;
}

static double bench_rate(const BenchPhase *phase) { return phase->sequences * phase->tokens / phase->seconds; }

static double bench_per_second(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

// ---- text -----------------------------------------------------------------------------------------------------------------

static void bench_kernels_text(const Run *run, const BenchResult *result, const BenchPhase *phase) {
    double rest = phase->kernel_seconds / phase->kernel_rounds, total = rest;
    if (phase->decode)
        printf("\nOne step of %d sequence%s at context %d\n", phase->sequences, phase->sequences == 1 ? "" : "s", phase->context);
    else
        printf("\nOne prompt of %d tokens\n", phase->tokens);
    printf("%-34s %5s %10s %5s %9s %7s %9s %8s %7s %-10s  %s\n", "kernel", "calls", "us", "%", "MB", "GB/s", "Mop", "GOP/s", "limit %", "bound by",
           "what");
    for (int k = 0; k < run->engine->program->kernel_count; k++) {
        const tn_kernel_info *info = &run->engine->program->kernels[k];
        BenchKernel it = bench_kernel(run, result, phase, k);
        if (phase->work[k].calls <= 0)
            continue;
        printf("%-34s %5.0f %10.1f %5.1f %9.3f %7.1f ", info->name, phase->work[k].calls, it.seconds * 1e6, 100 * it.share, it.bytes * 1e-6,
               bench_per_second(it.bytes, it.seconds) * 1e-9);
        printf("%9.2f %8.1f %7.1f %-10s  %s\n", it.operations * 1e-6, bench_per_second(it.operations, it.seconds) * 1e-9, 100 * it.fraction, it.bound,
               info->what);
        rest -= it.seconds;
    }
    printf("%-34s %5s %10.1f %5.1f\n", "between kernels", "", rest * 1e6, total > 0 ? 100 * rest / total : 0);
    double memory = bench_memory(run, phase), read = tn_limits_read(&result->limits, memory);
    if (phase->decode && read > 0)
        printf("The step reads %.1f MB of weights and KV cache, without clocks at %.1f GB/s: %.1f %% of the read bandwidth.\n", memory * 1e-6,
               memory / phase->seconds * 1e-9, 100 * memory / phase->seconds / read);
}

static void bench_limits_text(const Limits *limits) {
    printf("\nLimits, measured in this process with the same threads\n");
    printf("read, memory      %8.1f GB/s   a buffer of %llu MiB\n", limits->memory * 1e-9, limits->memory_bytes >> 20);
    printf("read, weights     %8.1f GB/s   the mapped weights, %.1f MiB, again and again\n", limits->weights * 1e-9,
           (double)limits->weights_bytes / (1 << 20));
    for (int i = 1; i >= 0; i--)
        printf("read, cache       %8.1f GB/s   %llu KiB of each thread's own\n", limits->cache[i] * 1e-9, limits->cache_bytes[i] >> 10);
    for (int i = 0; i < limits->peak_count; i++)
        printf("%-6s arithmetic %8.1f GOP/s  from registers\n", limits->peaks[i].name, limits->peaks[i].operations * 1e-9);
    puts("Each limit is the best of its repetitions. A kernel's time is the mean of its threads' and of rounds run with clocks; bytes and\n"
         "operations are counted from the model: each weight and cached position once a call, and the rows that go in and come out. Its limit is\n"
         "the longest of three times: weights and cached positions at the better read bandwidth of memory and weights (at a cache's, when all of\n"
         "the round's fit there), rows at a cache's, operations at the peak of the arithmetic it multiplies in. The percentage is that limit in\n"
         "parts of the time: work done twice, or a wait, makes it smaller.");
}

static void bench_text(const Run *run, const BenchResult *result) {
    printf("%s, %s, %d threads\n", run->engine->program->model, run->engine->program->target, tn_threads(run->engine));
    printf("first step  %8.3f s      from the start, a prompt of %d tokens\n", result->first_seconds, result->first_tokens);
    for (int i = 0; i < result->phase_count; i++) {
        const BenchPhase *phase = &result->phases[i];
        double size = phase->sequences * phase->tokens;
        int count = phase->decode ? phase->sequences : phase->tokens;
        printf("%-11s %8.1f tok/s  %d %s%s", phase->decode ? "decode" : "prefill", bench_rate(phase), count, phase->decode ? "sequence" : "token",
               count == 1 ? "" : "s");
        printf(phase->decode ? " at context %d (%.1f … %.1f, %d steps)" : ", context %d (%.1f … %.1f, %d prompts)", phase->context,
               size / phase->most, size / phase->least, phase->rounds);
        if (phase->decode)
            printf(", a step %.2f ms, 99 %% within %.2f ms", phase->seconds * 1e3, phase->p99 * 1e3);
        putchar('\n');
    }
    printf("peak        %8.1f MiB\n", (double)result->peak_kib / 1024);
    printf("Medians, with the slowest and the fastest. A prompt's last token alone has its logits computed; a step draws its tokens too.\n");
    for (int i = 0; result->has_limits && i < result->phase_count; i++)
        bench_kernels_text(run, result, &result->phases[i]);
    if (result->has_limits)
        bench_limits_text(&result->limits);
}

// ---- JSON -----------------------------------------------------------------------------------------------------------------

static void bench_key(const char *key, const char *text) {
    printf("\"%s\": ", key);
    tn_json_string(stdout, text, strlen(text));
}

static void bench_number(const char *key, double number) {
    printf(", \"%s\": ", key);
    tn_json_number(stdout, number);
}

static void bench_kernels_json(const Run *run, const BenchResult *result, const BenchPhase *phase) {
    const char *between = "";
    bench_number("kernel_rounds", phase->kernel_rounds);
    bench_number("kernel_round_seconds", phase->kernel_seconds / phase->kernel_rounds);
    double memory = bench_memory(run, phase), read = tn_limits_read(&result->limits, memory);
    bench_number("memory_bytes", memory);
    if (read > 0)
        bench_number("fraction_of_read_bandwidth", memory / phase->seconds / read);
    fputs(", \"kernels\": [", stdout);
    for (int k = 0; k < run->engine->program->kernel_count; k++) {
        const tn_kernel_info *info = &run->engine->program->kernels[k];
        BenchKernel it = bench_kernel(run, result, phase, k);
        if (phase->work[k].calls <= 0)
            continue;
        printf("%s\n{", between);
        bench_key("name", info->name);
        fputs(", ", stdout);
        bench_key("what", info->what);
        bench_number("calls", phase->work[k].calls);
        bench_number("seconds", it.seconds);
        bench_number("share_of_round", it.share);
        bench_number("weight_bytes", phase->work[k].weight_bytes);
        bench_number("cache_bytes", phase->work[k].cache_bytes);
        bench_number("row_bytes", phase->work[k].row_bytes);
        bench_number("operations", it.operations);
        bench_number("bytes_per_second", bench_per_second(it.bytes, it.seconds));
        bench_number("operations_per_second", bench_per_second(it.operations, it.seconds));
        fputs(", ", stdout);
        if (info->arithmetic)
            bench_key("arithmetic", info->arithmetic);
        else
            fputs("\"arithmetic\": null", stdout);
        fputs(", ", stdout);
        bench_key("bound", it.bound);
        bench_number("fraction_of_limit", it.fraction);
        putchar('}');
        between = ",";
    }
    putchar(']');
}

static void bench_phase_json(const Run *run, const BenchResult *result, const BenchPhase *phase) {
    double size = phase->sequences * phase->tokens;
    printf("{\"phase\": \"%s\", \"sequences\": %d, \"context\": %d, ", phase->decode ? "decode" : "prefill", phase->sequences, phase->context);
    printf("\"tokens_per_sequence\": %d, \"rounds\": %d", phase->tokens, phase->rounds);
    bench_number("seconds", phase->seconds);
    bench_number("p99_seconds", phase->p99);
    bench_number("tokens_per_second", bench_rate(phase));
    bench_number("least_tokens_per_second", size / phase->most);
    bench_number("most_tokens_per_second", size / phase->least);
    if (result->has_limits)
        bench_kernels_json(run, result, phase);
    putchar('}');
}

static void bench_limits_json(const Limits *limits) {
    printf(",\n\"limits\": {\"memory_buffer_bytes\": %llu, \"weights_buffer_bytes\": %llu", limits->memory_bytes, limits->weights_bytes);
    printf(", \"near_cache_buffer_bytes_per_thread\": %llu, \"cache_buffer_bytes_per_thread\": %llu", limits->cache_bytes[0], limits->cache_bytes[1]);
    bench_number("memory_read_bytes_per_second", limits->memory);
    bench_number("weights_read_bytes_per_second", limits->weights);
    bench_number("near_cache_read_bytes_per_second", limits->cache[0]);
    bench_number("cache_read_bytes_per_second", limits->cache[1]);
    fputs(", \"operations_per_second\": {", stdout);
    for (int i = 0; i < limits->peak_count; i++) {
        fputs(i ? ", " : "", stdout);
        tn_json_string(stdout, limits->peaks[i].name, strlen(limits->peaks[i].name));
        printf(": ");
        tn_json_number(stdout, limits->peaks[i].operations);
    }
    fputs("}}", stdout);
}

static void bench_json(const Run *run, const BenchResult *result) {
    putchar('{');
    bench_key("model", run->engine->program->model);
    fputs(", ", stdout);
    bench_key("target", run->engine->program->target);
    printf(", \"threads\": %d", tn_threads(run->engine));
    bench_number("first_step_seconds", result->first_seconds);
    bench_number("first_step_tokens", result->first_tokens);
    printf(", \"weights_bytes\": %llu, \"peak_bytes\": %lld", run->engine->program->weights_bytes, (long long)result->peak_kib * 1024);
    fputs(",\n\"phases\": [", stdout);
    for (int i = 0; i < result->phase_count; i++) {
        fputs(i ? ",\n" : "", stdout);
        bench_phase_json(run, result, &result->phases[i]);
    }
    putchar(']');
    if (result->has_limits)
        bench_limits_json(&result->limits);
    puts("}");
}

void tn_bench_print(const Run *run, const BenchResult *result) {
    if (run->options->json)
        bench_json(run, result);
    else
        bench_text(run, result);
}
