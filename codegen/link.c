// Linking. A compiled program is: the model's object (one a target, when there are several), the run time (libtenon_program.a), and the C library, all static; then, page-aligned,
// its blob. The weights never pass through the linker: they are streamed behind its result.
//
// The object is compiled before the weights are packed, so the blob's hash is not in it yet; it is written into the linked image's tn_program
// once the blob is there. Nothing has its final name until it is whole.
#include "codegen/link.h"

#include "codegen/compile.h"
#include "codegen/elf.h"
#include "codegen/embedded.h"
#include "codegen/outfile.h"
#include "codegen/spawn.h"
#include "codegen/targets/targets.h"
#include "runtime/abi.h"
#include "runtime/format.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINK_ARGS = 40 + MAX_LINK_OBJECTS };

typedef enum { LINK_EXECUTABLE, LINK_SHARED, LINK_OBJECT } LinkKind;

// ---- small files ----------------------------------------------------------------------------------------------------

static bool write_whole(int fd, const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t n = write(fd, at, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n, length -= (size_t)n;
    }
    return true;
}

bool write_file(const char *path, const void *bytes, size_t length, Diags *diags) {
    OutFile file;
    if (!outfile_open(&file, path, diags)) return false;
    if (!write_whole(file.fd, bytes, length)) {
        diag_error(diags, FILE_LOC(path), "cannot write: %s", strerror(errno));
        outfile_drop(&file);
        return false;
    }
    return outfile_keep(&file, false, diags);
}

// Bytes in a file without a name that a child process can open: /dev/fd/N of a memory file.
static int memory_file(const void *bytes, size_t length, char *path, size_t room) {
    int fd = memfd_create("tenon.o", 0); // inherited by the linker
    if (fd < 0) return -1;
    if (!write_whole(fd, bytes, length)) {
        close(fd);
        return -1;
    }
    snprintf(path, room, "/dev/fd/%d", fd);
    return fd;
}

// ---- finding the tools ------------------------------------------------------------------------------------------------

static bool native(const Target *target) { return strcmp(target->triple, machine_triple()) == 0; }

static char *find_compiler(const Target *target, Diags *diags) {
    char cross[64], library[64];
    snprintf(cross, sizeof cross, "%s-gcc", target->triple);
    snprintf(library, sizeof library, "%.*s", (int)strcspn(target->triple, "-"), target->triple);
    const char *chosen = getenv("CC");
    const char *const names[] = {chosen && *chosen && !strchr(chosen, ' ') ? chosen : "cc", "cc", "gcc", "clang", "clang-19"};
    char *found = NULL;
    if (!native(target))
        found = find_program(cross);
    else
        for (size_t i = 0; i < COUNT_OF(names) && !found; i++) found = find_program(names[i]);
    if (found) return found;
    diag_error(diags, NOWHERE, "no C compiler is here to link a program for %s", target->triple);
    if (native(target))
        diag(diags, DIAG_HINT, NOWHERE, "install gcc (on Debian: apt install gcc), or set CC; --emit obj needs none");
    else
        diag(diags, DIAG_HINT, NOWHERE, "install %s (on Debian: apt install gcc-%s-linux-gnu); --emit obj and --emit c need none", cross,
             library);
    return NULL;
}

static bool find_archive(const char *name, char *path, size_t room, Diags *diags) {
    if (beside_program(name, path, room)) return true;
    diag_error(diags, NOWHERE, "the run time, %s, is not beside this program", name);
    diag(diags, DIAG_HINT, NOWHERE, "install it in the program's folder or in ../lib/tenon");
    return false;
}

// ---- running the linker -------------------------------------------------------------------------------------------------

static bool run_linker(const char *const *args, const Target *target, Diags *diags) {
    Text said = {0};
    int status = run_program(args, &said);
    if (status != 0) {
        diag_error(diags, NOWHERE, "the linker failed (%s, status %d)", args[0], status);
        const char *at = said.data ? said.data : "";
        for (int lines = 0; *at && lines < 12; lines++) {
            size_t length = strcspn(at, "\n");
            diag(diags, DIAG_NOTE, NOWHERE, "%.*s", (int)length, at);
            at += length + (at[length] == '\n');
        }
        bool missing = said.data && (strstr(said.data, "cannot find -l") || strstr(said.data, "unable to find library"));
        if (missing && native(target))
            diag(diags, DIAG_HINT, NOWHERE, "a static library is missing (on Debian: apt install gcc libc6-dev libutf8proc-dev)");
        else if (missing)
            diag(diags, DIAG_HINT, NOWHERE, "a static library for %s is missing (libutf8proc-dev of that architecture)", target->triple);
    }
    text_free(&said);
    return status == 0;
}

