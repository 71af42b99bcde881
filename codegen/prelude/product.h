// ---- prelude: products with panels --------------------------------------------------------------------------------------
#ifdef TN_HAVE_TILES
// Matrix tiles: 0 … 3 are sums, 4 is `rows` rows of x and `depth` bytes of k, the others are weights, or 16 rows of x. Everything in them is lost.
TN_NOINLINE void tn_tiles_shape(int rows, int depth) {
    struct { tn_u8 palette, start, reserved[14]; tn_u16 bytes[16]; tn_u8 rows[16]; } c __attribute__((aligned(64))) = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        c.bytes[t] = (tn_u16)(t == 4 ? depth : 64);
        c.rows[t] = (tn_u8)(t < 5 ? rows : depth / 4);
    }
    tn_tile_config(&c);
}
#endif
// The largest of a block's values, up to 64; NaN never is, -infinity when there is no number.
TN_INLINE float tn_block_largest(const float *x, int n) {
    const tn_v least = tn_splat(-__builtin_inff());
    tn_v m = least;
    for (int i = 0; i < n; i += 16) m = tn_max(i + 16 <= n ? tn_load(x + i) : tn_select(tn_lanes(i) < tn_splat_i(n), tn_load_n(x + i, n - i), least), m);
    m = tn_max(m, TN_SWAPPED(m, 8));
    m = tn_max(m, TN_SWAPPED(m, 4));
    m = tn_max(m, TN_SWAPPED(m, 2));
    return tn_max(m, TN_SWAPPED(m, 1))[0];
}
// acc[row][column] (+)= Σ_k x[row][k] · w[k][column], one chain of fused multiply-adds over k in order for each element: so any division into
// rows, columns and blocks of k gives the same bits.
TN_INLINE void tn_product_rows(float *acc, long ldacc, const float *x, long ldx, const float *w, long ldw, int k, int accumulate, const int m, const int vectors) {
    tn_v sum[6][4];
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = accumulate ? tn_load(acc + r * ldacc + 16 * v) : tn_splat(0);
    TN_NO_UNROLL for (int i = 0; i < k; i++) {
        tn_v b[4];
        TN_UNROLL for (int v = 0; v < vectors; v++) b[v] = tn_load(w + i * ldw + 16 * v);
        TN_UNROLL for (int r = 0; r < m; r++) {
            tn_v a = tn_splat(x[r * ldx + i]);
            TN_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = tn_fma16(a, b[v], sum[r][v]);
        }
    }
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < vectors; v++) tn_store(acc + r * ldacc + 16 * v, sum[r][v]);
}
// So many vectors of outputs at a time that sums and weights stay in registers: 32 of 64 bytes, 16 of 32 or 32 of 16.
#if defined(__AVX512F__)
#define TN_TOGETHER(m) 4
#else
#define TN_TOGETHER(m) ((m) == 1 ? 4 : (m) == 2 ? 2 : 1)
#endif
TN_INLINE void tn_product_tile(float *acc, long ldacc, const float *x, long ldx, const float *w, long ldw, int k, int accumulate, const int m, const int vectors) {
    TN_UNROLL for (int v = 0; v < vectors; v += TN_TOGETHER(m))
        tn_product_rows(acc + 16 * v, ldacc, x, ldx, w + 16 * v, ldw, k, accumulate, m, vectors - v < TN_TOGETHER(m) ? vectors - v : TN_TOGETHER(m));
}
TN_INLINE void tn_product(float *acc, long ldacc, const float *x, long ldx, int rows, const float *w, long ldw, int k, int accumulate, const int vectors) {
    for (; rows >= 6; rows -= 6, acc += 6 * ldacc, x += 6 * ldx) tn_product_tile(acc, ldacc, x, ldx, w, ldw, k, accumulate, 6, vectors);
    switch (rows) {
    case 5: tn_product_tile(acc, ldacc, x, ldx, w, ldw, k, accumulate, 5, vectors); break;
    case 4: tn_product_tile(acc, ldacc, x, ldx, w, ldw, k, accumulate, 4, vectors); break;
    case 3: tn_product_tile(acc, ldacc, x, ldx, w, ldw, k, accumulate, 3, vectors); break;
    case 2: tn_product_tile(acc, ldacc, x, ldx, w, ldw, k, accumulate, 2, vectors); break;
    case 1: tn_product_tile(acc, ldacc, x, ldx, w, ldw, k, accumulate, 1, vectors); break;
    }
}
TN_INLINE float tn_half1(const tn_u8 *p) { return tn_half_bits_float((tn_u)tn_splat_i(p[0] | p[1] << 8))[0]; }
