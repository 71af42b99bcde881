// A chat template in Jinja, as weight files carry them: rendered on probe messages and reduced.
#include "frontend/frontend.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

bool fuzz_one(const uint8_t *data, size_t size) {
    char *jinja = malloc(size + 1);
    if (!jinja) abort();
    memcpy(jinja, data, size);
    jinja[size] = 0;
    Diags *diags = diags_new();
    ChatTemplates out = {0};
    bool accepted = chat_reduce(jinja, "<s>", "</s>", &out, diags);
    free(out.begin);
    free(out.system);
    free(out.user);
    free(out.assistant);
    free(out.generation);
    free(jinja);
    fuzz_messages(diags);
    return accepted;
}
