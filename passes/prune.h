// What the files of the prune pass share: what was asked for, and the dimensions that exist only between matrices.
#ifndef TENON_PASSES_PRUNE_H
#define TENON_PASSES_PRUNE_H
#include "passes/passes.h"
#include "passes/rewrite.h"

// ---- what was asked for (prune_spec.c) ------------------------------------------------------------------------------------------------------

typedef enum { PRUNE_NONE, PRUNE_VALUES, PRUNE_PATTERN, PRUNE_BLOCKS, PRUNE_NEURONS, PRUNE_HEADS, PRUNE_EXPERTS } PruneKind;

// One item of --prune. `name` (of `length` characters, perhaps with `*`): only matrices of that name; NULL: all that may be pruned.
typedef struct { const char *name; int length; PruneKind kind; double rate; int keep, of, rows, columns; } PruneItem;
enum { MOST_PRUNE_ITEMS = 64 };
typedef struct { PruneItem items[MOST_PRUNE_ITEMS]; int count; } PruneSpec;

bool prune_spec_read(const char *text, PruneSpec *spec, Diags *diags);
const PruneItem *prune_spec_find(const PruneSpec *spec, PruneKind kind);               // neurons, heads, experts; NULL: not asked for
const PruneItem *prune_spec_matrix(const PruneSpec *spec, const char *name, bool all); // the last that fits; `all`: items without a name, too

// ---- free axes (prune_axes.c) ---------------------------------------------------------------------------------------------------------------

// An axis of a value or of a weight. Axes that an operation carries over to one another are joined: what is said of the root holds for all.
// `size` of the root is the number of units: every joined axis is a multiple of it, a unit being so many neighbours.
typedef struct {
    int parent;
    int64_t size;
    int64_t groups;        // units go from each of so many equal groups alike (heads that share keys, groups of experts); 1: no matter which
    bool fixed;            // something reads the axis that must see all of it
    bool heads, choice, mixture;   // attention goes over it; softmax or top_k does, which only a mixture's choice may
    int64_t kept;          // decided: units that stay; 0: all
} Axis;

enum { COUNT_AXIS = MAX_RANK };   // the weights of an array

// Where a function multiplies with an axis of a weight, or adds it.
typedef struct { const Func *func; const Value *value; int axis, id; bool column; } AxisMember;   // column: it is summed over

typedef struct {
    Module *module;
    Arena *arena;
    Bindings *bindings;
    PtrMap values, classes, points;   // first axis of a value, of a class of weights; the axis that indices point into
    Axis *axes; int count, capacity;
    AxisMember *members; int member_count, member_capacity;
    double heads_rate;
} Axes;

void axes_find(Axes *axes, Module *module, double heads_rate, Arena *arena);
int axes_of(Axes *axes, const Value *value, int axis);   // the number of an axis of a value, or COUNT_AXIS of a parameter or weight
int axes_root(const Axes *axes, int id);
PruneKind axes_kind(const Axes *axes, int root);         // PRUNE_NONE: not free

// ---- which units go (prune_take.c) ----------------------------------------------------------------------------------------------------------

// Roots whose `kept` is set: decides which units stay for each layer, takes them out of the weights, and infers all types anew.
bool prune_take(Axes *axes, const PassOptions *options, Diags *diags);
// Energies of the columns that a weight still has; NULL: nothing was seen of it.
const float *prune_energy(const PassOptions *options, const Weight *weight, Arena *arena);
#endif
