// What the interpreter's evaluators see: a node, its operands as tensors or weights, and the frame of the function that runs.
#ifndef TENON_IR_EVAL_H
#define TENON_IR_EVAL_H
#include "ir/dequant.h"
#include "ir/internal.h"
#include "ir/interp.h"

// The rows that a symbol stands for while a function runs.
typedef struct {
    int64_t count;
    const int32_t *position;   // of each row in its sequence; NULL: unknown
    const int32_t *sequence;   // which of the state's sequences; NULL: unknown
} Rows;

typedef struct Interp {
    InterpState *state;
    const Step *step;
    Diags *diags;
    int next_cache;            // executions of an attention so far in this step
    int depth;
} Interp;

typedef struct Frame {
    Interp *interp;
    const Func *func;
    Arena *arena;                       // goes when the function returns
    Weight *const *const *params;       // of each parameter, max(count, 1) weights
    Rows rows[3];                       // T, S, R
    Tensor *values;                     // by slot
    const Value **keys; size_t room;    // value → slot
} Frame;

typedef struct {
    Frame *frame;
    const Node *node;
    Arena *arena;              // of the results
    Tensor in[MAX_OPERANDS];   // of the operands that the spec names; weights are dequantized here unless the op reads them by row
    Tensor *out;
    bool ok;
} Eval;

#define OP(id, name, operands, attributes, flags, meaning) void eval_##id(Eval *eval);
#include "ir/ops.def"
#undef OP

// One KV cache: for each sequence, keys and values of the positions written so far.
typedef struct {
    float *k, *v;              // [length][kv_heads][dims]
    int64_t length, capacity;
} CacheSequence;
typedef struct {
    int64_t kv_heads, k_dims, v_dims;
    bool latent;               // values are the first v_dims of each key
    CacheSequence *sequences;
} Cache;
Cache *state_cache(Eval *eval, int64_t kv_heads, int64_t k_dims, int64_t v_dims, bool latent);   // of the next execution
int state_sequences(const InterpState *state);

bool eval_error(Eval *eval, const char *format, ...) PRINTF_LIKE(2, 3);
Weight *const *eval_weights(const Eval *eval, int operand);      // of an operand that is a parameter or a weight, else NULL
Tensor eval_operand(Eval *eval, int operand);                      // any operand as a tensor
bool eval_has(const Eval *eval, int operand);
// Rows of the last dimension of a tensor or weight, as float.
void eval_rows(const Eval *eval, int operand, int64_t row, int64_t n, float *to);
const float *eval_vector(Eval *eval, int operand);               // a small operand as float, NULL when absent
int64_t tensor_rows(const Tensor *tensor);                       // elements over the last dimension's
int64_t tensor_columns(const Tensor *tensor);
int64_t tensor_elements(const Tensor *tensor);
size_t element_bytes(DType dtype);                               // of a tensor's data
Rows eval_symbol_rows(const Eval *eval, const Type *type);       // of the type's first size; count 1 when it is constant
bool frame_run(Interp *interp, const Func *func, const Tensor *inputs, Weight *const *const *params, const Rows rows[3], Tensor *results,
               Arena *arena);

#endif
