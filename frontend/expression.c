// Expressions and statements: text to trees, each piece with its place.
//
//   statement   names = expression | return expression, …
//   expression  a if condition else b;  or, and, not;  < <= > >= == != in;  + -;  * / // %;  -a;  f(a, name=b), a[i];
//               numbers, 'text', names, [lists]
//
// A recursive descent over one scalar. The first mistake ends the reading of that scalar; the file's other scalars are still read.
#include "frontend/expression.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 64, MOST_RECURSION = 200, MOST_TEXT = 100000, MOST_NAME = 100 };

typedef enum { TOK_END, TOK_NUMBER, TOK_TEXT, TOK_NAME, TOK_SIGN, TOK_BAD } TokenKind;
typedef struct { TokenKind kind; int start, length; double number; const char *text; } Token;

typedef struct {
    Arena *arena;
    Diags *diags;
    const Yaml *at;
    Token token;
    int depth;
    bool pattern;                  // inside a name's { }
    bool failed;
} Parser;

const char *const expr_op_text[EO_COUNT] = {"+",  "-",  "*",  "/",  "//",     "%",   "<",  "<=",  ">",
                                            ">=", "==", "!=", "in", "not in", "and", "or", "not", "-"};

static void parse_error(Parser *parser, int start, int length, const char *hint, const char *format, ...) PRINTF_LIKE(5, 6);
static void parse_error(Parser *parser, int start, int length, const char *hint, const char *format, ...) {
    if (parser->failed) return;
    parser->failed = true;
    va_list args;
    va_start(args, format);
    diag_v(parser->diags, DIAG_ERROR, yaml_place(parser->at, start, length), format, args);
    va_end(args);
    if (hint) diag(parser->diags, DIAG_HINT, NOWHERE, "%s", hint);
}

// ---- tokens -------------------------------------------------------------------------------------------------------

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }

bool is_name(const char *text) {
    if (!letter(*text)) return false;
    while (letter(*text) || digit(*text)) text++;
    return !*text;
}

static double read_number(const char *text, int length) {
    char digits[64];
    if (length >= (int)sizeof digits) length = (int)sizeof digits - 1;
    memcpy(digits, text, (size_t)length);
    digits[length] = 0;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double value = plain ? strtod_l(digits, NULL, plain) : strtod(digits, NULL);
    if (plain) freelocale(plain);
    return value;
}

static int number_length(const char *text) {
    int n = 0;
    while (digit(text[n])) n++;
    if (text[n] == '.' && text[n + 1] != '.') {   // 0..5 is a range
        n++;
        while (digit(text[n])) n++;
    }
    if (text[n] == 'e' || text[n] == 'E') {
        int sign = text[n + 1] == '+' || text[n + 1] == '-';
        if (digit(text[n + 1 + sign])) {
            n += 2 + sign;
            while (digit(text[n])) n++;
        }
    }
    return n;
}

static void read_text_token(Parser *parser, int start) {
    const char *text = parser->at->text;
    const char *close = strchr(text + start + 1, text[start]);
    if (!close) {
        parse_error(parser, start, 1, NULL, "the text that starts here has no closing quote");
        parser->token = (Token){TOK_BAD, start, 1, 0, ""};
        return;
    }
    int length = (int)(close - (text + start)) + 1;
    parser->token = (Token){TOK_TEXT, start, length, 0, arena_strndup(parser->arena, text + start + 1, (size_t)length - 2)};
}

typedef struct { const char *text, *hint; } WrongSign;   // what people write who come from other languages

static void read_sign(Parser *parser, int start) {
    static const char *const signs[] = {"//", "<=", ">=", "==", "!=", "..", "+", "-", "*", "/",
                                        "%",  "<",  ">",  "=",  "(",  ")",  "[", "]", ",", "}"};
    static const WrongSign wrong[] = {
        {"**", "a power is written pow(a, b)"},
        {"^", "a power is written pow(a, b)"},
        {"&&", "write 'and'"},
        {"||", "write 'or'"},
        {"!", "write 'not'"},
        {".", "a record's entry is written record['entry']"},
        {"?", "write: a if condition else b"},
        {"@", "a matrix product is written linear(x, w)"},
        {"{", "a record is a named config entry"},
        {":", "a slice is written slice(x, from, to)"},
    };
    const char *text = parser->at->text + start;
    for (size_t i = 0; i < COUNT_OF(wrong) && !(text[0] == '!' && text[1] == '=') && !(text[0] == '.' && text[1] == '.'); i++)
        if (strncmp(text, wrong[i].text, strlen(wrong[i].text)) == 0) {
            parse_error(parser, start, (int)strlen(wrong[i].text),
                        parser->pattern ? "an expression in a name ends with '}'" : wrong[i].hint, "unexpected '%s'", wrong[i].text);
            parser->token = (Token){TOK_BAD, start, 1, 0, ""};
            return;
        }
    for (size_t i = 0; i < COUNT_OF(signs); i++)
        if (strncmp(text, signs[i], strlen(signs[i])) == 0) {
            parser->token = (Token){TOK_SIGN, start, (int)strlen(signs[i]), 0, signs[i]};
            return;
        }
    int length = 1;
    while (((unsigned char)text[length] & 0xC0) == 0x80) length++;
    parse_error(parser, start, length, NULL, "unexpected '%.*s'", length, text);
    parser->token = (Token){TOK_BAD, start, 1, 0, ""};
}

