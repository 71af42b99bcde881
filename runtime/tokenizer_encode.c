// Encoding: added tokens are cut out of the text, the rest is normalized, added tokens that live in normalized text are cut out of that,
// and what remains is split into words, each of which goes to the model. Decoding is the pieces' bytes, one after the other.
#include "runtime/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- words ---------------------------------------------------------------------------------------------------------

typedef struct { Encoder *encoder; Spans *out; uint32_t behaviour; bool any, last_matched; } Cutter;

static void cut(Cutter *c, uint32_t from, uint32_t to, bool matched) {
    Spans *out = c->out;
    bool joins = c->any && out->count
              && ((c->behaviour == TOKENIZER_CONTIGUOUS && matched == c->last_matched)
                  || (c->behaviour == TOKENIZER_WITH_PREVIOUS && matched && !c->last_matched)
                  || (c->behaviour == TOKENIZER_WITH_NEXT && !matched && c->last_matched));
    if (joins) out->data[out->count - 1].to = to;
    else if (!(c->behaviour == TOKENIZER_REMOVED && matched)) spans_add(c->encoder, out, from, to);
    c->any = true;
    c->last_matched = matched;
}

static bool find_next(Encoder *e, const TokenizerStep *step, const char *text, uint32_t length, uint32_t at, Span *match) {
    if (step->kind == TOKENIZER_SPLIT) return regex_find(e, step->regex, text, length, at, match);
    const char *found = memmem(text + at, length - at, tokenizer_string(e->tokenizer, step->text), step->text.length);
    if (found) *match = (Span){(uint32_t)(found - text), (uint32_t)(found - text) + step->text.length};
    return found != NULL;
}

void split_at(Encoder *e, const TokenizerStep *step, const char *text, Span word, Spans *out) {
    bool invert = step->flags & TOKENIZER_INVERT;
    Cutter cutter = {e, out, step->flags & 15, false, false};
    uint32_t length = word.to - word.from, at = 0, done = 0;
    size_t first = out->count;
    Span match;
    while (at <= length && !e->failure && find_next(e, step, text + word.from, length, at, &match)) {
        if (match.from > done) cut(&cutter, word.from + done, word.from + match.from, invert);
        cut(&cutter, word.from + match.from, word.from + match.to, !invert);
        done = at = match.to;
        if (match.to > match.from) continue;
        const char *next = text + word.from + at + 1;
        if (at < length) code_at(text + word.from + at, text + word.to, &next);
        at = (uint32_t)(next - text) - word.from;
    }
    if (done < length) cut(&cutter, word.from + done, word.to, invert);
    size_t kept = first;
    for (size_t i = first; i < out->count; i++)
        if (out->data[i].to > out->data[i].from) out->data[kept++] = out->data[i];
    out->count = kept;
}

static void rewrite(Encoder *e, const TokenizerStep *step, Buffer *text, Spans *words, Spans *out, bool at_start) {
    Buffer fresh = {0};
    const char *by = tokenizer_string(e->tokenizer, step->by), *prefix = tokenizer_string(e->tokenizer, step->text);
    for (size_t i = 0; i < words->count && !e->failure; i++) {
        const char *word = text->data + words->data[i].from;
        size_t length = words->data[i].to - words->data[i].from, from = fresh.length, prefix_length = step->text.length;
        if (step->kind == TOKENIZER_PREFIX_SPACE) {
            bool has = length >= prefix_length && !memcmp(word, prefix, prefix_length);
            bool wanted = !(step->flags & 1) || (at_start && i == 0);
            if (length && !has && wanted) buffer_add(e, &fresh, prefix, prefix_length);
            buffer_add(e, &fresh, word, length);
        } else {
            for (size_t k = 0; k < length; k++) buffer_add(e, &fresh, word[k] == ' ' ? by : word + k, word[k] == ' ' ? step->by.length : 1);
        }
        spans_add(e, out, from, fresh.length);
    }
    free(text->data);
    *text = fresh;
}

void split_words(Encoder *e, Buffer *text, Spans *words, bool at_start) {
    const TokenizerStep *steps = (const TokenizerStep *)e->tokenizer->parts[TOKENIZER_SPLITTERS];
    Spans out = {0};
    if (text->length) spans_add(e, words, 0, text->length);
    for (uint32_t i = 0; i < e->tokenizer->counts[TOKENIZER_SPLITTERS] && !e->failure; i++) {
        out.count = 0;
        if (steps[i].kind == TOKENIZER_SPLIT || steps[i].kind == TOKENIZER_SPLIT_TEXT)
            for (size_t k = 0; k < words->count && !e->failure; k++) split_at(e, &steps[i], text->data, words->data[k], &out);
        else
            rewrite(e, &steps[i], text, words, &out, at_start);
        Spans swap = *words;
        *words = out;
        out = swap;
    }
    free(out.data);
}

