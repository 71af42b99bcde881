// ---- prelude: products through matrix tiles ------------------------------------------------------------------------------------
// A tile of x is up to 16 rows × 64 bytes of k, read where it lies; a tile of weights 16 outputs × 64 bytes of k, as the panels of int8 quads and of
// bf16 pairs hold it: 16 rows, 256 bytes apart. Tiles 0 … 3 are sums. Many rows go in squares of 32 rows × 32 outputs, two tiles of x and two of
// weights for four products, half a panel meeting all rows before the other half; fewer in strips of 16 rows × the panel's 64 outputs. Groups
// are opened a slab of the panel at a time, SLAB bytes of k deep, which stays in the first-level cache for all rows.
//
// Tiles have no arithmetic but the product, so what scales a group goes through scratch: while the tiles multiply one group, the vector units scale the
// one before. Sums of codes are the exact integers of product_int.h and everything after is its code. Sums of bf16 are TDPBF16PS over 32 values of k
// at a time (a last step filled up with zeros), whatever the number of rows: even and odd k apart, then both, then the sum so far.
#ifdef TN_HAVE_TILES
enum { TN_TILE_I8, TN_TILE_U8, TN_TILE_BF16 };   // the weights
enum { TN_TILE_ROWS = 16, TN_SLAB = 512, TN_SQUARE = 32, TN_FEW_ROWS = 13, TN_TILE_AHEAD = 16384, TN_MOST_GROUP = 1024, TN_SLAB_GROUPS = 32 };

TN_INLINE void tn_tiles_zero(void) { tn_tile_zero(0); tn_tile_zero(1); tn_tile_zero(2); tn_tile_zero(3); }
TN_INLINE void tn_tiles_store(void *at, long stride) {
    tn_u8 *p = (tn_u8 *)at;
    tn_tile_store(0, p, stride); tn_tile_store(1, p + 64, stride); tn_tile_store(2, p + 128, stride); tn_tile_store(3, p + 192, stride);
}
#define TN_TILES_DOT(kind, sum, x, w) \
    do { if (kind == TN_TILE_BF16) tn_tile_dot_bf16(sum, x, w); else if (kind == TN_TILE_U8) tn_tile_dot_s8u8(sum, x, w); else tn_tile_dot_s8s8(sum, x, w); } while (0)
// One depth of k; the weights' rows are 256 bytes apart. `next`: 4 KB of memory to ask for meanwhile, a quarter before each tile of weights; or NULL.
TN_INLINE void tn_tiles_ask(const tn_u8 *next, const int quarter) {
    if (next) TN_UNROLL for (int l = 16 * quarter; l < 16 * quarter + 16; l++) __builtin_prefetch(next + 64 * l, 0, 2);
}
TN_INLINE void tn_tiles_step(const int kind, const tn_u8 *x, long ldx, const tn_u8 *w, const tn_u8 *next) {
    tn_tiles_ask(next, 0); tn_tile_load(4, x, ldx); tn_tile_load(5, w, 256); TN_TILES_DOT(kind, 0, 4, 5);
    tn_tiles_ask(next, 1); tn_tile_load(6, w + 64, 256); TN_TILES_DOT(kind, 1, 4, 6);
    tn_tiles_ask(next, 2); tn_tile_load(7, w + 128, 256); TN_TILES_DOT(kind, 2, 4, 7);
    tn_tiles_ask(next, 3); tn_tile_load(5, w + 192, 256); TN_TILES_DOT(kind, 3, 4, 5);
}
// `bytes` of k, a multiple of 64, of few rows: bound by memory.
TN_INLINE void tn_tiles_run(const int kind, const tn_u8 *x, long ldx, const tn_u8 *w, long bytes) {
    TN_NO_UNROLL for (long i = 0; i < bytes; i += 64, w += 64 * 64) tn_tiles_step(kind, x + i, ldx, w, w + TN_TILE_AHEAD);
}
// The last step of k, `bytes` of it: rows of x filled up with zeros; the panel too, unless it is so already.
TN_INLINE void tn_tiles_tail(const int kind, const tn_u8 *x, long ldx, int rows, const tn_u8 *w, int bytes) {
    tn_u8 xs[16 * 64] __attribute__((aligned(64))), ws[16 * 256] __attribute__((aligned(64)));
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < 64; i++) xs[r * 64 + i] = i < bytes ? x[r * ldx + i] : 0;
    for (int i = 0; i < 16 * 256; i++) ws[i] = i < (bytes + 3) / 4 * 256 ? w[i] : 0;
    tn_tiles_step(kind, xs, 64, ws, 0);
}

