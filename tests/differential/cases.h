// Modules to compile: one op on operands of random types and edge shapes, or random graphs of many. Values that the reference and the compiled code
// compute alike to the bit (table rows, positions, moved data) are kept apart: comparisons and choices read only those, so that rounding never flips one.
#ifndef TENON_TESTS_CASES_H
#define TENON_TESTS_CASES_H
#include "ir/ir.h"

enum { VOCABULARY = 61, EDGES = 24 };
extern const int edge_sizes[EDGES];

typedef struct {
    int op[OP_COUNT];                        // nodes made
    int stored[OP_COUNT][DT_COUNT];          // by the type of the weight it reads
    int edge[OP_COUNT][EDGES];               // by the last size of its first operand
} Coverage;

// One op (seeded); `broken`: its results are changed a little, as a wrong implementation would. NULL when the op is no case of its own.
Module *case_module(Arena *arena, OpId op, uint64_t seed, bool broken, Coverage *coverage, Diags *diags);
Module *graph_module(Arena *arena, uint64_t seed, Coverage *coverage, Diags *diags);
// Products of int8 codes with a weight of each integer type that suits the seed's shape and groups, side by side.
Module *product_module(Arena *arena, uint64_t seed, Diags *diags);
Module *sparse_module(Arena *arena, uint64_t seed, Diags *diags);     // products of pruned matrices
Module *mixture_module(Arena *arena, uint64_t seed, Diags *diags);    // a router and its experts
// A head as language models have, with a weight of the seed's type, in floats or int8 codes: a program that says the largest of each block of its output.
Module *head_module(Arena *arena, uint64_t seed, Diags *diags);
#endif
