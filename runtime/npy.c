// The header has a fixed length of 128 bytes, so rows can be written before it is known how many there will be, and in the order in which a
// batch makes them. The file is made under its own name at once: a name that cannot be written is reported before the model runs.
#include "runtime/npy.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NPY_HEADER = 128 };

static int npy_write(Npy *npy, const void *bytes, size_t length, uint64_t offset, tn_failure *failure) {
    const unsigned char *from = bytes;
    while (length) {
        ssize_t put = pwrite(npy->fd, from, length, (off_t)offset);
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

int tn_npy_open(Npy *npy, const char *path, int width, tn_failure *failure) {
    *npy = (Npy){.path = path, .width = width, .fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
    return npy->fd >= 0 ? 0 : tn_fail(failure, TN_BAD_INPUT, "%s: %s", path, strerror(errno));
}

int tn_npy_row(Npy *npy, uint64_t row, const float *values, tn_failure *failure) {
    size_t bytes = (size_t)npy->width * sizeof *values;
    if (row >= npy->rows)
        npy->rows = row + 1;
    return npy_write(npy, values, bytes, NPY_HEADER + row * bytes, failure);
}

int tn_npy_close(Npy *npy, tn_failure *failure) {
    char header[NPY_HEADER + 1], shape[96];
    snprintf(shape, sizeof shape, "{'descr': '%cf4', 'fortran_order': False, 'shape': (%llu, %d), }",
             __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>', (unsigned long long)npy->rows, npy->width);
    snprintf(header, sizeof header, "%-10s%-117s\n", "", shape);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);       // 0x76 = 118 bytes follow
    int failed = npy_write(npy, header, NPY_HEADER, 0, failure);
    if (close(npy->fd) && !failed)
        failed = tn_fail(failure, TN_BAD_INPUT, "%s: cannot be written: %s", npy->path, strerror(errno));
    return failed;
}
