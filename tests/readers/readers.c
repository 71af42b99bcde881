// The weight readers: good files read right, each way to be malformed has its message, and no truncation or flipped byte does harm (run
// this under the sanitizers: preset asan).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "build.h"

static Diags *diags;
static char messages[20000];

static int setup(void **state) {
    (void)state;
    diags = diags_new();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    diags_free(diags);
    return 0;
}

static const char *said(void) {
    Text text = {0};
    diags_text(diags, &text);
    snprintf(messages, sizeof messages, "%s", text.data ? text.data : "");
    text_free(&text);
    return messages;
}

static Provider *open_bytes(const Text *bytes) {
    const char *path = write_file("weights", bytes->data, bytes->length);
    return weights_open(&path, 1, diags);
}

// The bytes of every tensor lie in memory that can be read.
static uint64_t touch(const Provider *provider) {
    uint64_t sum = 0, size;
    for (int i = 0; i < provider->count; i++) {
        const TensorInfo *tensor = &provider->tensors[i];
        assert_true(tensor->type.rank == 0 || type_bytes(&tensor->type, &size));
        if (tensor->type.rank == 0)
            size = (uint64_t)dtype_info[tensor->type.dtype].bytes;
        for (uint64_t j = 0; j < size; j++)
            sum += ((const uint8_t *)tensor->bytes)[j];
        assert_true(provider->find((Provider *)(uintptr_t)provider, tensor->name) == tensor);
    }
    return sum;
}

static void refuse(const Text *bytes, const char *message) {
    Provider *provider = open_bytes(bytes);
    assert_null(provider);
    if (!strstr(said(), message))
        fail_msg("wanted '%s' in: %s", message, messages);
    diags_free(diags);
    diags = diags_new();
}

// ---- GGUF ---------------------------------------------------------------------------------------------------------

static void check_good_gguf(uint32_t version) {
    Text file = {0};
    put_good_gguf(&file, version);
    Provider *provider = open_bytes(&file);
    if (!provider)
        fail_msg("%s", said());
    assert_int_equal(provider->count, 3);
    assert_string_equal(provider->tensors[0].name, "a.weight");
    const TensorInfo *b = provider->find(provider, "b.weight");
    assert_int_equal(b->type.dtype, DT_Q4_0);
    assert_int_equal(b->type.rank, 2);
    assert_int_equal(b->type.dims[0], 3);
    assert_int_equal(b->type.dims[1], 32);
    assert_int_equal(((const uint8_t *)provider->tensors[0].bytes)[0], 64);
    assert_memory_equal(file.data + b->offset, b->bytes, 54);
    assert_null(provider->find(provider, "b"));
    touch(provider);
    provider->close(provider);
    text_free(&file);
}

static void gguf_good(void **state) {
    (void)state;
    check_good_gguf(3);
    check_good_gguf(2);
}

static void gguf_metadata(void **state) {
    (void)state;
    Text file = {0};
    put_good_gguf(&file, 3);
    Gguf *gguf = gguf_metadata_open(write_file("meta.gguf", file.data, file.length), diags);
    double number;
    size_t length;
    assert_non_null(gguf);
    assert_string_equal(gguf_string(gguf, "general.architecture", &length), "llama");
    assert_int_equal(length, 5);
    assert_true(gguf_number(gguf, "llama.block_count", &number) && number == 30);
    assert_true(gguf_number(gguf, "llama.context_length", &number) && number == 8192);
    assert_true(gguf_number(gguf, "llama.attention.layer_norm_rms_epsilon", &number) && number == 1e-5f);
    assert_true(gguf_number(gguf, "tokenizer.ggml.add_bos_token", &number) && number == 1);
    assert_int_equal(gguf_array(gguf, "tokenizer.ggml.tokens"), 3);
    assert_memory_equal(gguf_array_string(gguf, "tokenizer.ggml.tokens", 2, &length), "three", 5);
    assert_int_equal(length, 5);
    assert_non_null(gguf_array_string(gguf, "tokenizer.ggml.tokens", 1, &length));
    assert_int_equal(length, 0);
    assert_true(gguf_array_number(gguf, "tokenizer.ggml.scores", 1, &number) && number == -2);
    // A value of a wrong kind, an index outside and a key that is not there all read as absent.
    assert_null(gguf_string(gguf, "llama.block_count", &length));
    assert_false(gguf_number(gguf, "general.architecture", &number));
    assert_int_equal(gguf_array(gguf, "general.architecture"), -1);
    assert_null(gguf_array_string(gguf, "tokenizer.ggml.tokens", 3, &length));
    assert_null(gguf_array_string(gguf, "tokenizer.ggml.tokens", -1, &length));
    assert_false(gguf_array_number(gguf, "tokenizer.ggml.scores", 2, &number));
    assert_false(gguf_number(gguf, "llama", &number));
    gguf_metadata_close(gguf);
    text_free(&file);
}

