// A model description: model_load_text. One that is accepted must verify, and its text must parse back to itself.
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void round_trip(const Module *module) {
    Text once = {0}, twice = {0};
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    module_print(module, &once);
    Module *again = module_parse(arena, "fuzz.tir", once.data, once.length, diags);
    if (again) module_print(again, &twice);
    if (!again || twice.length != once.length || memcmp(once.data, twice.data, once.length) != 0) {
        diags_print(diags, stderr);
        fprintf(stderr, "the module's text does not parse back to itself:\n%s\n---\n%s\n", once.data, again ? twice.data : "");
        abort();
    }
    diags_free(diags);
    arena_free(arena);
    text_free(&once);
    text_free(&twice);
}

bool fuzz_one(const uint8_t *data, size_t size) {
    static bool ready;
    if (!ready) fuzz_weights();
    ready = true;
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Model *model = model_load_text(arena, "fuzz.yaml", (const char *)data, size, diags);
    if (!model && diags_errors(diags) == 0) fprintf(stderr, "refused without an error\n"), abort();
    if (model) {
        if (!module_verify(model->module, diags)) diags_print(diags, stderr), abort();
        round_trip(model->module);
        model_close(model);
    }
    bool accepted = model != NULL;
    fuzz_messages(diags);
    arena_free(arena);
    return accepted;
}
