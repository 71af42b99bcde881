// Packing eight outputs at a time gives the bytes of packing a row alone, for every format that is made here; and any part alone gives what all of
// them give together.
#include "codegen/kernel.h"
#include "ir/dequant.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t next_random(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

// Mostly ordinary numbers; rows of zeros, of equal values, of one sign, large and small ones, and now and then what is no number.
static void fill(float *to, int64_t rows, int64_t k, bool wild) {
    uint32_t state = (uint32_t)(rows * 31 + k);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < k; i++) {
            float x = ((float)(next_random(&state) >> 8) / (float)(1 << 23) - 1) * ldexpf(1, (int)(r % 7) * 4 - 12);
            if (r % 11 == 3) x = 0;
            if (r % 11 == 4) x = 0.25f;
            if (r % 11 == 5) x = fabsf(x);
            if (r % 11 == 6) x = -fabsf(x) * 1e-30f;
            if (wild && r % 11 == 7 && i % 37 == 5) x = i % 2 ? NAN : INFINITY;
            to[r * k + i] = x;
        }
}

static uint8_t *packed(const Weight *weight, PackParts *parts) {
    assert_true(pack_parts(weight, parts));
    uint8_t *out = malloc((size_t)parts->count * parts->bytes);
    memset(out, 0xAA, (size_t)parts->count * parts->bytes);
    assert_true(pack_some(weight, 0, parts->count, out));
    return out;
}

static void check(DType type, int64_t rows, int64_t k, int rotate, bool wild) {
    float *data = malloc(sizeof *data * (size_t)(rows * k)), *row = malloc(sizeof *row * (size_t)k);
    fill(data, rows, k, wild);
    Type shape = {.dtype = DT_F32, .rank = 2, .dims = {rows, k}};
    Weight weight = {.name = "w", .type = shape, .source = shape, .index = -1, .data = data, .rotate = rotate, .quantize_to = type, .layout = LAYOUT_PANELS};
    int64_t bytes = dtype_row_bytes(type, k);
    uint8_t *rounded = malloc((size_t)(rows * bytes));
    for (int64_t r = 0; r < rows; r++) {
        weight_rows_f32(&weight, r, 1, row);
        quantize_row(type, row, k, rounded + r * bytes);
    }
    Weight alone = weight;
    alone.quantized = rounded;
    PackParts parts;
    uint8_t *got = packed(&weight, &parts), *want = packed(&alone, &parts);
    for (int64_t i = 0; i < parts.count; i++)
        if (memcmp(got + (uint64_t)i * parts.bytes, want + (uint64_t)i * parts.bytes, parts.bytes))
            fail_msg("%s: %d x %d, rotated by %d%s: panel %d differs", dtype_info[type].name, (int)rows, (int)k, rotate, wild ? ", with what is no number" : "", (int)i);
    memset(want, 0x55, parts.bytes);
    assert_true(pack_some(&weight, parts.count - 1, 1, want));
    assert_memory_equal(got + (uint64_t)(parts.count - 1) * parts.bytes, want, parts.bytes);
    free(got), free(want), free(rounded), free(row), free(data);
}

static void lanes_agree(void **state) {
    (void)state;
    static const DType types[] = {DT_F32, DT_BF16, DT_F16, DT_W8, DT_W6, DT_W5, DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_W8G64, DT_W8G128, DT_W4G64, DT_W4G128, DT_W4MG64, DT_W4MG128};
    static const int64_t rows[] = {1, 8, 70, 200};
    for (size_t t = 0; t < COUNT_OF(types); t++)
        for (size_t r = 0; r < COUNT_OF(rows); r++)
            for (int rotate = 0; rotate <= 128; rotate = rotate ? rotate * 2 : 16) {
                check(types[t], rows[r], 384, rotate, false);
                if (!rotate) check(types[t], rows[r], 384, 0, types[t] != DT_F32);
                if (!rotate && (row_code_bits(types[t]) || !dtype_info[types[t]].block || dtype_info[types[t]].block == 1)) check(types[t], rows[r], 101, 0, false);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(lanes_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
