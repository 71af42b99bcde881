// A tokenizer on the command line, for comparing with others: imports FILE, then encodes the texts of standard input.
//   tokenizer_tool FILE [--specials] [--parse] [--decode] [--time]
// Input: records of a decimal length, a newline, that many bytes. Output: a line of ids a record; with --decode a second line: what they
// decode to, as JSON.
#include "frontend/frontend.h"
#include "runtime/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void print_json(const char *text, size_t length) {
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == '"' || c == '\\') printf("\\u%04x", c);
        else putchar(c);
    }
    printf("\"\n");
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int main(int argc, char **argv) {
    unsigned flags = 0;
    bool decode = false, timed = false;
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--specials")) flags |= TOKENIZER_SPECIALS;
        if (!strcmp(argv[i], "--parse")) flags |= TOKENIZER_PARSE;
        decode |= !strcmp(argv[i], "--decode");
        timed |= !strcmp(argv[i], "--time");
    }
    Diags *diags = diags_new();
    Text bytes = {0};
    char error[256] = "";
    double start = seconds();
    bool imported = argc > 1 && tokenizer_import(argv[1], &bytes, diags);
    diags_print(diags, stderr);
    Tokenizer *t = imported ? tokenizer_open(bytes.data, bytes.length, error, sizeof error) : NULL;
    if (!t) {
        fprintf(stderr, "%s\n", imported ? error : "not imported");
        text_free(&bytes);
        diags_free(diags);
        return 1;
    }
    if (timed) fprintf(stderr, "imported in %.3f s, %zu bytes\n", seconds() - start, bytes.length);
    for (size_t length; scanf("%zu", &length) == 1;) {
        getchar();
        char *text = malloc(length + 1);
        int32_t *ids;
        int count;
        size_t shown, got = fread(text, 1, length, stdin);
        start = seconds();
        if (got != length || !tokenizer_encode(t, text, length, flags, &ids, &count, error, sizeof error)) {
            fprintf(stderr, "%s\n", error);
            return 1;
        }
        if (timed) fprintf(stderr, "%zu bytes, %d ids in %.3f s\n", length, count, seconds() - start);
        for (int i = 0; i < count && !timed; i++) printf("%d ", ids[i]);
        printf("\n");
        char *back = tokenizer_decode(t, ids, count, 0, &shown);
        if (decode) print_json(back, shown);
        free(back);
        free(ids);
        free(text);
    }
    tokenizer_close(t);
    text_free(&bytes);
    diags_free(diags);
    return 0;
}
