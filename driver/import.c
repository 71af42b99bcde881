// tenon import: a .gguf file or a Hugging Face folder becomes a model description.
#include "codegen/link.h"
#include "driver/driver.h"
#include "frontend/frontend.h"
#include "runtime/progress.h"

static void print_saved(const char *source, const Equals *equals) {
    if (!equals->tensors) {
        fprintf(stderr, "%s: of %d tensors none equals another\n", source, equals->all_tensors);
        return;
    }
    fprintf(stderr, "%s: %d of %d tensors are others once more: %.1f of %.1f MB saved (%.1f %%)\n", source, equals->tensors, equals->all_tensors,
            (double)equals->bytes / 1e6, (double)equals->all_bytes / 1e6, 100 * (double)equals->bytes / (double)equals->all_bytes);
}

static int import(const char *source, const char *out, bool share, Diags *diags) {
    Text yaml = {0};
    Progress progress = {0};
    Equals equals = {.progress = tn_progress_show, .context = &progress};
    int code = EXIT_INPUT;
    if (share) tn_progress_begin(&progress, "comparing tensors");
    bool imported = import_model(source, out, share ? &equals : NULL, &yaml, diags);
    if (share) tn_progress_end(&progress);
    if (imported) {
        if (share) print_saved(source, &equals);
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
    bool share = false;
    Options options = {.command = command, .arguments = &source, .argument_room = 1, .argument_least = 1};
    option_add(&options, "-o", OPTION_TEXT, &out, "FILE", "write it there; weights are then named relative to its folder");
    option_add(&options, "--share", OPTION_FLAG, &share, NULL, "find equal tensors, by content, and have each read and kept once");
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    Diags *diags = diags_new();
    code = import(source, out, share, diags);
    int said = finish(diags);
    return said ? said : code;
}

const Command import_command = {
    "import",
    "SOURCE [-o model.yaml] [--share]",
    "a .gguf or a Hugging Face folder becomes a model description",
    "Recognises the architecture from the file's own metadata, and writes the model as YAML: sizes filled in, parameters named as in the\n"
    "weight file, the chat template reduced to plain text. Weights stay where they are. The result is meant to be read and changed.\n"
    "With --share, layers, experts and tensors that are equal in the source are named under `same:`, and what that saves is said.",
    "  tenon import smollm2.gguf -o smollm2.yaml\n  tenon import ./Qwen3-0.6B | less\n",
    run,
};
