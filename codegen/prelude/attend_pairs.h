// ---- prelude: attention in products of bf16 ----------------------------------------------------------------------------------
// With pages of bf16, on a target that multiplies bf16: queries (scaled) are rounded to bf16, scores are sums of products over dims, weights are
// rounded to bf16 before they are multiplied with values and added up. A chunk has one softmax: all its scores, then its weights, then one sum
// over its positions for each element. Tiles add 32 values of k at a time, vectors 2, whatever the number of rows; what fills a step up has weight 0.
// Zero times infinity is NaN: where a position that a row does not see holds something wild, the row is multiplied with a copy without it.
#if defined(TN_HAVE_TILES) || defined(TN_HAVE_DOT_BF16)
typedef tn_u32 tn_kv_pair __attribute__((aligned(1), may_alias));

// acc[row][16 · vectors] (+)= Σ x[row][pair] · w[pair][column] over the pairs first … last; w's rows are `ldw` pairs. Few rows ask for what lies so at
// `next` while they read w. Tiles want first to be a multiple of 16, room for a multiple of 16 rows, and x filled up with zeros behind an uneven last.
#ifdef TN_HAVE_TILES
enum { TN_PAIRS = 16 };
TN_INLINE void tn_pairs_shape(int rows) { tn_tiles_shape(rows, 64); }   // of x and acc at a time
TN_INLINE void tn_pairs_end(void) { tn_tile_release(); }
// 16 · a rows, 16 · b columns, `steps` of 16 pairs.
TN_INLINE void tn_pairs_square(float *acc, long ldacc, const tn_u16 *x, long ldx, const int *w, long ldw, int steps, const int *next, int accumulate, const int a, const int b) {
    float *lower = acc + 16 * ldacc;
    if (accumulate) {
        tn_tile_load(0, acc, 4 * ldacc);
        if (b > 1) tn_tile_load(1, acc + 16, 4 * ldacc);
        if (a > 1) tn_tile_load(2, lower, 4 * ldacc);
        if (a > 1 && b > 1) tn_tile_load(3, lower + 16, 4 * ldacc);
    } else {
        tn_tile_zero(0);
        if (b > 1) tn_tile_zero(1);
        if (a > 1) tn_tile_zero(2);
        if (a > 1 && b > 1) tn_tile_zero(3);
    }
    TN_NO_UNROLL for (int i = 0; i < steps; i++, x += 32, w += 16 * ldw, next += 16 * ldw) {
        if (a == 1) TN_UNROLL for (int r = 0; r < 16; r++)
            TN_UNROLL for (int v = 0; v < b; v++) __builtin_prefetch(next + r * ldw + 16 * v, 0, 2);
        tn_tile_load(4, x, 2 * ldx);
        if (a > 1) tn_tile_load(5, x + 16 * ldx, 2 * ldx);
        tn_tile_load(6, w, 4 * ldw);
        if (b > 1) tn_tile_load(7, w + 16, 4 * ldw);
        tn_tile_dot_bf16(0, 4, 6);
        if (b > 1) tn_tile_dot_bf16(1, 4, 7);
        if (a > 1) tn_tile_dot_bf16(2, 5, 6);
        if (a > 1 && b > 1) tn_tile_dot_bf16(3, 5, 7);
    }
    tn_tile_store(0, acc, 4 * ldacc);
    if (b > 1) tn_tile_store(1, acc + 16, 4 * ldacc);
    if (a > 1) tn_tile_store(2, lower, 4 * ldacc);
    if (a > 1 && b > 1) tn_tile_store(3, lower + 16, 4 * ldacc);
}
TN_INLINE void tn_pairs_columns(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const int *w, long ldw, int steps, const int *next, int accumulate, const int vectors) {
    for (int r = 0; r < rows; r += 32, acc += 32 * ldacc, x += 32 * ldx)
        TN_UNROLL for (int v = 0; v < vectors; v += 2) {
            if (rows - r > 16) tn_pairs_square(acc + 16 * v, ldacc, x, ldx, w + 16 * v, ldw, steps, next + 16 * v, accumulate, 2, vectors - v > 1 ? 2 : 1);
            else tn_pairs_square(acc + 16 * v, ldacc, x, ldx, w + 16 * v, ldw, steps, next + 16 * v, accumulate, 1, vectors - v > 1 ? 2 : 1);
        }
}
TN_INLINE void tn_kv_pairs(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const int *w, long ldw, int first, int last, int accumulate, const int *next, const int vectors) {
    const int steps = (last - first) / 16, rest = (last - first) % 16;
    x += 2 * first;
    w += first * ldw;
    next += first * ldw;
    if (steps || !rest) tn_pairs_columns(acc, ldacc, x, ldx, rows, w, ldw, steps, next, accumulate, vectors);
    if (!rest) return;
    int tail[16 * 64] __attribute__((aligned(64)));
    for (int i = 0; i < 16; i++)
        TN_UNROLL for (int v = 0; v < vectors; v++)
            tn_store_i(tail + 64 * i + 16 * v, i < rest ? tn_load_i(w + (16 * steps + i) * ldw + 16 * v) : tn_splat_i(0));
    tn_pairs_columns(acc, ldacc, x + 32 * steps, ldx, rows, tail, 64, 1, tail, accumulate || steps, vectors);
}
#else
enum { TN_PAIRS = 1 };
TN_INLINE void tn_pairs_shape(int rows) { (void)rows; }
TN_INLINE void tn_pairs_end(void) {}
TN_INLINE void tn_pairs_rows(float *acc, long ldacc, const tn_u16 *x, long ldx, const int *w, long ldw, int first, int last, int accumulate, const int *next, const int m, const int asks, const int vectors) {
    tn_v s[6][4];
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < vectors; v++) s[r][v] = accumulate ? tn_load(acc + r * ldacc + 16 * v) : tn_splat(0);
    x += 2 * first;
    w += first * ldw;
    next += first * ldw;
    TN_NO_UNROLL for (int i = first; i < last; i++, x += 2, w += ldw, next += ldw) {
        tn_i b[4];
        if (asks) TN_UNROLL for (int v = 0; v < vectors; v += 2) __builtin_prefetch(next + 16 * v, 0, 2);   // its neighbour comes along
        TN_UNROLL for (int v = 0; v < vectors; v++) b[v] = tn_load_i(w + 16 * v);
        TN_UNROLL for (int r = 0; r < m; r++) {
            const tn_i a = tn_splat_i((int)*(const tn_kv_pair *)(x + r * ldx));
            TN_UNROLL for (int v = 0; v < vectors; v++) s[r][v] = tn_dot_bf16(s[r][v], b[v], a);
        }
    }
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < vectors; v++) tn_store(acc + r * ldacc + 16 * v, s[r][v]);
}
TN_INLINE void tn_kv_pairs(float *acc, long ldacc, const tn_u16 *x, long ldx, int rows, const int *w, long ldw, int first, int last, int accumulate, const int *next, const int vectors) {
    for (; rows > 6; rows -= 6, acc += 6 * ldacc, x += 6 * ldx) tn_pairs_rows(acc, ldacc, x, ldx, w, ldw, first, last, accumulate, next, 6, 0, vectors);
    switch (rows) {
    case 6: tn_pairs_rows(acc, ldacc, x, ldx, w, ldw, first, last, accumulate, next, 6, 1, vectors); break;
    case 5: tn_pairs_rows(acc, ldacc, x, ldx, w, ldw, first, last, accumulate, next, 5, 1, vectors); break;
    case 4: tn_pairs_rows(acc, ldacc, x, ldx, w, ldw, first, last, accumulate, next, 4, 1, vectors); break;
    case 3: tn_pairs_rows(acc, ldacc, x, ldx, w, ldw, first, last, accumulate, next, 3, 1, vectors); break;
    case 2: tn_pairs_rows(acc, ldacc, x, ldx, w, ldw, first, last, accumulate, next, 2, 1, vectors); break;
    case 1: tn_pairs_rows(acc, ldacc, x, ldx, w, ldw, first, last, accumulate, next, 1, 1, vectors); break;
    }
}
#endif

