// Pruned values, found when rows are read: nothing is stored for a mask. A row's own values (or those of its band of rows, where blocks have several)
// decide which of them stay, in windows of `of` blocks; so each row, each panel of rows and the whole matrix keep a number that the pattern fixes.
//
// The score of a value is |w| · importance of its column: with the norms of the columns of what the matrix is multiplied with, that is Wanda
// (arXiv 2306.11695). All sums add in one order: the same values stay on every machine.
#include "ir/prune.h"
#include "ir/dequant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *room(int64_t n, size_t size) {
    void *memory = calloc((size_t)(n > 0 ? n : 1), size);
    if (!memory) abort();
    return memory;
}

static int64_t columns_of(const Weight *weight) { return weight->type.dims[weight->type.rank - 1]; }
static int64_t rows_of(const Weight *weight) { return type_row_elements(&weight->type) / columns_of(weight); }
static int64_t blocks_along(const Weight *weight) { return (columns_of(weight) + weight->prune.columns - 1) / weight->prune.columns; }
static bool single(const Prune *prune) { return prune->rows == 1 && prune->columns == 1; }

bool prune_keeps_zeros(DType dtype) {
    GroupedFormat format;
    if (dtype == DT_F8E4M3 || dtype == DT_F8E5M2) return true;
    return quantizes_to(dtype) && !(grouped_format(dtype, &format) && (format.has_minimum || format.table));
}

static bool pick_equal(const Pick *a, const Pick *b) {
    return a->count == b->count && a->of == b->of && (!a->count || memcmp(a->at, b->at, (size_t)a->count * sizeof *a->at) == 0);
}

bool prune_equal(const Weight *a, const Weight *b) {
    const Prune *p = &a->prune, *q = &b->prune;
    if (!pick_equal(&a->pick_rows, &b->pick_rows) || !pick_equal(&a->pick_columns, &b->pick_columns) || p->keep != q->keep) return false;
    if (!p->keep) return true;
    if (p->of != q->of || p->rows != q->rows || p->columns != q->columns || !p->importance != !q->importance) return false;
    return !p->importance || memcmp(p->importance, q->importance, sizeof *p->importance * (size_t)columns_of(a)) == 0;
}

int64_t prune_row_keeps(const Weight *weight) {
    const Prune *p = &weight->prune;
    int64_t columns = columns_of(weight), blocks = blocks_along(weight), rest = blocks % p->of;
    int64_t values = (blocks / p->of * p->keep + (rest < p->keep ? rest : p->keep)) * p->columns;
    return values < columns ? values : columns;
}

// ---- the largest -------------------------------------------------------------------------------------------------------------------------

// Few: each in turn against the smallest of those kept so far.
static void largest_of_few(const uint32_t *scores, int64_t n, int64_t keep, uint8_t *stays) {
    for (int64_t i = 0; i < n; i++) {
        int64_t before = 0;
        for (int64_t j = 0; j < n && before < keep; j++) before += scores[j] > scores[i] || (scores[j] == scores[i] && j < i);
        stays[i] = before < keep;
    }
}

// Many: the score of which `keep` are as large, eleven bits at a time.
void prune_largest(const uint32_t *scores, int64_t n, int64_t keep, uint8_t *stays) {
    enum { FEW = 16, BITS = 11 };
    if (n <= FEW) {
        largest_of_few(scores, n, keep, stays);
        return;
    }
    uint32_t prefix = 0, mask = 0;
    int64_t left = keep;
    for (int shift = 32 - BITS; left > 0; shift = shift > BITS ? shift - BITS : 0) {
        int64_t counts[1 << BITS] = {0};
        uint32_t digits = shift ? (1u << BITS) - 1 : (1u << (32 - 2 * BITS)) - 1, digit = digits;
        for (int64_t i = 0; i < n; i++) counts[scores[i] >> shift & digits] += (scores[i] & mask) == prefix;
        while (digit && counts[digit] < left) left -= counts[digit--];
        prefix |= digit << shift;
        mask |= digits << shift;
        if (!shift) break;
    }
    for (int64_t i = 0; i < n; i++) {   // `left` of those that are the score itself
        bool equal = keep > 0 && scores[i] == prefix;
        stays[i] = (keep > 0 && scores[i] > prefix) || (equal && left > 0);
        left -= equal;
    }
}

