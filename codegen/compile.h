// Inside codegen: the back end's library, opened on demand.
#ifndef TENON_CODEGEN_COMPILE_H
#define TENON_CODEGEN_COMPILE_H
#include "codegen/backend.h"
#include "ir/base.h"

bool backend_path(char *path, size_t room);     // where the library lies; false: nowhere
const Backend *backend_open(Diags *diags);       // NULL with an error

#endif
