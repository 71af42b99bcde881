// tenon eval: how good is this model on a text, and how near is it to another.
//
// Teacher-forced: the text is cut into windows of the context; each window is one sequence, begun with the model's own begin token if it
// has one, and every token of the text is scored by the logits before it (the first of a window only after a begin token). Perplexity is
// exp of the mean negative log likelihood. Against another model, the base, both see the same ids: KL(base ‖ model) is the mean over
// positions of Σ p·(log p − log q), and top-1 agreement how often the likeliest token is the same.
#include "driver/build.h"
#include "runtime/engine.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *model, *text, *against;
    BuildOptions build, base;
    int context, limit; // of a window; tokens of the text at most
    int threads;
    bool json;
    const char *task; // next-word, last-word or NULL
    bool last_word;
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
    int64_t words, right, base_right, lost, won; // of --task; lost: only the base was right
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

// The likeliest token of each side.
typedef struct {
    int own, base;
} Top;

static Top score_row(Score *score, const float *row, const float *base, int width, int next) {
    Softmax q = softmax_of(row, width);
    score->log_likelihood += log_p(row, &q, next);
    score->tokens++;
    if (!base) return (Top){q.top, -1};
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
    return (Top){q.top, p.top};
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

// A word of --task on its way; pending: it ended, and is waited for what follows.
typedef struct {
    bool open, pending, right, base_right;
} Word;

typedef struct {
    Score *score;
    int *ids;
    int count, prefix, width;
    float *base;
    bool store;
    Word word;
    Side *side;
    bool tasked, last_word;
} Window;

// ---- words ----------------------------------------------------------------------------------------------------------------

static void word_end(Window *window) {
    Word *word = &window->word;
    Score *score = window->score;
    if (word->open) {
        score->words++;
        score->right += word->right;
        score->base_right += word->base_right;
        score->lost += word->base_right && !word->right;
        score->won += word->right && !word->base_right;
    }
    *word = (Word){0};
}

// The text that a token adds behind the one before it: alone, some tokenizers would take its blank away.
static const char *added_text(const Window *window, int position, char *room, size_t size) {
    char alone[256];
    const int *ids = window->ids + position;
    size_t before = position ? tn_decode(window->side->engine, ids - 1, 1, 0, alone, sizeof alone) : 0;
    size_t whole = position ? tn_decode(window->side->engine, ids - 1, 2, 0, room, size) : tn_decode(window->side->engine, ids, 1, 0, room, size);
    return before <= whole && before < size ? room + before : "";
}

// A word is right when each of its tokens is the likeliest. It begins behind a blank, with a letter or digit, and ends before what is none.
static void word_token(Window *window, int position, Top top) {
    char room[512];
    const char *text = added_text(window, position, room, sizeof room);
    size_t blanks = strspn(text, " \t\r\n");
    bool letters = isalnum((unsigned char)text[blanks]) || (unsigned char)text[blanks] >= 0x80, line = memchr(text, '\n', blanks) != NULL;
    Word *word = &window->word;
    if (word->pending && (line || blanks || letters)) { // --task last-word: only what a line break follows counts
        word->open = line;
        word_end(window);
    }
    if (blanks || !letters) {
        if (window->last_word && word->open && !line) word->pending = true, word->open = false;
        else if (!word->pending) word_end(window);
        if (blanks && !line && word->pending) word_end(window);
        if (!blanks || !letters) return;
        *word = (Word){.open = true, .right = true, .base_right = true};
    }
    word->right &= top.own == window->ids[position];
    word->base_right &= top.base == window->ids[position];
}

static void take_row(void *to, int position, const float *row) {
    Window *window = to;
    size_t width = (size_t)window->width;
    if (window->store)
        memcpy(window->base + (size_t)position * width, row, width * sizeof *row);
    else if (position + 1 < window->count && position + 1 >= window->prefix) {
        Top top = score_row(window->score, row, window->base ? window->base + (size_t)position * width : NULL, window->width,
                            window->ids[position + 1]);
        if (window->tasked) word_token(window, position + 1, top);
    }
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
        if (job->last_word) job->word = (Word){0};
        else word_end(job);
        job->score->windows++;
        tn_progress_show(&progress, (uint64_t)(at + length), (uint64_t)text->count);
    }
    tn_progress_end(&progress);
    return done;
}

