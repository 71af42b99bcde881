// Which products choose experts.
#ifndef TENON_PASSES_ROUTERS_H
#define TENON_PASSES_ROUTERS_H
#include "passes/rewrite.h"

typedef struct Routers Routers;
Routers *routers_find(const Module *module, Arena *arena);
bool routers_has(const Routers *routers, const Node *linear);   // its result leads to a choice

#endif
