// A safetensors file or shard index as weights.
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/provider.h"

bool fuzz_one(const uint8_t *data, size_t size) {
    static bool ready;
    if (!ready) fuzz_weights();   // for a shard index to name
    ready = true;
    fuzz_put("fuzz.safetensors", data, size);   // a file with a name: an index finds others beside it
    Diags *diags = diags_new();
    Provider *provider = safetensors_open("fuzz.safetensors", diags);
    if (provider) fuzz_provider(provider);
    bool accepted = provider != NULL;
    fuzz_messages(diags);
    return accepted;
}
