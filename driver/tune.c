// tenon tune: the command. The model's program is compiled once with all the schedules in question in it, each kernel in several forms of which a step
// takes the one that it is told; so every step measures one schedule of every kernel at once, in the place where it will be used. What is measured is
// stored after each step. In the end the whole model is compared: the program that `run` makes without tuning, and with it.
#include "driver/tune.h"

#include "runtime/team.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    FuncPlan *plan;
    int64_t id;
    int forms;                        // besides the plan's own
    Search searches[SCHEDULE_GROUPS];
    bool known[SCHEDULE_GROUPS];      // was found in the database
} TuneKernel;

typedef struct { double before[2], after[2]; bool measured; } Whole;   // seconds of a prompt and of one token; 0: there is none

typedef struct {
    const char *path;
    BuildOptions options;
    int threads, budget;
    bool retune, json;
    Arena *arena;
    Diags *diags;
    TuneDb *db;
    Build build;
    TuneKernel *kernels;
    int kernel_count;
    Stand stand;
    int *choice;                      // of the compiled program, by kernel
    Progress progress;
    char what[160];
    double began, deadline;
    int steps;
    bool ended_early;
    Whole whole;
} Tune;

static bool database_failed(Tune *t) {
    diag_error(t->diags, FILE_LOC(arena_strdup(t->arena, tune_db_path(t->db))), "the tuning database failed: %s", tune_db_error(t->db));
    diag(t->diags, DIAG_HINT, NOWHERE, "what was stored before is kept; if it is damaged, remove it");
    return false;
}

// ---- what there is to tune ---------------------------------------------------------------------------------------------------------

static void take_sample(void *to, int rows, const Schedule *schedule, double ns) { search_add(to, rows, schedule, ns); }

// A kernel's searches, with what earlier runs measured.
static bool open_kernel(Tune *t, FuncPlan *plan, int most_rows) {
    TuneKernel *k = &t->kernels[t->kernel_count++];
    const ScheduleKey *key = &plan->kernel->schedule_key;
    *k = (TuneKernel){.plan = plan};
    if (!tune_db_kernel(t->db, key, t->threads, &k->id) || (t->retune && !tune_db_forget(t->db, k->id))) return database_failed(t);
    for (int g = 0; g < SCHEDULE_GROUPS; g++) {
        Search *s = &k->searches[g];
        Schedule found;
        search_init(s, t->arena, key, g, most_rows);
        if (s->done) continue;
        if (!tune_db_samples(t->db, k->id, g, take_sample, s) || !tune_db_finding(t->db, k->id, g, &k->known[g], &found)) return database_failed(t);
        if (!k->known[g]) search_judge(s, MOST_SAMPLES);
        if (!k->known[g]) continue;
        s->done = true;
        for (int i = 0; i < s->arm_count; i++)
            if (schedule_equal(&s->arms[i].schedule, &found)) s->best = i;
    }
    return true;
}

// Each distinct kernel that has a schedule.
static bool open_kernels(Tune *t) {
    const Module *m = t->build.plan->module;
    int most_rows = m->max_tokens < t->build.model->context ? m->max_tokens : (int)t->build.model->context;
    t->kernels = ARENA_ARRAY(t->arena, TuneKernel, m->func_count);
    for (int i = 0; i < m->func_count; i++) {
        FuncPlan *plan = &t->build.plan->funcs[i];
        bool known = !plan->kernel || !plan->kernel->schedule_key.shape;
        for (int k = 0; k < t->kernel_count && !known; k++)
            known = strcmp(t->kernels[k].plan->kernel->schedule_key.shape, plan->kernel->schedule_key.shape) == 0;
        if (!known && !open_kernel(t, plan, most_rows)) return false;
    }
    return true;
}

static bool all_done(const Tune *t) {
    for (int i = 0; i < t->kernel_count; i++)
        for (int g = 0; g < SCHEDULE_GROUPS; g++)
            if (!t->kernels[i].searches[g].done) return false;
    return true;
}

// ---- the program with all forms ----------------------------------------------------------------------------------------------------

// Arms that samples of an earlier run have ruled out are not compiled again.
static bool add_forms(Tune *t) {
    for (int i = 0; i < t->kernel_count; i++) {
        TuneKernel *k = &t->kernels[i];
        Schedule schedules[SCHEDULE_GROUPS * MAX_ARMS];
        for (int g = 0; g < SCHEDULE_GROUPS; g++)
            for (int a = 1; a < k->searches[g].arm_count; a++) {
                if (k->searches[g].done ? a != k->searches[g].best : !k->searches[g].arms[a].alive) continue;
                schedules[k->forms] = k->searches[g].arms[a].schedule;
                k->searches[g].arms[a].form = ++k->forms;
            }
        if (k->forms && !plan_vary(t->build.plan, k->plan, schedules, k->forms, t->diags)) return false;
    }
    return true;
}

