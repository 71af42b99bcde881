// ---- prelude: what this machine has, through Clang's builtins (no headers: they cost more than the kernels) ---------------
#if __has_builtin(__builtin_elementwise_fma)
TN_INLINE tn_v tn_fma16(tn_v a, tn_v b, tn_v c) { return __builtin_elementwise_fma(a, b, c); }
#else
TN_INLINE tn_v tn_fma16(tn_v a, tn_v b, tn_v c) { for (int i = 0; i < 16; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]); return c; }
#endif
#ifdef __AVX512F__
TN_INLINE tn_v tn_table16(tn_i index, tn_v table) { return (tn_v)__builtin_ia32_permvarsf512((tn_v)table, index); }
#define TN_HAVE_TABLE16 1
#endif
#if defined(__AVX512F__) && !defined(TN_NO_F16C)
typedef short tn_s16 __attribute__((vector_size(32)));
TN_INLINE tn_v tn_f16_float(const tn_u8 *p) { return (tn_v)__builtin_ia32_vcvtph2ps512_mask((tn_s16)*(const tn_h16u *)p, tn_splat(0), (tn_u16)-1, 4); }
#define TN_HAVE_F16 1
#endif
#ifdef __AVX512VNNI__
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i a, tn_i b) { return (tn_i)__builtin_ia32_vpdpbusd512(acc, a, b); }
#define TN_HAVE_DOT_U8S8 1   // w unsigned, x signed
#endif
#ifdef __AMX_INT8__
#define tn_tile_config(p) __builtin_ia32_tile_loadconfig(p)
#define tn_tile_zero(t) __builtin_ia32_tilezero(t)
#define tn_tile_load(t, p, stride) __builtin_ia32_tileloadd64(t, p, stride)
#define tn_tile_store(t, p, stride) __builtin_ia32_tilestored64(t, p, stride)
#define tn_tile_dot_s8s8(c, a, b) __builtin_ia32_tdpbssd(c, a, b)
#define tn_tile_release() __builtin_ia32_tilerelease()
#endif
