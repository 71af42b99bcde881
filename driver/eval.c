// tenon eval: how good is this model on a text, and how near is it to another.
//
// Teacher-forced: the text is cut into windows of the context; each window is one sequence, begun with the model's own begin token if it
// has one, and every token of the text is scored by the logits before it (the first of a window only after a begin token). Perplexity is
// exp of the mean negative log likelihood. Against another model, the base, both see the same ids: KL(base ‖ model) is the mean over
// positions of Σ p·(log p − log q), and top-1 agreement how often the likeliest token is the same.
#include "driver/build.h"
#include "runtime/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *model, *text, *against;
    BuildOptions build, base;
    int context, limit; // of a window; tokens of the text at most
    int threads;
    bool json;
} Eval;

typedef struct {
    Program program;
    tn_engine *engine;
    const char *path;
} Side;
typedef struct {
    int *ids, count;
} Ids;

typedef struct {
    int64_t tokens, windows, agree;
    double log_likelihood, base_log_likelihood, divergence, worst;
} Score;

// ---- two models -----------------------------------------------------------------------------------------------------------

static int side_open(Side *side, const char *path, const BuildOptions *build, const Eval *eval, Diags *diags) {
    int code;
    side->path = path;
    if (!program_open(&side->program, path, build, &code, diags)) return code;
    tn_failure failure = {0};
    tn_open_options options = {.threads = eval->threads, .context = eval->context, .weights = tn_blob_file(side->program.blob)};
    side->engine = tn_open_blob(&side->program.program, side->program.blob, &options, &failure);
    if (side->engine && side->program.program.out_kind == TN_PER_ROW) return EXIT_DONE;
    if (side->engine)
        diag_error(diags, FILE_LOC(path), "is not a language model: it has no next token to score");
    else
        diag_error(diags, FILE_LOC(path), "%s", failure.text);
    return side->engine ? EXIT_INPUT : failure.code;
}

static void side_close(Side *side) {
    tn_close(side->engine);
    program_close(&side->program);
}

// ---- scoring --------------------------------------------------------------------------------------------------------------

typedef struct {
    double max, log_sum;
    int top;
} Softmax; // of a row: log p[i] = row[i] − max − log_sum

static Softmax softmax_of(const float *row, int width) {
    Softmax s = {row[0], 0, 0};
    for (int i = 1; i < width; i++)
        if (row[i] > s.max) s.max = row[i], s.top = i;
    double sum = 0;
    for (int i = 0; i < width; i++) sum += exp(row[i] - s.max);
    s.log_sum = log(sum);
    return s;
}

static double log_p(const float *row, const Softmax *s, int id) { return row[id] - s->max - s->log_sum; }

static void score_row(Score *score, const float *row, const float *base, int width, int next) {
    Softmax q = softmax_of(row, width);
    score->log_likelihood += log_p(row, &q, next);
    score->tokens++;
    if (!base) return;
    Softmax p = softmax_of(base, width);
    double divergence = 0;
    for (int i = 0; i < width; i++) {
        double log_base = log_p(base, &p, i);
        divergence += exp(log_base) * (log_base - log_p(row, &q, i));
    }
    score->base_log_likelihood += log_p(base, &p, next);
    score->divergence += divergence;
    score->worst = divergence > score->worst ? divergence : score->worst;
    score->agree += p.top == q.top;
}

// The logits of every row of a window, through one engine. `take` sees them in order of position.
static bool run_window(Side *side, const int *ids, int count, void (*take)(void *, int position, const float *row), void *to,
                       Diags *diags) {
    tn_failure failure = {0};
    int sequence = tn_sequence_new(side->engine, &failure);
    bool done = sequence >= 0 && tn_add(side->engine, sequence, ids, count, TN_WANT_ALL, &failure) == 0;
    while (done && tn_pending(side->engine) > 0) {
        int rows = tn_run(side->engine, &failure);
        done = rows >= 0;
        for (int i = 0; i < rows; i++) take(to, tn_rows(side->engine)[i].position, tn_rows(side->engine)[i].values);
    }
    if (sequence >= 0) tn_sequence_free(side->engine, sequence);
    if (!done) diag_error(diags, FILE_LOC(side->path), "%s", failure.text);
    return done;
}

typedef struct {
    Score *score;
    int *ids;
    int count, prefix, width;
    float *base;
    bool store;
} Window;

