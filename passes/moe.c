// Lowers `moe` to `moe_experts` and `moe_combine`.
//
// Requires nothing. Afterwards no `moe` is left, and an expert's function looks at one token at a time, so that the tokens of a step can be
// sorted by expert and run together; the weighted sum runs over a token's slots in order, whatever the order the experts ran in.
// An expert's function runs in that way alone and calls nothing: one that is called as well (a shared expert of the same shape), or calls other
// blocks, is copied, with what it calls in place.
#include "passes/passes.h"
#include "passes/rewrite.h"

bool pass_moe(Module *module, const PassOptions *options, Diags *diags);

static bool expert_is_local(const Node *node, const Func *expert, Diags *diags) {
    if (!func_has(expert, STATE | SEQUENCE)) return true;
    for (int i = 0; i < expert->node_count; i++) {
        const Node *inner = expert->nodes[i];
        bool called = node_calls(inner) && func_has(node_attr(inner, "block")->func, STATE | SEQUENCE);
        if (!called && !op_is(inner, STATE | SEQUENCE)) continue;
        diag_error(diags, node->loc, "moe: expert '%s' looks at other tokens through '%s'", expert->name, op_info(inner->op)->name);
        diag(diags, DIAG_NOTE, inner->loc, "here; an expert sees the rows that were routed to it, one at a time");
        return false;
    }
    return true;
}

typedef struct { Arena *arena; PtrMap known; Func **experts; int count, capacity; Diags *diags; } Lowering;

static bool is_called(const Func *func) {
    const Module *module = func->module;
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            if (node->op == OP_CALL && node_attr(node, "block")->func == func) return true;
        }
    return false;
}

static bool has_calls(const Func *func) {
    for (int i = 0; i < func->node_count; i++)
        if (func->nodes[i]->op == OP_CALL) return true;
    return false;
}

// The function that runs as this expert and as nothing else.
static Func *expert_alone(Lowering *lowering, Func *func) {
    int known = ptr_map_get(&lowering->known, func);
    if (known >= 0) return lowering->experts[known];
    Func *expert = has_calls(func) || is_called(func) ? func_flat_copy(func, lowering->diags) : func;
    if (!expert) return NULL;
    ptr_map_set(&lowering->known, func, lowering->count);
    ARENA_PUSH(lowering->arena, lowering->experts, lowering->count, lowering->capacity) = expert;
    return expert;
}

static bool lower(Lowering *lowering, Func *func, int at) {
    Diags *diags = lowering->diags;
    Node *node = func->nodes[at];
    Func *expert = node_attr(node, "block")->func;
    if (!expert_is_local(node, expert, diags) || !(expert = expert_alone(lowering, expert))) return false;
    int count = node->operand_count - 1;
    Value **operands = ARENA_ARRAY(func->module->arena, Value *, count);
    operands[0] = node->operands[0];
    for (int i = 1; i < count; i++) operands[i] = node->operands[i + 1];   // x w e params… to x e params…
    Attr attrs[] = {attr_func("block", expert), *node_attr(node, "count")};
    const char *slots[] = {"slots"};
    Node *experts = node_insert(func, at, OP_MOE_EXPERTS, operands, count, attrs, COUNT_OF(attrs), slots, node->loc, diags);
    if (!experts) return false;
    experts->label = node->label;
    const char *name[] = {node->results[0]->name};
    Value *pair[] = {experts->results[0], node->operands[1]};
    Node *combine = node_insert(func, at + 1, OP_MOE_COMBINE, pair, 2, NULL, 0, name, node->loc, diags);
    if (!combine) return false;
    combine->results[0]->name = node->results[0]->name;
    func_replace_uses(func, node->results[0], combine->results[0]);
    func_remove(func, node);
    return true;
}

bool pass_moe(Module *module, const PassOptions *options, Diags *diags) {
    (void)options;
    Lowering lowering = {.arena = arena_new(), .diags = diags};
    lowering.known.arena = lowering.arena;
    bool ok = true;
    for (int f = 0; f < module->func_count && ok; f++) {
        Func *func = module->funcs[f];
        for (int i = 0; i < func->node_count && ok; i++)
            if (func->nodes[i]->op == OP_MOE) ok = lower(&lowering, func, i);
    }
    arena_free(lowering.arena);
    return ok && module_sort_funcs(module);
}
