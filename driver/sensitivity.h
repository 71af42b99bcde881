// What each matrix costs at each format it could have: measured, for --quant auto.
#ifndef TENON_DRIVER_SENSITIVITY_H
#define TENON_DRIVER_SENSITIVITY_H
#include "driver/calibrate.h"

enum { FORMATS = 6, PROBE_WINDOWS = 2, PROBE_WINDOW = 64 };
extern const char *const format_names[FORMATS];   // from coarse to fine, as --bits has them: 4g128 … 16

// Matrices that are given one format together: those of one shape that read the same x, and the experts of a layer.
typedef struct {
    int *weights, count;        // ids
    double elements;
    double bytes[FORMATS];      // < 0: it cannot have this format
    double error[FORMATS];      // squared error at the output; without calibration, of the weights
    double cost;                // at format `probe`: KL divergence of the model's output with this alone rounded (an encoder's: 1 − cosine)
    int probe, chosen;
} Unit;

// The model in 16-bit floats with float32 arithmetic, whose matrices can be exchanged while it lives, and what it says to some tokens.
typedef struct {
    Build build;
    Program program;
    tn_engine *engine;
    unsigned char *weights;     // writable
    int ids[PROBE_WINDOWS][PROBE_WINDOW], counts[PROBE_WINDOWS];
    float *base;                // [rows][width]: probabilities; an encoder's output as it is
    double *entropy;            // [rows]
    int rows, width;
    bool causal;
} Probe;

typedef struct {
    const char *path;
    const BuildOptions *options;
    Arena *arena;
    Build build;                // behind the passes, all matrices at 8 bits
    Calibration calibration;
    Unit *units; int unit_count;
    double kept_elements, kept_bytes;   // of matrices that stay as they are
    Probe *probe;                       // NULL: the model has no tokenizer; a cost is then the relative error of the weights
    Progress progress;
    int done;
} Sensitivity;

// Fills in everything, from path, options and arena. With --calibrate matrices are rounded by GPTQ, else plainly. `known`: what sensitivity_write
// wrote for the same model, text and rounding, so that only the probe is opened; or NULL. False with errors.
bool sensitivity_measure(Sensitivity *s, const char *known, Diags *diags);
void sensitivity_write(const Sensitivity *s, Text *out);
// The distance of another program of the model from the probe's, on its tokens: a mean over rows.
bool sensitivity_distance(const Sensitivity *s, tn_engine *engine, double *distance, Diags *diags);
int probe_context(const Program *program);   // that reading the probe's tokens takes
double unit_cost(const Unit *unit, int format);
void sensitivity_close(Sensitivity *s);
#endif
