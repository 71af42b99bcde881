// A program in this process. A warm run finds its manifest, loads the code with the dynamic loader and maps the packed weights: no model is
// read, no compiler loaded. A cold run makes both, leaves them in the cache, and goes on with what it made.
#include "driver/build.h"
#include "driver/manifest.h"
#include "driver/tune_db.h"

#include "codegen/cache.h"
#include "codegen/link.h"
#include "codegen/outfile.h"
#include "runtime/numa.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- taking in what is there ----------------------------------------------------------------------------------------

static bool take_code(Program *program, Jit *jit, Diags *diags) {
    const tn_program *model = jit ? jit_symbol(jit, "tn_model") : NULL;
    if (!model) {
        if (jit) diag_error(diags, NOWHERE, "internal error: the compiled code has no tn_model");
        jit_free(jit);
        return false;
    }
    program->jit = jit;
    program->program = *model;
    return true;
}

static Blob *open_blob(const char *path, Diags *diags) {
    tn_failure failure = {0};
    Blob *blob = tn_blob_open(path, NULL, &failure);
    if (!blob) diag_error(diags, NOWHERE, "%s", failure.text);
    return blob;
}

// The blob becomes the program's, which takes its hash.
static bool take_blob(Program *program, Blob *blob, Diags *diags) {
    if (!blob) return false;
    size_t length;
    tn_blob_section(blob, SECTION_WEIGHTS, &length);
    program->blob = blob;
    program->program.blob_hash = tn_blob_hash(blob);
    if (length != program->program.weights_bytes)
        diag_error(diags, FILE_LOC(tn_blob_file(blob)), "the packed weights do not belong to this code");
    return length == program->program.weights_bytes;
}

static char *in_folder(const Cache *cache, const char *name) {
    Text path = {0};
    text_printf(&path, "%s/%s", cache->folder, name);
    return path.data;
}

static const char *base_name(const char *path) { return strrchr(path, '/') + 1; }

static bool is_object(const char *path) {
    size_t length = strlen(path);
    return length > 2 && strcmp(path + length - 2, ".o") == 0;
}

static bool take_code_file(Program *program, const char *path, Diags *diags) {
    if (!is_object(path)) return take_code(program, jit_open(path, diags), diags);
    Text object = {0};
    bool done = read_text(path, &object, diags) && take_code(program, jit_load(object.data, object.length, diags), diags);
    text_free(&object);
    return done;
}

static bool warm(Program *program, const Cache *cache, const char *manifest, const Text *key) {
    char *code_name, *blob_name;
    if (!manifest_read(manifest, key, &code_name, &blob_name)) return false;
    char *code = in_folder(cache, code_name), *blob = in_folder(cache, blob_name);
    Diags *quiet = diags_new(); // whatever is wrong here: it is made again
    bool done =
        cache_touch(code) && cache_touch(blob) && take_code_file(program, code, quiet) && take_blob(program, open_blob(blob, quiet), quiet);
    if (done)
        cache_touch(manifest);
    else
        program_close(program);
    diags_free(quiet);
    free(code), free(blob), free(code_name), free(blob_name);
    return done;
}

// ---- making it ------------------------------------------------------------------------------------------------------

// Compiled code is known by its C text, so that a changed comment in the model compiles nothing.
static char *code_name(const Build *build, const Cache *cache, const Text *key) {
    Text what = {0}, c = {0};
    plan_emit(build->plan, FLAVOUR_JIT, 0, &c);
    text_add(&what, key->data, strcspn(key->data, "\n"));
    text_printf(&what, "\n%s\n%016llx%016llx", build->target->name, (unsigned long long)hash_bytes(c.data, c.length, 0),
                (unsigned long long)hash_bytes(c.data, c.length, 2));
    char *name = cache_name(cache, 'c', cache_key(&what), ".so");
    text_free(&what);
    text_free(&c);
    return name;
}

