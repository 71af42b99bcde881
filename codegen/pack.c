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
//   blocks         the numbers of the blocks of k that are there, as int32, filled up to 64 bytes; then any of the above of these blocks alone
// So a panel is one contiguous run in the order in which a product reads it. Outputs that fill up the last panel are zeros. A weight of rank 3 is
// a run of matrices.
#include "codegen/kernel.h"
#include "codegen/pack_lanes.h"
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

static bool dense_bytes(const PanelFormat *f, int64_t k, uint64_t *bytes) {
    uint64_t head = (uint64_t)panel_head_bytes(f);
    if (f->group) return k % f->group == 0 && size_mad((uint64_t)(k / f->group), head + (uint64_t)f->group * 64 * (uint64_t)f->bits / 8, 0, LIMIT, bytes);
    if (f->bits) return size_mad((uint64_t)panel_padded(f, k), 8 * (uint64_t)f->bits, head, LIMIT, bytes);
    return size_mad((uint64_t)panel_padded(f, k), 64 * (uint64_t)dtype_info[f->type].bytes, 0, LIMIT, bytes);
}

// Blocks are whole units and groups, so that each is a run of a dense panel.
static bool blocks_bytes(Arena *arena, PanelFormat *f, int64_t k, int64_t kept, int block, uint64_t *bytes) {
    bool plain = f->type == DT_F32 && !f->bits;
    if (plain || block % 32 || k % block || kept % block || kept > k || (f->group && block % f->group) || kept / block > INT32_MAX / 64) return false;
    if (!dense_bytes(f, kept, bytes)) return false;
    f->inner = f->name;
    f->block = block;
    f->blocks = (int)(kept / block);
    f->name = arena_printf(arena, "%sb%dx%d", f->inner, f->blocks, block);
    return size_mad((uint64_t)panel_index_bytes(f), 1, *bytes, LIMIT, bytes);
}

int panel_index_bytes(const PanelFormat *f) { return (int)round_up(4LL * f->blocks, 64); }

PanelFormat panel_inner(const PanelFormat *f) {
    PanelFormat inner = *f;
    inner.name = f->inner, inner.inner = NULL, inner.block = inner.blocks = 0;
    return inner;
}

