// Ops that work element by element, with NumPy broadcasting. Functions of one element are computed in double and rounded once.
#include "ir/eval.h"

#include <math.h>
#include <string.h>

// ---- one operand ----------------------------------------------------------------------------------------------------------

#define UNARY(ID, expression) \
    void eval_##ID(Eval *eval) { \
        const float *from = eval->in[0].data; \
        float *to = eval->out[0].data; \
        int64_t n = tensor_elements(&eval->in[0]); \
        for (int64_t i = 0; i < n; i++) { \
            double x = from[i]; \
            to[i] = (float)(expression); \
        } \
    }

UNARY(SILU, x / (1 + exp(-x)))
UNARY(RELU, x > 0 ? x : 0)
UNARY(SIGMOID, 1 / (1 + exp(-x)))
UNARY(TANH, tanh(x))
UNARY(EXP, exp(x))
UNARY(LOG, log(x))
UNARY(SQRT, sqrt(x))
UNARY(RSQRT, 1 / sqrt(x))

void eval_GELU(Eval *eval) {
    const float *from = eval->in[0].data;
    float *to = eval->out[0].data;
    int64_t n = tensor_elements(&eval->in[0]);
    bool by_tanh = node_int(eval->node, "tanh");
    for (int64_t i = 0; i < n; i++) {
        double x = from[i], half = by_tanh ? tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)) : erf(x * 0.70710678118654752440);
        to[i] = (float)(0.5 * x * (1 + half));
    }
}

void eval_CLAMP(Eval *eval) {
    const float *from = eval->in[0].data;
    float *to = eval->out[0].data, lo = (float)node_number(eval->node, "lo"), hi = (float)node_number(eval->node, "hi");
    int64_t n = tensor_elements(&eval->in[0]);
    for (int64_t i = 0; i < n; i++) {
        float x = from[i] > lo ? from[i] : lo;
        to[i] = x < hi ? x : hi;
    }
}

static int32_t negated(int32_t x) { return (int32_t)(0u - (uint32_t)x); }

static void sign_op(Eval *eval, bool absolute) {
    int64_t n = tensor_elements(&eval->in[0]);
    for (int64_t i = 0; i < n; i++)
        if (eval->in[0].type.dtype == DT_I32) {
            int32_t x = ((const int32_t *)eval->in[0].data)[i];
            ((int32_t *)eval->out[0].data)[i] = absolute && x >= 0 ? x : negated(x);
        } else {
            float x = ((const float *)eval->in[0].data)[i];
            ((float *)eval->out[0].data)[i] = absolute ? fabsf(x) : -x;
        }
}

void eval_ABS(Eval *eval) { sign_op(eval, true); }
void eval_NEG(Eval *eval) { sign_op(eval, false); }

static float rounded(float x, DType to) {
    if (to == DT_F16) return f16_to_f32(f32_to_f16(x));
    if (to != DT_BF16) return x;
    uint32_t bits = (uint32_t)f32_to_bf16(x) << 16;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static int32_t to_integer(double x) {   // toward zero, at the ends of the range when outside, 0 for NaN
    if (x != x) return 0;
    return x <= INT32_MIN ? INT32_MIN : x >= INT32_MAX ? INT32_MAX : (int32_t)x;
}

void eval_CAST(Eval *eval) {
    DType from = eval->in[0].type.dtype, to = (DType)node_int(eval->node, "type");
    int64_t n = tensor_elements(&eval->in[0]);
    const void *x = eval->in[0].data;
    void *out = eval->out[0].data;
    for (int64_t i = 0; i < n; i++) {
        double value = from == DT_I32   ? ((const int32_t *)x)[i]
                       : from == DT_F32 ? ((const float *)x)[i]
                       : from == DT_I8  ? ((const int8_t *)x)[i]
                                        : ((const uint8_t *)x)[i] != 0;
        if (to == DT_I32) ((int32_t *)out)[i] = to_integer(value);
        else if (to == DT_BOOL) ((uint8_t *)out)[i] = value != 0;
        else ((float *)out)[i] = rounded((float)value, to);
    }
}

void eval_CONST(Eval *eval) {
    double value = node_number(eval->node, "value");
    DType type = eval->out[0].type.dtype;
    if (type == DT_I32) *(int32_t *)eval->out[0].data = (int32_t)value;
    else if (type == DT_BOOL) *(uint8_t *)eval->out[0].data = value != 0;
    else *(float *)eval->out[0].data = (float)value;
}

// ---- several operands -----------------------------------------------------------------------------------------------------

// Walks the result's elements in order and tells which element of an operand each one takes.
typedef struct {
    int rank;
    int64_t sizes[MAX_RANK], strides[MAX_RANK], at[MAX_RANK], index;
} Walk;

static Walk walk_new(const Tensor *operand, const Tensor *out) {
    Walk walk = {.rank = out->type.rank};
    int64_t stride = 1;
    for (int i = walk.rank - 1; i >= 0; i--) {
        int d = i - (walk.rank - operand->type.rank);
        walk.sizes[i] = out->dims[i];
        walk.strides[i] = d >= 0 && operand->dims[d] != 1 ? stride : 0;
        if (d >= 0) stride *= operand->dims[d];
    }
    return walk;
}

static int64_t walk_next(Walk *walk) {
    int64_t index = walk->index;
    for (int i = walk->rank - 1; i >= 0; i--) {
        walk->index += walk->strides[i];
        if (++walk->at[i] < walk->sizes[i]) break;
        walk->index -= walk->strides[i] * walk->sizes[i];
        walk->at[i] = 0;
    }
    return index;
}

#define BINARY(ID, on_float, on_int) \
    void eval_##ID(Eval *eval) { \
        Walk left = walk_new(&eval->in[0], &eval->out[0]), right = walk_new(&eval->in[1], &eval->out[0]); \
        int64_t n = tensor_elements(&eval->out[0]); \
        for (int64_t i = 0; i < n; i++) { \
            int64_t l = walk_next(&left), r = walk_next(&right); \
            if (eval->in[0].type.dtype == DT_I32) { \
                int32_t a = ((const int32_t *)eval->in[0].data)[l], b = ((const int32_t *)eval->in[1].data)[r]; \
                ((int32_t *)eval->out[0].data)[i] = (int32_t)(on_int); \
            } else { \
                float a = ((const float *)eval->in[0].data)[l], b = ((const float *)eval->in[1].data)[r]; \
                ((float *)eval->out[0].data)[i] = (float)(on_float); \
            } \
        } \
    }

