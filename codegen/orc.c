// An object in memory made runnable by ORC's LLJIT, through LLVM's C API. Symbols that the object lacks (fmaf, memcpy) come from this
// process.
#include "codegen/backend.h"

#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>
#include <llvm-c/Target.h>
#include <stdlib.h>
#include <string.h>

struct BackendJit {
    LLVMOrcLLJITRef lljit;
};

// Takes the error: LLVM's text is copied, so that it may be freed with free().
static BackendJit *fail(BackendJit *jit, LLVMErrorRef failure, char **error) {
    char *text = LLVMGetErrorMessage(failure);
    *error = strdup(text);
    LLVMDisposeErrorMessage(text);
    orc_free(jit);
    return NULL;
}

BackendJit *orc_load(const void *object, size_t length, char **error) {
    BackendJit *jit = calloc(1, sizeof *jit);
    if (!jit) return NULL;
    LLVMErrorRef failure = LLVMOrcCreateLLJIT(&jit->lljit, NULL);
    if (failure) return fail(jit, failure, error);
    LLVMOrcJITDylibRef dylib = LLVMOrcLLJITGetMainJITDylib(jit->lljit);
    LLVMOrcDefinitionGeneratorRef process;
    failure = LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(&process, LLVMOrcLLJITGetGlobalPrefix(jit->lljit), NULL, NULL);
    if (failure) return fail(jit, failure, error);
    LLVMOrcJITDylibAddGenerator(dylib, process);
    LLVMMemoryBufferRef buffer = LLVMCreateMemoryBufferWithMemoryRangeCopy(object, length, "tenon.o");
    failure = LLVMOrcLLJITAddObjectFile(jit->lljit, dylib, buffer); // takes the buffer
    if (failure) return fail(jit, failure, error);
    return jit;
}

void *orc_symbol(BackendJit *jit, const char *name) {
    LLVMOrcExecutorAddress address = 0;
    LLVMErrorRef failure = LLVMOrcLLJITLookup(jit->lljit, &address, name);
    if (failure) {
        LLVMConsumeError(failure);
        return NULL;
    }
    return (void *)(size_t)address;
}

void orc_free(BackendJit *jit) {
    if (!jit) return;
    if (jit->lljit) {
        LLVMErrorRef failure = LLVMOrcDisposeLLJIT(jit->lljit);
        if (failure) LLVMConsumeError(failure);
    }
    free(jit);
}