bool panel_layout(Arena *arena, const Type *type, DType quantize_to, int64_t kept, int block, PanelLayout *out) {
    PanelFormat *f = &out->format;
    panel_format(arena, quantize_to == DT_COUNT ? type->dtype : quantize_to, f);
    int rank = type->rank;
    out->heads = rank == 3 ? type->dims[0] : 1;
    out->outputs = rank >= 2 ? type->dims[rank - 2] : 1;
    out->k = type->dims[rank - 1];
    out->kept = block ? kept : out->k;
    out->panels = (out->outputs + PANEL_WIDTH - 1) / PANEL_WIDTH;
    uint64_t bytes;
    if (out->k < 0 || out->k > (int64_t)LIMIT || !dense_bytes(f, out->k, &bytes)) return false;
    out->dense_bytes = (uint64_t)round_up((int64_t)bytes, 64);
    if (block && !blocks_bytes(arena, f, out->k, kept, block, &bytes)) return false;
    if (kept && !block) {
        if (!sparse_bytes(f, out->k, kept, (uint64_t)panel_head_bytes(f), &bytes)) return false;
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
    return panel_layout(arena, &weight->type, weight->quantize_to, weight->layout >= LAYOUT_SPARSE ? prune_row_keeps(weight) : 0,
                        weight->layout == LAYOUT_BLOCKS ? weight->prune.columns : 0, layout);
}

bool packed_bytes(const Weight *weight, uint64_t *bytes) {
    if (weight->layout >= LAYOUT_PANELS) {
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
    uint8_t *panel, *dense;   // dense: room for a panel with its zeros, of one that lies without them
    float *row, *scales, *minimums;
    int8_t *codes;
    void *stored;    // a row in the type that it is stored in
    Lanes lanes;     // without rows: it goes row by row
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
static bool make_sparse(const Packer *p, uint8_t *sparse) {
    const PanelLayout *l = &p->layout;
    int64_t head = panel_head_bytes(&l->format), codes = panel_padded(&l->format, l->k) * 64;
    const uint8_t *from = p->panel + head, *end = sparse + l->panel_bytes - 64;
    uint8_t *masks = sparse + head, *to = masks + codes / 8;
    memcpy(sparse, p->panel, (size_t)head);
    for (int64_t i = 0; i < codes; i++) {
        if (from[i] == l->format.zero) continue;
        if (to == end) return false;
        masks[i / 8] |= (uint8_t)(1 << i % 8);
        *to++ = from[i];
    }
    return true;
}

// The panel's blocks that stay, and their numbers. A block is a run of the panel: what is ahead of all codes of a row without groups comes first.
static bool make_blocks(const Packer *p, int64_t panel, uint8_t *to) {
    const PanelFormat *f = &p->layout.format;
    int64_t head = f->group ? 0 : panel_head_bytes(f), bytes = f->group ? f->block / f->group * (panel_head_bytes(f) + f->group * 8LL * f->bits)
                                                              : f->block * (f->bits ? 8LL * f->bits : 64LL * dtype_info[f->type].bytes);
    int64_t count = p->layout.k / f->block, kept = 0;
    uint8_t *stays = malloc((size_t)count), *values = to + panel_index_bytes(f) + head;
    if (!stays) abort();
    prune_band(p->weight, panel, stays);
    memcpy(values - head, p->panel, (size_t)head);
    for (int64_t i = 0; i < count; i++) {
        int32_t number = (int32_t)i;
        if (!stays[i] || kept == f->blocks) continue;
        memcpy(to + 4 * kept, &number, sizeof number);
        memcpy(values + bytes * kept++, p->panel + head + bytes * i, (size_t)bytes);
    }
    free(stays);
    return kept == f->blocks;
}

// Outputs n and on, a row at a time; or eight, where the rows are rounded here.
static int pack_outputs(Packer *p, int64_t row, int n, int count) {
    const PanelLayout *l = &p->layout;
    if (!p->lanes.rows) {
        if (l->format.bits) pack_codes(p, row, n);
        else pack_floats(p, row, n);
        return 1;
    }
    Weight plain = *p->weight;   // the lanes are rotated together
    plain.rotate = 0;
    if (count > LANES) count = LANES;
    weight_rows_f32(&plain, row, count, p->lanes.rows);
    memset(p->lanes.rows + count * l->k, 0, sizeof *p->lanes.rows * (size_t)((LANES - count) * l->k));
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) lanes_pack_avx2(&p->lanes, p->panel, n, count);
    else
#endif
        lanes_pack_any(&p->lanes, p->panel, n, count);
    return count;
}

static bool pack_panel(Packer *p, int64_t index, uint8_t *to) {
    const PanelLayout *l = &p->layout;
    int64_t head = index / l->panels, first = index % l->panels * 64;
    int outputs = l->outputs - first < 64 ? (int)(l->outputs - first) : 64;
    p->panel = p->dense ? p->dense : to;
    memset(p->panel, 0, l->dense_bytes);
    if (l->format.sparse) put_zeros(p);
    for (int n = 0; n < outputs;) n += pack_outputs(p, head * l->outputs + first + n, n, outputs - n);
    if (!p->dense) return true;
    memset(to, 0, l->panel_bytes);
    return l->format.block ? make_blocks(p, index, to) : make_sparse(p, to);
}

// Whether rows are rounded here, from floats, and eight at a time: they are not stored in the panel's type already.
static bool rounds(const Weight *w, const PanelFormat *format) {
    DType stored = w->tensor ? w->source.dtype : w->type.dtype, to = format->type;
    bool known = !format->sparse && (to == DT_BF16 || to == DT_F32 || row_code_bits(to) || (format->group && quantizes_to(to)));
    return !w->quantized && known && (!format->bits || stored != to || !weight_row_bytes(w, 0));
}

static bool pack_panels(const Weight *weight, int64_t first, int64_t count, uint8_t *to) {
    Arena *scratch = arena_new();
    Packer p = {.weight = weight};
    bool ok = weight_panels(scratch, weight, &p.layout);
    if (ok && weight->layout > LAYOUT_PANELS) p.dense = arena_alloc(scratch, p.layout.dense_bytes);
    float *lanes = NULL;
    if (ok && rounds(weight, &p.layout.format)) {
        lanes = aligned_alloc(64, (size_t)round_up(p.layout.k, 16) * 2 * LANES * sizeof *lanes);
        if (!lanes) abort();
        p.lanes = (Lanes){&p.layout, weight->rotate, lanes, lanes + round_up(p.layout.k, 16) * LANES};
    } else if (ok) {
        p.row = ARENA_ARRAY(scratch, float, p.layout.k);
        p.scales = ARENA_ARRAY(scratch, float, p.layout.k);
        p.minimums = ARENA_ARRAY(scratch, float, p.layout.k);
        p.codes = ARENA_ARRAY(scratch, int8_t, p.layout.k);
        p.stored = arena_alloc(scratch, (size_t)dtype_row_bytes(p.layout.format.type, p.layout.k));
    }
    for (int64_t i = 0; i < count && ok; i++) ok = pack_panel(&p, first + i, to + (uint64_t)i * p.layout.panel_bytes);
    free(lanes);
    arena_free(scratch);
    return ok;
}

static bool pack_rows(const Weight *weight, int64_t first, int64_t count, uint8_t *to) {
    int64_t columns = weight->type.rank ? weight->type.dims[weight->type.rank - 1] : 1;
    DType type = row_type(weight);
    size_t bytes = (type == DT_BOOL ? 1 : sizeof(float)) * (size_t)columns;
    bool exact = type == DT_I32 && (weight->tensor ? weight->source.dtype : weight->type.dtype) == DT_I32;   // a float could not hold every i32
    float *row = malloc(sizeof *row * (size_t)columns);
    for (int64_t r = first; r < first + count && row; r++, to += bytes) {
        const void *stored = exact ? weight_row_bytes(weight, r) : NULL;
        if (!stored) weight_rows_f32(weight, r, 1, row);
        for (int64_t i = 0; i < columns && !stored && type != DT_F32; i++)
            if (type == DT_I32) ((int32_t *)(void *)row)[i] = (int32_t)row[i];
            else ((uint8_t *)(void *)row)[i] = row[i] != 0;
        memcpy(to, stored ? stored : row, bytes);
    }
    free(row);
    return row != NULL;
}

// ---- parts -----------------------------------------------------------------------------------------------------------------------

static bool in_panels(const Weight *weight) { return weight->layout >= LAYOUT_PANELS; }

bool pack_parts(const Weight *weight, PackParts *parts) {
    int64_t columns = weight->type.rank ? weight->type.dims[weight->type.rank - 1] : 1;
    *parts = (PackParts){type_row_elements(&weight->type) / columns, (uint64_t)columns * (row_type(weight) == DT_BOOL ? 1 : 4), (uint64_t)columns};
    if (!in_panels(weight)) return true;
    Arena *scratch = arena_new();
    PanelLayout layout;
    bool ok = weight_panels(scratch, weight, &layout);
    if (ok) *parts = (PackParts){layout.heads * layout.panels, layout.panel_bytes, (uint64_t)layout.k * 64};
    arena_free(scratch);
    return ok;
}

bool pack_some(const Weight *weight, int64_t first, int64_t count, uint8_t *to) {
    return (in_panels(weight) ? pack_panels : pack_rows)(weight, first, count, to);
}

bool pack_weight(const Weight *weight, bool (*write)(void *to, const void *bytes, size_t length), void *to) {
    PackParts parts;
    uint8_t *part = pack_parts(weight, &parts) ? malloc(parts.bytes) : NULL;
    bool ok = part != NULL;
    for (int64_t i = 0; i < parts.count && ok; i++) ok = pack_some(weight, i, 1, part) && write(to, part, parts.bytes);
    free(part);
    return ok;
}
