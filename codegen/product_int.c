// The lowering of mma where x is int8 codes with scales: one function for each pair of a weight's format and x's group, all made from one text
// (prelude/product_int.h) with the format's numbers as constants.
#include "codegen/kernel.h"

bool product_takes_codes(const PanelFormat *f) { return f->bits && !f->table; }

void product_print_int(const PanelFormat *f, int x_group, Text *out) {
    text_printf(out, "TN_NOINLINE void product_%s_a%d(float *acc, long ldacc, tn_code_rows x, int rows, const tn_u8 *w, int k, int ahead) {\n"
                     "    tn_codes_product((tn_codes){.bits = %d, .zero = %d, .group = %d, .half = %d, .minimum = %d, .xgroup = %d}, acc, ldacc, x, rows, w, k, ahead);\n}\n",
                f->name, x_group, f->bits, f->zero, f->group, f->scale_is_f16, f->has_minimum, x_group);
}
