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
enum { TN_TILE_ROWS = 16, TN_SLAB = 512, TN_SQUARE = 32, TN_FEW_ROWS = 13, TN_TILE_AHEAD = 8192, TN_MOST_GROUP = 1024 };

// Tiles of `rows` rows of x and `depth` bytes of k. Everything in them is lost.
TN_NOINLINE void tn_tiles_shape(int rows, int depth) {
    struct { tn_u8 palette, start, reserved[14]; tn_u16 bytes[16]; tn_u8 rows[16]; } c __attribute__((aligned(64))) = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        c.bytes[t] = (tn_u16)(t == 4 ? depth : 64);
        c.rows[t] = (tn_u8)(t < 5 ? rows : depth / 4);
    }
    tn_tile_config(&c);
}
TN_INLINE void tn_tiles_zero(void) { tn_tile_zero(0); tn_tile_zero(1); tn_tile_zero(2); tn_tile_zero(3); }
TN_INLINE void tn_tiles_store(void *at, long stride) {
    tn_u8 *p = (tn_u8 *)at;
    tn_tile_store(0, p, stride); tn_tile_store(1, p + 64, stride); tn_tile_store(2, p + 128, stride); tn_tile_store(3, p + 192, stride);
}
#define TN_TILES_DOT(kind, sum, x, w) \
    do { if (kind == TN_TILE_BF16) tn_tile_dot_bf16(sum, x, w); else if (kind == TN_TILE_U8) tn_tile_dot_s8u8(sum, x, w); else tn_tile_dot_s8s8(sum, x, w); } while (0)
// One depth of k; the weights' rows are 256 bytes apart.
TN_INLINE void tn_tiles_step(const int kind, const tn_u8 *x, long ldx, const tn_u8 *w) {
    tn_tile_load(4, x, ldx);
    tn_tile_load(5, w, 256); TN_TILES_DOT(kind, 0, 4, 5);
    tn_tile_load(6, w + 64, 256); TN_TILES_DOT(kind, 1, 4, 6);
    tn_tile_load(7, w + 128, 256); TN_TILES_DOT(kind, 2, 4, 7);
    tn_tile_load(5, w + 192, 256); TN_TILES_DOT(kind, 3, 4, 5);
}
// `bytes` of k, a multiple of 64. `next`: memory to ask for meanwhile, `lines` cache lines a step.
TN_INLINE void tn_tiles_run(const int kind, const tn_u8 *x, long ldx, const tn_u8 *w, long bytes, const tn_u8 *next, const int lines) {
    TN_NO_UNROLL for (long i = 0; i < bytes; i += 64, w += 64 * 64, next += 64 * lines) {
        TN_UNROLL for (int l = 0; l < lines; l++) __builtin_prefetch(next + 64 * l, 0, 2);
        tn_tiles_step(kind, x + i, ldx, w);
    }
}
// The last step of k, `bytes` of it: rows of x filled up with zeros; the panel too, unless it is so already.
TN_INLINE void tn_tiles_tail(const int kind, const tn_u8 *x, long ldx, int rows, const tn_u8 *w, int bytes) {
    tn_u8 xs[16 * 64] __attribute__((aligned(64))), ws[16 * 256] __attribute__((aligned(64)));
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < 64; i++) xs[r * 64 + i] = i < bytes ? x[r * ldx + i] : 0;
    for (int i = 0; i < 16 * 256; i++) ws[i] = i < (bytes + 3) / 4 * 256 ? w[i] : 0;
    tn_tiles_step(kind, xs, 64, ws);
}

// All of k for 32 rows and 32 outputs.
TN_INLINE void tn_tiles_square(const int kind, const tn_u8 *x, long ldx, const tn_u8 *w, long bytes) {
    tn_tiles_zero();
    TN_NO_UNROLL for (long i = 0; i < bytes; i += 64, w += 64 * 64) {
        tn_tile_load(4, x + i, ldx); tn_tile_load(5, x + 16 * ldx + i, ldx);
        tn_tile_load(6, w, 256); tn_tile_load(7, w + 64, 256);
        TN_TILES_DOT(kind, 0, 4, 6); TN_TILES_DOT(kind, 1, 4, 7);
        TN_TILES_DOT(kind, 2, 5, 6); TN_TILES_DOT(kind, 3, 5, 7);
    }
}
TN_INLINE void tn_tiles_square_store(void *at, long stride) {
    tn_u8 *p = (tn_u8 *)at, *q = p + 16 * stride;
    tn_tile_store(0, p, stride); tn_tile_store(1, p + 64, stride); tn_tile_store(2, q, stride); tn_tile_store(3, q + 64, stride);
}

