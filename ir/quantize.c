// Floats to storage formats, rounded to nearest: the counterpart of dequant.c.
//
// Symmetric formats map the largest magnitude to the largest code, formats with a minimum the range. Scales are rounded to binary16 first and codes
// are chosen for the rounded scale. Calibration chooses better scales and codes from the parts that are here and hands them over as Weight.quantized.
#include "ir/dequant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *put_half(uint8_t *at, float value) {
    uint16_t half = f32_to_f16(value);
    memcpy(at, &half, sizeof half);
    return at + sizeof half;
}

// ---- groups ------------------------------------------------------------------------------------------------------------------------------

CodedGroup coded_group(DType to, int64_t n) {
    GroupedFormat f;
    if (!grouped_format(to, &f)) {
        int bits = row_code_bits(to), high = (1 << (bits - 1)) - 1;
        return (CodedGroup){.group = (int)n, .bits = bits, .low = bits == 8 ? -high : -high - 1, .high = high};
    }
    return (CodedGroup){.group = f.group, .bits = f.bits, .low = f.zero ? -f.zero + (f.bits == 8) : 0, .high = f.zero ? f.zero - 1 : f.range - 1,
                        .has_minimum = f.has_minimum, .half = true};
}

int group_code(const CodedGroup *group, const GroupScale *scale, float x) {
    float inverse = fabsf(scale->scale) > 1e-36f ? 1 / scale->scale : 0, code = (x - scale->minimum) * inverse;
    code = code > (float)group->low ? code : (float)group->low;   // NaN: low
    code = code < (float)group->high ? code : (float)group->high;
    return (int)(code + 12582912.0f - 12582912.0f);   // to nearest even: 1.5·2²³
}

float group_value(const CodedGroup *group, const GroupScale *scale, int code) {
    float value = scale->scale * (float)code;
    return group->has_minimum ? value + scale->minimum : value;
}

static float stored_scale(const CodedGroup *group, float scale) { return group->half ? f16_to_f32(f32_to_f16(scale)) : scale; }

// Fewer than eight bits have one code more below zero than above: the largest value takes it, whatever its sign.
static GroupScale plain_scale(const CodedGroup *group, const float *x, int n, float shrink) {
    float least = x[0], most = x[0], largest = 0;
    for (int i = 0; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        largest = fabsf(x[i]) > fabsf(largest) ? x[i] : largest;
    }
    float off = (most - least) * (1 - shrink) / 2;
    float scale = group->has_minimum ? (most - least) * shrink / (float)group->high
                  : group->bits < 8 ? largest * shrink / (float)group->low : fabsf(largest) * shrink / (float)group->high;
    return (GroupScale){stored_scale(group, scale), group->has_minimum ? stored_scale(group, least + off) : 0};
}

static double group_error(const CodedGroup *group, const GroupScale *scale, const float *x, const float *weight, int n) {
    double error = 0;
    float inverse = fabsf(scale->scale) > 1e-36f ? 1 / scale->scale : 0;
    for (int i = 0; i < n; i += 32) {
        float part = 0;
        for (int j = i; j < n && j < i + 32; j++) {
            float code = (x[j] - scale->minimum) * inverse;
            code = code > (float)group->low ? code : (float)group->low;
            code = code < (float)group->high ? code : (float)group->high;
            code = code + 12582912.0f - 12582912.0f;
            float off = x[j] - (scale->scale * code + scale->minimum);
            part += weight[j] * off * off;
        }
        error += (double)part;
    }
    return error;
}

// For the codes that this scale gives, the scale (and minimum) that fit them best.
static bool fit_scale(const CodedGroup *group, GroupScale *scale, const float *x, const float *weight, int n) {
    double w = 0, wc = 0, wcc = 0, wx = 0, wxc = 0;
    for (int i = 0; i < n; i++) {
        double code = group_code(group, scale, x[i]), d = weight[i];
        w += d, wc += d * code, wcc += d * code * code, wx += d * (double)x[i], wxc += d * (double)x[i] * code;
    }
    double slope = wcc, minimum = 0, determinant = group->has_minimum ? w * wcc - wc * wc : wcc;
    if (!(determinant > 1e-12 * w * wcc || (!group->has_minimum && wcc > 0))) return false;
    slope = group->has_minimum ? (w * wxc - wc * wx) / determinant : wxc / wcc;
    if (group->has_minimum) minimum = (wx - slope * wc) / w;
    *scale = (GroupScale){stored_scale(group, (float)slope), stored_scale(group, (float)minimum)};
    return true;
}

