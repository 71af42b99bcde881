// Packing: a weight as its kernels read it. There is one description of a panel, `PanelLayout`, that this file writes and product_*.c read.
//
// A panel holds 64 outputs, k outermost, in 64-byte vectors of 16 outputs: one packing for every target and for float and integer arithmetic alike.
//   f32, f16, fp8  [k][64] elements
//   bf16           [k/2][64][2], a last odd k filled up with zeros
//   integer codes  for each group of k: scale[64], minimum[64] if there is one, then the codes, unsigned (code + zero):
//                  8 bits [k/4][64][4]; 4 bits [k/8][64][4], of which the low halves are the first four k, the high halves the next;
//                  6 bits, 16 of k at a time: their low four bits as above, then [64][4] bytes of the two high bits, the first four k the lowest;
//                  5 bits, 32 of k at a time: likewise with one high bit
//   w8, w6, w5     one such group (f32 scales), its codes filled up with zeros to a multiple of 64 of k
//   sparse w8      the scales, for each 64 bytes of such codes a mask of those that pruning did not make zero, and these codes behind one another;
//                  every panel has room for what pruning keeps, and for 64 bytes more that may be read
// So a panel is one contiguous run in the order in which a product reads it. Outputs that fill up the last panel are zeros. A weight of rank 3 is
// a run of matrices.
#include "codegen/kernel.h"
#include "ir/dequant.h"
#include "ir/prune.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t LIMIT = (uint64_t)1 << 50;

static bool float_type(DType type) { return type == DT_F32 || type == DT_F16 || type == DT_BF16 || type == DT_F8E4M3 || type == DT_F8E5M2; }

static void panel_format(Arena *arena, DType type, PanelFormat *f) {
    GroupedFormat g;
    *f = (PanelFormat){.type = type};
    if (grouped_format(type, &g)) {
        f->group = g.group;
        f->bits = g.bits;
        f->zero = g.zero;
        f->has_minimum = g.has_minimum;
        f->scale_is_f16 = g.scale_is_f16;
        f->table = g.table;
        // Types that unpack alike share one function; a table belongs to its type.
        f->name = g.table ? dtype_info[type].name
                          : arena_printf(arena, "g%dz%dx%d%s%s", g.bits, g.zero, g.group, g.scale_is_f16 ? "h" : "s", g.has_minimum ? "m" : "");
    } else if (row_code_bits(type)) {
        f->bits = row_code_bits(type);
        f->zero = 1 << (f->bits - 1);
        f->name = dtype_info[type].name;
    } else {
        if (!float_type(type)) f->type = DT_F32;   // integers
        f->name = dtype_info[f->type].name;
    }
}

int panel_head_bytes(const PanelFormat *f) { return f->bits ? (f->scale_is_f16 ? 128 : 256) * (f->has_minimum ? 2 : 1) : 0; }

int64_t panel_padded(const PanelFormat *f, int64_t k) { return f->bits && !f->group ? round_up(k, 64) : round_up(k, f->type == DT_BF16 ? 2 : 1); }

// Masks, a bit a value, and values that are there; what fills up k is among them, so that it stays what it is.
static bool sparse_bytes(const PanelFormat *f, int64_t k, int64_t kept, uint64_t head, uint64_t *bytes) {
    int64_t padded = panel_padded(f, k);
    return f->bits == 8 && !f->group && kept <= k && size_mad((uint64_t)padded, 8, head + 64, LIMIT, bytes) &&
           size_mad((uint64_t)(kept + padded - k), 64, *bytes, LIMIT, bytes);
}

int panel_unit(const PanelFormat *f) { return f->bits == 5 ? 32 : f->bits == 6 ? 16 : f->bits ? 32 / f->bits : f->type == DT_BF16 ? 2 : 1; }

