// Writing a blob. The header comes first in the file and last in time: it holds the hashes of the sections. Bytes are written in large pieces that begin
// and end where huge pages do: a file system with large folios then keeps them in such, and weights are read a fifth faster through a map of these.
#define XXH_INLINE_ALL
#include "codegen/blob_write.h"

#include "runtime/format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { BUFFER_BYTES = 8 << 20 };   // a multiple of every usual huge page

typedef struct {
    int fd;
    const char *path;
    uint64_t at;      // where in the file the buffer goes
    uint64_t section; // bytes of this section so far
    unsigned char *buffer;
    size_t held;
    XXH3_state_t *hash;
    Diags *diags;
} Writer;

static bool write_all(int fd, const unsigned char *bytes, size_t length, uint64_t at) {
    while (length > 0) {
        ssize_t n = pwrite(fd, bytes, length, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes += n, at += (uint64_t)n, length -= (size_t)n;
    }
    return true;
}

static bool put_at(Writer *writer, const void *bytes, size_t length, uint64_t at) {
    if (write_all(writer->fd, bytes, length, at)) return true;
    int cause = errno;
    diag_error(writer->diags, FILE_LOC(writer->path), "cannot write: %s", strerror(cause));
    if (cause == ENOSPC) diag(writer->diags, DIAG_HINT, NOWHERE, "%.1f MB were written; more room is needed", (double)at / 1e6);
    return false;
}

static bool flush(Writer *writer) {
    bool done = writer->held == 0 || put_at(writer, writer->buffer, writer->held, writer->at);
#ifdef SYNC_FILE_RANGE_WRITE
    if (done && writer->held == BUFFER_BYTES)   // to the disk meanwhile: memory full of what is not there yet makes everybody wait
        sync_file_range(writer->fd, (off64_t)writer->at, BUFFER_BYTES, SYNC_FILE_RANGE_WRITE);
#endif
    writer->at += writer->held;
    writer->held = 0;
    return done;
}

static bool write_section(void *to, const void *bytes, size_t length) {
    Writer *writer = to;
    XXH3_64bits_update(writer->hash, bytes, length);
    writer->section += length;
    for (const unsigned char *from = bytes; length > 0;) {
        size_t room = BUFFER_BYTES - (size_t)((writer->at + writer->held) % BUFFER_BYTES), n = length < room ? length : room;
        memcpy(writer->buffer + writer->held, from, n);
        writer->held += n, from += n, length -= n;
        if (n == room && !flush(writer)) return false;
    }
    return true;
}

bool blob_pack_text(const void *from, bool (*write)(void *, const void *, size_t), void *to, Diags *diags) {
    const Text *text = from;
    (void)diags;
    return text->length == 0 || write(to, text->data, text->length);
}

static uint64_t align_up(uint64_t offset) { return (offset + BLOB_ALIGN - 1) / BLOB_ALIGN * BLOB_ALIGN; }

static bool write_sections(Writer *writer, uint64_t base, const BlobPart *parts, int count, BlobHeader *header) {
    for (int i = 0; i < count; i++) {
        BlobSection *section = &header->sections[i];
        writer->at = align_up(writer->at);
        *section = (BlobSection){.kind = parts[i].kind, .offset = writer->at - base};
        writer->section = 0;
        XXH3_64bits_reset(writer->hash);
        int errors = diags_errors(writer->diags);
        if (!parts[i].pack(parts[i].from, write_section, writer, writer->diags) || !flush(writer)) {
            if (diags_errors(writer->diags) == errors)
                diag_error(writer->diags, FILE_LOC(writer->path), "internal error: section %u could not be packed", parts[i].kind);
            return false;
        }
        section->length = writer->section;
        section->hash = XXH3_64bits_digest(writer->hash);
    }
    return true;
}

static bool write_frame(Writer *writer, uint64_t base, BlobHeader *header, int count, uint64_t *hash, uint64_t *length) {
    static const unsigned char zeros[BLOB_ALIGN];
    uint64_t end = align_up(writer->at);
    header->version = BLOB_VERSION;
    header->section_count = (uint32_t)count;
    header->length = end - base;
    header->hash = hash_bytes(header->sections, (size_t)count * sizeof *header->sections, 0);
    memcpy(header->magic, BLOB_MAGIC, sizeof header->magic);
    BlobTrailer trailer = {.version = BLOB_VERSION, .offset = base, .length = header->length, .hash = header->hash};
    memcpy(trailer.magic, BLOB_TRAILER_MAGIC, sizeof trailer.magic);
    *hash = header->hash;
    *length = header->length;
    return put_at(writer, zeros, end - writer->at, writer->at) && put_at(writer, &trailer, sizeof trailer, end) &&
           put_at(writer, header, sizeof *header, base);
}

bool blob_write(int fd, const char *path, uint64_t base, const BlobPart *parts, int count, uint64_t *hash, uint64_t *length, Diags *diags) {
    BlobHeader header = {0};
    Writer writer = {.fd = fd, .path = path, .at = base + BLOB_ALIGN, .diags = diags};
    writer.buffer = malloc(BUFFER_BYTES);
    writer.hash = XXH3_createState();
    bool done = writer.buffer && writer.hash && (size_t)count <= COUNT_OF(header.sections);
    if (!done) diag_error(diags, NOWHERE, "out of memory");
    done = done && write_sections(&writer, base, parts, count, &header) && write_frame(&writer, base, &header, count, hash, length);
    XXH3_freeState(writer.hash);
    free(writer.buffer);
    return done;
}

void blob_meta_add(Text *meta, const char *key, const char *value) {
    uint32_t length = (uint32_t)strlen(value);
    unsigned char bytes[4] = {(unsigned char)length, (unsigned char)(length >> 8), (unsigned char)(length >> 16),
                              (unsigned char)(length >> 24)};
    text_add(meta, key, strlen(key) + 1);
    text_add(meta, (const char *)bytes, sizeof bytes);
    text_add(meta, value, length);
}
