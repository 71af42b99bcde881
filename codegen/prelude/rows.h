// ---- prelude: what a row needs ------------------------------------------------------------------------------------------
// The k largest, largest first, ties to the lower index (selection: k is small).
TN_NOINLINE void tn_top_k(float *values, int *indices, const float *x, int n, int k) {
    for (int s = 0; s < k; s++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            int taken = 0;
            for (int r = 0; r < s; r++) taken |= indices[r] == i;
            if (!taken && (best < 0 || x[i] > x[best])) best = i;
        }
        values[s] = x[best];
        indices[s] = best;
    }
}
// Only the `keep` groups whose `summed` largest (1: DeepSeek-V2, arXiv 2405.04434; 2: DeepSeek-V3, arXiv 2412.19437) sum highest take part.
TN_NOINLINE void tn_top_k_groups(float *values, int *indices, const float *x, int n, int k, int groups, int keep, int summed) {
    int size = n / groups, open[256];
    float score[256];
    for (int g = 0; g < groups; g++) {
        float first = -__builtin_inff(), second = first;
        for (int i = g * size; i < (g + 1) * size; i++) {
            if (x[i] > first) { second = first; first = x[i]; }
            else if (x[i] > second) second = x[i];
        }
        score[g] = summed > 1 && size > 1 ? first + second : first;
        open[g] = 0;
    }
    for (int s = 0; s < keep; s++) {
        int best = -1;
        for (int g = 0; g < groups; g++) if (!open[g] && (best < 0 || score[g] > score[best])) best = g;
        open[best] = 1;
    }
    for (int s = 0; s < k; s++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            int taken = !open[i / size];
            for (int r = 0; r < s; r++) taken |= indices[r] == i;
            if (!taken && (best < 0 || x[i] > x[best])) best = i;
        }
        values[s] = x[best];
        indices[s] = best;
    }
}
TN_NOINLINE void tn_normalize(float *x, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) sum = sum + x[i];
    for (int i = 0; i < n; i++) x[i] = x[i] / sum;
}
TN_INLINE int tn_inside(int id, int rows) { return id < 0 ? 0 : id < rows ? id : rows - 1; }
// A row's product with n rows of w: of each in 16 partial sums, eight at a time so that none waits for its own.
TN_INLINE void tn_row_products(float *to, const float *x, const float *w, long k, const int outputs) {
    tn_v sum[8];
    TN_UNROLL for (int o = 0; o < 8; o++) sum[o] = tn_splat(0);
    long i = 0;
    for (; i + 16 <= k; i += 16) {
        const tn_v a = tn_load(x + i);
        TN_UNROLL for (int o = 0; o < 8; o++)
            if (o < outputs) sum[o] = tn_fma16(a, tn_load(w + o * k + i), sum[o]);
    }
    if (i < k) {
        const tn_v a = tn_load_n(x + i, (int)(k - i));
        TN_UNROLL for (int o = 0; o < 8; o++)
            if (o < outputs) sum[o] = tn_fma16(a, tn_load_n(w + o * k + i, (int)(k - i)), sum[o]);
    }
    TN_UNROLL for (int o = 0; o < 8; o++)
        if (o < outputs) to[o] = tn_sum16(sum[o]);
}
TN_NOINLINE void tn_linear_rows(float *to, const float *x, const float *w, int n, long k) {
    int o = 0;
    for (; o + 8 <= n; o += 8) tn_row_products(to + o, x, w + o * k, k, 8);
    for (; o < n; o++) tn_row_products(to + o, x, w + o * k, k, 1);
}
TN_NOINLINE void tn_gather(tn_u8 *to, const tn_u8 *x, long bytes, int size, const int *e, int n) {   // of elements of any type
    for (int i = 0; i < n; i++)
        for (long b = 0; b < bytes; b++) to[i * bytes + b] = x[tn_inside(e[i], size) * bytes + b];
}
// int8 codes of a row of n, a scale for each `group` of it, the codes' sum over each `part`; both divide n. scale = max|x| / 127, codes rounded to
// nearest even; groups so small that 127 / max|x| is infinite are 0. An infinity makes every product NaN; its codes, and those of NaN, are 0.
typedef int tn_i64u __attribute__((vector_size(64), aligned(1), may_alias));
#define TN_SWAPPED(x, h) __builtin_shufflevector(x, x, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h, 8 ^ h, 9 ^ h, 10 ^ h, 11 ^ h, 12 ^ h, 13 ^ h, 14 ^ h, 15 ^ h)
TN_INLINE tn_i tn_codes_of(tn_v x, tn_v inverse) {   // in each lane's low byte: a float's last bits are its integer when it is 1.5 · 2^23 more
    const tn_v code = x * inverse;
    return tn_bits(code + tn_splat(12582912.0f)) & (code == code);
}
TN_INLINE tn_v tn_larger(tn_v m, const float *x) { return tn_max(tn_abs(tn_load(x)), m); }
TN_INLINE float tn_largest(const float *x, int n) {
    tn_v m = tn_splat(0), m1 = m, m2 = m, m3 = m;
    int i = 0;
    for (; i + 64 <= n; i += 64) {
        m = tn_larger(m, x + i);
        m1 = tn_larger(m1, x + i + 16);
        m2 = tn_larger(m2, x + i + 32);
        m3 = tn_larger(m3, x + i + 48);
    }
    m = tn_max(tn_max(m, m1), tn_max(m2, m3));
    for (; i + 16 <= n; i += 16) m = tn_larger(m, x + i);
    if (i < n) m = tn_max(tn_abs(tn_load_n(x + i, n - i)), m);
    m = tn_max(m, TN_SWAPPED(m, 8));
    m = tn_max(m, TN_SWAPPED(m, 4));
    m = tn_max(m, TN_SWAPPED(m, 2));
    return tn_max(m, TN_SWAPPED(m, 1))[0];
}
TN_INLINE int tn_sum_codes(const signed char *codes, int n) {
    tn_i sum = tn_splat_i(0);
    int i = 0, rest = 0;
#if defined(TN_HAVE_DOT_U7S8)
    for (; i + 64 <= n; i += 64) sum = tn_dot_u7s8(sum, tn_splat_i(0x01010101), *(const tn_i64u *)(codes + i));
#elif defined(TN_HAVE_DOT_U8S8)
    for (; i + 64 <= n; i += 64) sum = tn_dot_u8s8(sum, tn_splat_i(0x01010101), *(const tn_i64u *)(codes + i));
#endif
    for (; i + 16 <= n; i += 16) sum = sum + __builtin_convertvector(*(const tn_c16u *)(codes + i), tn_i);
    for (; i < n; i++) rest += codes[i];
    sum = sum + TN_SWAPPED(sum, 8);
    sum = sum + TN_SWAPPED(sum, 4);
    sum = sum + TN_SWAPPED(sum, 2);
    return rest + sum[0] + sum[1];
}
TN_NOINLINE void tn_quantize_row(signed char *codes, float *scale, int *sums, const float *x, int n, int group, int part) {
    for (int g = 0; g < n / group; g += 16) {   // as many groups as a vector has lanes
        const int count = n / group - g < 16 ? n / group - g : 16;
        float most[16] = {0}, inverses[16];
        for (int e = 0; e < count; e++) most[e] = tn_largest(x + (g + e) * group, group);
        const tn_v m = tn_load(most), tiny = tn_splat(1e-36f);
        tn_store(inverses, tn_select(m > tiny, tn_splat(127.0f) / m, tn_splat(0)));
        tn_store(most, m / tn_splat(127.0f));
        for (int e = 0; e < count; e++) {
            const tn_v inverse = tn_splat(inverses[e]);
            int i = (g + e) * group;
            const int end = i + group;
            scale[g + e] = most[e];
            for (; i + 16 <= end; i += 16) *(tn_c16u *)(codes + i) = __builtin_convertvector(tn_codes_of(tn_load(x + i), inverse), tn_c16u);
            if (i < end) {
                const tn_i c = tn_codes_of(tn_load_n(x + i, end - i), inverse);
                for (int l = 0; l < end - i; l++) codes[i + l] = (signed char)c[l];
            }
        }
    }
    for (int p = 0; p < n; p += part) *sums++ = tn_sum_codes(codes + p, part);
}
// Rounded to bf16, as f32_to_bf16 of ir/dequant.c does.
TN_NOINLINE void tn_narrow_row(tn_u16 *to, const float *x, int n) {
    for (int i = 0; i < n; i += 16) {
        const tn_v v = i + 16 <= n ? tn_load(x + i) : tn_load_n(x + i, n - i);
        const tn_u b = (tn_u)v, rounded = b + 0x7fff + ((b >> 16) & 1);
        const tn_h16u h = __builtin_convertvector((tn_u)tn_select_i(v == v, (tn_i)rounded, (tn_i)(b | 0x400000)) >> 16, tn_h16u);
        if (i + 16 <= n) *(tn_h16u *)(to + i) = h;
        else for (int j = 0; j < n - i; j++) to[i + j] = h[j];
    }
}
// The Walsh–Hadamard transform of each block, times `norm`: the same sums in the same order as ir/quantize.c. Partners less than 16 apart lie in one
// vector: a lane whose partner comes first takes the difference.
#define TN_PARTNERS(x, h) tn_fma16(x, tn_signs_##h, __builtin_shufflevector(x, x, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h, 8 ^ h, 9 ^ h, 10 ^ h, 11 ^ h, 12 ^ h, 13 ^ h, 14 ^ h, 15 ^ h))
TN_INLINE void tn_hadamard_vectors(float *to, const float *x, float norm, const int vectors) {
    const tn_v tn_signs_1 = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1}, tn_signs_2 = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
    const tn_v tn_signs_4 = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1}, tn_signs_8 = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
    tn_v v[8];
    TN_UNROLL for (int i = 0; i < vectors; i++) {
        tn_v y = tn_load(x + 16 * i);
        y = TN_PARTNERS(y, 1);
        y = TN_PARTNERS(y, 2);
        y = TN_PARTNERS(y, 4);
        v[i] = TN_PARTNERS(y, 8);
    }
    TN_UNROLL for (int half = 1; half < 8; half *= 2)
        TN_UNROLL for (int i = 0; i < 8; i++)
            if (half < vectors && i < vectors && !(i & half)) {
                tn_v a = v[i], b = v[i + half];
                v[i] = a + b;
                v[i + half] = a - b;
            }
    TN_UNROLL for (int i = 0; i < vectors; i++) tn_store(to + 16 * i, v[i] * norm);
}
TN_NOINLINE void tn_hadamard_row(float *to, const float *x, int n, int block, float norm) {
    switch (block) {
    case 16: for (int i = 0; i < n; i += 16) tn_hadamard_vectors(to + i, x + i, norm, 1); return;
    case 32: for (int i = 0; i < n; i += 32) tn_hadamard_vectors(to + i, x + i, norm, 2); return;
    case 64: for (int i = 0; i < n; i += 64) tn_hadamard_vectors(to + i, x + i, norm, 4); return;
    case 128: for (int i = 0; i < n; i += 128) tn_hadamard_vectors(to + i, x + i, norm, 8); return;
    }
    for (int i = 0; i < n; i++) to[i] = x[i];
    for (int half = 1; half < block; half *= 2)
        for (int i = 0; i < n; i += 2 * half)
            for (int j = i; j < i + half; j++) {
                float a = to[j], b = to[j + half];
                to[j] = a + b;
                to[j + half] = a - b;
            }
    for (int i = 0; i < n; i++) to[i] *= norm;
}
// Into how many blocks a product's rows go: of at most `block` rows, and of no fewer than `least` when there are more, so that `wanted` tasks find a thread.
TN_INLINE long tn_row_blocks(long rows, long block, long least, long wanted) {
    const long needed = (rows + block - 1) / block, most = rows / least < wanted ? rows / least : wanted;
    return needed > most ? needed : most;
}
// n tasks that each cost the same, before which lie `at` of the `total` cost that several kernels or experts share.
typedef struct { long total, at, n, each; } tn_tasks;
TN_INLINE tn_tasks tn_alike(long n) { return (tn_tasks){n, 0, n, 1}; }
TN_INLINE void tn_range(tn_tasks p, int index, int count, long *first, long *last) {
    const long from = p.total * index / count - p.at, to = p.total * (index + 1) / count - p.at;
    *first = from <= 0 ? 0 : from >= p.n * p.each ? p.n : (from + p.each - 1) / p.each;
    *last = to <= 0 ? 0 : to >= p.n * p.each ? p.n : (to + p.each - 1) / p.each;
}
// A thread's share of n tasks.
TN_INLINE void tn_share(const tn_worker *w, long n, long *first, long *last) { tn_range(tn_alike(n), w->index, w->count, first, last); }
TN_NOINLINE void tn_observe(const tn_step *s, float *to, const float *x, int n, const tn_u8 *w) {
    for (int i = 0; i < n; i++) to[i] = x[i];
    if (s->observe) s->observe(s->observe_to, (tn_u64)(w - s->weights), x, n);
}
typedef struct tn_args {
    const tn_step *step;
    const tn_u8 *in[TN_MOST_INPUTS];
    tn_u8 *out[TN_MOST_RESULTS];
    const tn_u8 *w[TN_MOST_WEIGHTS];
    const int *position, *sequence;      // of each row
    tn_u64 cache;                        // offset in a KV page
    tn_u8 *partial;                      // what a kernel leaves for the one behind it
    float *largest;                      // NULL, or where the largest value of each block of its result is wanted
    int rows;
} tn_args;
enum { TN_CHUNK = 256 };   // positions of a KV page, and of one online softmax
TN_INLINE tn_u8 *tn_cache_page(const tn_args *a, long t) {
    const tn_step *s = a->step;
    return s->pages[(long)a->sequence[t] * s->pages_per_sequence + a->position[t] / TN_CHUNK] + a->cache;
}
TN_INLINE void tn_table_row(float *to, const float *table, int id, long rows, long n) {
    const float *row = table + (long)tn_inside(id, (int)rows) * n;
    for (long i = 0; i < n; i++) to[i] = row[i];
}

