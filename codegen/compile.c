// clang_compile: the compiler's side of the back end's door (backend.h). The library is looked for beside the executable, in the folders
// above it (a test in the build tree), and in ../lib/tenon; it stays loaded once it is.
#include "codegen/codegen.h"
#include "codegen/compile.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool beside_program(const char *name, char *path, size_t room) {
    char folder[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (length <= 0) return false;
    folder[length] = 0;
    for (int up = 0; up < 4; up++) {
        char *slash = strrchr(folder, '/');
        if (!slash) return false;
        *slash = 0;
        static const char *const places[] = {"", "/lib/tenon", "/runtime"};
        for (size_t i = 0; i < COUNT_OF(places); i++) {
            int n = snprintf(path, room, "%s%s/%s", folder, places[i], name);
            if (n > 0 && (size_t)n < room && access(path, R_OK) == 0) return true;
        }
    }
    return false;
}

const Backend *backend_open(Diags *diags) {
    char path[PATH_MAX + 64];
    if (!beside_program(BACKEND_LIBRARY, path, sizeof path)) {
        diag_error(diags, NOWHERE, "the compiler's back end, %s, is not beside this program", BACKEND_LIBRARY);
        diag(diags, DIAG_HINT, NOWHERE, "install it in the program's folder or in ../lib/tenon");
        return NULL;
    }
    void *library = dlopen(path, RTLD_LAZY | RTLD_LOCAL); // counted by the loader: opening it again costs nothing
    if (!library) {
        diag_error(diags, FILE_LOC(path), "the compiler's back end cannot be loaded: %s", dlerror());
        diag(diags, DIAG_HINT, NOWHERE, "it needs the packages libclang-cpp19 and libllvm19");
        return NULL;
    }
    const Backend *(*get)(void);
    *(void **)&get = dlsym(library, BACKEND_SYMBOL);
    const Backend *backend = get ? get() : NULL;
    if (!backend || backend->abi != BACKEND_ABI) {
        diag_error(diags, FILE_LOC(path), "the compiler's back end belongs to another version of tenon");
        return NULL;
    }
    return backend;
}

typedef struct {
    Text *out;
    Diags *diags;
    const char *source;
    size_t length;
    bool said;
} Job;

static void write_out(void *to, const char *bytes, size_t length) { text_add(((Job *)to)->out, bytes, length); }

static void message(void *to, int error, const char *file, int line, int column, const char *text) {
    Job *job = to;
    if (!job->said) diags_add_source(job->diags, file, job->source, job->length);
    Loc loc = {file, line, column, 1};
    diag(job->diags, error ? DIAG_ERROR : DIAG_NOTE, loc, "%s%s", error ? "internal error: generated C does not compile: " : "", text);
    job->said = true;
}

bool clang_compile(const char *name, const char *c, size_t length, const ClangOptions *options, EmitKind kind, Text *out, Diags *diags) {
    const Backend *backend = backend_open(diags);
    if (!backend) return false;
    static const BackendEmit emits[] = {[EMIT_OBJECT] = BACKEND_OBJECT,
                                        [EMIT_LLVM_IR] = BACKEND_LLVM_IR,
                                        [EMIT_ASSEMBLY] = BACKEND_ASSEMBLY,
                                        [EMIT_PTX] = BACKEND_ASSEMBLY};
    Job job = {out, diags, c, length, false};
    BackendCompile compile = {.name = name,
                              .source = c,
                              .length = length,
                              .triple = options->triple,
                              .cpu = options->cpu,
                              .features = options->features,
                              .feature_count = options->feature_count,
                              .optimization = options->optimization,
                              .pic = options->pic,
                              .emit = emits[kind],
                              .to = &job,
                              .write = write_out,
                              .message = message};
    if (backend->compile(&compile) == 0) return true;
    if (!job.said) diag_error(diags, NOWHERE, "internal error: Clang could not compile %s for %s", name, options->triple);
    return false;
}
