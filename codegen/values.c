// Values of a kernel as expressions (values.h).
#include "codegen/values.h"
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

const char *c_identifier(Arena *arena, const char *name) {
    char *id = arena_printf(arena, "%s%s", isdigit((unsigned char)*name) ? "v" : "", name);
    for (char *c = id; *c; c++)
        if (!isalnum((unsigned char)*c)) *c = '_';
    // Names that C, the prelude and tile programs have already.
    static const char *const taken[] = {"a", "task", "t", "row", "i0", "i1", "i2", "i3", "i4", "j", "first_task", "last_task", "auto", "break", "case", "char", "const",
        "continue", "default", "do", "double", "else", "enum", "extern", "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict",
        "return", "short", "signed", "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "asm", "main",
        "position", "page", "p", "r", "h", "head", "panel", "rows", "columns", "block", "typeof", "linux", "unix", "bool", "true", "false", "nullptr",
        "constexpr", "alignas", "alignof", "static_assert", "thread_local", "typeof_unqual", "i", "e", "one", "over", "token", "tokens", "source", "own",
        "length", "pages", "kv_head", "first_head", "first_block", "last_block", "keys", "values", "seen",
        "column", "first_column", "columns_wide", "row_blocks", "rows_each", "within"};
    for (size_t i = 0; i < COUNT_OF(taken); i++)
        if (!strcmp(id, taken[i])) return arena_printf(arena, "%s_", id);
    static const char *const numbered[] = {"sum", "max", "min", "scale", "mean", "before", "now", "decay", "inverse"};   // scalars of a tile program
    for (size_t i = 0; i < COUNT_OF(numbered); i++) {
        size_t n = strlen(numbered[i]);
        if (!strncmp(id, numbered[i], n) && id[n] && strspn(id + n, "0123456789_v") == strlen(id + n)) return arena_printf(arena, "%s_", id);
    }
    if (!strncmp(id, "tn_", 3) || *id == '_' || !strncmp(id, "product_", 8) || !strncmp(id, "panel_row_", 10)) return arena_printf(arena, "v%s", id);
    return id;
}

void values_fail(RowValues *r, const char *format, ...) {
    r->failed = true;
    va_list args;
    va_start(args, format);
    diag_v(r->diags, DIAG_ERROR, r->loc, format, args);
    va_end(args);
}

void values_bind(RowValues *r, const Value *value, int buffer) {
    ARENA_PUSH(r->k->arena, r->slots, r->slot_count, r->slot_capacity) = (Slot){.value = value, .buffer = buffer};
}

int values_buffer(RowValues *r, const Value *value) {
    for (int i = 0; i < r->slot_count; i++)
        if (r->slots[i].value == value) return r->slots[i].buffer;
    return -1;
}

void values_bind_operands(RowValues *r) {
    Kernel *k = r->k;
    const Func *f = k->func;
    for (int i = 0; i < f->input_count; i++) {
        const Value *v = f->inputs[i];
        if (v->type.dtype == DT_CACHE) continue;
        const char *type = c_type(v->type.dtype);
        const char *row = v->type.rank && v->type.dims[0] == DIM_T ? r->source_row : r->row;
        char *base = first_dim(&v->type) ? arena_printf(k->arena, "(const %s *)a->in[%d] + (long)%s * %lld", type, i, row, (long long)type_row_elements(&v->type))
                                         : arena_printf(k->arena, "(const %s *)a->in[%d]", type, i);
        values_bind(r, v, kernel_buffer(k, c_identifier(k->arena, v->name), v->type.dtype, PLACE_MEMORY, 0, base));
    }
    for (int i = 0; i < f->param_count; i++) {
        const Value *v = f->params[i];
        if (v->layout != LAYOUT_ROWS && v->layout != LAYOUT_NONE) continue;   // panels: read by mma and embedding only
        DType type = value_dtype(v);
        values_bind(r, v, kernel_buffer(k, c_identifier(k->arena, v->name), type, PLACE_MEMORY, 0, arena_printf(k->arena, "(const %s *)a->w[%d]", c_type(type), i)));
    }
}

