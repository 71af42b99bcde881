// Sequences and steps.
//
// A sequence is a list of tokens of which the first `done` have been through the model; the rest wait. A step takes waiting tokens of as many
// sequences as fit: a causal model's prompts are cut where the step is full, and where its output rows are; an encoder's sequences come whole.
// Nothing about a step changes a token's result, so the choice is free, and the simple one is made: in order, starting
// where the last step ended, so that no sequence waits for ever.
#include "runtime/cpu.h"
#include "runtime/engine.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SESSION_OUT_BYTES = 16 << 20 };    // what output rows of one step may take, unless that is less than one row

int tn_row_limit(const tn_program *program) {
    int rows = SESSION_OUT_BYTES / (int)sizeof(float) / (program->out_width > 0 ? program->out_width : 1);
    if (program->out_kind != TN_PER_ROW)
        return program->max_tokens;
    if (rows > program->max_rows || !program->causal)
        rows = program->max_rows;
    return rows > 0 ? rows : 1;
}

// ---- opening --------------------------------------------------------------------------------------------------------------

static int session_alloc_step(tn_engine *engine, tn_failure *failure) {
    const tn_program *program = engine->program;
    StepBuffers *step = &engine->step;
    size_t tokens = (size_t)program->max_tokens, sequences = (size_t)program->max_sequences;
    step->ids = calloc(tokens * (size_t)program->input_count, sizeof *step->ids);      // inputs other than tokens keep their defaults
    step->position = calloc(tokens, sizeof *step->position);
    step->sequence = calloc(tokens, sizeof *step->sequence);
    step->keep = calloc(tokens, sizeof *step->keep);
    step->first = calloc(sequences + 1, sizeof *step->first);
    step->handle = calloc(sequences, sizeof *step->handle);
    step->taken = calloc(sequences, sizeof *step->taken);
    step->inputs = calloc((size_t)program->input_count, sizeof *step->inputs);
    step->row_room = program->max_tokens > program->max_sequences ? program->max_tokens : program->max_sequences;
    step->rows = calloc((size_t)step->row_room, sizeof *step->rows);
    if (!step->ids || !step->position || !step->sequence || !step->keep || !step->first || !step->handle || !step->taken || !step->inputs || !step->rows)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory for a step of %d tokens", program->max_tokens);
    for (int i = 0; i < program->input_count; i++) {
        step->inputs[i] = step->ids + (size_t)i * tokens;
        for (size_t t = 0; i > 0 && program->input_defaults && t < tokens; t++)
            step->ids[(size_t)i * tokens + t] = program->input_defaults[i];
    }
    return 0;
}