// A header with one key whose value `value` writes.
static void refuse_value(uint32_t type, void (*value)(Text *), const char *message) {
    Text file = {0};
    put_gguf(&file, 3, 0, 1);
    put_key(&file, "some.key", type);
    value(&file);
    put_data(&file, 32, 64);
    refuse(&file, message);
    text_free(&file);
}

static void huge_string(Text *out) { put_u64(out, UINT64_MAX - 3); }
static void long_string(Text *out) { put_u64(out, 1000); }
static void nested_array(Text *out) { put_u32(out, 9); put_u64(out, 1); put_u32(out, 9); put_u64(out, 1); }
static void huge_array(Text *out) { put_u32(out, 10); put_u64(out, 1ull << 61); }
static void huge_string_array(Text *out) { put_u32(out, 8); put_u64(out, 1ull << 61); }
static void unknown_array(Text *out) { put_u32(out, 99); put_u64(out, 1); }
static void nothing(Text *out) { (void)out; }

static void gguf_bad_metadata(void **state) {
    (void)state;
    refuse_value(8, huge_string, "the file ends inside some.key");
    refuse_value(8, long_string, "the file ends inside some.key");
    refuse_value(9, nested_array, "some.key is an array of arrays");
    refuse_value(9, huge_array, "some.key says it has 2305843009213693952 elements");
    refuse_value(9, huge_string_array, "some.key says it has 2305843009213693952 elements");
    refuse_value(9, unknown_array, "some.key is an array of the unknown type 99");
    refuse_value(13, nothing, "some.key has the unknown type 13");
    Text file = {0};
    put_gguf(&file, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_key(&file, "twice", 4);
        put_u32(&file, 1);
    }
    refuse(&file, "the metadata key twice appears twice");
    text_free(&file);
}

static void refuse_header(uint32_t version, uint64_t tensors, uint64_t keys, const char *message) {
    Text file = {0};
    put_gguf(&file, version, tensors, keys);
    put_data(&file, 1, 40);
    refuse(&file, message);
    text_free(&file);
}

static void gguf_bad_header(void **state) {
    (void)state;
    refuse_header(0x03000000, 0, 0, "is a big-endian GGUF file");
    refuse_header(0x02000000, 0, 0, "is a big-endian GGUF file");
    refuse_header(1, 0, 0, "is GGUF version 1");
    refuse_header(4, 0, 0, "is GGUF version 4");
    refuse_header(0, 0, 0, "is GGUF version 0");
    refuse_header(3, 0, UINT64_MAX, "metadata keys, more than it has room for");
    refuse_header(3, 0, 4, "metadata keys, more than it has room for");
    refuse_header(3, UINT64_MAX / 8, 0, "tensors, more than it has room for");
    refuse_header(3, 2, 0, "tensors, more than it has room for");
}

static void refuse_tensor(int rank, const uint64_t *sizes, uint32_t type, uint64_t offset, const char *message) {
    Text file = {0};
    put_gguf(&file, 3, 1, 0);
    put_tensor(&file, "t", rank, sizes, type, offset);
    put_data(&file, 32, 256);
    refuse(&file, message);
    text_free(&file);
}

