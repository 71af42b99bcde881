// --info: what the program is and what it will take, before anything is run. Peak memory is predicted as the sum of what is planned.
#include "runtime/cpu.h"
#include "runtime/limits.h"
#include "runtime/reader.h"
#include "runtime/run.h"
#include <stdlib.h>
#include <string.h>

enum { INFO_MISSING = 512 };
enum { INFO_OVERHEAD = PAGER_OVERHEAD, INFO_READ = 64 << 20 };
static const double info_seconds = 0.3;     // of a measurement

typedef struct { unsigned long long weights, kv, kv_token, arena, peak, budget; int context, sequences; bool paged; PagerPlan plan; } InfoMemory;

// How many prompts the run would have: lines, when it has a file of them.
static int info_prompts(const RunOptions *options) {
    int count = options->prompt_count, last = '\n';
    FILE *file = options->batch && strcmp(options->batch, "-") ? fopen(options->batch, "re") : NULL;
    for (int c; file && (c = fgetc(file)) != EOF; last = c)
        count += last == '\n';
    if (file)
        fclose(file);
    return count > 1 ? count : 1;
}

static InfoMemory info_memory(const Run *run) {
    const tn_program *program = run->program;
    InfoMemory memory = {.weights = program->weights_bytes, .arena = program->arena_bytes};
    memory.context = run->options->ctx > 0 && run->options->ctx < program->context ? run->options->ctx : program->context;
    memory.sequences = info_prompts(run->options);
    if (memory.sequences > program->max_sequences)
        memory.sequences = program->max_sequences;       // the first are finished first
    if (program->page_bytes) {
        memory.kv_token = program->page_bytes / (unsigned long long)program->page_tokens;
        memory.kv = (unsigned long long)memory.sequences * (unsigned long long)tn_kv_pages(program, memory.context) * tn_kv_page_bytes(program);
    }
    memory.peak = memory.weights + memory.kv + memory.arena + INFO_OVERHEAD;
    memory.budget = tn_memory_wanted(run->blob, run->options->memory);
    memory.plan = tn_pager_plan(program, memory.budget, memory.peak - memory.weights);
    memory.paged = memory.budget != TN_ALL_MEMORY && tn_pager_needed(&memory.plan, memory.budget);
    if (memory.paged)
        memory.peak = memory.budget;
    return memory;
}

// What the next token of one sequence takes: weights that are read, operations without those of attention, which grow with the context.
typedef struct { double weight_bytes, operations, cache_operations; } InfoToken;

static InfoToken info_token(const tn_program *program) {
    InfoToken token = {0};
    for (int i = 0; i < program->kernel_count; i++) {
        const tn_kernel_info *kernel = &program->kernels[i];
        double times = (double)kernel->calls * (kernel->experts ? kernel->slots : 1);
        token.weight_bytes += times * kernel->weight_bytes;
        token.operations += times * kernel->operations;
        token.cache_operations += times * kernel->cache_operations;
    }
    return token;
}

static void info_size(const char *name, unsigned long long bytes, const char *note) {
    printf("%-11s %10.1f MiB  %s\n", name, (double)bytes / (1 << 20), note);
}

// Bytes a second that this machine reads of the weights' file, and of memory; 0: not known.
typedef struct { double disk, memory; } InfoRates;

static double info_disk(const Run *run, tn_failure *failure) {
    uint64_t from, at = 0, bytes = run->program->weights_bytes < INFO_READ ? run->program->weights_bytes : INFO_READ;
    Reader *reader = tn_reader_new(tn_blob_source(run->blob, &from), tn_blob_file(run->blob), failure);
    unsigned char *to = aligned_alloc(4096, INFO_READ);
    unsigned long long began = tn_now();
    double took = 0;
    while (reader && to && took < info_seconds && at + bytes <= run->program->weights_bytes && !failure->code) {
        ReadJob job = {.to = to, .from = from + at, .bytes = bytes}, *wait = &job;
        tn_reader_start(reader, &job, READ_NOW);
        tn_reader_wait(reader, &wait, 1);
        tn_reader_check(reader, failure);
        took = (double)(tn_now() - began) * 1e-9;
        at += bytes;
    }
    tn_reader_free(reader);
    free(to);
    return took > 0 ? (double)at / took : 0;
}

static InfoRates info_rates(const Run *run, unsigned long long budget, tn_failure *failure) {
    tn_engine engine = {.program = run->program, .team = tn_team_new(run->options->threads, failure)};
    InfoRates rates = {.disk = info_disk(run, failure)};
    if (engine.team)
        rates.memory = tn_limits_memory(&engine, (size_t)(budget / 2), info_seconds);
    tn_team_free(engine.team);
    return rates;
}

