// tenon check: is this model right? Parses, type-checks and looks every parameter up; prints the graph IR, and how many parameters there are.
#include "driver/build.h"
#include "driver/driver.h"
#include "driver/parameters.h"

typedef struct { BuildOptions build; bool no_weights, json; } Check;

static int check(const char *path, const Check *job, Diags *diags) {
    Arena *arena = arena_new();
    Model *model = job->no_weights ? model_load_declared(arena, path, diags) : model_open(arena, path, diags);
    int code = EXIT_INPUT;
    Text line = {0}, out = {0};
    if (model) parameters_line(model, &line);
    if (model && job->json) parameters_json(model, &out);
    if (model && (!job->build.passes || build_passes(model->module, &job->build, diags))) {
        if (!job->json) module_print(model->module, &out);
        code = print_out(&out);
        if (!job->json && code == EXIT_DONE) fputs(line.data, stderr);
    }
    text_free(&line);
    text_free(&out);
    if (model) model_close(model);
    arena_free(arena);
    return code;
}

static int run(const Command *command, int argc, char **argv) {
    const char *path = NULL;
    Check job = {0};
    build_options_init(&job.build);
    Options options = {.command = command, .arguments = &path, .argument_room = 1, .argument_least = 1};
    option_add(&options, "--no-weights", OPTION_FLAG, &job.no_weights, NULL, "open no weight file: every tensor is taken to be as the model declares it, in bf16");
    build_options_add(&options, &job.build);
    option_add(&options, "--json", OPTION_FLAG, &job.json, NULL, "instead of the IR one JSON object: parameters, and each tensor's name, shape and use");
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    Diags *diags = diags_new();
    code = check(path, &job, diags);
    int said = finish(diags);
    return said ? said : code;
}

const Command check_command = {
    "check",
    "MODEL",
    "parse, type-check, look every parameter up",
    "Reads a model, checks every expression's types and looks up every parameter in the weight files. All mistakes are reported, each "
    "with\n"
    "its place, cause and a hint. The graph IR of a model that is right goes to standard output; with --passes, as it is after them. How many\n"
    "parameters it has, each counted once, and what sharing them saves goes to standard error.",
    "  tenon check model.yaml > /dev/null && echo right\n  tenon check model.yaml --passes=share,fuse | less\n      what the passes make "
    "of it\n"
    "  tenon check model.yaml --no-weights --json\n      which tensors such a model has, before there are any\n",
    run,
};
