#include "ir/gptq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL = 64, STRIP = 128, ROWS = 16 };   // of the factorization; columns between two passes over all earlier errors; rows that go together

#if defined(__x86_64__) && defined(__has_attribute)
#if __has_attribute(target_clones) && !defined(TENON_SANITIZED)   // clones are chosen before a sanitizer is ready
#define VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#ifndef VECTORS
#define VECTORS
#endif

static void *room(int64_t n, size_t size) {
    void *memory = calloc((size_t)(n > 0 ? n : 1), size);
    if (!memory) abort();
    return memory;
}

// to += x[0]·a + x[1]·(a + stride) + …, four at a time.
VECTORS static void add_four(float *restrict to, const float *restrict a, int64_t stride, const float *x, int64_t n) {
    const float *restrict b = a + stride, *restrict c = b + stride, *restrict d = c + stride;
    float p = x[0], q = x[1], r = x[2], s = x[3];
    for (int64_t i = 0; i < n; i++) to[i] += (p * a[i] + q * b[i]) + (r * c[i] + s * d[i]);
}

VECTORS static void add_one(float *restrict to, const float *restrict a, float x, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += x * a[i];
}

static void add_rows(float *to, const float *a, int64_t stride, const float *x, int64_t count, int64_t n) {
    int64_t i = 0;
    for (; i + 4 <= count; i += 4) add_four(to, a + i * stride, stride, x + i, n);
    for (; i < count; i++) add_one(to, a + i * stride, x[i], n);
}

// ---- second moments ----------------------------------------------------------------------------------------------------------------------

void gptq_add(const GptqBlock *block, const float *x, int64_t rows, int64_t stride, int64_t from, int64_t to) {
    enum { TILE = 512 };
    float column[PANEL];
    for (int64_t r = 0; r < rows; r += PANEL) {
        int64_t count = rows - r < PANEL ? rows - r : PANEL;
        const float *at = x + r * stride + block->first;
        for (int64_t l = from; l < block->n; l += TILE)   // columns of h, so that the rows of x stay near
            for (int64_t i = from; i < to && i < l + TILE; i++) {
                int64_t first = i > l ? i : l, n = (block->n < l + TILE ? block->n : l + TILE) - first;
                for (int64_t p = 0; p < count; p++) column[p] = at[p * stride + i];
                add_rows(block->h + i * block->n + first, at + first, stride, column, count, n);
            }
    }
}

static void mirror(GptqBlock *block, bool up) {
    float *h = block->h;
    int64_t n = block->n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++) {
            if (up) h[j * n + i] = h[i * n + j];
            else {
                float swap = h[i * n + j];
                h[i * n + j] = h[j * n + i];
                h[j * n + i] = swap;
            }
        }
}

void gptq_rotate(GptqBlock *block, int rotation) {
    if (!rotation) return;
    mirror(block, true);
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < block->n; i++) hadamard_row(block->h + i * block->n, block->n, rotation);
        mirror(block, false);
    }
}

// ---- H = M·Mᵀ ---------------------------------------------------------------------------------------------------------------------------

// Columns j0 … j1-1 of M, in all rows above; later columns have been taken off already. False: H is not positive here.
static bool factor_panel(float *h, int64_t n, int64_t j0, int64_t j1) {
    float column[PANEL];
    for (int64_t j = j1 - 1; j >= j0; j--) {
        float pivot = h[j * n + j];
        if (!(pivot > 0)) return false;
        float root = sqrtf(pivot), inverse = 1 / root;
        for (int64_t i = 0; i < j; i++) h[i * n + j] *= inverse;
        h[j * n + j] = root;
        for (int64_t l = j0; l < j; l++) column[l - j0] = h[l * n + j];
        for (int64_t i = 0; i < j; i++) add_one(h + i * n + j0, column, -h[i * n + j], j - j0);
    }
    return true;
}

