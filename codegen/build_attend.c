// The attention builder: online softmax over the KV pages, one kv head and some rows a task. No T×S matrix exists.
//
// The numerics: a row's positions are cut into chunks of 256 counted from position 0, these into blocks of 64. A chunk's online softmax starts anew
// and goes through its blocks in order; the chunks' results are then merged in order. A row's sums run over exactly the positions that it sees.
// So the bits depend neither on how a prompt is cut nor on who else is in the batch.
//
// The schedule: a task takes consecutive rows of a sequence and the queries of one kv head's group, so that a block of keys and values is read once
// for them all; what all rows see is one product, the edges a product a row. Where rows are few and contexts long, each chunk of a row is a task
// that leaves its result in the arena, and a second kernel merges them. prelude/attend.h says which rows and chunks are a task's.
#include "codegen/values.h"
#include <string.h>

typedef struct {
    Kernel *k;
    const Node *node;
    int heads, kv_heads, group, dims, v_dims, v_padded, rows, slots, window;
    bool causal;
    DType storage;
    double scale, softcap;
    int sinks, slopes;               // buffers, or -1
    int queries, scores, acc, top, total, merged, merged_top, merged_total;
    const char *sees;                // the arguments of what a row sees
    bool pairs;                      // multiplies bf16
    int strip;                       // … so many rows of a task at a time
} Attend;

enum { ROWS_A_TASK = 96, MOST_ROWS = 64, DIRECT_ROWS = 6, SPLIT_ROWS = 16, LEAST_SLOTS = 256, CHUNK = KV_PAGE, BLOCKS = CHUNK / KV_BLOCK };

static const char *storage_name(DType storage) {
    return storage == DT_F16 ? "TN_KV_F16" : storage == DT_BF16 ? "TN_KV_BF16" : storage == DT_I8 ? "TN_KV_I8" : "TN_KV_F32";
}

static const char *storage_c(DType storage) { return storage == DT_F32 ? "float" : storage == DT_I8 ? "signed char" : "tn_u16"; }

static int storage_bytes(DType storage) { return storage == DT_F32 ? 4 : storage == DT_I8 ? 1 : 2; }

static int even_dims(const Attend *a) { return (int)round_up(a->dims, a->storage == DT_BF16 ? 2 : 1); }

// Of a block of one head.
static int key_bytes(const Attend *a) { return KV_BLOCK * even_dims(a) * storage_bytes(a->storage); }
static int value_bytes(const Attend *a) { return KV_BLOCK * a->v_padded * storage_bytes(a->storage); }

// A scalar by its C text.
static int named(Kernel *k, const char *text, DType type) {
    int variable = kernel_variable(k, text, true, type);
    k->variables[variable].name = text;
    return variable;
}

static int text_variable(Kernel *k, const char *text) { return named(k, text, DT_I32); }

// ---- products with a block ------------------------------------------------------------------------------------------------------------

static const PanelFormat *panel(const Attend *a, DType storage) {
    PanelFormat *format = ARENA_NEW(a->k->arena, PanelFormat);
    *format = (PanelFormat){.type = storage, .name = arena_printf(a->k->arena, "kv_%s", dtype_info[storage].name)};
    return format;
}

static void multiply(const Attend *a, int acc, Index at, int64_t acc_stride, int x, Index x_at, int64_t x_stride, const char *rows, int w, Index w_at, int64_t w_stride,
                     DType storage, int columns, const char *from, const char *depth, const char *next, bool accumulate) {
    Stmt *s = kernel_mma(a->k, acc, at, acc_stride, x, x_at, x_stride, rows, w, w_at, w_stride, panel(a, storage), columns, 0);
    s->extent_text = arena_printf(a->k->arena, "%s, %s, %s", from, depth, next);
    s->accumulate = accumulate;
    a->k->kv_vectors[storage == DT_F32 ? 0 : storage == DT_F16 ? 1 : storage == DT_BF16 ? 2 : 3] |= 1u << columns / 16;
}

