// ---- prelude: products of bf16 ------------------------------------------------------------------------------------------------
// A panel holds pairs, [k/2][64][2]: one 64-byte vector is two consecutive k of 16 outputs. tn_dot_bf16 adds both products of a pair to 16 floats;
// an output's sum is one chain of them along k, so that any division into rows, columns and blocks of k gives the same bits. How an instruction
// rounds within a pair is its own affair: bits are the same on one target, not on all.
#if defined(TN_HAVE_DOT_BF16)
typedef tn_u32 tn_pair1 __attribute__((aligned(1), may_alias));
TN_INLINE void tn_bf16_tile(float *acc, long ldacc, const tn_u16 *x, long ldx, const tn_u8 *w, int first, int last, long ahead, const int m) {
    tn_v s[6][4];
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < 4; v++) s[r][v] = first ? tn_load(acc + r * ldacc + 16 * v) : tn_splat(0);
    w += (long)first * 128;
    int i = first;
    TN_NO_UNROLL for (; i + 2 <= last; i += 2, w += 256) {
        TN_UNROLL for (int v = 0; v < 4; v++) __builtin_prefetch(w + ahead + 64 * v, 0, 2);
        tn_i b[4];
        TN_UNROLL for (int v = 0; v < 4; v++) b[v] = tn_load_i((const int *)(w + 64 * v));
        TN_UNROLL for (int r = 0; r < m; r++) {
            const tn_i a = tn_splat_i((int)*(const tn_pair1 *)(x + r * ldx + i));
            TN_UNROLL for (int v = 0; v < 4; v++) s[r][v] = tn_dot_bf16(s[r][v], b[v], a);
        }
    }
    if (i < last)   // the panel's last odd k is zeros
        TN_UNROLL for (int r = 0; r < m; r++)
            TN_UNROLL for (int v = 0; v < 4; v++) s[r][v] = tn_dot_bf16(s[r][v], tn_load_i((const int *)(w + 64 * v)), tn_splat_i(x[r * ldx + i]));
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < 4; v++) tn_store(acc + r * ldacc + 16 * v, s[r][v]);
}
// A block of k at a time, so that its weights stay in the first-level cache for all rows.
TN_INLINE void tn_bf16_product(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const tn_u8 *w, int k, long ahead) {
    const int block = rows > 6 ? 128 : k;
    TN_NO_UNROLL for (int i = 0; i < k; i += block) {
        int end = k - i < block ? k : i + block, r = 0;
        long far = ahead;
        for (; rows - r >= 6; r += 6, far = 0) tn_bf16_tile(acc + r * ldacc, ldacc, x + r * ldx, ldx, w, i, end, far, 6);
        if (rows - r >= 4) { tn_bf16_tile(acc + r * ldacc, ldacc, x + r * ldx, ldx, w, i, end, far, 4); r += 4; far = 0; }
        if (rows - r >= 2) { tn_bf16_tile(acc + r * ldacc, ldacc, x + r * ldx, ldx, w, i, end, far, 2); r += 2; far = 0; }
        if (rows - r >= 1) tn_bf16_tile(acc + r * ldacc, ldacc, x + r * ldx, ldx, w, i, end, far, 1);
    }
}
#endif
