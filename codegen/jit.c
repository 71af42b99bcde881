// Code made runnable in this process: an object in memory through ORC (a cold run), or a shared object kept in the cache through the
// dynamic loader, which needs no LLVM (a warm run).
#include "codegen/codegen.h"
#include "codegen/compile.h"

#include <dlfcn.h>
#include <stdlib.h>

struct Jit {
    const Backend *backend; // NULL: a shared object
    BackendJit *orc;
    void *library;
};

static Jit *jit_new(void) {
    Jit *jit = calloc(1, sizeof *jit);
    if (!jit) {
        fputs("tenon: error: out of memory\n", stderr);
        exit(3);
    }
    return jit;
}

Jit *jit_load(const void *object, size_t length, Diags *diags) {
    const Backend *backend = backend_open(diags);
    if (!backend) return NULL;
    char *error = NULL;
    BackendJit *orc = backend->jit_load(object, length, &error);
    if (!orc) {
        diag_error(diags, NOWHERE, "internal error: the compiled object cannot be loaded: %s", error ? error : "out of memory");
        free(error);
        return NULL;
    }
    Jit *jit = jit_new();
    *jit = (Jit){.backend = backend, .orc = orc};
    return jit;
}

Jit *jit_open(const char *path, Diags *diags) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        diag_error(diags, FILE_LOC(path), "the cached code cannot be loaded: %s", dlerror());
        return NULL;
    }
    Jit *jit = jit_new();
    jit->library = library;
    return jit;
}

void *jit_symbol(Jit *jit, const char *name) { return jit->orc ? jit->backend->jit_symbol(jit->orc, name) : dlsym(jit->library, name); }

void jit_free(Jit *jit) {
    if (!jit) return;
    if (jit->orc) jit->backend->jit_free(jit->orc);
    if (jit->library) dlclose(jit->library);
    free(jit);
}
