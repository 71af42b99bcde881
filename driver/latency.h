// --latency MS: the best format whose token comes in time on this machine.
#ifndef TENON_DRIVER_LATENCY_H
#define TENON_DRIVER_LATENCY_H
#include "driver/driver.h"

// When --latency is given: predicts what a token takes in each format that may be taken (that of --quant, else from the best on), and sets --quant, and
// --memory where the weights have no room, to the first that is in time. What it found goes to standard error. EXIT_DONE, or the code to leave with.
int latency_choose(Options *options);
// Behind the format that is set: the next one that may be taken. False: there is none.
bool latency_next(Options *options);
// Measures a compiled program (its --bench --latency). EXIT_DONE: in time, which is said; EXIT_MACHINE: not, and that is said.
int latency_measure(const BuildOptions *build, const char *program);

#endif
