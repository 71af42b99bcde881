// The row builder: a kernel whose task is one row of tokens (or of sequences, or of rows asked for). Every op that works within a row is here;
// elementwise and shape ops of one use are evaluated where they are read (values.c).
#include "codegen/values.h"
#include <math.h>
#include <string.h>

static const Value *operand(const Node *node, int i) { return i < node->operand_count ? node->operands[i] : NULL; }

static const char *name_of(RowValues *r, const Value *value) {
    int buffer = values_buffer(r, value);
    if (buffer < 0) {
        values_fail(r, "%s is read by an op that needs it in memory", value->name);
        return "0";
    }
    return r->k->buffers[buffer].name;
}

static int param_index(const Func *func, const Value *value) {
    for (int i = 0; i < func->param_count; i++)
        if (func->params[i] == value) return i;
    return -1;
}

// ---- norms and softmax ------------------------------------------------------------------------------------------------------

static Expr *weighted(RowValues *r, Expr *e, const Value *w, double offset, const Index *at, int rank) {
    if (!w) return e;
    Expr *factor = values_operand(r, rank, at, w);
    if (offset != 0) factor = expr_op(r->k, OP_ADD, factor, expr_number(r->k, offset), NULL);
    return expr_op(r->k, OP_MUL, e, factor, NULL);
}

static void rms_norm(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *x = node->operands[0], *y = node->results[0];
    Index at[MAX_RANK];
    int lane;
    int64_t n;
    int loops = values_open(r, &x->type, at, &lane, &n);
    Expr *e = values_element(r, x, at);
    int sum = kernel_reduce(k, OP_SUM, lane, n, expr_op(k, OP_MUL, e, e, NULL));
    Expr *mean = expr_op(k, OP_MUL, expr_scalar(k, sum), expr_number(k, 1.0 / (double)n), NULL);
    int factor = kernel_let(k, "scale", expr_op(k, OP_RSQRT, expr_op(k, OP_ADD, mean, expr_number(k, node_number(node, "eps")), NULL), NULL, NULL));
    e = expr_op(k, OP_MUL, e, expr_scalar(k, factor), NULL);
    e = weighted(r, e, operand(node, 1), node_number(node, "offset"), at, x->type.rank);
    kernel_map(k, values_store(r, y), values_flat(y, at), lane, n, NULL, e);
    values_close(r, loops);
}

static void layer_norm(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *x = node->operands[0], *y = node->results[0], *b = operand(node, 2);
    Index at[MAX_RANK];
    int lane;
    int64_t n;
    int loops = values_open(r, &x->type, at, &lane, &n);
    Expr *e = values_element(r, x, at), *per = expr_number(k, 1.0 / (double)n);
    int sum = kernel_reduce(k, OP_SUM, lane, n, e);
    int mean = kernel_let(k, "mean", expr_op(k, OP_MUL, expr_scalar(k, sum), per, NULL));
    Expr *centred = expr_op(k, OP_SUB, e, expr_scalar(k, mean), NULL);
    int squares = kernel_reduce(k, OP_SUM, lane, n, expr_op(k, OP_MUL, centred, centred, NULL));
    Expr *variance = expr_op(k, OP_MUL, expr_scalar(k, squares), per, NULL);
    int factor = kernel_let(k, "scale", expr_op(k, OP_RSQRT, expr_op(k, OP_ADD, variance, expr_number(k, node_number(node, "eps")), NULL), NULL, NULL));
    e = weighted(r, expr_op(k, OP_MUL, centred, expr_scalar(k, factor), NULL), operand(node, 1), 0, at, x->type.rank);
    if (b) e = expr_op(k, OP_ADD, e, values_operand(r, x->type.rank, at, b), NULL);
    kernel_map(k, values_store(r, y), values_flat(y, at), lane, n, NULL, e);
    values_close(r, loops);
}

static void softmax(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *x = node->operands[0], *y = node->results[0];
    Index at[MAX_RANK];
    int lane;
    int64_t n;
    int loops = values_open(r, &x->type, at, &lane, &n);
    Expr *e = values_element(r, x, at);
    int max = kernel_reduce(k, OP_MAX, lane, n, e);
    int to = values_store(r, y);
    kernel_map(k, to, values_flat(y, at), lane, n, NULL, expr_op(k, OP_EXP, expr_op(k, OP_SUB, e, expr_scalar(k, max), NULL), NULL, NULL));
    Expr *stored = expr_load(k, to, values_flat(y, at));
    int sum = kernel_reduce(k, OP_SUM, lane, n, stored);
    kernel_map(k, to, values_flat(y, at), lane, n, NULL, expr_op(k, OP_DIV, stored, expr_scalar(k, sum), NULL));
    values_close(r, loops);
}

