// Runs a compiled program's steps on bare arrays: no engine, no tokenizer. Arena, pages and output stand between guard bytes and start as NaN.
#ifndef TENON_TESTS_EXECUTE_H
#define TENON_TESTS_EXECUTE_H
#include "runtime/abi.h"
#include <stdbool.h>
#include <stdint.h>

enum { MOST_SEQUENCES = 6, MOST_TOKENS = 576 };

// The sequences of a run, cut into steps: step s holds positions cut[q][s] … cut[q][s+1]-1 of sequence q.
typedef struct { int sequences, steps; int length[MOST_SEQUENCES], cut[MOST_SEQUENCES][16]; const int *ids[MOST_SEQUENCES]; } Script;

// One step as arrays; `members`: the sequences that take part, in order.
typedef struct {
    int tokens, sequences, members[MOST_SEQUENCES];
    int ids[MOST_TOKENS], position[MOST_TOKENS], sequence[MOST_TOKENS], first[MOST_SEQUENCES + 1], keep[MOST_TOKENS];
} StepArrays;
void script_step(const Script *script, int step, StepArrays *arrays);

typedef struct Execution Execution;
Execution *execution_new(const tn_program *program, const unsigned char *weights, int threads);
void execution_free(Execution *execution);
// All rows' outputs (or each sequence's) into out; returns how many rows, or -1 when a guard byte changed or tn_step.largest is not of `out`.
int execution_step(Execution *execution, const StepArrays *arrays, float *out);
#endif
