// ---- prelude: how fast this machine can go ---------------------------------------------------------------------------------------
// The instructions that the kernels multiply with, on registers alone, in enough independent chains to hide their latency; and a plain read. The run
// time measures them beside the kernels (--bench --kernels). Written as assembly where the compiler could otherwise find out that nobody needs it.
#if defined(__AVX512F__)
enum { TN_CHAINS = 12 };
#elif defined(__FMA__) || defined(__ARM_NEON)
enum { TN_CHAINS = 6 };       // of 16 lanes: all registers of AVX2 and NEON
#else
enum { TN_CHAINS = 1 };
#endif
static unsigned tn_probe_f32(const tn_u8 *from, long rounds) {
    const float *x = (const float *)from;
    tn_v a = tn_load(x), b = tn_load(x + 16), sum[TN_CHAINS];
    TN_UNROLL for (int i = 0; i < TN_CHAINS; i++) sum[i] = tn_load(x + 32 + 16 * i);
    TN_NO_UNROLL for (long n = 0; n < rounds; n++)
        TN_UNROLL for (int i = 0; i < TN_CHAINS; i++) sum[i] = tn_fma16(a, b, sum[i]);
    for (int i = 1; i < TN_CHAINS; i++) sum[0] = sum[0] + sum[i];
    return (unsigned)tn_bits(sum[0])[0];
}
TN_INLINE unsigned tn_probe_or(const tn_u8 *from, long rounds, const int ahead) {
    tn_i all[4] = {tn_splat_i(0), tn_splat_i(0), tn_splat_i(0), tn_splat_i(0)};
    for (long n = 0; n < rounds; n++, from += 512)
        TN_UNROLL for (int i = 0; i < 8; i++) {
            if (ahead) __builtin_prefetch(from + 64 * i + ahead);
            all[i % 4] |= tn_load_i((const int *)(from + 64 * i));
        }
    all[0] |= all[1] | all[2] | all[3];
    int some = 0;
    for (int i = 0; i < 16; i++) some |= all[0][i];
    return (unsigned)some;
}
static unsigned tn_probe_read(const tn_u8 *from, long rounds) { return tn_probe_or(from, rounds, 0); }
static unsigned tn_probe_read_ahead(const tn_u8 *from, long rounds) { return tn_probe_or(from, rounds, 4096); }

// TN_PROBE(name, type, register class, chains, one instruction or several on accumulator %0, temporary %1, operands %2 and %3)
#define TN_PROBE(name, type, class, chains, code) \
    static unsigned name(const tn_u8 *from, long rounds) { \
        const type a = ((const type *)from)[0], b = ((const type *)from)[1]; \
        type sum[chains], temporary = a; \
        TN_UNROLL for (int i = 0; i < chains; i++) sum[i] = ((const type *)from)[i]; \
        TN_NO_UNROLL for (long n = 0; n < rounds; n++) \
            TN_UNROLL for (int i = 0; i < chains; i++) __asm__ volatile(code : "+" class(sum[i]), "+" class(temporary) : class(a), class(b)); \
        for (int i = 1; i < chains; i++) sum[0] |= sum[i]; \
        return (unsigned)sum[0][0]; \
    }
