// x86-64: AVX2 (v3) and AVX-512 (v4), each with int8 dot products (VNNI), AVX-512 with bf16 dot products, and AMX tiles. What a target needs
// is compared with CPUID and XCR0 (runtime/cpu.c).
#include "codegen/targets/targets.h"

#define TRIPLE "x86_64-linux-gnu"
#define NEEDS_V3 "sse3 ssse3 cx16 sse4.1 sse4.2 popcnt lahf avx f16c fma avx2 bmi bmi2 lzcnt movbe"
#define NEEDS_V4 NEEDS_V3 " avx512f avx512bw avx512cd avx512dq avx512vl"
#define CC_V4 "-march=x86-64-v4 -mprefer-vector-width=512"
#define SHAPE_V3 .triple = TRIPLE, .vector_bits = 256, .vector_registers = 16, .l1_bytes = 32 << 10, .l2_bytes = 512 << 10
#define SHAPE_V4 .triple = TRIPLE, .vector_bits = 512, .vector_registers = 32, .l1_bytes = 32 << 10, .l2_bytes = 1 << 20

static const TargetRow rows[] = {
    {.target = {.name = "x86-64-v3", SHAPE_V3},
     .cpu = "x86-64-v3",
     .cc_flags = "-march=x86-64-v3",
     .rank = 2,
     .meaning = "AVX2, FMA, F16C: Intel since 2013, AMD since 2015",
     .needs = NEEDS_V3},
    {.target = {.name = "x86-64-v3+vnni", SHAPE_V3, .dot_u8s8 = true},
     .cpu = "x86-64-v3",
     .features = {"+avxvnni"},
     .cc_flags = "-march=x86-64-v3 -mavxvnni",
     .rank = 3,
     .meaning = "AVX2 with int8 dot products (AVX-VNNI): Intel Core since 2021, AMD since 2024",
     .needs = NEEDS_V3 " avxvnni"},
    {.target = {.name = "x86-64-v4", SHAPE_V4},
     .cpu = "x86-64-v4",
     .cc_flags = CC_V4,
     .rank = 4,
     .meaning = "AVX-512 (F, BW, CD, DQ, VL)",
     .needs = NEEDS_V4},
    {.target = {.name = "x86-64-v4+vnni", SHAPE_V4, .dot_u8s8 = true},
     .cpu = "x86-64-v4",
     .features = {"+avx512vnni"},
     .cc_flags = CC_V4 " -mavx512vnni",
     .rank = 5,
     .meaning = "AVX-512 with int8 dot products: Intel Xeon since 2019, AMD since 2022",
     .needs = NEEDS_V4 " avx512vnni"},
    {.target = {.name = "x86-64-v4+bf16", SHAPE_V4, .dot_u8s8 = true, .dot_bf16 = true, .expand = true},
     .cpu = "x86-64-v4",
     .features = {"+avx512vnni", "+avx512bf16", "+avx512vbmi2"},
     .cc_flags = CC_V4 " -mavx512vnni -mavx512bf16 -mavx512vbmi2",
     .rank = 6,
     .meaning = "AVX-512 with int8 and bf16 dot products, and VBMI2: AMD since 2022, Intel Xeon since 2023",
     .needs = NEEDS_V4 " avx512vbmi2 avx512vnni avx512bf16"},
    {.target = {.name = "amx",
                .triple = TRIPLE,
                .vector_bits = 512,
                .vector_registers = 32,
                .dot_u8s8 = true,
                .dot_bf16 = true,
                .expand = true,
                .tile_i8 = true,
                .tile_bf16 = true,
                .l1_bytes = 48 << 10,
                .l2_bytes = 2 << 20},
     .cpu = "x86-64-v4",
     .features = {"+avx512vnni", "+avx512bf16", "+avx512vbmi2", "+amx-tile", "+amx-int8", "+amx-bf16"},
     .cc_flags = CC_V4 " -mavx512vnni -mavx512bf16 -mavx512vbmi2 -mamx-tile -mamx-int8 -mamx-bf16",
     .rank = 7,
     .meaning = "AVX-512 and matrix tiles (AMX): Intel Xeon since 2023",
     .needs = NEEDS_V4 " avx512vbmi2 avx512vnni avx512bf16 amx-tile amx-int8 amx-bf16"},
};

const TargetTable x86_64_targets = {rows, COUNT_OF(rows)};
