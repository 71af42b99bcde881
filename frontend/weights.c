// Weight files as one table of named tensors: mapping, finding, and what is true of every format.
//
// A file is mapped once, read-only, and stays mapped while the provider lives: nothing is copied. The readers (gguf.c, safetensors.c)
// check that every tensor's bytes lie inside its file before they add it; here names are sorted for look-up and a name that comes twice is
// refused, in one file or in several.
#include "frontend/files.h"
#include "frontend/model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct WeightFiles {
    Provider provider;   // first: a Provider is its WeightFiles
    Arena *arena;
    TensorInfo *tensors; int count, capacity;
    MappedFile **files; int file_count, file_capacity;
};

// ---- mapping ------------------------------------------------------------------------------------------------------

bool file_map(MappedFile *file, const char *path, Diags *diags) {
    *file = (MappedFile){.path = path};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        diag_error(diags, FILE_LOC(path), "cannot be opened: %s", strerror(errno));
        return false;
    }
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        diag_error(diags, FILE_LOC(path), S_ISDIR(status.st_mode) ? "is a folder, not a file" : "is not a regular file");
        close(fd);
        return false;
    }
    file->size = (uint64_t)status.st_size;
    if (file->size > 0) {
        void *bytes = mmap(NULL, (size_t)file->size, PROT_READ, MAP_SHARED, fd, 0);
        if (bytes == MAP_FAILED) {
            diag_error(diags, FILE_LOC(path), "cannot be mapped: %s", strerror(errno));
            close(fd);
            return false;
        }
        file->bytes = bytes;
    }
    close(fd);
    return true;
}

void file_unmap(MappedFile *file) {
    if (file->bytes)
        munmap((void *)(uintptr_t)file->bytes, (size_t)file->size);
    file->bytes = NULL;
    file->size = 0;
}

bool file_is_gguf(const MappedFile *file) {
    return file->size >= 4 && memcmp(file->bytes, "GGUF", 4) == 0;
}

bool file_is_json(const MappedFile *file) {
    uint64_t at = 0;
    while (at < file->size && strchr(" \t\r\n", file->bytes[at]) && file->bytes[at])
        at++;
    return at < file->size && file->bytes[at] == '{';
}

// ---- the provider -------------------------------------------------------------------------------------------------

static int compare_names(const void *a, const void *b) {
    return strcmp(((const TensorInfo *)a)->name, ((const TensorInfo *)b)->name);
}

static const TensorInfo *find_tensor(Provider *provider, const char *name) {
    TensorInfo key = {.name = name};
    if (provider->count == 0)
        return NULL;
    return bsearch(&key, provider->tensors, (size_t)provider->count, sizeof key, compare_names);
}

static void close_files(Provider *provider) {
    WeightFiles *files = (WeightFiles *)provider;
    for (int i = 0; i < files->file_count; i++)
        file_unmap(files->files[i]);
    arena_free(files->arena);
    free(files);
}

WeightFiles *weight_files_new(void) {
    WeightFiles *files = calloc(1, sizeof *files);
    if (!files) {
        fputs("tenon: out of memory\n", stderr);
        exit(3);
    }
    files->arena = arena_new();
    files->provider.find = find_tensor;
    files->provider.close = close_files;
    return files;
}

Arena *weight_files_arena(WeightFiles *files) {
    return files->arena;
}

int weight_files_count(const WeightFiles *files) {
    return files->count;
}

const TensorInfo *weight_files_get(const WeightFiles *files, int index) {
    return &files->tensors[index];
}

const MappedFile *weight_files_map(WeightFiles *files, const char *path, Diags *diags) {
    MappedFile *file = ARENA_NEW(files->arena, MappedFile);
    if (!file_map(file, arena_strdup(files->arena, path), diags))
        return NULL;
    ARENA_PUSH(files->arena, files->files, files->file_count, files->file_capacity) = file;
    return file;
}

void weight_files_add(WeightFiles *files, const char *name, Type type, const MappedFile *file, uint64_t offset) {
    ARENA_PUSH(files->arena, files->tensors, files->count, files->capacity) =
        (TensorInfo){.name = name, .type = type, .bytes = file->bytes + offset, .file = file->path, .offset = offset};
}

