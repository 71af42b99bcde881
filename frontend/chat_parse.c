// The lexer and parser of the Jinja subset. White space follows what chat templates are rendered with everywhere: trim_blocks (the newline
// after a tag goes) and lstrip_blocks (so do the spaces before it on its line), and the signs {%- -%} as usual.
//
// There is no list of tokens: the parser reads words and signs straight from the source, one grammar rule a function.
#include "frontend/chat.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 100, MOST_SOURCE = 1 << 20 };

static JNode *parse_expression(Jinja *j);
static JNode *parse_unary(Jinja *j, bool with_filters);

static JNode *node_new(Jinja *j, JNodeKind kind) {
    JNode *node = jinja_alloc(j, sizeof *node);
    node->kind = kind;
    node->line = j->line;
    return node;
}

static void node_add(Jinja *j, JNode *node, JNode *item) { ARENA_PUSH(j->arena, node->items, node->count, node->capacity) = item; }
static void name_add(Jinja *j, JNode *node, const char *name) {
    ARENA_PUSH(j->arena, node->names, node->name_count, node->names_capacity) = name;
}

static JNode *node_of(Jinja *j, JNodeKind kind, const char *name, JNode *a, JNode *b) {
    JNode *node = node_new(j, kind);
    node->name = name;
    if (a) node_add(j, node, a);
    if (b) node_add(j, node, b);
    return node;
}

static JNode *literal(Jinja *j, JValue value) {
    JNode *node = node_new(j, JN_LITERAL);
    node->value = value;
    return node;
}

