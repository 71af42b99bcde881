// AArch64: NEON as every 64-bit ARM has it, and the 4-way int8 dot product of Armv8.2 (SDOT). Cross-compiled from other machines and run
// there under qemu-user; on an ARM machine the kernel's auxiliary vector says what is there.
#include "codegen/targets/targets.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#include <asm/hwcap.h>

static bool has_neon(void) { return getauxval(AT_HWCAP) & HWCAP_ASIMD; }

static bool has_dotprod(void) { return has_neon() && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP); }

int aarch64_machine(MachineFeature *features, int room) {
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    const MachineFeature all[] = {
        {"neon", cap & HWCAP_ASIMD},  {"fp16", cap & HWCAP_ASIMDHP}, {"dotprod", cap & HWCAP_ASIMDDP}, {"sve", cap & HWCAP_SVE},
        {"sve2", cap2 & HWCAP2_SVE2}, {"i8mm", cap2 & HWCAP2_I8MM},  {"bf16", cap2 & HWCAP2_BF16},
    };
    int count = 0;
    for (; count < (int)COUNT_OF(all) && count < room; count++) features[count] = all[count];
    return count;
}
#else
static bool has_neon(void) { return false; }

static bool has_dotprod(void) { return false; }

int aarch64_machine(MachineFeature *features, int room) {
    (void)features, (void)room;
    return 0;
}
#endif

static const TargetRow rows[] = {
    {.target = {.name = "armv8-a",
                .triple = "aarch64-linux-gnu",
                .vector_bits = 128,
                .vector_registers = 32,
                .l1_bytes = 32 << 10,
                .l2_bytes = 512 << 10},
     .cpu = "generic",
     .features = {"+v8a", "+neon"},
     .cc_flags = "-march=armv8-a",
     .rank = 2,
     .meaning = "64-bit ARM with NEON",
     .runs_here = has_neon},
    {.target = {.name = "armv8.2-a+dotprod",
                .triple = "aarch64-linux-gnu",
                .vector_bits = 128,
                .vector_registers = 32,
                .dot_s8s8 = true,
                .l1_bytes = 64 << 10,
                .l2_bytes = 1 << 20},
     .cpu = "generic",
     .features = {"+v8.2a", "+neon", "+dotprod"},
     .cc_flags = "-march=armv8.2-a+dotprod",
     .rank = 3,
     .meaning = "NEON and int8 dot products (SDOT)",
     .runs_here = has_dotprod},
};

const TargetTable aarch64_targets = {rows, COUNT_OF(rows)};
