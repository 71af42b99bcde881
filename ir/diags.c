// The diagnostics sink: what the user did wrong, several mistakes at a time, each with its place drawn.
//
//   model.yaml:41:23: error: linear: x has 576 columns but wk expects 512
//      41 |       - k = reshape(linear(h, wk), [T, kv_heads, head_dim])
//         |                     ^~~~~~~~~~~~
//   note: h is f32[T, 576] (line 39); wk is [192, 512] from model.layers.0.self_attn.k_proj.weight
//
// A message with the notes and hints after it is a group; groups are kept in order of arrival and printed by file, then by place.
#include "ir/base.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_ERRORS = 100, LINE_SHOWN = 160 };

typedef struct { DiagKind kind; Loc loc; const char *text; int group; } Message;
typedef struct { const char *file, *text; size_t length; } Source;

struct Diags {
    Arena *arena;
    int message_count, message_capacity; Message *messages;
    int source_count, source_capacity; Source *sources;
    int errors, groups;
    bool dropping;             // the last error was beyond the limit: its notes go with it
};

Diags *diags_new(void) {
    Arena *arena = arena_new();
    Diags *diags = ARENA_NEW(arena, Diags);
    diags->arena = arena;
    return diags;
}

void diags_free(Diags *diags) {
    if (diags) arena_free(diags->arena);
}

int diags_errors(const Diags *diags) { return diags->errors; }

void diags_add_source(Diags *diags, const char *file, const char *text, size_t length) {
    Source source = {arena_strdup(diags->arena, file), arena_strndup(diags->arena, text, length), length};
    ARENA_PUSH(diags->arena, diags->sources, diags->source_count, diags->source_capacity) = source;
}

void diag_v(Diags *diags, DiagKind kind, Loc loc, const char *format, va_list args) {
    bool starts = kind == DIAG_ERROR || kind == DIAG_WARNING;
    if (kind == DIAG_ERROR) diags->errors++;
    if (starts) diags->dropping = diags->errors > MOST_ERRORS || diags->groups > 4 * MOST_ERRORS;
    if (diags->dropping) return;
    if (starts) diags->groups++;
    Text text = {0};
    text_vprintf(&text, format, args);
    if (loc.file) loc.file = arena_strdup(diags->arena, loc.file);
    Message message = {kind, loc, arena_strndup(diags->arena, text.data ? text.data : "", text.length), diags->groups};
    ARENA_PUSH(diags->arena, diags->messages, diags->message_count, diags->message_capacity) = message;
    text_free(&text);
}

void diag(Diags *diags, DiagKind kind, Loc loc, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(diags, kind, loc, format, args);
    va_end(args);
}

// ---- drawing ------------------------------------------------------------------------------------------------------

// The bytes of line `line` of the file; false when its text is not known.
static bool find_line(const Diags *diags, Loc loc, const char **line, size_t *length) {
    for (int i = diags->source_count - 1; i >= 0; i--) {
        const Source *source = &diags->sources[i];
        if (strcmp(source->file, loc.file) != 0) continue;
        const char *at = source->text, *end = source->text + source->length;
        for (int n = 1; n < loc.line; n++) {
            at = memchr(at, '\n', (size_t)(end - at));
            if (!at) return false;
            at++;
        }
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        *line = at;
        *length = (size_t)((stop ? stop : end) - at);
        if (*length && at[*length - 1] == '\r') --*length;
        return true;
    }
    return false;
}

static bool continues(char c) { return ((unsigned char)c & 0xC0) == 0x80; }   // a later byte of a UTF-8 character

// The line, cut around the place when it is long, then the caret under it: one column a character, tabs as one space.
static void draw(const Diags *diags, Loc loc, Text *out) {
    const char *line;
    size_t length;
    if (!loc.file || loc.line < 1 || !find_line(diags, loc, &line, &length)) return;
    size_t column = loc.column < 1 ? 0 : (size_t)loc.column - 1;
    if (column > length) column = length;
    size_t from = column > LINE_SHOWN * 3 / 4 && length > LINE_SHOWN ? column - LINE_SHOWN / 2 : 0;
    while (from > 0 && continues(line[from])) from--;
    size_t to = length - from > LINE_SHOWN ? from + LINE_SHOWN : length;
    while (to < length && continues(line[to])) to++;
    text_printf(out, "%5d | %s", loc.line, from ? "..." : "");
    for (size_t i = from; i < to; i++) text_add(out, (unsigned char)line[i] < ' ' || line[i] == 0x7F ? " " : &line[i], 1);
    text_puts(out, to < length ? "...\n" : "\n");
    if (loc.column < 1) return;
    text_printf(out, "      | %s", from ? "   " : "");
    for (size_t i = from; i < column; i++)
        if (!continues(line[i])) text_puts(out, " ");
    text_puts(out, "^");
    for (size_t i = column + 1; i < to && i < column + (size_t)(loc.length > 1 ? loc.length : 1); i++)
        if (!continues(line[i])) text_puts(out, "~");
    text_puts(out, "\n");
}

static void print_message(const Diags *diags, const Message *message, Text *out) {
    static const char *const kinds[] = {"error", "warning", "note", "hint"};
    Loc loc = message->loc;
    if (loc.file && loc.line > 0 && loc.column > 0) text_printf(out, "%s:%d:%d: ", loc.file, loc.line, loc.column);
    else if (loc.file && loc.line > 0) text_printf(out, "%s:%d: ", loc.file, loc.line);
    else if (loc.file) text_printf(out, "%s: ", loc.file);
    text_printf(out, "%s: %s\n", kinds[message->kind], message->text);
    draw(diags, loc, out);
}

typedef struct { int first, order; Loc loc; } Group;

static int compare_groups(const void *left, const void *right) {
    const Group *a = left, *b = right;
    const char *af = a->loc.file ? a->loc.file : "", *bf = b->loc.file ? b->loc.file : "";
    int by_file = strcmp(af, bf);
    if (by_file) return by_file;
    if (a->loc.line != b->loc.line) return a->loc.line < b->loc.line ? -1 : 1;
    if (a->loc.column != b->loc.column) return a->loc.column < b->loc.column ? -1 : 1;
    return a->order - b->order;
}

void diags_text(const Diags *diags, Text *out) {
    int count = 0;
    Group *groups = calloc((size_t)diags->message_count + 1, sizeof *groups);
    if (!groups) return;
    for (int i = 0; i < diags->message_count; i++)
        if (i == 0 || diags->messages[i].group != diags->messages[i - 1].group) {
            groups[count] = (Group){i, count, diags->messages[i].loc};
            count++;
        }
    qsort(groups, (size_t)count, sizeof *groups, compare_groups);
    for (int g = 0; g < count; g++)
        for (int i = groups[g].first; i < diags->message_count && diags->messages[i].group == diags->messages[groups[g].first].group; i++)
            print_message(diags, &diags->messages[i], out);
    if (diags->errors > MOST_ERRORS) text_printf(out, "error: %d more errors\n", diags->errors - MOST_ERRORS);
    free(groups);
}

void diags_print(const Diags *diags, FILE *to) {
    Text text = {0};
    diags_text(diags, &text);
    if (text.length) fwrite(text.data, 1, text.length, to);
    text_free(&text);
}
