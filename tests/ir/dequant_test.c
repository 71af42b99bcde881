// Every storage format against gguf's Python reference (fixtures/dequant.bin), codes and scales against values, 16-bit floats both ways,
// and rows of sliced and transposed weights.
#include "ir_test.h"

#include <math.h>

#include "ir/dequant.h"

static bool same_bits(float a, float b) { return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b)); }

// What grouped_row says, put together as its header says.
static void assert_grouped(DType dtype, const void *bytes, const float *values, int64_t n) {
    GroupedFormat format;
    if (!grouped_format(dtype, &format)) return;
    int8_t *codes = malloc((size_t)n);
    float *scales = malloc(sizeof(float) * (size_t)(n / format.group)), *minimums = malloc(sizeof(float) * (size_t)(n / format.group));
    grouped_row(dtype, bytes, n, codes, scales, minimums);
    for (int64_t k = 0; k < n; k++) {
        int64_t g = k / format.group;
        assert_in_range(codes[k] + format.zero, 0, format.range - 1);
        float product = scales[g] * (format.table ? format.table[codes[k]] : (float)codes[k]);
        float value = format.has_minimum ? product + minimums[g] : product;
        if (!same_bits(value, values[k]))
            fail_msg("%s: element %d is %g, not %g", dtype_info[dtype].name, (int)k, (double)value, (double)values[k]);
        if (format.scale_is_f16) assert_true(same_bits(f16_to_f32(f32_to_f16(scales[g])), scales[g]));
        if (!format.has_minimum) assert_true(minimums[g] == 0);
    }
    free(codes);
    free(scales);
    free(minimums);
}

static void formats(void **state) {
    (void)state;
    size_t length;
    char *file = read_whole(TEST_DIR "/fixtures/dequant.bin", &length), *at = file;
    bool seen[DT_COUNT] = {false};
    while (at < file + length) {
        uint32_t bytes, elements;
        DType dtype = dtype_parse(at);
        assert_int_not_equal(dtype, DT_COUNT);
        memcpy(&bytes, at + 8, 4);
        memcpy(&elements, at + 12, 4);
        const char *data = at + 16;
        float *expected = malloc(elements * sizeof(float)), *got = malloc(elements * sizeof(float));
        memcpy(expected, data + bytes, elements * sizeof(float));
        dequantize_row(dtype, data, got, elements);
        for (uint32_t i = 0; i < elements; i++)
            if (!same_bits(expected[i], got[i]))
                fail_msg("%s: element %u is %g, not %g", dtype_info[dtype].name, i, (double)got[i], (double)expected[i]);
        assert_grouped(dtype, data, got, elements);
        free(expected);
        free(got);
        seen[dtype] = true;
        at += 16 + bytes + elements * sizeof(float);
    }
    free(file);
    for (int i = 0; i < DT_COUNT; i++)   // every block format has a fixture
        if (dtype_info[i].block > 1 && !seen[i]) fail_msg("%s has no fixture", dtype_info[i].name);
}

// Every half goes to float and back; floats between two halves go to the nearest, to the even one in the middle.
static void halves(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float value = f16_to_f32((uint16_t)h);
        if (isnan(value)) assert_true(isnan(f16_to_f32(f32_to_f16(value))));
        else assert_int_equal(f32_to_f16(value), h);
        if ((h & 0x7FFF) >= 0x7BFF) continue;
        float above = f16_to_f32((uint16_t)(h + 1)), middle = (float)(((double)value + above) / 2);
        assert_int_equal(f32_to_f16(middle), h & 1 ? h + 1 : h);
        assert_int_equal(f32_to_f16(nextafterf(middle, value)), h);
        assert_int_equal(f32_to_f16(nextafterf(middle, above)), h + 1);
    }
    assert_int_equal(f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(f32_to_f16(65520), 0x7C00);
    assert_int_equal(f32_to_f16(-1e-9f), 0x8000);
    assert_int_equal(f32_to_f16(1e30f), 0x7C00);
    assert_int_equal(f32_to_bf16(1.00390625f), 0x3F80);    // 1 + 2^-8: in the middle, to even
    assert_int_equal(f32_to_bf16(1.01171875f), 0x3F82);
    assert_int_equal(f32_to_bf16(INFINITY), 0x7F80);
    assert_true((f32_to_bf16(NAN) & 0x7F) != 0);
}

