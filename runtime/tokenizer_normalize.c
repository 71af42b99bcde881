// Normalizers: each step reads one buffer and fills another. Unicode's own forms come from utf8proc; the rest is small.
#include "runtime/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static bool is_ascii(const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)bytes[i] >= 0x80) return false;
    return true;
}

static void unicode_form(Encoder *e, utf8proc_option_t options, const char *bytes, size_t length, Buffer *out) {
    if (is_ascii(bytes, length)) {
        buffer_add(e, out, bytes, length);
        return;
    }
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t count = utf8proc_map((const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)length, &mapped, UTF8PROC_STABLE | options);
    if (count < 0) encoder_fail(e, "out of memory while normalizing a text");
    else buffer_add(e, out, (const char *)mapped, (size_t)count);
    free(mapped);
}

static bool is_ideograph(uint32_t c) {          // BERT's list of CJK blocks
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_control(uint32_t c) {
    int category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO
        || category == UTF8PROC_CATEGORY_CS;
}

static void lowercase(Encoder *e, Buffer *out, uint32_t c) {
    if (c == 0x130) buffer_add(e, out, "i\xCC\x87", 3);                // the one letter whose lower case is two code points
    else buffer_add_code(e, out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

static void clean(Encoder *e, Buffer *out, uint32_t c) {
    if (code_is_space(c) && c != 0x85 && c != 0xB && c != 0xC) buffer_add(e, out, " ", 1);
    else if (c == 0x85 || c == 0xB || c == 0xC || !c || c == 0xFFFD || is_control(c)) return;
    else buffer_add_code(e, out, c);
}

static void space_ideograph(Encoder *e, Buffer *out, uint32_t c) {
    if (is_ideograph(c)) buffer_add(e, out, " ", 1);
    buffer_add_code(e, out, c);
    if (is_ideograph(c)) buffer_add(e, out, " ", 1);
}

static void nmt(Encoder *e, Buffer *out, uint32_t c) {                 // the code points that sentencepiece's nmt rules name
    if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return;
    bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029
              || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    buffer_add_code(e, out, space ? ' ' : c);
}

static void each_code(Encoder *e, const TokenizerStep *step, const char *bytes, size_t length, Buffer *out) {
    uint32_t marks = 1u << UTF8PROC_CATEGORY_MN;
    if (step->flags & 1) marks |= 1u << UTF8PROC_CATEGORY_MC | 1u << UTF8PROC_CATEGORY_ME;
    for (const char *p = bytes, *end = bytes + length, *next; p < end && !e->failure; p = next) {
        uint32_t c = code_at(p, end, &next);
        switch (step->kind) {
        case TOKENIZER_LOWERCASE: lowercase(e, out, c); break;
        case TOKENIZER_CLEAN: clean(e, out, c); break;
        case TOKENIZER_SPACE_CHINESE: space_ideograph(e, out, c); break;
        case TOKENIZER_NMT: nmt(e, out, c); break;
        default:
            if (!(marks >> utf8proc_category((utf8proc_int32_t)c) & 1)) buffer_add_code(e, out, c);
        }
    }
}

static void strip(Encoder *e, uint32_t sides, const char *bytes, size_t length, Buffer *out) {
    const char *start = bytes, *end = bytes + length, *next;
    while (sides & 1 && start < end && code_is_space(code_at(start, end, &next))) start = next;
    while (sides & 2 && end > start && code_is_space(code_at(code_before(end, start), end, &next))) end = code_before(end, start);
    buffer_add(e, out, start, (size_t)(end - start));
}

static void replace(Encoder *e, const TokenizerStep *step, const char *bytes, size_t length, Buffer *out) {
    const char *text = tokenizer_string(e->tokenizer, step->text), *by = tokenizer_string(e->tokenizer, step->by), *end = bytes + length;
    while (!e->failure) {
        const char *found = memmem(bytes, (size_t)(end - bytes), text, step->text.length);
        buffer_add(e, out, bytes, (size_t)((found ? found : end) - bytes));
        if (!found) return;
        buffer_add(e, out, by, step->by.length);
        bytes = found + step->text.length;
    }
}

static void replace_regex(Encoder *e, const TokenizerStep *step, const char *bytes, size_t length, Buffer *out) {
    uint32_t at = 0, from = 0;
    Span match;
    while (regex_find(e, step->regex, bytes, (uint32_t)length, at, &match)) {
        buffer_add(e, out, bytes + from, match.from - from);
        buffer_add(e, out, tokenizer_string(e->tokenizer, step->by), step->by.length);
        from = at = match.to;
        if (match.to > match.from) continue;
        if (at >= length) break;
        const char *next;                                             // an empty match: go on one code point later
        code_at(bytes + at, bytes + length, &next);
        at = (uint32_t)(next - bytes);
    }
    buffer_add(e, out, bytes + from, length - from);
}

// ---- the precompiled map of sentencepiece: a double array (darts-clone's units) from text to offsets of replacements -----------------

typedef struct { const unsigned char *units; uint32_t count; const char *texts; uint32_t text_bytes; } CharMap;

static CharMap char_map(const Tokenizer *t) {
    CharMap map = {0};
    const unsigned char *bytes = t->parts[TOKENIZER_CHARSMAP];
    uint32_t length = t->counts[TOKENIZER_CHARSMAP], array;
    if (length < 4) return map;
    memcpy(&array, bytes, 4);
    if (array > length - 4) return map;
    return (CharMap){bytes + 4, array / 4, (const char *)bytes + 4 + array, length - 4 - array};
}

static uint32_t unit_at(const CharMap *map, uint32_t i) {
    uint32_t unit = 0;
    if (i < map->count) memcpy(&unit, map->units + 4 * (size_t)i, 4);
    return unit;
}

static uint32_t unit_offset(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

// The replacement of the shortest (or longest) prefix of some bytes that the map holds; *taken: that prefix's length, 0: none.
static const char *map_prefix(const CharMap *map, const char *bytes, size_t length, bool longest, size_t *taken, size_t *replacement) {
    uint32_t at = unit_offset(unit_at(map, 0)), found = NONE;
    *taken = *replacement = 0;
    for (size_t i = 0; i < length && (longest || found == NONE); i++) {
        unsigned char byte = (unsigned char)bytes[i];
        at ^= byte;
        uint32_t unit = unit_at(map, at);
        if (!byte || at >= map->count || (unit & (1u << 31 | 0xFF)) != byte) break;
        at ^= unit_offset(unit);
        if (unit >> 8 & 1) {
            found = unit_at(map, at) & ~(1u << 31);
            *taken = i + 1;
        }
    }
    if (found == NONE || found >= map->text_bytes) {
        *taken = 0;
        return NULL;
    }
    *replacement = strnlen(map->texts + found, map->text_bytes - found);
    return map->texts + found;
}

static void map_longest(Encoder *e, const CharMap *map, const char *bytes, size_t length, Buffer *out) {
    for (const char *p = bytes, *end = bytes + length; p < end && !e->failure;) {
        size_t taken, count;
        const char *by = map_prefix(map, p, (size_t)(end - p), true, &taken, &count), *next;
        code_at(p, end, &next);
        if (taken) buffer_add_valid(e, out, by, count);
        else buffer_add(e, out, p, (size_t)(next - p));
        p = taken ? p + taken : next;
    }
}

static void map_piece(Encoder *e, const CharMap *map, const char *bytes, size_t length, Buffer *out) {
    size_t taken, count;
    const char *by = map_prefix(map, bytes, length, false, &taken, &count);
    if (taken) buffer_add_valid(e, out, by, count);
    else buffer_add(e, out, bytes, length);
}

static void map_graphemes(Encoder *e, const CharMap *map, const char *bytes, size_t length, Buffer *out) {
    const char *end = bytes + length;
    for (const char *p = bytes; p < end && !e->failure;) {
        const char *stop, *next;
        utf8proc_int32_t state = 0, before = (utf8proc_int32_t)code_at(p, end, &stop);
        while (stop < end) {
            utf8proc_int32_t after = (utf8proc_int32_t)code_at(stop, end, &next);
            if (utf8proc_grapheme_break_stateful(before, after, &state)) break;
            before = after;
            stop = next;
        }
        size_t taken = 0, count = 0;
        const char *by = stop - p < 6 ? map_prefix(map, p, (size_t)(stop - p), false, &taken, &count) : NULL;
        if (taken) buffer_add_valid(e, out, by, count);
        for (const char *c = p; !taken && c < stop; c = next) {
            code_at(c, stop, &next);
            map_piece(e, map, c, (size_t)(next - c), out);
        }
        p = stop;
    }
}

static void run_step(Encoder *e, const TokenizerStep *step, const char *bytes, size_t length, Buffer *out) {
    CharMap map = char_map(e->tokenizer);
    switch (step->kind) {
    case TOKENIZER_NFC: unicode_form(e, UTF8PROC_COMPOSE, bytes, length, out); break;
    case TOKENIZER_NFD: unicode_form(e, UTF8PROC_DECOMPOSE, bytes, length, out); break;
    case TOKENIZER_NFKC: unicode_form(e, UTF8PROC_COMPOSE | UTF8PROC_COMPAT, bytes, length, out); break;
    case TOKENIZER_NFKD: unicode_form(e, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, bytes, length, out); break;
    case TOKENIZER_STRIP: strip(e, step->flags, bytes, length, out); break;
    case TOKENIZER_REPLACE: replace(e, step, bytes, length, out); break;
    case TOKENIZER_REPLACE_REGEX: replace_regex(e, step, bytes, length, out); break;
    case TOKENIZER_PREPEND:
        if (length) buffer_add(e, out, tokenizer_string(e->tokenizer, step->text), step->text.length);
        buffer_add(e, out, bytes, length);
        break;
    case TOKENIZER_MAP_GRAPHEMES: map_graphemes(e, &map, bytes, length, out); break;
    case TOKENIZER_MAP_LONGEST: map_longest(e, &map, bytes, length, out); break;
    default: each_code(e, step, bytes, length, out);
    }
}

void normalize(Encoder *e, const char *bytes, size_t length, Buffer *out) {
    const TokenizerStep *steps = (const TokenizerStep *)e->tokenizer->parts[TOKENIZER_NORMALIZERS];
    uint32_t count = e->tokenizer->counts[TOKENIZER_NORMALIZERS];
    Buffer buffers[2] = {{0}};
    for (uint32_t i = 0; i < count && !e->failure; i++) {
        Buffer *next = &buffers[i % 2];
        next->length = 0;
        run_step(e, &steps[i], bytes, length, next);
        bytes = buffer_bytes(next);
        length = next->length;
    }
    buffer_add_valid(e, out, bytes, length);
    free(buffers[0].data);
    free(buffers[1].data);
}
