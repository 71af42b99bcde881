// Pass tests: one text file each, holding the input, a line saying which passes run, and the exact output.
//
//   // What is tested here.
//   main @model(…) …
//   // expect: attention fuse        (or `// expect: quantize --quant=w8a8 --group=64`, or `// error: moe`: the messages instead of the module)
//   …
//
//   pass_goldens [--update] [FILE.tir …]      all files of tests/passes when none is named; --update rewrites what follows the `expect` line
//   pass_goldens --passes=LIST FILE.tir       runs passes on a file and prints the module
#include "passes/passes.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

static char *read_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    Text text = {0};
    char part[4096];
    size_t n;
    text_puts(&text, "");
    while ((n = fread(part, 1, sizeof part, file)) > 0) text_add(&text, part, n);
    fclose(file);
    *length = text.length;
    return text.data;
}

typedef struct { char passes[256], quantize[32], group[16], activation_group[16], bits[128], prune[128], sparse[16]; bool symmetric, error; size_t input, output; } Expectation;   // where the input ends and the output starts

// Moves the value of an option out of the line: blanks stay.
static bool take_option(char *line, const char *name, char *value, size_t room) {
    char *option = strstr(line, name);
    if (!option) return false;
    size_t length = strcspn(option + strlen(name), " ");
    snprintf(value, room, "%.*s", (int)length, option + strlen(name));
    memset(option, ' ', strlen(name) + length);
    return true;
}

static bool find_expectation(const char *text, Expectation *out) {
    *out = (Expectation){0};
    const char *line = strstr(text, "\n// expect: ");
    if (!line) line = strstr(text, "\n// error: "), out->error = true;
    if (!line) return false;
    out->input = (size_t)(line + 1 - text);
    const char *words = strchr(line, ':') + 1, *end = strchr(line + 1, '\n');
    if (!end) end = words + strlen(words);
    out->output = (size_t)(end - text) + (*end == '\n');
    snprintf(out->passes, sizeof out->passes, "%.*s", (int)(end - words), words);
    take_option(out->passes, "--quant=", out->quantize, sizeof out->quantize);
    take_option(out->passes, "--group=", out->group, sizeof out->group);
    take_option(out->passes, "--act-group=", out->activation_group, sizeof out->activation_group);
    take_option(out->passes, "--bits=", out->bits, sizeof out->bits);
    take_option(out->passes, "--sparse=", out->sparse, sizeof out->sparse);
    take_option(out->passes, "--prune=", out->prune, sizeof out->prune);
    for (char *at = out->bits; (at = strchr(at, ','));) *at = ' ';
    char rest[16];
    out->symmetric = take_option(out->passes, "--symmetric", rest, sizeof rest);
    return true;
}

// The module, or the messages, that the passes leave.
static bool run_text(const char *path, const char *text, size_t length, const Expectation *expected, Text *out) {
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Module *module = module_parse(arena, path, text, length, diags);
    PassOptions options = {.only = expected->passes, .quantize = expected->quantize[0] ? expected->quantize : NULL, .symmetric = expected->symmetric, .verify = true};
    if (expected->group[0]) options.group = expected->group;
    if (expected->prune[0]) options.prune = expected->prune;
    if (expected->sparse[0]) options.sparse = expected->sparse;
    if (expected->bits[0]) options.choices = expected->bits;
    if (expected->activation_group[0]) options.activation_group = expected->activation_group;
    bool ok = module && run_passes(module, &options, diags);
    text_puts(out, "");
    if (ok) {
        module_print(module, out);
        Module *again = module_parse(arena, "output", out->data, out->length, diags);   // what is printed can be read
        Text second = {0};
        if (again) module_print(again, &second);
        if (!again || strcmp(second.data, out->data) != 0) ok = false, text_puts(out, "the output does not print as it was read\n");
        text_free(&second);
    }
    if (!ok || diags_errors(diags)) diags_text(diags, out);
    diags_free(diags);
    arena_free(arena);
    return ok;
}

static void as_comments(const Text *from, Text *to) {
    for (const char *at = from->data; at && *at;) {
        size_t length = strcspn(at, "\n");
        text_printf(to, "// %.*s\n", (int)length, at);
        at += length + (at[length] == '\n');
    }
}

static void show_difference(const char *wanted, const char *got) {
    while (*wanted || *got) {
        size_t a = strcspn(wanted, "\n"), b = strcspn(got, "\n");
        if (a != b || memcmp(wanted, got, a) != 0) {
            printf("    expected: %.*s\n    got:      %.*s\n", (int)a, wanted, (int)b, got);
            return;
        }
        wanted += a + (wanted[a] == '\n');
        got += b + (got[b] == '\n');
    }
}

static bool check_file(const char *path, bool update) {
    size_t length;
    char *text = read_file(path, &length);
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    Expectation expected;
    if (!text || !find_expectation(text, &expected)) {
        printf("FAIL %s: it cannot be read or has no `// expect:` line\n", name);
        free(text);
        return false;
    }
    Text got = {0}, comments = {0};
    bool ok = run_text(name, text, expected.input, &expected, &got);
    if (expected.error) {
        as_comments(&got, &comments);
        Text swap = got;
        got = comments;
        comments = swap;
    }
    const char *output = got.data ? got.data : "";
    bool same = ok == !expected.error && strcmp(text + expected.output, output) == 0;
    if (!same && update && ok == !expected.error) {
        FILE *file = fopen(path, "wb");
        fwrite(text, 1, expected.output, file);
        if (expected.output && text[expected.output - 1] != '\n') fputc('\n', file);
        fputs(output, file);
        fclose(file);
        printf("updated %s\n", name);
        same = true;
    } else if (!same) {
        printf("FAIL %s\n", name);
        if (ok == !expected.error) show_difference(text + expected.output, output);
        else printf("%s", output);
    }
    text_free(&got);
    text_free(&comments);
    free(text);
    return same;
}

static int print_passes(const char *passes, const char *path) {
    size_t length;
    char *text = read_file(path, &length);
    if (!text) return fprintf(stderr, "%s cannot be read\n", path), 1;
    Expectation expected;
    if (find_expectation(text, &expected)) length = expected.input;
    snprintf(expected.passes, sizeof expected.passes, "%s", passes);
    Text out = {0};
    bool ok = run_text(path, text, length, &expected, &out);
    printf("%s", out.data);
    text_free(&out);
    free(text);
    return !ok;
}

int main(int argc, char **argv) {
    bool update = false;
    int files = 0, failed = 0;
    const char *passes = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--update") == 0) update = true;
        else if (strncmp(argv[i], "--passes=", 9) == 0) passes = argv[i] + 9;
        else if (passes) return print_passes(passes, argv[i]);
        else files++, failed += !check_file(argv[i], update);
    }
    if (!files) {
        glob_t found;
        if (glob(TEST_DIR "/*.tir", 0, NULL, &found) != 0) return printf("no tests in " TEST_DIR "\n"), 1;
        for (size_t i = 0; i < found.gl_pathc; i++) files++, failed += !check_file(found.gl_pathv[i], update);
        globfree(&found);
    }
    printf("%d pass tests, %d failed\n", files, failed);
    return failed != 0;
}
