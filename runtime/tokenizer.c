// Opening a tokenizer: the bytes are used where they lie, so everything that later code relies on is checked once, here: every part lies
// in the bytes and has whole elements, every id, index, target and string is in range. Whatever passes can be slow, but cannot go astray.
#include "runtime/tokenizer_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_IDS = 1 << 24, MOST_CLASSES = 4096 };

static const unsigned char element_bytes[TOKENIZER_PARTS] = {
    [TOKENIZER_TEXT_INDEX] = 4,
    [TOKENIZER_TEXT] = 1,
    [TOKENIZER_KINDS] = 1,
    [TOKENIZER_TRIE] = sizeof(TokenizerNode),
    [TOKENIZER_RAW_TRIE] = sizeof(TokenizerNode),
    [TOKENIZER_ADDED_TRIE] = sizeof(TokenizerNode),
    [TOKENIZER_ADDED] = sizeof(TokenizerAdded),
    [TOKENIZER_MERGE_INDEX] = 4,
    [TOKENIZER_MERGES] = sizeof(TokenizerMerge),
    [TOKENIZER_SCORES] = 8,
    [TOKENIZER_BYTE_IDS] = 4,
    [TOKENIZER_NORMALIZERS] = sizeof(TokenizerStep),
    [TOKENIZER_SPLITTERS] = sizeof(TokenizerStep),
    [TOKENIZER_REGEXES] = sizeof(TokenizerRegex),
    [TOKENIZER_CODE] = 4,
    [TOKENIZER_CLASSES] = sizeof(TokenizerClass),
    [TOKENIZER_RANGES] = 8,
    [TOKENIZER_STRINGS] = 1,
    [TOKENIZER_CHARSMAP] = 1,
    [TOKENIZER_PREFIX] = 4,
    [TOKENIZER_SUFFIX] = 4,
    [TOKENIZER_ENDS] = 4,
};

static bool check_trie(Trie *trie, const Tokenizer *t, int part, uint32_t value_limit) {
    trie->nodes = (const TokenizerNode *)t->parts[part];
    trie->count = t->counts[part];
    for (uint32_t i = 0; i < trie->count; i++) {
        TokenizerNode node = trie->nodes[i];
        if (node.value != NONE && node.value >= value_limit) return false;
        if (node.count && (node.first <= i || node.first >= trie->count || node.count > trie->count - node.first)) return false;
    }
    if (trie->count)
        for (uint32_t i = 0; i < trie->nodes[0].count; i++) trie->first[trie->nodes[trie->nodes[0].first + i].label] = true;
    return true;
}

static bool check_string(const Tokenizer *t, TokenizerString string) {
    uint32_t bytes = t->counts[TOKENIZER_STRINGS];
    return string.offset <= bytes && string.length <= bytes - string.offset;
}

static bool check_steps(const Tokenizer *t, int part, uint32_t first, uint32_t last) {
    const TokenizerStep *steps = (const TokenizerStep *)t->parts[part];
    for (uint32_t i = 0; i < t->counts[part]; i++) {
        const TokenizerStep *step = &steps[i];
        if (step->kind < first || step->kind > last || !check_string(t, step->text) || !check_string(t, step->by)) return false;
        bool regex = step->kind == TOKENIZER_REPLACE_REGEX || step->kind == TOKENIZER_SPLIT;
        if (regex && step->regex >= t->counts[TOKENIZER_REGEXES]) return false;
        bool literal = step->kind == TOKENIZER_REPLACE || step->kind == TOKENIZER_SPLIT_TEXT;
        if (literal && !step->text.length) return false;
    }
    return t->counts[part] <= 64;
}

