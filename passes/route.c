// Small products that score for a choice of experts become `linear_rows`: part of the kernel around them.
//
// Requires nothing. A router has few outputs: one panel, of which most is padding, and so one task that everybody waits for, before and after. Read
// row by row its matrix is a quarter as large, and the norm, the product, the softmax and the choice are one kernel of a task a row (fuse). It reads the
// whole matrix for each row, so that must be small. Larger routers stay products of panels, whose tasks run side by side.
// It works on whatever `quantize` has left in floats. A matrix that other operations read too stays as it is.
#include "passes/passes.h"
#include "passes/rewrite.h"
#include "passes/routers.h"

bool pass_route(Module *module, const PassOptions *options, Diags *diags);

enum { MOST_BYTES = 256 * 1024 };

static bool is_small(const Routers *routers, const Node *node) {
    if (node->op != OP_LINEAR || !value_is_weight(node->operands[1]) || !routers_has(routers, node)) return false;
    const Type *w = &node->operands[1]->type;
    return w->rank == 2 && node->results[0]->type.rank == 2 && w->dims[0] <= MOST_BYTES && w->dims[1] <= MOST_BYTES && w->dims[0] * w->dims[1] * 4 <= MOST_BYTES;
}

// The classes of weights that something else reads.
static bool *read_otherwise(const Module *module, const Routers *routers, Bindings *bindings, Arena *arena) {
    bool *other = ARENA_ARRAY(arena, bool, bindings_limit(bindings));
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            if (node_calls(node) || node->op == OP_OBSERVE) continue;
            for (int k = 0; k < node->operand_count; k++) {
                const Value *value = node->operands[k];
                if (value && value_is_weight(value) && !(k == 1 && is_small(routers, node))) other[bindings_class(bindings, value)] = true;
            }
        }
    return other;
}

bool pass_route(Module *module, const PassOptions *options, Diags *diags) {
    (void)options;
    Arena *scratch = arena_new();
    const Routers *routers = routers_find(module, scratch);
    Bindings *bindings = bindings_new(module, scratch);
    const bool *other = read_otherwise(module, routers, bindings, scratch);
    bool ok = true;
    for (int f = 0; f < module->func_count && ok; f++) {
        Func *func = module->funcs[f];
        for (int i = 0; i < func->node_count && ok; i++) {
            Node *node = func->nodes[i];
            if (!is_small(routers, node) || other[bindings_class(bindings, node->operands[1])]) continue;
            const char *name[] = {node->results[0]->user_name};
            Node *by = node_insert(func, i, OP_LINEAR_ROWS, node->operands, node->operand_count, NULL, 0, name, node->loc, diags);
            ok = by != NULL;
            if (!ok) break;
            by->results[0]->name = node->results[0]->name;
            func_replace_uses(func, node->results[0], by->results[0]);
            func_remove(func, node);
        }
    }
    arena_free(scratch);
    return ok;
}