static int session_alloc(tn_engine *engine, const tn_open_options *options, tn_failure *failure) {
    const tn_program *program = engine->program;
    size_t length;
    char message[256];
    const unsigned char *bytes = tn_blob_section(engine->blob, SECTION_TOKENIZER, &length);
    if (bytes && !(engine->tokenizer = tokenizer_open(bytes, length, message, sizeof message)))
        return tn_fail(failure, TN_BAD_INPUT, "%s: tokenizer: %s", tn_blob_file(engine->blob), message);
    engine->arena_bytes = (size_t)program->arena_bytes + (program->arena_bytes == 0);
    void *arena = mmap(NULL, engine->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory for the arena of %llu bytes", program->arena_bytes);
    engine->arena = arena;
    if (!(engine->kv = tn_kv_new(program, failure)) || !(engine->team = tn_team_new(options->threads, failure)))
        return -1;
    return session_alloc_step(engine, failure);
}

unsigned long long tn_memory_wanted(const Blob *blob, unsigned long long given) {
    const char *compiled = tn_blob_meta(blob, "memory", 0);
    unsigned long long bytes = given ? given : compiled ? strtoull(compiled, NULL, 10) : 0;
    return bytes ? bytes : TN_ALL_MEMORY;
}

// What is not for weights, with so many bytes of KV cache.
static unsigned long long session_others(const tn_engine *engine, unsigned long long kv) { return engine->arena_bytes + kv + PAGER_OVERHEAD; }

// Whether the bound can be kept is decided for a cache of one whole sequence; until it grows that large its room is the experts'.
static int session_open_pager(tn_engine *engine, unsigned long long memory, tn_failure *failure) {
    const tn_program *program = engine->program;
    unsigned long long kv = program->page_bytes ? (unsigned long long)tn_kv_pages(program, engine->context) * tn_kv_page_bytes(program) : 0;
    PagerPlan plan = tn_pager_plan(program, memory, session_others(engine, kv));
    if (memory == TN_ALL_MEMORY || !tn_pager_needed(&plan, memory))
        return 0;
    if (tn_pager_fits(&plan, memory, failure))
        return -1;
    engine->memory = memory;
    engine->pager = tn_pager_new(program, engine->blob, memory - plan.pinned - session_others(engine, 0), failure);
    return engine->pager ? 0 : -1;
}

// Experts give way to a cache that has grown.
static int session_bound(tn_engine *engine, tn_failure *failure) {
    PagerPlan plan = tn_pager_plan(engine->program, engine->memory, session_others(engine, tn_kv_bytes(engine->kv)));
    if (!plan.fits)
        return tn_pager_fits(&plan, engine->memory, failure);
    return tn_pager_resize(engine->pager, engine->memory - plan.pinned - plan.others, failure);
}

int tn_paging_of(const tn_engine *engine, tn_paging *out) {
    *out = (tn_paging){0};
    if (!engine->pager)
        return 0;
    tn_pager_count(engine->pager, out);
    out->budget = engine->memory;
    return 1;
}

tn_engine *tn_open_blob(const tn_program *program, const Blob *blob, const tn_open_options *options, tn_failure *failure) {
    tn_open_options defaults = {0};
    options = options ? options : &defaults;
    if (!(program = tn_choose(program, failure)))
        return NULL;
    if (options->context > program->context) {
        tn_fail(failure, TN_BAD_USAGE, "--ctx %d: %s was compiled for at most %d tokens", options->context, program->model, program->context);
        return NULL;
    }
    tn_engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        tn_fail(failure, TN_BAD_MACHINE, "no memory");
        return NULL;
    }
    engine->program = program;
    engine->blob = blob;
    engine->stamp = tn_blob_stamp(blob);
    engine->context = options->context > 0 ? options->context : program->context;
    engine->chunk = options->chunk > 0 && options->chunk < program->max_tokens && program->causal ? options->chunk : program->max_tokens;
    if (!session_alloc(engine, options, failure) && !session_open_pager(engine, tn_memory_wanted(blob, options->memory), failure))
        return engine;
    tn_close(engine);
    return NULL;
}

tn_engine *tn_open(const tn_program *program, const tn_open_options *options, tn_failure *failure) {
    if (!(program = tn_choose(program, failure)))
        return NULL;
    Blob *blob = options && options->weights ? tn_blob_open(options->weights, program, failure) : tn_blob_find(program, failure);
    if (!blob)
        return NULL;
    tn_engine *engine = tn_open_blob(program, blob, options, failure);
    if (engine)
        engine->own_blob = blob;
    else
        tn_blob_close(blob);
    return engine;
}

void tn_close(tn_engine *engine) {
    if (!engine)
        return;
    for (int i = 0; i < engine->sequence_count; i++)
        tn_sequence_free(engine, i);
    StepBuffers *step = &engine->step;
    void *owned[] = {step->ids, step->position, step->sequence, step->keep, step->first, step->handle, step->taken, (void *)step->inputs,
                     step->rows, step->pages, step->out, step->largest, engine->sequences, engine->kernel_ns};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    tn_kv_free(engine->kv);
    tn_team_free(engine->team);
    tn_pager_free(engine->pager);
    tokenizer_close(engine->tokenizer);
    if (engine->arena)
        munmap(engine->arena, engine->arena_bytes);
    tn_blob_close(engine->own_blob);
    free(engine);
}

