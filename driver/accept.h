// What an evaluation must reach: --accept kl=0.05,top1=0.95,ppl=1.05,kept=0.99.
#ifndef TENON_DRIVER_ACCEPT_H
#define TENON_DRIVER_ACCEPT_H
#include "driver/driver.h"

typedef enum { ACCEPT_KL, ACCEPT_KL_MAX, ACCEPT_TOP1, ACCEPT_PPL, ACCEPT_KEPT, ACCEPT_COUNT } AcceptKey;
typedef struct { bool wanted[ACCEPT_COUNT]; double bound[ACCEPT_COUNT]; } Accept;

// EXIT_DONE, or EXIT_USAGE after a message. `text` NULL: nothing is asked for.
int accept_parse(const Command *command, const char *text, Accept *accept);
bool accept_any(const Accept *accept);
// Adds a table, or members of an object (", \"accept\": …"); whether all bounds are kept.
bool accept_report(const Accept *accept, const double measured[ACCEPT_COUNT], bool json, Text *out);

#endif