// ---- prelude: the step ---------------------------------------------------------------------------------------------------
TN_INLINE void tn_barrier(tn_worker *w) {
    if (w->barrier) w->barrier(w);
    w->since = w->launch + 1;
}
// Takes half of what is left of an owner's n tasks. Its word holds the launch it counts for and how many of its tasks are taken. Another's tasks may be
// taken before the owner comes only in the first launch behind a barrier: else it may still be at an earlier one.
enum { TN_CLAIM_BITS = 24 };
TN_INLINE long tn_claim(tn_worker *w, int owner, long n, long *from) {
    tn_u64 *const word = w->claims + 8 * owner;
    tn_u64 seen = __atomic_load_n(word, __ATOMIC_RELAXED), next;
    long take;
    do {
        const tn_u64 launch = seen >> TN_CLAIM_BITS;
        if (launch > w->launch || (launch < w->launch && owner != w->index && w->launch != w->since)) return 0;
        *from = launch == w->launch ? (long)(seen & ((1u << TN_CLAIM_BITS) - 1)) : 0;
        take = (n - *from + 1) / 2;
        if (take <= 0) return 0;
        next = w->launch << TN_CLAIM_BITS | (tn_u64)(*from + take);
    } while (!__atomic_compare_exchange_n(word, &seen, next, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return take;
}
TN_INLINE void tn_timed(tn_worker *w, int id, void (*kernel)(const tn_args *, long, long), const tn_args *a, long first, long last) {
    if (!w->kernel_ns) {
        kernel(a, first, last);
        return;
    }
    tn_u64 start = w->now();
    kernel(a, first, last);
    w->kernel_ns[id] += w->now() - start;
}
// A thread does its own range of a kernel's tasks, then helps with what the others have not begun. Bits do not depend on who does what.
TN_NOINLINE void tn_launch(tn_worker *w, int id, void (*kernel)(const tn_args *, long, long), const tn_args *a, tn_tasks tasks) {
    w->launch++;
    for (int i = 0; i < (w->claims ? w->count : 1); i++) {
        const int owner = (w->index + i) % w->count;
        long first, last, from, n;
        tn_range(tasks, owner, w->count, &first, &last);
        if (!w->claims || (last - first) >> TN_CLAIM_BITS) {
            if (!i && first < last) tn_timed(w, id, kernel, a, first, last);
        } else if (!i || last - first > 1)
            while ((n = tn_claim(w, owner, last - first, &from)) > 0) tn_timed(w, id, kernel, a, first + from, first + from + n);
    }
}
// The tasks of several calls of a kernel as one list, divided by what they cost. parts[c]: how many tasks lie before call c, and what they cost.
typedef struct { long tasks, cost; } tn_part;
TN_INLINE int tn_part_of(const tn_part *parts, int count, long at, int by_cost) {   // the call of this task, or at this cost
    int low = 0, high = count;
    while (low + 1 < high) {
        const int middle = (low + high) / 2;
        if ((by_cost ? parts[middle].cost : parts[middle].tasks) <= at) low = middle;
        else high = middle;
    }
    return low;
}
// The first task of the thread of this number.
TN_INLINE long tn_first_of(const tn_part *parts, int count, long index, long threads) {
    const long at = parts[count].cost * index / threads;
    if (index == threads) return parts[count].tasks;
    const tn_part *const part = parts + tn_part_of(parts, count, at, 1);
    const long tasks = part[1].tasks - part->tasks, each = tasks ? (part[1].cost - part->cost) / tasks : 0;
    return part->tasks + (each ? (at - part->cost + each - 1) / each : 0);
}
TN_INLINE void tn_run_list(tn_worker *w, int id, void (*kernel)(const tn_args *, long, long), const tn_args *calls, const tn_part *parts, int count, long first, long last) {
    for (int c = tn_part_of(parts, count, first, 0); first < last; c++) {
        const long begin = parts[c].tasks, end = parts[c + 1].tasks < last ? parts[c + 1].tasks : last;
        if (first < end) tn_timed(w, id, kernel, &calls[c], first - begin, end - begin);
        first = end;
    }
}
TN_NOINLINE void tn_launch_list(tn_worker *w, int id, void (*kernel)(const tn_args *, long, long), const tn_args *calls, const tn_part *parts, int count) {
    w->launch++;
    if (!count) return;
    for (int i = 0; i < (w->claims ? w->count : 1); i++) {
        const int owner = (w->index + i) % w->count;
        const long first = tn_first_of(parts, count, owner, w->count), last = tn_first_of(parts, count, owner + 1, w->count);
        long from, n;
        if (!w->claims || (last - first) >> TN_CLAIM_BITS) {
            if (!i) tn_run_list(w, id, kernel, calls, parts, count, first, last);
        } else if (!i || last - first > 1)
            while ((n = tn_claim(w, owner, last - first, &from)) > 0) tn_run_list(w, id, kernel, calls, parts, count, first + from, first + from + n);
    }
}
// One group for each expert that some (token, slot) pair chose, and each pair's place among the rows that they make, of which this call writes those
// of [from, to): a counting sort. scratch: two numbers an expert. Where there are as many groups as pairs, x is the pair's token; else the pair's place.
TN_NOINLINE int tn_moe_groups(tn_group *groups, int *place, int *scratch, const int *expert, int pairs, int slots, int count, long from, long to) {
    int *const next = scratch, *const rows = scratch + count, n = 0, first = 0;
    for (int e = 0; e < count; e++) next[e] = rows[e] = 0;
    for (long i = 0; i < from; i++) next[tn_inside(expert[i], count)]++;
    for (long i = from; i < pairs; i++) rows[tn_inside(expert[i], count)]++;
    for (int e = 0; e < count; e++) {
        const int before = next[e], all = before + rows[e];
        next[e] = first + before;
        if (all) groups[n++] = (tn_group){e, first, all, first};
        first += all;
    }
    for (long i = from; i < to; i++) place[i] = next[tn_inside(expert[i], count)]++;
    for (int g = 0, e = 0; n == pairs && e < count; e++) scratch[e] = g < n && groups[g].expert == e ? g++ : 0;
    for (int i = 0; n == pairs && i < pairs; i++) groups[scratch[tn_inside(expert[i], count)]].x = i / slots;
    return n;
}
// Guesses which experts the next layer will choose, from what the residual is before this layer's have run (tn_step.guess).
typedef struct { void (*guess)(const tn_step *s, tn_worker *w, const tn_u8 *x, const tn_u64 *p); const tn_u64 *p; } tn_next;
// How many of the groups may run now that those before `from` have (tn_step.page): all, where all weights are there.
TN_INLINE int tn_paged(const tn_step *s, tn_worker *w, const tn_u64 *const *p, int params, int experts, tn_group *groups, int from, int count) {
    if (!s->page) return count;
    const int to = s->page(s, w, p, params, experts, groups, from, count);
    w->since = w->launch + 1;
    return to;
}
// Each pair's row, from its token's to its place: those of the pairs first … last-1. Returns `to`.
TN_NOINLINE const tn_u8 *tn_moe_gather(tn_u8 *to, const tn_u8 *from, const int *place, int slots, long bytes, long first, long last) {
    for (long i = first; i < last; i++)
        for (long b = 0; b < bytes; b++) to[place[i] * bytes + b] = from[i / slots * bytes + b];
    return to;
}
