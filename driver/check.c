// tenon check: is this model right? Parses, type-checks and looks every parameter up; prints the graph IR.
#include "driver/build.h"
#include "driver/driver.h"

static int check(const char *path, const BuildOptions *build, Diags *diags) {
    Arena *arena = arena_new();
    Model *model = model_open(arena, path, diags);
    int code = EXIT_INPUT;
    if (model && (!build->passes || build_passes(model->module, build, diags))) {
        Text out = {0};
        module_print(model->module, &out);
        code = print_out(&out);
        text_free(&out);
    }
    if (model) model_close(model);
    arena_free(arena);
    return code;
}

static int run(const Command *command, int argc, char **argv) {
    const char *path = NULL;
    BuildOptions build;
    build_options_init(&build);
    Options options = {.command = command, .arguments = &path, .argument_room = 1, .argument_least = 1};
    build_options_add(&options, &build);
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    Diags *diags = diags_new();
    code = check(path, &build, diags);
    int said = finish(diags);
    return said ? said : code;
}

const Command check_command = {
    "check",
    "MODEL",
    "parse, type-check, look every parameter up",
    "Reads a model, checks every expression's types and looks up every parameter in the weight files. All mistakes are reported, each "
    "with\n"
    "its place, cause and a hint. The graph IR of a model that is right goes to standard output; with --passes, as it is after them.",
    "  tenon check model.yaml > /dev/null && echo right\n  tenon check model.yaml --passes=share,fuse | less\n      what the passes make "
    "of it\n",
    run,
};
