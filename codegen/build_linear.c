// The linear builder: a kernel whose anchor is one or more products of the same rows with packed panels. A task is one panel of 64 outputs for a
// block of rows. Accumulators go through scratch once, where the elementwise epilogue reads them and writes the results.
#include "codegen/values.h"
#include "runtime/abi.h"
#include <string.h>

static bool is_product(const Node *node) { return node->op == OP_LINEAR || node->op == OP_LINEAR_I8 || node->op == OP_LINEAR_BF16; }

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

enum { TILE_ROWS = 16 };   // of a matrix tile

typedef struct { RowValues *r; int64_t heads, outputs, k; int head, panel; } Linear;

// Where a task's panel lies: weights have panels of their own for each head, or the same for all.
static const char *panel_offset(const Linear *l, int p, const PanelLayout *layout) {
    Kernel *k = l->r->k;
    bool own = l->heads > 1 && k->func->params[p]->type.rank == 3;
    return own ? arena_printf(k->arena, "(head * %lld + panel) * %lldLL", (long long)layout->panels, (long long)layout->panel_bytes)
               : arena_printf(k->arena, "panel * %lldLL", (long long)layout->panel_bytes);
}

// An input's row of the task's first row on, and of this head; it has `size` elements a head.
static int rows_of(const Linear *l, const char *name, int number, int input, DType type, int64_t size) {
    Kernel *k = l->r->k;
    const char *head = l->heads > 1 ? arena_printf(k->arena, " + head * %lld", (long long)size) : "";
    return kernel_buffer(k, arena_printf(k->arena, "%s_%d", name, number), type, PLACE_MEMORY, 0,
                         arena_printf(k->arena, "(const %s *)a->in[%d] + row * %lld%s", c_type(type), input, (long long)(size * l->heads), head));
}

// Scales and sums of x's codes: a product wants a sum for each group whose products are summed as integers; it may come in parts.
static bool codes_of(Linear *l, const Node *node, int number, const PanelFormat *format, Stmt *mma) {
    RowValues *r = l->r;
    const Func *f = r->k->func;
    int scale = input_of(f, through_reshape(node->operands[1])), sum = input_of(f, through_reshape(node->operands[2]));
    const Type *scales = &node->operands[1]->type, *sums = &node->operands[2]->type;
    int64_t groups = scales->dims[scales->rank - 1], parts = sums->dims[sums->rank - 1], x_group = l->k / groups, group = format->group ? format->group : l->k;
    if (scale < 0 || sum < 0) {
        values_fail(r, "linear_i8: its operands do not fit one kernel");
        return false;
    }
    if (format->block && groups > 1 && format->block % x_group) {
        values_fail(r, "linear_i8: blocks of %d in the weight are no whole groups of %lld in x", format->block, (long long)x_group);
        return false;
    }
    if (x_group % group && group % x_group) {
        values_fail(r, "linear_i8: groups of %lld in x and of %lld in the weight do not divide one another", (long long)x_group, (long long)group);
        return false;
    }
    if ((group < x_group ? group : x_group) % (l->k / parts)) {
        values_fail(r, "linear_i8: x has a sum of every %lld codes, and groups of %lld are summed", (long long)(l->k / parts), (long long)(group < x_group ? group : x_group));
        return false;
    }
    if ((group < x_group ? group : x_group) % panel_unit(format)) {
        values_fail(r, "linear_i8: groups of %lld codes are no multiple of %d", (long long)(group < x_group ? group : x_group), panel_unit(format));
        return false;
    }
    mma->codes = true;
    mma->x_parts = (int)((group < x_group ? group : x_group) / (l->k / parts));
    mma->x_group = groups > 1 ? (int)x_group : 0;
    mma->scales = rows_of(l, "scales", number, scale, DT_F32, groups);
    mma->sums = rows_of(l, "sums", number, sum, DT_I32, parts);
    mma->scales_stride = groups * l->heads;
    mma->sums_stride = parts * l->heads;
    return true;
}

