// Output that is numbers: an encoder's vectors, printed or written, and a language model's logits (--logits). Rows come in the order in which steps
// make them and are put in their place: the prompts' rows follow each other in the prompts' order.
#include "runtime/run.h"
#include "runtime/npy.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    int *prompt_of;              // of a sequence
    uint64_t *first;             // row of each prompt
    uint64_t rows;
} RowPlan;

static void vectors_free(RowPlan *plan) {
    free(plan->prompt_of);
    free(plan->first);
}

// Queues every prompt with all outputs wanted, and lays the rows out.
static int vectors_queue(Run *run, RowPlan *plan, int *sequences) {
    int count = run->prompts.count, most = 0;
    bool whole = run->program->out_kind == TN_PER_SEQUENCE;
    plan->first = calloc((size_t)count + 1, sizeof *plan->first);
    if (!plan->first)
        return tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for %d prompts", count);
    for (int i = 0; i < count; i++) {
        if ((sequences[i] = tn_run_queue(run, i, TN_WANT_ALL)) < 0)
            return -1;
        plan->first[i] = plan->rows;
        plan->rows += whole ? 1 : (uint64_t)run->prompts.all[i].count;
        most = sequences[i] > most ? sequences[i] : most;
    }
    plan->prompt_of = calloc((size_t)most + 1, sizeof *plan->prompt_of);
    if (!plan->prompt_of)
        return tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for %d prompts", count);
    for (int i = 0; i < count; i++)
        plan->prompt_of[sequences[i]] = i;
    return 0;
}

// Runs everything that is queued; rows go to the file, or into `values`, or both.
static int vectors_run(Run *run, const RowPlan *plan, Npy *npy, float *values) {
    size_t width = (size_t)tn_width(run->engine);
    uint64_t total = (uint64_t)tn_pending(run->engine);
    Progress progress;
    int failed = 0;
    tn_progress_begin(&progress, "reading");
    run->engine->in_order = true;
    while (!failed && tn_pending(run->engine)) {
        int rows = tn_run(run->engine, &run->failure);
        failed = rows < 0;
        for (int i = 0; i < rows && !failed; i++) {
            const tn_row *row = &tn_rows(run->engine)[i];
            uint64_t at = plan->first[plan->prompt_of[row->sequence]] + (uint64_t)row->position;
            if (values)
                memcpy(values + at * width, row->values, width * sizeof *values);
            if (npy)
                failed = tn_npy_row(npy, at, row->values, &run->failure);
            if (row->position == tn_length(run->engine, row->sequence) - 1)
                tn_park(run->engine, row->sequence);
        }
        tn_progress_show(&progress, total - (uint64_t)tn_pending(run->engine), total);
    }
    run->engine->in_order = false;
    tn_progress_end(&progress);
    return failed ? -1 : 0;
}

static int vectors_file(Run *run, const RowPlan *plan) {
    Npy npy;
    if (tn_npy_open(&npy, run->options->logits, tn_width(run->engine), plan->rows, &run->failure))
        return -1;
    bool whole = !vectors_run(run, plan, &npy, NULL);
    return tn_npy_close(&npy, whole, &run->failure);
}

int tn_run_logits(Run *run, int *sequences) {
    RowPlan plan = {0};
    int failed = vectors_queue(run, &plan, sequences) || vectors_file(run, &plan);
    vectors_free(&plan);
    return failed ? -1 : 0;
}

static void vectors_row(const float *values, int width, bool json) {
    for (int i = 0; i < width; i++) {
        fputs(i ? json ? ", " : " " : json ? "[" : "", stdout);
        if (json)
            tn_json_number(stdout, values[i]);
        else
            printf("%.9g", (double)values[i]);
    }
    fputs(json ? "]" : "\n", stdout);
}

// A line a row; an empty line between the prompts of a model that gives a row a token. JSON: "outputs" holds a vector, or a list of them, a prompt.
static void vectors_print(Run *run, const RowPlan *plan, const float *values) {
    bool json = run->options->json, whole = run->program->out_kind == TN_PER_SEQUENCE;
    int width = tn_width(run->engine);
    if (json) {
        fputs("{\"model\": ", stdout);
        tn_json_string(stdout, run->program->model, strlen(run->program->model));
        printf(", \"width\": %d, \"outputs\": [", width);
    }
    for (int i = 0; i < run->prompts.count; i++) {
        uint64_t end = i + 1 < run->prompts.count ? plan->first[i + 1] : plan->rows;
        if (i)
            fputs(json ? ",\n" : whole ? "" : "\n", stdout);
        if (json && !whole)
            fputc('[', stdout);
        for (uint64_t row = plan->first[i]; row < end; row++) {
            if (json && row > plan->first[i])
                fputs(",\n", stdout);
            vectors_row(values + row * (size_t)width, width, json);
        }
        if (json && !whole)
            fputc(']', stdout);
    }
    if (json)
        fputs("]}\n", stdout);
}

int tn_run_vectors(Run *run) {
    RowPlan plan = {0};
    float *values = NULL;
    int *sequences = calloc((size_t)run->prompts.count + 1, sizeof *sequences), failed;
    if (!sequences)
        return tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for %d prompts", run->prompts.count);
    failed = vectors_queue(run, &plan, sequences);
    if (!failed && run->options->logits) {
        failed = vectors_file(run, &plan);
    } else if (!failed) {
        values = calloc(plan.rows * (uint64_t)tn_width(run->engine), sizeof *values);
        failed = values ? vectors_run(run, &plan, NULL, values) : tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for the output");
        if (!failed)
            vectors_print(run, &plan, values);
    }
    free(values);
    free(sequences);
    vectors_free(&plan);
    return failed || tn_run_flush(run) ? -1 : 0;
}
