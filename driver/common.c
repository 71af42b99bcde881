// Small things that the subcommands share: reading a file, printing, JSON strings.
#include "driver/driver.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { TEXT_LIMIT = 1 << 28 };

int finish(Diags *diags) {
    int errors = diags_errors(diags);
    diags_print(diags, stderr);
    diags_free(diags);
    return errors ? EXIT_INPUT : EXIT_DONE;
}

bool read_text(const char *path, Text *text, Diags *diags) {
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rb");
    if (!file) {
        diag_error(diags, FILE_LOC(path), "cannot be read: %s", strerror(errno));
        return false;
    }
    static const int chunk = 1 << 16;
    char buffer[1 << 16];
    size_t n;
    while ((n = fread(buffer, 1, (size_t)chunk, file)) > 0 && text->length < TEXT_LIMIT) text_add(text, buffer, n);
    bool failed = ferror(file);
    int cause = errno;
    if (!standard) fclose(file);
    if (failed)
        diag_error(diags, FILE_LOC(path), "cannot be read: %s", strerror(cause));
    else if (text->length >= TEXT_LIMIT)
        diag_error(diags, FILE_LOC(path), "is too long for a text (more than %d MB)", TEXT_LIMIT >> 20);
    text_add(text, "", 0);
    return !failed && text->length < TEXT_LIMIT;
}

int column(const char *text, int width) {
    for (; *text; text++) width += ((unsigned char)*text & 0xc0) == 0x80;
    return width;
}

int print_out(const Text *text) {
    if ((text->length == 0 || fwrite(text->data, 1, text->length, stdout) == text->length) && fflush(stdout) == 0) return EXIT_DONE;
    fprintf(stderr, "tenon: error: cannot write to standard output: %s\n", strerror(errno));
    return EXIT_INPUT;
}

void json_text(Text *out, const char *text) {
    text_puts(out, "\"");
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if (*at == '"' || *at == '\\')
            text_printf(out, "\\%c", *at);
        else if (*at < 0x20)
            text_printf(out, "\\u%04x", *at);
        else
            text_add(out, (const char *)at, 1);
    text_puts(out, "\"");
}

double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
