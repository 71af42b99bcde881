// Undoes what a model's description leaves behind: computes what is constant, drops what is unused, repeated or without effect.
//
// Requires nothing. Afterwards: no operation on weights and constants alone is left (fold.c); no identity (x·1, x+0, a reshape to the same shape);
// no reshape of a reshape, slice of a slice, double negation or transposition; no two nodes that compute the same; no node, parameter or
// result of a block that nothing reads. A value that a block hands back as it got it is read from where it came from.
#include "passes/passes.h"
#include "passes/canonicalize.h"

#include <string.h>

bool pass_canonicalize(Module *module, const PassOptions *options, Diags *diags);

// ---- operations without effect -----------------------------------------------------------------------------------------------------------

static Value *if_same_type(const Node *node, Value *value) {
    return !value_is_weight(value) && type_equal(&value->type, &node->results[0]->type) ? value : NULL;
}

static bool is_number(const Value *value, double wanted) {
    double number;
    return const_scalar(value, &number) && number == wanted;
}

static Node *made_by(const Value *value, OpId op) { return value->kind == VALUE_RESULT && value->node->op == op ? value->node : NULL; }

static int axis_of(const Node *node, const char *name, const Value *of) {
    int64_t axis = node_int(node, name);
    return (int)(axis < 0 ? axis + of->type.rank : axis);
}

static Value *undo_transpose(const Node *node) {
    Value *x = node->operands[0];
    int a = axis_of(node, "a", x), b = axis_of(node, "b", x);
    if (a == b) return x;
    const Node *inner = made_by(x, OP_TRANSPOSE);
    if (!inner) return NULL;
    int c = axis_of(inner, "a", x), d = axis_of(inner, "b", x);
    return (a == c && b == d) || (a == d && b == c) ? inner->operands[0] : NULL;
}

// What a node's only result can be replaced by, or NULL.
static Value *equivalent(const Node *node) {
    Value *a = node->operand_count > 0 ? node->operands[0] : NULL, *b = node->operand_count > 1 ? node->operands[1] : NULL;
    switch (node->op) {
    case OP_MUL: return is_number(b, 1) ? if_same_type(node, a) : is_number(a, 1) ? if_same_type(node, b) : NULL;
    case OP_ADD: return is_number(b, 0) ? if_same_type(node, a) : is_number(a, 0) ? if_same_type(node, b) : NULL;
    case OP_SUB: return is_number(b, 0) ? if_same_type(node, a) : NULL;
    case OP_DIV:
    case OP_POW: return is_number(b, 1) ? if_same_type(node, a) : NULL;
    case OP_NEG: return made_by(a, OP_NEG) ? if_same_type(node, a->node->operands[0]) : NULL;
    case OP_TRANSPOSE: {
        Value *x = undo_transpose(node);
        return x ? if_same_type(node, x) : NULL;
    }
    case OP_CAST: return (DType)node_int(node, "type") == a->type.dtype ? if_same_type(node, a) : NULL;
    case OP_RESHAPE:
    case OP_EXPAND:
    case OP_SLICE: return if_same_type(node, a);
    case OP_CONCAT:
    case OP_SPLIT: return node->operand_count == 1 && node->result_count == 1 ? if_same_type(node, a) : NULL;
    default: return NULL;
    }
}

// Reads through a reshape or slice beneath a reshape or slice.
static bool shorten(Node *node) {
    Node *inner = node->op == OP_RESHAPE || node->op == OP_SLICE ? made_by(node->operands[0], node->op) : NULL;
    if (!inner || value_is_weight(inner->operands[0])) return false;
    if (node->op == OP_SLICE) {
        if (axis_of(node, "axis", node->operands[0]) != axis_of(inner, "axis", inner->operands[0])) return false;
        double first = node_number(inner, "from");
        for (int a = 0; a < node->attr_count; a++)
            if (strcmp(node->attrs[a].name, "axis") != 0) node->attrs[a].number += first;
    }
    node->operands[0] = inner->operands[0];
    return true;
}

