// Storage formats of weights to float32, exactly as their specification says (ggml's reference dequantization, OCP MX and FP8, IEEE binary16).
#ifndef TENON_IR_DEQUANT_H
#define TENON_IR_DEQUANT_H
#include "ir/ir.h"

// `n` elements (a multiple of the block size) from `from` to float32. Every format of dtypes.def; integers and bool convert by value.
void dequantize_row(DType dtype, const void *from, float *to, int64_t n);

// Any block format as integers: w[k] = scale[g]·code[k] + minimum[g], or scale[g]·table[code[k]] where the format has a table (then minimum is 0).
// g = k / group. The products are those of dequantize_row, bit for bit: scale·code rounded, then + minimum rounded.
typedef struct {
    int group;                 // 16, 32, 64 or 128
    int bits;                  // 4, 5, 6 or 8: how many hold a code
    int zero, range;           // code + zero is in 0 … range-1
    bool has_minimum;
    bool scale_is_f16;         // every scale and minimum is a binary16 value
    const float *table;        // 16 entries, or NULL
} GroupedFormat;
bool grouped_format(DType dtype, GroupedFormat *format);   // false for types with block size 1 or 0
int row_code_bits(DType dtype);   // of types with one scale a row: 8, 6 or 5; 0: other types
// One row of n elements into codes[n] (int8 each), scales[n/group], minimums[n/group].
void grouped_row(DType dtype, const void *from, int64_t n, int8_t *codes, float *scales, float *minimums);

int64_t dtype_row_bytes(DType dtype, int64_t n);   // of a row of n elements; n is a multiple of the block

uint16_t f32_to_f16(float value);      // round to nearest even
float f16_to_f32(uint16_t bits);
uint16_t f32_to_bf16(float value);     // round to nearest even; NaN stays NaN

// A row as w8 stores it: scale = max|x| / 127, codes = x · (127 / max|x|) rounded to nearest even; a row of zeros has scale 0.
void quantize_row_w8(const float *from, int64_t n, int8_t *codes, float *scale);

// A row of n floats in a storage type, rounded to nearest (quantize.c): f32, f16, bf16, w8, w6, w5, q8_0, q4_0, q4_1, w8g…, w4g…, w4mg….
bool quantizes_to(DType to);
void quantize_row(DType to, const float *from, int64_t n, void *out);

// The parts of which such a row is made, for calibration: a group of codes, its scale and minimum, what a code stands for.
typedef struct { int group, bits, low, high; bool has_minimum, half; } CodedGroup;   // half: scales are binary16; group: n for a row of w8, w6 or w5
typedef struct { float scale, minimum; } GroupScale;
CodedGroup coded_group(DType to, int64_t n);   // of w8, w6, w5, or a grouped type of quantize_row
// The scale that makes Σ weight·(x − value)² least: a grid, then least squares. Never worse than the range itself, which
// quantize_row takes (for rows of w6 and w5 it searches, all weights equal).
int group_shrinks(const CodedGroup *group, const float **shrinks);   // the parts of the range that the grid tries, the whole of it first
GroupScale group_search(const CodedGroup *group, const float *x, const float *weight, int n);
int group_code(const CodedGroup *group, const GroupScale *scale, float x);
float group_value(const CodedGroup *group, const GroupScale *scale, int code);
void group_store(const CodedGroup *group, const GroupScale *scale, const int8_t *codes, void *to);

// The orthonormal Walsh–Hadamard transform of each block of a row, block a power of two that divides n: in place, by the same sums in the same
// order as the op `hadamard`. It is its own inverse.
void hadamard_row(float *row, int64_t n, int block);

// Rows [row, row+n) of a weight as the graph sees it (slices and transposes applied), dequantized: n × last-dimension floats.
// A weight of rank 3 counts its rows over the first two dimensions. The weight has bytes or data.
void weight_rows_f32(const Weight *weight, int64_t row, int64_t n, float *to);
// The stored bytes of one row, when rows are contiguous in the source (no transpose); NULL otherwise.
const void *weight_row_bytes(const Weight *weight, int64_t row);
#endif