int group_shrinks(const CodedGroup *group, const float **shrinks) {
    static const float parts[] = {1, 0.96f, 0.92f, 0.88f, 0.84f, 0.8f, 0.75f, 0.7f, 0.65f, 0.6f, 0.55f, 0.5f};   // the last for whole rows
    *shrinks = parts;
    return group->bits == 8 ? 2 : group->bits == 4 ? 8 : (int)COUNT_OF(parts);
}

GroupScale group_search(const CodedGroup *group, const float *x, const float *weight, int n) {
    const float *shrinks;
    int tries = group_shrinks(group, &shrinks);
    GroupScale best = plain_scale(group, x, n, 1);
    double least = group_error(group, &best, x, weight, n);
    for (int i = 1; i < tries; i++) {
        GroupScale scale = plain_scale(group, x, n, shrinks[i]);
        double error = group_error(group, &scale, x, weight, n);
        if (error < least) best = scale, least = error;
    }
    for (int round = 0; round < 2; round++) {
        GroupScale scale = best;
        if (!fit_scale(group, &scale, x, weight, n)) break;
        double error = group_error(group, &scale, x, weight, n);
        if (!(error < least)) break;
        best = scale, least = error;
    }
    return best;
}

void group_store(const CodedGroup *group, const GroupScale *scale, const int8_t *codes, void *to) {
    uint8_t *at = to;
    int n = group->group;
    if (group->half) at = put_half(at, scale->scale);
    if (group->has_minimum) at = put_half(at, scale->minimum);
    if (group->bits > 4) {
        memcpy(at, codes, (size_t)n);
        if (!group->half) memcpy(at + n, &scale->scale, sizeof scale->scale);
    } else {
        for (int i = 0; i < n / 2; i++) at[i] = (uint8_t)((codes[i] - group->low) | (codes[i + n / 2] - group->low) << 4);
    }
}

static void block(const CodedGroup *group, const float *x, uint8_t *to) {
    int8_t codes[128];
    GroupScale scale = plain_scale(group, x, group->group, 1);
    for (int i = 0; i < group->group; i++) codes[i] = (int8_t)group_code(group, &scale, x[i]);
    group_store(group, &scale, codes, to);
}

bool quantizes_to(DType to) {
    switch (to) {
    case DT_F32: case DT_F16: case DT_BF16: case DT_W8: case DT_W6: case DT_W5: case DT_Q8_0: case DT_Q4_0: case DT_Q4_1: case DT_W8G64: case DT_W8G128:
    case DT_W4G64: case DT_W4G128: case DT_W4MG64: case DT_W4MG128: return true;
    default: return false;
    }
}

// A row with one scale: the largest value is several times what most are, so a smaller range is searched for.
static void narrow_row(DType to, const float *from, int64_t n, int8_t *codes) {
    CodedGroup row = coded_group(to, n);
    float *ones = calloc((size_t)(n > 0 ? n : 1), sizeof *ones);
    if (!ones) abort();
    for (int64_t i = 0; i < n; i++) ones[i] = 1;
    GroupScale scale = group_search(&row, from, ones, (int)n);
    for (int64_t i = 0; i < n; i++) codes[i] = (int8_t)group_code(&row, &scale, from[i]);
    memcpy(codes + n, &scale.scale, sizeof scale.scale);
    free(ones);
}

void quantize_row(DType to, const float *from, int64_t n, void *out) {
    GroupedFormat format;
    uint8_t *at = out;
    if (grouped_format(to, &format)) {
        CodedGroup group = coded_group(to, n);
        for (int64_t i = 0; i < n; i += format.group, at += dtype_info[to].bytes) block(&group, from + i, at);
    } else if (to == DT_W8) {
        float scale;
        quantize_row_w8(from, n, out, &scale);
        memcpy(at + n, &scale, sizeof scale);
    } else if (row_code_bits(to)) {
        narrow_row(to, from, n, out);
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
