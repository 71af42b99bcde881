// A cache of experts at their own addresses.
//
// Of each expert it is estimated how many of the next token's visits come to it: its share of the tokens that its layer has lately seen, times the
// calls of a step that run the layer. An expert that must make room is the one with the smallest estimate; among equals the one that was visited last,
// since layers are visited in a circle and its turn is farthest away. So a layer that several calls share stays, an expert that a router prefers stays,
// and a prompt that needs every expert passes through a few places while the others stay as they were: no list of pinned layers is kept. (docs/memory.md
// has what other orders would give.)
//
// One thread, the first of the team, decides; the others take over what it decided behind a barrier. An expert is `wanted` by the groups of the layer
// under way that have not run yet, and only others make room. A layer's groups run in waves: first those whose experts are there, while the missing ones
// are read, two ahead of what runs.
#include "runtime/pager.h"
#include "runtime/progress.h"
#include "runtime/reader.h"
#include "runtime/team.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGER_PAGE = 4096, PAGER_HUGE_PAGE = 2 << 20, PAGER_LARGE = 4 * PAGER_HUGE_PAGE, PAGER_AHEAD = 2, PAGER_AHEAD_BYTES = 64 << 20 };
static const double pager_memory = 1 - 1.0 / 64;     // of a share, what a token leaves
static const double pager_sure = 0.6;                // guesses that are right so often are read

typedef struct {
    ReadJob job;
    uint64_t offset, bytes;        // bytes: as they lie in memory
    int visits, wanted;
    double share;                  // of the tokens that the layer saw
    uint64_t visited;              // when last: a count of layers
    bool there;
    bool guessed, early;           // that the next layer chooses it; it is being read for that
} Piece;

struct Pager {
    Reader *reader;
    const char *file;
    unsigned char *map, *weights;
    size_t map_length;
    Piece *pieces; int piece_count;
    ReadJob **waits;               // room for a list of jobs
    uint64_t room, held;           // for experts; of those that are there or on their way
    uint64_t layers;               // visited so far
    double precision;              // of guesses: the share that was right, lately
    bool failed;                   // in this step
    bool behind;                   // some expert of this layer has no room yet
    // What the first thread decided, for the others.
    int *of_expert;                // the piece of each of the layer's experts, or -1
    tn_group *groups; int layer_room, from, to;   // layer_room: of both arrays
    tn_paging count;
};

// ---- what there is ----------------------------------------------------------------------------------------------------------

static uint64_t pager_bytes(const tn_piece *piece) {
    uint64_t unit = piece->bytes >= PAGER_LARGE ? PAGER_HUGE_PAGE : PAGER_PAGE;
    return (piece->bytes + unit - 1) / unit * unit;
}

// The share of a layer's experts that a token chooses.
static double pager_chance(const tn_program *program, int *slots) {
    double chance = 0;
    *slots = 1;
    for (int i = 0; i < program->kernel_count; i++)
        if (program->kernels[i].experts > 0) {
            double share = (double)program->kernels[i].slots / program->kernels[i].experts;
            chance = share > chance ? share : chance;
            *slots = program->kernels[i].slots > *slots ? program->kernels[i].slots : *slots;
        }
    return chance < 1 ? chance : 1;
}

PagerPlan tn_pager_plan(const tn_program *program, unsigned long long budget, unsigned long long others) {
    PagerPlan plan = {.weights = program->weights_bytes, .pinned = program->weights_bytes, .others = others};
    int slots, most = 0;
    double chance = pager_chance(program, &slots);
    unsigned long long largest = 0;
    for (int i = 0; i < program->piece_count; i++) {
        const tn_piece *piece = &program->pieces[i];
        unsigned long long bytes = pager_bytes(piece);
        plan.pinned -= bytes < plan.pinned ? bytes : plan.pinned;
        *(piece->visits ? &plan.experts : &plan.tables) += bytes;
        largest = piece->visits && bytes > largest ? bytes : largest;
        most = piece->visits > most ? piece->visits : most;
        plan.expert_count += piece->visits > 0;
        plan.visits += piece->visits * chance;
        plan.active += piece->visits * chance * (double)bytes;
    }
    plan.least = largest * (unsigned long long)slots;
    unsigned long long fixed = plan.pinned + others;
    plan.fits = budget >= fixed && budget - fixed >= plan.least;
    plan.room = plan.fits ? budget - fixed : 0;
    if (plan.room > plan.experts)
        plan.room = plan.experts;
    double left = (double)plan.room, hits = 0;
    plan.kept_bytes = plan.active;
    for (int visits = most; visits > 0; visits--) {      // those visited most first; of the last that fit, as many as do
        double bytes = 0, count = 0;
        for (int i = 0; i < program->piece_count; i++)
            if (program->pieces[i].visits == visits) {
                bytes += (double)pager_bytes(&program->pieces[i]);
                count++;
            }
        double kept = bytes > left ? left / bytes : 1;
        if (count > 0) {
            hits += kept * count * visits * chance;
            plan.kept_bytes -= kept * bytes * visits * chance;
            left -= kept * bytes;
        }
    }
    plan.kept_hits = plan.visits > 0 ? hits / plan.visits : 1;
    return plan;
}