// Walks a program (or a sub-program) operation by operation: operands inside, targets on operations of the same level.
static bool check_code(const Tokenizer *t, const uint32_t *code, uint32_t from, uint32_t to, unsigned char *starts, int depth) {
    static const unsigned char sizes[] = {0, 1, 2, 2, 5, 3, 2, 4, 1, 1, 1, 1, 1, 1, 1};
    if (depth > 32) return false;
    uint32_t last = 0;
    for (uint32_t pc = from; pc < to;) {
        uint32_t op = code[pc];
        if (op < RX_MATCH || op > RX_NOT_WORD || sizes[op] > to - pc) return false;
        if ((op == RX_CLASS || op == RX_REPEAT) && code[pc + 1] >= t->counts[TOKENIZER_CLASSES]) return false;
        starts[pc] = (unsigned char)(depth + 1);
        last = op;
        if (op == RX_LOOK) {
            uint32_t next = code[pc + 3];
            if (next <= pc + 4 || next >= to || code[pc + 1] > 4 || !check_code(t, code, pc + 4, next, starts, depth + 1)) return false;
            pc = next;
        } else {
            pc += sizes[op];
        }
    }
    for (uint32_t pc = from; pc < to;) {
        uint32_t op = code[pc];
        uint32_t a = op == RX_SPLIT || op == RX_JUMP ? code[pc + 1] : pc, b = op == RX_SPLIT ? code[pc + 2] : a;
        if (a < from || a >= to || b < from || b >= to || starts[a] != depth + 1 || starts[b] != depth + 1) return false;
        pc = op == RX_LOOK ? code[pc + 3] : pc + sizes[op];
    }
    return last == RX_MATCH;
}

static bool check_regexes(const Tokenizer *t) {
    const TokenizerRegex *regexes = (const TokenizerRegex *)t->parts[TOKENIZER_REGEXES];
    const uint32_t *code = tokenizer_words(t, TOKENIZER_CODE);
    for (uint32_t i = 0; i < t->counts[TOKENIZER_REGEXES]; i++) {
        TokenizerRegex regex = regexes[i];
        if (!regex.count || regex.first > t->counts[TOKENIZER_CODE] || regex.count > t->counts[TOKENIZER_CODE] - regex.first) return false;
        unsigned char *starts = calloc(regex.count, 1);
        bool right = starts && check_code(t, code + regex.first, 0, regex.count, starts, 0);
        free(starts);
        if (!right) return false;
    }
    return t->counts[TOKENIZER_REGEXES] <= 64;
}

static bool check_classes(const Tokenizer *t) {
    const TokenizerClass *classes = (const TokenizerClass *)t->parts[TOKENIZER_CLASSES];
    uint32_t count = t->counts[TOKENIZER_CLASSES], ranges = t->counts[TOKENIZER_RANGES];
    if (count > MOST_CLASSES) return false;
    bool owned[MOST_CLASSES] = {false};
    for (uint32_t i = 0; i < count; i++) {
        TokenizerClass c = classes[i];
        if (c.first_range > ranges || c.range_count > ranges - c.first_range) return false;
        if (c.child_count && (c.first_child >= i || c.child_count > i - c.first_child)) return false;
        for (uint32_t k = 0; k < c.child_count; k++) {
            if (owned[c.first_child + k]) return false;
            owned[c.first_child + k] = true;
        }
    }
    return true;
}

static bool check_ids(const Tokenizer *t, int part, bool none_allowed) {
    const uint32_t *ids = tokenizer_words(t, part);
    for (uint32_t i = 0; i < t->counts[part]; i++)
        if (ids[i] >= t->header->count && !(none_allowed && ids[i] == NONE)) return false;
    return true;
}

static bool check_index(const Tokenizer *t, int part, uint32_t limit) {
    const uint32_t *index = tokenizer_words(t, part);
    if (t->counts[part] != t->header->count + 1) return false;
    for (uint32_t i = 0; i < t->header->count; i++)
        if (index[i] > index[i + 1]) return false;
    return index[t->header->count] <= limit;
}