// acc += weights · values over some positions of the block.
static void add_values(const Attend *a, Index row, const char *rows, const char *from, const char *depth, int values, DType storage, const char *next) {
    Index first = index_variable(text_variable(a->k, from), 1);
    for (int c = 0; c < a->v_padded; c += PANEL_WIDTH) {
        int columns = a->v_padded - c < PANEL_WIDTH ? a->v_padded - c : PANEL_WIDTH;
        multiply(a, a->acc, index_add(index_scale(row, a->v_padded), index_constant(c)), a->v_padded, a->scores, index_add(index_scale(row, KV_BLOCK), first), KV_BLOCK, rows,
                 values, index_constant(KV_BLOCK * c), columns, storage, columns, from, depth, arena_printf(a->k->arena, "%s + %d", next, KV_BLOCK * c * storage_bytes(storage)), true);
    }
}

void product_print_kv(int storage, int vectors, Text *out) {
    if (storage == KV_PAIRS) {
        text_printf(out, "TN_NOINLINE void product_kv_pairs_v%d(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const int *w, long ldw, int first, int last, int accumulate, const int *next) {\n"
                         "    tn_kv_pairs(acc, ldacc, x, ldx, rows, w, ldw, first, last, accumulate, next, %d);\n}\n", vectors, vectors);
        return;
    }
    static const char *const names[] = {"f32", "f16", "bf16", "i8"}, *const constants[] = {"TN_KV_F32", "TN_KV_F16", "TN_KV_BF16", "TN_KV_I8"};
    text_printf(out, "TN_NOINLINE void product_kv_%s_v%d(float *acc, long ldacc, const float *x, long ldx, int rows, const void *w, long ldw, int first, int k, const void *next, int accumulate) {\n"
                     "    tn_kv_product(acc, ldacc, x, ldx, rows, w, ldw, first, k, next, accumulate, %s, %d);\n}\n", names[storage], vectors, constants[storage], vectors);
}

// ---- a block --------------------------------------------------------------------------------------------------------------------------

// Scores of a block, or chunk, of `width` positions as the model means them: the scales of int8 keys, softcap, bias by distance. The query's scale is
// in the query.
static void finish_scores(const Attend *a, Index row, int block, int width, const char *seen, int head) {
    Kernel *k = a->k;
    if (a->storage != DT_I8 && a->softcap <= 0 && a->slopes < 0) return;
    int lane = kernel_variable(k, "j", false, DT_I32);
    Index at = index_add(index_scale(row, width), index_variable(lane, 1));
    Expr *s = expr_load(k, a->scores, at);
    if (a->storage == DT_I8) {
        int scales = kernel_buffer(k, "scales", DT_F32, PLACE_MEMORY, -1, NULL);
        s = expr_op(k, OP_MUL, s, expr_load(k, scales, index_variable(lane, 1)), NULL);
    }
    if (a->softcap > 0) s = expr_op(k, OP_MUL, expr_op(k, OP_TANH, expr_op(k, OP_MUL, s, expr_number(k, 1.0 / a->softcap), NULL), NULL, NULL), expr_number(k, a->softcap), NULL);
    if (a->slopes >= 0) {
        Expr *position = expr_index(k, index_add(index_variable(block, width), index_variable(lane, 1)));
        Expr *distance = expr_op(k, OP_CAST, expr_op(k, OP_SUB, position, expr_scalar(k, text_variable(k, "own")), NULL), NULL, NULL);
        distance->type = distance->cast = DT_F32;
        s = expr_op(k, OP_ADD, s, expr_op(k, OP_MUL, distance, expr_load(k, a->slopes, index_variable(head, 1)), NULL), NULL);
    }
    kernel_map(k, a->scores, at, lane, width, seen, s);
}

// For each row of the block: scores become weights, what came before decays.
static void soften(const Attend *a, int block) {
    Kernel *k = a->k;
    int i = kernel_loop_text(k, "i", "b.first", "b.last");
    kernel_call(k, "const int from = tn_in_block(tn_seen_from(a, run.first + i, %d), block), to = tn_in_block(tn_seen_to(a, run.first + i, %s), block)", a->window, a->sees);
    if (a->slopes >= 0) kernel_call(k, "const int own = a->position[run.first + i]");
    int h = kernel_loop(k, "h", a->group);
    finish_scores(a, index_add(index_variable(i, a->group), index_variable(h, 1)), block, KV_BLOCK, NULL, h);
    kernel_call(k, "const long at = i * %d + h", a->group);
    kernel_call(k, "tn_scale_row(acc + at * %d, %d, tn_softmax_block(scores + at * %d, from, to, top + at, total + at * 16, %s))", a->v_padded, a->v_padded, KV_BLOCK,
                a->storage == DT_I8 ? "scales + 64" : "0");
    kernel_end(k);
    kernel_end(k);
}

