// IR text: module_parse. A module that is accepted must print to a text that parses back to itself.
#include "ir/ir.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

bool fuzz_one(const uint8_t *data, size_t size) {
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Module *module = module_parse(arena, "fuzz.tir", (const char *)data, size, diags);
    if (!module && diags_errors(diags) == 0) fprintf(stderr, "refused without an error\n"), abort();
    if (module) {
        Text once = {0}, twice = {0};
        module_print(module, &once);
        Module *again = module_parse(arena, "again.tir", once.data, once.length, diags);
        if (again) module_print(again, &twice);
        if (!again || twice.length != once.length || memcmp(once.data, twice.data, once.length) != 0) {
            diags_print(diags, stderr);
            fprintf(stderr, "the module's text does not parse back to itself:\n%s\n---\n%s\n", once.data, again ? twice.data : "");
            abort();
        }
        text_free(&once);
        text_free(&twice);
    }
    bool accepted = module != NULL;
    fuzz_messages(diags);
    arena_free(arena);
    return accepted;
}
