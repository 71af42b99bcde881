// The lowering of mma where x is floats, for each storage format: a function that multiplies rows of floats with a packed panel of 64 outputs.
//
// Few rows: weights become floats in registers as they are read, once for all rows. Many rows: 64 values of k at a time are unpacked to scratch that
// stays in the first-level cache, then multiplied as floats. Both run the same chain of fused multiply-adds (prelude/product.h).
//
// Narrow formats keep 2 to 32 values of k of an output together (pack.c): its unit.
#include "codegen/kernel.h"
#include <stdio.h>
#include <string.h>

const char *product_name(const Stmt *mma, Arena *arena) {
    if (mma->bf16) return arena_printf(arena, "product_%s_bf16", mma->format->name);
    if (mma->codes) return arena_printf(arena, "product_%s_a%d", mma->format->name, mma->x_group);
    return arena_printf(arena, "product_%s_v%d", mma->format->name, mma->columns / 16);
}

void product_print_f32(int vectors, Text *out) {
    text_printf(out, "TN_NOINLINE void product_f32_v%d(float *acc, long ldacc, const float *x, long ldx, int rows, const float *w, long ldw, int k, int accumulate) {\n"
                     "    tn_product(acc, ldacc, x, ldx, rows, w, ldw, k, accumulate, %d);\n}\n", vectors, vectors);
}

static int unit_bytes(const PanelFormat *f) { return f->bits ? panel_unit(f) * 8 * f->bits : f->type == DT_BF16 ? 256 : dtype_info[f->type].bytes * 64; }
static int vector_bytes(const PanelFormat *f) { return panel_unit(f) > 1 ? 64 : dtype_info[f->type].bytes * 16; }   // from 16 outputs to the next
static int group_bytes(const PanelFormat *f) { return panel_head_bytes(f) + f->group * 64 * f->bits / 8; }
// k may end within a unit: of w8 and bf16, which have no groups.
static bool ragged(const PanelFormat *f) { return panel_unit(f) > 1 && !f->group; }

static void print_table(const PanelFormat *f, Text *out) {
    if (!f->table) return;
    text_printf(out, "static const float table_%s[16] = {", f->name);
    for (int i = 0; i < 16; i++) text_printf(out, "%s%.9g", i ? ", " : "", (double)f->table[i]);
    text_printf(out, "};\n#ifdef TN_HAVE_TABLE16\nTN_INLINE tn_v tn_table_%s(tn_i i) { return tn_table16(i, tn_load(table_%s)); }\n#else\n"
                     "TN_INLINE tn_v tn_table_%s(tn_i i) { return tn_lookup(table_%s, i); }\n#endif\n", f->name, f->name, f->name, f->name);
}

static void print_code(const PanelFormat *f, Text *out) {
    const char *load = "tn_load_i((const int *)(const void *)(c";
    if (f->bits == 8) text_printf(out, "    const tn_i code = %s)) >> 8 * j & 255;\n", load);
    else if (f->bits == 4) text_printf(out, "    const tn_i code = %s)) >> (8 * (j & 3) + (j & 4)) & 15;\n", load);
    else text_printf(out, "    const tn_i code = (%s + j / 8 * 256)) >> (8 * (j & 3) + (j & 4)) & 15) | (%s + %d)) >> (8 * (j & 3) + j / 4 * %d) & %d) << 4;\n", load, load,
                     panel_unit(f) * 32, f->bits - 4, f->bits == 6 ? 3 : 1);
}

// The j-th value of k of 16 outputs as floats, from `c` where their unit begins, and from the scales and minimums of their group.
static void print_value(const PanelFormat *f, Text *out) {
    text_printf(out, "TN_INLINE tn_v value_%s(const tn_u8 *c, int j, tn_v scale, tn_v minimum) {\n    (void)j, (void)scale, (void)minimum;\n", f->name);
    if (!f->bits && f->type != DT_BF16) {
        text_printf(out, "    return tn_%s_float(c);\n}\n", f->name);
        return;
    }
    if (f->type == DT_BF16) {
        text_puts(out, "    const tn_i d = tn_load_i((const int *)(const void *)c);\n    return tn_float(j ? d & (int)0xffff0000u : d << 16);\n}\n");
        return;
    }
    print_code(f, out);
    text_puts(out, "    const tn_v v = ");
    if (f->table) text_printf(out, "tn_table_%s(code);\n", f->name);
    else text_printf(out, f->zero ? "tn_from_int(code - %d);\n" : "tn_from_int(code);\n", f->zero);
    text_printf(out, "    return %s;\n}\n", f->has_minimum ? "tn_fma16(v, scale, minimum)" : "v * scale");
}

