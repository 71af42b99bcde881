// The list of targets, made of each ISA's table, and the choice of "native".
#include "codegen/targets/targets.h"
#include "runtime/cpu.h"

#include <string.h>

static const TargetTable *const tables[] = {&generic_targets, &x86_64_targets, &aarch64_targets, &nvptx_targets};

static const TargetRow *row_of(const Target *target) { return (const TargetRow *)target; }

const char *machine_triple(void) { return generic_targets.rows[0].target.triple; }

// All rows in the tables' order, into a fixed array: the tables are constant, so handing out pointers into them is safe anywhere.
static int all_rows(const TargetRow **rows, int room) {
    int count = 0;
    for (size_t t = 0; t < COUNT_OF(tables); t++)
        for (int i = 0; i < tables[t]->count && count < room; i++) rows[count++] = &tables[t]->rows[i];
    return count;
}

const Target *target_at(int index) {
    const TargetRow *rows[64];
    int count = all_rows(rows, COUNT_OF(rows));
    return index >= 0 && index < count ? &rows[index]->target : NULL;
}

const char *target_meaning(const Target *target) { return row_of(target)->meaning; }

const char *target_needs(const Target *target) { return row_of(target)->needs; }

int target_rank(const Target *target) { return row_of(target)->rank; }

const char *target_cc_flags(const Target *target) { return row_of(target)->cc_flags; }

const char *target_cc(const Target *target) {
    if (strcmp(target->triple, machine_triple()) == 0) return "cc";
    return strncmp(target->triple, "aarch64", 7) == 0 ? "aarch64-linux-gnu-gcc" : "x86_64-linux-gnu-gcc";
}

bool target_runs_here(const Target *target) { return strcmp(target->triple, machine_triple()) == 0 && tn_cpu_has(row_of(target)->needs, NULL, 0); }

static const Target *target_native(void) {
    const TargetRow *rows[64], *best = NULL;
    int count = all_rows(rows, COUNT_OF(rows));
    for (int i = 0; i < count; i++)
        if ((!best || rows[i]->rank > best->rank) && target_runs_here(&rows[i]->target)) best = rows[i];
    return best ? &best->target : NULL;
}

const Target *target_find(const char *name, Diags *diags) {
    if (strcmp(name, "native") == 0) return target_native();
    const TargetRow *rows[64];
    const char *names[64];
    int count = all_rows(rows, COUNT_OF(rows));
    for (int i = 0; i < count; i++) {
        names[i] = rows[i]->target.name;
        if (strcmp(names[i], name) == 0) return &rows[i]->target;
    }
    diag_error(diags, NOWHERE, "there is no target named '%s'", name);
    const char *near = nearest_name(name, names, count);
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    Text list = {0};
    for (int i = 0; i < count; i++) text_printf(&list, "%s%s", i ? ", " : "native, ", names[i]);
    diag(diags, DIAG_NOTE, NOWHERE, "targets are: %s", list.data);
    text_free(&list);
    return NULL;
}

void target_clang_options(const Target *target, ClangOptions *options) {
    const TargetRow *row = row_of(target);
    int count = 0;
    while (count < MAX_TARGET_FEATURES && row->features[count]) count++;
    *options = (ClangOptions){
        .triple = target->triple, .cpu = row->cpu, .features = row->features, .feature_count = count, .optimization = 2, .pic = true};
}
