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
    int rank;                                  // "native" takes the highest that runs here; 0: never chosen
    const char *meaning;                       // one line for `tenon targets`
    bool (*runs_here)(void);
} TargetRow;

typedef struct {
    const TargetRow *rows;
    int count;
} TargetTable;

extern const TargetTable generic_targets, x86_64_targets, aarch64_targets, nvptx_targets;

// What this machine says of itself, for `tenon targets`: "avx2", "amx-int8", … of the ISA's list, each with whether it is usable (CPUID,
// and the state the kernel saves). Returns the count; 0 when the ISA is not this machine's.
typedef struct {
    const char *name;
    bool usable;
} MachineFeature;
int x86_64_machine(MachineFeature *features, int room);
int aarch64_machine(MachineFeature *features, int room);
int machine_features(MachineFeature *features, int room); // of whatever ISA this is
const char *machine_triple(void);                         // x86_64-linux-gnu, aarch64-linux-gnu

#endif
