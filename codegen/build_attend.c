// The attention builder: online softmax over the KV pages of one row and one group of heads (arXiv 2205.14135). A task is a row and a kv head:
// its queries share the keys and values. Blocks of 64 positions are counted from position 0 and merged in order, so that the bits depend neither
// on how a prompt is cut nor on who else is in the batch. No T×S matrix exists.
//
// A page holds for each kv head the keys transposed, [dims][64], then the values, [64][v_dims rounded up to 16]: both are panels of an mma.
#include "codegen/values.h"
#include <string.h>

typedef struct { Kernel *k; int heads, kv_heads, group, dims, v_dims, v_padded; bool causal; int window; double scale, softcap; int sinks, slopes; } Attend;

// Scores of a block: scaled, capped, with position bias; what must not be seen becomes −∞.
static Expr *score(const Attend *a, Expr *raw, Index j, int head, int first) {
    Kernel *k = a->k;
    Expr *s = expr_op(k, OP_MUL, raw, expr_number(k, a->scale), NULL);
    if (a->softcap > 0) s = expr_op(k, OP_MUL, expr_op(k, OP_TANH, expr_op(k, OP_MUL, s, expr_number(k, 1.0 / a->softcap), NULL), NULL, NULL), expr_number(k, a->softcap), NULL);
    Expr *position = expr_index(k, j), *own = expr_scalar(k, first);
    if (a->slopes >= 0) {
        Expr *distance = expr_op(k, OP_CAST, expr_op(k, OP_SUB, position, own, NULL), NULL, NULL);
        distance->type = distance->cast = DT_F32;
        s = expr_op(k, OP_ADD, s, expr_op(k, OP_MUL, distance, expr_load(k, a->slopes, index_variable(head, 1)), NULL), NULL);
    }
    int length = kernel_variable(k, "length", true, DT_I32);
    k->variables[length].name = "length";
    Expr *seen = expr_op(k, OP_LT, position, expr_scalar(k, length), NULL);
    if (a->window > 0) {
        seen = expr_and(k, seen, expr_op(k, OP_LT, expr_op(k, OP_SUB, own, position, NULL), expr_int(k, a->window), NULL));
        if (!a->causal) seen = expr_and(k, seen, expr_op(k, OP_LT, expr_op(k, OP_SUB, position, own, NULL), expr_int(k, a->window), NULL));
    }
    return expr_op(k, OP_WHERE, seen, s, expr_number(k, -__builtin_inf()));
}