static bool compile_forms(Tune *t, Program *program, const Program *base) {
    Text object = {0};
    bool done = add_forms(t) && build_code(&t->build, EMIT_OBJECT, 0, &object, t->diags) && (program->jit = jit_load(object.data, object.length, t->diags));
    text_free(&object);
    if (!done) return false;
    const tn_program *model = jit_symbol(program->jit, "tn_model");
    t->choice = jit_symbol(program->jit, "tn_choice");
    if (!model || !t->choice) {
        diag_error(t->diags, NOWHERE, "internal error: the compiled code lacks a symbol");
        return false;
    }
    program->program = *model;
    program->program.blob_hash = base->program.blob_hash;
    if (stand_open(&t->stand, &program->program, base->blob, t->threads, true)) return true;
    diag_error(t->diags, NOWHERE, "%s", t->stand.failure.text);
    return false;
}

// ---- measuring -----------------------------------------------------------------------------------------------------------------------

static unsigned mixed(unsigned a, unsigned b) {
    unsigned x = a * 2654435761u ^ b * 40503u;
    x ^= x >> 15, x *= 2246822519u, x ^= x >> 13;
    return x;
}

// The time of all kernels so far in steps of one size, and what it would be with the best arms.
static void show(Tune *t, ScheduleGroup group, int rows, int most) {
    double before = 0, after = 0;
    int wanted = 0, done = 0;
    for (int i = 0; i < t->kernel_count; i++) {
        const Search *s = &t->kernels[i].searches[group];
        for (int p = 0; p < s->points; p++)
            for (int a = 0; a < s->arm_count; a++) done += s->arms[a].at[p].count;
        wanted += search_wanted(s, most);
        for (int p = 0; p < s->points; p++) {
            double own = s->rows[p] == rows ? search_typical(s, 0, p) * t->kernels[i].plan->calls : 0, least = own;
            for (int a = 1; a < s->arm_count && own > 0; a++) {
                double other = s->arms[a].alive && s->arms[a].at[p].count > 1 ? search_typical(s, a, p) * t->kernels[i].plan->calls : 0;
                if (other > 0 && other < least) least = other;
            }
            before += own, after += least;
        }
    }
    snprintf(t->what, sizeof t->what, "%s, %d rows: products %+.1f %% so far", group == GROUP_MANY ? "order of blocks" : "how weights come", rows,
             before > 0 ? 100 * (after / before - 1) : 0);
    tn_progress_show(&t->progress, (uint64_t)done, (uint64_t)(done + wanted));
}

// One step: each kernel runs the arm that its search wants to know more of, else its best.
static bool measure_step(Tune *t, ScheduleGroup group, int rows, int most, bool *wanted, double *seconds) {
    int *arms = ARENA_ARRAY(t->arena, int, t->kernel_count);
    *wanted = false;
    for (int i = 0; i < t->kernel_count; i++) {
        const Search *s = &t->kernels[i].searches[group];
        arms[i] = search_next(s, rows, most, mixed((unsigned)t->steps, (unsigned)i));
        *wanted |= arms[i] >= 0;
        t->choice[t->kernels[i].plan->id] = s->arms[arms[i] >= 0 ? arms[i] : s->done ? s->best : 0].form;
    }
    if (!*wanted) return true;
    t->steps++;
    if ((*seconds = stand_step(&t->stand, rows)) < 0) {
        diag_error(t->diags, NOWHERE, "%s", t->stand.failure.text);
        return false;
    }
    if (!tune_db_begin(t->db)) return database_failed(t);
    for (int i = 0; i < t->kernel_count; i++) {
        TuneKernel *k = &t->kernels[i];
        double ns = stand_kernel_ns(&t->stand, k->plan->id) / (k->plan->calls > 0 ? k->plan->calls : 1);
        if (arms[i] < 0 || ns <= 0) continue;
        const Schedule *schedule = &k->searches[group].arms[arms[i]].schedule;
        search_add(&k->searches[group], rows, schedule, ns);
        if (!tune_db_add(t->db, k->id, group, rows, schedule, ns)) return database_failed(t);
    }
    return tune_db_commit(t->db) || database_failed(t);
}