// Links the object into a shared object under `path`; without a linker it is kept as an object (path changes its end to .o).
static void keep_code(char *path, const Text *object) {
    Diags *quiet = diags_new();
    OutFile file;
    if (outfile_open(&file, path, quiet)) {
        if (link_bare(object->data, object->length, file.path))
            outfile_keep(&file, true, quiet);
        else {
            outfile_drop(&file);
            strcpy(path + strlen(path) - 3, ".o");
            write_file(path, object->data, object->length, quiet);
        }
    }
    diags_free(quiet);
}

// The code that the cache has, if it does.
static bool cached_code(Program *program, const char *path) {
    if (!path || !cache_touch(path)) return false;
    Diags *quiet = diags_new();
    bool done = take_code_file(program, path, quiet);
    diags_free(quiet);
    return done;
}

// Clang runs in a thread of its own while the weights are packed; its messages are kept apart until it has ended.
typedef struct {
    const Build *build;
    Text object;
    Diags *diags;
    bool done;
    pthread_t thread;
} CodeJob;

static void *compile_thread(void *argument) {
    CodeJob *job = argument;
    job->done = build_code(job->build, EMIT_OBJECT, 0, &job->object, job->diags);
    return NULL;
}

static void code_begin(CodeJob *job, const Build *build) {
    *job = (CodeJob){.build = build, .diags = diags_new()};
    if (pthread_create(&job->thread, NULL, compile_thread, job) != 0) {
        job->thread = pthread_self();
        compile_thread(job);
    }
}

static bool code_end(CodeJob *job, Program *program, char *path) {
    if (!pthread_equal(job->thread, pthread_self())) pthread_join(job->thread, NULL);
    bool done = job->done && take_code(program, jit_load(job->object.data, job->object.length, job->diags), job->diags);
    if (done && path) keep_code(path, &job->object);
    diags_print(job->diags, stderr);
    diags_free(job->diags);
    text_free(&job->object);
    return done;
}

// Packed weights in a file without a name, for a run that keeps nothing.
static Blob *blob_unnamed(const BlobPart *parts, int part_count, Diags *diags) {
    const char *folder = getenv("TMPDIR");
    Text path = {0};
    uint64_t hash, length;
    text_printf(&path, "%s/.tenon.XXXXXX", folder && *folder ? folder : "/tmp");
    int fd = mkostemp(path.data, O_CLOEXEC);
    Blob *blob = NULL;
    if (fd < 0)
        diag_error(diags, FILE_LOC(path.data), "no file for the packed weights: %s", strerror(errno));
    else {
        unlink(path.data);
        char name[40];
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        if (blob_write(fd, path.data, 0, parts, part_count, &hash, &length, diags)) blob = open_blob(name, diags);
        close(fd); // the mapping stays
    }
    text_free(&path);
    return blob;
}

bool program_blob_unnamed(Program *program, const BlobPart *parts, int part_count, Diags *diags) {
    return take_blob(program, blob_unnamed(parts, part_count, diags), diags);
}

// Packs the weights, unless the cache has them, and opens them.
static bool make_blob(Blob **blob, const Build *build, const char *path, Diags *diags) {
    uint64_t hash, length;
    if (!path) return (*blob = blob_unnamed(build->parts, build->part_count, diags));
    if (cache_touch(path)) {
        Diags *quiet = diags_new();
        *blob = open_blob(path, quiet);
        diags_free(quiet);
    }
    return *blob || (blob_file(path, build->parts, build->part_count, &hash, &length, diags) && (*blob = open_blob(path, diags)));
}

static void remember(const char *manifest, const Text *key, const Text *files, const char *code, const char *blob) {
    Diags *quiet = diags_new();
    Text text = {0};
    manifest_write(&text, key, files, base_name(code), base_name(blob));
    write_file(manifest, text.data, text.length, quiet);
    text_free(&text);
    diags_free(quiet);
}

