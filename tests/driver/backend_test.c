// The back end alone, with C written by hand: Clang in process, loading, cross compilation, linking, blobs, the cache.
#include "codegen/cache.h"
#include "codegen/codegen.h"
#include "codegen/elf.h"
#include "codegen/fat.h"
#include "codegen/link.h"
#include "codegen/plan.h"
#include "codegen/spawn.h"
#include "codegen/targets/targets.h"
#include "runtime/blob.h"

#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>
#include <cmocka.h>

static const char toy[] = "float fmaf(float, float, float);\nfloat toy(float x) { return fmaf(x, x, 1.0f); }\n";

static bool compile(const char *c, const char *target, EmitKind kind, Text *out, Diags *diags) {
    ClangOptions options;
    target_clang_options(target_find(target, diags), &options);
    return clang_compile("toy.c", c, strlen(c), &options, kind, out, diags);
}

static char *folder_new(void) {
    char *folder = strdup("/tmp/tenon-test.XXXXXX");
    assert_non_null(mkdtemp(folder));
    return folder;
}

static void folder_remove(char *folder) {
    Text said = {0};
    char *rm = find_program("rm");
    run_program((const char *const[]){rm, "-rf", folder, NULL}, &said);
    text_free(&said);
    free(rm);
    free(folder);
}

static void assert_clean(Diags *diags) {
    if (diags_errors(diags)) diags_print(diags, stderr);
    assert_int_equal(diags_errors(diags), 0);
}

// ---- Clang and loading ------------------------------------------------------------------------------------------------

static void jit_runs(void **state) {
    (void)state;
    Diags *diags = diags_new();
    Text object = {0};
    assert_true(compile(toy, "native", EMIT_OBJECT, &object, diags));
    Jit *jit = jit_load(object.data, object.length, diags);
    assert_clean(diags);
    float (*function)(float);
    *(void **)&function = jit_symbol(jit, "toy");
    assert_true(function(3.0f) == 10.0f);
    assert_null(jit_symbol(jit, "absent"));
    jit_free(jit);
    text_free(&object);
    diags_free(diags);
}

static void shared_object_runs(void **state) {
    (void)state;
    Diags *diags = diags_new();
    Text object = {0}, path = {0};
    char *folder = folder_new();
    text_printf(&path, "%s/toy.so", folder);
    assert_true(compile(toy, "native", EMIT_OBJECT, &object, diags));
    assert_true(link_bare(object.data, object.length, path.data));
    Jit *jit = jit_open(path.data, diags);
    assert_clean(diags);
    float (*function)(float);
    *(void **)&function = jit_symbol(jit, "toy");
    assert_true(function(2.0f) == 5.0f);
    jit_free(jit);
    text_free(&object);
    text_free(&path);
    folder_remove(folder);
    diags_free(diags);
}

static void expect_error(const char *c, const char *part) {
    Diags *diags = diags_new();
    Text out = {0}, text = {0};
    assert_false(compile(c, "native", EMIT_OBJECT, &out, diags));
    diags_text(diags, &text);
    assert_non_null(strstr(text.data, "generated C does not compile"));
    assert_non_null(strstr(text.data, part));
    text_free(&out);
    text_free(&text);
    diags_free(diags);
}

static void clang_reports(void **state) {
    (void)state;
    expect_error("int f(void) { return absent(1); }\n", "toy.c:1:22: error");
    expect_error("int g = ;\n", "toy.c:1:9: error");
    expect_error("#include <stdio.h>\n", "file not found");
}

static void *compile_many(void *ok) {
    for (int i = 0; i < 4; i++) {
        Diags *diags = diags_new();
        Text out = {0};
        if (!compile(toy, i % 2 ? "native" : "armv8-a", EMIT_OBJECT, &out, diags)) *(bool *)ok = false;
        text_free(&out);
        diags_free(diags);
    }
    return NULL;
}