static void gguf_bad_tensors(void **state) {
    (void)state;
    uint64_t big = 1ull << 32;
    refuse_tensor(2, (uint64_t[]){big, big}, 0, 0, "tensor t is larger than its file");
    refuse_tensor(4, (uint64_t[]){1ull << 16, 1ull << 16, 1ull << 16, 1ull << 16}, 0, 0, "tensor t is larger than its file");
    refuse_tensor(2, (uint64_t[]){32, UINT64_MAX}, 2, 0, "tensor t is larger than its file");
    refuse_tensor(1, (uint64_t[]){UINT64_MAX - 31}, 24, 0, "tensor t is larger than its file");
    refuse_tensor(2, (uint64_t[]){4, 0}, 0, 0, "tensor t has a dimension of size 0");
    refuse_tensor(0, NULL, 0, 0, "tensor t has 0 dimensions");
    refuse_tensor(5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0, "tensor t has 5 dimensions");
    refuse_tensor(1, (uint64_t[]){33}, 2, 0, "is no whole number of q4_0 blocks");
    refuse_tensor(1, (uint64_t[]){128}, 12, 0, "is no whole number of q4_k blocks");
    refuse_tensor(1, (uint64_t[]){256}, 16, 0, "tensor t has type IQ2_XXS, which is not read");
    refuse_tensor(1, (uint64_t[]){8}, 28, 0, "tensor t has type F64, which is not read");
    refuse_tensor(1, (uint64_t[]){8}, 77, 0, "tensor t has the unknown type 77");
    refuse_tensor(1, (uint64_t[]){8}, 0, 16, "which is no multiple of 32");
    refuse_tensor(1, (uint64_t[]){64}, 0, 32, "tensor t reaches past the end of the file");
    refuse_tensor(1, (uint64_t[]){8}, 0, UINT64_MAX - 31, "tensor t reaches past the end of the file");
    refuse_tensor(1, (uint64_t[]){8}, 0, 1ull << 63, "tensor t reaches past the end of the file");
    Text file = {0};
    put_gguf(&file, 3, 2, 0);
    put_tensor(&file, "t", 1, (uint64_t[]){16}, 0, 0);
    put_tensor(&file, "u", 1, (uint64_t[]){16}, 0, 32);
    put_data(&file, 32, 128);
    refuse(&file, "tensors t and u overlap");
    file.length = 0;
    put_gguf(&file, 3, 2, 0);
    put_tensor(&file, "t", 1, (uint64_t[]){8}, 0, 0);
    put_tensor(&file, "t", 1, (uint64_t[]){8}, 0, 32);
    put_data(&file, 32, 64);
    refuse(&file, "tensor t appears twice");
    text_free(&file);
}

