// A model that costs nothing and forgives nothing: its "logits" are a hash of everything the KV cache holds of the sequence so far, through two
// layers. A page that is lost, swapped or stale, a wrong position, a barrier left out: each changes every later row.
#ifndef TESTS_RUNTIME_FAKE_H
#define TESTS_RUNTIME_FAKE_H
#include "runtime/blob.h"

enum { FAKE_VOCAB = 260, FAKE_WIDTH = 260, FAKE_CONTEXT = 200, FAKE_END = 256, FAKE_USER = 257, FAKE_BOT = 258, FAKE_BOS = 259, FAKE_PAGE = 8,
       FAKE_TOKENS = 24, FAKE_ROWS = 6, FAKE_SEQUENCES = 5, FAKE_VECTOR = 7 };

// A whole blob with trailer, malloc'd. `no_tokenizer`, `no_chat`: leave those out. The hash of the full one is FAKE_HASH in the built program.
unsigned char *fake_blob(int no_tokenizer, int no_chat, size_t *length);
uint64_t fake_hash(const unsigned char *blob);
void fake_rehash(unsigned char *blob, size_t length);      // after a change: section table's hash and trailer made to fit

tn_program fake_language(const unsigned char *blob);       // causal, a row for each that is kept
tn_program fake_encoder(const unsigned char *blob, int out_kind);

#endif
