// The driver of the passes: which run and in which order, what it prints, what it says about names that are wrong and about a broken module.
#include "passes/passes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char source[] = "module @m context 64 tokens 8 rows 4 sequences 2\n"
                             "main @model(%x: f32[T, 4]) -> f32[T, 4] {\n"
                             "  %a: f32[T, 4] = neg %x\n"
                             "  %b: f32[T, 4] = neg %a\n"
                             "  %c: f32[T, 4] = tanh %b\n"
                             "  return %c\n"
                             "}\n";

typedef struct { Arena *arena; Diags *diags; Module *module; char *printed; size_t length; PassOptions options; } Run;

static void start(Run *run) {
    *run = (Run){.arena = arena_new(), .diags = diags_new()};
    run->module = module_parse(run->arena, "m.tir", source, strlen(source), run->diags);
    assert_non_null(run->module);
    run->options.verify = true;
    run->options.print_to = open_memstream(&run->printed, &run->length);   // holds on to the two addresses
}

// Ends a run; the messages if there were errors, else what was printed. The caller frees it.
static char *finish(Run *run, bool expected) {
    bool ok = run_passes(run->module, &run->options, run->diags);
    fclose(run->options.print_to);
    Text text = {0};
    text_puts(&text, "");
    if (ok) text_puts(&text, run->printed);
    else diags_text(run->diags, &text);
    free(run->printed);
    diags_free(run->diags);
    arena_free(run->arena);
    assert_int_equal(ok, expected);
    return text.data;
}

static void order(void **state) {
    (void)state;
    const char *const expected[] = {"share", "canonicalize", "prune", "rows", "split", "rotate", "quantize", "observe", "attention", "route", "moe", "fuse", "layout", "memory"};
    assert_int_equal(pass_count, COUNT_OF(expected));
    for (int i = 0; i < pass_count; i++) assert_string_equal(passes[i].name, expected[i]);
}

static void prints_after(void **state) {
    (void)state;
    Run run;
    start(&run);
    run.options.only = "share,canonicalize";
    run.options.print_after = "all";
    char *text = finish(&run, true);
    assert_non_null(strstr(text, "// after share: unchanged\n// after canonicalize\nmodule @m"));
    assert_non_null(strstr(text, "tanh %x"));
    free(text);
}

static void prints_one(void **state) {
    (void)state;
    Run run;
    start(&run);
    run.options.print_after = "fuse";
    char *text = finish(&run, true);
    assert_non_null(strstr(text, "// after fuse\n"));
    assert_null(strstr(text, "// after memory"));
    free(text);
}

static void times(void **state) {
    (void)state;
    Run run;
    start(&run);
    run.options.timing = true;
    run.options.skip = "canonicalize";
    char *text = finish(&run, true);
    assert_non_null(strstr(text, "fuse "));
    assert_null(strstr(text, "canonicalize"));
    free(text);
}

static void none(void **state) {
    (void)state;
    Run run;
    start(&run);
    run.options.only = "none";
    run.options.print_after = "all";
    char *text = finish(&run, true);
    assert_string_equal(text, "");
    free(text);
}

static void unknown(void **state) {
    (void)state;
    Run run;
    start(&run);
    run.options.only = "fus";
    run.options.skip = "everything";
    char *text = finish(&run, false);
    assert_string_equal(text, "error: there is no pass 'fus'\nhint: did you mean 'fuse'?\nerror: there is no pass 'everything'\n"
                              "hint: passes are: share canonicalize prune rows split rotate quantize observe attention route moe fuse layout memory\n");
    free(text);
}

static void needed(void **state) {
    (void)state;
    Run run;
    start(&run);
    run.options.skip = "attention";
    char *text = finish(&run, false);
    assert_string_equal(text, "error: pass 'attention' is left out but 'fuse' needs it\n");
    free(text);
}

// A module that is broken when the pass is done: the message names the pass, and what it was given is left behind.
static void reproducer(void **state) {
    (void)state;
    char path[] = "/tmp/tenon-repro-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    Run run;
    start(&run);
    run.module->main->nodes[0]->results[0]->type.dims[1] = 5;
    run.options.only = "share";
    run.options.reproducer = path;
    char *text = finish(&run, false);
    assert_non_null(strstr(text, "internal error: pass 'share' broke the module"));
    assert_non_null(strstr(text, path));
    free(text);
    char left[256] = {0};
    FILE *left_file = fopen(path, "r");
    size_t length = fread(left, 1, sizeof left - 1, left_file);
    fclose(left_file);
    unlink(path);
    assert_true(length > 0);
    assert_non_null(strstr(left, "// pass 'share' breaks this module: tenon opt --passes=share "));
    assert_non_null(strstr(left, "module @m"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order), cmocka_unit_test(prints_after), cmocka_unit_test(prints_one), cmocka_unit_test(times),
        cmocka_unit_test(none),  cmocka_unit_test(unknown),      cmocka_unit_test(needed),     cmocka_unit_test(reproducer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
