// Tokenizers: ids and decoded text of every kind equal what the `tokenizers` library said (fixtures made by make_fixtures.py); the
// section's bytes survive damage without a crash; broken files are refused with a message.
#include "frontend/frontend.h"
#include "runtime/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ALL = TOKENIZER_SPECIALS | TOKENIZER_PARSE };

static json_t *texts;

static uint64_t fnv(const char *bytes, size_t length) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash >> 32;
}

static Tokenizer *open_fixture(const char *name, Text *bytes) {
    char path[512], error[256] = "";
    snprintf(path, sizeof path, "%s/fixtures/%s", TEST_DIR, name);
    Diags *diags = diags_new();
    if (!tokenizer_import(path, bytes, diags)) {
        diags_print(diags, stderr);
        fail_msg("%s was not imported", path);
    }
    diags_free(diags);
    Tokenizer *t = tokenizer_open(bytes->data, bytes->length, error, sizeof error);
    if (!t) fail_msg("%s: %s", path, error);
    return t;
}

// What an encode gives, as "1 2 3 ", and its decoding; both malloc'd.
static void encode(const Tokenizer *t, const char *text, size_t length, unsigned flags, Text *ids_text, char **decoded,
                   size_t *decoded_length) {
    int32_t *ids;
    int count;
    char error[256] = "";
    if (!tokenizer_encode(t, text, length, flags, &ids, &count, error, sizeof error)) fail_msg("%s", error);
    for (int i = 0; i < count; i++) text_printf(ids_text, "%d ", (int)ids[i]);
    *decoded = tokenizer_decode(t, ids, count, 0, decoded_length);
    assert_non_null(*decoded);
    TokenizerStream stream;                                       // token by token it is the same text
    tokenizer_stream_open(&stream, t, 0);
    Text streamed = {0};
    for (int i = 0; i <= count; i++) {
        size_t bytes;
        const char *piece = i < count ? tokenizer_stream_push(&stream, ids[i], &bytes) : tokenizer_stream_end(&stream, &bytes);
        text_add(&streamed, piece, bytes);
    }
    tokenizer_stream_close(&stream);
    assert_int_equal(streamed.length, *decoded_length);
    if (streamed.length) assert_memory_equal(streamed.data, *decoded, streamed.length);
    text_free(&streamed);
    free(ids);
}

static void agrees_with_the_oracle(void **state) {
    (void)state;
    FILE *expected = fopen(TEST_DIR "/fixtures/expected.txt", "r");
    assert_non_null(expected);
    char name[64], open_name[64] = "", ids_hash[32], text_hash[32];
    int number, wrong = 0, compared = 0;
    Tokenizer *t = NULL;
    Text bytes = {0};
    while (fscanf(expected, "%63s %d %31s %31s", name, &number, ids_hash, text_hash) == 4) {
        if (strcmp(name, open_name)) {
            tokenizer_close(t);
            text_free(&bytes);
            bytes = (Text){0};
            t = open_fixture(name, &bytes);
            strcpy(open_name, name);
        }
        json_t *text = json_array_get(texts, (size_t)number);
        assert_non_null(text);
        Text ids = {0};
        char *decoded;
        size_t length;
        encode(t, json_string_value(text), json_string_length(text), ALL, &ids, &decoded, &length);
        bool same = fnv(ids.data, ids.length) == strtoull(ids_hash, NULL, 16);
        bool same_text = !strcmp(text_hash, "-") || fnv(decoded, length) == strtoull(text_hash, NULL, 16);
        if (!same || !same_text) fprintf(stderr, "%s, text %d: %s differ\n", name, number, same ? "decoded texts" : "ids");
        wrong += !same || !same_text;
        compared++;
        text_free(&ids);
        free(decoded);
    }
    tokenizer_close(t);
    text_free(&bytes);
    fclose(expected);
    assert_int_equal(wrong, 0);
    assert_true(compared > 500);
}

static void ill_formed_text_is_replaced(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *means;
    } cases[] = {{"a\xFFz", "a\xEF\xBF\xBDz"},
                 {"\xE4\xB8", "\xEF\xBF\xBD"},
                 {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xF0\x9F\x98 x", "\xEF\xBF\xBD x"},
                 {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}};
    Text bytes = {0};
    Tokenizer *t = open_fixture("gpt2.json", &bytes);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Text ids = {0};
        char *decoded;
        size_t length;
        encode(t, cases[i].bytes, strlen(cases[i].bytes), ALL, &ids, &decoded, &length);
        assert_string_equal(decoded, cases[i].means);
        text_free(&ids);
        free(decoded);
    }
    tokenizer_close(t);
    text_free(&bytes);
}

