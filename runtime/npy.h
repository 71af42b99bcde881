// A float32 matrix written row by row as NumPy's .npy (format 1.0: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
#ifndef TENON_RUNTIME_NPY_H
#define TENON_RUNTIME_NPY_H
#include <stdint.h>
#include "runtime/fail.h"

typedef struct { const char *path; int fd; int width; uint64_t rows; } Npy;    // rows: the shape's first size, one more than the highest row written

int tn_npy_open(Npy *npy, const char *path, int width, tn_failure *failure);
int tn_npy_row(Npy *npy, uint64_t row, const float *values, tn_failure *failure);   // in any order; what is never written is zero
int tn_npy_close(Npy *npy, tn_failure *failure);                                    // writes the header; 0, or -1

#endif