// ---- reductions ---------------------------------------------------------------------------------------------------------------

static void reduction(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *x = node->operands[0], *y = node->results[0];
    int axis = (int)node_int(node, "axis"), rank = x->type.rank;
    if (axis < 0) axis += rank;
    OpId op = node->op == OP_MEAN ? OP_SUM : node->op, combine = op == OP_SUM ? OP_ADD : op == OP_MAX ? OP_MAXIMUM : OP_MINIMUM;
    int64_t size = x->type.dims[axis];
    Index at[MAX_RANK];
    int lane, to = values_store(r, y);
    int64_t n;
    if (x->type.dtype != DT_F32) {
        values_fail(r, "%s of %s: only f32 is reduced", op_info(node->op)->name, dtype_info[x->type.dtype].name);
        return;
    }
    if (axis == rank - 1) {
        int loops = values_open(r, &x->type, at, &lane, &n);
        Expr *e = expr_scalar(k, kernel_reduce(k, op, lane, n, values_element(r, x, at)));
        if (node->op == OP_MEAN) e = expr_op(k, OP_MUL, e, expr_number(k, 1.0 / (double)n), NULL);
        at[axis] = index_constant(0);
        kernel_map(k, to, values_flat(y, at), kernel_variable(k, "one", false, DT_I32), 1, NULL, e);
        values_close(r, loops);
        return;
    }
    // Another dimension: the strip runs along the last one, the reduced one is a loop around it.
    int loops = values_open(r, &y->type, at, &lane, &n);
    at[axis] = index_constant(0);
    Index flat = values_flat(y, at);
    kernel_map(k, to, flat, lane, n, NULL, values_element(r, x, at));
    if (size > 1) {
        int over = kernel_loop_text(k, "over", "1", arena_printf(k->arena, "%lld", (long long)size));
        at[axis] = index_variable(over, 1);
        kernel_map(k, to, flat, lane, n, NULL, expr_op(k, combine, expr_load(k, to, flat), values_element(r, x, at), NULL));
        kernel_end(k);
    }
    if (node->op == OP_MEAN)
        kernel_map(k, to, flat, lane, n, NULL, expr_op(k, OP_MUL, expr_load(k, to, flat), expr_number(k, 1.0 / (double)size), NULL));
    values_close(r, loops);
}

// Each slot's row of y lies where `rows` says.
static void moe_combine(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *y = node->operands[0], *rows = node->operands[1], *w = node->operands[2], *out = node->results[0];
    Index at[MAX_RANK], slot[MAX_RANK];
    int lane, to = values_store(r, out), slots = (int)w->type.dims[w->type.rank - 1], all = values_buffer(r, y);
    int64_t n, width = type_row_elements(&out->type);
    if (y->kind != VALUE_INPUT || all < 0) {
        values_fail(r, "moe_combine: experts' rows must come from outside its kernel");
        return;
    }
    k->buffers[all].base = arena_printf(k->arena, "(const float *)a->in[%d]", y->index);
    const char *places = name_of(r, rows);
    int *row = ARENA_ARRAY(k->arena, int, slots);
    for (int s = 0; s < slots; s++)
        row[s] = kernel_buffer(k, arena_printf(k->arena, "%s_%d", k->buffers[all].name, s), DT_F32, PLACE_MEMORY, 0,
                               arena_printf(k->arena, "%s + (long)%s[%d] * %lld", k->buffers[all].name, places, s, (long long)width));
    int loops = values_open(r, &out->type, at, &lane, &n);
    for (int s = 0; s < slots; s++) {
        slot[0] = at[0];
        slot[1] = index_constant(s);
        Expr *e = expr_op(k, OP_MUL, expr_load(k, row[s], values_flat(out, at)), values_element(r, w, slot), NULL);
        if (s) e = expr_op(k, OP_ADD, expr_load(k, to, values_flat(out, at)), e, NULL);
        kernel_map(k, to, values_flat(out, at), lane, n, NULL, e);
    }
    values_close(r, loops);
}

// ---- tables, rotary embedding, routing, the cache --------------------------------------------------------------------------------

