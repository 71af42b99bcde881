// The lowering of mma where x is int8 codes with scales: one function for each pair of a weight's format and x's group, all made from one text
// (prelude/product_int.h, product_amx.h) with the format's numbers as constants; and of bf16 with bf16 (prelude/product_bf16.h, product_amx.h).
#include "codegen/kernel.h"

bool product_takes_codes(const PanelFormat *f) { return f->bits && !f->table; }

void product_print_int(const PanelFormat *f, int x_group, Text *out) {
    text_printf(out, "TN_NOINLINE void product_%s_a%d(float *acc, long ldacc, tn_code_rows x, int rows, const tn_u8 *w, int k, int ahead) {\n", f->name, x_group);
    if (f->sparse) text_printf(out, "    tn_sparse from = {w + %d, w + %d + (k + 63) / 64 * 512L};\n", panel_head_bytes(f), panel_head_bytes(f));
    text_printf(out, "    tn_multiply_codes((tn_codes){.bits = %d, .zero = %d, .group = %d, .half = %d, .minimum = %d, .xgroup = %d%s}, acc, ldacc, x, rows, w, k, ahead);\n}\n",
                f->bits, f->zero, f->group, f->scale_is_f16, f->has_minimum, x_group, f->sparse ? ", .sparse = &from" : "");
}

// Rows of x come together in scratch that stays in a near cache: as many at a time as that holds.
static int strip_rows(int64_t row_bytes) {
    enum { NEAR = 256 << 10, FEWEST = 16, MOST = 512 };
    int64_t rows = NEAR / row_bytes / FEWEST * FEWEST;
    return rows < FEWEST ? FEWEST : rows > MOST ? MOST : (int)rows;
}

static void print_code_blocks(const PanelFormat *f, int x_group, Text *out) {
    int k = f->block * f->blocks, group = f->group && (!x_group || f->group < x_group) ? f->group : x_group;
    text_printf(out, "TN_NOINLINE void product_%s_a%d(float *acc, long ldacc, tn_code_rows x, int rows, const tn_u8 *w, int k, int ahead) {\n"
                     "    enum { K = %d, SCALES = %d, SUMS = %d, STRIP = %d };\n"
                     "    signed char codes[STRIP * K + 64] __attribute__((aligned(64)));\n    float scales[STRIP * SCALES];\n    int sums[STRIP * SUMS];\n    (void)k;\n",
                f->name, x_group, k, x_group ? k / x_group : 1, group ? k / group : 1, strip_rows(k));
    text_printf(out, "    for (int r = 0; r < rows; r += STRIP) {\n        const int n = rows - r < STRIP ? rows - r : STRIP;\n        for (int i = 0; i < n; i++)\n"
                     "            tn_codes_blocks((tn_codes){.group = %d, .xgroup = %d}, codes + i * K, scales + i * SCALES, sums + i * SUMS, &x, r + i, w, %d, %d);\n",
                f->group, x_group, f->blocks, f->block);
    text_printf(out, "        product_%s_a%d(acc + r * ldacc, ldacc, (tn_code_rows){codes, scales, sums, K, SCALES, SUMS, 1}, n, w + %d, K, ahead);\n    }\n}\n",
                f->inner, x_group, panel_index_bytes(f));
}

void product_print_blocks(const PanelFormat *f, int x_group, Text *out) {
    if (x_group >= 0) {
        print_code_blocks(f, x_group, out);
        return;
    }
    bool bf16 = x_group == X_BF16;
    const char *kind = bf16 ? "bf16" : "v4", *type = bf16 ? "tn_u16" : "float";
    int size = bf16 ? 2 : 4;
    text_printf(out, "TN_NOINLINE void product_%s_%s(float *acc, long ldacc, const %s *x, long ldx, int rows, const tn_u8 *w, int k, int how) {\n"
                     "    enum { K = %d, STRIP = %d };\n    %s xs[STRIP * K] __attribute__((aligned(64)));\n    (void)k;\n",
                f->name, kind, type, f->block * f->blocks, strip_rows((int64_t)size * f->block * f->blocks), type);
    text_printf(out, "    for (int r = 0; r < rows; r += STRIP) {\n        const int n = rows - r < STRIP ? rows - r : STRIP;\n"
                     "        for (int i = 0; i < n; i++) tn_blocks_of(xs + i * K, x + (r + i) * ldx, w, %d, %d);\n"
                     "        product_%s_%s(acc + r * ldacc, ldacc, xs, K, n, w + %d, K, how);\n    }\n}\n",
                f->blocks, size * f->block, f->inner, kind, panel_index_bytes(f));
}

void product_print_bf16(Text *out) {
    text_puts(out, "TN_NOINLINE void product_bf16_bf16(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const tn_u8 *w, int k, int ahead) {\n"
                   "    tn_multiply_bf16(acc, ldacc, x, ldx, rows, w, k, ahead);\n}\n");
}
