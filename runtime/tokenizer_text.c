// Growing buffers and code points. What an encode allocates hangs on its Encoder, which remembers the first failure: callers need not look
// after every addition, only at the end.
#include "runtime/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void encoder_fail(Encoder *encoder, const char *why) {
    if (!encoder->failure) encoder->failure = why;
}

bool encoder_reserve(Encoder *encoder, void **data, size_t count, size_t *capacity, size_t more, size_t element) {
    if (encoder->failure) return false;
    if (more <= *capacity - count) return true;
    size_t wanted = *capacity < 64 ? 64 : *capacity;
    while (wanted - count < more && wanted < SIZE_MAX / 4 / element) wanted *= 2;
    void *moved = wanted - count < more || (uint64_t)wanted * element > UINT32_MAX ? NULL : realloc(*data, wanted * element);
    if (!moved) {
        encoder_fail(encoder, "out of memory while encoding a text");
        return false;
    }
    *data = moved;
    *capacity = wanted;
    return true;
}

void *encoder_scratch(Encoder *encoder, int which, size_t bytes) {
    if (encoder->scratch_bytes[which] < bytes || !encoder->scratch[which]) {
        free(encoder->scratch[which]);
        size_t wanted = bytes < 1024 ? 1024 : bytes;
        encoder->scratch[which] = malloc(wanted);
        encoder->scratch_bytes[which] = encoder->scratch[which] ? wanted : 0;
        if (!encoder->scratch[which]) encoder_fail(encoder, "out of memory while encoding a text");
    }
    return encoder->scratch[which];
}

void buffer_add(Encoder *encoder, Buffer *buffer, const char *bytes, size_t length) {
    if (!encoder_reserve(encoder, (void **)&buffer->data, buffer->length, &buffer->capacity, length, 1)) return;
    if (length) memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
}

void buffer_add_code(Encoder *encoder, Buffer *buffer, uint32_t code) {
    utf8proc_uint8_t bytes[4];
    buffer_add(encoder, buffer, (const char *)bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)code, bytes));
}

void add_id(Encoder *encoder, uint32_t id) {
    Ids *ids = &encoder->ids;
    if (!encoder_reserve(encoder, (void **)&ids->data, ids->count, &ids->capacity, 1, sizeof *ids->data)) return;
    ids->data[ids->count++] = (int32_t)id;
}

void spans_add(Encoder *encoder, Spans *spans, size_t from, size_t to) {
    if (!encoder_reserve(encoder, (void **)&spans->data, spans->count, &spans->capacity, 1, sizeof *spans->data)) return;
    spans->data[spans->count++] = (Span){(uint32_t)from, (uint32_t)to};
}

// ---- code points -----------------------------------------------------------------------------------------------

// Length of the well-formed sequence at p, or 0 with the length of the ill-formed piece (its maximal subpart) in *bad.
static size_t sequence(const unsigned char *p, size_t room, size_t *bad) {
    unsigned char lead = p[0];
    *bad = 1;
    if (lead < 0x80) return 1;
    size_t length = lead >= 0xC2 && lead <= 0xDF ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
    if (!length) return 0;
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < length; i++, low = 0x80, high = 0xBF) {
        *bad = i;
        if (i >= room || p[i] < low || p[i] > high) return 0;
    }
    return length;
}

uint32_t code_at(const char *text, const char *end, const char **next) {
    const unsigned char *p = (const unsigned char *)text;
    *next = text + 1;
    if (*p < 0x80) return *p;
    size_t bad, length = sequence(p, (size_t)(end - text), &bad);
    if (!length) return 0xFFFD;
    *next = text + length;
    uint32_t code = length == 2 ? *p & 0x1F : length == 3 ? *p & 0x0F : *p & 0x07;
    for (size_t i = 1; i < length; i++) code = code << 6 | (p[i] & 0x3F);
    return code;
}

const char *code_before(const char *p, const char *start) {
    const char *q = p - 1;
    while (q > start && p - q < 4 && ((unsigned char)*q & 0xC0) == 0x80) q--;
    const char *next;
    code_at(q, p, &next);
    return next == p ? q : p - 1;
}

void buffer_add_valid(Encoder *encoder, Buffer *buffer, const char *bytes, size_t length) {
    size_t from = 0, bad;
    for (size_t at = 0; at < length;) {
        size_t good = sequence((const unsigned char *)bytes + at, length - at, &bad);
        at += good;
        if (good) continue;
        buffer_add(encoder, buffer, bytes + from, at - from);
        buffer_add(encoder, buffer, "\xEF\xBF\xBD", 3);
        from = at += bad;
    }
    if (length > from) buffer_add(encoder, buffer, bytes + from, length - from);
}

bool code_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028
        || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool code_is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT: case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}
