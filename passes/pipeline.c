// Runs the passes of pipeline.def in order: prints, times, and verifies after each, so that a pass which breaks the graph is caught where it
// happened and leaves the text it was given behind.
#include "passes/passes.h"

#include <string.h>
#include <time.h>

#define PASS(phase, name, level, needs, meaning) bool pass_##name(Module *, const PassOptions *, Diags *);
#include "passes/pipeline.def"
#undef PASS

const Pass passes[] = {
#define PASS(phase, name, level, needs, meaning) {phase, #name, level, needs, meaning, pass_##name},
#include "passes/pipeline.def"
#undef PASS
};
const int pass_count = COUNT_OF(passes);

// ---- lists of names --------------------------------------------------------------------------------------------------------

// The next name of a list separated by commas or spaces; false at its end.
static bool next_name(const char **list, char name[64]) {
    const char *at = *list + strspn(*list, ", ");
    size_t length = strcspn(at, ", ");
    if (!length) return false;
    snprintf(name, 64, "%.*s", (int)length, at);
    *list = at + length;
    return true;
}

static bool named_in(const char *list, const char *name) {
    char word[64];
    while (list && next_name(&list, word))
        if (strcmp(word, name) == 0) return true;
    return false;
}

static const Pass *find_pass(const char *name) {
    for (int i = 0; i < pass_count; i++)
        if (strcmp(passes[i].name, name) == 0) return &passes[i];
    return NULL;
}

static void unknown_pass(const char *name, Diags *diags) {
    const char *names[COUNT_OF(passes)];
    Text all = {0};
    for (int i = 0; i < pass_count; i++) {
        names[i] = passes[i].name;
        text_printf(&all, "%s%s", i ? " " : "", names[i]);
    }
    diag_error(diags, NOWHERE, "there is no pass '%s'", name);
    const char *near = nearest_name(name, names, pass_count);
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    else diag(diags, DIAG_HINT, NOWHERE, "passes are: %s", all.data);
    text_free(&all);
}

static bool names_known(const char *list, const char *also, Diags *diags) {
    bool known = true;
    char name[64];
    while (list && next_name(&list, name)) {
        if (find_pass(name) || strcmp(name, also) == 0) continue;
        unknown_pass(name, diags);
        known = false;
    }
    return known;
}

// ---- the plan: which passes, in which order --------------------------------------------------------------------------------

enum { MOST_PASSES = 64 };

// Passes named in `only` run in the order they are named there; otherwise all of the table but the skipped ones.
static int plan_passes(const PassOptions *options, const Pass *plan[MOST_PASSES], Diags *diags) {
    bool known = names_known(options->only, "none", diags);
    known &= names_known(options->skip, "", diags);
    known &= names_known(options->print_after, "all", diags);
    if (!known) return -1;
    int count = 0;
    if (options->only) {
        const char *list = options->only;
        char name[64];
        while (next_name(&list, name)) {
            if (strcmp(name, "none") == 0 || named_in(options->skip, name)) continue;
            if (count == MOST_PASSES) return diag_error(diags, NOWHERE, "more than %d passes are named", MOST_PASSES), -1;
            plan[count++] = find_pass(name);
        }
        return count;
    }
    for (int i = 0; i < pass_count; i++)
        if (!named_in(options->skip, passes[i].name)) plan[count++] = &passes[i];
    for (int i = 0; i < count; i++) {
        const char *needs = plan[i]->needs;
        char name[64];
        while (next_name(&needs, name))
            if (named_in(options->skip, name)) return diag_error(diags, NOWHERE, "pass '%s' is left out but '%s' needs it", name, plan[i]->name), -1;
    }
    return count;
}

static bool kv_valid(const PassOptions *options, Diags *diags) {
    static const char *const formats[] = {"f32", "f16", "bf16", "int8"};
    if (!options->kv) return true;
    for (size_t i = 0; i < COUNT_OF(formats); i++)
        if (strcmp(options->kv, formats[i]) == 0) return true;
    diag_error(diags, NOWHERE, "there is no KV cache format '%s'", options->kv);
    const char *near = nearest_name(options->kv, formats, COUNT_OF(formats));
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    else diag(diags, DIAG_HINT, NOWHERE, "formats are: f32 f16 bf16 int8");
    return false;
}

static bool sparse_valid(const PassOptions *options, Diags *diags) {
    const char *sparse = options->sparse;
    if (!sparse || !strcmp(sparse, "auto") || !strcmp(sparse, "never") || !strcmp(sparse, "always") || !strcmp(sparse, "blocks")) return true;
    diag_error(diags, NOWHERE, "--sparse is auto, never, always or blocks, not '%s'", sparse);
    return false;
}

bool pass_options_valid(const PassOptions *options, Diags *diags) {
    const Pass *plan[MOST_PASSES];
    bool planned = plan_passes(options, plan, diags) >= 0;
    return quantization_valid(options, diags) && kv_valid(options, diags) && sparse_valid(options, diags) && planned;
}

// ---- running -----------------------------------------------------------------------------------------------------------------

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static void leave_reproducer(const Pass *pass, const PassOptions *options, const Text *before, Diags *diags) {
    if (!options->reproducer || !before->data) return;
    FILE *file = fopen(options->reproducer, "w");
    if (!file) return;
    fprintf(file, "// pass '%s' breaks this module: tenon opt --passes=%s %s\n", pass->name, pass->name, options->reproducer);
    fwrite(before->data, 1, before->length, file);
    if (fclose(file) == 0) diag(diags, DIAG_NOTE, NOWHERE, "the module before the pass is in %s", options->reproducer);
}

static bool run_one(const Pass *pass, Module *module, const PassOptions *options, bool verify, Diags *diags) {
    bool print = options->print_after && options->print_to && (named_in(options->print_after, "all") || named_in(options->print_after, pass->name));
    Text before = {0};
    if (print || (verify && options->reproducer)) module_print(module, &before);
    double start = milliseconds();
    int errors = diags_errors(diags);
    bool ok = pass->run(module, options, diags);
    double time = milliseconds() - start;
    if (!ok && diags_errors(diags) == errors) {
        diag_error(diags, NOWHERE, "internal error: pass '%s' failed without saying why", pass->name);
        leave_reproducer(pass, options, &before, diags);
    } else if (ok && verify && !module_verify(module, diags)) {
        diag_error(diags, NOWHERE, "internal error: pass '%s' broke the module", pass->name);
        leave_reproducer(pass, options, &before, diags);
        ok = false;
    }
    if (ok && print) {
        Text after = {0};
        module_print(module, &after);
        bool same = before.length == after.length && memcmp(before.data, after.data, after.length) == 0;
        fprintf(options->print_to, "// after %s%s\n%s", pass->name, same ? ": unchanged" : "", same ? "" : after.data);
        text_free(&after);
    }
    if (ok && options->observe) options->observe(options->observe_to, pass->name, time, module);
    if (options->timing) fprintf(options->print_to ? options->print_to : stderr, "%-14s %8.2f ms\n", pass->name, time);
    text_free(&before);
    return ok;
}

bool run_passes(Module *module, const PassOptions *options, Diags *diags) {
    const Pass *plan[MOST_PASSES];
    int count = plan_passes(options, plan, diags);
    bool verify = options->verify;
#ifndef NDEBUG
    verify = true;
#endif
    for (int i = 0; i < count; i++)
        if (!run_one(plan[i], module, options, verify, diags)) return false;
    return count >= 0;
}
