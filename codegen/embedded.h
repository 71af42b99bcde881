// Texts that travel inside the compiler, for what it writes beside code: the run time's sources as one file, and its public headers.
#ifndef TENON_CODEGEN_EMBEDDED_H
#define TENON_CODEGEN_EMBEDDED_H
#include "ir/base.h"

void embedded_runtime(Text *out); // the run time as one C text
void embedded_header(Text *out);  // runtime/tenon.h with runtime/abi.h in its place: what users of a shared object include

#endif
