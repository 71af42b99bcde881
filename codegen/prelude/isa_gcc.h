// ---- prelude: what this machine has, through the intrinsics headers ----------------------------------------------------------
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#if defined(__AVX512F__)
TN_INLINE tn_v tn_fma16(tn_v a, tn_v b, tn_v c) { return (tn_v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
TN_INLINE tn_v tn_table16(tn_i index, tn_v table) { return (tn_v)_mm512_permutexvar_ps((__m512i)index, (__m512)table); }
#define TN_HAVE_TABLE16 1
TN_INLINE tn_v tn_f16_float(const tn_u8 *p) { return (tn_v)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
#define TN_HAVE_F16 1
#elif defined(__FMA__)
TN_INLINE tn_v tn_fma16(tn_v a, tn_v b, tn_v c) {
    union { tn_v v; __m256 h[2]; } x = {a}, y = {b}, z = {c};
    z.h[0] = _mm256_fmadd_ps(x.h[0], y.h[0], z.h[0]);
    z.h[1] = _mm256_fmadd_ps(x.h[1], y.h[1], z.h[1]);
    return z.v;
}
#elif defined(__ARM_NEON)
TN_INLINE tn_v tn_fma16(tn_v a, tn_v b, tn_v c) {
    union { tn_v v; float32x4_t q[4]; } x = {a}, y = {b}, z = {c};
    for (int i = 0; i < 4; i++) z.q[i] = vfmaq_f32(z.q[i], x.q[i], y.q[i]);
    return z.v;
}
#else
TN_INLINE tn_v tn_fma16(tn_v a, tn_v b, tn_v c) { for (int i = 0; i < 16; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]); return c; }
#endif
// Dot products of bytes (product_int.h says what they are). 256-bit vectors: the two halves of 16 lanes.
#if defined(__AVX512VNNI__)
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) { return (tn_i)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x); }
#define TN_HAVE_DOT_U8S8 1
#elif defined(__AVX512BW__)
TN_INLINE tn_i tn_pairs16(tn_i w, tn_i x) { return (tn_i)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)w, (__m512i)x), _mm512_set1_epi16(1)); }
TN_INLINE tn_i tn_dot_u7s8(tn_i acc, tn_i w, tn_i x) { return acc + tn_pairs16(w, x); }
// The low seven bits, and the top one of each: no pair leaves 16 bits.
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) { return acc + tn_pairs16(w & 0x7f7f7f7f, x) + tn_pairs16(w & (int)0x80808080u, x); }
#define TN_HAVE_DOT_U7S8 1
#define TN_HAVE_DOT_U8S8 1
#elif defined(__AVX2__)
typedef union { tn_i i; __m256i h[2]; } tn_halves;
#if defined(__AVXVNNI__)
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) {
    tn_halves s = {acc}, a = {w}, b = {x};
    s.h[0] = _mm256_dpbusd_avx_epi32(s.h[0], a.h[0], b.h[0]);
    s.h[1] = _mm256_dpbusd_avx_epi32(s.h[1], a.h[1], b.h[1]);
    return s.i;
}
#define TN_HAVE_DOT_U8S8 1
#else
TN_INLINE __m256i tn_pairs8(__m256i w, __m256i x) { return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)); }
TN_INLINE tn_i tn_dot_u7s8(tn_i acc, tn_i w, tn_i x) {
    tn_halves s = {acc}, a = {w}, b = {x};
    for (int i = 0; i < 2; i++) s.h[i] = _mm256_add_epi32(s.h[i], tn_pairs8(a.h[i], b.h[i]));
    return s.i;
}
// |w| · ±x: a pair is at most 2 · 128 · 127, within 16 bits.
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) {
    tn_halves s = {acc}, a = {w ^ (int)0x80808080u}, b = {x};
    for (int i = 0; i < 2; i++) s.h[i] = _mm256_add_epi32(s.h[i], tn_pairs8(_mm256_sign_epi8(a.h[i], a.h[i]), _mm256_sign_epi8(b.h[i], a.h[i])));
    return s.i;
}
#define TN_DOT8_TAKEN 128
#define TN_HAVE_DOT_U7S8 1
#define TN_HAVE_DOT_U8S8 1
#endif
#endif
#ifdef __AVX512VBMI2__
TN_INLINE tn_i tn_expand8(unsigned long long mask, const tn_u8 *from, int fill) {
    return (tn_i)_mm512_mask_expand_epi8(_mm512_set1_epi8((char)fill), mask, (__m512i)tn_load_i((const int *)(const void *)from));
}
#define TN_HAVE_EXPAND 1
#endif
#ifdef __AVX512BF16__
TN_INLINE tn_v tn_dot_bf16(tn_v acc, tn_i w, tn_i x) { return (tn_v)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)x); }
#define TN_HAVE_DOT_BF16 1
#endif
#if defined(__AMX_INT8__) && defined(__AMX_BF16__)
// GCC 12 declares 8 bytes of the configuration as read and no memory as clobbered: the barriers keep stores in place.
#define tn_tile_config(p) do { __asm__ volatile("" ::: "memory"); _tile_loadconfig(p); } while (0)
#define tn_tile_zero(t) _tile_zero(t)
#define tn_tile_load(t, p, stride) do { __asm__ volatile("" ::: "memory"); _tile_loadd(t, p, stride); } while (0)
#define tn_tile_store(t, p, stride) do { _tile_stored(t, p, stride); __asm__ volatile("" ::: "memory"); } while (0)
#define tn_tile_dot_s8s8(c, x, w) _tile_dpbssd(c, x, w)
#define tn_tile_dot_s8u8(c, x, w) _tile_dpbsud(c, x, w)
#define tn_tile_dot_bf16(c, x, w) _tile_dpbf16ps(c, x, w)
#define tn_tile_release() _tile_release()
#define TN_HAVE_TILES 1
#endif
