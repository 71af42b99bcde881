// What this processor has, by name: "avx2", "avx512vnni", "amx-int8", "dotprod". A feature counts when the processor has it and the kernel saves
// its state (CPUID with XCR0; Linux's permission for AMX tiles; HWCAP): never because of a processor's name, which a hypervisor may mask.
//
// tn_program.needs holds the words of what its code may use; the compiler's targets use the same words.
#ifndef TENON_RUNTIME_CPU_H
#define TENON_RUNTIME_CPU_H
#include <stdbool.h>
#include <stddef.h>
#include "runtime/fail.h"

enum { TN_CPU_FEATURES = 64 };
typedef struct { const char *name; bool usable; } CpuFeature;

// All that are known of this machine's kind of processor, in order; the count, at most `room`.
int tn_cpu_features(CpuFeature *features, int room);
// Whether this processor has all words of `needs` (separated by spaces; NULL: none). Those that it lacks go into `missing` (may be NULL). A word that
// is not known is lacking. Tiles are asked for from Linux only when they are among the words, for all threads that are started later.
bool tn_cpu_has(const char *needs, char *missing, size_t room);

// The program whose code is to be run: `program` itself or, of one for several targets, the first of its variants that this processor can run.
// The environment variable TENON_TARGET names one of them instead. NULL, with a failure that says what is missing.
const tn_program *tn_choose(const tn_program *program, tn_failure *failure);

#endif
