// A file that appears whole or not at all. The temporary name begins with a dot and ends in .part, so that what a killed process leaves is
// known for what it is. The names of open ones stand in a table, because a signal handler that removes them can be told nothing.
#include "codegen/outfile.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_SLOTS = 16 };
static _Atomic(char *) open_paths[OPEN_SLOTS];

static void enter(char *path) {
    for (int i = 0; i < OPEN_SLOTS; i++) {
        char *empty = NULL;
        if (atomic_compare_exchange_strong(&open_paths[i], &empty, path)) return;
    }
}

static void leave(char *path) {
    for (int i = 0; i < OPEN_SLOTS; i++) {
        char *there = path;
        if (atomic_compare_exchange_strong(&open_paths[i], &there, NULL)) return;
    }
}

void outfile_drop_all(void) {
    for (int i = 0; i < OPEN_SLOTS; i++) {
        const char *path = atomic_load(&open_paths[i]);
        if (path) unlink(path);
    }
}

static void forget(OutFile *file) {
    leave(file->path);
    close(file->fd);
    free(file->path);
    free(file->target);
    *file = (OutFile){.fd = -1};
}

bool outfile_open(OutFile *file, const char *out, Diags *diags) {
    *file = (OutFile){.fd = -1, .out = out};
    struct stat there;
    bool exists = stat(out, &there) == 0;
    if (exists && !S_ISREG(there.st_mode)) {   // renaming would put a file in a device's place
        diag_error(diags, FILE_LOC(out), "is a %s, not a file to write", S_ISDIR(there.st_mode) ? "folder" : "device or a pipe");
        return false;
    }
    file->target = exists ? realpath(out, NULL) : NULL;   // a link stays, and what it leads to is written
    if (!file->target) file->target = strdup(out);
    const char *slash = strrchr(file->target, '/');
    Text path = {0};
    text_add(&path, file->target, slash ? (size_t)(slash + 1 - file->target) : 0);
    text_printf(&path, ".%s.XXXXXX.part", slash ? slash + 1 : file->target);
    file->path = path.data;
    file->fd = mkstemps(file->path, 5);
    if (file->fd >= 0) {
        enter(file->path);
        return true;
    }
    int cause = errno;
    diag_error(diags, FILE_LOC(out), "cannot be written: %s", strerror(cause));
    if (cause == ENOENT) diag(diags, DIAG_HINT, NOWHERE, "create its folder first");
    free(file->path);
    free(file->target);
    file->path = file->target = NULL;
    return false;
}

void outfile_drop(OutFile *file) {
    if (!file->path) return;
    unlink(file->path);
    forget(file);
}

bool outfile_keep(OutFile *file, bool executable, Diags *diags) {
    mode_t mask = umask(0);
    umask(mask);
    if (fchmod(file->fd, (executable ? 0777 : 0666) & ~mask) == 0 && rename(file->path, file->target) == 0) {
        forget(file);
        return true;
    }
    diag_error(diags, FILE_LOC(file->out), "cannot be written: %s", strerror(errno));
    outfile_drop(file);
    return false;
}