static void edges(const Attend *a, const char *from, const char *to, int values, DType storage) {
    Kernel *k = a->k;
    int i = kernel_loop_text(k, "i", "b.first", "b.last");
    kernel_call(k, "const int from = %s, depth = %s - from", from, to);
    add_values(a, index_variable(i, a->group), arena_printf(k->arena, "%d", a->group), "from", "depth", values, storage, "page");
    kernel_end(k);
}

// Head and tail are what some of the rows do not see.
static void attend_values(const Attend *a, int values, int floats, DType storage) {
    Kernel *k = a->k;
    char *from = arena_printf(k->arena, "tn_in_block(tn_seen_from(a, run.first + i, %d), block)", a->window), *to = arena_printf(k->arena, "tn_in_block(tn_seen_to(a, run.first + i, %s), block)", a->sees);
    if (a->window) edges(a, from, arena_printf(k->arena, "tn_least(%s, b.lo)", to), values, storage);
    Index first = index_variable(text_variable(k, "b.first"), a->group);
    if (floats >= 0) add_values(a, first, "many", "b.lo", "(b.hi - b.lo)", floats, DT_F32, "page");
    add_values(a, first, floats >= 0 ? "few" : "rows", "b.lo", "(b.hi - b.lo)", values, storage, "next_keys");
    edges(a, "b.hi", to, values, storage);
}

static void attend_block(const Attend *a) {
    Kernel *k = a->k;
    bool wide = a->storage != DT_F32;
    int64_t head_bytes = (int64_t)cache_bytes(&a->node->operands[1]->type) / a->kv_heads;
    int block = kernel_loop_text(k, "block", "part.first_block", "part.last_block");
    kernel_call(k, "const tn_kv_part b = tn_attend_part(a, &run, block * %d, block * %d + %d, %s)", KV_BLOCK, KV_BLOCK, KV_BLOCK, a->sees);
    kernel_call(k, "const tn_u8 *page = run.pages[chunk] + a->cache + kv_head * %lldL, *at = page + block %% %d * %d", (long long)head_bytes, BLOCKS, key_bytes(a));
    kernel_call(k, "const tn_u8 *next_keys = block + 1 < part.last_block ? at + %d : tn_next_keys(&next, 0, %d, page)", key_bytes(a), key_bytes(a));
    kernel_call(k, "const %s *keys = (const %s *)at, *values = (const %s *)(page + %d + block %% %d * %d)", storage_c(a->storage), storage_c(a->storage), storage_c(a->storage),
                BLOCKS * key_bytes(a), BLOCKS, value_bytes(a));
    if (a->storage == DT_I8) kernel_call(k, "const float *scales = (const float *)(page + %d) + block %% %d * %d", BLOCKS * (key_bytes(a) + value_bytes(a)), BLOCKS, 2 * KV_BLOCK);
    if (a->storage == DT_I8) kernel_call(k, "tn_ask(scales, %d)", 8 * KV_BLOCK);
    kernel_call(k, "const int rows = (b.last - b.first) * %d", a->group);
    int keys = kernel_buffer(k, "keys", a->storage, PLACE_MEMORY, -1, NULL), values = kernel_buffer(k, "values", a->storage, PLACE_MEMORY, -1, NULL);
    Index first = index_variable(text_variable(k, "b.first"), a->group);
    int float_values = wide ? kernel_buffer(k, "float_values", DT_F32, PLACE_MEMORY, -1, NULL) : -1;
    if (wide) {   // many rows: the block becomes floats first
        int floats = kernel_buffer(k, "floats", DT_F32, PLACE_SCRATCH, (int64_t)KV_BLOCK * (a->dims + a->v_padded), NULL);
        kernel_call(k, "const int few = rows <= %d ? rows : 0, many = rows - few", DIRECT_ROWS);
        kernel_call(k, "const float *float_values = floats + %d", KV_BLOCK * a->dims);
        kernel_call(k, "if (many) tn_kv_floats(floats, keys, %d, %d, %s), tn_kv_float_values(floats + %d, values, %d, %s)", a->dims, KV_BLOCK, storage_name(a->storage), KV_BLOCK * a->dims,
                    a->v_padded, storage_name(a->storage));
        multiply(a, a->scores, index_scale(first, KV_BLOCK), KV_BLOCK, a->queries, index_scale(first, a->dims), a->dims, "many", floats, index_constant(0), KV_BLOCK, DT_F32, KV_BLOCK, "0",
                 arena_printf(k->arena, "%d", a->dims), "page", false);
    }
    multiply(a, a->scores, index_scale(first, KV_BLOCK), KV_BLOCK, a->queries, index_scale(first, a->dims), a->dims, wide ? "few" : "rows", keys, index_constant(0), KV_BLOCK, a->storage,
             KV_BLOCK, "0", arena_printf(k->arena, "%d", a->dims), "values", false);
    soften(a, block);
    attend_values(a, values, float_values, a->storage);
    kernel_end(k);
}

