// Compiled programs on bare arrays (execute.h).
#include "execute.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 4096, MOST_PAGES = 8 };
static const unsigned char POISON = 0xff, CANARY = 0xa5;   // floats of all ones are NaN

struct Execution {
    const tn_program *program;
    const unsigned char *weights;
    int threads;
    unsigned long long claims[8 * 8], launches, next_launches;
    unsigned char *arena, *pages[MOST_SEQUENCES][MOST_PAGES];
    pthread_barrier_t barrier;
};

void script_step(const Script *script, int step, StepArrays *a) {
    memset(a, 0, sizeof *a);
    for (int q = 0; q < script->sequences; q++) {
        int from = script->cut[q][step], to = script->cut[q][step + 1];
        if (from == to) continue;
        a->first[a->sequences] = a->tokens;
        for (int i = from; i < to; i++, a->tokens++) {
            a->ids[a->tokens] = script->ids[q][i];
            a->position[a->tokens] = i;
            a->sequence[a->tokens] = a->sequences;
            a->keep[a->tokens] = a->tokens;
        }
        a->members[a->sequences++] = q;
    }
    a->first[a->sequences] = a->tokens;
}

static unsigned char *guarded(size_t bytes) {
    size_t room = (bytes + 63) / 64 * 64;
    unsigned char *p = aligned_alloc(64, room + 2 * GUARD);
    memset(p, CANARY, room + 2 * GUARD);
    memset(p + GUARD, POISON, bytes);
    return p + GUARD;
}

static bool intact(const unsigned char *p, size_t bytes) {
    size_t room = (bytes + 63) / 64 * 64;
    for (int i = 0; i < GUARD; i++)
        if (p[i - GUARD] != CANARY || p[room + (size_t)i] != CANARY) return false;
    for (size_t i = bytes; i < room; i++)
        if (p[i] != CANARY) return false;
    return true;
}

static void release(unsigned char *p) {
    if (p) free(p - GUARD);
}

Execution *execution_new(const tn_program *program, const unsigned char *weights, int threads) {
    Execution *e = calloc(1, sizeof *e);
    e->program = program;
    e->weights = weights;
    e->threads = threads;
    e->arena = guarded(program->arena_bytes);
    pthread_barrier_init(&e->barrier, NULL, (unsigned)threads);
    return e;
}

void execution_free(Execution *e) {
    release(e->arena);
    for (int q = 0; q < MOST_SEQUENCES; q++)
        for (int p = 0; p < MOST_PAGES; p++) release(e->pages[q][p]);
    pthread_barrier_destroy(&e->barrier);
    free(e);
}

typedef struct { Execution *e; const tn_step *step; int index; } Thread;

static void wait_for_all(tn_worker *worker) { pthread_barrier_wait(&((Execution *)worker->team)->barrier); }

static void *work(void *data) {
    Thread *t = data;
    tn_worker worker = {.index = t->index, .count = t->e->threads, .barrier = wait_for_all, .team = t->e, .claims = t->e->claims, .launch = t->e->launches, .since = t->e->launches + 1};
    t->e->program->run(t->step, &worker);
    if (t->index == 0) t->e->next_launches = worker.launch;
    return NULL;
}

// What the program says of each block of a row is the largest of what it made.
static bool largest_right(const tn_program *p, const float *out, const float *largest, int rows) {
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < p->out_blocks; b++) {
            float most = -INFINITY;
            for (int i = b * TN_BLOCK; i < p->out_width && i < (b + 1) * TN_BLOCK; i++)
                if (out[(size_t)r * (size_t)p->out_width + (size_t)i] > most) most = out[(size_t)r * (size_t)p->out_width + (size_t)i];
            if (largest[(size_t)r * (size_t)p->out_blocks + (size_t)b] != most) return false;
        }
    return true;
}

int execution_step(Execution *e, const StepArrays *a, float *out) {
    const tn_program *p = e->program;
    const int *inputs[] = {a->ids};
    unsigned char *pages[MOST_SEQUENCES * MOST_PAGES];
    int rows = p->out_kind == TN_PER_SEQUENCE ? a->sequences : a->tokens;
    size_t bytes = sizeof(float) * (size_t)rows * (size_t)p->out_width;
    for (int s = 0; s < a->sequences; s++)
        for (int i = 0; i < MOST_PAGES; i++) {
            unsigned char **page = &e->pages[a->members[s]][i];
            if (!*page && p->page_bytes) *page = guarded(p->page_bytes);
            pages[s * MOST_PAGES + i] = *page;
        }
    size_t largest_bytes = sizeof(float) * (size_t)rows * (size_t)p->out_blocks;
    unsigned char *result = guarded(bytes), *largest = guarded(largest_bytes);
    memset(e->arena, POISON, p->arena_bytes);
    tn_step step = {.weights = e->weights, .arena = e->arena, .inputs = inputs, .position = a->position, .sequence = a->sequence, .first = a->first, .keep = a->keep,
                    .pages = pages, .out = (float *)(void *)result, .largest = p->out_blocks ? (float *)(void *)largest : NULL, .tokens = a->tokens, .sequences = a->sequences, .rows = a->tokens, .pages_per_sequence = MOST_PAGES};
    Thread threads[8];
    pthread_t handles[8];
    for (int i = 0; i < e->threads; i++) threads[i] = (Thread){e, &step, i};
    for (int i = 1; i < e->threads; i++) pthread_create(&handles[i], NULL, work, &threads[i]);
    work(&threads[0]);
    for (int i = 1; i < e->threads; i++) pthread_join(handles[i], NULL);
    e->launches = e->next_launches;
    memcpy(out, result, bytes);
    bool good = intact(result, bytes) && intact(e->arena, p->arena_bytes) && intact(largest, largest_bytes) &&
                largest_right(p, (const float *)(const void *)result, (const float *)(const void *)largest, rows);
    for (int q = 0; q < MOST_SEQUENCES && good; q++)
        for (int i = 0; i < MOST_PAGES && good; i++)
            if (e->pages[q][i]) good = intact(e->pages[q][i], p->page_bytes);
    release(result);
    release(largest);
    return good ? rows : -1;
}