// Tokens a second of one sequence when so many visits of experts find theirs in memory.
static double info_speed(const InfoMemory *memory, const InfoToken *token, const InfoRates *rates, double hits) {
    double read = memory->plan.active * (1 - hits);
    return 1 / (read / rates->disk + token->weight_bytes / rates->memory);
}

static void info_paging(const InfoMemory *memory, const InfoToken *token, const InfoRates *rates) {
    const PagerPlan *plan = &memory->plan;
    char note[160];
    info_size("  kept", plan->pinned, "of them, which every token reads");
    if (plan->tables)
        info_size("  mapped", plan->tables, "of tables of which a token reads few rows");
    if (!plan->expert_count)
        return;
    snprintf(note, sizeof note, "at most, of %d experts of together %.1f MiB; the others are read when they are chosen", plan->expert_count, (double)plan->experts / (1 << 20));
    info_size("  experts", plan->room, note);
    if (!plan->room || rates->disk <= 0 || rates->memory <= 0)
        return;
    printf("\nExperts that a token visits: %.1f, %.1f MiB. Reading %.2f GB/s of the file and %.1f GB/s of memory, as measured now\n", plan->visits, plan->active / (1 << 20),
           rates->disk * 1e-9, rates->memory * 1e-9);
    printf("  %5.1f %%  in memory: %7.2f tokens/s (experts chosen alike, and those that most calls visit kept)\n", 100 * (1 - plan->kept_bytes / plan->active),
           info_speed(memory, token, rates, 1 - plan->kept_bytes / plan->active));
    for (int percent = 0; percent <= 100; percent += 25)
        printf("  %5d %%  in memory: %7.2f tokens/s\n", percent, info_speed(memory, token, rates, percent / 100.0));
}

static const char *info_output(const tn_program *program) {
    return program->out_kind == TN_PER_ROW ? "logits" : program->out_kind == TN_PER_SEQUENCE ? "a vector a sequence" : "a vector a token";
}

static void info_text(const Run *run, const InfoMemory *memory, const InfoRates *rates, const char *missing) {
    const tn_program *program = run->program;
    const char *description = tn_blob_meta(run->blob, "description", 0), *kv = tn_blob_meta(run->blob, "kv", 0), *source;
    char note[160];
    printf("model       %s\n", program->model);
    if (description)
        printf("            %s\n", description);
    const char *targets = run->options->targets;
    printf("target      %s%s%s%s%s%s\n", program->target, targets ? ", one of " : "", targets ? targets : "",
           *missing ? " (not this machine, which lacks " : "", missing, *missing ? ")" : "");
    printf("compiled by %s, %d kernels\n", program->compiler, program->kernel_count);
    printf("context     %d tokens, steps of at most %d tokens, %d sequences\n", memory->context, program->max_tokens, program->max_sequences);
    printf("output      %s, %d wide\n", info_output(program), program->out_width);
    printf("chat        %s\n", tn_blob_meta(run->blob, "chat.user", 0) ? "yes" : "no template");
    for (int i = 0; (source = tn_blob_meta(run->blob, "source", i)); i++)
        printf("%s %s\n", i ? "           " : "source     ", source);
    printf("blob        %016llx in %s\n\nMemory\n", (unsigned long long)tn_blob_hash(run->blob), tn_blob_file(run->blob));
    InfoToken token = info_token(program);
    info_size("weights", memory->weights, memory->paged ? "in the file" : "mapped from the file, shared between processes");
    snprintf(note, sizeof note, "%s, %d sequence%s of %d tokens, %llu bytes a token, made as they come", kv ? kv : "f32", memory->sequences,
             memory->sequences == 1 ? "" : "s", memory->context, memory->kv_token);
    info_size("KV cache", memory->kv, program->page_bytes ? note : "none");
    info_size("arena", memory->arena, "intermediate values of one step");
    info_size("peak", memory->peak, memory->paged ? "at most, as --memory says; experts have what the others leave" : "at most: these and 32 MiB");
    if (memory->paged)
        info_paging(memory, &token, rates);
    if (token.weight_bytes > 0) {
        printf("\nA token, one sequence\n");
        info_size("reads", (unsigned long long)token.weight_bytes, "of weights, and its KV cache");
        printf("%-11s %10.1f Mop  multiplications and additions, and %.0f for each position it sees\n", "computes", token.operations * 1e-6,
               token.cache_operations);
    }
}