// ---- products of bf16 ---------------------------------------------------------------------------------------------------------------------
// With a cache of bf16, on a target that multiplies bf16 (prelude/attend_pairs.h): strips of a task's rows meet a whole chunk. Their scores fit the
// first-level cache, the chunk's keys and values the second.

enum { STRIP_ROWS = 32, DOT_ROWS = 6 };

static int query_width(const Attend *a) { return (int)round_up(a->dims, a->k->target->tile_bf16 ? 32 : 2); }

// Rows of a strip: near STRIP_ROWS queries, in whole blocks of products as far as a group allows.
static int strip_rows(const Attend *a) {
    int unit = a->k->target->tile_bf16 ? STRIP_ROWS : DOT_ROWS, best = 1, waste = 0, queries = a->group;
    for (int n = 1; n == 1 || n * a->group <= STRIP_ROWS; n++) {
        int idle = (unit - n * a->group % unit) % unit;
        if (n == 1 || idle * queries <= waste * n * a->group) best = n, waste = idle, queries = n * a->group;
    }
    return best;
}

static void multiply_pairs(const Attend *a, const char *acc, const char *x, const char *rows, const char *w, int columns, const char *range, const char *accumulate, const char *next) {
    for (int c = 0; c < columns; c += PANEL_WIDTH) {
        int vectors = (columns - c < PANEL_WIDTH ? columns - c : PANEL_WIDTH) / 16;
        kernel_call(a->k, "product_kv_pairs_v%d(%s + %d, %s, %s, (const int *)%s + %d, %d, %s, %s, (const int *)%s + %d)", vectors, acc, c, x, rows, w, KV_BLOCK / 2 * c, 16 * vectors, range,
                    accumulate, next, KV_BLOCK / 2 * c);
        a->k->kv_vectors[KV_PAIRS] |= 1u << vectors;
    }
}

static void block_loop(const Attend *a) {
    int64_t head_bytes = (int64_t)cache_bytes(&a->node->operands[1]->type) / a->kv_heads;
    kernel_loop_text(a->k, "block", "s.first_block", "s.last_block");
    kernel_call(a->k, "const tn_u8 *page = run.pages[chunk] + a->cache + kv_head * %lldL, *values = page + %d + block %% %d * %d", (long long)head_bytes, BLOCKS * key_bytes(a), BLOCKS,
                value_bytes(a));
}

static void score_strip(const Attend *a) {
    Kernel *k = a->k;
    int width = query_width(a);
    block_loop(a);
    kernel_call(k, "const tn_u8 *keys = page + block %% %d * %d", BLOCKS, key_bytes(a));
    multiply_pairs(a, arena_printf(k->arena, "scores + block %% %d * %d", BLOCKS, KV_BLOCK), arena_printf(k->arena, "%d, queries + s.first * %d, %d", CHUNK, a->group * width, width),
                   "rows", "keys", KV_BLOCK, arena_printf(k->arena, "0, %d", even_dims(a) / 2), "0", "values");
    kernel_end(k);
}

static void soften_strip(const Attend *a, int chunk) {
    Kernel *k = a->k;
    int i = kernel_loop_text(k, "i", "0", "s.last - s.first");
    kernel_call(k, "const long t = run.first + s.first + i");
    kernel_call(k, "const int from = tn_in_chunk(tn_seen_from(a, t, %d), chunk), to = tn_in_chunk(tn_seen_to(a, t, %s), chunk)", a->window, a->sees);
    if (a->slopes >= 0) kernel_call(k, "const int own = a->position[t]");
    int h = kernel_loop(k, "h", a->group);
    finish_scores(a, index_add(index_variable(i, a->group), index_variable(h, 1)), chunk, CHUNK, "s.high", h);
    kernel_call(k, "const long at = i * %d + h", a->group);
    kernel_call(k, "total[at] = tn_softmax_pairs(scores + at * %d, weights + at * %d, from, to, s.low, s.high, top + at)", CHUNK, CHUNK);
    kernel_end(k);
    kernel_end(k);
}

