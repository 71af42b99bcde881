// The linear builder: a kernel whose anchor is one or more products of the same rows with packed panels. A task is one panel of 64 outputs for a
// block of rows. Accumulators go through scratch once, where the elementwise epilogue reads them and writes the results.
#include "codegen/values.h"
#include <string.h>

static int param_of(const Func *f, const Value *v) {
    for (int i = 0; i < f->param_count; i++)
        if (f->params[i] == v) return i;
    return -1;
}

static int input_of(const Func *f, const Value *v) {
    for (int i = 0; i < f->input_count; i++)
        if (f->inputs[i] == v) return i;
    return -1;
}

typedef struct { RowValues *r; int64_t heads, outputs, k; int head, panel; } Linear;

// Where a task's panel lies: weights have panels of their own for each head, or the same for all.
static const char *panel_offset(const Linear *l, int p, const PanelLayout *layout) {
    Kernel *k = l->r->k;
    bool own = l->heads > 1 && k->func->params[p]->type.rank == 3;
    return own ? arena_printf(k->arena, "(head * %lld + panel) * %lldLL", (long long)layout->panels, (long long)layout->panel_bytes)
               : arena_printf(k->arena, "panel * %lldLL", (long long)layout->panel_bytes);
}

// One product; its accumulator stands for the linear's result.
static bool product(Linear *l, const Node *node, int number) {
    RowValues *r = l->r;
    Kernel *k = r->k;
    bool i8 = node->op == OP_LINEAR_I8;
    int weight = i8 ? 3 : 1, p = param_of(k->func, node->operands[weight]), x = input_of(k->func, through_reshape(node->operands[0]));
    PanelLayout layout;
    if (p < 0 || x < 0 || !kernel_panel(k, p, &layout) || k->product_count == MAX_PRODUCTS) {
        values_fail(r, "linear: its operands do not fit one kernel");
        return false;
    }
    if (i8 != (layout.format.type == DT_W8)) {
        values_fail(r, "linear: %s is packed as %s, which this op does not read", k->func->params[p]->name, layout.format.name);
        return false;
    }
    DType x_type = i8 ? DT_I8 : DT_F32, acc_type = i8 ? DT_I32 : DT_F32;
    PanelFormat *format = arena_copy(k->arena, &layout.format, sizeof layout.format);
    const char *w = k->func->params[p]->name;
    int64_t stride = l->k * l->heads;
    const char *head = l->heads > 1 ? arena_printf(k->arena, " + head * %lld", (long long)l->k) : "";
    int xs = kernel_buffer(k, arena_printf(k->arena, "x_%d", number), x_type, PLACE_MEMORY, 0,
                           arena_printf(k->arena, "(const %s *)a->in[%d] + row * %lld%s", c_type(x_type), x, (long long)stride, head));
    bool plain = format->type == DT_F32 && !format->group;
    int ws = kernel_buffer(k, arena_printf(k->arena, "%s_panel", c_identifier(k->arena, w)), plain ? DT_F32 : DT_U8, PLACE_MEMORY, 0,
                           arena_printf(k->arena, "%s(a->w[%d] + %s)", plain ? "(const float *)" : "", p, panel_offset(l, p, &layout)));
    int acc = kernel_buffer(k, arena_printf(k->arena, "acc_%d", number), acc_type, PLACE_ACCUMULATOR, ROW_BLOCK * PANEL_WIDTH, NULL);
    kernel_mma(k, acc, index_constant(0), PANEL_WIDTH, xs, index_constant(0), stride, "rows", ws, index_constant(0), plain ? PANEL_WIDTH : 0, format, PANEL_WIDTH, l->k);
    k->products[k->product_count++] = p;
    k->weight_bytes += (double)layout.bytes;
    if (i8) k->arithmetic = "int8";
    k->operations += 2.0 * (double)l->k * (double)l->outputs * (double)l->heads;
    values_bind(r, node->results[0], acc);
    return true;
}

// int8: the sum times the row's scale and the output's. Otherwise the sum; then the bias.
static Expr *product_value(Linear *l, const Node *node, Expr *acc, const Index *at, int number) {
    Kernel *k = l->r->k;
    if (node->op == OP_LINEAR_I8) {
        int p = param_of(k->func, node->operands[3]);
        PanelLayout layout;
        kernel_panel(k, p, &layout);
        int scales = kernel_buffer(k, arena_printf(k->arena, "w_scale_%d", number), DT_F32, PLACE_MEMORY, 0,
                                   arena_printf(k->arena, "(const float *)(a->w[%d] + %s + %lld)", p, panel_offset(l, p, &layout), (long long)round_up(layout.k, 64) * 64));
        Index column = {0};
        for (int i = 0; i < at[node->results[0]->type.rank - 1].count; i++)   // the lane alone: within the panel
            if (at[node->results[0]->type.rank - 1].terms[i].variable != l->panel) column = index_add(column, index_variable(at[node->results[0]->type.rank - 1].terms[i].variable, 1));
        Expr *value = expr_op(k, OP_CAST, acc, NULL, NULL);
        value->type = value->cast = DT_F32;
        value = expr_op(k, OP_MUL, value, values_operand(l->r, node->results[0]->type.rank, at, node->operands[1]), NULL);
        acc = expr_op(k, OP_MUL, value, expr_load(k, scales, column), NULL);
    }
    const Value *bias = node->op == OP_LINEAR_I8 ? (node->operand_count > 4 ? node->operands[4] : NULL) : node->operand_count > 2 ? node->operands[2] : NULL;
    return bias ? expr_op(k, OP_ADD, acc, values_operand(l->r, node->results[0]->type.rank, at, bias), NULL) : acc;
}