static void embedding(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *ids = node->operands[0], *table = node->operands[1], *y = node->results[0];
    int64_t rows = table->type.dims[0], n = type_row_elements(&table->type) / rows, count = type_row_elements(&ids->type);
    int to = values_store(r, y), p = param_index(k->func, table);
    if (p < 0) {
        values_fail(r, "embedding: the table %s is no parameter", table->name);
        return;
    }
    const char *id = "0";
    if (count > 1) {
        kernel_loop(k, "e", count);
        id = "e";
    }
    const char *at = k->buffers[to].name, *offset = count > 1 ? arena_printf(k->arena, " + e * %lld", (long long)n) : "";
    PanelLayout layout;
    if (table->layout == LAYOUT_PANELS && kernel_panel(k, p, &layout)) {
        k->rows_read[p] = true;
        kernel_call(k, "%s(%s%s, a->w[%d], %s[%s], %lld, %lld, %lld)", arena_printf(k->arena, "panel_row_%s", layout.format.name), at, offset, p,
                    name_of(r, ids), id, (long long)rows, (long long)layout.panel_bytes, (long long)n);
    } else
        kernel_call(k, "tn_table_row(%s%s, (const float *)a->w[%d], %s[%s], %lld, %lld)", at, offset, p, name_of(r, ids), id, (long long)rows, (long long)n);
    if (count > 1) kernel_end(k);
}

static int find_buffer(const Kernel *k, const char *name) {
    for (int i = 0; i < k->buffer_count; i++)
        if (!strcmp(k->buffers[i].name, name)) return i;
    return -1;
}

// Buffers of a row's cosines and sines: those of the step's table, or computed here.
static void angles(RowValues *r, const Node *node, int *cosine, int *sine) {
    Kernel *k = r->k;
    int pairs = (int)rotation_pairs(node), padded = (int)round_up(pairs, 16), rotation = -1;
    for (int i = 0; i < k->func->node_count && k->rotations; i++)
        if (k->func->nodes[i] == node) rotation = k->rotations[i];
    double base = node_number(node, "base"), mscale = node_number(node, "mscale");
    int factors = operand(node, 1) ? param_index(k->func, operand(node, 1)) : -1;
    // One table a kernel for each distinct rotation: found again by its buffers' name.
    const char *name = rotation >= 0 ? arena_printf(k->arena, "angles_%d", rotation)
                                     : arena_printf(k->arena, "angles_%d_%08x", pairs, (unsigned)hash_bytes(&base, sizeof base, hash_bytes(&mscale, sizeof mscale, (uint64_t)factors + 1)));
    const char *cosines = arena_printf(k->arena, "%s_cos", name), *sines = arena_printf(k->arena, "%s_sin", name);
    *cosine = find_buffer(k, cosines);
    *sine = find_buffer(k, sines);
    if (*cosine >= 0) return;
    if (rotation >= 0) {
        const char *at = arena_printf(k->arena, "(const float *)(a->step->arena + TN_ANGLES_%d) + %s * %d", rotation, r->row, 2 * padded);
        *cosine = kernel_buffer(k, cosines, DT_F32, PLACE_MEMORY, 0, at);
        *sine = kernel_buffer(k, sines, DT_F32, PLACE_MEMORY, 0, arena_printf(k->arena, "%s + %d", at, padded));
        return;
    }
    *cosine = kernel_buffer(k, cosines, DT_F32, PLACE_SCRATCH, padded, NULL);
    *sine = kernel_buffer(k, sines, DT_F32, PLACE_SCRATCH, padded, NULL);
    Text table = {0};
    text_puts(&table, k->constants ? k->constants : "");
    rotation_frequencies(node, arena_printf(k->arena, "%s_%s", k->name, name), &table);
    k->constants = arena_strdup(k->arena, table.data);
    text_free(&table);
    kernel_call(k, "tn_angles(%s, %s, %d, a->position[%s], %s_%s, %s, %.17g)", cosines, sines, pairs, r->row, k->name, name,
                factors >= 0 ? arena_printf(k->arena, "(const float *)a->w[%d]", factors) : "0", mscale);
}