static bool conclude(Tune *t, ScheduleGroup group) {
    for (int i = 0; i < t->kernel_count; i++) {
        TuneKernel *k = &t->kernels[i];
        Search *s = &k->searches[group];
        if (!s->done || k->known[group] || s->arm_count < 2) continue;
        if (!tune_db_conclude(t->db, k->id, group, &s->arms[s->best].schedule)) return database_failed(t);
        k->known[group] = true;
    }
    return true;
}

// The sizes of steps of a group, as this model has them.
static int rows_of_group(const Tune *t, ScheduleGroup group, int rows[MAX_POINTS]) {
    int count = 0;
    for (int i = 0; i < t->kernel_count; i++)
        for (int p = 0; p < t->kernels[i].searches[group].points && t->kernels[i].searches[group].arm_count > 1; p++) {
            int known = 0;
            while (known < count && rows[known] != t->kernels[i].searches[group].rows[p]) known++;
            if (known == count && count < MAX_POINTS) rows[count++] = t->kernels[i].searches[group].rows[p];
        }
    return count;
}

// Sizes in turns, until no search wants more.
static bool measure_group(Tune *t, ScheduleGroup group) {
    int rows[MAX_POINTS], points = rows_of_group(t, group, rows), most = MOST_SAMPLES;
    for (int p = 0; p < points; p++) {   // the first step of a size finds caches cold and memory untouched
        double seconds = stand_step(&t->stand, rows[p]);
        if (seconds >= 0) continue;
        diag_error(t->diags, NOWHERE, "%s", t->stand.failure.text);
        return false;
    }
    for (bool any = true; any && !t->ended_early;) {
        any = false;
        for (int p = 0; p < points && !t->ended_early; p++) {
            bool wanted;
            double seconds = 0;
            if (!measure_step(t, group, rows[p], most, &wanted, &seconds)) return false;
            if (seconds > 0.4) most = FEW_SAMPLES;
            any |= wanted;
            if (wanted) show(t, group, rows[p], most);
            t->ended_early = t->budget && seconds_now() > t->deadline;
        }
        for (int i = 0; i < t->kernel_count; i++) search_judge(&t->kernels[i].searches[group], most);
        if (!conclude(t, group)) return false;
    }
    return true;
}

static bool measure_all(Tune *t) {
    tn_progress_begin(&t->progress, t->what);
    memset(t->choice, 0, sizeof *t->choice * (size_t)t->build.plan->kernel_count);
    bool done = true;
    for (int g = 0; g < SCHEDULE_GROUPS && done && !t->ended_early; g++) done = measure_group(t, g);
    tn_progress_end(&t->progress);
    return done;
}

// ---- the whole model -------------------------------------------------------------------------------------------------------------------

enum { WHOLE_PROMPTS = 9, WHOLE_TOKENS = 41 };

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Both sides' steps of one size, in turns, at most ten seconds of them: the lower quartile, as in the searches.
static bool compare_steps(Stand sides[2], int rows, int count, double *before, double *after) {
    double seconds[2][WHOLE_TOKENS], began = seconds_now();
    int done = 0;
    for (int i = -1; i < count && (i < 3 || seconds_now() - began < 10); i++, done = i)   // the first warms
        for (int s = 0; s < 2; s++) {
            double one = stand_step(&sides[s], rows);
            if (one < 0) return false;
            if (i >= 0) seconds[s][i] = one;
        }
    for (int s = 0; s < 2; s++) qsort(seconds[s], (size_t)done, sizeof **seconds, by_value);
    *before = seconds[0][done / 4], *after = seconds[1][done / 4];
    return true;
}

static bool compare_whole(Tune *t, const Program *base) {
    Program tuned;
    BuildOptions options = t->options;
    int code;
    options.no_tuning = false;
    if (strcmp(tune_db_path(t->db), ":memory:") == 0) return true;
    if (!program_open(&tuned, t->path, &options, &code, t->diags)) return false;
    Stand sides[2] = {0};
    bool done = stand_open(&sides[0], &base->program, base->blob, t->threads, false) && stand_open(&sides[1], &tuned.program, tuned.blob, t->threads, false);
    int most = done ? stand_most_rows(&sides[0]) : 0;
    done = done && compare_steps(sides, most < 512 ? most : 512, WHOLE_PROMPTS, &t->whole.before[0], &t->whole.after[0]);
    if (done && base->program.causal) done = compare_steps(sides, 1, WHOLE_TOKENS, &t->whole.before[1], &t->whole.after[1]);
    t->whole.measured = done;
    for (int s = 0; s < 2; s++) {
        if (!done && sides[s].failure.code) diag_error(t->diags, NOWHERE, "%s", sides[s].failure.text);
        stand_close(&sides[s]);
    }
    program_close(&tuned);
    return done;
}

