// A file that appears whole or not at all: written under another name in its folder, then renamed.
#ifndef TENON_CODEGEN_OUTFILE_H
#define TENON_CODEGEN_OUTFILE_H
#include "ir/base.h"

typedef struct {
    int fd;
    char *path, *target; // the temporary name; what is written in the end
    const char *out;     // as it was given
} OutFile;

bool outfile_open(OutFile *file, const char *out, Diags *diags);
// Gives the file its name, and 0666 or (executable) 0777 less the umask. The file is gone when this fails.
bool outfile_keep(OutFile *file, bool executable, Diags *diags);
void outfile_drop(OutFile *file); // removes it
void outfile_drop_all(void);      // those that are open: for a signal handler, before the process ends

#endif
