// Inference of ops that read weights, attend, gather over a sequence, or run a function.
#include "ir/internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

static bool per_token(Infer *infer, int i) {
    if (type_symbolic(&infer->in[i]) && infer->in[i].dims[0] != DIM_S) return true;
    return infer_error(infer, "%s must have a row for each token ([T, …])", operand_name(infer, i));
}

// Rank at least `rank` rows aside, so that a last dimension of constant size is there.
static bool has_columns(Infer *infer, int i) {
    const Type *type = &infer->in[i];
    if (type->rank >= 1 + type_symbolic(type)) return true;
    return infer_error(infer, "%s has no last dimension to work on", operand_name(infer, i));
}

static int64_t last_size(const Type *type) { return type->dims[type->rank - 1]; }

// ---- products and norms -----------------------------------------------------------------------------------------------

void infer_EMBEDDING(Infer *infer) {
    if (!expect_dtype(infer, 0, DT_I32) || !expect_dtype(infer, 1, DT_F32)) return;
    const Type *ids = &infer->in[0], *table = &infer->in[1];
    if (table->rank != 2) {
        infer_error(infer, "%s must be [rows, columns]", operand_name(infer, 1));
    } else if (ids->rank >= MAX_RANK) {
        infer_error(infer, "%s has too many dimensions", operand_name(infer, 0));
    } else {
        Type type = type_of(DT_F32, ids->rank + 1, ids->dims);
        type.dims[ids->rank] = table->dims[1];
        infer_result(infer, type);
    }
}

static bool linear_types(Infer *infer, int x, int w, int b, Type *out) {
    const Type *in = &infer->in[x], *weight = &infer->in[w];
    const char *x_name = operand_name(infer, x), *w_name = operand_name(infer, w);
    if (!has_columns(infer, x) || !expect_dtype(infer, w, DT_F32)) return false;
    if (weight->rank != 2 && weight->rank != 3) return infer_error(infer, "%s must be [out, in] or [heads, out, in]", w_name);
    if (last_size(in) != last_size(weight))
        return infer_error(infer, "%s has %lld columns but %s expects %lld", x_name, (long long)last_size(in), w_name,
                           (long long)last_size(weight));
    *out = *in;
    out->dtype = DT_F32;
    out->dims[out->rank - 1] = weight->dims[weight->rank - 2];
    if (weight->rank == 3) {
        if (in->rank < 2 || in->dims[in->rank - 2] != weight->dims[0])
            return infer_error(infer, "%s has a product for each of %lld heads; %s does not have that many", w_name,
                               (long long)weight->dims[0], x_name);
        if (!has(infer, b)) return true;
        const Type *bias = &infer->in[b];
        if (bias->rank != 2 || bias->dims[0] != weight->dims[0] || bias->dims[1] != weight->dims[1])
            return infer_error(infer, "%s must be [%lld, %lld]", operand_name(infer, b), (long long)weight->dims[0],
                               (long long)weight->dims[1]);
        return expect_dtype(infer, b, DT_F32);
    }
    return expect_vector(infer, b, weight->dims[0], "the output");
}

void infer_LINEAR(Infer *infer) {
    Type type;
    if (expect_dtype(infer, 0, DT_F32) && linear_types(infer, 0, 1, 2, &type)) infer_result(infer, type);
}

void infer_LINEAR_ROWS(Infer *infer) {
    Type type;
    if (!expect_dtype(infer, 0, DT_F32) || !linear_types(infer, 0, 1, 2, &type)) return;
    if (type.rank != 2 || infer->node->operands[1]->type.rank != 2) infer_error(infer, "x and w must have two dimensions");
    else infer_result(infer, type);
}

// An attribute that divides rows of x into equal parts; 0: a part is the whole row.
static bool part(Infer *infer, const char *name, int64_t *size) {
    int64_t columns = last_size(&infer->in[0]);
    *size = node_int(infer->node, name);
    if (*size == 0) *size = columns;
    if (*size > 0 && columns % *size == 0) return true;
    return infer_error(infer, "%s=%lld must divide the %lld of a row", name, (long long)*size, (long long)columns);
}

