// fake_append --hash: the blob's hash as a macro.  fake_append FILE: the blob appended to FILE, page-aligned, with its trailer.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/runtime/fake.h"

int main(int argc, char **argv) {
    size_t length;
    unsigned char *blob = fake_blob(0, 0, &length);
    if (argc == 2 && !strcmp(argv[1], "--hash")) {
        printf("#define FAKE_HASH 0x%llxull\n", (unsigned long long)fake_hash(blob));
        free(blob);
        return 0;
    }
    FILE *file = argc == 2 ? fopen(argv[1], "ab") : NULL;
    if (!file)
        return 1;
    fseek(file, 0, SEEK_END);
    BlobTrailer *trailer = (BlobTrailer *)(void *)(blob + length - sizeof *trailer);
    uint64_t offset = (uint64_t)ftell(file);
    for (; offset % BLOB_ALIGN; offset++)
        fputc(0, file);
    trailer->offset = offset;
    int failed = fwrite(blob, 1, length, file) != length;
    free(blob);
    return fclose(file) || failed;
}
