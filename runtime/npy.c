// The header has a fixed length of 128 bytes, so rows can be written before it is known how many there will be, and in the order in which a
// batch makes them. The file has no name until it is whole: whatever ends the run before that leaves nothing. Where a file system cannot do that it
// has a temporary name beside the last one. Either is made before the model runs, so a name that cannot be written is reported first.
// A pipe takes header and rows in order, as they come: then the number of rows is needed at once.
#include "runtime/npy.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NPY_HEADER = 128 };

static int npy_write(Npy *npy, const void *bytes, size_t length, uint64_t offset, tn_failure *failure) {
    const unsigned char *from = bytes;
    while (length) {
        ssize_t put = npy->stream ? write(npy->fd, from, length) : pwrite(npy->fd, from, length, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return tn_fail(failure, TN_BAD_INPUT, "%s: cannot be written: %s", npy->path, put ? strerror(errno) : "no room");
        from += put;
        offset += (uint64_t)put;
        length -= (size_t)put;
    }
    return 0;
}

static void npy_free(Npy *npy) {
    free(npy->target);
    free(npy->part);
    npy->target = npy->part = NULL;
}

// Makes the file without a name or, where that is not possible, under `part`.
static int npy_create(Npy *npy) {
    char *slash = strrchr(npy->part, '/'), after = slash ? slash[1] : 0;
    if (slash)
        slash[1] = 0;
    npy->fd = open(slash ? npy->part : ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
    if (slash)
        slash[1] = after;
    npy->unnamed = npy->fd >= 0;
    if (npy->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        npy->fd = open(npy->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return npy->fd;
}

static int npy_header(Npy *npy, uint64_t rows, tn_failure *failure) {
    char header[NPY_HEADER + 1], shape[96];
    snprintf(shape, sizeof shape, "{'descr': '%cf4', 'fortran_order': False, 'shape': (%llu, %d), }",
             __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>', (unsigned long long)rows, npy->width);
    snprintf(header, sizeof header, "%-10s%-117s\n", "", shape);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);       // 0x76 = 118 bytes follow
    return npy_write(npy, header, NPY_HEADER, 0, failure);
}

int tn_npy_open(Npy *npy, const char *path, int width, uint64_t rows, tn_failure *failure) {
    struct stat there;
    bool exists = stat(path, &there) == 0;
    *npy = (Npy){.path = path, .width = width, .fd = -1};
    if (exists && !S_ISREG(there.st_mode)) {               // a device, a pipe: nothing may take its place
        npy->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (npy->fd < 0)
            return tn_fail(failure, TN_BAD_INPUT, "%s: %s", path, strerror(errno));
        npy->stream = lseek(npy->fd, 0, SEEK_CUR) < 0;
        if (!npy->stream || !npy_header(npy, rows, failure))
            return 0;
        close(npy->fd);
        return -1;
    }
    npy->target = exists ? realpath(path, NULL) : NULL;    // a link stays, and what it leads to is written
    if (!npy->target)
        npy->target = strdup(path);
    size_t room = npy->target ? strlen(npy->target) + 32 : 0;
    npy->part = room ? malloc(room) : NULL;
    if (npy->part) {
        const char *slash = strrchr(npy->target, '/'), *name = slash ? slash + 1 : npy->target;
        snprintf(npy->part, room, "%.*s.%s.%ld.part", (int)(name - npy->target), npy->target, name, (long)getpid());
        if (npy_create(npy) >= 0)
            return 0;
    }
    tn_fail(failure, TN_BAD_INPUT, "%s: %s", path, strerror(errno));
    npy_free(npy);
    return -1;
}

int tn_npy_row(Npy *npy, uint64_t row, const float *values, tn_failure *failure) {
    size_t bytes = (size_t)npy->width * sizeof *values;
    if (npy->stream && row != npy->rows)
        return tn_fail(failure, TN_BAD_INPUT, "%s: a pipe takes the logits of one prompt, not of several", npy->path);
    if (row >= npy->rows)
        npy->rows = row + 1;
    return npy_write(npy, values, bytes, NPY_HEADER + row * bytes, failure);
}

// Gives what is whole its name.
static bool npy_name(Npy *npy) {
    char self[40];
    if (!npy->part)
        return true;
    snprintf(self, sizeof self, "/proc/self/fd/%d", npy->fd);
    if (npy->unnamed)
        unlink(npy->part);                                 // of a process that was killed and had this number
    if (npy->unnamed && linkat(AT_FDCWD, self, AT_FDCWD, npy->part, AT_SYMLINK_FOLLOW))
        return false;
    npy->unnamed = false;
    return rename(npy->part, npy->target) == 0;
}

int tn_npy_close(Npy *npy, bool whole, tn_failure *failure) {
    bool done = whole && (npy->stream || !npy_header(npy, npy->rows, failure));
    if (done && !npy_name(npy))
        done = false, tn_fail(failure, TN_BAD_INPUT, "%s: cannot be written: %s", npy->path, strerror(errno));
    if (close(npy->fd) && done) {
        done = false, tn_fail(failure, TN_BAD_INPUT, "%s: cannot be written: %s", npy->path, strerror(errno));
        if (npy->target)
            unlink(npy->target);
    }
    if (!done && npy->part && !npy->unnamed)
        unlink(npy->part);
    npy_free(npy);
    return done ? 0 : -1;
}
