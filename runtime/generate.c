// Generation: run a step, draw a token for each row, hand its text on, queue it; until every sequence has a reason to end.
//
// Text is handed on as soon as it is certain: whole characters (the tokenizer's stream holds back incomplete ones) that can no longer be the
// beginning of a stop text. A stop text that names a special token ("<|im_end|>") ends at that token as well, since special tokens
// have no text.
#include "runtime/engine.h"
#include <stdlib.h>
#include <string.h>

typedef struct { const char **texts; int count; int *ends; int end_count; } StopSet;

typedef struct {
    int sequence, produced, result;              // result 0: still going
    TokenizerStream stream;
    char *held; size_t held_length, held_room;   // text that may become a stop text
} Generation;

typedef struct { tn_engine *engine; const tn_generation *how; StopSet stops; Generation *all; int count, active, parking; tn_failure *failure; } GenerateLoop;

static int generate_stop_add(GenerateLoop *loop, const char *text) {
    StopSet *stops = &loop->stops;
    const Tokenizer *tokenizer = loop->engine->tokenizer;
    if (!*text)
        return 0;
    const char **texts = realloc(stops->texts, (size_t)(stops->count + 1) * sizeof *texts);
    if (texts)
        stops->texts = texts;
    int *ends = texts ? realloc(stops->ends, (size_t)(stops->end_count + 1) * sizeof *ends) : NULL;
    if (!ends)
        return tn_fail(loop->failure, TN_BAD_MACHINE, "no memory for the stop texts");
    stops->ends = ends;
    texts[stops->count++] = text;
    int id = tokenizer ? tokenizer_find(tokenizer, text, strlen(text)) : -1;
    if (id >= 0 && tokenizer_is_special(tokenizer, id))
        ends[stops->end_count++] = id;
    return 0;
}

static int generate_stops(GenerateLoop *loop) {
    const char *text;
    for (int i = 0; i < loop->how->stop_count; i++)
        if (generate_stop_add(loop, loop->how->stops[i]))
            return -1;
    for (int i = 0; !loop->how->ignore_end && (text = tn_meta(loop->engine, "stop", i)); i++)
        if (generate_stop_add(loop, text))
            return -1;
    return 0;
}

static bool generate_is_end(const GenerateLoop *loop, int id) {
    if (!loop->how->ignore_end && tn_is_end(loop->engine, id))
        return true;
    for (int i = 0; i < loop->stops.end_count; i++)
        if (loop->stops.ends[i] == id)
            return true;
    return false;
}

// Length of the text before the earliest stop text; `length` when there is none.
static size_t generate_find_stop(const StopSet *stops, const char *text, size_t length) {
    size_t found = length;
    for (int i = 0; i < stops->count; i++) {
        const char *at = length ? memmem(text, length, stops->texts[i], strlen(stops->texts[i])) : NULL;
        if (at && (size_t)(at - text) < found)
            found = (size_t)(at - text);
    }
    return found;
}

// Length of the longest end of the text that begins a stop text.
static size_t generate_maybe_stop(const StopSet *stops, const char *text, size_t length) {
    size_t longest = 0;
    for (int i = 0; i < stops->count; i++) {
        size_t most = strlen(stops->texts[i]) - 1;
        for (size_t n = most < length ? most : length; n > longest; n--)
            if (!memcmp(text + length - n, stops->texts[i], n))
                longest = n;
    }
    return longest;
}

static void generate_end(GenerateLoop *loop, Generation *one, int result) {
    if (!one->result) {
        one->result = result;
        loop->active--;
        loop->parking |= loop->how->many;
    }
}

static void generate_emit(GenerateLoop *loop, Generation *one, size_t length) {
    if (length && loop->how->on_text && loop->how->on_text(loop->how->to, one->sequence, one->held, length))
        generate_end(loop, one, TN_STOPPED_BY_CALLER);
    one->held_length -= length;
    if (one->held_length)
        memmove(one->held, one->held + length, one->held_length);
}

// More text; `last`: none will follow. Emits what is certain.
static int generate_text(GenerateLoop *loop, Generation *one, const char *text, size_t length, bool last) {
    if (one->held_length + length > one->held_room) {
        size_t room = (one->held_length + length) * 2 + 64;
        char *held = realloc(one->held, room);
        if (!held)
            return tn_fail(loop->failure, TN_BAD_MACHINE, "no memory for generated text");
        one->held = held;
        one->held_room = room;
    }
    if (length)
        memcpy(one->held + one->held_length, text, length);
    one->held_length += length;
    size_t stop = generate_find_stop(&loop->stops, one->held, one->held_length);
    if (stop < one->held_length) {
        if (one->result)
            one->result = TN_STOPPED_AT_TEXT;
        generate_end(loop, one, TN_STOPPED_AT_TEXT);
        one->held_length = stop;
        last = true;
    }
    generate_emit(loop, one, last ? one->held_length : one->held_length - generate_maybe_stop(&loop->stops, one->held, one->held_length));
    return 0;
}

