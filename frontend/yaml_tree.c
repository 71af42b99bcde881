// YAML structure with places, from libyaml's events.
//
// Only structure is taken: maps, lists, and scalars as text. What makes a YAML file mean something else than it shows (anchors, aliases,
// merge keys, tags, duplicate keys, a second document) is refused by name. A scalar remembers where it stands in the source, so that a
// caret can be drawn inside it: its text is laid over the source again, through quotes, escapes, folding and indentation, when the first
// caret asks for it.
#include "frontend/language.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MOST_DEPTH = 48, MOST_NODES = 2000000 };
#define MOST_BYTES (64u << 20)

typedef struct YamlFile {
    Arena *arena;
    const char *name, *text;
    size_t length;
    uint32_t *lines;               // byte offset of each line's start
    int line_count, line_capacity;
} YamlFile;

typedef struct {
    Arena *arena;
    Diags *diags;
    YamlFile *file;
    yaml_parser_t parser;
    size_t chars, bytes;           // a mark counts characters; the last one translated, and its byte offset
    int nodes;
    bool broken;                   // libyaml gave up
    bool mistakes;                 // errors that leave a tree
} Reader;

// ---- places -------------------------------------------------------------------------------------------------------

static Loc place_at(const YamlFile *file, size_t offset, int length) {
    int low = 0, high = file->line_count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (file->lines[middle] <= offset) low = middle;
        else high = middle - 1;
    }
    return (Loc){file->name, low + 1, (int)(offset - file->lines[low]) + 1, length};
}

static size_t mark_offset(Reader *reader, yaml_mark_t mark) {
    const YamlFile *file = reader->file;
    if (mark.index < reader->chars) reader->chars = reader->bytes = 0;
    while (reader->chars < mark.index && reader->bytes < file->length) {
        reader->bytes++;
        while (reader->bytes < file->length && ((unsigned char)file->text[reader->bytes] & 0xC0) == 0x80) reader->bytes++;
        reader->chars++;
    }
    return reader->bytes;
}

static Loc mark_place(Reader *reader, yaml_mark_t mark) { return place_at(reader->file, mark_offset(reader, mark), 1); }

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Bytes of an escape in a double-quoted scalar, from its backslash; a line continuation takes the white space around it.
static size_t escape_length(const char *at, const char *end) {
    if (end - at < 2) return 1;
    size_t length = at[1] == 'x' ? 4 : at[1] == 'u' ? 6 : at[1] == 'U' ? 10 : 2;
    return length < (size_t)(end - at) ? length : (size_t)(end - at);
}

// Lays the scalar's text over its source: the source offset of each byte, and of the end.
static void make_places(Yaml *scalar) {
    const char *source = scalar->file->text, *at = source + scalar->source, *end = at + scalar->source_length;
    uint32_t *places = ARENA_ARRAY(scalar->file->arena, uint32_t, (int64_t)scalar->length + 1);
    char style = at < end ? *at : 0;
    bool block = scalar->quoted && (style == '|' || style == '>'), quoted = scalar->quoted && (style == '"' || style == '\'');
    if (quoted) at++;
    size_t indent = 0;
    if (block) {
        while (at < end && *at != '\n') at++;
        while (at < end && blank(*at)) indent = *at == '\n' ? 0 : indent + 1, at++;
    }
    for (size_t i = 0; i < scalar->length; i++) {
        char c = scalar->text[i];
        if (quoted && style == '"')   // a line continuation stands for nothing
            while (end - at >= 2 && at[0] == '\\' && (at[1] == '\n' || at[1] == '\r'))
                for (at += 2; at < end && blank(*at);) at++;
        places[i] = (uint32_t)(at - source);
        if (at >= end) continue;
        if (quoted && style == '"' && *at == '\\') {
            at += escape_length(at, end);
            while (i + 1 < scalar->length && ((unsigned char)scalar->text[i + 1] & 0xC0) == 0x80) places[i + 1] = places[i], i++;
        } else if (quoted && style == '\'' && *at == '\'' && c == '\'') {
            at += end - at >= 2 ? 2 : 1;
        } else if (block && *at == '\n') {   // a line end, kept or folded, and the indentation after it
            at++;
            for (size_t n = 0; n < indent && at < end && *at == ' '; n++) at++;
        } else if (c == '\n' || (c == ' ' && (*at == '\n' || *at == '\r'))) {
            while (at < end && blank(*at)) {
                at++;
                if (c == '\n' && i + 1 < scalar->length && scalar->text[i + 1] == '\n' && at[-1] == '\n') break;
            }
        } else if (c == ' ' && blank(*at)) {
            const char *run = at;
            while (run < end && (*run == ' ' || *run == '\t')) run++;
            at = run < end && (*run == '\n' || *run == '\r') ? run : at + 1;
            if (at == run && run < end && blank(*run)) while (at < end && blank(*at)) at++;
        } else {
            at++;
        }
    }
    places[scalar->length] = (uint32_t)(at <= end ? at - source : end - source);
    scalar->places = places;
}

