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
    for (int64_t r = 0; r < rows; r++)
        quantize_row_w8((const float *)eval->in[0].data + r * columns, columns, (int8_t *)eval->out[0].data + r * columns,
                        (float *)eval->out[1].data + r);
}

// The weight's row as w8 holds it: its own codes when it is stored so, else quantized here.
static void w8_row(Eval *eval, int64_t row, int64_t k, int8_t *codes, float *scale, float *room) {
    Weight *const *weights = eval_weights(eval, 2);
    bool stored = weights && weights[0]->tensor && weights[0]->source.dtype == DT_W8;
    const void *bytes = stored ? weight_row_bytes(weights[0], row) : NULL;
    if (bytes) {
        memcpy(codes, bytes, (size_t)k);
        memcpy(scale, (const char *)bytes + k, sizeof *scale);
        return;
    }
    if (weights) weight_rows_f32(weights[0], row, 1, room);
    else eval_rows(eval, 2, row, 1, room);
    quantize_row_w8(room, k, codes, scale);
}

void eval_LINEAR_I8(Eval *eval) {
    const Type *weight = &eval->node->operands[2]->type;
    int64_t k = weight->dims[1], out = weight->dims[0], rows = tensor_rows(&eval->in[0]);
    const int8_t *x = eval->in[0].data;
    const float *x_scale = eval->in[1].data, *bias = eval_vector(eval, 3);
    float *to = eval->out[0].data, *room = ARENA_ARRAY(eval->arena, float, k), scale;
    int8_t *codes = ARENA_ARRAY(eval->arena, int8_t, k);
    for (int64_t o = 0; o < out; o++) {
        w8_row(eval, o, k, codes, &scale, room);
        for (int64_t r = 0; r < rows; r++) {
            int64_t sum = 0;
            for (int64_t i = 0; i < k; i += 4096) {   // within int32: 4096 · 127 · 127
                int32_t part = 0;
                int64_t end = i + 4096 < k ? i + 4096 : k;
                for (int64_t j = i; j < end; j++) part += x[r * k + j] * codes[j];
                sum += part;
            }
            float value = (float)sum * x_scale[r] * scale;
            to[r * out + o] = bias ? value + bias[o] : value;
        }
    }
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