static void encode_normalized(Encoder *e, const char *bytes, size_t length, bool at_start) {
    if (!length) return;
    Buffer text = {0};
    Spans words = {0};
    buffer_add(e, &text, bytes, length);
    split_words(e, &text, &words, at_start);
    for (size_t i = 0; i < words.count && !e->failure; i++)
        encode_word(e, text.data + words.data[i].from, words.data[i].to - words.data[i].from);
    free(words.data);
    free(text.data);
}

// ---- added tokens --------------------------------------------------------------------------------------------------

typedef struct { size_t from, to, next; uint32_t id; } Found;     // next: where to go on looking

static bool stands_alone(const char *text, size_t length, size_t from, size_t to) {
    const char *next;
    if (from && code_is_word(code_at(code_before(text + from, text), text + length, &next))) return false;
    return to == length || !code_is_word(code_at(text + to, text + length, &next));
}

// The next added token at or after *at, that is not left out by its flags; its spaces taken in, but not before `low`.
static bool find_added(Encoder *e, const Trie *trie, const char *text, size_t length, size_t at, size_t low, Found *found) {
    const TokenizerAdded *all = (const TokenizerAdded *)e->tokenizer->parts[TOKENIZER_ADDED];
    if (!trie->count) return false;
    while (at < length) {
        if (!trie->first[(unsigned char)text[at]]) {
            at++;
            continue;
        }
        uint32_t value = NONE, node = 0;
        size_t to = at;
        for (size_t i = at; i < length && (node = trie_step(trie, node, (unsigned char)text[i])); i++)
            if (trie->nodes[node].value != NONE) {
                value = trie->nodes[node].value;
                to = i + 1;
            }
        if (value == NONE) {
            at++;
            continue;
        }
        TokenizerAdded added = all[value];
        bool hidden = added.flags & TOKENIZER_ADDED_SPECIAL && !(e->flags & TOKENIZER_PARSE);
        if (hidden || (added.flags & TOKENIZER_SINGLE_WORD && !stands_alone(text, length, at, to))) {
            at = to;
            continue;
        }
        const char *start = text + at, *stop = text + to, *next, *end = text + length;
        while (added.flags & TOKENIZER_LSTRIP && start > text + low && code_is_space(code_at(code_before(start, text), end, &next)))
            start = code_before(start, text);
        while (added.flags & TOKENIZER_RSTRIP && stop < end && code_is_space(code_at(stop, end, &next))) stop = next;
        *found = (Found){(size_t)(start - text), (size_t)(stop - text), (size_t)(stop - text), added.id};
        return true;
    }
    return false;
}

static void encode_part(Encoder *e, const char *text, size_t length, bool at_start) {
    if (!length) return;
    Buffer normal = {0};
    normalize(e, text, length, &normal);
    Found found;
    size_t done = 0;
    const char *bytes = buffer_bytes(&normal);
    while (!e->failure && find_added(e, &e->tokenizer->added, bytes, normal.length, done, done, &found)) {
        encode_normalized(e, bytes + done, found.from - done, at_start && !done);
        add_id(e, found.id);
        done = found.next;
    }
    if (!e->failure) encode_normalized(e, bytes + done, normal.length - done, at_start && !done);
    free(normal.data);
}

static void encode_text(Encoder *e, const char *text, size_t length) {
    Found found;
    size_t done = 0;
    while (!e->failure && find_added(e, &e->tokenizer->raw, text, length, done, done, &found)) {
        encode_part(e, text + done, found.from - done, !done);
        add_id(e, found.id);
        done = found.next;
    }
    if (!e->failure) encode_part(e, text + done, length - done, !done);
}

static void add_all(Encoder *e, int part) {
    for (uint32_t i = 0; i < e->tokenizer->counts[part]; i++) add_id(e, tokenizer_words(e->tokenizer, part)[i]);
}

bool tokenizer_encode(const Tokenizer *t, const char *utf8, size_t length, unsigned flags, int32_t **ids, int *count,
                      char *error, size_t error_size) {
    Encoder e = {.tokenizer = t, .flags = flags, .steps = 10000000 + 1000 * (uint64_t)length};
    Buffer text = {0};
    *ids = NULL;
    *count = 0;
    if (length > 1u << 28) encoder_fail(&e, "a text of more than 256 MB cannot be encoded in one piece");
    buffer_add_valid(&e, &text, utf8, e.failure ? 0 : length);
    encoder_reserve(&e, (void **)&e.ids.data, 0, &e.ids.capacity, 1, sizeof *e.ids.data);
    if (flags & TOKENIZER_SPECIALS) add_all(&e, TOKENIZER_PREFIX);
    if (!e.failure) encode_text(&e, buffer_bytes(&text), text.length);
    if (flags & TOKENIZER_SPECIALS) add_all(&e, TOKENIZER_SUFFIX);
    free(text.data);
    free(e.stack);
    free(e.cache);
    for (int i = 0; i < 3; i++) free(e.scratch[i]);
    if (!e.failure) {
        *ids = e.ids.data;
        *count = (int)e.ids.count;
        return true;
    }
    free(e.ids.data);
    if (error_size) snprintf(error, error_size, "%s", e.failure);
    return false;
}

