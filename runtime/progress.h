// A progress bar on standard error, only when that is a terminal.
#ifndef TENON_RUNTIME_PROGRESS_H
#define TENON_RUNTIME_PROGRESS_H
#include <stdbool.h>
#include <stdint.h>

typedef struct { const char *what; uint64_t began_ns, drawn_ns; bool on, drawn; } Progress;

void tn_progress_begin(Progress *progress, const char *what);    // nothing is drawn before half a second has passed
void tn_progress_show(void *progress, uint64_t done, uint64_t total);   // fits plan_pack's callback
void tn_progress_end(Progress *progress);                        // clears the line
#endif