static void info_json_text(const char *key, const char *text) {
    printf("\"%s\": ", key);
    if (text)
        tn_json_string(stdout, text, strlen(text));
    else
        fputs("null", stdout);
    fputs(", ", stdout);
}

static void info_json(const Run *run, const InfoMemory *memory, const InfoRates *rates, const char *missing) {
    const tn_program *program = run->program;
    putchar('{');
    info_json_text("model", program->model);
    info_json_text("description", tn_blob_meta(run->blob, "description", 0));
    info_json_text("target", program->target);
    info_json_text("targets", run->options->targets ? run->options->targets : program->target);
    info_json_text("missing", missing);
    info_json_text("compiler", program->compiler);
    info_json_text("file", tn_blob_file(run->blob));
    printf("\"blob\": \"%016llx\", \"runs_here\": %s, \"context\": %d, \"max_tokens\": %d, \"max_rows\": %d, \"max_sequences\": %d, ",
           (unsigned long long)tn_blob_hash(run->blob), *missing ? "false" : "true", memory->context, program->max_tokens, program->max_rows,
           program->max_sequences);
    info_json_text("output", program->out_kind == TN_PER_ROW ? "row" : program->out_kind == TN_PER_SEQUENCE ? "sequence" : "token");
    printf("\"width\": %d, \"causal\": %s, \"kernels\": %d, \"chat\": %s, ", program->out_width, program->causal ? "true" : "false",
           program->kernel_count, tn_blob_meta(run->blob, "chat.user", 0) ? "true" : "false");
    info_json_text("kv", tn_blob_meta(run->blob, "kv", 0));
    printf("\"page_tokens\": %d, \"page_bytes\": %llu, \"sequences\": %d, ", program->page_tokens, program->page_bytes, memory->sequences);
    InfoToken token = info_token(program);
    printf("\"weight_bytes_per_token\": %.0f, \"operations_per_token\": %.0f, \"operations_per_token_and_position\": %.0f, ", token.weight_bytes,
           token.operations, token.cache_operations);
    const PagerPlan *plan = &memory->plan;
    printf("\"pinned_bytes\": %llu, \"table_bytes\": %llu, \"expert_bytes\": %llu, \"experts\": %d, \"least_expert_bytes\": %llu, \"expert_visits_per_token\": %.3f, "
           "\"expert_bytes_per_token\": %.0f, ", plan->pinned, plan->tables, plan->experts, plan->expert_count, plan->least, plan->visits, plan->active);
    if (memory->paged) {
        printf("\"memory_bytes\": %llu, \"expert_room_bytes\": %llu, \"expected_hits\": %.4f, \"expected_read_bytes\": %.0f, \"disk_bytes_per_second\": ", memory->budget,
               plan->room, plan->kept_hits, plan->kept_bytes);
        tn_json_number(stdout, rates->disk);
        fputs(", \"memory_bytes_per_second\": ", stdout);
        tn_json_number(stdout, rates->memory);
        fputs(", \"expected_tokens_per_second\": ", stdout);
        tn_json_number(stdout, rates->disk > 0 && rates->memory > 0 ? info_speed(memory, &token, rates, 1 - plan->kept_bytes / plan->active) : 0);
        fputs(", ", stdout);
    }
    printf("\"weights_bytes\": %llu, \"kv_bytes\": %llu, \"kv_bytes_per_token\": %llu, \"arena_bytes\": %llu, \"overhead_bytes\": %d, "
           "\"peak_bytes\": %llu}\n", memory->weights, memory->kv, memory->kv_token, memory->arena, INFO_OVERHEAD, memory->peak);
}

int tn_run_info(Run *run) {
    InfoMemory memory = info_memory(run);
    char missing[INFO_MISSING];
    tn_cpu_has(run->program->needs, missing, sizeof missing);
    if (run->options->verify && tn_blob_verify(run->blob, &run->failure))
        return -1;
    InfoRates rates = {0};
    if (memory.paged && memory.plan.room && !*missing)
        rates = info_rates(run, memory.budget, &run->failure);
    if (run->failure.code)
        return -1;
    if (run->options->json)
        info_json(run, &memory, &rates, missing);
    else
        info_text(run, &memory, &rates, missing);
    if (memory.paged && tn_pager_fits(&memory.plan, memory.budget, &run->failure)) {
        tn_run_flush(run);
        return -1;
    }
    return tn_run_flush(run);
}