void infer_QUANTIZE_ROWS(Infer *infer) {
    Type codes = infer->in[0], scale = infer->in[0], sums = infer->in[0];
    int64_t group, of;
    if (!expect_dtype(infer, 0, DT_F32) || !has_columns(infer, 0) || !part(infer, "group", &group) || !part(infer, "sums", &of)) return;
    codes.dtype = DT_I8;
    scale.dims[scale.rank - 1] /= group;
    sums.dtype = DT_I32;
    sums.dims[sums.rank - 1] /= of;
    infer_result(infer, codes);
    infer_result(infer, scale);
    infer_result(infer, sums);
}

void infer_HADAMARD(Infer *infer) {
    int64_t block = node_int(infer->node, "block");
    if (!expect_dtype(infer, 0, DT_F32) || !has_columns(infer, 0)) return;
    if (block < 1 || (block & (block - 1)) || last_size(&infer->in[0]) % block)
        infer_error(infer, "block=%lld must be a power of two that divides the %lld of a row", (long long)block, (long long)last_size(&infer->in[0]));
    else infer_result(infer, infer->in[0]);
}

void infer_OBSERVE(Infer *infer) {
    const Type *w = &infer->in[1];
    if (!expect_dtype(infer, 0, DT_F32) || !has_columns(infer, 0) || !expect_dtype(infer, 1, DT_F32)) return;
    if (w->rank < 2 || last_size(w) != last_size(&infer->in[0])) infer_error(infer, "%s is no matrix that x is multiplied with", operand_name(infer, 1));
    else infer_result(infer, infer->in[0]);
}

// Whether a value tells something of each of some equal parts of q's rows.
static bool of_parts(Infer *infer, int i, DType dtype) {
    Type type = infer->in[0];
    int64_t k = last_size(&type), parts = infer->in[i].rank == type.rank ? last_size(&infer->in[i]) : 0;
    type.dtype = dtype;
    if (parts > 0) type.dims[type.rank - 1] = parts;
    if (parts > 0 && k % parts == 0 && type_equal(&type, &infer->in[i])) return true;
    return infer_error(infer, "%s must be %s with one element for each group of a row of q", operand_name(infer, i), dtype_info[dtype].name);
}

void infer_LINEAR_I8(Infer *infer) {
    Type type;
    if (!expect_dtype(infer, 0, DT_I8) || !linear_types(infer, 0, 3, 4, &type)) return;
    if (!of_parts(infer, 1, DT_F32) || !of_parts(infer, 2, DT_I32)) return;
    if (infer->in[3].rank != 2) infer_error(infer, "%s must be [out, in]", operand_name(infer, 3));
    else if (last_size(&infer->in[2]) % last_size(&infer->in[1])) infer_error(infer, "sums must be of a group that the scales' group is made of");
    else infer_result(infer, type);
}

void infer_NARROW(Infer *infer) {
    Type type = infer->in[0];
    type.dtype = (DType)node_int(infer->node, "type");
    if (type.dtype != DT_BF16) infer_error(infer, "cannot narrow to %s", dtype_info[type.dtype].name);
    else if (expect_dtype(infer, 0, DT_F32) && has_columns(infer, 0)) infer_result(infer, type);
}

void infer_LINEAR_BF16(Infer *infer) {
    Type type;
    if (!expect_dtype(infer, 0, DT_BF16) || !linear_types(infer, 0, 1, 2, &type)) return;
    if (infer->in[1].rank != 2) infer_error(infer, "%s must be [out, in]", operand_name(infer, 1));
    else infer_result(infer, type);
}

static void norm(Infer *infer) {
    if (!expect_dtype(infer, 0, DT_F32) || !has_columns(infer, 0)) return;
    int64_t columns = last_size(&infer->in[0]);
    for (int i = 1; i < infer->op->operand_count; i++)
        if (!expect_vector(infer, i, columns, "the last dimension of x")) return;
    if (node_number(infer->node, "eps") < 0) infer_error(infer, "eps is negative");
    else infer_result(infer, infer->in[0]);
}

