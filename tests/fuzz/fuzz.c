// Files for functions that take a path: memory behind /proc/self/fd, and a small folder for what a model description names.
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char folder[64];

static void need(bool good, const char *what) {
    if (good) return;
    perror(what);
    exit(99);
}

const char *fuzz_file(const uint8_t *data, size_t size) {
    static char path[64];
    static int fd = -1;
    if (fd >= 0) close(fd);
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    need(fd >= 0, "memfd_create");
    need(size == 0 || write(fd, data, size) == (ssize_t)size, "write");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

static void remove_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command)) perror(folder);
}

const char *fuzz_folder(void) {
    if (folder[0]) return folder;
    snprintf(folder, sizeof folder, "%s/tenon-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    need(mkdtemp(folder) != NULL, folder);
    atexit(remove_folder);
    need(chdir(folder) == 0, folder);
    return folder;
}

void fuzz_put(const char *name, const void *bytes, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *file = fopen(path, "wb");
    need(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0, path);
}

void fuzz_weights(void) {
    // a: [8, 4], b: [4], c: [3, 4, 4] in float32
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[8,4],\"data_offsets\":[0,128]},"
                         "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[128,144]},"
                         "\"c\":{\"dtype\":\"F32\",\"shape\":[3,4,4],\"data_offsets\":[144,336]}}";
    unsigned char file[1024] = {0};
    size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    file[0] = (unsigned char)padded;
    file[1] = (unsigned char)(padded >> 8);
    memset(file + 8, ' ', padded);
    memcpy(file + 8, header, length);
    for (int i = 0; i < 84; i++) {
        float value = (float)(i % 7) / 4 - 0.5f;
        memcpy(file + 8 + padded + 4 * i, &value, 4);
    }
    fuzz_put("model.safetensors", file, 8 + padded + 336);
}

void fuzz_messages(Diags *diags) {
    Text text = {0};
    diags_text(diags, &text);
    if (getenv("FUZZ_SHOW") && text.length) fputs(text.data, stderr);
    text_free(&text);
    diags_free(diags);
}

#ifdef TENON_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_one(data, size);
    return 0;
}
#endif
