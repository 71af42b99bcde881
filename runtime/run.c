// tenon_run: one run of a program, from its options to its exit code. Which of the modes it is follows from the model (does it give logits or
// vectors?) and the options.
#include "runtime/run.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { char *data; size_t length, room; } RunText;
typedef struct { Run *run; RunText *texts; int *prompt_of; bool stream, failed; } RunOutput;

int tn_run_flush(Run *run) {
    if (!fflush(stdout) && !ferror(stdout))
        return 0;
    return tn_fail(&run->failure, TN_BAD_INPUT, "standard output cannot be written");
}

const char *tn_run_reason(int result) {
    switch (result) {
    case TN_STOPPED_AT_LENGTH: return "length";
    case TN_STOPPED_AT_END: return "end";
    case TN_STOPPED_AT_TEXT: return "stop";
    case TN_STOPPED_AT_CONTEXT: return "context";
    case TN_STOPPED_BY_CALLER: return "interrupted";
    }
    return "none";
}

int tn_run_queue(Run *run, int prompt, int want) {
    const PromptIds *ids = &run->prompts.all[prompt];
    tn_failure failure = {0};
    int sequence = tn_sequence_new(run->engine, &run->failure);
    if (sequence >= 0 && tn_add(run->engine, sequence, ids->ids, ids->count, want, &failure))
        return tn_fail(&run->failure, failure.code, "%s: %s", ids->label, failure.text);
    return sequence;
}

tn_generation tn_run_generation(const Run *run) {
    const RunOptions *options = run->options;
    return (tn_generation){.sampling = options->sampling, .most = options->n, .stops = options->stops, .stop_count = options->stop_count,
                           .ignore_end = options->ignore_end, .many = run->prompts.count > 1};
}

// ---- generating -----------------------------------------------------------------------------------------------------------

static int run_on_text(void *argument, int sequence, const char *text, size_t length) {
    RunOutput *output = argument;
    if (output->stream) {
        fwrite(text, 1, length, stdout);
        fflush(stdout);
        return ferror(stdout);
    }
    RunText *all = &output->texts[output->prompt_of[sequence]];
    if (all->length + length > all->room) {
        size_t room = (all->length + length) * 2;
        char *grown = realloc(all->data, room);
        if (!grown) {
            output->failed = true;
            return 1;
        }
        all->data = grown;
        all->room = room;
    }
    memcpy(all->data + all->length, text, length);
    all->length += length;
    return 0;
}

// A line a prompt: line ends and backslashes within an output are written as \n, \r and \\.
static void run_print_line(const RunText *text) {
    for (size_t i = 0; i < text->length; i++) {
        char c = text->data[i];
        if (c == '\n' || c == '\r')
            fputs(c == '\n' ? "\\n" : "\\r", stdout);
        else if (c == '\\')
            fputs("\\\\", stdout);
        else
            putchar(c);
    }
    putchar('\n');
}

static void run_print_ids(const int *ids, int count) {
    for (int i = 0; i < count; i++)
        printf("%s%d", i ? " " : "", ids[i]);
    putchar('\n');
}

static double run_seconds(unsigned long long from, unsigned long long to) { return to > from ? (double)(to - from) * 1e-9 : 0; }

static void run_print_json(const Run *run, const RunOutput *output, const int *sequences, const int *results) {
    unsigned long long now = tn_now(), first = run->engine->first_ns;
    fputs("{\"model\": ", stdout);
    tn_json_string(stdout, run->program->model, strlen(run->program->model));
    fputs(", \"target\": ", stdout);
    tn_json_string(stdout, run->program->target, strlen(run->program->target));
    printf(", \"threads\": %d, \"outputs\": [", tn_threads(run->engine));
    for (int i = 0; i < run->prompts.count; i++) {
        int prompt = run->prompts.all[i].count;
        printf("%s{\"prompt_tokens\": %d, \"finish\": \"%s\", \"tokens\": ", i ? ",\n" : "", prompt, tn_run_reason(results[i]));
        tn_json_ids(stdout, tn_tokens(run->engine, sequences[i]) + prompt, tn_length(run->engine, sequences[i]) - prompt);
        fputs(", \"text\": ", stdout);
        if (run->engine->tokenizer)
            tn_json_string(stdout, output->texts[i].data ? output->texts[i].data : "", output->texts[i].length);
        else
            fputs("null", stdout);
        putchar('}');
    }
    fputs("], \"first_token_seconds\": ", stdout);
    if (first)
        tn_json_number(stdout, run_seconds(run->began_ns, first));
    else
        fputs("null", stdout);
    fputs(", \"seconds\": ", stdout);
    tn_json_number(stdout, run_seconds(run->began_ns, now));
    tn_run_json_metrics(run);
    fputs("}\n", stdout);
}

static void run_print(const Run *run, const RunOutput *output, const int *sequences, const int *results) {
    int generated = 0;
    for (int i = 0; i < run->prompts.count; i++) {
        int prompt = run->prompts.all[i].count, count = tn_length(run->engine, sequences[i]) - prompt;
        generated += count;
        if (run->options->json)
            continue;
        if (!run->engine->tokenizer)
            run_print_ids(tn_tokens(run->engine, sequences[i]) + prompt, count);
        else if (output->stream)
            putchar('\n');
        else
            run_print_line(&output->texts[i]);
    }
    if (run->options->json)
        run_print_json(run, output, sequences, results);
    unsigned long long now = tn_now(), first = run->engine->first_ns;
    if (!run->options->json && isatty(STDERR_FILENO) && generated > 1) {
        double decode = run_seconds(first, now);
        fflush(stdout);
        fprintf(stderr, "[%d tokens; first after %.2f s, then %.1f tokens/s; %s]\n", generated, run_seconds(run->began_ns, first),
                decode > 0 ? (generated - run->prompts.count) / decode : 0, run->prompts.count == 1 ? tn_run_reason(results[0]) : "batch");
        tn_run_show_paging(run);
    }
}

