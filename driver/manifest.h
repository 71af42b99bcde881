// What a cached program was made of: the key that a run computes before it has read anything, and the files that went in.
#ifndef TENON_DRIVER_MANIFEST_H
#define TENON_DRIVER_MANIFEST_H
#include "driver/build.h"

// Everything that is known before the model is read: this tenon, the run's ABI, the model's full path, target and options. False: the
// model's path does not resolve.
bool manifest_key(const char *path, const Target *target, const BuildOptions *options, Text *key);
// This tenon, then one line a file: how it is identified now (a description by its text, other files by size, time and inode), and its path. False when
// a file cannot be named or looked at; then nothing is remembered. What is calibrated and chosen is known by these lines too.
bool manifest_files(const char *path, const Model *model, Text *files);
// A manifest's text, and reading one: true when its key is this one and each of its files is still what it was. code, blob: malloc'd file
// names in the cache's folder.
void manifest_write(Text *out, const Text *key, const Text *files, const char *code, const char *blob);
bool manifest_read(const char *file, const Text *key, char **code, char **blob);

#endif
