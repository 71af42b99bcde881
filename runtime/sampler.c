// Choosing the next token from its logits.
//
// Everything here gives the same bits on every machine: exp is our own, sums run in the order of ids (or of ranks, where ranks decide), and
// the random number is a hash of the seed and the sequence's length, so that it depends neither on company nor on what was drawn before.
//
// A vocabulary is large, and few of its tokens matter. Of each block of logits the largest is known: the program left it when it made them, or it is
// looked for here. The likeliest token is looked for in one block; the k likeliest are in blocks whose largest is not below the k-th of the largest,
// and what follows ranks (logit, then lower id) is a heap of those that reach a bound, popped only as far as top-k, top-p and min-p need.
#include "runtime/engine.h"
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// ---- exp ------------------------------------------------------------------------------------------------------------------

static const double sampler_taylor[14] = {      // 1/13!, 1/12!, … 1/0!
    1.6059043836821613e-10, 2.0876756987868099e-09, 2.5052108385441719e-08, 2.7557319223985891e-07, 2.7557319223985893e-06, 2.4801587301587302e-05,
    1.9841269841269841e-04, 1.3888888888888889e-03, 8.3333333333333332e-03, 4.1666666666666664e-02, 1.6666666666666666e-01, 0.5, 1, 1};

typedef double SamplerDoubles __attribute__((vector_size(16)));
typedef uint64_t SamplerBits __attribute__((vector_size(16)));

static inline SamplerDoubles sampler_select(SamplerBits mask, SamplerDoubles a, SamplerDoubles b) {
    return (SamplerDoubles)(((SamplerBits)a & mask) | ((SamplerBits)b & ~mask));
}

// exp(x) = 2^n · exp(r), |r| ≤ ln2/2, ln2 split in two so that n·ln2 is exact (Cody and Waite); exp(r) by its Taylor series to r^13, whose
// remainder is below 2^-58. Plain multiplications and additions: no libm, no fused operation (contraction is off). 0 below -700 and for NaN.
static inline SamplerDoubles sampler_exp(SamplerDoubles x) {
    const double log2e = 1.4426950408889634, high = 6.93147180369123816490e-01, low = 1.90821492927058770002e-10, magic = 0x1.8p52;
    const SamplerDoubles most = {700, 700}, shift = {magic, magic};
    SamplerBits some = (SamplerBits)(x > -700.0);
    x = sampler_select((SamplerBits)(x > most), most, x);
    SamplerDoubles shifted = x * log2e + shift, n = shifted - shift;      // n is also in the last bits of `shifted`
    SamplerDoubles r = (x - n * high) - n * low, sum = r * sampler_taylor[0] + sampler_taylor[1];
    for (int i = 2; i < 14; i += 4)
        sum = (((sum * r + sampler_taylor[i]) * r + sampler_taylor[i + 1]) * r + sampler_taylor[i + 2]) * r + sampler_taylor[i + 3];
    SamplerDoubles power = (SamplerDoubles)(((SamplerBits)shifted - (SamplerBits)shift + 1023) << 52);
    return (SamplerDoubles)((SamplerBits)(sum * power) & some);
}

double tn_exp(double x) { return sampler_exp((SamplerDoubles){x, x})[0]; }

