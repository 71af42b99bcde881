// Inference: what a node's operands and attributes say about its results, or what is wrong with them in the user's terms.
//
// The frame is here: operands are checked against the op table, then infer_<ID> is called; and the rules of ops that work element by
// element, on shapes, or reduce. Ops with weights, attention and calls are in infer_ops.c. A symbol (T, S, R) is always a value's first
// size, and two different symbols never meet.
#include "ir/internal.h"

#include <math.h>
#include <string.h>

// ---- errors ---------------------------------------------------------------------------------------------------------

bool has(const Infer *infer, int i) { return infer->in[i].rank >= 0; }

const char *operand_name(const Infer *infer, int i) {
    const Value *value = infer->node->operands[i];
    const OperandSpec *spec = &infer->op->operands[i < infer->op->operand_count ? i : infer->op->operand_count - 1];
    if (value && (value->kind == VALUE_PARAM || value->kind == VALUE_WEIGHT || spec->variadic))
        return value->user_name ? value->user_name : value->name;
    return spec->name;
}

static void describe(const Value *value, Text *note) {
    bool weight = value->kind == VALUE_PARAM || value->kind == VALUE_WEIGHT;
    if (note->length) text_puts(note, "; ");
    if (value->user_name) text_puts(note, value->user_name);
    else if (value->node) text_printf(note, "the result of %s", op_info(value->node->op)->name);
    else text_puts(note, value->name);
    text_puts(note, " is ");
    if (value->count) text_printf(note, "%d × ", value->count);
    Text type = {0};
    type_text(&value->type, &type);
    text_puts(note, weight ? strchr(type.data, '[') : type.data);
    text_free(&type);
    if (value->node && value->node->loc.line > 0) text_printf(note, " (line %d)", value->node->loc.line);
    if (value->kind == VALUE_WEIGHT && value->weights[0]->tensor) text_printf(note, " from %s", value->weights[0]->tensor);
    if (value->kind == VALUE_PARAM && value->origin) text_printf(note, " from %s", value->origin);
}

bool infer_error(Infer *infer, const char *format, ...) {
    const Node *node = infer->node;
    infer->ok = false;
    Text text = {0}, note = {0};
    text_printf(&text, "%s: ", infer->op->name);
    va_list args;
    va_start(args, format);
    text_vprintf(&text, format, args);
    va_end(args);
    diag(infer->diags, DIAG_ERROR, node->loc, "%s", text.data);
    int shown = 0;
    for (int i = 0; i < node->operand_count && shown < 6; i++) {
        bool again = false;
        for (int j = 0; j < i; j++) again |= node->operands[j] == node->operands[i];
        if (node->operands[i] && !again) describe(node->operands[i], &note), shown++;
    }
    if (note.length) diag(infer->diags, DIAG_NOTE, NOWHERE, "%s", note.data);
    text_free(&text);
    text_free(&note);
    return false;
}

void infer_hint(Infer *infer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(infer->diags, DIAG_HINT, NOWHERE, format, args);
    va_end(args);
}

// ---- helpers of the rules -------------------------------------------------------------------------------------------

void infer_result(Infer *infer, Type type) {
    if (!infer->ok) return;
    if (infer->count == MAX_RESULTS) {
        infer_error(infer, "more than %d results", MAX_RESULTS);
    } else if (!type_valid(&type, false)) {
        infer_error(infer, "the result is too large");
    } else {
        infer->out[infer->count++] = type;
    }
}

bool expect_dtype(Infer *infer, int i, DType dtype) {
    if (!has(infer, i) || infer->in[i].dtype == dtype) return true;
    infer_error(infer, "%s is %s, not %s", operand_name(infer, i), dtype_info[infer->in[i].dtype].name, dtype_info[dtype].name);
    if (dtype == DT_F32 && infer->in[i].dtype != DT_CACHE) infer_hint(infer, "cast(…, f32) converts it");
    return false;
}

