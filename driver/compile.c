// tenon compile: ahead of time. What comes out is chosen by --emit, or by the ending of OUT's name.
//
//   exe      one static executable, the weights inside
//   so       a shared object; beside it the weights, a C header, a pkg-config file
//   obj, c   an object, or C with the run time's text in it; beside it the weights
//   llvm-ir, asm   to read; no weights
//
// For several targets: exe, so and obj, which then hold the code of each, over the same weights (fat.c).
#include "codegen/embedded.h"
#include "codegen/link.h"
#include "driver/fat.h"
#include "driver/latency.h"
#include "runtime/format.h"

#include <stdlib.h>
#include <string.h>

typedef enum { OUT_EXE, OUT_SO, OUT_OBJ, OUT_C, OUT_LLVM_IR, OUT_ASM, OUT_PTX, OUT_CUDA, OUT_COUNT } OutKind;

static const struct {
    const char *name, *ending;
} out_kinds[OUT_COUNT] = {
    [OUT_EXE] = {"exe", NULL},          [OUT_SO] = {"so", ".so"},  [OUT_OBJ] = {"obj", ".o"},   [OUT_C] = {"c", ".c"},
    [OUT_LLVM_IR] = {"llvm-ir", ".ll"}, [OUT_ASM] = {"asm", ".s"}, [OUT_PTX] = {"ptx", ".ptx"}, [OUT_CUDA] = {"cuda", ".cu"},
};

typedef struct {
    const char *model, *out, *emit;
    OutKind kind;
    BuildOptions build;
    bool json;
    char *stem;                       // OUT without its ending, where the kind has one
    uint64_t out_bytes, weight_bytes; // for the summary
    char *weights;                    // the file of weights beside; NULL: inside or none
    const char *targets;              // "x86-64-v4,x86-64-v3"
} Compile;

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), tail = strlen(ending);
    return length > tail && strcmp(text + length - tail, ending) == 0;
}

static char *with_ending(const Compile *job, const char *ending) {
    Text path = {0};
    text_printf(&path, "%s%s", job->stem, ending);
    return path.data;
}

static const char *file_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// ---- what lies beside ---------------------------------------------------------------------------------------------------

static bool put_weights(Compile *job, const Build *build, uint64_t *hash, Diags *diags) {
    job->weights = with_ending(job, ".weights");
    return blob_file(job->weights, build->parts, build->part_count, hash, &job->weight_bytes, diags);
}

static bool put_text(const char *path, const Text *text, Diags *diags) { return write_file(path, text->data, text->length, diags); }

static bool put_header(const Compile *job, const Build *build, Diags *diags) {
    Text text = {0};
    char *path = with_ending(job, ".h");
    text_printf(&text,
                "// %s, compiled from %s for %s by tenon " TENON_VERSION
                ".\n//\n// Build against it:  cc program.c $(pkg-config --cflags --libs %s) "
                "(PKG_CONFIG_PATH: the folder of %s.pc)\n// The weights, %s, are looked for beside the shared object; "
                "tn_open_options.weights names another place.\n//\n",
                file_part(job->out), build->model->name ? build->model->name : "a model", job->targets, file_part(job->stem), file_part(job->stem),
                file_part(job->weights));
    embedded_header(&text);
    bool done = put_text(path, &text, diags);
    free(path);
    text_free(&text);
    return done;
}

// The library is named by its file (-l:NAME), so that any OUT will do; paths are relative to the .pc file, which moves with its folder.
static bool put_pkg_config(const Compile *job, const Build *build, Diags *diags) {
    Text text = {0};
    char *path = with_ending(job, ".pc");
    text_printf(&text,
                "Name: %s\nDescription: %s, compiled for %s by tenon\nVersion: %s\nCflags: -I${pcfiledir}\n"
                "Libs: -L${pcfiledir} -Wl,-rpath,${pcfiledir} -l:%s\n",
                file_part(job->stem), build->model->name ? build->model->name : "a model", job->targets, TENON_VERSION, file_part(job->out));
    bool done = put_text(path, &text, diags);
    free(path);
    text_free(&text);
    return done;
}

// ---- one function a kind ------------------------------------------------------------------------------------------------

static bool link_kind(const Compile *job, const LinkJob *link, LinkReport *report, Diags *diags) {
    if (job->kind == OUT_OBJ && link->object_count == 1) { // no linker needed
        report->image_bytes = link->objects[0].length;
        return write_file(job->out, link->objects[0].bytes, link->objects[0].length, diags);
    }
    return (job->kind == OUT_SO ? link_shared : job->kind == OUT_OBJ ? link_object : link_executable)(link, report, diags);
}