// splitmix64's finisher over seed and place; 53 bits in [0, 1).
static double sampler_uniform(uint64_t seed, uint64_t place) {
    uint64_t x = seed + (place + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    return (double)(x >> 11) * 0x1p-53;
}

// ---- the largest of each block ----------------------------------------------------------------------------------------------

typedef float SamplerLanes __attribute__((vector_size(16)));
typedef int32_t SamplerMask __attribute__((vector_size(16)));
enum { SAMPLER_LANES = sizeof(SamplerLanes) / sizeof(float), SAMPLER_CHAINS = 4 };

static inline SamplerLanes sampler_more(SamplerLanes most, SamplerLanes x) {
    SamplerMask more = (SamplerMask)(x > most);
    return (SamplerLanes)(((SamplerMask)x & more) | ((SamplerMask)most & ~more));
}

// Of up to TN_BLOCK logits. NaN is never larger; -infinity when there is no number.
static float sampler_largest(const float *logits, int count) {
    const SamplerLanes least = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    SamplerLanes most[SAMPLER_CHAINS] = {least, least, least, least}, x;
    float largest = -INFINITY;
    if (count < TN_BLOCK) {
        for (int i = 0; i < count; i++)
            largest = logits[i] > largest ? logits[i] : largest;
        return largest;
    }
    for (int i = 0; i < TN_BLOCK; i += SAMPLER_CHAINS * SAMPLER_LANES)
        for (int c = 0; c < SAMPLER_CHAINS; c++) {
            memcpy(&x, logits + i + c * SAMPLER_LANES, sizeof x);
            most[c] = sampler_more(most[c], x);
        }
    for (int c = 1; c < SAMPLER_CHAINS; c++)
        most[0] = sampler_more(most[0], most[c]);
    for (int lane = 0; lane < SAMPLER_LANES; lane++)
        largest = most[0][lane] > largest ? most[0][lane] : largest;
    return largest;
}

typedef struct { const float *values, *largest; int width, blocks; } Logits;     // largest: of each block, or NULL

static int sampler_count(const Logits *l, int block) { return l->width - block * TN_BLOCK < TN_BLOCK ? l->width - block * TN_BLOCK : TN_BLOCK; }

// The largest, and where it stands first. NaN is never chosen while there is a number.
static int sampler_greedy(const Logits *l) {
    float largest = -INFINITY;
    int first = 0;
    for (int b = 0; b < l->blocks; b++) {
        float block = l->largest ? l->largest[b] : sampler_largest(l->values + b * TN_BLOCK, sampler_count(l, b));
        if (block > largest) {
            largest = block;
            first = b * TN_BLOCK;
        }
    }
    while (first < l->width && l->values[first] != largest)
        first++;
    return first < l->width ? first : 0;
}

// ---- ranks ------------------------------------------------------------------------------------------------------------------

typedef struct { float logit; int id; } Candidate;

static int sampler_before(Candidate a, Candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

static void sampler_sink(Candidate *heap, int count, int at) {
    Candidate moved = heap[at];
    for (int child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && sampler_before(heap[child + 1], heap[child]))
            child++;
        if (!sampler_before(heap[child], moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void sampler_heap(Candidate *all, int count) {
    for (int i = count / 2 - 1; i >= 0; i--)
        sampler_sink(all, count, i);
}

// The best candidate goes to the place behind the heap that shrank: ranks end up in heap[count-1], heap[count-2], …
static void sampler_pop(Candidate *heap, int count) {
    Candidate best = heap[0];
    heap[0] = heap[count - 1];
    sampler_sink(heap, count - 1, 0);
    heap[count - 1] = best;
}

// ---- drawing ----------------------------------------------------------------------------------------------------------------

// One draw. A token that is e^56 times less likely than the likeliest is never drawn: all of them together are less than a random number's last bit.
static const double sampler_depth = 56;

typedef struct {
    Logits logits;
    const tn_sampling *how;
    double best, scale, uniform;
    Candidate *blocks;             // room for one a block …
    double *sums;                  // … and the sum of its weights
    Candidate *all; double *p;     // those that reach a bound, and the weight of each rank
} Draw;

static double draw_weight(const Draw *d, float logit) { return tn_exp(((double)logit - d->best) * d->scale); }

// Weights of a block, in the order of ids; 0 behind the last.
static void draw_weights(const Draw *d, int block, double p[TN_BLOCK]) {
    const float *x = d->logits.values + block * TN_BLOCK;
    float last[TN_BLOCK];
    int count = sampler_count(&d->logits, block);
    for (int i = 0; count < TN_BLOCK && i < TN_BLOCK; i++)
        last[i] = i < count ? x[i] : -INFINITY;
    x = count < TN_BLOCK ? last : x;
    for (int i = 0; i < TN_BLOCK; i += 2) {
        SamplerDoubles pair = sampler_exp(((SamplerDoubles){(double)x[i], (double)x[i + 1]} - d->best) * d->scale);
        memcpy(p + i, &pair, sizeof pair);
    }
}

// The sum of all weights; d->sums: of each block.
static double draw_total(const Draw *d) {
    double least = d->best - sampler_depth / d->scale, total = 0, p[TN_BLOCK];
    for (int b = 0; b < d->logits.blocks; b++) {
        d->sums[b] = 0;
        if (!((double)d->logits.largest[b] >= least))
            continue;
        draw_weights(d, b, p);
        double sum[4] = {0};
        for (int i = 0; i < TN_BLOCK; i += 4)
            for (int c = 0; c < 4; c++)
                sum[c] += p[i + c];
        total += d->sums[b] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
    return total;
}

// Without a limit ranks do not matter: a draw in the order of ids.
static int draw_any(const Draw *d) {
    double wanted = d->uniform * draw_total(d), sum = 0, p[TN_BLOCK];
    int id = -1;
    for (int b = 0; b < d->logits.blocks; b++) {
        if (sum + d->sums[b] > wanted && d->sums[b] > 0) {
            draw_weights(d, b, p);
            double within = sum;
            for (int i = 0; i < sampler_count(&d->logits, b); i++)
                if (p[i] > 0) {
                    id = b * TN_BLOCK + i;
                    if ((within += p[i]) > wanted)
                        return id;
                }
        }
        sum += d->sums[b];
    }
    return id;
}

// What min-p leaves is within so much of the best, in units of the temperature: a bound, half a unit too large.
static double draw_depth(double min_p) {
    double depth = 0;
    while (depth < sampler_depth && tn_exp(-depth) >= min_p * (1 - 1e-9))
        depth += 0.5;
    return depth + 0.5 < sampler_depth ? depth + 0.5 : sampler_depth;
}

// What cannot be among the k likeliest is below the k-th of the blocks' largest.
static double draw_least(const Draw *d, int k) {
    int n = d->logits.blocks;
    for (int b = 0; b < n; b++)
        d->blocks[b] = (Candidate){d->logits.largest[b], b};
    sampler_heap(d->blocks, n);
    for (int i = 0; i < k; i++)
        sampler_pop(d->blocks, n - i);
    return (double)d->blocks[n - k].logit;
}

// Those that reach a bound become candidates, a heap; their number, -1: no memory.
static int draw_candidates(Draw *d, double least) {
    const Logits *l = &d->logits;
    int count = 0;
    for (int fill = 0; fill < 2; fill++) {
        size_t room = (size_t)count;
        count = 0;
        if (fill) {
            free(d->p);
            if (!(d->p = malloc(room * (sizeof *d->p + sizeof *d->all))))
                return -1;
            d->all = (Candidate *)(d->p + room);
        }
        for (int b = 0; b < l->blocks; b++)
            for (int i = b * TN_BLOCK, end = (double)l->largest[b] >= least ? i + sampler_count(l, b) : i; i < end; i++)
                if ((double)l->values[i] >= least && l->values[i] > -INFINITY) {      // neither -inf nor NaN
                    if (fill)
                        d->all[count] = (Candidate){l->values[i], i};
                    count++;
                }
    }
    sampler_heap(d->all, count);
    return count;
}

// Top-k, then top-p of what is left, then min-p; then the draw. p[rank] are the weights of those that are kept. `total` is what top-p is a share of,
// unless top-k says. -1: no memory; or, if `more` reach lower bounds, all those above this one are not enough for top-p.
static int draw_ranked(Draw *d, double least, double total, bool more) {
    const tn_sampling *how = d->how;
    int count = draw_candidates(d, least), keep = how->top_k > 0 && how->top_k < count ? how->top_k : count, ranked = 0, chosen = 0;
    bool nucleus = how->top_p > 0 && how->top_p < 1;
    double kept = 0, sum = 0, *p = d->p;
    if (count < 0)
        return -1;
    for (; how->top_k > 0 && ranked < keep; ranked++) {
        sampler_pop(d->all, count - ranked);
        total += p[ranked] = draw_weight(d, d->all[count - 1 - ranked].logit);
    }
    for (; chosen < keep; chosen++) {
        if (chosen == ranked) {
            sampler_pop(d->all, count - ranked);
            p[ranked] = draw_weight(d, d->all[count - 1 - ranked].logit);
            ranked++;
        }
        if (chosen > 0 && ((nucleus && kept >= how->top_p * total) || p[chosen] < how->min_p))
            break;
        kept += p[chosen];
    }
    if (chosen == count && more)
        return -1;
    for (int i = 0; i < chosen; i++)
        if ((sum += p[i]) > d->uniform * kept)
            return d->all[count - 1 - i].id;
    return d->all[count - 1].id;
}

static int draw_limited(Draw *d) {
    enum { NEAR = 8 };             // a nucleus is mostly nearer than e^8
    const tn_sampling *how = d->how;
    bool limited = how->top_k > 0, nucleus = how->top_p > 0 && how->top_p < 1;
    bool alone = how->min_p > 0 && !(limited && nucleus);             // else top-p's share is of the k likeliest, whatever min-p leaves of them
    double least = d->best - (alone ? draw_depth(how->min_p) : sampler_depth) / d->scale, near = d->best - NEAR / d->scale;
    double total = nucleus && !limited ? draw_total(d) : 0;
    if (limited && how->top_k <= d->logits.blocks) {
        double bound = draw_least(d, how->top_k);
        least = bound > least ? bound : least;
    }
    int id = nucleus && !limited && near > least ? draw_ranked(d, near, total, true) : -1;
    return id >= 0 ? id : draw_ranked(d, least, total, false);
}

static void sampler_penalize(float *logits, int width, const int *history, int length, double penalty, unsigned char *seen) {
    for (int i = 0; i < length; i++) {
        int id = history[i];
        if (id < 0 || id >= width || seen[id])
            continue;
        seen[id] = 1;
        logits[id] = (float)(logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty);
    }
}

int tn_draw(const float *logits, const float *largest, int width, const int *history, int length, const tn_sampling *how, tn_failure *failure) {
    bool penalty = how->repeat_penalty > 0 && how->repeat_penalty != 1, draws = how->temperature > 0;
    Logits l = {logits, largest, width, (width + TN_BLOCK - 1) / TN_BLOCK};
    if (!penalty && !draws)
        return sampler_greedy(&l);
    size_t blocks = (size_t)l.blocks, n = penalty ? (size_t)width : 0;
    double *sums = malloc(blocks * (sizeof(double) + sizeof(Candidate) + sizeof(float)) + n * (sizeof(float) + 1));
    if (!sums)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory to sample from %d logits", width);
    Draw d = {.how = how, .sums = sums, .blocks = (Candidate *)(sums + blocks), .uniform = sampler_uniform(how->seed, (uint64_t)length)};
    float *own = (float *)(d.blocks + blocks);
    if (penalty) {
        l.values = memcpy(own + blocks, logits, n * sizeof *own);
        l.largest = NULL;
        sampler_penalize(own + blocks, width, history, length, how->repeat_penalty, memset(own + blocks + n, 0, n));
    }
    for (int b = 0; !l.largest && b < l.blocks; b++)
        own[b] = sampler_largest(l.values + b * TN_BLOCK, sampler_count(&l, b));
    l.largest = l.largest ? l.largest : own;
    int id = sampler_greedy(&l);
    d.logits = l;
    d.best = (double)l.values[id];
    d.scale = 1 / how->temperature < DBL_MAX ? 1 / how->temperature : DBL_MAX;
    if (draws && d.best > -INFINITY && d.best < INFINITY) {
        bool ranks = how->top_k > 0 || (how->top_p > 0 && how->top_p < 1) || how->min_p > 0;
        id = ranks ? draw_limited(&d) : draw_any(&d);
    }
    free(d.p);
    free(sums);
    return id < 0 ? tn_fail(failure, TN_BAD_MACHINE, "no memory to sample from %d logits", width) : id;
}

int tn_sample(const tn_engine *engine, int sequence, const float *logits, const tn_sampling *sampling) {
    tn_failure failure = {0};
    const tn_sampling likeliest = {0};
    const float *largest = NULL;
    int width = tn_width(engine), length = tn_length(engine, sequence);
    for (int i = 0; i < engine->step.row_count; i++)
        if (engine->step.rows[i].values == logits)
            largest = tn_row_largest(engine, i);
    int id = tn_draw(logits, largest, width, tn_tokens(engine, sequence), length, sampling, &failure);
    return failure.code ? tn_draw(logits, largest, width, NULL, 0, &likeliest, &failure) : id;     // no memory for candidates: the likeliest
}
