// tenon opt: passes on IR text, as their tests use it.
#include "driver/build.h"
#include "driver/driver.h"

static int optimize(const char *path, const BuildOptions *build, Diags *diags) {
    Text text = {0}, out = {0};
    Arena *arena = arena_new();
    int code = EXIT_INPUT;
    if (read_text(path, &text, diags)) {
        Module *module = module_parse(arena, path, text.data, text.length, diags);
        if (module && build_passes(module, build, diags)) {
            module_print(module, &out);
            code = print_out(&out);
        }
    }
    text_free(&out);
    text_free(&text);
    arena_free(arena);
    return code;
}

static int run(const Command *command, int argc, char **argv) {
    const char *path = "-";
    BuildOptions build;
    build_options_init(&build);
    build.target = "generic";
    Options options = {.command = command, .arguments = &path, .argument_room = 1};
    build_options_add(&options, &build);
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    Diags *diags = diags_new();
    code = optimize(path, &build, diags);
    int said = finish(diags);
    return said ? said : code;
}

const Command opt_command = {
    "opt",
    "[FILE.tir]",
    "run passes on IR text",
    "Reads IR text (or standard input), runs the passes on it and prints the result on standard output. The target is `generic` unless\n"
    "--target says otherwise, so that the output is the same on every machine.",
    "  tenon opt --passes=fuse in.tir\n  tenon check model.yaml | tenon opt --passes=share,canonicalize --print-after=share\n",
    run,
};
