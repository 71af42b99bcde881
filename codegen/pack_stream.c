// All weights of a plan, packed in the order in which they lie in the blob. Threads take the next few panels, pack them, and lay the bytes in a ring; the
// caller's thread takes them out in order and writes them. Which thread packs what changes no byte.
//
// A source is read once, from a mapped file: what comes next is asked for ahead of time, and what is read is the first to go, so that a source larger than
// memory passes through.
#include "codegen/plan.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_THREADS = 32, PART_ELEMENTS = 1 << 19, AHEAD = 64 };   // AHEAD: pieces that the kernel is asked for before they are packed

typedef struct {
    const Weight *weight;
    int64_t first, count;    // its parts
    uint64_t offset, bytes;  // in the blob
} Piece;

typedef enum { EMPTY, TAKEN, FULL, FAILED } SlotState;
typedef struct { SlotState state; const Piece *piece; uint8_t *bytes; uint64_t room; } Slot;

typedef struct {
    Piece *pieces;
    int count, capacity, taken, written, asked;
    Slot *slots;
    int slot_count;
    bool stop;
    pthread_mutex_t lock;
    pthread_cond_t room, ready, further;   // a slot is empty; a slot is full; one more piece is taken
} Ring;

// ---- the source --------------------------------------------------------------------------------------------------------------------

// The bytes of the source that a piece is made of, where they are a run of a mapped file.
static bool source_run(const Piece *piece, uintptr_t *from, uintptr_t *to) {
    const Weight *w = piece->weight;
    uint64_t elements = (uint64_t)type_row_elements(&w->type), stored;
    PackParts parts;
    if (!w->tensor || !w->bytes || w->index >= 0 || w->step || w->transpose || w->pick_rows.count || w->quantized || !type_bytes(&w->source, &stored)) return false;
    if (!pack_parts(w, &parts) || elements == 0) return false;
    double share = (double)stored / (double)elements * (double)parts.elements;
    uint64_t begin = (uint64_t)((double)piece->first * share), end = (uint64_t)((double)(piece->first + piece->count) * share);
    *from = (uintptr_t)w->bytes + (begin < stored ? begin : stored);
    *to = (uintptr_t)w->bytes + (end < stored ? end : stored);
    return *to > *from;
}

static void advise(const Piece *piece, int advice) {
    uintptr_t from, to, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (!source_run(piece, &from, &to)) return;
    bool whole = advice != MADV_WILLNEED;   // of pages that others use as well nothing is said
    from = (whole ? from + page - 1 : from) / page * page;
    to = (whole ? to : to + page - 1) / page * page;
    if (to > from) madvise((void *)from, to - from, advice);
}

// ---- threads -----------------------------------------------------------------------------------------------------------------------

// Asks for what comes next. A thread of its own: the kernel makes it wait where memory is short, and packing goes on meanwhile.
static void *ask_thread(void *of) {
    Ring *ring = of;
    pthread_mutex_lock(&ring->lock);
    while (!ring->stop && ring->asked < ring->count) {
        if (ring->asked >= ring->taken + AHEAD) {
            pthread_cond_wait(&ring->further, &ring->lock);
            continue;
        }
        const Piece *piece = &ring->pieces[ring->asked++];
        pthread_mutex_unlock(&ring->lock);
        advise(piece, MADV_WILLNEED);
        pthread_mutex_lock(&ring->lock);
    }
    pthread_mutex_unlock(&ring->lock);
    return NULL;
}

static SlotState pack_piece(Slot *slot) {
    const Piece *piece = slot->piece;
    if (slot->room < piece->bytes) {
        free(slot->bytes);
        slot->room = (piece->bytes + 4095) / 4096 * 4096;
        slot->bytes = aligned_alloc(4096, slot->room);
    }
    if (!slot->bytes) slot->room = 0;
    if (!slot->bytes || !pack_some(piece->weight, piece->first, piece->count, slot->bytes)) return FAILED;
    advise(piece, MADV_COLD);
    return FULL;
}

static void *pack_thread(void *of) {
    Ring *ring = of;
    pthread_mutex_lock(&ring->lock);
    for (;;) {
        while (!ring->stop && ring->taken < ring->count && ring->slots[ring->taken % ring->slot_count].state != EMPTY) pthread_cond_wait(&ring->room, &ring->lock);
        if (ring->stop || ring->taken == ring->count) break;
        Slot *slot = &ring->slots[ring->taken % ring->slot_count];
        *slot = (Slot){TAKEN, &ring->pieces[ring->taken++], slot->bytes, slot->room};
        pthread_cond_signal(&ring->further);
        pthread_mutex_unlock(&ring->lock);
        SlotState state = pack_piece(slot);
        pthread_mutex_lock(&ring->lock);
        slot->state = state;
        pthread_cond_signal(&ring->ready);
    }
    pthread_mutex_unlock(&ring->lock);
    return NULL;
}