// ---- decoding ------------------------------------------------------------------------------------------------------

void tokenizer_stream_open(TokenizerStream *stream, const Tokenizer *tokenizer, unsigned flags) {
    *stream = (TokenizerStream){.tokenizer = tokenizer, .flags = flags};
}

void tokenizer_stream_close(TokenizerStream *stream) {
    free(stream->text);
    stream->text = NULL;
}

// An incomplete character at the end of the text: how many bytes of it are there.
static size_t incomplete(const char *text, size_t length) {
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        unsigned char byte = (unsigned char)text[length - back];
        if ((byte & 0xC0) == 0x80) continue;
        size_t wanted = byte >= 0xF0 && byte <= 0xF4 ? 4 : byte >= 0xE0 && byte < 0xF0 ? 3 : byte >= 0xC2 && byte < 0xE0 ? 2 : 1;
        if (wanted <= back) return 0;
        // Only what may still become a character is held: a wrong second byte makes it ill-formed already.
        unsigned char second = back > 1 ? (unsigned char)text[length - back + 1] : 0x90;
        bool wrong = (byte == 0xE0 && second < 0xA0) || (byte == 0xED && second > 0x9F && back > 1) || (byte == 0xF0 && second < 0x90)
                  || (byte == 0xF4 && second > 0x8F && back > 1);
        if (byte == 0xE0 && back == 1) wrong = false;
        return wrong ? 0 : back;
    }
    return 0;
}

// Replaces ill-formed pieces in the first `length` bytes of the stream's text, keeping the held bytes after them.
static const char *show(TokenizerStream *s, Buffer *all, size_t held, size_t *length) {
    Encoder e = {0};
    Buffer out = {0};
    const char *bytes = buffer_bytes(all);
    buffer_add_valid(&e, &out, bytes, all->length - held);
    *length = out.length;
    buffer_add(&e, &out, bytes + all->length - held, held);
    buffer_add(&e, &out, "", 1);
    free(all->data);
    free(s->text);
    s->text = out.data;
    s->shown = *length;
    s->held = (unsigned)held;
    if (!e.failure) return s->text;
    *length = s->shown = s->held = 0;
    return "";
}

static void drop_spaces(const Tokenizer *t, const char **piece, size_t *length) {
    uint32_t flags = t->header->flags;
    size_t limit = flags & TOKENIZER_DROP_SPACES ? *length : flags & TOKENIZER_DROP_SPACE ? 1 : 0;
    while (limit-- && *length && **piece == ' ') {
        ++*piece;
        --*length;
    }
}

const char *tokenizer_stream_push(TokenizerStream *s, int32_t id, size_t *length) {
    const Tokenizer *t = s->tokenizer;
    size_t bytes;
    const char *piece = tokenizer_piece(t, id, &bytes);
    if (tokenizer_is_special(t, id) && !(s->flags & TOKENIZER_SHOW)) bytes = 0;
    else if (!s->started && bytes) {
        drop_spaces(t, &piece, &bytes);
        s->started = true;
    }
    Encoder e = {0};
    Buffer all = {0};
    buffer_add(&e, &all, s->text ? s->text + s->shown : "", s->held);
    buffer_add(&e, &all, piece, bytes);
    return show(s, &all, incomplete(all.data, all.length), length);
}

const char *tokenizer_stream_end(TokenizerStream *s, size_t *length) {
    Encoder e = {0};
    Buffer all = {0};
    buffer_add(&e, &all, s->text ? s->text + s->shown : "", s->held);
    return show(s, &all, 0, length);
}

char *tokenizer_decode(const Tokenizer *t, const int32_t *ids, int count, unsigned flags, size_t *length) {
    Encoder e = {0};
    Buffer raw = {0}, out = {0};
    bool started = false;
    for (int i = 0; i < count && !e.failure; i++) {
        size_t bytes;
        const char *piece = tokenizer_piece(t, ids[i], &bytes);
        if (tokenizer_is_special(t, ids[i]) && !(flags & TOKENIZER_SHOW)) continue;
        if (!started && bytes) {
            drop_spaces(t, &piece, &bytes);
            started = true;
        }
        buffer_add(&e, &raw, piece, bytes);
    }
    buffer_add_valid(&e, &out, raw.data, raw.length);
    *length = out.length;
    buffer_add(&e, &out, "", 1);
    free(raw.data);
    if (!e.failure) return out.data;
    free(out.data);
    *length = 0;
    return NULL;
}
