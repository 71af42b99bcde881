// Storage formats to float32. Every block format is first taken apart into integer codes, a scale a group and perhaps a minimum a group;
// its values are then scale·code (+ minimum) or scale·table[code]. So dequantize_row and grouped_row cannot disagree: one is made of the
// other.
//
// Formats: ggml's reference (ggml-quants: dequantize_row_*), OCP Microscaling 1.0 (MXFP4), OCP FP8 1.0, IEEE 754 binary16.
#include "ir/dequant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- 16-bit and 8-bit floats --------------------------------------------------------------------------------------------

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7FFF;
    if (magnitude >= 0x7C00) return from_bits(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
    if (magnitude < 0x400) {   // zero or subnormal: units of 2^-24
        float value = (float)magnitude * 0x1p-24f;
        return sign ? -value : value;
    }
    return from_bits(sign | ((magnitude << 13) + 0x38000000));
}

uint16_t f32_to_f16(float value) {
    uint32_t bits = to_bits(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
    if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00);           // 65520 and above
    if (magnitude < 0x38800000) {                                             // below 2^-14: adding 0.5 rounds to units of 2^-24
        float rounded = from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (to_bits(rounded) - 0x3F000000));
    }
    uint32_t odd = magnitude >> 13 & 1;
    return (uint16_t)(sign | (magnitude - 0x38000000 + 0xFFF + odd) >> 13);
}

