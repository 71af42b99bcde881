// Floats to storage formats, rounded to nearest: the counterpart of dequant.c.
//
// Symmetric formats map the largest magnitude to the largest code, formats with a minimum the range. Scales are rounded to binary16 first and codes
// are chosen for the rounded scale. Calibration (driver/) chooses better scales and codes and hands them over as Weight.quantized.
#include "ir/dequant.h"

#include <math.h>
#include <string.h>

static uint8_t *put_half(uint8_t *at, float value) {
    uint16_t half = f32_to_f16(value);
    memcpy(at, &half, sizeof half);
    return at + sizeof half;
}

static int code_of(float value, float inverse, int low, int high) {
    float code = rintf(value * inverse);
    return code > (float)high ? high : code > (float)low ? (int)code : low;   // NaN: low
}

// One block: 8 or 4 bits, with a minimum or symmetric.
static void block(const GroupedFormat *f, const float *x, uint8_t *to) {
    int low = f->zero ? -f->zero + (f->bits == 8) : 0, high = f->zero ? f->zero - 1 : f->range - 1, n = f->group;
    float least = x[0], most = x[0], largest = 0;
    for (int i = 0; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    }
    // Four bits have one code more below zero than above: the largest value takes it, whatever its sign.
    float scale = f->has_minimum ? (most - least) / (float)high : f->bits == 4 ? largest / (float)low : fabsf(largest) / (float)high;
    scale = f16_to_f32(f32_to_f16(scale));
    float minimum = f->has_minimum ? f16_to_f32(f32_to_f16(least)) : 0, inverse = fabsf(scale) > 1e-36f ? 1 / scale : 0;
    to = put_half(to, scale);
    if (f->has_minimum) to = put_half(to, minimum);
    if (f->bits == 8)
        for (int i = 0; i < n; i++) to[i] = (uint8_t)code_of(x[i], inverse, low, high);
    else
        for (int i = 0; i < n / 2; i++) {
            int a = code_of(x[i] - minimum, inverse, low, high) + f->zero, b = code_of(x[i + n / 2] - minimum, inverse, low, high) + f->zero;
            to[i] = (uint8_t)(a | b << 4);
        }
}

bool quantizes_to(DType to) {
    switch (to) {
    case DT_F32: case DT_F16: case DT_BF16: case DT_W8: case DT_Q8_0: case DT_Q4_0: case DT_Q4_1: case DT_W8G64: case DT_W8G128: case DT_W4G64:
    case DT_W4G128: case DT_W4MG64: case DT_W4MG128: return true;
    default: return false;
    }
}

void quantize_row(DType to, const float *from, int64_t n, void *out) {
    GroupedFormat format;
    uint8_t *at = out;
    if (grouped_format(to, &format)) {
        for (int64_t i = 0; i < n; i += format.group, at += dtype_info[to].bytes) block(&format, from + i, at);
    } else if (to == DT_W8) {
        float scale;
        quantize_row_w8(from, n, out, &scale);
        memcpy(at + n, &scale, sizeof scale);
    } else if (to == DT_F32) {
        memcpy(out, from, sizeof *from * (size_t)n);
    } else {
        for (int64_t i = 0; i < n; i++, at += 2) {
            uint16_t half = to == DT_F16 ? f32_to_f16(from[i]) : f32_to_bf16(from[i]);
            memcpy(at, &half, sizeof half);
        }
    }
}

void quantize_row_w8(const float *from, int64_t n, int8_t *codes, float *scale) {
    float largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fabsf(from[i]) > largest ? fabsf(from[i]) : largest;
    float inverse = largest > 1e-36f ? 127.0f / largest : 0;   // never infinite
    *scale = largest / 127.0f;
    for (int64_t i = 0; i < n; i++) {
        float code = rintf(from[i] * inverse);
        codes[i] = (int8_t)(code == code ? code : 0);   // an infinity makes every product NaN
    }
}

void hadamard_row(float *row, int64_t n, int block) {
    float norm = 1 / sqrtf((float)block);
    for (int half = 1; half < block; half *= 2)
        for (int64_t i = 0; i < n; i += 2 * half)
            for (int64_t j = i; j < i + half; j++) {
                float a = row[j], b = row[j + half];
                row[j] = a + b;
                row[j + half] = a - b;
            }
    for (int64_t i = 0; i < n; i++) row[i] *= norm;
}