static void rope(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *x = node->operands[0], *y = node->results[0];
    int64_t size = x->type.dims[x->type.rank - 1];
    bool half = !strcmp(node_attr(node, "style")->text, "half");
    int pairs = (int)rotation_pairs(node), cosine, sine;
    angles(r, node, &cosine, &sine);
    Index at[MAX_RANK], other[MAX_RANK], out[MAX_RANK];
    int lane, last = x->type.rank - 1, to = values_store(r, y);
    int64_t n;
    int loops = values_open(r, &x->type, at, &lane, &n);
    Index j = index_variable(lane, 1);
    Expr *c = expr_load(k, cosine, j), *s = expr_load(k, sine, j);
    memcpy(other, at, sizeof at);
    memcpy(out, at, sizeof at);
    at[last] = half ? j : index_variable(lane, 2);
    other[last] = index_add(at[last], index_constant(half ? pairs : 1));
    Expr *a = values_element(r, x, at), *b = values_element(r, x, other);
    kernel_map(k, to, values_flat(y, at), lane, pairs, NULL, expr_op(k, OP_SUB, expr_op(k, OP_MUL, a, c, NULL), expr_op(k, OP_MUL, b, s, NULL), NULL));
    kernel_map(k, to, values_flat(y, other), lane, pairs, NULL, expr_op(k, OP_ADD, expr_op(k, OP_MUL, b, c, NULL), expr_op(k, OP_MUL, a, s, NULL), NULL));
    if (2 * pairs < size) {
        out[last] = index_add(j, index_constant(2 * pairs));
        kernel_map(k, to, values_flat(y, out), lane, size - 2 * pairs, NULL, values_element(r, x, out));
    }
    values_close(r, loops);
}

// Ops that work on whole last dimensions through a function of the prelude: a loop over the rest, then the call.
static void over_rows(RowValues *r, const Node *node, void (*call)(RowValues *, const Node *, const char *row)) {
    const Value *x = node->operands[node->op == OP_GATHER ? 1 : 0];
    int64_t n = x->type.dims[x->type.rank - 1], rows = type_row_elements(&x->type) / n;
    for (int i = 0; i < node->result_count; i++) values_store(r, node->results[i]);
    if (rows > 1) kernel_loop(r->k, "e", rows);
    call(r, node, rows > 1 ? "e" : "0");
    if (rows > 1) kernel_end(r->k);
}

static void top_k_call(RowValues *r, const Node *node, const char *row) {
    const Value *x = node->operands[0];
    int n = (int)x->type.dims[x->type.rank - 1], k = (int)node_int(node, "k"), groups = (int)node_int(node, "groups"), keep = (int)node_int(node, "keep"),
        score = (int)node_int(node, "score");
    const char *values = name_of(r, node->results[0]), *indices = name_of(r, node->results[1]);
    if (groups > 256) values_fail(r, "top_k: at most 256 groups");
    if (groups > 1) kernel_call(r->k, "tn_top_k_groups(%s + %s * %d, %s + %s * %d, %s + %s * %d, %d, %d, %d, %d, %d)", values, row, k, indices, row, k, name_of(r, x), row, n, n, k, groups, keep, score);
    else kernel_call(r->k, "tn_top_k(%s + %s * %d, %s + %s * %d, %s + %s * %d, %d, %d)", values, row, k, indices, row, k, name_of(r, x), row, n, n, k);
    if (node_int(node, "normalize")) kernel_call(r->k, "tn_normalize(%s + %s * %d, %d)", values, row, k, k);
}

static void gather_call(RowValues *r, const Node *node, const char *row) {
    const Value *x = node->operands[0], *e = node->operands[1];
    int n = (int)x->type.dims[x->type.rank - 1], k = (int)e->type.dims[e->type.rank - 1];
    bool one = type_row_elements(&x->type) == n;   // the same row for all
    kernel_call(r->k, "tn_gather((tn_u8 *)(%s + %s * %d), (const tn_u8 *)(%s + %s * %d), sizeof *%s, %d, %s + %s * %d, %d)", name_of(r, node->results[0]), row, k, name_of(r, x),
                one ? "0" : row, n, name_of(r, x), n, name_of(r, e), row, k, k);
}

static void quantize_call(RowValues *r, const Node *node, const char *row) {
    const Value *x = node->operands[0];
    int n = (int)x->type.dims[x->type.rank - 1], groups = (int)node->results[1]->type.dims[x->type.rank - 1], parts = (int)node->results[2]->type.dims[x->type.rank - 1];
    kernel_call(r->k, "tn_quantize_row(%s + %s * %d, %s + %s * %d, %s + %s * %d, %s + %s * %d, %d, %d, %d)", name_of(r, node->results[0]), row, n,
                name_of(r, node->results[1]), row, groups, name_of(r, node->results[2]), row, parts, name_of(r, x), row, n, n, n / groups, n / parts);
}

