// A GGUF file imported to a model: slower than its reader alone (gguf.c), for the templates are read.
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"

bool fuzz_one(const uint8_t *data, size_t size) {
    Diags *diags = diags_new();
    Arena *arena = arena_new();
    const char *path = fuzz_file(data, size);
    Model *model = model_open(arena, path, diags);
    bool accepted = model != NULL;
    Text yaml = {0};
    Equals equals = {0};
    if (model) import_model(path, NULL, &equals, &yaml, diags);
    text_free(&yaml);
    if (model) model_close(model);
    else if (diags_errors(diags) == 0) fprintf(stderr, "refused without an error\n"), __builtin_trap();
    fuzz_messages(diags);
    arena_free(arena);
    return accepted;
}
