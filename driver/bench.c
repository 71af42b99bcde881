// tenon bench: how fast. The program measures itself (the run time's --bench); this is `run` with that option set.
#include "driver/build.h"

static int run(const Command *command, int argc, char **argv) { return run_command_line(command, argc, argv, true); }

const Command bench_command = {
    "bench",
    "MODEL",
    "prefill, decode, batched decode; each kernel against the limits of this machine",
    "Compiles the model as `run` does and measures it: a prompt of 512 tokens, decode of one sequence and of 2, 4, 8 and 16 at a context of 160.\n"
    "With --kernels also, for each kernel: its time, the bytes and operations that it needs, and how near that is to what this machine can do,\n"
    "measured in the same process: read bandwidth and the peak of the arithmetic it multiplies in.",
    "  tenon bench smollm2.gguf\n"
    "  tenon bench model.yaml --kernels --sequences 1 --threads 2\n"
    "  tenon bench model.yaml --decode-at 4096 --json > bench.json\n",
    run,
};
