// ---- prelude: does this machine have what the code needs? ---------------------------------------------------------------------
// Asked before the first step: CPUID, the state that the kernel saves (XCR0), and Linux's permission for AMX tiles.
#if defined(__x86_64__) && defined(__AVX__)
static void tn_cpuid(tn_u32 leaf, tn_u32 sub, tn_u32 *r) {
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}
static int tn_supported(void) {
    tn_u32 r[4], low, high, b7, c7, d7;
    tn_cpuid(0, 0, r);
    if (r[0] < 7) return 0;
    tn_cpuid(1, 0, r);
    tn_u32 c1 = r[2];
    if (!(c1 >> 27 & 1)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    tn_cpuid(7, 0, r);
    b7 = r[1]; c7 = r[2]; d7 = r[3];
    if ((low & 6) != 6 || !(c1 >> 28 & 1)) return 0;
#ifdef __FMA__
    if (!(c1 >> 12 & 1)) return 0;
#endif
#ifdef __AVX2__
    if (!(b7 >> 5 & 1) || !(b7 >> 8 & 1)) return 0;
#endif
#ifdef __AVX512F__
    if ((low & 0xe0) != 0xe0 || !(b7 >> 16 & 1) || !(b7 >> 17 & 1) || !(b7 >> 30 & 1) || !(b7 >> 31 & 1)) return 0;
#endif
#ifdef __AVX512VNNI__
    if (!(c7 >> 11 & 1)) return 0;
#endif
#ifdef __AMX_INT8__
    if (!(d7 >> 24 & 1) || !(d7 >> 25 & 1) || (low & 0x60000) != 0x60000) return 0;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(158L), "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");   // arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)
    if (result) return 0;
#endif
    (void)c7; (void)d7; (void)b7; (void)high;
    return 1;
}
#else
static int tn_supported(void) { return 1; }
#endif
