// Drawing against a plain sampler that sorts the whole vocabulary: random logits with ties, NaN and infinities, of widths around whole blocks, every
// parameter; with and without the largest of each block.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/engine.h"

enum { MOST = 3000, DRAWS = 12 };

typedef struct { uint64_t state; } Dice;

static uint64_t roll(Dice *dice) {
    dice->state = dice->state * 6364136223846793005ull + 1442695040888963407ull;
    return dice->state >> 33;
}

static int below(Dice *dice, int n) { return (int)(roll(dice) % (uint64_t)n); }
static double unit(Dice *dice) { return (double)roll(dice) / (double)(1ull << 31); }

// ---- the plain sampler --------------------------------------------------------------------------------------------------------

typedef struct { float logit; int id; double p; } Ranked;

static int by_rank(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit) : (x->id > y->id) - (x->id < y->id);
}

static int by_id(const void *a, const void *b) { return ((const Ranked *)a)->id - ((const Ranked *)b)->id; }

static double random_number(uint64_t seed, uint64_t place) {      // as sampler.c says: splitmix64's finisher
    uint64_t x = seed + (place + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    return (double)(x >> 11) * 0x1p-53;
}

static int plain_likeliest(const float *x, int width) {
    int best = -1;
    for (int i = 0; i < width; i++)
        if (x[i] == x[i] && (best < 0 || x[i] > x[best]))
            best = i;
    return best < 0 ? 0 : best;
}

static int plain_draw(const float *logits, int width, const int *history, int length, const tn_sampling *how) {
    static float x[MOST];
    static Ranked all[MOST];
    bool nucleus = how->top_p > 0 && how->top_p < 1, seen[MOST] = {false};
    int count = 0, kept = 0;
    memcpy(x, logits, (size_t)width * sizeof *x);
    for (int i = 0; how->repeat_penalty > 0 && i < length; i++)
        if (history[i] >= 0 && history[i] < width && !seen[history[i]]) {
            seen[history[i]] = true;
            x[history[i]] = (float)(x[history[i]] > 0 ? x[history[i]] / how->repeat_penalty : x[history[i]] * how->repeat_penalty);
        }
    int best = plain_likeliest(x, width);
    if (!(how->temperature > 0) || !(fabsf(x[best]) < INFINITY))
        return best;
    for (int i = 0; i < width; i++)
        if (x[i] > -INFINITY)
            all[count++] = (Ranked){x[i], i, tn_exp(((double)x[i] - x[best]) * (1 / how->temperature))};
    qsort(all, (size_t)count, sizeof *all, by_rank);
    if (how->top_k > 0 && how->top_k < count)
        count = how->top_k;
    double total = 0, share = 0, sum = 0;
    for (int i = 0; i < count; i++)
        total += all[i].p;
    for (; kept < count; kept++) {
        if (kept > 0 && ((nucleus && share >= how->top_p * total) || all[kept].p < how->min_p))
            break;
        share += all[kept].p;
    }
    if (how->top_k <= 0 && !nucleus && how->min_p <= 0)
        qsort(all, (size_t)kept, sizeof *all, by_id);
    double wanted = random_number(how->seed, (uint64_t)length) * share;
    for (int i = 0; i < kept; i++)
        if ((sum += all[i].p) > wanted)
            return all[i].id;
    return all[kept - 1].id;
}

// ---- the comparison -----------------------------------------------------------------------------------------------------------

static int make_logits(Dice *dice, float *x) {
    static const int widths[] = {1, 2, 63, 64, 65, 127, 128, 129, 640, 1000, 2048, MOST};
    int width = below(dice, 2) ? widths[below(dice, 12)] : 1 + below(dice, MOST);
    int odd = below(dice, 4), steps = below(dice, 3) ? 0 : 1 + below(dice, 8);
    double spread = 0.1 + 10 * unit(dice) * unit(dice);
    for (int i = 0; i < width; i++) {
        double bell = (unit(dice) + unit(dice) + unit(dice) + unit(dice) - 2) * spread;
        x[i] = (float)(steps ? floor(bell * steps) / steps : bell);       // ties
        if (odd && below(dice, 10) == 0)
            x[i] = odd == 1 || below(dice, 2) ? -INFINITY : below(dice, 50) ? NAN : INFINITY;
    }
    if (below(dice, 40) == 0)
        for (int i = 0; i < width; i++)
            x[i] = below(dice, 2) ? NAN : -INFINITY;
    return width;
}

static tn_sampling make_sampling(Dice *dice) {
    static const double shares[] = {1e-9, 0.05, 0.5, 0.9, 0.95, 0.999, 1 - 1e-12};
    tn_sampling how = {.temperature = below(dice, 6) ? 0.05 + 2 * unit(dice) : 0, .seed = roll(dice)};
    if (below(dice, 2))
        how.top_k = below(dice, 3) ? 1 + below(dice, 50) : 1 + below(dice, MOST + 100);
    if (below(dice, 2))
        how.top_p = shares[below(dice, 7)];
    if (below(dice, 3) == 0)
        how.min_p = below(dice, 2) ? unit(dice) : 1e-4 * unit(dice);
    if (below(dice, 4) == 0)
        how.repeat_penalty = 0.8 + unit(dice);
    return how;
}

static void test_draws(void **state) {
    static float x[MOST], largest[MOST / TN_BLOCK + 1];
    int history[40], spread[4] = {0};
    (void)state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        Dice dice = {seed};
        int width = make_logits(&dice, x);
        for (int b = 0; b * TN_BLOCK < width; b++) {
            largest[b] = -INFINITY;
            for (int i = b * TN_BLOCK; i < width && i < (b + 1) * TN_BLOCK; i++)
                largest[b] = x[i] > largest[b] ? x[i] : largest[b];
        }
        for (int i = 0; i < 40; i++)
            history[i] = below(&dice, width + 2) - 1;
        tn_sampling how = make_sampling(&dice);
        for (int length = 40 - DRAWS; length < 40; length++) {
            tn_failure failure = {0};
            int want = plain_draw(x, width, history, length, &how), got = tn_draw(x, NULL, width, history, length, &how, &failure);
            int found = tn_draw(x, largest, width, history, length, &how, &failure);
            if (got != want || found != want)
                fail_msg("seed %llu, length %d: %d and %d, not %d (width %d, temperature %g, top-k %d, top-p %g, min-p %g, penalty %g)", (unsigned long long)seed,
                         length, got, found, want, width, how.temperature, how.top_k, how.top_p, how.min_p, how.repeat_penalty);
            spread[want == plain_likeliest(x, width) ? 0 : want < TN_BLOCK ? 1 : want < width / 2 ? 2 : 3]++;
        }
    }
    for (int i = 0; i < 4; i++)
        assert_true(spread[i] > 400);
}