static Weight weight_of(const float *values, Type source, Type type) {
    return (Weight){.name = "w", .tensor = "t", .source = source, .type = type, .index = -1, .bytes = values, .quantize_to = DT_COUNT};
}

static void assert_rows(const Weight *weight, const float *expected, int64_t rows) {
    int64_t columns = weight->type.dims[weight->type.rank - 1];
    float *got = malloc(sizeof(float) * (size_t)(rows * columns));
    for (int64_t from = 0; from < rows; from++) {
        weight_rows_f32(weight, from, rows - from, got);
        assert_memory_equal(got, expected + from * columns, sizeof(float) * (size_t)((rows - from) * columns));
        const float *bytes = weight_row_bytes(weight, from);
        if (bytes) assert_memory_equal(bytes, expected + from * columns, sizeof(float) * (size_t)columns);
    }
    free(got);
}

static void slices(void **state) {
    (void)state;
    float source[3 * 4 * 2];
    for (int i = 0; i < 24; i++) source[i] = (float)i;
    Weight w = weight_of(source, (Type){DT_F32, 3, {3, 4, 2}}, (Type){DT_F32, 3, {3, 4, 2}});
    assert_rows(&w, source, 12);

    w.type = (Type){DT_F32, 2, {4, 2}};
    w.index = 1;
    assert_rows(&w, source + 8, 4);

    w.first = 1, w.step = 2, w.rows = 2;
    w.type.dims[0] = 2;
    assert_rows(&w, (float[]){10, 11, 14, 15}, 2);

    w.transpose = true;
    assert_rows(&w, (float[]){10, 14, 11, 15}, 2);
    assert_null(weight_row_bytes(&w, 0));

    w = weight_of(source, (Type){DT_F32, 3, {3, 4, 2}}, (Type){DT_F32, 3, {2, 4, 2}});
    w.step = 2, w.rows = 2;
    assert_rows(&w, (float[]){0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}, 8);

    w = weight_of(source, (Type){DT_F32, 3, {3, 4, 2}}, (Type){DT_F32, 3, {3, 2, 4}});
    w.transpose = true;
    assert_rows(&w, (float[]){0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15, 16, 18, 20, 22, 17, 19, 21, 23}, 6);

    w = weight_of(source, (Type){DT_F32, 1, {24}}, (Type){DT_F32, 1, {3}});
    w.first = 5, w.step = 3, w.rows = 3;
    assert_rows(&w, (float[]){5, 8, 11}, 1);
    w.step = 1;
    assert_rows(&w, (float[]){5, 6, 7}, 1);
    assert_ptr_equal(weight_row_bytes(&w, 0), source + 5);
}

static void w8(void **state) {
    (void)state;
    float row[4] = {1, -2, 0.5f, 0.0078125f}, scale;
    int8_t codes[4];
    quantize_row_w8(row, 4, codes, &scale);
    assert_true(same_bits(scale, 2.0f / 127));
    assert_memory_equal(codes, ((int8_t[]){64, -127, 32, 0}), 4);
    quantize_row_w8((float[]){0, 0}, 2, codes, &scale);
    assert_true(scale == 0 && codes[0] == 0 && codes[1] == 0);
    unsigned char stored[4 + sizeof scale];
    float got[4];
    quantize_row_w8(row, 4, (int8_t *)stored, &scale);
    memcpy(stored + 4, &scale, sizeof scale);
    dequantize_row(DT_W8, stored, got, 4);
    assert_true(same_bits(got[1], scale * -127));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(formats), cmocka_unit_test(halves), cmocka_unit_test(slices), cmocka_unit_test(w8)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
