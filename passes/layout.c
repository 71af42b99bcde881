// Decides how each weight lies in memory.
//
// Requires nothing; sets Weight.layout and Value.layout of every parameter. What reads a weight says how it wants it: linear and
// linear_i8 want panels, everything else rows. Parameters and weights that are bound to one another through calls share one layout, so a kernel can be
// compiled once for all layers. Gathering rows for an embedding is content with panels too: a tied table is stored once.
#include "passes/passes.h"
#include "passes/rewrite.h"

bool pass_layout(Module *module, const PassOptions *options, Diags *diags);

typedef struct { bool linear, other; const Node *other_node; const Value *value; } Readers;

static void note_reader(Readers *readers, const Node *node, int operand, const Value *value) {
    if (node_calls(node) || node->op == OP_OBSERVE) return;   // bound to the callee's parameter; of no concern
    if (((node->op == OP_LINEAR || node->op == OP_LINEAR_BF16) && operand == 1) || (node->op == OP_LINEAR_I8 && operand == 3)) readers->linear = true;
    else if (!(node->op == OP_EMBEDDING && operand == 1)) readers->other = true, readers->other_node = node;
    readers->value = value;
}

static const char *readable_name(const Value *value) { return value->kind == VALUE_WEIGHT ? value->weights[0]->name : value->name; }

static bool consistent(const Readers *readers, Diags *diags) {
    if (readers->linear && readers->other) {
        diag_error(diags, readers->other_node->loc, "layout: weight '%s' is read by linear and by '%s'", readable_name(readers->value),
                   op_info(readers->other_node->op)->name);
        diag(diags, DIAG_HINT, NOWHERE, "declare it as two parameters");
        return false;
    }
    return true;
}

static Layout choose(const Readers *readers) {
    return readers->linear ? LAYOUT_PANELS : LAYOUT_ROWS;
}

bool pass_layout(Module *module, const PassOptions *options, Diags *diags) {
    (void)options;
    Arena *scratch = arena_new();
    Bindings *bindings = bindings_new(module, scratch);
    Readers *readers = ARENA_ARRAY(scratch, Readers, bindings_limit(bindings));
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            for (int k = 0; k < node->operand_count; k++)
                if (node->operands[k] && value_is_weight(node->operands[k]))
                    note_reader(&readers[bindings_class(bindings, node->operands[k])], node, k, node->operands[k]);
        }
    bool ok = true;
    for (int c = 0; c < bindings_limit(bindings); c++) ok &= consistent(&readers[c], diags);
    for (int f = 0; ok && f < module->func_count; f++)
        for (int p = 0; p < module->funcs[f]->param_count; p++) {
            Value *param = module->funcs[f]->params[p];
            param->layout = choose(&readers[bindings_class(bindings, param)]);
        }
    for (int w = 0; ok && w < module->weight_count; w++)
        module->weights[w]->layout = choose(&readers[bindings_weight(bindings, module->weights[w])]);
    arena_free(scratch);
    return ok;
}
