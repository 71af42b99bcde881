// Profiles: one word for a list of ordinary options. The table below is all that a profile is; --profile P --show prints it. An option that is given beside
// the profile counts before it. What a target lacks is taken from the next row of the same option that fits.
//
// realtime alone decides something: its formats stand in the order of their quality, and the first whose token takes no longer than --latency on this
// machine is taken (latency.c).
#include "driver/build.h"

#include "codegen/codegen.h"

#include <string.h>

typedef struct {
    const char *profile, *option, *value;
    bool (*fits)(const Target *target); // NULL: any
    const char *why;
} ProfileRow;

static bool multiplies_bf16(const Target *target) { return target->dot_bf16 || target->tile_bf16; }

static const ProfileRow rows[] = {
    {"cloud", "--quant", "bf16", multiplies_bf16, "16-bit weights; the target multiplies bf16"},
    {"cloud", "--quant", "f16", NULL, "16-bit weights"},
    {"cloud", "--kv", "bf16", multiplies_bf16, "the target attends in bf16"},
    {"cloud", "--kv", "f16", NULL, "half of what float32 takes"},
    {"cloud", "--step-tokens", "2048", NULL, "long prompts in few steps"},
    {"cloud", "--step-sequences", "256", NULL, "many sequences at once"},

    {"edge", "--quant", "w4a8", NULL, "4-bit weights in groups of 32, int8 arithmetic; tables of tokens 6 bits"},
    {"edge", "--prune", "10%", NULL, "the tenth of each row that is nearest to zero; none: nothing"},
    {"edge", "--kv", "int8", NULL, "a quarter of what float32 takes"},
    {"edge", "--memory", "3G", NULL, "experts that do not fit are read when they are chosen"},
    {"edge", "--step-tokens", "128", NULL, "a quarter of the memory for intermediate values"},
    {"edge", "--step-sequences", "4", NULL, "one user, a few threads of thought"},

    {"realtime", "--latency", "200", NULL, "milliseconds that a token may take"},
    {"realtime", "--kv", "bf16", multiplies_bf16, "the target attends in bf16"},
    {"realtime", "--kv", "f16", NULL, "half of what float32 takes"},
    {"realtime", "--step-tokens", "128", NULL, "no step of a prompt takes long"},
    {"realtime", "--step-sequences", "4", NULL, "one user"},
};

static const char *const profiles[][2] = {
    {"cloud", "what a server with memory to spare runs: the model's own accuracy, many sequences at once"},
    {"edge", "what a small machine runs: few bytes"},
    {"realtime", "the best accuracy whose tokens come in time on this machine"},
};

// The rows of a profile that count for a target: of several for one option, the first that fits.
static bool counts(const ProfileRow *row, const char *profile, const Target *target) {
    if (strcmp(row->profile, profile) != 0 || (row->fits && !row->fits(target))) return false;
    for (const ProfileRow *before = rows; before < row; before++)
        if (strcmp(before->profile, profile) == 0 && strcmp(before->option, row->option) == 0 && (!before->fits || before->fits(target))) return false;
    return true;
}

static int unknown(const Options *options, const char *profile) {
    const char *names[COUNT_OF(profiles)];
    for (size_t i = 0; i < COUNT_OF(profiles); i++) names[i] = profiles[i][0];
    const char *near = nearest_name(profile, names, COUNT_OF(profiles));
    return usage_error(options->command, near ? "there is no profile '%s' (did you mean %s?)" : "there is no profile '%s': they are cloud, edge and realtime",
                       profile, near);
}

static const char *meaning(const char *profile) {
    for (size_t i = 0; i < COUNT_OF(profiles); i++)
        if (strcmp(profile, profiles[i][0]) == 0) return profiles[i][1];
    return NULL;
}

static int show(const Options *options, const char *profile, const Target *target) {
    Text out = {0};
    text_printf(&out, "%s for %s: %s\n", profile, target->name, meaning(profile));
    for (const ProfileRow *row = rows; row < rows + COUNT_OF(rows); row++) {
        char words[64];
        if (!counts(row, profile, target)) continue;
        snprintf(words, sizeof words, "%s %s", row->option, row->value);
        text_printf(&out, "  %-24s %s%s\n", words, row->why,
                    option_given(options, row->option)    ? " (not here: another was given)"
                    : !option_known(options, row->option) ? " (not for this command)"
                                                          : "");
    }
    int code = print_out(&out);
    text_free(&out);
    return code;
}

int profile_apply(Options *options) {
    const BuildOptions *build = options->build;
    const char *profile = build->profile;
    if (!meaning(profile)) return unknown(options, profile);
    Diags *diags = diags_new();
    const Target *target = build_target(build, diags);
    if (finish(diags) || !target) {
        usage_hint(options->command);
        return EXIT_USAGE;
    }
    if (build->show) return show(options, profile, target);
    for (const ProfileRow *row = rows; row < rows + COUNT_OF(rows); row++) {
        if (!counts(row, profile, target) || option_given(options, row->option) || !option_known(options, row->option)) continue;
        int code = option_set(options, row->option, row->value);
        if (code != EXIT_DONE) return code;
    }
    return -1;
}
