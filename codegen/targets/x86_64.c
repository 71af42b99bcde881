// x86-64: AVX2 (v3), AVX-512 (v4), with int8 dot products (VNNI), and with AMX tiles.
//
// A processor's name says nothing (a hypervisor may mask it), so only CPUID counts, and only together with XCR0: the state that the kernel
// saves at a task switch. AMX needs one thing more: Linux gives a process its 8 KiB tile state on request alone (arch_prctl).
#include "codegen/targets/targets.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
enum { STATE_AVX = 0x6, STATE_AVX512 = 0xe6, STATE_AMX = 0x60000 }; // bits of XCR0

enum { LEAF1_C, LEAF7_B, LEAF7_C, LEAF7_D, LEAF71_A, LEAF81_C, WORDS };

typedef struct {
    const char *name;
    int word, bit;
    unsigned state;
} Feature;

static const Feature features_known[] = {
    {"sse4.2", LEAF1_C, 20, 0},
    {"avx", LEAF1_C, 28, STATE_AVX},
    {"f16c", LEAF1_C, 29, STATE_AVX},
    {"fma", LEAF1_C, 12, STATE_AVX},
    {"avx2", LEAF7_B, 5, STATE_AVX},
    {"bmi", LEAF7_B, 3, 0},
    {"bmi2", LEAF7_B, 8, 0},
    {"lzcnt", LEAF81_C, 5, 0},
    {"movbe", LEAF1_C, 22, 0},
    {"avxvnni", LEAF71_A, 4, STATE_AVX},
    {"avx512f", LEAF7_B, 16, STATE_AVX512},
    {"avx512bw", LEAF7_B, 30, STATE_AVX512},
    {"avx512cd", LEAF7_B, 28, STATE_AVX512},
    {"avx512dq", LEAF7_B, 17, STATE_AVX512},
    {"avx512vl", LEAF7_B, 31, STATE_AVX512},
    {"avx512vnni", LEAF7_C, 11, STATE_AVX512},
    {"avx512bf16", LEAF71_A, 5, STATE_AVX512},
    {"avx512fp16", LEAF7_D, 23, STATE_AVX512},
    {"amx-tile", LEAF7_D, 24, STATE_AMX},
    {"amx-int8", LEAF7_D, 25, STATE_AMX},
    {"amx-bf16", LEAF7_D, 22, STATE_AMX},
};

static uint64_t saved_state(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

// Linux grants tiles to a process that asks, for all its threads made later.
static bool amx_permitted(void) { return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0; }

int x86_64_machine(MachineFeature *features, int room) {
    unsigned words[WORDS] = {0}, a, b, c, d, a1, b1, c1, d1;
    if (__get_cpuid(1, &a, &b, &c, &d)) words[LEAF1_C] = c;
    bool saves = words[LEAF1_C] >> 27 & 1; // OSXSAVE
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        words[LEAF7_B] = b, words[LEAF7_C] = c, words[LEAF7_D] = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1)) words[LEAF71_A] = a1;
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) words[LEAF81_C] = c;
    uint64_t state = saves ? saved_state() : 0;
    if ((words[LEAF7_D] >> 24 & 1) && (state & STATE_AMX) == STATE_AMX && !amx_permitted()) state &= ~(uint64_t)STATE_AMX;
    int count = 0;
    for (size_t i = 0; i < COUNT_OF(features_known) && count < room; i++) {
        const Feature *f = &features_known[i];
        features[count++] = (MachineFeature){f->name, (words[f->word] >> f->bit & 1) && (state & f->state) == f->state};
    }
    return count;
}
#else
int x86_64_machine(MachineFeature *features, int room) {
    (void)features, (void)room;
    return 0;
}
#endif

static bool has_all(const char *const *names, int count) {
    MachineFeature features[64];
    int known = x86_64_machine(features, COUNT_OF(features)), found = 0;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < known; j++) found += features[j].usable && strcmp(features[j].name, names[i]) == 0;
    return found == count;
}

#define HAS_ALL(...) has_all((const char *const[]){__VA_ARGS__}, COUNT_OF(((const char *const[]){__VA_ARGS__})))

static bool has_v3(void) { return HAS_ALL("avx", "avx2", "f16c", "fma", "bmi", "bmi2", "lzcnt", "movbe"); }

static bool has_v4(void) { return has_v3() && HAS_ALL("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"); }

static bool has_v4_vnni(void) { return has_v4() && HAS_ALL("avx512vnni"); }

static bool has_amx(void) { return has_v4_vnni() && HAS_ALL("avx512bf16", "amx-tile", "amx-int8", "amx-bf16"); }

#define TRIPLE "x86_64-linux-gnu"

static const TargetRow rows[] = {
    {.target =
         {.name = "x86-64-v3", .triple = TRIPLE, .vector_bits = 256, .vector_registers = 16, .l1_bytes = 32 << 10, .l2_bytes = 512 << 10},
     .cpu = "x86-64-v3",
     .cc_flags = "-march=x86-64-v3",
     .rank = 2,
     .meaning = "AVX2, FMA, F16C: Intel since 2013, AMD since 2015",
     .runs_here = has_v3},
    {.target =
         {.name = "x86-64-v4", .triple = TRIPLE, .vector_bits = 512, .vector_registers = 32, .l1_bytes = 32 << 10, .l2_bytes = 1 << 20},
     .cpu = "x86-64-v4",
     .cc_flags = "-march=x86-64-v4 -mprefer-vector-width=512",
     .rank = 3,
     .meaning = "AVX-512 (F, BW, CD, DQ, VL)",
     .runs_here = has_v4},
    {.target = {.name = "x86-64-v4+vnni",
                .triple = TRIPLE,
                .vector_bits = 512,
                .vector_registers = 32,
                .dot_u8s8 = true,
                .l1_bytes = 32 << 10,
                .l2_bytes = 1 << 20},
     .cpu = "x86-64-v4",
     .features = {"+avx512vnni"},
     .cc_flags = "-march=x86-64-v4 -mavx512vnni -mprefer-vector-width=512",
     .rank = 4,
     .meaning = "AVX-512 with int8 dot products",
     .runs_here = has_v4_vnni},
    {.target = {.name = "amx",
                .triple = TRIPLE,
                .vector_bits = 512,
                .vector_registers = 32,
                .dot_u8s8 = true,
                .tile_i8 = true,
                .tile_bf16 = true,
                .l1_bytes = 48 << 10,
                .l2_bytes = 2 << 20},
     .cpu = "x86-64-v4",
     .features = {"+avx512vnni", "+avx512bf16", "+amx-tile", "+amx-int8", "+amx-bf16"},
     .cc_flags = "-march=x86-64-v4 -mavx512vnni -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16 -mprefer-vector-width=512",
     .rank = 5,
     .meaning = "AVX-512 and matrix tiles (AMX): Intel Xeon since 2023",
     .runs_here = has_amx},
};

const TargetTable x86_64_targets = {rows, COUNT_OF(rows)};
