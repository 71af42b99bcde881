// Between the two halves of canonicalize: rewriting nodes (canonicalize.c) and computing what depends on weights alone (fold.c).
#ifndef TENON_PASSES_CANONICALIZE_H
#define TENON_PASSES_CANONICALIZE_H
#include "passes/rewrite.h"

// Replaces nodes that depend on weights and constants alone by weights. False after an error; *changed says whether anything was replaced.
bool fold_constants(Module *module, bool *changed, Diags *diags);

#endif
