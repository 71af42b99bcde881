// A program that uses a compiled model as a shared object, by its generated header: all logits of three tokens, written as .npy.
#include "libtoy.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    tn_failure failure = {0};
    tn_engine *engine = tn_open(&tn_model, NULL, &failure);
    int ids[] = {1, 2, 3}, sequence = engine ? tn_sequence_new(engine, &failure) : -1;
    if (argc != 2 || sequence < 0 || tn_add(engine, sequence, ids, 3, TN_WANT_ALL, &failure)) {
        fprintf(stderr, "host: %s\n", failure.text);
        return 1;
    }
    FILE *out = fopen(argv[1], "wb");
    char header[128];
    int width = tn_width(engine),
        length = snprintf(header + 10, sizeof header - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, %d), }", width);
    memset(header + 10 + length, ' ', sizeof header - 10 - (size_t)length);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    header[127] = '\n';
    fwrite(header, 1, sizeof header, out);
    while (tn_pending(engine) > 0) {
        int rows = tn_run(engine, &failure);
        for (int i = 0; i < rows; i++) fwrite(tn_rows(engine)[i].values, sizeof(float), (size_t)width, out);
    }
    tn_close(engine);
    return fclose(out);
}
