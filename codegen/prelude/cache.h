// ---- prelude: writing KV pages ---------------------------------------------------------------------------------------------
// Keys lie transposed (attend.h), so a position alone is a store an element. Rows of one sequence come in order: sixteen positions that begin at a
// multiple of sixteen are transposed in registers and stored 64 bytes at a time. A word is what one position keeps in 32 bits: a float, two bf16 of
// neighbouring dims, or one code of a narrower format, whose words are narrowed as they are stored. What is stored does not depend on how many rows are
// written together.

// The bits of 16 elements as they are stored, in the low end of each lane; lanes behind n: those of 0.
TN_INLINE tn_i tn_kv_bits(const float *x, int n, float inverse, const int storage) {
    const tn_v v = n >= 16 ? tn_load(x) : tn_load_n(x, n < 0 ? 0 : n);
    if (storage == TN_KV_F16) return (tn_i)tn_f16_bits(v);
    if (storage == TN_KV_BF16) return (tn_i)tn_bf16_bits(v);
    return storage == TN_KV_F32 ? tn_bits(v) : tn_codes_of(v, tn_splat(inverse));   // an infinity makes every product NaN
}
// A position's words of a key from dimension 0 of x on, of which n are left.
TN_INLINE tn_i tn_kv_words(const float *x, int n, float inverse, const int storage) {
    const tn_i first = tn_kv_bits(x, n, inverse, storage);
    if (storage != TN_KV_BF16) return first;
    const tn_i second = n > 16 ? tn_kv_bits(x + 16, n - 16, inverse, storage) : tn_splat_i(0);
    return __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) |
           __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31) << 16;
}
// int8: 127 codes a largest element; the scale, and what elements are multiplied with.
TN_INLINE float tn_kv_scale(const float *x, int n, float *inverse) {
    tn_v m = tn_splat(0);
    for (int i = 0; i < n; i += 16) m = tn_max(m, tn_abs(i + 16 <= n ? tn_load(x + i) : tn_load_n(x + i, n - i)));
    const float largest = tn_max16(m);
    *inverse = largest > 1e-36f ? 127.0f / largest : 0;
    return largest / 127.0f;
}
TN_INLINE void tn_kv_put(tn_u8 *to, long at, tn_i words, const int storage) {   // 16 neighbours
    if (storage == TN_KV_I8) *(tn_c16u *)(to + at) = __builtin_convertvector(words, tn_c16u);
    else if (storage == TN_KV_F16) *(tn_h16u *)(to + 2 * at) = __builtin_convertvector((tn_u)words, tn_h16u);
    else tn_store_i((int *)to + at, words);
}
TN_INLINE void tn_kv_put1(tn_u8 *to, long at, int word, const int storage) {
    if (storage == TN_KV_I8) ((signed char *)to)[at] = (signed char)word;
    else if (storage == TN_KV_F16) ((tn_u16 *)to)[at] = (tn_u16)word;
    else ((int *)to)[at] = word;
}
#define TN_SWAP_BLOCKS(w, h, low, high) \
    TN_UNROLL for (int i = 0; i < 16; i++) \
        if (!(i & h)) { \
            const tn_i a = w[i], b = w[i + h]; \
            w[i] = __builtin_shufflevector(a, b, low); \
            w[i + h] = __builtin_shufflevector(a, b, high); \
        }
