// From a model to a program: model → passes → plan → C → object, and beside it the parts of the blob. What the commands do with the result
// (run it, link it, print it) is theirs.
#include "driver/build.h"
#include "driver/calibrate.h"
#include "driver/choose.h"

#include "codegen/fat.h"
#include "driver/tune_db.h"
#include "passes/passes.h"
#include "runtime/format.h"

#include <stdlib.h>
#include <string.h>

static void phase_done(const BuildOptions *options, const char *what, double began, const Module *module) {
    double milliseconds = (seconds_now() - began) * 1e3;
    if (options->timing) fprintf(stderr, "%-16s %8.1f ms\n", what, milliseconds);
    if (options->observe) options->observe(options->observe_to, what, milliseconds, module);
}

static void timing(const BuildOptions *options, const char *what, double began) { phase_done(options, what, began, NULL); }

const Target *build_target(const BuildOptions *options, Diags *diags) {
    const Target *targets[MAX_VARIANTS];
    if (!strchr(options->target, ',')) return target_find(options->target, diags);
    if (options->several) return targets_parse(options->target, targets, diags) ? targets[0] : NULL;
    diag_error(diags, NOWHERE, "--target %s: one target is needed here", options->target);
    diag(diags, DIAG_HINT, NOWHERE, "tenon compile makes programs for several targets");
    return NULL;
}

static PassOptions pass_options(const BuildOptions *options, const Target *target) {
    return (PassOptions){.target = target,
                         .quantize = options->quantize,
                         .kv = options->kv,
                         .group = options->group,
                         .activation_group = options->activation_group,
                         .symmetric = options->symmetric,
                         .sparse = options->sparse,
                         .no_fusion = options->no_fusion,
                         .choices = options->bits,
                         .prune = options->prune,
                         .importance = options->importance,
                         .inputs = options->inputs,
                         .only = options->passes,
                         .skip = options->skip,
                         .print_after = options->print_after,
                         .timing = options->timing,
                         .print_to = stderr,
                         .observe = options->observe,
                         .observe_to = options->observe_to,
                         .reproducer = "repro.tir"};
}

bool build_passes(Module *module, const BuildOptions *options, Diags *diags) {
    const Target *target = build_target(options, diags);
    PassOptions passes = pass_options(options, target);
    return target && run_passes(module, &passes, diags);
}

// The options that choose formats, against one another.
static bool choice_valid(const BuildOptions *options, Diags *diags) {
    const char *budget = options->budget_kl ? options->budget_kl : options->budget_bits, *name = options->budget_kl ? "--budget-kl" : "--budget-bits";
    const char *quantize = options->quantize ? options->quantize : "as-stored";
    if (options->bits && strcmp(quantize, "as-stored") == 0) {
        diag_error(diags, NOWHERE, "--bits says how some matrices differ from --quant, and none is given");
        diag(diags, DIAG_HINT, NOWHERE, "--quant auto, w8a8 and w4a8 take it");
        return false;
    }
    if (strcmp(quantize, "auto") == 0 && !options->bits && options->calibrate && strcmp(options->calibrate, "-") == 0)
        return diag_error(diags, NOWHERE, "--calibrate -: --quant auto reads the text more than once, so it must be a file"), false;
    if (!budget) return true;
    char *end;
    double value = strtod(budget, &end);
    if (strcmp(quantize, "auto") != 0) return diag_error(diags, NOWHERE, "%s is for --quant auto", name), false;
    if (options->bits) return diag_error(diags, NOWHERE, "%s chooses what --bits says already: one of them", name), false;
    if (options->budget_kl && options->budget_bits) return diag_error(diags, NOWHERE, "--budget-kl and --budget-bits: one of them"), false;
    if (end == budget || *end || !(value > 0) || value >= 1e6) return diag_error(diags, NOWHERE, "%s is a number greater than 0, not '%s'", name, budget), false;
    return true;
}

int build_options_check(const Command *command, const BuildOptions *options) {
    Diags *diags = diags_new();
    PassOptions passes = pass_options(options, build_target(options, diags));
    bool valid = pass_options_valid(&passes, diags) && choice_valid(options, diags) && passes.target;
    finish(diags);
    if (!valid) usage_hint(command);
    return valid ? EXIT_DONE : EXIT_USAGE;
}

// ---- the blob's parts -----------------------------------------------------------------------------------------------

static bool pack_weights(const void *from, bool (*write)(void *, const void *, size_t), void *to, Diags *diags) {
    const Build *build = from;
    double began = seconds_now();
    if (build->progress) tn_progress_begin(build->progress, "packing weights");
    bool done = plan_pack(build->plan, write, to, build->progress ? tn_progress_show : NULL, build->progress, diags);
    if (build->progress) tn_progress_end(build->progress);
    timing(build->options, "pack", began);
    return done;
}

static void add_record(Text *meta, const char *key, const char *value) {
    if (value) blob_meta_add(meta, key, value);
}

