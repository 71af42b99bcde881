// What a run did, after it: how long its tokens took, and what a bound of memory cost.
#include "runtime/run.h"
#include <stdlib.h>

static int metrics_compare(const void *a, const void *b) {
    unsigned long long x = *(const unsigned long long *)a, y = *(const unsigned long long *)b;
    return x < y ? -1 : x > y;
}

// Milliseconds from one step's tokens to the next one's.
static void metrics_latency(const tn_engine *engine) {
    unsigned long long *took = calloc(ENGINE_TOKENS, sizeof *took);
    int last = engine->token_count - 1, first = last >= ENGINE_TOKENS ? last - ENGINE_TOKENS + 1 : 0, count = last - first;
    if (took && count > 0) {
        for (int i = 0; i < count; i++)
            took[i] = engine->token_ns[(first + i + 1) % ENGINE_TOKENS] - engine->token_ns[(first + i) % ENGINE_TOKENS];
        qsort(took, (size_t)count, sizeof *took, metrics_compare);
        printf(", \"step_ms\": {\"steps\": %d, \"median\": %.3f, \"p99\": %.3f, \"most\": %.3f}", count, (double)took[count / 2] * 1e-6,
               (double)took[(int)((double)(count - 1) * 0.99 + 0.5)] * 1e-6, (double)took[count - 1] * 1e-6);
    }
    free(took);
}

void tn_run_json_metrics(const Run *run) {
    tn_paging paging;
    metrics_latency(run->engine);
    if (!tn_paging_of(run->engine, &paging))
        return;
    printf(", \"paging\": {\"budget\": %llu, \"pinned\": %llu, \"room\": %llu, \"held\": %llu, \"visits\": %llu, \"hits\": %llu, \"bytes_read\": %llu, "
           "\"guesses\": %llu, \"right\": %llu, \"waited\": %.3f}", paging.budget, paging.pinned, paging.room, paging.held, paging.visits, paging.hits,
           paging.bytes_read, paging.guesses, paging.right, paging.waited);
}

void tn_run_show_paging(const Run *run) {
    tn_paging paging;
    if (!tn_paging_of(run->engine, &paging))
        return;
    fprintf(stderr, "[%.0f MiB of weights kept, %.0f MiB for experts; %llu of %llu expert visits found theirs in memory; %.2f GB read, %.2f s waited",
            (double)paging.pinned / (1 << 20), (double)paging.room / (1 << 20), paging.hits, paging.visits, (double)paging.bytes_read * 1e-9, paging.waited);
    if (paging.guesses)
        fprintf(stderr, "; %llu of %llu guesses right", paging.right, paging.guesses);
    fputs("]\n", stderr);
}