bool expect_vector(Infer *infer, int i, int64_t length, const char *what) {
    if (!has(infer, i)) return true;
    const Type *type = &infer->in[i];
    if (type->rank == 1 && type->dims[0] == length) return expect_dtype(infer, i, DT_F32);
    if (type->rank != 1) return infer_error(infer, "%s must be a vector of %lld (%s)", operand_name(infer, i), (long long)length, what);
    return infer_error(infer, "%s has %lld elements but %s is %lld", operand_name(infer, i), (long long)type->dims[0], what,
                       (long long)length);
}

int infer_axis(Infer *infer, const char *name, int operand) {
    int rank = infer->in[operand].rank;
    int64_t axis = node_int(infer->node, name);
    if (axis >= -rank && axis < rank) return (int)(axis < 0 ? axis + rank : axis);
    infer_error(infer, "%s=%lld, but %s has %d dimensions", name, (long long)axis, operand_name(infer, operand), rank);
    return -1;
}

bool broadcast(Infer *infer, const Type *a, const Type *b, Type *out) {
    int rank = a->rank > b->rank ? a->rank : b->rank;
    Type type = {.dtype = a->dtype, .rank = rank};
    char left[24], right[24];
    for (int i = rank - 1; i >= 0; i--) {
        int ai = i - (rank - a->rank), bi = i - (rank - b->rank);
        int64_t x = ai < 0 ? 1 : a->dims[ai], y = bi < 0 ? 1 : b->dims[bi];
        if (x != y && x != 1 && y != 1)
            return infer_error(infer, "sizes %s and %s do not match in dimension %d (from the end)", dim_name(x, left), dim_name(y, right),
                               i - rank);
        type.dims[i] = x == 1 ? y : x;
        if (type.dims[i] < 0 && i > 0)
            return infer_error(infer, "%s would not stay the first dimension", dim_name(type.dims[i], left));
    }
    *out = type;
    return true;
}

// ---- the frame ------------------------------------------------------------------------------------------------------

static bool missing_operand(const Infer *infer, int i) { return i >= infer->node->operand_count || !infer->node->operands[i]; }

static bool check_operands(Infer *infer) {
    const OpInfo *op = infer->op;
    const Node *node = infer->node;
    bool variadic = op->operand_count && op->operands[op->operand_count - 1].variadic;
    int fixed = op->operand_count - variadic;
    if (!variadic && node->operand_count > fixed)
        return infer_error(infer, "takes %d operands (%s), not %d", fixed, op->operands_text, node->operand_count);
    for (int i = 0; i < fixed; i++) {
        const OperandSpec *spec = &op->operands[i];
        if (missing_operand(infer, i)) {
            infer->in[i].rank = -1;
            if (!spec->optional) return infer_error(infer, "%s is missing", spec->name);
            continue;
        }
        const Value *value = node->operands[i];
        if (value->count)
            return infer_error(infer, "%s is an array of %d weights; only moe takes one", operand_name(infer, i), value->count);
        infer->in[i] = value->type;
        infer->in[i].dtype = value_dtype(value);
        if (infer->in[i].dtype == DT_CACHE && node->op != OP_ATTEND) return infer_error(infer, "%s is a cache", operand_name(infer, i));
        if (spec->weight && type_symbolic(&value->type))
            return infer_error(infer, "%s must be a parameter, or computed from parameters alone", operand_name(infer, i));
    }
    for (int i = fixed; i < node->operand_count; i++)
        if (!node->operands[i]) return infer_error(infer, "operand %d is missing", i + 1);
    return true;
}

bool node_infer(Node *node, Type *results, int *result_count, Diags *diags) {
    static void (*const rules[OP_COUNT])(Infer *) = {
#define OP(id, name, operands, attributes, flags, meaning) infer_##id,
#include "ir/ops.def"
#undef OP
    };
    Infer infer = {.node = node, .op = op_info(node->op), .out = results, .ok = true, .diags = diags};
    *result_count = 0;
    if (!check_operands(&infer)) return false;
    rules[node->op](&infer);
    *result_count = infer.count;
    return infer.ok;
}