static void special_tokens(void **state) {
    (void)state;
    Text bytes = {0}, parsed = {0}, plain = {0};
    Tokenizer *t = open_fixture("smollm.json", &bytes);
    int32_t id = tokenizer_find(t, "<|im_end|>", 10);
    assert_true(id >= 0);
    assert_true(tokenizer_is_special(t, id));
    assert_true(tokenizer_is_end(t, id));
    assert_int_equal(tokenizer_find(t, "<|no|>", 6), -1);
    assert_int_equal(tokenizer_bos(t), -1);
    char *decoded;
    size_t length;
    encode(t, "<|im_end|>", 10, TOKENIZER_PARSE, &parsed, &decoded, &length);
    assert_string_equal(decoded, "");
    free(decoded);
    encode(t, "<|im_end|>", 10, 0, &plain, &decoded, &length);
    assert_string_equal(decoded, "<|im_end|>");
    assert_string_not_equal(parsed.data, plain.data);
    free(decoded);
    decoded = tokenizer_decode(t, &id, 1, TOKENIZER_SHOW, &length);
    assert_string_equal(decoded, "<|im_end|>");
    free(decoded);
    text_free(&parsed);
    text_free(&plain);
    tokenizer_close(t);
    text_free(&bytes);
}

// Whatever is changed in the bytes: they are refused, or everything still works without touching memory that is not theirs (sanitizers look
// on).
static void damaged_bytes_do_not_crash(void **state) {
    (void)state;
    static const char *const names[] = {"llama3.json",    "gemma.json", "xlmr.json", "bert_uncased.json",
                                        "plain_bpe.json", "clip.json",  "t5.gguf"};
    uint64_t random = 88172645463325252u;
    for (size_t n = 0; n < COUNT_OF(names); n++) {
        Text bytes = {0};
        tokenizer_close(open_fixture(names[n], &bytes));
        char *copy = malloc(bytes.length);
        for (int round = 0; round < 150; round++) {
            memcpy(copy, bytes.data, bytes.length);
            for (int change = 0; change < 1 + round % 4; change++) {
                random ^= random << 13, random ^= random >> 7, random ^= random << 17;
                size_t area = change % 2 ? bytes.length : bytes.length < 512 ? bytes.length : 512;
                copy[random % area] = (char)(random >> 32);
            }
            Tokenizer *t = tokenizer_open(copy, round % 10 == 9 ? bytes.length / 2 : bytes.length, NULL, 0);
            if (!t) continue;
            for (size_t i = 0; i < json_array_size(texts); i += 3) {
                int32_t *ids;
                int count;
                size_t length;
                json_t *text = json_array_get(texts, i);
                if (!tokenizer_encode(t, json_string_value(text), json_string_length(text), ALL, &ids, &count, NULL, 0)) continue;
                free(tokenizer_decode(t, ids, count, TOKENIZER_SHOW, &length));
                free(ids);
            }
            tokenizer_close(t);
        }
        free(copy);
        text_free(&bytes);
    }
}

static void long_words_are_quick(void **state) {
    (void)state;
    static const char *const names[] = {"gemma.json", "gpt2.gguf", "xlmr.json"};
    size_t length = 1 << 20;
    char *text = malloc(length);
    for (size_t i = 0; i < length; i++) text[i] = (char)(i % 7 == 6 ? ' ' : 'a' + i * i % 26);
    memset(text + length / 2, ' ', 1000);
    memset(text + length / 4, 'x', 100000);
    for (size_t n = 0; n < COUNT_OF(names); n++) {
        Text bytes = {0}, ids = {0};
        Tokenizer *t = open_fixture(names[n], &bytes);
        char *decoded;
        size_t decoded_length;
        encode(t, text, length, 0, &ids, &decoded, &decoded_length);
        assert_true(decoded_length > length / 2);
        free(decoded);
        text_free(&ids);
        tokenizer_close(t);
        text_free(&bytes);
    }
    free(text);
}