Provider *weight_files_finish(WeightFiles *files, int errors_before, Diags *diags) {
    if (files->count > 1)
        qsort(files->tensors, (size_t)files->count, sizeof *files->tensors, compare_names);
    for (int i = 1; i < files->count; i++) {
        const TensorInfo *a = &files->tensors[i - 1], *b = &files->tensors[i];
        if (strcmp(a->name, b->name) != 0)
            continue;
        diag_error(diags, FILE_LOC(b->file), "tensor %s appears twice", b->name);
        if (a->file != b->file)
            diag(diags, DIAG_NOTE, FILE_LOC(a->file), "it is here as well");
    }
    files->provider.tensors = files->tensors;
    files->provider.count = files->count;
    if (diags_errors(diags) == errors_before)
        return &files->provider;
    close_files(&files->provider);
    return NULL;
}

// ---- no files -----------------------------------------------------------------------------------------------------

// Tensors as a model declares them: the counterpart of files for a model whose weights are not there.
typedef struct {
    Provider provider;   // first: a Provider is its Declared
    Arena *arena;
    Table *places;       // name → its number + 1
    TensorInfo *tensors; int count, capacity;
} Declared;

static const TensorInfo *find_declared(Provider *provider, const char *name) {
    Declared *declared = (Declared *)provider;
    size_t place = (size_t)table_get(declared->places, name);
    return place ? &declared->tensors[place - 1] : NULL;
}

static const TensorInfo *declare(Provider *provider, const char *name, const Type *type) {
    Declared *declared = (Declared *)provider;
    size_t place = (size_t)table_get(declared->places, name);
    if (!place) {
        ARENA_PUSH(declared->arena, declared->tensors, declared->count, declared->capacity) =
            (TensorInfo){.name = arena_strdup(declared->arena, name), .type = *type};
        place = (size_t)declared->count;
        table_set(declared->places, name, (void *)place);
        provider->tensors = declared->tensors;
        provider->count = declared->count;
    }
    TensorInfo *tensor = &declared->tensors[place - 1];
    for (int i = 0; i < type->rank && type->rank == tensor->type.rank; i++)
        if (tensor->type.dims[i] < type->dims[i]) tensor->type.dims[i] = type->dims[i];
    return tensor;
}

static void close_declared(Provider *provider) {
    Arena *arena = ((Declared *)provider)->arena;
    arena_free(arena);
}

Provider *weights_declared(void) {
    Arena *arena = arena_new();
    Declared *declared = ARENA_NEW(arena, Declared);
    *declared = (Declared){.provider = {.find = find_declared, .declare = declare, .close = close_declared}, .arena = arena, .places = table_new(arena)};
    return &declared->provider;
}

// ---- opening ------------------------------------------------------------------------------------------------------

static void read_by_content(WeightFiles *files, const char *path, Diags *diags) {
    const MappedFile *file = weight_files_map(files, path, diags);
    if (!file)
        return;
    if (file_is_gguf(file))
        gguf_read(files, file, diags);
    else if (file_is_json(file))
        safetensors_index_read(files, file, diags);
    else
        safetensors_read(files, file, diags);
}

Provider *weights_open(const char *const *paths, int count, Diags *diags) {
    int errors = diags_errors(diags);
    WeightFiles *files = weight_files_new();
    for (int i = 0; i < count; i++)
        read_by_content(files, paths[i], diags);
    return weight_files_finish(files, errors, diags);
}

Provider *gguf_open(const char *path, Diags *diags) {
    int errors = diags_errors(diags);
    WeightFiles *files = weight_files_new();
    const MappedFile *file = weight_files_map(files, path, diags);
    if (file)
        gguf_read(files, file, diags);
    return weight_files_finish(files, errors, diags);
}

Provider *safetensors_open(const char *path, Diags *diags) {
    int errors = diags_errors(diags);
    WeightFiles *files = weight_files_new();
    const MappedFile *file = weight_files_map(files, path, diags);
    if (file && file_is_json(file))
        safetensors_index_read(files, file, diags);
    else if (file)
        safetensors_read(files, file, diags);
    return weight_files_finish(files, errors, diags);
}
