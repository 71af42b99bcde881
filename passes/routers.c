// A router is known by what its product leads to, not by a name: a choice of the largest (`top_k`), or the experts of a `moe`.
//
// From every choice we walk back over what is done to each row (softmax, a bias, groups, shapes), out of blocks that a choice is made in and into
// blocks that score for their caller, as far as the products: their matrices, and what they multiply, stay as exact as the model has them. A choice
// cannot be off by a little.
#include "passes/routers.h"

struct Routers { const Module *module; PtrMap values; Arena *arena; const Value **left; int left_count, left_capacity; };

static void mark(Routers *routers, const Value *value) {
    if (!value || value_is_weight(value) || ptr_map_get(&routers->values, value) >= 0) return;
    ptr_map_set(&routers->values, value, 1);
    ARENA_PUSH(routers->arena, routers->left, routers->left_count, routers->left_capacity) = value;
}

// The input of a block: what every caller gives for it.
static void mark_callers(Routers *routers, const Value *input) {
    for (int f = 0; f < routers->module->func_count; f++)
        for (int i = 0; i < routers->module->funcs[f]->node_count; i++) {
            const Node *node = routers->module->funcs[f]->nodes[i];
            const Func *block = node_calls(node) ? node_attr(node, "block")->func : NULL;
            if (block && input->index < block->input_count && block->inputs[input->index] == input) mark(routers, node->operands[input->index]);
        }
}

static void walk_back(Routers *routers, const Value *value) {
    if (value->kind == VALUE_INPUT) mark_callers(routers, value);
    if (value->kind != VALUE_RESULT) return;
    const Node *node = value->node;
    if (node->op == OP_CALL) mark(routers, node_attr(node, "block")->func->results[value->index]);
    else if (op_is(node, ELEMENTWISE | ROWWISE | SHAPE | SEQUENCE))
        for (int k = 0; k < node->operand_count; k++) mark(routers, node->operands[k]);
}

Routers *routers_find(const Module *module, Arena *arena) {
    Routers *routers = ARENA_NEW(arena, Routers);
    *routers = (Routers){.module = module, .values = {.arena = arena}, .arena = arena};
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            if (node->op == OP_TOP_K) mark(routers, node->operands[0]);
            if (node->op == OP_MOE) mark(routers, node->operands[2]);
        }
    while (routers->left_count) walk_back(routers, routers->left[--routers->left_count]);
    return routers;
}

bool routers_has(const Routers *routers, const Node *linear) { return ptr_map_get(&routers->values, linear->results[0]) >= 0; }