#if defined(__x86_64__)
typedef int tn_y __attribute__((vector_size(32), may_alias));
typedef int tn_x __attribute__((vector_size(16), may_alias));
#if defined(__AMX_INT8__)
#define TN_PROBE_TILES(name, instruction) \
    static unsigned name(const tn_u8 *from, long rounds) { \
        tn_u8 tiles[64] __attribute__((aligned(64))), out[1024]; \
        for (int i = 0; i < 64; i++) tiles[i] = (tn_u8)(i == 0 ? 1 : i >= 16 && i < 32 ? i % 2 ? 0 : 64 : i >= 48 && i < 56 ? 16 : 0); \
        __asm__ volatile("ldtilecfg %0\n\ttileloadd (%1,%2,1), %%tmm6\n\ttileloadd (%1,%2,1), %%tmm7\n\ttilezero %%tmm0\n\ttilezero %%tmm1\n\t" \
                         "tilezero %%tmm2\n\ttilezero %%tmm3\n\ttilezero %%tmm4\n\ttilezero %%tmm5" : : "m"(tiles), "r"(from), "r"(64L) : "memory"); \
        for (long n = 0; n < rounds; n++) \
            __asm__ volatile(instruction " %%tmm7, %%tmm6, %%tmm0\n\t" instruction " %%tmm7, %%tmm6, %%tmm1\n\t" instruction " %%tmm7, %%tmm6, %%tmm2\n\t" \
                             instruction " %%tmm7, %%tmm6, %%tmm3\n\t" instruction " %%tmm7, %%tmm6, %%tmm4\n\t" instruction " %%tmm7, %%tmm6, %%tmm5" \
                             : : : "memory"); \
        __asm__ volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilerelease" : : "r"(out), "r"(64L) : "memory"); \
        return out[0]; \
    }
TN_PROBE_TILES(tn_probe_i8, "tdpbssd")
#define TN_PROBE_I8 (6 * 32768.0)
#elif defined(__AVX512VNNI__)
TN_PROBE(tn_probe_i8, tn_i, "v", 12, "vpdpbusd %3, %2, %0")
#define TN_PROBE_I8 (12 * 128.0)
#elif defined(__AVXVNNI__)
TN_PROBE(tn_probe_i8, tn_y, "x", 12, "%{vex%} vpdpbusd %3, %2, %0")
#define TN_PROBE_I8 (12 * 64.0)
#elif defined(__AVX512BW__)
TN_PROBE(tn_probe_i8, tn_i, "v", 12, "vpmaddubsw %3, %2, %1\n\tvpmaddwd %1, %2, %1\n\tvpaddd %1, %0, %0")
#define TN_PROBE_I8 (12 * 128.0)
#elif defined(__AVX2__)
TN_PROBE(tn_probe_i8, tn_y, "x", 8, "vpmaddubsw %3, %2, %1\n\tvpmaddwd %1, %2, %1\n\tvpaddd %1, %0, %0")
#define TN_PROBE_I8 (8 * 64.0)
#else
TN_PROBE(tn_probe_i8, tn_x, "x", 8, "movdqa %2, %1\n\tpmaddwd %3, %1\n\tpaddd %1, %0")
#define TN_PROBE_I8 (8 * 16.0)
#endif
#if defined(__AMX_BF16__)
TN_PROBE_TILES(tn_probe_bf16, "tdpbf16ps")
#define TN_PROBE_BF16 (6 * 16384.0)
#elif defined(__AVX512BF16__)
TN_PROBE(tn_probe_bf16, tn_i, "v", 12, "vdpbf16ps %3, %2, %0")
#define TN_PROBE_BF16 (12 * 64.0)
#endif
#elif defined(__aarch64__)
typedef int tn_x __attribute__((vector_size(16), may_alias));
#if defined(__ARM_FEATURE_MATMUL_INT8)
TN_PROBE(tn_probe_i8, tn_x, "w", 16, "smmla %0.4s, %2.16b, %3.16b")
#define TN_PROBE_I8 (16 * 64.0)
#elif defined(__ARM_FEATURE_DOTPROD)
TN_PROBE(tn_probe_i8, tn_x, "w", 16, "sdot %0.4s, %2.16b, %3.16b")
#define TN_PROBE_I8 (16 * 32.0)
#else
TN_PROBE(tn_probe_i8, tn_x, "w", 16, "smlal %0.4s, %2.4h, %3.4h")
#define TN_PROBE_I8 (16 * 8.0)
#endif
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
TN_PROBE(tn_probe_bf16, tn_x, "w", 16, "bfmmla %0.4s, %2.8h, %3.8h")
#define TN_PROBE_BF16 (16 * 32.0)
#endif
#endif
static const tn_probe tn_probes[] = {
    {"f32", TN_CHAINS * 32.0, 0, tn_probe_f32},
#ifdef TN_PROBE_I8
    {"int8", TN_PROBE_I8, 0, tn_probe_i8},
#endif
#ifdef TN_PROBE_BF16
    {"bf16", TN_PROBE_BF16, 0, tn_probe_bf16},
#endif
    {"read", 0, 512, tn_probe_read},
    {"read ahead", 0, 512, tn_probe_read_ahead},
};
