// The options of a run, as a table: name, kind of value, where it goes, its range, its line of help. Parsing, "did you mean" and --help all walk
// the table, so they cannot disagree.
#include "runtime/cli.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum { OPTION_FLAG, OPTION_TEXT, OPTION_WORDS, OPTION_INT, OPTION_NUMBER, OPTION_SIZE, OPTION_SEED, OPTION_STOP, OPTION_PROMPT, OPTION_IDS } OptionKind;

typedef struct {
    const char *name, *value;
    OptionKind kind;
    size_t offset;
    double low, high;
    const char *help;
} OptionSpec;

#define OPTION_AT(member) offsetof(RunOptions, member)
static const OptionSpec option_table[] = {
    {"-p", "TEXT", OPTION_PROMPT, 0, 0, 0, "the prompt; given several times, all run in one batch"},
    {"--tokens", "IDS", OPTION_IDS, 0, 0, 0, "a prompt as token ids: 1,2,3"},
    {"--batch", "FILE", OPTION_TEXT, OPTION_AT(batch), 0, 0, "a prompt a line, all in one batch; - is standard input"},
    {"-n", "N", OPTION_INT, OPTION_AT(n), -1, INT_MAX, "tokens to generate; default: until the model ends or the context is full"},
    {"--ctx", "N", OPTION_INT, OPTION_AT(ctx), 1, INT_MAX, "context: bounds a sequence and its KV cache"},
    {"--threads", "N", OPTION_INT, OPTION_AT(threads), 1, 1024, "threads; default: the CPUs this process may use"},
    {"--memory", "SIZE", OPTION_SIZE, OPTION_AT(memory), 0, 0, "take at most so much memory, as 3G: experts that do not fit are read when they are chosen; none: no bound"},
    {"--temp", "X", OPTION_NUMBER, OPTION_AT(sampling.temperature), 0, 1000, "temperature; default 0: always the likeliest token"},
    {"--top-k", "K", OPTION_INT, OPTION_AT(sampling.top_k), 0, INT_MAX, "sample from the K likeliest tokens; 0: all"},
    {"--top-p", "P", OPTION_NUMBER, OPTION_AT(sampling.top_p), 0, 1, "sample from the likeliest tokens that make up P"},
    {"--min-p", "P", OPTION_NUMBER, OPTION_AT(sampling.min_p), 0, 1, "sample from tokens at least P times as likely as the likeliest"},
    {"--repeat-penalty", "X", OPTION_NUMBER, OPTION_AT(sampling.repeat_penalty), 0, 1000, "divide the logits of tokens already there; 1: off"},
    {"--seed", "S", OPTION_SEED, OPTION_AT(sampling.seed), 0, 0, "seed of the sampler; default 0"},
    {"--stop", "TEXT", OPTION_STOP, 0, 0, 0, "end before this text; may be given several times"},
    {"--ignore-end", NULL, OPTION_FLAG, OPTION_AT(ignore_end), 0, 0, "do not end at the model's end token"},
    {"--chat", NULL, OPTION_FLAG, OPTION_AT(chat), 0, 0, "the prompt is a message: use the model's chat template; without a prompt, a chat"},
    {"--system", "TEXT", OPTION_WORDS, OPTION_AT(system), 0, 0, "with --chat: the system message"},
    {"--logits", "FILE", OPTION_TEXT, OPTION_AT(logits), 0, 0, "write the prompt's logits (an encoder: its output) as float32 [T, vocab] to FILE.npy; -n 0 stops there"},
    {"--chunk", "N", OPTION_INT, OPTION_AT(chunk), 1, INT_MAX, "read prompts in steps of at most N tokens"},
    {"--weights", "FILE", OPTION_TEXT, OPTION_AT(weights), 0, 0, "the file that holds the weights, when they are not in the program or beside it"},
    {"--bench", NULL, OPTION_FLAG, OPTION_AT(bench), 0, 0, "measure prefill, decode and batched decode"},
    {"--kernels", NULL, OPTION_FLAG, OPTION_AT(kernels), 0, 0, "with --bench: time, bytes, operations of each kernel, and how near it is to this machine's limits"},
    {"--prefill", "N", OPTION_INT, OPTION_AT(prefill), 1, INT_MAX, "with --bench: prompts of N tokens; default 512"},
    {"--decode-at", "N", OPTION_INT, OPTION_AT(decode_at), 1, INT_MAX, "with --bench: decode at a context of N tokens too, beside 160"},
    {"--sequences", "N", OPTION_INT, OPTION_AT(batches), 1, 16, "with --bench: batched decode of at most N sequences; default 16"},
    {"--latency", "MS", OPTION_NUMBER, OPTION_AT(latency), 0.001, 1e9, "with --bench: leave with 3 unless 99 of 100 tokens of one sequence take at most so many milliseconds"},
    {"--quick", NULL, OPTION_FLAG, OPTION_AT(quick), 0, 0, "with --bench: few repetitions, for a first look"},
    {"--info", NULL, OPTION_FLAG, OPTION_AT(info), 0, 0, "what this program is, and how much memory it will take"},
    {"--verify", NULL, OPTION_FLAG, OPTION_AT(verify), 0, 0, "read all weights and compare them with their hash first"},
    {"--json", NULL, OPTION_FLAG, OPTION_AT(json), 0, 0, "print one JSON object"},
    {"--help", NULL, OPTION_FLAG, OPTION_AT(help), 0, 0, "this help"},
    {"--version", NULL, OPTION_FLAG, OPTION_AT(version), 0, 0, "the compiler's version, the model, the target"},
};
#undef OPTION_AT
enum { OPTION_COUNT = sizeof option_table / sizeof *option_table, OPTION_OTHERS = 64 };

