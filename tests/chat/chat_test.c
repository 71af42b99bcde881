// Chat templates: the interpreter writes what jinja2 wrote (expected.json, made by make_expected.py); templates reduce to texts that give
// the same conversations; hostile templates end with a message.
#include "frontend/chat.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *cases;

static char *read_template(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/templates/%s.jinja", TEST_DIR, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = calloc(1, 1 << 16);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
    fclose(file);
    return text;
}

static void assign(Jinja *j, JFrame *frame, const char *name, JValue value) {
    int count = frame->count;
    ARENA_PUSH(j->arena, frame->names, count, frame->names_capacity) = name;
    ARENA_PUSH(j->arena, frame->values, frame->count, frame->values_capacity) = value;
}

static JValue text_value(Jinja *j, json_t *text) { return j_string(j, json_string_value(text), json_string_length(text)); }

// Renders into *out; the error, malloc'd, or NULL.
static char *render(const char *template, json_t *c, Text *out) {
    Arena *arena = arena_new();
    Jinja j = {.arena = arena, .steps = 1000000, .bytes = 32 << 20};
    j.globals = arena_alloc(arena, sizeof *j.globals);
    JValue list = j_list(&j);
    size_t i;
    json_t *pair;
    json_array_foreach(json_object_get(c, "messages"), i, pair) {
        JValue message = j_map(&j);
        j_put(&j, message, J_TEXT("role"), text_value(&j, json_array_get(pair, 0)));
        j_put(&j, message, J_TEXT("content"), text_value(&j, json_array_get(pair, 1)));
        j_push(&j, list, message);
    }
    assign(&j, j.globals, "messages", list);
    assign(&j, j.globals, "add_generation_prompt", J_TRUTH(json_is_true(json_object_get(c, "generation"))));
    assign(&j, j.globals, "tools", (JValue){.kind = J_NONE});
    if (c) assign(&j, j.globals, "bos_token", text_value(&j, json_object_get(c, "bos")));
    if (c) assign(&j, j.globals, "eos_token", text_value(&j, json_object_get(c, "eos")));
    JNode *tree = jinja_parse(&j, template, strlen(template));
    if (tree) jinja_render(&j, tree, out);
    char *error = j.error ? strdup(j.error) : NULL;
    text_puts(out, "");
    arena_free(arena);
    return error;
}

static void renders_as_jinja2(void **state) {
    (void)state;
    size_t i;
    json_t *c;
    int wrong = 0;
    json_array_foreach(cases, i, c) {
        const char *name = json_string_value(json_object_get(c, "template")), *expected = json_string_value(json_object_get(c, "text"));
        char *template = read_template(name);
        Text out = {0};
        char *error = render(template, c, &out);
        bool same = expected ? !error && !strcmp(out.data, expected) : error != NULL;
        if (!same)
            fprintf(stderr, "case %zu, %s: expected %s\n  got %s%s\n", i, name, expected ? expected : "an error", out.data,
                    error ? error : "");
        wrong += !same;
        free(error);
        free(template);
        text_free(&out);
    }
    assert_int_equal(wrong, 0);
    assert_true(i > 200);
}

static void expand(Text *out, const char *template, const char *message) {
    const char *hole = strstr(template, "{text}");
    text_add(out, template, hole ? (size_t)(hole - template) : strlen(template));
    if (hole) text_puts(out, message);
    if (hole) text_puts(out, hole + 6);
}

// The conversation by the texts of `chat`; false when it has a message that they do not cover.
static bool by_parts(const ChatTemplates *chat, json_t *c, Text *out) {
    size_t i;
    json_t *pair, *messages = json_object_get(c, "messages");
    const char *before = "";
    json_array_foreach(messages, i, pair) {
        const char *role = json_string_value(json_array_get(pair, 0)), *text = json_string_value(json_array_get(pair, 1));
        if (!strcmp(role, before)) return false;                         // two questions in a row: templates differ in what they allow
        bool system = !strcmp(role, "system"), user = !strcmp(role, "user");
        if (i == 0 && !system && chat->begin) text_puts(out, chat->begin);
        if (system && !chat->system) return false;
        expand(out, system ? chat->system : user ? chat->user : chat->assistant, text);
        before = role;
    }
    if (strcmp(before, "user")) return false;
    text_puts(out, chat->generation ? chat->generation : "");
    return true;
}

