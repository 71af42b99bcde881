// Calibration: the float model reads a text, and what each matrix is multiplied with decides how it is rounded.
#ifndef TENON_DRIVER_CALIBRATE_H
#define TENON_DRIVER_CALIBRATE_H
#include "driver/build.h"
#include "ir/gptq.h"

// What a calibration run sees of the rows that some matrices share: the second moments.
typedef struct {
    int64_t k;
    int rotation;              // of the matrices: the moments are those of the rotated rows once the run is over
    double *energy;            // of each column Σ x², where that is all that is asked for; else NULL
    GptqBlock *blocks;         // of `k` columns in all; NULL while it is not its turn
    int block_count;
    float *rows;               // waiting to be added
    int row_count;
} Moments;

typedef struct {
    Module *module;            // whose weights are to be rounded, behind the passes; NULL: only the energies of columns are asked for, of all matrices
    const char *path;
    const BuildOptions *options;
    Text text;
    Moments *moments; int moments_count;
    int *of;                   // of each weight by id: which moments it is multiplied with; -1: none
    const char **names; int seen_count;   // of the weights, without a module; until the run is closed
    int threads;
} Calibration;

// calibrate_run.c: which matrices share what they are multiplied with, and a run over the text that fills all moments that have blocks.
typedef struct CalibrationRun CalibrationRun;
CalibrationRun *calibration_run_open(Calibration *calibration, Diags *diags);   // fills `of`, `moments` (without blocks)
bool calibration_run(CalibrationRun *run, Diags *diags);
void calibration_run_close(CalibrationRun *run);
void calibration_close(Calibration *calibration);   // frees its text and what a run has filled in; the run is closed before
// Options of a model as stored in float32 on this machine: nothing of what was asked for that is numerics.
void calibration_options(BuildOptions *to, const BuildOptions *from);
// The module's code in this process, with weights in a file without a name.
bool calibration_program(Build *build, Program *program, Diags *diags);

// Calls work(to, 0 … count-1), each once, from several threads.
void calibrate_parallel(int threads, int64_t count, void (*work)(void *to, int64_t i), void *to);
bool calibrated(const Weight *weight);   // it is rounded by calibration

// calibrate.c: as many runs over the text as it takes to fill all moments, some at a time. After each `take` is called: moments that have blocks are
// rotated and factored now; `last`: none comes after.
bool calibration_turns(Calibration *calibration, CalibrationRun *run, bool (*take)(void *to, bool last, Diags *diags), void *to, Diags *diags);
const Moments *calibration_moments(const Calibration *calibration, const Weight *weight);   // NULL: it is multiplied with nothing that was seen
// All rows of a weight in the type; moments NULL: rounded plainly. Returns the squared error at the output, or without moments of the weights.
double calibrate_round(const Weight *weight, const Moments *moments, DType to, void *out, int threads);

// calibrate.c: sets Weight.quantized of every matrix that the passes quantize to integers. The bytes stay until calibration_release.
bool build_calibrate(Build *build, const char *path, Diags *diags);
void calibration_release(Build *build);
// prune.c: where pruning is calibrated, puts options with what was seen in place of the build's.
bool build_importance(Build *build, const char *path, Diags *diags);
// The text of --calibrate, or our own.
bool calibration_text_of(const BuildOptions *options, Text *text, Diags *diags);
// What a build depends on beside the model and its formats: what is pruned, and the text of --calibrate itself. False: it cannot be read.
bool calibration_key(const BuildOptions *options, Text *key);
#endif