static void clang_in_threads(void **state) {
    (void)state;
    pthread_t threads[4];
    bool ok[4] = {true, true, true, true};
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, compile_many, &ok[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(ok[i]);
    }
}

static void emits_every_kind(void **state) {
    (void)state;
    Diags *diags = diags_new();
    Text out = {0};
    assert_true(compile(toy, "x86-64-v3", EMIT_ASSEMBLY, &out, diags));
    assert_non_null(strstr(out.data, "vfmadd"));
    out.length = 0;
    assert_true(compile(toy, "armv8-a", EMIT_LLVM_IR, &out, diags));
    assert_non_null(strstr(out.data, "target triple = \"aarch64"));
    out.length = 0;
    static const char kernel[] = "__attribute__((nvptx_kernel)) void add(float *x) { x[__nvvm_read_ptx_sreg_tid_x()] += 1.0f; }\n";
    ClangOptions gpu = {.triple = "nvptx64-nvidia-cuda",
                        .cpu = "sm_90a",
                        .features = (const char *const[]){"+ptx80"},
                        .feature_count = 1,
                        .optimization = 2};
    assert_true(clang_compile("kernel.c", kernel, strlen(kernel), &gpu, EMIT_PTX, &out, diags));
    assert_non_null(strstr(out.data, ".entry add"));
    assert_clean(diags);
    text_free(&out);
    diags_free(diags);
}

// x·x + 1 must stay two roundings: contraction is off.
static void arithmetic_is_as_written(void **state) {
    (void)state;
    Diags *diags = diags_new();
    Text out = {0};
    assert_true(compile("float f(float x) { return x * x + 1.0f; }\n", "x86-64-v3", EMIT_ASSEMBLY, &out, diags));
    assert_null(strstr(out.data, "vfmadd"));
    text_free(&out);
    diags_free(diags);
}

// ---- cross compilation --------------------------------------------------------------------------------------------------

static void cross_compiled_runs(void **state) {
    (void)state;
    char *gcc = find_program("aarch64-linux-gnu-gcc"), *qemu = find_program("qemu-aarch64");
    if (!gcc || !qemu) {
        print_message("skipped: aarch64-linux-gnu-gcc or qemu-aarch64 is not here\n");
        free(gcc), free(qemu);
        skip();
    }
    static const char main_c[] = "float toy(float);\nint main(void) { return toy(6.0f) == 37.0f ? 42 : 1; }\n";
    Diags *diags = diags_new();
    Text object = {0}, said = {0}, o = {0}, c = {0}, exe = {0};
    char *folder = folder_new();
    text_printf(&o, "%s/toy.o", folder), text_printf(&c, "%s/main.c", folder), text_printf(&exe, "%s/toy", folder);
    assert_true(compile(toy, "armv8.2-a+dotprod", EMIT_OBJECT, &object, diags));
    assert_true(write_file(o.data, object.data, object.length, diags) && write_file(c.data, main_c, strlen(main_c), diags));
    assert_clean(diags);
    assert_int_equal(run_program((const char *const[]){gcc, "-static", "-o", exe.data, c.data, o.data, "-lm", NULL}, &said), 0);
    assert_int_equal(run_program((const char *const[]){qemu, exe.data, NULL}, &said), 42);
    text_free(&object), text_free(&said), text_free(&o), text_free(&c), text_free(&exe);
    folder_remove(folder);
    free(gcc), free(qemu);
    diags_free(diags);
}

// ---- programs -------------------------------------------------------------------------------------------------------------

static bool pack_toy(const void *from, bool (*write)(void *, const void *, size_t), void *to, Diags *diags) {
    unsigned char bytes[4096] = {*(const unsigned char *)from};
    (void)diags;
    for (size_t i = 0; i < sizeof bytes; i += 512)
        if (!write(to, bytes + i, 512)) return false;
    return true;
}

static void read_source(const char *path, Text *text) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;) text_add(text, buffer, n);
    fclose(file);
}