// ---- words and signs -----------------------------------------------------------------------------------------------------

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static void skip_space(Jinja *j) {
    for (; j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r'); j->at++) j->line += *j->at == '\n';
}

static bool starts(const Jinja *j, const char *sign) {
    size_t length = strlen(sign);
    return (size_t)(j->end - j->at) >= length && !memcmp(j->at, sign, length);
}

static bool accept(Jinja *j, const char *sign) {
    skip_space(j);
    if (!starts(j, sign)) return false;
    j->at += strlen(sign);
    return true;
}

static bool at_tag_end(Jinja *j) {
    skip_space(j);
    return j->at >= j->end || starts(j, "%}") || starts(j, "}}") || starts(j, "-%}") || starts(j, "-}}") || starts(j, "+%}");
}

// An operator of one sign that is not the beginning of a longer one, nor of the tag's end.
static bool accept_operator(Jinja *j, const char *sign) {
    if (at_tag_end(j) || !starts(j, sign)) return false;
    size_t length = strlen(sign);
    char next = (size_t)(j->end - j->at) > length ? j->at[length] : 0;
    if (length == 1 && (next == *sign) && strchr("*/", *sign)) return false;
    if (length == 1 && strchr("<>=", *sign) && next == '=') return false;
    j->at += length;
    return true;
}

static void expect(Jinja *j, const char *sign) {
    if (!accept(j, sign))
        jinja_fail(j, j->line, "\"%s\" expected before \"%.*s\"", sign, (int)(j->end - j->at > 20 ? 20 : j->end - j->at), j->at);
}

static size_t word_length(Jinja *j) {
    skip_space(j);
    const char *p = j->at;
    if (p >= j->end || !is_letter(*p)) return 0;
    while (p < j->end && (is_letter(*p) || is_digit(*p))) p++;
    return (size_t)(p - j->at);
}

static bool at_word(Jinja *j, const char *word) {
    size_t length = word_length(j);
    return length == strlen(word) && !memcmp(j->at, word, length);
}

static bool accept_word(Jinja *j, const char *word) {
    if (!at_word(j, word)) return false;
    j->at += strlen(word);
    return true;
}

static const char *read_name(Jinja *j) {
    size_t length = word_length(j);
    if (!length) {
        jinja_fail(j, j->line, "a name is missing");
        return "";
    }
    j->at += length;
    return arena_strndup(j->arena, j->at - length, length);
}

static bool enter(Jinja *j) {
    if (++j->depth > MOST_DEPTH) jinja_fail(j, j->line, "nested deeper than %d", MOST_DEPTH);
    return !j->error;
}

// ---- expressions ---------------------------------------------------------------------------------------------------------

static void add_utf8(Text *text, unsigned code) {
    char bytes[4];
    int length = 0;
    if (code < 0x80) bytes[length++] = (char)code;
    else if (code < 0x800) bytes[length++] = (char)(0xC0 | code >> 6);
    else bytes[length++] = (char)(0xE0 | code >> 12), bytes[length++] = (char)(0x80 | (code >> 6 & 0x3F));
    if (code >= 0x80) bytes[length++] = (char)(0x80 | (code & 0x3F));
    text_add(text, bytes, (size_t)length);
}

static JNode *parse_string(Jinja *j) {
    char quote = *j->at++;
    Text text = {0};
    while (j->at < j->end && *j->at != quote) {
        char c = *j->at++;
        j->line += c == '\n';
        if (c == '\\' && j->at < j->end) {
            static const char from[] = "ntr\\'\"0", to[] = "\n\t\r\\'\"\0";
            c = *j->at++;
            const char *found = c ? strchr(from, c) : NULL;
            if (found) c = to[found - from];
            else if ((c == 'u' && j->end - j->at >= 4) || (c == 'x' && j->end - j->at >= 2)) {
                char digits[5] = {0};
                memcpy(digits, j->at, c == 'u' ? 4 : 2);
                j->at += c == 'u' ? 4 : 2;
                add_utf8(&text, (unsigned)strtoul(digits, NULL, 16));
                continue;
            } else {
                text_add(&text, "\\", 1);
            }
        }
        text_add(&text, &c, 1);
    }
    if (j->at >= j->end) jinja_fail(j, j->line, "a string without its closing quote");
    else j->at++;
    JNode *node = literal(j, j_take(j, &text));
    skip_space(j);
    while (j->at < j->end && (*j->at == '"' || *j->at == '\'') && !j->error)       // neighbouring strings are one
        node->value = j_binary(j, j->line, "~", node->value, parse_string(j)->value);
    return node;
}

static JNode *parse_number(Jinja *j) {
    char digits[64];
    size_t n = 0;
    bool real = false;
    for (; j->at < j->end && n + 1 < sizeof digits; j->at++) {
        char c = *j->at;
        bool sign = (c == '+' || c == '-') && n && (j->at[-1] | 32) == 'e';
        bool point = c == '.' && !real && j->at + 1 < j->end && is_digit(j->at[1]);
        if (c == '_') continue;
        if (!is_digit(c) && !point && (c | 32) != 'e' && !sign) break;
        real |= point || (c | 32) == 'e';
        digits[n++] = c;
    }
    digits[n] = 0;
    return literal(j, real ? (JValue){.kind = J_FLOAT, .number = strtod(digits, NULL)} : J_NUMBER(strtoll(digits, NULL, 10)));
}

static JNode *parse_list(Jinja *j, const char *close) {
    JNode *node = node_new(j, JN_LIST);
    while (!j->error && !accept(j, close)) {
        node_add(j, node, parse_expression(j));
        if (accept(j, ",")) continue;
        expect(j, close);
        break;
    }
    return node;
}

static JNode *parse_map(Jinja *j) {                               // items: key, value, key, value …
    JNode *node = node_new(j, JN_MAP);
    while (!j->error && !accept(j, "}")) {
        node_add(j, node, parse_expression(j));
        expect(j, ":");
        node_add(j, node, parse_expression(j));
        if (accept(j, ",")) continue;
        expect(j, "}");
        break;
    }
    return node;
}

static JNode *parse_parentheses(Jinja *j) {
    if (accept(j, ")")) return node_new(j, JN_LIST);
    JNode *inside = parse_expression(j);
    if (!accept(j, ",")) {
        expect(j, ")");
        return inside;
    }
    JNode *tuple = parse_list(j, ")");
    JNode *all = node_of(j, JN_LIST, NULL, inside, NULL);
    for (int i = 0; i < tuple->count; i++) node_add(j, all, tuple->items[i]);
    return all;
}

static JNode *parse_primary(Jinja *j) {
    static const struct {
        const char *word;
        JValue value;
    } constants[] = {{"true", {.kind = J_BOOL, .truth = true}},
                     {"True", {.kind = J_BOOL, .truth = true}},
                     {"false", {.kind = J_BOOL}},
                     {"False", {.kind = J_BOOL}},
                     {"none", {.kind = J_NONE}},
                     {"None", {.kind = J_NONE}}};
    skip_space(j);
    if (j->at >= j->end || j->error) {
        jinja_fail(j, j->line, "the template ends inside an expression");
        return literal(j, (JValue){0});
    }
    if (*j->at == '"' || *j->at == '\'') return parse_string(j);
    if (is_digit(*j->at)) return parse_number(j);
    if (accept(j, "[")) return parse_list(j, "]");
    if (accept(j, "{")) return parse_map(j);
    if (accept(j, "(")) return parse_parentheses(j);
    for (size_t i = 0; i < COUNT_OF(constants); i++)
        if (accept_word(j, constants[i].word)) return literal(j, constants[i].value);
    if (!is_letter(*j->at)) {
        jinja_fail(j, j->line, "an expression expected before \"%.*s\"", (int)(j->end - j->at > 20 ? 20 : j->end - j->at), j->at);
        return literal(j, (JValue){0});
    }
    return node_of(j, JN_NAME, read_name(j), NULL, NULL);
}

// name=value is a keyword argument. After the opening parenthesis.
static void parse_arguments(Jinja *j, JNode *call) {
    while (call->name_count < call->count) name_add(j, call, NULL);
    while (!j->error && !accept(j, ")")) {
        const char *keyword = NULL, *start = j->at;
        int line = j->line;
        size_t length = word_length(j);
        if (length) {
            keyword = read_name(j);
            if (!accept_operator(j, "=")) {
                keyword = NULL;
                j->at = start;
                j->line = line;
            }
        }
        node_add(j, call, parse_expression(j));
        name_add(j, call, keyword);
        if (accept(j, ",")) continue;
        expect(j, ")");
        break;
    }
}

static JNode *parse_subscript(Jinja *j, JNode *of) {
    JNode *parts[3] = {NULL, NULL, NULL};
    int colons = 0;
    while (!j->error && !accept(j, "]")) {
        if (accept(j, ":")) {
            if (++colons > 2) jinja_fail(j, j->line, "a slice with too many colons");
            continue;
        }
        if (colons > 2 || parts[colons]) jinja_fail(j, j->line, "\"]\" expected");
        else parts[colons] = parse_expression(j);
    }
    JNode *node = node_of(j, colons ? JN_SLICE : JN_ITEM, NULL, of, NULL);
    if (!colons && !parts[0]) jinja_fail(j, j->line, "an empty subscript");
    for (int i = 0; i < (colons ? 3 : 1); i++) node_add(j, node, parts[i]);
    return node;
}

static JNode *parse_postfix(Jinja *j, JNode *node) {
    while (!j->error) {
        if (at_tag_end(j)) break;
        if (accept(j, ".")) {
            if (j->at < j->end && is_digit(*j->at)) node = node_of(j, JN_ITEM, NULL, node, parse_number(j));
            else node = node_of(j, JN_ATTRIBUTE, read_name(j), node, NULL);
        } else if (accept(j, "[")) {
            node = parse_subscript(j, node);
        } else if (accept(j, "(")) {
            node = node_of(j, JN_CALL, NULL, node, NULL);
            parse_arguments(j, node);
        } else {
            break;
        }
    }
    return node;
}

static JNode *parse_filter(Jinja *j, JNode *node) {
    node = node_of(j, JN_FILTER, read_name(j), node, NULL);
    name_add(j, node, NULL);
    if (accept(j, "(")) parse_arguments(j, node);
    return node;
}

static JNode *parse_test(Jinja *j, JNode *node) {
    bool negated = accept_word(j, "not");
    JNode *test = node_of(j, JN_TEST, read_name(j), node, NULL);
    test->negated = negated;
    name_add(j, test, NULL);
    if (accept(j, "(")) {
        parse_arguments(j, test);
    } else if (!at_tag_end(j) && (is_letter(*j->at) || is_digit(*j->at) || strchr("'\"[{", *j->at))) {
        static const char *const others[] = {"and", "or", "not", "else", "if", "is", "in"};
        for (size_t i = 0; i < COUNT_OF(others); i++)
            if (at_word(j, others[i])) return test;
        node_add(j, test, parse_postfix(j, parse_primary(j)));
        name_add(j, test, NULL);
    }
    return test;
}

static JNode *parse_filters(Jinja *j, JNode *node) {
    while (!j->error && !at_tag_end(j)) {
        if (accept_operator(j, "|")) node = parse_filter(j, node);
        else if (accept_word(j, "is")) node = parse_test(j, node);
        else if (accept(j, "(")) {
            node = node_of(j, JN_CALL, NULL, node, NULL);
            parse_arguments(j, node);
        } else {
            break;
        }
    }
    return node;
}

static JNode *parse_unary(Jinja *j, bool with_filters) {
    JNode *node;
    if (!enter(j)) return literal(j, (JValue){0});
    if (accept_operator(j, "-")) node = node_of(j, JN_UNARY, "-", parse_unary(j, false), NULL);
    else if (accept_operator(j, "+")) node = node_of(j, JN_UNARY, "+", parse_unary(j, false), NULL);
    else node = parse_primary(j);
    node = parse_postfix(j, node);
    if (with_filters) node = parse_filters(j, node);
    j->depth--;
    return node;
}

static JNode *parse_power(Jinja *j) {
    JNode *node = parse_unary(j, true);
    while (!j->error && accept_operator(j, "**")) node = node_of(j, JN_BINARY, "**", node, parse_unary(j, true));
    return node;
}

// Left-associative operators of three strengths, the strongest last.
static JNode *parse_binary(Jinja *j, int strength) {
    static const char *const operators[3][5] = {{"+", "-"}, {"~"}, {"*", "//", "/", "%"}};
    if (strength == 3) return parse_power(j);
    JNode *node = parse_binary(j, strength + 1);
    for (bool found = true; found && !j->error;) {
        found = false;
        for (int i = 0; i < 5 && operators[strength][i] && !found; i++) {
            found = accept_operator(j, operators[strength][i]);
            if (found) node = node_of(j, JN_BINARY, operators[strength][i], node, parse_binary(j, strength + 1));
        }
    }
    return node;
}

static const char *accept_comparison(Jinja *j) {
    static const char *const signs[] = {"==", "!=", "<=", ">=", "<", ">"};
    for (size_t i = 0; i < COUNT_OF(signs); i++)
        if (accept_operator(j, signs[i])) return signs[i];
    if (accept_word(j, "in")) return "in";
    const char *at = j->at;
    int line = j->line;
    if (accept_word(j, "not")) {
        if (accept_word(j, "in")) return "not in";
        j->at = at;
        j->line = line;
    }
    return NULL;
}

static JNode *parse_comparison(Jinja *j) {                        // items: operands; names: signs between them
    JNode *node = parse_binary(j, 0);
    const char *sign = accept_comparison(j);
    if (!sign) return node;
    node = node_of(j, JN_COMPARE, NULL, node, NULL);
    for (; sign && !j->error; sign = accept_comparison(j)) {
        name_add(j, node, sign);
        node_add(j, node, parse_binary(j, 0));
    }
    return node;
}

static JNode *parse_not(Jinja *j) {
    if (!accept_word(j, "not")) return parse_comparison(j);
    if (!enter(j)) return literal(j, (JValue){0});
    JNode *node = node_of(j, JN_NOT, NULL, parse_not(j), NULL);
    j->depth--;
    return node;
}

static JNode *parse_and(Jinja *j) {
    JNode *node = parse_not(j);
    while (!j->error && accept_word(j, "and")) node = node_of(j, JN_AND, NULL, node, parse_not(j));
    return node;
}

static JNode *parse_or(Jinja *j) {
    JNode *node = parse_and(j);
    while (!j->error && accept_word(j, "or")) node = node_of(j, JN_OR, NULL, node, parse_and(j));
    return node;
}

static JNode *parse_expression(Jinja *j) {                        // a if condition else b: items condition, a, b
    if (!enter(j)) return literal(j, (JValue){0});
    JNode *node = parse_or(j);
    while (!j->error && accept_word(j, "if")) {
        JNode *choice = node_of(j, JN_IF_ELSE, NULL, parse_or(j), node);
        if (accept_word(j, "else")) node_add(j, choice, parse_expression(j));
        node = choice;
    }
    j->depth--;
    return node;
}

static JNode *parse_tuple(Jinja *j) {                             // a, b without parentheses
    JNode *node = parse_expression(j);
    if (at_tag_end(j) || !accept(j, ",")) return node;
    node = node_of(j, JN_LIST, NULL, node, NULL);
    while (!j->error && !at_tag_end(j)) {
        node_add(j, node, parse_expression(j));
        if (!accept(j, ",")) break;
    }
    return node;
}

// ---- text and tags -------------------------------------------------------------------------------------------------------

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }

