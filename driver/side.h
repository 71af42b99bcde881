// One of the two models that eval compares: built and run in this process, or a compiled program that is run beside it. Both give the logits of a
// window of tokens row by row, so that no more of them are held than the caller asks for at a time.
#ifndef TENON_DRIVER_SIDE_H
#define TENON_DRIVER_SIDE_H
#include "driver/build.h"
#include "driver/child.h"
#include "runtime/engine.h"

typedef struct {
    const char *path;
    int context, width;         // the longest window; logits a row
    const char *target;
    const Tokenizer *tokenizer; // NULL: none
    // in this process
    Program program;
    tn_engine *engine;
    int sequence;
    // a program beside
    bool beside;
    int threads, asked_context;
    Blob *blob;
    Tokenizer *own_tokenizer;
    char target_name[64];
    Child child;
    float *row;
} Side;

bool side_is_program(const char *path);   // an executable file, not a model
// EXIT_DONE, or the exit code, with the reason in diags. `context`: of a sequence; 0: the model's. side_close in any case.
int side_open(Side *side, const char *path, const BuildOptions *build, int threads, int context, Diags *diags);
void side_close(Side *side);

bool side_begin(Side *side, const int *ids, int count, Diags *diags);   // a window of ids, of which every row will be taken
// The rows of the next `count` of the window's ids, in order.
bool side_rows(Side *side, const int *ids, int count, void (*take)(void *to, const float *row), void *to, Diags *diags);
bool side_end(Side *side, Diags *diags);

#endif
