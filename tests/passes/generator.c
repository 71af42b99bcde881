// Random modules. A body is grown one node at a time: an operation is drawn, its operands are drawn from the values there are, parameters are
// made to fit. What does not type-check is dropped, so inference is exercised as well.
#include "generator.h"
#include "ir/dequant.h"

#include <string.h>

enum { MOST_VALUES = 200 };

typedef struct {
    Random *random;
    Module *module;
    Func *func;
    Diags *quiet;                // attempts that do not fit
    bool main, state;
    Value *values[MOST_VALUES];
    int count;
    Func *blocks[8], *experts[4];
    int block_count, expert_count;
} Gen;

uint64_t random_next(Random *random) {   // splitmix64
    uint64_t z = (random->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int random_below(Random *random, int n) { return n > 1 ? (int)(random_next(random) % (uint64_t)n) : 0; }
float random_float(Random *random) { return (float)((double)(random_next(random) >> 11) * 0x1p-52 - 1); }

static int below(Gen *gen, int n) { return random_below(gen->random, n); }
static bool chance(Gen *gen, int percent) { return below(gen, 100) < percent; }

// ---- weights -----------------------------------------------------------------------------------------------------------------------------

static Type shape_of(DType dtype, int rank, const int64_t *dims) {
    Type type = {.dtype = dtype, .rank = rank};
    for (int i = 0; i < rank; i++) type.dims[i] = dims[i];
    return type;
}

static Weight *new_weight(Gen *gen, Type type) {
    Arena *arena = gen->module->arena;
    int64_t n = type_row_elements(&type);
    Weight weight = {.name = arena_printf(arena, "w%d", gen->module->weight_count), .type = type, .source = type, .index = -1, .quantize_to = DT_COUNT};
    float *values = ARENA_ARRAY(arena, float, n);
    for (int64_t i = 0; i < n; i++) values[i] = random_float(gen->random);
    if (type.dtype == DT_F32 && chance(gen, 50)) {
        weight.data = values;
        weight.source = (Type){0};
        return module_weight(gen->module, &weight);
    }
    uint16_t *half = ARENA_ARRAY(arena, uint16_t, n);
    for (int64_t i = 0; i < n; i++) half[i] = type.dtype == DT_F16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    weight.tensor = weight.name;
    weight.bytes = type.dtype == DT_F32 ? (const void *)values : (const void *)half;
    return module_weight(gen->module, &weight);
}

static DType stored_type(Gen *gen) {
    static const DType types[] = {DT_F32, DT_F32, DT_F16, DT_BF16};
    return types[below(gen, COUNT_OF(types))];
}

// A parameter of a block, or weights of main.
static Value *weights(Gen *gen, Type type, int count) {
    if (!gen->main) return func_param(gen->func, "p", type, count);
    Weight *list[16];
    for (int i = 0; i < (count ? count : 1); i++) list[i] = new_weight(gen, type);
    return func_weights(gen->func, list, count);
}

static Value *matrix(Gen *gen, int rank, const int64_t *dims) { return weights(gen, shape_of(stored_type(gen), rank, dims), 0); }
static Value *vector(Gen *gen, int64_t n) { return weights(gen, shape_of(DT_F32, 1, &n), 0); }

// ---- values ------------------------------------------------------------------------------------------------------------------------------

static void keep(Gen *gen, Value *value) {
    if (gen->count < MOST_VALUES) gen->values[gen->count++] = value;
}

// Prefers young values, so that graphs grow deep.
static Value *any_value(Gen *gen) {
    int back = chance(gen, 60) ? below(gen, 4) : below(gen, gen->count);
    int at = gen->count - 1 - back;
    return gen->values[at < 0 ? 0 : at];
}

static Value *value_like(Gen *gen, const Type *type) {
    for (int tries = 0; tries < 20; tries++) {
        Value *value = any_value(gen);
        if (type_equal(&value->type, type)) return value;
    }
    return NULL;
}

static Node *add(Gen *gen, OpId op, Value *const *operands, int count, const Attr *attrs, int attr_count) {
    Node *node = func_node(gen->func, op, operands, count, attrs, attr_count, NULL, NOWHERE, gen->quiet);
    for (int r = 0; node && r < node->result_count; r++) keep(gen, node->results[r]);
    return node;
}

static Value *one(Gen *gen, OpId op, Value *x) {
    Node *node = add(gen, op, &x, 1, NULL, 0);
    return node ? node->results[0] : NULL;
}

static Value *reshaped(Gen *gen, Value *x, int rank, const int64_t *dims) {
    Attr shape = attr_sizes("shape", dims, rank);
    Node *node = add(gen, OP_RESHAPE, &x, 1, &shape, 1);
    return node ? node->results[0] : NULL;
}

static Value *scalar(Gen *gen) {
    static const double values[] = {0, 1, -1, 0.5, 2, 30};
    Attr attr = attr_number("value", values[below(gen, COUNT_OF(values))]);
    Node *node = func_node(gen->func, OP_CONST, NULL, 0, &attr, 1, NULL, NOWHERE, gen->quiet);
    return node ? node->results[0] : NULL;
}

// Linear to [T, n] of a value flattened to one row.
static Value *project(Gen *gen, Value *x, int64_t n) {
    int64_t flat[] = {x->type.dims[0], type_row_elements(&x->type)};
    if (x->type.rank != 2) x = reshaped(gen, x, 2, flat);
    if (!x) return NULL;
    int64_t dims[] = {n, flat[1]};
    Value *operands[] = {x, matrix(gen, 2, dims), chance(gen, 30) ? vector(gen, n) : NULL};
    Node *node = add(gen, OP_LINEAR, operands, 3, NULL, 0);
    return node ? node->results[0] : NULL;
}

// ---- one step each -------------------------------------------------------------------------------------------------------------------------

static void grow_unary(Gen *gen) {
    static const OpId ops[] = {OP_SILU, OP_GELU, OP_RELU, OP_SIGMOID, OP_TANH, OP_EXP, OP_ABS, OP_NEG, OP_SOFTMAX, OP_RSQRT};
    one(gen, ops[below(gen, COUNT_OF(ops))], any_value(gen));
}

static void grow_binary(Gen *gen) {
    static const OpId ops[] = {OP_ADD, OP_ADD, OP_MUL, OP_MUL, OP_SUB, OP_DIV, OP_MINIMUM, OP_MAXIMUM};
    Value *a = any_value(gen), *b = NULL;
    int64_t last = a->type.dims[a->type.rank - 1];
    switch (below(gen, 5)) {
    case 0: b = scalar(gen); break;
    case 1: b = vector(gen, last); break;
    case 2: {   // an operation on a parameter: folded
        Value *p = vector(gen, last), *pair[] = {p, scalar(gen)};
        Node *node = pair[1] ? func_node(gen->func, chance(gen, 50) ? OP_MUL : OP_ADD, pair, 2, NULL, 0, NULL, NOWHERE, gen->quiet) : NULL;
        b = node ? node->results[0] : NULL;
        break;
    }
    default: b = value_like(gen, &a->type);
    }
    if (b) add(gen, ops[below(gen, COUNT_OF(ops))], chance(gen, 80) ? (Value *[]){a, b} : (Value *[]){b, a}, 2, NULL, 0);
}

static void grow_linear(Gen *gen) {
    static const int64_t sizes[] = {1, 3, 4, 6, 8, 12};
    Value *x = any_value(gen);
    if (type_row_elements(&x->type) > 64) return;
    if (x->type.rank == 3 && chance(gen, 60)) {
        int64_t dims[] = {x->type.dims[1], sizes[below(gen, COUNT_OF(sizes))], x->type.dims[2]};
        Value *operands[] = {x, matrix(gen, 3, dims)};
        add(gen, OP_LINEAR, operands, 2, NULL, 0);
    } else {
        project(gen, x, chance(gen, 50) ? type_row_elements(&gen->values[0]->type) : sizes[below(gen, COUNT_OF(sizes))]);
    }
}

static void grow_gated(Gen *gen) {
    Value *x = any_value(gen);
    if (type_row_elements(&x->type) > 64) return;
    int64_t n = 4 + 2 * below(gen, 4);
    Value *up = chance(gen, 50) ? project(gen, x, n) : NULL, *gate = project(gen, x, n);
    if (!gate) return;
    if (!up) up = project(gen, x, n);
    Value *act = one(gen, chance(gen, 50) ? OP_SILU : OP_GELU, gate);
    if (act && up) add(gen, OP_MUL, (Value *[]){act, up}, 2, NULL, 0);
}

static void grow_norm(Gen *gen) {
    Value *x = any_value(gen);
    int64_t last = x->type.dims[x->type.rank - 1];
    Attr eps = attr_number("eps", 1e-3);
    Value *operands[] = {x, chance(gen, 70) ? vector(gen, last) : NULL, chance(gen, 50) ? vector(gen, last) : NULL};
    if (chance(gen, 60)) add(gen, OP_RMS_NORM, operands, 2, &eps, 1);
    else add(gen, OP_LAYER_NORM, operands, 3, &eps, 1);
}

static void grow_shape(Gen *gen) {
    Value *x = any_value(gen);
    int64_t n = type_row_elements(&x->type), symbol = x->type.dims[0], last = x->type.dims[x->type.rank - 1];
    Attr attrs[] = {attr_number("from", below(gen, 2)), attr_number("to", (double)last), attr_number("axis", -1)};
    switch (below(gen, 6)) {
    case 0: reshaped(gen, x, 2, (int64_t[]){symbol, n}); break;
    case 1: reshaped(gen, x, 3, (int64_t[]){symbol, n % 2 ? 1 : 2, n % 2 ? n : n / 2}); break;
    case 2: add(gen, OP_SLICE, &x, 1, attrs, 3); break;
    case 3: add(gen, OP_CONCAT, (Value *[]){x, any_value(gen)}, 2, NULL, 0); break;
    case 4: {
        Attr sizes = attr_sizes("sizes", (int64_t[]){1, last - 1}, 2);
        add(gen, OP_SPLIT, &x, 1, &sizes, 1);
        break;
    }
    default: {
        Attr axes[] = {attr_number("a", 1), attr_number("b", 2)};
        add(gen, OP_TRANSPOSE, &x, 1, axes, 2);
    }
    }
}

static void grow_reduction(Gen *gen) {
    static const OpId ops[] = {OP_SUM, OP_MEAN, OP_MAX, OP_MIN};
    Value *x = any_value(gen), *m = one(gen, ops[below(gen, COUNT_OF(ops))], x);
    if (m && chance(gen, 50)) add(gen, OP_SUB, (Value *[]){x, m}, 2, NULL, 0);
}

static void grow_choice(Gen *gen) {
    Value *x = any_value(gen);
    Attr k = attr_number("k", 1 + below(gen, 2));
    Node *top = add(gen, OP_TOP_K, &x, 1, &k, 1);
    if (!top) return;
    gen->count--;   // the indices are no f32
    if (chance(gen, 50)) add(gen, OP_GATHER, (Value *[]){x, top->results[1]}, 2, NULL, 0);
}

static void grow_where(Gen *gen) {
    Value *a = any_value(gen), *b = value_like(gen, &a->type), *zero = scalar(gen);
    if (!b || !zero) return;
    Node *less = func_node(gen->func, OP_LT, (Value *[]){a, zero}, 2, NULL, 0, NULL, NOWHERE, gen->quiet);
    if (less) add(gen, OP_WHERE, (Value *[]){less->results[0], a, b}, 3, NULL, 0);
}

static void grow_positions(Gen *gen) {
    Attr type = attr_number("type", DT_F32);
    Node *positions = func_node(gen->func, OP_POSITIONS, NULL, 0, NULL, 0, NULL, NOWHERE, gen->quiet);
    Node *cast = positions ? func_node(gen->func, OP_CAST, positions->results, 1, &type, 1, NULL, NOWHERE, gen->quiet) : NULL;
    Value *x = any_value(gen), *column = cast && x->type.dims[0] == DIM_T ? reshaped(gen, cast->results[0], 2, (int64_t[]){DIM_T, 1}) : NULL;
    if (column && x->type.rank == 2) add(gen, OP_ADD, (Value *[]){x, column}, 2, NULL, 0);
}

static void grow_attention(Gen *gen) {
    Value *x = any_value(gen);
    if (!gen->state || x->type.dims[0] != DIM_T || type_row_elements(&x->type) > 64) return;
    int64_t kv = 1 + below(gen, 2), heads = kv * (1 + below(gen, 2)), head = 4;
    Value *q = project(gen, x, heads * head), *k = project(gen, x, kv * head), *v = project(gen, x, kv * head);
    if (!q || !k || !v) return;
    q = reshaped(gen, q, 3, (int64_t[]){DIM_T, heads, head});
    k = reshaped(gen, k, 3, (int64_t[]){DIM_T, kv, head});
    v = reshaped(gen, v, 3, (int64_t[]){DIM_T, kv, head});
    if (!q || !k || !v) return;
    if (chance(gen, 60)) {
        Attr base = attr_number("base", 100);
        Node *rq = add(gen, OP_ROPE, &q, 1, &base, 1), *rk = add(gen, OP_ROPE, &k, 1, &base, 1);
        if (rq && rk) q = rq->results[0], k = rk->results[0];
    }
    bool latent = chance(gen, 20);
    Attr attrs[] = {attr_number("window", chance(gen, 30) ? 3 : 0), attr_number("v_dims", latent ? 3 : 0), attr_number("softcap", chance(gen, 20) ? 5 : 0)};
    Value *operands[] = {q, k, latent ? NULL : v, chance(gen, 20) ? vector(gen, heads) : NULL, chance(gen, 20) ? vector(gen, heads) : NULL};
    Node *node = add(gen, OP_ATTENTION, operands, 5, attrs, 3);
    if (node && !latent && chance(gen, 70)) {
        Value *flat = reshaped(gen, node->results[0], 2, (int64_t[]){DIM_T, heads * head});
        Value *out = flat ? project(gen, flat, type_row_elements(&x->type)) : NULL;
        if (out && x->type.rank == 2) add(gen, OP_ADD, (Value *[]){x, out}, 2, NULL, 0);
    }
}

static void grow_moe(Gen *gen) {
    if (!gen->expert_count) return;
    Func *expert = gen->experts[below(gen, gen->expert_count)];
    Value *x = value_like(gen, &expert->inputs[0]->type);
    int count = 3;
    Value *logits = x ? project(gen, x, count) : NULL;
    if (!logits) return;
    Value *p = one(gen, OP_SOFTMAX, logits);
    Attr k = attr_number("k", 2);
    Node *top = p ? func_node(gen->func, OP_TOP_K, &p, 1, &k, 1, NULL, NOWHERE, gen->quiet) : NULL;
    if (!top) return;
    Value *operands[3 + 64] = {x, top->results[0], top->results[1]};
    for (int i = 0; i < expert->param_count && i < 64; i++)
        operands[3 + i] = weights(gen, expert->params[i]->type, chance(gen, 85) ? count : 0);
    Attr attrs[] = {attr_func("block", expert), attr_number("count", count)};
    if (expert->param_count <= 64) add(gen, OP_MOE, operands, 3 + expert->param_count, attrs, 2);
}

static void grow_call(Gen *gen) {
    if (!gen->block_count) return;
    Func *block = gen->blocks[below(gen, gen->block_count)];
    Value *x = value_like(gen, &block->inputs[0]->type), *operands[128] = {x};
    if (!x || block->param_count > 100) return;
    for (int calls = 1 + below(gen, 2); calls > 0; calls--) {
        for (int i = 0; i < block->param_count; i++)
            if (calls < 2 || !operands[1 + i]) operands[1 + i] = weights(gen, block->params[i]->type, block->params[i]->count);
        Attr attr = attr_func("block", block);
        Node *node = add(gen, OP_CALL, operands, 1 + block->param_count, &attr, 1);
        if (!node || !type_equal(&node->results[0]->type, &x->type)) return;
        operands[0] = node->results[0];
    }
}

static void grow(Gen *gen) {
    static void (*const steps[])(Gen *) = {
        grow_unary, grow_unary, grow_binary, grow_binary, grow_binary, grow_linear, grow_linear, grow_gated, grow_norm, grow_norm, grow_shape,
        grow_shape, grow_reduction, grow_choice, grow_where, grow_positions, grow_attention, grow_attention, grow_moe, grow_call, grow_call,
    };
    steps[below(gen, COUNT_OF(steps))](gen);
}

// ---- functions and modules -------------------------------------------------------------------------------------------------------------------

static void return_values(Gen *gen, bool same_type) {
    Value *results[3];
    int count = 0, wanted = same_type || gen->main ? 1 : 1 + below(gen, 3);
    if (same_type) {   // the residual stream: what came in, changed
        Value *y = project(gen, gen->values[gen->count - 1], type_row_elements(&gen->values[0]->type));
        if (y) {
            Node *sum = add(gen, OP_ADD, (Value *[]){gen->func->inputs[0], y}, 2, NULL, 0);
            results[count++] = sum ? sum->results[0] : y;
        }
    }
    while (count < wanted) {
        Value *value = chance(gen, 90) ? gen->values[gen->count - 1 - below(gen, gen->count < 4 ? gen->count : 4)] : any_value(gen);
        results[count++] = value;
    }
    func_return(gen->func, results, count);
}

static Func *new_block(Gen *shared, const char *name, int64_t hidden, bool state) {
    Gen gen = *shared;
    gen.func = func_new(gen.module, name);
    gen.main = false, gen.state = state, gen.count = 0;
    if (!state) gen.expert_count = 0, gen.block_count = 0;
    keep(&gen, func_input(gen.func, "x", shape_of(DT_F32, 2, (int64_t[]){DIM_T, hidden})));
    for (int n = 2 + below(&gen, 8); n > 0; n--) grow(&gen);
    return_values(&gen, !state || chance(&gen, 70));
    return gen.func;
}

Module *generate_module(Arena *arena, uint64_t seed, Diags *diags) {
    Random random = {seed * 7919 + 17};
    Gen gen = {.random = &random, .module = module_new(arena, "random"), .quiet = diags_new()};
    int64_t hidden = 2 * (2 + below(&gen, 4));
    gen.module->max_tokens = 16;
    gen.module->max_rows = 16;
    gen.module->max_sequences = 4;
    for (int n = below(&gen, 3); n > 0; n--) {
        Func *expert = new_block(&gen, "expert", hidden, false);
        gen.experts[gen.expert_count++] = expert;
    }
    for (int n = below(&gen, 4); n > 0; n--) {
        Func *block = new_block(&gen, "block", hidden, true);
        gen.blocks[gen.block_count++] = block;
    }
    gen.func = gen.module->main = func_new(gen.module, "model");
    gen.main = gen.state = true;
    Value *ids[] = {func_input(gen.func, "tokens", shape_of(DT_I32, 1, (int64_t[]){DIM_T})), matrix(&gen, 2, (int64_t[]){11, hidden})};
    add(&gen, OP_EMBEDDING, ids, 2, NULL, 0);
    if (chance(&gen, 30)) keep(&gen, func_input(gen.func, "x", shape_of(DT_F32, 2, (int64_t[]){DIM_T, hidden})));
    for (int n = 3 + below(&gen, 10); n > 0; n--) grow(&gen);
    if (chance(&gen, 20)) {   // one row a sequence, and something on top of it
        static const OpId ops[] = {OP_FIRST, OP_LAST, OP_MEAN_TOKENS};
        Value *last = one(&gen, ops[below(&gen, 3)], gen.values[gen.count - 1]);
        gen.values[0] = last;
        if (last) gen.count = 1;
        gen.state = false, gen.block_count = gen.expert_count = 0;
        for (int n = below(&gen, 5); last && n > 0; n--) grow(&gen);
    } else if (chance(&gen, 50)) {
        project(&gen, gen.values[gen.count - 1], 7);
    }
    return_values(&gen, false);
    diags_free(gen.quiet);
    return module_verify(gen.module, diags) ? gen.module : NULL;
}
