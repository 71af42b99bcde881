// Storage formats of weights, and int8 arithmetic: does what recipe.c decides.
//
// Requires nothing. A matrix that linear reads gets the type of the recipe; where x is to be int8, linear becomes quantize_rows + linear_i8: exact
// integer sums over each group of k. x's scales are of whole rows where x was rotated, else of groups of 32: without a rotation one large column
// would make all others coarse.
#include "passes/passes.h"
#include "passes/recipe.h"
#include "ir/dequant.h"

bool pass_quantize(Module *module, const PassOptions *options, Diags *diags);

typedef struct { Module *module; Diags *diags; const Recipe *recipe; Classes classes; } Quantize;

static bool becomes_int8(const Quantize *q, const Node *node) {
    return node->op == OP_LINEAR && value_is_weight(node->operands[1]) && class_codes(&q->classes, class_of(&q->classes, node->operands[1]));
}

static int64_t weight_group(const Quantize *q, const Value *w) {
    DType to = class_stored(&q->classes, class_of(&q->classes, w));
    GroupedFormat format;
    return grouped_format(to == DT_COUNT ? w->type.dtype : to, &format) ? format.group : w->type.dims[w->type.rank - 1];
}

enum { PLAIN_GROUP = 32 };

static int64_t activation_group(const Quantize *q, const Value *x) {
    int64_t columns = x->type.dims[x->type.rank - 1];
    bool rotated = x->kind == VALUE_RESULT && x->node->op == OP_HADAMARD;
    return group_in_row(q->recipe->activation >= 0 ? q->recipe->activation : rotated ? 0 : PLAIN_GROUP, columns);
}

// Codes of x for the products that read it and sum over groups of the same size: those of the scales, or of the weight, whichever is smaller.
static Node *codes_of(Quantize *q, Func *func, Value *x, const Value *weight, int *at) {
    int64_t columns = x->type.dims[x->type.rank - 1], group = activation_group(q, x), sums = weight_group(q, weight) < group ? weight_group(q, weight) : group;
    int64_t group_attr = group == columns ? 0 : group, sums_attr = sums == columns ? 0 : sums;
    for (int i = 0; i < *at; i++) {
        Node *node = func->nodes[i];
        if (node->op == OP_QUANTIZE_ROWS && node->operands[0] == x && node_int(node, "group") == group_attr && node_int(node, "sums") == sums_attr) return node;
    }
    const char *names[] = {arena_printf(func->module->arena, "%s.codes", x->name), arena_printf(func->module->arena, "%s.scale", x->name),
                           arena_printf(func->module->arena, "%s.sums", x->name)};
    Attr attrs[] = {attr_number("group", (double)group_attr), attr_number("sums", (double)sums_attr)};
    Node *node = node_insert(func, *at, OP_QUANTIZE_ROWS, &x, 1, attrs, 2, names, func->nodes[*at]->loc, q->diags);
    *at += node != NULL;
    return node;
}

static bool replace(Func *func, Node *linear, Node *product) {
    if (!product) return false;
    product->label = linear->label;
    product->results[0]->name = linear->results[0]->name;
    product->results[0]->user_name = linear->results[0]->user_name;
    func_replace_uses(func, linear->results[0], product->results[0]);
    func_remove(func, linear);
    return true;
}

static bool make_int8(Quantize *q, Func *func, int *at) {
    Node *linear = func->nodes[*at];
    Node *codes = codes_of(q, func, linear->operands[0], linear->operands[1], at);
    if (!codes) return false;
    Value *operands[] = {codes->results[0], codes->results[1], codes->results[2], linear->operands[1], linear->operands[2]};
    return replace(func, linear, node_insert(func, *at, OP_LINEAR_I8, operands, COUNT_OF(operands), NULL, 0, NULL, linear->loc, q->diags));
}

// bf16 arithmetic is for targets that have it: x is rounded once, by who makes it.
static bool becomes_bf16(const Quantize *q, const Node *node) {
    const Target *target = q->recipe->options->target;
    if (!target || !(target->dot_bf16 || target->tile_bf16)) return false;
    if (node->op != OP_LINEAR || !value_is_weight(node->operands[1]) || node->operands[1]->type.rank != 2) return false;
    const Class *class = class_of(&q->classes, node->operands[1]);
    DType to = class_stored(&q->classes, class);
    return class_bf16(&q->classes, class) && (to == DT_COUNT ? node->operands[1]->type.dtype : to) == DT_BF16;
}

static Value *narrowed(Quantize *q, Func *func, Value *x, int *at) {
    for (int i = 0; i < *at; i++)
        if (func->nodes[i]->op == OP_NARROW && func->nodes[i]->operands[0] == x) return func->nodes[i]->results[0];
    const char *name = arena_printf(func->module->arena, "%s.bf16", x->name);
    Attr type = attr_number("type", DT_BF16);
    Node *node = node_insert(func, *at, OP_NARROW, &x, 1, &type, 1, &name, func->nodes[*at]->loc, q->diags);
    *at += node != NULL;
    return node ? node->results[0] : NULL;
}

static bool make_bf16(Quantize *q, Func *func, int *at) {
    Node *linear = func->nodes[*at];
    Value *x = narrowed(q, func, linear->operands[0], at);
    if (!x) return false;
    Value *operands[] = {x, linear->operands[1], linear->operands[2]};
    return replace(func, linear, node_insert(func, *at, OP_LINEAR_BF16, operands, COUNT_OF(operands), NULL, 0, NULL, linear->loc, q->diags));
}

static bool rewrite(Quantize *q) {
    for (int f = 0; f < q->module->func_count; f++) {
        Func *func = q->module->funcs[f];
        for (int i = 0; i < func->node_count; i++)
            if (becomes_int8(q, func->nodes[i]) ? !make_int8(q, func, &i) : becomes_bf16(q, func->nodes[i]) && !make_bf16(q, func, &i)) return false;
    }
    return true;
}

bool pass_quantize(Module *module, const PassOptions *options, Diags *diags) {
    Recipe recipe;
    Quantize q = {.module = module, .diags = diags, .recipe = &recipe};
    if (!recipe_read(&recipe, options, diags)) return false;
    if (!recipe.row->bits && !recipe.row->codes) return true;
    if (!choices_fit(options->choices, module, diags)) return false;
    Arena *scratch = arena_new();
    classes_find(&q.classes, module, &recipe, scratch);
    for (int w = 0; w < module->weight_count; w++) {
        Weight *weight = module->weights[w];
        DType to = class_stored(&q.classes, &q.classes.classes[bindings_weight(q.classes.bindings, weight)]);
        if (to != DT_COUNT) weight->quantize_to = to;
    }
    bool ok = rewrite(&q);
    arena_free(scratch);
    return ok;
}
