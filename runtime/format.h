// The blob: everything of a model that is not code, in one piece. The one header that compiler and run time share (with abi.h).
//
// Layout, little-endian:  BlobHeader, then sections, each aligned to 4096. A section table gives kind, offset and length of each.
//   SECTION_WEIGHTS    packed weights, laid out by codegen; generated code knows the offsets
//   SECTION_META       key-value text records, see blob_meta below
//   SECTION_TOKENIZER  the tokenizer (runtime/tokenizer.h)
// In an executable the blob is appended, page-aligned, after the image, followed by a BlobTrailer as the file's last bytes. Beside a .so, .o or
// .c it is a file of its own with the same trailer. The trailer follows the blob's last byte; the blob's first section starts at 4096 or later.
#ifndef TENON_RUNTIME_FORMAT_H
#define TENON_RUNTIME_FORMAT_H

#include <stdint.h>

#define BLOB_MAGIC "TENONBLB"
#define BLOB_TRAILER_MAGIC "TENONEND"
#define BLOB_ALIGN 4096

enum { BLOB_VERSION = 1 };
enum { SECTION_WEIGHTS = 1, SECTION_META = 2, SECTION_TOKENIZER = 3 };

typedef struct { uint32_t kind, reserved; uint64_t offset, length; uint64_t hash; } BlobSection;   // offset from the blob's start; hash: XXH3 64 of the bytes

typedef struct {
    char magic[8];
    uint32_t version, section_count;
    uint64_t hash;               // XXH3 64 of sections[0 … section_count-1]: names this blob; tn_program.blob_hash repeats it
    uint64_t length;             // of the whole blob, without the trailer
    BlobSection sections[8];
} BlobHeader;

typedef struct {
    char magic[8];
    uint32_t version, reserved;
    uint64_t offset, length;     // of the blob in this file
    uint64_t hash;               // BlobHeader.hash
} BlobTrailer;

// SECTION_META: records of `key\0` u32 length, bytes. Keys: name, context, memory (bytes that a run takes at most), chat.user, chat.assistant, chat.system, chat.generation,
// chat.begin (templates with {text}; chat.begin opens a conversation, with a system message chat.system does instead), stop (one record a stop string), description (free text for --info), source (a line a source file).

#endif
