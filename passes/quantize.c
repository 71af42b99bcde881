// Chooses storage formats of weights, and int8 arithmetic.
//
// Requires nothing. --quant names one of
//   as-stored   nothing changes (the default)
//   f16, bf16   matrices that linear reads are stored so; a table that a linear shares with an embedding is one of them
//   w8a8        those matrices are stored as int8 with a scale an output (round to nearest even), x is quantized a row at a time, and the product
//               is an exact int32 sum. Left as stored: tables that an embedding reads too, products a head, routers, and inner sizes that are no
//               multiple of 4 or could overflow: K · 127² must stay below 2³¹.
// Parameters and weights bound to one another decide together, so that one kernel serves all layers.
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <string.h>

bool pass_quantize(Module *module, const PassOptions *options, Diags *diags);

typedef struct { bool linear, refused, other; } Class;

typedef struct {
    Module *module;
    Arena *scratch;
    Diags *diags;
    Bindings *bindings;
    Class *classes;
    DType to;
} Quantize;

static const char *const formats[] = {"as-stored", "f16", "bf16", "w8a8"};

// ---- what may change -----------------------------------------------------------------------------------------------------------------

// Which nodes lead, through softmax and the like, to the choice of experts? A router's product stays as exact as the model has it.
static bool *find_routers(const Func *func, const Uses *uses, Arena *scratch) {
    bool *routes = ARENA_ARRAY(scratch, bool, func->node_count);
    for (int i = func->node_count - 1; i >= 0; i--) {
        const Node *node = func->nodes[i];
        bool through = routes[i] && (node->op == OP_SOFTMAX || op_is(node, ELEMENTWISE | SHAPE));
        for (int k = 0; (through || node->op == OP_TOP_K) && k < node->operand_count; k++) {
            int producer = uses_producer(uses, node->operands[k]);
            if (producer >= 0) routes[producer] = true;
        }
    }
    return routes;
}

static bool fits_int8(const Node *linear) {
    const Type *w = &linear->operands[1]->type;
    int64_t inner = w->dims[w->rank - 1];
    return w->rank == 2 && inner % 4 == 0 && inner < INT64_C(0x80000000) / (127 * 127);
}

static void note_use(Quantize *q, const Node *node, int operand, bool router) {
    const Value *value = node->operands[operand];
    if (!value || !value_is_weight(value) || node_calls(node)) return;
    Class *class = &q->classes[bindings_class(q->bindings, value)];
    if (node->op == OP_LINEAR && operand == 1) {
        class->linear = true;
        class->refused |= q->to == DT_W8 && (!fits_int8(node) || router);
    } else if (node->op == OP_EMBEDDING && operand == 1) {
        class->refused |= q->to == DT_W8;
    } else {
        class->other = true;
    }
}

static bool changes(const Class *class) { return class->linear && !class->refused && !class->other; }

static void classify(Quantize *q) {
    q->bindings = bindings_new(q->module, q->scratch);
    q->classes = ARENA_ARRAY(q->scratch, Class, bindings_limit(q->bindings));
    for (int f = 0; f < q->module->func_count; f++) {
        const Func *func = q->module->funcs[f];
        const Uses *uses = uses_new(func, q->scratch);
        const bool *routes = find_routers(func, uses, q->scratch);
        for (int i = 0; i < func->node_count; i++)
            for (int k = 0; k < func->nodes[i]->operand_count; k++) note_use(q, func->nodes[i], k, routes[i]);
    }
}

// ---- rewriting -------------------------------------------------------------------------------------------------------------------------

// The quantize_rows of x that is there already, or a new one before node `*at`.
static Node *codes_of(Func *func, Value *x, int *at, Diags *diags) {
    for (int i = 0; i < *at; i++)
        if (func->nodes[i]->op == OP_QUANTIZE_ROWS && func->nodes[i]->operands[0] == x) return func->nodes[i];
    const char *names[] = {arena_printf(func->module->arena, "%s.codes", x->name), arena_printf(func->module->arena, "%s.scale", x->name)};
    Node *node = node_insert(func, *at, OP_QUANTIZE_ROWS, &x, 1, NULL, 0, names, func->nodes[*at]->loc, diags);
    *at += node != NULL;
    return node;
}

static bool make_int8(Func *func, int *at, Diags *diags) {
    Node *linear = func->nodes[*at];
    Node *codes = codes_of(func, linear->operands[0], at, diags);
    if (!codes) return false;
    Value *operands[] = {codes->results[0], codes->results[1], linear->operands[1], linear->operands[2]};
    Node *product = node_insert(func, *at, OP_LINEAR_I8, operands, COUNT_OF(operands), NULL, 0, NULL, linear->loc, diags);
    if (!product) return false;
    product->label = linear->label;
    product->results[0]->name = linear->results[0]->name;
    product->results[0]->user_name = linear->results[0]->user_name;
    func_replace_uses(func, linear->results[0], product->results[0]);
    func_remove(func, linear);
    return true;
}

static bool rewrite(Quantize *q) {
    for (int f = 0; f < q->module->func_count; f++) {
        Func *func = q->module->funcs[f];
        for (int i = 0; i < func->node_count; i++) {
            const Node *node = func->nodes[i];
            if (node->op != OP_LINEAR || !changes(&q->classes[bindings_class(q->bindings, node->operands[1])])) continue;
            if (!make_int8(func, &i, q->diags)) return false;
        }
    }
    return true;
}

static bool pick_format(const char *name, DType *to, Diags *diags) {
    if (!name) name = formats[0];
    *to = DT_COUNT;
    if (strcmp(name, "as-stored") == 0) return true;
    *to = strcmp(name, "f16") == 0 ? DT_F16 : strcmp(name, "bf16") == 0 ? DT_BF16 : strcmp(name, "w8a8") == 0 ? DT_W8 : DT_COUNT;
    if (*to != DT_COUNT) return true;
    diag_error(diags, NOWHERE, "there is no quantization '%s'", name);
    const char *near = nearest_name(name, formats, COUNT_OF(formats));
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    else diag(diags, DIAG_HINT, NOWHERE, "it is one of as-stored, f16, bf16, w8a8");
    return false;
}

bool quantization_valid(const char *name, Diags *diags) {
    DType to;
    return pick_format(name, &to, diags);
}

bool pass_quantize(Module *module, const PassOptions *options, Diags *diags) {
    Quantize q = {.module = module, .diags = diags};
    if (!pick_format(options->quantize, &q.to, diags)) return false;
    if (q.to == DT_COUNT) return true;
    q.scratch = arena_new();
    classify(&q);
    for (int w = 0; w < module->weight_count; w++) {
        Weight *weight = module->weights[w];
        if (changes(&q.classes[bindings_weight(q.bindings, weight)]) && weight->type.dtype != q.to) weight->quantize_to = q.to;
    }
    bool ok = q.to != DT_W8 || rewrite(&q);
    arena_free(q.scratch);
    return ok;
}