int tn_engine_time_kernels(tn_engine *engine, tn_failure *failure) {
    free(engine->kernel_ns);
    engine->kernel_ns = calloc((size_t)engine->program->kernel_count * (size_t)tn_team_threads(engine->team) + 1, sizeof *engine->kernel_ns);
    return engine->kernel_ns ? 0 : tn_fail(failure, TN_BAD_MACHINE, "no memory for the times of %d kernels", engine->program->kernel_count);
}

const tn_program *tn_program_of(const tn_engine *engine) { return engine->program; }
int tn_threads(const tn_engine *engine) { return tn_team_threads(engine->team); }
int tn_context(const tn_engine *engine) { return engine->context; }
int tn_width(const tn_engine *engine) { return engine->program->out_width; }
const char *tn_meta(const tn_engine *engine, const char *key, int index) { return tn_blob_meta(engine->blob, key, index); }

// ---- sequences ------------------------------------------------------------------------------------------------------------

static Sequence *session_get(const tn_engine *engine, int sequence) {
    return sequence >= 0 && sequence < engine->sequence_count && engine->sequences[sequence].used ? &engine->sequences[sequence] : NULL;
}

int tn_sequence_new(tn_engine *engine, tn_failure *failure) {
    int at = 0;
    while (at < engine->sequence_count && engine->sequences[at].used)
        at++;
    if (at == engine->sequence_capacity) {
        int capacity = engine->sequence_capacity ? engine->sequence_capacity * 2 : 16;
        Sequence *grown = realloc(engine->sequences, (size_t)capacity * sizeof *grown);
        if (!grown)
            return tn_fail(failure, TN_BAD_MACHINE, "no memory for one more sequence");
        engine->sequences = grown;
        engine->sequence_capacity = capacity;
    }
    if (at == engine->sequence_count)
        engine->sequence_count++;
    engine->sequences[at] = (Sequence){.used = true};
    return at;
}

void tn_sequence_free(tn_engine *engine, int sequence) {
    Sequence *s = session_get(engine, sequence);
    if (!s)
        return;
    tn_kv_release(engine->kv, &s->table, 0);
    free(s->tokens);
    free(s->want);
    *s = (Sequence){0};
}

int tn_length(const tn_engine *engine, int sequence) {
    Sequence *s = session_get(engine, sequence);
    return s ? s->length : 0;
}

const int *tn_tokens(const tn_engine *engine, int sequence) {
    Sequence *s = session_get(engine, sequence);
    return s ? s->tokens : NULL;
}

int tn_trim(tn_engine *engine, int sequence, int length, tn_failure *failure) {
    Sequence *s = session_get(engine, sequence);
    if (!s || length < 0 || length > s->length)
        return tn_fail(failure, TN_BAD_INPUT, "sequence %d cannot be cut to %d tokens", sequence, length);
    if (!engine->program->causal && length)
        return tn_fail(failure, TN_BAD_INPUT, "%s reads whole sequences: one can only be emptied, not cut", engine->program->model);
    if (length < s->length)
        s->parked = s->parked && length;
    s->length = length;
    if (s->done > length)
        s->done = length;
    tn_kv_release(engine->kv, &s->table, s->done);
    return 0;
}

static int session_room(Sequence *s, int more, tn_failure *failure) {
    int needed = s->length + more, capacity = s->capacity ? s->capacity : 64;
    if (needed <= s->capacity)
        return 0;
    while (capacity < needed)
        capacity = capacity > INT_MAX / 2 ? needed : capacity * 2;
    int *tokens = realloc(s->tokens, (size_t)capacity * sizeof *tokens);
    if (tokens)
        s->tokens = tokens;
    unsigned char *want = tokens ? realloc(s->want, (size_t)capacity) : NULL;
    if (!want)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory for a sequence of %d tokens", needed);
    s->want = want;
    s->capacity = capacity;
    return 0;
}