static void gguf_alignment(void **state) {
    (void)state;
    static const struct { uint32_t value; const char *message; } cases[] = {
        {0, "general.alignment is 0"}, {24, "general.alignment is 24"}, {0x80000000u, "general.alignment is"}, {64, NULL}, {1, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Text file = {0};
        put_gguf(&file, 3, 1, 1);
        put_key(&file, "general.alignment", 4);
        put_u32(&file, cases[i].value);
        put_tensor(&file, "t", 1, (uint64_t[]){4}, 0, 0);
        put_data(&file, cases[i].message ? 32 : cases[i].value, 16);
        if (cases[i].message) {
            refuse(&file, cases[i].message);
        } else {
            Provider *provider = open_bytes(&file);
            assert_non_null(provider);
            assert_int_equal(((const uint8_t *)provider->tensors[0].bytes)[3], 3);
            assert_int_equal(provider->tensors[0].offset % cases[i].value, 0);
            provider->close(provider);
        }
        text_free(&file);
    }
}

// ---- safetensors ----------------------------------------------------------------------------------------------------

static void safetensors_good(void **state) {
    (void)state;
    Text file = {0};
    put_good_safetensors(&file);
    Provider *provider = open_bytes(&file);
    if (!provider)
        fail_msg("%s", said());
    assert_int_equal(provider->count, 3);
    const TensorInfo *w = provider->find(provider, "w"), *s = provider->find(provider, "s");
    assert_int_equal(w->type.dims[0], 2);
    assert_int_equal(w->type.dims[1], 3);
    assert_int_equal(s->type.rank, 0);
    assert_int_equal(s->type.dtype, DT_I64);
    assert_int_equal(((const uint8_t *)provider->find(provider, "v")->bytes)[0], 24);
    touch(provider);
    provider->close(provider);
    text_free(&file);
}

static void refuse_json(const char *header, size_t data, const char *message) {
    Text file = {0};
    put_safetensors(&file, header, data);
    refuse(&file, message);
    text_free(&file);
}

#define ONE(dtype, shape, offsets) "{\"w\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void safetensors_bad(void **state) {
    (void)state;
    refuse_json(ONE("F64", "[1]", "[0,8]"), 8, "tensor w has type F64, which is not read");
    refuse_json(ONE("U16", "[1]", "[0,2]"), 2, "tensor w has type U16, which is not read");
    refuse_json(ONE("F32", "[2]", "[0,4]"), 4, "takes 8 bytes by its shape, but its data_offsets span 4");
    refuse_json(ONE("F32", "[1]", "[0,8]"), 4, "reaches past the end of the file");
    refuse_json(ONE("F32", "[1]", "[8,4]"), 8, "reaches past the end of the file");
    refuse_json(ONE("F32", "[1]", "[-4,0]"), 8, "no data_offsets of two whole numbers");
    refuse_json(ONE("F32", "[1]", "[0]"), 8, "no data_offsets of two whole numbers");
    refuse_json(ONE("F32", "[1.0]", "[0,4]"), 4, "that is no whole number");
    refuse_json(ONE("F32", "[-1]", "[0,4]"), 4, "that is no whole number");
    refuse_json(ONE("F32", "[0]", "[0,0]"), 0, "has a dimension of size 0");
    refuse_json(ONE("F32", "[4294967296,4294967296,4]", "[0,4]"), 4, "is larger than its file");
    refuse_json(ONE("F32", "[1,1,1,1,1,1,1]", "[0,4]"), 4, "has more than 6 dimensions");
    refuse_json(ONE("F32", "[1]", "[4,8]"), 8, "tensor w has a hole of bytes before it");
    refuse_json(ONE("F32", "[1]", "[0,4]"), 8, "4 bytes after the last tensor belong to none");
    refuse_json("{\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
                "tensor w overlaps the one before");
    refuse_json("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
                "duplicate object key");
    refuse_json("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"more\":1}}", 4, "unknown key more");
    refuse_json("{\"w\":[]}", 0, "tensor w is not described by an object");
    refuse_json("{\"w\":{}}", 0, "tensor w has no dtype");
    refuse_json("{\"w\":{\"dtype\":\"F32\"}}", 0, "tensor w has no shape");
    refuse_json("{\"w\":", 0, "is not valid JSON");
    refuse_json("[1]", 0, "is neither a safetensors nor a GGUF file");
    Text file = {0};
    put_u64(&file, UINT64_MAX);
    put_data(&file, 1, 8);
    refuse(&file, "is neither a safetensors nor a GGUF file");
    file.length = 0;
    text_puts(&file, "short");
    refuse(&file, "is too short for a safetensors file");
    file.length = 0;
    put_u64(&file, 20000);
    text_puts(&file, "{\"w\":");
    for (int i = 0; i < 19995; i++)
        text_puts(&file, "[");
    refuse(&file, "JSON is nested deeper than");
    text_free(&file);
}

