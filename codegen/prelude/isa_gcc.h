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
#ifdef __AVX512VNNI__
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i a, tn_i b) { return (tn_i)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)b); }
#define TN_HAVE_DOT_U8S8 1   // w unsigned, x signed
#endif
#ifdef __AMX_INT8__
// GCC 12 declares 8 bytes of the configuration as read and no memory as clobbered: the barriers keep stores in place.
#define tn_tile_config(p) do { __asm__ volatile("" ::: "memory"); _tile_loadconfig(p); } while (0)
#define tn_tile_zero(t) _tile_zero(t)
#define tn_tile_load(t, p, stride) do { __asm__ volatile("" ::: "memory"); _tile_loadd(t, p, stride); } while (0)
#define tn_tile_store(t, p, stride) do { _tile_stored(t, p, stride); __asm__ volatile("" ::: "memory"); } while (0)
#define tn_tile_dot_s8s8(c, a, b) _tile_dpbssd(c, a, b)
#define tn_tile_release() _tile_release()
#endif
