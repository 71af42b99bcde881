// Deciding which schedule is best from few and noisy samples. All arms are measured in turns, so that a neighbour's burst of work falls on all of
// them; what is compared is the lower quartile, because noise only adds: where neighbours are quiet half of the time, a median says how busy they were.
// It is taken as a share of the built-in arm's, the mean over all sizes of steps of the group; an arm is given up as soon as it loses by more than so
// few samples leave in doubt. Nothing but samples is state: with those of an earlier run added, a search goes on where it was.
#include "driver/tune.h"

#include <stdlib.h>
#include <string.h>

static const struct { int samples; double ratio; } stages[] = {{2, 1.25}, {3, 1.12}, {5, 1.06}, {7, 1.03}};
static const double least_gain = 0.985, most_loss = 1.02;   // of the built-in time: of all sizes of steps, and of any one

void search_init(Search *search, Arena *arena, const ScheduleKey *key, ScheduleGroup group, int most_rows) {
    Schedule schedules[MAX_ARMS];
    *search = (Search){.arena = arena, .arm_count = schedule_arms(key, group, schedules)};
    search->arms = ARENA_ARRAY(arena, Arm, search->arm_count);
    for (int i = 0; i < search->arm_count; i++) search->arms[i] = (Arm){.schedule = schedules[i], .form = i ? -1 : 0, .alive = true};
    for (const int *rows = schedule_rows(key, group); *rows && search->points < MAX_POINTS; rows++) {
        int clamped = *rows < most_rows ? *rows : most_rows;
        if (!search->points || search->rows[search->points - 1] != clamped) search->rows[search->points++] = clamped;
    }
    search->done = search->arm_count < 2;
}

static int point_of(const Search *search, int rows) {
    for (int p = 0; p < search->points; p++)
        if (search->rows[p] == rows) return p;
    return -1;
}

void search_add(Search *search, int rows, const Schedule *schedule, double ns) {
    int point = point_of(search, rows);
    for (int i = 0; i < search->arm_count && point >= 0; i++)
        if (schedule_equal(&search->arms[i].schedule, schedule)) {
            Samples *s = &search->arms[i].at[point];
            ARENA_PUSH(search->arena, s->ns, s->count, s->capacity) = ns;
        }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double search_typical(const Search *search, int arm, int point) {
    const Samples *s = &search->arms[arm].at[point];
    double sorted[256];
    int n = s->count < (int)COUNT_OF(sorted) ? s->count : (int)COUNT_OF(sorted);
    if (!n) return 0;
    memcpy(sorted, s->ns + s->count - n, sizeof *sorted * (size_t)n);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    return sorted[n / 4];
}

// Its time as a share of the built-in one's, the mean over the sizes of steps that both were measured in; 1 without any.
static double score(const Search *search, int arm) {
    double total = 0;
    int count = 0;
    for (int p = 0; p < search->points; p++) {
        double own = search_typical(search, arm, p), built_in = search_typical(search, 0, p);
        if (own > 0 && built_in > 0) total += own / built_in, count++;
    }
    return count ? total / count : 1;
}

int search_next(const Search *search, int rows, int most, unsigned random) {
    int point = point_of(search, rows), least = most, ties = 0, chosen = -1;
    if (search->done || point < 0) return -1;
    for (int i = 0; i < search->arm_count; i++)
        if (search->arms[i].alive && search->arms[i].at[point].count < least) least = search->arms[i].at[point].count;
    for (int i = 0; i < search->arm_count && least < most; i++)
        if (search->arms[i].alive && search->arms[i].at[point].count == least && random % (unsigned)++ties == 0) chosen = i;
    return chosen;
}

// The samples that every arm in the race has in every size of steps.
static int samples_of_all(const Search *search) {
    int least = 1 << 20;
    for (int i = 0; i < search->arm_count; i++)
        for (int p = 0; p < search->points && search->arms[i].alive; p++)
            if (search->arms[i].at[p].count < least) least = search->arms[i].at[p].count;
    return least;
}

// A schedule serves all sizes of steps, so it must not lose in one what it wins in another.
static bool loses_somewhere(const Search *search, int arm) {
    for (int p = 0; p < search->points; p++)
        if (search_typical(search, arm, p) > most_loss * search_typical(search, 0, p)) return true;
    return false;
}

static int best_of(const Search *search, bool everywhere) {
    int best = 0;
    for (int i = 1; i < search->arm_count; i++)
        if (search->arms[i].alive && !(everywhere && loses_somewhere(search, i)) && score(search, i) < score(search, best)) best = i;
    return best;
}

void search_judge(Search *search, int most) {
    if (search->done) return;
    int samples = samples_of_all(search), alive = 0, best = best_of(search, false);
    double ratio = 0;
    for (size_t i = 0; i < COUNT_OF(stages); i++)
        if (samples >= stages[i].samples) ratio = stages[i].ratio;
    for (int i = 0; i < search->arm_count; i++) {
        if (i && ratio > 0 && score(search, i) > ratio * score(search, best)) search->arms[i].alive = false;
        alive += search->arms[i].alive;
    }
    if (alive == 1 || samples >= most) search_settle(search);
}

void search_settle(Search *search) {
    int best = best_of(search, true);
    search->done = true;
    search->best = score(search, best) < least_gain ? best : 0;
}

int search_wanted(const Search *search, int most) {
    int wanted = 0;
    for (int i = 0; i < search->arm_count && !search->done; i++)
        for (int p = 0; p < search->points && search->arms[i].alive; p++)
            if (search->arms[i].at[p].count < most) wanted += most - search->arms[i].at[p].count;
    return wanted;
}