static void shard_index(void **state) {
    (void)state;
    static const char index[] = "{\"metadata\":{},\"weight_map\":{\"w\":\"a.safetensors\",\"x\":\"b.safetensors\"}}";
    Text a = {0}, b = {0};
    put_safetensors(&a, ONE("F32", "[1]", "[0,4]"), 4);
    put_safetensors(&b, "{\"x\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", 2);
    write_file("a.safetensors", a.data, a.length);
    write_file("b.safetensors", b.data, b.length);
    const char *path = write_file("model.safetensors.index.json", index, sizeof index - 1);
    Provider *provider = safetensors_open(path, diags);
    if (!provider)
        fail_msg("%s", said());
    assert_int_equal(provider->count, 2);
    assert_int_equal(provider->find(provider, "x")->type.dtype, DT_F16);
    touch(provider);
    provider->close(provider);
    static const struct { const char *text, *message; } bad[] = {
        {"{\"weight_map\":{\"w\":\"a.safetensors\",\"y\":\"a.safetensors\"}}", "tensor y is not in a.safetensors"},
        {"{\"weight_map\":{\"w\":\"../a.safetensors\"}}", "the shard of tensor w is not a plain file name"},
        {"{\"weight_map\":{\"w\":\"missing.safetensors\"}}", "missing.safetensors: error: cannot be opened"},
        {"{\"weight_map\":{}}", "is no shard index"},
        {"{\"weight_map\":{\"w\":3}}", "the shard of tensor w is not a plain file name"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Text text = {0};
        text_puts(&text, bad[i].text);
        refuse(&text, bad[i].message);
        text_free(&text);
    }
    write_file("b.safetensors", a.data, a.length);
    static const char twice[] = "{\"weight_map\":{\"w\":\"a.safetensors\",\"w2\":\"b.safetensors\"}}";
    assert_null(safetensors_open(write_file("index.json", twice, sizeof twice - 1), diags));
    text_free(&a);
    text_free(&b);
}

static void several_files(void **state) {
    (void)state;
    Text gguf = {0}, other = {0};
    put_good_gguf(&gguf, 3);
    put_good_safetensors(&other);
    const char *paths[] = {write_file("one", gguf.data, gguf.length), write_file("two", other.data, other.length)};
    Provider *provider = weights_open(paths, 2, diags);
    assert_non_null(provider);
    assert_int_equal(provider->count, 6);
    touch(provider);
    provider->close(provider);
    const char *same[] = {paths[1], paths[1]};
    assert_null(weights_open(same, 2, diags));
    assert_non_null(strstr(said(), "tensor w appears twice"));
    assert_null(weights_open((const char *[]){"/"}, 1, diags));
    assert_non_null(strstr(said(), "is a folder, not a file"));
    assert_null(weights_open((const char *[]){write_file("none", "", 0)}, 1, diags));
    text_free(&gguf);
    text_free(&other);
}

// ---- every way to cut or flip ---------------------------------------------------------------------------------------

static void survive(const Text *bytes, size_t length) {
    const char *path = write_file("hurt", bytes->data, length);
    Provider *provider = weights_open(&path, 1, diags);
    assert_true((provider == NULL) == (diags_errors(diags) > 0));
    if (provider) {
        touch(provider);
        provider->close(provider);
    }
    Gguf *gguf = gguf_metadata_open(path, diags);
    double number;
    for (int64_t i = 0; gguf && i < gguf_array(gguf, "tokenizer.ggml.scores"); i++)
        gguf_array_number(gguf, "tokenizer.ggml.scores", i, &number);
    gguf_metadata_close(gguf);
    diags_free(diags);
    diags = diags_new();
}

static void hurt(const Text *good, size_t header) {
    for (size_t length = 0; length < good->length; length++) {
        const char *path = write_file("cut", good->data, length);
        assert_null(weights_open(&path, 1, diags));
        assert_true(diags_errors(diags) > 0);
        diags_free(diags);
        diags = diags_new();
    }
    static const unsigned char masks[] = {0xff, 0x01, 0x80, 0x20};
    for (size_t at = 0; at < header; at++)
        for (size_t m = 0; m < sizeof masks; m++) {
            good->data[at] = (char)(good->data[at] ^ masks[m]);
            survive(good, good->length);
            good->data[at] = (char)(good->data[at] ^ masks[m]);
        }
}

static void hurt_files(void **state) {
    (void)state;
    Text file = {0};
    put_good_gguf(&file, 3);
    hurt(&file, file.length - 136);
    file.length = 0;
    put_good_safetensors(&file);
    hurt(&file, file.length - 40);
    text_free(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gguf_good, setup, teardown),
        cmocka_unit_test_setup_teardown(gguf_metadata, setup, teardown),
        cmocka_unit_test_setup_teardown(gguf_bad_header, setup, teardown),
        cmocka_unit_test_setup_teardown(gguf_bad_metadata, setup, teardown),
        cmocka_unit_test_setup_teardown(gguf_bad_tensors, setup, teardown),
        cmocka_unit_test_setup_teardown(gguf_alignment, setup, teardown),
        cmocka_unit_test_setup_teardown(safetensors_good, setup, teardown),
        cmocka_unit_test_setup_teardown(safetensors_bad, setup, teardown),
        cmocka_unit_test_setup_teardown(shard_index, setup, teardown),
        cmocka_unit_test_setup_teardown(several_files, setup, teardown),
        cmocka_unit_test_setup_teardown(hurt_files, setup, teardown),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove_files();
    return failed;
}
