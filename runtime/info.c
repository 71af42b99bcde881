// --info: what the program is and what it will take, before anything is run. Peak memory is predicted as the sum of what is planned.
#include "runtime/cpu.h"
#include "runtime/run.h"
#include <stdlib.h>
#include <string.h>

enum { INFO_MISSING = 512 };
enum { INFO_OVERHEAD = 32 << 20 };     // code, tokenizer, output rows, libc: what the design allows beside the planned parts

typedef struct { unsigned long long weights, kv, kv_token, arena, peak; int context, sequences; } InfoMemory;

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

static const char *info_output(const tn_program *program) {
    return program->out_kind == TN_PER_ROW ? "logits" : program->out_kind == TN_PER_SEQUENCE ? "a vector a sequence" : "a vector a token";
}

static void info_size(const char *name, unsigned long long bytes, const char *note) {
    printf("%-11s %10.1f MiB  %s\n", name, (double)bytes / (1 << 20), note);
}

static void info_text(const Run *run, const InfoMemory *memory, const char *missing) {
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
    info_size("weights", memory->weights, "mapped from the file, shared between processes");
    snprintf(note, sizeof note, "%s, %d sequence%s of %d tokens, %llu bytes a token, made as they come", kv ? kv : "f32", memory->sequences,
             memory->sequences == 1 ? "" : "s", memory->context, memory->kv_token);
    info_size("KV cache", memory->kv, program->page_bytes ? note : "none");
    info_size("arena", memory->arena, "intermediate values of one step");
    info_size("peak", memory->peak, "at most: these and 32 MiB");
    InfoToken token = info_token(program);
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

static void info_json(const Run *run, const InfoMemory *memory, const char *missing) {
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
    printf("\"weights_bytes\": %llu, \"kv_bytes\": %llu, \"kv_bytes_per_token\": %llu, \"arena_bytes\": %llu, \"overhead_bytes\": %d, "
           "\"peak_bytes\": %llu}\n", memory->weights, memory->kv, memory->kv_token, memory->arena, INFO_OVERHEAD, memory->peak);
}

int tn_run_info(Run *run) {
    InfoMemory memory = info_memory(run);
    char missing[INFO_MISSING];
    tn_cpu_has(run->program->needs, missing, sizeof missing);
    if (run->options->verify && tn_blob_verify(run->blob, &run->failure))
        return -1;
    if (run->options->json)
        info_json(run, &memory, missing);
    else
        info_text(run, &memory, missing);
    return tn_run_flush(run);
}