static void take_row(void *to, int position, const float *row) {
    Window *window = to;
    size_t width = (size_t)window->width;
    if (window->store)
        memcpy(window->base + (size_t)position * width, row, width * sizeof *row);
    else if (position + 1 < window->count && position + 1 >= window->prefix)
        score_row(window->score, row, window->base ? window->base + (size_t)position * width : NULL, window->width,
                  window->ids[position + 1]);
}

// The tokens in a window: what both contexts hold, 512 unless --ctx says otherwise.
static int window_size(const Eval *eval, const Side *side, const Side *base) {
    int size = tn_context(side->engine);
    if (base && tn_context(base->engine) < size) size = tn_context(base->engine);
    return !eval->context && size > 512 ? 512 : size;
}

static bool score_windows(Window *job, int size, Side *side, Side *base, const Ids *text, Diags *diags) {
    Progress progress;
    bool done = true;
    int step = size - job->prefix;
    tn_progress_begin(&progress, "scoring");
    for (int at = 0; at < text->count && done; at += step) {
        int length = text->count - at < step ? text->count - at : step;
        job->count = job->prefix + length;
        if (job->count < 2) break;
        memcpy(job->ids + job->prefix, text->ids + at, (size_t)length * sizeof *job->ids);
        job->store = true;
        done = !base || run_window(base, job->ids, job->count, take_row, job, diags);
        job->store = false;
        done = done && run_window(side, job->ids, job->count, take_row, job, diags);
        job->score->windows++;
        tn_progress_show(&progress, (uint64_t)(at + length), (uint64_t)text->count);
    }
    tn_progress_end(&progress);
    return done;
}

static bool score_text(const Eval *eval, Side *side, Side *base, const Ids *text, Score *score, Diags *diags) {
    int size = window_size(eval, side, base), width = tn_width(side->engine);
    tn_failure failure = {0};
    Window job = {.score = score, .width = width, .ids = calloc((size_t)size + 1, sizeof *job.ids)};
    job.base = base ? malloc((size_t)size * (size_t)width * sizeof *job.base) : NULL;
    bool done = job.ids && (job.base || !base);
    if (!done) diag_error(diags, NOWHERE, "no memory for the logits of %d tokens", size);
    int prefix = done ? tn_encode(side->engine, "", 0, 1, job.ids, size, &failure) : 0;
    job.prefix = prefix > 0 && prefix < size / 2 ? prefix : 0;
    done = done && score_windows(&job, size, side, base, text, diags);
    free(job.base);
    free(job.ids);
    return done;
}

// ---- the command ----------------------------------------------------------------------------------------------------------

static bool encode(const Eval *eval, const Side *side, const Text *text, Ids *ids, Diags *diags) {
    tn_failure failure = {0};
    ids->count = tn_encode(side->engine, text->data, text->length, 0, NULL, 0, &failure);
    ids->ids = ids->count > 0 ? malloc((size_t)ids->count * sizeof *ids->ids) : NULL;
    if (!ids->ids) {
        diag_error(diags, FILE_LOC(ids->count < 0 ? side->path : eval->text), "%s",
                   ids->count < 0 ? failure.text : "the text has no tokens");
        return false;
    }
    tn_encode(side->engine, text->data, text->length, 0, ids->ids, ids->count, &failure);
    if (eval->limit && ids->count > eval->limit) ids->count = eval->limit;
    if (ids->count < 2) diag_error(diags, FILE_LOC(eval->text), "is too short to score: it has %d token", ids->count);
    return ids->count >= 2;
}

static void report(const Eval *eval, const Side *side, const Score *score, double seconds) {
    Text out = {0};
    double n = (double)score->tokens, perplexity = exp(-score->log_likelihood / n);
    if (eval->json) {
        text_puts(&out, "{\"model\": ");
        json_text(&out, eval->model);
        text_puts(&out, ", \"target\": ");
        json_text(&out, side->program.program.target);
        text_printf(&out, ", \"tokens\": %lld, \"windows\": %lld, \"perplexity\": %.9g, \"nll\": %.9g", (long long)score->tokens,
                    (long long)score->windows, perplexity, -score->log_likelihood / n);
        if (eval->against) {
            text_puts(&out, ", \"against\": ");
            json_text(&out, eval->against);
            text_printf(&out, ", \"base_perplexity\": %.9g, \"kl\": %.9g, \"kl_max\": %.9g, \"top1\": %.9g",
                        exp(-score->base_log_likelihood / n), score->divergence / n, score->worst, (double)score->agree / n);
        }
        text_printf(&out, ", \"seconds\": %.3f}\n", seconds);
    } else {
        text_printf(&out, "tokens       %lld in %lld windows, %.1f tok/s\nperplexity   %.4f\n", (long long)score->tokens,
                    (long long)score->windows, n / seconds, perplexity);
        if (eval->against)
            text_printf(&out, "base         %.4f (%s)\nKL           %.3e mean, %.3e worst\ntop-1        %.3f %% the same\n",
                        exp(-score->base_log_likelihood / n), eval->against, score->divergence / n, score->worst,
                        100.0 * (double)score->agree / n);
    }
    print_out(&out);
    text_free(&out);
}

