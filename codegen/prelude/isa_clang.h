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
// Dot products of bytes (product_int.h says what they are). 256-bit vectors: the two halves of 16 lanes.
#if defined(__AVX512VNNI__)
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) { return (tn_i)__builtin_ia32_vpdpbusd512(acc, w, x); }
#define TN_HAVE_DOT_U8S8 1
#elif defined(__AVX2__) && !defined(__AVX512BW__)
typedef int tn_y8 __attribute__((vector_size(32)));
typedef short tn_y16 __attribute__((vector_size(32)));
typedef char tn_y32 __attribute__((vector_size(32)));
#define TN_HALF(v, h) __builtin_shufflevector(v, v, 8 * h, 8 * h + 1, 8 * h + 2, 8 * h + 3, 8 * h + 4, 8 * h + 5, 8 * h + 6, 8 * h + 7)
#define TN_WHOLE(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#if defined(__AVXVNNI__)
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) {
    return TN_WHOLE((tn_y8)__builtin_ia32_vpdpbusd256(TN_HALF(acc, 0), TN_HALF(w, 0), TN_HALF(x, 0)), (tn_y8)__builtin_ia32_vpdpbusd256(TN_HALF(acc, 1), TN_HALF(w, 1), TN_HALF(x, 1)));
}
#define TN_HAVE_DOT_U8S8 1
#else
TN_INLINE tn_y8 tn_pairs8(tn_y8 w, tn_y8 x) { return (tn_y8)__builtin_ia32_pmaddwd256(__builtin_ia32_pmaddubsw256((tn_y32)w, (tn_y32)x), (tn_y16)((tn_y8){} + 0x00010001)); }
TN_INLINE tn_y8 tn_sign8(tn_y8 x, tn_y8 w) { return (tn_y8)__builtin_ia32_psignb256((tn_y32)x, (tn_y32)w); }
TN_INLINE tn_i tn_dot_u7s8(tn_i acc, tn_i w, tn_i x) { return acc + TN_WHOLE(tn_pairs8(TN_HALF(w, 0), TN_HALF(x, 0)), tn_pairs8(TN_HALF(w, 1), TN_HALF(x, 1))); }
// |w| · ±x: a pair is at most 2 · 128 · 127, within 16 bits.
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) {
    const tn_i s = w ^ (int)0x80808080u;
    const tn_y8 a = TN_HALF(s, 0), b = TN_HALF(s, 1);
    return acc + TN_WHOLE(tn_pairs8(tn_sign8(a, a), tn_sign8(TN_HALF(x, 0), a)), tn_pairs8(tn_sign8(b, b), tn_sign8(TN_HALF(x, 1), b)));
}
#define TN_DOT8_TAKEN 128
#define TN_HAVE_DOT_U7S8 1
#define TN_HAVE_DOT_U8S8 1
#endif
#elif defined(__AVX512BW__)
typedef short tn_z16 __attribute__((vector_size(64)));
typedef char tn_z32 __attribute__((vector_size(64)));
TN_INLINE tn_i tn_pairs16(tn_i w, tn_i x) { return (tn_i)__builtin_ia32_pmaddwd512(__builtin_ia32_pmaddubsw512((tn_z32)w, (tn_z32)x), (tn_z16)tn_splat_i(0x00010001)); }
TN_INLINE tn_i tn_dot_u7s8(tn_i acc, tn_i w, tn_i x) { return acc + tn_pairs16(w, x); }
// The low seven bits, and the top one of each: no pair leaves 16 bits.
TN_INLINE tn_i tn_dot_u8s8(tn_i acc, tn_i w, tn_i x) { return acc + tn_pairs16(w & 0x7f7f7f7f, x) + tn_pairs16(w & (int)0x80808080u, x); }
#define TN_HAVE_DOT_U7S8 1
#define TN_HAVE_DOT_U8S8 1
#endif
// Bytes from the front of 64, in order, to where the mask has bits; `fill` elsewhere (product_sparse.h). In registers: reading memory so is microcode on AMD.
#ifdef __AVX512VBMI2__
typedef char tn_e64 __attribute__((vector_size(64)));
TN_INLINE tn_i tn_expand8(unsigned long long mask, const tn_u8 *from, int fill) {
    return (tn_i)__builtin_ia32_expandqi512_mask((tn_e64)tn_load_i((const int *)(const void *)from), (tn_e64)tn_splat_i((int)(0x01010101u * (tn_u8)fill)), mask);
}
#define TN_HAVE_EXPAND 1
#endif
#ifdef __AVX512BF16__
typedef __bf16 tn_b32 __attribute__((vector_size(64)));
TN_INLINE tn_v tn_dot_bf16(tn_v acc, tn_i w, tn_i x) { return (tn_v)__builtin_ia32_dpbf16ps_512(acc, (tn_b32)w, (tn_b32)x); }
#define TN_HAVE_DOT_BF16 1
#endif
#if defined(__AMX_INT8__) && defined(__AMX_BF16__)
#define tn_tile_config(p) __builtin_ia32_tile_loadconfig(p)
#define tn_tile_zero(t) __builtin_ia32_tilezero(t)
#define tn_tile_load(t, p, stride) __builtin_ia32_tileloadd64(t, p, stride)
#define tn_tile_store(t, p, stride) __builtin_ia32_tilestored64(t, p, stride)
#define tn_tile_dot_s8s8(c, x, w) __builtin_ia32_tdpbssd(c, x, w)
#define tn_tile_dot_s8u8(c, x, w) __builtin_ia32_tdpbsud(c, x, w)
#define tn_tile_dot_bf16(c, x, w) __builtin_ia32_tdpbf16ps(c, x, w)
#define tn_tile_release() __builtin_ia32_tilerelease()
#define TN_HAVE_TILES 1
#endif
