// tenon tune: what its files share. A search compares the schedules ("arms") of one kernel and one group of fields by samples: the time of all calls
// of the kernel in one step of the whole model, so that weights come from where they come from in use. tune_search.c decides, tune_run.c measures.
#ifndef TENON_DRIVER_TUNE_H
#define TENON_DRIVER_TUNE_H
#include "codegen/plan.h"
#include "driver/build.h"
#include "driver/tune_db.h"
#include "runtime/engine.h"

// ---- deciding (tune_search.c) -----------------------------------------------------------------------------------------------

enum { MAX_POINTS = 4, MOST_SAMPLES = 11, FEW_SAMPLES = 5 };   // of an arm in steps of one size; few: where steps take long

typedef struct { double *ns; int count, capacity; } Samples;   // of one call, averaged over the calls of a step
typedef struct { Schedule schedule; int form; bool alive; Samples at[MAX_POINTS]; } Arm;   // form: its number in the compiled program

typedef struct {
    Arena *arena;
    Arm *arms;             // the first is the built-in one
    int arm_count, points;
    int rows[MAX_POINTS];  // of the steps
    bool done;
    int best;              // an arm; the built-in one unless another is better by enough to be told from noise
} Search;

// `most_rows`: of any step of this model.
void search_init(Search *search, Arena *arena, const ScheduleKey *key, ScheduleGroup group, int most_rows);
void search_add(Search *search, int rows, const Schedule *schedule, double ns);   // what does not belong to it is ignored
// The arm that the next step of `rows` should measure; -1: none. `random` breaks ties, so that searches side by side mix their arms.
int search_next(const Search *search, int rows, int most, unsigned random);
void search_judge(Search *search, int most);   // gives up arms that lose; sets done and best
void search_settle(Search *search);            // the best by what there is, for a search that ends early
double search_typical(const Search *search, int arm, int point);   // nanoseconds, without noise; 0: no sample
int search_wanted(const Search *search, int most);                // samples that are still to be made if no arm is given up

// ---- measuring (tune_run.c) ---------------------------------------------------------------------------------------------------

enum { STAND_SEQUENCES = 16, STAND_CONTEXT = 16 };

// An opened program and the sequences that its small steps continue.
typedef struct {
    const tn_program *program;
    tn_engine *engine;
    int sequences[STAND_SEQUENCES], count;
    tn_failure failure;
} Stand;

bool stand_open(Stand *stand, const tn_program *program, const Blob *blob, int threads, bool kernels);
int stand_most_rows(const Stand *stand);
// One step of so many rows: of as many sequences when they are few, else of one prompt. Its time in seconds; negative: stand->failure.
double stand_step(Stand *stand, int rows);
double stand_kernel_ns(const Stand *stand, int kernel);   // in the last step, of the thread that took longest
void stand_close(Stand *stand);
#endif
