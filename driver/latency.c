// The time of a token, predicted before anything is packed and measured afterwards.
//
// A step of one token reads: each weight that it needs once, and the KV cache. So its time is these bytes by the rate at which this machine reads memory,
// of which kernels reach a part, and a little for each kernel. Where the weights have more bytes than there is memory, experts are paged: then also the
// bytes that are expected to be missing, by the rate of the disk. The plan of a program says all these bytes, so each format is taken as far as its plan.
// Bytes are what a format is chosen by; its arithmetic is never the bound of one token where it is worth choosing. The compiled program is measured, and
// where the prediction was too good the next format is tried.
#include "driver/latency.h"
#include "driver/build.h"
#include "driver/child.h"

#include "codegen/plan.h"
#include "frontend/json.h"
#include "runtime/limits.h"
#include "runtime/pager.h"
#include "runtime/reader.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEEN = 1024, PROBE_BYTES = 4096, DISK_BYTES = 64 << 20, BENCH_TEXT = 1 << 20 };   // SEEN: positions of the KV cache that a token sees
static const double reached = 0.7, kernel_seconds = 5e-6, margin = 0.9, probe_seconds = 0.2, memory_share = 0.9;

// From the best on. 16 bits are bf16 where the target multiplies that.
static const char *const formats[] = {"16", "w8a8", "w6a8", "w5a8", "w4a8"};

static const char *format_name(const BuildOptions *options, int i) {
    Diags *quiet = diags_new();
    const Target *target = build_target(options, quiet);
    diags_free(quiet);
    return i > 0 ? formats[i] : target && (target->dot_bf16 || target->tile_bf16) ? "bf16" : "f16";
}

// ---- this machine -----------------------------------------------------------------------------------------------------------

static unsigned read_bytes(const unsigned char *from, long rounds) {
    uint64_t sums[8] = {0};
    for (const uint64_t *at = (const uint64_t *)(const void *)from, *end = at + rounds * (PROBE_BYTES / 8); at < end; at += 8)
        for (int i = 0; i < 8; i++) sums[i] ^= at[i];
    uint64_t all = 0;
    for (int i = 0; i < 8; i++) all ^= sums[i];
    return (unsigned)(all ^ all >> 32);
}

static double memory_rate(uint64_t left) {
    tn_failure failure = {0};
    static const tn_probe probe = {.name = "read", .bytes = PROBE_BYTES, .run = read_bytes};
    tn_program program = {.probes = &probe, .probe_count = 1};
    tn_engine engine = {.program = &program, .team = tn_team_new(0, &failure)};
    double rate = engine.team ? tn_limits_memory(&engine, (size_t)(left / 4), probe_seconds) : 0;
    tn_team_free(engine.team);
    return rate;
}

// By the first piece of the largest weight file: where the compiled one will lie is not known yet.
static double disk_rate(const Provider *weights) {
    const TensorInfo *largest = NULL;
    for (int i = 0; weights && i < weights->count; i++)
        if (weights->tensors[i].file && (!largest || weights->tensors[i].offset > largest->offset)) largest = &weights->tensors[i];
    int fd = largest ? open(largest->file, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    tn_failure failure = {0};
    uint64_t bytes = largest->offset / 4096 * 4096 < DISK_BYTES ? largest->offset / 4096 * 4096 : DISK_BYTES;
    Reader *reader = bytes ? tn_reader_new(fd, largest->file, &failure) : NULL;
    ReadJob job = {.to = reader ? aligned_alloc(4096, bytes) : NULL, .bytes = bytes}, *wait = &job;
    double began = seconds_now(), took = 0;
    if (job.to) {
        tn_reader_start(reader, &job, READ_NOW);
        tn_reader_wait(reader, &wait, 1);
        if (tn_reader_check(reader, &failure) == 0) took = seconds_now() - began;
    }
    tn_reader_free(reader);
    free(job.to);
    close(fd);
    return took > 0 ? (double)bytes / took : 0;
}

static uint64_t number_in(const char *path, const char *key) {
    FILE *file = fopen(path, "re");
    char line[256];
    unsigned long long number = UINT64_MAX;
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%llu", &number) == 1) break;
    if (file) fclose(file);
    return number;
}

// The smallest bound of a control group and those above it.
static uint64_t group_bound(const char *hierarchy, const char *name, char *group) {
    uint64_t least = UINT64_MAX;
    for (char *slash = group + strlen(group); slash; slash = strrchr(group, '/')) {
        char path[800];
        *slash = 0;
        snprintf(path, sizeof path, "/sys/fs/cgroup%s%s/%s", hierarchy, group, name);
        uint64_t bound = number_in(path, "");
        least = bound < least ? bound : least;
    }
    return least;
}

// What a process may take: of the machine, and of the control groups it is in, of both hierarchies ("0::/path", "4:memory:/path").
static uint64_t memory_left(void) {
    uint64_t kib = number_in("/proc/meminfo", "MemAvailable:"), least = kib < UINT64_MAX / 1024 ? kib * 1024 : UINT64_MAX;
    char line[512];
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0, controllers++;
        group[strcspn(group, "\n")] = 0;
        uint64_t bound = !*controllers                        ? group_bound("", "memory.max", group)
                         : strcmp(controllers, "memory") == 0 ? group_bound("/memory", "memory.limit_in_bytes", group)
                                                              : UINT64_MAX;
        least = bound < least ? bound : least;
    }
    if (file) fclose(file);
    return least;
}