static void describe(Build *build, const char *path) {
    const Model *model = build->model;
    Text *meta = &build->meta;
    char context[24];
    snprintf(context, sizeof context, "%lld", (long long)model->context);
    add_record(meta, "name", model->name);
    add_record(meta, "context", context);
    char memory[24];
    snprintf(memory, sizeof memory, "%llu", (unsigned long long)build->options->memory);
    add_record(meta, "memory", build->options->memory ? memory : NULL);
    add_record(meta, "kv", cache_format(&(PassOptions){.kv = build->options->kv, .quantize = build->options->quantize}));
    add_record(meta, "chat.begin", model->chat_begin);
    add_record(meta, "chat.system", model->chat_system);
    add_record(meta, "chat.user", model->chat_user);
    add_record(meta, "chat.assistant", model->chat_assistant);
    add_record(meta, "chat.generation", model->chat_generation);
    for (int i = 0; i < model->stop_count; i++) add_record(meta, "stop", model->stops[i]);
    const char *slash = strrchr(path, '/'); // the name alone: a program is passed on, and its maker's folders are nobody's business
    add_record(meta, "source", slash && slash[1] ? slash + 1 : path);
}

// Everything but the weights.
static bool collect_parts(Build *build, const char *path, Diags *diags) {
    describe(build, path);
    build->parts[build->part_count++] = (BlobPart){SECTION_META, blob_pack_text, &build->meta};
    if (!build->model->tokenizer_path) return true;
    double began = seconds_now();
    if (!tokenizer_import(build->model->tokenizer_path, &build->tokenizer, diags)) return false;
    timing(build->options, "tokenizer", began);
    build->parts[build->part_count++] = (BlobPart){SECTION_TOKENIZER, blob_pack_text, &build->tokenizer};
    return true;
}

// ---- the sequence ---------------------------------------------------------------------------------------------------

// An encoder reads a text in one step: these are not for it.
static void size_steps(Module *module, const BuildOptions *options) {
    if (!module_causal(module)) return;
    if (options->step_tokens) module->max_tokens = options->step_tokens;
    if (options->step_sequences) module->max_sequences = module->max_rows = options->step_sequences;
    if (module->max_rows > module->max_tokens) module->max_rows = module->max_tokens;
    if (module->max_sequences > module->max_tokens) module->max_sequences = module->max_tokens;
}

static bool load(Build *build, const char *path, Diags *diags) {
    build->target = build_target(build->options, diags);
    if (!build->target) return false;
    double began = seconds_now();
    build->model = model_open(build->arena, path, diags);
    phase_done(build->options, "model", began, build->model ? build->model->module : NULL);
    if (build->model) size_steps(build->model->module, build->options);
    return build->model && (build->variant.code_only || collect_parts(build, path, diags));
}

bool build_numerics(Build *build, const char *path, Diags *diags) {
    return build_importance(build, path, diags) && build_choose(build, path, diags) && build_passes(build->model->module, build->options, diags) &&
           build_calibrate(build, path, diags);
}

static bool plan(Build *build, const char *path, Diags *diags) {
    if (!build_numerics(build, path, diags)) return false;
    double began = seconds_now();
    TuneBook book;
    tune_book_open(&book, build->target, build->options, diags);
    build->plan = plan_new_tuned(build->model->module, build->target, build->model->input_names, build->model->input_defaults, build->model->input_count,
                                 book.count ? &book.book : NULL, diags);
    tune_book_close(&book);
    timing(build->options, "plan", began);
    build->parts[build->part_count++] = (BlobPart){SECTION_WEIGHTS, pack_weights, build};
    return build->plan;
}

bool build_load(Build *build, const char *path, const BuildOptions *options, Diags *diags) {
    *build = (Build){.arena = arena_new(), .options = options};
    if (load(build, path, diags)) return true;
    build_close(build);
    return false;
}

bool build_open_variant(Build *build, const char *path, const BuildOptions *options, BuildVariant variant, Diags *diags) {
    *build = (Build){.arena = arena_new(), .options = options, .variant = variant};
    if (load(build, path, diags) && plan(build, path, diags)) return true;
    build_close(build);
    return false;
}

bool build_open(Build *build, const char *path, const BuildOptions *options, Diags *diags) {
    return build_open_variant(build, path, options, (BuildVariant){0}, diags);
}

bool build_code(const Build *build, EmitKind kind, uint64_t blob_hash, Text *out, Diags *diags) {
    Text c = {0};
    ClangOptions clang;
    double began = seconds_now();
    if (build->variant.symbol) text_printf(&c, "#define TN_MODEL %s\n", build->variant.symbol);
    plan_emit(build->plan, FLAVOUR_JIT, blob_hash, &c);
    timing(build->options, "emit", began);
    target_clang_options(build->target, &clang);
    began = seconds_now();
    char name[128];
    snprintf(name, sizeof name, "%.100s.c", build->model->name ? build->model->name : "model");
    bool done = clang_compile(name, c.data, c.length, &clang, kind, out, diags);
    timing(build->options, "clang", began);
    text_free(&c);
    return done;
}

void build_close(Build *build) {
    if (build->plan) plan_free(build->plan);
    calibration_release(build);
    if (build->model) model_close(build->model);
    text_free(&build->meta);
    text_free(&build->tokenizer);
    arena_free(build->arena);
    *build = (Build){0};
}
