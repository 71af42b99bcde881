// Weight files put together piece by piece, right or wrong.
#ifndef TENON_TESTS_READERS_BUILD_H
#define TENON_TESTS_READERS_BUILD_H
#include "frontend/frontend.h"

void put_u32(Text *out, uint32_t value);
void put_u64(Text *out, uint64_t value);
void put_f32(Text *out, float value);
void put_string(Text *out, const char *text);                        // u64 length, bytes
void put_gguf(Text *out, uint32_t version, uint64_t tensors, uint64_t keys);
void put_key(Text *out, const char *key, uint32_t type);             // the value follows
void put_tensor(Text *out, const char *name, int rank, const uint64_t *sizes, uint32_t type, uint64_t offset);   // innermost size first
void put_data(Text *out, uint64_t alignment, size_t bytes);          // padding, then bytes 0, 1, 2 …
void put_good_gguf(Text *out, uint32_t version);                     // strings, arrays, numbers; three tensors
void put_safetensors(Text *out, const char *header, size_t data);
void put_good_safetensors(Text *out);

// A file in the test's own folder; the path stays valid until the next call with the same name.
const char *write_file(const char *name, const void *bytes, size_t length);
void remove_files(void);

#endif