static void value_strip(const Attend *a) {
    Kernel *k = a->k;
    block_loop(a);
    kernel_call(k, "const tn_kv_block b = tn_attend_pairs(&s, block, values, %d)", a->v_padded);
    kernel_call(k, "if (b.wild) tn_pairs_shape(1)");
    kernel_call(k, "const int each = b.wild ? 1 : rows");
    kernel_loop_text(k, "part_rows", "0", "rows / each");
    kernel_call(k, "const long q = (long)part_rows * each, t = run.first + s.first + q / %d", a->group);
    kernel_call(k, "const tn_u8 *w = values, *next_keys = tn_next_keys(&next, block - s.first_block, %d, values)", key_bytes(a));
    kernel_call(k, "if (b.wild) w = (const tn_u8 *)tn_kv_tame(tame, (const tn_u16 *)values, %d, b, tn_in_block(tn_seen_from(a, t, %d), block), tn_in_block(tn_seen_to(a, t, %s), block))", a->v_padded, a->window, a->sees);
    multiply_pairs(a, arena_printf(k->arena, "acc + q * %d", a->v_padded), arena_printf(k->arena, "%d, weights + q * %d + block %% %d * %d, %d", a->v_padded, CHUNK, BLOCKS, KV_BLOCK, CHUNK),
                   "each", "w", a->v_padded, "b.first, b.last", "block > s.first_block", "next_keys");
    kernel_end(k);
    kernel_call(k, "if (b.wild) tn_pairs_shape(16)");
    kernel_end(k);
}

// Rows first … last of the run join what came before this chunk; theirs begin at row `base` in acc, top and total.
static void merge_rows(const Attend *a, const char *first, const char *last, const char *base, const char *total) {
    Kernel *k = a->k;
    kernel_loop_text(k, "i", first, last);
    kernel_call(k, "const int fresh = chunk == run.chunk || chunk == tn_seen_from(a, run.first + i, %d) / TN_CHUNK", a->window);
    kernel_loop(k, "h", a->group);
    kernel_call(k, "const long at = i * %d + h, from = at - %s * %d", a->group, base, a->group);
    kernel_call(k, "tn_merge(merged + at * %d, merged_top + at, merged_total + at, acc + from * %d, top[from], %s, %d, fresh)", a->v_padded, a->v_padded, total, a->v_padded);
    kernel_end(k);
    kernel_end(k);
}

// What is asked for while a chunk's last values are read.
static void next_keys(const Attend *a) {
    kernel_call(a->k, "const tn_kv_next next = tn_attend_next(a, &span, &run, task, chunk, %lldL, %d, %d, %d, %d, %s)", (long long)cache_bytes(&a->node->operands[1]->type) / a->kv_heads,
                key_bytes(a), a->kv_heads, a->rows, a->slots, a->sees);
}

static void attend_strips(const Attend *a) {
    Kernel *k = a->k;
    int chunk = kernel_loop_text(k, "chunk", "run.chunk", "run.end");
    next_keys(a);
    kernel_call(k, "const tn_kv_part part = tn_attend_part(a, &run, chunk * TN_CHUNK, (chunk + 1) * TN_CHUNK, %s)", a->sees);
    kernel_loop_text(k, "strip", "0", arena_printf(k->arena, "(part.last - part.first + %d) / %d", a->strip - 1, a->strip));
    kernel_call(k, "const tn_kv_strip s = tn_attend_strip(a, &run, &part, strip, %d, chunk, %s)", a->strip, a->sees);
    kernel_call(k, "const int rows = (s.last - s.first) * %d", a->group);
    score_strip(a);
    soften_strip(a, chunk);
    value_strip(a);
    merge_rows(a, "s.first", "s.last", "s.first", "total[from]");
    kernel_end(k);
    kernel_end(k);
}

// ---- chunks -----------------------------------------------------------------------------------------------------------------------------