void infer_RMS_NORM(Infer *infer) { norm(infer); }
void infer_LAYER_NORM(Infer *infer) { norm(infer); }

// An attribute that is a number of float32, and no infinity.
static bool float_attr(Infer *infer, const char *name) {
    double value = node_number(infer->node, name);
    return fabs(value) <= FLT_MAX || infer_error(infer, "%s=%g is beyond float32", name, value);
}

void infer_ROPE(Infer *infer) {
    if (!expect_dtype(infer, 0, DT_F32) || !per_token(infer, 0) || !has_columns(infer, 0)) return;
    int64_t dims = node_int(infer->node, "dims"), size = last_size(&infer->in[0]);
    if (dims == -1) dims = size;
    if (dims < 2 || dims > size || dims % 2)
        infer_error(infer, "dims=%lld must be even and within the %lld of a head", (long long)dims, (long long)size);
    else if (!(node_number(infer->node, "base") >= FLT_MIN)) infer_error(infer, "base must be positive");   // no frequency overflows
    else if (float_attr(infer, "base") && float_attr(infer, "mscale") && expect_vector(infer, 1, dims / 2, "half of the rotated dimensions"))
        infer_result(infer, infer->in[0]);
}

// ---- attention ------------------------------------------------------------------------------------------------------

static bool three_dims(Infer *infer, int i, const char *shape) {
    if (!expect_dtype(infer, i, DT_F32) || !per_token(infer, i)) return false;
    return infer->in[i].rank == 3 || infer_error(infer, "%s must be %s", operand_name(infer, i), shape);
}

// Keys at operand k, values at operand v (or the first v_dims of each key): the cache's type.
static bool cache_type(Infer *infer, int k, int v, Type *cache) {
    if (!three_dims(infer, k, "[T, kv_heads, head_dim]")) return false;
    const Type *key = &infer->in[k];
    int64_t v_dims = node_int(infer->node, "v_dims");
    if (key->dims[0] != DIM_T) return infer_error(infer, "%s must have a row for each token ([T, …])", operand_name(infer, k));
    if (has(infer, v)) {
        if (!three_dims(infer, v, "[T, kv_heads, head_dim]")) return false;
        const Type *value = &infer->in[v];
        if (value->dims[0] != DIM_T || value->dims[1] != key->dims[1])
            return infer_error(infer, "k has %lld heads but v has %lld", (long long)key->dims[1], (long long)value->dims[1]);
        if (v_dims && v_dims != value->dims[2]) return infer_error(infer, "v_dims is for attention without v");
        v_dims = value->dims[2];
    } else if (v_dims < 1 || v_dims > key->dims[2]) {
        return infer_error(infer, "without v, v_dims must be within the %lld of a key", (long long)key->dims[2]);
    }
    *cache = type_of(DT_CACHE, 3, (int64_t[]){key->dims[1], key->dims[2], v_dims});
    return true;
}

static bool attention_result(Infer *infer, int q, const Type *cache, int sinks, int slopes) {
    if (!three_dims(infer, q, "[T, heads, head_dim]")) return false;
    Type type = infer->in[q];
    int64_t heads = type.dims[1], kv_heads = cache->dims[0];
    if (heads % kv_heads) return infer_error(infer, "%lld heads cannot share %lld kv heads", (long long)heads, (long long)kv_heads);
    if (type.dims[2] != cache->dims[1])
        return infer_error(infer, "q has %lld in a head but k has %lld", (long long)type.dims[2], (long long)cache->dims[1]);
    if (!expect_vector(infer, sinks, heads, "heads") || !expect_vector(infer, slopes, heads, "heads")) return false;
    if (node_number(infer->node, "window") < 0) return infer_error(infer, "window is negative");
    if (node_number(infer->node, "softcap") < 0) return infer_error(infer, "softcap is negative");
    if (!float_attr(infer, "scale") || !float_attr(infer, "softcap")) return false;
    type.dims[2] = cache->dims[2];
    infer_result(infer, type);
    return true;
}

