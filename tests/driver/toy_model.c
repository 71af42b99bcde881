// A program such as generated code defines, written by hand: the next token is the id plus the weight section's first byte, modulo 8.
// The back end's tests put runtime/abi.h before it.
static void run(const tn_step *step, tn_worker *worker) {
    if (worker->index != 0) return;
    for (int row = 0; row < step->rows; row++)
        for (int i = 0; i < 8; i++)
            step->out[row * 8 + i] = i == (step->inputs[0][step->keep[row]] + step->weights[0]) % 8 ? 2.0f : fmaf(0.125f, (float)i, -1.0f);
}

static const char *const names[] = {"tokens"};
static const int limits[] = {8};

const tn_program tn_model = {.abi = TN_ABI,
                             .model = "toy",
                             .target = "generic",
                             .compiler = "tenon test",
                             .weights_bytes = 4096,
                             .arena_bytes = 64,
                             .context = 64,
                             .max_tokens = 16,
                             .max_rows = 16,
                             .max_sequences = 4,
                             .input_count = 1,
                             .input_names = names,
                             .input_limits = limits,
                             .out_kind = TN_PER_ROW,
                             .out_width = 8,
                             .causal = 1,
                             .run = run};
