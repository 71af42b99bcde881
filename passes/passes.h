// Passes over the graph IR, in the order of pipeline.def. A pass sees the graph, its options and the diagnostics sink; passes never call each other.
#ifndef TENON_PASSES_PASSES_H
#define TENON_PASSES_PASSES_H
#include "ir/ir.h"
#include "ir/target.h"

// What a calibration run saw of the rows that a matrix is multiplied with: Σ x² of each column, over all rows that came to it.
typedef struct { const char *name; int64_t columns; const float *energy; } SeenColumns;
typedef struct Importance { int count; SeenColumns *items; } Importance;   // sorted by the matrices' names

typedef struct {
    const Target *target;
    const char *quantize;         // --quant: as-stored (NULL means that), w8a8, f16, bf16 …
    const char *kv;               // --kv: f32, f16, bf16, int8: what the KV cache keeps; NULL: as suits the quantization
    const char *group;            // --group: 32, 64, 128 or channel; NULL: as the recipe has it
    const char *activation_group; // --act-group: 32, 64, 128 or row; NULL: as suits each product
    bool symmetric;               // --symmetric: 4-bit weights without a minimum
    const char *sparse;           // --sparse: auto, never, always, blocks: which pruned matrices lie without their zeros; NULL: auto, where it is faster
    bool no_fusion;               // --no-fusion: a kernel for each op, to measure what fusing is worth
    const char *choices;          // --bits: "NAME=BITS NAME=4g64 …" for matrices by name, `*` for any text in it: 4, 8, 16, or 0 as stored
    const char *prune;            // --prune: "0.4, 2:4, neurons=0.25, NAME=…": what becomes zero or goes (prune_spec.c); NULL: nothing
    const Importance *importance; // by which it is chosen; NULL: by magnitude
    bool inputs;                  // `observe` before every product: a calibration run
    // the driver:
    const char *only;             // --passes: a comma-separated list instead of all; "none": none
    const char *skip;             // --skip-pass
    const char *print_after;      // all, or a pass's name; NULL: nothing
    bool timing;
    bool verify;                  // after each pass; always in debug builds
    FILE *print_to;               // for print_after
    void (*observe)(void *to, const char *pass, double milliseconds, const Module *module);   // called after each pass; NULL: nobody looks
    void *observe_to;
    const char *reproducer;       // where to leave the IR when a pass breaks it (repro.tir); NULL: do not
} PassOptions;

typedef struct { const char *phase, *name; int level; const char *needs, *meaning; bool (*run)(Module *, const PassOptions *, Diags *); } Pass;
extern const Pass passes[];
extern const int pass_count;

// Whether the options name passes, a quantization and a cache format that there are; said in diags. run_passes says the same, but only once there is a module.
bool pass_options_valid(const PassOptions *options, Diags *diags);
bool quantization_valid(const PassOptions *options, Diags *diags);
const char *cache_format(const PassOptions *options);   // what the KV cache keeps: --kv, or by its default

bool run_passes(Module *module, const PassOptions *options, Diags *diags);
#endif
