// What the fuzz targets share. Each target is one file with `fuzz_one`: bytes as a hostile user would give them to one public function. Built
// twice: with libFuzzer (preset asan), and with replay.c's main, which runs stored inputs in any build.
#ifndef TENON_TESTS_FUZZ_H
#define TENON_TESTS_FUZZ_H
#include "ir/base.h"

bool fuzz_one(const uint8_t *data, size_t size);           // whether it was accepted

const char *fuzz_file(const uint8_t *data, size_t size);   // the path of a file in memory with these bytes, until the next call
const char *fuzz_folder(void);                             // a temporary folder, made once and removed at exit: the current folder
void fuzz_put(const char *name, const void *bytes, size_t size);   // a file in that folder
void fuzz_weights(void);                                   // model.safetensors in that folder: a few small tensors
void fuzz_messages(Diags *diags);                          // formats every message (and prints it, when $FUZZ_SHOW is set) and frees diags

#endif
