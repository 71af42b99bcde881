// Byte pair encoding: a word's symbols in a linked list, the possible merges in a heap by (rank, place); a merge that a later one has made
// impossible is recognised by its symbols and passed over. O(n log n), so that a tokenizer without a splitter (Gemma) may be given a whole
// book as one word. Short words come back often: their ids are remembered for the length of one encode.
#include "runtime/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct { uint32_t id; int32_t before, after; } Symbol;
typedef struct { uint32_t rank, place, left, right, id; } Merge;

typedef struct { Symbol *symbols; uint32_t count; Merge *heap; uint32_t heap_count; } Word;

static const TokenizerMerge *find_merge(const Tokenizer *t, uint32_t left, uint32_t right) {
    const uint32_t *index = tokenizer_words(t, TOKENIZER_MERGE_INDEX);
    const TokenizerMerge *merges = (const TokenizerMerge *)t->parts[TOKENIZER_MERGES];
    uint32_t low = index[left], high = index[left + 1];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (merges[middle].right == right) return &merges[middle];
        if (merges[middle].right < right) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

static bool before(const Merge *a, const Merge *b) { return a->rank != b->rank ? a->rank < b->rank : a->place < b->place; }

static void heap_add(Word *word, Merge merge) {
    uint32_t i = word->heap_count++;
    for (; i && before(&merge, &word->heap[(i - 1) / 2]); i = (i - 1) / 2) word->heap[i] = word->heap[(i - 1) / 2];
    word->heap[i] = merge;
}

static Merge heap_take(Word *word) {
    Merge least = word->heap[0], last = word->heap[--word->heap_count];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < word->heap_count; i = child) {
        if (child + 1 < word->heap_count && before(&word->heap[child + 1], &word->heap[child])) child++;
        if (!before(&word->heap[child], &last)) break;
        word->heap[i] = word->heap[child];
    }
    word->heap[i] = last;
    return least;
}

static void offer(const Tokenizer *t, Word *word, int32_t place) {
    if (place < 0 || word->symbols[place].after < 0) return;
    uint32_t left = word->symbols[place].id, right = word->symbols[word->symbols[place].after].id;
    const TokenizerMerge *merge = find_merge(t, left, right);
    if (merge) heap_add(word, (Merge){merge->rank, (uint32_t)place, left, right, merge->id});
}

static void merge_all(const Tokenizer *t, Word *word) {
    Symbol *symbols = word->symbols;
    for (uint32_t i = 0; i + 1 < word->count; i++) offer(t, word, (int32_t)i);
    while (word->heap_count) {
        Merge merge = heap_take(word);
        Symbol *symbol = &symbols[merge.place];
        if (symbol->id != merge.left || symbol->after < 0 || symbols[symbol->after].id != merge.right) continue;
        Symbol *gone = &symbols[symbol->after];
        gone->id = NONE;                                       // no merge has this as its left symbol
        symbol->id = merge.id;
        symbol->after = gone->after;
        if (gone->after >= 0) symbols[gone->after].before = (int32_t)merge.place;
        offer(t, word, symbol->before);
        offer(t, word, (int32_t)merge.place);
    }
}

// The token of one character (or byte) with what the model puts around it inside a word.
static uint32_t symbol_id(Encoder *e, const char *bytes, size_t length, bool first, bool last) {
    const Tokenizer *t = e->tokenizer;
    TokenizerString prefix = t->header->prefix, suffix = t->header->suffix;
    if (t->header->flags & TOKENIZER_BYTES && !prefix.length && !suffix.length)
        return tokenizer_words(t, TOKENIZER_BYTE_IDS)[(unsigned char)*bytes];
    uint32_t node = first ? 0 : trie_walk(&t->pieces, 0, tokenizer_string(t, prefix), prefix.length);
    if (!first && prefix.length && !node) return NONE;
    node = trie_walk(&t->pieces, node, bytes, length);
    if (node && last && suffix.length) node = trie_walk(&t->pieces, node, tokenizer_string(t, suffix), suffix.length);
    return node ? t->pieces.nodes[node].value : NONE;
}

static void add_symbol(Word *word, uint32_t id) {
    word->symbols[word->count] = (Symbol){id, (int32_t)word->count - 1, -1};
    if (word->count) word->symbols[word->count - 1].after = (int32_t)word->count;
    word->count++;
}