Loc yaml_place(const Yaml *scalar, int offset, int length) {
    if (scalar->kind != YAML_SCALAR || !scalar->file) return scalar->loc;
    if (!scalar->places) make_places((Yaml *)scalar);
    int count = (int)scalar->length;
    if (offset < 0) offset = 0;
    if (offset > count) offset = count;
    int stop = length > count - offset ? count : offset + (length > 0 ? length : 0);
    uint32_t from = scalar->places[offset], to = scalar->places[stop];
    // An end right after a fold or escape lies where the next byte starts: the last byte says where the piece really ends.
    if (stop > offset && scalar->places[stop - 1] + 1 < to && !scalar->quoted) to = scalar->places[stop - 1] + 1;
    return place_at(scalar->file, from, to > from ? (int)(to - from) : 1);
}

bool yaml_ends_at_comma(const Yaml *scalar) {
    if (scalar->quoted || !scalar->file) return false;
    const char *at = scalar->file->text + scalar->source + scalar->source_length, *end = scalar->file->text + scalar->file->length;
    while (at < end && blank(*at)) at++;
    return at < end && *at == ',';
}

// ---- the tree -----------------------------------------------------------------------------------------------------

static void mistake(Reader *reader, Loc loc, const char *message, const char *hint) {
    diag_error(reader->diags, loc, "%s", message);
    if (hint) diag(reader->diags, DIAG_HINT, NOWHERE, "%s", hint);
    reader->mistakes = true;
}

typedef struct { const char *problem, *message, *hint; } Explanation;   // a part of libyaml's message, and ours

static void explain_syntax(Reader *reader) {
    static const Explanation known[] = {
        {"mapping values are not allowed", "a colon is not expected here", "quote a text that contains a colon and a space"},
        {"cannot start any token", "a text cannot start with this character", "quote a text that starts with @, ` or %"},
        {"',' or ']'", "expected ',' or ']' in a list", "inside [ ] quote a text that contains [ ] { } or a comma"},
        {"',' or '}'", "expected ',' or '}' in a map", "inside { } quote a text that contains { } [ ] or a comma, such as a name pattern"},
        {"block sequence", "expected '-' at the start of the next list item",
         "check the indentation: items of one list start in the same column"},
        {"expected key", "expected a key here",
         "check the indentation: keys of one map start in the same column; a value that begins with a quoted text is quoted whole"},
        {"simple key", "a key needs a colon after it", "check the indentation, and that ':' is followed by a space"},
        {"unexpected end of stream", "the file ends inside a quoted text", "close the quote"},
    };
    yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem ? parser->problem : "cannot be read";
    reader->broken = true;
    if (parser->error == YAML_READER_ERROR) {
        size_t offset = parser->problem_offset < reader->file->length ? parser->problem_offset : reader->file->length;
        diag_error(reader->diags, place_at(reader->file, offset, 1), "yaml: %s (a description is UTF-8 text)", problem);
        return;
    }
    Loc loc = mark_place(reader, parser->problem_mark);
    size_t at = mark_offset(reader, parser->problem_mark);
    if (at < reader->file->length && reader->file->text[at] == '\t') {
        diag_error(reader->diags, loc, "yaml: a tab cannot indent");
        diag(reader->diags, DIAG_HINT, NOWHERE, "indent with spaces");
        return;
    }
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if (strstr(problem, known[i].problem)) {
            diag_error(reader->diags, loc, "yaml: %s", known[i].message);
            diag(reader->diags, DIAG_HINT, NOWHERE, "%s", known[i].hint);
            return;
        }
    diag_error(reader->diags, loc, "yaml: %s", problem);
}

static bool next_event(Reader *reader, yaml_event_t *event) {
    if (reader->broken) return false;
    if (yaml_parser_parse(&reader->parser, event)) return true;
    explain_syntax(reader);
    return false;
}

static Yaml *node_new(Reader *reader, YamlKind kind, const yaml_event_t *event) {
    Yaml *node = ARENA_NEW(reader->arena, Yaml);
    node->kind = kind;
    node->file = reader->file;
    node->source = mark_offset(reader, event->start_mark);
    node->loc = place_at(reader->file, node->source, 1);
    if (++reader->nodes > MOST_NODES) {
        mistake(reader, node->loc, "the file has too many entries", NULL);
        reader->broken = true;
    }
    return node;
}