static int generate_token(GenerateLoop *loop, Generation *one, int id) {
    tn_engine *engine = loop->engine;
    size_t length = 0;
    if (!engine->first_ns)
        engine->first_ns = tn_now();
    if (generate_is_end(loop, id)) {
        generate_end(loop, one, TN_STOPPED_AT_END);
    } else {
        if (engine->tokenizer) {
            const char *text = tokenizer_stream_push(&one->stream, id, &length);
            if (generate_text(loop, one, text, length, false))
                return -1;
        }
        if (++one->produced == loop->how->most)
            generate_end(loop, one, TN_STOPPED_AT_LENGTH);
        if (tn_length(engine, one->sequence) == tn_context(engine) - 1)
            generate_end(loop, one, TN_STOPPED_AT_CONTEXT);
        if (tn_add(engine, one->sequence, &id, 1, one->result ? TN_WANT_NONE : TN_WANT_LAST, loop->failure))
            return -1;
    }
    if (!one->result || one->result == TN_STOPPED_AT_TEXT || one->result == TN_STOPPED_BY_CALLER || !engine->tokenizer)
        return 0;
    const char *rest = tokenizer_stream_end(&one->stream, &length);
    return generate_text(loop, one, rest, length, true);
}

static Generation *generate_find(GenerateLoop *loop, int sequence) {
    for (int i = 0; i < loop->count; i++)
        if (loop->all[i].sequence == sequence)
            return &loop->all[i];
    return NULL;
}

// Gives back the caches of those that ended in this step, after their rows were used.
static void generate_park(GenerateLoop *loop) {
    for (int i = 0; loop->parking && i < loop->count; i++)
        if (loop->all[i].result)
            tn_park(loop->engine, loop->all[i].sequence);
    loop->parking = 0;
}

// Keeps when each step's tokens were there, the last few thousand of them.
static void generate_time(tn_engine *engine) {
    if (engine->first_ns)
        engine->token_ns[engine->token_count++ % ENGINE_TOKENS] = tn_now();
}

static int generate_loop(GenerateLoop *loop) {
    tn_engine *engine = loop->engine;
    generate_park(loop);
    while (loop->active) {
        int rows = tn_run(engine, loop->failure);
        if (rows < 0)
            return -1;
        if (!rows && !tn_pending(engine))
            return tn_fail(loop->failure, TN_BAD_INPUT, "a sequence without waiting tokens cannot be continued");
        for (int i = 0; i < rows; i++) {
            const tn_row *row = &engine->step.rows[i];
            Generation *one = generate_find(loop, row->sequence);
            if (!one || one->result || row->position != tn_length(engine, row->sequence) - 1)
                continue;
            int id = tn_draw(row->values, tn_row_largest(engine, i), tn_width(engine), tn_tokens(engine, row->sequence), tn_length(engine, row->sequence),
                             &loop->how->sampling, loop->failure);
            if (id < 0 || generate_token(loop, one, id))
                return -1;
        }
        generate_park(loop);
        generate_time(engine);
    }
    return 0;
}

int tn_generate(tn_engine *engine, const int *sequences, int count, const tn_generation *how, int *results, tn_failure *failure) {
    GenerateLoop loop = {.engine = engine, .how = how, .count = count, .active = count, .failure = failure};
    int failed = 0;
    engine->first_ns = 0;
    engine->token_count = 0;
    if (engine->program->out_kind != TN_PER_ROW)
        return tn_fail(failure, TN_BAD_INPUT, "%s is not a language model: it has no next token", engine->program->model);
    loop.all = calloc((size_t)count + 1, sizeof *loop.all);
    if (!loop.all)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory to generate for %d sequences", count);
    for (int i = 0; i < count; i++) {
        loop.all[i] = (Generation){.sequence = sequences[i]};
        if (engine->tokenizer)
            tokenizer_stream_open(&loop.all[i].stream, engine->tokenizer, 0);
        if (how->most == 0 || tn_length(engine, sequences[i]) == tn_context(engine))
            generate_end(&loop, &loop.all[i], how->most ? TN_STOPPED_AT_CONTEXT : TN_STOPPED_AT_LENGTH);
    }
    engine->in_order = how->many;
    failed = generate_stops(&loop) || generate_loop(&loop) ? -1 : 0;
    engine->in_order = false;
    for (int i = 0; i < count; i++) {
        results[i] = loop.all[i].result;
        if (engine->tokenizer)
            tokenizer_stream_close(&loop.all[i].stream);
        free(loop.all[i].held);
    }
    free(loop.all);
    free(loop.stops.texts);
    free(loop.stops.ends);
    return failed;
}
