// ---- prelude: vectors of 16 lanes ------------------------------------------------------------------------------------
// Every target sees the same 16 lanes; the compiler splits them as the machine needs. Float results do not depend on the target: each
// operation is one IEEE operation a lane, every fused multiply-add is written, and sums run over 16 partial sums folded as a tree.

#pragma GCC diagnostic ignored "-Wpsabi"   // no vector crosses a translation unit
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#define TN_UNROLL _Pragma("clang loop unroll(full)")
#define TN_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#pragma GCC optimize("fp-contract=off", "no-math-errno")
#define TN_UNROLL _Pragma("GCC unroll 64")
#define TN_NO_UNROLL _Pragma("GCC unroll 1")
#endif
#define TN_INLINE static inline __attribute__((always_inline, unused))
#define TN_NOINLINE static __attribute__((noinline, unused))

typedef unsigned char tn_u8;
typedef unsigned short tn_u16;
typedef unsigned int tn_u32;
typedef unsigned long long tn_u64;
typedef float tn_v __attribute__((vector_size(64)));          // 16 floats
typedef int tn_i __attribute__((vector_size(64)));            // 16 int32; a comparison's result is 0 or −1
typedef tn_u32 tn_u __attribute__((vector_size(64)));
typedef float tn_vu __attribute__((vector_size(64), aligned(4), may_alias));
typedef int tn_iu __attribute__((vector_size(64), aligned(4), may_alias));
typedef tn_u8 tn_b16u __attribute__((vector_size(16), aligned(1), may_alias));
typedef signed char tn_c16u __attribute__((vector_size(16), aligned(1), may_alias));
typedef tn_u16 tn_h16u __attribute__((vector_size(32), aligned(1), may_alias));