// Extremes of the parameters and of the logits.
static void test_extremes(void **state) {
    (void)state;
    static float flat[MOST], far[MOST];
    int counts[3] = {0};
    for (int i = 0; i < MOST; i++)
        far[i] = (float)(-100 * i);
    far[MOST - 1] = 0.5f;
    for (int i = 0; i < 300; i++) {
        int id = tn_draw(flat, NULL, MOST, NULL, i, &(tn_sampling){.temperature = 1, .top_p = 0.5}, NULL);
        assert_in_range(id, 0, MOST / 2 - 1);                                     // ties go to the lower ids
        counts[id * 6 / MOST]++;
        assert_in_range(tn_draw(flat, NULL, MOST, NULL, i, &(tn_sampling){.temperature = 1e300, .top_k = 7}, NULL), 0, 6);
        id = tn_draw(far, NULL, MOST, NULL, i, &(tn_sampling){.temperature = 1}, NULL);
        assert_true(id == 0 || id == MOST - 1);
        assert_int_equal(tn_draw(far, NULL, MOST, NULL, i, &(tn_sampling){.temperature = 1e-310}, NULL), MOST - 1);
        assert_int_equal(tn_draw(far, NULL, MOST, NULL, i, &(tn_sampling){.temperature = 5e-324, .top_p = 0.9, .min_p = 0.1}, NULL), MOST - 1);
        assert_in_range(tn_draw(far, NULL, MOST, NULL, i, &(tn_sampling){.temperature = INFINITY, .top_k = 2 * MOST}, NULL), 0, MOST - 1);
    }
    assert_true(counts[0] > 50 && counts[1] > 50 && counts[2] > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_draws), cmocka_unit_test(test_extremes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