int values_store(RowValues *r, const Value *value) {
    Kernel *k = r->k;
    int buffer = values_buffer(r, value);
    if (buffer >= 0) return buffer;
    DType type = value->type.dtype;
    int64_t n = type_row_elements(&value->type);
    for (int i = 0; i < k->func->result_count; i++)
        if (k->func->results[i] == value) {
            char *base = first_dim(&value->type)
                             ? arena_printf(k->arena, "(%s *)a->out[%d] + (long)%s * %lld", c_type(type), i, r->row, (long long)n)
                             : arena_printf(k->arena, "(%s *)a->out[%d]", c_type(type), i);
            buffer = kernel_buffer(k, c_identifier(k->arena, value->name), type, PLACE_MEMORY, 0, base);
            break;
        }
    if (buffer < 0) {
        if (n > 1 << 20) values_fail(r, "%s: a row of %lld values between two ops is more than a task can hold", value->name, (long long)n);
        buffer = kernel_buffer(k, c_identifier(k->arena, value->name), type, PLACE_SCRATCH, round_up(n, 16), NULL);
    }
    k->buffers[buffer].written = true;
    values_bind(r, value, buffer);
    return buffer;
}

Index values_flat(const Value *value, const Index *at) {
    Index flat = index_constant(0);
    int64_t stride = 1;
    for (int d = value->type.rank - 1; d >= 0; d--) {
        flat = index_add(flat, index_scale(at[d], stride));
        stride *= value->type.dims[d];
    }
    return flat;
}

void values_broadcast(const Value *operand, int rank, const Index *at, Index *own) {
    for (int d = 0; d < operand->type.rank; d++) own[d] = operand->type.dims[d] == 1 ? index_constant(0) : at[d + rank - operand->type.rank];
}

Expr *values_operand(RowValues *r, int rank, const Index *at, const Value *operand) {
    Index own[MAX_RANK];
    values_broadcast(operand, rank, at, own);
    return values_element(r, operand, own);
}

Expr *values_apply(RowValues *r, const Value *value, Expr *const *args) {
    const Node *node = value->node;
    Expr *e = expr_op(r->k, node->op, args[0], args[1], args[2]);
    e->type = value->type.dtype;
    if (node->op == OP_GELU) e->tanh = node_int(node, "tanh");
    if (node->op == OP_CLAMP) e->lo = node_number(node, "lo"), e->hi = node_number(node, "hi");
    if (node->op == OP_CAST) e->cast = (DType)node_int(node, "type");
    return e;
}

static Expr *node_element(RowValues *r, const Value *value, const Index *at) {
    const Node *node = value->node;
    Kernel *k = r->k;
    Index own[MAX_RANK];
    const Value *x = node->operand_count ? node->operands[0] : NULL;
    memcpy(own, at, sizeof own);
    switch (node->op) {
    case OP_CONST: {
        Expr *e = expr_number(k, node_number(node, "value"));
        e->type = (DType)node_int(node, "type");
        return e;
    }
    case OP_SLICE: {
        int axis = (int)node_int(node, "axis");
        if (axis < 0) axis += x->type.rank;
        own[axis] = index_add(own[axis], index_constant(node_int(node, "from")));
        return values_element(r, x, own);
    }
    case OP_SPLIT: {
        int axis = (int)node_int(node, "axis");
        if (axis < 0) axis += x->type.rank;
        const Attr *sizes = node_attr(node, "sizes");
        for (int i = 0; i < value->index; i++) own[axis] = index_add(own[axis], index_constant(sizes->sizes[i]));
        return values_element(r, x, own);
    }
    case OP_TRANSPOSE: {
        int a = (int)node_int(node, "a"), b = (int)node_int(node, "b");
        if (a < 0) a += x->type.rank;
        if (b < 0) b += x->type.rank;
        own[a] = at[b];
        own[b] = at[a];
        return values_element(r, x, own);
    }
    case OP_EXPAND: return values_operand(r, value->type.rank, at, x);
    default: break;
    }
    if (!(op_info(node->op)->flags & ELEMENTWISE)) {
        values_fail(r, "%s cannot be evaluated inside this kernel", op_info(node->op)->name);
        return expr_number(k, 0);
    }
    Expr *args[3] = {0};
    for (int i = 0; i < node->operand_count; i++) args[i] = values_operand(r, value->type.rank, at, node->operands[i]);
    return values_apply(r, value, args);
}