static int processors(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : count;
}

// ---- the caller's thread -------------------------------------------------------------------------------------------------------------

typedef struct {
    bool (*write)(void *to, const void *bytes, size_t length);
    void *to;
    uint64_t done, total;
    void (*progress)(void *, uint64_t done, uint64_t total);
    void *progress_to;
} Stream;

static bool stream_zeros(Stream *s, uint64_t until) {
    static const char zeros[4096];
    for (size_t n; s->done < until; s->done += n) {
        n = until - s->done < sizeof zeros ? (size_t)(until - s->done) : sizeof zeros;
        if (!s->write(s->to, zeros, n)) return false;
    }
    return true;
}

static bool stream_piece(Stream *s, const Slot *slot) {
    const Piece *piece = slot->piece;
    if (slot->state != FULL || !stream_zeros(s, piece->offset) || !s->write(s->to, slot->bytes, piece->bytes)) return false;
    s->done += piece->bytes;
    if (s->progress) s->progress(s->progress_to, s->done, s->total);
    return true;
}

// Writes the pieces in order as they become ready; the one that failed, or NULL.
static const Piece *write_pieces(Ring *ring, Stream *s) {
    const Piece *failed = NULL;
    pthread_mutex_lock(&ring->lock);
    while (ring->written < ring->count && !failed) {
        Slot *slot = &ring->slots[ring->written % ring->slot_count];
        while (slot->state < FULL) pthread_cond_wait(&ring->ready, &ring->lock);
        pthread_mutex_unlock(&ring->lock);
        if (!stream_piece(s, slot)) failed = slot->piece;
        pthread_mutex_lock(&ring->lock);
        slot->state = EMPTY;
        ring->written++;
        pthread_cond_broadcast(&ring->room);
    }
    ring->stop = true;
    pthread_cond_broadcast(&ring->room);
    pthread_cond_signal(&ring->further);
    pthread_mutex_unlock(&ring->lock);
    return failed;
}

static bool cut(Ring *ring, const Plan *plan, Arena *arena) {
    for (int i = 0; i < plan->module->weight_count; i++) {
        const Weight *w = plan->module->weights[plan->order[i]];
        PackParts parts;
        if (!pack_parts(w, &parts)) return false;
        int64_t at_once = parts.elements < PART_ELEMENTS ? PART_ELEMENTS / (int64_t)(parts.elements ? parts.elements : 1) : 1;
        for (int64_t first = 0; first < parts.count; first += at_once) {
            int64_t count = parts.count - first < at_once ? parts.count - first : at_once;
            ARENA_PUSH(arena, ring->pieces, ring->count, ring->capacity) =
                (Piece){w, first, count, plan->offset[w->id] + (uint64_t)first * parts.bytes, (uint64_t)count * parts.bytes};
        }
    }
    return true;
}

bool plan_pack(const Plan *plan, bool (*write)(void *to, const void *bytes, size_t length), void *to, void (*progress)(void *, uint64_t done, uint64_t total),
               void *progress_to, Diags *diags) {
    Arena *arena = arena_new();
    Ring ring = {.slot_count = 0};
    Stream stream = {write, to, 0, plan->weights_bytes, progress, progress_to};
    pthread_t threads[MOST_THREADS], asker;
    int wanted = processors(), started = 0;
    pthread_mutex_init(&ring.lock, NULL);
    pthread_cond_init(&ring.room, NULL);
    pthread_cond_init(&ring.ready, NULL);
    pthread_cond_init(&ring.further, NULL);
    bool done = cut(&ring, plan, arena);
    if (wanted > ring.count) wanted = ring.count;
    ring.slot_count = 2 * wanted + 2;
    ring.slots = ARENA_ARRAY(arena, Slot, ring.slot_count);
    while (done && started < wanted && pthread_create(&threads[started], NULL, pack_thread, &ring) == 0) started++;
    bool asks = started && pthread_create(&asker, NULL, ask_thread, &ring) == 0;
    const Piece *failed = NULL;
    if (done && ring.count && !started) diag_error(diags, NOWHERE, "no thread could be started"), done = false;
    else if (done) failed = write_pieces(&ring, &stream);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    if (asks) pthread_join(asker, NULL);
    if (failed) diag_error(diags, NOWHERE, "writing weight %s failed", failed->weight->name), done = false;
    for (int i = 0; i < ring.slot_count; i++) free(ring.slots[i].bytes);
    pthread_cond_destroy(&ring.ready);
    pthread_cond_destroy(&ring.further);
    pthread_cond_destroy(&ring.room);
    pthread_mutex_destroy(&ring.lock);
    arena_free(arena);
    return done && stream_zeros(&stream, plan->weights_bytes);
}
