// The run-time tokenizer: text to ids and ids to bytes, read in place from the bytes of SECTION_TOKENIZER (tokenizer_format.h).
//
// A Tokenizer keeps no state between calls: one may be used by several threads. Text is UTF-8; each maximal ill-formed piece of it is
// taken for U+FFFD. Functions that can fail return false and put a message (lower case, no full stop) into `error`.
#ifndef TENON_RUNTIME_TOKENIZER_H
#define TENON_RUNTIME_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

// `bytes` (aligned to 8) are used in place and must outlive the tokenizer. Everything in them is checked here. NULL with a message when
// they are damaged.
Tokenizer *tokenizer_open(const void *bytes, size_t length, char *error, size_t error_size);
void tokenizer_close(Tokenizer *tokenizer);                  // NULL is allowed

enum {
    TOKENIZER_SPECIALS = 1,        // encode: put the model's own prefix and suffix (BOS, [CLS] … [SEP]) around the ids
    TOKENIZER_PARSE = 2,           // encode: "<|im_end|>" in the text means the special token; without it, it is text like any other
    TOKENIZER_SHOW = 4,            // decode: special tokens are written too; without it they are left out
};

// *ids is malloc'd (free it), never NULL on success.
bool tokenizer_encode(const Tokenizer *tokenizer, const char *utf8, size_t length, unsigned flags, int32_t **ids, int *count,
                      char *error, size_t error_size);
// The whole text of some ids: malloc'd, valid UTF-8, NUL-terminated. NULL when out of memory.
char *tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, int count, unsigned flags, size_t *length);

// A token's bytes as they stand in a text, not necessarily whole characters. An id out of range has none.
const char *tokenizer_piece(const Tokenizer *tokenizer, int32_t id, size_t *length);

// Streaming: each push returns what may be printed now: valid UTF-8, incomplete characters held back until they are whole. The result is
// valid until the next call on the stream; it is empty, never NULL, when there is nothing to print.
typedef struct {
    const Tokenizer *tokenizer;
    unsigned flags;
    bool started;                  // a first piece was seen (some tokenizers drop the space before it)
    unsigned held;                 // incomplete bytes at the head of `text`
    char *text;
    size_t capacity, shown;
} TokenizerStream;

void tokenizer_stream_open(TokenizerStream *stream, const Tokenizer *tokenizer, unsigned flags);
const char *tokenizer_stream_push(TokenizerStream *stream, int32_t id, size_t *length);
const char *tokenizer_stream_end(TokenizerStream *stream, size_t *length);     // what was held back, as U+FFFD
void tokenizer_stream_close(TokenizerStream *stream);

int tokenizer_count(const Tokenizer *tokenizer);                               // ids are 0 … count-1
int32_t tokenizer_bos(const Tokenizer *tokenizer);                             // -1: none
int32_t tokenizer_eos(const Tokenizer *tokenizer);
const int32_t *tokenizer_ends(const Tokenizer *tokenizer, int *count);         // ids that end a generation (eos, end of turn)
bool tokenizer_is_end(const Tokenizer *tokenizer, int32_t id);
bool tokenizer_is_special(const Tokenizer *tokenizer, int32_t id);
int32_t tokenizer_find(const Tokenizer *tokenizer, const char *text, size_t length);   // the token with exactly this text, -1: none

#endif
