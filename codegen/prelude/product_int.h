// ---- prelude: products of int8 codes ------------------------------------------------------------------------------------------
// A panel's codes are unsigned: in a group of k, [k/4][64][4] bytes; 4-bit codes [k/8][64][4], the first four k in the low halves;
// of 6 and 5 bits the low four so, 16 or 32 of k at a time, and behind them their other bits, of each four k a bit higher. One 64-byte
// vector then holds four consecutive k of 16 outputs, which a dot product with four codes of x, the same for all outputs, adds to 16 int32.
// What the codes are shifted by comes off before: a sum starts at -zero · Σ x. Sums over a group are exact, and what scales a group is applied
// in order of k, so any division into rows, columns and blocks of k gives the same bits on every target.
//
// The target's part is two functions and a constant:
//   tn_dot_u7s8(acc, w, x)   w: 64 codes of 0 … 127; x: four codes of -127 … 127, repeated: acc[n] + Σ w[n][j] · x[j]
//   tn_dot_u8s8(acc, w, x)   w: 64 codes of 0 … 255, of which TN_DOT8_TAKEN are taken off on the way (128 or 0)
#if defined(__ARM_FEATURE_DOTPROD) || defined(__ARM_FEATURE_MATMUL_INT8)
// Four quarters of 16 lanes. Assembly, since neither header nor builtin is the same for all compilers.
typedef int tn_q4 __attribute__((vector_size(16)));
typedef union { tn_i i; tn_q4 q[4]; } tn_quarters;
#define TN_EACH_QUARTER(code, s, w, x) for (int q = 0; q < 4; q++) __asm__(code " %0.4s, %1.16b, %2.16b" : "+w"(s.q[q]) : "w"(w.q[q]), "w"(x.q[q]))
TN_INLINE tn_i tn_dot_u7s8(tn_i acc, tn_i w, tn_i x) {
    tn_quarters s = {acc}, a = {w}, b = {x};
    TN_EACH_QUARTER("sdot", s, a, b);
    return s.i;
}
#if defined(__ARM_FEATURE_MATMUL_INT8)
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) {
    tn_quarters s = {acc}, a = {w}, b = {x};
    TN_EACH_QUARTER("usdot", s, a, b);
    return s.i;
}
#else
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) { return tn_dot_u7s8(acc, w ^ (int)0x80808080u, x); }
#define TN_DOT8_TAKEN 128
#endif
#define TN_HAVE_DOT_U7S8 1
#define TN_HAVE_DOT_U8S8 1
#endif
#ifndef TN_HAVE_DOT_U8S8
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) {
    acc = tn_add_i(acc, tn_mul_i(w & 255, x << 24 >> 24));
    acc = tn_add_i(acc, tn_mul_i(w >> 8 & 255, x << 16 >> 24));
    acc = tn_add_i(acc, tn_mul_i(w >> 16 & 255, x << 8 >> 24));
    return tn_add_i(acc, tn_mul_i(w >> 24 & 255, x >> 24));
}
#endif
#ifndef TN_HAVE_DOT_U7S8
TN_INLINE tn_i tn_dot_u7s8(tn_i acc, tn_i w, tn_i x) { return tn_dot_u8s8(acc, w, x); }
#endif
#ifndef TN_DOT8_TAKEN
#define TN_DOT8_TAKEN 0
#endif
#define TN_KEEP_IN_MEMORY __asm__ volatile("" ::: "memory")
// group, xgroup: 0 for all of k; half: scales are binary16; sparse: where reading the panel stands (product_sparse.h), NULL when it lies dense
typedef struct { int bits, zero, group, half, minimum, xgroup; tn_sparse *sparse; } tn_codes;
typedef struct { const signed char *x; const float *scale; const int *sum; long ldx, ld_scale, ld_sum; int parts; } tn_code_rows;   // parts: so many sums make a group's