static bool factor(float *h, int64_t n) {
    float *turned = room(PANEL * n, sizeof *turned), minus[PANEL];
    bool positive = true;
    for (int64_t j1 = n; j1 > 0 && positive;) {
        int64_t j0 = j1 > PANEL ? j1 - PANEL : 0, count = j1 - j0;
        positive = factor_panel(h, n, j0, j1);
        for (int64_t l = 0; l < j0; l++)
            for (int64_t p = 0; p < count; p++) turned[p * n + l] = h[l * n + j0 + p];
        for (int64_t i = 0; i < j0 && positive; i++) {
            for (int64_t p = 0; p < count; p++) minus[p] = -h[i * n + j0 + p];
            add_rows(h + i * n + i, turned + i, n, minus, count, j0 - i);
        }
        j1 = j0;
    }
    free(turned);
    return positive;
}

void gptq_factor(GptqBlock *block) {
    int64_t n = block->n;
    float *h = block->h, *kept = room(n * n, sizeof *kept);
    double mean = 0;
    for (int64_t i = 0; i < n; i++) mean += h[i * n + i];
    mean /= (double)n;
    if (!(mean > 1e-30 && mean < 1e30)) {   // nothing was seen, or nothing sane: plain rounding
        memset(h, 0, sizeof *h * (size_t)(n * n));
        mean = 1;
    }
    memcpy(kept, h, sizeof *h * (size_t)(n * n));
    for (double damping = 0.01; damping < 1e6; damping *= 10) {
        for (int64_t i = 0; i < n; i++) h[i * n + i] += (float)(damping * mean);
        if (factor(h, n)) break;
        memcpy(h, kept, sizeof *h * (size_t)(n * n));
    }
    for (int64_t i = 0; i < n; i++) block->d[i] = h[i * n + i] * h[i * n + i];
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = i + 1; k < n; k++) h[i * n + k] /= h[k * n + k];
    free(kept);
}

// ---- rounding -----------------------------------------------------------------------------------------------------------------------------

typedef struct {
    CodedGroup format;
    DType to;
    const uint8_t *stays;     // of these rows; NULL: all
    int64_t k, row_bytes;
    float *work, *errors;     // [ROWS][k]: w as the errors so far would have it; w − q
    int8_t *codes;            // [ROWS][k]
    GroupScale *scales;       // [ROWS]
    double cost;
} Rounding;

static bool goes(const Rounding *r, int row, int64_t column) { return r->stays && !r->stays[row * r->k + column]; }

// Values that are zero whatever is made of them do not count for a scale.
static void drop(const Rounding *r, int row, float *x, int64_t first, int64_t n) {
    for (int64_t i = 0; r->stays && i < n; i++) x[i] = goes(r, row, first + i) ? 0 : x[i];
}

// Columns c … c+n-1 of one row: scales at the start of each group.
static void round_strip(Rounding *r, int row, const float *w, const GptqBlock *block, int64_t c, int64_t n, uint8_t *out) {
    float *x = r->work + row * r->k, *e = r->errors + row * r->k;
    int8_t *codes = r->codes + row * r->k;
    int64_t group = r->format.group;
    GroupScale *scale = &r->scales[row];
    for (int64_t j = c; j < c + n; j++) {
        int64_t in = j - block->first;
        if (j % group == 0 && group != r->k) drop(r, row, x + j, j, group);
        if (j % group == 0 && group != r->k) *scale = group_search(&r->format, x + j, block->d + in, (int)group);
        codes[j] = goes(r, row, j) ? 0 : (int8_t)group_code(&r->format, scale, x[j]);
        float value = group_value(&r->format, scale, codes[j]), off = x[j] - value;
        e[j] = w[j] - value;
        r->cost += (double)block->d[in] * off * off;
        add_one(x + j + 1, block->h + in * block->n + in + 1, e[j], c + n - j - 1);
        if ((j + 1) % group == 0 && group != r->k) group_store(&r->format, scale, codes + j + 1 - group, out + (j + 1 - group) / group * dtype_info[r->to].bytes);
    }
}