// ---- what is printed ---------------------------------------------------------------------------------------------------------------------

// A schedule by the fields that differ from the built-in ones.
static void put_difference(const Search *s, Text *out) {
    Text own = {0}, built_in = {0};
    schedule_text(&s->arms[s->best].schedule, &own);
    schedule_text(&s->arms[0].schedule, &built_in);
    char *a, *b;
    for (char *x = strtok_r(own.data, " ", &a), *y = strtok_r(built_in.data, " ", &b); x && y; x = strtok_r(NULL, " ", &a), y = strtok_r(NULL, " ", &b))
        if (strcmp(x, y) != 0) text_printf(out, " %s", x);
    if (!s->best) text_puts(out, " as built in");
    text_free(&own), text_free(&built_in);
}

static void put_search(const TuneKernel *k, const Search *s, Text *out) {
    for (int p = 0; p < s->points; p++) {
        double before = search_typical(s, 0, p), after = search_typical(s, s->best, p);
        if (!before) continue;
        text_printf(out, "%-40.40s %5d %12.1f %12.1f %7.1f%%", p ? "" : k->plan->name, s->rows[p], before / 1e3, after / 1e3, 100 * (1 - after / before));
        if (p == 0) {
            text_puts(out, " ");
            if (s->done) put_difference(s, out);
            else text_puts(out, " not finished");
        }
        text_puts(out, "\n");
    }
}

static void put_table(const Tune *t, Text *out) {
    text_printf(out, "%-40s %5s %12s %12s %8s  %s\n", "kernel", "rows", "built-in us", "tuned us", "gain", "schedule");
    for (int i = 0; i < t->kernel_count; i++)
        for (int g = 0; g < SCHEDULE_GROUPS; g++)
            if (t->kernels[i].searches[g].arm_count > 1) put_search(&t->kernels[i], &t->kernels[i].searches[g], out);
    const Whole *w = &t->whole;
    if (!w->measured) return;
    text_printf(out, "\nthe whole model, in turns with and without tuning:\n");
    text_printf(out, "prompt    %10.2f ms  %10.2f ms %7.1f%%\n", w->before[0] * 1e3, w->after[0] * 1e3, 100 * (1 - w->after[0] / w->before[0]));
    if (w->before[1] > 0)
        text_printf(out, "one token %10.2f ms  %10.2f ms %7.1f%%\n", w->before[1] * 1e3, w->after[1] * 1e3, 100 * (1 - w->after[1] / w->before[1]));
}

static void put_json(const Tune *t, Text *out) {
    text_puts(out, "{\"database\": ");
    json_text(out, tune_db_path(t->db));
    text_printf(out, ", \"target\": \"%s\", \"threads\": %d, \"steps\": %d, ", t->build.target->name, t->threads, t->steps);
    text_printf(out, "\"finished\": %s, \"seconds\": %.3f, \"kernels\": [", all_done(t) ? "true" : "false", seconds_now() - t->began);
    bool any = false;
    for (int i = 0; i < t->kernel_count; i++)
        for (int g = 0; g < SCHEDULE_GROUPS; g++) {
            const Search *s = &t->kernels[i].searches[g];
            for (int p = 0; p < s->points && s->arm_count > 1; p++) {
                text_printf(out, "%s\n{\"kernel\": ", any ? "," : "");
                json_text(out, t->kernels[i].plan->name);
                text_puts(out, ", \"shape\": ");
                json_text(out, t->kernels[i].plan->kernel->schedule_key.shape);
                text_printf(out, ", \"rows\": %d, \"built_in_us\": %.3f, \"tuned_us\": %.3f, ", s->rows[p], search_typical(s, 0, p) / 1e3,
                            search_typical(s, s->best, p) / 1e3);
                text_printf(out, "\"finished\": %s, \"schedule\": \"", s->done ? "true" : "false");
                schedule_text(&s->arms[s->best].schedule, out);
                text_puts(out, "\"}");
                any = true;
            }
        }
    text_puts(out, "]");
    if (t->whole.measured)
        text_printf(out, ", \"prompt_ms\": [%.4f, %.4f], \"token_ms\": [%.4f, %.4f]", t->whole.before[0] * 1e3, t->whole.after[0] * 1e3, t->whole.before[1] * 1e3,
                    t->whole.after[1] * 1e3);
    text_puts(out, "}\n");
}

