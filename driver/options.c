// The command line, one parser for all subcommands. A command lists its options as rows; those of running a model come from the run time's
// own parser (runtime/cli.h), so that `tenon run` and a compiled program understand the same words.
#include "driver/driver.h"
#include "passes/prune.h"
#include "driver/latency.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void option_add(Options *options, const char *name, OptionKind kind, void *into, const char *argument, const char *help) {
    if (options->count < MAX_OPTIONS) options->options[options->count++] = (Option){name, kind, into, argument, help};
}

void usage_hint(const Command *command) {
    if (command)
        fprintf(stderr, "usage: tenon %s %s\n       tenon %s --help explains\n", command->name, command->arguments, command->name);
    else
        fputs("       tenon --help lists the commands\n", stderr);
}

int usage_error(const Command *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("tenon: error: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("\n", stderr);
    usage_hint(command);
    return EXIT_USAGE;
}

void command_help(const Options *options, FILE *to) {
    const Command *command = options->command;
    fprintf(to, "usage: tenon %s %s\n\n%s\n", command->name, command->arguments, command->help);
    if (options->count) fputs("\nOptions:\n", to);
    for (int i = 0; i < options->count; i++) {
        const Option *option = &options->options[i];
        char left[64];
        snprintf(left, sizeof left, "%s %s", option->name, option->argument ? option->argument : "");
        fprintf(to, "  %-*s %s\n", column(left, 22), left, option->help);
    }
    fprintf(to, "  %-22s %s\n", "--help", "this text");
    if (options->run) {
        fputs("\nTo run (the same in a compiled program):\n", to);
        tn_options_help(to);
    }
    fprintf(to, "\nExamples:\n%s\nExit codes: 0 done, 1 the input is wrong, 2 the command line is wrong, 3 this machine cannot.\n",
            command->examples);
}

// "64", "64K", "1.5G", "64T", with or without B or iB; "none" is 0.
static bool parse_size(const char *text, uint64_t *size) {
    char *end;
    errno = 0;
    if (strcmp(text, "none") == 0) return *size = 0, true;
    unsigned long long number = strtoull(text, &end, 10);
    if (end == text || *text == '-' || errno) return false;
    static const char units[] = "kmgt";
    uint64_t unit = 1;
    double part = 0;
    if (*end == '.') {
        size_t digits = strspn(end + 1, "0123456789");
        part = strtod(end, NULL);
        if (!digits) return false;
        end += 1 + digits;
    }
    if (*end) {
        const char *found = strchr(units, *end | 32);
        if (found) {
            unit = (uint64_t)1 << 10 * (found - units + 1);
            end++;
        }
        end += *end == 'i';
        end += *end == 'B' || *end == 'b';
    }
    return *end == 0 && size_mad(number, unit, (uint64_t)(part * (double)unit), UINT64_MAX / 2, size);
}

// 0, or the exit code after a message.
static int store(const Options *options, const Option *option, const char *value) {
    uint64_t number = 0;
    bool numeric = option->kind == OPTION_SIZE || option->kind == OPTION_COUNT, size = numeric && parse_size(value, &number);
    bool large = size || (numeric && *value && !value[strspn(value, "0123456789")]);
    switch (option->kind) {
    case OPTION_FLAG: *(bool *)option->into = true; return 0;
    case OPTION_TEXT: *(const char **)option->into = value; return 0;
    case OPTION_SIZE:
        if (size) return *(uint64_t *)option->into = number, 0;
        return usage_error(options->command, large ? "%s: '%s' is too large" : "%s: '%s' is not a size (such as 500M or 20G)", option->name, value);
    case OPTION_COUNT:
        if (size && number >= 1 && number <= INT32_MAX && !strchr(value, '.')) return *(int *)option->into = (int)number, 0;
        if (size && number <= INT32_MAX) return usage_error(options->command, "%s: '%s' is not a whole number from 1 on", option->name, value);
        return usage_error(options->command, large ? "%s: '%s' is too large (at most 2147483647)" : "%s: '%s' is not a number", option->name, value);
    }
    return EXIT_USAGE;
}

// How many places were used (0: none of these options; -1: wrong, exit code in *code). `--name=value` and `--name value` mean the same.
static int take(const Options *options, int argc, char **argv, int at, int *code) {
    const char *argument = argv[at];
    size_t length = strcspn(argument, "=");
    for (int i = 0; i < options->count; i++) {
        const Option *option = &options->options[i];
        bool whole = strcmp(argument, option->name) == 0;
        if (!whole && !(argument[length] == '=' && strlen(option->name) == length && strncmp(argument, option->name, length) == 0))
            continue;
        if (option->kind == OPTION_FLAG && !whole)
            *code = usage_error(options->command, "%s takes no value", option->name);
        else if (option->kind == OPTION_FLAG || !whole)
            *code = store(options, option, argument + length + 1);
        else if (at + 1 >= argc)
            *code = usage_error(options->command, "%s needs a value: %s %s", option->name, option->name, option->argument);
        else
            *code = store(options, option, argv[at + 1]);
        return *code ? -1 : whole && option->kind != OPTION_FLAG ? 2 : 1;
    }
    return 0;
}

static int unknown(const Options *options, const char *argument) {
    const char *names[MAX_OPTIONS + 1];
    int count = 0;
    for (int i = 0; i < options->count; i++) names[count++] = options->options[i].name;
    names[count++] = "--help";
    if (options->run) {
        tn_failure failure = {0};
        tn_options_unknown(argument, names, count, &failure);
        return usage_error(options->command, "%s", failure.text);
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument, "="), argument);
    const char *near = nearest_name(name, names, count);
    return usage_error(options->command, near ? "unknown option %s (did you mean %s?)" : "unknown option %s", name, near);
}

