// Packing eight outputs at a time: what pack.c does for a row, done for eight rows in the lanes of vectors, k outermost as the panel has it. Each lane
// does the operations of ir/quantize.c in their order, so that the bytes are those of the plain way; the interpreter and everything else that
// rounds a row alone goes that way, and tests/driver/packing_test.c compares the two.
//
// Written in vectors of the C dialect that gcc and Clang share, and compiled for whatever the compiler takes for granted and, on x86-64, once more for
// AVX2 (pack_lanes_avx2.c).
#include "codegen/pack_lanes.h"

#include <math.h>
#include <string.h>

#ifndef LANES_PACK
#define LANES_PACK lanes_pack_any
#endif

typedef float F __attribute__((vector_size(32), aligned(32)));
typedef int32_t I __attribute__((vector_size(32), aligned(32)));
typedef double D __attribute__((vector_size(64), aligned(64)));
typedef int64_t L __attribute__((vector_size(64), aligned(64)));
typedef int32_t Words __attribute__((vector_size(32), aligned(4)));

#define INLINE static inline __attribute__((always_inline))   // so that no vector is passed in a call

INLINE F select_f(I mask, F yes, F no) { return (F)(((I)yes & mask) | ((I)no & ~mask)); }
INLINE F all(float x) { return (F){x, x, x, x, x, x, x, x}; }
INLINE F magnitude(F x) { return (F)((I)x & 0x7FFFFFFF); }
INLINE F nearest(F x) { return x + 12582912.0f - 12582912.0f; }   // to nearest even: 1.5·2²³

// ---- rows to lanes -----------------------------------------------------------------------------------------------------------------

INLINE void turn(const Lanes *l, int64_t k) {
    const float *r = l->rows;
    F *x = (F *)(void *)l->x;
    for (int64_t i = 0; i < k; i++) x[i] = (F){r[i], r[k + i], r[2 * k + i], r[3 * k + i], r[4 * k + i], r[5 * k + i], r[6 * k + i], r[7 * k + i]};
}

INLINE void sum_difference(F *a, F *b) {
    F sum = *a + *b;
    *b = *a - *b;
    *a = sum;
}

// hadamard_row in each lane; three of its passes at once where there are as many.
INLINE void rotate(const Lanes *l, int64_t k, int block) {
    F *x = (F *)(void *)l->x;
    F norm = all(1 / sqrtf((float)block));
    int64_t half = 1;
    for (; half * 8 <= block; half *= 8)
        for (int64_t i = 0; i < k; i += 8 * half)
            for (int64_t j = i; j < i + half; j++) {
                F *at = x + j, v[8];
                for (int n = 0; n < 8; n++) v[n] = at[n * half];
                for (int n = 0; n < 8; n += 2) sum_difference(&v[n], &v[n + 1]);
                for (int n = 0; n < 8; n += n % 4 == 1 ? 3 : 1) sum_difference(&v[n], &v[n + 2]);
                for (int n = 0; n < 4; n++) sum_difference(&v[n], &v[n + 4]);
                for (int n = 0; n < 8; n++) at[n * half] = v[n];
            }
    for (; half < block; half *= 2)
        for (int64_t i = 0; i < k; i += 2 * half)
            for (int64_t j = i; j < i + half; j++) sum_difference(&x[j], &x[j + half]);
    for (int64_t i = 0; i < k; i++) x[i] *= norm;
}

// ---- codes ---------------------------------------------------------------------------------------------------------------------------

typedef struct { F scale, minimum, inverse; } Scales;

INLINE F half_rounded(F x, uint16_t *halves) {
    F out;
    for (int n = 0; n < LANES; n++) {
        halves[n] = f32_to_f16(x[n]);
        out[n] = f16_to_f32(halves[n]);
    }
    return out;
}

// plain_scale of quantize.c, and its scales in the panel.
INLINE Scales group_scales(const F *x, const CodedGroup *group, uint16_t *scales, uint16_t *minimums) {
    F least = x[0], most = x[0], largest = all(0);
    for (int i = 0; i < group->group; i++) {
        if (group->has_minimum) {
            least = select_f(x[i] < least, x[i], least);
            most = select_f(x[i] > most, x[i], most);
        } else largest = select_f(magnitude(x[i]) > magnitude(largest), x[i], largest);
    }
    F scale = group->has_minimum ? (most - least) / all((float)group->high) : group->bits < 8 ? largest / all((float)group->low) : magnitude(largest) / all((float)group->high);
    Scales s = {.scale = half_rounded(scale, scales), .minimum = all(0)};
    if (group->has_minimum) s.minimum = half_rounded(least + (most - least) * 0.0f / 2.0f, minimums);   // a range without end has no minimum
    s.inverse = select_f(magnitude(s.scale) > 1e-36f, 1 / s.scale, all(0));
    return s;
}