void tn_options_init(RunOptions *options) { *options = (RunOptions){.n = -1}; }

void tn_options_free(RunOptions *options) {
    free(options->prompts);
    options->prompts = NULL;
    options->prompt_count = 0;
}

static int option_number(const OptionSpec *spec, const char *text, double *out, tn_failure *failure) {
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (!*text || *end || strchr(text, 'x') || strchr(text, 'X'))
        return tn_fail(failure, TN_BAD_USAGE, "%s %s: not a number (at character %d)", spec->name, text, (int)(end - text) + 1);
    if (spec->kind == OPTION_INT && value != floor(value))
        return tn_fail(failure, TN_BAD_USAGE, "%s %s: not a whole number", spec->name, text);
    if (spec->high >= INT_MAX && value > spec->high)
        return tn_fail(failure, TN_BAD_USAGE, "%s %s: too large (at most %.15g)", spec->name, text, spec->high);
    if (isnan(value) || value < spec->low || value > spec->high) {
        if (spec->high >= INT_MAX)
            return tn_fail(failure, TN_BAD_USAGE, "%s %s: must be %.15g or more", spec->name, text, spec->low);
        return tn_fail(failure, TN_BAD_USAGE, "%s %s: must be between %.15g and %.15g", spec->name, text, spec->low, spec->high);
    }
    *out = value;
    return 0;
}

// "3G", "500M", "1536MiB"; "none".
static int option_size(const OptionSpec *spec, const char *text, unsigned long long *out, tn_failure *failure) {
    static const char units[] = "kmgt";
    char *end;
    double number = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end | 32) : NULL;
    *out = TN_ALL_MEMORY;
    if (!strcmp(text, "none"))
        return 0;
    for (long times = unit ? unit - units + 1 : 0; times > 0; times--)
        number *= 1024;
    const char *rest = end + (unit != NULL);
    if (end == text || (strcmp(rest, "") && strcmp(rest, "B") && strcmp(rest, "iB")) || !(number >= 1 && number < 1e18))
        return tn_fail(failure, TN_BAD_USAGE, "%s %s: not a size (such as 500M or 3G)", spec->name, text);
    *out = (unsigned long long)number;
    return 0;
}

static int option_seed(const OptionSpec *spec, const char *text, unsigned long long *out, tn_failure *failure) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    if (!*text || *end || *text == '-' || errno)
        return tn_fail(failure, TN_BAD_USAGE, "%s %s: not a whole number from 0 to 2^64-1", spec->name, text);
    return 0;
}

static int option_prompt(RunOptions *options, const char *text, bool ids, tn_failure *failure) {
    RunPrompt *grown = realloc(options->prompts, (size_t)(options->prompt_count + 1) * sizeof *grown);
    if (!grown)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory for the prompts");
    options->prompts = grown;
    options->prompts[options->prompt_count++] = (RunPrompt){text, ids};
    return 0;
}

static int option_set(RunOptions *options, const OptionSpec *spec, const char *text, tn_failure *failure) {
    char *at = (char *)options + spec->offset;
    double number = 0;
    switch (spec->kind) {
    case OPTION_FLAG:
        *(bool *)at = true;
        return 0;
    case OPTION_TEXT:
        *(const char **)at = text;
        return *text ? 0 : tn_fail(failure, TN_BAD_USAGE, "%s needs a file name, and this one is empty", spec->name);
    case OPTION_WORDS:
        *(const char **)at = text;
        return 0;
    case OPTION_INT:
        if (option_number(spec, text, &number, failure))
            return -1;
        *(int *)at = (int)number;
        return 0;
    case OPTION_NUMBER:
        if (option_number(spec, text, &number, failure))
            return -1;
        *(double *)at = number;
        return 0;
    case OPTION_SIZE:
        return option_size(spec, text, (unsigned long long *)at, failure);
    case OPTION_SEED:
        return option_seed(spec, text, (unsigned long long *)at, failure);
    case OPTION_STOP:
        if (!*text)
            return tn_fail(failure, TN_BAD_USAGE, "--stop: an empty text would end everything at once");
        if (options->stop_count == TN_MAX_STOPS)
            return tn_fail(failure, TN_BAD_USAGE, "--stop: at most %d", TN_MAX_STOPS);
        options->stops[options->stop_count++] = text;
        return 0;
    case OPTION_PROMPT:
    case OPTION_IDS:
        return option_prompt(options, text, spec->kind == OPTION_IDS, failure);
    }
    return 0;
}

