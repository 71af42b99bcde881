// ---- prelude: attention over KV pages --------------------------------------------------------------------------------------
// A page is a chunk of 256 positions in four blocks. It holds for each kv head the blocks' keys transposed, [dims][64] each, then the blocks' values, in
// panels of 64 columns, [64][64] each (the last as wide as v_dims, rounded up to 16, has left), in their storage; int8 codes are followed by each block's
// 64 scales of keys and 64 of values. So a chunk's keys, and its values, are read from end to end in order. bf16 lies in pairs, as its dot products want
// it: keys in pairs along dims, [dims rounded up to 2, by 2][64][2], values in pairs along positions, [32][64][2]. Rows of a step are written by several
// threads: who writes a position touches its own 16 bits of a pair of values and no others. Readers take care of what no row sees.
// `storage` is one of these; as a constant it leaves one branch.
enum { TN_KV_F32, TN_KV_F16, TN_KV_BF16, TN_KV_I8 };
enum { TN_SPLIT_ROWS = 16 };   // the most rows of a step whose chunks are tasks of their own

TN_INLINE int tn_kv_even(int n, const int storage) { return storage == TN_KV_BF16 ? (n + 1) & ~1 : n; }
// Row i, columns column … column + 15, of keys or values whose rows are `ld` elements; `p`: where row 0 begins.
TN_INLINE tn_v tn_kv_load(const void *p, long i, long ld, long column, const int storage) {
    if (storage == TN_KV_BF16) {
        const tn_i pair = tn_load_i((const int *)p + (i >> 1) * ld + column);
        return tn_float(i & 1 ? pair & (int)0xffff0000u : pair << 16);
    }
    i = i * ld + column;
    switch (storage) {
    case TN_KV_F16: return tn_f16_float((const tn_u8 *)p + 2 * i);
    case TN_KV_I8: return tn_i8_float((const tn_u8 *)p + i);
    default: return tn_load((const float *)p + i);
    }
}
// Bits of 16-bit floats, rounded to nearest even.
TN_INLINE tn_u tn_f16_bits(tn_v v) {
    const tn_u rounded = (tn_u)tn_round_f16(v), a = rounded & 0x7fffffff;
    const tn_i small = a < 0x38800000u, special = a >= 0x7f800000u;
    tn_u h = (a >> 13) - 0x1c000u;
    h = (tn_u)tn_select_i(small, tn_to_int(tn_select(small, (tn_v)a, tn_splat(0)) * tn_splat(0x1p24f)), (tn_i)h);
    h = (tn_u)tn_select_i(special, (tn_i)(0x7c00u | ((tn_u)(a > 0x7f800000u) & 0x200u)), (tn_i)h);
    return h | ((rounded >> 16) & 0x8000u);
}
TN_INLINE tn_u tn_bf16_bits(tn_v v) { return ((tn_u)tn_round_bf16(v) >> 16) | ((tn_u)(v != v) & 0x40u); }
TN_INLINE void tn_kv_floats(float *to, const void *from, int rows, int columns, const int storage) {
    for (int i = 0; i < rows; i++)
        for (int c = 0; c < columns; c += 16) tn_store(to + i * columns + c, tn_kv_load(from, i, columns, c, storage));
}
// Blocks of values in panels.
TN_INLINE void tn_kv_float_values(float *to, const void *from, int columns, const int storage) {
    const long size = storage == TN_KV_F32 ? 4 : storage == TN_KV_I8 ? 1 : 2;
    for (int c = 0; c < columns; c += 64) tn_kv_floats(to + 64 * c, (const tn_u8 *)from + 64 * size * c, 64, columns - c < 64 ? columns - c : 64, storage);
}
TN_INLINE void tn_ask(const void *from, long bytes) {
    for (long i = 0; i < bytes; i += 64) __builtin_prefetch((const tn_u8 *)from + i, 0, 2);
}