// One product; its accumulator stands for the linear's result.
static bool product(Linear *l, const Node *node, int number) {
    RowValues *r = l->r;
    Kernel *k = r->k;
    bool i8 = node->op == OP_LINEAR_I8, bf16 = node->op == OP_LINEAR_BF16;
    int p = param_of(k->func, node->operands[i8 ? 3 : 1]), x = input_of(k->func, through_reshape(node->operands[0]));
    PanelLayout layout;
    if (p < 0 || x < 0 || !kernel_panel(k, p, &layout) || k->product_count == MAX_PRODUCTS) {
        values_fail(r, "linear: its operands do not fit one kernel");
        return false;
    }
    if (i8 && !product_takes_codes(&layout.format)) {
        values_fail(r, "linear_i8: %s is stored as %s, which is not made of integers and scales", k->func->params[p]->name, dtype_info[layout.format.type].name);
        return false;
    }
    if (bf16 && (layout.format.type != DT_BF16 || !(k->target->dot_bf16 || k->target->tile_bf16))) {
        if (layout.format.type != DT_BF16) values_fail(r, "linear_bf16: %s is stored as %s, not as bf16", k->func->params[p]->name, dtype_info[layout.format.type].name);
        else values_fail(r, "linear_bf16: target %s does not multiply bf16", k->target->name);
        return false;
    }
    PanelFormat *format = arena_copy(k->arena, &layout.format, sizeof layout.format);
    const char *w = k->func->params[p]->name;
    int xs = rows_of(l, "x", number, x, i8 ? DT_I8 : bf16 ? DT_BF16 : DT_F32, l->k);
    bool plain = format->type == DT_F32 && !format->bits;
    int ws = kernel_buffer(k, arena_printf(k->arena, "%s_panel", c_identifier(k->arena, w)), plain ? DT_F32 : DT_U8, PLACE_MEMORY, 0,
                           arena_printf(k->arena, "%s(a->w[%d] + %s)", plain ? "(const float *)" : "", p, panel_offset(l, p, &layout)));
    int acc = kernel_buffer(k, arena_printf(k->arena, "acc_%d", number), DT_F32, PLACE_ACCUMULATOR, k->schedule.row_block * PANEL_WIDTH, NULL);
    Stmt *mma = kernel_mma(k, acc, index_constant(0), PANEL_WIDTH, xs, index_constant(0), l->k * l->heads, "rows", ws, index_constant(0), plain ? PANEL_WIDTH : 0, format,
                           PANEL_WIDTH, l->k);
    if (i8 && !codes_of(l, node, number, format, mma)) return false;
    k->product_groups[k->product_count] = i8 ? mma->x_group : bf16 ? X_BF16 : X_FLOATS;
    mma->bf16 = bf16;
    k->products[k->product_count++] = p;
    k->weight_bytes += (double)layout.bytes;
    if (i8) k->arithmetic = "int8";
    if (bf16) k->arithmetic = "bf16";
    k->operations += 2.0 * (double)layout.kept * (double)l->outputs * (double)l->heads;
    values_bind(r, node->results[0], acc);
    return true;
}

// The product, then the bias.
static Expr *product_value(Linear *l, const Node *node, Expr *acc, const Index *at) {
    int bias = node->op == OP_LINEAR_I8 ? 4 : 2;
    const Value *b = node->operand_count > bias ? node->operands[bias] : NULL;
    return b ? expr_op(l->r->k, OP_ADD, acc, values_operand(l->r, node->results[0]->type.rank, at, b), NULL) : acc;
}