static bool compile_linked(Compile *job, Fat *fat, Diags *diags) {
    const Build *build = &fat->builds[0];
    LinkReport report = {0};
    uint64_t hash = 0;
    bool inside = job->kind == OUT_EXE;
    bool done = (inside || put_weights(job, build, &hash, diags)) && fat_code(fat, hash, diags);
    LinkJob link = {.objects = fat->objects,
                    .object_count = fat->object_count,
                    .target = build->target,
                    .out = job->out,
                    .parts = build->parts,
                    .part_count = build->part_count};
    double began = seconds_now();
    done = done && link_kind(job, &link, &report, diags);
    if (done && job->build.timing) fprintf(stderr, "%-16s %8.1f ms\n", inside ? "link and pack" : "link", (seconds_now() - began) * 1e3);
    done = done && (job->kind != OUT_SO || (put_header(job, build, diags) && put_pkg_config(job, build, diags)));
    job->out_bytes = report.image_bytes;
    if (inside) job->weight_bytes = report.blob_bytes;
    return done;
}

static bool compile_text(Compile *job, const Build *build, EmitKind kind, Diags *diags) {
    Text text = {0};
    bool done = build_code(build, kind, 0, &text, diags) && put_text(job->out, &text, diags);
    job->out_bytes = text.length;
    text_free(&text);
    return done;
}

static bool compile_c(Compile *job, const Build *build, Diags *diags) {
    Text text = {0};
    uint64_t hash;
    if (!put_weights(job, build, &hash, diags)) return false;
    char *program = with_ending(job, "");
    text_printf(&text,
                "// %s for %s, by tenon " TENON_VERSION ". Compile it with\n//\n//     %s -O2 -fopenmp %s -o %s %s -lutf8proc -lm\n//\n"
                "// (any C11 compiler, any -O, never -ffast-math; with clang leave -fopenmp out: it then uses POSIX threads. Packages: "
                "libutf8proc-dev,\n"
                "// libxxhash-dev.) Its weights are in %s, which belongs beside the program, whatever that is called, or is named with --weights.\n#ifndef "
                "_GNU_SOURCE\n#define _GNU_SOURCE\n#endif\n",
                build->model->name ? build->model->name : "a model", build->target->name, target_cc(build->target),
                target_cc_flags(build->target), file_part(program), file_part(job->out), file_part(job->weights));
    text_puts(&text, "#define TN_WEIGHTS ");
    json_text(&text, file_part(job->weights)); // for a file name that is a C string too
    text_puts(&text, "\n");
    plan_emit(build->plan, FLAVOUR_INTRINSICS, hash, &text);
    text_puts(&text, "\n\n// ---- the run time ----\n");
    embedded_runtime(&text);
    bool done = put_text(job->out, &text, diags);
    job->out_bytes = text.length;
    text_free(&text);
    free(program);
    return done;
}

static bool compile_kind(Compile *job, Fat *fat, Diags *diags) {
    const Build *build = &fat->builds[0];
    bool gpu = strncmp(build->target->triple, "nvptx", 5) == 0;
    if (gpu && job->kind == OUT_PTX)
        return compile_text(job, build, EMIT_PTX, diags);
    if (gpu || job->kind == OUT_CUDA) {
        diag_error(diags, NOWHERE, "--emit %s is not supported for %s yet", out_kinds[job->kind].name, build->target->name);
        diag(diags, DIAG_HINT, NOWHERE, "--target sm_90a --emit ptx gives a GPU's kernels");
        return false;
    }
    switch (job->kind) {
    case OUT_EXE:
    case OUT_SO:
    case OUT_OBJ: return compile_linked(job, fat, diags);
    case OUT_C: return compile_c(job, build, diags);
    case OUT_LLVM_IR: return compile_text(job, build, EMIT_LLVM_IR, diags);
    case OUT_ASM: return compile_text(job, build, EMIT_ASSEMBLY, diags);
    default: break;
    }
    diag_error(diags, NOWHERE, "--emit %s needs a GPU target, and %s is none", out_kinds[job->kind].name, build->target->name);
    diag(diags, DIAG_HINT, NOWHERE, "tenon targets lists the targets; --emit c, asm and llvm-ir work for all of them");
    return false;
}

// ---- the command --------------------------------------------------------------------------------------------------------

static void summary(const Compile *job, double seconds) {
    if (job->json) {
        Text out = {0};
        text_puts(&out, "{\"output\": ");
        json_text(&out, job->out);
        text_puts(&out, ", \"emit\": ");
        json_text(&out, out_kinds[job->kind].name);
        text_puts(&out, ", \"target\": ");
        json_text(&out, job->targets);
        text_printf(&out, ", \"code_bytes\": %llu, \"weight_bytes\": %llu, \"weights\": ", (unsigned long long)job->out_bytes,
                    (unsigned long long)job->weight_bytes);
        if (job->weights)
            json_text(&out, job->weights);
        else
            text_puts(&out, "null");
        text_printf(&out, ", \"seconds\": %.3f}\n", seconds);
        print_out(&out);
        text_free(&out);
        return;
    }
    fprintf(stderr, "%s: %s for %s, %.2f MB", job->out, out_kinds[job->kind].name, job->targets, (double)job->out_bytes / 1e6);
    if (job->weights)
        fprintf(stderr, "; weights in %s, %.1f MB", job->weights, (double)job->weight_bytes / 1e6);
    else if (job->weight_bytes)
        fprintf(stderr, " and %.1f MB of weights", (double)job->weight_bytes / 1e6);
    fprintf(stderr, ", in %.1f s\n", seconds);
}

