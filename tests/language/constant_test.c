// The scalar language alone: expressions and patterns to their values, and what a template asks of it (frontend/language.h).
#include "frontend/language.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

typedef struct { const char *yaml, *value; } Case;   // value: as constant_text writes it; "error: …" a part of the message

static const Case cases[] = {
    {"1 + 2*3 - 4/8", "6.5"}, {"7 // 2", "3"}, {"-7 // 2", "-4"}, {"-7 % 3", "2"}, {"2 - -2", "4"}, {"1e6", "1000000"}, {".5", "0.5"},
    {"hidden // heads", "16"}, {"min(3, 1, 2)", "1"}, {"max(list)", "3"}, {"sum(list) + len(list)", "9"}, {"sqrt(16) + abs(-1)", "5"},
    {"floor(2.7) + ceil(2.1) + round(2.5)", "7"}, {"pow(2, 10)", "1024"}, {"exp(0) + log(1)", "1"},
    {"3 if heads > 2 else 1/0", "3"}, {"1 < 2 and 2 <= 2 and not 3 >= 4", "true"}, {"0 or heads", "4"}, {"false and 1/0", "false"},
    {"2 in list", "true"}, {"5 not in list", "true"}, {"'b' in record", "true"}, {"list[0] + list[-1]", "4"}, {"record['b'][1]", "20"},
    {"list + [4]", "[1, 2, 3, 4]"}, {"'half' == word", "true"}, {"word", "'half'"}, {"bare", "'bare'"}, {"none", "none"}, {"no", "'no'"},
    {"'it is \"so\"'", "'it is \"so\"'"}, {"\"'two words'\"", "'two words'"}, {"[1, bare, [true]]", "[1, 'bare', [true]]"},
    {"{a: 1, b: heads*2}", "{a: 1, b: 8}"}, {"(1 + 2) * 3", "9"}, {"((2))", "2"}, {"8 / 2 / 2", "2"}, {"2 == 2.0", "true"},
    {"yarn_mscale(4)", "1.138629436111989"}, {"yarn_mscale(40, 0.707)", "1.2608037774058554"}, {"longrope_mscale(32, 4096)", "1.1902380714238083"},
    {"1/0", "error: division by zero"}, {"hiden + 1", "error: unknown name 'hiden'"}, {"sqrt(-1)", "error: sqrt of -1 is not a number"},
    {"list[3]", "error: index 3 is outside a list of 3"}, {"list[0.5]", "error: an index is a whole number"}, {"heads + word", "error: needs a number"},
    {"record['c']", "error: has no entry 'c'"}, {"1 +", "error: expected a value"}, {"sqrt(1", "error: expected ',' or ')'"},
    {"fooor(1)", "error: there is no function 'fooor'"}, {"softmax(1)", "error: works on values"}, {"1 2", "error: expected the end"},
    {"pow(2)", "error: takes two numbers"}, {"min([])", "error: needs at least one"}, {"T * 2", "error: needs a number, not T"}, {"\"\"", "error: expected a value"},
};

static void fill(Arena *arena, Scope *scope, Diags *diags) {
    static const char config[] = "{hidden: 64, heads: 4, list: [1, 2, 3], word: half, record: {a: 1, b: [10, 20]}, arch: llama}";
    Yaml *map = yaml_read(arena, "config.yaml", config, strlen(config), diags);
    for (int i = 0; i < map->count; i++) {
        Constant value;
        assert_true(constant_evaluate(arena, map->items[i], scope, &value, diags));
        scope_set(arena, scope, map->keys[i]->text, value);
    }
}

// An expression as YAML's quoted text; lists, maps and what is quoted already as they are.
static Yaml *read_case(Arena *arena, const char *text, Diags *diags) {
    Text yaml = {0};
    bool plain = !strchr("[{\"", *text);
    text_puts(&yaml, plain ? "\"" : "");
    for (; *text; text++) text_printf(&yaml, plain && *text == '"' ? "\\%c" : "%c", *text);
    text_puts(&yaml, plain ? "\"" : "");
    Yaml *out = yaml_read(arena, "case.yaml", yaml.data, yaml.length, diags);
    text_free(&yaml);
    return out;
}

static void expressions(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Arena *arena = arena_new();
        Diags *diags = diags_new();
        Scope scope = {0};
        Text out = {0};
        fill(arena, &scope, diags);
        Yaml *yaml = read_case(arena, cases[i].yaml, diags);
        Constant value;
        bool good = yaml && constant_evaluate(arena, yaml, &scope, &value, diags);
        const char *wanted = cases[i].value;
        bool fails = strncmp(wanted, "error: ", 7) == 0;
        if (good) constant_text(&value, &out);
        else diags_text(diags, &out);
        if (good == fails || !(fails ? strstr(out.data, wanted + 7) != NULL : strcmp(out.data, wanted) == 0))
            fail_msg("%s: expected %s, got %s", cases[i].yaml, wanted, out.data);
        text_free(&out);
        diags_free(diags);
        arena_free(arena);
    }
}

static void names_and_patterns(void **state) {
    (void)state;
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Scope scope = {0};
    fill(arena, &scope, diags);
    static const char text[] = "[\"a*b + max(c, a) if d else e['x']\", \"{arch}.{{x}}.{2*heads}.weight\", \"{arch\", \"}\"]";
    Yaml *yaml = yaml_read(arena, "names.yaml", text, strlen(text), diags);
    const char **names;
    assert_int_equal(expression_names(arena, yaml->items[0], &names, diags), 5);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[4], "e");
    assert_string_equal(pattern_expand(arena, yaml->items[1], &scope, diags), "llama.{x}.8.weight");
    assert_int_equal(diags_errors(diags), 0);
    assert_null(pattern_expand(arena, yaml->items[2], &scope, diags));
    assert_null(pattern_expand(arena, yaml->items[3], &scope, diags));
    assert_int_equal(diags_errors(diags), 2);
    diags_free(diags);
    arena_free(arena);
}

static bool asked(void *context, const char *name, Constant *value) {
    if (strcmp(name, "heads") != 0) return false;
    ++*(int *)context;
    *value = constant_number(8);
    return true;
}

static void scopes(void **state) {
    (void)state;
    Arena *arena = arena_new();
    int times = 0;
    Scope outer = {.find = asked, .context = &times}, inner = {.outer = &outer};
    Constant value;
    scope_set(arena, &inner, "layer", constant_number(3));
    scope_set(arena, &inner, "layer", constant_number(4));
    assert_true(scope_get(&inner, "layer", &value));
    assert_true(value.number == 4);
    assert_true(scope_get(&inner, "heads", &value));
    assert_true(value.number == 8 && times == 1);
    assert_false(scope_get(&inner, "head", &value));
    arena_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(expressions), cmocka_unit_test(names_and_patterns), cmocka_unit_test(scopes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