static void attend_chunks(const Attend *a) {
    Kernel *k = a->k;
    kernel_loop_text(k, "chunk", "run.chunk", "run.end");
    next_keys(a);
    kernel_call(k, "const tn_kv_part part = tn_attend_part(a, &run, chunk * TN_CHUNK, (chunk + 1) * TN_CHUNK, %s)", a->sees);
    int i = kernel_loop_text(k, "i", "part.first", "part.last"), lane = kernel_variable(k, "j", false, DT_I32);
    kernel_map(k, a->top, index_add(index_variable(i, a->group), index_variable(lane, 1)), lane, a->group, NULL, expr_number(k, -1e30));
    kernel_map(k, a->total, index_add(index_variable(i, (int64_t)a->group * 16), index_variable(lane, 1)), lane, (int64_t)a->group * 16, NULL, expr_number(k, 0));
    kernel_map(k, a->acc, index_add(index_variable(i, (int64_t)a->group * a->v_padded), index_variable(lane, 1)), lane, (int64_t)a->group * a->v_padded, NULL, expr_number(k, 0));
    kernel_end(k);
    attend_block(a);
    merge_rows(a, "part.first", "part.last", "0", "tn_sum16(tn_load(total + from * 16))");
    kernel_end(k);
}

// merged / total to the result, for rows 0 … `rows`.
static void finish(const Attend *a, int out, const char *rows) {
    Kernel *k = a->k;
    int i = kernel_loop_text(k, "i", "0", rows), h = kernel_loop(k, "h", a->group), lane = kernel_variable(k, "j", false, DT_I32);
    Index row = index_add(index_variable(i, a->group), index_variable(h, 1));
    if (a->sinks >= 0) kernel_call(k, "const float inverse = tn_sink(merged_top[i * %d + h], merged_total[i * %d + h], sinks[h])", a->group, a->group);
    else kernel_call(k, "const float inverse = 1.0f / merged_total[i * %d + h]", a->group);
    int inverse = named(k, "inverse", DT_F32);
    Index to = index_add(index_add(index_variable(i, (int64_t)a->heads * a->v_dims), index_variable(h, a->v_dims)), index_variable(lane, 1));
    kernel_map(k, out, to, lane, a->v_dims, NULL, expr_op(k, OP_MUL, expr_load(k, a->merged, index_add(index_scale(row, a->v_padded), index_variable(lane, 1))), expr_scalar(k, inverse), NULL));
    kernel_end(k);
    kernel_end(k);
}

// A chunk's result in the arena: v_padded sums, then top and total.
static void leave_part(const Attend *a) {
    Kernel *k = a->k;
    kernel_loop_text(k, "i", "0", "run.split");
    kernel_loop(k, "h", a->group);
    kernel_call(k, "float *to = (float *)a->partial + (((run.first + i) * %d + first_head + h) * span.parts + span.part) * %d", a->heads, a->v_padded + 16);
    kernel_call(k, "tn_merge(to, to + %d, to + %d, merged + h * %d, merged_top[h], merged_total[h], %d, 1)", a->v_padded, a->v_padded + 1, a->v_padded, a->v_padded);
    kernel_end(k);
    kernel_end(k);
}

static void merged_buffers(Attend *a, int64_t rows) {
    Kernel *k = a->k;
    a->merged = kernel_buffer(k, "merged", DT_F32, PLACE_ACCUMULATOR, rows * a->v_padded, NULL);
    a->merged_top = kernel_buffer(k, "merged_top", DT_F32, PLACE_SCRATCH, round_up(rows, 16), NULL);
    a->merged_total = kernel_buffer(k, "merged_total", DT_F32, PLACE_SCRATCH, round_up(rows, 16), NULL);
}

// The second kernel: a row and a kv head a task.
static void build_merge(const Attend *main, const char *tasks) {
    Attend merge = *main, *a = &merge;
    Kernel *k = a->k = ARENA_NEW(main->k->arena, Kernel);
    *k = (Kernel){.func = main->k->func, .name = arena_printf(main->k->arena, "%s_merge", main->k->name), .arena = main->k->arena, .param_storage = main->k->param_storage};
    k->tasks = arena_printf(k->arena, "(%s > 1 ? a.rows * %dL : 0)", tasks, a->kv_heads);
    k->decode = arena_printf(k->arena, "        const long row = task / %d, kv_head = task %% %d, first_head = kv_head * %d;\n"
                                       "        const int parts = tn_attend_parts(a, %d, %s), chunks = tn_chunks(a, row, %s);\n",
                             a->kv_heads, a->kv_heads, a->group, a->slots, a->sees, a->sees);
    if (a->sinks >= 0) a->sinks = kernel_buffer(k, "sinks", DT_F32, PLACE_MEMORY, 0, main->k->buffers[main->sinks].base);
    merged_buffers(a, a->group);
    int out = kernel_buffer(k, "result", DT_F32, PLACE_MEMORY, 0, arena_printf(k->arena, "(float *)a->out[0] + (row * %d + first_head) * %d", a->heads, a->v_dims));
    kernel_loop(k, "h", a->group);
    kernel_loop_text(k, "chunk", "0", "chunks");
    kernel_call(k, "const float *from = (const float *)a->partial + ((row * %d + first_head + h) * parts + chunk) * %d", a->heads, a->v_padded + 16);
    kernel_call(k, "tn_merge(merged + h * %d, merged_top + h, merged_total + h, from, from[%d], from[%d], %d, chunk == 0)", a->v_padded, a->v_padded, a->v_padded + 1, a->v_padded);
    kernel_end(k);
    kernel_end(k);
    finish(a, out, "1");
    main->k->after = k;
}