// ---- a token ----------------------------------------------------------------------------------------------------------------

typedef struct { double memory, disk; uint64_t left; } Rates;   // bytes a second; bytes
typedef struct { double bytes, missing, seconds; uint64_t budget; bool fits; } Token;   // budget: what paging is given; 0: there is none

static void count_bytes(const Plan *plan, Token *token, double *calls, tn_kernel_info *experts) {
    int64_t seen = plan->module->context < SEEN ? plan->module->context : SEEN;
    for (int i = 0; i < plan->module->func_count; i++) {
        const FuncPlan *f = &plan->funcs[i];
        if (!f->kernel) continue;
        double times = f->calls * (f->experts ? (double)f->experts_chosen : 1), window = f->cost.window;
        token->bytes += times * f->kernel->weight_bytes + f->calls * f->cost.cache_bytes * (window > 0 && window < (double)seen ? window : (double)seen);
        *calls += times;
        if (f->experts) *experts = (tn_kernel_info){.experts = f->experts, .slots = f->experts_chosen};
    }
}

static Token predict(const Build *build, const Rates *rates, uint64_t budget) {
    const Plan *plan = build->plan;
    Token token = {0};
    double calls = 0;
    tn_kernel_info experts = {0};
    count_bytes(plan, &token, &calls, &experts);
    tn_piece *pieces = calloc((size_t)plan->piece_count + 1, sizeof *pieces);
    for (int i = 0; pieces && i < plan->piece_count; i++) pieces[i] = (tn_piece){plan->pieces[i].offset, plan->pieces[i].bytes, plan->pieces[i].visits};
    tn_program program = {.weights_bytes = plan->weights_bytes, .pieces = pieces, .kernels = &experts, .kernel_count = 1};
    program.piece_count = pieces ? plan->piece_count : 0;
    uint64_t pages = ((uint64_t)plan->module->context + KV_PAGE - 1) / KV_PAGE, others = plan->arena_bytes + pages * plan->page_bytes + PAGER_OVERHEAD;
    uint64_t room = (uint64_t)(memory_share * (double)rates->left);
    if (!budget && plan->weights_bytes + others > room) budget = room;
    PagerPlan paging = tn_pager_plan(&program, budget ? budget : UINT64_MAX, others);
    free(pieces);
    bool paged = budget && tn_pager_needed(&paging, budget);
    token.fits = !paged || paging.fits;
    token.missing = paged ? paging.kept_bytes : 0;
    token.budget = paged ? budget : 0;
    token.seconds = token.bytes / (reached * rates->memory) + calls * kernel_seconds + (token.missing > 0 ? token.missing / (reached * rates->disk) : 0);
    return token;
}

// What a format would take. EXIT_DONE, or the reason was printed.
static int try_format(const BuildOptions *options, const char *path, const char *format, uint64_t budget, Rates *rates, Token *token) {
    BuildOptions trial = *options;
    Build build;
    Diags *diags = diags_new();
    trial.quantize = format;
    trial.calibrate = trial.latency = trial.print_after = NULL;
    trial.timing = false, trial.observe = NULL;
    if (!build_open(&build, path, &trial, diags)) return finish(diags) ? EXIT_INPUT : EXIT_MACHINE;
    diags_free(diags);   // warnings come again
    *token = predict(&build, rates, budget);
    if (token->missing > 0 && !rates->disk) {
        rates->disk = disk_rate(build.model->weights);
        *token = predict(&build, rates, budget);
    }
    build_close(&build);
    return EXIT_DONE;
}