// acc[row][column] (+)= Σ_k x[row][k] · w[first + k][column], one chain of fused multiply-adds over k in order for each element. While the last rows
// read w they ask for what lies so at `next`.
TN_INLINE void tn_kv_ask(const void *next, long i, long ld, const int storage, const int vectors) {
    const long size = storage == TN_KV_F32 ? 4 : storage == TN_KV_I8 ? 1 : 2;
    const tn_u8 *const row = (const tn_u8 *)next + (storage == TN_KV_BF16 ? (i >> 1) * ld * 4 + (i & 1) * 32 * vectors : i * ld * size);   // half a row of pairs
    TN_UNROLL for (int at = 0; at < 16 * size * vectors; at += 64) __builtin_prefetch(row + at, 0, 2);
}
TN_INLINE void tn_kv_product_rows(float *acc, long ldacc, const float *x, long ldx, const void *w, long ldw, int first, int k, const void *next, int accumulate, const int m, const int asks, const int storage, const int vectors) {
    tn_v sum[6][4];
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = accumulate ? tn_load(acc + r * ldacc + 16 * v) : tn_splat(0);
    TN_NO_UNROLL for (int i = 0; i < k; i++) {
        tn_v b[4];
        if (asks) tn_kv_ask(next, first + i, ldw, storage, vectors);
        TN_UNROLL for (int v = 0; v < vectors; v++) b[v] = tn_kv_load(w, first + i, ldw, 16 * v, storage);
        TN_UNROLL for (int r = 0; r < m; r++) {
            tn_v a = tn_splat(x[r * ldx + i]);
            TN_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = tn_fma16(a, b[v], sum[r][v]);
        }
    }
    TN_UNROLL for (int r = 0; r < m; r++)
        TN_UNROLL for (int v = 0; v < vectors; v++) tn_store(acc + r * ldacc + 16 * v, sum[r][v]);
}
TN_INLINE void tn_kv_product(float *acc, long ldacc, const float *x, long ldx, int rows, const void *w, long ldw, int first, int k, const void *next, int accumulate, const int storage, const int vectors) {
    if (k <= 0 && accumulate) return;
    for (; rows > 6; rows -= 6, acc += 6 * ldacc, x += 6 * ldx) tn_kv_product_rows(acc, ldacc, x, ldx, w, ldw, first, k, next, accumulate, 6, 0, storage, vectors);
    switch (rows) {
    case 6: tn_kv_product_rows(acc, ldacc, x, ldx, w, ldw, first, k, next, accumulate, 6, 1, storage, vectors); break;
    case 5: tn_kv_product_rows(acc, ldacc, x, ldx, w, ldw, first, k, next, accumulate, 5, 1, storage, vectors); break;
    case 4: tn_kv_product_rows(acc, ldacc, x, ldx, w, ldw, first, k, next, accumulate, 4, 1, storage, vectors); break;
    case 3: tn_kv_product_rows(acc, ldacc, x, ldx, w, ldw, first, k, next, accumulate, 3, 1, storage, vectors); break;
    case 2: tn_kv_product_rows(acc, ldacc, x, ldx, w, ldw, first, k, next, accumulate, 2, 1, storage, vectors); break;
    case 1: tn_kv_product_rows(acc, ldacc, x, ldx, w, ldw, first, k, next, accumulate, 1, 1, storage, vectors); break;
    }
}

