// For calibration: everything that a matrix is multiplied with goes past an `observe`, which names the first matrix that reads it.
//
// Does nothing unless the options ask for it. Runs before products are lowered or fused, so that an x that several products share is shown once.
#include "passes/passes.h"
#include "passes/rewrite.h"

bool pass_observe(Module *module, const PassOptions *options, Diags *diags);

static Value *observed(Func *func, int *at, Diags *diags) {
    Node *linear = func->nodes[*at];
    Value *x = linear->operands[0];
    for (int i = 0; i < *at; i++)
        if (func->nodes[i]->op == OP_OBSERVE && func->nodes[i]->operands[0] == x) return func->nodes[i]->results[0];
    Value *operands[] = {x, linear->operands[1]};
    const char *name = arena_printf(func->module->arena, "%s.seen", x->name);
    Node *node = node_insert(func, *at, OP_OBSERVE, operands, 2, NULL, 0, &name, linear->loc, diags);
    *at += node != NULL;
    return node ? node->results[0] : NULL;
}

bool pass_observe(Module *module, const PassOptions *options, Diags *diags) {
    if (!options->inputs) return true;
    for (int f = 0; f < module->func_count; f++) {
        Func *func = module->funcs[f];
        for (int i = 0; i < func->node_count; i++) {
            Node *node = func->nodes[i];
            if (node->op != OP_LINEAR || !value_is_weight(node->operands[1])) continue;
            Value *x = observed(func, &i, diags);
            if (!x) return false;
            node->operands[0] = x;
        }
    }
    return true;
}