TN_INLINE int tn_codes_group(tn_codes f) { return f.group && (!f.xgroup || f.group < f.xgroup) ? f.group : f.xgroup; }
TN_INLINE int tn_codes_head(tn_codes f) { return (f.half ? 128 : 256) << f.minimum; }
TN_INLINE tn_v tn_codes_scale(tn_codes f, const tn_u8 *head, int v) { return f.half ? tn_f16_float(head + 32 * v) : tn_f32_float(head + 64 * v); }
TN_INLINE tn_v tn_codes_minimum(tn_codes f, const tn_u8 *head, int v) { return tn_codes_scale(f, head + (f.half ? 128 : 256), v); }
TN_INLINE int tn_codes_unit(tn_codes f) { return f.bits == 8 ? 4 : f.bits == 6 ? 16 : f.bits == 5 ? 32 : 8; }   // so many of k lie together
// The q-th four of k of a unit, 16 outputs.
TN_INLINE tn_i tn_codes_quad(tn_codes f, const tn_u8 *c, const int q) {
    const tn_i b = tn_load_i((const int *)(c + q / 2 * 256)), low = (q & 1 ? b >> 4 : b) & 0x0f0f0f0f;
    const int up = f.bits == 6 ? 4 - 2 * q : 4 - q;
    if (f.bits == 8 || f.bits == 4) return f.bits == 8 ? b : low;
    const tn_i high = tn_load_i((const int *)(c + tn_codes_unit(f) * 32));
    return low | ((up > 0 ? high << up : high >> -up) & (f.bits == 6 ? 0x30303030 : 0x10101010));
}
// The same of a panel that may be sparse: then all quads are to be read in their order, and `c` says nothing.
TN_INLINE tn_i tn_codes_read(tn_codes f, const tn_u8 *c, const int q) { return f.sparse ? tn_sparse_next8(f.sparse, f.zero) : tn_codes_quad(f, c, q); }
TN_INLINE int tn_codes_total(const tn_code_rows *x, int row, int group) {   // of a row's codes in a group
    const int *sum = x->sum + row * x->ld_sum + (long)group * x->parts;
    int total = *sum;
    TN_NO_UNROLL for (int p = 1; p < x->parts; p++) total += sum[p];
    return total;
}
// A row of x's codes at the blocks of a panel (product_sparse.h), with what its groups are scaled by and the totals of groups that are summed.
TN_INLINE void tn_codes_blocks(tn_codes f, signed char *codes, float *scales, int *sums, const tn_code_rows *x, int row, const tn_u8 *w, int count, const int block) {
    const int g = tn_codes_group(f), per_scale = f.xgroup ? block / f.xgroup : 0, per_sum = g ? block / g : 0, *at = (const int *)(const void *)w;
    const float *scale = x->scale + row * x->ld_scale;
    tn_blocks_of(codes, x->x + row * x->ldx, w, count, block);
    if (!f.xgroup) *scales = *scale;
    if (!g) {
        int total = 0;
        for (long i = 0; i < (long)count * block; i++) total += codes[i];
        *sums = total;
    }
    TN_NO_UNROLL for (int i = 0; i < count; i++) {
        for (int j = 0; j < per_scale; j++) *scales++ = scale[(long)at[i] * per_scale + j];
        for (int j = 0; j < per_sum; j++) *sums++ = tn_codes_total(x, row, at[i] * per_sum + j);
    }
}
TN_INLINE int tn_codes_zero(tn_codes f) { return f.zero == 128 ? 128 - TN_DOT8_TAKEN : f.zero; }   // what is still to come off a code
TN_INLINE tn_i tn_codes_start(tn_codes f, const tn_code_rows *x, int row, int group) {
    const int zero = tn_codes_zero(f);
    return zero ? tn_splat_i(-zero * tn_codes_total(x, row, group)) : tn_splat_i(0);
}
TN_INLINE tn_i tn_codes_dot(tn_codes f, tn_i acc, tn_i w, tn_i x) { return f.zero == 128 ? tn_dot_u8s8(acc, w, x) : tn_dot_u7s8(acc, w, x); }
typedef int tn_int1 __attribute__((aligned(1), may_alias));
TN_INLINE tn_i tn_four(const signed char *x) { return tn_splat_i(*(const tn_int1 *)x); }