bool option_given(const Options *options, const char *name) {
    size_t length = strlen(name);
    for (int i = 0; i < options->given_count; i++)
        if (strncmp(options->given[i], name, length) == 0 && (!options->given[i][length] || options->given[i][length] == '=')) return true;
    return false;
}

// Run options, and the compiler's.
static int take_any(const Options *options, int argc, char **argv, int at, int *code) {
    int used = take(options, argc, argv, at, code);
    if (used || !options->run) return used;
    tn_failure failure = {0};
    used = tn_options_take(options->run, argc, argv, at, &failure);
    if (used < 0) *code = usage_error(options->command, "%s", failure.text);
    return used;
}

bool option_known(const Options *options, const char *name) {
    for (int i = 0; i < options->count; i++)
        if (strcmp(options->options[i].name, name) == 0) return true;
    return options->run && tn_options_known(name);
}

int option_set(Options *options, const char *name, const char *value) {
    int code = EXIT_DONE;
    return take_any(options, 2, (char *[]){(char *)name, (char *)value, NULL}, 0, &code) > 0 ? EXIT_DONE : code;
}

// -1: go on; else the exit code.
static int parse_words(Options *options, int argc, char **argv) {
    bool only_arguments = false;
    for (int at = 1; at < argc;) {
        const char *argument = argv[at];
        if (only_arguments || argument[0] != '-' || !argument[1]) {
            if (options->argument_count >= options->argument_room)
                return usage_error(options->command, "unexpected argument '%s'", argument);
            options->arguments[options->argument_count++] = argument;
            at++;
            continue;
        }
        if (strcmp(argument, "--") == 0) {
            only_arguments = true;
            at++;
            continue;
        }
        if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
            command_help(options, stdout);
            return EXIT_DONE;
        }
        int code = 0, used = take_any(options, argc, argv, at, &code);
        if (code) return code;
        if (used == 0) return unknown(options, argument);
        if (options->given_count < MAX_GIVEN) options->given[options->given_count++] = argument;
        at += used;
    }
    return -1;
}

static bool prune_is_wrong(const char *words) {
    Diags *diags = diags_new();
    PruneSpec spec;
    bool well = prune_spec_read(words, &spec, diags);
    if (!well) diags_print(diags, stderr);
    diags_free(diags);
    return !well;
}

static int check(Options *options) {
    if (options->build && options->build->prune && strcmp(options->build->prune, "none") == 0) options->build->prune = NULL;   // against a profile's
    if (options->build && options->build->prune && prune_is_wrong(options->build->prune)) return EXIT_USAGE;
    if (options->argument_count < options->argument_least)
        return usage_error(options->command, "%s is missing", options->argument_room > 1 ? "an argument" : "the model");
    if (options->build && options->build->show && !options->build->profile) return usage_error(options->command, "--show prints a profile, and no --profile is given");
    int code = options->build ? build_options_check(options->command, options->build) : EXIT_DONE;
    if (code == EXIT_DONE && options->build) code = latency_choose(options);
    return code ? code : -1;
}

int options_parse(Options *options, int argc, char **argv) {
    int code = parse_words(options, argc, argv);
    if (code < 0 && options->build && options->build->profile) code = profile_apply(options);
    return code < 0 ? check(options) : code;
}

