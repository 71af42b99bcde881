// The first failure wins: what comes after it is usually its consequence.
#include "runtime/fail.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int tn_fail(tn_failure *failure, int code, const char *format, ...) {
    if (!failure || failure->code)
        return -1;
    failure->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(failure->text, sizeof failure->text, format, args);
    va_end(args);
    return -1;
}

// Edit distance by one row of the table; words longer than 40 are not names of ours.
static int fail_distance(const char *a, const char *b) {
    enum { MOST = 40 };
    size_t n = strlen(a), m = strlen(b);
    if (n > MOST || m > MOST)
        return MOST;
    int row[MOST + 1];
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

const char *tn_nearest(const char *word, const char *const *candidates, int count) {
    const char *nearest = NULL;
    int limit = (int)strlen(word) / 3 + 1;
    for (int i = 0; i < count; i++) {
        int distance = fail_distance(word, candidates[i]);
        if (distance <= limit) {
            nearest = candidates[i];
            limit = distance - 1;
        }
    }
    return nearest;
}