bool tn_pager_needed(const PagerPlan *plan, unsigned long long budget) { return plan->weights + plan->others > budget; }

int tn_pager_fits(const PagerPlan *plan, unsigned long long budget, tn_failure *failure) {
    if (plan->fits || !tn_pager_needed(plan, budget))
        return 0;
    double mib = 1 << 20;
    return tn_fail(failure, TN_BAD_MACHINE, "--memory of %.0f MiB is too little: %.0f MiB of weights that every token reads, %.0f MiB of %sexperts and %.0f MiB of KV cache, "
                   "intermediate values and program make %.0f MiB%s", (double)budget / mib, (double)plan->pinned / mib, (double)plan->least / mib,
                   plan->expert_count ? "the largest layer's " : "", (double)plan->others / mib, (double)(plan->pinned + plan->least + plan->others) / mib,
                   plan->others > plan->pinned ? "; --ctx N bounds the KV cache" : "");
}

// ---- opening ----------------------------------------------------------------------------------------------------------------

// Addresses for all weights, filled by nothing; the part that lies in the blob from `offset` on must be read or mapped.
static int pager_reserve(Pager *pager, const tn_program *program, tn_failure *failure) {
    size_t bytes = (size_t)program->weights_bytes;
    pager->map_length = bytes + 2 * (size_t)PAGER_HUGE_PAGE;   // to begin at a huge page, and for the last piece to end at one
    void *map = mmap(NULL, pager->map_length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return tn_fail(failure, TN_BAD_MACHINE, "no addresses for %zu bytes of weights", bytes);
    pager->map = map;
    pager->weights = pager->map + (PAGER_HUGE_PAGE - (uintptr_t)map % PAGER_HUGE_PAGE) % PAGER_HUGE_PAGE;
#ifdef MADV_NOHUGEPAGE
    madvise(map, pager->map_length, MADV_NOHUGEPAGE);   // else what a piece takes would reach into its neighbours
    for (int i = 0; i < program->piece_count; i++)
        if (program->pieces[i].visits && program->pieces[i].bytes >= PAGER_LARGE)
            madvise(pager->weights + program->pieces[i].offset, (size_t)pager_bytes(&program->pieces[i]), MADV_HUGEPAGE);
#endif
    return 0;
}

static int pager_map_table(Pager *pager, const tn_piece *piece, int fd, uint64_t from, tn_failure *failure) {
    size_t bytes = (size_t)((piece->bytes + PAGER_PAGE - 1) / PAGER_PAGE * PAGER_PAGE);
    void *at = pager->weights + piece->offset;
    if (mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)(from + piece->offset)) == MAP_FAILED)
        return tn_fail(failure, TN_BAD_MACHINE, "%s: cannot map %zu bytes", pager->file, bytes);
    madvise(at, bytes, MADV_RANDOM);
    return 0;
}