// s += the dot products of n values of k of m rows; `ahead`: how far ahead of the codes memory is asked for.
TN_INLINE void tn_codes_sum(tn_codes f, tn_i s[6][4], const signed char *x, long ldx, const tn_u8 *c, int n, long ahead, const int m, const int vectors) {
    const int step = tn_codes_unit(f), bytes = 8 * step * f.bits;
    TN_NO_UNROLL for (int i = 0; i < n; i += step, c += bytes, x += step) {
        TN_UNROLL for (int high = 0; high < step / 4; high++) {
            tn_i b[4];
            if (f.sparse) tn_sparse_ask(f.sparse, ahead);
            TN_UNROLL for (int block = 0; block < bytes / 256; block++)   // spread over the unit
                if (block * (step / 4) / (bytes / 256) == high && !f.sparse)
                    TN_UNROLL for (int v = 0; v < vectors; v++) __builtin_prefetch(c + ahead + 256 * block + 64 * v, 0, 2);
            if (high && m * vectors > 16) TN_KEEP_IN_MEMORY;   // the same vectors are loaded again: with six rows there is no register left to keep them
            TN_UNROLL for (int v = 0; v < vectors; v++) b[v] = tn_codes_read(f, c + 64 * v, high);
            TN_UNROLL for (int r = 0; r < m; r++) {
                const tn_i a = tn_four(x + r * ldx + 4 * high);
                TN_UNROLL for (int v = 0; v < vectors; v++) s[r][v] = tn_codes_dot(f, s[r][v], b[v], a);
            }
        }
    }
}
// What a group's sums add to acc: scaled by what changes along k.
TN_INLINE void tn_codes_add(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int r0, int i, const tn_u8 *head, tn_i s[6][4], const int m, const int v0, const int vectors) {
    const int g = tn_codes_group(f);
    tn_v minimum_by[6], scale_by[6];
    TN_KEEP_IN_MEMORY;   // acc, between groups: registers hold the integer sums
    TN_UNROLL for (int r = 0; r < m; r++) {
        float by = f.xgroup ? x->scale[(r0 + r) * x->ld_scale + i / f.xgroup] : 1;
        scale_by[r] = tn_splat(by);
        if (f.minimum) minimum_by[r] = tn_splat(f.xgroup ? (float)tn_codes_total(x, r0 + r, i / g) * by : (float)tn_codes_total(x, r0 + r, i / g));
    }
    TN_UNROLL for (int v = 0; v < vectors; v++) {
        tn_v scale = f.group ? tn_codes_scale(f, head, v0 + v) : tn_splat(1), minimum = f.minimum ? tn_codes_minimum(f, head, v0 + v) : tn_splat(0);
        TN_UNROLL for (int r = 0; r < m; r++) {
            float *to = acc + r * ldacc + 16 * v;
            tn_v sum = tn_from_int(s[r][v]), y = tn_load(to);
            if (!f.group) y = tn_fma16(sum, scale_by[r], y);
            else y = tn_fma16(f.xgroup ? sum * scale_by[r] : sum, scale, y);
            if (f.minimum) y = tn_fma16(minimum_by[r], minimum, y);
            tn_store(to, y);
        }
    }
}
// Is there anything constant along k? It is applied at the end: to 16 outputs of a row.
TN_INLINE int tn_codes_ends(tn_codes f) { return !f.group || !f.xgroup; }
TN_INLINE tn_v tn_codes_end(tn_codes f, tn_v y, const tn_code_rows *x, int row, const tn_u8 *w, int v) {
    if (!f.xgroup) y = y * tn_splat(x->scale[row * x->ld_scale]);
    return f.group ? y : y * tn_codes_scale(f, w, v);
}
// acc += rows r0 … r0 + m - 1, values first … last - 1 of k, the last of all if `end`. Without groups acc holds int32 sums until the end. `open`: the codes
// of these values, opened to bytes before; or NULL.
TN_INLINE void tn_codes_tile(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int r0, const tn_u8 *w, const tn_u8 *open, int first, int last, int end, long ahead, const int m, const int v0, const int vectors) {
    const int head = tn_codes_head(f), g = tn_codes_group(f), row = 8 * f.bits;   // bytes of one k
    tn_codes o = f;
    if (open) o.bits = 8, o.sparse = 0;
    acc += r0 * ldacc + 16 * v0;
    if (!g) {
        tn_i s[6][4];
        TN_UNROLL for (int r = 0; r < m; r++)
            TN_UNROLL for (int v = 0; v < vectors; v++) s[r][v] = first ? tn_load_i((const int *)(const void *)(acc + r * ldacc + 16 * v)) : tn_codes_start(f, x, r0 + r, 0);
        if (open) tn_codes_sum(o, s, x->x + r0 * x->ldx + first, x->ldx, open + 64 * v0, last - first, 0, m, vectors);
        else tn_codes_sum(f, s, x->x + r0 * x->ldx + first, x->ldx, w + head + (long)first * row + 64 * v0, last - first, ahead, m, vectors);
        TN_UNROLL for (int r = 0; r < m; r++)
            TN_UNROLL for (int v = 0; v < vectors; v++) {
                if (end) tn_store(acc + r * ldacc + 16 * v, tn_codes_end(f, tn_from_int(s[r][v]), x, r0 + r, w, v0 + v));
                else tn_store_i((int *)(void *)(acc + r * ldacc + 16 * v), s[r][v]);
            }
        return;
    }
    TN_NO_UNROLL for (int i = first; i < last; i += g) {
        const tn_u8 *h = f.group ? w + (long)(i / f.group) * (head + f.group * row) : w, *c = h + head + (f.group ? i % f.group : i) * row;
        tn_i s[6][4];
        if (!open && !v0 && f.group && (g == f.group || i % f.group == 0))
            TN_UNROLL for (int j = 0; j < head; j += 64) __builtin_prefetch(h + ahead + j, 0, 2);
        TN_UNROLL for (int r = 0; r < m; r++)
            TN_UNROLL for (int v = 0; v < vectors; v++) s[r][v] = tn_codes_start(f, x, r0 + r, i / g);
        if (open) tn_codes_sum(o, s, x->x + r0 * x->ldx + i, x->ldx, open + (i - first) * 64 + 64 * v0, g, 0, m, vectors);
        else tn_codes_sum(f, s, x->x + r0 * x->ldx + i, x->ldx, c + 64 * v0, g, ahead, m, vectors);
        tn_codes_add(f, acc, ldacc, x, r0, i, h, s, m, v0, vectors);
    }
    if (end && tn_codes_ends(f))
        TN_UNROLL for (int r = 0; r < m; r++)
            TN_UNROLL for (int v = 0; v < vectors; v++) tn_store(acc + r * ldacc + 16 * v, tn_codes_end(f, tn_load(acc + r * ldacc + 16 * v), x, r0 + r, w, v0 + v));
}
#if defined(__AVX512F__)
// The same with groups on 32 registers of 64 bytes: half as many outputs at a time, whose floats stay in registers for a block of k. What rows alone decide
// for a group is made before: what its sums start at, and what minimums are multiplied with.
#define TN_FLOATS_STAY 1
enum { TN_BLOCK_GROUPS = 64 };   // in a block of k, at most
typedef struct { int start[6][TN_BLOCK_GROUPS]; float minimum_by[6][TN_BLOCK_GROUPS]; } tn_code_totals;
TN_INLINE void tn_codes_totals(tn_codes f, tn_code_totals *t, const tn_code_rows *x, int r0, int first, int last, const int m) {
    const int g = tn_codes_group(f), groups = (last - first) / g, zero = tn_codes_zero(f);
    if (!zero && !f.minimum) return;
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_NO_UNROLL for (int n = 0; n < groups; n++) {
            const int total = tn_codes_total(x, r0 + r, first / g + n);
            t->start[r][n] = -zero * total;
            if (f.minimum) t->minimum_by[r][n] = f.xgroup ? (float)total * x->scale[(r0 + r) * x->ld_scale + (first + n * g) / f.xgroup] : (float)total;
        }
}
TN_INLINE void tn_codes_groups(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, const tn_code_totals *t, int r0, const tn_u8 *w, const tn_u8 *open, int first, int last, int end, long ahead, const int m, const int v0, const int vectors) {
    const int head = tn_codes_head(f), g = tn_codes_group(f), row = 8 * f.bits;
    tn_codes o = f;
    tn_v y[6][4];
    if (open) o.bits = 8, o.sparse = 0;
    acc += r0 * ldacc + 16 * v0;
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < vectors; v++) y[r][v] = first ? tn_load(acc + r * ldacc + 16 * v) : tn_splat(0);
    TN_NO_UNROLL for (int i = first, n = 0; i < last; i += g, n++) {
        const tn_u8 *h = f.group ? w + (long)(i / f.group) * (head + f.group * row) : w, *c = h + head + (f.group ? i % f.group : i) * row;
        const float *scales = x->scale + r0 * x->ld_scale + (f.xgroup ? i / f.xgroup : 0);
        tn_i s[6][4];
        if (!open && !v0 && f.group && (g == f.group || i % f.group == 0))
            TN_UNROLL for (int j = 0; j < head; j += 64) __builtin_prefetch(h + ahead + j, 0, 2);
        TN_UNROLL for (int r = 0; r < m; r++)
            TN_UNROLL for (int v = 0; v < vectors; v++) s[r][v] = tn_splat_i(tn_codes_zero(f) ? t->start[r][n] : 0);
        if (open) tn_codes_sum(o, s, x->x + r0 * x->ldx + i, x->ldx, open + (i - first) * 64 + 64 * v0, g, 0, m, vectors);
        else tn_codes_sum(f, s, x->x + r0 * x->ldx + i, x->ldx, c + 64 * v0, g, ahead, m, vectors);
        TN_UNROLL for (int v = 0; v < vectors; v++) {
            const tn_v scale = f.group ? tn_codes_scale(f, h, v0 + v) : tn_splat(1), minimum = f.minimum ? tn_codes_minimum(f, h, v0 + v) : tn_splat(0);
            TN_UNROLL for (int r = 0; r < m; r++) {
                const tn_v sum = tn_from_int(s[r][v]), by = tn_splat(f.xgroup ? scales[r * x->ld_scale] : 1);
                y[r][v] = f.group ? tn_fma16(f.xgroup ? sum * by : sum, scale, y[r][v]) : tn_fma16(sum, by, y[r][v]);
                if (f.minimum) y[r][v] = tn_fma16(tn_splat(t->minimum_by[r][n]), minimum, y[r][v]);
            }
        }
    }
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < vectors; v++)
            tn_store(acc + r * ldacc + 16 * v, end && tn_codes_ends(f) ? tn_codes_end(f, y[r][v], x, r0 + r, w, v0 + v) : y[r][v]);
}
#endif
TN_INLINE void tn_codes_columns(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int r0, const tn_u8 *w, const tn_u8 *open, int first, int last, int end, long ahead, const int m) {
#ifdef TN_FLOATS_STAY
    if (tn_codes_group(f)) {
        tn_code_totals t;
        tn_codes_totals(f, &t, x, r0, first, last, m);
        const int together = m > 2 && !(f.sparse && !open) ? 2 : 4;   // what is read in order is read once: better some floats in memory
        TN_UNROLL for (int v = 0; v < 4; v += together) tn_codes_groups(f, acc, ldacc, x, &t, r0, w, open, first, last, end, ahead, m, v, together);
        return;
    }
#endif
    TN_UNROLL for (int v = 0; v < 4; v += TN_TOGETHER(m)) tn_codes_tile(f, acc, ldacc, x, r0, w, open, first, last, end, ahead, m, v, TN_TOGETHER(m));
}
// Codes of less than a byte, of values first … last - 1 of k, as bytes: for many rows, once.
TN_INLINE void tn_codes_open(tn_codes f, tn_u8 *to, const tn_u8 *w, int first, int last, long ahead) {
    const int head = tn_codes_head(f), step = tn_codes_unit(f), bytes = 8 * step * f.bits;
    TN_NO_UNROLL for (int i = first; i < last; i += step, to += 64 * step) {
        const tn_u8 *c = w + (f.group ? i / f.group + 1 : 1) * head + (long)i * 8 * f.bits;
        if (f.sparse) tn_sparse_ask(f.sparse, ahead);
        TN_UNROLL for (int b = 0; b < bytes && !f.sparse; b += 64) __builtin_prefetch(c + ahead + b, 0, 2);
        TN_UNROLL for (int v = 0; v < 4; v++)
            TN_UNROLL for (int q = 0; q < step / 4; q++) tn_store_i((int *)(void *)(to + 256 * q + 64 * v), tn_codes_read(f, c + 64 * v, q));
    }
}
TN_INLINE void tn_codes_tiles(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int rows, const tn_u8 *w, const tn_u8 *open, int first, int last, int end, long ahead) {
    int r = 0;
#ifdef TN_HAVE_EXPAND
    if (f.sparse && !open) {   // all rows at once
        switch (rows) {
        case 4: tn_codes_columns(f, acc, ldacc, x, 0, w, open, first, last, end, ahead, 4); break;
        case 3: tn_codes_columns(f, acc, ldacc, x, 0, w, open, first, last, end, ahead, 3); break;
        case 2: tn_codes_columns(f, acc, ldacc, x, 0, w, open, first, last, end, ahead, 2); break;
        case 1: tn_codes_columns(f, acc, ldacc, x, 0, w, open, first, last, end, ahead, 1); break;
        }
        return;
    }
#endif
#ifdef TN_HAVE_DOT_U8S8   // else sixteen lanes are many registers: a row at a time
    for (; rows - r >= 6; r += 6, ahead = 0) tn_codes_columns(f, acc, ldacc, x, r, w, open, first, last, end, ahead, 6);
    if (rows - r >= 4) { tn_codes_columns(f, acc, ldacc, x, r, w, open, first, last, end, ahead, 4); r += 4; ahead = 0; }
    if (rows - r >= 2) { tn_codes_columns(f, acc, ldacc, x, r, w, open, first, last, end, ahead, 2); r += 2; ahead = 0; }
#endif
    TN_NO_UNROLL for (; r < rows; r++, ahead = 0) tn_codes_columns(f, acc, ldacc, x, r, w, open, first, last, end, ahead, 1);
}
TN_INLINE void tn_codes_finish(tn_codes f, float *acc, long ldacc, const tn_code_rows *x, int rows, const tn_u8 *w) {   // of sums that tiles made
    if (!tn_codes_ends(f)) return;
    TN_NO_UNROLL for (int r = 0; r < rows; r++)
        TN_UNROLL for (int v = 0; v < 4; v++) {
            float *to = acc + r * ldacc + 16 * v;
            tn_store(to, tn_codes_end(f, tn_codes_group(f) ? tn_load(to) : tn_from_int(tn_load_i((const int *)(const void *)to)), x, r, w, v));
        }
}
// Are codes of less than a byte opened beforehand for so many rows? Not where logic runs beside dot products (Zen 4): opening them on the way is free there.
#if defined(__AVX512BF16__) && !defined(__AMX_INT8__)
#define TN_OPENS(rows) 0
#else
#define TN_OPENS(rows) ((rows) >= 24)
#endif
// A sparse panel is opened for more than four rows, which go through all of k side by side; where bytes do not expand in registers, for any.
#ifdef TN_HAVE_EXPAND
#define TN_OPENS_SPARSE(rows) ((rows) > 4)
#else
#define TN_OPENS_SPARSE(rows) 1
#endif
// acc[row][output] of `rows` rows with one panel. A block of k at a time, so that its weights stay in a near cache for all rows.
TN_INLINE void tn_codes_product(tn_codes f, float *acc, long ldacc, tn_code_rows x, int rows, const tn_u8 *w, int k, long ahead) {
    enum { K_BLOCK = 1024, K_OPEN = 256 };
    const int g = tn_codes_group(f), opens = f.sparse ? TN_OPENS_SPARSE(rows) : f.bits < 8 && TN_OPENS(rows) && g <= K_OPEN, most = opens ? K_OPEN : K_BLOCK;
#ifdef TN_FLOATS_STAY
    const int groups = g && most / g > TN_BLOCK_GROUPS ? TN_BLOCK_GROUPS : g && g < most ? most / g : 1, block = g ? groups * g : most;
#else
    const int block = !g ? most : g < most ? most / g * g : g;
    if (g)
        TN_NO_UNROLL for (int r = 0; r < rows; r++)
            TN_UNROLL for (int v = 0; v < 4; v++) tn_store(acc + r * ldacc + 16 * v, tn_splat(0));
#endif
    tn_u8 open[64 * K_OPEN] __attribute__((aligned(64)));
    TN_NO_UNROLL for (int i = 0; i < k; i += block) {
        const int end = k - i <= block, last = end ? k : i + block;
        if (opens) {
            tn_codes_open(f, open, w, i, last, ahead);
            tn_codes_tiles(f, acc, ldacc, &x, rows, w, open, i, last, end, ahead);
        } else tn_codes_tiles(f, acc, ldacc, &x, rows, w, 0, i, last, end, ahead);
    }
}