void build_options_init(BuildOptions *build) { *build = (BuildOptions){.target = "native", .cache_size = (uint64_t)20 << 30}; }

void build_options_add(Options *options, BuildOptions *build) {
    option_add(options, "--target", OPTION_TEXT, &build->target, "T", "the machine to compile for (tenon targets lists them; native); compile takes several: T,T…");
    option_add(options, "--quant", OPTION_TEXT, &build->quantize, "Q", "numbers: as-stored (default), a8, w8a8, w6a8, w5a8, w4a8, w4a16, bf16, f16, auto");
    option_add(options, "--group", OPTION_TEXT, &build->group, "N", "scales of weights are of 32, 64 or 128 elements, or of a channel");
    option_add(options, "--act-group", OPTION_TEXT, &build->activation_group, "N", "scales of activations: 32, 64, 128 or row");
    option_add(options, "--bits", OPTION_TEXT, &build->bits, "LIST", "\"NAME=BITS …\": 4, 5, 6, 8, 16 or 0 (as stored) for the matrix NAME, 4g64 with groups; * stands for any text");
    option_add(options, "--budget-kl", OPTION_TEXT, &build->budget_kl, "X", "--quant auto: the smallest formats within this KL divergence (0.01)");
    option_add(options, "--budget-bits", OPTION_TEXT, &build->budget_bits, "B", "--quant auto: the best formats within so many bits a weight");
    option_add(options, "--calibrate", OPTION_TEXT, &build->calibrate, "FILE", "round weights by what they are multiplied with on the text in FILE; the word default: a small one that comes along");
    option_add(options, "--prune", OPTION_TEXT, &build->prune, "P,P…",
               "values become zero: a rate (0.4, 40%), 2:4, block:64x64=RATE, for one matrix NAME=…; these go: neurons=RATE, heads=RATE, experts=RATE; with --calibrate by importance");
    option_add(options, "--kv", OPTION_TEXT, &build->kv, "F", "what the KV cache keeps: f32, f16, bf16, int8; default: bf16 where --quant has narrow activations, else f32");
    option_add(options, "--step-tokens", OPTION_COUNT, &build->step_tokens, "N", "tokens in a step at most: memory for intermediate values; default 512");
    option_add(options, "--step-sequences", OPTION_COUNT, &build->step_sequences, "N", "sequences in a step at most; default 64");
    option_add(options, "--latency", OPTION_TEXT, &build->latency, "MS", "without --quant: the best format whose token takes at most so many milliseconds on this machine; with it: whether that does");
    option_add(options, "--profile", OPTION_TEXT, &build->profile, "P", "cloud, edge or realtime: a list of these options, which --profile P --show prints; an option that is given counts before it");
    option_add(options, "--show", OPTION_FLAG, &build->show, NULL, "print what --profile stands for, and end");
    option_add(options, "--sparse", OPTION_TEXT, &build->sparse, "WHEN", "auto, never, always or blocks: pruned matrices lie without their zeros (or without whole blocks of them); the same results; by default where it is faster");
    option_add(options, "--symmetric", OPTION_FLAG, &build->symmetric, NULL, "4-bit weights without a minimum");
    option_add(options, "--no-fusion", OPTION_FLAG, &build->no_fusion, NULL, "a kernel for each op: to measure what fusing is worth");
    option_add(options, "--no-tuning", OPTION_FLAG, &build->no_tuning, NULL, "the built-in schedules, whatever tenon tune found");
    pass_options_add(options, build);
}

void pass_options_add(Options *options, BuildOptions *build) {
    options->build = build;
    option_add(options, "--passes", OPTION_TEXT, &build->passes, "P,P…", "only these passes, or none");
    option_add(options, "--skip-pass", OPTION_TEXT, &build->skip, "P,P…", "all passes but these");
    option_add(options, "--print-after", OPTION_TEXT, &build->print_after, "P", "print the IR after a pass, or after all");
    option_add(options, "--timing", OPTION_FLAG, &build->timing, NULL, "how long each pass and each step took");
}

void cache_options_add(Options *options, BuildOptions *build) {
    option_add(options, "--cache-size", OPTION_SIZE, &build->cache_size, "SIZE", "bound of the cache of code, packed weights and what was calibrated (20G)");
    option_add(options, "--no-cache", OPTION_FLAG, &build->no_cache, NULL, "neither read nor write the cache");
}

void reference_option_add(Options *options, BuildOptions *build) {
    option_add(options, "--reference", OPTION_FLAG, &build->reference, NULL,
               "run the reference interpreter instead: slow, the oracle of compiled code");
}