// ---- element by element ---------------------------------------------------------------------------------------------

static bool numeric(Infer *infer, int i) {
    DType dtype = infer->in[i].dtype;
    if (dtype == DT_F32 || dtype == DT_I32) return true;
    return infer_error(infer, "%s is %s, not a number", operand_name(infer, i), dtype_info[dtype].name);
}

static void unary_float(Infer *infer) {
    if (expect_dtype(infer, 0, DT_F32)) infer_result(infer, infer->in[0]);
}

static void unary_number(Infer *infer) {
    if (numeric(infer, 0)) infer_result(infer, infer->in[0]);
}

static bool same_dtype(Infer *infer, int a, int b) {
    if (infer->in[a].dtype == infer->in[b].dtype) return true;
    infer_error(infer, "%s is %s but %s is %s", operand_name(infer, a), dtype_info[infer->in[a].dtype].name, operand_name(infer, b),
                dtype_info[infer->in[b].dtype].name);
    infer_hint(infer, "cast(…, type) converts one of them");
    return false;
}

static void binary(Infer *infer, bool floats_only, bool compares) {
    Type type;
    if (!same_dtype(infer, 0, 1)) return;
    if (floats_only ? !expect_dtype(infer, 0, DT_F32) : !(compares && infer->in[0].dtype == DT_BOOL) && !numeric(infer, 0)) return;
    if (!broadcast(infer, &infer->in[0], &infer->in[1], &type)) return;
    if (compares) type.dtype = DT_BOOL;
    infer_result(infer, type);
}

void infer_SILU(Infer *infer) { unary_float(infer); }
void infer_GELU(Infer *infer) { unary_float(infer); }
void infer_RELU(Infer *infer) { unary_float(infer); }
void infer_SIGMOID(Infer *infer) { unary_float(infer); }
void infer_TANH(Infer *infer) { unary_float(infer); }
void infer_EXP(Infer *infer) { unary_float(infer); }
void infer_LOG(Infer *infer) { unary_float(infer); }
void infer_SQRT(Infer *infer) { unary_float(infer); }
void infer_RSQRT(Infer *infer) { unary_float(infer); }
void infer_ABS(Infer *infer) { unary_number(infer); }
void infer_NEG(Infer *infer) { unary_number(infer); }
void infer_ADD(Infer *infer) { binary(infer, false, false); }
void infer_SUB(Infer *infer) { binary(infer, false, false); }
void infer_MUL(Infer *infer) { binary(infer, false, false); }
void infer_DIV(Infer *infer) { binary(infer, true, false); }
void infer_MINIMUM(Infer *infer) { binary(infer, false, false); }
void infer_MAXIMUM(Infer *infer) { binary(infer, false, false); }
void infer_POW(Infer *infer) { binary(infer, true, false); }
void infer_LT(Infer *infer) { binary(infer, false, true); }
void infer_LE(Infer *infer) { binary(infer, false, true); }
void infer_EQ(Infer *infer) { binary(infer, false, true); }
void infer_NE(Infer *infer) { binary(infer, false, true); }

void infer_WHERE(Infer *infer) {
    Type values, type;
    if (!expect_dtype(infer, 0, DT_BOOL) || !same_dtype(infer, 1, 2)) return;
    if (!broadcast(infer, &infer->in[1], &infer->in[2], &values) || !broadcast(infer, &values, &infer->in[0], &type)) return;
    infer_result(infer, type);
}

void infer_CLAMP(Infer *infer) {
    if (node_number(infer->node, "lo") > node_number(infer->node, "hi")) infer_error(infer, "lo is above hi");
    else unary_float(infer);
}