// ---- the kernel ---------------------------------------------------------------------------------------------------------------------------

static int vector_operand(Kernel *k, const Node *node, int operand, const char *name) {
    const Value *v = operand < node->operand_count ? node->operands[operand] : NULL;
    if (!v) return -1;
    for (int i = 0; i < k->func->param_count; i++)
        if (k->func->params[i] == v) return kernel_buffer(k, name, DT_F32, PLACE_MEMORY, 0, arena_printf(k->arena, "(const float *)a->w[%d] + first_head", i));
    return -2;
}

// How many rows a task takes at most, and how many partial results a head may leave.
static void schedule(Attend *a, int64_t context) {
    a->rows = ROWS_A_TASK / a->group < 1 ? 1 : ROWS_A_TASK / a->group < MOST_ROWS ? ROWS_A_TASK / a->group : MOST_ROWS;
    int64_t sees = a->window && a->window < context ? a->window : context, parts = (sees - 1) / CHUNK + 2;
    a->slots = (int)(parts > LEAST_SLOTS ? parts : parts * SPLIT_ROWS < LEAST_SLOTS ? parts * SPLIT_ROWS : LEAST_SLOTS);
    a->k->partial_bytes = (uint64_t)a->slots * (uint64_t)a->heads * (uint64_t)(a->v_padded + 16) * sizeof(float);
}

static void load_queries(const Attend *a, int query) {
    Kernel *k = a->k;
    int i = kernel_loop_text(k, "i", "0", "run.rows"), lane = kernel_variable(k, "j", false, DT_I32);
    if (a->pairs) {
        int width = query_width(a);
        kernel_call(k, "tn_pairs_queries(queries + i * %d, %d, query + (run.first + i) * %d, %d, %d, (float)%.9g)", a->group * width, width, a->heads * a->dims, a->group, a->dims, (double)(float)a->scale);
        kernel_end(k);
        return;
    }
    Index from = index_add(index_variable(text_variable(k, "run.first"), (int64_t)a->heads * a->dims), index_add(index_variable(i, (int64_t)a->heads * a->dims), index_variable(lane, 1)));
    kernel_map(k, a->queries, index_add(index_variable(i, (int64_t)a->group * a->dims), index_variable(lane, 1)), lane, (int64_t)a->group * a->dims, NULL,
               expr_op(k, OP_MUL, expr_load(k, query, from), expr_number(k, a->scale), NULL));
    kernel_end(k);
}

// Products of bf16 have scratch for whole blocks of rows.
static void program_buffers(Attend *a) {
    Kernel *k = a->k;
    int64_t rows = (int64_t)a->rows * a->group, strip = a->pairs ? round_up((int64_t)a->strip * a->group, STRIP_ROWS) : rows;
    a->queries = kernel_buffer(k, "queries", a->pairs ? DT_BF16 : DT_F32, PLACE_SCRATCH, a->pairs ? (rows + STRIP_ROWS) * query_width(a) : rows * a->dims, NULL);
    a->scores = kernel_buffer(k, "scores", DT_F32, PLACE_ACCUMULATOR, strip * (a->pairs ? CHUNK : KV_BLOCK), NULL);
    a->acc = kernel_buffer(k, "acc", DT_F32, PLACE_ACCUMULATOR, (strip + (a->pairs ? STRIP_ROWS : 0)) * a->v_padded, NULL);
    a->top = kernel_buffer(k, "top", DT_F32, PLACE_SCRATCH, round_up(strip, 16), NULL);
    a->total = kernel_buffer(k, "total", DT_F32, PLACE_SCRATCH, a->pairs ? round_up(strip, 16) : rows * 16, NULL);
    if (a->pairs) {
        kernel_buffer(k, "weights", DT_BF16, PLACE_SCRATCH, (strip + STRIP_ROWS) * CHUNK, NULL);
        kernel_buffer(k, "tame", DT_BF16, PLACE_SCRATCH, (int64_t)KV_BLOCK * a->v_padded, NULL);
    }
    merged_buffers(a, rows);
}