static void refuse_properties(Reader *reader, const yaml_event_t *event, const unsigned char *anchor, const unsigned char *tag) {
    Loc loc = mark_place(reader, event->start_mark);
    if (anchor) mistake(reader, loc, "anchors (&name) are not part of the language", "give the value a name under config");
    if (tag) mistake(reader, loc, "tags (!name) are not part of the language", "quote a text that starts with '!'");
}

static Yaml *read_scalar(Reader *reader, const yaml_event_t *event) {
    Yaml *node = node_new(reader, YAML_SCALAR, event);
    size_t end = mark_offset(reader, event->end_mark), length = event->data.scalar.length;
    node->source_length = end > node->source ? end - node->source : 0;
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    const char *text = reader->file->text + node->source;
    size_t shown = 0;
    while (shown < node->source_length && text[shown] != '\n' && text[shown] != '\r') shown++;
    node->loc.length = shown ? (int)shown : 1;
    refuse_properties(reader, event, event->data.scalar.anchor, event->data.scalar.tag);
    if (memchr(event->data.scalar.value, 0, length)) {
        mistake(reader, node->loc, "a text cannot contain a NUL character", NULL);
        length = strlen((const char *)event->data.scalar.value);
    }
    node->text = arena_strndup(reader->arena, (const char *)event->data.scalar.value, length);
    node->length = length;
    return node;
}

static Yaml *read_node(Reader *reader, yaml_event_t *event, int depth);

static void read_list(Reader *reader, Yaml *node, int depth) {
    int capacity = 0;
    yaml_event_t event;
    while (next_event(reader, &event)) {
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        Yaml *item = end ? NULL : read_node(reader, &event, depth);
        yaml_event_delete(&event);
        if (end) return;
        if (item) ARENA_PUSH(reader->arena, node->items, node->count, capacity) = item;
    }
}

static bool key_allowed(Reader *reader, const Yaml *key) {
    if (key->kind != YAML_SCALAR) {
        if (!key->poisoned) mistake(reader, key->loc, "a key is a name, not a list or a map", "quote a text that starts with [ or {");
    } else if (!key->quoted && strcmp(key->text, "<<") == 0) {
        mistake(reader, key->loc, "merge keys (<<) are not part of the language", "write the entries out");
    } else if (!key->poisoned) {
        return true;
    }
    return false;
}

typedef struct { const Yaml *key; int order; } KeyPlace;

static int compare_keys(const void *left, const void *right) {
    const KeyPlace *a = left, *b = right;
    int by_text = strcmp(a->key->text, b->key->text);
    return by_text ? by_text : a->order - b->order;
}

static void refuse_duplicates(Reader *reader, Yaml *map) {
    KeyPlace *keys = ARENA_ARRAY(reader->arena, KeyPlace, map->count);
    bool *drop = ARENA_ARRAY(reader->arena, bool, map->count);
    for (int i = 0; i < map->count; i++) keys[i] = (KeyPlace){map->keys[i], i};
    qsort(keys, (size_t)map->count, sizeof *keys, compare_keys);
    for (int i = 1; i < map->count; i++) {
        if (strcmp(keys[i].key->text, keys[i - 1].key->text) != 0) continue;
        drop[keys[i].order] = true;
        reader->mistakes = true;
        diag_error(reader->diags, keys[i].key->loc, "duplicate key '%s'", keys[i].key->text);
        diag(reader->diags, DIAG_NOTE, keys[i - 1].key->loc, "it was given here before");
    }
    int kept = 0;
    for (int i = 0; i < map->count; i++)
        if (!drop[i]) {
            map->keys[kept] = map->keys[i];
            map->items[kept++] = map->items[i];
        }
    map->count = kept;
}

static void read_map(Reader *reader, Yaml *node, int depth) {
    int key_capacity = 0, item_capacity = 0, key_count = 0;
    yaml_event_t event;
    while (next_event(reader, &event)) {
        bool end = event.type == YAML_MAPPING_END_EVENT;
        Yaml *key = end ? NULL : read_node(reader, &event, depth);
        yaml_event_delete(&event);
        if (end) break;
        if (!next_event(reader, &event)) return;
        Yaml *item = read_node(reader, &event, depth);
        yaml_event_delete(&event);
        if (!key || !item || !key_allowed(reader, key)) continue;
        ARENA_PUSH(reader->arena, node->keys, key_count, key_capacity) = key;
        ARENA_PUSH(reader->arena, node->items, node->count, item_capacity) = item;
    }
    refuse_duplicates(reader, node);
}

