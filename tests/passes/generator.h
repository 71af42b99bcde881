// Random modules: small, with every kind of operation, blocks, experts, caches and weights with values.
#ifndef TENON_TESTS_GENERATOR_H
#define TENON_TESTS_GENERATOR_H
#include "ir/ir.h"

typedef struct { uint64_t state; } Random;
uint64_t random_next(Random *random);
int random_below(Random *random, int n);
float random_float(Random *random);   // about -1 … 1

// The same module for the same seed. Its inputs are tokens i32[T] (ids below 11) and perhaps x f32[T, n]. Verified by the caller.
Module *generate_module(Arena *arena, uint64_t seed, Diags *diags);

#endif