static void report(const Tune *t) {
    Text out = {0};
    if (t->json) put_json(t, &out);
    else put_table(t, &out);
    print_out(&out);
    text_free(&out);
    if (t->json) return;
    if (!t->steps) fprintf(stderr, "all of it was found in %s; --retune measures anew\n", tune_db_path(t->db));
    else
        fprintf(stderr, "%d step%s measured in %.1f s, kept in %s%s\n", t->steps, t->steps == 1 ? "" : "s", seconds_now() - t->began, tune_db_path(t->db),
                t->ended_early ? "; the budget was not enough for all: run it again to go on" : "");
}

// ---- the command ---------------------------------------------------------------------------------------------------------------------------

static bool measure_and_compare(Tune *t, int *code) {
    Program base = {0}, forms = {0};
    BuildOptions options = t->options;
    options.no_tuning = true;
    if (!program_open(&base, t->path, &options, code, t->diags)) return false;
    bool done = compile_forms(t, &forms, &base) && measure_all(t);
    if (t->stand.engine) stand_close(&t->stand);
    if (done && t->ended_early)   // by what there is, but not stored as found
        for (int i = 0; i < t->kernel_count; i++)
            for (int g = 0; g < SCHEDULE_GROUPS; g++)
                if (!t->kernels[i].searches[g].done) t->kernels[i].searches[g].best = 0;
    done = done && compare_whole(t, &base);
    program_close(&forms);
    program_close(&base);
    return done;
}

static int tune(Tune *t) {
    int code = EXIT_INPUT;
    t->arena = arena_new();
    t->diags = diags_new();
    t->began = seconds_now();
    t->deadline = t->began + t->budget;
    if (!t->threads) t->threads = tn_team_available();
    t->options.no_tuning = true;
    const Target *target = build_target(&t->options, t->diags);
    bool done = target, opened = false;
    if (done && !target_runs_here(target)) {
        diag_error(t->diags, NOWHERE, "this machine cannot run code for %s, and only what runs here can be measured", target->name);
        code = EXIT_MACHINE;
        done = false;
    }
    done = done && (t->db = tune_db_open(t->diags)) && (opened = build_open(&t->build, t->path, &t->options, t->diags)) && open_kernels(t);
    if (done && !t->kernel_count && !t->json) fprintf(stderr, "this model has no kernel with a schedule\n");
    else if (done && (all_done(t) || measure_and_compare(t, &code))) report(t);
    else done = false;
    int said = finish(t->diags);
    if (opened) build_close(&t->build);
    tune_db_close(t->db);
    arena_free(t->arena);
    return done ? said : code > said ? code : said;
}

static int run(const Command *command, int argc, char **argv) {
    Tune t = {0};
    build_options_init(&t.options);
    Options options = {.command = command, .arguments = &t.path, .argument_room = 1, .argument_least = 1};
    option_add(&options, "--threads", OPTION_COUNT, &t.threads, "N", "threads (default: as many as this process may use)");
    option_add(&options, "--budget", OPTION_COUNT, &t.budget, "SECONDS", "stop measuring after so long; running it again goes on");
    option_add(&options, "--retune", OPTION_FLAG, &t.retune, NULL, "forget what was measured of this model's kernels");
    option_add(&options, "--json", OPTION_FLAG, &t.json, NULL, "one JSON object about what was found");
    build_options_add(&options, &t.options);
    cache_options_add(&options, &t.options);
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    return tune(&t);
}

const Command tune_command = {
    "tune",
    "MODEL",
    "measure schedules on this machine; compile and run use what it finds",
    "Runs the model with other schedules of its kernels (blocks of rows, order of tasks, how far ahead weights are asked for) and keeps the fastest of\n"
    "each, by kernel, target and processor, in $XDG_DATA_HOME/tenon/tuning.db (~/.local/share/tenon). Schedules change no bit of any result.\n"
    "Everything measured is kept at once: a run that is interrupted goes on where it was.",
    "  tenon tune smollm2.gguf\n  tenon tune model.yaml --quant w8a8 --threads 2 --budget 120\n"
    "  tenon run smollm2.gguf --no-tuning -p Hello\n      without what was found\n",
    run,
};