// All of k for 32 rows and 32 outputs. `next`: memory to ask for meanwhile, two cache lines a step: sixteen squares of each half bring a panel.
TN_INLINE const tn_u8 *tn_tiles_square(const int kind, const tn_u8 *x, long ldx, const tn_u8 *w, long bytes, const tn_u8 *next) {
    tn_tiles_zero();
    TN_NO_UNROLL for (long i = 0; i < bytes; i += 64, w += 64 * 64, next += 128) {
        __builtin_prefetch(next, 0, 2);
        __builtin_prefetch(next + 64, 0, 2);
        tn_tile_load(4, x + i, ldx); tn_tile_load(5, x + 16 * ldx + i, ldx);
        tn_tile_load(6, w, 256); tn_tile_load(7, w + 64, 256);
        TN_TILES_DOT(kind, 0, 4, 6); TN_TILES_DOT(kind, 1, 4, 7);
        TN_TILES_DOT(kind, 2, 5, 6); TN_TILES_DOT(kind, 3, 5, 7);
    }
    return next;
}
TN_INLINE void tn_tiles_square_store(void *at, long stride) {
    tn_u8 *p = (tn_u8 *)at, *q = p + 16 * stride;
    tn_tile_store(0, p, stride); tn_tile_store(1, p + 64, stride); tn_tile_store(2, q, stride); tn_tile_store(3, q + 64, stride);
}

// ---- bf16
TN_INLINE void tn_tiles_bf16(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const tn_u8 *w, int k) {
    const long bytes = 2L * k, whole = bytes / 64 * 64;
    const int squares = whole == bytes ? rows / TN_SQUARE * TN_SQUARE : 0;
    const tn_u8 *next = w + 64 * bytes;   // the next panel
    int shape = 0;
    if (squares) tn_tiles_shape(shape = TN_TILE_ROWS, 64);
    for (int h = 0; h < 64; h += TN_SQUARE)
        for (int r = 0; r < squares; r += TN_SQUARE) {
            next = tn_tiles_square(TN_TILE_BF16, (const tn_u8 *)(x + r * ldx), 2 * ldx, w + 4 * h, bytes, next);
            tn_tiles_square_store(acc + r * ldacc + h, 4 * ldacc);
        }
    for (int r = squares; r < rows; r += TN_TILE_ROWS) {
        const int m = rows - r < TN_TILE_ROWS ? rows - r : TN_TILE_ROWS;
        const tn_u8 *from = (const tn_u8 *)(x + r * ldx);
        if (m != shape) tn_tiles_shape(shape = m, 64);
        tn_tiles_zero();
        tn_tiles_run(TN_TILE_BF16, from, 2 * ldx, w, whole);
        if (whole < bytes) tn_tiles_tail(TN_TILE_BF16, from + whole, 2 * ldx, m, w + whole * 64, (int)(bytes - whole));
        tn_tiles_store(acc + r * ldacc, 4 * ldacc);
    }
}

// ---- int8 with scales that are constant along k
// Sums of `rows` rows and `vectors` × 16 outputs from the first-th vector on.
TN_INLINE void tn_tiles_scaled(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int r0, int rows, const int *sums, const tn_u8 *head, int first, const int vectors) {
    TN_NO_UNROLL for (int r = 0; r < rows; r++) {
        const tn_i start = tn_splat_i(-f.zero * tn_codes_total(x, r0 + r, 0));
        const tn_v by = tn_splat(x->scale[(r0 + r) * x->ld_scale]);
        TN_UNROLL for (int v = 0; v < vectors; v++)
            tn_store(acc + (r0 + r) * ldacc + 16 * (first + v), tn_from_int(tn_add_i(tn_load_i(sums + 16 * vectors * r + 16 * v), start)) * by * tn_codes_scale(f, head, first + v));
    }
}
TN_INLINE void tn_tiles_channels(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int rows, const tn_u8 *w, int k) {
    const tn_u8 *codes = w + tn_codes_head(f), *from = (const tn_u8 *)x->x;
    const int squares = rows / TN_SQUARE, blocks = 2 * squares, depth = (k + 63) / 64 * 64;   // codes are filled up with zeros
    const tn_u8 *next = codes + 64L * depth;   // the next panel
    int sums[2][TN_SQUARE * TN_SQUARE] __attribute__((aligned(64))), shape = 0;
    if (squares) tn_tiles_shape(shape = TN_TILE_ROWS, 64);
    for (int b = 0; b <= blocks; b++) {   // while the tiles multiply one square, the one before is scaled
        if (b < blocks) next = tn_tiles_square(TN_TILE_U8, from + (long)(b % squares) * TN_SQUARE * x->ldx, x->ldx, codes + (b < squares ? 0 : 4 * TN_SQUARE), depth, next);
        if (b) tn_tiles_scaled(f, acc, ldacc, x, (b - 1) % squares * TN_SQUARE, TN_SQUARE, sums[(b - 1) & 1], w, b <= squares ? 0 : 2, 2);
        if (b < blocks) tn_tiles_square_store(sums[b & 1], 4 * TN_SQUARE);
        if (!squares) break;
    }
    for (int r = squares * TN_SQUARE; r < rows; r += TN_TILE_ROWS) {
        const int m = rows - r < TN_TILE_ROWS ? rows - r : TN_TILE_ROWS;
        if (m != shape) tn_tiles_shape(shape = m, 64);
        tn_tiles_zero();
        tn_tiles_run(TN_TILE_U8, from + r * x->ldx, x->ldx, codes, depth);
        tn_tiles_store(sums[0], 256);
        tn_tiles_scaled(f, acc, ldacc, x, r, m, sums[0], w, 0, 4);
    }
}