static void count_lines(Jinja *j, const char *from, const char *to) {
    for (; from < to; from++) j->line += *from == '\n';
}

// After a tag's closing sign: what -%} and trim_blocks take away.
static void after_tag(Jinja *j, bool strip, bool trim) {
    const char *from = j->at;
    if (strip)
        while (j->at < j->end && is_blank(*j->at)) j->at++;
    else if (trim && j->at < j->end && *j->at == '\n')
        j->at++;
    count_lines(j, from, j->at);
}

static void close_tag(Jinja *j, const char *sign, bool trim) {
    skip_space(j);
    bool strip = starts(j, "-"), keep = starts(j, "+");
    if (strip || keep) j->at++;
    if (!starts(j, sign)) {
        jinja_fail(j, j->line, "\"%s\" expected before \"%.*s\"", sign, (int)(j->end - j->at > 20 ? 20 : j->end - j->at), j->at);
        return;
    }
    j->at += strlen(sign);
    after_tag(j, strip, trim && !keep);
}

static void add_text(Jinja *j, JNode *block, const char *from, const char *to) {
    if (to <= from) return;
    JNode *node = node_new(j, JN_TEXT);
    node->value = j_string(j, from, (size_t)(to - from));
    node_add(j, block, node);
}

// The text up to the next tag, of which the opening sign is then read: '%', '{', '#', or 0 at the end.
static char read_text(Jinja *j, JNode *block) {
    const char *from = j->at, *p = from;
    while (p < j->end && !(p + 1 < j->end && *p == '{' && (p[1] == '%' || p[1] == '{' || p[1] == '#'))) p++;
    count_lines(j, from, p);
    if (p >= j->end) {
        add_text(j, block, from, p);
        j->at = p;
        return 0;
    }
    char kind = p[1], sign = p + 2 < j->end ? p[2] : 0;
    const char *to = p;
    if (sign == '-') {
        while (to > from && is_blank(to[-1])) to--;
    } else if (sign != '+' && kind != '{') {                      // lstrip_blocks: spaces only, since the line's beginning
        while (to > from && (to[-1] == ' ' || to[-1] == '\t')) to--;
        bool line_start = to > from ? to[-1] == '\n' : from == j->source || from[-1] == '\n';
        if (!line_start) to = p;
    }
    add_text(j, block, from, to);
    j->at = p + 2 + (sign == '-' || sign == '+');
    return kind;
}