#define TN_LOW8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define TN_HIGH8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define TN_LOW4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define TN_HIGH4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define TN_LOW2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define TN_HIGH2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define TN_LOW1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define TN_HIGH1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
TN_INLINE void tn_transpose(tn_i *w) {   // 16 × 16: blocks of 8, then of 4, 2, 1 change places across the diagonal
    TN_SWAP_BLOCKS(w, 8, TN_LOW8, TN_HIGH8)
    TN_SWAP_BLOCKS(w, 4, TN_LOW4, TN_HIGH4)
    TN_SWAP_BLOCKS(w, 2, TN_LOW2, TN_HIGH2)
    TN_SWAP_BLOCKS(w, 1, TN_LOW1, TN_HIGH1)
}
// n keys, `row` floats apart, to positions slot … of a block.
TN_INLINE void tn_kv_write_keys(tn_u8 *page, int slot, const float *k, long row, int n, int dims, const float *inverse, const int storage) {
    const int each = storage == TN_KV_BF16 ? 2 : 1;
    for (int d = 0; d < dims; d += 16 * each) {
        const int left = dims - d, words = (left + each - 1) / each < 16 ? (left + each - 1) / each : 16;
        const long at = d / each * 64L + slot;
        if (n == 16) {
            tn_i w[16];
            TN_UNROLL for (int r = 0; r < 16; r++) w[r] = left >= 16 * each ? tn_kv_words(k + r * row + d, 16 * each, inverse[r], storage) : tn_kv_words(k + r * row + d, left, inverse[r], storage);
            tn_transpose(w);
            if (words == 16) TN_UNROLL for (int i = 0; i < 16; i++) tn_kv_put(page, at + i * 64, w[i], storage);
            else for (int i = 0; i < words; i++) tn_kv_put(page, at + i * 64, w[i], storage);
        } else
            for (int r = 0; r < n; r++) {
                int word[16];
                tn_store_i(word, tn_kv_words(k + r * row + d, left, inverse[r], storage));
                for (int i = 0; i < words; i++) tn_kv_put1(page, at + r + i * 64, word[i], storage);
            }
    }
}
// n values of `dims` elements, padded with zeros, to positions slot … of a block, in panels of 64 columns.
TN_INLINE void tn_kv_write_values(tn_u8 *values, int slot, const float *v, long row, int n, int dims, int padded, const float *inverse, const int storage) {
    for (int r = 0; r < n; r++) {
        const long at = slot + r;
        const int pair = storage == TN_KV_BF16 && !(at & 1) && r + 1 < n;
        for (int d = 0; d < padded; d += 16) {
            const long panel = d / 64 * 64, width = padded - panel < 64 ? padded - panel : 64, to = 32 * panel + (at >> 1) * width + d % 64;   // bf16: in pairs
            const tn_i bits = tn_kv_bits(v + r * row + d, dims - d, inverse[r], storage);
            if (storage != TN_KV_BF16) tn_kv_put(values, 64 * panel + at * width + d % 64, bits, storage);
            else if (pair) tn_store_i((int *)values + to, bits | tn_kv_bits(v + (r + 1) * row + d, dims - d, inverse[r], storage) << 16);
            else {   // the other half of a pair may be another thread's
                int word[16];
                tn_store_i(word, bits);
                for (int i = 0; i < 16; i++) ((tn_u16 *)values)[2 * (to + i) + (at & 1)] = (tn_u16)word[i];
            }
        }
        r += pair;
    }
}
// What is written of each position, and where: `heads` kv heads, `head_bytes` apart. Without v the values are the first v_dims of each key.
typedef struct { long before, head_bytes; int heads, dims, v_dims, v_padded; } tn_kv_shape;
TN_INLINE void tn_kv_write_positions(tn_u8 *page, int slot, const float *k, const float *v, int n, const tn_kv_shape c, const int storage) {
    const long size = storage == TN_KV_F32 ? 4 : storage == TN_KV_I8 ? 1 : 2, row = c.heads * (long)c.dims, v_row = v ? c.heads * (long)c.v_dims : row;
    const int block = slot / 64;
    slot %= 64;
    for (int h = 0; h < c.heads; h++, page += c.head_bytes) {
        const float *key = k + h * c.dims, *value = v ? v + h * c.v_dims : key;
        float inverse[16] = {0}, v_inverse[16] = {0};
        const long key_bytes = 64 * size * tn_kv_even(c.dims, storage), value_bytes = 64 * size * c.v_padded;
        tn_u8 *values = page + TN_CHUNK / 64 * key_bytes + block * value_bytes;
        if (storage == TN_KV_I8) {
            float *scales = (float *)(page + TN_CHUNK / 64 * (key_bytes + value_bytes)) + 128 * block + slot;
            for (int r = 0; r < n; r++) {
                scales[r] = scales[64 + r] = tn_kv_scale(key + r * row, c.dims, inverse + r);
                v_inverse[r] = inverse[r];
                if (v) scales[64 + r] = tn_kv_scale(value + r * v_row, c.v_dims, v_inverse + r);
            }
        }
        tn_kv_write_keys(page + block * key_bytes, slot, key, row, n, c.dims, inverse, storage);
        tn_kv_write_values(values, slot, value, v_row, n, c.v_dims, c.v_padded, v_inverse, storage);
    }
}
TN_INLINE int tn_follows(const tn_args *a, long t) { return a->sequence[t] == a->sequence[t - 1] && a->position[t] == a->position[t - 1] + 1; }
// Called for each row t of first … last - 1 in turn, whose keys and values lie behind those of the row before: writes when the next row does not belong to
// the same sixteen positions.
TN_INLINE void tn_kv_write(const tn_args *a, long t, long first, long last, const float *k, const float *v, const tn_kv_shape c, const int storage) {
    if ((a->position[t] & 15) != 15 && t + 1 < last && tn_follows(a, t + 1)) return;
    long from = t;
    while (from > first && (a->position[from] & 15) && tn_follows(a, from)) from--;
    const long before = t - from;
    tn_kv_write_positions(tn_cache_page(a, t) + c.before, a->position[from] % TN_CHUNK, k - before * c.heads * c.dims, v ? v - before * c.heads * c.v_dims : 0, (int)before + 1, c, storage);
}
