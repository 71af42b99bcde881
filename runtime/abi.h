// The contract between generated code and the run time. This file is printed, as it stands, at the head of every generated C file, so it
// includes nothing and defines only what that code needs.
//
// A step runs some tokens of some sequences through the model. Every thread of a team calls `run` with the same step; generated code divides
// each kernel's tasks among the team and calls `barrier` between dependent kernels. `run` keeps no state but the arena and the KV pages.
#ifndef TENON_RUNTIME_ABI_H
#define TENON_RUNTIME_ABI_H

#define TN_ABI 5

enum { TN_BLOCK = 64 };              // output values of a block

// Rows of one expert: `rows` of them from `first` on in what its functions make, from `x` on in what they are given. A list of groups may be run in
// any order, and in parts.
typedef struct tn_group { int expert, first, rows, x; } tn_group;
struct tn_worker;

typedef struct tn_step {
    const unsigned char *weights;      // the blob's weight section (mapped, page-aligned)
    unsigned char *arena;              // tn_program.arena_bytes, 64-byte aligned, contents undefined between steps
    const int *const *inputs;          // each [tokens]: token ids, then the model's other inputs
    const int *position;               // [tokens]: position in its sequence
    const int *sequence;               // [tokens]: 0 … sequences-1, the row of `pages` it uses
    const int *first;                  // [sequences + 1]: a sequence's rows in this step are first[s] … first[s+1]-1, in order of position
    const int *keep;                   // [rows]: the rows whose output is asked for (output TN_PER_ROW), in increasing order
    unsigned char *const *pages;       // [sequences × pages_per_sequence]: KV pages, each tn_program.page_bytes, 64-byte aligned
    float *out;                        // [rows or sequences or tokens, out_width] by tn_program.out_kind
    float *largest;                    // NULL, or [rows, out_blocks]: the largest value of each block of a row of `out`; NaN is never it,
                                       // -infinity where a block has no number
    int tokens, sequences, rows, pages_per_sequence;
    // NULL, or (in a calibration run, from any thread) shown each row that the weight at this offset of `weights` is multiplied with
    void (*observe)(void *to, unsigned long long weight, const float *row, long n);
    void *observe_to;
    // NULL: all weights are there. Else every thread asks before groups from … count-1 of a layer's experts run, with 0 first, until all have run: groups
    // from … to-1 may run once it has returned `to`. It may have put the groups in another order, the same for every thread. All threads have come to
    // it before the first returns. p[i][e]: where the i-th of `params` parameters of expert e lies; experts: how many there are.
    int (*page)(const struct tn_step *step, struct tn_worker *worker, const unsigned long long *const *p, int params, int experts, tn_group *groups, int from, int count);
    // NULL, or told by one thread, after `page` was first asked for a layer, which experts e[0 … pairs-1] the next layer may choose. A hint, no more.
    void (*guess)(const struct tn_step *step, const unsigned long long *const *p, int params, int experts, const int *e, int pairs);
    void *pager;
} tn_step;

typedef struct tn_worker {
    int index, count;                              // this thread, and how many there are
    void (*barrier)(struct tn_worker *worker);     // returns when every thread of the team has called it; NULL when count is 1
    void *team;
    unsigned long long *kernel_ns;                 // NULL, or [kernel_count] of this thread's own, to which it adds each kernel's nanoseconds (clock: now)
    unsigned long long (*now)(void);
    unsigned long long *claims;                    // NULL, or [count × 8], shared by the team: what of each thread's tasks is taken, a word a cache line
    unsigned long long launch, since;              // kernels launched so far, never fewer than `claims` knows of; the first one behind the last barrier
} tn_worker;

enum { TN_PER_TOKEN, TN_PER_ROW, TN_PER_SEQUENCE };   // out_kind; what a kernel's row is

typedef struct tn_kernel_info {
    const char *name;                              // linear_f32_q4_1_64x16_v4
    const char *what;                              // decoder: gate, up (model.yaml:31)
    const char *arithmetic;                        // in which it multiplies: the name of the probe that bounds it; NULL: no products
    double weight_bytes;                           // of one call (of one expert, where there are experts)
    double operations, row_bytes;                  // of one call and row: multiplications and additions; operands and results
    double cache_bytes, cache_operations;          // of one call and position of the KV cache; of one call, row and position
    int window;                                    // a row sees at most so many positions; 0: all
    int calls;                                     // in a step
    int per;                                       // what a row is: TN_PER_TOKEN, TN_PER_ROW or TN_PER_SEQUENCE
    int experts, slots;                            // it runs for those of `experts` that some token chose, `slots` a token; 0: there are none
} tn_kernel_info;

// How fast this machine can go, in code compiled for the target: `run` does so many rounds, of so many operations from registers or so many bytes read.
typedef struct tn_probe {
    const char *name;                              // f32, int8 …: arithmetic; read: memory
    double operations, bytes;                      // of one round
    unsigned (*run)(const unsigned char *from, long rounds);   // from: 4096 bytes of operands, or what is read; 64-byte aligned
} tn_probe;

// Weights that a step may do without for a while: an expert's, to which so many calls of a step may come, or (visits 0) a table of which a token reads
// few rows. They begin at system pages, those of 8 MiB and more at huge ones. What is in no piece is read by every token.
typedef struct tn_piece { unsigned long long offset, bytes; int visits; } tn_piece;   // offset: in the blob's weight section

typedef struct tn_program {
    unsigned abi;                                  // TN_ABI
    const char *model, *target, *compiler;         // names; compiler: "tenon 0.1.0"
    unsigned long long blob_hash;                  // of the blob that belongs to it
    unsigned long long weights_bytes;              // of the blob's weight section
    int piece_count;
    const tn_piece *pieces;                        // in order of offset
    unsigned long long arena_bytes;                // for max_tokens and max_rows
    unsigned long long page_bytes;                 // of one KV page: all caches of page_tokens positions of one sequence; 0: no cache
    int page_tokens;
    int context;                                   // the longest sequence
    int max_tokens, max_rows, max_sequences;       // in one step
    int input_count;                               // tokens, then others
    const char *const *input_names;
    const int *input_limits;                       // each input's ids are 0 … limit-1 (rows of the table it reads); the run time refuses others
    const int *input_defaults;                     // what each input's ids are where nothing else is given (tokens: unused); NULL: 0
    int out_kind, out_width;
    int out_blocks;                                // ceil(out_width / TN_BLOCK) if `run` says the largest value of each block of a row; 0: it does not
    int causal;                                    // 0: a sequence must come whole in one step
    int kernel_count;
    const tn_kernel_info *kernels;
    int probe_count;
    const tn_probe *probes;
    void (*run)(const tn_step *step, tn_worker *worker);
    const char *needs;                             // what the code may use of the processor, in runtime/cpu.h's words: " avx avx2"; NULL: nothing
    const struct tn_program *const *variants;      // of a program for several targets: one a target, best first, ended by NULL. Such a program has
                                                   // no code of its own (run is NULL); opening it takes the first that this processor can run
} tn_program;

#endif