static void refused(const char *json, const char *message) {
    char path[] = "/tmp/tenon-tokenizer-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, json, strlen(json)), (ssize_t)strlen(json));
    close(file);
    Diags *diags = diags_new();
    Text bytes = {0}, said = {0};
    assert_false(tokenizer_import(path, &bytes, diags));
    diags_text(diags, &said);
    if (!strstr(said.data, message)) fail_msg("expected \"%s\" in: %s", message, said.data);
    unlink(path);
    text_free(&bytes);
    text_free(&said);
    diags_free(diags);
}

#define MODEL "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []}"

static void unsupported_things_are_named(void **state) {
    (void)state;
    refused("hello", "is neither a tokenizer.json nor a .gguf file");
    refused("{}", "is not a tokenizer.json: it has no \"model\"");
    refused("{\"model\": {\"type\": \"Magic\", \"vocab\": {\"a\": 0}}}", "the tokenizer model \"Magic\" is not supported");
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}}}", "the token \"a\" has no usable id");
    refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [\"a b\"]}}",
            "merge 0 (\"a\" and \"b\") is not made of tokens");
    refused("{" MODEL ", \"normalizer\": {\"type\": \"Leet\"}}", "the normalizer \"Leet\" is not supported");
    refused("{" MODEL ", \"pre_tokenizer\": {\"type\": \"UnicodeScripts\"}}", "the pre-tokenizer \"UnicodeScripts\" is not supported");
    refused("{" MODEL ", \"decoder\": {\"type\": \"CTC\"}}", "the decoder \"CTC\" is not supported");
    refused("{" MODEL ", \"post_processor\": {\"type\": \"Poem\"}}", "the post-processor \"Poem\" is not supported");
    refused("{" MODEL ", \"added_tokens\": [{\"id\": 99999999, \"content\": \"x\"}]}", "added token 0 has no usable id");
#define SPLIT(regex)                                                                                                                       \
    "{" MODEL ", \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex "\"}, \"behavior\": \"Isolated\"}}"
    refused(SPLIT("\\\\p{Klingon}"), "the character property \"Klingon\" is not supported at column 2 of");
    refused(SPLIT("(a"), "a group without )");
    refused(SPLIT("[a"), "a class without ]");
    refused(SPLIT("a)"), "a ) without its (");
    refused(SPLIT("(a)\\\\1"), "\\1 is not supported");
    refused(SPLIT("(a*)*"), "repeating something that may be empty is not supported");
    refused(SPLIT("(?<=a+)b"), "look-behind of variable width is not supported");
    refused(SPLIT("*a"), "a quantifier without anything to repeat");
    refused(SPLIT("(?:(?:(?:a{1000}b){1000}c){1000}d){1000}"), "the pattern is too large");
    refused(SPLIT("(?:(?:(?:){1000}){1000}){1000}"), "the pattern is too large");
}

// (a|aa)+b on aaaa… takes for ever by backtracking; the budget of steps ends it.
static void hostile_patterns_end(void **state) {
    (void)state;
    char path[] = "/tmp/tenon-tokenizer-XXXXXX", error[256] = "", text[200];
    int file = mkstemp(path), count;
    static const char json[] = SPLIT("(?:a|aa)+b");
    assert_int_equal(write(file, json, sizeof json - 1), (ssize_t)sizeof json - 1);
    close(file);
    Diags *diags = diags_new();
    Text bytes = {0};
    assert_true(tokenizer_import(path, &bytes, diags));
    Tokenizer *t = tokenizer_open(bytes.data, bytes.length, error, sizeof error);
    assert_non_null(t);
    memset(text, 'a', sizeof text);
    int32_t *ids;
    assert_false(tokenizer_encode(t, text, sizeof text, 0, &ids, &count, error, sizeof error));
    assert_string_equal(error, "the tokenizer's pattern takes too long on this text");
    tokenizer_close(t);
    text_free(&bytes);
    diags_free(diags);
    unlink(path);
}

int main(void) {
    texts = json_load_file(TEST_DIR "/texts.json", JSON_ALLOW_NUL, NULL);
    if (!texts) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_the_oracle), cmocka_unit_test(ill_formed_text_is_replaced),
        cmocka_unit_test(special_tokens),         cmocka_unit_test(damaged_bytes_do_not_crash),
        cmocka_unit_test(long_words_are_quick),   cmocka_unit_test(unsupported_things_are_named),
        cmocka_unit_test(hostile_patterns_end),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(texts);
    return failed;
}