void infer_CAST(Infer *infer) {
    DType to = (DType)node_int(infer->node, "type");
    Type type = infer->in[0];
    if (to != DT_F32 && to != DT_F16 && to != DT_BF16 && to != DT_I32 && to != DT_BOOL) {
        infer_error(infer, "cannot convert to %s", dtype_info[to].name);
        infer_hint(infer, "types are f32, i32, bool, and f16 and bf16, to which values are rounded");
        return;
    }
    type.dtype = to == DT_F16 || to == DT_BF16 ? DT_F32 : to;
    infer_result(infer, type);
}

void infer_CONST(Infer *infer) {
    DType type = (DType)node_int(infer->node, "type");
    double value = node_number(infer->node, "value");
    if (type != DT_F32 && type != DT_I32 && type != DT_BOOL)
        infer_error(infer, "a constant is f32, i32 or bool, not %s", dtype_info[type].name);
    else if (type == DT_I32 && !(value == trunc(value) && fabs(value) <= INT32_MAX)) infer_error(infer, "%.17g is not an i32", value);
    else if (type == DT_BOOL && value != 0 && value != 1) infer_error(infer, "a bool is 0 or 1");
    else infer_result(infer, type_of(type, 0, NULL));
}

// ---- shapes ---------------------------------------------------------------------------------------------------------

// The sizes of attribute `shape`, checked: a symbol only in front.
static bool shape_attr(Infer *infer, Type *type) {
    const Attr *attr = node_attr(infer->node, "shape");
    if (attr->size_count > MAX_RANK) return infer_error(infer, "a shape has at most %d dimensions, not %d", MAX_RANK, attr->size_count);
    *type = type_of(infer->in[0].dtype, attr->size_count, attr->sizes);
    for (int i = 0; i < type->rank; i++) {
        if (type->dims[i] < 0 && i > 0) return infer_error(infer, "T, S or R can only be the first dimension");
        if (type->dims[i] == 0) return infer_error(infer, "dimension %d has size 0", i);
    }
    return type_valid(type, false) || infer_error(infer, "the shape is too large");
}

void infer_RESHAPE(Infer *infer) {
    Type type, *from = &infer->in[0];
    char now[24];
    if (!shape_attr(infer, &type)) return;
    if (type_symbolic(from) && (!type.rank || type.dims[0] != from->dims[0]))
        infer_error(infer, "the first dimension of %s is %s and stays", operand_name(infer, 0), dim_name(from->dims[0], now));
    else if (!type_symbolic(from) && type_symbolic(&type))
        infer_error(infer, "%s has no dimension %s", operand_name(infer, 0), dim_name(type.dims[0], now));
    else if (type_row_elements(from) != type_row_elements(&type))
        infer_error(infer, "%s has %lld elements%s but the shape has %lld", operand_name(infer, 0), (long long)type_row_elements(from),
                    type_symbolic(from) ? " a row" : "", (long long)type_row_elements(&type));
    else infer_result(infer, type);
}

static bool stays_first(Infer *infer, int axis, const char *what) {
    char name[24];
    if (axis != 0 || !type_symbolic(&infer->in[0])) return true;
    return infer_error(infer, "cannot %s along %s, the tokens or sequences of a step", what, dim_name(infer->in[0].dims[0], name));
}

void infer_TRANSPOSE(Infer *infer) {
    int a = infer_axis(infer, "a", 0), b = a < 0 ? -1 : infer_axis(infer, "b", 0);
    char name[24];
    if (b < 0) return;
    Type type = infer->in[0];
    if (a != b && (a == 0 || b == 0) && type_symbolic(&type)) {
        infer_error(infer, "the first dimension is %s and stays first", dim_name(type.dims[0], name));
        return;
    }
    int64_t size = type.dims[a];
    type.dims[a] = type.dims[b];
    type.dims[b] = size;
    infer_result(infer, type);
}

