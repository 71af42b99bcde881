// A function without calls: a copy in which every call is replaced by what it runs, for those that must be whole, as an expert must.
#include "passes/rewrite.h"

enum { MOST_NODES = 20000 };   // calls of calls multiply

typedef struct { Func *into; Arena *scratch; PtrMap map; Value **by; int count, capacity; Diags *diags; } Copy;

static void stands_for(Copy *copy, const Value *old, Value *by) {
    ptr_map_set(&copy->map, old, copy->count);
    ARENA_PUSH(copy->scratch, copy->by, copy->count, copy->capacity) = by;
}

static Value *counterpart(const Copy *copy, const Value *old) {
    return old ? copy->by[ptr_map_get(&copy->map, old)] : NULL;
}

static bool copy_body(Copy *copy, const Func *from);

static bool copy_call(Copy *copy, const Node *call) {
    const Func *callee = node_attr(call, "block")->func;
    int count = callee->input_count + callee->param_count;
    Value **args = ARENA_ARRAY(copy->scratch, Value *, count);
    for (int i = 0; i < count; i++) args[i] = counterpart(copy, call->operands[i]);
    for (int i = 0; i < callee->input_count; i++) stands_for(copy, callee->inputs[i], args[i]);
    for (int i = 0; i < callee->param_count; i++) stands_for(copy, callee->params[i], args[callee->input_count + i]);
    if (!copy_body(copy, callee)) return false;
    for (int r = 0; r < call->result_count; r++) stands_for(copy, call->results[r], counterpart(copy, callee->results[r]));
    return true;
}

static bool copy_node(Copy *copy, const Node *old) {
    if (copy->into->node_count == MOST_NODES) {
        diag_error(copy->diags, old->loc, "'%s' comes to more than %d operations", copy->into->name, MOST_NODES);
        return false;
    }
    Value **operands = ARENA_ARRAY(copy->scratch, Value *, old->operand_count);
    const char **names = ARENA_ARRAY(copy->scratch, const char *, old->result_count);
    for (int i = 0; i < old->operand_count; i++) operands[i] = counterpart(copy, old->operands[i]);
    for (int r = 0; r < old->result_count; r++) names[r] = old->results[r]->user_name ? old->results[r]->user_name : old->results[r]->name;
    Node *node = func_node(copy->into, old->op, operands, old->operand_count, old->attrs, old->attr_count, names, old->loc, copy->diags);
    if (!node) return false;
    node->label = old->label;
    for (int r = 0; r < node->result_count; r++) stands_for(copy, old->results[r], node->results[r]);
    return true;
}

static bool copy_body(Copy *copy, const Func *from) {
    for (int i = 0; i < from->node_count; i++) {
        const Node *node = from->nodes[i];
        if (!(node->op == OP_CALL ? copy_call(copy, node) : copy_node(copy, node))) return false;
    }
    return true;
}

Func *func_flat_copy(Func *func, Diags *diags) {
    Arena *scratch = arena_new();
    Copy copy = {.into = func_new(func->module, func->name), .scratch = scratch, .map = {.arena = scratch}, .diags = diags};
    copy.into->loc = func->loc;
    for (int i = 0; i < func->input_count; i++)
        stands_for(&copy, func->inputs[i], func_input(copy.into, func->inputs[i]->name, func->inputs[i]->type));
    for (int i = 0; i < func->param_count; i++) {
        Value *param = func_param(copy.into, func->params[i]->name, func->params[i]->type, func->params[i]->count);
        param->origin = func->params[i]->origin;
        stands_for(&copy, func->params[i], param);
    }
    bool ok = copy_body(&copy, func);
    Value **results = ARENA_ARRAY(scratch, Value *, func->result_count);
    for (int r = 0; ok && r < func->result_count; r++) results[r] = counterpart(&copy, func->results[r]);
    if (ok) func_return(copy.into, results, func->result_count);
    arena_free(scratch);
    return ok ? copy.into : NULL;
}