static bool simplify(Func *func) {
    bool changed = false;
    for (int i = 0; i < func->node_count; i++) {
        Node *node = func->nodes[i];
        changed |= shorten(node);
        Value *by = equivalent(node);
        if (!by) continue;
        func_replace_uses(func, node->results[0], by);
        func_remove(func, node);
        i--;
        changed = true;
    }
    return changed;
}

// ---- repeated work -----------------------------------------------------------------------------------------------------------------------

static bool pure(const Node *node) {
    return !op_is(node, STATE) && !(node_calls(node) && func_has(node_attr(node, "block")->func, STATE));
}

static uint64_t operation_hash(const Node *node) {
    uint64_t hash = node->op;
    for (int k = 0; k < node->operand_count; k++) {
        const void *key = node->operands[k];
        if (key && node->operands[k]->kind == VALUE_WEIGHT) key = node->operands[k]->weights[0];
        hash = hash_bytes(&key, sizeof key, hash);
    }
    return hash;
}

static bool merge_repeated(Func *func) {
    Arena *scratch = arena_new();
    int capacity = 64;
    while (capacity < 2 * func->node_count) capacity *= 2;
    Node **table = ARENA_ARRAY(scratch, Node *, capacity);
    bool changed = false;
    for (int i = 0; i < func->node_count; i++) {
        Node *node = func->nodes[i];
        if (!pure(node)) continue;
        int slot = (int)(operation_hash(node) & (uint64_t)(capacity - 1));
        while (table[slot] && !node_same(table[slot], node)) slot = (slot + 1) & (capacity - 1);
        if (!table[slot]) {
            table[slot] = node;
            continue;
        }
        for (int r = 0; r < node->result_count; r++) func_replace_uses(func, node->results[r], table[slot]->results[r]);
        func_remove(func, node);
        i--;
        changed = true;
    }
    arena_free(scratch);
    return changed;
}

// ---- unused work -------------------------------------------------------------------------------------------------------------------------

static bool drop_unused_nodes(Func *func) {
    Arena *scratch = arena_new();
    const Uses *uses = uses_new(func, scratch);
    bool *needed = ARENA_ARRAY(scratch, bool, func->node_count);
    for (int i = 0; i < func->result_count; i++) {
        int producer = uses_producer(uses, func->results[i]);
        if (producer >= 0) needed[producer] = true;
    }
    for (int i = func->node_count - 1; i >= 0; i--)
        for (int k = 0; needed[i] && k < func->nodes[i]->operand_count; k++) {
            int producer = uses_producer(uses, func->nodes[i]->operands[k]);
            if (producer >= 0) needed[producer] = true;
        }
    int kept = 0, count = func->node_count;
    for (int i = 0; i < count; i++)
        if (needed[i]) func->nodes[kept++] = func->nodes[i];
    func->node_count = kept;
    arena_free(scratch);
    return kept != count;
}

// ---- blocks: parameters and results nobody reads -------------------------------------------------------------------------------------------

typedef void CallVisit(Func *caller, Node *call, int which, void *context);

static void each_call(Module *module, const Func *callee, CallVisit *visit, int which, void *context) {
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            Node *node = module->funcs[f]->nodes[i];
            if (node_calls(node) && node_attr(node, "block")->func == callee) visit(module->funcs[f], node, which, context);
        }
}

static void drop_operand(Func *caller, Node *call, int which, void *context) {
    (void)caller, (void)context;
    int at = which + node_params(call);
    memmove(&call->operands[at], &call->operands[at + 1], sizeof *call->operands * (size_t)(call->operand_count - at - 1));
    call->operand_count--;
}

static bool drop_unused_params(Module *module, Func *func) {
    bool changed = false;
    for (int p = func->param_count - 1; p >= 0; p--) {
        int uses, returns;
        func_uses(func, func->params[p], &uses, &returns);
        if (uses || returns) continue;
        each_call(module, func, drop_operand, p, NULL);
        memmove(&func->params[p], &func->params[p + 1], sizeof *func->params * (size_t)(func->param_count - p - 1));
        func->param_count--;
        for (int q = p; q < func->param_count; q++) func->params[q]->index = q;
        changed = true;
    }
    return changed;
}

