// Writing a blob (runtime/format.h): sections streamed into a file, hashed on the way.
#ifndef TENON_CODEGEN_BLOB_WRITE_H
#define TENON_CODEGEN_BLOB_WRITE_H
#include "ir/base.h"

// One section: `pack` gives its bytes in order, through `write`.
typedef struct {
    uint32_t kind;
    bool (*pack)(const void *from, bool (*write)(void *to, const void *bytes, size_t length), void *to, Diags *diags);
    const void *from;
} BlobPart;

bool blob_pack_text(const void *text, bool (*write)(void *, const void *, size_t), void *to,
                    Diags *diags); // a BlobPart's pack: from is a Text

// Writes header, sections and trailer at `base` (a multiple of BLOB_ALIGN) of an open file, to its end. `path`: for messages. `hash`: the
// blob's; `length`: of the blob without trailer. False with errors.
bool blob_write(int fd, const char *path, uint64_t base, const BlobPart *parts, int count, uint64_t *hash, uint64_t *length, Diags *diags);

// A record of SECTION_META.
void blob_meta_add(Text *meta, const char *key, const char *value);

#endif