int tn_add(tn_engine *engine, int sequence, const int *ids, int count, int want, tn_failure *failure) {
    const tn_program *program = engine->program;
    Sequence *s = session_get(engine, sequence);
    if (!s || count < 0)
        return tn_fail(failure, TN_BAD_INPUT, "there is no sequence %d", sequence);
    if (count > engine->context - s->length)
        return tn_fail(failure, TN_BAD_INPUT, "%lld tokens do not fit into a context of %d", (long long)s->length + count, engine->context);
    if (!program->causal && s->done)
        return tn_fail(failure, TN_BAD_INPUT, "%s reads whole sequences: tokens cannot be added to one that was read", program->model);
    int whole = program->max_tokens < tn_row_limit(program) ? program->max_tokens : tn_row_limit(program);
    if (!program->causal && s->length + count > whole)
        return tn_fail(failure, TN_BAD_INPUT, "%s reads whole sequences of at most %d tokens, and this one has %d", program->model, whole, s->length + count);
    int limit = program->input_limits ? program->input_limits[0] : 0;
    if (!limit && engine->tokenizer)
        limit = tokenizer_count(engine->tokenizer);
    for (int i = 0; i < count; i++)
        if (ids[i] < 0 || (limit && ids[i] >= limit))
            return tn_fail(failure, TN_BAD_INPUT, "token %d: the model's ids are 0 … %d", ids[i], limit - 1);
    if (session_room(s, count, failure))
        return -1;
    s->parked = s->parked && !count;
    for (int i = 0; i < count; i++) {
        s->tokens[s->length + i] = ids[i];
        s->want[s->length + i] = want == TN_WANT_ALL || (want == TN_WANT_LAST && i == count - 1);
    }
    s->length += count;
    return 0;
}

void tn_park(tn_engine *engine, int sequence) {
    Sequence *s = session_get(engine, sequence);
    if (!s || s->parked)
        return;
    s->parked = true;
    s->done = 0;
    memset(s->want, 0, (size_t)s->length);
    tn_kv_release(engine->kv, &s->table, 0);
}

static int session_waiting(const Sequence *s) { return s->used && !s->parked ? s->length - s->done : 0; }

int tn_pending(const tn_engine *engine) {
    int pending = 0;
    for (int i = 0; i < engine->sequence_count; i++)
        pending += session_waiting(&engine->sequences[i]);
    return pending;
}

// ---- a step ---------------------------------------------------------------------------------------------------------------

// How many of the sequence's waiting tokens still fit. 0: none (an encoder's come whole or not at all).
static int session_share(const tn_engine *engine, const Sequence *s, int tokens_left, int *rows_left) {
    int waiting = s->length - s->done, rows = *rows_left;
    if (!engine->program->causal) {
        if (waiting > tokens_left || waiting > rows)
            return 0;
        *rows_left -= engine->program->out_kind == TN_PER_ROW ? waiting : 0;
        return waiting;
    }
    int count = waiting < tokens_left ? waiting : tokens_left;
    if (engine->program->out_kind != TN_PER_ROW)
        return count;
    for (int i = 0; i < count; i++) {
        if (s->want[s->done + i] && rows-- == 0)
            return i;
        if (s->want[s->done + i])
            *rows_left = rows;
    }
    return count;
}

