// Chooses storage formats of weights, and int8 arithmetic.
//
// Requires nothing. --quant names a row of `recipes`: what matrices that linear reads are stored as, and whether x is quantized to int8 for them
// (linear becomes quantize_rows + linear_i8: exact integer sums over each group of k). Left as stored and multiplied in float: products a head,
// routers, inner sizes that the groups do not divide or whose sums could overflow, formats whose codes are no integers. A table that an embedding
// shares with a linear is stored as the linear wants it. Parameters and weights bound to one another decide together, so that one kernel serves
// all layers.
#include "passes/passes.h"
#include "passes/rewrite.h"
#include "ir/dequant.h"

#include <string.h>

bool pass_quantize(Module *module, const PassOptions *options, Diags *diags);

// `weight`: DT_COUNT keeps what is stored; `keep_bits`: integer codes of at most so many bits stay as stored too. `activation`: codes of x share a
// scale in groups of so many, 0: a row; -1: x stays float.
typedef struct { const char *name; DType weight; int keep_bits, activation; const char *meaning; } Recipe;
static const Recipe recipes[] = {
    {"as-stored", DT_COUNT, 0, -1, "weights as stored, float32 arithmetic"},
    {"a8", DT_COUNT, 0, 32, "weights as stored, activations int8 in groups of 32"},
    {"w8a8", DT_W8, 0, 32, "weights int8 with a scale an output, activations int8 in groups of 32"},
    {"w4a8", DT_Q4_1, 4, 32, "weights 4-bit in groups of 32, activations int8"},
    {"w4a16", DT_Q4_1, 4, -1, "weights 4-bit in groups of 32, float32 arithmetic"},
    {"bf16", DT_BF16, 0, -1, "weights bfloat16"},
    {"f16", DT_F16, 0, -1, "weights binary16"},
};

typedef struct { bool linear, float_linear, other; DType to; } Class;

typedef struct {
    Module *module;
    Arena *scratch;
    Diags *diags;
    Bindings *bindings;
    Class *classes;
    const Recipe *recipe;
} Quantize;

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

// The codes that a matrix of this type would have under the recipe: DT_COUNT as stored.
static DType stored_under(const Recipe *recipe, const Type *w) {
    GroupedFormat format;
    bool coded = grouped_format(w->dtype, &format);
    if (recipe->weight == DT_COUNT || w->dtype == recipe->weight || (coded && format.bits <= recipe->keep_bits)) return DT_COUNT;
    int block = dtype_info[recipe->weight].block;
    return block && w->dims[w->rank - 1] % block ? DT_COUNT : recipe->weight;
}

// Whether x can be int8 for this product: codes that are integers, groups that fit, sums within int32.
static bool takes_int8(const Recipe *recipe, const Node *linear) {
    const Type *w = &linear->operands[1]->type;
    int64_t inner = w->dims[w->rank - 1], group = recipe->activation ? recipe->activation : inner;
    DType to = stored_under(recipe, w);
    GroupedFormat format;
    bool coded = grouped_format(to == DT_COUNT ? w->dtype : to, &format);
    if (recipe->activation < 0 || w->rank != 2 || inner % 4 || inner % group) return false;
    if (coded) return !format.table && (format.group % group == 0 || group % format.group == 0);
    return (to == DT_COUNT ? w->dtype : to) == DT_W8 && group < INT64_C(0x80000000) / (127 * 256);
}

static void note_use(Quantize *q, const Node *node, int operand, bool router) {
    const Value *value = node->operands[operand];
    if (!value || !value_is_weight(value) || node_calls(node)) return;
    Class *class = &q->classes[bindings_class(q->bindings, value)];
    if (node->op == OP_LINEAR && operand == 1) {
        class->linear = true;
        class->float_linear |= router || !takes_int8(q->recipe, node);
        class->to = stored_under(q->recipe, &value->type);
    } else if (node->op != OP_EMBEDDING || operand != 1) {
        class->other = true;
    }
}

// What a class is stored as: int8 storage for the sake of int8 arithmetic only where that is done.
static DType stored(const Quantize *q, const Class *class) {
    bool wanted = class->linear && !class->other && (q->recipe->activation < 0 || !class->float_linear);
    return wanted ? class->to : DT_COUNT;
}