// Scales and minimums of the group whose head is at `head`.
static void print_scales(const PanelFormat *f, const char *head, const char *margin, Text *out) {
    text_printf(out, "%stn_v scale[4], minimum[4];\n%sTN_UNROLL for (int v = 0; v < 4; v++) ", margin, margin);
    const char *load = f->scale_is_f16 ? "tn_f16_float" : "tn_f32_float";
    int step = f->scale_is_f16 ? 32 : 64;
    if (!f->bits) text_puts(out, "scale[v] = minimum[v] = tn_splat(0);\n");
    else if (!f->has_minimum) text_printf(out, "scale[v] = %s(%s + %d * v), minimum[v] = tn_splat(0);\n", load, head, step);
    else text_printf(out, "scale[v] = %s(%s + %d * v), minimum[v] = %s(%s + %d + %d * v);\n", load, head, step, load, head, 4 * step, step);
}

// Rows in registers: m rows against the whole of k.
static void print_direct(const PanelFormat *f, Text *out) {
    text_printf(out, "TN_INLINE void unit_%s(tn_v sum[4][4], const float *x, long ldx, const tn_u8 *c, const tn_v *scale, const tn_v *minimum, const int n, const int m) {\n"
                     "    TN_UNROLL for (int v = 0; v < 4; v++)\n        TN_UNROLL for (int j = 0; j < %d; j++)\n            if (j < n) {\n"
                     "                const tn_v b = value_%s(c + %d * v, j, scale[v], minimum[v]);\n"
                     "                TN_UNROLL for (int r = 0; r < m; r++) sum[r][v] = tn_fma16(tn_splat(x[r * ldx + j]), b, sum[r][v]);\n            }\n}\n",
                f->name, panel_unit(f), f->name, vector_bytes(f));
    text_printf(out, "TN_INLINE void direct_%s(float *acc, long ldacc, const float *x, long ldx, const tn_u8 *w, int k, const int m) {\n    tn_v sum[4][4];\n"
                     "    TN_UNROLL for (int r = 0; r < m; r++)\n        TN_UNROLL for (int v = 0; v < 4; v++) sum[r][v] = tn_splat(0);\n", f->name);
    if (f->group) {
        text_printf(out, "    TN_NO_UNROLL for (int g = 0; g < k; g += %d, w += %d) {\n", f->group, group_bytes(f));
        print_scales(f, "w", "        ", out);
        text_printf(out, "        TN_NO_UNROLL for (int i = 0; i < %d; i += %d) unit_%s(sum, x + g + i, ldx, w + %d + i / %d * %d, scale, minimum, %d, m);\n    }\n",
                    f->group, panel_unit(f), f->name, panel_head_bytes(f), panel_unit(f), unit_bytes(f), panel_unit(f));
    } else {
        print_scales(f, "w", "    ", out);
        if (f->bits) text_printf(out, "    w += %d;\n", panel_head_bytes(f));
        text_printf(out, "    int i = 0;\n    TN_NO_UNROLL for (; i + %d <= k; i += %d, w += %d) unit_%s(sum, x + i, ldx, w, scale, minimum, %d, m);\n",
                    panel_unit(f), panel_unit(f), unit_bytes(f), f->name, panel_unit(f));
        if (ragged(f)) text_printf(out, "    if (i < k) unit_%s(sum, x + i, ldx, w, scale, minimum, k - i, m);\n", f->name);
    }
    text_puts(out, "    TN_UNROLL for (int r = 0; r < m; r++)\n        TN_UNROLL for (int v = 0; v < 4; v++) tn_store(acc + r * ldacc + 16 * v, sum[r][v]);\n}\n");
}

// Values first … first + n - 1 of k as floats to [n][64].
static void print_unpack(const PanelFormat *f, Text *out) {
    int u = panel_unit(f), step = f->group && f->group < 64 ? f->group : 64;
    text_printf(out, "TN_NOINLINE void unpack_%s(float *to, const tn_u8 *w, int first, int n) {\n", f->name);
    if (f->group) {
        text_printf(out, "    for (int i = first; i < first + n; i += %d) {\n        const tn_u8 *head = w + (long)(i / %d) * %d, *c = head + %d + i %% %d / %d * %d;\n",
                    step, f->group, group_bytes(f), panel_head_bytes(f), f->group, u, unit_bytes(f));
        print_scales(f, "head", "        ", out);
        text_printf(out, "        for (int e = 0; e < %d; e += %d, c += %d, to += %d)\n            TN_UNROLL for (int j = 0; j < %d; j++)\n"
                         "                TN_UNROLL for (int v = 0; v < 4; v++) tn_store(to + 64 * j + 16 * v, value_%s(c + 64 * v, j, scale[v], minimum[v]));\n    }\n}\n",
                    step, u, unit_bytes(f), 64 * u, u, f->name);
        return;
    }
    print_scales(f, "w", "    ", out);
    text_printf(out, "    const tn_u8 *c = w + %d + (long)(first / %d) * %d;\n    for (int i = 0; i < n; i += %d, c += %d)\n        TN_UNROLL for (int j = 0; j < %d; j++)\n"
                     "            if (i + j < n)\n"
                     "                TN_UNROLL for (int v = 0; v < 4; v++) tn_store(to + 64 * (i + j) + 16 * v, value_%s(c + %d * v, j, scale[v], minimum[v]));\n}\n",
                panel_head_bytes(f), u, unit_bytes(f), u, unit_bytes(f), u, f->name, vector_bytes(f));
}