TN_INLINE tn_v tn_splat(float x) { return (tn_v){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
TN_INLINE tn_i tn_splat_i(int x) { return (tn_i){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
TN_INLINE tn_i tn_lanes(int first) { return tn_splat_i(first) + (tn_i){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }
TN_INLINE tn_v tn_load(const float *p) { return *(const tn_vu *)p; }
TN_INLINE void tn_store(float *p, tn_v v) { *(tn_vu *)p = v; }
TN_INLINE tn_i tn_load_i(const int *p) { return *(const tn_iu *)p; }
TN_INLINE void tn_store_i(int *p, tn_i v) { *(tn_iu *)p = v; }
// The first n lanes; the others read as 0 and are not written.
TN_INLINE tn_v tn_load_n(const float *p, int n) { tn_v v = tn_splat(0); for (int i = 0; i < n; i++) v[i] = p[i]; return v; }
TN_INLINE void tn_store_n(float *p, tn_v v, int n) { for (int i = 0; i < n; i++) p[i] = v[i]; }
TN_INLINE tn_i tn_load_i_n(const int *p, int n) { tn_i v = tn_splat_i(0); for (int i = 0; i < n; i++) v[i] = p[i]; return v; }
TN_INLINE void tn_store_i_n(int *p, tn_i v, int n) { for (int i = 0; i < n; i++) p[i] = v[i]; }
// Every second element (interleaved rotary pairs): two vectors that share p[15], so that nothing past the last element is touched.
TN_INLINE tn_v tn_load_strided(const float *p, long stride, int n) {
    if (stride == 2 && n == 16) {
        const tn_v low = tn_load(p), high = tn_load(p + 15);
        return __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
    }
    tn_v v = tn_splat(0);
    for (int i = 0; i < n; i++) v[i] = p[i * stride];
    return v;
}
TN_INLINE void tn_store_strided(float *p, tn_v v, long stride, int n) {
    if (stride == 2 && n == 16) {   // what lies between stays
        const tn_v low = tn_load(p), high = tn_load(p + 15);
        tn_store(p, __builtin_shufflevector(low, v, 16, 1, 17, 3, 18, 5, 19, 7, 20, 9, 21, 11, 22, 13, 23, 15));
        tn_store(p + 15, __builtin_shufflevector(high, v, 0, 24, 2, 25, 4, 26, 6, 27, 8, 28, 10, 29, 12, 30, 14, 31));
        return;
    }
    for (int i = 0; i < n; i++) p[i * stride] = v[i];
}
TN_INLINE tn_i tn_load_i_strided(const int *p, long stride, int n) { tn_i v = tn_splat_i(0); for (int i = 0; i < n; i++) v[i] = p[i * stride]; return v; }
TN_INLINE void tn_store_i_strided(int *p, tn_i v, long stride, int n) { for (int i = 0; i < n; i++) p[i * stride] = v[i]; }
TN_INLINE tn_i tn_load_bool(const tn_u8 *p, long stride, int n) { tn_i v = tn_splat_i(0); for (int i = 0; i < n; i++) v[i] = -(p[i * stride] != 0); return v; }
TN_INLINE void tn_store_bool(tn_u8 *p, tn_i v, long stride, int n) { for (int i = 0; i < n; i++) p[i * stride] = v[i] != 0; }

TN_INLINE tn_i tn_bits(tn_v v) { return (tn_i)v; }
TN_INLINE tn_v tn_float(tn_i v) { return (tn_v)v; }
TN_INLINE tn_v tn_from_int(tn_i v) { return __builtin_convertvector(v, tn_v); }
TN_INLINE tn_i tn_to_int(tn_v v) { return __builtin_convertvector(v, tn_i); }      // toward zero; within an int
TN_INLINE tn_v tn_select(tn_i mask, tn_v a, tn_v b) { return tn_float((mask & tn_bits(a)) | (~mask & tn_bits(b))); }
TN_INLINE tn_i tn_select_i(tn_i mask, tn_i a, tn_i b) { return (mask & a) | (~mask & b); }
TN_INLINE tn_v tn_max(tn_v a, tn_v b) { return tn_select(a > b, a, b); }
TN_INLINE tn_v tn_min(tn_v a, tn_v b) { return tn_select(a < b, a, b); }
TN_INLINE tn_i tn_max_i(tn_i a, tn_i b) { return tn_select_i(a > b, a, b); }
TN_INLINE tn_i tn_min_i(tn_i a, tn_i b) { return tn_select_i(a < b, a, b); }
TN_INLINE tn_i tn_add_i(tn_i a, tn_i b) { return (tn_i)((tn_u)a + (tn_u)b); }      // integers wrap
TN_INLINE tn_i tn_sub_i(tn_i a, tn_i b) { return (tn_i)((tn_u)a - (tn_u)b); }
TN_INLINE tn_i tn_mul_i(tn_i a, tn_i b) { return (tn_i)((tn_u)a * (tn_u)b); }
TN_INLINE tn_i tn_neg_i(tn_i v) { return tn_sub_i(tn_splat_i(0), v); }
TN_INLINE tn_i tn_abs_i(tn_i v) { return tn_select_i(v < tn_splat_i(0), tn_neg_i(v), v); }
TN_INLINE tn_i tn_truncate(tn_v v) {               // toward zero, at the ends of the range when outside, 0 for NaN: the same on every machine
    const tn_i high = v >= tn_splat(2147483648.0f);
    v = tn_select((v == v) & ~high, tn_max(v, tn_splat(-2147483648.0f)), tn_splat(0));
    return tn_select_i(high, tn_splat_i(0x7fffffff), tn_to_int(v));
}
TN_INLINE tn_v tn_abs(tn_v v) { return tn_float(tn_bits(v) & tn_splat_i(0x7fffffff)); }
TN_INLINE tn_v tn_neg(tn_v v) { return tn_float(tn_bits(v) ^ tn_splat_i((int)0x80000000u)); }
TN_INLINE tn_v tn_round(tn_v v) { const tn_v magic = tn_splat(12582912.0f); return (v + magic) - magic; }   // |v| < 2^22, to nearest even
TN_INLINE float tn_sqrt1(float x) { return __builtin_sqrtf(x); }
TN_INLINE tn_v tn_sqrt(tn_v v) { for (int i = 0; i < 16; i++) v[i] = __builtin_sqrtf(v[i]); return v; }

// 16 partial results to one, as a tree: lane i with lane i + 8, then + 4, + 2, + 1.
TN_INLINE float tn_sum16(tn_v v) {
    float a[16];
    tn_store(a, v);
    for (int w = 8; w > 0; w >>= 1) for (int i = 0; i < w; i++) a[i] = a[i] + a[i + w];
    return a[0];
}
TN_INLINE float tn_max16(tn_v v) {
    float a[16];
    tn_store(a, v);
    for (int w = 8; w > 0; w >>= 1) for (int i = 0; i < w; i++) a[i] = a[i] > a[i + w] ? a[i] : a[i + w];
    return a[0];
}
TN_INLINE float tn_min16(tn_v v) {
    float a[16];
    tn_store(a, v);
    for (int w = 8; w > 0; w >>= 1) for (int i = 0; i < w; i++) a[i] = a[i] < a[i + w] ? a[i] : a[i + w];
    return a[0];
}

// ---- storage formats to float -----------------------------------------------------------------------------------------
TN_INLINE tn_v tn_i8_float(const tn_u8 *p) { return tn_from_int(__builtin_convertvector(*(const tn_c16u *)p, tn_i)); }
TN_INLINE tn_i tn_u8_int(const tn_u8 *p) { return __builtin_convertvector(*(const tn_b16u *)p, tn_i); }
TN_INLINE tn_v tn_lookup(const float *table, tn_i index) { tn_v v; for (int i = 0; i < 16; i++) v[i] = table[index[i]]; return v; }
TN_INLINE tn_v tn_bf16_float(const tn_u8 *p) { return tn_float((tn_i)(__builtin_convertvector(*(const tn_h16u *)p, tn_u) << 16)); }
TN_INLINE tn_v tn_half_bits_float(tn_u h) {       // exact: subnormals by a multiplication, infinities and NaN by the exponent's top
    tn_u magnitude = (h & 0x7fff) << 13, sign = (h & 0x8000) << 16;
    tn_v v = (tn_v)magnitude * tn_splat(0x1p112f);
    tn_i special = magnitude >= (0x7c00u << 13);
    v = tn_select(special, (tn_v)(magnitude | 0x7f800000u), v);
    return (tn_v)((tn_u)v | sign);
}
TN_INLINE tn_v tn_f8e5m2_float(const tn_u8 *p) { return tn_half_bits_float(__builtin_convertvector(*(const tn_b16u *)p, tn_u) << 8); }
TN_INLINE tn_v tn_f8e4m3_float(const tn_u8 *p) {  // 0x7f and 0xff are NaN; there are no infinities
    tn_u b = __builtin_convertvector(*(const tn_b16u *)p, tn_u);
    tn_u magnitude = (b & 0x7f) << 20, sign = (b & 0x80) << 24;
    tn_v v = (tn_v)magnitude * tn_splat(0x1p120f);
    v = tn_select((b & 0x7f) == 0x7f, (tn_v)(magnitude | 0x7fc00000u), v);
    return (tn_v)((tn_u)v | sign);
}
TN_INLINE tn_v tn_f32_float(const tn_u8 *p) { return *(const tn_vu *)p; }
// Rounded to a 16-bit format and back.
TN_INLINE tn_v tn_round_bf16(tn_v v) {
    tn_u b = (tn_u)v, rounded = (b + 0x7fff + ((b >> 16) & 1)) & 0xffff0000u;
    return tn_select(v == v, (tn_v)rounded, v);
}
TN_INLINE tn_v tn_round_f16(tn_v v) {
    tn_u b = (tn_u)v, sign = b & 0x80000000u, a = b ^ sign;
    tn_u normal = (a + 0xfff + ((a >> 13) & 1)) & 0xffffe000u;
    tn_v small = ((tn_v)a + tn_splat(0.5f)) - tn_splat(0.5f);                       // ulp of [0.5, 1) is that of half subnormals
    tn_v r = tn_select((tn_i)(a < 0x38800000u), small, (tn_v)normal);
    r = tn_select((tn_i)(((tn_u)r >= 0x47800000u) & (a <= 0x7f800000u)), (tn_v)((tn_u)tn_splat_i(0x7f800000)), r);
    return tn_select(v == v, (tn_v)((tn_u)r | sign), v);
}
