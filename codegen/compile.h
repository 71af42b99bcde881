// Inside codegen: the back end's library, opened on demand.
#ifndef TENON_CODEGEN_COMPILE_H
#define TENON_CODEGEN_COMPILE_H
#include "codegen/backend.h"
#include "ir/base.h"

// Where a file of ours lies: beside the program, in ../lib/tenon, or in a folder above (the build tree). False: nowhere.
bool beside_program(const char *name, char *path, size_t room);
#define BACKEND_LIBRARY "libtenon-clang.so"
const Backend *backend_open(Diags *diags); // NULL with an error

#endif
