// The command line of a compiled program.
#include "runtime/cli.h"
#include "runtime/cpu.h"
#include "runtime/numa.h"
#include <string.h>

static void program_help(const tn_program *program, const char *name) {
    printf("%s: %s, compiled for %s by %s\n\n", name, program->model, program->target, program->compiler);
    printf("usage: %s -p TEXT [options]      continue a text\n", name);
    printf("       %s --chat [-p TEXT]       answer a message, or talk\n", name);
    printf("       %s --batch FILE           a prompt a line, all at once\n\n", name);
    tn_options_help(stdout);
    if (program->variants)
        printf("\nIt runs the first of its targets that this machine can run; TENON_TARGET=NAME in the environment takes another.\n");
    printf("\nexit code: 0 done, 1 the input is wrong, 2 the command line is wrong, 3 this machine cannot\n");
}

static int program_parse(RunOptions *options, int argc, char **argv, tn_failure *failure) {
    for (int at = 1, taken; at < argc; at += taken) {
        taken = tn_options_take(options, argc, argv, at, failure);
        if (taken == 0)
            return tn_options_unknown(argv[at], NULL, 0, failure);
        if (taken < 0)
            return -1;
    }
    return tn_options_check(options, failure);
}

// --info is for other machines too: where none of the targets runs, it shows the best.
static int program_run(const tn_program *program, RunOptions *options, tn_failure *failure) {
    tn_failure cannot = {0};
    const tn_program *chosen = tn_choose(program, &cannot);
    if (!chosen && (!options->info || cannot.code != TN_BAD_MACHINE)) {
        *failure = cannot;
        return -1;
    }
    options->targets = program->variants ? program->target : NULL;
    program = chosen ? chosen : program->variants ? program->variants[0] : program;
    tn_guard_install();
    if (options->threads != 1)
        tn_numa_spread(tn_numa_nodes(NUMA_FOLDER));
    Blob *blob = options->weights ? tn_blob_open(options->weights, program, failure) : tn_blob_find(program, failure);
    if (!blob)
        return -1;
    int code = tenon_run(program, blob, options);
    tn_blob_close(blob);
    return code;
}

int tenon_program_main(const tn_program *program, int argc, char **argv) {
    RunOptions options;
    tn_failure failure = {0};
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL, *name = slash ? slash + 1 : argc > 0 ? argv[0] : program->model;
    int code = 0;
    tn_options_init(&options);
    if (program_parse(&options, argc, argv, &failure))
        code = failure.code;
    else if (options.help)
        program_help(program, name);
    else if (options.version)
        printf("%s for %s, %s\n", program->model, program->target, program->compiler);
    else
        code = program_run(program, &options, &failure);
    if (failure.code) {
        fprintf(stderr, "error: %s\n", failure.text);
        code = failure.code;
    }
    tn_options_free(&options);
    return code;
}