// A long prompt of one sequence is read here, all but its last step, so that progress can be shown.
static int run_read_prompt(Run *run) {
    Progress progress;
    int total = tn_pending(run->engine), failed = 0;
    tn_progress_begin(&progress, "reading");
    while (!failed && run->prompts.count == 1 && tn_pending(run->engine) > run->engine->chunk) {
        failed = tn_run(run->engine, &run->failure) < 0;
        tn_progress_show(&progress, (uint64_t)(total - tn_pending(run->engine)), (uint64_t)total);
    }
    tn_progress_end(&progress);
    return failed;
}

// --logits reads every prompt and forgets its cache; its last token is queued again, and with it the rest, to go on from it.
static int run_prepare(Run *run, int *sequences) {
    if (run->options->logits) {
        if (tn_run_logits(run, sequences))
            return -1;
        for (int i = 0; i < run->prompts.count && run->options->n; i++) {
            const PromptIds *prompt = &run->prompts.all[i];
            if (tn_trim(run->engine, sequences[i], prompt->count - 1, &run->failure) ||
                tn_add(run->engine, sequences[i], &prompt->ids[prompt->count - 1], 1, TN_WANT_LAST, &run->failure))
                return -1;
        }
        return 0;
    }
    for (int i = 0; i < run->prompts.count; i++)
        if ((sequences[i] = tn_run_queue(run, i, TN_WANT_LAST)) < 0)
            return -1;
    return run->options->n ? run_read_prompt(run) : 0;
}

static int run_generate_into(Run *run, RunOutput *output, int *sequences, int *results) {
    tn_generation how = tn_run_generation(run);
    if (run_prepare(run, sequences))
        return -1;
    int most = 0;
    for (int i = 0; i < run->prompts.count; i++)
        most = sequences[i] > most ? sequences[i] : most;
    output->prompt_of = calloc((size_t)most + 1, sizeof *output->prompt_of);
    if (!output->prompt_of)
        return tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for the output");
    for (int i = 0; i < run->prompts.count; i++)
        output->prompt_of[sequences[i]] = i;
    how.on_text = run_on_text;
    how.to = output;
    if (tn_generate(run->engine, sequences, run->prompts.count, &how, results, &run->failure))
        return -1;
    if (output->failed)
        return tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for the output");
    if (run->options->n || run->options->json)
        run_print(run, output, sequences, results);
    return tn_run_flush(run);
}

int tn_run_generate(Run *run) {
    size_t count = (size_t)run->prompts.count;
    RunOutput output = {.run = run, .texts = calloc(count + 1, sizeof *output.texts),
                        .stream = count == 1 && !run->options->batch && !run->options->json};
    int *sequences = calloc(count + 1, sizeof *sequences), *results = calloc(count + 1, sizeof *results);
    int failed = output.texts && sequences && results ? run_generate_into(run, &output, sequences, results)
                                                      : tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for %zu prompts", count);
    for (size_t i = 0; output.texts && i < count; i++)
        free(output.texts[i].data);
    free(output.texts);
    free(output.prompt_of);
    free(sequences);
    free(results);
    return failed ? -1 : 0;
}

// ---- modes ----------------------------------------------------------------------------------------------------------------

static int run_mode(Run *run) {
    const RunOptions *options = run->options;
    if (options->bench)
        return tn_run_bench(run);
    if (tn_run_load_prompts(run))
        return -1;
    if (run->prompts.count && (run->program->out_kind != TN_PER_ROW || !run->program->causal))
        return tn_run_vectors(run);
    if (run->prompts.count)
        return tn_run_generate(run);
    if (run->program->out_kind == TN_PER_ROW && !options->logits && !options->json && (options->chat || isatty(STDIN_FILENO)))
        return tn_run_chat(run);
    return tn_fail(&run->failure, TN_BAD_USAGE, "no prompt: give -p TEXT, --tokens IDS or --batch FILE (--help lists all options)");
}

static int run_all(Run *run) {
    const RunOptions *options = run->options;
    if (tn_options_check(options, &run->failure))
        return -1;
    if (options->info)
        return tn_run_info(run);
    if (options->verify && tn_blob_verify(run->blob, &run->failure))
        return -1;
    tn_open_options open = {.threads = options->threads, .context = options->ctx, .chunk = options->chunk, .memory = options->memory};
    run->engine = tn_open_blob(run->program, run->blob, &open, &run->failure);
    return run->engine ? run_mode(run) : -1;
}

int tenon_run(const tn_program *program, const Blob *blob, const RunOptions *options) {
    Run run = {.program = program, .blob = blob, .options = options, .began_ns = tn_now()};
    int failed = run_all(&run);
    if (failed)
        fprintf(stderr, "error: %s\n", run.failure.text);
    for (int i = 0; i < run.prompts.count; i++) {
        free(run.prompts.all[i].ids);
        free(run.prompts.all[i].label);
    }
    free(run.prompts.all);
    tn_close(run.engine);
    return failed ? run.failure.code : 0;
}
