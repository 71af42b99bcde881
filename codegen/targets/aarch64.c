// AArch64: NEON as every 64-bit ARM has it, the 4-way int8 dot product of Armv8.2 (SDOT), and the int8 matrix product of Armv8.6 (SMMLA).
// Cross-compiled from other machines and run there under qemu-user; on an ARM machine the kernel's auxiliary vector says what is there.
//
// Processors took SMMLA and bf16 from Armv8.6 without the rest of it, so that target is compiled as Armv8.2 with the two: what is compared with
// the processor is then all that the compiler may use.
#include "codegen/targets/targets.h"

#define TRIPLE "aarch64-linux-gnu"
#define NEEDS_V82 "neon crc lse rdm"

static const TargetRow rows[] = {
    {.target =
         {.name = "armv8-a", .triple = TRIPLE, .vector_bits = 128, .vector_registers = 32, .l1_bytes = 32 << 10, .l2_bytes = 512 << 10},
     .cpu = "generic",
     .features = {"+v8a", "+neon"},
     .cc_flags = "-march=armv8-a",
     .rank = 2,
     .meaning = "64-bit ARM with NEON",
     .needs = "neon"},
    {.target = {.name = "armv8.2-a+dotprod",
                .triple = TRIPLE,
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
     .needs = NEEDS_V82 " dotprod"},
    {.target = {.name = "armv8.6-a+i8mm",
                .triple = TRIPLE,
                .vector_bits = 128,
                .vector_registers = 32,
                .dot_s8s8 = true,
                .mmla_i8 = true,
                .l1_bytes = 64 << 10,
                .l2_bytes = 1 << 20},
     .cpu = "generic",
     .features = {"+v8.2a", "+neon", "+dotprod", "+i8mm", "+bf16"},
     .cc_flags = "-march=armv8.2-a+dotprod+i8mm+bf16",
     .rank = 4,
     .meaning = "NEON, int8 dot and matrix products (SDOT, SMMLA), bf16",
     .needs = NEEDS_V82 " dotprod i8mm bf16"},
};

const TargetTable aarch64_targets = {rows, COUNT_OF(rows)};
