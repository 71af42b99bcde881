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

void product_print_bf16(Text *out) {
    text_puts(out, "TN_NOINLINE void product_bf16_bf16(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const tn_u8 *w, int k, int ahead) {\n"
                   "    tn_multiply_bf16(acc, ldacc, x, ldx, rows, w, k, ahead);\n}\n");
}