static bool cold(Program *program, const Build *build, const char *path, const Cache *cache, const char *manifest, const Text *key,
                 Diags *diags) {
    Text files = {0}, what = {0};
    char *code = NULL, *blob = NULL;
    if (manifest && manifest_files(path, build->model, &files)) {
        text_add(&what, key->data, key->length);
        text_add(&what, files.data, files.length);
        code = code_name(build, cache, key);
        blob = cache_name(cache, 'w', cache_key(&what), ".weights");
    }
    Blob *packed = NULL;
    CodeJob job;
    bool have = cached_code(program, code);
    if (!have) code_begin(&job, build);
    bool done = make_blob(&packed, build, blob, diags);
    done = (have || code_end(&job, program, code)) && done;
    if (done)
        done = take_blob(program, packed, diags);
    else
        tn_blob_close(packed);
    struct stat info;
    if (done && code && stat(blob, &info) == 0 && (uint64_t)info.st_size > cache->limit) {
        unlink(blob); // the mapping stays
        diag(diags, DIAG_WARNING, NOWHERE, "the packed weights (%.1f GB) do not fit the cache (%.1f GB), so the next run packs them again",
             (double)info.st_size / 1e9, (double)cache->limit / 1e9);
        diag(diags, DIAG_HINT, NOWHERE, "--cache-size sets its bound");
    } else if (done && code) {
        remember(manifest, key, &files, code, blob);
        cache_trim(cache);
    }
    text_free(&files);
    text_free(&what);
    free(code), free(blob);
    return done;
}

// A manifest is named by the key and by what the tuner found: other findings make other code of the same weights.
static char *manifest_name(const Cache *cache, const Text *key, const Target *target, const BuildOptions *options) {
    Text what = {0};
    TuneBook tuning;
    tune_book_open(&tuning, target, options, NULL);
    text_add(&what, key->data, key->length);
    text_printf(&what, "tuning %s\n", tuning.digest);
    char *name = cache_name(cache, 'm', cache_key(&what), "");
    text_free(&what);
    tune_book_close(&tuning);
    return name;
}

bool program_open(Program *program, const char *path, const BuildOptions *options, int *code, Diags *diags) {
    *program = (Program){0};
    *code = EXIT_INPUT;
    const Target *target = build_target(options, diags);
    if (!target) return false;
    if (!options->reference && !target_runs_here(target)) {
        diag_error(diags, NOWHERE, "this machine cannot run code for %s", target->name);
        diag(diags, DIAG_HINT, NOWHERE, "tenon targets says what it can; --target native takes the best");
        *code = EXIT_MACHINE;
        return false;
    }
    if (options->reference) return reference_open(program, path, options, diags);
    tn_numa_spread(tn_numa_nodes(NUMA_FOLDER)); // before weights are packed: their pages stay where they are first written
    Cache cache;
    Text key = {0};
    char why[300], *manifest = NULL;
    bool inspecting = options->print_after || options->timing; // to see the passes, they must run
    bool wanted = options->cache_size && !options->no_cache;
    if (!cache_open(&cache, wanted ? options->cache_size : 0, why, sizeof why)) {
        if (wanted) diag(diags, DIAG_WARNING, NOWHERE, "nothing is cached: %s", why);
    } else if (manifest_key(path, target, options, &key))
        manifest = manifest_name(&cache, &key, target, options);
    bool done = manifest && !inspecting && warm(program, &cache, manifest, &key);
    program->warm = done;
    if (!done) {
        Build build;
        Progress progress = {0};
        if (build_open(&build, path, options, diags)) {
            build.progress = &progress;
            done = cold(program, &build, path, &cache, manifest, &key, diags);
            build_close(&build);
        }
    }
    text_free(&key);
    free(manifest);
    cache_close(&cache);
    if (!done) program_close(program);
    return done;
}

void program_close(Program *program) {
    tn_blob_close(program->blob);
    jit_free(program->jit);
    reference_close(program->reference);
    *program = (Program){0};
}
