// Values of a kernel function as expressions over loop variables: what the builders share.
//
// A value is either in a buffer (an input, a result, scratch) or virtual: an elementwise or shape op of one use is not stored but evaluated where
// it is read. Indices are one Index a dimension of the value's type; a symbolic first one counts rows from the task's.
#ifndef TENON_CODEGEN_VALUES_H
#define TENON_CODEGEN_VALUES_H
#include "codegen/kernel.h"

typedef struct { const Value *value; int buffer; } Slot;

typedef struct RowValues {
    Kernel *k;
    int slot_count, slot_capacity; Slot *slots;
    const char *row;            // the C variable of the result's row
    const char *source_row;     // of inputs of T rows (differs in first, last, keep_rows)
    Index accumulator;          // where an element of a linear's result lies in its accumulator
    Diags *diags;
    Loc loc;
    bool failed;
} RowValues;

int values_buffer(RowValues *r, const Value *value);                 // its buffer; -1 when it is virtual
void values_bind(RowValues *r, const Value *value, int buffer);
void values_bind_operands(RowValues *r);                              // inputs and parameters
int values_store(RowValues *r, const Value *value);                  // a buffer to put it in: the result's memory, or scratch
Expr *values_element(RowValues *r, const Value *value, const Index *at);
// NumPy broadcasting: the index of an operand's element in a result of this rank: aligned at the last dimension, a size of 1 read at 0.
void values_broadcast(const Value *operand, int rank, const Index *at, Index *own);
Expr *values_operand(RowValues *r, int rank, const Index *at, const Value *operand);
Expr *values_apply(RowValues *r, const Value *value, Expr *const *args);   // the elementwise node that makes `value`, with its attributes
Index values_flat(const Value *value, const Index *at);              // row-major; a symbolic first index counts from the task's first row
bool values_virtual(const Func *func, const Value *value);
// Loops over all but the last dimension of a shape; the last becomes the lane. Fills `at`; returns the number of loops to end.
int values_open(RowValues *r, const Type *type, Index *at, int *lane, int64_t *extent);
void values_close(RowValues *r, int loops);
void values_map(RowValues *r, const Value *value);                   // evaluates `value` over its whole shape into values_store
void values_fail(RowValues *r, const char *format, ...) PRINTF_LIKE(2, 3);
const char *c_identifier(Arena *arena, const char *name);
static inline int first_dim(const Type *type) { return type->rank && type->dims[0] < 0; }
#endif
