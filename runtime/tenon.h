// The public interface of a compiled model: what a shared object exports, and what the command line of every program is built on.
//
// An engine is an opened program: its weights mapped, its threads counted, its tokenizer ready. It holds sequences, each a list of tokens with
// its own KV cache. Tokens are queued with tn_add; tn_run runs one step over as many queued tokens of as many sequences as fit, and
// leaves output rows to be read. The same tokens give the same bits in any company, at any thread count, however they are cut into steps.
//
//     tn_failure failure = {0};
//     tn_engine *engine = tn_open(&tn_model, NULL, &failure);          // NULL: failure.text says why
//     int ids[64], count = tn_encode(engine, "Why is the sky blue?", 20, 1, ids, 64, &failure);
//     int s = tn_sequence_new(engine, &failure);
//     tn_add(engine, s, ids, count, TN_WANT_LAST, &failure);
//     while (tn_pending(engine) > 0) tn_run(engine, &failure);
//     const tn_row *row = tn_rows(engine);                             // of the last step: row->values[tn_width(engine)]
//     int next = tn_sample(engine, s, row->values, &(tn_sampling){0});
//     tn_close(engine);
//
// Threads: an engine is used by one thread at a time (it starts its own team for a step); different engines are independent. Nothing here calls
// exit() or installs a signal handler. A mapped weight file that shrinks under a running program raises SIGBUS: see tn_guard_install.
// Errors: functions that can fail take a tn_failure, return NULL, 0 or -1 as said, and set its text (lower case, no full stop) and code.
#ifndef TENON_RUNTIME_TENON_H
#define TENON_RUNTIME_TENON_H

#include <stddef.h>
#include "runtime/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TN_API __attribute__((visibility("default")))

// The codes are the exit codes of the command line.
enum { TN_BAD_INPUT = 1, TN_BAD_USAGE = 2, TN_BAD_MACHINE = 3 };
typedef struct tn_failure { int code; char text[1020]; } tn_failure;   // code 0: none. The first failure is kept until it is cleared by {0}

TN_API extern const tn_program tn_model;    // the program that this object was compiled to

typedef struct tn_engine tn_engine;

typedef struct tn_open_options {
    const char *weights;       // NULL: appended to the program's own file, or beside it (FILE.weights); else a file that holds the blob
    int threads;               // 0: as many as this process may use
    int context;               // 0: the program's; else a shorter one, which bounds the KV cache
    int chunk;                 // 0: as many tokens a step as the program takes; else at most so many
    unsigned long long memory; // bytes that this process is to take at most: experts that do not fit are read from the file when they are chosen. 0: what
                               // the program was compiled with; TN_ALL_MEMORY: no bound
} tn_open_options;
#define TN_ALL_MEMORY (~0ull)

TN_API tn_engine *tn_open(const tn_program *program, const tn_open_options *options, tn_failure *failure);   // options may be NULL
TN_API void tn_close(tn_engine *engine);                                                                     // NULL is allowed

TN_API const tn_program *tn_program_of(const tn_engine *engine);
TN_API int tn_threads(const tn_engine *engine);
TN_API int tn_context(const tn_engine *engine);            // the longest sequence
TN_API int tn_width(const tn_engine *engine);              // floats of an output row
// What a bound of memory cost, since the engine was opened. Bytes; `room`: for experts; held: of those in memory or on their way.
typedef struct tn_paging {
    unsigned long long budget, pinned, room, held, bytes_read;   // pinned: read once, at the start; bytes_read: of experts
    unsigned long long visits, hits;       // experts that some token of a step chose in a layer; of them, those that were there
    unsigned long long guesses, right;     // experts read before a layer chose them; of them, those that it chose
    double waited;                         // seconds
} tn_paging;
TN_API int tn_paging_of(const tn_engine *engine, tn_paging *out);   // 0: all weights are in memory
TN_API const char *tn_meta(const tn_engine *engine, const char *key, int index);   // the index-th record of this key in the blob, or NULL

// ---- text -----------------------------------------------------------------------------------------------------------------
// Encodes UTF-8 text (any bytes are accepted). `special`: 1 adds the model's own begin and end tokens and reads special tokens in the text;
// 0 does neither; 2 reads them only. Returns the number of ids, which may exceed `room` (then only `room` are written); -1: no tokenizer, or a failure.
TN_API int tn_encode(const tn_engine *engine, const char *text, size_t length, int special, int *ids, int room, tn_failure *failure);
// The bytes of some tokens (special tokens leave none unless `special`). Returns their number, which may exceed `room`; always NUL-terminated
// when room > 0. A token may hold part of a UTF-8 character.
TN_API size_t tn_decode(const tn_engine *engine, const int *ids, int count, int special, char *text, size_t room);
TN_API int tn_is_end(const tn_engine *engine, int id);     // 1: this token ends a generation