BINARY(ADD, a + b, (uint32_t)a + (uint32_t)b)
BINARY(SUB, a - b, (uint32_t)a - (uint32_t)b)
BINARY(MUL, a * b, (uint32_t)a * (uint32_t)b)
BINARY(DIV, a / b, b ? a / b : 0)
BINARY(MINIMUM, a < b ? a : b, a < b ? a : b)
BINARY(MAXIMUM, a > b ? a : b, a > b ? a : b)
BINARY(POW, pow((double)a, (double)b), 0 * a * b)

static double element(const Tensor *tensor, int64_t i) {
    if (tensor->type.dtype == DT_I32) return ((const int32_t *)tensor->data)[i];
    return tensor->type.dtype == DT_BOOL ? ((const uint8_t *)tensor->data)[i] : ((const float *)tensor->data)[i];
}

#define COMPARE(ID, expression) \
    void eval_##ID(Eval *eval) { \
        Walk left = walk_new(&eval->in[0], &eval->out[0]), right = walk_new(&eval->in[1], &eval->out[0]); \
        int64_t n = tensor_elements(&eval->out[0]); \
        for (int64_t i = 0; i < n; i++) { \
            double a = element(&eval->in[0], walk_next(&left)), b = element(&eval->in[1], walk_next(&right)); \
            ((uint8_t *)eval->out[0].data)[i] = (expression); \
        } \
    }

COMPARE(LT, a < b)
COMPARE(LE, a <= b)
COMPARE(EQ, a == b)
COMPARE(NE, a != b)

void eval_WHERE(Eval *eval) {
    Walk walks[3];
    for (int i = 0; i < 3; i++) walks[i] = walk_new(&eval->in[i], &eval->out[0]);
    size_t bytes = element_bytes(eval->out[0].type.dtype);
    int64_t n = tensor_elements(&eval->out[0]);
    for (int64_t i = 0; i < n; i++) {
        int64_t c = walk_next(&walks[0]), a = walk_next(&walks[1]), b = walk_next(&walks[2]);
        bool left = ((const uint8_t *)eval->in[0].data)[c];
        const char *from = left ? (const char *)eval->in[1].data + (size_t)a * bytes : (const char *)eval->in[2].data + (size_t)b * bytes;
        memcpy((char *)eval->out[0].data + (size_t)i * bytes, from, bytes);
    }
}

void eval_EXPAND(Eval *eval) {
    Walk walk = walk_new(&eval->in[0], &eval->out[0]);
    size_t bytes = element_bytes(eval->out[0].type.dtype);
    int64_t n = tensor_elements(&eval->out[0]);
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)eval->out[0].data + (size_t)i * bytes, (const char *)eval->in[0].data + (size_t)walk_next(&walk) * bytes, bytes);
}
