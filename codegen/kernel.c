// Building tile programs: buffers, variables, statements, expressions.
#include "codegen/kernel.h"
#include <stdlib.h>
#include <string.h>

int kernel_buffer(Kernel *k, const char *name, DType type, Place place, int64_t elements, const char *base) {
    const char *unique = arena_strdup(k->arena, name);
    for (int n = 2, i = 0; i < k->buffer_count; i++)
        if (!strcmp(k->buffers[i].name, unique)) {
            unique = arena_printf(k->arena, "%s_%d", name, n++);
            i = -1;
        }
    Buffer b = {.name = unique, .type = type, .place = place, .elements = elements,
                .base = base ? arena_strdup(k->arena, base) : NULL};
    ARENA_PUSH(k->arena, k->buffers, k->buffer_count, k->buffer_capacity) = b;
    return k->buffer_count - 1;
}

int kernel_variable(Kernel *k, const char *name, bool scalar, DType type) {
    // Loop variables may repeat a name in disjoint loops; scalars get a number of their own.
    Variable v = {.scalar = scalar, .type = type};
    v.name = scalar ? arena_printf(k->arena, "%s%d", name, k->variable_count) : arena_strdup(k->arena, name);
    ARENA_PUSH(k->arena, k->variables, k->variable_count, k->variable_capacity) = v;
    return k->variable_count - 1;
}

static Stmt *add(Kernel *k, StmtKind kind) {
    Stmt s = {.kind = kind};
    ARENA_PUSH(k->arena, k->stmts, k->stmt_count, k->stmt_capacity) = s;
    return &k->stmts[k->stmt_count - 1];
}

int kernel_loop(Kernel *k, const char *name, int64_t extent) {
    int v = kernel_variable(k, name, false, DT_I32);
    Stmt *s = add(k, S_FOR);
    s->variable = v;
    s->extent = extent;
    return v;
}

int kernel_loop_text(Kernel *k, const char *name, const char *from, const char *extent) {
    int v = kernel_variable(k, name, false, DT_I32);
    Stmt *s = add(k, S_FOR);
    s->variable = v;
    s->from_text = from ? arena_strdup(k->arena, from) : NULL;
    s->extent_text = arena_strdup(k->arena, extent);
    return v;
}

void kernel_end(Kernel *k) { add(k, S_END); }

void kernel_map(Kernel *k, int buffer, Index to, int lane, int64_t extent, const char *extent_text, Expr *expr) {
    Stmt *s = add(k, S_MAP);
    s->buffer = buffer;
    s->index = to;
    s->variable = lane;
    s->extent = extent;
    s->extent_text = extent_text;
    s->expr = expr;
    k->buffers[buffer].written = true;
}

int kernel_reduce(Kernel *k, OpId op, int lane, int64_t extent, Expr *expr) {
    int scalar = kernel_variable(k, op == OP_SUM ? "sum" : op == OP_MAX ? "max" : "min", true, DT_F32);
    Stmt *s = add(k, S_REDUCE);
    s->op = op;
    s->variable = lane;
    s->extent = extent;
    s->expr = expr;
    s->scalar = scalar;
    return scalar;
}

int kernel_let(Kernel *k, const char *name, Expr *expr) {
    int scalar = kernel_variable(k, name, true, expr->type);
    Stmt *s = add(k, S_LET);
    s->scalar = scalar;
    s->expr = expr;
    return scalar;
}

void kernel_call(Kernel *k, const char *format, ...) {
    Text text = {0};
    va_list args;
    va_start(args, format);
    text_vprintf(&text, format, args);
    va_end(args);
    add(k, S_CALL)->text = arena_strdup(k->arena, text.data);
    text_free(&text);
}

// ---- indices --------------------------------------------------------------------------------------------------------------

Index index_constant(int64_t value) { return (Index){.constant = value}; }

Index index_variable(int variable, int64_t coefficient) {
    Index x = {0};
    if (coefficient) x.terms[x.count++] = (Term){variable, coefficient};
    return x;
}

Index index_add(Index a, Index b) {
    a.constant += b.constant;
    for (int i = 0; i < b.count; i++) {
        int j = 0;
        while (j < a.count && a.terms[j].variable != b.terms[i].variable) j++;
        if (j < a.count) a.terms[j].coefficient += b.terms[i].coefficient;
        else if (a.count < MAX_TERMS) a.terms[a.count++] = b.terms[i];
        else abort();   // a builder of ours that holds more loops than there are: better no code than wrong code
    }
    return a;
}

