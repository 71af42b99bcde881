// Between the two halves of fuse: which nodes belong together (fuse.c), and making a kernel of each group (outline.c).
#ifndef TENON_PASSES_FUSE_H
#define TENON_PASSES_FUSE_H
#include "passes/rewrite.h"

typedef enum { GROUP_LINEAR, GROUP_ATTEND, GROUP_ROW, GROUP_SEQUENCE } GroupKind;

// Groups of a function's nodes. A node is in a group, or it stays a node of the function (a call), or it rides: it is repeated in every kernel
// that reads it, because repeating it costs nothing (a const, a reshape of a value that exists anyway).
typedef struct {
    Func *func;
    Arena *arena;          // scratch
    Uses *uses;
    Diags *diags;
    int count;             // of nodes
    int *group;            // node → its group, or -1
    int *ring;             // node → the next of its group, round in a circle
    int *last;             // group → the node that entered last, or -1
    bool *rides;           // node → repeated where it is read
    GroupKind *kind;       // group → what it is
    int group_count;
    Bindings *bindings; const DType *stored;   // by class of bound weights: Weight.quantize_to. A kernel is for one storage of each
    Module *workshop;      // where kernels are built before it is known whether an equal one exists
} Fusion;

Value *fusion_beneath(const Fusion *fusion, Value *value);   // the value under reshapes that ride
bool outline(Fusion *fusion);   // replaces the function's nodes by calls

#endif