static void count_result(Func *caller, Node *call, int which, void *context) {
    int uses, returns, *total = context;
    func_uses(caller, call->results[which], &uses, &returns);
    *total += uses + returns + (call->op != OP_CALL);   // an expert has one result, used
}

static void drop_result(Func *caller, Node *call, int which, void *context) {
    (void)caller, (void)context;
    memmove(&call->results[which], &call->results[which + 1], sizeof *call->results * (size_t)(call->result_count - which - 1));
    call->result_count--;
    for (int r = which; r < call->result_count; r++) call->results[r]->index = r;
}

// Which result or input of the block a call's result is the same as: the caller reads that instead.
static void forward_result(Func *caller, Node *call, int which, void *context) {
    const Func *func = node_attr(call, "block")->func;
    bool *changed = context;
    if (call->op != OP_CALL) return;
    Value *by = func->results[which]->kind == VALUE_INPUT ? call->operands[func->results[which]->index] : NULL;
    for (int r = 0; !by && r < which; r++)
        if (func->results[r] == func->results[which]) by = call->results[r];
    int uses, returns;
    func_uses(caller, call->results[which], &uses, &returns);
    if (!by || value_is_weight(by) || uses + returns == 0) return;
    func_replace_uses(caller, call->results[which], by);
    *changed = true;
}

static bool drop_unused_results(Module *module, Func *func) {
    bool changed = false;
    for (int r = func->result_count - 1; r >= 0; r--) {
        int uses = 0;
        each_call(module, func, forward_result, r, &changed);
        each_call(module, func, count_result, r, &uses);
        if (uses || func->result_count == 1) continue;
        each_call(module, func, drop_result, r, NULL);
        memmove(&func->results[r], &func->results[r + 1], sizeof *func->results * (size_t)(func->result_count - r - 1));
        func->result_count--;
        changed = true;
    }
    return changed;
}

// ---- the pass ------------------------------------------------------------------------------------------------------------------------------

static bool clean_func(Module *module, Func *func) {
    bool changed = simplify(func);
    changed |= merge_repeated(func);
    changed |= drop_unused_nodes(func);
    if (func == module->main) return changed;
    changed |= drop_unused_params(module, func);
    changed |= drop_unused_results(module, func);
    return changed;
}

static void drop_unused_weights(Module *module) {
    Arena *scratch = arena_new();
    PtrMap used = {.arena = scratch};
    for (int i = 0; i < module->main->node_count; i++)
        for (int k = 0; k < module->main->nodes[i]->operand_count; k++) {
            const Value *value = module->main->nodes[i]->operands[k];
            for (int n = 0; value && value->kind == VALUE_WEIGHT && n < (value->count > 0 ? value->count : 1); n++)
                ptr_map_set(&used, value->weights[n], 1);
        }
    int kept = 0;
    for (int w = 0; w < module->weight_count; w++)
        if (ptr_map_get(&used, module->weights[w]) == 1) {
            module->weights[w]->id = kept;
            module->weights[kept++] = module->weights[w];
        }
    module->weight_count = kept;
    arena_free(scratch);
}

bool pass_canonicalize(Module *module, const PassOptions *options, Diags *diags) {
    (void)options;
    for (bool changed = true; changed;) {
        changed = false;
        if (!fold_constants(module, &changed, diags)) return false;
        for (int f = module->func_count - 1; f >= 0; f--)   // callers first: what they do not read, callees need not make
            if (!module->funcs[f]->kernel) changed |= clean_func(module, module->funcs[f]);
        if (!module_sort_funcs(module)) return diag_error(diags, NOWHERE, "canonicalize: functions call one another in a circle"), false;
    }
    drop_unused_weights(module);
    return true;
}