typedef struct {
    const char *items[MAX_LINK_ARGS];
    int count;
} Args;

static void arg(Args *args, const char *item) {
    if (args->count < MAX_LINK_ARGS - 1) args->items[args->count++] = item;
}

// Files in memory that the linker reads, by number.
typedef struct {
    char objects[MAX_LINK_OBJECTS][32], exports[32], runtime[32];
    int fds[MAX_LINK_OBJECTS + 2], count;
} Inputs;

static bool open_input(Inputs *inputs, const void *bytes, size_t length, char path[32]) {
    int fd = memory_file(bytes, length, path, 32);
    if (fd >= 0) inputs->fds[inputs->count++] = fd;
    return fd >= 0;
}

static bool open_inputs(const LinkJob *job, LinkKind kind, Inputs *inputs, Diags *diags) {
    static const char exports[] = "{ global: tn_*; tenon_program_main; local: *; };";
    Text runtime = {0};
    bool done = job->object_count <= MAX_LINK_OBJECTS;
    for (int i = 0; i < job->object_count && done; i++)
        done = open_input(inputs, job->objects[i].bytes, job->objects[i].length, inputs->objects[i]);
    if (kind == LINK_SHARED) done = done && open_input(inputs, exports, sizeof exports - 1, inputs->exports);
    if (kind == LINK_EXECUTABLE && !native(job->target)) {
        embedded_runtime(&runtime);
        done = done && open_input(inputs, runtime.data, runtime.length, inputs->runtime);
    }
    text_free(&runtime);
    if (!done) diag_error(diags, NOWHERE, "no memory file for the linker: %s", strerror(errno));
    return done;
}

static void close_inputs(Inputs *inputs) {
    for (int i = 0; i < inputs->count; i++) close(inputs->fds[i]);
}

// For another machine there is no archive: its compiler takes the run time's text. (Headers of ours that are the same everywhere lie in
// /usr/include.)
static void cross_args(Args *args, const Inputs *inputs) {
    arg(args, "-O2"), arg(args, "-fopenmp"), arg(args, "-w"), arg(args, "-ffp-contract=off"), arg(args, "-fno-strict-aliasing");
    arg(args, "-idirafter"), arg(args, "/usr/include"), arg(args, "-x"), arg(args, "c"), arg(args, inputs->runtime), arg(args, "-x"),
        arg(args, "none");
    arg(args, "-lutf8proc");
}

static void runtime_args(Args *args, const Inputs *inputs, LinkKind kind, const Target *target, const char *archive, const char *script) {
    if (!native(target))
        cross_args(args, inputs);
    else if (kind == LINK_SHARED) { // libgomp stays the host's; Unicode tables are ours
        arg(args, script), arg(args, "-Wl,--whole-archive"), arg(args, archive), arg(args, "-Wl,--no-whole-archive");
        arg(args, "-Wl,-Bstatic"), arg(args, "-lutf8proc"), arg(args, "-Wl,-Bdynamic");
    } else
        arg(args, archive), arg(args, "-lutf8proc");
    arg(args, "-lgomp"), arg(args, "-lm"), arg(args, "-lpthread");
    arg(args, "-Wl,--gc-sections"), arg(args, "-Wl,--strip-debug");
}

static bool link_image(const LinkJob *job, const char *to, LinkKind kind, Diags *diags) {
    static const char *const modes[] = {[LINK_EXECUTABLE] = "-static", [LINK_SHARED] = "-shared", [LINK_OBJECT] = "-r"};
    char archive[PATH_MAX + 64], script[64];
    Inputs inputs = {0};
    if (kind == LINK_SHARED && !native(job->target)) {
        diag_error(diags, NOWHERE, "a shared object for %s cannot be linked on this machine", job->target->triple);
        diag(diags, DIAG_HINT, NOWHERE, "--emit exe, obj and c work for other machines");
        return false;
    }
    char *compiler = find_compiler(job->target, diags);
    bool done = compiler && (kind == LINK_OBJECT || !native(job->target) ||
                             find_archive(kind == LINK_SHARED ? "libtenon_pic.a" : "libtenon_program.a", archive, sizeof archive, diags));
    if (done && open_inputs(job, kind, &inputs, diags)) {
        Args args = {0};
        arg(&args, compiler), arg(&args, modes[kind]), arg(&args, "-o"), arg(&args, to);
        for (int i = 0; i < job->object_count; i++) arg(&args, inputs.objects[i]);
        snprintf(script, sizeof script, "-Wl,--version-script=%s", inputs.exports);
        if (kind == LINK_OBJECT)
            arg(&args, "-nostdlib");
        else
            runtime_args(&args, &inputs, kind, job->target, archive, script);
        arg(&args, "-Wl,-z,noexecstack");
        done = run_linker(args.items, job->target, diags);
    } else
        done = false;
    close_inputs(&inputs);
    free(compiler);
    return done;
}

