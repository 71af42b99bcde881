// Random modules, by seed: whatever the builder accepts of ops, operands and attributes drawn at random.
#ifndef TENON_TESTS_RANDOM_MODULE_H
#define TENON_TESTS_RANDOM_MODULE_H
#include "ir/ir.h"

// Verified by construction. `decisions`: places, layouts and frames too, as later passes write them. `made[op]` counts nodes; may be NULL.
Module *random_module(Arena *arena, uint64_t seed, bool decisions, int *made);

// Bytes for every weight that stands for a tensor, so that the module can be run.
void random_values(Module *module, uint64_t seed);
#endif