// The upper halves of 32 lanes, in order.
typedef tn_u16 tn_h32 __attribute__((vector_size(64)));
typedef tn_u16 tn_h32u __attribute__((vector_size(64), aligned(1), may_alias));
TN_INLINE tn_h32 tn_upper_halves(tn_u a, tn_u b) {
    return __builtin_shufflevector((tn_h32)a, (tn_h32)b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
}
// `heads` queries of n floats each, times scale, as rows of ld: bf16 rounded to nearest even, and zeros. The product has made NaNs quiet: their upper
// halves are NaNs too.
TN_INLINE void tn_pairs_queries(tn_u16 *to, long ld, const float *q, int heads, int n, float scale) {
    for (int h = 0; h < heads; h++, to += ld, q += n)
        for (int i = 0; i < ld; i += 32) {
            tn_u bits[2];
            TN_UNROLL for (int v = 0; v < 2; v++) {
                const int left = n - i - 16 * v;
                bits[v] = (tn_u)tn_round_bf16((left >= 16 ? tn_load(q + i + 16 * v) : left > 0 ? tn_load_n(q + i + 16 * v, left) : tn_splat(0)) * tn_splat(scale));
            }
            const tn_h32 both = tn_upper_halves(bits[0], bits[1]);
            if (i + 32 <= ld) *(tn_h32u *)(to + i) = both;
            else for (int l = 0; l < ld - i; l++) to[i + l] = both[l];
        }
}

// Some rows of a run that meet a chunk together: of its 256 positions the rows see some within lo … hi, which low … high is in whole steps of
// pairs, and all of these within all_lo … all_hi.
typedef struct { int first, last, lo, hi, low, high, all_lo, all_hi, first_block, last_block; } tn_kv_strip;
TN_INLINE int tn_in_chunk(int position, int chunk) { return position < chunk * TN_CHUNK ? 0 : position > (chunk + 1) * TN_CHUNK ? TN_CHUNK : position - chunk * TN_CHUNK; }
TN_NOINLINE tn_kv_strip tn_attend_strip(const tn_args *a, const tn_kv_run *r, const tn_kv_part *part, int strip, int most, int chunk, int causal, int window) {
    tn_kv_strip s = {.first = part->first + strip * most};
    s.last = s.first + most < part->last ? s.first + most : part->last;
    const long t = r->first + s.first, last = r->first + s.last - 1;
    s.lo = tn_in_chunk(tn_seen_from(a, t, window), chunk);
    s.hi = tn_in_chunk(tn_seen_to(a, last, causal, window), chunk);
    s.all_lo = tn_in_chunk(tn_seen_from(a, last, window), chunk);
    s.all_hi = tn_in_chunk(tn_seen_to(a, t, causal, window), chunk);
    s.low = s.lo / (2 * TN_PAIRS) * (2 * TN_PAIRS);
    s.high = (s.hi + 2 * TN_PAIRS - 1) / (2 * TN_PAIRS) * (2 * TN_PAIRS);
    s.first_block = chunk * (TN_CHUNK / 64) + s.lo / 64;
    s.last_block = chunk * (TN_CHUNK / 64) + (s.hi + 63) / 64;
    return s;
}
// The pairs of a block that a strip multiplies; wild: some row must not meet all of them.
typedef struct { int first, last, wild; } tn_kv_block;
TN_NOINLINE int tn_kv_wild(const int *values, int columns, int first, int last) {
    tn_i any = tn_splat_i(0);
    for (int c = 0; c < columns; c += 64, values += 32 * 64) {
        const long width = columns - c < 64 ? columns - c : 64;
        for (long i = first * width; i < last * width; i += 16) {
            const tn_i d = tn_load_i(values + i), low = d & 0x7f80, high = d & 0x7f800000;
            any |= (low == tn_splat_i(0x7f80)) | (high == tn_splat_i(0x7f800000));
        }
    }
    int wild = 0;
    for (int l = 0; l < 16; l++) wild |= any[l];
    return wild;
}
TN_INLINE tn_kv_block tn_attend_pairs(const tn_kv_strip *s, int block, const void *values, int columns) {
    const int from = block % (TN_CHUNK / 64) * 64, begin = s->low - from, end = s->high - from, all_lo = s->all_lo - from, all_hi = s->all_hi - from;
    tn_kv_block b = {.first = begin < 0 ? 0 : begin / 2, .last = end > 64 ? 32 : end / 2};
    int seen_first = all_lo < 0 ? 0 : (all_lo + 1) / 2, seen_last = all_hi > 64 ? 32 : all_hi / 2;   // pairs that every row sees
    if (seen_first >= seen_last || seen_first >= b.last || seen_last <= b.first) seen_first = seen_last = b.last;
    b.wild = (seen_first > b.first && tn_kv_wild((const int *)values, columns, b.first, seen_first)) ||
             (seen_last < b.last && tn_kv_wild((const int *)values, columns, seen_last, b.last));
    return b;
}
// What row t sees of these pairs of a block's values, and zeros.
TN_NOINLINE const tn_u16 *tn_kv_tame(tn_u16 *to, const tn_u16 *values, int columns, tn_kv_block b, int from, int end) {
    for (int p = 2 * b.first; p < 2 * b.last; p++)
        for (int c = 0; c < columns; c++) {
            const long panel = c / 64 * 64, width = columns - panel < 64 ? columns - panel : 64, at = (32 * panel + (p >> 1) * width + c % 64) * 2 + (p & 1);
            to[at] = p >= from && p < end ? values[at] : 0;
        }
    return to;
}

// e^z of z ≤ 0 to 1e-4, a twentieth of what rounding to bf16 costs: 2^f by a polynomial of degree 3 that is 1 at 0. Below e^-87.6: 0.
TN_INLINE tn_v tn_exp_weight(tn_v z) {
    const tn_v log2e = tn_splat(1.44269504088896341f), magic = tn_splat(12582912.0f), x = tn_max(tn_splat(-88.1f), z);
    const tn_v t = tn_fma16(x, log2e, magic), f = tn_fma16(x, log2e, magic - t);
    const tn_v p = tn_fma16(tn_fma16(tn_fma16(tn_splat(0.05500861f), f, tn_splat(0.24221101f)), f, tn_splat(0.69328297f)), f, tn_splat(1.0f));
    return p * tn_float((tn_i)(((tn_u)t << 23) + 0x3f800000u));
}
TN_INLINE tn_v tn_seen_scores(const float *scores, int i, int from, int to) {
    const tn_v s = tn_load(scores + i);
    if (i >= from && i + 16 <= to) return s;
    return tn_select((tn_lanes(i) >= tn_splat_i(from)) & (tn_lanes(i) < tn_splat_i(to)), s, tn_splat(-__builtin_inff()));
}
// Scores of a chunk, of which a row sees from … to, become weights for positions low … high. Returns their sum.
TN_INLINE float tn_softmax_pairs(const float *scores, tn_u16 *weights, int from, int to, int low, int high, float *top) {
    tn_v most[2] = {tn_splat(-1e30f), tn_splat(-1e30f)}, total[2] = {tn_splat(0), tn_splat(0)};
    const int first = from & ~31;
    for (int i = first; i < to; i += 32)
        TN_UNROLL for (int v = 0; v < 2; v++) most[v] = tn_max(tn_seen_scores(scores, i + 16 * v, from, to), most[v]);
    *top = tn_max16(tn_max(most[0], most[1]));
    const tn_v now = tn_splat(*top);
    for (int i = low & ~31; i < first; i += 32) *(tn_h32u *)(weights + i) = (tn_h32){0};
    int i = first;
    for (; i < to; i += 32) {
        tn_u bits[2];
        TN_UNROLL for (int v = 0; v < 2; v++) {
            bits[v] = (tn_u)tn_exp_weight(tn_seen_scores(scores, i + 16 * v, from, to) - now) + 0x8000u;
            total[v] += (tn_v)(bits[v] & 0xffff0000u);
        }
        *(tn_h32u *)(weights + i) = tn_upper_halves(bits[0], bits[1]);
    }
    for (; i < high; i += 32) *(tn_h32u *)(weights + i) = (tn_h32){0};
    return tn_sum16(total[0] + total[1]);
}
#endif
