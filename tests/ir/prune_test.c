// Pruned matrices: exactly as many values stay as the pattern says, the largest; rows read alone and together agree; quantizing keeps the zeros.
#include "ir/dequant.h"
#include "ir/prune.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 70, COLUMNS = 101 };   // neither panels nor windows come out even

static uint32_t next(uint32_t *seed) { return *seed = *seed * 1664525u + 1013904223u; }

// Few distinct values: many are equal.
static void fill(float *values, int64_t n, uint32_t seed) {
    for (int64_t i = 0; i < n; i++) values[i] = (float)((int)(next(&seed) >> 24) - 128) / 16;
}

static Weight matrix(const float *data, int64_t rows, int64_t columns) {
    return (Weight){.name = "w", .type = {DT_F32, 2, {rows, columns}}, .data = data, .index = -1, .quantize_to = DT_COUNT};
}

static void largest(void **state) {
    (void)state;
    uint32_t scores[300], seed = 7;
    uint8_t stays[300];
    for (int round = 0; round < 400; round++) {
        int n = 1 + (int)(next(&seed) >> 16) % 300, keep = (int)(next(&seed) >> 16) % (n + 1), shift = round % 3 * 12;
        for (int i = 0; i < n; i++) scores[i] = next(&seed) >> shift >> 1;
        prune_largest(scores, n, keep, stays);
        int kept = 0;
        for (int i = 0; i < n; i++) {
            int before = 0;
            for (int j = 0; j < n; j++) before += scores[j] > scores[i] || (scores[j] == scores[i] && j < i);
            assert_int_equal(stays[i], before < keep);
            kept += stays[i];
        }
        assert_int_equal(kept, keep);
    }
}

static int count_row(const uint8_t *stays, int64_t n) {
    int count = 0;
    for (int64_t i = 0; i < n; i++) count += stays[i];
    return count;
}

static void patterns(void **state) {
    (void)state;
    static const Prune prunes[] = {{61, COLUMNS, 1, 1, NULL, NULL}, {2, 4, 1, 1, NULL, NULL}, {1, 3, 1, 1, NULL, NULL}, {4, 7, 16, 16, NULL, NULL},
                                   {1, 2, 64, 32, NULL, NULL}, {13, 13, 1, 8, NULL, NULL}};
    static float data[ROWS * COLUMNS], whole[ROWS * COLUMNS], again[ROWS * COLUMNS], importance[COLUMNS];
    static uint8_t stays[ROWS * COLUMNS];
    fill(data, ROWS * COLUMNS, 1);
    for (int i = 0; i < COLUMNS; i++) importance[i] = 1 + (float)(i % 5);
    for (int p = 0; p < (int)(sizeof prunes / sizeof *prunes) * 2; p++) {
        Weight w = matrix(data, ROWS, COLUMNS);
        w.prune = prunes[p / 2];
        w.prune.importance = p % 2 ? importance : NULL;
        prune_mask(&w, 0, ROWS, data, stays);
        weight_rows_f32(&w, 0, ROWS, whole);
        for (int i = 0; i < ROWS * COLUMNS; i++) assert_true(whole[i] == (stays[i] ? data[i] : 0));
        if (w.prune.rows * w.prune.columns == 1)
            for (int r = 0; r < ROWS; r++) assert_int_equal(count_row(stays + r * COLUMNS, COLUMNS), prune_row_keeps(&w));
        for (int r = ROWS - 1; r >= 0; r--) weight_rows_f32(&w, r, 1, again + r * COLUMNS);
        assert_memory_equal(whole, again, sizeof whole);
        Arena *arena = arena_new();
        prune_find_blocks(&w, arena);
        weight_rows_f32(&w, 3, ROWS - 3, again + 3 * COLUMNS);
        assert_memory_equal(whole, again, sizeof whole);
        arena_free(arena);
    }
}

// Blocks of 64 × 16 over 3 × 16 columns, of which the last block is short: the heaviest stays.
static void blocks(void **state) {
    (void)state;
    static float data[64 * 40];
    for (int r = 0; r < 64; r++)
        for (int i = 0; i < 40; i++) data[r * 40 + i] = i >= 32 ? 10 : i >= 16 ? 1 : 8;
    float row[40];
    Weight w = matrix(data, 64, 40);
    w.prune = (Prune){.keep = 2, .of = 3, .rows = 64, .columns = 16};
    weight_rows_f32(&w, 63, 1, row);
    assert_true(row[0] == 8 && row[16] == 0 && row[31] == 0 && row[39] == 10);
    float importance[40];
    for (int i = 0; i < 40; i++) importance[i] = i < 16 ? 0 : 1;
    w.prune.importance = importance;
    weight_rows_f32(&w, 0, 1, row);
    assert_true(row[0] == 0 && row[16] == 1 && row[39] == 10);
}

static void zeros_survive(void **state) {
    (void)state;
    enum { K = 256 };
    static float data[8 * K], row[K], back[K];
    static uint8_t stored[K * 8];
    fill(data, 8 * K, 3);
    Weight w = matrix(data, 8, K);
    w.prune = (Prune){.keep = 154, .of = K, .rows = 1, .columns = 1};
    for (int type = 0; type < DT_COUNT; type++) {
        if (!quantizes_to((DType)type) || !prune_keeps_zeros((DType)type)) continue;
        for (int r = 0; r < 8; r++) {
            weight_rows_f32(&w, r, 1, row);
            quantize_row((DType)type, row, K, stored);
            dequantize_row((DType)type, stored, back, K);
            for (int i = 0; i < K; i++) assert_true(row[i] != 0 || back[i] == 0);
        }
    }
    assert_false(prune_keeps_zeros(DT_Q4_1));
    assert_false(prune_keeps_zeros(DT_Q4_K));
    assert_true(prune_keeps_zeros(DT_W8));
}

static void picks(void **state) {
    (void)state;
    float data[20], row[3];
    for (int i = 0; i < 20; i++) data[i] = (float)i;
    int32_t rows[] = {0, 3}, columns[] = {1, 2, 4};
    Weight w = matrix(data, 2, 3);
    w.pick_rows = (Pick){2, 4, rows};
    w.pick_columns = (Pick){3, 5, columns};
    weight_rows_f32(&w, 1, 1, row);
    assert_true(row[0] == 16 && row[1] == 17 && row[2] == 19);
    assert_null(weight_row_bytes(&w, 0));
    w.pick_columns.count = 0, w.type.dims[1] = 5;
    assert_ptr_equal(weight_row_bytes(&w, 1), data + 15);
    Weight v = {.name = "v", .type = {DT_F32, 1, {3}}, .data = data + 5, .index = -1, .quantize_to = DT_COUNT, .pick_columns = {3, 5, columns}};
    weight_rows_f32(&v, 0, 1, row);
    assert_true(row[0] == 6 && row[1] == 7 && row[2] == 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(largest), cmocka_unit_test(patterns), cmocka_unit_test(blocks), cmocka_unit_test(zeros_survive),
                                       cmocka_unit_test(picks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
