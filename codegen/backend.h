// The back end's door. Clang and LLVM are some 200 MB of shared libraries, so they live behind libtenon-clang.so, which is opened when
// something is compiled and not before: a warm run never maps them. What passes the door is plain C: bytes and calls back.
#ifndef TENON_CODEGEN_BACKEND_H
#define TENON_CODEGEN_BACKEND_H
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BACKEND_ABI = 1 };

typedef enum { BACKEND_OBJECT, BACKEND_LLVM_IR, BACKEND_ASSEMBLY } BackendEmit;

typedef struct {
    const char *name, *source;
    size_t length;
    const char *triple, *cpu;
    const char *const *features;
    int feature_count, optimization, pic;
    BackendEmit emit;
    void *to;
    void (*write)(void *to, const char *bytes, size_t length);                                      // once, when all went well
    void (*message)(void *to, int error, const char *file, int line, int column, const char *text); // errors, and notes to them (error 0)
} BackendCompile;

typedef struct BackendJit BackendJit;

typedef struct {
    int abi;
    const char *version;                                                      // "clang 19.1.7"
    int (*compile)(const BackendCompile *job);                                // 0 when all went well
    BackendJit *(*jit_load)(const void *object, size_t length, char **error); // error: malloc'd
    void *(*jit_symbol)(BackendJit *jit, const char *name);
    void (*jit_free)(BackendJit *jit);
} Backend;

#define BACKEND_SYMBOL "tenon_backend"
const Backend *tenon_backend(void);

// In orc.c, behind the same door.
BackendJit *orc_load(const void *object, size_t length, char **error);
void *orc_symbol(BackendJit *jit, const char *name);
void orc_free(BackendJit *jit);

#ifdef __cplusplus
}
#endif
#endif