void infer_ATTENTION(Infer *infer) {
    Type cache;
    if (!cache_type(infer, 1, 2, &cache)) return;
    attention_result(infer, 0, &cache, 3, 4);
}

static DType kv_storage(const Node *node) {
    const char *kv = node_attr(node, "kv")->text;
    return strcmp(kv, "int8") == 0 ? DT_I8 : dtype_parse(kv);
}

static bool cache_valid(const Type *type) {
    DType storage = cache_storage(type);
    return type->dtype == DT_CACHE && (type->rank == 3 || (type->rank == 4 && (storage == DT_F16 || storage == DT_BF16 || storage == DT_I8)));
}

void infer_CACHE_WRITE(Infer *infer) {
    Type cache;
    if (!cache_type(infer, 0, 1, &cache)) return;
    DType storage = kv_storage(infer->node);
    if (storage != DT_F32) cache.dims[cache.rank++] = storage;
    infer_result(infer, cache);
}

void infer_ATTEND(Infer *infer) {
    if (!cache_valid(&infer->in[1])) infer_error(infer, "cache must be the result of cache_write");
    else attention_result(infer, 0, &infer->in[1], 2, 3);
}

// ---- rows -----------------------------------------------------------------------------------------------------------

void infer_SOFTMAX(Infer *infer) {
    if (expect_dtype(infer, 0, DT_F32) && has_columns(infer, 0)) infer_result(infer, infer->in[0]);
}

void infer_TOP_K(Infer *infer) {
    if (!expect_dtype(infer, 0, DT_F32) || !has_columns(infer, 0)) return;
    Type values = infer->in[0];
    int64_t n = last_size(&values), k = node_int(infer->node, "k"), groups = node_int(infer->node, "groups"),
            keep = node_int(infer->node, "keep"), score = node_int(infer->node, "score");
    if (groups < 1 || n % groups) infer_error(infer, "%lld columns cannot be cut into %lld groups", (long long)n, (long long)groups);
    else if (keep < 1 || keep > groups) infer_error(infer, "keep=%lld must be within 1 … groups", (long long)keep);
    else if (score < 1 || score > 2) infer_error(infer, "score=%lld must be 1 or 2: how many of a group's largest are summed", (long long)score);
    else if (k < 1 || k > n / groups * keep)
        infer_error(infer, "k=%lld must be within 1 … %lld", (long long)k, (long long)(n / groups * keep));
    else {
        values.dims[values.rank - 1] = k;
        infer_result(infer, values);
        values.dtype = DT_I32;
        infer_result(infer, values);
    }
}

void infer_GATHER(Infer *infer) {
    const Type *x = &infer->in[0], *e = &infer->in[1];
    if (!expect_dtype(infer, 1, DT_I32) || !has_columns(infer, 0) || !has_columns(infer, 1)) return;
    bool fits = x->rank == e->rank;
    for (int i = 0; fits && i + 1 < x->rank; i++) fits = x->dims[i] == e->dims[i];
    if (!fits && !(x->rank == 1 && !type_symbolic(x))) {
        infer_error(infer, "x and e differ before their last dimension");
        return;
    }
    Type type = *e;
    type.dtype = x->dtype;
    infer_result(infer, type);
}

void infer_POSITIONS(Infer *infer) { infer_result(infer, type_of(DT_I32, 1, (int64_t[]){DIM_T})); }

static void rows_become(Infer *infer, int64_t size) {
    Type type = infer->in[0];
    if (!type_symbolic(&type) || type.dims[0] != DIM_T) {
        infer_error(infer, "%s must have a row for each token ([T, …])", operand_name(infer, 0));
        return;
    }
    type.dims[0] = size;
    infer_result(infer, type);
}