Index index_scale(Index a, int64_t by) {
    if (!by) return index_constant(0);
    a.constant *= by;
    for (int i = 0; i < a.count; i++) a.terms[i].coefficient *= by;
    return a;
}

// ---- expressions ------------------------------------------------------------------------------------------------------------

static Expr *expr_new(Kernel *k, ExprKind kind, DType type) {
    Expr *e = ARENA_NEW(k->arena, Expr);
    e->kind = kind;
    e->type = type;
    k->expr_count++;
    return e;
}

Expr *expr_number(Kernel *k, double value) { Expr *e = expr_new(k, X_CONST, DT_F32); e->number = value; return e; }

Expr *expr_load(Kernel *k, int buffer, Index index) {
    DType type = k->buffers[buffer].type;
    Expr *e = expr_new(k, X_LOAD, type == DT_I8 ? DT_I32 : type);
    e->buffer = buffer;
    e->index = index;
    return e;
}

Expr *expr_scalar(Kernel *k, int variable) { Expr *e = expr_new(k, X_SCALAR, k->variables[variable].type); e->variable = variable; return e; }
Expr *expr_index(Kernel *k, Index index) { Expr *e = expr_new(k, X_INDEX, DT_I32); e->index = index; return e; }

Expr *expr_op(Kernel *k, OpId op, Expr *a, Expr *b, Expr *c) {
    DType type = op == OP_WHERE ? b->type : op == OP_LT || op == OP_LE || op == OP_EQ || op == OP_NE ? DT_BOOL : a->type;
    Expr *e = expr_new(k, X_OP, type);
    e->op = op;
    e->args[e->count++] = a;
    if (b) e->args[e->count++] = b;
    if (c) e->args[e->count++] = c;
    return e;
}

Stmt *kernel_mma(Kernel *k, int acc, Index index, int64_t acc_stride, int a, Index a_index, int64_t a_stride, const char *rows, int b, Index b_index,
                 int64_t b_stride, const PanelFormat *format, int columns, int64_t depth) {
    Stmt *s = add(k, S_MMA);
    s->buffer = acc;
    s->index = index;
    s->acc_stride = acc_stride;
    s->a = a;
    s->a_index = a_index;
    s->a_stride = a_stride;
    s->rows_text = rows;
    s->b = b;
    s->b_index = b_index;
    s->b_stride = b_stride;
    s->format = format;
    s->columns = columns;
    s->extent = depth;
    k->buffers[acc].written = true;
    if (b_stride && strncmp(format->name, "kv_", 3)) k->f32_vectors |= 1u << columns / 16;
    return s;
}

bool kernel_panel(const Kernel *k, int param, PanelLayout *out) {
    return panel_layout(k->arena, &k->func->params[param]->type, k->param_storage[param], k->func->params[param]->kept, k->func->params[param]->block, out);
}

// ---- values in memory -------------------------------------------------------------------------------------------------------

const char *c_type(DType type) { return type == DT_F32 ? "float" : type == DT_I32 ? "int" : type == DT_I8 ? "signed char" : type == DT_BF16 ? "tn_u16" : "tn_u8"; }

uint64_t row_bytes(const Type *type) { return (uint64_t)type_row_elements(type) * (type->dtype == DT_BOOL || type->dtype == DT_I8 ? 1 : type->dtype == DT_BF16 ? 2 : 4); }

uint64_t cache_bytes(const Type *cache) {
    DType storage = cache_storage(cache);
    uint64_t elements = (uint64_t)round_up(cache->dims[1], storage == DT_BF16 ? 2 : 1) + (uint64_t)round_up(cache->dims[2], 16), scales = storage == DT_I8 ? 2 * sizeof(float) : 0;
    return (uint64_t)cache->dims[0] * KV_PAGE * (elements * (uint64_t)dtype_info[storage].bytes + scales);
}

const Value *through_reshape(const Value *value) {
    while (value->kind == VALUE_RESULT && value->node->op == OP_RESHAPE) value = value->node->operands[0];
    return value;
}