bool link_bare(const void *object, size_t length, const char *out) {
    static const char *const linkers[] = {"ld.lld-19", "ld", "ld.lld", "ld.gold"};
    char path[32], *linker = NULL;
    for (size_t i = 0; i < COUNT_OF(linkers) && !linker; i++) linker = find_program(linkers[i]);
    int fd = linker ? memory_file(object, length, path, sizeof path) : -1;
    bool done = false;
    if (fd >= 0) {
        const char *const args[] = {linker, "-shared", "-o", out, path, "-z", "noexecstack", NULL};
        Text said = {0};
        done = run_program(args, &said) == 0;
        text_free(&said);
        close(fd);
    }
    free(linker);
    return done;
}

// ---- programs -----------------------------------------------------------------------------------------------------------

bool set_blob_hash(void *image, size_t length, const char *program, uint64_t hash) {
    uint64_t offset;
    if (!elf_symbol_offset(image, length, program, sizeof(tn_program), &offset)) return false;
    memcpy((char *)image + offset + offsetof(tn_program, blob_hash), &hash, sizeof hash);
    return true;
}

static bool patch_file(int fd, const LinkJob *job, uint64_t image_bytes, uint64_t hash, Diags *diags) {
    void *image = mmap(NULL, image_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    bool done = image != MAP_FAILED;
    for (int i = 0; i < job->object_count && done; i++) done = set_blob_hash(image, image_bytes, job->objects[i].program, hash);
    if (image != MAP_FAILED) munmap(image, image_bytes);
    if (!done) diag_error(diags, NOWHERE, "internal error: the linked program has no tn_model");
    return done;
}

static bool append_blob(const OutFile *file, const LinkJob *job, LinkReport *report, Diags *diags) {
    uint64_t base = (report->image_bytes + BLOB_ALIGN - 1) / BLOB_ALIGN * BLOB_ALIGN;
    return blob_write(file->fd, job->out, base, job->parts, job->part_count, &report->blob_hash, &report->blob_bytes, diags) &&
           patch_file(file->fd, job, report->image_bytes, report->blob_hash, diags);
}

// The linker makes a new file under the temporary name; ours is opened again.
static bool reopen(OutFile *file, uint64_t *bytes, Diags *diags) {
    struct stat info;
    close(file->fd);
    file->fd = open(file->path, O_RDWR | O_CLOEXEC);
    if (file->fd >= 0 && fstat(file->fd, &info) == 0) {
        *bytes = (uint64_t)info.st_size;
        return true;
    }
    diag_error(diags, FILE_LOC(file->out), "cannot read what was linked: %s", strerror(errno));
    return false;
}

static bool link_to(const LinkJob *job, LinkKind kind, LinkReport *report, Diags *diags) {
    OutFile file;
    *report = (LinkReport){0};
    if (!outfile_open(&file, job->out, diags)) return false;
    if (link_image(job, file.path, kind, diags) && reopen(&file, &report->image_bytes, diags) &&
        (kind != LINK_EXECUTABLE || append_blob(&file, job, report, diags)))
        return outfile_keep(&file, kind != LINK_OBJECT, diags);
    outfile_drop(&file);
    return false;
}

bool link_executable(const LinkJob *job, LinkReport *report, Diags *diags) { return link_to(job, LINK_EXECUTABLE, report, diags); }

bool link_shared(const LinkJob *job, LinkReport *report, Diags *diags) { return link_to(job, LINK_SHARED, report, diags); }

bool link_object(const LinkJob *job, LinkReport *report, Diags *diags) { return link_to(job, LINK_OBJECT, report, diags); }

bool blob_file(const char *path, const BlobPart *parts, int part_count, uint64_t *hash, uint64_t *length, Diags *diags) {
    OutFile file;
    if (!outfile_open(&file, path, diags)) return false;
    if (blob_write(file.fd, path, 0, parts, part_count, hash, length, diags)) return outfile_keep(&file, false, diags);
    outfile_drop(&file);
    return false;
}
