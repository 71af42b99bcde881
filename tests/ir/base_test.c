// Arenas, checked sizes, names, and the picture that diagnostics draw.
#include "ir_test.h"

static void sizes(void **state) {
    (void)state;
    uint64_t out = 7;
    assert_true(size_mad(3, 4, 5, 17, &out));
    assert_int_equal(out, 17);
    assert_false(size_mad(3, 4, 5, 16, &out));
    assert_false(size_mad(UINT64_MAX, 2, 0, UINT64_MAX, &out));
    assert_false(size_mad(UINT64_MAX, 1, 1, UINT64_MAX, &out));
    assert_true(size_mad(UINT64_MAX, 1, 0, UINT64_MAX, &out));
    assert_int_equal(out, UINT64_MAX);
    out = 7;
    assert_false(size_mad(1ull << 32, 1ull << 32, 0, UINT64_MAX, &out));
    assert_int_equal(out, 7);   // left alone
    assert_true(size_mad(0, UINT64_MAX, 0, 0, &out));
}

static void arenas(void **state) {
    (void)state;
    Arena *arena = arena_new();
    int *items = NULL, count = 0, capacity = 0;
    for (int i = 0; i < 1000; i++) ARENA_PUSH(arena, items, count, capacity) = i;
    for (int i = 0; i < 1000; i++) assert_int_equal(items[i], i);
    for (size_t bytes = 1; bytes < 300000; bytes = bytes * 3 + 1) {
        unsigned char *at = arena_alloc(arena, bytes);
        assert_int_equal((uintptr_t)at % 16, 0);
        for (size_t i = 0; i < bytes; i++) assert_int_equal(at[i], 0);
        memset(at, 0xFF, bytes);
    }
    assert_string_equal(arena_printf(arena, "%d %s", 42, "x"), "42 x");
    assert_string_equal(arena_strndup(arena, "abcdef", 3), "abc");
    arena_reset(arena);
    assert_int_equal(*(int *)arena_alloc(arena, 4), 0);
    arena_free(arena);
    arena_free(NULL);
}

static void nearest(void **state) {
    (void)state;
    const char *names[] = {"rms_norm", "layer_norm", "softmax", "rope"};
    assert_string_equal(nearest_name("rmsnorm", names, 4), "rms_norm");
    assert_string_equal(nearest_name("sofmtax", names, 4), "softmax");
    assert_string_equal(nearest_name("rop", names, 4), "rope");
    assert_null(nearest_name("convolution", names, 4));
    assert_null(nearest_name("", names, 4));
}

static void picture(void **state) {
    (void)state;
    static const char source[] = "one\n  - k = \xC3\xA4(linear(h, wk))\r\nlast";
    Diags *diags = diags_new();
    diags_add_source(diags, "m.yaml", source, sizeof source - 1);
    diag_error(diags, ((Loc){"m.yaml", 2, 12, 6}), "linear: x has %d columns", 576);
    diag(diags, DIAG_NOTE, NOWHERE, "h is f32[T, 576]");
    diag(diags, DIAG_WARNING, ((Loc){"m.yaml", 1, 1, 3}), "first");
    diag(diags, DIAG_HINT, NOWHERE, "did you mean two");
    diag_error(diags, ((Loc){"m.yaml", 3, 5, 1}), "at the end");
    diag_error(diags, FILE_LOC("a.gguf"), "too short");
    diag_error(diags, ((Loc){"m.yaml", 9, 1, 1}), "beyond");
    assert_int_equal(diags_errors(diags), 4);
    assert_messages(diags, "a.gguf: error: too short\n"
                           "m.yaml:1:1: warning: first\n"
                           "    1 | one\n"
                           "      | ^~~\n"
                           "hint: did you mean two\n"
                           "m.yaml:2:12: error: linear: x has 576 columns\n"
                           "    2 |   - k = \xC3\xA4(linear(h, wk))\n"
                           "      |           ^~~~~~\n"
                           "note: h is f32[T, 576]\n"
                           "m.yaml:3:5: error: at the end\n"
                           "    3 | last\n"
                           "      |     ^\n"
                           "m.yaml:9:1: error: beyond\n");
    diags_free(diags);
}

static void many_errors(void **state) {
    (void)state;
    Diags *diags = diags_new();
    for (int i = 0; i < 250; i++) {
        diag_error(diags, NOWHERE, "error %d", i);
        diag(diags, DIAG_NOTE, NOWHERE, "note %d", i);
    }
    Text text = {0};
    diags_text(diags, &text);
    assert_int_equal(diags_errors(diags), 250);
    assert_non_null(strstr(text.data, "error: error 99\nnote: note 99\nerror: 150 more errors\n"));
    text_free(&text);
    diags_free(diags);
}

static void table(void **state) {
    (void)state;
    for (int i = 0; i < OP_COUNT; i++) assert_int_equal(op_find(op_info((OpId)i)->name), i);
    assert_int_equal(op_find("nothing"), OP_COUNT);
    const OpInfo *rope = op_info(OP_ROPE);
    assert_int_equal(rope->operand_count, 2);
    assert_true(rope->operands[1].weight && rope->operands[1].optional);
    assert_int_equal(rope->attr_count, 4);
    assert_true(rope->attrs[0].required);
    assert_string_equal(rope->attrs[2].choices, "half|interleaved");
    assert_string_equal(rope->attrs[2].text, "half");
    assert_true(op_info(OP_MOE)->operands[3].variadic);
    assert_int_equal(dtype_parse("q4_1"), DT_Q4_1);
    assert_int_equal(dtype_parse("q9"), DT_COUNT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(arenas), cmocka_unit_test(nearest),
                                       cmocka_unit_test(picture), cmocka_unit_test(many_errors), cmocka_unit_test(table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