// ---- bf16
TN_INLINE void tn_tiles_bf16(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const tn_u8 *w, int k) {
    const long bytes = 2L * k, whole = bytes / 64 * 64;
    const int squares = whole == bytes ? rows / TN_SQUARE * TN_SQUARE : 0;
    int shape = 0;
    if (squares) tn_tiles_shape(shape = TN_TILE_ROWS, 64);
    for (int h = 0; h < 64; h += TN_SQUARE)
        for (int r = 0; r < squares; r += TN_SQUARE) {
            tn_tiles_square(TN_TILE_BF16, (const tn_u8 *)(x + r * ldx), 2 * ldx, w + 4 * h, bytes);
            tn_tiles_square_store(acc + r * ldacc + h, 4 * ldacc);
        }
    for (int r = squares; r < rows; r += TN_TILE_ROWS) {
        const int m = rows - r < TN_TILE_ROWS ? rows - r : TN_TILE_ROWS;
        const tn_u8 *from = (const tn_u8 *)(x + r * ldx);
        if (m != shape) tn_tiles_shape(shape = m, 64);
        tn_tiles_zero();
        tn_tiles_run(TN_TILE_BF16, from, 2 * ldx, w, whole, w + TN_TILE_AHEAD, 64);
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
    int sums[2][TN_SQUARE * TN_SQUARE] __attribute__((aligned(64))), shape = 0;
    if (squares) tn_tiles_shape(shape = TN_TILE_ROWS, 64);
    for (int b = 0; b <= blocks; b++) {   // while the tiles multiply one square, the one before is scaled
        if (b < blocks) tn_tiles_square(TN_TILE_U8, from + (long)(b % squares) * TN_SQUARE * x->ldx, x->ldx, codes + (b < squares ? 0 : 4 * TN_SQUARE), depth);
        if (b) tn_tiles_scaled(f, acc, ldacc, x, (b - 1) % squares * TN_SQUARE, TN_SQUARE, sums[(b - 1) & 1], w, b <= squares ? 0 : 2, 2);
        if (b < blocks) tn_tiles_square_store(sums[b & 1], 4 * TN_SQUARE);
        if (!squares) break;
    }
    for (int r = squares * TN_SQUARE; r < rows; r += TN_TILE_ROWS) {
        const int m = rows - r < TN_TILE_ROWS ? rows - r : TN_TILE_ROWS;
        if (m != shape) tn_tiles_shape(shape = m, 64);
        tn_tiles_zero();
        tn_tiles_run(TN_TILE_U8, from + r * x->ldx, x->ldx, codes, depth, codes + TN_TILE_AHEAD, 64);
        tn_tiles_store(sums[0], 256);
        tn_tiles_scaled(f, acc, ldacc, x, r, m, sums[0], w, 0, 4);
    }
}

// ---- int8 in groups
// A slab's codes, their zero taken off: n values of k from `first` on, in quads.
TN_INLINE void tn_tiles_unpack(tn_codes f, tn_u8 *to, const tn_u8 *w, int first, int n) {
    const int size = f.group ? f.group : n, head = tn_codes_head(f), row = 8 * f.bits;
    const tn_i zero = tn_splat_i((int)((tn_u32)f.zero * 0x01010101u)), top = tn_splat_i((int)0x80808080u);
    for (int i = first; i < first + n; i += size) {
        const tn_u8 *c = f.group ? w + (long)(i / f.group) * (head + f.group * row) + head : w + head + (long)i * row;
        for (int j = 0; j < size; j += f.bits == 4 ? 8 : 4, c += 256) {
            TN_UNROLL for (int v = 0; v < 4; v++) __builtin_prefetch(c + TN_TILE_AHEAD / 4 + 64 * v);
            TN_UNROLL for (int high = 0; high < 2; high++)
                if (!high || f.bits == 4) {
                    TN_UNROLL for (int v = 0; v < 4; v++) {
                        const tn_i b = tn_codes_quad(f, c + 64 * v, high);
                        // No borrow crosses bytes: x - 128 flips a bit; small codes are lifted above their zero first.
                        tn_store_i((int *)(void *)(to + 64 * v), f.zero == 0 ? b : f.zero == 128 ? b ^ zero : tn_sub_i(b | top, zero) ^ top);
                    }
                    to += 256;
                }
        }
    }
}
TN_INLINE void tn_tiles_add(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int r0, int rows, int i, const tn_u8 *head, const int *sums) {
    int r = 0;
    for (; r + 4 <= rows; r += 4) {
        tn_i s[6][4];
        TN_UNROLL for (int q = 0; q < 4; q++)
            TN_UNROLL for (int v = 0; v < 4; v++) s[q][v] = tn_load_i(sums + 64 * (r + q) + 16 * v);
        tn_codes_add(f, acc + (r0 + r) * ldacc, ldacc, x, r0 + r, i, head, s, 4, 0, 4);
    }
    for (; r < rows; r++) {
        tn_i s[6][4];
        TN_UNROLL for (int v = 0; v < 4; v++) s[0][v] = tn_load_i(sums + 64 * r + 16 * v);
        tn_codes_add(f, acc + (r0 + r) * ldacc, ldacc, x, r0 + r, i, head, s, 1, 0, 4);
    }
}
TN_INLINE void tn_tiles_groups(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int rows, const tn_u8 *w, int k) {
    const int g = tn_codes_group(f), depth = g % 64 ? 32 : 64, most = f.group > f.xgroup ? f.group : f.xgroup, slab = most > TN_SLAB ? most : TN_SLAB / most * most;
    const long stride = tn_codes_head(f) + f.group * 8L * f.bits;   // of a weight's group
    tn_u8 codes[TN_MOST_GROUP * 64] __attribute__((aligned(64)));
    int sums[2][16 * 64] __attribute__((aligned(64))), shape = 0;
    for (int r = 0; r < rows; r++)
        TN_UNROLL for (int v = 0; v < 4; v++) tn_store(acc + r * ldacc + 16 * v, tn_splat(0));
    for (int from = 0; from < k; from += slab) {
        const int n = k - from < slab ? k - from : slab;
        tn_tiles_unpack(f, codes, w, from, n);
        for (int r = 0; r < rows; r += TN_TILE_ROWS) {
            const int m = rows - r < TN_TILE_ROWS ? rows - r : TN_TILE_ROWS;
            if (m != shape) tn_tiles_shape(shape = m, depth);
            int b = 0, i = from;
            for (; i < from + n; i += g, b ^= 1) {
                tn_tiles_zero();
                TN_UNROLL for (int d = 0; d < g; d += depth) tn_tiles_step(TN_TILE_I8, (const tn_u8 *)x->x + r * x->ldx + i + d, x->ldx, codes + (i - from + d) * 64L);
                if (i > from) tn_tiles_add(f, acc, ldacc, x, r, m, i - g, f.group ? w + (i - g) / f.group * stride : w, sums[b ^ 1]);
                tn_tiles_store(sums[b], 256);
            }
            tn_tiles_add(f, acc, ldacc, x, r, m, i - g, f.group ? w + (i - g) / f.group * stride : w, sums[b ^ 1]);
        }
    }
    tn_codes_finish(f, acc, ldacc, x, rows, w);
}
// Groups that fill tiles, and enough rows to be worth it.
TN_INLINE int tn_tiles_take(tn_codes f, int rows) {
    return rows >= TN_FEW_ROWS && tn_codes_group(f) % 32 == 0 && f.group <= TN_MOST_GROUP && f.xgroup <= TN_MOST_GROUP && (tn_codes_group(f) || f.bits == 8);
}
#endif

// ---- what kernels call
TN_INLINE void tn_multiply_codes(tn_codes f, float *acc, long ldacc, tn_code_rows x, int rows, const tn_u8 *w, int k, long ahead) {
#ifdef TN_HAVE_TILES
    if (tn_tiles_take(f, rows)) {
        if (tn_codes_group(f)) tn_tiles_groups(f, acc, ldacc, &x, rows, w, k);
        else tn_tiles_channels(f, acc, ldacc, &x, rows, w, k);
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