bool panel_layout(Arena *arena, const Type *type, DType quantize_to, int64_t kept, PanelLayout *out) {
    PanelFormat *f = &out->format;
    panel_format(arena, quantize_to == DT_COUNT ? type->dtype : quantize_to, f);
    int rank = type->rank;
    out->heads = rank == 3 ? type->dims[0] : 1;
    out->outputs = rank >= 2 ? type->dims[rank - 2] : 1;
    out->k = type->dims[rank - 1];
    out->panels = (out->outputs + PANEL_WIDTH - 1) / PANEL_WIDTH;
    uint64_t bytes, head = (uint64_t)panel_head_bytes(f);
    if (out->k < 0 || out->k > (int64_t)LIMIT) return false;
    if (f->group) {
        if (out->k % f->group || !size_mad((uint64_t)(out->k / f->group), head + (uint64_t)f->group * 64 * (uint64_t)f->bits / 8, 0, LIMIT, &bytes)) return false;
    } else if (f->bits) {
        if (!size_mad((uint64_t)panel_padded(f, out->k), 8 * (uint64_t)f->bits, head, LIMIT, &bytes)) return false;
    } else if (!size_mad((uint64_t)panel_padded(f, out->k), 64 * (uint64_t)dtype_info[f->type].bytes, 0, LIMIT, &bytes)) return false;
    out->dense_bytes = (uint64_t)round_up((int64_t)bytes, 64);
    if (kept) {
        if (!sparse_bytes(f, out->k, kept, head, &bytes)) return false;
        f->sparse = true;
        f->name = arena_printf(arena, "%ss", f->name);
    }
    out->panel_bytes = (uint64_t)round_up((int64_t)bytes, 64);
    uint64_t panels;
    return size_mad((uint64_t)out->heads, (uint64_t)out->panels, 0, LIMIT, &panels) && size_mad(panels, out->panel_bytes, 0, LIMIT, &out->bytes);
}

// What ops see of a weight that lies in rows: f32, i32 or bool.
static DType row_type(const Weight *weight) { return value_dtype(&(Value){.kind = VALUE_WEIGHT, .type = weight->type}); }

static bool weight_panels(Arena *arena, const Weight *weight, PanelLayout *layout) {
    return panel_layout(arena, &weight->type, weight->quantize_to, weight->layout == LAYOUT_SPARSE ? prune_row_keeps(weight) : 0, layout);
}

bool packed_bytes(const Weight *weight, uint64_t *bytes) {
    if (weight->layout == LAYOUT_PANELS || weight->layout == LAYOUT_SPARSE) {
        Arena *scratch = arena_new();
        PanelLayout layout;
        bool ok = weight_panels(scratch, weight, &layout);
        arena_free(scratch);
        *bytes = layout.bytes;
        return ok;
    }
    return size_mad((uint64_t)type_row_elements(&weight->type), row_type(weight) == DT_BOOL ? 1 : 4, 0, LIMIT, bytes);
}

// ---- one panel -------------------------------------------------------------------------------------------------------------------

typedef struct {
    const Weight *weight;
    PanelLayout layout;
    uint8_t *panel, *sparse;
    float *row, *scales, *minimums;
    int8_t *codes;
    void *stored;    // a row in the type that it is stored in
} Packer;

// A row in its storage type: calibration's, the source's own, or rounded to it.
static const void *stored_row(const Packer *p, int64_t row) {
    DType type = p->layout.format.type;
    const Weight *w = p->weight;
    if (w->quantized) return (const char *)w->quantized + row * dtype_row_bytes(type, p->layout.k);
    const void *bytes = (w->tensor ? w->source.dtype : w->type.dtype) == type ? weight_row_bytes(w, row) : NULL;
    if (bytes) return bytes;
    weight_rows_f32(w, row, 1, p->row);
    quantize_row(type, p->row, p->layout.k, p->stored);
    return p->stored;
}

static void put_scale(const PanelFormat *f, uint8_t *to, int n, float value) {
    if (f->scale_is_f16) {
        uint16_t h = f32_to_f16(value);
        memcpy(to + 2 * n, &h, 2);
    } else memcpy(to + 4 * n, &value, 4);
}

