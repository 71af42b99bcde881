// Building a tokenizer: the vocabulary and what hangs on it. The two readers (tokenizer.json, .gguf) call these; tokenizer_pack.c writes
// the bytes.
#include "frontend/tokenizer_build.h"

#include <string.h>

enum { MOST_IDS = 1 << 23 };

bool build_fail(Build *build, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(build->diags, DIAG_ERROR, FILE_LOC(build->path), format, args);
    va_end(args);
    return false;
}

// ---- pieces ----------------------------------------------------------------------------------------------------------

Piece piece_of(const char *text) { return (Piece){text, (uint32_t)strlen(text)}; }
bool piece_is(Piece piece, const char *text) { return piece.length == strlen(text) && !memcmp(piece.bytes, text, piece.length); }

Piece piece_join(Build *build, Piece a, Piece b, Piece c) {
    uint32_t length = a.length + b.length + c.length;
    char *bytes = arena_alloc(build->arena, (size_t)length + 1);
    if (a.length) memcpy(bytes, a.bytes, a.length);
    if (b.length) memcpy(bytes + a.length, b.bytes, b.length);
    if (c.length) memcpy(bytes + a.length + b.length, c.bytes, c.length);
    return (Piece){bytes, length};
}

Piece piece_replace(Build *build, Piece piece, Piece from, Piece by) {
    if (!from.length || !piece.length || !memmem(piece.bytes, piece.length, from.bytes, from.length)) return piece;
    Text text = {0};
    const char *p = piece.bytes, *end = p + piece.length;
    for (const char *found; (found = memmem(p, (size_t)(end - p), from.bytes, from.length)); p = found + from.length) {
        text_add(&text, p, (size_t)(found - p));
        text_add(&text, by.bytes, by.length);
    }
    text_add(&text, p, (size_t)(end - p));
    Piece result = {arena_strndup(build->arena, text.data ? text.data : "", text.length), (uint32_t)text.length};
    text_free(&text);
    return result;
}

// ---- the vocabulary ----------------------------------------------------------------------------------------------------

bool build_vocabulary(Build *build, uint32_t count) {
    if (!count || count > MOST_IDS)
        return build_fail(build, "the tokenizer has %u tokens; between 1 and %d are supported", count, MOST_IDS);
    build->count = count;
    build->pieces = ARENA_ARRAY(build->arena, Piece, count);
    build->texts = ARENA_ARRAY(build->arena, Piece, count);
    build->kinds = ARENA_ARRAY(build->arena, uint8_t, count);
    build->scores = ARENA_ARRAY(build->arena, double, count);
    memset(build->kinds, TOKENIZER_UNUSED, count);
    return true;
}

static uint32_t map_slot(const Build *build, Piece piece) {
    uint32_t slot = (uint32_t)hash_bytes(piece.bytes, piece.length, 0) & (build->map_size - 1);
    for (;; slot = (slot + 1) & (build->map_size - 1)) {
        const Entry *entry = &build->map[slot];
        if (!entry->piece.bytes) return slot;
        if (entry->piece.length == piece.length && !memcmp(entry->piece.bytes, piece.bytes, piece.length)) return slot;
    }
}

void build_map(Build *build) {
    build->map_size = 16;
    while (build->map_size < 2 * build->count) build->map_size *= 2;
    build->map = ARENA_ARRAY(build->arena, Entry, build->map_size);
    for (uint32_t id = 0; id < build->count; id++) {
        if (!build->pieces[id].bytes) continue;
        Entry *entry = &build->map[map_slot(build, build->pieces[id])];
        if (!entry->piece.bytes) *entry = (Entry){build->pieces[id], id};
    }
}

uint32_t build_find(const Build *build, Piece piece) {
    if (!build->map || !piece.bytes) return NO_ID;
    const Entry *entry = &build->map[map_slot(build, piece)];
    return entry->piece.bytes ? entry->id : NO_ID;
}

void build_merge(Build *build, uint32_t left, uint32_t right, uint32_t rank, uint32_t id) {
    ARENA_PUSH(build->arena, build->merges, build->merge_count, build->merge_capacity) = (BuildMerge){left, {right, rank, id}};
}

void build_added(Build *build, Piece content, uint32_t id, uint32_t flags, bool normalized) {
    build->texts[id] = content;
    build->kinds[id] = flags & TOKENIZER_ADDED_SPECIAL ? TOKENIZER_SPECIAL : TOKENIZER_USER;
    if (!content.length) return;
    ARENA_PUSH(build->arena, build->added, build->added_count, build->added_capacity) = (Added){content, id, flags, normalized};
}

void build_end(Build *build, uint32_t id) {
    if (id >= build->count) return;
    for (int i = 0; i < build->end_count; i++)
        if (build->ends[i] == id) return;
    ARENA_PUSH(build->arena, build->ends, build->end_count, build->end_capacity) = id;
}

