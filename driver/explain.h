// tenon explain: what its sections share. The report is one HTML text that is written from top to bottom; what a section needs to know was
// gathered before: the stages of the graph (explain_passes.c), measurements (explain_measure.c), and the build itself.
#ifndef TENON_DRIVER_EXPLAIN_H
#define TENON_DRIVER_EXPLAIN_H
#include "codegen/plan.h"
#include "driver/build.h"
#include "runtime/limits.h"

// ---- stages: the graph as each pass left it -----------------------------------------------------------------------------

typedef struct {
    const char *name, *kind;   // decoder; func, kernel, main or weights
    const char **lines;        // the same pointer as in the stage before when nothing changed
    int count, capacity;
} Listing;

typedef struct {
    const char *name;          // the pass; "model": as it was read
    double milliseconds;
    Listing *listings;
    int count, capacity;
} Stage;

typedef struct { const char *name; double milliseconds; } Phase;

// ---- work and measurements ------------------------------------------------------------------------------------------------

// One way of running a step.
typedef struct {
    const char *name, *meaning;
    int tokens, rows, sequences, context;   // context: positions before and in this step that a token attends to
    bool prompt;                            // the tokens of one sequence, from position 0
} Scenario;
enum { SCENARIOS = 3 };

// Of all calls of a kernel in one step. Memory: weights and KV cache; rows: operands and results, which may have stayed in a cache.
typedef struct { double memory, rows, operations; int calls; } Work;

typedef struct {
    bool here;                 // the limits were measured: the program ran on this machine
    Limits limits;
    const char *why;           // what was not measured, and why; NULL
    double *seconds[SCENARIOS];      // of each kernel, by id, in one step; NULL: not run
    double step_seconds[SCENARIOS];
} Measured;

typedef struct {
    Arena *arena;
    const char *path;
    const BuildOptions *options;
    Build *build;
    Text *out;
    Stage *stages;
    int stage_count, stage_capacity;
    Phase *phases;
    int phase_count, phase_capacity;
    uint64_t object_bytes, c_bytes;
    Scenario scenarios[SCENARIOS];
    Measured measured;
} Explain;

enum { DECODE_CONTEXT = 64 };   // positions before the step in the scenarios that generate

// ---- explain_html.c ---------------------------------------------------------------------------------------------------------

void html_text(Text *out, const char *text);                   // escaped; bytes that are no UTF-8 and control characters become U+FFFD
void html_textn(Text *out, const char *text, size_t length);
void html_short(Text *out, const char *text, int most);        // at most so many characters, the middle left out
int html_length(const char *text);                             // in characters
void html_bytes(Text *out, double bytes);                      // 1.25 MB
void html_number(Text *out, double number, const char *unit);  // 1.25 G + unit
void html_time(Text *out, double seconds);
void html_c(Text *out, const char *text, size_t length);       // C, coloured
void html_ir(Text *out, const char *line);                     // a line of the graph IR, coloured
void html_style(Text *out);
void html_script(Text *out);
void section_begin(Explain *e, const char *id, const char *title, const char *lead);   // lead: plain text, may be NULL
void section_end(Explain *e);
// A name in which runs of digits are a #: layers of one kind are alike. In the arena.
const char *family_name(Arena *arena, const char *name);

// ---- the sections -------------------------------------------------------------------------------------------------------------

void stage_take(Explain *e, const char *name, double milliseconds, const Module *module);
void explain_passes(Explain *e);
void explain_graph(Explain *e);
void explain_kernels(Explain *e);
void explain_memory(Explain *e);
void explain_roofline(Explain *e);
void explain_weights(Explain *e);

// ---- explain_work.c -----------------------------------------------------------------------------------------------------------

void scenarios_init(Explain *e);
Work *work_of(const Explain *e, const Scenario *scenario);     // of each kernel, by id; in the arena
typedef enum { KERNEL_PRODUCT, KERNEL_ATTENTION, KERNEL_OTHER } KernelClass;
KernelClass kernel_class(const FuncPlan *f);
const char *kernel_arithmetic(const FuncPlan *f);              // the name of the probe that bounds it
double work_bytes(const Work *work);
// Seconds that the measured limits allow at best; 0: unknown. `step_memory`: what the whole step reads of weights and KV cache.
double kernel_bound(const Explain *e, const FuncPlan *f, const Work *work, double step_memory);

// ---- explain_kernels.c --------------------------------------------------------------------------------------------------------

const char *kernel_class_name(const FuncPlan *f);              // the CSS class: product, attention, other
const FuncPlan **kernels_in_order(const Explain *e);           // by id; in the arena

// ---- explain_measure.c ---------------------------------------------------------------------------------------------------------

// Runs the compiled program and its probes of this machine; what cannot be measured stays 0 and is said in measured.why.
void measure(Explain *e, const Text *object);

#endif