static bool score_text(const Eval *eval, Side *side, Side *base, const Ids *text, Score *score, Diags *diags) {
    int size = window_size(eval, side, base), width = tn_width(side->engine);
    tn_failure failure = {0};
    Window job = {.score = score, .width = width, .side = side, .tasked = eval->task != NULL, .last_word = eval->last_word, .ids = calloc((size_t)size + 1, sizeof *job.ids)};
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

// How much of the base's right answers is kept, and its 95 % confidence interval (normal approximation over paired words).
typedef struct {
    double kept, low, high;
} Kept;

static Kept kept_of(const Score *score) {
    double n = (double)score->words, base = (double)score->base_right, difference = (double)(score->won - score->lost);
    if (base <= 0) return (Kept){1, 0, 1};
    double changed = (double)(score->won + score->lost), spread = 1.96 * sqrt(fmax(changed - difference * difference / n, 0)) / base;
    return (Kept){(double)score->right / base, (double)score->right / base - spread, (double)score->right / base + spread};
}

static void report_task(const Eval *eval, const Score *score, Text *out) {
    if (!eval->task) return;
    Kept kept = kept_of(score);
    double n = score->words ? (double)score->words : 1;
    if (eval->json) {
        text_printf(out, ", \"task\": \"%s\", \"words\": %lld, \"accuracy\": %.6g", eval->task, (long long)score->words, (double)score->right / n);
        if (eval->against)
            text_printf(out, ", \"base_accuracy\": %.6g, \"lost\": %lld, \"won\": %lld, \"kept\": %.6g, \"kept_low\": %.6g, \"kept_high\": %.6g",
                        (double)score->base_right / n, (long long)score->lost, (long long)score->won, kept.kept, kept.low, kept.high);
        return;
    }
    text_printf(out, "%-12s %.2f %% of %lld words right\n", eval->task, 100 * (double)score->right / n, (long long)score->words);
    if (eval->against)
        text_printf(out, "base         %.2f %% right; %.2f %% of it kept (95 %% confidence: %.2f to %.2f), %lld lost, %lld won\n",
                    100 * (double)score->base_right / n, 100 * kept.kept, 100 * kept.low, 100 * kept.high, (long long)score->lost, (long long)score->won);
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
        report_task(eval, score, &out);
        text_printf(&out, ", \"seconds\": %.3f}\n", seconds);
    } else {
        text_printf(&out, "tokens       %lld in %lld windows, %.1f tok/s\nperplexity   %.4f\n", (long long)score->tokens,
                    (long long)score->windows, n / seconds, perplexity);
        if (eval->against)
            text_printf(&out, "base         %.4f (%s)\nKL           %.3e mean, %.3e worst\ntop-1        %.3f %% the same\n",
                        exp(-score->base_log_likelihood / n), eval->against, score->divergence / n, score->worst,
                        100.0 * (double)score->agree / n);
        report_task(eval, score, &out);
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
    option_add(&options, "--task", OPTION_TEXT, &eval.task, "TASK", "next-word: every word of the text; last-word: the last of each line");
    option_add(&options, "--ctx", OPTION_COUNT, &eval.context, "N", "tokens of a window; default 512, or the model's context");
    option_add(&options, "--limit", OPTION_COUNT, &eval.limit, "N", "only the text's first N tokens");
    option_add(&options, "--threads", OPTION_COUNT, &eval.threads, "N", "threads; default: the CPUs this process may use");
    build_options_add(&options, &eval.build);
    cache_options_add(&options, &eval.build);
    reference_option_add(&options, &eval.build);
    option_add(&options, "--json", OPTION_FLAG, &eval.json, NULL, "one JSON object");
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    eval.last_word = eval.task && strcmp(eval.task, "last-word") == 0;
    if (eval.task && !eval.last_word && strcmp(eval.task, "next-word") != 0) return usage_error(command, "--task is next-word or last-word, not '%s'", eval.task);
    if (!eval.text) return usage_error(command, "--text FILE is missing");
    if ((base_reference || base_quant) && !eval.against) eval.against = eval.model;
    eval.base = eval.build;
    eval.base.reference = base_reference;
    eval.base.quantize = base_quant;
    eval.base.group = eval.base.activation_group = eval.base.calibrate = eval.base.bits = eval.base.budget_bits = eval.base.budget_kl = NULL;
    eval.base.kv = "f32";   // so that what --kv costs is seen too
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
    "often the likeliest token is the same; the base is MODEL2, its weights as stored unless --against-quant says otherwise. --task counts words of "
    "the\ntext as answers: right when each token of the word is the likeliest; and how much of the base's right answers is kept.",
    "  tenon eval smollm2.gguf --text book.txt --limit 4096\n"
    "  tenon eval smollm2.gguf --quant w8a8 --against smollm2.gguf --text book.txt\n      what quantizing costs\n"
    "  tenon eval smollm2.gguf --against-reference --text book.txt --limit 512\n      compiled code against the reference interpreter\n",
    run,
};
