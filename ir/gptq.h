// Rounding that knows what a matrix is multiplied with: GPTQ (arXiv 2210.17323), in the form of LDLQ (2307.13304, theorem 6), which it equals.
//
// With x's second moments H = Σ xᵀx, rounding a row w to q costs (w − q)·H·(w − q)ᵀ at the layer's output. H = M·Mᵀ with M upper triangular makes
// that a sum over columns k of d[k]·(w[k] + Σ_{i<k} (w[i] − q[i])·a[i,k] − q[k])², where d[k] = M[k,k]² and a[i,k] = M[i,k] / M[k,k]: going through
// the columns in order, each is rounded as the errors made so far would have it. Scales minimise the same sum, over a grid and then by least
// squares. Wide matrices are treated in diagonal blocks of H of at most GPTQ_BLOCK columns. All loops add in one order: the result is the same bits
// on every machine.
#ifndef TENON_IR_GPTQ_H
#define TENON_IR_GPTQ_H
#include "ir/dequant.h"

enum { GPTQ_BLOCK = 4096 };   // a multiple of every group and of every rotation

typedef struct { int64_t first, n; float *h; float *d; } GptqBlock;   // h: n×n, row-major, its upper triangle counts; d: n

// h += xᵀx for `rows` rows of x, `stride` floats apart, columns first … first + n; only rows from … to-1 of h (so that threads can share the work).
void gptq_add(const GptqBlock *block, const float *x, int64_t rows, int64_t stride, int64_t from, int64_t to);
// H of the rotated x: both sides through Hadamard transforms of so many columns.
void gptq_rotate(GptqBlock *block, int rotation);
// H plus some of its mean diagonal becomes a (in h) and d. A column that x never used counts as little as that.
void gptq_factor(GptqBlock *block);
// `rows` rows of w, each of k floats, to the type (w8 or a grouped format of quantize_row), in the order of the blocks that cover k. `error`: the
// cost of all rows is added to it; may be NULL. `stays` (of rows × k; NULL: all): values that are 0 there become zero, and the others make up for
// what that does, as in SparseGPT (2301.00774); the type then has no minimum.
void gptq_rows(DType to, const float *w, const uint8_t *stays, int64_t rows, int64_t k, const GptqBlock *blocks, void *out, double *error);
// The cost of rows that were rounded otherwise.
double gptq_error(DType type, const float *w, const void *rounded, int64_t rows, int64_t k, const GptqBlock *blocks);
#endif
