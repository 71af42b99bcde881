// A tokenizer.json: imported, opened as the run time does, and used.
#include "frontend/frontend.h"
#include "runtime/tokenizer.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static const char text[] = "The cat's \xe6\x9d\xb1\xe4\xba\xac 123\t\n\n  x=f(1);\xf0\x9f\x98\x80\xff</s> a\xcc\x81 \xc3\xa9";

static void use(const void *bytes, size_t length) {
    char error[256] = "";
    Tokenizer *tokenizer = tokenizer_open(bytes, length, error, sizeof error);
    if (!tokenizer) fprintf(stderr, "imported, but does not open: %s\n", error), abort();
    for (unsigned flags = 0; flags < 4; flags++) {
        int32_t *ids = NULL;
        int count = 0;
        size_t out = 0;
        if (!tokenizer_encode(tokenizer, text, sizeof text - 1, flags, &ids, &count, error, sizeof error)) continue;
        free(tokenizer_decode(tokenizer, ids, count, TOKENIZER_SHOW, &out));
        free(ids);
    }
    tokenizer_close(tokenizer);
}

bool fuzz_one(const uint8_t *data, size_t size) {
    fuzz_put("tokenizer.json", data, size);
    Diags *diags = diags_new();
    Text out = {0};
    bool accepted = tokenizer_import("tokenizer.json", &out, diags);
    if (accepted) {
        void *aligned = NULL;
        if (posix_memalign(&aligned, 64, out.length + 64)) abort();
        memcpy(aligned, out.data, out.length);
        use(aligned, out.length);
        free(aligned);
    } else if (diags_errors(diags) == 0) {
        fprintf(stderr, "refused without an error\n");
        abort();
    }
    text_free(&out);
    fuzz_messages(diags);
    return accepted;
}
