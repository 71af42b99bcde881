// Just enough JSON to print: strings, numbers, lists of ids.
#include "runtime/run.h"
#include <math.h>

// Length of the well-formed UTF-8 character at text[0 … length), or 0.
static size_t json_character(const unsigned char *text, size_t length) {
    static const struct { unsigned char mask, head; unsigned low; } kinds[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t n = 1; n <= 4 && n <= length; n++) {
        if ((text[0] & kinds[n - 1].mask) != kinds[n - 1].head)
            continue;
        unsigned code = text[0] & ~kinds[n - 1].mask & 0xff;
        for (size_t i = 1; i < n; i++) {
            if ((text[i] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (text[i] & 0x3f);
        }
        return code >= kinds[n - 1].low && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? n : 0;
    }
    return 0;
}

void tn_json_string(FILE *to, const char *text, size_t length) {
    fputc('"', to);
    for (size_t i = 0, n; i < length; i += n) {
        unsigned char c = (unsigned char)text[i];
        n = json_character((const unsigned char *)text + i, length - i);
        if (!n) {
            fputs("\\ufffd", to);
            n = 1;
        } else if (c == '"' || c == '\\') {
            fprintf(to, "\\%c", c);
        } else if (c == '\n') {
            fputs("\\n", to);
        } else if (c == '\t') {
            fputs("\\t", to);
        } else if (c < 0x20 || c == 0x7f) {
            fprintf(to, "\\u%04x", c);
        } else {
            fwrite(text + i, 1, n, to);
        }
    }
    fputc('"', to);
}

void tn_json_number(FILE *to, double number) {
    if (isfinite(number))
        fprintf(to, "%.9g", number);
    else
        fputs("null", to);
}

void tn_json_ids(FILE *to, const int *ids, int count) {
    fputc('[', to);
    for (int i = 0; i < count; i++)
        fprintf(to, "%s%d", i ? ", " : "", ids[i]);
    fputc(']', to);
}
