// Computes what depends on weights and constants alone, with the reference interpreter, once, at compile time.
//
// In main such a node becomes an inline weight (or a `const`, when it is a scalar made of scalars). In a function the operands are parameters:
// the node becomes a parameter of its own, and every call passes what the node makes of that call's weights, up through the callers to main.
// Arrays of weights (experts) are computed element by element. Weights without bytes (IR text alone) cannot be computed with: nothing happens.
#include "passes/canonicalize.h"
#include "ir/interp.h"

#include <math.h>
#include <string.h>

// A node over parameters, which a function now receives as a parameter.
typedef struct { Func *func; const Node *node; int result; Value **args; Value *value; } Lifted;

typedef struct {
    Module *module, *workshop;
    Arena *scratch;
    Diags *diags;
    Lifted *lifted; int lifted_count, lifted_capacity;
} Fold;

// ---- what can be computed ----------------------------------------------------------------------------------------------------------------

static bool is_const(const Value *value) { return value->kind == VALUE_RESULT && value->node->op == OP_CONST; }

// A result much larger than what it is computed from (an expand) is better left to be computed where it is read.
enum { SMALL = 1 << 20, MOST_CALLS = 20000 };

static bool computable(const Node *node) {
    if (node->op == OP_CONST || op_is(node, STATE | SEQUENCE | CALL)) return false;
    int64_t from = 0, to = 0;
    for (int k = 0; k < node->operand_count; k++) from += node->operands[k] ? type_row_elements(&node->operands[k]->type) : 0;
    for (int r = 0; r < node->result_count; r++) to += type_row_elements(&node->results[r]->type);
    if (to > SMALL && to > 2 * from) return false;
    for (int r = 0; r < node->result_count; r++)
        if (type_has_rows(&node->results[r]->type) || node->results[r]->type.dtype == DT_CACHE || node->results[r]->type.dtype == DT_I8 || node->results[r]->type.dtype == DT_BF16) return false;
    for (int k = 0; k < node->operand_count; k++) {
        const Value *value = node->operands[k];
        if (value && !is_const(value) && !(value_is_weight(value) && value->count == 0)) return false;
    }
    return node->operand_count > 0;
}

static bool returned(const Func *func, const Node *node) {
    for (int r = 0; r < node->result_count; r++)
        for (int i = 0; i < func->result_count; i++)
            if (func->results[i] == node->results[r]) return true;
    return false;
}

static bool readable(const Value *value) {
    for (int i = 0; i < (value->count > 0 ? value->count : 1); i++)
        if (!value->weights[i]->bytes && !value->weights[i]->data) return false;
    return true;
}

static bool calls(const Node *node, const Func *func) { return node_calls(node) && node_attr(node, "block")->func == func; }

// What a call passes for the arguments of an expression in its callee.
static Value **passed(const Fold *fold, const Node *call, Value *const *args, int count) {
    Value **by = ARENA_ARRAY(fold->scratch, Value *, count);
    for (int k = 0; k < count; k++)
        by[k] = args[k] && args[k]->kind == VALUE_PARAM ? call->operands[node_params(call) + args[k]->index] : args[k];
    return by;
}

// Do all weights that reach the arguments have bytes to compute with? Blocks within blocks that are called in too many ways are left alone.
static bool reachable_bytes(const Fold *fold, const Func *func, Value *const *args, int count, int *budget) {
    if (--*budget < 0) return false;
    for (int k = 0; k < count; k++)
        if (args[k] && args[k]->kind == VALUE_WEIGHT && !readable(args[k])) return false;
    if (func == fold->module->main) return true;
    for (int f = 0; f < fold->module->func_count; f++)
        for (int i = 0; i < fold->module->funcs[f]->node_count; i++) {
            const Node *call = fold->module->funcs[f]->nodes[i];
            if (calls(call, func) && !reachable_bytes(fold, fold->module->funcs[f], passed(fold, call, args, count), count, budget)) return false;
        }
    return true;
}

// ---- computing ---------------------------------------------------------------------------------------------------------------------------

static size_t element_bytes(DType dtype) { return dtype == DT_BOOL ? 1 : 4; }