// Every float value of the epilogue has the shape [T, (heads,) outputs]; reshapes of a result keep the bytes.
static Expr *epilogue(Linear *l, const Value *v, const Index *at, int depth) {
    RowValues *r = l->r;
    Kernel *k = r->k;
    if (v->kind != VALUE_RESULT) return values_element(r, v, at);
    const Node *node = v->node;
    if (node->op == OP_LINEAR || node->op == OP_LINEAR_I8) {
        int buffer = values_buffer(r, v), number = 0;
        for (int i = 0; i < k->func->node_count && k->func->nodes[i] != node; i++) number++;
        return product_value(l, node, expr_load(k, buffer, r->accumulator), at, number);
    }
    if (node->op == OP_RESHAPE) return epilogue(l, node->operands[0], at, depth);
    if (!(op_info(node->op)->flags & ELEMENTWISE) || depth > 64) {
        values_fail(r, "%s cannot follow a linear inside its kernel", op_info(node->op)->name);
        return expr_number(k, 0);
    }
    if (node->op == OP_CONST) return values_element(r, v, at);
    if (k->expr_count > MAX_EXPRS) {   // a value that is read twice is computed twice, and what leads to it
        if (!r->failed) values_fail(r, "%s: what follows this linear repeats itself too often for one kernel", v->name);
        return expr_number(k, 0);
    }
    Expr *args[3] = {0};
    for (int i = 0; i < node->operand_count; i++) {
        const Value *o = node->operands[i];
        Index own[MAX_RANK];
        values_broadcast(o, v->type.rank, at, own);
        args[i] = epilogue(l, o, own, depth + 1);
    }
    return values_apply(r, v, args);
}

static void results(Linear *l, const Type *shape) {
    RowValues *r = l->r;
    Kernel *k = r->k;
    int row = kernel_loop_text(k, "r", NULL, "rows"), lane = kernel_variable(k, "j", false, DT_I32);
    Index column = index_add(index_variable(lane, 1), index_variable(l->panel, PANEL_WIDTH)), at[MAX_RANK] = {{0}};
    at[0] = index_variable(row, 1);
    at[shape->rank - 1] = column;
    if (l->heads > 1) at[1] = index_variable(l->head, 1);
    r->accumulator = index_add(index_variable(lane, 1), index_variable(row, PANEL_WIDTH));
    for (int i = 0; i < k->func->result_count; i++) {
        const Value *result = k->func->results[i], *v = through_reshape(result);
        const char *type = c_type(v->type.dtype);
        int to = kernel_buffer(k, arena_printf(k->arena, "%s", c_identifier(k->arena, result->name)), v->type.dtype, PLACE_MEMORY, 0,
                               arena_printf(k->arena, "(%s *)a->out[%d] + row * %lld", type, i, (long long)type_row_elements(&v->type)));
        kernel_map(k, to, values_flat(v, at), lane, PANEL_WIDTH, l->outputs % PANEL_WIDTH ? "columns" : NULL, epilogue(l, v, at, 0));
    }
    kernel_end(k);
}

bool build_linear(Kernel *k, Diags *diags) {
    const Func *f = k->func;
    RowValues r = {.k = k, .diags = diags, .loc = f->loc};
    const Node *anchor = NULL;
    for (int i = 0; i < f->node_count && !anchor; i++)
        if (f->nodes[i]->op == OP_LINEAR || f->nodes[i]->op == OP_LINEAR_I8) anchor = f->nodes[i];
    r.loc = anchor->loc;
    const Type *shape = &anchor->results[0]->type, *w = &anchor->operands[anchor->op == OP_LINEAR_I8 ? 3 : 1]->type;
    Linear l = {.r = &r, .heads = shape->rank == 3 ? shape->dims[1] : 1, .outputs = w->dims[w->rank - 2], .k = w->dims[w->rank - 1]};
    if (shape->rank > 3) {
        diag_error(diags, anchor->loc, "linear: code generation takes x of rank 2 or 3, and this has %d", shape->rank);
        diag(diags, DIAG_HINT, anchor->loc, "reshape it first, and what comes out after");
        return false;
    }
    int64_t panels = (l.outputs + PANEL_WIDTH - 1) / PANEL_WIDTH, block = panels * l.heads, tail = l.outputs - (panels - 1) * PANEL_WIDTH;
    k->tasks = arena_printf(k->arena, "((a.rows + %d) / %d * %lldL)", ROW_BLOCK - 1, ROW_BLOCK, (long long)block);
    Text decode = {0};
    text_printf(&decode, "        const long panel = task %% %lld, row = task / %lld * %d;\n", (long long)panels, (long long)block, ROW_BLOCK);
    if (l.heads > 1) text_printf(&decode, "        const long head = task / %lld %% %lld;\n", (long long)panels, (long long)l.heads);
    text_printf(&decode, "        const int rows = a->rows - row < %d ? (int)(a->rows - row) : %d;\n", ROW_BLOCK, ROW_BLOCK);
    if (tail != PANEL_WIDTH) text_printf(&decode, "        const int columns = panel < %lld ? %d : %lld;\n", (long long)(panels - 1), PANEL_WIDTH, (long long)tail);
    k->decode = arena_strdup(k->arena, decode.data);
    text_free(&decode);
    l.head = kernel_variable(k, "head", false, DT_I32);
    l.panel = kernel_variable(k, "panel", false, DT_I32);
    r.row = r.source_row = "row";   // of the task's first row
    values_bind_operands(&r);
    for (int i = 0; i < f->node_count && !r.failed; i++)
        if (f->nodes[i]->op == OP_LINEAR || f->nodes[i]->op == OP_LINEAR_I8) product(&l, f->nodes[i], i);
    if (!r.failed) results(&l, shape);
    return !r.failed;
}
