// Decides how each weight lies in memory.
//
// Requires nothing; sets Weight.layout and Value.layout of every parameter. What reads a weight says how it wants it: linear and
// linear_i8 want panels, everything else rows. Parameters and weights that are bound to one another through calls share one layout, so a kernel can be
// compiled once for all layers. Gathering rows for an embedding is content with panels too: a tied table is stored once.
//
// A pruned matrix lies sparse where that is less to read by enough, and where the target expands bytes in registers: a bit for each value and the values
// that stay. Of eight bits that are 8 · kept + 1; of four the bit would eat most of the gain. It changes no bit of what is computed.
#include "passes/passes.h"
#include "passes/rewrite.h"
#include "ir/prune.h"

#include <string.h>

bool pass_layout(Module *module, const PassOptions *options, Diags *diags);

// Of a class: who reads it, and whether all its matrices may lie sparse.
typedef struct { bool linear, other, dense; int64_t kept; const Node *other_node; const Value *value; } Readers;

// Codes are opened 256 of k at a time: a group of x's must fit.
enum { MOST_SPARSE_GROUP = 256 };

static bool reads_sparse(const Node *node, int operand) {
    if (node->op != OP_LINEAR_I8 || operand != 3) return false;
    const Type *x = &node->operands[0]->type, *scales = &node->operands[1]->type;
    int64_t k = x->dims[x->rank - 1], groups = scales->dims[scales->rank - 1];
    return groups == 1 || (k / groups <= MOST_SPARSE_GROUP && k / groups % 4 == 0);
}

static void note_reader(Readers *readers, const Node *node, int operand, const Value *value) {
    if (node_calls(node) || node->op == OP_OBSERVE) return;   // bound to the callee's parameter; of no concern
    if (((node->op == OP_LINEAR || node->op == OP_LINEAR_BF16) && operand == 1) || (node->op == OP_LINEAR_I8 && operand == 3)) readers->linear = true;
    else if (!(node->op == OP_EMBEDDING && operand == 1)) readers->other = true, readers->other_node = node;
    readers->dense |= !reads_sparse(node, operand);
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

// At least a tenth less to read, or the work of expanding is not worth it.
static bool pays(int64_t kept, int64_t columns) { return 8 * kept + columns <= 72 * columns / 10; }

static void note_weight(Readers *readers, const Weight *weight, const PassOptions *options) {
    bool always = options->sparse && !strcmp(options->sparse, "always"), never = options->sparse && !strcmp(options->sparse, "never");
    DType stored = weight->quantize_to != DT_COUNT ? weight->quantize_to : weight->type.dtype;
    int64_t kept = weight->prune.keep && !weight->rotate && stored == DT_W8 ? prune_row_keeps(weight) : 0;
    if (!kept || never || (readers->kept && readers->kept != kept)) readers->dense = true;
    if (kept && !always && !(options->target && options->target->expand && pays(kept, weight->type.dims[weight->type.rank - 1]))) readers->dense = true;
    readers->kept = kept;
}

static Layout choose(const Readers *readers) {
    if (!readers->linear) return LAYOUT_ROWS;
    return readers->dense || !readers->kept ? LAYOUT_PANELS : LAYOUT_SPARSE;
}

static void find_readers(Readers *readers, Bindings *bindings, const Module *module, const PassOptions *options) {
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            for (int k = 0; k < node->operand_count; k++)
                if (node->operands[k] && value_is_weight(node->operands[k]))
                    note_reader(&readers[bindings_class(bindings, node->operands[k])], node, k, node->operands[k]);
        }
    for (int w = 0; w < module->weight_count; w++) note_weight(&readers[bindings_weight(bindings, module->weights[w])], module->weights[w], options);
}

bool pass_layout(Module *module, const PassOptions *options, Diags *diags) {
    Arena *scratch = arena_new();
    Bindings *bindings = bindings_new(module, scratch);
    Readers *readers = ARENA_ARRAY(scratch, Readers, bindings_limit(bindings));
    find_readers(readers, bindings, module, options);
    bool ok = true;
    for (int c = 0; c < bindings_limit(bindings); c++) ok &= consistent(&readers[c], diags);
    for (int f = 0; ok && f < module->func_count; f++)
        for (int p = 0; p < module->funcs[f]->param_count; p++) {
            Value *param = module->funcs[f]->params[p];
            const Readers *own = &readers[bindings_class(bindings, param)];
            param->layout = choose(own);
            param->kept = param->layout == LAYOUT_SPARSE ? own->kept : 0;
        }
    for (int w = 0; ok && w < module->weight_count; w++)
        module->weights[w]->layout = choose(&readers[bindings_weight(bindings, module->weights[w])]);
    arena_free(scratch);
    return ok;
}
