// chat_reduce: a Jinja chat template becomes five texts, by experiment.
//
// The template is rendered on short conversations whose messages are sentinels. Where a sentinel lands, {text} stands; what surrounds it is
// cut into what belongs to each role. The cuts between neighbours (does a newline end the reply or begin the question?) are not unique, so
// cuts that give the same text for the same role, or that fall on eos and bos, are tried first. Then a longer conversation is rendered both
// ways and compared: only what passes that is believed.
#include "frontend/chat.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 2000000, MOST_BYTES = 64 << 20, MOST_MESSAGES = 8 };

typedef struct { const char *role, *text; } Message;
typedef struct { const char *at; size_t length; } Part;

typedef struct {
    Arena *arena;
    Diags *diags;
    const char *jinja, *bos, *eos;
    char *why;                          // the last render's error
} Reducer;

// ---- rendering ---------------------------------------------------------------------------------------------------------

static void put(Jinja *j, JFrame *frame, const char *name, JValue value) {
    int count = frame->count;
    ARENA_PUSH(j->arena, frame->names, count, frame->names_capacity) = name;
    ARENA_PUSH(j->arena, frame->values, frame->count, frame->values_capacity) = value;
}

static JValue text_value(const char *text) { return J_STRING_OF(text, strlen(text)); }

static JFrame *globals(Jinja *j, const Reducer *r, const Message *messages, int count, bool generation) {
    JFrame *frame = jinja_alloc(j, sizeof *frame);
    JValue list = j_list(j);
    for (int i = 0; i < count; i++) {
        JValue message = j_map(j);
        j_put(j, message, J_TEXT("role"), text_value(messages[i].role));
        j_put(j, message, J_TEXT("content"), text_value(messages[i].text));
        j_push(j, list, message);
    }
    put(j, frame, "messages", list);
    put(j, frame, "add_generation_prompt", J_TRUTH(generation));
    put(j, frame, "tools", (JValue){.kind = J_NONE});
    put(j, frame, "documents", (JValue){.kind = J_NONE});
    if (r->bos) put(j, frame, "bos_token", text_value(r->bos));
    if (r->eos) put(j, frame, "eos_token", text_value(r->eos));
    return frame;
}

// The text, in the reducer's arena; NULL with r->why when the template fails on this conversation.
static char *render(Reducer *r, const Message *messages, int count, bool generation) {
    Arena *arena = arena_new();
    Jinja j = {.arena = arena, .steps = MOST_STEPS, .bytes = MOST_BYTES};
    Text out = {0};
    j.globals = globals(&j, r, messages, count, generation);
    JNode *tree = jinja_parse(&j, r->jinja, strlen(r->jinja));
    bool done = tree && jinja_render(&j, tree, &out);
    char *text = NULL;
    if (!done) r->why = arena_printf(r->arena, j.error_line ? "line %2$d: %1$s" : "%1$s", j.error, j.error_line);
    else if (out.data && memchr(out.data, 0, out.length)) r->why = "it writes NUL characters";
    else text = arena_strndup(r->arena, out.data ? out.data : "", out.length);
    text_free(&out);
    arena_free(arena);
    return text;
}

// ---- cutting -----------------------------------------------------------------------------------------------------------

#define USER_1 "Qfirstquestionq"
#define USER_2 "Qsecondquestionq"
#define REPLY "Qonlyreplyq"
#define SYSTEM "Qsysteminstructionq"

// What stands before, between and after the sentinels, each of which has to be there once and in order.
static bool cut(Reducer *r, const char *text, const char *const *sentinels, int count, Part *parts) {
    const char *from = text;
    for (int i = 0; i < count; i++) {
        const char *found = strstr(from, sentinels[i]), *first = strstr(text, sentinels[i]);
        if (!found || first != found || strstr(found + 1, sentinels[i])) {
            r->why = arena_strdup(r->arena, !first ? "it leaves a message out" : "it writes a message twice, or not in its place");
            return false;
        }
        parts[i] = (Part){from, (size_t)(found - from)};
        from = found + strlen(sentinels[i]);
    }
    parts[count] = (Part){from, strlen(from)};
    return true;
}

static bool ends_with(Part part, Part end) {
    return end.length <= part.length && !memcmp(part.at + part.length - end.length, end.at, end.length);
}
static bool begins_with(Part part, Part start) { return start.length <= part.length && !memcmp(part.at, start.at, start.length); }
static Part head(Part part, size_t length) { return (Part){part.at, length}; }
static Part tail(Part part, size_t from) { return (Part){part.at + from, part.length - from}; }
static Part part_of(const char *text) { return (Part){text ? text : "", text ? strlen(text) : 0}; }