static void put_codes(const PanelFormat *f, uint8_t *to, int n, const int8_t *codes, int64_t count) {
    to += n * 4;
    if (f->bits == 8)
        for (int64_t i = 0; i < count; i++) to[i / 4 * 256 + i % 4] = (uint8_t)(codes[i] + f->zero);
    else if (f->bits == 4)
        for (int64_t i = 0; i < count; i++) to[i / 8 * 256 + i % 4] |= (uint8_t)(((codes[i] + f->zero) & 15) << (i & 4));
    else
        for (int64_t i = 0; i < count; i++) {
            int unit = panel_unit(f), in = (int)(i % unit), code = codes[i] + f->zero;
            uint8_t *at = to + i / unit * unit * 8 * f->bits + i % 4;
            at[in / 8 * 256] |= (uint8_t)((code & 15) << (in & 4));
            at[unit / 8 * 256] |= (uint8_t)(code >> 4 << in / 4 * (f->bits - 4));
        }
}

static void pack_codes(const Packer *p, int64_t row, int n) {
    const PanelFormat *f = &p->layout.format;
    const void *bytes = stored_row(p, row);
    int64_t group = f->group ? f->group : p->layout.k, head = panel_head_bytes(f), stride = head + group * 64 * f->bits / 8;
    if (!f->group) {
        memcpy(p->codes, bytes, (size_t)group);
        memcpy(p->scales, (const char *)bytes + group, sizeof *p->scales);
    } else grouped_row(f->type, bytes, p->layout.k, p->codes, p->scales, p->minimums);
    for (int64_t g = 0; g < p->layout.k / group; g++) {
        uint8_t *to = p->panel + g * stride;
        put_scale(f, to, n, p->scales[g]);
        if (f->has_minimum) put_scale(f, to + head / 2, n, p->minimums[g]);
        put_codes(f, to + head, n, p->codes + g * group, group);
    }
}

static uint8_t f8_nearest(DType type, float value) {   // the value is one of the type's: found, not rounded
    for (int code = 0; code < 256; code++) {
        uint8_t byte = (uint8_t)code;
        float v;
        dequantize_row(type, &byte, &v, 1);
        if (v == value && signbit(v) == signbit(value)) return byte;
    }
    return 0x7f;
}

static void pack_floats(const Packer *p, int64_t row, int n) {
    DType type = p->layout.format.type;
    const uint8_t *bytes = NULL;
    if (p->weight->quantized) dequantize_row(type, stored_row(p, row), p->row, p->layout.k);
    else {
        weight_rows_f32(p->weight, row, 1, p->row);
        if (type == DT_F8E4M3 || type == DT_F8E5M2) bytes = weight_row_bytes(p->weight, row);
    }
    for (int64_t i = 0; i < p->layout.k; i++) {
        int64_t at = i * 64 + n;
        switch (type) {
        case DT_F16: ((uint16_t *)(void *)p->panel)[at] = f32_to_f16(p->row[i]); break;
        case DT_BF16: ((uint16_t *)(void *)p->panel)[i / 2 * 128 + n * 2 + i % 2] = f32_to_bf16(p->row[i]); break;
        case DT_F32: ((float *)(void *)p->panel)[at] = p->row[i]; break;
        default: p->panel[at] = bytes ? bytes[i] : f8_nearest(type, p->row[i]);
        }
    }
}

// All values of k are zero, also of what is no output; what fills up k stays the byte 0.
static void put_zeros(const Packer *p) {
    const PanelLayout *l = &p->layout;
    uint8_t *codes = p->panel + panel_head_bytes(&l->format);
    memset(codes, l->format.zero, (size_t)(l->k / 4 * 256));
    for (int64_t i = l->k / 4 * 256; i < round_up(l->k, 4) * 64; i++)
        if (i % 4 < l->k % 4) codes[i] = (uint8_t)l->format.zero;
}

