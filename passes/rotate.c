// Rotates what is multiplied, so that no column of it stands out.
//
// Requires nothing. x·wᵀ = (xH)·(wH)ᵀ for an orthonormal H, and a few columns of x a hundred times as large as the others, as language models have
// them, are spread over all by a Hadamard transform: int8 codes with one scale a row then cost a tenth of what they cost without it (QuaRot,
// arXiv 2404.00456). H consists of equal blocks, the largest power of two up to 128 that divides the row. The weights' side is folded into their packing
// (Weight.rotate); x's side is an op that costs some percent of a product, once for all products of the same x. A table that an embedding reads too
// is turned back behind the embedding: H is its own inverse.
//
// A rotation of the residual stream that is folded into embedding, outputs and norms (QuaRot's R1) is not made: it costs nothing to run, but the
// norms' weights go into the matrices first, and by measurement that loses more (SmolLM2: KL 0.0052 against 0.0034) than this costs; with norms
// behind a block (Gemma) it cannot be made at all.
#include "passes/passes.h"
#include "passes/recipe.h"

bool pass_rotate(Module *module, const PassOptions *options, Diags *diags);

static Value *turn(Func *func, int at, Value *x, int block, const char *name, Loc loc, Diags *diags) {
    Attr attr = attr_number("block", block);
    Node *node = node_insert(func, at, OP_HADAMARD, &x, 1, &attr, 1, &name, loc, diags);
    return node ? node->results[0] : NULL;
}

// The transform of x that stands before this product, or a new one.
static Value *turned_operand(Func *func, int *at, int block, Diags *diags) {
    Value *x = func->nodes[*at]->operands[0];
    for (int i = 0; i < *at; i++) {
        const Node *node = func->nodes[i];
        if (node->op == OP_HADAMARD && node->operands[0] == x && node_int(node, "block") == block) return node->results[0];
    }
    Value *turned = turn(func, *at, x, block, arena_printf(func->module->arena, "%s.turned", x->name), func->nodes[*at]->loc, diags);
    *at += turned != NULL;
    return turned;
}

static bool turn_back(Func *func, int at, int block, Diags *diags) {
    Value *x = func->nodes[at]->results[0];
    Value *back = turn(func, at + 1, x, block, arena_printf(func->module->arena, "%s.back", x->name), func->nodes[at]->loc, diags);
    if (!back) return false;
    Node *own = back->node;
    func_replace_uses(func, x, back);
    own->operands[0] = x;
    return true;
}

static bool rotate_func(const Classes *classes, Func *func, Diags *diags) {
    for (int i = 0; i < func->node_count; i++) {
        Node *node = func->nodes[i];
        if ((node->op != OP_LINEAR && node->op != OP_EMBEDDING) || !value_is_weight(node->operands[1])) continue;
        int block = class_rotation(classes, node->operands[1]);
        if (!block) continue;
        if (node->op == OP_LINEAR) {
            Value *x = turned_operand(func, &i, block, diags);
            if (!x) return false;
            node->operands[0] = x;
        } else if (!turn_back(func, i++, block, diags)) {
            return false;
        }
    }
    return true;
}

bool pass_rotate(Module *module, const PassOptions *options, Diags *diags) {
    Recipe recipe;
    Classes classes;
    if (!recipe_read(&recipe, options, diags)) return false;
    if (!recipe.row->rotates) return true;
    Arena *scratch = arena_new();
    classes_find(&classes, module, &recipe, scratch);
    bool ok = true;
    for (int f = 0; f < module->func_count && ok; f++) ok = rotate_func(&classes, module->funcs[f], diags);
    for (int i = 0; i < module->main->node_count && ok; i++) {
        const Node *node = module->main->nodes[i];
        for (int k = 0; k < node->operand_count; k++) {
            const Value *value = node->operands[k];
            if (!value || value->kind != VALUE_WEIGHT) continue;
            int block = class_rotation(&classes, value);
            for (int e = 0; block && e < (value->count > 0 ? value->count : 1); e++) value->weights[e]->rotate = block;
        }
    }
    arena_free(scratch);
    return ok;
}
