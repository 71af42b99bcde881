// Products, norms and quantized products. A product's operands are float32, multiplied and summed in double, so that only the result is
// rounded.
//
// Weights are dequantized a few rows at a time, once a node. The sums run over four outputs at once with lanes of their own along K: an
// order that compilers vectorize and that is the same everywhere.
#include "ir/eval.h"

#include <math.h>
#include <string.h>

enum { OUTPUTS = 4, LANES = 4 };

static void widen(const float *from, double *to, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

// sums[o] = x · w[o], o < OUTPUTS; w has rows of `k` doubles.
static void dots(const double *x, const double *w, int64_t k, double *sums) {
    double lanes[OUTPUTS][LANES] = {{0}};
    int64_t i = 0;
    for (; i + LANES <= k; i += LANES)
        for (int o = 0; o < OUTPUTS; o++)
            for (int l = 0; l < LANES; l++) lanes[o][l] += x[i + l] * w[o * k + i + l];
    for (int o = 0; o < OUTPUTS; o++) {
        sums[o] = (lanes[o][0] + lanes[o][1]) + (lanes[o][2] + lanes[o][3]);
        for (int64_t j = i; j < k; j++) sums[o] += x[j] * w[o * k + j];
    }
}

// to[r·out_stride + o] for rows r of x and rows `first`…`first + out` of the weight; x rows lie x_stride apart.
static void product(Eval *eval, int w, int64_t first, int64_t out, const double *x, int64_t x_stride, int64_t rows, int64_t k,
                    const float *bias, float *to, int64_t out_stride) {
    float *weight = ARENA_ARRAY(eval->arena, float, OUTPUTS * k);
    double *wide = ARENA_ARRAY(eval->arena, double, OUTPUTS * k), sums[OUTPUTS];
    for (int64_t o = 0; o < out; o += OUTPUTS) {
        int64_t here = out - o < OUTPUTS ? out - o : OUTPUTS;
        eval_rows(eval, w, first + o, here, weight);
        widen(weight, wide, here * k);
        for (int64_t r = 0; r < rows; r++) {
            dots(x + r * x_stride, wide, k, sums);
            for (int64_t i = 0; i < here; i++) to[r * out_stride + o + i] = (float)(bias ? sums[i] + bias[o + i] : sums[i]);
        }
    }
}

void eval_LINEAR(Eval *eval) {
    const Type *weight = &eval->node->operands[1]->type;
    int64_t k = weight->dims[weight->rank - 1], out = weight->dims[weight->rank - 2], heads = weight->rank == 3 ? weight->dims[0] : 1;
    int64_t elements = tensor_elements(&eval->in[0]), rows = elements / k / heads;
    double *x = ARENA_ARRAY(eval->arena, double, elements);
    const float *bias = eval_vector(eval, 2);
    float *to = eval->out[0].data;
    widen(eval->in[0].data, x, elements);
    for (int64_t h = 0; h < heads; h++)
        product(eval, 1, h * out, out, x + h * k, heads * k, rows, k, bias ? bias + h * out : NULL, to + h * out, heads * out);
}

void eval_LINEAR_ROWS(Eval *eval) { eval_LINEAR(eval); }

void eval_EMBEDDING(Eval *eval) {
    const Type *table = &eval->node->operands[1]->type;
    const int32_t *ids = eval->in[0].data;
    int64_t count = tensor_elements(&eval->in[0]), columns = table->dims[1];
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= table->dims[0]) {
            eval_error(eval, "id %d is not in the table of %lld rows", ids[i], (long long)table->dims[0]);
            return;
        }
        eval_rows(eval, 1, ids[i], 1, (float *)eval->out[0].data + i * columns);
    }
}

// ---- int8 -----------------------------------------------------------------------------------------------------------------

void eval_QUANTIZE_ROWS(Eval *eval) {
    int64_t rows = tensor_rows(&eval->in[0]), columns = tensor_columns(&eval->in[0]);
    int64_t groups = tensor_columns(&eval->out[1]), parts = tensor_columns(&eval->out[2]), size = columns / parts;
    const float *x = eval->in[0].data;
    int8_t *codes = eval->out[0].data;
    for (int64_t g = 0; g < rows * groups; g++)
        quantize_row_w8(x + g * (columns / groups), columns / groups, codes + g * (columns / groups), (float *)eval->out[1].data + g);
    for (int64_t p = 0; p < rows * parts; p++) {
        int32_t sum = 0;
        for (int64_t i = 0; i < size; i++) sum += codes[p * size + i];
        ((int32_t *)eval->out[2].data)[p] = sum;
    }
}