static void block(const Attend *a, int q, int scores, int acc, int tops, int sums, const PanelFormat *f32) {
    Kernel *k = a->k;
    int b = kernel_loop_text(k, "block", "first_block", "last_block");
    kernel_call(k, "const float *keys = (const float *)(pages[block] + a->cache) + kv_head * %d, *values = keys + %d", KV_BLOCK * (a->dims + a->v_padded), KV_BLOCK * a->dims);
    kernel_call(k, "const int seen = length - block * %d < %d ? length - block * %d : %d", KV_BLOCK, KV_BLOCK, KV_BLOCK, KV_BLOCK);
    int keys = kernel_buffer(k, "keys", DT_F32, PLACE_MEMORY, -1, NULL), values = kernel_buffer(k, "values", DT_F32, PLACE_MEMORY, -1, NULL);
    char *group = arena_printf(k->arena, "%d", a->group);
    kernel_mma(k, scores, index_constant(0), KV_BLOCK, q, index_constant(0), a->dims, group, keys, index_constant(0), KV_BLOCK, f32, KV_BLOCK, a->dims);
    int i = kernel_loop(k, "i", a->group), lane = kernel_variable(k, "j", false, DT_I32);
    int own = kernel_variable(k, "own", true, DT_I32);
    k->variables[own].name = "own";
    Index at = index_add(index_variable(i, KV_BLOCK), index_variable(lane, 1)), position = index_add(index_variable(b, KV_BLOCK), index_variable(lane, 1));
    kernel_map(k, scores, at, lane, KV_BLOCK, NULL, score(a, expr_load(k, scores, at), position, i, own));
    int top = kernel_reduce(k, OP_MAX, lane, KV_BLOCK, expr_load(k, scores, at));
    int before = kernel_let(k, "before", expr_load(k, tops, index_variable(i, 1)));
    int now = kernel_let(k, "now", expr_op(k, OP_MAXIMUM, expr_scalar(k, before), expr_scalar(k, top), NULL));
    int decay = kernel_let(k, "decay", expr_op(k, OP_EXP, expr_op(k, OP_SUB, expr_scalar(k, before), expr_scalar(k, now), NULL), NULL, NULL));
    kernel_map(k, scores, at, lane, KV_BLOCK, NULL, expr_op(k, OP_EXP, expr_op(k, OP_SUB, expr_load(k, scores, at), expr_scalar(k, now), NULL), NULL, NULL));
    int sum = kernel_reduce(k, OP_SUM, lane, KV_BLOCK, expr_load(k, scores, at));
    int one = kernel_variable(k, "one", false, DT_I32);
    kernel_map(k, tops, index_variable(i, 1), one, 1, NULL, expr_scalar(k, now));
    Expr *total = expr_op(k, OP_ADD, expr_op(k, OP_MUL, expr_load(k, sums, index_variable(i, 1)), expr_scalar(k, decay), NULL), expr_scalar(k, sum), NULL);
    kernel_map(k, sums, index_variable(i, 1), one, 1, NULL, total);
    Index out = index_add(index_variable(i, a->v_padded), index_variable(lane, 1));
    kernel_map(k, acc, out, lane, a->v_padded, NULL, expr_op(k, OP_MUL, expr_load(k, acc, out), expr_scalar(k, decay), NULL));
    kernel_end(k);
    for (int c = 0; c < a->v_padded; c += PANEL_WIDTH) {
        int columns = a->v_padded - c < PANEL_WIDTH ? a->v_padded - c : PANEL_WIDTH;
        Stmt *s = kernel_mma(k, acc, index_constant(c), a->v_padded, scores, index_constant(0), KV_BLOCK, group, values, index_constant(c), a->v_padded, f32, columns, 0);
        s->extent_text = "seen";
        s->accumulate = true;
    }
    kernel_end(k);
}

static int vector_operand(Kernel *k, const Node *node, int operand) {
    const Value *v = operand < node->operand_count ? node->operands[operand] : NULL;
    if (!v) return -1;
    for (int i = 0; i < k->func->param_count; i++)
        if (k->func->params[i] == v)
            return kernel_buffer(k, c_identifier(k->arena, v->name), DT_F32, PLACE_MEMORY, 0, arena_printf(k->arena, "(const float *)a->w[%d] + first_head", i));
    return -2;
}