// The panel without what is zero: false when it holds more than its layout has room for.
static bool make_sparse(const Packer *p) {
    const PanelLayout *l = &p->layout;
    int64_t head = panel_head_bytes(&l->format), codes = panel_padded(&l->format, l->k) * 64;
    const uint8_t *from = p->panel + head, *end = p->sparse + l->panel_bytes - 64;
    uint8_t *masks = p->sparse + head, *to = masks + codes / 8;
    memset(p->sparse, 0, l->panel_bytes);
    memcpy(p->sparse, p->panel, (size_t)head);
    for (int64_t i = 0; i < codes; i++) {
        if (from[i] == l->format.zero) continue;
        if (to == end) return false;
        masks[i / 8] |= (uint8_t)(1 << i % 8);
        *to++ = from[i];
    }
    return true;
}

static bool pack_panels(Packer *p, bool (*write)(void *to, const void *bytes, size_t length), void *to) {
    const PanelLayout *l = &p->layout;
    for (int64_t head = 0; head < l->heads; head++)
        for (int64_t panel = 0; panel < l->panels; panel++) {
            memset(p->panel, 0, l->dense_bytes);
            if (p->sparse) put_zeros(p);
            for (int n = 0; n < 64 && panel * 64 + n < l->outputs; n++) {
                int64_t row = head * l->outputs + panel * 64 + n;
                if (l->format.bits) pack_codes(p, row, n);
                else pack_floats(p, row, n);
            }
            if (p->sparse && !make_sparse(p)) return false;
            if (!write(to, p->sparse ? p->sparse : p->panel, l->panel_bytes)) return false;
        }
    return true;
}

static bool pack_rows(const Weight *weight, bool (*write)(void *to, const void *bytes, size_t length), void *to) {
    int64_t columns = weight->type.rank ? weight->type.dims[weight->type.rank - 1] : 1;
    int64_t rows = type_row_elements(&weight->type) / columns;
    DType type = row_type(weight);
    bool exact = type == DT_I32 && (weight->tensor ? weight->source.dtype : weight->type.dtype) == DT_I32;   // a float could not hold every i32
    float *row = malloc(sizeof *row * (size_t)columns);
    bool ok = row != NULL;
    for (int64_t r = 0; r < rows && ok; r++) {
        const void *bytes = exact ? weight_row_bytes(weight, r) : NULL;
        if (!bytes) weight_rows_f32(weight, r, 1, row);
        for (int64_t i = 0; i < columns && !bytes && type != DT_F32; i++)
            if (type == DT_I32) ((int32_t *)(void *)row)[i] = (int32_t)row[i];
            else ((uint8_t *)(void *)row)[i] = row[i] != 0;
        ok = write(to, bytes ? bytes : row, (type == DT_BOOL ? 1 : sizeof *row) * (size_t)columns);
    }
    free(row);
    return ok;
}

bool pack_weight(const Weight *weight, bool (*write)(void *to, const void *bytes, size_t length), void *to) {
    if (weight->layout != LAYOUT_PANELS && weight->layout != LAYOUT_SPARSE) return pack_rows(weight, write, to);
    Arena *scratch = arena_new();
    Packer p = {.weight = weight};
    bool ok = weight_panels(scratch, weight, &p.layout);
    if (ok) {
        p.panel = arena_alloc(scratch, p.layout.dense_bytes);
        p.sparse = p.layout.format.sparse ? arena_alloc(scratch, p.layout.panel_bytes) : NULL;
        p.row = ARENA_ARRAY(scratch, float, p.layout.k);
        p.scales = ARENA_ARRAY(scratch, float, p.layout.k);
        p.minimums = ARENA_ARRAY(scratch, float, p.layout.k);
        p.codes = ARENA_ARRAY(scratch, int8_t, p.layout.k);
        p.stored = arena_alloc(scratch, (size_t)dtype_row_bytes(p.layout.format.type, p.layout.k));
        ok = pack_panels(&p, write, to);
    }
    arena_free(scratch);
    return ok;
}
