// Building for several targets. Each has a graph of its own, because passes change it in place; the plans must agree on the weights. Clang then
// works on all of them at once, a thread each, as far as there are CPUs: most of the time of a compilation is Clang's.
#include "driver/fat.h"

#include "codegen/targets/targets.h"
#include "runtime/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

bool fat_open(Fat *fat, const char *path, const BuildOptions *options, Diags *diags) {
    const Target *targets[MAX_VARIANTS];
    *fat = (Fat){.arena = arena_new()};
    int count = targets_parse(options->target, targets, diags);
    bool done = count > 0;
    if (done) fat->targets = targets_text(targets, count, fat->arena);
    bool expand = true;   // one layout for all
    for (int i = 0; i < count; i++) expand = expand && targets[i]->expand;
    for (int i = 0; i < count && done; i++) {
        fat->options[i] = *options;
        fat->options[i].target = targets[i]->name;
        if (!expand && (!options->sparse || !strcmp(options->sparse, "auto"))) fat->options[i].sparse = "blocks";
        if (i > 0 && fat->builds[0].options == &fat->builds[0].chosen) {   // measured once, for all
            fat->options[i].bits = fat->builds[0].chosen.bits;
            fat->options[i].budget_bits = fat->options[i].budget_kl = NULL;
            fat->options[i].importance = fat->builds[0].chosen.importance;
        }
        BuildVariant variant = {.symbol = count > 1 ? variant_symbol(targets[i], fat->arena) : NULL, .code_only = i > 0};
        done = build_open_variant(&fat->builds[i], path, &fat->options[i], variant, diags);
        fat->count += done;
        if (done && i > 0) done = plans_agree(fat->builds[0].plan, fat->builds[i].plan, diags);
    }
    if (!done) fat_close(fat);
    return done;
}

// ---- code -----------------------------------------------------------------------------------------------------------

typedef struct {
    Fat *fat;
    uint64_t blob_hash;
    atomic_int next;
    Diags *diags[MAX_VARIANTS]; // each target's messages are kept apart until all have ended
    bool done[MAX_VARIANTS];
} FatWork;

static void *work(void *argument) {
    FatWork *all = argument;
    for (int i; (i = atomic_fetch_add(&all->next, 1)) < all->fat->count;)
        all->done[i] = build_code(&all->fat->builds[i], EMIT_OBJECT, all->blob_hash, &all->fat->texts[i], all->diags[i]);
    return NULL;
}

static bool compile_all(Fat *fat, uint64_t blob_hash) {
    FatWork all = {.fat = fat, .blob_hash = blob_hash};
    pthread_t threads[MAX_VARIANTS];
    int started = 0, cpus = tn_team_available();
    bool done = true;
    for (int i = 0; i < fat->count; i++) all.diags[i] = diags_new();
    while (started + 1 < fat->count && started + 1 < cpus && pthread_create(&threads[started], NULL, work, &all) == 0) started++;
    work(&all);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < fat->count; i++) {
        diags_print(all.diags[i], stderr);
        diags_free(all.diags[i]);
        done = done && all.done[i];
    }
    return done;
}

// The list of variants, in code that every processor of the kind runs.
static bool compile_choice(const Fat *fat, uint64_t blob_hash, Text *out, Diags *diags) {
    const Plan *plans[MAX_VARIANTS];
    const char *triple = fat->builds[0].target->triple;
    const Target *base = NULL;
    for (int i = 0; target_at(i); i++)
        if (strcmp(target_at(i)->triple, triple) == 0 && (!base || target_rank(target_at(i)) < target_rank(base))) base = target_at(i);
    for (int i = 0; i < fat->count; i++) plans[i] = fat->builds[i].plan;
    Text c = {0};
    ClangOptions clang;
    plans_emit_choice(plans, fat->count, blob_hash, &c);
    target_clang_options(base, &clang);
    bool done = clang_compile("targets.c", c.data, c.length, &clang, EMIT_OBJECT, out, diags);
    text_free(&c);
    return done;
}

bool fat_code(Fat *fat, uint64_t blob_hash, Diags *diags) {
    bool done = compile_all(fat, blob_hash);
    fat->object_count = fat->count;
    for (int i = 0; i < fat->count && done; i++) {
        const char *symbol = fat->builds[i].variant.symbol;
        fat->objects[i] = (LinkObject){fat->texts[i].data, fat->texts[i].length, symbol ? symbol : "tn_model"};
    }
    if (!done || fat->count == 1) return done;
    Text *choice = &fat->texts[fat->object_count];
    done = compile_choice(fat, blob_hash, choice, diags);
    fat->objects[fat->object_count++] = (LinkObject){choice->data, choice->length, "tn_model"};
    return done;
}

void fat_close(Fat *fat) {
    for (int i = 0; i < fat->count; i++) build_close(&fat->builds[i]);
    for (int i = 0; i < MAX_LINK_OBJECTS; i++) text_free(&fat->texts[i]);
    arena_free(fat->arena);
    *fat = (Fat){0};
}