// Chooses tokens and fills the step's arrays, all but the pages. Returns the number of sequences.
static int session_choose(tn_engine *engine, tn_step *step) {
    StepBuffers *buffers = &engine->step;
    int sequences = 0, tokens = 0, start = engine->in_order ? 0 : engine->next, rows_left = tn_row_limit(engine->program), rows = 0;
    for (int n = 0; n < engine->sequence_count && sequences < engine->program->max_sequences; n++) {
        int handle = (start + n) % engine->sequence_count;
        const Sequence *s = &engine->sequences[handle];
        int count = session_waiting(s) ? session_share(engine, s, engine->chunk - tokens, &rows_left) : 0;
        if (!count)
            continue;
        for (int i = 0; i < count; i++, tokens++) {
            buffers->ids[tokens] = s->tokens[s->done + i];
            buffers->position[tokens] = s->done + i;
            buffers->sequence[tokens] = sequences;
            if (s->want[s->done + i] && engine->program->out_kind == TN_PER_ROW)
                buffers->keep[rows++] = tokens;
        }
        buffers->first[sequences] = tokens - count;
        buffers->handle[sequences] = handle;
        buffers->taken[sequences++] = count;
    }
    buffers->first[sequences] = tokens;
    step->tokens = tokens;
    step->sequences = sequences;
    step->rows = rows;
    return sequences;
}

static int session_pages(tn_engine *engine, tn_step *step, tn_failure *failure) {
    StepBuffers *buffers = &engine->step;
    int most = 0;
    if (!engine->program->page_bytes)
        return 0;
    for (int i = 0; i < step->sequences; i++) {
        Sequence *s = &engine->sequences[buffers->handle[i]];
        if (tn_kv_reserve(engine->kv, &s->table, s->done + buffers->taken[i], failure))
            return -1;
        most = s->table.count > most ? s->table.count : most;
    }
    size_t needed = (size_t)most * (size_t)step->sequences;
    if (needed > buffers->page_room) {
        unsigned char **pages = realloc(buffers->pages, needed * sizeof *pages);
        if (!pages)
            return tn_fail(failure, TN_BAD_MACHINE, "no memory for tables of %zu KV pages", needed);
        buffers->pages = pages;
        buffers->page_room = needed;
    }
    for (int i = 0; i < step->sequences; i++) {
        const PageTable *table = &engine->sequences[buffers->handle[i]].table;
        unsigned char **row = buffers->pages + (size_t)i * (size_t)most;
        for (int page = 0; page < most; page++)
            row[page] = page < table->count ? table->pages[page] : NULL;
    }
    step->pages = buffers->pages;
    step->pages_per_sequence = most;
    return 0;
}

// Room for at least so many floats.
static bool session_floats(float **floats, size_t *room, size_t needed) {
    if (needed <= *room)
        return true;
    free(*floats);
    *room = 0;
    if (posix_memalign((void **)floats, 64, needed * sizeof(float))) {
        *floats = NULL;
        return false;
    }
    *room = needed;
    return true;
}

static int session_out(tn_engine *engine, tn_step *step, tn_failure *failure) {
    StepBuffers *buffers = &engine->step;
    const tn_program *program = engine->program;
    int kind = program->out_kind;
    size_t rows = (size_t)(kind == TN_PER_TOKEN ? step->tokens : kind == TN_PER_ROW ? step->rows : step->sequences);
    if (!session_floats(&buffers->out, &buffers->out_room, rows * (size_t)program->out_width) ||
        !session_floats(&buffers->largest, &buffers->largest_room, rows * (size_t)program->out_blocks))
        return tn_fail(failure, TN_BAD_MACHINE, "no memory for %zu rows of output", rows);
    step->out = buffers->out;
    step->largest = program->out_blocks ? buffers->largest : NULL;
    return 0;
}

static void session_rows(tn_engine *engine, const tn_step *step) {
    StepBuffers *buffers = &engine->step;
    size_t width = (size_t)engine->program->out_width;
    int kind = engine->program->out_kind, count = 0;
    for (int i = 0; kind == TN_PER_ROW && i < step->rows; i++) {
        int token = buffers->keep[i];
        buffers->rows[count++] = (tn_row){buffers->handle[buffers->sequence[token]], buffers->position[token], step->out + (size_t)i * width};
    }
    for (int t = 0; kind == TN_PER_TOKEN && t < step->tokens; t++) {
        int handle = buffers->handle[buffers->sequence[t]];
        if (engine->sequences[handle].want[buffers->position[t]])
            buffers->rows[count++] = (tn_row){handle, buffers->position[t], step->out + (size_t)t * width};
    }
    for (int i = 0; kind == TN_PER_SEQUENCE && i < step->sequences; i++) {
        const Sequence *s = &engine->sequences[buffers->handle[i]];
        if (s->done == s->length && s->want[s->length - 1])
            buffers->rows[count++] = (tn_row){buffers->handle[i], 0, step->out + (size_t)i * width};
    }
    buffers->row_count = count;
}

