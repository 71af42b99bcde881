// What code generation may rely on after fuse, layout and memory, checked independently of the passes.
#ifndef TENON_TESTS_CONTRACT_H
#define TENON_TESTS_CONTRACT_H
#include "ir/ir.h"

bool check_fused(const Module *module, Text *problem);
bool check_memory(const Module *module, Text *problem);
bool check_layout(const Module *module, Text *problem);

#endif