// Reads what no piece holds, in one job for each stretch of it.
static int pager_read_pinned(Pager *pager, const tn_program *program, uint64_t from, tn_failure *failure) {
    ReadJob *jobs = calloc((size_t)program->piece_count + 1, sizeof *jobs);
    uint64_t at = 0, total = 0;
    int count = 0;
    Progress progress;
    if (!jobs)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory");
    for (int i = 0; i <= program->piece_count; i++) {
        uint64_t end = i < program->piece_count ? program->pieces[i].offset : program->weights_bytes;
        if (end > at) {
#ifdef MADV_HUGEPAGE
            madvise(pager->weights + at, (size_t)(end - at), MADV_HUGEPAGE);
#endif
            jobs[count] = (ReadJob){.to = pager->weights + at, .from = from + at, .bytes = (end - at + PAGER_PAGE - 1) / PAGER_PAGE * PAGER_PAGE};
            tn_reader_start(pager->reader, &jobs[count++], READ_NOW);
            total += end - at;
        }
        if (i < program->piece_count)
            at = program->pieces[i].offset + pager_bytes(&program->pieces[i]);
    }
    tn_progress_begin(&progress, "loading");
    for (int i = 0; i < count; i++) {
        ReadJob *job = &jobs[i];
        tn_reader_wait(pager->reader, &job, 1);
        tn_progress_show(&progress, tn_reader_bytes(pager->reader), total);
    }
    tn_progress_end(&progress);
    free(jobs);
    return tn_reader_check(pager->reader, failure);
}

// Room is filled from the start, while nothing else is read: with the experts that most calls visit, of equals some of each layer.
static void pager_preload(Pager *pager) {
    int most = 0;
    for (int i = 0; i < pager->piece_count; i++)
        most = pager->pieces[i].visits > most ? pager->pieces[i].visits : most;
    for (int visits = most; visits > 0; visits--) {
        int count = 0, step = 1;
        for (int i = 0; i < pager->piece_count; i++)
            count += pager->pieces[i].visits == visits;
        for (int try = 7; try < count && step == 1; try += 2)     // a stride that comes by all of them
            if (count % try)
                step = try;
        for (int n = 0, at = 0; n < count; n++, at = (at + step) % count) {
            int i = 0;
            for (int left = at; pager->pieces[i].visits != visits || left-- > 0;)
                i++;
            Piece *piece = &pager->pieces[i];
            if (pager->held + piece->bytes > pager->room)
                return;
            pager->held += piece->bytes;
            tn_reader_start(pager->reader, &piece->job, READ_LATER);
        }
    }
}

static int pager_open(Pager *pager, const tn_program *program, const Blob *blob, tn_failure *failure) {
    uint64_t from;
    int fd = tn_blob_source(blob, &from), slots;
    double chance = pager_chance(program, &slots);
    size_t count = (size_t)program->piece_count;
    pager->file = tn_blob_file(blob);
    pager->piece_count = program->piece_count;
    pager->pieces = calloc(count + 1, sizeof *pager->pieces);
    pager->waits = calloc(count + 1, sizeof *pager->waits);
    if (!pager->pieces || !pager->waits)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory");
    if (pager_reserve(pager, program, failure) || !(pager->reader = tn_reader_new(fd, pager->file, failure)))
        return -1;
    for (int i = 0; i < program->piece_count; i++) {
        const tn_piece *piece = &program->pieces[i];
        if (piece->offset % PAGER_PAGE || piece->offset > program->weights_bytes || piece->bytes > program->weights_bytes - piece->offset)
            return tn_fail(failure, TN_BAD_INPUT, "%s: its experts do not lie in its weights", program->model);
        pager->pieces[i] = (Piece){.offset = piece->offset, .bytes = pager_bytes(piece), .visits = piece->visits, .share = chance};
        pager->pieces[i].job = (ReadJob){.to = pager->weights + piece->offset, .from = from + piece->offset,
                                         .bytes = (piece->bytes + PAGER_PAGE - 1) / PAGER_PAGE * PAGER_PAGE};
        if (!piece->visits && pager_map_table(pager, piece, fd, from, failure))
            return -1;
    }
    return pager_read_pinned(pager, program, from, failure);
}

Pager *tn_pager_new(const tn_program *program, const Blob *blob, unsigned long long room, tn_failure *failure) {
    Pager *pager = calloc(1, sizeof *pager);
    if (!pager) {
        tn_fail(failure, TN_BAD_MACHINE, "no memory");
        return NULL;
    }
    if (pager_open(pager, program, blob, failure)) {
        tn_pager_free(pager);
        return NULL;
    }
    pager->room = room;
    pager->precision = 0.5;
    pager->count.pinned = tn_reader_bytes(pager->reader);
    pager_preload(pager);
    return pager;
}