// Every float value of the epilogue has the shape [T, (heads,) outputs]; reshapes of a result keep the bytes.
static Expr *epilogue(Linear *l, const Value *v, const Index *at, int depth) {
    RowValues *r = l->r;
    Kernel *k = r->k;
    if (v->kind != VALUE_RESULT) return values_element(r, v, at);
    const Node *node = v->node;
    if (is_product(node)) return product_value(l, node, expr_load(k, values_buffer(r, v), r->accumulator), at);
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

// A block of outputs is a panel, so that one task knows it whole; what it has just stored is still near.
static void say_largest(const Linear *l, int to) {
    Kernel *k = l->r->k;
    _Static_assert((int)TN_BLOCK == (int)PANEL_WIDTH, "a task makes whole blocks");
    const char *columns = l->outputs % PANEL_WIDTH ? "columns" : arena_printf(k->arena, "%d", PANEL_WIDTH);
    long long outputs = (long long)l->outputs, panels = (outputs + PANEL_WIDTH - 1) / PANEL_WIDTH;
    kernel_call(k, "if (a->largest) a->largest[(row + r) * %lld + panel] = tn_block_largest(%s + panel * %d + r * %lld, %s)", panels, k->buffers[to].name, PANEL_WIDTH, outputs, columns);
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
        if (i == k->largest) say_largest(l, to);
    }
    kernel_end(k);
}

// What tells the kernel from others: formats, sizes and what follows the products.
static const char *shape_of(const Kernel *k, const ScheduleKey *key, const Linear *l) {
    Text text = {0};
    text_printf(&text, "linear a%d %lldx%lld", key->x_group, key->outputs, key->k);
    if (l->heads > 1) text_printf(&text, " heads %lld", (long long)l->heads);
    for (int i = 0; i < k->func->node_count; i++) {
        const Node *node = k->func->nodes[i];
        PanelLayout layout;
        int p = is_product(node) ? param_of(k->func, node->operands[node->op == OP_LINEAR_I8 ? 3 : 1]) : -1;
        if (p >= 0 && kernel_panel(k, p, &layout)) text_printf(&text, " %s", layout.format.name);
        else if (node->op != OP_CONST && node->op != OP_RESHAPE) text_printf(&text, " %s", op_info(node->op)->name);
    }
    for (int i = 0; i < k->func->result_count; i++) {
        text_puts(&text, i ? ", " : " -> ");
        type_text(&k->func->results[i]->type, &text);
    }
    const char *shape = arena_strdup(k->arena, text.data);
    text_free(&text);
    return shape;
}

static void choose_schedule(Kernel *k, const Node *anchor, const Linear *l) {
    bool i8 = anchor->op == OP_LINEAR_I8;
    int p = param_of(k->func, anchor->operands[i8 ? 3 : 1]);
    PanelLayout layout;
    ScheduleKey key = {.target = k->target, .x_group = anchor->op == OP_LINEAR_BF16 ? X_BF16 : X_FLOATS, .outputs = l->outputs, .k = l->k};
    if (p >= 0 && kernel_panel(k, p, &layout)) key.format = layout.format.name, key.sparse = layout.format.sparse;
    if (i8) key.x_group = (int)(anchor->operands[1]->type.dims[anchor->operands[1]->type.rank - 1] > 1 ? l->k / anchor->operands[1]->type.dims[anchor->operands[1]->type.rank - 1] : 0);
    for (int i = 0; i < k->func->node_count; i++) key.products += is_product(k->func->nodes[i]);
    key.shape = shape_of(k, &key, l);
    key.few_rows = anchor->results[0]->type.dims[0] != DIM_T;
    k->schedule_key = key;
    k->schedule = schedule_for(&key);
    if (k->fixed) k->schedule = *k->fixed;
    else k->tuned = k->book && k->book->find(k->book->from, &key, &k->schedule);
}

// Blocks of rows: few, since each reads all weights; but few panels make more of them, so that every thread gets its share. Matrix tiles want many rows,
// and of experts there are several at a time.
static const char *row_blocks(const Kernel *k, long long columns, const char *a) {
    enum { WANTED_TASKS = 32, LEAST_CODES = 24, LEAST_FLOATS = 48 };   // rows that are worth opening a panel for
    int rows = k->schedule.row_block, least = k->schedule_key.x_group < 0 ? LEAST_FLOATS : LEAST_CODES;
    long long wanted = k->target->tile_i8 || k->expert ? 1 : (WANTED_TASKS + columns - 1) / columns;
    return wanted == 1 ? arena_printf(k->arena, "(%srows + %d) / %d", a, rows - 1, rows) : arena_printf(k->arena, "tn_row_blocks(%srows, %d, %d, %lld)", a, rows, least, wanted);
}

