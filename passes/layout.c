// Decides how each weight lies in memory.
//
// Requires nothing; sets Weight.layout and Value.layout of every parameter. What reads a weight says how it wants it: linear and
// linear_i8 want panels, everything else rows. Parameters and weights that are bound to one another through calls share one layout, so a kernel can be
// compiled once for all layers. Gathering rows for an embedding is content with panels too: a tied table is stored once.
//
// A pruned matrix lies without its zeros where that is less to read by enough. Where pruning left whole blocks of 64 rows, a panel is the blocks that it
// keeps, in any format: they alone are read and multiplied. Other zeros leave a bit for each value and the values that stay, of eight bits 8 · kept + 1 (of
// four the bit would eat most of the gain), where the target expands bytes in registers. Neither changes a bit of what is computed.
#include "passes/passes.h"
#include "passes/rewrite.h"
#include "ir/dequant.h"
#include "ir/prune.h"

#include <string.h>

bool pass_layout(Module *module, const PassOptions *options, Diags *diags);

// Of a class: who reads it, and how all its matrices may lie without zeros.
typedef struct { bool linear, other, no_masks, no_blocks; int64_t kept; int block, weights; const Node *other_node; const Value *value; } Readers;

// Codes are opened 256 of k at a time: a group of x's must fit. Of blocks, sixteen rows of x come together on a thread's stack: 2 MiB at most.
enum { MOST_SPARSE_GROUP = 256, BLOCK_UNIT = 32, MOST_IN_BLOCKS = 32768 };

// Blocks are whole groups of x and of the weight.
static bool reads_blocks(const Node *node, int operand, int block) {
    if (node->op != OP_LINEAR_I8) return (node->op == OP_LINEAR || node->op == OP_LINEAR_BF16) && operand == 1;
    const Type *x = &node->operands[0]->type, *scales = &node->operands[1]->type;
    int64_t k = x->dims[x->rank - 1], groups = scales->dims[scales->rank - 1];
    return operand == 3 && (groups == 1 || (block && block % (k / groups) == 0));
}

static bool reads_masks(const Node *node, int operand) {
    if (node->op != OP_LINEAR_I8 || operand != 3) return false;
    const Type *x = &node->operands[0]->type, *scales = &node->operands[1]->type;
    int64_t k = x->dims[x->rank - 1], groups = scales->dims[scales->rank - 1];
    return groups == 1 || (k / groups <= MOST_SPARSE_GROUP && k / groups % 4 == 0);
}

static void note_reader(Readers *readers, const Node *node, int operand, const Value *value) {
    if (node_calls(node) || node->op == OP_OBSERVE) return;   // bound to the callee's parameter; of no concern
    if (((node->op == OP_LINEAR || node->op == OP_LINEAR_BF16) && operand == 1) || (node->op == OP_LINEAR_I8 && operand == 3)) readers->linear = true;
    else if (!(node->op == OP_EMBEDDING && operand == 1)) readers->other = true, readers->other_node = node;
    readers->no_masks |= !reads_masks(node, operand);
    readers->no_blocks |= !reads_blocks(node, operand, readers->block);
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

// The blocks of columns that a matrix may lie in; 0: it may not.
static int blocks_of(const Weight *weight, DType stored) {
    const Prune *prune = &weight->prune;
    GroupedFormat format;
    bool grouped = grouped_format(stored, &format);
    bool whole = prune->rows == 64 && prune->columns % BLOCK_UNIT == 0 && weight->type.dims[weight->type.rank - 1] % prune->columns == 0;
    return whole && stored != DT_F32 && (!grouped || prune->columns % format.group == 0) ? prune->columns : 0;
}

// At least a tenth less to read, or what it takes to find the values is not worth it.
static bool pays(int64_t kept, int64_t columns) { return 10 * kept <= 9 * columns; }
static bool masks_pay(int64_t kept, int64_t columns) { return pays(8 * kept + columns, 8 * columns); }

static void note_weight(Readers *readers, const Weight *weight, const PassOptions *options) {
    const char *when = options->sparse ? options->sparse : "auto";
    bool always = !strcmp(when, "always"), masks = always || (!strcmp(when, "auto") && options->target && options->target->expand);
    DType stored = weight->quantize_to != DT_COUNT ? weight->quantize_to : weight->type.dtype;
    int64_t kept = weight->prune.keep && !weight->rotate && strcmp(when, "never") ? prune_row_keeps(weight) : 0;
    int block = kept ? blocks_of(weight, stored) : 0;
    bool alike = !readers->weights++ || (readers->kept == kept && readers->block == block);
    int64_t columns = kept ? weight->type.dims[weight->type.rank - 1] : 0;
    if (!alike || !kept || !block || kept > MOST_IN_BLOCKS || !(always || pays(kept, columns))) readers->no_blocks = true;
    if (!alike || !kept || stored != DT_W8 || !masks || !(always || masks_pay(kept, columns))) readers->no_masks = true;
    readers->kept = kept;
    readers->block = block;
}

static Layout choose(const Readers *readers) {
    if (!readers->linear) return LAYOUT_ROWS;
    return readers->kept && !readers->no_blocks ? LAYOUT_BLOCKS : readers->kept && !readers->no_masks ? LAYOUT_SPARSE : LAYOUT_PANELS;
}

static void find_readers(Readers *readers, Bindings *bindings, const Module *module, const PassOptions *options) {
    for (int w = 0; w < module->weight_count; w++) note_weight(&readers[bindings_weight(bindings, module->weights[w])], module->weights[w], options);
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            for (int k = 0; k < node->operand_count; k++)
                if (node->operands[k] && value_is_weight(node->operands[k]))
                    note_reader(&readers[bindings_class(bindings, node->operands[k])], node, k, node->operands[k]);
        }
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
            param->kept = param->layout >= LAYOUT_SPARSE ? own->kept : 0;
            param->block = param->layout == LAYOUT_BLOCKS ? own->block : 0;
        }
    for (int w = 0; ok && w < module->weight_count; w++)
        module->weights[w]->layout = choose(&readers[bindings_weight(bindings, module->weights[w])]);
    arena_free(scratch);
    return ok;
}