// ---- what a row sees, and who does it ----
TN_INLINE int tn_seen_from(const tn_args *a, long t, const int window) { return window && a->position[t] >= window ? a->position[t] - window + 1 : 0; }
TN_INLINE int tn_seen_to(const tn_args *a, long t, const int causal, const int window) {
    const int own = a->position[t];
    if (causal) return own + 1;
    const int length = a->position[a->step->first[a->sequence[t] + 1] - 1] + 1;
    return window && window < length - own ? own + window : length;
}
TN_INLINE int tn_chunks(const tn_args *a, long t, const int causal, const int window) {
    return (tn_seen_to(a, t, causal, window) - 1) / TN_CHUNK - tn_seen_from(a, t, window) / TN_CHUNK + 1;
}
// Over 1: every chunk of a row is a task of its own. Only where rows are few, and `slots` partial results a head hold them.
TN_NOINLINE int tn_attend_parts(const tn_args *a, int slots, int causal, int window) {
    int parts = 1;
    if (a->rows > TN_SPLIT_ROWS) return 1;
    for (int t = 0; t < a->rows; t++) {
        const int chunks = tn_chunks(a, t, causal, window);
        if (chunks > parts) parts = chunks;
    }
    return (long)parts * a->rows <= slots ? parts : 1;
}
TN_INLINE int tn_attend_rows(int rows, int most) { return rows / 16 < 1 ? 1 : rows / 16 < most ? rows / 16 : most; }   // of a task
TN_INLINE long tn_attend_tasks(const tn_args *a, int heads, int most, int slots, int causal, int window) {
    const int parts = tn_attend_parts(a, slots, causal, window), rows = tn_attend_rows(a->rows, most);
    return (parts > 1 ? (long)a->rows * parts : (a->rows + rows - 1) / rows) * heads;
}
typedef struct { long first, last; int head, part, parts, runs; } tn_kv_span;   // rows, kv head, chunk of a task; runs of rows of one sequence
TN_NOINLINE tn_kv_span tn_attend_span(const tn_args *a, long task, int heads, int most, int slots, int causal, int window) {
    tn_kv_span s = {.parts = tn_attend_parts(a, slots, causal, window), .runs = 1};
    if (s.parts > 1) {
        s.head = (int)(task % heads);
        s.first = task / heads % a->rows;
        s.last = s.first + 1;
        s.part = (int)(task / heads / a->rows);
        return s;
    }
    const long rows = tn_attend_rows(a->rows, most), n = (a->rows + rows - 1) / rows, i = task % n;
    const long group = i & 1 ? n - 1 - i / 2 : i / 2;   // first and last rows in turn: late rows cost more, and a thread takes a range of tasks
    s.head = (int)(task / n);
    s.first = group * rows;
    s.last = s.first + rows < a->rows ? s.first + rows : a->rows;
    for (long t = s.first + 1; t < s.last; t++) s.runs += a->sequence[t] != a->sequence[t - 1];
    return s;
}
typedef struct { long first; int rows, chunk, end, whole, split; tn_u8 *const *pages; } tn_kv_run;   // chunks chunk … end; rows that it finishes; rows it leaves parts of
TN_NOINLINE tn_kv_run tn_attend_run(const tn_args *a, const tn_kv_span *s, int run, int causal, int window) {
    long t = s->first;
    for (; run > 0; t++) run -= a->sequence[t + 1] != a->sequence[t];
    tn_kv_run r = {.first = t};
    while (t < s->last && a->sequence[t] == a->sequence[r.first]) t++;
    r.rows = (int)(t - r.first);
    r.chunk = tn_seen_from(a, r.first, window) / TN_CHUNK;
    r.end = (tn_seen_to(a, t - 1, causal, window) - 1) / TN_CHUNK + 1;
    r.whole = r.rows;
    if (s->parts > 1) {
        r.chunk += s->part;
        if (r.end > r.chunk + 1) r.end = r.chunk + 1;
        r.whole = 0;
        r.split = r.end > r.chunk;
    }
    r.pages = a->step->pages + (long)a->sequence[r.first] * a->step->pages_per_sequence;
    return r;
}
// The keys that are read after chunk `chunk` of a run of one row: of its next chunk, or of the next task. So many blocks.
typedef struct { const tn_u8 *keys; int blocks; } tn_kv_next;
TN_NOINLINE tn_kv_next tn_attend_next(const tn_args *a, const tn_kv_span *s, const tn_kv_run *r, long task, int chunk, long head_bytes, long key_bytes, int heads, int most, int slots, int causal, int window) {
    tn_kv_next n = {0};
    tn_kv_run run = *r;
    int head = s->head;
    if (r->rows > 1) return n;
    if (++chunk >= run.end) {
        if (task + 1 >= tn_attend_tasks(a, heads, most, slots, causal, window)) return n;
        const tn_kv_span span = tn_attend_span(a, task + 1, heads, most, slots, causal, window);
        run = tn_attend_run(a, &span, 0, causal, window);
        head = span.head;
        chunk = run.chunk;
        if (chunk >= run.end) return n;
    }
    const int from = tn_seen_from(a, run.first, window), to = tn_seen_to(a, run.first + run.rows - 1, causal, window);
    const int first = from > chunk * TN_CHUNK ? from / 64 : chunk * (TN_CHUNK / 64), last = to < (chunk + 1) * TN_CHUNK ? (to + 63) / 64 : (chunk + 1) * (TN_CHUNK / 64);
    n.keys = run.pages[chunk] + a->cache + head * head_bytes + first % (TN_CHUNK / 64) * key_bytes;
    n.blocks = last - first;
    return n;
}
TN_INLINE const tn_u8 *tn_next_keys(const tn_kv_next *n, int block, long key_bytes, const void *otherwise) { return block < n->blocks ? n->keys + block * key_bytes : otherwise; }
// Of positions from … to: the rows of a run that see some (first … last), the blocks in which these lie, what all those rows see (lo … hi; 64, 64 when there is none).
typedef struct { int first, last, first_block, last_block, lo, hi; } tn_kv_part;
TN_NOINLINE tn_kv_part tn_attend_part(const tn_args *a, const tn_kv_run *r, int from, int to, int causal, int window) {
    tn_kv_part p = {.first = 0, .last = r->rows};
    while (p.first < p.last && tn_seen_to(a, r->first + p.first, causal, window) <= from) p.first++;
    while (p.last > p.first && tn_seen_from(a, r->first + p.last - 1, window) >= to) p.last--;
    if (p.first == p.last) return p;
    const int begin = tn_seen_from(a, r->first + p.first, window), end = tn_seen_to(a, r->first + p.last - 1, causal, window);
    p.first_block = (begin > from ? begin : from) / 64;
    p.last_block = ((end < to ? end : to) + 63) / 64;
    p.lo = tn_seen_from(a, r->first + p.last - 1, window) - from;
    p.hi = tn_seen_to(a, r->first + p.first, causal, window) - from;
    if (p.lo < 0) p.lo = 0;
    if (p.hi > 64) p.hi = 64;
    if (p.lo >= p.hi) p.lo = p.hi = 64;
    return p;
}
TN_INLINE int tn_least(int a, int b) { return a < b ? a : b; }
TN_INLINE int tn_in_block(int position, int block) { return position < block * 64 ? 0 : position > block * 64 + 64 ? 64 : position - block * 64; }

