// ---- prelude: sparse panels -------------------------------------------------------------------------------------------------------
// A sparse panel stands for a dense one (product_int.h, product.h), 64 bytes of it after the other: for each a mask, whose bits say which of its values
// are there, lowest first; and behind all masks those values, from end to end. What is not there is the value that means zero. Values are read with
// up to 64 bytes at once, so that a panel has as many behind it.
//
// It is read from its beginning to its end: where the next values lie follows from the masks so far. So masks lie apart: no address waits for a load.
typedef struct { const tn_u8 *mask, *value; } tn_sparse;
typedef tn_u64 tn_mask64 __attribute__((aligned(1), may_alias));
#ifndef TN_HAVE_EXPAND
#if defined(__BMI2__)
// Eight bytes at a time: bits to whole bytes, then what is there between them.
TN_INLINE tn_i tn_expand8(tn_u64 mask, const tn_u8 *from, int fill) {
    union { tn_u64 eight[8]; tn_i all; } to;
    const tn_u64 empty = 0x0101010101010101u * (tn_u8)fill;
    TN_UNROLL for (int i = 0; i < 8; i++) {
        const tn_u64 bits = mask >> 8 * i & 255, there = __builtin_ia32_pdep_di(bits, 0x0101010101010101u) * 255;
        to.eight[i] = __builtin_ia32_pdep_di(*(const tn_mask64 *)from, there) | (empty & ~there);
        from += __builtin_popcountll(bits);
    }
    return to.all;
}
#else
TN_INLINE tn_i tn_expand8(tn_u64 mask, const tn_u8 *from, int fill) {
    union { tn_u8 bytes[64]; tn_i all; } to;
    TN_NO_UNROLL for (int i = 0; i < 64; i++, mask >>= 1) {
        to.bytes[i] = mask & 1 ? *from : (tn_u8)fill;
        from += mask & 1;
    }
    return to.all;
}
#endif
#endif
// The next 64 bytes of the dense panel, of values of a byte.
TN_INLINE tn_i tn_sparse_next8(tn_sparse *s, int fill) {
    const tn_u64 mask = *(const tn_mask64 *)s->mask;
    const tn_i b = tn_expand8(mask, s->value, fill);
    s->mask += 8;
    s->value += __builtin_popcountll(mask);
    return b;
}
// Asks for what makes 256 bytes of the dense panel, so far ahead: three quarters of it, if it is there.
TN_INLINE void tn_sparse_ask(const tn_sparse *s, long ahead) {
    __builtin_prefetch(s->mask + ahead / 8, 0, 2);
    TN_UNROLL for (int i = 0; i < 3; i++) __builtin_prefetch(s->value + ahead + 64 * i, 0, 2);
}

// ---- panels of blocks
// Such a panel begins with the numbers of its blocks of k, ascending; behind them is a dense panel of these blocks alone. x's own blocks come together
// before: `bytes` of each of `count`, a multiple of 32.
typedef struct { tn_u64 word[4]; } __attribute__((aligned(1), may_alias)) tn_bytes32;
TN_INLINE void tn_blocks_of(void *to, const void *from, const tn_u8 *w, int count, const long bytes) {
    const int *at = (const int *)(const void *)w;
    tn_u8 *next = (tn_u8 *)to;
    TN_NO_UNROLL for (int i = 0; i < count; i++, next += bytes)
        for (long j = 0; j < bytes; j += 32) *(tn_bytes32 *)(next + j) = *(const tn_bytes32 *)((const tn_u8 *)from + at[i] * bytes + j);
}
