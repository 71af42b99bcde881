// Opening a blob (format.h): found, checked and mapped read-only. Everything in the file is checked before it is used; weights themselves are
// not read (tn_blob_verify reads them).
#ifndef TENON_RUNTIME_BLOB_H
#define TENON_RUNTIME_BLOB_H
#include <stdint.h>
#include <time.h>
#include "runtime/fail.h"
#include "runtime/format.h"

typedef struct Blob Blob;

// Opens `file`, which is a blob with or without trailer, or a program with one appended. `program` may be NULL: then hash and size of the weights
// are not compared with it (a tool that looks into a blob).
Blob *tn_blob_open(const char *file, const tn_program *program, tn_failure *failure);
// Looks in the running executable, in the file from which `program` was loaded (a shared object), and beside both: FILE.weights,
// FILE with its extension replaced by .weights, and MODEL.weights in the same folder. The first whose hash is the program's.
Blob *tn_blob_find(const tn_program *program, tn_failure *failure);
void tn_blob_close(Blob *blob);                                  // NULL is allowed

const unsigned char *tn_blob_section(const Blob *blob, int kind, size_t *length);   // NULL when absent
const char *tn_blob_file(const Blob *blob);
int tn_blob_source(const Blob *blob, uint64_t *weights);         // the file, open for reading as long as the blob is; where in it the weight section begins
uint64_t tn_blob_hash(const Blob *blob);
// The index-th record of `key` in SECTION_META, NUL-terminated, or NULL.
const char *tn_blob_meta(const Blob *blob, const char *key, int index);
int tn_blob_verify(const Blob *blob, tn_failure *failure);       // hashes every section: 0, or -1

// For whoever writes a blob: XXH3 64 of `length` bytes; the hash that names a blob (of header.sections[0 … section_count-1]).
uint64_t tn_hash(const void *bytes, size_t length);
uint64_t tn_blob_table_hash(const BlobHeader *header);

// ---- files that fail or change while they are in use ----------------------------------------------------------------------
// What a file was like when it was opened; it stays right when the file is renamed, replaced or removed, since the open one is meant.
typedef struct { uint64_t size; struct timespec written; } BlobStamp;
BlobStamp tn_blob_stamp(const Blob *blob);
// 0, or -1: the file was cut short, or other weights were written into it. One that was written to, or touched, is compared with its hash; when it is the
// same still, the stamp becomes the new one.
int tn_blob_same(const Blob *blob, BlobStamp *stamp, tn_failure *failure);

typedef void (*GuardEnd)(void);
void tn_guard_at_end(GuardEnd end);   // guard.c: called before a failing file ends the process; what a signal handler may do

#endif