#define DEEPSEEK_END "<\xEF\xBD\x9C" "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"

void build_known_ends(Build *build) {
    static const char *const names[] = {"<|eot_id|>",      "<|im_end|>", "<|end|>",    "<end_of_turn>",         "<|endoftext|>",
                                        "<|end_of_text|>", "<|eom_id|>", "<EOT>",      "<|END_OF_TURN_TOKEN|>", "<|end_of_turn|>",
                                        DEEPSEEK_END,      "<|eot|>",    "<|return|>", "<|endofturn|>",         "<turn|>",
                                        "<|im_end|>\n"};
    for (int i = 0; i < build->added_count; i++)
        for (size_t k = 0; k < COUNT_OF(names); k++)
            if (build->added[i].flags & TOKENIZER_ADDED_SPECIAL && piece_is(build->added[i].content, names[k]))
                build_end(build, build->added[i].id);
}

// ---- steps -------------------------------------------------------------------------------------------------------------

TokenizerString build_string(Build *build, Piece piece) {
    TokenizerString string = {(uint32_t)build->strings.length, piece.length};
    if (piece.length) text_add(&build->strings, piece.bytes, piece.length);
    return string;
}

TokenizerStep *build_normalizer(Build *build, TokenizerStepKind kind) {
    ARENA_PUSH(build->arena, build->normalizers, build->normalizer_count, build->normalizer_capacity) =
        (TokenizerStep){.kind = kind, .regex = NO_ID};
    return &build->normalizers[build->normalizer_count - 1];
}

TokenizerStep *build_splitter(Build *build, TokenizerStepKind kind) {
    ARENA_PUSH(build->arena, build->splitters, build->splitter_count, build->splitter_capacity) =
        (TokenizerStep){.kind = kind, .regex = NO_ID};
    return &build->splitters[build->splitter_count - 1];
}

bool build_split(Build *build, const char *pattern, uint32_t flags) {
    int regex = build_regex(build, pattern, strlen(pattern));
    if (regex < 0) return false;
    TokenizerStep *step = build_splitter(build, TOKENIZER_SPLIT);
    step->regex = (uint32_t)regex;
    step->flags = flags;
    return true;
}

// ---- bytes -------------------------------------------------------------------------------------------------------------

// The alphabet: printable bytes of Latin-1 stand for themselves, the others, in order, for U+0100 and up.
static bool stands_for_itself(int byte) { return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE; }

static int alphabet_byte(uint32_t code) {
    if (code < 0x100) return stands_for_itself((int)code) ? (int)code : -1;
    uint32_t other = 0x100;
    for (int byte = 0; byte < 256; byte++)
        if (!stands_for_itself(byte) && other++ == code) return byte;
    return -1;
}

bool byte_level_decode(Build *build, Piece piece, Piece *bytes) {
    char *out = arena_alloc(build->arena, (size_t)piece.length + 1);
    uint32_t length = 0;
    for (uint32_t i = 0; i < piece.length;) {
        unsigned char lead = (unsigned char)piece.bytes[i];
        uint32_t code = lead;
        if (lead >= 0x80) {
            if (lead < 0xC2 || lead > 0xDF || i + 1 >= piece.length) return false;
            code = (lead & 0x1Fu) << 6 | ((unsigned char)piece.bytes[i + 1] & 0x3Fu);
        }
        int byte = alphabet_byte(code);
        if (byte < 0) return false;
        out[length++] = (char)byte;
        i += lead < 0x80 ? 1 : 2;
    }
    *bytes = (Piece){out, length};
    return true;
}

void build_byte_level(Build *build) {
    build->flags |= TOKENIZER_BYTES;
    for (uint32_t id = 0; id < build->count; id++) {
        Piece bytes;
        if (!build->pieces[id].length || !byte_level_decode(build, build->pieces[id], &bytes)) continue;
        build->pieces[id] = bytes;
        if (build->kinds[id] == TOKENIZER_NORMAL) build->texts[id] = bytes;
        if (bytes.length == 1 && build->byte_ids[(unsigned char)bytes.bytes[0]] == NO_ID)
            build->byte_ids[(unsigned char)bytes.bytes[0]] = id;
    }
}

bool build_byte_fallback(Build *build) {
    bool any = false;
    for (int byte = 0; byte < 256; byte++) {
        uint32_t id = build_find(build, piece_of(arena_printf(build->arena, "<0x%02X>", (unsigned)byte)));
        build->byte_ids[byte] = id;
        if (id == NO_ID) continue;
        char text = (char)byte;
        build->texts[id] = (Piece){arena_copy(build->arena, &text, 1), 1};
        any = true;
    }
    return any;
}