static bool check_model(const Tokenizer *t) {
    const TokenizerHeader *h = t->header;
    if (h->model == TOKENIZER_BPE) {
        const TokenizerMerge *merges = (const TokenizerMerge *)t->parts[TOKENIZER_MERGES];
        if (!check_index(t, TOKENIZER_MERGE_INDEX, t->counts[TOKENIZER_MERGES])) return false;
        for (uint32_t i = 0; i < t->counts[TOKENIZER_MERGES]; i++)
            if (merges[i].id >= h->count) return false;
    } else if (h->model == TOKENIZER_UNIGRAM) {
        const double *scores = (const double *)t->parts[TOKENIZER_SCORES];
        if (t->counts[TOKENIZER_SCORES] != h->count || !isfinite(h->unk_score)) return false;
        for (uint32_t i = 0; i < h->count; i++)
            if (!isfinite(scores[i])) return false;
    } else if (h->model != TOKENIZER_WORDPIECE && h->model != TOKENIZER_WORDLEVEL) {
        return false;
    }
    return check_string(t, h->prefix) && check_string(t, h->suffix) && h->prefix.length <= 256 && h->suffix.length <= 256;
}

static const char *find_parts(Tokenizer *t, size_t length) {
    const TokenizerHeader *h = t->header;
    if (length < sizeof *h || memcmp(h->magic, TOKENIZER_MAGIC, 8)) return "this is not a tokenizer";
    if (h->version != TOKENIZER_VERSION) return "this tokenizer is of another version of tenon";
    if (h->length != length) return "the tokenizer is cut short";
    for (int i = 0; i < TOKENIZER_PARTS; i++) {
        TokenizerPart part = h->parts[i];
        if (part.offset > length || part.length > length - part.offset || part.offset % 8 || part.length % element_bytes[i])
            return "the tokenizer is damaged (its parts)";
        t->parts[i] = (const unsigned char *)h + part.offset;
        t->counts[i] = part.length / element_bytes[i];
    }
    return NULL;
}

static const char *check_tables(Tokenizer *t) {
    const TokenizerHeader *h = t->header;
    if (!h->count || h->count > MOST_IDS || t->counts[TOKENIZER_KINDS] != h->count || t->counts[TOKENIZER_BYTE_IDS] != 256)
        return "the tokenizer is damaged (its vocabulary)";
    uint32_t ids[] = {h->unk, h->bos, h->eos};
    for (int i = 0; i < 3; i++)
        if (ids[i] != NONE && ids[i] >= h->count) return "the tokenizer is damaged (its special tokens)";
    if (!check_index(t, TOKENIZER_TEXT_INDEX, t->counts[TOKENIZER_TEXT]) || !check_ids(t, TOKENIZER_BYTE_IDS, true))
        return "the tokenizer is damaged (its vocabulary)";
    if (!check_ids(t, TOKENIZER_PREFIX, false) || !check_ids(t, TOKENIZER_SUFFIX, false) || !check_ids(t, TOKENIZER_ENDS, false))
        return "the tokenizer is damaged (its special tokens)";
    const TokenizerAdded *added = (const TokenizerAdded *)t->parts[TOKENIZER_ADDED];
    for (uint32_t i = 0; i < t->counts[TOKENIZER_ADDED]; i++)
        if (added[i].id >= h->count) return "the tokenizer is damaged (its added tokens)";
    if (!check_trie(&t->pieces, t, TOKENIZER_TRIE, h->count)
        || !check_trie(&t->raw, t, TOKENIZER_RAW_TRIE, t->counts[TOKENIZER_ADDED])
        || !check_trie(&t->added, t, TOKENIZER_ADDED_TRIE, t->counts[TOKENIZER_ADDED]))
        return "the tokenizer is damaged (its tries)";
    if (!check_classes(t) || !check_regexes(t)) return "the tokenizer is damaged (its patterns)";
    if (!check_steps(t, TOKENIZER_NORMALIZERS, TOKENIZER_NFC, TOKENIZER_NMT)
        || !check_steps(t, TOKENIZER_SPLITTERS, TOKENIZER_SPLIT, TOKENIZER_SPACE_TO))
        return "the tokenizer is damaged (its steps)";
    if (!check_model(t)) return "the tokenizer is damaged (its model)";
    return NULL;
}

