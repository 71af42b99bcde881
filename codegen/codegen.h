// From a fused graph to C, and from C to code.
#ifndef TENON_CODEGEN_CODEGEN_H
#define TENON_CODEGEN_CODEGEN_H
#include "ir/ir.h"
#include "ir/target.h"

// ---- targets (codegen/targets/) -------------------------------------------------------------------------------------
const Target *target_find(const char *name, Diags *diags);   // "native": the best this machine runs; NULL with an error that lists the names
const Target *target_at(int index);                           // all that are known, from 0; NULL past the last
const char *target_meaning(const Target *target);             // one line
const char *target_cc(const Target *target);                  // the C compiler's usual name for it: cc, aarch64-linux-gnu-gcc
const char *target_cc_flags(const Target *target);            // with which gcc and clang compile for it: -march=x86-64-v3
bool target_runs_here(const Target *target);                  // CPUID, XCR0, the kernel's permission for AMX

// ---- C (codegen/plan.c) ---------------------------------------------------------------------------------------------
typedef enum { FLAVOUR_JIT, FLAVOUR_INTRINSICS } Flavour;     // Clang's builtins without headers; <immintrin.h>/<arm_neon.h> for any compiler

typedef struct Plan Plan;     // kernels, step, weight layout, memory plan of one module for one target
// `input_defaults`: of the inputs other than tokens; NULL: 0. NULL with errors.
Plan *plan_new(const Module *module, const Target *target, const char *const *input_names, const int64_t *input_defaults, int input_count, Diags *diags);
// The same with schedules from what tuning found (may be NULL; used until the call returns).
struct ScheduleBook;
Plan *plan_new_tuned(const Module *module, const Target *target, const char *const *input_names, const int64_t *input_defaults, int input_count,
                     const struct ScheduleBook *book, Diags *diags);
void plan_free(Plan *plan);
// Packs all weights, in order of offset, into `write` (streaming, bounded memory). `progress` may be NULL.
bool plan_pack(const Plan *plan, bool (*write)(void *to, const void *bytes, size_t length), void *to,
               void (*progress)(void *, uint64_t done, uint64_t total), void *progress_to, Diags *diags);
// The whole C text: prelude, kernels, step, `const tn_program tn_model`.
void plan_emit(const Plan *plan, Flavour flavour, uint64_t blob_hash, Text *out);

// ---- Clang, LLVM, linking (codegen/clang.cpp, codegen/jit.c, codegen/link.c) ------------------------------------------
typedef enum { EMIT_OBJECT, EMIT_LLVM_IR, EMIT_ASSEMBLY, EMIT_PTX } EmitKind;
typedef struct { const char *triple, *cpu; const char *const *features; int feature_count; int optimization; bool pic; } ClangOptions;   // features "+avx512f"
// Compiles one C file held in memory, in process. Errors of generated code are our own bugs: the message says so and names the place.
bool clang_compile(const char *name, const char *c, size_t length, const ClangOptions *options, EmitKind kind, Text *out, Diags *diags);
void target_clang_options(const Target *target, ClangOptions *options);

typedef struct Jit Jit;
Jit *jit_load(const void *object, size_t length, Diags *diags);   // ORC LLJIT over an object file
Jit *jit_open(const char *path, Diags *diags);                    // a shared object, by the dynamic loader: no LLVM
void *jit_symbol(Jit *jit, const char *name);                     // NULL when absent
void jit_free(Jit *jit);
#endif
