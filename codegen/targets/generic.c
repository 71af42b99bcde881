// The generic target: plain scalar C for the machine's own instruction set at its baseline. The oracle of the others.
#include "codegen/targets/targets.h"

#if defined(__aarch64__)
#define HOST_TRIPLE "aarch64-linux-gnu"
#define HOST_CPU "generic"
#define HOST_FLAGS "-march=armv8-a"
#else
#define HOST_TRIPLE "x86_64-linux-gnu"
#define HOST_CPU "x86-64"
#define HOST_FLAGS "-march=x86-64"
#endif

static const TargetRow rows[] = {
    {.target =
         {.name = "generic", .triple = HOST_TRIPLE, .vector_bits = 0, .vector_registers = 16, .l1_bytes = 32 << 10, .l2_bytes = 256 << 10},
     .cpu = HOST_CPU,
     .cc_flags = HOST_FLAGS,
     .rank = 1,
     .meaning = "scalar code for this machine's baseline instruction set"},
};

const TargetTable generic_targets = {rows, COUNT_OF(rows)};