int tn_options_take(RunOptions *options, int argc, char *const *argv, int at, tn_failure *failure) {
    const char *argument = argv[at], *equals = strchr(argument, '=');
    for (int i = 0; i < OPTION_COUNT; i++) {
        const OptionSpec *spec = &option_table[i];
        size_t length = strlen(spec->name);
        if (spec->name[1] == '-' && equals && (size_t)(equals - argument) == length && !strncmp(argument, spec->name, length)) {
            if (!spec->value)
                return tn_fail(failure, TN_BAD_USAGE, "%s takes no value", spec->name);
            return option_set(options, spec, equals + 1, failure) ? -1 : 1;
        }
        if (strcmp(argument, spec->name))
            continue;
        if (!spec->value)
            return option_set(options, spec, "", failure) ? -1 : 1;
        if (at + 1 >= argc)
            return tn_fail(failure, TN_BAD_USAGE, "%s needs a value: %s %s", spec->name, spec->name, spec->value);
        return option_set(options, spec, argv[at + 1], failure) ? -1 : 2;
    }
    return 0;
}

bool tn_options_known(const char *name) {
    for (int i = 0; i < OPTION_COUNT; i++)
        if (!strcmp(option_table[i].name, name))
            return true;
    return false;
}

int tn_options_unknown(const char *argument, const char *const *others, int other_count, tn_failure *failure) {
    const char *names[OPTION_COUNT + OPTION_OTHERS];
    char word[64];
    int count = 0;
    for (; count < OPTION_COUNT; count++)
        names[count] = option_table[count].name;
    for (int i = 0; i < other_count && i < OPTION_OTHERS; i++)
        names[count++] = others[i];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(argument, "="), argument);
    if (*argument != '-')
        return tn_fail(failure, TN_BAD_USAGE, "unexpected argument '%s'; a prompt is given with -p TEXT", argument);
    const char *near = tn_nearest(word, names, count);
    if (near)
        return tn_fail(failure, TN_BAD_USAGE, "unknown option %s; did you mean %s?", word, near);
    return tn_fail(failure, TN_BAD_USAGE, "unknown option %s; --help lists them", word);
}

int tn_options_check(const RunOptions *options, tn_failure *failure) {
    bool ids = false, prompts = options->batch || options->prompt_count;
    for (int i = 0; i < options->prompt_count; i++)
        ids |= options->prompts[i].ids;
    if (options->batch && options->prompt_count)
        return tn_fail(failure, TN_BAD_USAGE, "--batch FILE and %s both give prompts: use one of them", options->prompts[0].ids ? "--tokens" : "-p");
    if (options->chat && ids)
        return tn_fail(failure, TN_BAD_USAGE, "--chat puts a text into a template: it does not go with --tokens");
    if (options->bench && (options->info || options->logits || options->batch || options->prompt_count))
        return tn_fail(failure, TN_BAD_USAGE, "--bench makes its own prompts: it does not go with -p, --tokens, --batch, --logits or --info");
    if (!options->bench && (options->kernels || options->quick || options->prefill || options->decode_at || options->batches || options->latency > 0))
        return tn_fail(failure, TN_BAD_USAGE, "%s belongs to --bench", options->kernels   ? "--kernels"
                                                                       : options->quick   ? "--quick"
                                                                       : options->prefill ? "--prefill"
                                                                       : options->batches ? "--sequences"
                                                                       : options->latency > 0 ? "--latency"
                                                                                          : "--decode-at");
    if (options->system && (ids || options->bench || (!options->chat && prompts)))
        return tn_fail(failure, TN_BAD_USAGE, "--system belongs to --chat");
    if (options->logits && !prompts && !options->info)
        return tn_fail(failure, TN_BAD_USAGE, "--logits needs a prompt: -p TEXT, --tokens IDS or --batch FILE");
    if (options->json && options->chat && !prompts && !options->info)
        return tn_fail(failure, TN_BAD_USAGE, "--json needs a prompt: a chat is not one JSON object");
    return 0;
}

void tn_options_help(FILE *to) {
    for (int i = 0; i < OPTION_COUNT; i++) {
        char left[40];
        snprintf(left, sizeof left, "%s%s%s", option_table[i].name, option_table[i].value ? " " : "", option_table[i].value ? option_table[i].value : "");
        fprintf(to, "  %-20s %s\n", left, option_table[i].help);
    }
}
