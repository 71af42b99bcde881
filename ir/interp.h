// The reference interpreter: the living definition of every op. Plain loops, float32 values, sums in double, no target, no fusion.
#ifndef TENON_IR_INTERP_H
#define TENON_IR_INTERP_H
#include "ir/ir.h"

typedef struct { Type type; int64_t dims[MAX_RANK]; void *data; } Tensor;   // dims: the type's, symbols replaced; data: float, int32_t or uint8_t (bool)

// One step over several sequences. Rows of a sequence are contiguous and in order; sequences keep their number from step to step.
typedef struct {
    int tokens, sequences, rows;       // T, S, R
    const int32_t *position;           // [T]
    const int32_t *sequence;           // [T]: which of the state's sequences
    const int32_t *first;              // [S+1]: first row of each sequence in this step
    const int32_t *keep;               // [R]: rows whose output is asked for
} Step;

typedef struct InterpState InterpState;   // the KV caches: one for each execution of an attention in a step
InterpState *interp_state_new(int sequences);
void interp_state_free(InterpState *state);
// Runs `main`: inputs in order, results filled in (allocated from arena). False with a diagnostic when something cannot be run.
bool interp_run(const Module *module, InterpState *state, const Step *step, const Tensor *inputs, Tensor *results, Arena *arena, Diags *diags);
// One function alone (tests, constant folding): params[i] are weights of the function's parameters (arrays of count).
bool interp_func(const Func *func, InterpState *state, const Step *step, const Tensor *inputs, Weight *const *const *params, Tensor *results,
                 Arena *arena, Diags *diags);
#endif