static void linear_rows(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *x = node->operands[0], *w = node->operands[1], *y = node->results[0], *b = operand(node, 2);
    int n = (int)w->type.dims[0], depth = (int)w->type.dims[1], to = values_store(r, y);
    k->weight_bytes += 4.0 * n * depth;
    k->operations += 2.0 * n * depth;
    kernel_call(k, "tn_linear_rows(%s, %s, %s, %d, %d)", k->buffers[to].name, name_of(r, x), name_of(r, w), n, depth);
    if (!b) return;
    Index at[MAX_RANK];
    int lane;
    int64_t extent;
    int loops = values_open(r, &y->type, at, &lane, &extent);
    kernel_map(k, to, values_flat(y, at), lane, extent, NULL, expr_op(k, OP_ADD, expr_load(k, to, values_flat(y, at)), values_operand(r, y->type.rank, at, b), NULL));
    values_close(r, loops);
}

static void narrow_call(RowValues *r, const Node *node, const char *row) {
    const Value *x = node->operands[0];
    int n = (int)x->type.dims[x->type.rank - 1];
    kernel_call(r->k, "tn_narrow_row(%s + %s * %d, %s + %s * %d, %d)", name_of(r, node->results[0]), row, n, name_of(r, x), row, n, n);
}

static void hadamard_call(RowValues *r, const Node *node, const char *row) {
    const Value *x = node->operands[0];
    int n = (int)x->type.dims[x->type.rank - 1], block = (int)node_int(node, "block");
    kernel_call(r->k, "tn_hadamard_row(%s + %s * %d, %s + %s * %d, %d, %d, %.9gf)", name_of(r, node->results[0]), row, n, name_of(r, x), row, n, n, block,
                (double)(1 / sqrtf((float)block)));
}

static void observe_call(RowValues *r, const Node *node, const char *row) {
    const Value *x = node->operands[0];
    int n = (int)x->type.dims[x->type.rank - 1];
    kernel_call(r->k, "tn_observe(a->step, %s + %s * %d, %s + %s * %d, %d, a->w[%d])", name_of(r, node->results[0]), row, n, name_of(r, x), row, n, n,
                param_index(r->k->func, node->operands[1]));
}

static bool is_result(const Func *f, const Value *value) {
    for (int i = 0; i < f->result_count; i++)
        if (f->results[i] == value) return true;
    return false;
}

// Sixteen positions of a sequence are written to the cache together. What is computed for it lies in scratch for as many rows; false: it is too large.
enum { ROWS_TOGETHER = 16, MOST_TOGETHER = 1 << 18 };

static bool keep_rows_together(RowValues *r, const Value *value) {
    Kernel *k = r->k;
    value = through_reshape(value);
    int64_t n = type_row_elements(&value->type);
    if (value->kind == VALUE_INPUT || is_result(k->func, value) || values_buffer(r, value) >= 0) return true;
    if (value->kind != VALUE_RESULT || n * ROWS_TOGETHER > MOST_TOGETHER) return false;
    const char *name = c_identifier(k->arena, value->name);
    int rows = kernel_buffer(k, arena_printf(k->arena, "%s_rows", name), DT_F32, PLACE_SCRATCH, ROWS_TOGETHER * n, NULL);
    int buffer = kernel_buffer(k, name, DT_F32, PLACE_MEMORY, 0, arena_printf(k->arena, "%s + (a->position[%s] & 15) * %lld", k->buffers[rows].name, r->row, (long long)n));
    k->buffers[buffer].written = true;
    values_bind(r, value, buffer);
    return true;
}

static bool rows_together(RowValues *r, const Node *node) {
    bool together = !strcmp(r->row, r->source_row);
    for (int o = 0; o < node->operand_count && together; o++)
        if (node->operands[o]) together = keep_rows_together(r, node->operands[o]);
    return together;
}

