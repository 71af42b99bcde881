// What a target is to the back end: the plain data that passes and schedules see, the words that Clang understands, and whether this
// machine is one.
//
// Each ISA file gives one table; targets.c joins them. Adding an ISA is one file here and one row there.
#ifndef TENON_CODEGEN_TARGETS_H
#define TENON_CODEGEN_TARGETS_H
#include "codegen/codegen.h"

enum { MAX_TARGET_FEATURES = 12 };

typedef struct {
    Target target;                             // first: a const Target * handed out is a const TargetRow *
    const char *cpu;                           // Clang's -target-cpu
    const char *features[MAX_TARGET_FEATURES]; // "+avx512vnni"; NULL ends
    const char *cc_flags;                      // gcc's and clang's words for the same
    int rank;                                  // "native" takes the highest that runs here, a program for several targets too; 0: never chosen
    const char *meaning;                       // one line for `tenon targets`
    const char *needs;                         // what Clang may use, in runtime/cpu.h's words; NULL: what every processor of the triple has
} TargetRow;

typedef struct {
    const TargetRow *rows;
    int count;
} TargetTable;

extern const TargetTable generic_targets, x86_64_targets, aarch64_targets, nvptx_targets;

const char *machine_triple(void);             // x86_64-linux-gnu, aarch64-linux-gnu
const char *target_needs(const Target *target);
int target_rank(const Target *target);

#endif