static int choose_kind(const Command *command, Compile *job) {
    job->kind = OUT_EXE;
    if (job->emit) {
        const char *names[OUT_COUNT];
        for (job->kind = 0; job->kind < OUT_COUNT && strcmp(job->emit, out_kinds[job->kind].name) != 0; job->kind++)
            names[job->kind] = out_kinds[job->kind].name;
        if (job->kind < OUT_COUNT) return EXIT_DONE;
        const char *near = nearest_name(job->emit, names, OUT_COUNT);
        return usage_error(command,
                           near ? "--emit %s: there is no such kind (did you mean %s?)"
                                : "--emit %s: the kinds are exe, so, obj, c, llvm-ir, asm, ptx, cuda",
                           job->emit, near);
    }
    for (int kind = 0; kind < OUT_COUNT; kind++)
        if (out_kinds[kind].ending && ends_with(job->out, out_kinds[kind].ending)) job->kind = (OutKind)kind;
    return EXIT_DONE;
}

static int compile(Compile *job) {
    Diags *diags = diags_new();
    Fat fat;
    Progress progress = {0};
    double began = seconds_now();
    bool done = fat_open(&fat, job->model, &job->build, diags);
    if (done) {
        fat.builds[0].progress = &progress;
        job->targets = fat.targets;
        done = compile_kind(job, &fat, diags);
        if (done) summary(job, seconds_now() - began);
        fat_close(&fat);
    }
    int said = finish(diags);
    return done ? said : EXIT_INPUT;
}

// --latency: a program that runs here is measured.
static int in_time(const Compile *job) {
    const char *target = job->build.target;
    Diags *quiet = diags_new();
    bool here = job->build.latency && job->kind == OUT_EXE && (strchr(target, ',') || target_runs_here(build_target(&job->build, quiet)));
    diags_free(quiet);
    if (here) return latency_measure(&job->build, job->out);
    if (job->build.latency) fprintf(stderr, "%s: not measured: only an executable for this machine is\n", job->out);
    return EXIT_DONE;
}

static int run(const Command *command, int argc, char **argv) {
    Compile job = {0};
    build_options_init(&job.build);
    job.build.several = true;
    Options options = {.command = command, .arguments = &job.model, .argument_room = 1, .argument_least = 1};
    option_add(&options, "-o", OPTION_TEXT, &job.out, "OUT", "what to write");
    option_add(&options, "--emit", OPTION_TEXT, &job.emit, "KIND",
               "exe, so, obj, c, llvm-ir, asm, ptx or cuda (default: by OUT's ending, else exe)");
    build_options_add(&options, &job.build);
    cache_options_add(&options, &job.build);
    option_add(&options, "--memory", OPTION_SIZE, &job.build.memory, "SIZE", "what the program may take when it runs, as 3G: experts that do not fit are read when they are chosen");
    option_add(&options, "--json", OPTION_FLAG, &job.json, NULL, "one JSON object about what was made");
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    if (!job.out || !*job.out) return usage_error(command, "-o OUT is missing");
    if ((code = choose_kind(command, &job))) return code;
    if (strchr(job.build.target, ',') && job.kind > OUT_OBJ)
        return usage_error(command, "--emit %s is for one target; for several there are exe, so and obj", out_kinds[job.kind].name);
    const char *ending = out_kinds[job.kind].ending;
    size_t length = strlen(job.out) - (ending && ends_with(job.out, ending) ? strlen(ending) : 0);
    job.stem = strndup(job.out, length);
    do
        code = compile(&job);
    while (code == EXIT_DONE && (code = in_time(&job)) == EXIT_MACHINE && latency_next(&options));
    if (code == EXIT_MACHINE) fprintf(stderr, "error: %s does not come in time on this machine (--latency %s)\n", job.out, job.build.latency);
    free(job.stem);
    free(job.weights);
    return code;
}

const Command compile_command = {
    "compile",
    "MODEL -o OUT",
    "ahead of time: one executable, a shared object, C …",
    "Compiles the model and its weights. The default is one static executable that needs nothing else. A shared object gets its weights, a "
    "C\n"
    "header and a pkg-config file beside it; an object and C get the weights. The same target gives the same bits in every form.\n"
    "For several targets the program holds code for each over one copy of the weights, and takes the best that it finds itself on.",
    "  tenon compile smollm2.gguf -o smollm2 && ./smollm2 -p \"Why is the sky blue?\"\n"
    "  tenon compile model.yaml -o model.c\n      one C file that gcc or clang builds; its first lines say how\n"
    "  tenon compile model.yaml -o libmodel.so --target x86-64-v3\n      for any machine with AVX2, to use from other programs\n"
    "  tenon compile model.yaml -o model --target x86-64-v3,x86-64-v4+vnni,amx\n"
    "      one program for all of these; TENON_TARGET=NAME in its environment takes another than the best\n"
    "  tenon compile model.yaml -o model.s --target armv8.2-a+dotprod\n      assembly, to read\n",
    run,
};