INLINE I group_code8(F x, const Scales *s, const CodedGroup *group) {
    F code = (x - s->minimum) * s->inverse, low = all((float)group->low), high = all((float)group->high);
    code = select_f(code > low, code, low);   // NaN: low
    code = select_f(code < high, code, high);
    return __builtin_convertvector(nearest(code), I);
}

// One group of eight outputs; `to` is where the first of them has its scale.
INLINE void put_group(const F *x, const PanelFormat *f, const CodedGroup *group, I there, uint8_t *to, int n, int count) {
    uint16_t scales[LANES], minimums[LANES];
    int head = panel_head_bytes(f);
    Scales s = group_scales(x, group, scales, minimums);
    memcpy(to + 2 * n, scales, sizeof *scales * (size_t)count);
    if (f->has_minimum) memcpy(to + head / 2 + 2 * n, minimums, sizeof *minimums * (size_t)count);
    Words *words = (Words *)(void *)(to + head + n * 4);
    for (int i = 0; i < group->group; i += f->bits == 8 ? 4 : 8) {
        I word = {0};
        for (int j = 0; j < 4; j++) {
            word |= ((group_code8(x[i + j], &s, group) + f->zero) & 255) << (8 * j);
            if (f->bits == 4) word |= ((group_code8(x[i + 4 + j], &s, group) + f->zero) & 15) << (8 * j + 4);
        }
        *words = word & there;
        words += 256 / sizeof *words;
    }
}

// quantize_row_w8 in each lane.
INLINE void put_row8(const F *x, const PanelFormat *f, int64_t k, I there, uint8_t *to, int n, int count) {
    F largest = all(0);
    for (int64_t i = 0; i < k; i++) largest = select_f(magnitude(x[i]) > largest, magnitude(x[i]), largest);
    F inverse = select_f(largest > 1e-36f, 127.0f / largest, all(0)), scale = largest / 127.0f;
    memcpy(to + 4 * n, &scale, sizeof(float) * (size_t)count);
    Words *words = (Words *)(void *)(to + panel_head_bytes(f) + n * 4);
    for (int64_t i = 0; i < k; i += 4) {
        I word = {0};
        for (int j = 0; j < 4 && i + j < k; j++) {
            F code = nearest(x[i + j] * inverse);
            code = select_f(code == code, code, all(0));   // an infinity makes every product NaN
            word |= ((__builtin_convertvector(code, I) + f->zero) & 255) << (8 * j);
        }
        *words = word & there;
        words += 256 / sizeof *words;
    }
}

// ---- rows of six and five bits: group_search of quantize.c, all weights 1 ---------------------------------------------------------------

typedef struct { F low, high; } Range;

INLINE F row_code(F x, F inverse, const Range *range) {
    F code = x * inverse;
    code = select_f(code > range->low, code, range->low);   // NaN: low
    code = select_f(code < range->high, code, range->high);
    return nearest(code);
}

INLINE F inverse_of(F scale) { return select_f(magnitude(scale) > 1e-36f, 1 / scale, all(0)); }

INLINE D row_error(const F *x, int64_t k, F scale, const Range *range) {
    F inverse = inverse_of(scale);
    D error = {0};
    for (int64_t i = 0; i < k; i += 32) {
        F part = all(0);
        for (int64_t j = i; j < k && j < i + 32; j++) {
            F off = x[j] - (scale * row_code(x[j], inverse, range) + 0.0f);
            part += off * off;
        }
        error += __builtin_convertvector(part, D);
    }
    return error;
}

// The better of two scales in each lane where `tried` says so; which took the new one.
INLINE I take_better(F *best, D *least, F scale, D error, I tried) {
    I better = __builtin_convertvector((L)(error < *least), I) & tried;
    L wide = __builtin_convertvector(better, L);
    *best = select_f(better, scale, *best);
    *least = (D)(((L)error & wide) | ((L)*least & ~wide));
    return better;
}

