// From an object to what people run: a static executable with its blob inside, a shared object with what belongs beside it, and the small
// shared objects of the cache. Linking is left to the system's C compiler, which knows where its C library lies.
#ifndef TENON_CODEGEN_LINK_H
#define TENON_CODEGEN_LINK_H
#include "codegen/blob_write.h"
#include "codegen/codegen.h"

typedef struct {
    const void *bytes;
    size_t length;
    const char *program; // the name of the tn_program that it defines
} LinkObject;

enum { MAX_LINK_OBJECTS = 17 }; // targets, and the list of them

typedef struct {
    const LinkObject *objects;
    int object_count;
    const Target *target; // whose triple they all have
    const char *out; // the path of the result
    const BlobPart *parts;
    int part_count; // the blob's sections
} LinkJob;

typedef struct {
    uint64_t image_bytes, blob_bytes, blob_hash;
} LinkReport;

// One static executable, blob appended; made under another name in the same folder and renamed when whole.
// The blob_hash of each object's tn_program is set to the blob's.
bool link_executable(const LinkJob *job, LinkReport *report, Diags *diags);
// A shared object that exports what runtime/tenon.h declares, and no blob (report->blob_bytes is 0): blob_file writes that beside it first.
bool link_shared(const LinkJob *job, LinkReport *report, Diags *diags);
// One object of several.
bool link_object(const LinkJob *job, LinkReport *report, Diags *diags);
// A blob in a file of its own.
bool blob_file(const char *path, const BlobPart *parts, int part_count, uint64_t *hash, uint64_t *length, Diags *diags);
// The bare object as a shared object, for jit_open: no run time in it. False (silently) when no linker is there.
bool link_bare(const void *object, size_t length, const char *out);
// Writes a whole file under another name and renames it.
bool write_file(const char *path, const void *bytes, size_t length, Diags *diags);

// Sets blob_hash of the tn_program named `program` in the bytes of an object or executable. False: it has none of that name.
bool set_blob_hash(void *image, size_t length, const char *program, uint64_t hash);

#endif