static void skip_comment(Jinja *j) {
    const char *close = memmem(j->at, (size_t)(j->end - j->at), "#}", 2);
    if (!close) {
        jinja_fail(j, j->line, "a comment without #}");
        return;
    }
    count_lines(j, j->at, close);
    bool strip = close > j->at && close[-1] == '-', keep = close > j->at && close[-1] == '+';
    j->at = close + 2;
    after_tag(j, strip, !keep);
}

static const char *parse_block(Jinja *j, JNode *block, const char *const *ends);

static void parse_if(Jinja *j, JNode *block) {                    // items: condition, block, condition, block … [block]
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    JNode *node = node_new(j, JN_IF);
    node_add(j, block, node);
    const char *end = "elif";
    while (end && !strcmp(end, "elif") && !j->error) {
        node_add(j, node, parse_tuple(j));
        close_tag(j, "%}", true);
        JNode *body = node_new(j, JN_BLOCK);
        node_add(j, node, body);
        end = parse_block(j, body, ends);
    }
    if (end && !strcmp(end, "else")) {
        close_tag(j, "%}", true);
        JNode *body = node_new(j, JN_BLOCK);
        node_add(j, node, body);
        end = parse_block(j, body, ends + 2);
    }
    close_tag(j, "%}", true);
}

static void parse_for(Jinja *j, JNode *block) {                   // items: what, condition or NULL, body, else or NULL; names: targets
    static const char *const ends[] = {"else", "endfor", NULL};
    JNode *node = node_new(j, JN_FOR), *condition = NULL, *body = node_new(j, JN_BLOCK), *otherwise = NULL;
    node_add(j, block, node);
    bool parentheses = accept(j, "(");
    do name_add(j, node, read_name(j));
    while (accept(j, ",") && !j->error);
    if (parentheses) expect(j, ")");
    if (!accept_word(j, "in")) jinja_fail(j, j->line, "for: \"in\" expected");
    JNode *what = parse_or(j);
    if (accept_word(j, "if")) condition = parse_expression(j);
    if (accept_word(j, "recursive")) jinja_fail(j, j->line, "recursive loops are not supported");
    close_tag(j, "%}", true);
    const char *end = parse_block(j, body, ends);
    if (end && !strcmp(end, "else")) {
        close_tag(j, "%}", true);
        otherwise = node_new(j, JN_BLOCK);
        parse_block(j, otherwise, ends + 1);
    }
    close_tag(j, "%}", true);
    node_add(j, node, what);
    node_add(j, node, condition);
    node_add(j, node, body);
    node_add(j, node, otherwise);
}