static size_t common_head(Part a, Part b) {
    size_t n = 0;
    while (n < a.length && n < b.length && a.at[n] == b.at[n]) n++;
    return n;
}

static size_t common_tail(Part a, Part b) {
    size_t n = 0;
    while (n < a.length && n < b.length && a.at[a.length - 1 - n] == b.at[b.length - 1 - n]) n++;
    return n;
}

// A cut inside a tag like <|end|> or [/INST] is moved in front of it.
static size_t out_of_tag(Part part, size_t at) {
    for (size_t i = at; i-- > 0;) {
        char c = part.at[i];
        if (c == '>' || c == ']' || c == '\n') return at;
        if (c == '<' || c == '[') return i;
    }
    return at;
}

typedef struct { Part begin, user_head, user_tail, reply_head, reply_tail, generation; } Cuts;

// How much of what follows a question belongs to it: `after` a question before a reply, `last` before the generation prompt, `alone`
// without one.
static size_t question_tail(Part after, Part last, Part alone) {
    if (begins_with(after, alone) && begins_with(last, alone)) return alone.length;
    size_t both = common_head(after, last), all = common_head(head(after, both), alone);
    return out_of_tag(after, all);
}

// How much of `between` (a reply and the next question) belongs to the reply. `opening` is what stands before the first question: it has to
// end with the rest.
static size_t reply_tail(Part between, Part opening, Part question_tail, const char *bos, const char *eos) {
    size_t shared = common_tail(between, opening), least = between.length - shared;
    if (begins_with(between, question_tail) && question_tail.length >= least && question_tail.length) return question_tail.length;
    const char *found = eos && *eos ? memmem(between.at, between.length, eos, strlen(eos)) : NULL;
    if (found && (size_t)(found - between.at) + strlen(eos) >= least) return (size_t)(found - between.at) + strlen(eos);
    Part start = part_of(bos);
    if (start.length && begins_with(opening, start) && opening.length - start.length <= shared)
        return between.length - (opening.length - start.length);
    if (opening.length <= shared) return between.length - opening.length;
    for (size_t i = least; i < between.length; i++)                          // at the first tag or line that both share
        if (between.at[i] == '<' || between.at[i] == '[' || (i && between.at[i - 1] == '\n')) return i;
    return least;
}

static bool find_cuts(Reducer *r, Cuts *cuts) {
    static const char *const one[] = {USER_1}, *const three[] = {USER_1, REPLY, USER_2};
    const Message messages[] = {{"user", USER_1}, {"assistant", REPLY}, {"user", USER_2}};
    Part asked[2], alone[2], turns[4];
    const char *a = render(r, messages, 1, true), *b = a ? render(r, messages, 1, false) : NULL,
               *c = b ? render(r, messages, 3, true) : NULL;
    if (!c || !cut(r, a, one, 1, asked) || !cut(r, b, one, 1, alone) || !cut(r, c, three, 3, turns)) return false;
    if (asked[0].length != turns[0].length || memcmp(asked[0].at, turns[0].at, asked[0].length)) {
        r->why = "what stands before the first message depends on the others";
        return false;
    }
    if (asked[1].length != turns[3].length || memcmp(asked[1].at, turns[3].at, asked[1].length)) {
        r->why = "what stands after the last message depends on the others";
        return false;
    }
    size_t question = question_tail(turns[1], asked[1], alone[1]);
    cuts->user_tail = head(asked[1], question);
    cuts->generation = tail(asked[1], question);
    cuts->reply_head = tail(turns[1], question);
    size_t reply = reply_tail(turns[2], asked[0], cuts->user_tail, r->bos, r->eos);
    cuts->reply_tail = head(turns[2], reply);
    cuts->user_head = tail(turns[2], reply);
    if (!ends_with(asked[0], cuts->user_head)) {
        r->why = "the first question is written unlike the later ones";
        return false;
    }
    cuts->begin = head(asked[0], asked[0].length - cuts->user_head.length);
    return true;
}

static char *wrap(Part before, Part after, bool hole) {
    Text text = {0};
    text_add(&text, before.at, before.length);
    if (hole) text_puts(&text, "{text}");
    text_add(&text, after.at, after.length);
    if (!text.data) text_puts(&text, "");
    return text.data;
}

