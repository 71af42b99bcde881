// The body of a template, as text, for one source.
//
// Blocks and model are copied as they stand, comments and all, because what import writes is meant to be read. Three things change, each
// within a line:
//   {hf: A, gguf: B}       becomes A or B; when neither is meant, the entry (or the whole line) goes
//   when: CONDITION        over config values: goes when it holds; when it does not, the parameter's line goes, and its uses as an argument
//   name=value             a named argument whose value is a config entry that is `none` goes
#include "frontend/import.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const BodyRewrite *how;
    int dropped_count, dropped_capacity; const char **dropped;   // parameters that are left out
    int kept_count, kept_capacity; const char **kept;            // parameters: a config entry of that name is hidden
    bool good;
} Rewriter;

static bool word_char(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

static size_t word_length(const char *text) {
    size_t n = 0;
    while (word_char(text[n]))
        n++;
    return n;
}

bool text_uses_name(const char *text, const char *name) {
    size_t length = strlen(name);
    for (const char *at = text; (at = strstr(at, name)); at++)
        if ((at == text || !word_char(at[-1])) && !word_char(at[length]))
            return true;
    return false;
}

static bool contains(const char *const *names, int count, const char *name, size_t length) {
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && strncmp(names[i], name, length) == 0)
            return true;
    return false;
}

// line[from, to) becomes `by`.
static void replace(Text *line, size_t from, size_t to, const char *by, size_t length) {
    Text out = {0};
    text_add(&out, line->data, from);
    text_add(&out, by, length);
    text_add(&out, line->data + to, line->length - to);
    text_free(line);
    *line = out;
}

// The end of a piece of a flow map that starts at `at`: the ',' or '}' that closes it, or the end of the text.
static size_t piece_end(const char *text, size_t at) {
    int depth = 0;
    char quote = 0;
    for (; text[at]; at++) {
        char c = text[at];
        if (quote) {
            if (c == '\\' && quote == '"' && text[at + 1])
                at++;
            else if (c == quote)
                quote = 0;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '{' || c == '[' || c == '(') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == '}')) {
            break;
        } else if (c == '}' || c == ']' || c == ')') {
            depth--;
        }
    }
    return at;
}

// ---- source maps --------------------------------------------------------------------------------------------------

// Finds the next '{' that opens a map whose first key is a choice; comments are left alone.
static bool find_choice(const Rewriter *rewriter, const Text *line, size_t from, size_t *at) {
    char quote = 0;
    for (size_t i = from; i < line->length; i++) {
        char c = line->data[i];
        if (quote) {
            if (c == quote)
                quote = 0;
            continue;
        }
        if (c == '#' && (i == 0 || line->data[i - 1] == ' '))
            return false;
        if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '{') {
            const char *word = line->data + i + 1;
            size_t length = word_length(word);
            if (length && word[length] == ':' && rewriter->how->is_choice(rewriter->how->context, word, length)) {
                *at = i;
                return true;
            }
        }
    }
    return false;
}

// The value of the best key; false when no key is meant. *end: behind the map.
static bool choose(Rewriter *rewriter, const Text *line, size_t at, size_t *value, size_t *value_end, size_t *end) {
    int best = -1;
    size_t i = at + 1;
    for (;;) {
        i += strspn(line->data + i, " ");
        size_t length = word_length(line->data + i), from = i + length, to;
        if (!length || line->data[from] != ':') {
            rewriter->good = false;
            *end = line->length;
            return false;
        }
        from += 1 + strspn(line->data + from + 1, " ");
        to = piece_end(line->data, from);
        int rank = rewriter->how->choose(rewriter->how->context, line->data + i, length);
        if (rank >= 0 && (best < 0 || rank < best)) {
            best = rank;
            *value = from;
            *value_end = to;
        }
        i = to + (line->data[to] != 0);
        if (line->data[to] != ',')
            break;
    }
    *end = i;
    return best >= 0;
}

// A quoted statement reads better without quotes, where YAML lets it.
static bool plain_statement(const Text *line, size_t at, const char *value, size_t length) {
    size_t indent = strspn(line->data, " ");
    if (at != indent + 2 || line->data[indent] != '-' || length < 3 || value[0] != '"' || value[length - 1] != '"' || !word_char(value[1]))
        return false;
    for (size_t i = 1; i < length - 1; i++)
        if (value[i] == '\\' || (value[i] == ':' && value[i + 1] == ' ') || (value[i] == ' ' && value[i + 1] == '#'))
            return false;
    return true;
}

// Drops `key: ` before the map at `at` with the map; false when the whole line is to go.
static bool drop_entry(Text *line, size_t at, size_t end) {
    size_t from = at;
    while (from > 0 && line->data[from - 1] != ',' && line->data[from - 1] != '{' && line->data[from - 1] != '\n')
        from--;
    if (from == 0 || line->data[from - 1] == '\n')
        return false;
    if (line->data[from - 1] == ',')
        from--;
    else if (line->data[end] == ',')
        end += 1 + strspn(line->data + end + 1, " ");
    replace(line, from, end, "", 0);
    return true;
}