static bool int8(const Quantize *q, const Class *class) { return q->recipe->activation >= 0 && class->linear && !class->float_linear && !class->other; }

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

static int64_t weight_group(const Quantize *q, const Value *w) {
    DType to = stored(q, &q->classes[bindings_class(q->bindings, w)]);
    GroupedFormat format;
    return grouped_format(to == DT_COUNT ? w->type.dtype : to, &format) ? format.group : w->type.dims[w->type.rank - 1];
}

static bool becomes_int8(const Quantize *q, const Node *node) {
    return node->op == OP_LINEAR && int8(q, &q->classes[bindings_class(q->bindings, node->operands[1])]);
}

// Codes of x for all products that read it: their sums are of the smallest group of any.
static Node *codes_of(Quantize *q, Func *func, Value *x, int *at) {
    for (int i = 0; i < *at; i++)
        if (func->nodes[i]->op == OP_QUANTIZE_ROWS && func->nodes[i]->operands[0] == x) return func->nodes[i];
    int64_t columns = x->type.dims[x->type.rank - 1], group = q->recipe->activation ? q->recipe->activation : columns, sums = group;
    for (int i = *at; i < func->node_count; i++)
        if (becomes_int8(q, func->nodes[i]) && func->nodes[i]->operands[0] == x) {
            int64_t w = weight_group(q, func->nodes[i]->operands[1]);
            if (w < sums) sums = w;
        }
    const char *names[] = {arena_printf(func->module->arena, "%s.codes", x->name), arena_printf(func->module->arena, "%s.scale", x->name),
                           arena_printf(func->module->arena, "%s.sums", x->name)};
    Attr attrs[] = {attr_number("group", (double)(group == columns ? 0 : group)), attr_number("sums", (double)(sums == columns ? 0 : sums))};
    Node *node = node_insert(func, *at, OP_QUANTIZE_ROWS, &x, 1, attrs, 2, names, func->nodes[*at]->loc, q->diags);
    *at += node != NULL;
    return node;
}

static bool make_int8(Quantize *q, Func *func, int *at) {
    Node *linear = func->nodes[*at];
    Node *codes = codes_of(q, func, linear->operands[0], at);
    if (!codes) return false;
    Value *operands[] = {codes->results[0], codes->results[1], codes->results[2], linear->operands[1], linear->operands[2]};
    Node *product = node_insert(func, *at, OP_LINEAR_I8, operands, COUNT_OF(operands), NULL, 0, NULL, linear->loc, q->diags);
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
        for (int i = 0; i < func->node_count; i++)
            if (becomes_int8(q, func->nodes[i]) && !make_int8(q, func, &i)) return false;
    }
    return true;
}

static const Recipe *recipe_find(const char *name, Diags *diags) {
    const char *names[COUNT_OF(recipes)];
    Text list = {0};
    for (int i = 0; i < (int)COUNT_OF(recipes); i++) {
        names[i] = recipes[i].name;
        if (strcmp(name ? name : "as-stored", names[i]) == 0) return text_free(&list), &recipes[i];
        text_printf(&list, i ? ", %s" : "%s", names[i]);
    }
    diag_error(diags, NOWHERE, "there is no quantization '%s'", name);
    const char *near = nearest_name(name, names, COUNT_OF(recipes));
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    else diag(diags, DIAG_HINT, NOWHERE, "it is one of %s", list.data);
    text_free(&list);
    return NULL;
}

bool quantization_valid(const char *name, Diags *diags) { return recipe_find(name, diags) != NULL; }

bool pass_quantize(Module *module, const PassOptions *options, Diags *diags) {
    Quantize q = {.module = module, .diags = diags, .recipe = recipe_find(options->quantize, diags)};
    if (!q.recipe) return false;
    if (q.recipe->weight == DT_COUNT && q.recipe->activation < 0) return true;
    q.scratch = arena_new();
    classify(&q);
    for (int w = 0; w < module->weight_count; w++) {
        Weight *weight = module->weights[w];
        DType to = stored(&q, &q.classes[bindings_weight(q.bindings, weight)]);
        if (to != DT_COUNT && weight->type.dtype != to) weight->quantize_to = to;
    }
    bool ok = q.recipe->activation < 0 || rewrite(&q);
    arena_free(q.scratch);
    return ok;
}