// The node that an event starts, read to its end; NULL when nothing can stand for it.
static Yaml *read_node(Reader *reader, yaml_event_t *event, int depth) {
    if (depth > MOST_DEPTH) {
        if (!reader->broken) mistake(reader, mark_place(reader, event->start_mark), "lists and maps are nested too deeply", NULL);
        reader->broken = true;
        return NULL;
    }
    if (event->type == YAML_SCALAR_EVENT) return read_scalar(reader, event);
    if (event->type == YAML_ALIAS_EVENT) {
        Yaml *node = node_new(reader, YAML_SCALAR, event);
        node->text = "";
        node->poisoned = true;
        mistake(reader, node->loc, "aliases (*name) are not part of the language",
                "quote an expression that starts with '*', or repeat the value");
        return node;
    }
    bool list = event->type == YAML_SEQUENCE_START_EVENT;
    Yaml *node = node_new(reader, list ? YAML_LIST : YAML_MAP, event);
    if (list) refuse_properties(reader, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
    else refuse_properties(reader, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
    if (list) read_list(reader, node, depth + 1);
    else read_map(reader, node, depth + 1);
    return node;
}

static Yaml *read_document(Reader *reader) {
    Yaml *root = NULL;
    yaml_event_t event;
    bool done = false;
    while (!done && next_event(reader, &event)) {
        switch (event.type) {
        case YAML_STREAM_START_EVENT: case YAML_DOCUMENT_END_EVENT: break;
        case YAML_STREAM_END_EVENT: done = true; break;
        case YAML_DOCUMENT_START_EVENT:
            if (!root) break;
            mistake(reader, mark_place(reader, event.start_mark), "a second document starts here",
                    "a file describes one model: remove '---'");
            reader->broken = done = true;
            break;
        default: root = read_node(reader, &event, 0); break;
        }
        yaml_event_delete(&event);
    }
    if (!root && !reader->broken) mistake(reader, FILE_LOC(reader->file->name), "the file is empty", NULL);
    return reader->broken ? NULL : root;
}

static Yaml *read_text(Arena *arena, const char *name, const char *text, size_t length, Diags *diags, bool anyway) {
    name = arena_strdup(arena, name ? name : "model.yaml");
    if (length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3, length -= 3;
    if (length > MOST_BYTES) {
        diag_error(diags, FILE_LOC(name), "the file is too large for a description: %zu bytes", length);
        return NULL;
    }
    diags_add_source(diags, name, text, length);
    YamlFile *file = ARENA_NEW(arena, YamlFile);
    *file = (YamlFile){.arena = arena, .name = name, .text = arena_strndup(arena, text, length), .length = length};
    ARENA_PUSH(arena, file->lines, file->line_count, file->line_capacity) = 0;
    for (size_t i = 0; i < length; i++)
        if (text[i] == '\n') ARENA_PUSH(arena, file->lines, file->line_count, file->line_capacity) = (uint32_t)(i + 1);
    Reader reader = {.arena = arena, .diags = diags, .file = file};
    if (!yaml_parser_initialize(&reader.parser)) {
        diag_error(diags, FILE_LOC(name), "out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)file->text, length);
    Yaml *root = read_document(&reader);
    yaml_parser_delete(&reader.parser);
    return reader.mistakes && !anyway ? NULL : root;
}

Yaml *yaml_read(Arena *arena, const char *file, const char *text, size_t length, Diags *diags) {
    return read_text(arena, file, text, length, diags, false);
}

Yaml *yaml_read_anyway(Arena *arena, const char *file, const char *text, size_t length, Diags *diags) {
    return read_text(arena, file, text, length, diags, true);
}

// ---- asking -------------------------------------------------------------------------------------------------------

const Yaml *yaml_get(const Yaml *map, const char *key) {
    if (!map || map->kind != YAML_MAP) return NULL;
    for (int i = 0; i < map->count; i++)
        if (strcmp(map->keys[i]->text, key) == 0) return map->items[i];
    return NULL;
}

bool yaml_check_keys(const Yaml *map, const char *what, const char *const *known, int count, Diags *diags) {
    bool good = true;
    for (int i = 0; i < map->count; i++) {
        bool found = false;
        for (int k = 0; k < count && !found; k++) found = strcmp(map->keys[i]->text, known[k]) == 0;
        if (found) continue;
        good = false;
        diag_error(diags, map->keys[i]->loc, "%s has no key '%s'", what, map->keys[i]->text);
        const char *near = nearest_name(map->keys[i]->text, known, count);
        if (near) {
            diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
            continue;
        }
        Text list = {0};
        for (int k = 0; k < count; k++) text_printf(&list, k ? ", %s" : "%s", known[k]);
        diag(diags, DIAG_HINT, NOWHERE, "it may have: %s", list.data ? list.data : "none");
        text_free(&list);
    }
    return good;
}

const char *yaml_kind_name(YamlKind kind) {
    return kind == YAML_SCALAR ? "a single value" : kind == YAML_LIST ? "a list" : "a map";
}