static void parse_set(Jinja *j, JNode *block) {                   // SET: items value; names: targets, or name and attribute of a namespace
    static const char *const ends[] = {"endset", NULL};
    JNode *node = node_new(j, JN_SET);
    node_add(j, block, node);
    do name_add(j, node, read_name(j));
    while (!starts(j, ".") && accept(j, ",") && !j->error);
    if (accept(j, ".")) node->name = read_name(j);
    if (accept_operator(j, "=")) {
        node_add(j, node, parse_tuple(j));
        close_tag(j, "%}", true);
        return;
    }
    node->kind = JN_SET_BLOCK;                                    // items: body, filters' tree or NULL over a literal
    JNode *text = literal(j, (JValue){0}), *filters = text;
    while (!j->error && accept_operator(j, "|")) filters = parse_filter(j, filters);
    close_tag(j, "%}", true);
    JNode *body = node_new(j, JN_BLOCK);
    parse_block(j, body, ends);
    close_tag(j, "%}", true);
    node_add(j, node, body);
    node_add(j, node, text);
    node_add(j, node, filters);
}

static void parse_macro(Jinja *j, JNode *block) { // items: body, then the default of each parameter or NULL; names: parameters
    static const char *const ends[] = {"endmacro", NULL};
    JNode *node = node_new(j, JN_MACRO), *body = node_new(j, JN_BLOCK);
    node_add(j, block, node);
    node_add(j, node, body);
    node->name = read_name(j);
    expect(j, "(");
    while (!j->error && !accept(j, ")")) {
        name_add(j, node, read_name(j));
        node_add(j, node, accept_operator(j, "=") ? parse_expression(j) : NULL);
        if (accept(j, ",")) continue;
        expect(j, ")");
        break;
    }
    close_tag(j, "%}", true);
    parse_block(j, body, ends);
    close_tag(j, "%}", true);
}

