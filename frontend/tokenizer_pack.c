// Packing: a finished Build becomes the bytes of SECTION_TOKENIZER.
#include "frontend/tokenizer_build.h"

#include <stdlib.h>
#include <string.h>

// ---- tries: sorted keys; nodes in breadth-first order, so that the children of a node stand together after it ----

typedef struct { Piece key; uint32_t value; } TrieKey;
typedef struct { TokenizerNode *nodes; uint32_t count; } PackedTrie;
typedef struct { uint32_t first, last, depth; } TrieRange;             // the keys below a node

static int compare_keys(const void *a, const void *b) {
    const TrieKey *x = a, *y = b;
    uint32_t common = x->key.length < y->key.length ? x->key.length : y->key.length;
    int order = memcmp(x->key.bytes, y->key.bytes, common);
    if (order) return order;
    if (x->key.length != y->key.length) return x->key.length < y->key.length ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static PackedTrie pack_trie(Build *build, TrieKey *keys, uint32_t count) {
    qsort(keys, count, sizeof *keys, compare_keys);
    uint32_t most = 1;
    for (uint32_t i = 0; i < count; i++) {                             // one node for each byte that the key before does not share
        uint32_t shared = 0;
        if (i)
            while (shared < keys[i].key.length && shared < keys[i - 1].key.length &&
                   keys[i].key.bytes[shared] == keys[i - 1].key.bytes[shared])
                shared++;
        most += keys[i].key.length - shared;
    }
    PackedTrie trie = {ARENA_ARRAY(build->arena, TokenizerNode, most), 1};
    TrieRange *ranges = ARENA_ARRAY(build->arena, TrieRange, most);
    trie.nodes[0].value = NO_ID;
    ranges[0] = (TrieRange){0, count, 0};
    for (uint32_t node = 0; node < trie.count; node++) {
        TrieRange range = ranges[node];
        uint32_t i = range.first;
        for (; i < range.last && keys[i].key.length == range.depth; i++)
            if (trie.nodes[node].value == NO_ID) trie.nodes[node].value = keys[i].value;
        trie.nodes[node].first = trie.count;
        while (i < range.last) {
            unsigned char label = (unsigned char)keys[i].key.bytes[range.depth];
            uint32_t from = i;
            while (i < range.last && (unsigned char)keys[i].key.bytes[range.depth] == label) i++;
            ranges[trie.count] = (TrieRange){from, i, range.depth + 1};
            trie.nodes[trie.count++] = (TokenizerNode){.value = NO_ID, .label = label};
            trie.nodes[node].count++;
        }
        if (!trie.nodes[node].count) trie.nodes[node].first = 0;
    }
    return trie;
}

static uint32_t characters(Piece piece) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < piece.length; i++) n += ((unsigned char)piece.bytes[i] & 0xC0) != 0x80;
    return n;
}

static PackedTrie pack_pieces(Build *build) {
    bool all = build->model != TOKENIZER_BPE || build->flags & TOKENIZER_WHOLE_WORDS || build->prefix.length || build->suffix.length;
    TrieKey *keys = ARENA_ARRAY(build->arena, TrieKey, build->count);
    uint32_t count = 0;
    for (uint32_t id = 0; id < build->count; id++) {
        Piece piece = build->pieces[id];
        bool one = build->flags & TOKENIZER_BYTES ? piece.length == 1 : characters(piece) == 1;
        if (piece.length && (all || one)) keys[count++] = (TrieKey){piece, id};
    }
    return pack_trie(build, keys, count);
}

static PackedTrie pack_added(Build *build, bool normalized) {
    TrieKey *keys = ARENA_ARRAY(build->arena, TrieKey, build->added_count);
    uint32_t count = 0;
    for (int i = 0; i < build->added_count; i++)
        if (build->added[i].normalized == normalized && build->added[i].content.length)
            keys[count++] = (TrieKey){build->added[i].content, (uint32_t)i};
    return count ? pack_trie(build, keys, count) : (PackedTrie){0};
}

// ---- parts -----------------------------------------------------------------------------------------------------------------

static void add_part(Text *out, size_t start, int part, const void *bytes, size_t length) {
    static const char zeros[8];
    text_add(out, zeros, (8 - (out->length - start) % 8) % 8);
    TokenizerHeader *header = (TokenizerHeader *)(out->data + start);
    header->parts[part] = (TokenizerPart){(uint32_t)(out->length - start), (uint32_t)length};
    if (length) text_add(out, bytes, length);
}

static void add_texts(Build *build, Text *out, size_t start) {
    uint32_t *index = ARENA_ARRAY(build->arena, uint32_t, build->count + 1), total = 0;
    Text all = {0};
    for (uint32_t id = 0; id < build->count; id++) {
        index[id] = total;
        if (build->texts[id].length) text_add(&all, build->texts[id].bytes, build->texts[id].length);
        total += build->texts[id].length;
    }
    index[build->count] = total;
    add_part(out, start, TOKENIZER_TEXT_INDEX, index, 4 * ((size_t)build->count + 1));
    add_part(out, start, TOKENIZER_TEXT, all.data, all.length);
    text_free(&all);
}