static void toy_object(Text *object, Diags *diags) {
    Text c = {0};
    read_source(SOURCE_DIR "/runtime/abi.h", &c);
    text_puts(&c, "float fmaf(float, float, float);\n");
    read_source(TEST_DIR "/toy_model.c", &c);
    assert_true(compile(c.data, "generic", EMIT_OBJECT, object, diags));
    text_free(&c);
}

static void executable_runs(void **state) {
    (void)state;
    Diags *diags = diags_new();
    Text object = {0}, exe = {0}, said = {0}, meta = {0};
    unsigned char step = 3;
    char *folder = folder_new();
    text_printf(&exe, "%s/toy", folder);
    toy_object(&object, diags);
    blob_meta_add(&meta, "name", "toy");
    BlobPart parts[] = {{SECTION_META, blob_pack_text, &meta}, {SECTION_WEIGHTS, pack_toy, &step}};
    LinkObject model = {object.data, object.length, "tn_model"};
    LinkJob job = {.objects = &model,
                   .object_count = 1,
                   .target = target_find("generic", diags),
                   .out = exe.data,
                   .parts = parts,
                   .part_count = COUNT_OF(parts)};
    LinkReport report;
    assert_true(link_executable(&job, &report, diags));
    assert_clean(diags);
    int status = run_program((const char *const[]){exe.data, "--tokens", "1", "-n", "4", NULL}, &said);
    if (status != 0 || !strstr(said.data, "4 7 2 5")) print_message("%s\n", said.data);
    assert_int_equal(status, 0);
    assert_non_null(strstr(said.data, "4 7 2 5"));
    tn_failure failure = {0};
    Blob *blob = tn_blob_open(exe.data, NULL, &failure);
    assert_non_null(blob);
    assert_true(tn_blob_hash(blob) == report.blob_hash && tn_blob_verify(blob, &failure) == 0);
    tn_blob_close(blob);
    struct stat info;
    assert_int_equal(stat(exe.data, &info), 0);
    assert_true(info.st_mode & S_IXUSR);
    assert_true(report.image_bytes < 4 << 20);
    // What strip leaves is the image alone.
    assert_int_equal(truncate(exe.data, (off_t)report.image_bytes), 0);
    said.length = 0;
    assert_int_not_equal(run_program((const char *const[]){exe.data, "--tokens", "1", "-n", "4", NULL}, &said), 0);
    text_free(&object), text_free(&exe), text_free(&said), text_free(&meta);
    folder_remove(folder);
    diags_free(diags);
}

static void link_errors(void **state) {
    (void)state;
    Diags *diags = diags_new();
    Text text = {0};
    LinkReport report;
    LinkJob job = {.target = target_find("generic", diags), .out = "/nonexistent/folder/program"};
    assert_false(link_executable(&job, &report, diags));
    job.target = target_find("armv8-a", diags);
    job.out = "/tmp/tenon-never-written";
    assert_false(link_executable(&job, &report, diags));
    diags_text(diags, &text);
    assert_non_null(strstr(text.data, "create its folder first"));
    assert_int_not_equal(access(job.out, F_OK), 0);
    text_free(&text);
    diags_free(diags);
}

// Any prefix of an object, and any of its bytes broken, is looked into safely.
static void elf_is_checked(void **state) {
    (void)state;
    Diags *diags = diags_new();
    Text object = {0};
    uint64_t offset;
    toy_object(&object, diags);
    assert_true(elf_symbol_offset(object.data, object.length, "tn_model", sizeof(tn_program), &offset));
    assert_false(elf_symbol_offset(object.data, object.length, "tn_modem", sizeof(tn_program), &offset));
    assert_false(elf_symbol_offset(object.data, object.length, "tn_model", object.length, &offset));
    for (size_t length = 0; length < object.length; length += 7) {
        char *copy = malloc(length + 1);
        memcpy(copy, object.data, length);
        elf_symbol_offset(copy, length, "tn_model", sizeof(tn_program), &offset);
        free(copy);
    }
    for (size_t i = 0; i < object.length; i++) {
        char byte = object.data[i];
        object.data[i] = (char)0xff;
        if (elf_symbol_offset(object.data, object.length, "tn_model", sizeof(tn_program), &offset))
            assert_true(offset + sizeof(tn_program) <= object.length);
        object.data[i] = byte;
    }
    text_free(&object);
    diags_free(diags);
}

