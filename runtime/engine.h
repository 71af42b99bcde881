// What an opened program is made of; shared by session.c (steps), sampler.c and generate.c. Not public.
#ifndef TENON_RUNTIME_ENGINE_H
#define TENON_RUNTIME_ENGINE_H
#include <stdbool.h>
#include "runtime/blob.h"
#include "runtime/kv.h"
#include "runtime/pager.h"
#include "runtime/team.h"
#include "runtime/tokenizer.h"

typedef struct {
    bool used, parked;           // parked: finished, its KV cache given back; its tokens do not wait until one is added
    int *tokens;                 // all of them; the first `done` have been through the model
    unsigned char *want;         // of each token: its output is asked for
    int length, done, capacity;
    PageTable table;
} Sequence;

// The arrays of a tn_step, made once for the most tokens and sequences.
typedef struct {
    int *ids, *position, *sequence, *first, *keep, *handle, *taken;    // handle, taken: of each of the step's sequences
    const int **inputs;
    unsigned char **pages; size_t page_room;
    float *out, *largest; size_t out_room, largest_room;               // floats
    tn_row *rows; int row_count, row_room;
} StepBuffers;

enum { ENGINE_TOKENS = 4096 };

struct tn_engine {
    const tn_program *program;
    const Blob *blob;
    BlobStamp stamp;             // of the blob's file: that it is still the same is looked at after every step
    Blob *own_blob;              // opened by tn_open
    Tokenizer *tokenizer;        // NULL: the model has none
    Team *team;
    KvPool *kv;
    Pager *pager;                // NULL: all weights are mapped
    unsigned long long memory;   // the pager's budget
    unsigned char *arena; size_t arena_bytes;
    int context, chunk;
    Sequence *sequences; int sequence_count, sequence_capacity;
    int next;                    // the sequence with which the next step starts
    bool in_order;               // … unless the first sequences are to be finished first
    StepBuffers step;
    unsigned long long *kernel_ns;   // [threads][kernel_count]; NULL unless times are wanted
    void (*observe)(void *to, unsigned long long weight, const float *row, long n);   // calibration: tn_step.observe of each step; NULL
    void *observe_to;
    unsigned long long first_ns;     // when the last tn_generate drew its first token
    unsigned long long token_ns[ENGINE_TOKENS]; int token_count;   // when each of its steps had drawn its tokens: step n's in n % ENGINE_TOKENS
};

// tn_open over a blob that is open already and stays the caller's.
tn_engine *tn_open_blob(const tn_program *program, const Blob *blob, const tn_open_options *options, tn_failure *failure);
int tn_engine_time_kernels(tn_engine *engine, tn_failure *failure);   // from now on, adding up in kernel_ns
unsigned long long tn_memory_wanted(const Blob *blob, unsigned long long given);   // tn_open_options.memory, or what the program was compiled with
void tn_park(tn_engine *engine, int sequence);
int tn_row_limit(const tn_program *program);                          // rows a step asks for at most, so that their output stays small
const float *tn_row_largest(const tn_engine *engine, int row);         // of each block of the last step's row (abi.h); NULL: not known
// The next token; -1: no memory. largest: of each block of the logits, or NULL; the result is the same.
int tn_draw(const float *logits, const float *largest, int width, const int *history, int length, const tn_sampling *sampling, tn_failure *failure);
double tn_exp(double x);                                              // the same bits everywhere

#endif