static void say_token(const char *format, const Token *token, bool taken) {
    fprintf(stderr, "  %-6s %10.1f MB a token", format, token->bytes * 1e-6);
    if (token->missing > 0)
        fprintf(stderr, ", %.1f MB of it expected from disk with --memory %.0fM", token->missing * 1e-6, (double)token->budget / (1 << 20));
    if (token->fits) fprintf(stderr, ": %.2f ms%s\n", token->seconds * 1e3, taken ? ", taken" : "");
    else fputs(": has no room in memory\n", stderr);
}

static int set_memory(Options *options, const Token *token) {
    char bytes[32];
    if (!token->budget || option_given(options, "--memory") || !option_known(options, "--memory")) return EXIT_DONE;
    snprintf(bytes, sizeof bytes, "%lluM", (unsigned long long)(token->budget >> 20));
    return option_set(options, "--memory", bytes);
}

// From the `first` format on.
static int choose_from(Options *options, int first) {
    BuildOptions *build = options->build;
    double bound = strtod(build->latency, NULL);
    Rates rates = {.left = memory_left()};
    rates.memory = memory_rate(rates.left);
    const char *given = option_given(options, "--quant") ? build->quantize : NULL;
    uint64_t budget = options->run && options->run->memory != TN_ALL_MEMORY ? options->run->memory : build->memory;
    Token token = {0};
    if (!(rates.memory > 0)) {
        fprintf(stderr, "error: --latency: there is too little memory to measure how fast it is read\n");
        return EXIT_MACHINE;
    }
    fprintf(stderr, "a token in %g ms, where memory is read at %.1f GB/s and kernels reach %.0f %% of that:\n", bound, rates.memory * 1e-9,
            reached * 100);
    for (int i = first; i < (given ? first + 1 : (int)COUNT_OF(formats)); i++) {
        const char *format = given ? given : format_name(build, i);
        int code = try_format(build, options->arguments[0], format, budget, &rates, &token);
        if (code != EXIT_DONE) return code;
        bool taken = token.fits && token.seconds * 1e3 <= margin * bound;
        say_token(format, &token, taken);
        if (!taken) continue;
        build->quantize = format;
        return set_memory(options, &token);
    }
    fprintf(stderr, "error: this machine cannot: a token would take %.2f ms, more than %.0f %% of --latency %g\n", token.seconds * 1e3, margin * 100,
            bound);
    return EXIT_MACHINE;
}

int latency_choose(Options *options) {
    const BuildOptions *build = options->build;
    char *end;
    if (!build->latency) return EXIT_DONE;
    double bound = strtod(build->latency, &end);
    if (end == build->latency || *end || !(bound > 0 && bound < 1e9))
        return usage_error(options->command, "--latency is a number of milliseconds, not '%s'", build->latency);
    return build->reference || !options->argument_count ? EXIT_DONE : choose_from(options, 0);
}

bool latency_next(Options *options) {
    const BuildOptions *build = options->build;
    if (option_given(options, "--quant") || !build->quantize) return false;
    for (int i = 0; i + 1 < (int)COUNT_OF(formats); i++)
        if (strcmp(format_name(build, i), build->quantize) == 0) return choose_from(options, i + 1) == EXIT_DONE;
    return false;
}

// ---- measured ---------------------------------------------------------------------------------------------------------------

int latency_measure(const BuildOptions *build, const char *program) {
    Diags *diags = diags_new();
    size_t length = 0, index;
    char *arguments[] = {(char *)program, "--bench", "--latency", "1e9", "--sequences", "1", "--prefill", "16", "--json", NULL}, *text = malloc(BENCH_TEXT);
    int code = text ? child_ask(program, arguments, text, BENCH_TEXT, &length, diags) : -1;
    double bound = strtod(build->latency, NULL);
    json_t *result = code == EXIT_DONE ? json_parse_object(program, text, length, diags) : NULL, *phase;
    bool decodes = false;
    json_array_foreach(json_object_get(result, "phases"), index, phase) {
        const char *kind = json_string_value(json_object_get(phase, "phase"));
        if (!kind || strcmp(kind, "decode") != 0) continue;
        decodes = true;
        double median = json_number_value(json_object_get(phase, "seconds")) * 1e3;
        double p99 = json_number_value(json_object_get(phase, "p99_seconds")) * 1e3;
        if (p99 > bound) code = EXIT_MACHINE;
        fprintf(stderr, "%s: measured: a token takes %.2f ms, 99 of 100 at most %.2f ms: %s\n", program, median, p99, p99 > bound ? "too late" : "in time");
    }
    if (result && !decodes) fprintf(stderr, "%s: not measured: it makes no tokens, one after the other\n", program);
    json_decref(result);
    free(text);
    finish(diags);
    return code < 0 ? EXIT_INPUT : code;
}