// At most one symbol a byte.
static void add_symbols(Encoder *e, Word *word, const char *bytes, uint32_t length) {
    const Tokenizer *t = e->tokenizer;
    const char *end = bytes + length;
    bool unknown_before = false;
    for (const char *p = bytes, *next; p < end; p = next) {
        next = p + 1;
        if (!(t->header->flags & TOKENIZER_BYTES)) code_at(p, end, &next);
        uint32_t id = symbol_id(e, p, (size_t)(next - p), p == bytes, next == end);
        bool unknown = false;
        if (id != NONE) {
            add_symbol(word, id);
        } else {
            bool fallback = t->header->flags & TOKENIZER_BYTE_FALLBACK;
            for (const char *b = p; fallback && b < next; b++) fallback = tokenizer_words(t, TOKENIZER_BYTE_IDS)[(unsigned char)*b] != NONE;
            for (const char *b = p; fallback && b < next; b++) add_symbol(word, tokenizer_words(t, TOKENIZER_BYTE_IDS)[(unsigned char)*b]);
            unknown = !fallback && t->header->unk != NONE;
            if (unknown && !(unknown_before && t->header->flags & TOKENIZER_FUSE_UNK)) add_symbol(word, t->header->unk);
        }
        unknown_before = unknown;
    }
}

void encode_bpe(Encoder *e, const char *bytes, uint32_t length) {
    const Tokenizer *t = e->tokenizer;
    if (t->header->flags & TOKENIZER_WHOLE_WORDS) {
        uint32_t id = trie_find(&t->pieces, bytes, length);
        if (id != NONE) {
            add_id(e, id);
            return;
        }
    }
    // Every merge offers at most two more, and there are fewer merges than symbols.
    Word word = {encoder_scratch(e, 0, length * sizeof(Symbol)), 0, encoder_scratch(e, 1, 3 * (size_t)length * sizeof(Merge)), 0};
    if (e->failure) return;
    add_symbols(e, &word, bytes, length);
    merge_all(t, &word);
    for (int32_t i = word.count ? 0 : -1; i >= 0; i = word.symbols[i].after) add_id(e, word.symbols[i].id);
}

// ---- the cache, for every model --------------------------------------------------------------------------------------

enum { CACHE_SLOTS = 4096, CACHE_BYTES = 28, CACHE_IDS = 8, CACHE_AFTER = 64 };
struct CachedWord { uint64_t hash; uint8_t length, count; char bytes[CACHE_BYTES]; int32_t ids[CACHE_IDS]; };

static void encode_uncached(Encoder *e, const char *word, uint32_t length) {
    const Tokenizer *t = e->tokenizer;
    if (t->header->model == TOKENIZER_BPE) {
        encode_bpe(e, word, length);
    } else if (t->header->model == TOKENIZER_UNIGRAM) {
        encode_unigram(e, word, length);
    } else if (t->header->model == TOKENIZER_WORDPIECE) {
        encode_wordpiece(e, word, length);
    } else {
        uint32_t id = trie_find(&t->pieces, word, length);
        if (id == NONE) id = t->header->unk;
        if (id != NONE) add_id(e, id);
    }
}

void encode_word(Encoder *e, const char *word, uint32_t length) {
    if (++e->words == CACHE_AFTER) e->cache = calloc(CACHE_SLOTS, sizeof *e->cache);      // without one it is only slower
    if (!e->cache || length > CACHE_BYTES) {
        encode_uncached(e, word, length);
        return;
    }
    uint64_t hash = 14695981039346656037u;                                                // FNV-1a
    for (uint32_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)word[i]) * 1099511628211u;
    CachedWord *slot = &e->cache[(hash ^ hash >> 32) % CACHE_SLOTS];
    if (slot->length == length && slot->hash == hash && !memcmp(slot->bytes, word, length)) {
        for (int i = 0; i < slot->count; i++) add_id(e, (uint32_t)slot->ids[i]);
        return;
    }
    size_t first = e->ids.count;
    encode_uncached(e, word, length);
    size_t count = e->ids.count - first;
    if (e->failure || count > CACHE_IDS) return;
    slot->hash = hash;
    slot->length = (uint8_t)length;
    slot->count = (uint8_t)count;
    memcpy(slot->bytes, word, length);
    memcpy(slot->ids, e->ids.data + first, count * sizeof *slot->ids);
}