void infer_CONCAT(Infer *infer) {
    const Node *node = infer->node;
    if (node->operand_count < 1) {
        infer_error(infer, "needs at least one value");
        return;
    }
    Type type = {0};
    int axis = 0;
    for (int i = 0; i < node->operand_count; i++) {
        const Value *value = node->operands[i];
        Type part = value->type;
        part.dtype = value_dtype(value);
        if (value->count || part.dtype == DT_CACHE) {
            infer_error(infer, "%s is no tensor", operand_name(infer, i));
            return;
        }
        if (i == 0) {
            infer->in[0] = type = part;
            if ((axis = infer_axis(infer, "axis", 0)) < 0) return;
            if (!stays_first(infer, axis, "concatenate")) return;
            continue;
        }
        bool fits = part.rank == type.rank && part.dtype == type.dtype;
        for (int d = 0; fits && d < part.rank; d++) fits = d == axis || part.dims[d] == type.dims[d];
        if (!fits || part.dims[axis] < 0) {
            infer_error(infer, "operand %d does not fit the first: they may differ in dimension %d only", i + 1, axis);
            return;
        }
        type.dims[axis] += part.dims[axis];
    }
    infer_result(infer, type);
}

void infer_SPLIT(Infer *infer) {
    int axis = infer_axis(infer, "axis", 0);
    if (axis < 0 || !stays_first(infer, axis, "split")) return;
    const Attr *sizes = node_attr(infer->node, "sizes");
    int64_t left = infer->in[0].dims[axis];
    for (int i = 0; i < sizes->size_count; i++) {
        if (sizes->sizes[i] < 1 || sizes->sizes[i] > left) {
            left = -1;
            break;
        }
        left -= sizes->sizes[i];
    }
    if (left != 0 || !sizes->size_count) {
        infer_error(infer, "the sizes do not sum to %lld", (long long)infer->in[0].dims[axis]);
        return;
    }
    for (int i = 0; i < sizes->size_count; i++) {
        Type type = infer->in[0];
        type.dims[axis] = sizes->sizes[i];
        infer_result(infer, type);
    }
}

void infer_SLICE(Infer *infer) {
    int axis = infer_axis(infer, "axis", 0);
    if (axis < 0 || !stays_first(infer, axis, "slice")) return;
    int64_t from = node_int(infer->node, "from"), to = node_int(infer->node, "to");
    Type type = infer->in[0];
    if (from < 0 || from >= to || to > type.dims[axis]) {
        infer_error(infer, "from %lld to %lld is not within 0 … %lld", (long long)from, (long long)to, (long long)type.dims[axis]);
        return;
    }
    type.dims[axis] = to - from;
    infer_result(infer, type);
}

void infer_EXPAND(Infer *infer) {
    Type type, both;
    if (!shape_attr(infer, &type) || !broadcast(infer, &infer->in[0], &type, &both)) return;
    if (!type_equal(&both, &type)) infer_error(infer, "%s does not broadcast to that shape", operand_name(infer, 0));
    else infer_result(infer, type);
}

// ---- reductions -----------------------------------------------------------------------------------------------------

static void reduction(Infer *infer) {
    int axis = infer_axis(infer, "axis", 0);
    if (axis < 0 || !expect_dtype(infer, 0, DT_F32)) return;
    Type type = infer->in[0];
    if (axis == 0 && type_symbolic(&type)) {
        char name[24];
        infer_error(infer, "reducing over %s would mix the tokens of different sequences", dim_name(type.dims[0], name));
        infer_hint(infer, "first(x), last(x) and mean_tokens(x) give one row a sequence");
        return;
    }
    type.dims[axis] = 1;
    infer_result(infer, type);
}

void infer_SUM(Infer *infer) { reduction(infer); }
void infer_MEAN(Infer *infer) { reduction(infer); }
void infer_MAX(Infer *infer) { reduction(infer); }
void infer_MIN(Infer *infer) { reduction(infer); }