void eval_HADAMARD(Eval *eval) {
    int64_t count = tensor_elements(&eval->in[0]), block = node_int(eval->node, "block");
    const float *x = eval->in[0].data;
    double *sums = ARENA_ARRAY(eval->arena, double, count), norm = 1 / sqrt((double)block);
    for (int64_t i = 0; i < count; i++) sums[i] = (double)x[i];
    for (int64_t half = 1; half < block; half *= 2)
        for (int64_t i = 0; i < count; i++) {
            if (i & half) continue;
            double a = sums[i], b = sums[i + half];
            sums[i] = a + b;
            sums[i + half] = a - b;
        }
    for (int64_t i = 0; i < count; i++) ((float *)eval->out[0].data)[i] = (float)(sums[i] * norm);
}

void eval_OBSERVE(Eval *eval) { memcpy(eval->out[0].data, eval->in[0].data, sizeof(float) * (size_t)tensor_elements(&eval->in[0])); }

// What the codes stand for, in float64, times the weight's values: compiled code sums integers over each group exactly and differs by rounding
// alone. (sums: only compiled code has a use for it.)
void eval_LINEAR_I8(Eval *eval) {
    const Type *weight = &eval->node->operands[3]->type;
    int64_t k = weight->dims[1], out = weight->dims[0], rows = tensor_rows(&eval->in[0]), group = k / tensor_columns(&eval->in[1]);
    const int8_t *x = eval->in[0].data;
    const float *x_scale = eval->in[1].data, *bias = eval_vector(eval, 4);
    float *to = eval->out[0].data, *w = ARENA_ARRAY(eval->arena, float, k);
    for (int64_t o = 0; o < out; o++) {
        eval_rows(eval, 3, o, 1, w);
        for (int64_t r = 0; r < rows; r++) {
            double sum = 0;
            for (int64_t g = 0; g < k / group; g++) {
                double part = 0;
                for (int64_t i = g * group; i < (g + 1) * group; i++) part += (double)x[r * k + i] * (double)w[i];
                sum += part * (double)x_scale[r * (k / group) + g];
            }
            to[r * out + o] = (float)(bias ? sum + (double)bias[o] : sum);
        }
    }
}

// ---- bf16 -----------------------------------------------------------------------------------------------------------------

void eval_NARROW(Eval *eval) {
    int64_t count = tensor_elements(&eval->in[0]);
    const float *x = eval->in[0].data;
    for (int64_t i = 0; i < count; i++) ((uint16_t *)eval->out[0].data)[i] = f32_to_bf16(x[i]);
}

void eval_LINEAR_BF16(Eval *eval) {
    const Type *weight = &eval->node->operands[1]->type;
    int64_t k = weight->dims[1], out = weight->dims[0], count = tensor_elements(&eval->in[0]);
    const uint16_t *codes = eval->in[0].data;
    double *x = ARENA_ARRAY(eval->arena, double, count);
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)codes[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        x[i] = (double)value;
    }
    product(eval, 1, 0, out, x, k, count / k, k, eval_vector(eval, 2), eval->out[0].data, out);
}

// ---- norms ----------------------------------------------------------------------------------------------------------------

void eval_RMS_NORM(Eval *eval) {
    int64_t rows = tensor_rows(&eval->in[0]), n = tensor_columns(&eval->in[0]);
    double eps = node_number(eval->node, "eps"), offset = node_number(eval->node, "offset");
    const float *w = eval_vector(eval, 1);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)eval->in[0].data + r * n;
        float *to = (float *)eval->out[0].data + r * n;
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
        double factor = 1 / sqrt(sum / (double)n + eps);
        for (int64_t i = 0; i < n; i++) to[i] = (float)(x[i] * factor * (w ? w[i] + offset : 1));
    }
}

void eval_LAYER_NORM(Eval *eval) {
    int64_t rows = tensor_rows(&eval->in[0]), n = tensor_columns(&eval->in[0]);
    double eps = node_number(eval->node, "eps");
    const float *w = eval_vector(eval, 1), *b = eval_vector(eval, 2);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)eval->in[0].data + r * n;
        float *to = (float *)eval->out[0].data + r * n;
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < n; i++) sum += x[i];
        double mean = sum / (double)n;
        for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
        double factor = 1 / sqrt(squares / (double)n + eps);
        for (int64_t i = 0; i < n; i++) to[i] = (float)((x[i] - mean) * factor * (w ? w[i] : 1) + (b ? b[i] : 0));
    }
}