int tn_run(tn_engine *engine, tn_failure *failure) {
    StepBuffers *buffers = &engine->step;
    size_t length;
    buffers->row_count = 0;
    tn_step step = {.weights = tn_blob_section(engine->blob, SECTION_WEIGHTS, &length), .arena = engine->arena, .inputs = buffers->inputs,
                    .position = buffers->position, .sequence = buffers->sequence, .first = buffers->first, .keep = buffers->keep, .observe = engine->observe, .observe_to = engine->observe_to};
    if (!session_choose(engine, &step))
        return 0;
    if (session_pages(engine, &step, failure) || session_out(engine, &step, failure))
        return -1;
    if (engine->pager) {
        step.weights = tn_pager_weights(engine->pager);
        step.page = tn_pager_page;
        step.guess = tn_pager_guess;
        step.pager = engine->pager;
        if (session_bound(engine, failure))
            return -1;
    }
    tn_team_run(engine->team, engine->program, &step, engine->kernel_ns);
    if (engine->pager && tn_pager_end_step(engine->pager, failure))
        return -1;
    if (tn_blob_same(engine->blob, &engine->stamp, failure))
        return -1;               // what the step made of other weights is worth nothing
    for (int i = 0; i < step.sequences; i++)
        engine->sequences[buffers->handle[i]].done += buffers->taken[i];
    engine->next = (buffers->handle[step.sequences - 1] + 1) % engine->sequence_count;
    session_rows(engine, &step);
    return buffers->row_count;
}

const tn_row *tn_rows(const tn_engine *engine) { return engine->step.rows; }

const float *tn_row_largest(const tn_engine *engine, int row) {
    const tn_program *program = engine->program;
    ptrdiff_t out = (engine->step.rows[row].values - engine->step.out) / program->out_width;
    return program->out_blocks ? engine->step.largest + out * program->out_blocks : NULL;
}

// ---- text -----------------------------------------------------------------------------------------------------------------

int tn_encode(const tn_engine *engine, const char *text, size_t length, int special, int *ids, int room, tn_failure *failure) {
    char message[256];
    int32_t *all = NULL;
    int count = 0;
    unsigned flags = special == 1 ? TOKENIZER_SPECIALS | TOKENIZER_PARSE : special == 2 ? TOKENIZER_PARSE : 0;
    if (!engine->tokenizer)
        return tn_fail(failure, TN_BAD_INPUT, "%s has no tokenizer; give token ids", engine->program->model);
    if (!tokenizer_encode(engine->tokenizer, text, length, flags, &all, &count, message, sizeof message))
        return tn_fail(failure, TN_BAD_INPUT, "%s", message);
    for (int i = 0; i < count && i < room; i++)
        ids[i] = all[i];
    free(all);
    return count;
}

size_t tn_decode(const tn_engine *engine, const int *ids, int count, int special, char *text, size_t room) {
    size_t length = 0;
    char *all = engine->tokenizer ? tokenizer_decode(engine->tokenizer, ids, count, special ? TOKENIZER_SHOW : 0, &length) : NULL;
    size_t copied = length < room ? length : room ? room - 1 : 0;
    if (all && copied)
        memcpy(text, all, copied);
    if (room)
        text[all ? copied : 0] = 0;
    free(all);
    return all ? length : 0;
}

int tn_is_end(const tn_engine *engine, int id) { return engine->tokenizer && tokenizer_is_end(engine->tokenizer, id); }
