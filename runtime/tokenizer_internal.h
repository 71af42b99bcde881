// What the files of the tokenizer share: the opened tables, growing buffers that remember their failure, and tries.
#ifndef TENON_RUNTIME_TOKENIZER_INTERNAL_H
#define TENON_RUNTIME_TOKENIZER_INTERNAL_H

#include "runtime/tokenizer.h"
#include "runtime/tokenizer_format.h"

#define NONE TOKENIZER_NONE

typedef struct { const TokenizerNode *nodes; uint32_t count; bool first[256]; } Trie;   // first: bytes that begin some key

struct Tokenizer {
    const TokenizerHeader *header;
    const unsigned char *parts[TOKENIZER_PARTS];
    uint32_t counts[TOKENIZER_PARTS];              // elements of each part
    Trie pieces, raw, added;
    uint32_t (*ascii)[4];                          // of each class: which of the first 128 code points it holds
};

typedef struct { uint32_t from, to; } Span;
typedef struct { char *data; size_t length, capacity; } Buffer;
typedef struct { Span *data; size_t count, capacity; } Spans;
typedef struct { int32_t *data; size_t count, capacity; } Ids;
typedef struct CachedWord CachedWord;

typedef struct { uint32_t pc, at, low, kind; } RegexFrame;

// One call of encode. The first failure is kept; everything after it does nothing.
typedef struct {
    const Tokenizer *tokenizer;
    unsigned flags;
    Ids ids;
    const char *failure;
    RegexFrame *stack;
    size_t stack_count, stack_capacity;
    uint64_t steps;                                // left to the regex machine
    CachedWord *cache;
    size_t words;
    void *scratch[3];                              // the models' arrays, kept from word to word
    size_t scratch_bytes[3];
} Encoder;

// Room for `more` elements after `count`: false (and the encoder has failed) when there is none.
bool encoder_reserve(Encoder *encoder, void **data, size_t count, size_t *capacity, size_t more, size_t element);
void *encoder_scratch(Encoder *encoder, int which, size_t bytes);          // contents undefined; NULL when it failed
void encoder_fail(Encoder *encoder, const char *why);
static inline const char *buffer_bytes(const Buffer *buffer) { return buffer->data ? buffer->data : ""; }   // an empty one has no memory
void buffer_add(Encoder *encoder, Buffer *buffer, const char *bytes, size_t length);
void buffer_add_code(Encoder *encoder, Buffer *buffer, uint32_t code);
void add_id(Encoder *encoder, uint32_t id);
void spans_add(Encoder *encoder, Spans *spans, size_t from, size_t to);

// The code point at p < end; *next is where the following one begins. What is ill-formed reads as U+FFFD, a byte at a time.
uint32_t code_at(const char *p, const char *end, const char **next);
const char *code_before(const char *p, const char *start);                 // p > start: where the code point before p begins
// All ill-formed pieces (maximal subparts, as Unicode advises) replaced by U+FFFD.
void buffer_add_valid(Encoder *encoder, Buffer *buffer, const char *bytes, size_t length);
bool code_is_space(uint32_t code);                                         // White_Space
bool code_is_word(uint32_t code);                                          // \w as added tokens mean it: joiners are part of a word

// The child of a node by its byte, 0 when there is none.
uint32_t trie_step(const Trie *trie, uint32_t node, unsigned char byte);
// The node reached by all bytes from `node`, 0 when they leave the trie (or there are none).
uint32_t trie_walk(const Trie *trie, uint32_t node, const char *bytes, size_t length);
uint32_t trie_find(const Trie *trie, const char *bytes, size_t length);    // the key's value, NONE

bool class_holds(const Tokenizer *tokenizer, uint32_t class, uint32_t code);
// The first match at or after `at` in text[0 … length).
bool regex_find(Encoder *encoder, uint32_t regex, const char *text, uint32_t length, uint32_t at, Span *match);

// Runs the normalizers over bytes; the result is added to `out`.
void normalize(Encoder *encoder, const char *bytes, size_t length, Buffer *out);
// The words of a normalized text; `*text` is replaced when splitters rewrite it.
void split_words(Encoder *encoder, Buffer *text, Spans *words, bool at_start);
void split_at(Encoder *encoder, const TokenizerStep *step, const char *text, Span word, Spans *out);

void encode_word(Encoder *encoder, const char *word, uint32_t length);
void encode_bpe(Encoder *encoder, const char *word, uint32_t length);
void encode_unigram(Encoder *encoder, const char *word, uint32_t length);
void encode_wordpiece(Encoder *encoder, const char *word, uint32_t length);
void add_bytes_or_unknown(Encoder *encoder, const char *bytes, size_t length);   // an unknown piece

static inline const char *tokenizer_string(const Tokenizer *t, TokenizerString string) {
    return (const char *)t->parts[TOKENIZER_STRINGS] + string.offset;
}
static inline const uint32_t *tokenizer_words(const Tokenizer *t, int part) { return (const uint32_t *)t->parts[part]; }

#endif