Expr *values_element(RowValues *r, const Value *value, const Index *at) {
    int buffer = values_buffer(r, value);
    if (buffer >= 0) {
        if (r->k->buffers[buffer].place == PLACE_ACCUMULATOR) return expr_load(r->k, buffer, r->accumulator);
        return expr_load(r->k, buffer, values_flat(value, at));
    }
    if (value->kind != VALUE_RESULT) {
        values_fail(r, "%s is packed for matrix products and cannot be read by other ops", value->name);
        return expr_number(r->k, 0);
    }
    return node_element(r, value, at);
}

static int depth_of(const Value *value, int limit) {
    if (value->kind != VALUE_RESULT || !limit) return 0;
    int depth = 0;
    for (int i = 0; i < value->node->operand_count; i++)
        if (value->node->operands[i]) {
            int d = depth_of(value->node->operands[i], limit - 1);
            if (d > depth) depth = d;
        }
    return depth + 1;
}

static bool reads_elements(const Node *node) {   // evaluates each element of an operand once, at an affine place
    if (op_info(node->op)->flags & ELEMENTWISE) return true;
    return node->op == OP_SLICE || node->op == OP_SPLIT || node->op == OP_TRANSPOSE || node->op == OP_EXPAND;
}

bool values_virtual(const Func *func, const Value *value) {
    const Node *node = value->node;
    if (!reads_elements(node)) return false;
    int nodes, returns;
    func_uses(func, value, &nodes, &returns);
    if (returns) return false;
    bool cheap = node->op == OP_CONST;
    if (op_info(node->op)->flags & ELEMENTWISE && !cheap && nodes > 1) return false;
    for (int i = 0; i < func->node_count; i++)
        for (int o = 0; o < func->nodes[i]->operand_count; o++) {
            if (func->nodes[i]->operands[o] != value) continue;
            if (!reads_elements(func->nodes[i])) return false;
            if (!cheap && type_row_elements(&func->nodes[i]->results[0]->type) > type_row_elements(&value->type) && node->op != OP_SLICE && node->op != OP_SPLIT)
                return false;   // would be computed again for each element it is broadcast to
        }
    return cheap || depth_of(value, 20) < 20;
}

int values_open(RowValues *r, const Type *type, Index *at, int *lane, int64_t *extent) {
    int loops = 0, from = first_dim(type);
    for (int d = 0; d < MAX_RANK; d++) at[d] = index_constant(0);
    for (int d = from; d < type->rank - 1; d++) {
        if (type->dims[d] == 1) continue;
        char name[16];
        snprintf(name, sizeof name, "i%d", d - from);
        at[d] = index_variable(kernel_loop(r->k, name, type->dims[d]), 1);
        loops++;
    }
    *lane = kernel_variable(r->k, "j", false, DT_I32);
    *extent = 1;
    if (type->rank > from) {
        *extent = type->dims[type->rank - 1];
        at[type->rank - 1] = index_variable(*lane, 1);
    }
    return loops;
}

void values_close(RowValues *r, int loops) { while (loops--) kernel_end(r->k); }

void values_map(RowValues *r, const Value *value) {
    Index at[MAX_RANK];
    int lane;
    int64_t extent;
    int loops = values_open(r, &value->type, at, &lane, &extent);
    Expr *e = node_element(r, value, at);   // not what its buffer holds: a cache's rows have theirs before they are computed
    kernel_map(r->k, values_store(r, value), values_flat(value, at), lane, extent, NULL, e);
    values_close(r, loops);
}
