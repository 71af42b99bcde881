// A safetensors file or shard index as weights.
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/provider.h"

void fuzz_one(const uint8_t *data, size_t size) {
    static bool ready;
    if (!ready) fuzz_weights();   // for a shard index to name
    ready = true;
    Diags *diags = diags_new();
    Provider *provider = safetensors_open(fuzz_file(data, size), diags);
    if (provider) fuzz_provider(provider);
    fuzz_messages(diags);
}
