// From a model to a program: the one sequence behind compile, run, eval and bench.
#ifndef TENON_DRIVER_BUILD_H
#define TENON_DRIVER_BUILD_H
#include "codegen/blob_write.h"
#include "codegen/codegen.h"
#include "driver/driver.h"
#include "frontend/frontend.h"
#include "runtime/blob.h"
#include "runtime/progress.h"

// What a build is of a program for several targets. Zeros: the whole program.
typedef struct {
    const char *symbol; // its tn_program's name; NULL: tn_model
    bool code_only;     // the blob's parts come from another build
} BuildVariant;

// A model on its way: loaded, through the passes, planned, with the blob's parts ready to be packed.
typedef struct {
    Arena *arena;
    Model *model;
    const Target *target;
    const BuildOptions *options;
    BuildVariant variant;
    Plan *plan;
    Text meta, tokenizer;
    BlobPart parts[3];
    int part_count;
    BuildOptions chosen; // --quant auto: options with what was chosen
    const char *chosen_table; // … as it was printed; else NULL
    void *calibrated; // what calibration rounded: mapped
    uint64_t calibrated_bytes;
    Progress *progress; // shown while weights are packed; may be NULL
} Build;

bool build_passes(Module *module, const BuildOptions *options, Diags *diags);
// The passes on the build's module, with all that is measured for them before and rounded behind them.
bool build_numerics(Build *build, const char *path, Diags *diags);
// The target by name; NULL with an error in diags.
const Target *build_target(const BuildOptions *options, Diags *diags);
bool build_load(Build *build, const char *path, const BuildOptions *options, Diags *diags); // without passes and plan: for the interpreter
bool build_open(Build *build, const char *path, const BuildOptions *options, Diags *diags);
bool build_open_variant(Build *build, const char *path, const BuildOptions *options, BuildVariant variant, Diags *diags);
// The generated C, compiled. The blob's hash in it is `blob_hash`.
bool build_code(const Build *build, EmitKind kind, uint64_t blob_hash, Text *out, Diags *diags);
void build_close(Build *build);

// A program ready to run in this process, from the cache or made now.
typedef struct {
    tn_program program; // a copy: the blob's hash is filled in here
    Blob *blob;
    Jit *jit;
    struct Reference *reference; // --reference: what interprets it
    bool warm;                   // code and weights came from the cache
} Program;

// False: said in diags; *code is the exit code to leave with.
bool program_open(Program *program, const char *path, const BuildOptions *options, int *code, Diags *diags);
void program_close(Program *program);

// Writes the parts into a file without a name and opens it as the program's blob: for what keeps nothing.
bool program_blob_unnamed(Program *program, const BlobPart *parts, int part_count, Diags *diags);

// driver/reference.c: a model, without a plan, as a program whose step is the reference interpreter.
bool reference_open(Program *program, const char *path, const BuildOptions *options, Diags *diags);
void reference_close(struct Reference *reference);

// driver/run.c: the command line of run and bench.
int run_command_line(const Command *command, int argc, char **argv, bool bench);

#endif
