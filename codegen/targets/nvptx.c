// NVIDIA GPUs, as PTX. The same kernels in their generic lowering, one task a CUDA thread: the proof that the text reaches a GPU, and the oracle
// that tensor-core lowerings will be held against. There is no step and no run time for it yet, so only `--emit ptx` takes it.
#include "codegen/targets/targets.h"

static const TargetRow rows[] = {
    {.target = {.name = "sm_90a", .triple = "nvptx64-nvidia-cuda", .vector_bits = 32, .vector_registers = 255, .l1_bytes = 228 << 10, .l2_bytes = 50 << 20},
     .cpu = "sm_90a", .features = {"+ptx80"}, .rank = 0, .meaning = "NVIDIA Hopper: kernels as PTX (--emit ptx)"},
};

const TargetTable nvptx_targets = {rows, COUNT_OF(rows)};
