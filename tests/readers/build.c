// Weight files put together piece by piece, right or wrong.
#include "build.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

void put_u32(Text *out, uint32_t value) {
    text_add(out, (const char *)&value, sizeof value);
}

void put_u64(Text *out, uint64_t value) {
    text_add(out, (const char *)&value, sizeof value);
}

void put_f32(Text *out, float value) {
    text_add(out, (const char *)&value, sizeof value);
}

void put_string(Text *out, const char *text) {
    put_u64(out, strlen(text));
    text_puts(out, text);
}

void put_gguf(Text *out, uint32_t version, uint64_t tensors, uint64_t keys) {
    text_puts(out, "GGUF");
    put_u32(out, version);
    put_u64(out, tensors);
    put_u64(out, keys);
}

void put_key(Text *out, const char *key, uint32_t type) {
    put_string(out, key);
    put_u32(out, type);
}

void put_tensor(Text *out, const char *name, int rank, const uint64_t *sizes, uint32_t type, uint64_t offset) {
    put_string(out, name);
    put_u32(out, (uint32_t)rank);
    for (int i = 0; i < rank; i++)
        put_u64(out, sizes[i]);
    put_u32(out, type);
    put_u64(out, offset);
}

void put_data(Text *out, uint64_t alignment, size_t bytes) {
    while (out->length % alignment)
        text_add(out, "", 1);
    for (size_t i = 0; i < bytes; i++)
        text_add(out, (const char[]){(char)i}, 1);
}

void put_good_gguf(Text *out, uint32_t version) {
    put_gguf(out, version, 3, 7);
    put_key(out, "general.architecture", 8);
    put_string(out, "llama");
    put_key(out, "llama.block_count", 4);
    put_u32(out, 30);
    put_key(out, "llama.context_length", 10);
    put_u64(out, 8192);
    put_key(out, "llama.attention.layer_norm_rms_epsilon", 6);
    put_f32(out, 1e-5f);
    put_key(out, "tokenizer.ggml.add_bos_token", 7);
    text_add(out, "\1", 1);
    put_key(out, "tokenizer.ggml.tokens", 9);
    put_u32(out, 8);
    put_u64(out, 3);
    put_string(out, "one");
    put_string(out, "");
    put_string(out, "three");
    put_key(out, "tokenizer.ggml.scores", 9);
    put_u32(out, 6);
    put_u64(out, 2);
    put_f32(out, 0.5f);
    put_f32(out, -2);
    put_tensor(out, "b.weight", 2, (uint64_t[]){32, 3}, 2, 0);      // Q4_0 [3, 32]: 54 bytes
    put_tensor(out, "a.weight", 2, (uint64_t[]){5, 2}, 0, 64);      // F32 [2, 5]: 40 bytes
    put_tensor(out, "c", 1, (uint64_t[]){4}, 30, 128);              // BF16 [4]
    put_data(out, 32, 128 + 8);
}

void put_safetensors(Text *out, const char *header, size_t data) {
    put_string(out, header);
    put_data(out, 1, data);
}

void put_good_safetensors(Text *out) {
    put_safetensors(out, "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                         "\"v\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]},\"s\":{\"dtype\":\"I64\",\"shape\":[],"
                         "\"data_offsets\":[32,40]}}   ", 40);
}

const char *write_file(const char *name, const void *bytes, size_t length) {
    static char paths[8][128];
    static int next;
    if (!folder[0]) {
        // Thousands of small files are written again and again: in memory where that can be.
        strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/tenon-readers-XXXXXX" : "/tmp/tenon-readers-XXXXXX");
        if (!mkdtemp(folder))
            abort();
    }
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, length, file) != length || fclose(file) != 0)
        abort();
    return path;
}

void remove_files(void) {
    DIR *dir = folder[0] ? opendir(folder) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(folder);
}