// The order of tasks: a group of panels goes through all blocks of rows, then the next group. Blocks are of equal size, so that shares of the tasks
// are of equal work.
static void print_tasks(Kernel *k, const Linear *l, int64_t panels, Text *decode) {
    int rows = k->schedule.row_block, unit = k->target->tile_i8 && rows % TILE_ROWS == 0 ? TILE_ROWS : 1;
    long long columns = (long long)(panels * l->heads), group = k->schedule.panels && k->schedule.panels < columns ? k->schedule.panels : columns;
    k->row_blocks = row_blocks(k, columns, "a.");
    k->tasks = arena_printf(k->arena, "(%s * %lldL)", k->row_blocks, columns);
    text_printf(decode, "        const long row_blocks = %s, rows_each = (a->rows + row_blocks * %d - 1) / (row_blocks * %d) * %d;\n", row_blocks(k, columns, "a->"), unit, unit, unit);
    if (group == columns) text_printf(decode, "        const long column = task %% %lld, row = task / %lld * rows_each;\n", columns, columns);
    else {
        text_printf(decode, "        const long first_column = task / (%lld * row_blocks) * %lld, columns_wide = %lld - first_column < %lld ? %lld - first_column : %lld, within = task - first_column * row_blocks;\n",
                    group, group, columns, group, columns, group);
        text_puts(decode, "        const long column = first_column + within % columns_wide, row = within / columns_wide * rows_each;\n");
    }
    if (l->heads > 1) text_printf(decode, "        const long panel = column %% %lld, head = column / %lld;\n", (long long)panels, (long long)panels);
    else text_puts(decode, "        const long panel = column;\n");
    text_puts(decode, "        const int rows = (int)(a->rows - row < rows_each ? a->rows - row : rows_each);\n");
    if (unit > 1 || strstr(k->row_blocks, "tn_row_blocks")) text_puts(decode, "        if (rows <= 0) continue;\n");   // the last block, after others that are rounded up
}

bool build_linear(Kernel *k, Diags *diags) {
    const Func *f = k->func;
    RowValues r = {.k = k, .diags = diags, .loc = f->loc};
    const Node *anchor = NULL;
    for (int i = 0; i < f->node_count && !anchor; i++)
        if (is_product(f->nodes[i])) anchor = f->nodes[i];
    r.loc = anchor->loc;
    const Type *shape = &anchor->results[0]->type, *w = &anchor->operands[anchor->op == OP_LINEAR_I8 ? 3 : 1]->type;
    Linear l = {.r = &r, .heads = shape->rank == 3 ? shape->dims[1] : 1, .outputs = w->dims[w->rank - 2], .k = w->dims[w->rank - 1]};
    if (shape->rank > 3) {
        diag_error(diags, anchor->loc, "linear: code generation takes x of rank 2 or 3, and this has %d", shape->rank);
        diag(diags, DIAG_HINT, anchor->loc, "reshape it first, and what comes out after");
        return false;
    }
    choose_schedule(k, anchor, &l);
    Text decode = {0};
    int64_t panels = (l.outputs + PANEL_WIDTH - 1) / PANEL_WIDTH, tail = l.outputs - (panels - 1) * PANEL_WIDTH;
    print_tasks(k, &l, panels, &decode);
    if (tail != PANEL_WIDTH) text_printf(&decode, "        const int columns = panel < %lld ? %d : %lld;\n", (long long)(panels - 1), PANEL_WIDTH, (long long)tail);
    k->decode = arena_strdup(k->arena, decode.data);
    text_free(&decode);
    l.head = kernel_variable(k, "head", false, DT_I32);
    l.panel = kernel_variable(k, "panel", false, DT_I32);
    r.row = r.source_row = "row";   // of the task's first row
    values_bind_operands(&r);
    for (int i = 0; i < f->node_count && !r.failed; i++)
        if (is_product(f->nodes[i])) product(&l, f->nodes[i], i);
    if (!r.failed) results(&l, shape);
    return !r.failed;
}