// The same with codes of less than a byte or a sparse panel, opened a slab of k at a time for all rows: acc holds integers until the last.
TN_INLINE void tn_tiles_narrow(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int rows, const tn_u8 *w, int k) {
    const long row = 8 * f.bits;
    tn_u8 codes[64 * TN_SLAB] __attribute__((aligned(64)));
    int shape = 0;
    for (int from = 0; from < k; from += TN_SLAB) {
        const int n = k - from < TN_SLAB ? (k - from + 63) / 64 * 64 : TN_SLAB;   // codes are filled up with zeros
        const long share = (n * row * TN_TILE_ROWS / rows + 63) / 64 * 64;
        const tn_u8 *next = w + tn_codes_head(f) + (from + n) * row;   // asked for while this slab meets its rows
        tn_codes_open(f, codes, w, from, from + n, 0);
        if (f.sparse) next = f.sparse->value;
        for (int r = 0; r < rows; r += TN_TILE_ROWS, next += share) {
            const int m = rows - r < TN_TILE_ROWS ? rows - r : TN_TILE_ROWS;
            tn_u8 *sums = (tn_u8 *)(void *)(acc + r * ldacc);
            if (m != shape) tn_tiles_shape(shape = m, 64);
            for (long i = 0; i < share; i += 64) __builtin_prefetch(next + i, 0, 2);
            if (from) {
                tn_tile_load(0, sums, 4 * ldacc); tn_tile_load(1, sums + 64, 4 * ldacc);
                tn_tile_load(2, sums + 128, 4 * ldacc); tn_tile_load(3, sums + 192, 4 * ldacc);
            } else tn_tiles_zero();
            TN_NO_UNROLL for (int i = 0; i < n; i += 64) tn_tiles_step(TN_TILE_U8, (const tn_u8 *)x->x + r * x->ldx + from + i, x->ldx, codes + 64 * i, 0);
            tn_tiles_store(sums, 4 * ldacc);
        }
    }
    TN_NO_UNROLL for (int r = 0; r < rows; r++) {
        const tn_i start = tn_splat_i(-f.zero * tn_codes_total(x, r, 0));
        TN_UNROLL for (int v = 0; v < 4; v++) {
            float *to = acc + r * ldacc + 16 * v;
            tn_store(to, tn_codes_end(f, tn_from_int(tn_add_i(tn_load_i((const int *)(const void *)to), start)), x, r, w, v));
        }
    }
}