static void parse_filter_block(Jinja *j, JNode *block) {
    static const char *const ends[] = {"endfilter", NULL};
    JNode *node = node_new(j, JN_FILTER_BLOCK), *body = node_new(j, JN_BLOCK), *text = literal(j, (JValue){0}),
          *filters = parse_filter(j, text);
    while (!j->error && accept_operator(j, "|")) filters = parse_filter(j, filters);
    close_tag(j, "%}", true);
    parse_block(j, body, ends);
    close_tag(j, "%}", true);
    node_add(j, node, body);
    node_add(j, node, text);
    node_add(j, node, filters);
    node_add(j, block, node);
}

static void parse_raw(Jinja *j, JNode *block) {
    close_tag(j, "%}", true);
    const char *from = j->at;
    for (const char *p = from; p + 2 < j->end; p++) {
        if (p[0] != '{' || p[1] != '%') continue;
        j->at = p + 2 + (p[2] == '-');
        if (!accept_word(j, "endraw")) continue;
        add_text(j, block, from, p);
        close_tag(j, "%}", true);
        return;
    }
    jinja_fail(j, j->line, "raw without endraw");
}

static void parse_statement(Jinja *j, JNode *block) {
    static const struct {
        const char *word;
        void (*parse)(Jinja *, JNode *);
    } statements[] = {{"if", parse_if},  {"for", parse_for}, {"set", parse_set}, {"macro", parse_macro}, {"filter", parse_filter_block},
                      {"raw", parse_raw}};
    for (size_t i = 0; i < COUNT_OF(statements); i++)
        if (accept_word(j, statements[i].word)) {
            statements[i].parse(j, block);
            return;
        }
    if (at_word(j, "break") || at_word(j, "continue")) node_add(j, block, node_new(j, at_word(j, "break") ? JN_BREAK : JN_CONTINUE));
    else if (!at_word(j, "generation") && !at_word(j, "endgeneration"))
        jinja_fail(j, j->line, "the statement \"%s\" is not supported", read_name(j));
    read_name(j);
    close_tag(j, "%}", true);
}