static void advance(Parser *parser) {
    const char *text = parser->at->text;
    int at = parser->token.start + parser->token.length;
    while (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r') at++;
    if (!text[at]) {
        parser->token = (Token){TOK_END, at, 0, 0, ""};
    } else if (digit(text[at]) || (text[at] == '.' && digit(text[at + 1]))) {
        int length = number_length(text + at);
        parser->token = (Token){TOK_NUMBER, at, length, read_number(text + at, length), ""};
        if (letter(text[at + length])) parse_error(parser, at, length + 1, NULL, "a name cannot start with a digit");
    } else if (letter(text[at])) {
        int length = 1;
        while (letter(text[at + length]) || digit(text[at + length])) length++;
        parser->token = (Token){TOK_NAME, at, length, 0, arena_strndup(parser->arena, text + at, (size_t)length)};
        if (length > MOST_NAME) parse_error(parser, at, length, NULL, "the name is longer than %d characters", MOST_NAME);
    } else if (text[at] == '\'' || text[at] == '"') {
        read_text_token(parser, at);
    } else {
        read_sign(parser, at);
    }
}

static bool at_sign(const Parser *parser, const char *sign) {
    return parser->token.kind == TOK_SIGN && strcmp(parser->token.text, sign) == 0;
}
static bool at_word(const Parser *parser, const char *word) {
    return parser->token.kind == TOK_NAME && strcmp(parser->token.text, word) == 0;
}

static bool keyword(const char *text) {
    static const char *const words[] = {"if", "else", "in", "and", "or", "not", "return"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(text, words[i]) == 0) return true;
    return false;
}

static const char *found(Parser *parser) {
    const Token *token = &parser->token;
    return token->kind == TOK_END ? "the end" : arena_printf(parser->arena, "'%.*s'", token->length, parser->at->text + token->start);
}

static void expect(Parser *parser, const char *sign, const char *hint) {
    if (parser->failed) return;
    if (at_sign(parser, sign)) advance(parser);
    else parse_error(parser, parser->token.start, parser->token.length, hint, "expected '%s' but found %s", sign, found(parser));
}

// ---- expressions --------------------------------------------------------------------------------------------------

static Expr *parse_ternary(Parser *parser);

static Expr *expr_new(Parser *parser, ExprKind kind, int start) {
    Expr *expr = ARENA_NEW(parser->arena, Expr);
    *expr = (Expr){.kind = kind, .at = parser->at, .start = start, .depth = 1};
    return expr;
}

static Expr *expr_over(Parser *parser, ExprKind kind, int start, int end, int count, Expr *a, Expr *b, Expr *c) {
    Expr *expr = expr_new(parser, kind, start), *items[] = {a, b, c};
    expr->length = end - start;
    expr->count = count;
    expr->items = arena_copy(parser->arena, items, sizeof(Expr *) * (size_t)count);
    for (int i = 0; i < count; i++)
        if (items[i]->depth >= expr->depth) expr->depth = items[i]->depth + 1;
    if (expr->depth > MOST_DEPTH)
        parse_error(parser, start, 1, "name a part of it in a statement of its own", "the expression is nested too deeply");
    return expr;
}

static int end_of(const Expr *expr) { return expr->start + expr->length; }

static void deepen(Parser *parser, Expr *expr, const Expr *item) {
    if (item->depth >= expr->depth) expr->depth = item->depth + 1;
    if (expr->depth > MOST_DEPTH)
        parse_error(parser, expr->start, 1, "name a part of it in a statement of its own", "the expression is nested too deeply");
}

static Expr *parse_list(Parser *parser) {
    Expr *list = expr_new(parser, EX_LIST, parser->token.start);
    int capacity = 0;
    advance(parser);
    while (!parser->failed && !at_sign(parser, "]")) {
        Expr *item = parse_ternary(parser);
        if (parser->failed) break;
        ARENA_PUSH(parser->arena, list->items, list->count, capacity) = item;
        deepen(parser, list, item);
        if (at_sign(parser, ",")) advance(parser);
        else if (!at_sign(parser, "]"))
            parse_error(parser, parser->token.start, parser->token.length, NULL, "expected ',' or ']' but found %s", found(parser));
    }
    list->length = parser->token.start + 1 - list->start;
    expect(parser, "]", NULL);
    return list;
}

// An argument's name, when `name =` stands here.
static const char *argument_name(Parser *parser) {
    if (parser->token.kind != TOK_NAME) return NULL;
    const char *text = parser->at->text, *after = text + parser->token.start + parser->token.length;
    while (*after == ' ') after++;
    if (*after != '=' || after[1] == '=') return NULL;
    const char *name = parser->token.text;
    advance(parser);
    advance(parser);
    return name;
}

static const char *comma_hint(const Parser *parser) {
    return parser->token.kind == TOK_END && yaml_ends_at_comma(parser->at)
               ? "inside [ ] or { } of YAML an expression with a comma is quoted"
               : NULL;
}

static Expr *parse_call(Parser *parser, const Token *name) {
    Expr *call = expr_new(parser, EX_CALL, name->start);
    call->text = name->text;
    int capacity = 0, name_capacity = 0, start_capacity = 0, name_count = 0, start_count = 0;
    advance(parser);
    while (!parser->failed && !at_sign(parser, ")")) {
        int start = parser->token.start;
        const char *argument = argument_name(parser);
        if (!argument && name_count && call->names[name_count - 1])
            parse_error(parser, start, parser->token.length, NULL, "an argument without a name cannot follow a named one");
        Expr *item = parse_ternary(parser);
        if (parser->failed) break;
        ARENA_PUSH(parser->arena, call->items, call->count, capacity) = item;
        ARENA_PUSH(parser->arena, call->names, name_count, name_capacity) = argument;
        ARENA_PUSH(parser->arena, call->name_starts, start_count, start_capacity) = start;
        deepen(parser, call, item);
        if (at_sign(parser, ",")) advance(parser);
        else if (!at_sign(parser, ")"))
            parse_error(parser, parser->token.start, parser->token.length,
                        comma_hint(parser),
                        "expected ',' or ')' but found %s", found(parser));
    }
    call->length = parser->token.start + 1 - call->start;
    expect(parser, ")", NULL);
    return call;
}

static Expr *parse_primary(Parser *parser) {
    Token token = parser->token;
    Expr *expr = expr_new(parser, EX_NUMBER, token.start);
    expr->length = token.length;
    if (token.kind == TOK_NUMBER) {
        expr->number = token.number;
        advance(parser);
    } else if (token.kind == TOK_TEXT) {
        expr->kind = EX_TEXT;
        expr->text = token.text;
        advance(parser);
    } else if (token.kind == TOK_NAME && !keyword(token.text)) {
        advance(parser);
        if (at_sign(parser, "(")) return parse_call(parser, &token);
        expr->kind = EX_NAME;
        expr->text = token.text;
    } else if (at_sign(parser, "(")) {
        advance(parser);
        expr = parse_ternary(parser);
        expect(parser, ")", NULL);
    } else if (at_sign(parser, "[")) {
        return parse_list(parser);
    } else {
        parse_error(parser, token.start, token.length, NULL, "expected a value but found %s", found(parser));
    }
    return expr;
}

static Expr *parse_postfix(Parser *parser) {
    Expr *expr = parse_primary(parser);
    while (!parser->failed && at_sign(parser, "[")) {
        advance(parser);
        Expr *index = parse_ternary(parser);
        int end = parser->token.start + 1;
        expect(parser, "]", NULL);
        if (!parser->failed) expr = expr_over(parser, EX_INDEX, expr->start, end, 2, expr, index, NULL);
    }
    return expr;
}

static Expr *parse_prefix(Parser *parser, const char *sign) {
    int start = parser->token.start;
    if (++parser->depth > MOST_RECURSION) parse_error(parser, start, 1, NULL, "the expression is nested too deeply");
    Expr *expr;
    if (!parser->failed && at_sign(parser, sign)) {
        advance(parser);
        Expr *a = parse_prefix(parser, sign);
        expr = parser->failed ? a : expr_over(parser, EX_UNARY, start, end_of(a), 1, a, NULL, NULL);
        expr->op = EO_NEG;
    } else {
        expr = parser->failed ? expr_new(parser, EX_NUMBER, start) : parse_postfix(parser);
    }
    parser->depth--;
    return expr;
}

// Binary operators from the loosest to the tightest; comparisons do not chain.
enum { LEVEL_OR, LEVEL_AND, LEVEL_NOT, LEVEL_COMPARE, LEVEL_SUM, LEVEL_PRODUCT, LEVEL_PREFIX };

typedef struct { const char *text; int level; ExprOp op; bool word; } Operator;

static ExprOp operator_here(Parser *parser, int level) {
    static const Operator operators[] = {
        {"or", LEVEL_OR, EO_OR, true},           {"and", LEVEL_AND, EO_AND, true},    {"<", LEVEL_COMPARE, EO_LT, false},
        {"<=", LEVEL_COMPARE, EO_LE, false},     {">", LEVEL_COMPARE, EO_GT, false},  {">=", LEVEL_COMPARE, EO_GE, false},
        {"==", LEVEL_COMPARE, EO_EQ, false},     {"!=", LEVEL_COMPARE, EO_NE, false}, {"in", LEVEL_COMPARE, EO_IN, true},
        {"not", LEVEL_COMPARE, EO_NOT_IN, true}, {"+", LEVEL_SUM, EO_ADD, false},     {"-", LEVEL_SUM, EO_SUB, false},
        {"*", LEVEL_PRODUCT, EO_MUL, false},     {"/", LEVEL_PRODUCT, EO_DIV, false}, {"//", LEVEL_PRODUCT, EO_FLOOR_DIV, false},
        {"%", LEVEL_PRODUCT, EO_MOD, false},
    };
    for (size_t i = 0; i < COUNT_OF(operators); i++)
        if (operators[i].level == level && (operators[i].word ? at_word(parser, operators[i].text) : at_sign(parser, operators[i].text)))
            return operators[i].op;
    return EO_COUNT;
}

static Expr *parse_level(Parser *parser, int level) {
    if (level == LEVEL_PREFIX) return parse_prefix(parser, "-");
    if (level == LEVEL_NOT && at_word(parser, "not")) {
        int start = parser->token.start;
        if (++parser->depth > MOST_RECURSION) parse_error(parser, start, 1, NULL, "the expression is nested too deeply");
        advance(parser);
        Expr *a = parse_level(parser, level);
        parser->depth--;
        if (parser->failed) return a;
        Expr *expr = expr_over(parser, EX_UNARY, start, end_of(a), 1, a, NULL, NULL);
        expr->op = EO_NOT;
        return expr;
    }
    Expr *expr = parse_level(parser, level + 1);
    ExprOp op;
    for (int n = 0; !parser->failed && (op = operator_here(parser, level)) != EO_COUNT; n++) {
        if (level == LEVEL_COMPARE && n)
            parse_error(parser, parser->token.start, parser->token.length, "write: a < b and b < c", "comparisons cannot be chained");
        advance(parser);
        if (op == EO_NOT_IN) {
            if (!at_word(parser, "in"))
                parse_error(parser, parser->token.start, parser->token.length, NULL, "expected 'in' but found %s", found(parser));
            else advance(parser);
        }
        Expr *right = parser->failed ? expr : parse_level(parser, level + 1);
        if (parser->failed) break;
        expr = expr_over(parser, EX_BINARY, expr->start, end_of(right), 2, expr, right, NULL);
        expr->op = op;
    }
    return expr;
}

static Expr *parse_ternary(Parser *parser) {
    if (++parser->depth > MOST_RECURSION) parse_error(parser, parser->token.start, 1, NULL, "the expression is nested too deeply");
    Expr *expr = parser->failed ? expr_new(parser, EX_NUMBER, parser->token.start) : parse_level(parser, LEVEL_OR);
    if (!parser->failed && at_word(parser, "if")) {
        advance(parser);
        Expr *condition = parse_level(parser, LEVEL_OR), *otherwise = condition;
        if (!parser->failed && !at_word(parser, "else"))
            parse_error(parser, parser->token.start, parser->token.length, "write: a if condition else b", "expected 'else' but found %s",
                        found(parser));
        if (!parser->failed) {
            advance(parser);
            otherwise = parse_ternary(parser);
        }
        if (!parser->failed) expr = expr_over(parser, EX_IF, expr->start, end_of(otherwise), 3, expr, condition, otherwise);
    }
    parser->depth--;
    return expr;
}

// ---- whole scalars ------------------------------------------------------------------------------------------------

static bool parser_start(Parser *parser, Arena *arena, const Yaml *scalar, int start, Diags *diags) {
    *parser = (Parser){.arena = arena, .diags = diags, .at = scalar, .token = {.start = start}, .pattern = parser->pattern};
    if (scalar->poisoned) return false;
    if (scalar->length > MOST_TEXT) parse_error(parser, 0, 1, NULL, "the expression is too long: %zu bytes", scalar->length);
    if (!parser->failed) advance(parser);
    return !parser->failed;
}

static bool parser_end(Parser *parser) {
    if (!parser->failed && parser->token.kind != TOK_END) {
        const char *hint = at_sign(parser, "=") ? "a comparison is written ==" : NULL;
        parse_error(parser, parser->token.start, parser->token.length, hint, "expected the end of the expression but found %s",
                    found(parser));
    }
    return !parser->failed;
}

Expr *expression_parse(Arena *arena, const Yaml *scalar, Diags *diags) {
    Parser parser = {0};
    if (!parser_start(&parser, arena, scalar, 0, diags)) return NULL;
    Expr *expr = parse_ternary(&parser);
    return parser_end(&parser) ? expr : NULL;
}

Expr *pattern_part_parse(Arena *arena, const Yaml *scalar, int *at, Diags *diags) {
    Parser parser = {.pattern = true};
    if (!parser_start(&parser, arena, scalar, *at, diags)) return NULL;
    Expr *expr = parse_ternary(&parser);
    if (!parser.failed && !at_sign(&parser, "}"))
        parse_error(&parser, parser.token.start, parser.token.length, "{{ and }} stand for braces", "expected '}' but found %s",
                    found(&parser));
    *at = parser.token.start + 1;
    return parser.failed ? NULL : expr;
}

int range_parse(Arena *arena, const Yaml *scalar, Expr *parts[3], Diags *diags) {
    Parser parser = {0};
    if (!parser_start(&parser, arena, scalar, 0, diags)) return 0;
    int count = 0;
    while (!parser.failed && count < 3) {
        parts[count++] = parse_ternary(&parser);
        if (parser.failed || !at_sign(&parser, "..")) break;
        if (count < 3) advance(&parser);
    }
    if (!parser.failed && count == 1) parse_error(&parser, 0, (int)scalar->length, NULL, "rows are written from..to or from..to..step");
    return parser_end(&parser) ? count : 0;
}

static void parse_targets(Parser *parser, Statement *statement) {
    int capacity = 0, start_capacity = 0, start_count = 0;
    while (!parser->failed) {
        if (parser->token.kind != TOK_NAME || keyword(parser->token.text)) {
            parse_error(parser, parser->token.start, parser->token.length, "a statement is `names = expression` or `return expression`",
                        "expected a name but found %s", found(parser));
            return;
        }
        ARENA_PUSH(parser->arena, statement->targets, statement->target_count, capacity) = parser->token.text;
        ARENA_PUSH(parser->arena, statement->target_starts, start_count, start_capacity) = parser->token.start;
        advance(parser);
        if (!at_sign(parser, ",")) break;
        advance(parser);
    }
    if (!parser->failed && !at_sign(parser, "="))
        parse_error(parser, parser->token.start, parser->token.length, "a statement is `names = expression` or `return expression`",
                    "expected '=' but found %s", found(parser));
    if (!parser->failed) advance(parser);
}

Statement *statement_parse(Arena *arena, const Yaml *scalar, Diags *diags) {
    Parser parser = {0};
    if (!parser_start(&parser, arena, scalar, 0, diags)) return NULL;
    Statement *statement = ARENA_NEW(arena, Statement);
    statement->at = scalar;
    if (at_word(&parser, "return")) {
        statement->returns = true;
        advance(&parser);
    } else {
        parse_targets(&parser, statement);
    }
    int capacity = 0;
    bool readable = !parser.failed;
    while (!parser.failed) {
        Expr *expr = parse_ternary(&parser);
        ARENA_PUSH(arena, statement->values, statement->value_count, capacity) = expr;
        if (parser.failed || !at_sign(&parser, ",")) break;
        advance(&parser);
    }
    statement->broken = !parser_end(&parser);
    return readable ? statement : NULL;
}

Loc expr_loc(const Expr *expr) { return yaml_place(expr->at, expr->start, expr->length); }

const char *expr_source(Arena *arena, const Expr *expr) {
    return arena_strndup(arena, expr->at->text + expr->start, (size_t)expr->length);
}