static void build_program(Attend *a, int query, int out) {
    Kernel *k = a->k;
    program_buffers(a);
    if (a->pairs) kernel_call(k, "tn_pairs_shape(16)");
    kernel_loop_text(k, "over", "0", "span.runs");
    kernel_call(k, "const tn_kv_run run = tn_attend_run(a, &span, over, %s)", a->sees);
    load_queries(a, query);
    if (a->pairs) attend_strips(a);
    else attend_chunks(a);
    kernel_call(k, "float *const result = results + run.first * %dL", a->heads * a->v_dims);
    finish(a, out, "run.whole");
    leave_part(a);
    kernel_end(k);
    if (a->pairs) kernel_call(k, "tn_pairs_end()");
}

bool build_attend(Kernel *k, Diags *diags) {
    const Func *f = k->func;
    const Node *node = NULL;
    for (int i = 0; i < f->node_count; i++)
        if (f->nodes[i]->op == OP_ATTEND) node = f->nodes[i];
    const Value *q = through_reshape(node->operands[0]);
    const Type *cache = &node->operands[1]->type, *queries = &node->operands[0]->type;
    Attend a = {.k = k, .node = node, .heads = (int)queries->dims[1], .kv_heads = (int)cache->dims[0], .dims = (int)cache->dims[1], .v_dims = (int)cache->dims[2]};
    a.storage = cache_storage(cache);
    a.group = a.heads / a.kv_heads;
    a.v_padded = (int)round_up(a.v_dims, 16);
    a.causal = node_int(node, "causal");
    a.window = node_int(node, "window") < f->module->context ? (int)node_int(node, "window") : 0;   // no sequence is that long
    a.scale = node_number(node, "scale");
    a.softcap = node_number(node, "softcap");
    a.sees = arena_printf(k->arena, "%d, %d", a.causal, a.window);
    int input = -1;
    for (int i = 0; i < f->input_count; i++)
        if (f->inputs[i] == q) input = i;
    if (input < 0 || f->result_count != 1) {
        diag_error(diags, node->loc, "attend: its query must be an input of its kernel");
        return false;
    }
    a.pairs = a.storage == DT_BF16 && (k->target->dot_bf16 || k->target->tile_bf16);
    if (a.pairs) k->arithmetic = "bf16";
    a.strip = strip_rows(&a);
    schedule(&a, f->module->context);
    k->tasks = arena_printf(k->arena, "tn_attend_tasks(&a, %d, %d, %d, %s)", a.kv_heads, a.rows, a.slots, a.sees);
    k->decode = arena_printf(k->arena, "        const tn_kv_span span = tn_attend_span(a, task, %d, %d, %d, %s);\n        const long kv_head = span.head, first_head = kv_head * %d;\n", a.kv_heads, a.rows,
                             a.slots, a.sees, a.group);
    a.sinks = vector_operand(k, node, 2, "sinks");
    a.slopes = vector_operand(k, node, 3, "slopes");
    if (a.sinks == -2 || a.slopes == -2) {
        diag_error(diags, node->loc, "attend: sinks and slopes must be parameters");
        return false;
    }
    int query = kernel_buffer(k, "query", DT_F32, PLACE_MEMORY, 0, arena_printf(k->arena, "(const float *)a->in[%d] + first_head * %d", input, a.dims));
    int results = kernel_buffer(k, "results", DT_F32, PLACE_MEMORY, 0, arena_printf(k->arena, "(float *)a->out[0] + first_head * %d", a.v_dims));
    k->buffers[results].written = true;
    int out = kernel_buffer(k, "result", DT_F32, PLACE_MEMORY, -1, NULL);
    build_program(&a, query, out);
    build_merge(&a, arena_printf(k->arena, "tn_attend_parts(&a, %d, %s)", a.slots, a.sees));
    return true;
}