// The system message's text, NULL when it cannot be put before a question that is written as usual.
static char *find_system(Reducer *r, const Cuts *cuts) {
    static const char *const both[] = {SYSTEM, USER_1};
    const Message messages[] = {{"system", SYSTEM}, {"user", USER_1}};
    Part parts[3];
    const char *text = render(r, messages, 2, true);
    if (!text || !cut(r, text, both, 2, parts)) return NULL;
    if (!ends_with(parts[1], cuts->user_head)) return NULL;
    Part end = part_of(wrap(cuts->user_tail, cuts->generation, false));
    bool same_end = end.length == parts[2].length && !memcmp(end.at, parts[2].at, end.length);
    free((char *)end.at);
    return same_end ? wrap(parts[0], head(parts[1], parts[1].length - cuts->user_head.length), true) : NULL;
}

// ---- checking ----------------------------------------------------------------------------------------------------------

static void expand(Text *out, const char *template, const char *message) {
    const char *hole = template ? strstr(template, "{text}") : NULL;
    if (!hole) {
        text_puts(out, template ? template : "");
        return;
    }
    text_add(out, template, (size_t)(hole - template));
    text_puts(out, message);
    text_puts(out, hole + 6);
}

static bool agrees(Reducer *r, const ChatTemplates *chat, bool with_system) {
    static const Message all[] = {{"system", "Answer in one word.\n\nBe <polite>."},
                                  {"user", "What is 2 + 2?\n1) three\n2) four"},
                                  {"assistant", "Four, I think"},
                                  {"user", "Why?"},
                                  {"assistant", "Because:\n\n```\n2 + 2 = 4\n```"},
                                  {"user", "[Thanks] \"a lot\" & goodbye"}};
    const Message *messages = with_system ? all : all + 1;
    int count = with_system ? 6 : 5;
    char *theirs = render(r, messages, count, true);
    Text ours = {0};
    if (!theirs) return false;
    if (!with_system) text_puts(&ours, chat->begin ? chat->begin : "");
    for (int i = 0; i < count; i++)
        expand(&ours, *messages[i].role == 's' ? chat->system : *messages[i].role == 'u' ? chat->user : chat->assistant, messages[i].text);
    text_puts(&ours, chat->generation ? chat->generation : "");
    size_t same = 0;
    while (same < ours.length && theirs[same] && ours.data[same] == theirs[same]) same++;
    bool equal = same == ours.length && !theirs[same];
    size_t from = same > 20 ? same - 20 : 0;
    if (!equal)
        r->why = arena_printf(r->arena, "in a longer conversation it writes \"…%.40s\", where its parts give \"…%.40s\"", theirs + from,
                              ours.data + from);
    text_free(&ours);
    return equal;
}

static char *or_null(char *text) {
    if (text && *text) return text;
    free(text);
    return NULL;
}

static void drop(ChatTemplates *chat) {
    free(chat->begin);
    free(chat->system);
    free(chat->user);
    free(chat->assistant);
    free(chat->generation);
    *chat = (ChatTemplates){0};
}

static bool reduce(Reducer *r, ChatTemplates *out) {
    Cuts cuts;
    if (!find_cuts(r, &cuts)) return false;
    *out = (ChatTemplates){.begin = or_null(wrap(cuts.begin, (Part){"", 0}, false)),
                           .system = find_system(r, &cuts),
                           .user = wrap(cuts.user_head, cuts.user_tail, true),
                           .assistant = wrap(cuts.reply_head, cuts.reply_tail, true),
                           .generation = or_null(wrap(cuts.generation, (Part){"", 0}, false))};
    const char *texts[] = {out->begin, out->generation};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (texts[i] && strstr(texts[i], "{text}")) r->why = "it writes {text} itself";
    bool good = agrees(r, out, false);
    if (good && out->system && !agrees(r, out, true)) {
        free(out->system);
        out->system = NULL;
    }
    if (!good) drop(out);
    return good;
}

static bool has_hole(const char *jinja) { return strstr(jinja, "{text}") != NULL; }

// A warning is one line: control characters are shown as spaces.
static const char *one_line(Arena *arena, const char *text) {
    char *copy = arena_strdup(arena, text ? text : "unknown");
    for (char *p = copy; *p; p++)
        if ((unsigned char)*p < 0x20) *p = ' ';
    return copy;
}

bool chat_reduce(const char *jinja, const char *bos, const char *eos, ChatTemplates *out, Diags *diags) {
    Reducer r = {.arena = arena_new(), .diags = diags, .jinja = jinja, .bos = bos, .eos = eos};
    *out = (ChatTemplates){0};
    bool done = false;
    if (has_hole(jinja)) r.why = "it writes {text} itself";
    else done = reduce(&r, out);
    if (!done) {
        diag(diags, DIAG_WARNING, NOWHERE, "the chat template does not reduce to plain texts: %s", one_line(r.arena, r.why));
        diag(diags, DIAG_HINT, NOWHERE, "write chat: with user, assistant and generation into the model's description to use --chat");
    }
    arena_free(r.arena);
    return done;
}
