// tenon eval: how good is this model on a text, and how near is it to another.
//
// Teacher-forced: the text is cut into windows of the context; each window is one sequence, begun with the model's own begin token if it
// has one, and every token of the text is scored by the logits before it (the first of a window only after a begin token). Perplexity is
// exp of the mean negative log likelihood. Against another model, the base, both see the same ids: KL(base ‖ model) is the mean over
// positions of Σ p·(log p − log q), and top-1 agreement how often the likeliest token is the same. Either may be a compiled program (side.c). The two
// take turns, some rows at a time, so that what is held of the base's logits is a few rows, however wide they are. --accept makes the figures a verdict.
#include "driver/accept.h"
#include "driver/side.h"

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
    Accept accept;
} Eval;

typedef struct {
    int *ids, count;
} Ids;

typedef struct {
    int64_t tokens, windows, agree;
    double log_likelihood, base_log_likelihood, divergence, worst;
    int64_t words, right, base_right, lost, won; // of --task; lost: only the base was right
} Score;

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

// A word of --task on its way; pending: it ended, and is waited for what follows.
typedef struct {
    bool open, pending, right, base_right;
} Word;

typedef struct {
    Score *score;
    int *ids;
    int count, prefix, width;
    int at;                // position of the row that comes next
    float *base; int rows; // the base's logits of the rows in work, and how many of them there is room for
    int first;             // position of the first of them
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

// The text that a token adds behind the one before it: alone, some tokenizers would take its blank away. Freed by the caller; *text lies in it.
static char *added_text(const Window *window, int position, const char **text) {
    const Tokenizer *tokenizer = window->side->tokenizer;
    const int *ids = window->ids + position;
    size_t before = 0, whole = 0;
    char *alone = position ? tokenizer_decode(tokenizer, ids - 1, 1, 0, &before) : NULL;
    char *room = tokenizer_decode(tokenizer, position ? ids - 1 : ids, position ? 2 : 1, 0, &whole);
    *text = room && before <= whole ? room + before : "";
    free(alone);
    return room;
}

// A word is right when each of its tokens is the likeliest. It begins behind a blank, with a letter or digit, and ends before what is none.
static void word_token(Window *window, int position, Top top) {
    const char *text;
    char *room = added_text(window, position, &text);
    size_t blanks = strspn(text, " \t\r\n");
    bool letters = isalnum((unsigned char)text[blanks]) || (unsigned char)text[blanks] >= 0x80, line = memchr(text, '\n', blanks) != NULL;
    free(room);
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

static void take_row(void *to, const float *row) {
    Window *window = to;
    size_t width = (size_t)window->width;
    int position = window->at++;
    float *base = window->base ? window->base + (size_t)(position - window->first) * width : NULL;
    if (window->store)
        memcpy(base, row, width * sizeof *row);
    else if (position + 1 < window->count && position + 1 >= window->prefix) {
        Top top = score_row(window->score, row, base, window->width, window->ids[position + 1]);
        if (window->tasked) word_token(window, position + 1, top);
    }
}

// Both models read the window, some rows of each in turn.
static bool score_window(Window *window, Side *side, Side *base, Diags *diags) {
    bool done = (!base || side_begin(base, window->ids, window->count, diags)) && side_begin(side, window->ids, window->count, diags);
    for (int at = 0, rows; at < window->count && done; at += rows) {
        rows = base && window->count - at > window->rows ? window->rows : window->count - at;
        for (int turn = base ? 0 : 1; turn < 2 && done; turn++) {
            window->first = window->at = at;
            window->store = turn == 0;
            done = side_rows(turn ? side : base, window->ids + at, rows, take_row, window, diags);
        }
    }
    bool ended = side_end(side, diags);
    return (!base || side_end(base, diags)) && ended && done;
}

// The tokens in a window: what both contexts hold, 512 unless --ctx says otherwise.
static int window_size(const Eval *eval, const Side *side, const Side *base) {
    int size = side->context;
    if (base && base->context < size) size = base->context;
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
        done = score_window(job, side, base, diags);
        if (job->last_word) job->word = (Word){0};
        else word_end(job);
        job->score->windows++;
        tn_progress_show(&progress, (uint64_t)(at + length), (uint64_t)text->count);
    }
    tn_progress_end(&progress);
    return done;
}

// The tokens that the model wants before every text.
static int begin_of(const Side *side, int *ids, int room) {
    char why[256];
    int32_t *all = NULL;
    int count = 0;
    if (!side->tokenizer || !tokenizer_encode(side->tokenizer, "", 0, TOKENIZER_SPECIALS | TOKENIZER_PARSE, &all, &count, why, sizeof why)) return 0;
    bool fits = count < room;
    for (int i = 0; i < count && fits; i++) ids[i] = all[i];
    free(all);
    return fits ? count : 0;
}

enum { MOST_LOGITS = 16 << 20 }; // of the base at a time

static bool score_text(const Eval *eval, Side *side, Side *base, const Ids *text, Score *score, Diags *diags) {
    int size = window_size(eval, side, base), width = side->width;
    Window job = {.score = score, .width = width, .side = side, .tasked = eval->task != NULL, .last_word = eval->last_word, .ids = calloc((size_t)size + 1, sizeof *job.ids)};
    job.rows = MOST_LOGITS / width > 1 ? MOST_LOGITS / width : 1;
    if (job.rows > size) job.rows = size;
    job.base = base ? malloc((size_t)job.rows * (size_t)width * sizeof *job.base) : NULL;
    bool done = job.ids && (job.base || !base);
    if (!done) diag_error(diags, NOWHERE, "no memory for the logits of %d tokens", job.rows);
    if (done) job.prefix = begin_of(side, job.ids, size / 2);
    done = done && score_windows(&job, size, side, base, text, diags);
    free(job.base);
    free(job.ids);
    return done;
}

// ---- the command ----------------------------------------------------------------------------------------------------------

static bool encode_by(const Side *side, const Text *text, Ids *ids, Diags *diags) {
    char why[256] = "it has no tokenizer";
    bool done = side->tokenizer && tokenizer_encode(side->tokenizer, text->data, text->length, 0, &ids->ids, &ids->count, why, sizeof why);
    if (!done) diag_error(diags, FILE_LOC(side->path), "%s", why);
    return done;
}

// Two models can be compared when they read the text as the same tokens, out of as many.
static bool same_tokens(const Side *side, const Side *base, const Text *text, const Ids *ids, Diags *diags) {
    if (base->width != side->width) {
        diag_error(diags, FILE_LOC(base->path), "has %d logits a token, but %s has %d: they cannot be compared", base->width, side->path, side->width);
        return false;
    }
    Ids other = {0};
    int begin[2][64], counts[2] = {begin_of(side, begin[0], 64), begin_of(base, begin[1], 64)};
    if (!base->tokenizer) return true;   // it takes the other's
    if (!encode_by(base, text, &other, diags)) return false;
    int most = ids->count < other.count ? ids->count : other.count, at = 0;
    while (at < most && ids->ids[at] == other.ids[at]) at++;
    bool same = ids->count == other.count && at == most;
    if (!same)
        diag_error(diags, FILE_LOC(base->path), "reads the text as other tokens than %s does (the first that differs is token %d): they cannot be compared",
                   side->path, at + 1);
    else if (counts[0] != counts[1] || memcmp(begin[0], begin[1], sizeof **begin * (size_t)counts[0]) != 0) {
        diag_error(diags, FILE_LOC(base->path), "begins a text with other tokens than %s does: they cannot be compared", side->path);
        same = false;
    }
    free(other.ids);
    return same;
}

static bool encode(const Eval *eval, const Side *side, const Side *base, const Text *text, Ids *ids, Diags *diags) {
    if (!encode_by(side, text, ids, diags) || (base && !same_tokens(side, base, text, ids, diags))) return false;
    if (eval->limit && ids->count > eval->limit) ids->count = eval->limit;
    if (ids->count < 2) diag_error(diags, FILE_LOC(eval->text), "is too short to score: it has %d token%s", ids->count, ids->count == 1 ? "" : "s");
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

// Whether all that --accept asks for was reached.
static bool report_accept(const Eval *eval, const Score *score, Text *out) {
    double n = (double)score->tokens;
    if (!accept_any(&eval->accept)) return true;
    double measured[ACCEPT_COUNT] = {[ACCEPT_KL] = score->divergence / n,
                                     [ACCEPT_KL_MAX] = score->worst,
                                     [ACCEPT_TOP1] = (double)score->agree / n,
                                     [ACCEPT_PPL] = exp((score->base_log_likelihood - score->log_likelihood) / n),
                                     [ACCEPT_KEPT] = kept_of(score).kept};
    return accept_report(&eval->accept, measured, eval->json, out);
}

// The exit code.
static int report(const Eval *eval, const Side *side, const Score *score, double seconds) {
    Text out = {0};
    bool kept;
    double n = (double)score->tokens, perplexity = exp(-score->log_likelihood / n);
    if (eval->json) {
        text_puts(&out, "{\"model\": ");
        json_text(&out, eval->model);
        text_puts(&out, ", \"target\": ");
        json_text(&out, side->target);
        text_printf(&out, ", \"tokens\": %lld, \"windows\": %lld, \"perplexity\": %.9g, \"nll\": %.9g", (long long)score->tokens,
                    (long long)score->windows, perplexity, -score->log_likelihood / n);
        if (eval->against) {
            text_puts(&out, ", \"against\": ");
            json_text(&out, eval->against);
            text_printf(&out, ", \"base_perplexity\": %.9g, \"kl\": %.9g, \"kl_max\": %.9g, \"top1\": %.9g",
                        exp(-score->base_log_likelihood / n), score->divergence / n, score->worst, (double)score->agree / n);
        }
        report_task(eval, score, &out);
        kept = report_accept(eval, score, &out);
        text_printf(&out, ", \"seconds\": %.3f}\n", seconds);
    } else {
        text_printf(&out, "tokens       %lld in %lld windows, %.1f tok/s\nperplexity   %.4f\n", (long long)score->tokens,
                    (long long)score->windows, n / seconds, perplexity);
        if (eval->against)
            text_printf(&out, "base         %.4f (%s)\nKL           %.3e mean, %.3e worst\ntop-1        %.3f %% the same\n",
                        exp(-score->base_log_likelihood / n), eval->against, score->divergence / n, score->worst,
                        100.0 * (double)score->agree / n);
        report_task(eval, score, &out);
        kept = report_accept(eval, score, &out);
    }
    int code = print_out(&out);
    text_free(&out);
    return code != EXIT_DONE ? code : kept ? EXIT_DONE : EXIT_INPUT;
}

static int evaluate(const Eval *eval, Side *side, Side *base, Diags *diags) {
    Text text = {0};
    Score score = {0};
    Ids ids = {0};
    int code = EXIT_INPUT;
    double began = seconds_now();
    if (read_text(eval->text, &text, diags) && encode(eval, side, base, &text, &ids, diags) && score_text(eval, side, base, &ids, &score, diags))
        code = report(eval, side, &score, seconds_now() - began);
    free(ids.ids);
    text_free(&text);
    return code;
}

// The base is built for the same target by the same passes; what else was asked for is the model's, and is what the comparison is about. Its cache is in
// float32, so that what --kv costs is seen too.
static int base_options(const Command *command, Eval *eval, bool reference, const char *quantize, const char *profile) {
    const BuildOptions *build = &eval->build;
    build_options_init(&eval->base);
    Options options = {.command = command, .argument_room = 1};
    build_options_add(&options, &eval->base);
    eval->base.target = build->target, eval->base.passes = build->passes, eval->base.skip = build->skip, eval->base.timing = build->timing;
    eval->base.no_fusion = build->no_fusion, eval->base.no_tuning = build->no_tuning;
    eval->base.cache_size = build->cache_size, eval->base.no_cache = build->no_cache;
    eval->base.reference = reference;
    eval->base.profile = profile;
    int code = profile ? profile_apply(&options) : -1;
    if (!profile) eval->base.kv = "f32";
    if (quantize) eval->base.quantize = quantize;
    return code >= 0 ? code : build_options_check(command, &eval->base);
}

static int run(const Command *command, int argc, char **argv) {
    Eval eval = {0};
    build_options_init(&eval.build);
    Options options = {.command = command, .arguments = &eval.model, .argument_room = 1, .argument_least = 1};
    bool base_reference = false;
    const char *base_quant = NULL, *base_profile = NULL, *accept = NULL;
    option_add(&options, "--text", OPTION_TEXT, &eval.text, "FILE", "the text to score; - is standard input");
    option_add(&options, "--against", OPTION_TEXT, &eval.against, "MODEL2", "the base: KL divergence and top-1 agreement with it");
    option_add(&options, "--against-reference", OPTION_FLAG, &base_reference, NULL, "the base runs in the reference interpreter");
    option_add(&options, "--against-quant", OPTION_TEXT, &base_quant, "Q", "how the base's weights are stored");
    option_add(&options, "--against-profile", OPTION_TEXT, &base_profile, "P", "the base is built as this profile says");
    option_add(&options, "--accept", OPTION_TEXT, &accept, "LIST", "leave with 1 unless all is kept: kl=X, klmax=X and ppl=X at most, top1=X and kept=X at least");
    option_add(&options, "--task", OPTION_TEXT, &eval.task, "TASK", "next-word: every word of the text; last-word: the last of each line");
    option_add(&options, "--ctx", OPTION_COUNT, &eval.context, "N", "tokens of a window; default 512, or the model's context");
    option_add(&options, "--limit", OPTION_COUNT, &eval.limit, "N", "only the text's first N tokens");
    option_add(&options, "--threads", OPTION_COUNT, &eval.threads, "N", "threads; default: the CPUs this process may use");
    int first = options.count;
    build_options_add(&options, &eval.build);
    int last = options.count;
    cache_options_add(&options, &eval.build);
    reference_option_add(&options, &eval.build);
    option_add(&options, "--json", OPTION_FLAG, &eval.json, NULL, "one JSON object");
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    eval.last_word = eval.task && strcmp(eval.task, "last-word") == 0;
    if (eval.task && !eval.last_word && strcmp(eval.task, "next-word") != 0) return usage_error(command, "--task is next-word or last-word, not '%s'", eval.task);
    if (!eval.text) return usage_error(command, "--text FILE is missing");
    if ((code = accept_parse(command, accept, &eval.accept)) != EXIT_DONE) return code;
    if ((base_reference || base_quant || base_profile) && !eval.against) eval.against = eval.model;
    if (accept && !eval.against) return usage_error(command, "--accept compares with another model, and no --against MODEL2 is given");
    if (eval.accept.wanted[ACCEPT_KEPT] && !eval.task) return usage_error(command, "--accept kept=X counts the words of --task, and none is given");
    for (int i = first; i < last && side_is_program(eval.model); i++)
        if (option_given(&options, options.options[i].name))
            return usage_error(command, "%s is compiled already: %s is for models", eval.model, options.options[i].name);
    if (eval.against && (base_reference || base_quant || base_profile) && side_is_program(eval.against))
        return usage_error(command, "%s is compiled already: --against-reference, --against-quant and --against-profile are for models", eval.against);
    if ((code = base_options(command, &eval, base_reference, base_quant, base_profile)) != EXIT_DONE) return code;
    Diags *diags = diags_new();
    Side side = {0}, base = {0};
    code = side_open(&side, eval.model, &eval.build, eval.threads, eval.context, diags);
    if (code == EXIT_DONE && eval.against) code = side_open(&base, eval.against, &eval.base, eval.threads, eval.context, diags);
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
    "often the likeliest token is the same; the base is MODEL2, its weights as stored unless --against-quant or\n--against-profile says otherwise. Either may be a program that tenon compiled. With --accept the exit code says whether the model is near enough. --task counts words of "
    "the\ntext as answers: right when each token of the word is the likeliest; and how much of the base's right answers is kept.",
    "  tenon eval smollm2.gguf --text book.txt --limit 4096\n"
    "  tenon eval smollm2.gguf --quant w8a8 --against smollm2.gguf --text book.txt\n      what quantizing costs\n"
    "  tenon eval ./edge --against ./cloud --text book.txt --accept kl=0.05,top1=0.95\n      may the one program stand for the other?\n"
    "  tenon eval smollm2.gguf --against-reference --text book.txt --limit 512\n      compiled code against the reference interpreter\n",
    run,
};