static void cache_write(RowValues *r, const Node *node) {
    const Value *key = node->operands[0], *v = operand(node, 1);
    const Type *cache = &node->results[0]->type;
    int heads = (int)cache->dims[0], dims = (int)cache->dims[1], v_dims = (int)cache->dims[2];
    int64_t before = 0;   // of this kernel's other caches
    for (int i = 0; i < r->k->func->node_count && r->k->func->nodes[i] != node; i++)
        if (r->k->func->nodes[i]->op == OP_CACHE_WRITE) {
            const Type *c = &r->k->func->nodes[i]->results[0]->type;
            before += (int64_t)cache_bytes(c);
        }
    DType storage = cache_storage(cache);
    const char *rows = rows_together(r, node) ? "first_task, last_task" : arena_printf(r->k->arena, "%s, %s + 1", r->row, r->row);
    kernel_call(r->k, "tn_kv_write(a, %s, %s, %s, %s, (tn_kv_shape){%lld, %lld, %d, %d, %d, %d}, %s)", r->row, rows, name_of(r, key), v ? name_of(r, v) : "0",
                (long long)before, (long long)cache_bytes(cache) / heads, heads, dims, v_dims, (int)round_up(v_dims, 16),
                storage == DT_F16 ? "TN_KV_F16" : storage == DT_BF16 ? "TN_KV_BF16" : storage == DT_I8 ? "TN_KV_I8" : "TN_KV_F32");
}

// ---- whole rows of a sequence --------------------------------------------------------------------------------------------------------

static void mean_tokens(RowValues *r, const Node *node) {
    Kernel *k = r->k;
    const Value *x = node->operands[0], *y = node->results[0];
    int64_t n = type_row_elements(&x->type);
    int input = -1;
    for (int i = 0; i < k->func->input_count; i++)
        if (k->func->inputs[i] == x) input = i;
    if (input < 0) {
        values_fail(r, "mean_tokens must read an input of its kernel");
        return;
    }
    int all = kernel_buffer(k, arena_printf(k->arena, "all_%s", c_identifier(k->arena, x->name)), DT_F32, PLACE_MEMORY, 0, arena_printf(k->arena, "(const float *)a->in[%d]", input));
    int to = values_store(r, y), lane = kernel_variable(k, "j", false, DT_I32);
    Index j = index_variable(lane, 1);
    kernel_map(k, to, j, lane, n, NULL, expr_number(k, 0));
    int token = kernel_loop_text(k, "token", arena_printf(k->arena, "a->step->first[%s]", r->row), arena_printf(k->arena, "a->step->first[%s + 1]", r->row));
    Expr *e = expr_load(k, all, index_add(j, index_variable(token, n)));
    kernel_map(k, to, j, lane, n, NULL, expr_op(k, OP_ADD, expr_load(k, to, j), e, NULL));
    kernel_end(k);
    kernel_call(k, "const float tokens = (float)(a->step->first[%s + 1] - a->step->first[%s])", r->row, r->row);
    int tokens = kernel_variable(k, "tokens", true, DT_F32);
    k->variables[tokens].name = "tokens";
    kernel_map(k, to, j, lane, n, NULL, expr_op(k, OP_DIV, expr_load(k, to, j), expr_scalar(k, tokens), NULL));
}

static void concat(RowValues *r, const Node *node) {
    const Value *y = node->results[0];
    int axis = (int)node_int(node, "axis"), to = values_store(r, y);
    if (axis < 0) axis += y->type.rank;
    int64_t start = 0;
    for (int i = 0; i < node->operand_count; i++) {
        Index at[MAX_RANK], out[MAX_RANK];
        int lane;
        int64_t n;
        int loops = values_open(r, &node->operands[i]->type, at, &lane, &n);
        memcpy(out, at, sizeof out);
        out[axis] = index_add(out[axis], index_constant(start));
        kernel_map(r->k, to, values_flat(y, out), lane, n, NULL, values_element(r, node->operands[i], at));
        values_close(r, loops);
        start += node->operands[i]->type.dims[axis];
    }
}

static void positions(RowValues *r, const Node *node) {
    int at = kernel_buffer(r->k, arena_printf(r->k->arena, "position_of_%s", c_identifier(r->k->arena, node->results[0]->name)), DT_I32, PLACE_MEMORY, 0,
                           arena_printf(r->k->arena, "a->position + %s", r->row));
    int to = values_store(r, node->results[0]);
    kernel_map(r->k, to, index_constant(0), kernel_variable(r->k, "one", false, DT_I32), 1, NULL, expr_load(r->k, at, index_constant(0)));
}