INLINE F row_search(const F *x, int64_t k, const CodedGroup *group, const Range *range) {
    F largest = all(0);
    for (int64_t i = 0; i < k; i++) largest = select_f(magnitude(x[i]) > magnitude(largest), x[i], largest);
    const float *shrinks;
    int tries = group_shrinks(group, &shrinks);
    F best = largest * shrinks[0] / range->low;
    D least = row_error(x, k, best, range);
    I going = {-1, -1, -1, -1, -1, -1, -1, -1};
    for (int t = 1; t < tries; t++) {
        F scale = largest * shrinks[t] / range->low;
        take_better(&best, &least, scale, row_error(x, k, scale, range), going);
    }
    for (int round = 0; round < 2; round++) {   // fit_scale
        F inverse = inverse_of(best);
        D squares = {0}, products = {0};
        for (int64_t i = 0; i < k; i++) {
            D code = __builtin_convertvector(row_code(x[i], inverse, range), D);
            squares += code * code;
            products += __builtin_convertvector(x[i], D) * code;
        }
        F scale = __builtin_convertvector(products / squares, F);
        going &= __builtin_convertvector((L)(squares > 0), I);
        going = take_better(&best, &least, scale, row_error(x, k, scale, range), going);
    }
    return best;
}

// Sixteen values of six bits, or thirty-two of five: their low four bits, then a plane of the others.
INLINE void put_row_planes(const F *x, const PanelFormat *f, int64_t k, I there, uint8_t *to, int n, int count) {
    CodedGroup group = coded_group(f->type, k);
    Range range = {all((float)group.low), all((float)group.high)};
    F scale = row_search(x, k, &group, &range), inverse = inverse_of(scale);
    int unit = panel_unit(f), more = f->bits - 4;
    memcpy(to + 4 * n, &scale, sizeof(float) * (size_t)count);
    uint8_t *at = to + panel_head_bytes(f) + n * 4;
    for (int64_t i = 0; i < k; i += unit, at += unit * 8 * f->bits) {
        I high = {0};
        for (int eight = 0; eight < unit; eight += 8) {
            I low = {0};
            for (int j = eight; j < eight + 8 && i + j < k; j++) {
                I code = __builtin_convertvector(row_code(x[i + j], inverse, &range), I) + f->zero;
                low |= (code & 15) << (j % 4 * 8 + (j & 4));
                high |= code >> 4 << (j % 4 * 8 + j / 4 * more);
            }
            *(Words *)(void *)(at + eight / 8 * 256) = low & there;
        }
        *(Words *)(void *)(at + unit / 8 * 256) = high & there;
    }
}

INLINE I bf16_bits(F x) {
    I bits = (I)x, rounded = (I)(((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) & 0xFFFF), not_a_number = (bits & 0x7FFFFFFF) > 0x7F800000;
    return (rounded & ~not_a_number) | (((bits >> 16 & 0xFFFF) | 0x40) & not_a_number);
}

INLINE void put_bf16(const F *x, int64_t k, I there, uint8_t *panel, int n) {
    for (int64_t i = 0; i < k; i += 2) {
        I word = bf16_bits(x[i]);
        if (i + 1 < k) word |= bf16_bits(x[i + 1]) << 16;
        *(Words *)(void *)(panel + i / 2 * 256 + n * 4) = word & there;
    }
}

INLINE void put_f32(const F *x, int64_t k, I there, uint8_t *panel, int n) {
    for (int64_t i = 0; i < k; i++) *(Words *)(void *)(panel + i * 256 + n * 4) = (I)x[i] & there;
}

INLINE void pack(const Lanes *l, uint8_t *panel, int n, int count) {
    const PanelFormat *f = &l->layout->format;
    int64_t k = l->layout->k;
    const F *x = (const F *)(const void *)l->x;
    I lane = {0, 1, 2, 3, 4, 5, 6, 7}, there = lane < count;
    turn(l, k);
    if (l->rotate) rotate(l, k, l->rotate);
    if (f->type == DT_BF16) put_bf16(x, k, there, panel, n);
    else if (f->type == DT_F32) put_f32(x, k, there, panel, n);
    else if (!f->group && f->bits < 8) put_row_planes(x, f, k, there, panel, n, count);
    else if (!f->group) put_row8(x, f, k, there, panel, n, count);
    else {
        CodedGroup group = coded_group(f->type, k);
        int64_t stride = panel_head_bytes(f) + (int64_t)f->group * 8 * f->bits;
        for (int64_t g = 0; g < k / f->group; g++) put_group(x + g * f->group, f, &group, there, panel + g * stride, n, count);
    }
}

void LANES_PACK(const Lanes *lanes, uint8_t *panel, int n, int count) { pack(lanes, panel, n, count); }