static void reduces_to_the_same_texts(void **state) {
    (void)state;
    size_t i;
    json_t *c;
    int compared = 0, reduced = 0;
    char current[64] = "", *template = NULL;
    ChatTemplates chat = {0};
    Diags *diags = diags_new();
    json_array_foreach(cases, i, c) {
        const char *name = json_string_value(json_object_get(c, "template")), *expected = json_string_value(json_object_get(c, "text"));
        if (strcmp(name, current)) {
            snprintf(current, sizeof current, "%s", name);
            free(template);
            template = read_template(name);
            char *texts[] = {chat.begin, chat.system, chat.user, chat.assistant, chat.generation};
            for (size_t k = 0; k < COUNT_OF(texts); k++) free(texts[k]);
            bool done = chat_reduce(template, "<s>", "</s>", &chat, diags);
            if (done != (strcmp(name, "macros") != 0)) fail_msg("%s: reduced %d", name, done);
            reduced += done;
        }
        Text out = {0};
        if (expected && chat.user && json_is_true(json_object_get(c, "generation")) && by_parts(&chat, c, &out)) {
            assert_string_equal(out.data, expected);
            compared++;
        }
        text_free(&out);
    }
    char *texts[] = {chat.begin, chat.system, chat.user, chat.assistant, chat.generation};
    for (size_t k = 0; k < COUNT_OF(texts); k++) free(texts[k]);
    free(template);
    diags_free(diags);
    assert_int_equal(reduced, 14);
    assert_true(compared > 50);
}

static void cuts_fall_where_a_reader_would_put_them(void **state) {
    (void)state;
    static const struct {
        const char *name, *begin, *system, *user, *assistant, *generation;
    } expected[] = {
        {"chatml", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", "<|im_start|>system\n{text}<|im_end|>\n",
         "<|im_start|>user\n{text}<|im_end|>\n", "<|im_start|>assistant\n{text}<|im_end|>\n", "<|im_start|>assistant\n"},
        {"llama2", NULL, NULL, "<s>[INST] {text} [/INST]", " {text} </s>", NULL},
        {"mistral", "<s>", NULL, "[INST] {text} [/INST]", "{text}</s>", NULL},
        {"phi3", NULL, "<|system|>\n{text}<|end|>\n", "<|user|>\n{text}<|end|>\n", "<|assistant|>\n{text}<|end|>\n", "<|assistant|>\n"},
        {"gemma3", "<s>", NULL, "<start_of_turn>user\n{text}<end_of_turn>\n", "<start_of_turn>model\n{text}<end_of_turn>\n",
         "<start_of_turn>model\n"},
        {"zephyr", NULL, "<|system|>\n{text}</s>\n", "<|user|>\n{text}</s>\n", "<|assistant|>\n{text}</s>\n", "<|assistant|>\n"},
    };
    Diags *diags = diags_new();
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        char *template = read_template(expected[i].name);
        ChatTemplates chat;
        assert_true(chat_reduce(template, "<s>", "</s>", &chat, diags));
        char *texts[] = {chat.begin, chat.system, chat.user, chat.assistant, chat.generation};
        const char *wanted[] = {expected[i].begin, expected[i].system, expected[i].user, expected[i].assistant, expected[i].generation};
        for (size_t k = 0; k < COUNT_OF(texts); k++) {
            assert_int_equal(texts[k] == NULL, wanted[k] == NULL);
            if (texts[k]) assert_string_equal(texts[k], wanted[k]);
            free(texts[k]);
        }
        free(template);
    }
    diags_free(diags);
}

static void fails_with(const char *template, const char *message) {
    Text out = {0};
    char *error = render(template, NULL, &out);
    if (!error || !strstr(error, message))
        fail_msg("%.60s: expected \"%s\", got \"%s\" and \"%.60s\"", template, message, error ? error : "no error", out.data);
    free(error);
    text_free(&out);
    Diags *diags = diags_new();
    ChatTemplates chat;
    Text said = {0};
    assert_false(chat_reduce(template, NULL, NULL, &chat, diags));
    diags_text(diags, &said);
    assert_non_null(strstr(said.data, "warning: the chat template does not reduce to plain texts: "));
    assert_int_equal(diags_errors(diags), 0);
    text_free(&said);
    diags_free(diags);
}