void product_print_format(const PanelFormat *f, Text *out) {
    if (f->type == DT_F32 && !f->bits) return;   // product_f32_v4
    text_printf(out, "// panels of %s\n", f->name);
    print_table(f, out);
    print_value(f, out);
    print_unpack(f, out);
}

void product_print_float(const PanelFormat *f, Text *out) {
    if (f->type == DT_F32 && !f->bits) return;
    print_direct(f, out);
    text_printf(out, "TN_NOINLINE void product_%s_v4(float *acc, long ldacc, const float *x, long ldx, int rows, const tn_u8 *w, int k, int direct) {\n"
                     "    if (rows <= direct)\n        switch (rows) {\n", f->name);
    for (int m = 1; m <= 4; m++) text_printf(out, "        case %d: direct_%s(acc, ldacc, x, ldx, w, k, %d); return;\n", m, f->name, m);
    text_printf(out, "        }\n    float panel[64 * 64] __attribute__((aligned(64)));\n"
                     "    for (int i = 0; i < k; i += 64) {\n"
                     "        int n = k - i < 64 ? k - i : 64;\n"
                     "        unpack_%s(panel, w, i, n);\n"
                     "        product_f32_v4(acc, ldacc, x + i, ldx, rows, panel, 64, n, i > 0);\n    }\n}\n\n", f->name);
}

// Of value i of a group.
static void print_row_code(const PanelFormat *f, Text *out) {
    int u = panel_unit(f), bytes = unit_bytes(f);
    if (f->bits == 8 || f->bits == 4) text_printf(out, "            const int code = c[i / %d * 256 + i %% 4]%s;\n", u, f->bits == 8 ? "" : " >> (i & 4) & 15");
    else text_printf(out, "            const tn_u8 *from = c + i / %d * %d + i %% 4;\n"
                          "            const int code = (from[i %% %d / 8 * 256] >> (i & 4) & 15) | (from[%d] >> i %% %d / 4 * %d & %d) << 4;\n",
                     u, bytes, u, u * 32, u, f->bits - 4, f->bits == 6 ? 3 : 1);
}

void panel_row_print(const PanelFormat *f, Text *out) {
    text_printf(out, "TN_NOINLINE void panel_row_%s(float *to, const tn_u8 *w, int id, long rows, long panel_bytes, long k) {\n"
                     "    const long row = tn_inside(id, (int)rows), n = row %% 64;\n    w += row / 64 * panel_bytes;\n", f->name);
    if (!f->bits) {
        if (f->type == DT_BF16) text_puts(out, "    for (long i = 0; i < k; i++) to[i] = value_bf16(w + i / 2 * 256 + (n & 48) * 4, (int)(i & 1), tn_splat(0), tn_splat(0))[n & 15];\n}\n");
        else text_printf(out, "    for (long i = 0; i < k; i++, w += %d) to[i] = tn_%s_float(w + (n & 48) * %d)[n & 15];\n}\n", unit_bytes(f), f->name, dtype_info[f->type].bytes);
        return;
    }
    char group[16];
    snprintf(group, sizeof group, f->group ? "%d" : "k", f->group);
    text_printf(out, "    for (long g = 0; g < k; g += %s, w += %d + %s * %d) {\n", group, panel_head_bytes(f), group, 8 * f->bits);
    const char *load = f->scale_is_f16 ? "tn_half1(w + %d + 2 * n)" : "((const float *)(const void *)(w + %d))[n]";
    text_puts(out, "        const float scale = ");
    text_printf(out, load, 0);
    if (f->has_minimum) {
        text_puts(out, ", minimum = ");
        text_printf(out, load, panel_head_bytes(f) / 2);
    }
    text_printf(out, ";\n        const tn_u8 *c = w + %d + n * 4;\n        for (long i = 0; i < %s; i++) {\n", panel_head_bytes(f), group);
    print_row_code(f, out);
    text_puts(out, "            const float value = ");
    if (f->table) text_printf(out, "table_%s[code];\n", f->name);
    else text_printf(out, "(float)(code - %d);\n", f->zero);
    text_printf(out, "            to[g + i] = %s;\n        }\n    }\n}\n", f->has_minimum ? "__builtin_fmaf(value, scale, minimum)" : "value * scale");
}
