// Choosing the next token from its logits.
//
// Everything here gives the same bits on every machine: exp is our own, sums run in the order of ids (or of ranks, where ranks decide), and
// the random number is a hash of the seed and the sequence's length, so that it depends neither on company nor on what was drawn before.
//
// Ranks are logit, then lower id. Candidates are kept in a heap and popped only as far as top-k and top-p need, so a large vocabulary is
// walked twice and never sorted.
#include "runtime/engine.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const double sampler_taylor[14] = {      // 1/13!, 1/12!, … 1/0!
    1.6059043836821613e-10, 2.0876756987868099e-09, 2.5052108385441719e-08, 2.7557319223985891e-07, 2.7557319223985893e-06, 2.4801587301587302e-05,
    1.9841269841269841e-04, 1.3888888888888889e-03, 8.3333333333333332e-03, 4.1666666666666664e-02, 1.6666666666666666e-01, 0.5, 1, 1};

// exp(x) = 2^n · exp(r), |r| ≤ ln2/2, ln2 split in two so that n·ln2 is exact (Cody and Waite); exp(r) by its Taylor series to r^13, whose
// remainder is below 2^-58. Plain multiplications and additions: no libm, no fused operation (contraction is off).
double tn_exp(double x) {
    const double log2e = 1.4426950408889634, high = 6.93147180369123816490e-01, low = 1.90821492927058770002e-10;
    if (!(x > -700))
        return 0;
    if (x > 700)
        x = 700;
    double n = (double)(int)(x * log2e + (x < 0 ? -0.5 : 0.5));
    double r = (x - n * high) - n * low, sum = sampler_taylor[0];
    for (int i = 1; i < 14; i++)
        sum = sum * r + sampler_taylor[i];
    uint64_t bits = (uint64_t)(int64_t)(1023 + (int)n) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

// splitmix64's finisher over seed and place; 53 bits in [0, 1).
static double sampler_uniform(uint64_t seed, uint64_t place) {
    uint64_t x = seed + (place + 1) * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    x ^= x >> 31;
    return (double)(x >> 11) * 0x1p-53;
}

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

// The best candidate goes to the place behind the heap that shrank: ranks end up in heap[count-1], heap[count-2], …
static void sampler_pop(Candidate *heap, int count) {
    Candidate best = heap[0];
    heap[0] = heap[count - 1];
    sampler_sink(heap, count - 1, 0);
    heap[count - 1] = best;
}

// The largest, and where it stands first. NaN is never larger, and never chosen while there is a number. Logits are read once: the largest of each
// block goes by in lanes, and only the block that won is looked through again.
typedef float SamplerLanes __attribute__((vector_size(16)));
typedef int32_t SamplerMask __attribute__((vector_size(16)));
enum { SAMPLER_LANES = sizeof(SamplerLanes) / sizeof(float), SAMPLER_CHAINS = 4, SAMPLER_BLOCK = 1024 };

static inline SamplerLanes sampler_more(SamplerLanes most, SamplerLanes x) {
    SamplerMask more = (SamplerMask)(x > most);
    return (SamplerLanes)(((SamplerMask)x & more) | ((SamplerMask)most & ~more));
}

static float sampler_largest(const float *logits) {
    const SamplerLanes least = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    SamplerLanes most[SAMPLER_CHAINS] = {least, least, least, least}, x;
    for (int i = 0; i < SAMPLER_BLOCK; i += SAMPLER_CHAINS * SAMPLER_LANES)
        for (int c = 0; c < SAMPLER_CHAINS; c++) {
            memcpy(&x, logits + i + c * SAMPLER_LANES, sizeof x);
            most[c] = sampler_more(most[c], x);
        }
    for (int c = 1; c < SAMPLER_CHAINS; c++)
        most[0] = sampler_more(most[0], most[c]);
    float largest = -INFINITY;
    for (int lane = 0; lane < SAMPLER_LANES; lane++)
        largest = most[0][lane] > largest ? most[0][lane] : largest;
    return largest;
}

static int sampler_greedy(const float *logits, int width) {
    float largest = -INFINITY;
    int first = 0, i = 0;
    for (; i + SAMPLER_BLOCK <= width; i += SAMPLER_BLOCK) {
        float block = sampler_largest(logits + i);
        if (block > largest) {
            largest = block;
            first = i;
        }
    }
    for (; i < width; i++)
        if (logits[i] > largest) {
            largest = logits[i];
            first = i;
        }
    while (first < width && logits[first] != largest)
        first++;
    return first < width ? first : 0;
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

// Without a limit ranks do not matter: a draw in the order of ids. `p` has room for them all.
static int sampler_any(const Candidate *all, int count, float best, const tn_sampling *how, double uniform, double *p) {
    double scale = 1 / how->temperature, total = 0, sum = 0;
    for (int i = 0; i < count; i++)
        total += p[i] = tn_exp(((double)all[i].logit - best) * scale);
    for (int i = 0; i < count; i++)
        if ((sum += p[i]) > uniform * total)
            return all[i].id;
    return all[count - 1].id;
}

// Top-k, then top-p of what is left, then min-p; then the draw. p[rank] are the weights of those that are kept.
static int sampler_ranked(Candidate *heap, int count, const tn_sampling *how, double uniform, double *p) {
    double best = heap[0].logit, scale = 1 / how->temperature, total = 0, kept = 0, sum = 0;
    int keep = how->top_k > 0 && how->top_k < count ? how->top_k : count, ranked = 0, chosen = 0;
    bool nucleus = how->top_p > 0 && how->top_p < 1;
    for (int i = 0; keep == count && nucleus && i < count; i++)
        total += tn_exp((heap[i].logit - best) * scale);
    for (; keep < count && ranked < keep; ranked++) {            // top-k first: its total is what top-p is a share of
        sampler_pop(heap, count - ranked);
        total += p[ranked] = tn_exp((heap[count - 1 - ranked].logit - best) * scale);
    }
    for (; chosen < keep; chosen++) {
        if (chosen == ranked) {
            sampler_pop(heap, count - ranked);
            p[ranked] = tn_exp((heap[count - 1 - ranked].logit - best) * scale);
            ranked++;
        }
        if (chosen > 0 && ((nucleus && kept >= how->top_p * total) || p[chosen] < how->min_p))
            break;
        kept += p[chosen];
    }
    for (int i = 0; i < chosen; i++)
        if ((sum += p[i]) > uniform * kept)
            return heap[count - 1 - i].id;
    return heap[count - 1].id;
}

int tn_draw(const float *logits, int width, const int *history, int length, const tn_sampling *sampling, tn_failure *failure) {
    bool penalty = sampling->repeat_penalty > 0 && sampling->repeat_penalty != 1;
    if (!penalty && !(sampling->temperature > 0))
        return sampler_greedy(logits, width);
    size_t n = (size_t)width;
    double *p = malloc(n * (sizeof(double) + sizeof(Candidate) + sizeof(float) + 1));
    if (!p)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory to sample from %d logits", width);
    Candidate *all = (Candidate *)(p + n);
    float *own = (float *)(all + n);
    memcpy(own, logits, n * sizeof *own);
    if (penalty) {
        unsigned char *seen = memset(own + n, 0, n);
        sampler_penalize(own, width, history, length, sampling->repeat_penalty, seen);
    }
    int id = sampler_greedy(own, width), count = 0;
    double uniform = sampler_uniform(sampling->seed, (uint64_t)length);
    bool ranks = sampling->top_k > 0 || (sampling->top_p > 0 && sampling->top_p < 1) || sampling->min_p > 0;
    for (int i = 0; sampling->temperature > 0 && i < width; i++)
        if (own[i] > -INFINITY)                       // neither -inf nor NaN
            all[count++] = (Candidate){own[i], i};
    if (count && ranks && own[id] < INFINITY) {
        for (int i = count / 2 - 1; i >= 0; i--)
            sampler_sink(all, count, i);
        id = sampler_ranked(all, count, sampling, uniform, p);
    } else if (count && own[id] < INFINITY) {
        id = sampler_any(all, count, own[id], sampling, uniform, p);
    }
    free(p);
    return id;
}

int tn_sample(const tn_engine *engine, int sequence, const float *logits, const tn_sampling *sampling) {
    tn_failure failure = {0};
    int id = tn_draw(logits, tn_width(engine), tn_tokens(engine, sequence), tn_length(engine, sequence), sampling, &failure);
    return failure.code ? sampler_greedy(logits, tn_width(engine)) : id;     // no memory for candidates: the likeliest
}
