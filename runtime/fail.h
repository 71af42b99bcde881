// The run time's own error helper: one failure, the first, with the exit code it stands for.
#ifndef TENON_RUNTIME_FAIL_H
#define TENON_RUNTIME_FAIL_H
#include "runtime/tenon.h"

// Sets the failure unless one is set already. Always returns -1, so that `return tn_fail(…)` reads well. `failure` may be NULL.
int tn_fail(tn_failure *failure, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
// The candidate nearest to `word` by edit distance (at most a third of its length away), or NULL.
const char *tn_nearest(const char *word, const char *const *candidates, int count);

#endif
