// A compiled program, run beside this one, and what it says.
#ifndef TENON_DRIVER_CHILD_H
#define TENON_DRIVER_CHILD_H
#include "driver/driver.h"

#include <sys/types.h>

typedef struct { const char *path; pid_t process; int pipe; } Child;   // {0}: none

// Starts it with one end of a pipe as its file `out_fd` (1: standard output).
bool child_start(Child *child, const char *path, char *const arguments[], int out_fd, Diags *diags);
size_t child_read(const Child *child, void *into, size_t length);   // until so many bytes or the end
int child_stop(Child *child);   // closes the pipe and waits; its exit code. It has said why on standard error, which it shares
// All that it prints, up to `room` bytes; its exit code, -1 when it could not be run.
int child_ask(const char *path, char *const arguments[], char *text, size_t room, size_t *length, Diags *diags);

#endif