// The scale of a whole row, before any of it is rounded.
static void row_scales(Rounding *r, const float *w, int rows, const GptqBlock *blocks) {
    float *d = room(r->k, sizeof *d);
    for (int64_t k = 0; k < r->k; blocks++) memcpy(d + k, blocks->d, sizeof *d * (size_t)blocks->n), k += blocks->n;
    for (int row = 0; row < rows; row++) {
        float *x = r->work + row * r->k;
        drop(r, row, x, 0, r->k);
        r->scales[row] = group_search(&r->format, x, d, (int)r->k);
        memcpy(x, w + row * r->k, sizeof *x * (size_t)r->k);
    }
    free(d);
}

static void round_rows(Rounding *r, const float *w, int rows, const GptqBlock *blocks, uint8_t *out) {
    memcpy(r->work, w, sizeof *w * (size_t)(rows * r->k));
    if (r->format.group == r->k) row_scales(r, w, rows, blocks);
    for (int64_t end = 0; end < r->k; blocks++) {
        int64_t first = end;
        end += blocks->n;
        for (int64_t c = first; c < end; c += STRIP) {
            int64_t n = end - c < STRIP ? end - c : STRIP;
            for (int64_t i = 0; i < c - first; i += PANEL)   // earlier errors, some columns for all rows while they are near
                for (int row = 0; row < rows; row++)
                    add_rows(r->work + row * r->k + c, blocks->h + i * blocks->n + (c - first), blocks->n, r->errors + row * r->k + first + i,
                             c - first - i < PANEL ? c - first - i : PANEL, n);
            for (int row = 0; row < rows; row++) round_strip(r, row, w + row * r->k, blocks, c, n, out + row * r->row_bytes);
        }
    }
    for (int row = 0; row < rows && r->format.group == r->k; row++) group_store(&r->format, &r->scales[row], r->codes + row * r->k, out + row * r->row_bytes);
}

void gptq_rows(DType to, const float *w, const uint8_t *stays, int64_t rows, int64_t k, const GptqBlock *blocks, void *out, double *error) {
    Rounding r = {.to = to, .k = k, .row_bytes = dtype_row_bytes(to, k), .format = coded_group(to, k)};
    r.work = room(ROWS * k, sizeof *r.work);
    r.errors = room(ROWS * k, sizeof *r.errors);
    r.codes = room(ROWS * k, 1);
    r.scales = room(ROWS, sizeof *r.scales);
    for (int64_t row = 0; row < rows; row += ROWS) {
        r.stays = stays ? stays + row * k : NULL;
        round_rows(&r, w + row * k, rows - row < ROWS ? (int)(rows - row) : ROWS, blocks, (uint8_t *)out + row * r.row_bytes);
    }
    if (error) *error += r.cost;
    free(r.work), free(r.errors), free(r.codes), free(r.scales);
}

double gptq_error(DType type, const float *w, const void *rounded, int64_t rows, int64_t k, const GptqBlock *blocks) {
    float *e = room(k, sizeof *e), *sum = room(k, sizeof *sum);
    double error = 0;
    for (int64_t row = 0; row < rows; row++) {
        dequantize_row(type, (const uint8_t *)rounded + row * dtype_row_bytes(type, k), e, k);
        for (int64_t i = 0; i < k; i++) e[i] = w[row * k + i] - e[i];
        const GptqBlock *b = blocks;
        for (int64_t first = 0; first < k; first += b->n, b++) {
            memcpy(sum, e + first, sizeof *sum * (size_t)b->n);
            for (int64_t i = 0; i < b->n; i++) {
                error += (double)b->d[i] * sum[i] * sum[i];
                add_one(sum + i + 1, b->h + i * b->n + i + 1, e[first + i], b->n - i - 1);
            }
        }
    }
    free(e), free(sum);
    return error;
}
