// tenon targets: which machines tenon compiles for, which of them this one is, and what it found here.
#include "codegen/targets/targets.h"
#include "driver/driver.h"
#include "runtime/cpu.h"

#include <string.h>

static void as_text(Text *out, const Target *native) {
    CpuFeature features[TN_CPU_FEATURES];
    int count = tn_cpu_features(features, COUNT_OF(features));
    text_printf(out, "%-20s %-18s %s\n", "target", "here", "what");
    for (int i = 0; target_at(i); i++) {
        const Target *target = target_at(i);
        text_printf(out, "%-20s %-18s %s\n", target->name,
                    target == native           ? "yes (native)"
                    : target_runs_here(target) ? "yes"
                                               : "no",
                    target_meaning(target));
    }
    text_puts(out, "\nthis machine has:");
    for (int i = 0; i < count; i++)
        if (features[i].usable) text_printf(out, " %s", features[i].name);
    text_puts(out, "\nand lacks:");
    for (int i = 0; i < count; i++)
        if (!features[i].usable) text_printf(out, " %s", features[i].name);
    text_puts(out, "\n");
}

static void as_json(Text *out, const Target *native) {
    CpuFeature features[TN_CPU_FEATURES];
    int count = tn_cpu_features(features, COUNT_OF(features));
    text_puts(out, "{\"native\": ");
    json_text(out, native->name);
    text_puts(out, ", \"targets\": [");
    for (int i = 0; target_at(i); i++) {
        const Target *target = target_at(i);
        text_puts(out, i ? ", {\"name\": " : "{\"name\": ");
        json_text(out, target->name);
        text_puts(out, ", \"triple\": ");
        json_text(out, target->triple);
        text_printf(out, ", \"runs_here\": %s, \"vector_bits\": %d}", target_runs_here(target) ? "true" : "false", target->vector_bits);
    }
    text_puts(out, "], \"features\": {");
    for (int i = 0; i < count; i++)
        text_printf(out, "%s\"%s\": %s", i ? ", " : "", features[i].name, features[i].usable ? "true" : "false");
    text_puts(out, "}}\n");
}

static int run(const Command *command, int argc, char **argv) {
    bool json = false;
    Options options = {.command = command};
    option_add(&options, "--json", OPTION_FLAG, &json, NULL, "one JSON object");
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    Diags *diags = diags_new();
    Text out = {0};
    (json ? as_json : as_text)(&out, target_find("native", diags));
    code = print_out(&out);
    text_free(&out);
    diags_free(diags);
    return code;
}

const Command targets_command = {
    "targets",
    "[--json]",
    "the machines tenon compiles for, and what this one has",
    "Lists the targets that --target takes, and which of them run here. A feature counts when the processor has it and the kernel saves "
    "its\n"
    "state; a processor's name is never asked. `native` means the best that runs here.",
    "  tenon targets\n  tenon compile model.yaml -o model --target x86-64-v3\n      a program for any machine with AVX2\n",
    run,
};