// ---- online softmax (arXiv 2205.14135) ----
TN_INLINE tn_v tn_exp_negative(tn_v x) {   // of x ≤ 0; below −87: 0
    tn_i n;
    const tn_v e = tn_exp_parts(tn_max(tn_splat(-87.0f), x), &n), scale = tn_power_of_2(n);
    return tn_select(x < tn_splat(-87.0f), tn_splat(0.0f), tn_fma16(e, scale, scale));
}
TN_INLINE float tn_exp_negative1(float x) { return tn_exp_negative(tn_splat(x))[0]; }
// 64 scores of a row, of which it sees lo … hi, become weights relative to the new top; `scales` of the values join the weights, not the sum. Returns by how much what came
// before decays.
TN_INLINE float tn_softmax_block(float *scores, int lo, int hi, float *top, float *total, const float *scales) {
    tn_v s[4];
    TN_UNROLL for (int v = 0; v < 4; v++) s[v] = tn_load(scores + 16 * v);
    if (lo > 0 || hi < 64)
        TN_UNROLL for (int v = 0; v < 4; v++) {
            const tn_i j = tn_lanes(16 * v);
            s[v] = tn_select((j >= tn_splat_i(lo)) & (j < tn_splat_i(hi)), s[v], tn_splat(-__builtin_inff()));
        }
    const float most = tn_max16(tn_max(tn_max(s[0], s[1]), tn_max(s[2], s[3]))), before = *top, now = before > most ? before : most;
    TN_UNROLL for (int v = 0; v < 4; v++) s[v] = tn_exp_negative(s[v] - tn_splat(now));
    const float decay = before == now ? 1.0f : tn_exp_negative1(before - now);
    tn_store(total, tn_fma16(tn_load(total), tn_splat(decay), (s[0] + s[1]) + (s[2] + s[3])));
    TN_UNROLL for (int v = 0; v < 4; v++) tn_store(scores + 16 * v, scales ? s[v] * tn_load(scales + 16 * v) : s[v]);
    *top = now;
    return decay;
}
TN_INLINE void tn_scale_row(float *x, int n, float by) {
    if (by != 1.0f) for (int i = 0; i < n; i += 16) tn_store(x + i, tn_load(x + i) * tn_splat(by));
}
// A chunk's sums (acc, total) relative to its top join those of the chunks before it; the first is taken as it is.
TN_INLINE void tn_merge(float *merged, float *merged_top, float *merged_total, const float *acc, float top, float total, int n, int first) {
    if (first) {
        for (int i = 0; i < n; i += 16) tn_store(merged + i, tn_load(acc + i));
        *merged_top = top;
        *merged_total = total;
        return;
    }
    const float now = *merged_top > top ? *merged_top : top, x = tn_exp_negative1(*merged_top - now), y = tn_exp_negative1(top - now);
    for (int i = 0; i < n; i += 16) tn_store(merged + i, tn_fma16(tn_load(acc + i), tn_splat(y), tn_load(merged + i) * tn_splat(x)));
    *merged_total = *merged_total * x + total * y;
    *merged_top = now;
}
TN_INLINE float tn_sink(float top, float total, float sink) {   // what the sums are divided by, when a sink is one more score that only joins the denominator
    const float now = top > sink ? top : sink, x = tn_exp_negative1(top - now);
    return x / (total * x + tn_exp_negative1(sink - now));
}