static void repeated(const char *before, const char *item, int times, const char *after, const char *message) {
    Text text = {0};
    text_puts(&text, before);
    for (int i = 0; i < times; i++) text_puts(&text, item);
    text_puts(&text, after);
    fails_with(text.data, message);
    text_free(&text);
}

static void wrong_and_hostile_templates_end(void **state) {
    (void)state;
    fails_with("{% for m in messages %}", "\"endfor\" is missing");
    fails_with("{% if true %}x", "\"else\" is missing");
    fails_with("{{ 'abc }}", "a string without its closing quote");
    fails_with("{{ 1 + }}", "an expression expected before \"}}\"");
    fails_with("{{ }}", "an expression expected");
    fails_with("{% include 'x' %}", "the statement \"include\" is not supported");
    fails_with("{{ 'x' | rot13 }}", "the filter \"rot13\" is not supported");
    fails_with("{{ 'x' is prime }}", "the test \"prime\" is not supported");
    fails_with("{{ nothing.at.all }}", "\"at\" of \"nothing\" is asked for, which is undefined");
    fails_with("{{ nothing() }}", "\"nothing\" is called but is undefined");
    fails_with("{{ 1 // 0 }}", "a division by zero");
    fails_with("{{ -9223372036854775807 - 2 }}", "a number is too large");
    fails_with("{{ 10 ** 100 }}", "a number is too large");
    fails_with("{{ raise_exception('no') }}", "it says: no");
    fails_with("{{ 'x' + 1 }}", "a text + an integer means nothing");
    fails_with("{# never closed", "a comment without #}");
    fails_with("{% set x.y = 1 %}", "\"x\" is no namespace");
    fails_with("{{ [1, 2", "expected");
    fails_with("{{ 'x'[ }}", "");
    fails_with("{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}",
               "it needs too much memory");
    fails_with("{{ range(10000000) }}", "a range of more than 100000 numbers");
    fails_with("{{ 'xxxxxxxxxx' * 100000000 }}", "bytes");
    fails_with("{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}", "bytes");
    fails_with("{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}", "");
    fails_with("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested deeper than 400");
    repeated("{{ ", "(", 100000, "", "nested deeper than 100");
    repeated("{{ ", "[", 100000, "", "nested deeper than 100");
    repeated("{{ ", "not ", 100000, "", "nested deeper than 100");
    repeated("{{ ", "-", 100000, "1 }}", "nested deeper than 100");
    repeated("", "{% if 1 %}", 100000, "", "nested deeper than 100");
    repeated("{{ 1", "+1", 10000, " }}", "nested deeper than 400");
    repeated("{{ x", ".x", 10000, " }}", "nested deeper than 400");
    repeated("{{ 1", " if 1", 10000, " }}", "");
    repeated("", "x", 2000000, "", "the template is larger than");
}

static void templates_that_hide_messages_are_refused(void **state) {
    (void)state;
    static const struct { const char *template, *why; } refused[] = {
        {"hello", "it leaves a message out"},
        {"{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "it writes a message twice"},
        {"{% for m in messages %}{{ m.content }}{{ messages | length }}{% endfor %}", "depends on the others"},
        {"{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}", "in a longer conversation it writes"},
        {"{% for m in messages %}<{{ m.content | upper }}>{% endfor %}", "it leaves a message out"},
        {"{% for m in messages %}<{{ m.content | replace('\\n', ' ') }}>{% endfor %}", "in a longer conversation it writes"},
        {"{% for m in messages %}{text}{{ m.content }}{% endfor %}", "it writes {text} itself"}};
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        Diags *diags = diags_new();
        ChatTemplates chat;
        Text said = {0};
        assert_false(chat_reduce(refused[i].template, "<s>", "</s>", &chat, diags));
        diags_text(diags, &said);
        if (!strstr(said.data, refused[i].why)) fail_msg("%s: %s", refused[i].template, said.data);
        text_free(&said);
        diags_free(diags);
    }
}

int main(void) {
    cases = json_load_file(TEST_DIR "/expected.json", 0, NULL);
    if (!cases) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_as_jinja2),
        cmocka_unit_test(reduces_to_the_same_texts),
        cmocka_unit_test(cuts_fall_where_a_reader_would_put_them),
        cmocka_unit_test(wrong_and_hostile_templates_end),
        cmocka_unit_test(templates_that_hide_messages_are_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(cases);
    return failed;
}
