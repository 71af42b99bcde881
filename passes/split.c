// A block that is called with matrices of different chosen formats (--bits, --quant auto) becomes several: layers that agree share one.
//
// Requires nothing, and does nothing where no format was chosen. A kernel belongs to a format, so layers of one format run the same kernels
// whichever block calls them: what grows is the number of small blocks, not that of kernels. An array of matrices (experts) goes by its first.
#include "passes/passes.h"
#include "passes/recipe.h"

bool pass_split(Module *module, const PassOptions *options, Diags *diags);

typedef struct { const Node *call; Func *func; const Func *from; } Version;   // of block `from`: as this call's matrices want it

typedef struct { const char *choices; Arena *scratch; Version *versions; int count, capacity; Diags *diags; } Split;

static int format_of(const Split *s, const Value *operand) {
    int bits = -1, group = -1;
    if (operand && operand->kind == VALUE_WEIGHT) chosen_format(s->choices, operand->weights[0]->name, &bits, &group);
    return bits * 1024 + group;
}

static bool alike(const Split *s, const Node *a, const Node *b) {
    for (int k = 0; k < a->operand_count; k++)
        if (format_of(s, a->operands[k]) != format_of(s, b->operands[k])) return false;
    return true;
}

static Attr *block_attr(Node *node) {
    for (int a = 0; a < node->attr_count; a++)
        if (node->attrs[a].kind == 'g') return &node->attrs[a];
    return NULL;
}

// A copy with experts of its own.
static Func *version_of(Split *s, Func *func) {
    Func *copy = func_flat_copy(func, s->diags);
    for (int i = 0; copy && i < copy->node_count; i++) {
        Attr *block = node_calls(copy->nodes[i]) ? block_attr(copy->nodes[i]) : NULL;
        if (block && !(block->func = func_flat_copy(block->func, s->diags))) return NULL;
    }
    return copy;
}

static bool split_call(Split *s, Node *call) {
    Attr *block = block_attr(call);
    const Func *from = block->func;
    bool first = true;
    for (int v = 0; v < s->count; v++) {
        if (s->versions[v].from != from) continue;
        first = false;
        if (alike(s, s->versions[v].call, call)) return block->func = s->versions[v].func, true;
    }
    if (!first) block->func = version_of(s, block->func);
    ARENA_PUSH(s->scratch, s->versions, s->count, s->capacity) = (Version){call, block->func, from};
    return block->func != NULL;
}

bool pass_split(Module *module, const PassOptions *options, Diags *diags) {
    if (!options->choices) return true;
    Split s = {.choices = options->choices, .scratch = arena_new(), .diags = diags};
    bool done = true;
    for (int i = 0; done && i < module->main->node_count; i++)
        if (module->main->nodes[i]->op == OP_CALL) done = split_call(&s, module->main->nodes[i]);
    arena_free(s.scratch);
    if (!done || module_sort_funcs(module)) return done;
    return diag_error(diags, NOWHERE, "internal error: split: functions call one another in a circle"), false;
}