void infer_FIRST(Infer *infer) { rows_become(infer, DIM_S); }
void infer_LAST(Infer *infer) { rows_become(infer, DIM_S); }
void infer_KEEP_ROWS(Infer *infer) { rows_become(infer, DIM_R); }
void infer_MEAN_TOKENS(Infer *infer) {
    if (expect_dtype(infer, 0, DT_F32)) rows_become(infer, DIM_S);
}

// ---- functions ------------------------------------------------------------------------------------------------------

static void type_mismatch(Infer *infer, const Func *callee, const Value *given, const Value *wanted) {
    Text a = {0}, b = {0};
    if (given->count) text_printf(&a, "%d × ", given->count);
    if (wanted->count) text_printf(&b, "%d × ", wanted->count);
    type_text(&given->type, &a);
    type_text(&wanted->type, &b);
    infer_error(infer, "%s takes %s as %s, not %s", callee->name, wanted->user_name ? wanted->user_name : wanted->name, b.data, a.data);
    text_free(&a);
    text_free(&b);
}

static bool type_fits(const Value *given, const Value *wanted, DType given_dtype) {
    Type type = given->type;
    type.dtype = given_dtype;
    return type_equal(&type, &wanted->type);
}

// Inputs take values (a parameter as what an op sees of it), parameters take weights as they are stored.
static bool argument_fits(Infer *infer, const Func *callee, const Value *given, const Value *wanted) {
    bool weight = given->kind == VALUE_PARAM || given->kind == VALUE_WEIGHT;
    if (wanted->kind == VALUE_PARAM && !weight)
        return infer_error(infer, "%s needs a parameter for %s", callee->name, wanted->user_name ? wanted->user_name : wanted->name);
    bool fits =
        given->count == wanted->count && type_fits(given, wanted, wanted->kind == VALUE_PARAM ? given->type.dtype : value_dtype(given));
    if (!fits) type_mismatch(infer, callee, given, wanted);
    return fits;
}

void infer_CALL(Infer *infer) {
    const Node *node = infer->node;
    const Func *callee = node_attr(node, "block")->func;
    if (node->operand_count != callee->input_count + callee->param_count) {
        infer_error(infer, "%s takes %d operands, not %d", callee->name, callee->input_count + callee->param_count, node->operand_count);
        return;
    }
    for (int i = 0; i < node->operand_count; i++) {
        const Value *wanted = i < callee->input_count ? callee->inputs[i] : callee->params[i - callee->input_count];
        if (!argument_fits(infer, callee, node->operands[i], wanted)) return;
    }
    if (callee->result_count < 1) infer_error(infer, "%s returns nothing", callee->name);
    for (int i = 0; i < callee->result_count; i++) infer_result(infer, callee->results[i]->type);
}

// An expert's rows are tokens of any sequence in any order, so nothing in it may look at others.
static bool free_of_state(Infer *infer, const Func *func, NameSet *seen, int depth) {
    if (!names_add(seen, func->name, (void *)func)) return true;
    if (depth > MAX_CALL_DEPTH) return infer_error(infer, "blocks are nested too deeply");
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        const OpInfo *op = op_info(node->op);
        if (op->flags & (SEQUENCE | STATE)) return infer_error(infer, "%s uses %s, which an expert cannot", func->name, op->name);
        if (op->flags & CALL && !free_of_state(infer, node_attr(node, "block")->func, seen, depth + 1)) return false;
    }
    return true;
}

