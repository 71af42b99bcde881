// tenon bench: how fast. The program measures itself (the run time's --bench); this is `run` with that option set.
#include "driver/build.h"

static int run(const Command *command, int argc, char **argv) { return run_command_line(command, argc, argv, true); }

const Command bench_command = {
    "bench",
    "MODEL",
    "prefill, decode, batched decode: tokens a second, bytes and operations",
    "Compiles the model as `run` does and measures it: prompts of several lengths, single-stream decode, decode of several sequences at "
    "once.\n"
    "Figures are medians; beside them stand the bytes and operations that a token takes.",
    "  tenon bench smollm2.gguf\n  tenon bench model.yaml --kernels --threads 2\n      with the time of each kernel\n"
    "  tenon bench model.yaml --json > bench.json\n",
    run,
};
