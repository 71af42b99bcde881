// Asking the processor. This file runs before it is known what there is, so it is compiled for the baseline of its instruction set, like all of the
// run time; the code of a model is not called until tn_cpu_has has said yes.
#include "runtime/cpu.h"
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
enum { STATE_AVX = 0x6, STATE_AVX512 = 0xe6, STATE_AMX = 0x60000 };    // bits of XCR0
enum { LEAF1_C, LEAF7_B, LEAF7_C, LEAF7_D, LEAF71_A, LEAF71_D, LEAF81_C, CPU_WORDS };

static const struct { const char *name; int word, bit; unsigned state; } cpu_known[] = {
    {"sse3", LEAF1_C, 0, 0}, {"ssse3", LEAF1_C, 9, 0}, {"cx16", LEAF1_C, 13, 0}, {"sse4.1", LEAF1_C, 19, 0}, {"sse4.2", LEAF1_C, 20, 0},
    {"popcnt", LEAF1_C, 23, 0}, {"lahf", LEAF81_C, 0, 0},
    {"avx", LEAF1_C, 28, STATE_AVX}, {"f16c", LEAF1_C, 29, STATE_AVX}, {"fma", LEAF1_C, 12, STATE_AVX}, {"avx2", LEAF7_B, 5, STATE_AVX},
    {"bmi", LEAF7_B, 3, 0}, {"bmi2", LEAF7_B, 8, 0}, {"lzcnt", LEAF81_C, 5, 0}, {"movbe", LEAF1_C, 22, 0},
    {"avxvnni", LEAF71_A, 4, STATE_AVX},
    {"avx512f", LEAF7_B, 16, STATE_AVX512}, {"avx512bw", LEAF7_B, 30, STATE_AVX512}, {"avx512cd", LEAF7_B, 28, STATE_AVX512},
    {"avx512dq", LEAF7_B, 17, STATE_AVX512}, {"avx512vl", LEAF7_B, 31, STATE_AVX512}, {"avx512vbmi", LEAF7_C, 1, STATE_AVX512},
    {"avx512vbmi2", LEAF7_C, 6, STATE_AVX512}, {"avx512vnni", LEAF7_C, 11, STATE_AVX512}, {"avx512bf16", LEAF71_A, 5, STATE_AVX512}, {"avx512fp16", LEAF7_D, 23, STATE_AVX512},
    {"amx-tile", LEAF7_D, 24, STATE_AMX}, {"amx-int8", LEAF7_D, 25, STATE_AMX}, {"amx-bf16", LEAF7_D, 22, STATE_AMX},
    {"amx-fp16", LEAF71_A, 21, STATE_AMX},
};

static void cpu_words(unsigned words[CPU_WORDS]) {
    unsigned a, b, c, d, a1, b1, c1, d1;
    if (__get_cpuid(1, &a, &b, &c, &d))
        words[LEAF1_C] = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        words[LEAF7_B] = b, words[LEAF7_C] = c, words[LEAF7_D] = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1))
            words[LEAF71_A] = a1, words[LEAF71_D] = d1;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d))
        words[LEAF81_C] = c;
}

static unsigned long long cpu_saved_state(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (unsigned long long)high << 32 | low;
}

// Linux grants tiles to a process that asks.
static bool cpu_tiles_permitted(void) { return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0; }

static int cpu_list(CpuFeature *features, int room, bool ask_tiles) {
    unsigned words[CPU_WORDS] = {0};
    int count = 0;
    cpu_words(words);
    unsigned long long state = words[LEAF1_C] >> 27 & 1 ? cpu_saved_state() : 0;    // OSXSAVE
    if (ask_tiles && (words[LEAF7_D] >> 24 & 1) && (state & STATE_AMX) == STATE_AMX && !cpu_tiles_permitted())
        state &= ~(unsigned long long)STATE_AMX;
    for (size_t i = 0; i < sizeof cpu_known / sizeof *cpu_known && count < room; i++)
        features[count++] = (CpuFeature){cpu_known[i].name, (words[cpu_known[i].word] >> cpu_known[i].bit & 1) &&
                                                                (state & cpu_known[i].state) == cpu_known[i].state};
    return count;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

// Bits of AT_HWCAP, and from 64 on of AT_HWCAP2, as Linux numbers them (asm/hwcap.h; old headers lack some).
static const struct { const char *name; int bit; } cpu_known[] = {
    {"neon", 1}, {"crc", 7}, {"lse", 8}, {"fp16", 10}, {"rdm", 12}, {"dotprod", 20}, {"sve", 22}, {"sve2", 64 + 1}, {"i8mm", 64 + 13},
    {"bf16", 64 + 14}, {"sme", 64 + 23},
};

static int cpu_list(CpuFeature *features, int room, bool ask_tiles) {
    unsigned long cap[2] = {getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};
    int count = 0;
    (void)ask_tiles;
    for (size_t i = 0; i < sizeof cpu_known / sizeof *cpu_known && count < room; i++)
        features[count++] = (CpuFeature){cpu_known[i].name, cap[cpu_known[i].bit / 64] >> cpu_known[i].bit % 64 & 1};
    return count;
}

#else

static int cpu_list(CpuFeature *features, int room, bool ask_tiles) {
    (void)features, (void)room, (void)ask_tiles;
    return 0;
}

#endif

int tn_cpu_features(CpuFeature *features, int room) { return cpu_list(features, room, true); }

static bool cpu_usable(const CpuFeature *features, int count, const char *word, size_t length) {
    for (int i = 0; i < count; i++)
        if (features[i].usable && strlen(features[i].name) == length && !memcmp(features[i].name, word, length))
            return true;
    return false;
}

bool tn_cpu_has(const char *needs, char *missing, size_t room) {
    CpuFeature features[TN_CPU_FEATURES];
    int count = cpu_list(features, TN_CPU_FEATURES, needs && strstr(needs, "amx-"));
    size_t used = 0, lacking = 0;
    if (missing && room)
        *missing = 0;
    for (const char *at = needs ? needs : ""; *at;) {
        size_t length = strcspn(at, " ");
        if (length && !cpu_usable(features, count, at, length)) {
            int n = missing && used < room ? snprintf(missing + used, room - used, "%s%.*s", lacking ? " " : "", (int)length, at) : 0;
            used += n > 0 ? (size_t)n : 0;
            lacking++;
        }
        at += length + (at[length] == ' ');
    }
    return lacking == 0;
}