// ---- int8 in groups
// A slab of k, opened: codes, their zero taken off, as tiles of 16 outputs side by side, one behind the other along k; what scales a group as floats. For a
// strip of 16 rows: what a row's codes are scaled by, and their totals. And the sums of the last few groups.
typedef struct {
    tn_u8 codes[TN_MOST_GROUP * 64];
    float scale[TN_SLAB_GROUPS * 64], minimum[TN_SLAB_GROUPS * 64], by[TN_TILE_ROWS * TN_SLAB_GROUPS], total[TN_TILE_ROWS * TN_SLAB_GROUPS];
    int sums[4][TN_TILE_ROWS * 16];
} tn_slab;
TN_INLINE void tn_slab_scales(tn_codes f, tn_slab *s, const tn_u8 *head, int group) {
    TN_UNROLL for (int v = 0; v < 4; v++) {
        tn_store(s->scale + 64 * group + 16 * v, tn_codes_scale(f, head, v));
        if (f.minimum) tn_store(s->minimum + 64 * group + 16 * v, tn_codes_minimum(f, head, v));
    }
}
// n values of k from `first` on; `depth` of them make a tile.
TN_INLINE void tn_slab_open(tn_codes f, tn_slab *s, const tn_u8 *w, int first, int n, const int depth) {
    const int g = tn_codes_group(f), head = tn_codes_head(f), row = 8 * f.bits, unit = tn_codes_unit(f);
    const tn_i zero = tn_splat_i((int)((tn_u32)f.zero * 0x01010101u)), top = tn_splat_i((int)0x80808080u);
    tn_u8 *to = s->codes;
    int filled = 0;
    for (int i = first, group = 0; i < first + n; i += g, group++) {
        const tn_u8 *h = f.group ? w + (long)(i / f.group) * (head + f.group * row) : w, *c = h + head + (long)(f.group ? i % f.group : i) * row;
        if (f.group) tn_slab_scales(f, s, h, group);
        for (int k = 0; k < g; k += unit, c += unit * row)
            TN_UNROLL for (int q = 0; q < unit / 4; q++) {
                TN_UNROLL for (int v = 0; v < 4; v++) {
                    const tn_i b = tn_codes_read(f, c + 64 * v, q);
                    // No borrow crosses bytes: x - 128 flips a bit; small codes are lifted above their zero first.
                    tn_store_i((int *)(void *)(to + 16 * v * depth + 64 * filled), f.zero == 0 ? b : f.zero == 128 ? b ^ zero : tn_sub_i(b | top, zero) ^ top);
                }
                if (++filled < depth / 4) continue;
                filled = 0;
                to += 64 * depth;
            }
    }
}
// A strip's rows: of `groups` groups from value `first` of k on.
TN_INLINE void tn_slab_rows(tn_codes f, tn_slab *s, const tn_code_rows *x, int r0, int rows, int first, int groups) {
    const int g = tn_codes_group(f), together = x->parts == 1 && (!f.xgroup || f.xgroup == g) ? groups / 16 * 16 : 0;
    if (!f.xgroup && !f.minimum) return;
    for (int r = 0; r < rows; r++) {
        const float *scale = x->scale + (r0 + r) * x->ld_scale;
        float *by = s->by + TN_SLAB_GROUPS * r, *total = s->total + TN_SLAB_GROUPS * r;
        TN_NO_UNROLL for (int i = 0; i < together; i += 16) {
            tn_v t = tn_from_int(tn_load_i(x->sum + (r0 + r) * x->ld_sum + first / g + i));
            if (f.xgroup) tn_store(by + i, tn_load(scale + first / g + i));
            tn_store(total + i, f.xgroup ? t * tn_load(scale + first / g + i) : t);
        }
        TN_NO_UNROLL for (int i = together; i < groups; i++) {
            if (f.xgroup) by[i] = scale[(first + i * g) / f.xgroup];
            if (f.minimum) total[i] = (float)tn_codes_total(x, r0 + r, first / g + i) * (f.xgroup ? by[i] : 1.0f);
        }
    }
}
// What a group's sums add to 16 rows of 16 outputs.
TN_INLINE void tn_slab_add(tn_codes f, const tn_slab *s, tn_v y[TN_TILE_ROWS], int i, int v) {
    const tn_v scale = f.group ? tn_load(s->scale + 64 * i + 16 * v) : tn_splat(1), minimum = f.minimum ? tn_load(s->minimum + 64 * i + 16 * v) : tn_splat(0);
    TN_UNROLL for (int r = 0; r < TN_TILE_ROWS; r++) {
        const tn_v sum = tn_from_int(tn_load_i(s->sums[i & 3] + 16 * r)), by = f.xgroup ? tn_splat(s->by[TN_SLAB_GROUPS * r + i]) : tn_splat(1);
        if (!f.group) y[r] = tn_fma16(sum, by, y[r]);
        else y[r] = tn_fma16(f.xgroup ? sum * by : sum, scale, y[r]);
        if (f.minimum) y[r] = tn_fma16(tn_splat(s->total[TN_SLAB_GROUPS * r + i]), minimum, y[r]);
    }
}
// A strip of up to 16 rows and a slab. Floats of 16 outputs stay in registers for all its groups; while the tiles multiply one group, the one before is scaled.
TN_INLINE void tn_slab_strip(tn_codes f, tn_slab *s, float *acc, long ldacc, int rows, const tn_u8 *x, long ldx, int groups, const int depth, const int lag) {
    const int g = tn_codes_group(f);
    TN_NO_UNROLL for (int v = 0; v < 4; v++) {
        const tn_u8 *w = s->codes + 16 * v * depth, *from = x;
        tn_v y[TN_TILE_ROWS];
        TN_UNROLL for (int r = 0; r < TN_TILE_ROWS; r++) y[r] = r < rows ? tn_load(acc + r * ldacc + 16 * v) : tn_splat(0);
        TN_NO_UNROLL for (int i = 0; i < groups + lag; i++) {
            if (i < groups) {
                tn_tile_zero(0);
                TN_UNROLL for (int d = 0; d < g; d += depth, from += depth, w += 64 * depth) {
                    tn_tile_load(4, from, ldx);
                    tn_tile_load(5, w, 64);
                    tn_tile_dot_s8s8(0, 4, 5);
                }
                tn_tile_store(0, s->sums[i & 3], 64);
            }
            if (i >= lag) tn_slab_add(f, s, y, i - lag, v);
        }
        TN_UNROLL for (int r = 0; r < TN_TILE_ROWS; r++)
            if (r < rows) tn_store(acc + r * ldacc + 16 * v, y[r]);
    }
}
TN_INLINE void tn_tiles_groups(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int rows, const tn_u8 *w, int k) {
    const int g = tn_codes_group(f), depth = g % 64 ? 32 : 64, most = f.group > f.xgroup ? f.group : f.xgroup, slab = most > TN_SLAB ? most : TN_SLAB / most * most;
    const long row = 8L * f.bits + (f.group ? tn_codes_head(f) / f.group : 0);   // about so many bytes a value of k
    tn_slab s __attribute__((aligned(64)));
    int shape = 0;
    for (int i = 0; i < TN_TILE_ROWS * TN_SLAB_GROUPS; i++) s.by[i] = s.total[i] = 0;
    for (int r = 0; r < rows; r++)
        TN_UNROLL for (int v = 0; v < 4; v++) tn_store(acc + r * ldacc + 16 * v, tn_splat(0));
    for (int from = 0; from < k; from += slab) {
        const int n = k - from < slab ? k - from : slab;
        const long share = (n * row * TN_TILE_ROWS / rows + 63) / 64 * 64;
        const tn_u8 *next = w + (from + n) * row;   // asked for while this slab meets its rows
        tn_slab_open(f, &s, w, from, n, depth);
        if (f.sparse) next = f.sparse->value;
        for (int r = 0; r < rows; r += TN_TILE_ROWS, next += share) {
            const int m = rows - r < TN_TILE_ROWS ? rows - r : TN_TILE_ROWS;
            if (m != shape) tn_tiles_shape(shape = m, depth);
            for (long i = 0; i < share; i += 64) __builtin_prefetch(next + i, 0, 2);
            tn_slab_rows(f, &s, x, r, m, from, n / g);
            tn_slab_strip(f, &s, acc + r * ldacc, ldacc, m, (const tn_u8 *)x->x + r * x->ldx + from, x->ldx, n / g, depth, 1);
        }
    }
    tn_codes_finish(f, acc, ldacc, x, rows, w);
}
// Groups that fill tiles, and enough rows to be worth it.
TN_INLINE int tn_tiles_take(tn_codes f, int rows) {
    return rows >= TN_FEW_ROWS && tn_codes_group(f) % 32 == 0 && f.group <= TN_MOST_GROUP && f.xgroup <= TN_MOST_GROUP;
}
#endif

// ---- what kernels call
TN_INLINE void tn_multiply_codes(tn_codes f, float *acc, long ldacc, tn_code_rows x, int rows, const tn_u8 *w, int k, long ahead) {
#ifdef TN_HAVE_TILES
    if (tn_tiles_take(f, rows)) {
        if (tn_codes_group(f)) tn_tiles_groups(f, acc, ldacc, &x, rows, w, k);
        else if (f.bits == 8 && !f.sparse) tn_tiles_channels(f, acc, ldacc, &x, rows, w, k);
        else tn_tiles_narrow(f, acc, ldacc, &x, rows, w, k);
        tn_tile_release();
        return;
    }
#endif
    tn_codes_product(f, acc, ldacc, x, rows, w, k, ahead);
}
#if defined(TN_HAVE_TILES) || defined(TN_HAVE_DOT_BF16)
TN_INLINE void tn_multiply_bf16(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const tn_u8 *w, int k, long ahead) {
#ifdef TN_HAVE_TILES
    (void)ahead;
    tn_tiles_bf16(acc, ldacc, x, ldx, rows, w, k);
    tn_tile_release();
#else
    tn_bf16_product(acc, ldacc, x, ldx, rows, w, k, ahead);
#endif
}
#endif