static void build_node(RowValues *r, const Node *node) {
    r->loc = node->loc;
    switch (node->op) {
    case OP_RMS_NORM: rms_norm(r, node); return;
    case OP_LAYER_NORM: layer_norm(r, node); return;
    case OP_SOFTMAX: softmax(r, node); return;
    case OP_SUM: case OP_MEAN: case OP_MAX: case OP_MIN: reduction(r, node); return;
    case OP_MOE_COMBINE: moe_combine(r, node); return;
    case OP_EMBEDDING: embedding(r, node); return;
    case OP_ROPE: rope(r, node); return;
    case OP_TOP_K: over_rows(r, node, top_k_call); return;
    case OP_GATHER: over_rows(r, node, gather_call); return;
    case OP_QUANTIZE_ROWS: over_rows(r, node, quantize_call); return;
    case OP_LINEAR_ROWS: linear_rows(r, node); return;
    case OP_NARROW: over_rows(r, node, narrow_call); return;
    case OP_HADAMARD: over_rows(r, node, hadamard_call); return;
    case OP_OBSERVE: over_rows(r, node, observe_call); return;
    case OP_CACHE_WRITE: cache_write(r, node); return;
    case OP_MEAN_TOKENS: mean_tokens(r, node); return;
    case OP_CONCAT: concat(r, node); return;
    case OP_POSITIONS: positions(r, node); return;
    case OP_FIRST: case OP_LAST: case OP_KEEP_ROWS: case OP_RESHAPE: {
        // The same bytes under another shape, or the source row's.
        int buffer = values_buffer(r, node->operands[0]);
        if (buffer < 0) values_fail(r, "%s of a value that is in no buffer", op_info(node->op)->name);
        else values_bind(r, node->results[0], buffer);
        return;
    }
    default:
        for (int i = 0; i < node->result_count; i++)
            if (!values_virtual(r->k->func, node->results[i])) values_map(r, node->results[i]);
    }
}

// Results that share a buffer with something else (an input, a reshape, another result) are copied out.
static void copy_results(RowValues *r) {
    const Func *f = r->k->func;
    for (int i = 0; i < f->result_count; i++) {
        const Value *v = f->results[i];
        if (v->type.dtype == DT_CACHE) continue;
        int buffer = values_buffer(r, v);
        char *base = arena_printf(r->k->arena, "a->out[%d]", i);
        if (buffer >= 0 && r->k->buffers[buffer].base && strstr(r->k->buffers[buffer].base, base)) continue;
        int64_t n = type_row_elements(&v->type);
        const char *type = c_type(v->type.dtype);
        int to = kernel_buffer(r->k, arena_printf(r->k->arena, "out_%d", i), v->type.dtype, PLACE_MEMORY, 0,
                               arena_printf(r->k->arena, "(%s *)a->out[%d] + (long)%s * %lld", type, i, r->row, (long long)n));
        if (v->type.dtype == DT_I8 || v->type.dtype == DT_BF16 || buffer < 0) {
            values_fail(r, "%s cannot be a result of this kernel", v->name);
            continue;
        }
        int lane = kernel_variable(r->k, "j", false, DT_I32);
        kernel_map(r->k, to, index_variable(lane, 1), lane, n, NULL, expr_load(r->k, buffer, index_variable(lane, 1)));
    }
}

bool build_rows(Kernel *k, Diags *diags) {
    RowValues r = {.k = k, .row = "t", .source_row = "t", .diags = diags, .loc = k->func->loc};
    const char *source = NULL;
    for (int i = 0; i < k->func->node_count; i++) {
        OpId op = k->func->nodes[i]->op;
        const char *from = op == OP_FIRST ? "a->step->first[t]" : op == OP_LAST ? "a->step->first[t + 1] - 1" : op == OP_KEEP_ROWS ? "a->step->keep[t]" : NULL;
        if (!from) continue;
        if (source && strcmp(source, from)) values_fail(&r, "one kernel cannot hold both first and last");
        source = from;
    }
    k->decode = source ? arena_printf(k->arena, "        const long t = task, source = %s;\n", source) : "        const long t = task;\n";
    if (source) r.source_row = "source";
    k->tasks = "a.rows";
    values_bind_operands(&r);
    for (int i = 0; i < k->func->node_count; i++)
        if (k->func->nodes[i]->op == OP_CACHE_WRITE) rows_together(&r, k->func->nodes[i]);
    for (int i = 0; i < k->func->node_count && !r.failed; i++) build_node(&r, k->func->nodes[i]);
    copy_results(&r);
    return !r.failed;
}
