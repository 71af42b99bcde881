// tenon import: a .gguf file or a Hugging Face folder becomes a model description.
#include "codegen/link.h"
#include "driver/driver.h"
#include "frontend/frontend.h"

static int import(const char *source, const char *out, Diags *diags) {
    Text yaml = {0};
    int code = EXIT_INPUT;
    if (import_model(source, out, &yaml, diags)) {
        if (out)
            code = write_file(out, yaml.data, yaml.length, diags) ? EXIT_DONE : EXIT_INPUT;
        else
            code = print_out(&yaml);
    }
    text_free(&yaml);
    return code;
}

static int run(const Command *command, int argc, char **argv) {
    const char *source = NULL, *out = NULL;
    Options options = {.command = command, .arguments = &source, .argument_room = 1, .argument_least = 1};
    option_add(&options, "-o", OPTION_TEXT, &out, "FILE", "write it there; weights are then named relative to its folder");
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    Diags *diags = diags_new();
    code = import(source, out, diags);
    int said = finish(diags);
    return said ? said : code;
}

const Command import_command = {
    "import",
    "SOURCE [-o model.yaml]",
    "a .gguf or a Hugging Face folder becomes a model description",
    "Recognises the architecture from the file's own metadata, and writes the model as YAML: sizes filled in, parameters named as in the\n"
    "weight file, the chat template reduced to plain text. Weights stay where they are. The result is meant to be read and changed.",
    "  tenon import smollm2.gguf -o smollm2.yaml\n  tenon import ./Qwen3-0.6B | less\n",
    run,
};
