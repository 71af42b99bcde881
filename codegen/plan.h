// The plan of one module for one target: kernels, where weights lie in the blob, where caches lie in a page, what the arena holds.
#ifndef TENON_CODEGEN_PLAN_H
#define TENON_CODEGEN_PLAN_H
#include "codegen/kernel.h"

// What a kernel takes: bytes that it must read or write, and operations: the least that its work needs, however it is done.
typedef struct {
    double row_bytes, operations;              // of one call and row
    double cache_bytes, cache_operations;      // of one call and position of the KV cache; of one call, row and position
    int window;                                // a row sees at most so many positions; 0: all
} KernelCost;

typedef struct {
    const Func *func;
    const char *name;          // in C, unique
    Kernel *kernel;            // of a kernel function; else NULL
    Kernel **forms; int form_count;   // plan_vary: the kernel and its other forms; 0: there is one
    const char *tasks, *entry; // how many tasks (C, over a.rows), and the function that runs them
    bool expert;               // callee of moe_experts: runs once for each group of rows
    bool has_moe;
    int id;                    // of a kernel: index in the program's table
    int calls;                 // in a step
    int slots;                 // offsets its parameters take: one each, or one an element of an array
    uint64_t cache_bytes;      // its caches' share of a page
    KernelCost cost;           // of a kernel
    int experts, experts_chosen;   // of a function that runs for groups of rows: how many there are, and how many a token chooses
    Weight **bound;            // a weight that each parameter is bound to
    bool *several;             // … is not the only one
    bool in_expert;            // its rows are an expert's, not the step's
    int *rotations;            // of a kernel: of each node, the rotation that a rope turns by; -1: it computes its own angles
    DType *storage;            // of each parameter
    const Value *guess_from; const Node **guess_nodes; int guess_count;   // guess.c: of a block with experts: the residual, and what leads from it to a choice
    int largest;               // of a kernel: its result that is the program's output (kernel.h); -1: none
} FuncPlan;

enum { GUESS_ROWS = 4 };      // steps of more tokens choose most experts: they need no guess

// A table of angles that a step computes once: for each token the cosines, then the sines, each padded to 16.
typedef struct { const Node *rope; const Weight *factors; uint64_t offset; } Rotation;   // offset: in the arena

// Weights that a program may leave in the file: an expert's, visited by so many of a step's calls, or (visits 0) a table of which a token reads few rows.
typedef struct { uint64_t offset, bytes; int visits; } WeightPiece;

struct Plan {
    Arena *arena;
    const Module *module;
    const Target *target;
    const ScheduleBook *book;  // what tuning found; may be NULL
    int input_count;
    const char *const *input_names;
    const int64_t *input_defaults;   // NULL: 0
    FuncPlan *funcs;           // by index in the module
    int kernel_count;
    uint64_t *offset;          // of each weight, by id
    int *order;                // their ids in order of offset
    WeightPiece *pieces; int piece_count;   // in order of offset
    uint64_t weights_bytes, arena_bytes, page_bytes;
    uint64_t gather_offset;    // in the arena: rows gathered for experts
    uint64_t partial_offset;   // in the arena: what a kernel leaves for the one behind it
    uint64_t guess_offset, guess_bytes;   // in the arena: what a guess at the next layer's experts makes
    int rotation_count, rotation_capacity; Rotation *rotations;
    bool causal;
    const Node *output;        // main's call of the kernel that says the largest value of each block of the output; NULL: none does
};

bool plan_vary(Plan *plan, FuncPlan *f, const Schedule *schedules, int count, Diags *diags);   // for the tuner: more forms of a kernel
FuncPlan *plan_func(const Plan *plan, const Func *func);
uint64_t gather_place(const Plan *plan, const Node *experts, int input);
int param_slot(const Func *func, int param);    // the first of a parameter's offsets
void text_in_comment(const char *text, Text *out);
const char *plan_describe(const Plan *plan, const FuncPlan *f, Arena *arena);

bool plan_places(Plan *plan, Diags *diags);     // places.c: where every weight lies
void places_print(const Plan *plan, Text *out); // the program's table of pieces
void plan_guesses(Plan *plan);                  // guess.c: what of each block says which experts it will choose
void guess_print(const Plan *plan, const FuncPlan *f, Text *out);
void guess_print_next(const Plan *plan, const Node *node, Text *out);
void plan_costs(Plan *plan);                    // cost.c: of every kernel
void plan_angles(Plan *plan);                   // angles.c: the rotations of every kernel
uint64_t angles_row(const Rotation *r);         // floats a token
uint64_t angles_place(Plan *plan, uint64_t at); // in the arena, from `at` on; returns where they end
void angles_print(const Plan *plan, Text *out); // what kernels need of them
void angles_print_step(const Plan *plan, Text *out);   // main's first work
void step_print(const Plan *plan, Text *out);   // step.c: blocks, main, the program's tables
// step.c: the tn_program, named TN_MODEL (tn_model), with what a program says of itself; `code`: the fields that lead to its code
void program_print(const Plan *plan, const char *targets, const char *code, Text *out);
#endif