// ---- sequences ------------------------------------------------------------------------------------------------------------
enum { TN_WANT_NONE, TN_WANT_LAST, TN_WANT_ALL };          // which of the tokens' outputs are asked for; what it means for models with one
                                                           // output a token or a sequence: TN_WANT_NONE leaves them out, else all come
TN_API int tn_sequence_new(tn_engine *engine, tn_failure *failure);      // a number ≥ 0, or -1
TN_API void tn_sequence_free(tn_engine *engine, int sequence);           // its KV pages go back to the engine
TN_API int tn_length(const tn_engine *engine, int sequence);             // tokens, queued ones included
TN_API const int *tn_tokens(const tn_engine *engine, int sequence);      // tn_length of them; valid until tokens are added
TN_API int tn_trim(tn_engine *engine, int sequence, int length, tn_failure *failure);   // forgets all but the first `length` tokens; 0 or -1
// Queues tokens at the sequence's end. 0, or -1: an id outside the vocabulary is not looked for here, a full context is.
TN_API int tn_add(tn_engine *engine, int sequence, const int *ids, int count, int want, tn_failure *failure);

// ---- steps ----------------------------------------------------------------------------------------------------------------
typedef struct tn_row { int sequence, position; const float *values; } tn_row;   // position: of the token; 0 where a row is a whole sequence's

TN_API int tn_pending(const tn_engine *engine);                          // queued tokens of all sequences
TN_API int tn_run(tn_engine *engine, tn_failure *failure);               // runs one step; the number of output rows, or -1
TN_API const tn_row *tn_rows(const tn_engine *engine);                   // of the last step; valid until the next

// ---- generation -----------------------------------------------------------------------------------------------------------
typedef struct tn_sampling {
    double temperature;            // 0: the largest logit, ties to the lower id
    int top_k;                     // 0: all
    double top_p, min_p;           // 0: off (top_p 1 as well)
    double repeat_penalty;         // 0 or 1: off. Logits of tokens that the sequence holds are divided by it when positive, else multiplied
    unsigned long long seed;
} tn_sampling;
// Repeat penalty, temperature, top-k, top-p, min-p, in this order; the draw depends on the seed and the sequence's length alone. `logits`: a row's
// values, untouched, or a copy that was changed at will.
TN_API int tn_sample(const tn_engine *engine, int sequence, const float *logits, const tn_sampling *sampling);

typedef struct tn_generation {
    tn_sampling sampling;
    int most;                      // tokens; -1: until the context is full
    const char *const *stops;      // texts that end it and are not part of the output, besides the model's own
    int stop_count;
    int ignore_end;                // 1: end-of-generation tokens do not end it
    int many;                      // 1: of more sequences than fit into a step, the first are finished first, and a finished one gives its KV
                                   // cache back (its tokens stay; when it is continued they are read again): memory is that of one step's sequences
    // Called with whole UTF-8 characters as they come; a return value other than 0 ends the sequence's generation. May be NULL.
    int (*on_text)(void *to, int sequence, const char *text, size_t length);
    void *to;
} tn_generation;
enum { TN_STOPPED_AT_LENGTH = 1, TN_STOPPED_AT_END, TN_STOPPED_AT_TEXT, TN_STOPPED_AT_CONTEXT, TN_STOPPED_BY_CALLER };
// Generates for all of `sequences` together, each with at least one queued token. Into results[i]: why it ended. The tokens stay in the sequences
// (an end token that was sampled is not added). 0, or -1.
TN_API int tn_generate(tn_engine *engine, const int *sequences, int count, const tn_generation *how, int *results, tn_failure *failure);

// ---- whole programs -------------------------------------------------------------------------------------------------------
TN_API int tenon_program_main(const tn_program *program, int argc, char **argv);   // the command line of a compiled program; its exit code
// Makes SIGBUS inside a mapped weight file a message with file and offset and exit code 1. For programs, not for libraries.
TN_API void tn_guard_install(void);

#ifdef __cplusplus
}
#endif
#endif