// One result of `node` over these weights (element `e` of arrays), by the interpreter.
static bool evaluate(Fold *fold, const Node *node, int result, Value *const *args, int e, Type *type, void **data) {
    Func *func = func_new(fold->workshop, "fold");
    Value **operands = ARENA_ARRAY(fold->scratch, Value *, node->operand_count);
    Weight ***params = ARENA_ARRAY(fold->scratch, Weight **, node->operand_count);
    for (int k = 0; k < node->operand_count; k++) {
        if (!args[k]) continue;
        if (is_const(args[k])) {
            const Node *constant = args[k]->node;
            Node *copy = func_node(func, OP_CONST, NULL, 0, constant->attrs, constant->attr_count, NULL, constant->loc, fold->diags);
            operands[k] = copy ? copy->results[0] : NULL;
        } else {
            params[func->param_count] = ARENA_NEW(fold->scratch, Weight *);
            *params[func->param_count] = args[k]->weights[args[k]->count ? e : 0];
            operands[k] = func_param(func, "w", args[k]->type, 0);
        }
    }
    Node *copy = func_node(func, node->op, operands, node->operand_count, node->attrs, node->attr_count, NULL, node->loc, fold->diags);
    if (!copy) return false;
    func_return(func, &copy->results[result], 1);
    Step step = {0};
    Tensor tensor;
    InterpState *state = interp_state_new(0);
    bool ok = interp_func(func, state, &step, NULL, (Weight *const *const *)params, &tensor, fold->scratch, fold->diags);
    interp_state_free(state);
    if (!ok) return false;
    *type = copy->results[result]->type;
    size_t bytes = (size_t)type_row_elements(type) * element_bytes(type->dtype);
    *data = arena_copy(fold->module->arena, tensor.data, bytes ? bytes : 1);
    return true;
}

static const char *folded_name(const Fold *fold, const Node *node, Value *const *args, int e) {
    const char *from = "const";
    for (int k = node->operand_count - 1; k >= 0; k--)
        if (args[k] && args[k]->kind == VALUE_WEIGHT) from = args[k]->weights[args[k]->count ? e : 0]->name;
    return arena_printf(fold->module->arena, "%s.%s", from, op_info(node->op)->name);
}

// The weights that main passes for the expression.
static Value *folded(Fold *fold, const Node *node, int result, Value *const *args) {
    int count = 0;
    for (int k = 0; k < node->operand_count; k++)
        if (args[k] && args[k]->count > count) count = args[k]->count;
    Weight **weights = ARENA_ARRAY(fold->scratch, Weight *, count);
    for (int e = 0; e < (count ? count : 1); e++) {
        Weight weight = {.name = folded_name(fold, node, args, e), .index = -1, .quantize_to = DT_COUNT};
        void *data;
        if (!evaluate(fold, node, result, args, e, &weight.type, &data)) return NULL;
        weight.data = data;
        weights[e] = module_weight(fold->module, &weight);
    }
    return func_weights(fold->module->main, weights, count);
}

// ---- lifting -----------------------------------------------------------------------------------------------------------------------------

static bool same_arg(const Value *a, const Value *b) {
    if (a == b) return true;
    return a && b && is_const(a) && is_const(b) && node_number(a->node, "value") == node_number(b->node, "value") &&
           node_number(a->node, "type") == node_number(b->node, "type");
}

static bool same_attrs(const Node *a, const Node *b) {
    for (int i = 0; i < a->attr_count; i++) {
        const Attr *p = &a->attrs[i], *q = &b->attrs[i];
        if (p->number != q->number || p->size_count != q->size_count || (p->text && strcmp(p->text, q->text) != 0)) return false;
        if (memcmp(p->sizes, q->sizes, sizeof *p->sizes * (size_t)p->size_count) != 0) return false;
    }
    return true;
}

static Value *lifted_before(const Fold *fold, const Func *func, const Node *node, int result, Value *const *args) {
    for (int i = 0; i < fold->lifted_count; i++) {
        const Lifted *there = &fold->lifted[i];
        if (there->func != func || there->node->op != node->op || there->result != result || there->node->operand_count != node->operand_count) continue;
        bool same = same_attrs(there->node, node);
        for (int k = 0; same && k < node->operand_count; k++) same = same_arg(there->args[k], args[k]);
        if (same) return there->value;
    }
    return NULL;
}

static void append_operand(Func *func, Node *node, Value *value) {
    Value **longer = ARENA_ARRAY(func->module->arena, Value *, node->operand_count + 1);
    memcpy(longer, node->operands, sizeof *longer * (size_t)node->operand_count);
    longer[node->operand_count++] = value;
    node->operands = longer;
}