Tokenizer *tokenizer_open(const void *bytes, size_t length, char *error, size_t error_size) {
    Tokenizer *t = calloc(1, sizeof *t);
    const char *why = t ? NULL : "out of memory";
    if (t) {
        t->header = bytes;
        why = (uintptr_t)bytes % 8 ? "the tokenizer is not aligned" : find_parts(t, length);
        if (!why) why = check_tables(t);
    }
    if (!why) {
        uint32_t classes = t->counts[TOKENIZER_CLASSES];
        t->ascii = calloc(classes ? classes : 1, sizeof *t->ascii);
        if (!t->ascii) why = "out of memory";
        for (uint32_t i = 0; t->ascii && i < classes; i++)
            for (uint32_t code = 0; code < 128; code++)
                if (class_holds(t, i, code)) t->ascii[i][code / 32] |= 1u << code % 32;
    }
    if (!why) return t;
    if (error_size) snprintf(error, error_size, "%s", why);
    tokenizer_close(t);
    return NULL;
}

void tokenizer_close(Tokenizer *t) {
    if (!t) return;
    free(t->ascii);
    free(t);
}

// ---- questions -----------------------------------------------------------------------------------------------------

int tokenizer_count(const Tokenizer *t) { return (int)t->header->count; }
int32_t tokenizer_bos(const Tokenizer *t) { return (int32_t)t->header->bos; }
int32_t tokenizer_eos(const Tokenizer *t) { return (int32_t)t->header->eos; }

const int32_t *tokenizer_ends(const Tokenizer *t, int *count) {
    *count = (int)t->counts[TOKENIZER_ENDS];
    return (const int32_t *)t->parts[TOKENIZER_ENDS];
}

bool tokenizer_is_end(const Tokenizer *t, int32_t id) {
    const uint32_t *ends = tokenizer_words(t, TOKENIZER_ENDS);
    for (uint32_t i = 0; i < t->counts[TOKENIZER_ENDS]; i++)
        if (ends[i] == (uint32_t)id) return true;
    return false;
}

bool tokenizer_is_special(const Tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->header->count && t->parts[TOKENIZER_KINDS][id] == TOKENIZER_SPECIAL;
}

const char *tokenizer_piece(const Tokenizer *t, int32_t id, size_t *length) {
    *length = 0;
    if (id < 0 || (uint32_t)id >= t->header->count) return "";
    const uint32_t *index = tokenizer_words(t, TOKENIZER_TEXT_INDEX);
    *length = index[id + 1] - index[id];
    return (const char *)t->parts[TOKENIZER_TEXT] + index[id];
}

int32_t tokenizer_find(const Tokenizer *t, const char *text, size_t length) {
    const TokenizerAdded *added = (const TokenizerAdded *)t->parts[TOKENIZER_ADDED];
    uint32_t found = trie_find(&t->raw, text, length);
    if (found == NONE) found = trie_find(&t->added, text, length);
    if (found != NONE) return (int32_t)added[found].id;
    for (int32_t id = 0; id < (int32_t)t->header->count; id++) {
        size_t bytes;
        const char *piece = tokenizer_piece(t, id, &bytes);
        if (bytes == length && length && !memcmp(piece, text, length)) return id;
    }
    return -1;
}

// ---- tries ---------------------------------------------------------------------------------------------------------

uint32_t trie_step(const Trie *trie, uint32_t node, unsigned char byte) {
    if (node >= trie->count) return 0;
    const TokenizerNode *parent = &trie->nodes[node];
    uint32_t low = 0, high = parent->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        unsigned char label = trie->nodes[parent->first + middle].label;
        if (label == byte) return parent->first + middle;
        if (label < byte) low = middle + 1;
        else high = middle;
    }
    return 0;
}

uint32_t trie_walk(const Trie *trie, uint32_t node, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        node = trie_step(trie, node, (unsigned char)bytes[i]);
        if (!node) return 0;
    }
    return node;
}

uint32_t trie_find(const Trie *trie, const char *bytes, size_t length) {
    uint32_t node = trie_walk(trie, 0, bytes, length);
    return node ? trie->nodes[node].value : NONE;
}