static int compare_merges(const void *a, const void *b) {
    const BuildMerge *x = a, *y = b;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    if (x->merge.right != y->merge.right) return x->merge.right < y->merge.right ? -1 : 1;
    return x->merge.rank < y->merge.rank ? -1 : x->merge.rank > y->merge.rank;
}

static void add_merges(Build *build, Text *out, size_t start) {
    if (build->model != TOKENIZER_BPE) return;
    if (build->merge_count) qsort(build->merges, (size_t)build->merge_count, sizeof *build->merges, compare_merges);
    uint32_t *index = ARENA_ARRAY(build->arena, uint32_t, build->count + 1), total = 0, next = 0;
    TokenizerMerge *merges = ARENA_ARRAY(build->arena, TokenizerMerge, build->merge_count);
    for (int i = 0; i < build->merge_count; i++) {
        const BuildMerge *m = &build->merges[i];
        if (i && m->left == m[-1].left && m->merge.right == m[-1].merge.right) continue;     // the same pair twice: the lower rank
        while (next <= m->left) index[next++] = total;
        merges[total++] = m->merge;
    }
    while (next <= build->count) index[next++] = total;
    add_part(out, start, TOKENIZER_MERGE_INDEX, index, 4 * ((size_t)build->count + 1));
    add_part(out, start, TOKENIZER_MERGES, merges, total * sizeof *merges);
}

static void add_added(Build *build, Text *out, size_t start) {
    PackedTrie raw = pack_added(build, false), normal = pack_added(build, true);
    TokenizerAdded *added = ARENA_ARRAY(build->arena, TokenizerAdded, build->added_count);
    for (int i = 0; i < build->added_count; i++) added[i] = (TokenizerAdded){build->added[i].id, build->added[i].flags};
    add_part(out, start, TOKENIZER_RAW_TRIE, raw.nodes, raw.count * sizeof *raw.nodes);
    add_part(out, start, TOKENIZER_ADDED_TRIE, normal.nodes, normal.count * sizeof *normal.nodes);
    add_part(out, start, TOKENIZER_ADDED, added, (size_t)build->added_count * sizeof *added);
}

static void add_programs(Build *build, Text *out, size_t start) {
    add_part(out, start, TOKENIZER_NORMALIZERS, build->normalizers, (size_t)build->normalizer_count * sizeof(TokenizerStep));
    add_part(out, start, TOKENIZER_SPLITTERS, build->splitters, (size_t)build->splitter_count * sizeof(TokenizerStep));
    add_part(out, start, TOKENIZER_REGEXES, build->regexes, (size_t)build->regex_count * sizeof(TokenizerRegex));
    add_part(out, start, TOKENIZER_CODE, build->code, (size_t)build->code_count * 4);
    add_part(out, start, TOKENIZER_CLASSES, build->classes, (size_t)build->class_count * sizeof(TokenizerClass));
    add_part(out, start, TOKENIZER_RANGES, build->ranges, (size_t)build->range_count * 4);
    add_part(out, start, TOKENIZER_STRINGS, build->strings.data, build->strings.length);
    add_part(out, start, TOKENIZER_CHARSMAP, build->charsmap.bytes, build->charsmap.length);
    add_part(out, start, TOKENIZER_PREFIX, build->before, (size_t)build->before_count * 4);
    add_part(out, start, TOKENIZER_SUFFIX, build->after, (size_t)build->after_count * 4);
    add_part(out, start, TOKENIZER_ENDS, build->ends, (size_t)build->end_count * 4);
}

bool build_pack(Build *build, Text *out) {
    size_t start = out->length;
    TokenizerHeader header = {.version = TOKENIZER_VERSION,
                              .model = build->model,
                              .flags = build->flags,
                              .count = build->count,
                              .unk = build->unk,
                              .bos = build->bos,
                              .eos = build->eos,
                              .longest_word = build->longest_word,
                              .unk_score = build->unk_score};
    memcpy(header.magic, TOKENIZER_MAGIC, sizeof header.magic);
    header.prefix = build_string(build, build->prefix);
    header.suffix = build_string(build, build->suffix);
    text_add(out, (const char *)&header, sizeof header);
    add_texts(build, out, start);
    add_part(out, start, TOKENIZER_KINDS, build->kinds, build->count);
    PackedTrie pieces = pack_pieces(build);
    add_part(out, start, TOKENIZER_TRIE, pieces.nodes, pieces.count * sizeof *pieces.nodes);
    add_added(build, out, start);
    add_merges(build, out, start);
    if (build->model == TOKENIZER_UNIGRAM) add_part(out, start, TOKENIZER_SCORES, build->scores, build->count * sizeof *build->scores);
    add_part(out, start, TOKENIZER_BYTE_IDS, build->byte_ids, sizeof build->byte_ids);
    add_programs(build, out, start);
    size_t length = out->length - start;
    if (length > INT32_MAX) return build_fail(build, "the tokenizer is larger than 2 GB");
    ((TokenizerHeader *)(out->data + start))->length = (uint32_t)length;
    return true;
}
