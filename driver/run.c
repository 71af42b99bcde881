// tenon run: compile in memory and run. The model's options are the run time's (runtime/cli.h); those of the compiler come beside them.
#include "driver/build.h"

#include <stdlib.h>

static int run_model(const char *path, const BuildOptions *build, const RunOptions *run) {
    Diags *diags = diags_new();
    Program program;
    int code, ran = EXIT_DONE;
    bool opened = program_open(&program, path, build, &code, diags);
    int said = finish(diags);
    if (!opened) return code > said ? code : said;
    ran = tenon_run(&program.program, program.blob, run);
    program_close(&program);
    return ran;
}

int run_command_line(const Command *command, int argc, char **argv, bool bench) {
    const char *path = NULL;
    BuildOptions build;
    RunOptions run;
    build_options_init(&build);
    tn_options_init(&run);
    run.bench = bench;
    Options options = {.command = command, .run = &run, .arguments = &path, .argument_room = 1, .argument_least = 1};
    build_options_add(&options, &build);
    cache_options_add(&options, &build);
    reference_option_add(&options, &build);
    int code = options_parse(&options, argc, argv);
    tn_failure failure = {0};
    if (code < 0 && tn_options_check(&run, &failure)) code = usage_error(command, "%s", failure.text);
    if (bench && build.latency) run.latency = strtod(build.latency, NULL);
    if (code < 0 && run.weights) code = usage_error(command, "--weights is for compiled programs; here the weights come from the model");
    if (code < 0 && run.version) {
        puts("tenon " TENON_VERSION);
        code = EXIT_DONE;
    }
    if (code < 0) code = run_model(path, &build, &run);
    tn_options_free(&run);
    return code;
}

static int run(const Command *command, int argc, char **argv) { return run_command_line(command, argc, argv, false); }

const Command run_command = {
    "run",
    "MODEL [-p TEXT] …",
    "compile in memory and run",
    "Compiles the model for this machine, in memory, and runs it. Code and packed weights are kept in $XDG_CACHE_HOME/tenon "
    "(~/.cache/tenon),\n"
    "so that the next run starts at once. On a terminal without a prompt it is a chat.",
    "  tenon run smollm2.gguf -p \"Why is the sky blue?\" -n 100\n"
    "  tenon run smollm2.gguf --chat -p \"Write a haiku\" --temp 0.8 --seed 7\n"
    "  tenon run model.yaml --batch prompts.txt -n 32 --json\n"
    "  tenon run model.yaml --tokens 1,2,3 -n 0 --logits out.npy\n"
    "      every position's logits, float32, for comparing\n"
    "  tenon run model.yaml --reference --tokens 1,2,3 -n 0 --logits expected.npy\n"
    "      the same by the reference interpreter\n",
    run,
};