void tn_pager_free(Pager *pager) {
    if (!pager)
        return;
    tn_reader_free(pager->reader);
    if (pager->map)
        munmap(pager->map, pager->map_length);
    free(pager->pieces);
    free(pager->waits);
    free(pager->of_expert);
    free(pager->groups);
    free(pager);
}

const unsigned char *tn_pager_weights(const Pager *pager) { return pager->weights; }

// ---- making room ------------------------------------------------------------------------------------------------------------

static void pager_drop(Pager *pager, Piece *piece) {
    madvise(piece->job.to, (size_t)piece->bytes, MADV_DONTNEED);
    piece->there = false;
    atomic_store(&piece->job.state, READ_IDLE);
    pager->held -= piece->bytes;
}

// Takes in what has been read.
static void pager_collect(Pager *pager) {
    for (int i = 0; i < pager->piece_count; i++) {
        Piece *piece = &pager->pieces[i];
        int state = atomic_load(&piece->job.state);
        if (state == READ_DONE)
            piece->there = true;
        if (state == READ_FAILED)
            pager->failed = true;
        if (state == READ_FAILED || state == READ_STOPPED)
            pager_drop(pager, piece);
    }
}

// Being read, or read since pager_collect last looked.
static bool pager_coming(Piece *piece) { return !piece->there && atomic_load(&piece->job.state) != READ_IDLE; }

static bool pager_less_useful(const Piece *a, const Piece *b) {
    double x = a->share * a->visits, y = b->share * b->visits;
    return x != y ? x < y : a->visited > b->visited;
}

// Until so many bytes more may be held. False: what is there is wanted, or on its way.
static bool pager_make_room(Pager *pager, uint64_t bytes) {
    while (pager->held + bytes > pager->room) {
        Piece *victim = NULL;
        for (int i = 0; i < pager->piece_count; i++) {
            Piece *piece = &pager->pieces[i];
            bool may = piece->visits && !piece->wanted && !piece->guessed && atomic_load(&piece->job.state) != READ_IDLE;
            if (may && (!victim || pager_less_useful(piece, victim)) && (piece->there || tn_reader_waits(pager->reader, &piece->job)))
                victim = piece;
        }
        if (!victim)
            return false;
        if (victim->there || tn_reader_stop(pager->reader, &victim->job))
            pager_drop(pager, victim);
    }
    return true;
}

int tn_pager_resize(Pager *pager, unsigned long long room, tn_failure *failure) {
    pager->room = room;
    while (!pager_make_room(pager, 0)) {       // what is left is being read
        int count = 0;
        for (int i = 0; i < pager->piece_count; i++)
            if (pager_coming(&pager->pieces[i]))
                pager->waits[count++] = &pager->pieces[i].job;
        if (!count)
            return tn_fail(failure, TN_BAD_MACHINE, "no memory for experts is left");
        tn_reader_wait(pager->reader, pager->waits, count);
        pager_collect(pager);
    }
    return 0;
}

// ---- a layer ----------------------------------------------------------------------------------------------------------------