// The experts' numbers at operand `e`, then or before them what the callee takes.
static bool expert_call(Infer *infer, int e, int first_input) {
    const Node *node = infer->node;
    const Func *callee = node_attr(node, "block")->func;
    int64_t count = node_int(node, "count");
    int inputs = callee->input_count, first = node_params(node);
    const Type *experts = &infer->in[e];
    if (count < 1 || count > MAX_ARRAY) return infer_error(infer, "count=%lld must be within 1 … %d", (long long)count, MAX_ARRAY);
    if (!expect_dtype(infer, e, DT_I32)) return false;
    if (node->op == OP_MOE ? inputs != 1 : inputs < 1) return infer_error(infer, "%s must take one input and return one value", callee->name);
    if (callee->result_count != 1) return infer_error(infer, "%s must return one value", callee->name);
    if (node->operand_count - first != callee->param_count)
        return infer_error(infer, "%s takes %d parameters, not %d", callee->name, callee->param_count, node->operand_count - first);
    for (int i = 0; i < inputs; i++) {
        const Value *x = node->operands[first_input + i];
        if (!x || x->kind == VALUE_PARAM || x->kind == VALUE_WEIGHT) return infer_error(infer, "%s needs a value for %s, not a parameter", callee->name, callee->inputs[i]->name);
        if (!type_symbolic(&x->type) || experts->rank != 2 || experts->dims[0] != x->type.dims[0]) return infer_error(infer, "e must be [T, k] for x [T, …]");
        if (!type_equal(&callee->inputs[i]->type, &x->type)) return type_mismatch(infer, callee, x, callee->inputs[i]), false;
    }
    const Type *result = &callee->results[0]->type;
    if (!type_symbolic(result) || result->dims[0] != experts->dims[0] || result->dtype != DT_F32)
        return infer_error(infer, "%s must return f32 with a row for each token", callee->name);
    for (int i = 0; i < callee->param_count; i++) {
        const Value *given = node->operands[first + i], *wanted = callee->params[i];
        const char *name = wanted->user_name ? wanted->user_name : wanted->name;
        if (given->kind != VALUE_PARAM && given->kind != VALUE_WEIGHT)
            return infer_error(infer, "%s needs a parameter for %s", callee->name, name);
        if (given->count && given->count != count)
            return infer_error(infer, "%s has %d weights for %lld experts", operand_name(infer, first + i), given->count, (long long)count);
        if (wanted->count || !type_equal(&given->type, &wanted->type)) {
            type_mismatch(infer, callee, given, wanted);
            return false;
        }
    }
    Arena *scratch = arena_new();
    bool ok = free_of_state(infer, callee, names_new(scratch), 0);
    arena_free(scratch);
    return ok;
}

void infer_MOE(Infer *infer) {
    if (!expect_dtype(infer, 1, DT_F32) || !expert_call(infer, 2, 0)) return;
    Type weights = infer->in[1];
    weights.dtype = DT_I32;
    if (!type_equal(&weights, &infer->in[2])) infer_error(infer, "w and e must have the same shape");
    else infer_result(infer, node_attr(infer->node, "block")->func->results[0]->type);
}

void infer_MOE_EXPERTS(Infer *infer) {
    if (!expert_call(infer, 0, 1)) return;
    Type type = node_attr(infer->node, "block")->func->results[0]->type;
    if (type.rank == MAX_RANK) {
        infer_error(infer, "the result has too many dimensions");
        return;
    }
    memmove(type.dims + 2, type.dims + 1, sizeof *type.dims * (size_t)(type.rank - 1));
    type.dims[1] = infer->in[0].dims[1];
    type.rank++;
    infer_result(infer, type);
    infer_result(infer, infer->in[0]);
}

void infer_MOE_COMBINE(Infer *infer) {
    if (!expect_dtype(infer, 0, DT_F32) || !expect_dtype(infer, 1, DT_I32) || !expect_dtype(infer, 2, DT_F32)) return;
    Type type = infer->in[0], rows = infer->in[1];
    const Type *weights = &infer->in[2];
    rows.dtype = DT_F32;
    if (!type_symbolic(&type) || type.rank < 2 || weights->rank != 2 || weights->dims[0] != type.dims[0] ||
        weights->dims[1] != type.dims[1] || !type_equal(&rows, weights)) {
        infer_error(infer, "y must be [T, slots, …], rows and w [T, slots]");
        return;
    }
    type.rank--;
    memmove(type.dims + 1, type.dims + 2, sizeof *type.dims * (size_t)(type.rank - 1));
    type.dims[type.rank] = 0;
    infer_result(infer, type);
}
