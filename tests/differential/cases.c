// Random cases (cases.h). `add` makes one node of an op with operands that suit it; a case is one such node, a graph is many.
#include "cases.h"
#include "ir/dequant.h"
#include <math.h>
#include <string.h>

const int edge_sizes[EDGES] = {1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 24, 31, 32, 33, 40, 47, 48, 63, 64, 65, 96, 100, 127, 130};
enum { MOST = 160 };
typedef struct { Value *value; bool exact; } Held;
typedef struct {
    uint64_t state;
    Arena *arena;
    Module *module;
    Func *func;
    Diags *diags, *quiet;
    Held values[MOST];
    int count;
    bool main, inner;              // inner: an expert's body, one row alone
    OpId broken;
    Coverage *coverage;
    Func *shared;                  // a block that is called more than once
} Gen;

static uint64_t next(Gen *g) {
    uint64_t z = g->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static int below(Gen *g, int n) { return n > 1 ? (int)(next(g) % (uint64_t)n) : 0; }
static bool chance(Gen *g, int percent) { return below(g, 100) < percent; }
static int edge(Gen *g) { return edge_sizes[below(g, EDGES)]; }
static float real(Gen *g) { return (float)((double)(next(g) >> 11) * 0x1p-52 - 1); }

// ---- weights ---------------------------------------------------------------------------------------------------------------------------

static const DType stored_types[] = {DT_F32, DT_F16, DT_BF16, DT_F8E4M3, DT_F8E5M2, DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q2_K, DT_Q3_K,
                                     DT_Q4_K, DT_Q5_K, DT_Q6_K, DT_IQ4_NL, DT_IQ4_XS, DT_MXFP4, DT_F32, DT_F32};

// Bytes that stand for values of a sane size: each block is drawn until it is one.
static void *block_bytes(Gen *g, DType type, int64_t n) {
    const DTypeInfo *info = &dtype_info[type];
    uint8_t *bytes = arena_alloc(g->arena, (size_t)(n / info->block * info->bytes));
    for (int64_t b = 0; b < n / info->block; b++)
        for (bool sane = false; !sane;) {
            float values[256], largest = 0;
            uint8_t *at = bytes + b * info->bytes;
            for (int i = 0; i < info->bytes; i++) at[i] = (uint8_t)next(g);
            dequantize_row(type, at, values, info->block);
            sane = true;
            for (int i = 0; i < info->block; i++) {
                if (!isfinite(values[i])) sane = false;
                largest = fmaxf(largest, fabsf(values[i]));
            }
            sane = sane && largest < 2 && (largest > 1e-3f || info->block == 1);
        }
    return bytes;
}

static Weight *weight(Gen *g, Type type) {
    Weight w = {.name = arena_printf(g->arena, "w%d", g->module->weight_count), .type = type, .source = type, .index = -1, .quantize_to = DT_COUNT};
    int64_t n = type_row_elements(&type);
    w.tensor = w.name;
    if (type.dtype == DT_F32) {
        float *values = ARENA_ARRAY(g->arena, float, n);
        for (int64_t i = 0; i < n; i++) values[i] = real(g);
        w.bytes = values;
    } else if (type.dtype == DT_I32 || type.dtype == DT_BOOL) {
        int32_t *values = ARENA_ARRAY(g->arena, int32_t, n);
        for (int64_t i = 0; i < n; i++)
            if (type.dtype == DT_I32) values[i] = (int32_t)next(g);
            else ((uint8_t *)values)[i] = next(g) & 1;
        w.bytes = values;
    } else w.bytes = block_bytes(g, type.dtype, n);
    return module_weight(g->module, &w);
}

static Type shape(DType dtype, int rank, const int64_t *dims) {
    Type t = {.dtype = dtype, .rank = rank};
    for (int i = 0; i < rank; i++) t.dims[i] = dims[i];
    return t;
}

static Value *param(Gen *g, Type type, int count) {
    if (!g->main) return func_param(g->func, "p", type, count);
    Weight **list = ARENA_ARRAY(g->arena, Weight *, count ? count : 1);
    for (int i = 0; i < (count ? count : 1); i++) list[i] = weight(g, type);
    return func_weights(g->func, list, count);
}

static DType type_for(Gen *g, int64_t k) {
    for (;;) {
        DType t = stored_types[below(g, COUNT_OF(stored_types))];
        if (dtype_info[t].block && k % dtype_info[t].block == 0) return t;
    }
}

static Value *vector(Gen *g, int64_t n) { return param(g, shape(DT_F32, 1, &n), 0); }

// ---- nodes -----------------------------------------------------------------------------------------------------------------------------

static void hold(Gen *g, Value *v, bool exact) {
    if (g->count < MOST) g->values[g->count++] = (Held){v, exact};
}

static bool is_exact(Gen *g, const Value *v) {
    for (int i = 0; i < g->count; i++)
        if (g->values[i].value == v) return g->values[i].exact;
    return false;
}

static Node *node(Gen *g, OpId op, Value *const *operands, int count, const Attr *attrs, int attr_count) {
    // Names that generated code has uses of its own for, then others.
    static const char *const taken[] = {"e", "i", "keys", "values", "seen", "own", "one", "over", "token", "tokens", "source", "length", "sum12", "max7_v", "before9", "bool", "i0", "j",
                                        "pages", "product_f32_v4", "tn_load", "out_0", "x_1", "acc_0", "_Bool", "rows", "scores", "top", "total", "acc"};
    const char *names[8];
    for (int i = 0; i < 8; i++) names[i] = taken[((unsigned)g->func->node_count * 7 + (unsigned)i) % COUNT_OF(taken)];
    Node *n = func_node(g->func, op, operands, count, attrs, attr_count, names, NOWHERE, g->quiet);
    if (!n) return NULL;
    Coverage *c = g->coverage;
    if (c) {
        c->op[op]++;
        for (int i = 0; i < n->operand_count; i++)
            if (n->operands[i] && (n->operands[i]->kind == VALUE_WEIGHT || n->operands[i]->kind == VALUE_PARAM)) c->stored[op][n->operands[i]->type.dtype]++;
        if (n->operand_count && n->operands[0] && n->operands[0]->type.rank)
            for (int e = 0; e < EDGES; e++)
                if (n->operands[0]->type.dims[n->operands[0]->type.rank - 1] == edge_sizes[e]) c->edge[op][e]++;
    }
    return n;
}

static Value *number(Gen *g, double value) {
    Attr a = attr_number("value", value);
    return node(g, OP_CONST, NULL, 0, &a, 1)->results[0];
}

static Value *cast(Gen *g, Value *x, DType type) {
    Attr a = attr_number("type", type);
    Node *n = node(g, OP_CAST, &x, 1, &a, 1);
    return n ? n->results[0] : NULL;
}

static Value *reshape(Gen *g, Value *x, int rank, const int64_t *dims) {
    Attr a = attr_sizes("shape", dims, rank);
    Node *n = node(g, OP_RESHAPE, &x, 1, &a, 1);
    return n ? n->results[0] : NULL;
}

// What a wrong implementation of `op` might give: a hundredth off, one more, the other truth.
static Value *spoil(Gen *g, Value *v) {
    if (v->type.dtype == DT_BOOL) {
        Value *operands[] = {cast(g, v, DT_F32), number(g, 0)};
        return node(g, OP_EQ, operands, 2, NULL, 0)->results[0];
    }
    Value *f = v->type.dtype == DT_F32 ? v : cast(g, v, DT_F32), *pair[] = {f, number(g, 1.02)};
    Value *scaled = node(g, OP_MUL, pair, 2, NULL, 0)->results[0], *sum[] = {scaled, number(g, v->type.dtype == DT_F32 ? 0.05 : 1)};
    f = node(g, OP_ADD, sum, 2, NULL, 0)->results[0];
    return v->type.dtype == DT_F32 ? f : cast(g, f, v->type.dtype);
}

static Node *give(Gen *g, OpId op, Value *const *operands, int count, const Attr *attrs, int attr_count, bool exact) {
    Node *n = node(g, op, operands, count, attrs, attr_count);
    for (int r = 0; n && r < n->result_count; r++) hold(g, g->broken == op ? spoil(g, n->results[r]) : n->results[r], exact);
    return n;
}

static Value *last_held(Gen *g) { return g->values[g->count - 1].value; }

// Rows of a table of random numbers: a new exact value of any shape.
static Value *table_rows(Gen *g, int rank, const int64_t *dims) {
    Type t = {.dtype = DT_F32, .rank = 2, .dims = {VOCABULARY, 1}};
    for (int i = 1; i < rank; i++) t.dims[1] *= dims[i];
    t.dtype = type_for(g, t.dims[1]);
    Value *operands[] = {g->func->inputs[0], param(g, t, 0)};
    Node *n = node(g, OP_EMBEDDING, operands, 2, NULL, 0);
    Value *v = n->results[0];
    if (rank != 2) v = reshape(g, v, rank, dims);
    // grouped formats are one fused multiply-add in compiled code and two roundings in the reference
    hold(g, v, dtype_info[t.dtype].block == 1);
    return v;
}

// A value of the current function: one there is, or a new one. Rows of at most `limit` elements.
static Value *pick(Gen *g, bool exact, int rank, int limit) {
    for (int tries = 0; tries < 12; tries++) {
        int back = chance(g, 60) ? below(g, 4) : below(g, g->count), at = g->count - 1 - back;
        Held *h = &g->values[at < 0 ? 0 : at];
        if (g->count && h->value->type.dtype == DT_F32 && h->value->type.rank >= 1 && h->value->type.dims[0] == DIM_T && (!exact || h->exact) && (!rank || h->value->type.rank == rank) &&
            type_row_elements(&h->value->type) <= limit)
            return h->value;
    }
    int64_t dims[4] = {DIM_T, edge(g), edge(g), 1 + below(g, 3)};
    int r = rank ? rank : chance(g, 60) ? 2 : 3;
    if (r >= 3) dims[1] = 1 + below(g, 5);
    if (r == 4) dims[2] = dims[1], dims[1] = 2, dims[3] = edge(g) % 17 + 1;
    if (r == 2 && dims[1] > limit) dims[1] = limit;
    if (g->inner) return g->func->inputs[0];
    for (int tries = 0; exact && tries < 40; tries++) {
        Value *v = table_rows(g, r, dims);
        if (is_exact(g, v)) return v;
    }
    return table_rows(g, r, dims);
}

// Something that broadcasts with x.
static Value *partner(Gen *g, Value *x, bool exact) {
    int64_t dims[MAX_RANK], last = x->type.dims[x->type.rank - 1];
    switch (below(g, exact || g->inner ? 3 : 5)) {
    case 0: return number(g, (double)(below(g, 9) - 4) / 2);
    case 1: return x->type.rank > 1 ? vector(g, last) : number(g, 0.5);
    case 2:
        for (int i = g->count - 1; i >= 0; i--)
            if (g->values[i].value != x && type_equal(&g->values[i].value->type, &x->type) && (!exact || g->values[i].exact)) return g->values[i].value;
        return x;
    case 3:
        for (int i = 0; i < x->type.rank; i++) dims[i] = x->type.dims[i];
        if (x->type.rank > 1) dims[x->type.rank - 1] = 1;
        return table_rows(g, x->type.rank, dims);
    default: return table_rows(g, x->type.rank, x->type.dims);
    }
}

static Value *tame(Gen *g, Value *x) {   // to −4 … 4
    Attr a[] = {attr_number("lo", -4), attr_number("hi", 4)};
    return node(g, OP_CLAMP, &x, 1, a, 2)->results[0];
}

static Value *project(Gen *g, Value *x, int64_t n) {
    int64_t flat[] = {x->type.dims[0], type_row_elements(&x->type)};
    if (x->type.rank != 2) x = reshape(g, x, 2, flat);
    int64_t dims[] = {n, flat[1]};
    Value *operands[] = {x, param(g, shape(type_for(g, flat[1]), 2, dims), 0), chance(g, 30) ? vector(g, n) : NULL};
    Attr eps = attr_number("eps", 1e-3);   // what follows stays of size 1
    Node *n1 = node(g, OP_LINEAR, operands, 3, NULL, 0);
    if (!n1) return NULL;
    Value *y = n1->results[0];
    return chance(g, 50) ? node(g, OP_RMS_NORM, (Value *[]){y, NULL}, 2, &eps, 1)->results[0] : y;
}

// Heads of a projection, of a piece of a wider one, or of a function of one.
static Value *heads_of(Gen *g, Value *x, int64_t heads, int64_t size) {
    int64_t dims[] = {DIM_T, heads, size}, n = heads * size, sizes[] = {edge(g), n};
    bool piece = chance(g, 25);
    Value *flat = project(g, x, piece ? sizes[0] + n : n);
    Attr a[] = {attr_sizes("sizes", sizes, 2), attr_number("axis", -1)};
    if (flat && piece) flat = node(g, OP_SPLIT, &flat, 1, a, 2)->results[1];
    else if (flat && chance(g, 25)) flat = node(g, OP_SILU, &flat, 1, NULL, 0)->results[0];
    return flat ? reshape(g, flat, 3, dims) : NULL;
}

static Func *make_expert(Gen *outer, int64_t n) {
    Gen g = *outer;
    g.func = func_new(g.module, "expert");
    g.main = false, g.inner = true, g.count = 0;
    int64_t dims[] = {DIM_T, n};
    Value *x = func_input(g.func, "x", shape(DT_F32, 2, dims));
    hold(&g, x, false);
    int64_t wide = edge(&g), up[] = {wide, n}, down[] = {n, wide};
    Value *a[] = {x, func_param(g.func, "gate", shape(type_for(&g, n), 2, up), 0)}, *b[] = {x, func_param(g.func, "up", shape(type_for(&g, n), 2, up), 0)};
    Value *gate = node(&g, OP_LINEAR, a, 2, NULL, 0)->results[0], *values[] = {node(&g, OP_SILU, &gate, 1, NULL, 0)->results[0], node(&g, OP_LINEAR, b, 2, NULL, 0)->results[0]};
    Value *h = node(&g, OP_MUL, values, 2, NULL, 0)->results[0];
    Attr eps = attr_number("eps", 1e-3);
    Value *norm[] = {h, chance(&g, 50) ? func_param(g.func, "norm", shape(DT_F32, 1, &wide), 0) : NULL};
    if (chance(&g, 50)) h = node(&g, OP_RMS_NORM, norm, 2, &eps, 1)->results[0];
    Value *c[] = {h, func_param(g.func, "down", shape(type_for(&g, wide), 2, down), 0)};
    Value *result = node(&g, OP_LINEAR, c, 2, NULL, 0)->results[0];
    func_return(g.func, &result, 1);
    outer->state = g.state;
    return g.func;
}

static void grow(Gen *g);

static Func *make_block(Gen *outer, int64_t n) {
    Gen g = *outer;
    g.func = func_new(g.module, "block");
    g.main = false, g.inner = true, g.count = 0;
    int64_t dims[] = {DIM_T, n};
    Value *x = func_input(g.func, "x", shape(DT_F32, 2, dims));
    hold(&g, x, false);
    for (int i = below(&g, 3); i > 0; i--) grow(&g);
    Value *q = heads_of(&g, x, 2, 8), *k = heads_of(&g, x, 1, 8), *v = heads_of(&g, x, 1, 8), *qkv[] = {q, k, v};
    Attr base = attr_number("base", 100);
    qkv[0] = node(&g, OP_ROPE, &q, 1, &base, 1)->results[0];
    qkv[1] = node(&g, OP_ROPE, &k, 1, &base, 1)->results[0];
    Value *a = node(&g, OP_ATTENTION, qkv, 3, NULL, 0)->results[0], *sum[] = {x, project(&g, a, n)};
    Value *result = node(&g, OP_ADD, sum, 2, NULL, 0)->results[0];
    func_return(g.func, &result, 1);
    outer->state = g.state;
    return g.func;
}

static void add_call(Gen *g) {
    if (!g->shared) g->shared = make_block(g, 1 + edge(g) % 40);
    Func *f = g->shared;
    int64_t dims[] = {DIM_T, f->inputs[0]->type.dims[1]};
    Value *operands[160] = {table_rows(g, 2, dims)};
    if (f->param_count > 150) return;
    for (int calls = 0; calls < 2; calls++) {
        for (int i = 0; i < f->param_count; i++) operands[1 + i] = param(g, f->params[i]->type, f->params[i]->count);
        Attr a = attr_func("block", f);
        if (!give(g, OP_CALL, operands, 1 + f->param_count, &a, 1, false)) return;
        operands[0] = last_held(g);
    }
}

static void add_moe(Gen *g) {
    int count = 2 + below(g, 5), k = 1 + below(g, count);
    Value *x = pick(g, false, 2, 100), *logits, *operands[16];
    if (x->type.dtype != DT_F32 || x->type.dims[0] != DIM_T) return;
    int64_t dims[] = {DIM_T, count};
    logits = table_rows(g, 2, dims);   // the choice is exact
    for (int i = 0; i < 20 && !is_exact(g, logits); i++) logits = table_rows(g, 2, dims);
    if (!is_exact(g, logits)) return;
    Attr tk = attr_number("k", k);
    Node *top = node(g, OP_TOP_K, &logits, 1, &tk, 1);
    Func *expert = make_expert(g, x->type.dims[1]);
    operands[0] = x, operands[1] = top->results[0], operands[2] = top->results[1];
    for (int i = 0; i < expert->param_count; i++) operands[3 + i] = param(g, expert->params[i]->type, count);
    Attr a[] = {attr_func("block", expert), attr_number("count", count)};
    give(g, OP_MOE, operands, 3 + expert->param_count, a, 2, false);
}

static void add_attention(Gen *g) {
    static const int sizes[] = {1, 4, 8, 16, 17, 33, 40, 64, 72};
    int64_t kv = 1 + below(g, 3), heads = kv * (1 + below(g, 4)), d = sizes[below(g, COUNT_OF(sizes))], dv = sizes[below(g, COUNT_OF(sizes))];
    bool latent = chance(g, 20);
    Value *x = pick(g, false, 0, 200), *operands[] = {heads_of(g, x, heads, d), heads_of(g, x, kv, d), latent ? NULL : heads_of(g, x, kv, dv),
                                                      chance(g, 25) ? vector(g, heads) : NULL, chance(g, 25) ? vector(g, heads) : NULL};
    Attr a[] = {attr_number("window", chance(g, 40) ? (1 + below(g, 80)) * (chance(g, 40) ? 5 : 1) : 0), attr_number("softcap", chance(g, 25) ? 3 : 0), attr_number("v_dims", latent ? 1 + below(g, (int)d) : 0),
                attr_number("scale", chance(g, 30) ? 0.2 : 0)};
    give(g, OP_ATTENTION, operands, 5, a, 4, false);
}

// One node of this op with operands that suit it; nothing when it cannot be made here.
static void add(Gen *g, OpId op) {
    Value *x, *pair[3];
    Attr a[5];
    int64_t dims[MAX_RANK];
    Node *n;
    switch (op) {
    case OP_EMBEDDING: {
        Type t = {.rank = 2, .dims = {VOCABULARY, edge(g)}};
        t.dtype = type_for(g, t.dims[1]);
            pair[0] = g->func->inputs[0], pair[1] = param(g, t, 0);
        if (!g->inner) give(g, op, pair, 2, NULL, 0, dtype_info[t.dtype].block == 1);
        break;
    }
    case OP_LINEAR:
        x = pick(g, false, 0, 600);
        if (x->type.rank == 3 && chance(g, 60)) {
            dims[0] = x->type.dims[1], dims[1] = edge(g), dims[2] = x->type.dims[2];
            pair[0] = x, pair[1] = param(g, shape(type_for(g, dims[2]), 3, dims), 0);
            give(g, op, pair, 2, NULL, 0, false);
        } else {
            dims[0] = edge(g), dims[1] = x->type.dims[x->type.rank - 1];
            if (x->type.rank != 2) {
                int64_t flat[] = {DIM_T, dims[1] = type_row_elements(&x->type)};
                x = reshape(g, x, 2, flat);
            }
            pair[0] = x, pair[1] = param(g, shape(type_for(g, dims[1]), 2, dims), 0), pair[2] = chance(g, 40) ? vector(g, dims[0]) : NULL;
            if (!give(g, op, pair, 3, NULL, 0, false) || !chance(g, 10)) break;
            Value *sum = last_held(g);
            for (int i = 0; i < 10; i++) {   // more products of the same x than one kernel holds
                Value *more[] = {x, param(g, shape(DT_F32, 2, dims), 0)}, *both[] = {sum, node(g, op, more, 2, NULL, 0)->results[0]};
                sum = node(g, OP_ADD, both, 2, NULL, 0)->results[0];
            }
            hold(g, sum, false);
        }
        break;
    case OP_RMS_NORM: case OP_LAYER_NORM: {
        x = pick(g, false, 0, 2000);
        int64_t last = x->type.dims[x->type.rank - 1];
        pair[0] = x, pair[1] = chance(g, 70) ? vector(g, last) : NULL, pair[2] = chance(g, 50) ? vector(g, last) : NULL;
        a[0] = attr_number("eps", 0.01), a[1] = attr_number("offset", chance(g, 30));
        give(g, op, pair, op == OP_RMS_NORM ? 2 : 3, a, op == OP_RMS_NORM ? 2 : 1, false);
        break;
    }
    case OP_ROPE: {
        x = pick(g, false, 0, 2000);
        int last = (int)x->type.dims[x->type.rank - 1], d = last / 2 * 2;
        if (x->type.rank < 2 || d < 2) break;
        if (chance(g, 30) && d > 2) d = 2 + 2 * below(g, d / 2);
        pair[0] = x, pair[1] = chance(g, 30) ? NULL : NULL;
        a[0] = attr_number("base", chance(g, 50) ? 10000 : 7), a[1] = attr_number("dims", d), a[2] = attr_text("style", chance(g, 50) ? "half" : "interleaved"), a[3] = attr_number("mscale", chance(g, 30) ? 1.2 : 1);
        give(g, op, pair, 1, a, 4, false);
        break;
    }
    case OP_ATTENTION: add_attention(g); break;
    case OP_MOE: if (g->main) add_moe(g); break;
    case OP_CALL: if (g->main) add_call(g); break;
    case OP_SOFTMAX: x = pick(g, false, 0, 3000); give(g, op, &x, 1, NULL, 0, false); break;
    case OP_TOP_K: {
        x = pick(g, true, 0, 400);
        int last = (int)x->type.dims[x->type.rank - 1];
        if (!is_exact(g, x) || x->type.rank < 2) break;
        int groups = last % 4 == 0 && chance(g, 30) ? 2 : 1, keep = 1 + below(g, groups), open = last / groups * keep;
        a[0] = attr_number("k", 1 + below(g, open < 8 ? open : 8)), a[1] = attr_number("normalize", 0), a[2] = attr_number("groups", groups), a[3] = attr_number("keep", keep);
        a[4] = attr_number("score", 1 + below(g, 2));
        n = give(g, op, &x, 1, a, 5, true);
        if (n) {   // and the indices, as numbers
            Value *index = g->values[g->count - 1].value;
            g->count--;
            hold(g, cast(g, index, DT_F32), true);
        }
        break;
    }
    case OP_GATHER: {
        if (chance(g, 30)) {   // from one row for all, at places of rank 3
            x = pick(g, true, 3, 400);
            if (!is_exact(g, x)) break;
            int64_t last = x->type.dims[2];
            a[0] = attr_number("k", 1 + below(g, last < 5 ? (int)last : 5));
            n = node(g, OP_TOP_K, &x, 1, a, 1);
            pair[0] = vector(g, last), pair[1] = n->results[1];
            give(g, op, pair, 2, NULL, 0, true);
            break;
        }
        x = pick(g, true, 2, 400);
        if (!is_exact(g, x)) break;
        int last = (int)x->type.dims[1];
        a[0] = attr_number("k", 1 + below(g, last < 5 ? last : 5));
        n = node(g, OP_TOP_K, &x, 1, a, 1);
        dims[0] = DIM_T, dims[1] = last;
        pair[0] = table_rows(g, 2, dims), pair[1] = n->results[1];
        give(g, op, pair, 2, NULL, 0, is_exact(g, pair[0]));
        break;
    }
    case OP_SILU: case OP_GELU: case OP_RELU: case OP_SIGMOID: case OP_TANH: case OP_ABS: case OP_NEG:
        x = pick(g, false, 0, 3000);
        a[0] = attr_number("tanh", below(g, 2));
        give(g, op, &x, 1, a, op == OP_GELU, (op == OP_RELU || op == OP_ABS || op == OP_NEG) && is_exact(g, x));
        break;
    case OP_EXP: x = tame(g, pick(g, false, 0, 3000)); give(g, op, &x, 1, NULL, 0, false); break;
    case OP_LOG: case OP_SQRT: case OP_RSQRT:
        x = pick(g, false, 0, 3000);
        x = node(g, OP_ABS, &x, 1, NULL, 0)->results[0];
        pair[0] = x, pair[1] = number(g, 0.25);
        x = node(g, OP_ADD, pair, 2, NULL, 0)->results[0];
        give(g, op, &x, 1, NULL, 0, false);
        break;
    case OP_POW:
        x = tame(g, pick(g, false, 0, 3000));
        x = node(g, OP_ABS, &x, 1, NULL, 0)->results[0];
        pair[0] = x, pair[1] = number(g, 0.5);
        pair[0] = node(g, OP_ADD, pair, 2, NULL, 0)->results[0], pair[1] = number(g, (double)(below(g, 9) - 4) / 2);
        give(g, op, pair, 2, NULL, 0, false);
        break;
    case OP_DIV:
        x = pick(g, false, 0, 3000), pair[0] = x;
        pair[1] = partner(g, x, false);
        pair[1] = node(g, OP_ABS, &pair[1], 1, NULL, 0)->results[0];
        pair[1] = node(g, OP_ADD, (Value *[]){pair[1], number(g, 0.5)}, 2, NULL, 0)->results[0];
        give(g, op, pair, 2, NULL, 0, false);
        break;
    case OP_ADD: case OP_SUB: case OP_MUL: case OP_MINIMUM: case OP_MAXIMUM: {
        bool exact = chance(g, 30);
        x = pick(g, exact, 0, 3000), pair[0] = x, pair[1] = partner(g, x, exact);
        if (chance(g, 30)) pair[1] = pair[0], pair[0] = partner(g, x, exact);
        give(g, op, pair, 2, NULL, 0, is_exact(g, pair[0]) && is_exact(g, pair[1]));
        break;
    }
    case OP_LT: case OP_LE: case OP_EQ: case OP_NE:
        x = pick(g, true, 0, 3000), pair[0] = x, pair[1] = partner(g, x, true);
        if (!is_exact(g, x)) break;
        if (chance(g, 25)) {   // of truths
            pair[0] = node(g, OP_LT, (Value *[]){pair[0], number(g, 0)}, 2, NULL, 0)->results[0];
            pair[1] = node(g, OP_LT, (Value *[]){pair[1], number(g, 0.25)}, 2, NULL, 0)->results[0];
        }
        n = node(g, op, pair, 2, NULL, 0);
        if (n) hold(g, cast(g, g->broken == op ? spoil(g, n->results[0]) : n->results[0], DT_F32), true);
        break;
    case OP_WHERE:
        x = pick(g, true, 0, 3000);
        if (!is_exact(g, x)) break;
        n = node(g, OP_LT, (Value *[]){x, number(g, 0)}, 2, NULL, 0);
        pair[0] = n->results[0], pair[1] = x, pair[2] = partner(g, x, false);
        if (x->type.rank > 1 && chance(g, 30)) pair[0] = param(g, shape(DT_BOOL, 1, &x->type.dims[x->type.rank - 1]), 0);
        give(g, op, pair, 3, NULL, 0, false);
        break;
    case OP_CLAMP: x = pick(g, false, 0, 3000); a[0] = attr_number("lo", -0.25), a[1] = attr_number("hi", 0.5); give(g, op, &x, 1, a, 2, is_exact(g, x)); break;
    case OP_CAST: {
        static const DType types[] = {DT_F32, DT_I32, DT_BOOL, DT_F16, DT_BF16};
        x = pick(g, true, 0, 3000);
        if (!is_exact(g, x)) break;
        pair[0] = x, pair[1] = number(g, chance(g, 20) ? 3e9 : 3.3);   // beyond the integers, too
        if (chance(g, 50)) x = node(g, OP_MUL, pair, 2, NULL, 0)->results[0];
        if (x->type.rank > 1 && chance(g, 20)) {   // sums that go round, with an integer parameter
            pair[0] = cast(g, x, DT_I32), pair[1] = param(g, shape(DT_I32, 1, &x->type.dims[x->type.rank - 1]), 0);
            x = node(g, OP_ADD, pair, 2, NULL, 0)->results[0];
        }
        a[0] = attr_number("type", types[below(g, COUNT_OF(types))]);
        n = node(g, op, &x, 1, a, 1);
        if (n) x = g->broken == op ? spoil(g, n->results[0]) : n->results[0];
        if (n) hold(g, x->type.dtype == DT_F32 ? x : cast(g, x, DT_F32), true);
        break;
    }
    case OP_CONST:
        x = pick(g, false, 0, 3000);
        pair[0] = x, pair[1] = number(g, real(g));
        if (g->broken == op) pair[1] = spoil(g, pair[1]);
        give(g, OP_ADD, pair, 2, NULL, 0, false);
        break;
    case OP_RESHAPE: {
        x = pick(g, false, 0, 3000);
        int64_t total = type_row_elements(&x->type), parts = 1 + below(g, 6);
        while (total % parts) parts--;
        dims[0] = DIM_T, dims[1] = parts, dims[2] = total / parts;
        a[0] = attr_sizes("shape", dims, 3);
        give(g, op, &x, 1, a, 1, is_exact(g, x));
        break;
    }
    case OP_TRANSPOSE:
        x = pick(g, false, 3, 3000);
        if (x->type.rank != 3) break;
        a[0] = attr_number("a", 1), a[1] = attr_number("b", 2);
        give(g, op, &x, 1, a, 2, is_exact(g, x));
        break;
    case OP_CONCAT: {
        x = pick(g, false, 0, 1000);
        int axis = x->type.rank > 2 && chance(g, 50) ? 1 : x->type.rank - 1;
        if (x->type.rank < 2) break;
        if (!g->inner && chance(g, 10)) {   // many inputs and parameters
            Value *many[40];
            for (int i = 0; i < 40; i++) many[i] = chance(g, 50) ? table_rows(g, 2, (int64_t[]){DIM_T, 1 + below(g, 5)}) : project(g, pick(g, false, 2, 100), 1 + below(g, 3));
            give(g, op, many, 40, NULL, 0, false);
            break;
        }
        memcpy(dims, x->type.dims, sizeof dims);
        dims[axis] = 1 + below(g, 20);
        pair[0] = x, pair[1] = g->inner ? x : table_rows(g, x->type.rank, dims), pair[2] = x;
        a[0] = attr_number("axis", axis);
        give(g, op, pair, 2 + below(g, 2), a, 1, is_exact(g, x) && is_exact(g, pair[1]));
        break;
    }
    case OP_SPLIT: case OP_SLICE: {
        x = pick(g, false, 0, 3000);
        int axis = x->type.rank > 2 && chance(g, 50) ? 1 : x->type.rank - 1, size = (int)x->type.dims[axis];
        if (x->type.rank < 2 || size < 2) break;
        int at = 1 + below(g, size - 1);
        dims[0] = at, dims[1] = size - at;
        if (op == OP_SPLIT) a[0] = attr_sizes("sizes", dims, 2), a[1] = attr_number("axis", axis);
        else a[0] = attr_number("from", below(g, at)), a[1] = attr_number("to", at), a[2] = attr_number("axis", axis);
        give(g, op, &x, 1, a, op == OP_SPLIT ? 2 : 3, is_exact(g, x));
        break;
    }
    case OP_EXPAND: {
        x = pick(g, false, 2, 190);
        if (x->type.rank != 2) break;
        dims[0] = DIM_T, dims[1] = x->type.dims[1], dims[2] = 1;
        int64_t wide[] = {DIM_T, dims[1], 1 + below(g, 20)};
        bool exact = is_exact(g, x);
        if (!(x = reshape(g, x, 3, dims))) break;
        a[0] = attr_sizes("shape", wide, 3);
        give(g, op, &x, 1, a, 1, exact);
        break;
    }
    case OP_SUM: case OP_MEAN: case OP_MAX: case OP_MIN:
        x = pick(g, false, 0, 3000);
        if (x->type.rank < 2) break;
        a[0] = attr_number("axis", x->type.rank > 2 && chance(g, 50) ? 1 : x->type.rank - 1);
        give(g, op, &x, 1, a, 1, (op == OP_MAX || op == OP_MIN) && is_exact(g, x));
        break;
    case OP_POSITIONS:
        if (g->inner) break;
        n = node(g, op, NULL, 0, NULL, 0);
        x = cast(g, g->broken == op ? spoil(g, n->results[0]) : n->results[0], DT_F32);
        dims[0] = DIM_T, dims[1] = 1;
        x = reshape(g, x, 2, dims);
        pair[0] = x, pair[1] = number(g, 0.0078125);
        hold(g, node(g, OP_MUL, pair, 2, NULL, 0)->results[0], true);
        break;
    default: break;
    }
}

static void grow(Gen *g) {
    static const OpId common[] = {OP_LINEAR, OP_LINEAR, OP_LINEAR, OP_ADD, OP_MUL, OP_SILU, OP_RMS_NORM, OP_ATTENTION, OP_RESHAPE, OP_ROPE};
    OpId op = chance(g, 40) ? common[below(g, COUNT_OF(common))] : (OpId)below(g, OP_COUNT);
    if (op == OP_FIRST || op == OP_LAST || op == OP_MEAN_TOKENS || (g->inner && op_info(op)->flags & (STATE | CALL))) return;
    add(g, op);
}

// The result is everything of interest side by side, [T, n] of f32.
static void finish(Gen *g, int wanted, OpId sequence) {
    Value *parts[8] = {0};
    int count = 0;
    for (int i = g->count - 1; i >= 0 && count < wanted; i--) {
        Value *v = g->values[i].value;
        if (v->type.dtype != DT_F32 || v->type.rank < 1 || v->type.dims[0] != DIM_T || type_row_elements(&v->type) > 4000) continue;
        int64_t flat[] = {DIM_T, type_row_elements(&v->type)};
        parts[count++] = v->type.rank == 2 ? v : reshape(g, v, 2, flat);
    }
    Value *result = parts[0];
    if (count > 1) result = node(g, OP_CONCAT, parts, count, NULL, 0)->results[0];
    if (sequence != OP_COUNT) {
        result = node(g, sequence, &result, 1, NULL, 0)->results[0];
        if (g->broken == sequence) result = spoil(g, result);
    }
    func_return(g->func, &result, 1);
}

static void begin(Gen *g, Arena *arena, uint64_t seed, Coverage *coverage, Diags *diags) {
    *g = (Gen){.state = seed * 1000003 + 12345, .arena = arena, .module = module_new(arena, "case"), .diags = diags, .quiet = diags_new(), .main = true, .broken = OP_COUNT, .coverage = coverage};
    g->module->context = 512;
    g->module->max_tokens = 576;
    g->module->max_rows = g->module->max_tokens;
    g->module->max_sequences = 8;
    g->func = g->module->main = func_new(g->module, "model");
    int64_t t = DIM_T;
    func_input(g->func, "tokens", shape(DT_I32, 1, &t));
}

// Blocks that main calls were made after it: main goes last.
static Module *end(Gen *g, Diags *diags) {
    Module *m = g->module;
    for (int i = 0; i < m->func_count - 1; i++)
        if (m->funcs[i] == m->main) {
            for (int j = i; j < m->func_count - 1; j++) m->funcs[j] = m->funcs[j + 1];
            m->funcs[m->func_count - 1] = m->main;
            break;
        }
    diags_free(g->quiet);
    return module_verify(m, diags) ? m : NULL;
}

Module *case_module(Arena *arena, OpId op, uint64_t seed, bool broken, Coverage *coverage, Diags *diags) {
    bool sequence = op == OP_FIRST || op == OP_LAST || op == OP_MEAN_TOKENS;
    if (op_info(op)->flags & INTERNAL && op != OP_CALL) return NULL;
    Gen g;
    begin(&g, arena, seed, coverage, diags);
    if (broken) g.broken = op;
    bool made = sequence;
    for (int tries = 0; tries < 60 && !made; tries++) {
        int nodes = g.func->node_count;
        add(&g, op);
        for (int i = nodes; i < g.func->node_count; i++) made |= g.func->nodes[i]->op == op;
    }
    if (sequence) table_rows(&g, 2, (int64_t[]){DIM_T, edge(&g)});
    if (!g.count || !made) {
        diags_free(g.quiet);
        return NULL;
    }
    finish(&g, op == OP_TOP_K || op == OP_SPLIT ? 2 : 1, sequence ? op : OP_COUNT);
    return end(&g, diags);
}

Module *graph_module(Arena *arena, uint64_t seed, Coverage *coverage, Diags *diags) {
    static const OpId sequences[] = {OP_FIRST, OP_LAST, OP_MEAN_TOKENS};
    Gen g;
    begin(&g, arena, seed, coverage, diags);
    table_rows(&g, 2, (int64_t[]){DIM_T, edge(&g)});
    for (int n = 4 + below(&g, 12); n > 0; n--) grow(&g);
    if (!g.count) return NULL;
    if (chance(&g, 40)) {   // a head, as language models have
        Value *x = pick(&g, false, 0, 2000);
        if (x->type.dims[0] == DIM_T) hold(&g, project(&g, x, edge(&g)), false);
        finish(&g, 1, OP_COUNT);
    } else finish(&g, 1 + below(&g, 5), chance(&g, 15) ? sequences[below(&g, 3)] : OP_COUNT);
    return end(&g, diags);
}

// ---- products of int8 codes ------------------------------------------------------------------------------------------------------------

// One product of x, in groups of `group` (0: whole rows), with a weight of this type; NULL when the groups do not fit. `prune`: NULL or
// what makes zeros of it.
static Value *product_of(Gen *g, Value *x, DType type, int64_t outputs, int64_t group, const Prune *prune) {
    GroupedFormat f = {0};
    int64_t k = x->type.dims[1], dims[] = {outputs, k}, x_group = group ? group : k;
    if (dtype_info[type].block && k % dtype_info[type].block) return NULL;
    int64_t w_group = grouped_format(type, &f) ? f.group : k, sums = w_group < x_group ? w_group : x_group;
    int unit = f.bits == 5 || type == DT_W5 ? 32 : 16;   // of codes that lie together
    if (x_group % w_group && w_group % x_group) return NULL;
    if ((f.bits == 5 || f.bits == 6 || type == DT_W5 || type == DT_W6) && (w_group < x_group ? w_group : x_group) % unit) return NULL;
    Attr a[] = {attr_number("group", (double)group), attr_number("sums", sums % 32 == 0 && chance(g, 30) ? 16 : sums < k ? (double)sums : 0)};
    Node *q = node(g, OP_QUANTIZE_ROWS, &x, 1, a, 2);
    if (!q) return NULL;
    Weight *w = weight(g, shape(row_code_bits(type) || prune ? DT_F32 : type, 2, dims));
    if (row_code_bits(type) || prune) w->quantize_to = type;
    if (prune) w->prune = *prune;
    Value *operands[] = {q->results[0], q->results[1], q->results[2], func_weights(g->func, &w, 0), chance(g, 50) ? vector(g, outputs) : NULL};
    Node *product = node(g, OP_LINEAR_I8, operands, 5, NULL, 0);
    return product ? product->results[0] : NULL;
}

enum { PRODUCT_SHAPES = 12 };
static const DType product_types[] = {DT_W8, DT_W6, DT_W5, DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1, DT_Q2_K, DT_Q3_K, DT_Q4_K, DT_Q5_K, DT_Q6_K, DT_W8G64, DT_W8G128, DT_W4G64,
                                      DT_W4G128, DT_W4MG64, DT_W4MG128};

Module *product_module(Arena *arena, uint64_t seed, Diags *diags) {
    static const struct { int k, outputs, group; } shapes[PRODUCT_SHAPES] = {{256, 65, 0}, {256, 17, 16}, {256, 66, 32}, {512, 5, 64}, {512, 3, 128}, {768, 1, 256},
                                                                             {96, 63, 32}, {100, 70, 0}, {320, 33, 32}, {576, 15, 64}, {1120, 40, 0}, {2080, 9, 32}};
    Gen g;
    begin(&g, arena, seed, NULL, diags);
    int64_t k = shapes[seed % PRODUCT_SHAPES].k, outputs = shapes[seed % PRODUCT_SHAPES].outputs;
    Type table = {.dtype = DT_F32, .rank = 2, .dims = {VOCABULARY, k}};
    Value *operands[] = {g.func->inputs[0], param(&g, table, 0)}, *x = node(&g, OP_EMBEDDING, operands, 2, NULL, 0)->results[0], *parts[COUNT_OF(product_types)];
    int count = 0;
    for (size_t t = 0; t < COUNT_OF(product_types); t++) {
        Value *y = product_of(&g, x, product_types[t], outputs, shapes[seed % PRODUCT_SHAPES].group, NULL);
        if (y) parts[count++] = y;
    }
    if (!count) return NULL;
    Value *result = count > 1 ? node(&g, OP_CONCAT, parts, count, NULL, 0)->results[0] : parts[0];
    func_return(g.func, &result, 1);
    return end(&g, diags);
}

// ---- sparse ----------------------------------------------------------------------------------------------------------------------------

static const DType pruned_types[] = {DT_W8, DT_W6, DT_W5, DT_Q8_0, DT_Q4_0, DT_W8G64, DT_W4G64, DT_W4G128};
static const DType pruned_floats[] = {DT_F16, DT_BF16, DT_W8, DT_W4G64, DT_F32};

static Value *pruned_floats_of(Gen *g, Value *x, DType type, int64_t outputs, const Prune *prune) {
    GroupedFormat f = {0};
    int64_t k = x->type.dims[1], dims[] = {outputs, k};
    if (grouped_format(type, &f) && k % f.group) return NULL;
    Weight *w = weight(g, shape(DT_F32, 2, dims));
    w->quantize_to = type;
    w->prune = *prune;
    return node(g, OP_LINEAR, (Value *[]){x, func_weights(g->func, &w, 0), NULL}, 3, NULL, 0)->results[0];
}

// One value of a row or all of them; ends of rows and of outputs; blocks of whole panels and others; several matrices in a kernel.
Module *sparse_module(Arena *arena, uint64_t seed, Diags *diags) {
    enum { SHAPES = 18 };
    static const struct { int k, outputs, group, keep, of, rows, columns; } shapes[SHAPES] = {
        {256, 65, 0, 154, 256, 1, 1}, {256, 130, 32, 2, 4, 1, 1},    {1024, 40, 0, 5, 8, 64, 64},     {100, 70, 0, 60, 100, 1, 1}, {640, 65, 32, 3, 10, 64, 64},
        {512, 64, 64, 1, 512, 1, 1},  {512, 3, 128, 512, 512, 1, 1}, {2304, 130, 32, 4, 9, 64, 128},  {768, 1, 256, 300, 768, 1, 1},
        {96, 63, 32, 1, 2, 1, 1},     {2080, 9, 32, 1248, 2080, 1, 1}, {320, 33, 32, 3, 5, 16, 4},    {1120, 40, 0, 7, 10, 64, 32},
        {576, 128, 32, 4, 8, 1, 1},   {8, 20, 0, 1, 8, 1, 1},        {2304, 66, 0, 3, 4, 1, 1},       {1000, 17, 0, 2, 3, 1, 7},   {640, 64, 128, 1, 5, 64, 128}};
    Gen g;
    begin(&g, arena, seed, NULL, diags);
    int n = (int)(seed % SHAPES), count = 0;
    int64_t k = shapes[n].k, outputs = shapes[n].outputs;
    Prune prune = {.keep = shapes[n].keep, .of = shapes[n].of, .rows = shapes[n].rows, .columns = shapes[n].columns};
    Value *embed[] = {g.func->inputs[0], param(&g, shape(DT_F32, 2, (int64_t[]){VOCABULARY, k}), 0)}, *parts[COUNT_OF(pruned_types) + COUNT_OF(pruned_floats) + 2];   // a third of the types
    Value *x = node(&g, OP_EMBEDDING, embed, 2, NULL, 0)->results[0], *y;
    for (int i = 0; i < 2; i++) {   // one dense beside it
        y = product_of(&g, x, DT_W8, outputs, shapes[n].group, i ? &prune : NULL);
        parts[count++] = y;
    }
    for (size_t t = 0; t < COUNT_OF(pruned_types); t++)
        if (shapes[n].rows == 64 && (t + seed) % 3 == 0 && (y = product_of(&g, x, pruned_types[t], outputs, shapes[n].group, &prune))) parts[count++] = y;
    for (size_t t = 0; t < COUNT_OF(pruned_floats); t++)
        if (shapes[n].rows == 64 && (t + seed) % 3 == 0 && (y = pruned_floats_of(&g, x, pruned_floats[t], outputs, &prune))) parts[count++] = y;
    parts[0] = node(&g, OP_MUL, (Value *[]){parts[0], parts[1]}, 2, NULL, 0)->results[0];
    Value *result = node(&g, OP_CONCAT, parts, count, NULL, 0)->results[0];
    func_return(g.func, &result, 1);
    return end(&g, diags);
}

// ---- mixtures --------------------------------------------------------------------------------------------------------------------------

// A norm, a router and its experts: two to many, of which a token chooses one, some or all; the router may like two of them most.
Module *mixture_module(Arena *arena, uint64_t seed, Diags *diags) {
    static const struct { int experts, chosen, n; } shapes[] = {{2, 1, 64}, {3, 3, 130}, {5, 2, 96}, {16, 2, 128}, {16, 16, 64}, {64, 6, 64}, {256, 8, 32}, {7, 1, 256}};
    Gen g;
    begin(&g, arena, seed, NULL, diags);
    int experts = shapes[seed % COUNT_OF(shapes)].experts, n = shapes[seed % COUNT_OF(shapes)].n;
    Type table = shape(DT_F32, 2, (int64_t[]){VOCABULARY, n}), router = shape(DT_F32, 2, (int64_t[]){experts, n}), likes = shape(DT_F32, 1, (int64_t[]){experts});
    Value *embed[] = {g.func->inputs[0], param(&g, table, 0)}, *x = node(&g, OP_EMBEDDING, embed, 2, NULL, 0)->results[0];
    Weight *liked = weight(&g, likes);
    for (int e = 0; e < experts; e++) ((float *)(void *)(uintptr_t)liked->bytes)[e] = seed / COUNT_OF(shapes) % 2 && e < 2 ? 3.0f : 0.0f;
    Attr eps = attr_number("eps", 1e-3), top[] = {attr_number("k", shapes[seed % COUNT_OF(shapes)].chosen), attr_number("normalize", chance(&g, 50))};
    Value *h = node(&g, OP_RMS_NORM, (Value *[]){x, vector(&g, n)}, 2, &eps, 1)->results[0];
    Value *scores = node(&g, OP_LINEAR, (Value *[]){h, param(&g, router, 0), func_weights(g.func, &liked, 0)}, 3, NULL, 0)->results[0];
    Node *choice = node(&g, OP_TOP_K, (Value *[]){node(&g, OP_SOFTMAX, &scores, 1, NULL, 0)->results[0]}, 1, top, 2);
    Func *expert = make_expert(&g, n);
    Value *operands[16] = {h, choice->results[0], choice->results[1]};
    for (int i = 0; i < expert->param_count; i++) operands[3 + i] = param(&g, expert->params[i]->type, i % 2 && chance(&g, 20) ? 0 : experts);
    Attr a[] = {attr_func("block", expert), attr_number("count", experts)};
    Value *mixed = node(&g, OP_MOE, operands, 3 + expert->param_count, a, 2)->results[0], *sum = node(&g, OP_ADD, (Value *[]){x, mixed}, 2, NULL, 0)->results[0];
    func_return(g.func, &sum, 1);
    return end(&g, diags);
}

// ---- heads -----------------------------------------------------------------------------------------------------------------------------

Module *head_module(Arena *arena, uint64_t seed, Diags *diags) {
    static const int widths[] = {64, 65, 130, 200, 320, 3};
    enum { K = 256, FLOATS = COUNT_OF(stored_types), INTEGERS = COUNT_OF(product_types) };
    Gen g;
    begin(&g, arena, seed, NULL, diags);
    int64_t heads[] = {DIM_T, 4, K / 4}, flat[] = {DIM_T, K}, outputs = widths[below(&g, COUNT_OF(widths))];
    int kind = (int)(seed % (FLOATS + INTEGERS));
    Value *embed[] = {g.func->inputs[0], param(&g, shape(DT_F32, 2, (int64_t[]){VOCABULARY, K}), 0)};
    Value *x = reshape(&g, node(&g, OP_EMBEDDING, embed, 2, NULL, 0)->results[0], 3, heads);
    x = reshape(&g, node(&g, OP_ATTENTION, (Value *[]){x, x, x}, 3, NULL, 0)->results[0], 2, flat);
    if (kind < (int)FLOATS) {
        Value *linear[] = {x, param(&g, shape(stored_types[kind], 2, (int64_t[]){outputs, K}), 0), chance(&g, 30) ? vector(&g, outputs) : NULL};
        x = node(&g, OP_LINEAR, linear, 3, NULL, 0)->results[0];
    } else x = product_of(&g, x, product_types[kind - (int)FLOATS], outputs, chance(&g, 50) ? 0 : 64, NULL);
    if (chance(&g, 40)) {          // a soft cap
        x = node(&g, OP_TANH, (Value *[]){node(&g, OP_MUL, (Value *[]){x, number(&g, 0.2)}, 2, NULL, 0)->results[0]}, 1, NULL, 0)->results[0];
        x = node(&g, OP_MUL, (Value *[]){x, number(&g, 5)}, 2, NULL, 0)->results[0];
    }
    func_return(g.func, &x, 1);
    return end(&g, diags);
}