static int pager_find(const Pager *pager, uint64_t offset) {
    int low = 0, high = pager->piece_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (pager->pieces[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low && offset - pager->pieces[low - 1].offset < pager->pieces[low - 1].bytes && pager->pieces[low - 1].visits ? low - 1 : -1;
}

static bool pager_know_layer(Pager *pager, const unsigned long long *const *p, int params, int experts, int count) {
    int room = count > experts ? count : experts;
    if (room > pager->layer_room) {
        int *of_expert = realloc(pager->of_expert, (size_t)room * sizeof *of_expert);
        pager->of_expert = of_expert ? of_expert : pager->of_expert;
        tn_group *groups = of_expert ? realloc(pager->groups, (size_t)room * sizeof *groups) : NULL;
        pager->groups = groups ? groups : pager->groups;
        if (!groups)
            return false;
        pager->layer_room = room;
    }
    for (int e = 0; e < experts; e++) {
        pager->of_expert[e] = -1;
        for (int i = 0; i < params && pager->of_expert[e] < 0; i++)
            pager->of_expert[e] = pager_find(pager, p[i][e]);
    }
    return true;
}

static Piece *pager_piece(Pager *pager, const tn_group *group) {
    int piece = pager->of_expert[group->expert];
    return piece < 0 ? NULL : &pager->pieces[piece];
}

static void pager_stop(Pager *pager, Piece *piece) {
    if (tn_reader_stop(pager->reader, &piece->job))
        pager_drop(pager, piece);
}

// Now that it is known what the layer wants: what was guessed wrong is not read further.
static void pager_judge_guesses(Pager *pager) {
    for (int i = 0; i < pager->piece_count; i++) {
        Piece *piece = &pager->pieces[i];
        if (!piece->guessed)
            continue;
        bool right = piece->wanted > 0;
        pager->precision += ((double)right - pager->precision) / 64;
        pager->count.guesses += piece->early;
        pager->count.right += piece->early && right;
        if (piece->early && !right && !piece->there)
            pager_stop(pager, piece);
        piece->guessed = piece->early = false;
    }
}

// A layer needs the room.
static void pager_forget_guesses(Pager *pager) {
    for (int i = 0; i < pager->piece_count; i++) {
        Piece *piece = &pager->pieces[i];
        if (piece->early && !piece->there)
            pager_stop(pager, piece);
        piece->guessed = piece->early = false;
    }
}

void tn_pager_guess(const tn_step *step, const unsigned long long *const *p, int params, int experts, const int *e, int pairs) {
    Pager *pager = step->pager;
    for (int i = 0; i < pairs && !pager->failed; i++) {
        int found = -1;
        for (int j = 0; j < params && found < 0 && e[i] >= 0 && e[i] < experts; j++)
            found = pager_find(pager, p[j][e[i]]);
        Piece *piece = found < 0 ? NULL : &pager->pieces[found];
        if (!piece || piece->guessed)
            continue;
        piece->guessed = true;
        int state = atomic_load(&piece->job.state);
        if (pager->precision < pager_sure || pager->behind)
            continue;
        if (state == READ_WAITING)
            tn_reader_raise(pager->reader, &piece->job, READ_SOON);
        if (state != READ_IDLE || !pager_make_room(pager, piece->bytes))
            continue;
        piece->early = true;
        pager->held += piece->bytes;
        tn_reader_start(pager->reader, &piece->job, READ_SOON);
    }
}

static void pager_begin_layer(Pager *pager, const tn_step *step, int experts, const tn_group *groups, int count) {
    double keep = 1;
    for (int i = 0; i < step->tokens && keep > 1e-6; i++)
        keep *= pager_memory;
    pager->layers++;
    for (int e = 0; e < experts; e++)
        if (pager->of_expert[e] >= 0)
            pager->pieces[pager->of_expert[e]].share *= keep;
    for (int g = 0; g < count; g++) {
        Piece *piece = pager_piece(pager, &groups[g]);
        if (!piece)
            continue;
        piece->share += (1 - keep) * groups[g].rows / (step->tokens > 0 ? step->tokens : 1);
        piece->visited = pager->layers;
        if (piece->wanted++)
            continue;
        pager->count.visits++;
        pager->count.hits += piece->there;
    }
    pager_judge_guesses(pager);
}

// Starts reading what the groups want, in their order, a little ahead.
static void pager_read_ahead(Pager *pager, const tn_group *groups, int from, int count) {
    uint64_t bytes = 0;
    int reading = 0;
    pager->behind = false;
    for (int g = from; g < count; g++) {
        Piece *piece = pager_piece(pager, &groups[g]);
        if (!piece || piece->there)
            continue;
        pager->behind = reading >= PAGER_AHEAD && bytes + piece->bytes > PAGER_AHEAD_BYTES;
        if (pager->behind)
            return;
        if (atomic_load(&piece->job.state) == READ_IDLE) {
            pager->behind = !pager_make_room(pager, piece->bytes);
            if (pager->behind)
                pager_forget_guesses(pager);
            if (pager->behind && !pager_make_room(pager, piece->bytes))
                return;
            pager->held += piece->bytes;
            tn_reader_start(pager->reader, &piece->job, READ_NOW);
        } else
            tn_reader_raise(pager->reader, &piece->job, READ_NOW);
        reading++;
        bytes += piece->bytes;
    }
}

// Groups whose experts are there, moved to the front; how far they reach.
static int pager_ready(Pager *pager, tn_group *groups, int from, int count) {
    int to = from;
    for (int g = from; g < count; g++) {
        Piece *piece = pager_piece(pager, &groups[g]);
        if (piece && !piece->there)
            continue;
        tn_group ready = groups[g];
        memmove(&groups[to + 1], &groups[to], (size_t)(g - to) * sizeof *groups);
        groups[to++] = ready;
    }
    return to;
}

static int pager_wait(Pager *pager, const tn_group *groups, int from, int count) {
    int waits = 0;
    for (int g = from; g < count; g++) {
        Piece *piece = pager_piece(pager, &groups[g]);
        if (piece && pager_coming(piece))
            pager->waits[waits++] = &piece->job;
    }
    for (int i = 0; i < pager->piece_count && !waits; i++)       // no room until one of these is there
        if (pager_coming(&pager->pieces[i]))
            pager->waits[waits++] = &pager->pieces[i].job;
    if (waits)
        tn_reader_wait(pager->reader, pager->waits, waits);
    return waits;
}

// A step that has failed computes with whatever is there; nothing is to change meanwhile.
static void pager_let_end(Pager *pager) {
    for (int i = 0; i < pager->piece_count; i++) {
        ReadJob *job = &pager->pieces[i].job;
        if (atomic_load(&job->state) == READ_WAITING && tn_reader_stop(pager->reader, job))
            pager_drop(pager, &pager->pieces[i]);
        tn_reader_wait(pager->reader, &job, 1);
    }
}

static int pager_decide(Pager *pager, const tn_step *step, const unsigned long long *const *p, int params, int experts, tn_group *groups, int from, int count) {
    if (pager->failed)
        return count;
    if (!from && !pager_know_layer(pager, p, params, experts, count)) {
        pager->failed = true;
        return count;
    }
    pager_collect(pager);
    if (!from)
        pager_begin_layer(pager, step, experts, groups, count);
    for (int g = pager->from; g < from; g++)
        if (pager_piece(pager, &groups[g]))
            pager_piece(pager, &groups[g])->wanted--;
    pager->from = from;
    pager_read_ahead(pager, groups, from, count);
    int to = pager_ready(pager, groups, from, count);
    unsigned long long began = to == from ? tn_now() : 0;
    while (to == from && !pager->failed) {
        if (!pager_wait(pager, groups, from, count))
            pager->failed = true;
        pager_collect(pager);
        pager_read_ahead(pager, groups, from, count);
        to = pager_ready(pager, groups, from, count);
    }
    if (pager->failed)
        pager_let_end(pager);
    if (began)
        pager->count.waited += (double)(tn_now() - began) * 1e-9;
    return pager->failed ? count : to;
}

// The last call of a layer leaves its last wave wanted: it still runs. The next layer's first call knows that it has, and so does the step's end.
static void pager_forget_wave(Pager *pager) {
    for (int i = 0; i < pager->piece_count; i++)
        pager->pieces[i].wanted = 0;     // guesses stay: they are this layer's
    pager->from = 0;
}

int tn_pager_page(const tn_step *step, tn_worker *worker, const unsigned long long *const *p, int params, int experts, tn_group *groups, int from, int count) {
    Pager *pager = step->pager;
    if (worker->barrier)
        worker->barrier(worker);         // what ran last has ended, on every thread
    if (!worker->index) {
        if (!from)
            pager_forget_wave(pager);
        pager->to = pager_decide(pager, step, p, params, experts, groups, from, count);
        if (count <= pager->layer_room)
            memcpy(pager->groups + from, groups + from, (size_t)(count - from) * sizeof *groups);
    }
    if (worker->barrier)
        worker->barrier(worker);
    if (worker->index && count <= pager->layer_room)
        memcpy(groups + from, pager->groups + from, (size_t)(count - from) * sizeof *groups);
    return pager->to;
}

int tn_pager_end_step(Pager *pager, tn_failure *failure) {
    bool failed = pager->failed;
    pager->failed = false;
    pager_forget_wave(pager);
    pager_forget_guesses(pager);
    if (tn_reader_check(pager->reader, failure))
        return -1;
    return failed ? tn_fail(failure, TN_BAD_MACHINE, "%s: experts could not be read into memory", pager->file) : 0;
}

void tn_pager_count(const Pager *pager, tn_paging *out) {
    *out = pager->count;
    out->room = pager->room;
    out->held = pager->held;
    out->bytes_read = tn_reader_bytes(pager->reader) - pager->count.pinned;
}
