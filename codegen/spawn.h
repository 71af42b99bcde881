// Running another program (the system's C compiler, a linker) and hearing what it says.
#ifndef TENON_CODEGEN_SPAWN_H
#define TENON_CODEGEN_SPAWN_H
#include "ir/base.h"

// The full path of a program in PATH (or the path itself when it has a slash), malloc'd; NULL: there is none.
char *find_program(const char *name);
// Runs argv (NULL-terminated, argv[0] a path) and waits. Its standard output and error go to `said`. The exit status; 128 + signal; -1: not
// started.
int run_program(const char *const *argv, Text *said);

#endif