static bool choose_sources(Rewriter *rewriter, Text *line) {
    size_t at = 0, value = 0, value_end = 0, end = 0;
    while (find_choice(rewriter, line, at, &at)) {
        if (!choose(rewriter, line, at, &value, &value_end, &end)) {
            if (!rewriter->good || !drop_entry(line, at, end))
                return false;
            at = 0;
            continue;
        }
        while (value_end > value && line->data[value_end - 1] == ' ')
            value_end--;
        if (plain_statement(line, at, line->data + value, value_end - value)) {
            value++;
            value_end--;
        }
        char *text = strndup(line->data + value, value_end - value);
        replace(line, at, end, text ? text : "", text ? value_end - value : 0);
        free(text);
    }
    return true;
}

static void put_prefix(const Rewriter *rewriter, Text *line) {
    for (char *at; (at = strstr(line->data, "{prefix}"));)
        replace(line, (size_t)(at - line->data), (size_t)(at - line->data) + 8, rewriter->how->prefix, strlen(rewriter->how->prefix));
}

// ---- parameters and arguments -------------------------------------------------------------------------------------

// `  name: {shape: …, when: CONDITION}`: false when the line is to go.
static bool settle_parameter(Rewriter *rewriter, Text *line) {
    Arena *arena = rewriter->how->arena;
    size_t indent = strspn(line->data, " "), length = word_length(line->data + indent);
    const char *map = line->data + indent + length + 1;
    if (!length || line->data[indent + length] != ':' || map[strspn(map, " ")] != '{' || !strstr(map, "shape:"))
        return true;
    const char *name = arena_strndup(arena, line->data + indent, length), *when = strstr(map, ", when: ");
    if (when) {
        size_t from = (size_t)(when - line->data), to = piece_end(line->data, from + 8);
        int holds = rewriter->how->condition(rewriter->how->context, arena_strndup(arena, when + 8, to - from - 8));
        rewriter->good = rewriter->good && holds >= 0;
        if (holds <= 0) {
            ARENA_PUSH(arena, rewriter->dropped, rewriter->dropped_count, rewriter->dropped_capacity) = name;
            return false;
        }
        replace(line, from, to, "", 0);
    }
    ARENA_PUSH(arena, rewriter->kept, rewriter->kept_count, rewriter->kept_capacity) = name;
    return true;
}

// Arguments of a statement: `f(a, gone)` becomes `f(a)`, `f(a, gone, b)` `f(a, none, b)`, `f(a, x=gone)` `f(a)`.
static void settle_arguments(Rewriter *rewriter, Text *line) {
    for (size_t i = 0, length; i < line->length; i += length ? length : 1) {
        const char *word = line->data + i;
        length = i > 0 && word_char(line->data[i - 1]) ? 0 : word_length(word);
        if (!length || isdigit((unsigned char)*word))
            continue;
        char *name = arena_strndup(rewriter->how->arena, word, length);
        bool dropped = contains(rewriter->dropped, rewriter->dropped_count, name, length)
            && !contains(rewriter->kept, rewriter->kept_count, name, length);
        bool none = !dropped && !contains(rewriter->kept, rewriter->kept_count, name, length)
            && rewriter->how->is_none(rewriter->how->context, name);
        bool last = word[length] == ')', ends = last || word[length] == ',';
        size_t from = i;
        if ((!dropped && !none) || !ends)
            continue;
        bool named = from > 0 && line->data[from - 1] == '=';
        if (named)
            for (from--; from > 0 && word_char(line->data[from - 1]);)
                from--;
        bool follows = from > 1 && line->data[from - 1] == ' ' && line->data[from - 2] == ',';
        if (follows && (named || (last && dropped))) {
            replace(line, from - 2, i + length, "", 0);
            i = from - 2;
            length = 0;
        } else if (dropped) {
            replace(line, i, i + length, "none", 4);
            length = 4;
        }
    }
}

static bool is_statement(const Text *line) {
    size_t indent = strspn(line->data, " ");
    return line->data[indent] == '-' && line->data[indent + 1] == ' ';
}

static bool each_line(Rewriter *rewriter, const char *text, size_t length, Text *out, bool (*settle)(Rewriter *, Text *)) {
    for (size_t at = 0; at < length && rewriter->good;) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t next = end ? (size_t)(end - text) + 1 : length;
        Text line = {0};
        text_add(&line, text + at, (end ? next - 1 : next) - at);
        if (settle(rewriter, &line)) {
            text_add(out, line.data, line.length);
            text_puts(out, "\n");
        }
        text_free(&line);
        at = next;
    }
    return rewriter->good;
}

static bool first_pass(Rewriter *rewriter, Text *line) {
    if (!choose_sources(rewriter, line))
        return false;
    put_prefix(rewriter, line);
    return settle_parameter(rewriter, line);
}

static bool second_pass(Rewriter *rewriter, Text *line) {
    if (is_statement(line))
        settle_arguments(rewriter, line);
    return true;
}

bool body_rewrite(const BodyRewrite *rewrite, const char *text, size_t length, Text *out) {
    Rewriter rewriter = {.how = rewrite, .good = true};
    Text chosen = {0};
    bool good = each_line(&rewriter, text, length, &chosen, first_pass)
        && each_line(&rewriter, chosen.data, chosen.length, out, second_pass);
    text_free(&chosen);
    return good;
}
