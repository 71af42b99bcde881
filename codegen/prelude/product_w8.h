// ---- prelude: int8 products -----------------------------------------------------------------------------------------------
// Exact in int32 on every machine: acc[row][column] = Σ_k x[row][k] · w[column][k]. A panel holds 64 columns: codes [k/4][64][4], k padded with
// zeros to a multiple of 64; then f32 scale[64], then int32 sum of codes[64] (which turns an unsigned-by-signed dot product into a signed one).
#if defined(__AMX_INT8__)
typedef struct { tn_u8 palette, start, reserved[14]; tn_u16 bytes[16]; tn_u8 rows[16]; } tn_tiles __attribute__((aligned(64)));
TN_INLINE void tn_tile_rows(int rows) {             // tiles 0–3 accumulate, 4 holds x, 5–6 weights
    tn_tiles c;
    for (unsigned i = 0; i < sizeof c; i++) ((volatile tn_u8 *)&c)[i] = 0;
    c.palette = 1;
    for (int i = 0; i < 8; i++) { c.bytes[i] = 64; c.rows[i] = (tn_u8)(i < 5 ? rows : 16); }
    tn_tile_config(&c);
}
TN_NOINLINE void product_w8_v4(int *acc, long ldacc, const signed char *x, long ldx, int rows, const tn_u8 *w, int k) {
    for (int r = 0, configured = 0; r < rows; r += 16) {
        int m = rows - r < 16 ? rows - r : 16;
        if (m != configured) tn_tile_rows(configured = m);
        tn_tile_zero(0); tn_tile_zero(1); tn_tile_zero(2); tn_tile_zero(3);
        for (int i = 0; i < k; i += 64) {           // past k: whatever follows x, times zero weights
            const tn_u8 *b = w + (long)i * 64;
            tn_tile_load(4, x + r * ldx + i, ldx);
            tn_tile_load(5, b, 256); tn_tile_load(6, b + 64, 256);
            tn_tile_dot_s8s8(0, 4, 5); tn_tile_dot_s8s8(1, 4, 6);
            tn_tile_load(5, b + 128, 256); tn_tile_load(6, b + 192, 256);
            tn_tile_dot_s8s8(2, 4, 5); tn_tile_dot_s8s8(3, 4, 6);
        }
        int *to = acc + r * ldacc;
        tn_tile_store(0, to, ldacc * 4); tn_tile_store(1, to + 16, ldacc * 4); tn_tile_store(2, to + 32, ldacc * 4); tn_tile_store(3, to + 48, ldacc * 4);
    }
    tn_tile_release();
}
#elif defined(TN_HAVE_DOT_U8S8)
TN_INLINE void tn_product_w8_rows(int *acc, long ldacc, const signed char *x, long ldx, const tn_u8 *w, int k, const int m) {
    tn_i sum[6][4];
    const int *sums = (const int *)(w + ((long)k + 63) / 64 * 64 * 64) + 64;
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < 4; v++) sum[r][v] = tn_splat_i(0);
    TN_NO_UNROLL for (int i = 0; i < k; i += 4) {
        tn_i b[4];
        TN_UNROLL for (int v = 0; v < 4; v++) b[v] = tn_load_i((const int *)(w + (long)i * 64 + 64 * v));
        TN_UNROLL for (int r = 0; r < m; r++) {
            tn_i a = tn_splat_i(*(const int __attribute__((aligned(1), may_alias)) *)(x + r * ldx + i) ^ (int)0x80808080u);   // + 128
            TN_UNROLL for (int v = 0; v < 4; v++) sum[r][v] = tn_dot_u8s8(sum[r][v], a, b[v]);
        }
    }
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < 4; v++) tn_store_i(acc + r * ldacc + 16 * v, tn_sub_i(sum[r][v], tn_load_i(sums + 16 * v) << 7));
}
TN_NOINLINE void product_w8_v4(int *acc, long ldacc, const signed char *x, long ldx, int rows, const tn_u8 *w, int k) {
    for (; rows >= 6; rows -= 6, acc += 6 * ldacc, x += 6 * ldx) tn_product_w8_rows(acc, ldacc, x, ldx, w, k, 6);
    for (; rows > 0; rows--, acc += ldacc, x += ldx) tn_product_w8_rows(acc, ldacc, x, ldx, w, k, 1);
}
#else
TN_NOINLINE void product_w8_v4(int *acc, long ldacc, const signed char *x, long ldx, int rows, const tn_u8 *w, int k) {
    for (int r = 0; r < rows; r++) {
        int sum[64] = {0};
        for (int i = 0; i < k; i += 4)
            for (int n = 0; n < 64; n++) {
                const signed char *c = (const signed char *)w + (long)i * 64 + n * 4;
                for (int e = 0; e < 4 && i + e < k; e++) sum[n] += x[r * ldx + i + e] * c[e];
            }
        for (int n = 0; n < 64; n++) acc[r * ldacc + n] = sum[n];
    }
}
#endif
