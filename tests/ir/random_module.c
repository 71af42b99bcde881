// Random modules: an op, operands and attributes are drawn; what the builder refuses is drawn again. Sizes come from a small set, so that
// much fits.
#include "random_module.h"
#include "ir/prune.h"

#include <string.h>

enum { NODES = 24, TRIES = 3000, MOST_VALUES = 256 };

typedef struct {
    uint64_t state;
    Arena *arena;
    Module *module;
    Diags *diags;              // the builder's refusals; thrown away
    Value *values[MOST_VALUES]; int value_count;
    Value *params[16]; int param_count;
    bool decisions, expert;    // expert: the function being made may be one
} Random;

static uint64_t next(Random *r) {   // splitmix64
    uint64_t z = r->state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

static int below(Random *r, int n) { return (int)(next(r) % (uint64_t)n); }

static int64_t size(Random *r) { return (int64_t[]){1, 2, 2, 4, 4, 4, 8, 32}[below(r, 8)]; }

static Type random_type(Random *r, DType dtype, bool symbolic, int least, int most) {
    Type type = {.dtype = dtype, .rank = least + below(r, most - least + 1)};
    for (int i = 0; i < type.rank; i++) type.dims[i] = size(r);
    if (symbolic) type.dims[0] = DIM_T;
    return type;
}

static const char *odd_name(Random *r, const char *stem) {
    static const char *const tails[] = {"", ".weight", "[0:4]", " b", "\"q\"", "\\", "/x-1", "ü", "\t"};
    return arena_printf(r->arena, "%s%s", stem, tails[below(r, COUNT_OF(tails))]);
}

static Weight *random_weight(Random *r, Type type) {
    Weight weight = {.name = odd_name(r, "w"), .type = type, .source = type, .index = -1, .quantize_to = DT_COUNT};
    weight.tensor = arena_printf(r->arena, "tensor.%d", below(r, 1000000));
    int kind = below(r, 4), block = dtype_info[type.dtype].block;
    if (kind == 0 && type.rank < MAX_RANK && type.rank > 0) {
        weight.index = below(r, 3);
        memmove(weight.source.dims + 1, weight.source.dims, sizeof(int64_t) * (size_t)type.rank);
        weight.source.dims[0] = 3;
        weight.source.rank++;
    } else if (kind == 1 && type.rank >= 2) {
        weight.first = below(r, 3), weight.step = 1 + below(r, 3), weight.rows = type.dims[0];
        weight.source.dims[0] = weight.first + weight.step * weight.rows;
    } else if (kind == 2 && type.rank >= 2 && block == 1) {
        weight.transpose = true;
        weight.source.dims[type.rank - 1] = type.dims[type.rank - 2];
        weight.source.dims[type.rank - 2] = type.dims[type.rank - 1];
    }
    if (type.dtype == DT_F32 && type.rank == 1 && below(r, 2)) {
        float *data = ARENA_ARRAY(r->arena, float, type.dims[0]);
        for (int64_t i = 0; i < type.dims[0]; i++) data[i] = (float)((double)(int64_t)next(r) * 0x1p-60);
        weight = (Weight){.name = weight.name, .type = type, .source = type, .index = -1, .quantize_to = DT_COUNT, .data = data};
    }
    if (r->decisions) {
        weight.layout = (Layout)below(r, LAYOUT_SPARSE);   // those behind it are of pruned matrices alone
        weight.quantize_to = (DType[]){DT_COUNT, DT_W8, DT_BF16, DT_W5}[below(r, 4)];
        if (type.rank == 2 && below(r, 2) && prune_keeps_zeros(weight.quantize_to == DT_COUNT ? type.dtype : weight.quantize_to)) {
            weight.prune = (Prune){.of = 1 + below(r, 9), .rows = 1 << below(r, 7), .columns = 1 + below(r, 9)};
            weight.prune.keep = 1 + below(r, (int)weight.prune.of);
        }
        if (type.rank == 2 && type.dtype == DT_F32 && below(r, 2)) {   // every other row
            int32_t *at = ARENA_ARRAY(r->arena, int32_t, type.dims[0]);
            for (int64_t i = 0; i < type.dims[0]; i++) at[i] = (int32_t)(2 * i);
            weight.pick_rows = (Pick){type.dims[0], 2 * type.dims[0], at};
            weight.source = weight.type;
            weight.source.dims[0] *= 2;
            weight.index = -1, weight.step = weight.first = weight.rows = 0, weight.transpose = false;
        }
    }
    return module_weight(r->module, &weight);
}

static DType weight_dtype(Random *r, const int64_t *last) {
    static const DType blocks[] = {DT_Q8_0, DT_Q4_1, DT_MXFP4, DT_Q5_0};
    if (last && *last == 32 && below(r, 2)) return blocks[below(r, COUNT_OF(blocks))];
    return (DType[]){DT_F32, DT_F32, DT_BF16, DT_F16, DT_F8E4M3}[below(r, 5)];
}

static Attr random_attr(Random *r, const AttrSpec *spec, OpId op, const Value *first) {
    static const double numbers[] = {1e-5, 1, 0.5, 10000, 3, -0.1};
    switch (spec->kind) {
    case 'f': return attr_number(spec->name, op == OP_CONST ? below(r, 3) : numbers[below(r, COUNT_OF(numbers))]);
    case 'i': return attr_number(spec->name, below(r, 7) - 2);
    case 'b': return attr_number(spec->name, below(r, 2));
    case 't': return attr_number(spec->name, (DType[]){DT_F32, DT_F32, DT_I32, DT_BOOL, DT_F16, DT_BF16}[below(r, 6)]);
    case 'e': {
        char *name = arena_strdup(r->arena, spec->choices), *bar;   // the last of them more rarely
        while ((bar = strchr(name, '|')) && below(r, 2)) name = bar + 1;
        if (bar) *bar = 0;
        return attr_text(spec->name, name);
    }
    }
    int64_t sizes[MAX_RANK] = {0};
    int count = first ? first->type.rank : 0;
    for (int i = 0; i < count; i++) sizes[i] = first->type.dims[i];
    if (op == OP_SPLIT && count) {
        int64_t whole = sizes[count - 1], part = 1 + below(r, (int)(whole > 1 ? whole : 1));
        sizes[0] = part, sizes[1] = whole - part;
        count = part < whole ? 2 : 1;
    } else if (op == OP_RESHAPE && count > 1 && below(r, 2)) {   // the last size in two, or the last two in one
        if (sizes[count - 1] % 2 == 0 && count < MAX_RANK) sizes[count - 1] /= 2, sizes[count++] = 2;
        else if (count > 2) sizes[count - 2] *= sizes[count - 1], count--;
    } else if (op == OP_EXPAND && count && sizes[count - 1] == 1) {
        sizes[count - 1] = 4;
    }
    return attr_sizes(spec->name, sizes, count);
}

// A value of this type among those there are, or a new input.
static Value *value_like(Random *r, Func *func, Type type) {
    for (int i = 0; i < r->value_count; i++)
        if (type_equal(&r->values[i]->type, &type) && r->values[i]->kind != VALUE_PARAM) return r->values[i];
    return r->values[r->value_count++] = func_input(func, "x", type);
}

static Value *param_like(Random *r, Func *func, Type type, int count) {
    if (func != r->module->main) return func_param(func, "p", type, count);
    Weight *weights[3];
    for (int i = 0; i < (count ? count : 1); i++) weights[i] = random_weight(r, type);
    return func_weights(func, weights, count);
}

// A call or mixture of an earlier function, with operands made to fit; refused when the function itself does not fit.
static Node *random_call(Random *r, Func *func, OpId op) {
    Func *callee = r->module->funcs[below(r, r->module->func_count)];
    Value *operands[64];
    int count = 0, experts = 1 + below(r, 3), slots = 1 + below(r, 3);
    Attr attrs[] = {attr_func("block", callee), attr_number("count", experts)};
    if (callee == func || r->value_count > MOST_VALUES - 32) return NULL;
    if (op != OP_CALL && callee->inputs[0]->type.dims[0] != DIM_T) return NULL;
    if (op == OP_MOE_EXPERTS) operands[count++] = value_like(r, func, (Type){DT_I32, 2, {DIM_T, slots}});
    for (int i = 0; i < (op == OP_MOE ? 1 : callee->input_count) && count < 64; i++) operands[count++] = value_like(r, func, callee->inputs[i]->type);
    if (op == OP_MOE) operands[count++] = value_like(r, func, (Type){DT_F32, 2, {DIM_T, slots}}), operands[count++] = value_like(r, func, (Type){DT_I32, 2, {DIM_T, slots}});
    for (int i = 0; i < callee->param_count && count < 64; i++)
        operands[count++] = param_like(r, func, callee->params[i]->type, op == OP_CALL ? callee->params[i]->count : below(r, 2) * experts);
    return func_node(func, op, operands, count, attrs, op == OP_CALL ? 1 : 2, NULL, NOWHERE, r->diags);
}

// Attention of some heads over keys and values made to fit, in one op or two.
static Node *random_attention(Random *r, Func *func, OpId op) {
    int64_t kv_heads = size(r), d = size(r), d_v = size(r);
    Attr attrs[] = {attr_number("window", below(r, 3)), attr_number("causal", below(r, 2)), attr_number("scale", 0.5)};
    if (r->value_count > MOST_VALUES - 32) return NULL;
    Value *q = value_like(r, func, (Type){DT_F32, 3, {DIM_T, kv_heads * (1 + below(r, 2)), d}});
    Value *k = value_like(r, func, (Type){DT_F32, 3, {DIM_T, kv_heads, d}}),
          *v = value_like(r, func, (Type){DT_F32, 3, {DIM_T, kv_heads, d_v}});
    if (op == OP_ATTENTION) return func_node(func, op, (Value *[]){q, k, v}, 3, attrs, 3, NULL, NOWHERE, r->diags);
    Node *write = func_node(func, OP_CACHE_WRITE, (Value *[]){k, v}, 2, NULL, 0, NULL, NOWHERE, r->diags);
    return write ? func_node(func, op, (Value *[]){q, write->results[0]}, 2, attrs, 3, NULL, NOWHERE, r->diags) : NULL;
}

static Node *random_combine(Random *r, Func *func) {
    int64_t slots = 1 + below(r, 3);
    if (r->value_count > MOST_VALUES - 32) return NULL;
    Value *y = value_like(r, func, (Type){DT_F32, 3, {DIM_T, slots, size(r)}}), *rows = value_like(r, func, (Type){DT_I32, 2, {DIM_T, slots}});
    Value *operands[] = {y, rows, value_like(r, func, (Type){DT_F32, 2, {DIM_T, slots}})};
    return func_node(func, OP_MOE_COMBINE, operands, 3, NULL, 0, NULL, NOWHERE, r->diags);
}

// Values of int8 are rare: an op that wants one gets it when there is one.
static Value *value_of(Random *r, DType dtype) {
    for (int t = 0; t < 3 * r->value_count; t++) {
        Value *value = r->values[below(r, r->value_count)];
        if (value->type.dtype == dtype) return value;
    }
    return r->values[below(r, r->value_count)];
}

// The scales (1) or sums (2) that were made with these codes, if they were.
static Value *made_with(Random *r, Value *codes, int which) {
    bool made = codes->node && codes->node->op == OP_QUANTIZE_ROWS;
    return made && which < codes->node->result_count ? codes->node->results[which] : r->values[below(r, r->value_count)];
}

// A value rounded to bf16: one that is there, or made for the purpose.
static Value *narrowed(Random *r, Func *func) {
    Value *x = value_of(r, DT_F32);
    Attr type = attr_number("type", DT_BF16);
    Node *node = x->type.dtype == DT_F32 ? func_node(func, OP_NARROW, &x, 1, &type, 1, NULL, NOWHERE, r->diags) : NULL;
    return node ? node->results[0] : x;
}

// Likewise codes of int8.
static Value *quantized(Random *r, Func *func) {
    Value *x = value_of(r, below(r, 2) ? DT_I8 : DT_F32);
    Node *node = x->type.dtype == DT_F32 ? func_node(func, OP_QUANTIZE_ROWS, &x, 1, NULL, 0, NULL, NOWHERE, r->diags) : NULL;
    return node ? node->results[0] : x;
}

static Node *random_node(Random *r, Func *func) {
    OpId op = (OpId)below(r, OP_COUNT);
    if (r->expert && op_info(op)->flags & (CALL | STATE | SEQUENCE)) return NULL;
    if (op_info(op)->flags & CALL) return random_call(r, func, op);
    if (op == OP_ATTENTION || op == OP_ATTEND) return random_attention(r, func, op);
    if (op == OP_MOE_COMBINE) return random_combine(r, func);
    const OpInfo *info = op_info(op);
    Value *operands[16] = {0};
    Attr attrs[MAX_ATTRS];
    int count = 0, attr_count = 0;
    for (int i = 0; i < info->attr_count; i++) {
        const Value *first = info->operand_count && r->value_count ? r->values[below(r, r->value_count)] : NULL;
        if (i == 0 && first && info->attrs[i].kind == 's') operands[0] = (Value *)first;
        if (info->attrs[i].required || below(r, 2)) attrs[attr_count++] = random_attr(r, &info->attrs[i], op, first);
    }
    for (int i = 0; i < info->operand_count; i++) {
        const OperandSpec *spec = &info->operands[i];
        bool weight = spec->weight || (below(r, 8) == 0 && r->param_count);
        int copies = spec->variadic ? below(r, 4) : 1;
        for (int c = 0; c < copies; c++, count++) {
            if (spec->optional && below(r, 2)) operands[count] = NULL;
            else if (weight && r->param_count) operands[count] = r->params[below(r, r->param_count)];
            else if (op == OP_LINEAR_BF16 && i == 0) operands[count] = narrowed(r, func);
            else if (op == OP_LINEAR_I8) operands[count] = i ? made_with(r, operands[0], i) : quantized(r, func);
            else if (!operands[count]) operands[count] = r->values[below(r, r->value_count)];
        }
    }
    const char *name = odd_name(r, "v"), *names[64] = {name, name, name};
    return func_node(func, op, operands, count, attrs, attr_count, names, NOWHERE, r->diags);
}

static void decide(Random *r, Node *node) {
    for (int i = 0; i < node->result_count; i++) node->results[i]->place = below(r, 2) ? -1 : (int64_t)(next(r) >> 20);
    if (op_info(node->op)->flags & CALL) {
        node->frame = below(r, 2) ? -1 : below(r, 4096) * 64;
        node->label = below(r, 2) ? "layer=1 \"x\"" : NULL;
    }
}

static void random_func(Random *r, bool main, int *made) {
    Func *func = func_new(r->module, main ? "main" : odd_name(r, "f"));
    diags_free(r->diags);
    r->diags = diags_new();
    r->value_count = r->param_count = 0;
    if (main) r->module->main = func;   // weights, not parameters
    func->kernel = !main && below(r, 3) == 0;
    r->expert = !main && below(r, 2);
    for (int i = 0, n = r->expert ? 1 : 1 + below(r, 3); i < n; i++)
        r->values[r->value_count++] =
            func_input(func, "x", random_type(r, r->expert || below(r, 3) ? DT_F32 : DT_I32, true, 1 + below(r, 2), 3));
    for (int i = 0, n = below(r, 6); i < n; i++) {
        Type type = random_type(r, DT_F32, false, 1, 3);
        type.dtype = weight_dtype(r, &type.dims[type.rank - 1]);
        int count = main ? below(r, 3) : below(r, 4) ? 0 : 2;
        Weight *weights[3] = {0};
        for (int w = 0; main && w < (count ? count : 1); w++) weights[w] = random_weight(r, type);
        Value *param = main ? func_weights(func, weights, count) : func_param(func, "p", type, count);
        if (!main && r->decisions) param->layout = (Layout)below(r, LAYOUT_SPARSE);   // those behind it are of pruned matrices alone
        r->params[r->param_count++] = param;
    }
    for (int t = 0; t < TRIES && func->node_count < NODES; t++) {
        if (t % 90 == 0) {   // else its sources and messages grow
            diags_free(r->diags);
            r->diags = diags_new();
        }
        Node *node = random_node(r, func);
        if (!node) continue;
        if (func->kernel && op_info(node->op)->flags & CALL) {
            func_remove(func, node);
            continue;
        }
        if (made) made[node->op]++;
        if (r->decisions) decide(r, node);
        for (int i = 0; i < node->result_count && r->value_count < MOST_VALUES; i++) r->values[r->value_count++] = node->results[i];
    }
    int results = r->expert ? 1 : 1 + below(r, 2);
    Value *returned[2];
    for (int i = 0; i < results; i++) {
        returned[i] = r->values[below(r, r->value_count)];
        if (r->expert && (returned[i]->type.dtype != DT_F32 || !returned[i]->type.rank || returned[i]->type.dims[0] != DIM_T))
            returned[i] = func->inputs[0];
    }
    func_return(func, returned, results);
    if (r->decisions) func->frame_bytes = below(r, 3) * 64, func->row_factor = 1 + below(r, 3);
}

Module *random_module(Arena *arena, uint64_t seed, bool decisions, int *made) {
    Random r = {.state = seed, .arena = arena, .module = module_new(arena, "random"), .diags = diags_new(), .decisions = decisions};
    r.module->context = 1 + below(&r, 5000);
    for (int i = 0, n = 1 + below(&r, 3); i < n; i++) random_func(&r, false, made);
    random_func(&r, true, made);
    diags_free(r.diags);
    return r.module;
}

void random_values(Module *module, uint64_t seed) {
    Random r = {.state = seed};
    for (int i = 0; i < module->weight_count; i++) {
        Weight *weight = module->weights[i];
        uint64_t bytes;
        if (!weight->tensor || !type_bytes(&weight->source, &bytes)) continue;
        unsigned char *data = arena_alloc(module->arena, bytes);
        // Halves of every format's scales and floats stay small: bytes with the high bits of their exponents clear.
        for (uint64_t b = 0; b < bytes; b++) data[b] = (unsigned char)(next(&r) & 0x3F);
        weight->bytes = data;
    }
}
