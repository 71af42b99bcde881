// --prune with --calibrate: what each matrix is multiplied with on the text, summed up by column, by which the prune pass then chooses.
#include "driver/calibrate.h"
#include "passes/passes.h"

#include "runtime/team.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b) { return strcmp(((const SeenColumns *)a)->name, ((const SeenColumns *)b)->name); }

static Importance *importance_of(const Calibration *c, Arena *arena) {
    Importance *importance = ARENA_NEW(arena, Importance);
    *importance = (Importance){.items = ARENA_ARRAY(arena, SeenColumns, c->seen_count)};
    float **energies = ARENA_ARRAY(arena, float *, c->moments_count);
    for (int i = 0; i < c->moments_count; i++) {
        const Moments *m = &c->moments[i];
        energies[i] = ARENA_ARRAY(arena, float, m->k);
        for (int64_t k = 0; k < m->k; k++) energies[i][k] = (float)m->energy[k];
    }
    for (int w = 0; w < c->seen_count; w++) {
        if (c->of[w] < 0) continue;
        importance->items[importance->count++] = (SeenColumns){arena_strdup(arena, c->names[w]), c->moments[c->of[w]].k, energies[c->of[w]]};
    }
    if (importance->count) qsort(importance->items, (size_t)importance->count, sizeof *importance->items, by_name);
    return importance;
}

bool build_importance(Build *build, const char *path, Diags *diags) {
    const BuildOptions *options = build->options;
    if (!options->prune || !options->calibrate || options->importance) return true;
    BuildOptions plain = *options;
    plain.prune = NULL;   // the whole model is looked at
    Calibration c = {.path = path, .options = &plain, .threads = tn_team_available()};
    CalibrationRun *run = calibration_text_of(options, &c.text, diags) ? calibration_run_open(&c, diags) : NULL;
    bool done = run && calibration_run(run, diags);
    if (done) {
        build->chosen = *options;
        build->chosen.importance = importance_of(&c, build->arena);
        build->options = &build->chosen;
    }
    calibration_run_close(run);
    calibration_close(&c);
    return done;
}