bool build_attend(Kernel *k, Diags *diags) {
    const Func *f = k->func;
    const Node *node = NULL;
    for (int i = 0; i < f->node_count; i++)
        if (f->nodes[i]->op == OP_ATTEND) node = f->nodes[i];
    const Value *q = through_reshape(node->operands[0]);
    const Type *cache = &node->operands[1]->type, *queries = &node->operands[0]->type;
    Attend a = {.k = k, .heads = (int)queries->dims[1], .kv_heads = (int)cache->dims[0], .dims = (int)cache->dims[1], .v_dims = (int)cache->dims[2]};
    a.group = a.heads / a.kv_heads;
    a.v_padded = (int)round_up(a.v_dims, 16);
    a.causal = node_int(node, "causal");
    a.window = node_int(node, "window") < INT32_MAX ? (int)node_int(node, "window") : 0;   // no sequence is that long
    a.scale = node_number(node, "scale");
    a.softcap = node_number(node, "softcap");
    int input = -1;
    for (int i = 0; i < f->input_count; i++)
        if (f->inputs[i] == q) input = i;
    if (input < 0 || f->result_count != 1) {
        diag_error(diags, node->loc, "attend: its query must be an input of its kernel");
        return false;
    }
    k->tasks = arena_printf(k->arena, "(a.rows * %dL)", a.kv_heads);
    Text decode = {0};
    text_printf(&decode, "        const long t = task / %d, kv_head = task %% %d, first_head = kv_head * %d;\n", a.kv_heads, a.kv_heads, a.group);
    text_puts(&decode, "        const int own = a->position[t];\n");
    text_puts(&decode, "        tn_u8 *const *pages = a->step->pages + (long)a->sequence[t] * a->step->pages_per_sequence;\n");
    if (a.causal) text_puts(&decode, "        const int length = own + 1;\n");
    else text_puts(&decode, "        const int length = a->position[a->step->first[a->sequence[t] + 1] - 1] + 1;\n");
    if (a.window > 0) text_printf(&decode, "        const int first_block = own - %d > 0 ? (own - %d) / %d : 0;\n", a.window - 1, a.window - 1, KV_BLOCK);
    else text_puts(&decode, "        const int first_block = 0;\n");
    text_printf(&decode, "        const int last_block = (length + %d) / %d;\n", KV_BLOCK - 1, KV_BLOCK);
    k->decode = arena_strdup(k->arena, decode.data);
    text_free(&decode);
    PanelFormat *f32 = ARENA_NEW(k->arena, PanelFormat);
    *f32 = (PanelFormat){.type = DT_F32, .name = "f32"};
    a.sinks = vector_operand(k, node, 2);
    a.slopes = vector_operand(k, node, 3);
    if (a.sinks == -2 || a.slopes == -2) {
        diag_error(diags, node->loc, "attend: sinks and slopes must be parameters");
        return false;
    }
    int qs = kernel_buffer(k, c_identifier(k->arena, q->name), DT_F32, PLACE_MEMORY, 0,
                           arena_printf(k->arena, "(const float *)a->in[%d] + (t * %d + first_head) * %d", input, a.heads, a.dims));
    int out = kernel_buffer(k, c_identifier(k->arena, f->results[0]->name), DT_F32, PLACE_MEMORY, 0,
                            arena_printf(k->arena, "(float *)a->out[0] + (t * %d + first_head) * %d", a.heads, a.v_dims));
    int scores = kernel_buffer(k, "scores", DT_F32, PLACE_ACCUMULATOR, a.group * KV_BLOCK, NULL);
    int acc = kernel_buffer(k, "acc", DT_F32, PLACE_ACCUMULATOR, (int64_t)a.group * a.v_padded, NULL);
    int tops = kernel_buffer(k, "top", DT_F32, PLACE_SCRATCH, round_up(a.group, 16), NULL), sums = kernel_buffer(k, "total", DT_F32, PLACE_SCRATCH, round_up(a.group, 16), NULL);
    int lane = kernel_variable(k, "j", false, DT_I32);
    // A sink is one more logit that only joins the sum.
    kernel_map(k, tops, index_variable(lane, 1), lane, a.group, NULL, a.sinks >= 0 ? expr_load(k, a.sinks, index_variable(lane, 1)) : expr_number(k, -1e30));
    kernel_map(k, sums, index_variable(lane, 1), lane, a.group, NULL, expr_number(k, a.sinks >= 0 ? 1 : 0));
    kernel_map(k, acc, index_variable(lane, 1), lane, (int64_t)a.group * a.v_padded, NULL, expr_number(k, 0));
    block(&a, qs, scores, acc, tops, sums, f32);
    int i = kernel_loop(k, "i", a.group);
    int inverse = kernel_let(k, "inverse", expr_op(k, OP_DIV, expr_number(k, 1), expr_load(k, sums, index_variable(i, 1)), NULL));
    kernel_map(k, out, index_add(index_variable(i, a.v_dims), index_variable(lane, 1)), lane, a.v_dims, NULL,
               expr_op(k, OP_MUL, expr_load(k, acc, index_add(index_variable(i, a.v_padded), index_variable(lane, 1))), expr_scalar(k, inverse), NULL));
    kernel_end(k);
    return true;
}