static int evaluate(const Eval *eval, Side *side, Side *base, Diags *diags) {
    Text text = {0};
    Score score = {0};
    Ids ids = {0};
    int code = EXIT_INPUT;
    double began = seconds_now();
    if (read_text(eval->text, &text, diags) && encode(eval, side, &text, &ids, diags)) {
        if (base && tn_width(base->engine) != tn_width(side->engine))
            diag_error(diags, FILE_LOC(eval->against), "has %d logits a token, but %s has %d: they cannot be compared",
                       tn_width(base->engine), eval->model, tn_width(side->engine));
        else if (score_text(eval, side, base, &ids, &score, diags)) {
            report(eval, side, &score, seconds_now() - began);
            code = EXIT_DONE;
        }
    }
    free(ids.ids);
    text_free(&text);
    return code;
}

static int run(const Command *command, int argc, char **argv) {
    Eval eval = {0};
    build_options_init(&eval.build);
    Options options = {.command = command, .arguments = &eval.model, .argument_room = 1, .argument_least = 1};
    bool base_reference = false;
    const char *base_quant = NULL;
    option_add(&options, "--text", OPTION_TEXT, &eval.text, "FILE", "the text to score; - is standard input");
    option_add(&options, "--against", OPTION_TEXT, &eval.against, "MODEL2", "the base: KL divergence and top-1 agreement with it");
    option_add(&options, "--against-reference", OPTION_FLAG, &base_reference, NULL, "the base runs in the reference interpreter");
    option_add(&options, "--against-quant", OPTION_TEXT, &base_quant, "Q", "how the base's weights are stored");
    option_add(&options, "--ctx", OPTION_COUNT, &eval.context, "N", "tokens of a window; default 512, or the model's context");
    option_add(&options, "--limit", OPTION_COUNT, &eval.limit, "N", "only the text's first N tokens");
    option_add(&options, "--threads", OPTION_COUNT, &eval.threads, "N", "threads; default: the CPUs this process may use");
    build_options_add(&options, &eval.build);
    cache_options_add(&options, &eval.build);
    option_add(&options, "--json", OPTION_FLAG, &eval.json, NULL, "one JSON object");
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    if (!eval.text) return usage_error(command, "--text FILE is missing");
    if ((base_reference || base_quant) && !eval.against) eval.against = eval.model;
    eval.base = eval.build;
    eval.base.reference = base_reference;
    eval.base.quantize = base_quant;
    eval.base.group = eval.base.activation_group = eval.base.calibrate = NULL;
    eval.base.symmetric = false;
    if ((code = build_options_check(command, &eval.base))) return code;
    Diags *diags = diags_new();
    Side side = {0}, base = {0};
    code = side_open(&side, eval.model, &eval.build, &eval, diags);
    if (code == EXIT_DONE && eval.against) code = side_open(&base, eval.against, &eval.base, &eval, diags);
    if (code == EXIT_DONE) code = evaluate(&eval, &side, eval.against ? &base : NULL, diags);
    side_close(&base);
    side_close(&side);
    int said = finish(diags);
    return said > code ? said : code;
}

const Command eval_command = {
    "eval",
    "MODEL --text FILE",
    "perplexity; KL divergence and top-1 agreement with another model",
    "Scores a text, teacher-forced, in windows of the context. With --against, both models see the same tokens: KL(base || model) in nats "
    "and how\n"
    "often the likeliest token is the same; the base is MODEL2, its weights as stored unless --against-quant says otherwise.",
    "  tenon eval smollm2.gguf --text book.txt --limit 4096\n"
    "  tenon eval smollm2.gguf --quant w8a8 --against smollm2.gguf --text book.txt\n      what quantizing costs\n"
    "  tenon eval smollm2.gguf --against-reference --text book.txt --limit 512\n      compiled code against the reference interpreter\n",
    run,
};