uint16_t f32_to_bf16(float value) {
    uint32_t bits = to_bits(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float e4m3_to_f32(uint8_t byte) {
    uint32_t exponent = byte >> 3 & 15, mantissa = byte & 7;
    float value;
    if ((byte & 0x7F) == 0x7F) value = from_bits(0x7FC00000);
    else if (exponent == 0) value = (float)mantissa * 0x1p-9f;
    else value = from_bits((exponent + 120) << 23 | mantissa << 20);
    return byte & 0x80 ? -value : value;
}

static float e8m0_half(uint8_t byte) {   // 2^(byte - 128): half of the OCP scale, since the table holds doubled values
    return from_bits(byte < 2 ? 0x00200000u << byte : (uint32_t)(byte - 1) << 23);
}

// ---- block formats --------------------------------------------------------------------------------------------------------

static const float iq4_table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const float e2m1_table[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};   // doubled

bool grouped_format(DType dtype, GroupedFormat *format) {
    static const GroupedFormat none = {0};
    switch (dtype) {   // group, bits, zero, range, has_minimum, scale_is_f16, table
    case DT_Q8_0: *format = (GroupedFormat){32, 8, 128, 256, false, true, NULL}; break;
    case DT_Q4_0: *format = (GroupedFormat){32, 4, 8, 16, false, true, NULL}; break;
    case DT_Q4_1: *format = (GroupedFormat){32, 4, 0, 16, true, true, NULL}; break;
    case DT_Q5_0: *format = (GroupedFormat){32, 5, 16, 32, false, true, NULL}; break;
    case DT_Q5_1: *format = (GroupedFormat){32, 5, 0, 32, true, true, NULL}; break;
    case DT_Q2_K: *format = (GroupedFormat){16, 4, 0, 4, true, false, NULL}; break;
    case DT_Q3_K: *format = (GroupedFormat){16, 4, 4, 8, false, false, NULL}; break;
    case DT_Q4_K: *format = (GroupedFormat){32, 4, 0, 16, true, false, NULL}; break;
    case DT_Q5_K: *format = (GroupedFormat){32, 5, 0, 32, true, false, NULL}; break;
    case DT_Q6_K: *format = (GroupedFormat){16, 6, 32, 64, false, false, NULL}; break;
    case DT_IQ4_NL: *format = (GroupedFormat){32, 4, 0, 16, false, true, iq4_table}; break;
    case DT_IQ4_XS: *format = (GroupedFormat){32, 4, 0, 16, false, false, iq4_table}; break;
    case DT_MXFP4: *format = (GroupedFormat){32, 4, 0, 16, false, false, e2m1_table}; break;
    case DT_W8G64: *format = (GroupedFormat){64, 8, 128, 256, false, true, NULL}; break;
    case DT_W8G128: *format = (GroupedFormat){128, 8, 128, 256, false, true, NULL}; break;
    case DT_W4G64: *format = (GroupedFormat){64, 4, 8, 16, false, true, NULL}; break;
    case DT_W4G128: *format = (GroupedFormat){128, 4, 8, 16, false, true, NULL}; break;
    case DT_W4MG64: *format = (GroupedFormat){64, 4, 0, 16, true, true, NULL}; break;
    case DT_W4MG128: *format = (GroupedFormat){128, 4, 0, 16, true, true, NULL}; break;
    default: *format = none; return false;
    }
    return true;
}

int row_code_bits(DType dtype) { return dtype == DT_W8 ? 8 : dtype == DT_W6 ? 6 : dtype == DT_W5 ? 5 : 0; }

static float half_at(const uint8_t *at) { return f16_to_f32((uint16_t)(at[0] | at[1] << 8)); }

// n bytes: low nibbles are elements 0…n-1, high nibbles n…2n-1; `zero` is taken off.
static void nibbles_of(const uint8_t *at, int8_t *codes, int n, int zero) {
    for (int i = 0; i < n; i++) {
        codes[i] = (int8_t)((at[i] & 15) - zero);
        codes[i + n] = (int8_t)((at[i] >> 4) - zero);
    }
}

static void nibbles(const uint8_t *at, int8_t *codes) { nibbles_of(at, codes, 16, 0); }

// The fifth bits of 32 elements, in 4 bytes.
static void fifth_bits(const uint8_t *at, int8_t *codes, int offset) {
    for (int i = 0; i < 32; i++) codes[i] = (int8_t)((codes[i] | (at[i / 8] >> (i % 8) & 1) << 4) - offset);
}

// The 6-bit scales and minimums of Q4_K and Q5_K: 8 of each in 12 bytes.
static void k_scales(const uint8_t *at, int i, int *scale, int *minimum) {
    if (i < 4) {
        *scale = at[i] & 63;
        *minimum = at[i + 4] & 63;
    } else {
        *scale = (at[i + 4] & 15) | at[i - 4] >> 6 << 4;
        *minimum = at[i + 4] >> 4 | at[i] >> 6 << 4;
    }
}

static void block_q2_k(const uint8_t *at, int8_t *codes, float *scales, float *minimums) {
    float d = half_at(at + 80), m = half_at(at + 82);
    for (int g = 0; g < 16; g++) {
        scales[g] = d * (float)(at[g] & 15);
        minimums[g] = -(m * (float)(at[g] >> 4));
    }
    for (int i = 0; i < 256; i++) codes[i] = (int8_t)(at[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3);
}

static void block_q3_k(const uint8_t *at, int8_t *codes, float *scales) {
    const uint8_t *high = at, *low = at + 32, *packed = at + 96;
    float d = half_at(at + 108);
    for (int g = 0; g < 16; g++) {
        int scale = (packed[g % 8] >> (g / 8 * 4) & 15) | (packed[8 + g % 4] >> (g / 4 * 2) & 3) << 4;
        scales[g] = d * (float)(scale - 32);
    }
    for (int i = 0; i < 256; i++)
        codes[i] = (int8_t)(((low[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) | (high[i % 32] >> (i / 32) & 1) << 2) - 4);
}

// Q4_K, and Q5_K with its fifth bits at `high`.
static void block_q4_k(const uint8_t *at, const uint8_t *high, const uint8_t *low, int8_t *codes, float *scales, float *minimums) {
    float d = half_at(at), m = half_at(at + 2);
    for (int g = 0; g < 8; g++) {
        int scale, minimum;
        k_scales(at + 4, g, &scale, &minimum);
        scales[g] = d * (float)scale;
        minimums[g] = -(m * (float)minimum);
        for (int i = 0; i < 32; i++) {
            int code = low[g / 2 * 32 + i] >> (g % 2 * 4) & 15;
            codes[g * 32 + i] = (int8_t)(high ? code | (high[i] >> g & 1) << 4 : code);
        }
    }
}

static void block_q6_k(const uint8_t *at, int8_t *codes, float *scales) {
    const uint8_t *low = at, *high = at + 128;
    const int8_t *scale = (const int8_t *)at + 192;
    float d = half_at(at + 208);
    for (int g = 0; g < 16; g++) scales[g] = d * (float)scale[g];
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i % 128 / 32, j = i % 32;
        int code = low[half * 64 + quarter % 2 * 32 + j] >> (quarter / 2 * 4) & 15;
        codes[i] = (int8_t)((code | (high[half * 32 + j] >> (quarter * 2) & 3) << 4) - 32);
    }
}

static void block_iq4_xs(const uint8_t *at, int8_t *codes, float *scales) {
    float d = half_at(at);
    int high = at[2] | at[3] << 8;
    for (int g = 0; g < 8; g++) {
        int scale = (at[4 + g / 2] >> (g % 2 * 4) & 15) | (high >> (g * 2) & 3) << 4;
        scales[g] = d * (float)(scale - 32);
        nibbles(at + 8 + g * 16, codes + g * 32);
    }
}

// One block: its codes, and a scale (and minimum) for each of its groups.
static void block_parts(DType dtype, const uint8_t *at, int8_t *codes, float *scales, float *minimums) {
    switch (dtype) {
    case DT_Q8_0: scales[0] = half_at(at); memcpy(codes, at + 2, 32); break;
    case DT_W8G64: case DT_W8G128: scales[0] = half_at(at); memcpy(codes, at + 2, (size_t)dtype_info[dtype].block); break;
    case DT_Q4_0: case DT_W4G64: case DT_W4G128: scales[0] = half_at(at); nibbles_of(at + 2, codes, dtype_info[dtype].block / 2, 8); break;
    case DT_W4MG64: case DT_W4MG128:
        scales[0] = half_at(at); minimums[0] = half_at(at + 2);
        nibbles_of(at + 4, codes, dtype_info[dtype].block / 2, 0);
        break;
    case DT_IQ4_NL: scales[0] = half_at(at); nibbles(at + 2, codes); break;
    case DT_Q4_1: scales[0] = half_at(at); minimums[0] = half_at(at + 2); nibbles(at + 4, codes); break;
    case DT_Q5_0: scales[0] = half_at(at); nibbles(at + 6, codes); fifth_bits(at + 2, codes, 16); break;
    case DT_Q5_1: scales[0] = half_at(at); minimums[0] = half_at(at + 2); nibbles(at + 8, codes); fifth_bits(at + 4, codes, 0); break;
    case DT_MXFP4: scales[0] = e8m0_half(at[0]); nibbles(at + 1, codes); break;
    case DT_Q2_K: block_q2_k(at, codes, scales, minimums); break;
    case DT_Q3_K: block_q3_k(at, codes, scales); break;
    case DT_Q4_K: block_q4_k(at, NULL, at + 16, codes, scales, minimums); break;
    case DT_Q5_K: block_q4_k(at, at + 16, at + 48, codes, scales, minimums); break;
    case DT_Q6_K: block_q6_k(at, codes, scales); break;
    case DT_IQ4_XS: block_iq4_xs(at, codes, scales); break;
    default: abort();
    }
}

void grouped_row(DType dtype, const void *from, int64_t n, int8_t *codes, float *scales, float *minimums) {
    const DTypeInfo *info = &dtype_info[dtype];
    GroupedFormat format;
    float none[16];
    if (!grouped_format(dtype, &format)) abort();
    int groups = info->block / format.group;
    for (int64_t b = 0; b < n / info->block; b++) {
        float *m = format.has_minimum && minimums ? minimums + b * groups : none;
        block_parts(dtype, (const uint8_t *)from + b * info->bytes, codes + b * info->block, scales + b * groups, m);
        if (minimums && !format.has_minimum) memset(minimums + b * groups, 0, sizeof *minimums * (size_t)groups);
    }
}

static void dequantize_blocks(DType dtype, const GroupedFormat *format, const uint8_t *from, float *to, int64_t n) {
    const DTypeInfo *info = &dtype_info[dtype];
    int8_t codes[256];
    float scales[16], minimums[16];
    for (int64_t b = 0; b < n / info->block; b++, from += info->bytes) {
        block_parts(dtype, from, codes, scales, minimums);
        for (int at = 0, g = 0; at < info->block; at += format->group, g++, to += format->group)
            for (int i = 0; i < format->group; i++) {
                float code = format->table ? format->table[codes[at + i]] : (float)codes[at + i];
                float product = scales[g] * code;
                to[i] = format->has_minimum ? product + minimums[g] : product;
            }
    }
}

// ---- rows -------------------------------------------------------------------------------------------------------------------

#define EACH(type, expression) \
    for (int64_t i = 0; i < n; i++) { \
        type x; \
        memcpy(&x, (const char *)from + i * (int64_t)sizeof x, sizeof x); \
        to[i] = (expression); \
    }

void dequantize_row(DType dtype, const void *from, float *to, int64_t n) {
    GroupedFormat format;
    if (grouped_format(dtype, &format)) {
        dequantize_blocks(dtype, &format, from, to, n);
        return;
    }
    switch (dtype) {
    case DT_F32: memcpy(to, from, sizeof *to * (size_t)n); break;
    case DT_F16: EACH(uint16_t, f16_to_f32(x)) break;
    case DT_BF16: EACH(uint16_t, from_bits((uint32_t)x << 16)) break;
    case DT_F8E4M3: EACH(uint8_t, e4m3_to_f32(x)) break;
    case DT_F8E5M2: EACH(uint8_t, f16_to_f32((uint16_t)(x << 8))) break;
    case DT_BOOL: EACH(uint8_t, x ? 1.0f : 0.0f) break;
    case DT_I8: EACH(int8_t, (float)x) break;
    case DT_U8: EACH(uint8_t, (float)x) break;
    case DT_I32: EACH(int32_t, (float)x) break;
    case DT_I64: EACH(int64_t, (float)x) break;
    case DT_W8: case DT_W6: case DT_W5: {
        float scale;
        memcpy(&scale, (const char *)from + n, sizeof scale);
        EACH(int8_t, scale * (float)x)
        break;
    }
    default: abort();
    }
}