// Up to one of the words in `ends`, which is read and returned (its tag stays open); NULL at the end of the template.
static const char *parse_block(Jinja *j, JNode *block, const char *const *ends) {
    if (!enter(j)) return NULL;
    while (!j->error) {
        char kind = read_text(j, block);
        if (!kind) {
            if (ends) jinja_fail(j, j->line, "\"%s\" is missing", ends[1] ? ends[1] : ends[0]);
            break;
        }
        if (kind == '#') {
            skip_comment(j);
        } else if (kind == '{') {
            node_add(j, block, node_of(j, JN_OUTPUT, NULL, parse_tuple(j), NULL));
            close_tag(j, "}}", false);
        } else {
            for (int i = 0; ends && ends[i]; i++)
                if (accept_word(j, ends[i])) {
                    j->depth--;
                    return ends[i];
                }
            parse_statement(j, block);
        }
    }
    j->depth--;
    return NULL;
}

JNode *jinja_parse(Jinja *j, const char *source, size_t length) {
    if (length > MOST_SOURCE) {
        jinja_fail(j, 0, "the template is larger than %d bytes", MOST_SOURCE);
        return NULL;
    }
    char *plain = arena_strndup(j->arena, source, length);        // newlines are \n, and the last one goes
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        if (source[i] == '\r' && i + 1 < length && source[i + 1] == '\n') continue;
        plain[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n && plain[n - 1] == '\n') n--;
    plain[n] = 0;
    j->source = j->at = plain;
    j->end = plain + n;
    j->line = 1;
    JNode *block = node_new(j, JN_BLOCK);
    parse_block(j, block, NULL);
    return j->error ? NULL : block;
}
