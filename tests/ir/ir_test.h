// What the tests of ir/ share: cmocka's headers in the order it wants, whole files, messages as text.
#ifndef TENON_TESTS_IR_TEST_H
#define TENON_TESTS_IR_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/ir.h"

static inline char *read_whole(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("cannot open %s", path);
    Text text = {0};
    char part[4096];
    size_t n;
    while ((n = fread(part, 1, sizeof part, file)) > 0) text_add(&text, part, n);
    fclose(file);
    *length = text.length;
    return text.data;
}

// Fails with the messages when there are any.
static inline void no_errors(const Diags *diags) {
    Text text = {0};
    diags_text(diags, &text);
    if (diags_errors(diags)) fail_msg("%s", text.data);
    text_free(&text);
}

static inline void assert_messages(const Diags *diags, const char *expected) {
    Text text = {0};
    diags_text(diags, &text);
    assert_string_equal(text.data ? text.data : "", expected);
    text_free(&text);
}
#endif
