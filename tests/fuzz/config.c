// A Hugging Face folder's config.json: imported and loaded.
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"

bool fuzz_one(const uint8_t *data, size_t size) {
    static bool ready;
    if (!ready) fuzz_weights();
    ready = true;
    fuzz_put("config.json", data, size);
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Model *model = model_open(arena, fuzz_folder(), diags);
    if (model) model_close(model);
    bool accepted = model != NULL;
    fuzz_messages(diags);
    arena_free(arena);
    return accepted;
}
