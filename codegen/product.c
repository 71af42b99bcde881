// The lowering of mma for each storage format: a function that multiplies rows of floats with a packed panel of 64 outputs.
//
// Few rows: weights become floats in registers as they are read, once for all rows. Many rows: 64 values of k at a time are unpacked to scratch that
// stays in the first-level cache, then multiplied as floats. Both run the same chain of fused multiply-adds (prelude/product.h).
#include "codegen/kernel.h"
#include <string.h>

const char *product_name(const PanelFormat *format, int vectors, Arena *arena) { return arena_printf(arena, "product_%s_v%d", format->name, vectors); }

void product_print_f32(int vectors, Text *out) {
    text_printf(out, "TN_NOINLINE void product_f32_v%d(float *acc, long ldacc, const float *x, long ldx, int rows, const float *w, long ldw, int k, int accumulate) {\n"
                     "    tn_product(acc, ldacc, x, ldx, rows, w, ldw, k, accumulate, %d);\n}\n", vectors, vectors);
}

static bool grouped(const PanelFormat *f) { return f->group > 0; }
static int scale_bytes(const PanelFormat *f) { return (f->scale_is_f16 ? 128 : 256) * (f->has_minimum ? 2 : 1); }
static int group_bytes(const PanelFormat *f) { return grouped(f) ? scale_bytes(f) + f->group * 64 * f->bits / 8 : dtype_info[f->type].bytes * 64; }

// The expression of 16 codes as floats; `half`: which nibble.
static void print_codes(const PanelFormat *f, int half, Text *out) {
    if (f->bits == 8) text_puts(out, "tn_i8_float(c + 16 * v)");
    else if (f->table) text_printf(out, half ? "tn_table_%s(tn_u8_int(c + 16 * v) >> 4)" : "tn_table_%s(tn_u8_int(c + 16 * v) & 15)", f->name);
    else text_printf(out, half ? "tn_from_int((tn_u8_int(c + 16 * v) >> 4) - %d)" : "tn_from_int((tn_u8_int(c + 16 * v) & 15) - %d)", f->zero);
}

static void print_weight(const PanelFormat *f, int half, const char *to, Text *out) {
    text_printf(out, "%s = ", to);
    if (f->has_minimum) {
        text_puts(out, "tn_fma16(");
        print_codes(f, half, out);
        text_puts(out, ", scale[v], minimum[v])");
    } else {
        print_codes(f, half, out);
        text_puts(out, " * scale[v]");
    }
    text_puts(out, ";\n");
}

static void print_scales(const PanelFormat *f, Text *out) {
    const char *load = f->scale_is_f16 ? "tn_f16_float" : "tn_f32_float";
    int bytes = f->scale_is_f16 ? 32 : 64;
    text_printf(out, "        TN_UNROLL for (int v = 0; v < 4; v++) scale[v] = %s(w + %d * v);\n", load, bytes);
    if (f->has_minimum) text_printf(out, "        TN_UNROLL for (int v = 0; v < 4; v++) minimum[v] = %s(w + %d + %d * v);\n", load, 4 * bytes, bytes);
}

static void print_table(const PanelFormat *f, Text *out) {
    if (!f->table) return;
    text_printf(out, "static const float table_%s[16] = {", f->name);
    for (int i = 0; i < 16; i++) text_printf(out, "%s%.9g", i ? ", " : "", (double)f->table[i]);
    text_printf(out, "};\n#ifdef TN_HAVE_TABLE16\nTN_INLINE tn_v tn_table_%s(tn_i i) { return tn_table16(i, tn_load(table_%s)); }\n#else\n"
                     "TN_INLINE tn_v tn_table_%s(tn_i i) { return tn_lookup(table_%s, i); }\n#endif\n", f->name, f->name, f->name, f->name);
}

// Rows in registers: m rows against the whole of k.
static void print_direct(const PanelFormat *f, Text *out) {
    text_printf(out, "TN_INLINE void direct_%s(float *acc, long ldacc, const float *x, long ldx, const tn_u8 *w, int k, const int m) {\n"
                     "    tn_v sum[4][4];\n"
                     "    TN_UNROLL for (int r = 0; r < m; r++)\n        TN_UNROLL for (int v = 0; v < 4; v++) sum[r][v] = tn_splat(0);\n", f->name);
    if (!grouped(f)) {
        text_printf(out, "    TN_NO_UNROLL for (int i = 0; i < k; i++, w += %d)\n"
                         "        TN_UNROLL for (int v = 0; v < 4; v++) {\n"
                         "            tn_v b = tn_%s_float(w + %d * v);\n"
                         "            TN_UNROLL for (int r = 0; r < m; r++) sum[r][v] = tn_fma16(tn_splat(x[r * ldx + i]), b, sum[r][v]);\n        }\n",
                    group_bytes(f), f->name, dtype_info[f->type].bytes * 16);
    } else {
        int step = f->bits == 4 ? 2 : 1;
        text_printf(out, "    TN_NO_UNROLL for (int g = 0; g < k; g += %d, w += %d) {\n        tn_v scale[4]%s;\n", f->group, group_bytes(f), f->has_minimum ? ", minimum[4]" : "");
        print_scales(f, out);
        text_printf(out, "        TN_NO_UNROLL for (int i = 0; i < %d; i += %d) {\n            const tn_u8 *c = w + %d + i * %d;\n"
                         "            TN_UNROLL for (int v = 0; v < 4; v++) {\n                tn_v b;\n", f->group, step, scale_bytes(f), 64 * f->bits / 8);
        for (int half = 0; half < step; half++) {
            text_puts(out, "                ");
            print_weight(f, half, "b", out);
            text_printf(out, "                TN_UNROLL for (int r = 0; r < m; r++) sum[r][v] = tn_fma16(tn_splat(x[r * ldx + g + i%s]), b, sum[r][v]);\n", half ? " + 1" : "");
        }
        text_puts(out, "            }\n        }\n    }\n");
    }
    text_puts(out, "    TN_UNROLL for (int r = 0; r < m; r++)\n        TN_UNROLL for (int v = 0; v < 4; v++) tn_store(acc + r * ldacc + 16 * v, sum[r][v]);\n}\n");
}