// ---- the cache --------------------------------------------------------------------------------------------------------------

static void put(const char *folder, const char *name, size_t bytes, time_t used) {
    char path[300];
    snprintf(path, sizeof path, "%s/tenon/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (size_t i = 0; i < bytes; i++) fputc('x', file);
    fclose(file);
    utime(path, &(struct utimbuf){used, used});
}

static bool there(const char *folder, const char *name) {
    char path[300];
    snprintf(path, sizeof path, "%s/tenon/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void cache_is_bounded(void **state) {
    (void)state;
    char *folder = folder_new(), why[300] = "", path[300];
    time_t now = time(NULL);
    setenv("XDG_CACHE_HOME", folder, 1);
    Cache cache;
    assert_true(cache_open(&cache, 30000, why, sizeof why));
    put(folder, "w-old", 16384, now - 300);
    put(folder, "w-middle", 8192, now - 200);
    put(folder, "w-new", 16384, now - 100);
    put(folder, ".w-left.abc.part", 10, now - 100000);
    put(folder, ".w-writing.abc.part", 10, now);
    cache_trim(&cache);
    assert_false(there(folder, "w-old"));
    assert_true(there(folder, "w-middle") && there(folder, "w-new"));
    assert_false(there(folder, ".w-left.abc.part"));
    assert_true(there(folder, ".w-writing.abc.part"));
    // Use counts: what was touched stays.
    snprintf(path, sizeof path, "%s/tenon/w-middle", folder);
    assert_true(cache_touch(path));
    put(folder, "w-third", 16384, now - 50);
    cache_trim(&cache);
    assert_true(there(folder, "w-middle") && there(folder, "w-third"));
    assert_false(there(folder, "w-new"));
    cache_close(&cache);
    // A folder that others may write is refused: code in it is loaded.
    snprintf(path, sizeof path, "%s/tenon", folder);
    chmod(path, 0777);
    assert_false(cache_open(&cache, 30000, why, sizeof why));
    assert_non_null(strstr(why, "only you can write"));
    folder_remove(folder);
}

static void targets_are_named(void **state) {
    (void)state;
    Diags *diags = diags_new();
    const Target *native = target_find("native", diags);
    assert_non_null(native);
    assert_true(target_runs_here(native));
    for (int i = 0; target_at(i); i++) assert_ptr_equal(target_find(target_at(i)->name, diags), target_at(i));
    assert_clean(diags);
    assert_null(target_find("x86-64-v5", diags));
    Text text = {0};
    diags_text(diags, &text);
    assert_non_null(strstr(text.data, "did you mean 'x86-64-v"));
    text_free(&text);
    diags_free(diags);
}

// What Clang may use for a target, by its own macros, is what the target says it needs: so the run time's check misses nothing.
static void targets_say_what_they_need(void **state) {
    (void)state;
    extern const char prelude_supported[];
    for (int i = 0; target_at(i); i++) {
        const Target *target = target_at(i);
        const char *needs = target_needs(target);
        Diags *diags = diags_new();
        Text c = {0}, ir = {0}, expected = {0};
        if (strncmp(target->triple, "nvptx", 5) != 0) {
            text_printf(&c, "%s\nconst char *toy(void) { return tn_needs; }\n", prelude_supported);
            text_printf(&expected, "c\"%s%s\\00\"", needs ? " " : "", needs ? needs : "");
            assert_true(compile(c.data, target->name, EMIT_LLVM_IR, &ir, diags));
            if (needs && !strstr(ir.data, expected.data)) print_message("%s: not %s in\n%s\n", target->name, expected.data, ir.data);
            assert_true(needs ? strstr(ir.data, expected.data) != NULL : strstr(ir.data, "avx") == NULL && strstr(ir.data, " sse") == NULL);
        }
        text_free(&c), text_free(&ir), text_free(&expected);
        diags_free(diags);
    }
}

static void targets_are_listed(void **state) {
    (void)state;
    const Target *targets[MAX_VARIANTS];
    Diags *diags = diags_new();
    Arena *arena = arena_new();
    int count = targets_parse("x86-64-v3,amx,x86-64-v4+vnni,x86-64-v3", targets, diags);
    assert_int_equal(count, 3);
    assert_string_equal(targets_text(targets, count, arena), "amx,x86-64-v4+vnni,x86-64-v3");
    assert_string_equal(variant_symbol(targets[1], arena), "tenon_variant_x86_64_v4_vnni");
    assert_int_equal(targets_parse("armv8.6-a+i8mm", targets, diags), 1);
    assert_clean(diags);
    static const char *const wrong[] = {"x86-64-v3,armv8-a", "x86-64-v3,sm_90a", "sm_90a,x86-64-v3", "x86-64-v3,", ",", "amx,,generic", "x86-64-v3,none"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        int errors = diags_errors(diags);
        assert_int_equal(targets_parse(wrong[i], targets, diags), 0);
        assert_true(diags_errors(diags) > errors);
    }
    arena_free(arena);
    diags_free(diags);
}

// Two plans that pack one weight differently are refused, with the weight's name and what differs.
static void plans_must_agree(void **state) {
    (void)state;
    Diags *diags = diags_new();
    Text said = {0};
    Weight a = {.name = "wq", .type = {.dtype = DT_F32, .rank = 1, .dims = {8}}, .quantize_to = DT_COUNT, .layout = LAYOUT_ROWS}, b = a;
    Weight *one[] = {&a}, *two[] = {&b};
    Module m = {.weights = one, .weight_count = 1}, n = {.weights = two, .weight_count = 1};
    uint64_t at = 64, there = 64;
    Plan p = {.module = &m, .target = target_find("x86-64-v4", diags), .offset = &at, .weights_bytes = 4096};
    Plan q = {.module = &n, .target = target_find("x86-64-v3", diags), .offset = &there, .weights_bytes = 4096};
    assert_true(plans_agree(&p, &q, diags));
    b.quantize_to = DT_BF16;
    assert_false(plans_agree(&p, &q, diags));
    b = a, b.layout = LAYOUT_PANELS;
    assert_false(plans_agree(&p, &q, diags));
    b = a, there = 128;
    assert_false(plans_agree(&p, &q, diags));
    there = at, q.weights_bytes = 8192;
    assert_false(plans_agree(&p, &q, diags));
    diags_text(diags, &said);
    assert_non_null(strstr(said.data, "x86-64-v4 and x86-64-v3 cannot share one file of weights: the quantization of wq differs"));
    assert_non_null(strstr(said.data, "the layout of wq differs"));
    assert_non_null(strstr(said.data, "the place of wq differs"));
    assert_non_null(strstr(said.data, "the size of the weights differs"));
    text_free(&said);
    diags_free(diags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_say_what_they_need), cmocka_unit_test(targets_are_listed), cmocka_unit_test(plans_must_agree),
        cmocka_unit_test(targets_are_named),        cmocka_unit_test(jit_runs),
        cmocka_unit_test(shared_object_runs),       cmocka_unit_test(clang_reports),
        cmocka_unit_test(clang_in_threads),         cmocka_unit_test(emits_every_kind),
        cmocka_unit_test(arithmetic_is_as_written), cmocka_unit_test(cross_compiled_runs),
        cmocka_unit_test(executable_runs),          cmocka_unit_test(link_errors),
        cmocka_unit_test(elf_is_checked),           cmocka_unit_test(cache_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
