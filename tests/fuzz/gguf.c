// A GGUF file: as weights, as metadata, and its tokenizer. import.c makes a model of it.
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/provider.h"

bool fuzz_one(const uint8_t *data, size_t size) {
    const char *path = fuzz_file(data, size);
    Diags *diags = diags_new();
    Provider *provider = gguf_open(path, diags);
    if (provider) fuzz_provider(provider);
    Gguf *gguf = gguf_metadata_open(path, diags);
    if (gguf) {
        double number;
        size_t length;
        gguf_number(gguf, "llama.block_count", &number);
        gguf_string(gguf, "general.architecture", &length);
        int64_t count = gguf_array(gguf, "tokenizer.ggml.tokens");
        for (int64_t i = 0; i < count && i < 100; i++) {
            gguf_array_string(gguf, "tokenizer.ggml.tokens", i, &length);
            gguf_array_number(gguf, "tokenizer.ggml.token_type", i, &number);
        }
        gguf_metadata_close(gguf);
    }
    Text tokenizer = {0};
    tokenizer_import(path, &tokenizer, diags);
    text_free(&tokenizer);
    bool accepted = provider != NULL;
    fuzz_messages(diags);
    return accepted;
}
