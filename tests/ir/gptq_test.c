// Calibrated rounding against its own measure: the cost is that of the second moments, and never more than plain rounding's.
#include "ir_test.h"

#include <math.h>

#include "ir/gptq.h"

enum { K = 192, ROWS_OF_X = 300, N = 21 };

static uint64_t state = 1;
static float number(void) {   // about normal
    float sum = 0;
    for (int i = 0; i < 6; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        sum += (float)(state >> 40) / 16777216.0f - 0.5f;
    }
    return sum * 1.4f;
}

// Rows whose columns depend on one another, a few of them large.
static float *activations(void) {
    float *x = malloc(sizeof *x * ROWS_OF_X * K);
    for (int r = 0; r < ROWS_OF_X; r++)
        for (int i = 0; i < K; i++) x[r * K + i] = (i ? 0.7f * x[r * K + i - 1] : 0) + number() * (i % 61 == 7 ? 10 : 1);
    return x;
}

static float *matrix(void) {
    float *w = malloc(sizeof *w * N * K);
    for (int i = 0; i < N * K; i++) w[i] = number() * (i % 89 == 3 ? 4 : 1);
    return w;
}

static const DType types[] = {DT_W8, DT_W6, DT_W5, DT_Q8_0, DT_W8G64, DT_Q4_0, DT_Q4_1, DT_W4G64, DT_W4MG64};

static void moments(GptqBlock *block, const float *x, int rotation) {
    *block = (GptqBlock){0, K, calloc(K * K, sizeof(float)), calloc(K, sizeof(float))};
    gptq_add(block, x, 100, K, 0, 70);   // in parts: of rows of x and of h
    gptq_add(block, x, 100, K, 70, K);
    gptq_add(block, x + 100 * K, ROWS_OF_X - 100, K, 0, K);
    if (rotation) gptq_rotate(block, rotation);
    gptq_factor(block);
}

static void release(GptqBlock *block) { free(block->h), free(block->d); }

static void not_worse(void **unused) {
    (void)unused;
    float *x = activations(), *w = matrix();
    GptqBlock block;
    moments(&block, x, 0);
    for (int t = 0; t < (int)COUNT_OF(types); t++) {
        int64_t bytes = dtype_row_bytes(types[t], K);
        uint8_t *plain = malloc((size_t)(bytes * N)), *better = malloc((size_t)(bytes * N));
        double said = 0;
        for (int r = 0; r < N; r++) quantize_row(types[t], w + r * K, K, plain + r * bytes);
        gptq_rows(types[t], w, NULL, N, K, &block, better, &said);
        double before = gptq_error(types[t], w, plain, N, K, &block), after = gptq_error(types[t], w, better, N, K, &block);
        assert_true(after < 0.9 * before);
        assert_true(fabs(said - after) < 1e-3 * after);
        free(plain), free(better);
    }
    release(&block);
    free(x), free(w);
}

// The cost is Σ over rows of x of the squared error of the product, and 1 % of the mean moment for each column's own.
static void is_the_output_error(void **unused) {
    (void)unused;
    float *x = activations(), *w = matrix();
    GptqBlock block;
    moments(&block, x, 0);
    double mean = 0, direct = 0;
    for (int i = 0; i < ROWS_OF_X * K; i++) mean += (double)x[i] * x[i] / K;
    int64_t bytes = dtype_row_bytes(DT_Q4_1, K);
    uint8_t *rounded = malloc((size_t)(bytes * N));
    float values[K];
    for (int n = 0; n < N; n++) {
        quantize_row(DT_Q4_1, w + n * K, K, rounded + n * bytes);
        dequantize_row(DT_Q4_1, rounded + n * bytes, values, K);
        for (int i = 0; i < K; i++) direct += 0.01 * mean * pow(w[n * K + i] - values[i], 2);
        for (int r = 0; r < ROWS_OF_X; r++) {
            double sum = 0;
            for (int i = 0; i < K; i++) sum += (double)x[r * K + i] * (w[n * K + i] - values[i]);
            direct += sum * sum;
        }
    }
    double said = gptq_error(DT_Q4_1, w, rounded, N, K, &block);
    assert_true(fabs(said - direct) < 1e-3 * direct);
    free(rounded), free(x), free(w);
    release(&block);
}

// Moments of the rotated x are those of x, rotated.
static void rotated(void **unused) {
    (void)unused;
    float *x = activations();
    GptqBlock turned, direct;
    moments(&turned, x, 64);
    for (int r = 0; r < ROWS_OF_X; r++) hadamard_row(x + r * K, K, 64);
    moments(&direct, x, 0);
    for (int i = 0; i < K; i++) assert_true(fabsf(turned.d[i] - direct.d[i]) < 1e-3f * direct.d[i]);
    release(&turned), release(&direct);
    free(x);
}

// What was never seen is rounded plainly well; what is not sane does no harm.
static void nothing_seen(void **unused) {
    (void)unused;
    float *w = matrix();
    for (int odd = 0; odd < 2; odd++) {
        GptqBlock block = {0, K, calloc(K * K, sizeof(float)), calloc(K, sizeof(float))};
        for (int i = 0; i < K * K && odd; i++) block.h[i] = i % 3 ? NAN : INFINITY;
        gptq_factor(&block);
        uint8_t *bytes = malloc((size_t)(dtype_row_bytes(DT_Q8_0, K) * N));
        float values[K];
        gptq_rows(DT_Q8_0, w, NULL, N, K, &block, bytes, NULL);
        dequantize_row(DT_Q8_0, bytes, values, K);
        for (int i = 0; i < K; i++) assert_true(fabsf(values[i] - w[i]) < 0.1f);
        free(bytes);
        release(&block);
    }
    free(w);
}

static void search(void **unused) {
    (void)unused;
    for (int t = 0; t < (int)COUNT_OF(types); t++) {
        CodedGroup group = coded_group(types[t], K);
        for (int round = 0; round < 50; round++) {
            float x[K], weight[K];
            uint8_t bytes[2 * K];
            double plain = 0, found = 0;
            float values[K];
            for (int i = 0; i < group.group; i++) x[i] = number() + 0.3f * (float)(round % 5), weight[i] = fabsf(number()) + 0.01f;
            quantize_row(types[t], x, group.group, bytes);
            dequantize_row(types[t], bytes, values, group.group);
            GroupScale scale = group_search(&group, x, weight, group.group);
            int8_t codes[K];
            for (int i = 0; i < group.group; i++) {
                codes[i] = (int8_t)group_code(&group, &scale, x[i]);
                plain += weight[i] * pow(x[i] - values[i], 2);
                found += weight[i] * pow(x[i] - group_value(&group, &scale, codes[i]), 2);
            }
            bool searched = types[t] == DT_W6 || types[t] == DT_W5;   // plainly, too, with other weights
            assert_true(found <= plain * (searched ? 1.05 : 1.0001));
            group_store(&group, &scale, codes, bytes);
            dequantize_row(types[t], bytes, values, group.group);
            for (int i = 0; i < group.group; i++) assert_true(values[i] == group_value(&group, &scale, codes[i]));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(not_worse), cmocka_unit_test(is_the_output_error), cmocka_unit_test(rotated),
                                       cmocka_unit_test(nothing_seen), cmocka_unit_test(search)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