// `n` values of k as floats to [n][64]; returns where the next ones are.
static void print_unpack(const PanelFormat *f, Text *out) {
    text_printf(out, "TN_NOINLINE const tn_u8 *unpack_%s(float *to, const tn_u8 *w, int n) {\n", f->name);
    if (!grouped(f)) {
        text_printf(out, "    for (int i = 0; i < n; i++, w += %d, to += 64)\n        TN_UNROLL for (int v = 0; v < 4; v++) tn_store(to + 16 * v, tn_%s_float(w + %d * v));\n",
                    group_bytes(f), f->name, dtype_info[f->type].bytes * 16);
    } else {
        int step = f->bits == 4 ? 2 : 1;
        text_printf(out, "    for (int g = 0; g < n; g += %d, w += %d) {\n        tn_v scale[4]%s;\n", f->group, group_bytes(f), f->has_minimum ? ", minimum[4]" : "");
        print_scales(f, out);
        text_printf(out, "        for (int i = 0; i < %d; i += %d, to += %d) {\n            const tn_u8 *c = w + %d + i * %d;\n            TN_UNROLL for (int v = 0; v < 4; v++) {\n                tn_v b;\n",
                    f->group, step, 64 * step, scale_bytes(f), 64 * f->bits / 8);
        for (int half = 0; half < step; half++) {
            text_puts(out, "                ");
            print_weight(f, half, "b", out);
            text_printf(out, "                tn_store(to + %d + 16 * v, b);\n", 64 * half);
        }
        text_puts(out, "            }\n        }\n    }\n");
    }
    text_puts(out, "    return w;\n}\n");
}

void product_print(const PanelFormat *f, Text *out) {
    if (f->type == DT_F32 && !grouped(f)) return;   // product_f32_v4
    text_printf(out, "// panels of %s\n", f->name);
    print_table(f, out);
    print_direct(f, out);
    print_unpack(f, out);
    text_printf(out, "TN_NOINLINE void product_%s_v4(float *acc, long ldacc, const float *x, long ldx, int rows, const tn_u8 *w, int k) {\n"
                     "    switch (rows) {\n"
                     "    case 1: direct_%s(acc, ldacc, x, ldx, w, k, 1); return;\n"
                     "    case 2: direct_%s(acc, ldacc, x, ldx, w, k, 2); return;\n"
                     "    case 3: direct_%s(acc, ldacc, x, ldx, w, k, 3); return;\n"
                     "    case 4: direct_%s(acc, ldacc, x, ldx, w, k, 4); return;\n    }\n"
                     "    float panel[64 * 64] __attribute__((aligned(64)));\n"
                     "    for (int i = 0; i < k; i += 64) {\n"
                     "        int n = k - i < 64 ? k - i : 64;\n"
                     "        w = unpack_%s(panel, w, n);\n"
                     "        product_f32_v4(acc, ldacc, x + i, ldx, rows, panel, 64, n, i > 0);\n    }\n}\n\n",
                f->name, f->name, f->name, f->name, f->name, f->name);
}

void panel_row_print(const PanelFormat *f, Text *out) {
    text_printf(out, "TN_NOINLINE void panel_row_%s(float *to, const tn_u8 *w, int id, long rows, long panel_bytes, long k) {\n"
                     "    long row = tn_inside(id, (int)rows), n = row %% 64;\n    w += row / 64 * panel_bytes;\n", f->name);
    if (!grouped(f)) {
        text_printf(out, "    for (long i = 0; i < k; i++, w += %d) to[i] = tn_%s_float(w + (n & 48) * %d)[n & 15];\n}\n", group_bytes(f), f->name, dtype_info[f->type].bytes);
        return;
    }
    text_printf(out, "    for (long g = 0; g < k; g += %d, w += %d) {\n        float scale = ", f->group, group_bytes(f));
    text_printf(out, f->scale_is_f16 ? "tn_half1(w + %d + 2 * n)" : "((const float *)(w + %d))[n]", 0);
    text_puts(out, ";\n");
    if (f->has_minimum) {
        text_puts(out, "        float minimum = ");
        text_printf(out, f->scale_is_f16 ? "tn_half1(w + %d + 2 * n)" : "((const float *)(w + %d))[n]", f->scale_is_f16 ? 128 : 256);
        text_puts(out, ";\n");
    }
    text_printf(out, "        const tn_u8 *c = w + %d;\n        for (int i = 0; i < %d; i++) {\n", scale_bytes(f), f->group);
    if (f->bits == 8) text_puts(out, "            float code = (float)(signed char)c[i * 64 + n];\n");
    else if (f->table) text_printf(out, "            float code = table_%s[c[i / 2 * 64 + n] >> (i & 1) * 4 & 15];\n", f->name);
    else text_printf(out, "            float code = (float)((c[i / 2 * 64 + n] >> (i & 1) * 4 & 15) - %d);\n", f->zero);
    text_printf(out, "            to[g + i] = %s;\n        }\n    }\n}\n", f->has_minimum ? "__builtin_fmaf(code, scale, minimum)" : "code * scale");
}
