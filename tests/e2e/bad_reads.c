// Preloaded, it makes pread on files that end in .weights bad: it gives at most a page at a time, and after BAD_AFTER bytes (unless 0) EIO.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic long given;

static int is_weights(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    return length > 8 && !strcmp(path + length - 8, ".weights");
}

ssize_t pread(int fd, void *to, size_t count, off_t at) {
    ssize_t (*real)(int, void *, size_t, off_t) = (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
    const char *after = getenv("BAD_AFTER");
    if (is_weights(fd)) {
        count = count > 4096 ? 4096 : count;
        if (after && atol(after) && atomic_fetch_add(&given, (long)count) > atol(after)) {
            errno = EIO;
            return -1;
        }
    }
    return real(fd, to, count, at);
}

ssize_t pread64(int fd, void *to, size_t count, off_t at) { return pread(fd, to, count, at); }
