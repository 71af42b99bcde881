// What the passes share: maps keyed by pointer, who uses a value, which weights a parameter stands for, moving nodes about.
#ifndef TENON_PASSES_REWRITE_H
#define TENON_PASSES_REWRITE_H
#include "ir/ir.h"

// ---- maps from pointers to small integers ----------------------------------------------------------------------------

typedef struct { Arena *arena; const void **keys; int *values; int count, capacity; } PtrMap;   // zero but for the arena to start with

void ptr_map_set(PtrMap *map, const void *key, int value);
int ptr_map_get(const PtrMap *map, const void *key);   // -1 when it is not there

// ---- uses --------------------------------------------------------------------------------------------------------------

typedef struct { int node, operand; } Use;
typedef struct { Use *items; int count, capacity; bool returned; } UseList;

// Who makes and who reads each value of a function: a snapshot, stale once the function changes.
typedef struct { const Func *func; Arena *arena; PtrMap nodes, values; UseList *lists; int value_count, value_capacity; } Uses;

Uses *uses_new(const Func *func, Arena *arena);
const UseList *uses_of(const Uses *uses, const Value *value);
int uses_producer(const Uses *uses, const Value *value);   // the node's number in the function, -1 for inputs, parameters, weights

// ---- bindings ------------------------------------------------------------------------------------------------------------

// Parameters and weights that are bound to one another, through calls and arrays, fall into one class.
typedef struct { Arena *arena; PtrMap ids; int *parent; int count, capacity; } Bindings;

Bindings *bindings_new(const Module *module, Arena *arena);
int bindings_class(Bindings *bindings, const Value *value);    // of a VALUE_PARAM or VALUE_WEIGHT
int bindings_weight(Bindings *bindings, const Weight *weight);
// The classes are numbered below this.
int bindings_limit(const Bindings *bindings);

// ---- nodes and functions ---------------------------------------------------------------------------------------------------

bool value_is_weight(const Value *value);                       // a parameter or a weight of main
bool op_is(const Node *node, unsigned flags);                   // any of the op's flags
bool node_calls(const Node *node);                              // call, moe or moe_experts
bool func_has(const Func *func, unsigned flags);                // a node with any of the flags, in callees as well
bool type_has_rows(const Type *type);
bool node_same(const Node *a, const Node *b);                   // one operation on the same operands
bool const_scalar(const Value *value, double *number);          // the result of a `const`

// Adds a node like func_node, then moves it before node number `at`. NULL with an error when it does not type-check.
Node *node_insert(Func *func, int at, OpId op, Value *const *operands, int operand_count, const Attr *attrs, int attr_count,
                  const char *const *names, Loc loc, Diags *diags);
// Callees before callers, main last, unreachable functions left out. False when functions call one another in a circle.
bool module_sort_funcs(Module *module);
// Element types of parameters, as of the weights bound to them.
void module_bind_types(Module *module);
// Takes weights that main does not read out of the module.
void module_drop_weights(Module *module, Arena *scratch);
// A copy of the function in which calls are replaced by the bodies they run; appended to the module. NULL with an error.
Func *func_flat_copy(Func *func, Diags *diags);

#endif