static uint32_t score_bits(double score) {
    float value = (float)score;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x7FFFFFFF;
}

static void windows(const Prune *prune, const uint32_t *scores, int64_t n, uint8_t *stays) {
    for (int64_t at = 0; at < n; at += prune->of) prune_largest(scores + at, n - at < prune->of ? n - at : prune->of, prune->keep, stays + at);
}

// ---- rows and blocks ---------------------------------------------------------------------------------------------------------------------

static void mask_row(const Weight *weight, const float *values, uint32_t *scores, uint8_t *stays) {
    const float *importance = weight->prune.importance;
    int64_t columns = columns_of(weight);
    for (int64_t i = 0; i < columns; i++) scores[i] = score_bits((double)values[i] * (importance ? (double)importance[i] : 1));
    windows(&weight->prune, scores, columns, stays);
}

// Which blocks stay in a band of rows, whose values these are.
static void mask_band(const Weight *weight, const float *values, int64_t rows, uint8_t *blocks) {
    const Prune *prune = &weight->prune;
    int64_t columns = columns_of(weight), count = blocks_along(weight);
    double *sums = room(count, sizeof *sums);
    uint32_t *scores = room(count, sizeof *scores);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < columns; i++) {
            double w = (double)values[r * columns + i] * (prune->importance ? (double)prune->importance[i] : 1);
            sums[i / prune->columns] += w * w;
        }
    for (int64_t b = 0; b < count; b++) scores[b] = score_bits(sums[b]);
    windows(prune, scores, count, blocks);
    free(sums), free(scores);
}

// The band's rows as they are before pruning.
static void find_band(const Weight *weight, int64_t band, uint8_t *blocks) {
    Weight whole = *weight;
    whole.prune.keep = 0, whole.rotate = 0;
    int64_t first = band * weight->prune.rows, rows = rows_of(weight) - first < weight->prune.rows ? rows_of(weight) - first : weight->prune.rows;
    float *values = room(rows * columns_of(weight), sizeof *values);
    weight_rows_f32(&whole, first, rows, values);
    mask_band(weight, values, rows, blocks);
    free(values);
}

void prune_band(const Weight *weight, int64_t band, uint8_t *stays) {
    const uint8_t *blocks = weight->prune.blocks;
    if (blocks) memcpy(stays, blocks + band * blocks_along(weight), (size_t)blocks_along(weight));
    else find_band(weight, band, stays);
}

void prune_find_blocks(Weight *weight, Arena *arena) {
    const Prune *prune = &weight->prune;
    if (!prune->keep || single(prune) || prune->blocks || (!weight->bytes && !weight->data)) return;
    int64_t count = blocks_along(weight), bands = (rows_of(weight) + prune->rows - 1) / prune->rows;
    uint8_t *blocks = ARENA_ARRAY(arena, uint8_t, count * bands);
    for (int64_t band = 0; band < bands; band++) find_band(weight, band, blocks + band * count);
    weight->prune.blocks = blocks;
}

void prune_mask(const Weight *weight, int64_t row, int64_t n, const float *values, uint8_t *stays) {
    const Prune *prune = &weight->prune;
    int64_t columns = columns_of(weight), count = blocks_along(weight);
    if (single(prune)) {
        uint32_t *scores = room(columns, sizeof *scores);
        for (int64_t r = 0; r < n; r++) mask_row(weight, values + r * columns, scores, stays + r * columns);
        free(scores);
        return;
    }
    uint8_t *found = room(count, 1);
    int64_t last = -1;
    for (int64_t r = 0; r < n; r++) {
        int64_t band = (row + r) / prune->rows;
        if (band != last && !prune->blocks) find_band(weight, band, found);
        const uint8_t *blocks = prune->blocks ? prune->blocks + band * count : found;
        for (int64_t i = 0; i < columns; i++) stays[r * columns + i] = blocks[i / prune->columns];
        last = band;
    }
    free(found);
}
