// Unigram: the segmentation with the greatest sum of log probabilities (Viterbi over byte positions). WordPiece: the longest piece first.
#include "runtime/tokenizer_internal.h"

#include <string.h>

typedef struct { double score; uint32_t from, id; } Best;      // of a path that ends here; from NONE: none yet

static void improve(Best *best, double score, uint32_t from, uint32_t id) {
    if (best->from == NONE || score > best->score) *best = (Best){score, from, id};
}

static void extend(const Tokenizer *t, Best *best, const char *bytes, uint32_t at, uint32_t length, uint32_t character) {
    const double *scores = (const double *)t->parts[TOKENIZER_SCORES];
    bool single = false;
    uint32_t node = 0;
    for (uint32_t i = at; i < length && (node = trie_step(&t->pieces, node, (unsigned char)bytes[i])); i++) {
        uint32_t id = t->pieces.nodes[node].value;
        if (id == NONE) continue;
        improve(&best[i + 1], best[at].score + scores[id], at, id);
        if (i + 1 - at == character) single = true;
    }
    if (!single) improve(&best[at + character], best[at].score + t->header->unk_score, at, NONE);
}

void add_bytes_or_unknown(Encoder *e, const char *bytes, size_t length) {
    const Tokenizer *t = e->tokenizer;
    const uint32_t *byte_ids = tokenizer_words(t, TOKENIZER_BYTE_IDS);
    bool fallback = t->header->flags & TOKENIZER_BYTE_FALLBACK;
    for (size_t i = 0; fallback && i < length; i++) fallback = byte_ids[(unsigned char)bytes[i]] != NONE;
    if (fallback)
        for (size_t i = 0; i < length; i++) add_id(e, byte_ids[(unsigned char)bytes[i]]);
    else if (t->header->unk != NONE)
        add_id(e, t->header->unk);
}

void encode_unigram(Encoder *e, const char *bytes, uint32_t length) {
    const Tokenizer *t = e->tokenizer;
    Best *best = encoder_scratch(e, 0, ((size_t)length + 1) * sizeof *best);
    if (e->failure) return;
    for (uint32_t i = 0; i <= length; i++) best[i] = (Best){0, NONE, NONE};
    const char *next;
    for (uint32_t at = 0; at < length; at = (uint32_t)(next - bytes)) {
        code_at(bytes + at, bytes + length, &next);
        if (!at || best[at].from != NONE) extend(t, best, bytes, at, length, (uint32_t)(next - bytes) - at);
    }
    // The path is found from its end.
    uint32_t *path = encoder_scratch(e, 1, ((size_t)length + 1) * sizeof *path), pieces = 0;
    if (e->failure) return;
    for (uint32_t at = length; at; at = best[at].from) path[pieces++] = at;
    for (uint32_t from = 0; pieces; pieces--) {
        uint32_t to = path[pieces - 1], id = best[to].id;
        bool fuse = id == NONE && t->header->flags & TOKENIZER_FUSE_UNK;
        for (; fuse && pieces > 1 && best[path[pieces - 2]].id == NONE; pieces--) to = path[pieces - 2];
        if (id == NONE) add_bytes_or_unknown(e, bytes + from, to - from);
        else add_id(e, id);
        from = to;
    }
}

void encode_wordpiece(Encoder *e, const char *bytes, uint32_t length) {
    const Tokenizer *t = e->tokenizer;
    TokenizerString prefix = t->header->prefix;
    uint32_t inside = trie_walk(&t->pieces, 0, tokenizer_string(t, prefix), prefix.length), characters = 0;
    const char *end = bytes + length, *next;
    for (const char *p = bytes; p < end; p = next, characters++) code_at(p, end, &next);
    size_t first = e->ids.count;
    bool known = characters <= t->header->longest_word;
    for (uint32_t at = 0; at < length && known && !e->failure;) {
        uint32_t node = at ? inside : 0, id = NONE, to = at;
        bool stuck = at && prefix.length && !inside;
        for (uint32_t i = at; i < length && !stuck && (node = trie_step(&t->pieces, node, (unsigned char)bytes[i])); i++)
            if (t->pieces.nodes[node].value != NONE) {
                id = t->pieces.nodes[node].value;
                to = i + 1;
            }
        known = id != NONE;
        if (known) add_id(e, id);
        at = to;
    }
    if (known || e->failure) return;
    e->ids.count = first;
    if (t->header->unk != NONE) add_id(e, t->header->unk);
}
