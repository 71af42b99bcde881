// tokenizer_import: a tokenizer.json or the metadata of a .gguf become the bytes of SECTION_TOKENIZER. Which of the two is told by content.
#include "frontend/tokenizer_build.h"

#include <string.h>

static bool read_json(Build *build) {
    json_t *root = json_read_object(build->path, build->diags);
    bool done = root && build_from_json(build, root);
    json_decref(root);
    return done;
}

static bool read_gguf(Build *build) {
    Gguf *gguf = gguf_metadata_open(build->path, build->diags);
    bool done = gguf && build_from_gguf(build, gguf);
    if (gguf) gguf_metadata_close(gguf);
    return done;
}

bool tokenizer_import(const char *path, Text *out, Diags *diags) {
    MappedFile file;
    if (!file_map(&file, path, diags)) return false;
    bool gguf = file_is_gguf(&file), json = !gguf && file_is_json(&file);
    file_unmap(&file);
    if (!gguf && !json) {
        diag_error(diags, FILE_LOC(path), "is neither a tokenizer.json nor a .gguf file");
        diag(diags, DIAG_HINT, NOWHERE, "a sentencepiece tokenizer.model is not read: use the tokenizer.json beside it");
        return false;
    }
    Arena *arena = arena_new();
    Build build = {.arena = arena, .diags = diags, .path = path, .unk = NO_ID, .bos = NO_ID, .eos = NO_ID, .longest_word = UINT32_MAX};
    memset(build.byte_ids, 0xFF, sizeof build.byte_ids);
    text_puts(&build.strings, "");
    bool done = (gguf ? read_gguf(&build) : read_json(&build)) && build_pack(&build, out);
    text_free(&build.strings);
    arena_free(arena);
    return done;
}
