// A float32 matrix written row by row as NumPy's .npy (format 1.0: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
#ifndef TENON_RUNTIME_NPY_H
#define TENON_RUNTIME_NPY_H
#include <stdbool.h>
#include <stdint.h>
#include "runtime/fail.h"

typedef struct {
    const char *path;            // as it was given
    int fd, width;
    uint64_t rows;               // the shape's first size, one more than the highest row written
    char *target, *part;         // what is written in the end, and the name before that; NULL: a device, written in place
    bool unnamed;                // the file has no name yet, not even `part`
    bool stream;                 // a pipe: the header is written, rows come in order
} Npy;

int tn_npy_open(Npy *npy, const char *path, int width, uint64_t rows, tn_failure *failure);   // rows: how many there will be
int tn_npy_row(Npy *npy, uint64_t row, const float *values, tn_failure *failure);   // in any order; what is never written is zero
// whole: writes the header and gives the file its name, in place of an older one. Otherwise, or when that fails (-1), nothing is left of it.
int tn_npy_close(Npy *npy, bool whole, tn_failure *failure);

#endif