// The value, in `func`, of one result of `node` over arguments that are weights (in main) or parameters (elsewhere).
static Value *lift(Fold *fold, Func *func, const Node *node, int result, Value **args) {
    Value *value = lifted_before(fold, func, node, result, args);
    if (value) return value;
    if (func == fold->module->main) {
        value = folded(fold, node, result, args);
    } else {
        int count = 0;
        for (int k = 0; k < node->operand_count; k++)
            if (args[k] && args[k]->count > count) count = args[k]->count;
        value = func_param(func, node->results[result]->name, node->results[result]->type, count);
        for (int f = 0; value && f < fold->module->func_count; f++)
            for (int i = 0; i < fold->module->funcs[f]->node_count; i++) {
                Node *call = fold->module->funcs[f]->nodes[i];
                if (!calls(call, func)) continue;
                Value *operand = lift(fold, fold->module->funcs[f], node, result, passed(fold, call, args, node->operand_count));
                if (!operand) return NULL;
                append_operand(fold->module->funcs[f], call, operand);
            }
    }
    if (value) ARENA_PUSH(fold->scratch, fold->lifted, fold->lifted_count, fold->lifted_capacity) = (Lifted){func, node, result, args, value};
    return value;
}

static bool lift_node(Fold *fold, Func *func, Node *node) {
    Value **args = arena_copy(fold->scratch, node->operands, sizeof *args * (size_t)node->operand_count);
    for (int r = 0; r < node->result_count; r++) {
        int uses, returns;
        func_uses(func, node->results[r], &uses, &returns);
        if (!uses) continue;
        int params = func->param_count;
        Value *value = lift(fold, func, node, r, args);
        if (!value) return false;
        if (func->param_count > params) value->name = node->results[r]->name;   // the node goes, its name is free
        func_replace_uses(func, node->results[r], value);
    }
    func_remove(func, node);
    return true;
}

// ---- scalars -----------------------------------------------------------------------------------------------------------------------------

// A scalar made of scalars is a `const` again.
static bool fold_scalar(Fold *fold, Func *func, int at, bool *folded) {
    Node *node = func->nodes[at];
    if (node->result_count != 1 || node->results[0]->type.rank != 0) return true;
    for (int k = 0; k < node->operand_count; k++)
        if (node->operands[k] && !is_const(node->operands[k])) return true;
    Type type;
    void *data;
    if (!evaluate(fold, node, 0, node->operands, 0, &type, &data)) return false;
    double value = type.dtype == DT_F32 ? (double)*(float *)data : type.dtype == DT_I32 ? *(int32_t *)data : *(uint8_t *)data;
    if (!isfinite(value)) return true;
    Attr attrs[] = {attr_number("value", value), attr_number("type", type.dtype)};
    Node *constant = node_insert(func, at, OP_CONST, NULL, 0, attrs, COUNT_OF(attrs), NULL, node->loc, fold->diags);
    if (!constant) return false;
    constant->results[0]->name = node->results[0]->name;
    func_replace_uses(func, node->results[0], constant->results[0]);
    func_remove(func, node);
    *folded = true;
    return true;
}

static bool fold_func(Fold *fold, Func *func, bool *changed) {
    for (int i = 0; i < func->node_count; i++) {
        Node *node = func->nodes[i];
        if (!computable(node)) continue;
        bool scalar = false;
        int budget = MOST_CALLS;
        if (!fold_scalar(fold, func, i, &scalar)) return false;
        *changed |= scalar;
        if (scalar || returned(func, node) || !reachable_bytes(fold, func, node->operands, node->operand_count, &budget)) continue;
        if (!lift_node(fold, func, node)) return false;
        *changed = true;
        i--;
    }
    return true;
}

bool fold_constants(Module *module, bool *changed, Diags *diags) {
    Arena *scratch = arena_new();
    Fold fold = {.module = module, .scratch = scratch, .diags = diags, .workshop = module_new(scratch, "fold")};
    bool ok = true;
    for (int f = 0; ok && f < module->func_count; f++)
        if (!module->funcs[f]->kernel) ok = fold_func(&fold, module->funcs[f], changed);
    arena_free(scratch);
    return ok;
}
