// Inside the frontend: mapped files, and a provider under construction that the readers of each format fill.
#ifndef TENON_FRONTEND_FILES_H
#define TENON_FRONTEND_FILES_H
#include "frontend/frontend.h"

typedef struct { const char *path; const uint8_t *bytes; uint64_t size; } MappedFile;

// Maps a regular file read-only. An empty file has size 0 and bytes that may not be read. False with an error. `path` is not copied.
bool file_map(MappedFile *file, const char *path, Diags *diags);
void file_unmap(MappedFile *file);

// A provider over one or several mapped files. Readers add tensors whose bytes they have checked to lie in the file.
typedef struct WeightFiles WeightFiles;
WeightFiles *weight_files_new(void);
const MappedFile *weight_files_map(WeightFiles *files, const char *path, Diags *diags);   // stays mapped until the provider is closed
Arena *weight_files_arena(WeightFiles *files);
void weight_files_add(WeightFiles *files, const char *name, Type type, const MappedFile *file,
                      uint64_t offset);   // name: in the arena or the file
int weight_files_count(const WeightFiles *files);
const TensorInfo *weight_files_get(const WeightFiles *files, int index);   // in the order they were added
// Sorts, refuses tensors of one name, and hands the provider over; on errors (since `errors_before`) frees everything and returns NULL.
Provider *weight_files_finish(WeightFiles *files, int errors_before, Diags *diags);

// Each adds one file's tensors, with errors in diags.
void gguf_read(WeightFiles *files, const MappedFile *file, Diags *diags);
void safetensors_read(WeightFiles *files, const MappedFile *file, Diags *diags);
void safetensors_index_read(WeightFiles *files, const MappedFile *file, Diags *diags);

// By content.
bool file_is_gguf(const MappedFile *file);
bool file_is_json(const MappedFile *file);   // the first byte that is no white space opens an object

// GGUF metadata beyond frontend.h, for import.
int gguf_key_count(const Gguf *gguf);
const char *gguf_key(const Gguf *gguf, int index);              // sorted
bool gguf_is_bool(const Gguf *gguf, const char *key);           // a bool or an array of them

#endif
