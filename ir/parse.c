// The IR from text. A line is a module's head, a weight, a function's head, a node, a return or a closing brace; `//` starts a comment.
//
// Values are made by the builder, so everything it checks is checked here; then declared types are held against inferred ones, and the
// module is verified. A mistake is reported and its line skipped; a node that failed still defines its names, so one mistake is one error.
// The text may be anything: lengths and counts are limited, nothing recurses.
#include "ir/internal.h"
#include "ir/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NODES = 100000, MAX_OPERAND_LIST = 4096 };

typedef enum { T_END, T_LINE, T_WORD, T_NUMBER, T_STRING, T_VALUE, T_GLOBAL, T_MARK, T_BAD } TokenKind;

typedef struct { TokenKind kind; const char *text; int line, column, length; char mark; } Token;   // text: in the arena, unescaped

typedef struct {
    Arena *arena;
    Diags *diags;
    const char *file, *at, *end, *line_start;
    int line, nodes;
    Token token;
    bool failed;               // in this line
    Module *module;
    Func *func;                // being read
    Type *returns; int return_count;
    bool returned;
} Parser;

// ---- tokens -----------------------------------------------------------------------------------------------------------

static Loc place(const Parser *p, const Token *token) { return (Loc){p->file, token->line, token->column, token->length}; }

// An error at a token: the first of a line counts.
static bool fail_at(Parser *p, const Token *token, const char *format, ...) PRINTF_LIKE(3, 4);
static bool fail_at(Parser *p, const Token *token, const char *format, ...) {
    if (p->failed) return false;
    p->failed = true;
    va_list args;
    va_start(args, format);
    diag_v(p->diags, DIAG_ERROR, place(p, token), format, args);
    va_end(args);
    return false;
}

#define fail(p, ...) fail_at((p), &(p)->token, __VA_ARGS__)

static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '/' || c == '-';
}

static bool word_char(char c) { return name_char(c) && c != '.' && c != '/' && c != '-'; }

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// The text between quotes, `at` behind the first; NULL when it does not end on this line or holds what a name may not.
static const char *quoted(Parser *p) {
    Text text = {0};
    text_puts(&text, "");
    while (p->at < p->end && *p->at != '"' && *p->at != '\n') {
        char c = *p->at++;
        if (c == '\\' && p->at < p->end && *p->at != '\n') {
            c = *p->at++;
            if (c == 'x') {
                int high = p->at + 1 < p->end ? hex_digit(p->at[0]) : -1, low = high < 0 ? -1 : hex_digit(p->at[1]);
                if (low < 0) break;
                c = (char)(high * 16 + low);
                p->at += 2;
            }
        }
        if (!c) break;
        text_add(&text, &c, 1);
    }
    bool closed = p->at < p->end && *p->at == '"';
    if (closed) p->at++;
    const char *kept = closed ? arena_strndup(p->arena, text.data, text.length) : NULL;
    text_free(&text);
    return kept;
}

static void skip_blank(Parser *p) {
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\r')) p->at++;
    if (p->end - p->at >= 2 && p->at[0] == '/' && p->at[1] == '/')
        while (p->at < p->end && *p->at != '\n') p->at++;
}

static const char *taken(Parser *p, bool (*belongs)(char)) {
    const char *start = p->at;
    while (p->at < p->end && belongs(*p->at)) p->at++;
    return arena_strndup(p->arena, start, (size_t)(p->at - start));
}

static bool number_char(char c) { return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E'; }

static void read_token(Parser *p) {
    skip_blank(p);
    Token *token = &p->token;
    *token = (Token){.line = p->line, .column = (int)(p->at - p->line_start) + 1};
    const char *start = p->at;
    char c = p->at < p->end ? *p->at : 0;
    if (p->at == p->end) {
        token->kind = T_END;
    } else if (c == '\n') {
        token->kind = T_LINE;
        p->at++;
        p->line++;
        p->line_start = p->at;
    } else if (c == '%' || c == '@' || c == '"') {
        p->at++;
        bool quote = c == '"';
        if (!quote && p->at < p->end && *p->at == '"') p->at++, quote = true;
        token->text = quote ? quoted(p) : taken(p, name_char);
        bool good = token->text && (c == '"' || (*token->text && strlen(token->text) <= MAX_NAME));
        token->kind = !good ? T_BAD : c == '%' ? T_VALUE : c == '@' ? T_GLOBAL : T_STRING;
    } else if ((c >= '0' && c <= '9') || (c == '-' && p->end - p->at > 1 && p->at[1] != '>')) {
        p->at++;
        bool infinite = c == '-' && *p->at == 'i';
        if (infinite) taken(p, word_char);
        else taken(p, number_char);
        token->kind = T_NUMBER;
        token->text = arena_strndup(p->arena, start, (size_t)(p->at - start));
    } else if (word_char(c)) {
        token->kind = T_WORD;
        token->text = taken(p, word_char);
    } else {
        token->kind = T_MARK;
        token->mark = c;
        p->at++;
        if (c == '-' && p->at < p->end && *p->at == '>') {   // the arrow counts as >
            token->mark = '>';
            p->at++;
        }
    }
    token->length = (int)(p->at - start > 0 && token->kind != T_LINE ? p->at - start : 1);
}

static bool is_mark(const Parser *p, char mark) { return p->token.kind == T_MARK && p->token.mark == mark; }
static bool is_word(const Parser *p, const char *word) { return p->token.kind == T_WORD && strcmp(p->token.text, word) == 0; }

static bool accept_mark(Parser *p, char mark) {
    if (!is_mark(p, mark)) return false;
    read_token(p);
    return true;
}

static bool accept_word(Parser *p, const char *word) {
    if (!is_word(p, word)) return false;
    read_token(p);
    return true;
}

static bool expect_mark(Parser *p, char mark) { return accept_mark(p, mark) || fail(p, "expected %s%c", mark == '>' ? "-" : "", mark); }

static const char *expect(Parser *p, TokenKind kind, const char *what) {
    if (p->token.kind != kind) {
        fail(p, "expected %s", what);
        return NULL;
    }
    const char *text = p->token.text;
    read_token(p);
    return text;
}

static bool expect_number(Parser *p, double *value) {
    if (p->token.kind == T_WORD && (strcmp(p->token.text, "inf") == 0 || strcmp(p->token.text, "nan") == 0)) {
        *value = *p->token.text == 'i' ? INFINITY : NAN;
        read_token(p);
        return true;
    }
    if (p->token.kind != T_NUMBER) return fail(p, "expected a number");
    char *end = NULL;
    *value = strtod(p->token.text, &end);   // "-inf" too
    if (*end || end == p->token.text) return fail(p, "%s is no number", p->token.text);
    read_token(p);
    return true;
}

static bool expect_int(Parser *p, int64_t least, int64_t most, int64_t *value) {
    double number;
    Token at = p->token;
    if (p->token.kind != T_NUMBER) return fail(p, "expected a whole number");
    if (!expect_number(p, &number)) return false;
    if (number == floor(number) && number >= (double)least && number <= (double)most) {
        *value = (int64_t)number;
        return true;
    }
    return fail_at(p, &at, "expected a whole number within %lld … %lld", (long long)least, (long long)most);
}

// A place in memory, a count: anything that a double holds exactly.
static bool expect_large(Parser *p, int64_t *value) { return expect_int(p, 0, (int64_t)1 << 53, value); }

// ---- types and attributes -----------------------------------------------------------------------------------------------

static bool parse_dtype(Parser *p, DType *dtype);

// `storage`: the fourth is a type.
static bool parse_sizes(Parser *p, int64_t *sizes, int limit, int *count, bool storage) {
    *count = 0;
    if (!expect_mark(p, '[')) return false;
    while (!is_mark(p, ']')) {
        if (*count && !expect_mark(p, ',')) return false;
        if (*count == limit) return fail(p, "more than %d sizes", limit);
        int64_t *size = &sizes[*count];
        if (accept_word(p, "T")) *size = DIM_T;
        else if (accept_word(p, "S")) *size = DIM_S;
        else if (accept_word(p, "R")) *size = DIM_R;
        else if (storage && *count == 3 && p->token.kind == T_WORD) {
            DType dtype;
            if (!parse_dtype(p, &dtype)) return false;
            *size = dtype;
        } else if (!expect_int(p, 1, (int64_t)MAX_ELEMENTS, size)) return false;
        ++*count;
    }
    read_token(p);
    return true;
}

static bool parse_dtype(Parser *p, DType *dtype) {
    Token at = p->token;
    const char *name = expect(p, T_WORD, "a type");
    if (!name) return false;
    *dtype = dtype_parse(name);
    if (*dtype < DT_COUNT) return true;
    return fail_at(p, &at, "there is no type %s", name);
}

static bool parse_type(Parser *p, Type *type, bool weight) {
    *type = (Type){0};
    Token at = p->token;
    if (!parse_dtype(p, &type->dtype) || !parse_sizes(p, type->dims, MAX_RANK, &type->rank, type->dtype == DT_CACHE)) return false;
    if (type_valid(type, weight)) return true;
    return fail_at(p, &at,
                   weight ? "a weight's sizes must be constant and their product at most 2^44"
                          : "a symbol can only be the first size, and the product must be at most 2^44");
}

static Func *find_func(Parser *p, const char *name) {
    Func *func = names_find(p->module->func_names, name);
    return func == p->func ? NULL : func;
}

static const AttrSpec *attr_spec(const OpInfo *op, const char *name) {
    for (int i = 0; i < op->attr_count; i++)
        if (strcmp(op->attrs[i].name, name) == 0) return &op->attrs[i];
    return NULL;
}

static bool parse_attr_value(Parser *p, const AttrSpec *spec, Attr *attr) {
    DType dtype;
    Token at = p->token;
    switch (spec->kind) {
    case 'b':
        attr->number = is_word(p, "true");
        return accept_word(p, "true") || accept_word(p, "false") || fail(p, "%s is true or false", spec->name);
    case 't':
        if (!parse_dtype(p, &dtype)) return false;
        attr->number = dtype;
        return true;
    case 'e': return (attr->text = expect(p, T_WORD, "a name")) != NULL;
    case 's': return parse_sizes(p, attr->sizes, (int)COUNT_OF(attr->sizes), &attr->size_count, false);
    case 'g': {
        const char *name = expect(p, T_GLOBAL, "a function's @name");
        if (!name) return false;
        attr->func = find_func(p, name);
        return attr->func || fail_at(p, &at, "there is no function @%s before this one", name);
    }
    default: return expect_number(p, &attr->number);
    }
}

static bool parse_attrs(Parser *p, const OpInfo *op, Attr *attrs, int *count) {
    *count = 0;
    if (!accept_mark(p, '{')) return true;
    while (!is_mark(p, '}')) {
        if (*count && !expect_mark(p, ',')) return false;
        Token at = p->token;
        const char *name = expect(p, T_WORD, "an attribute");
        if (!name) return false;
        const AttrSpec *spec = attr_spec(op, name);
        if (!spec) return fail_at(p, &at, "%s has no attribute %s", op->name, name);
        for (int i = 0; i < *count; i++)
            if (strcmp(attrs[i].name, name) == 0) return fail(p, "%s is given twice", name);
        attrs[*count] = (Attr){.name = spec->name, .kind = spec->kind};
        if (!expect_mark(p, '=') || !parse_attr_value(p, spec, &attrs[*count])) return false;
        ++*count;
    }
    read_token(p);
    return true;
}

// ---- weights ------------------------------------------------------------------------------------------------------------

static bool parse_data(Parser *p, Weight *weight) {
    uint64_t bytes;
    DType dtype = weight->type.dtype;
    if (dtype != DT_F32 && dtype != DT_I32 && dtype != DT_BOOL) return fail(p, "a constant is f32, i32 or bool");
    Type whole = prune_whole_type(weight);
    if (!type_bytes(&whole, &bytes) || bytes > (uint64_t)(p->end - p->at) * 4) return fail(p, "there are not that many values");
    int64_t count = type_row_elements(&whole);
    unsigned char *data = arena_alloc(p->arena, bytes);
    weight->data = data;
    if (!expect_mark(p, '[')) return false;
    for (int64_t i = 0; i < count; i++) {
        double value;
        int64_t whole = 0;
        if (i && !expect_mark(p, ',')) return false;
        if (dtype == DT_F32 ? !expect_number(p, &value)
                            : !expect_int(p, dtype == DT_I32 ? INT32_MIN : 0, dtype == DT_I32 ? INT32_MAX : 1, &whole))
            return false;
        if (dtype == DT_F32) ((float *)data)[i] = (float)value;
        else if (dtype == DT_I32) ((int32_t *)data)[i] = (int32_t)whole;
        else data[i] = (uint8_t)whole;
    }
    return expect_mark(p, ']');
}

static bool parse_layout(Parser *p, Layout *layout) {
    for (int i = 0; i < LAYOUT_COUNT; i++)
        if (accept_word(p, layout_names[i])) {
            *layout = (Layout)i;
            return true;
        }
    return fail(p, "expected a layout: none, rows, panels, sparse or blocks");
}

// [0:5, 9]: ascending numbers below `of`.
static bool parse_pick(Parser *p, Pick *pick) {
    int capacity = 0, count = 0;
    int32_t *at = NULL;
    if (!expect_int(p, 1, MAX_PICKED, &pick->of) || !expect_mark(p, '[')) return false;
    do {
        int64_t first, last;
        if (!expect_int(p, count ? at[count - 1] + 1 : 0, pick->of - 1, &first)) return false;
        last = first;
        if (accept_mark(p, ':') && !expect_int(p, first, pick->of - 1, &last)) return false;
        for (; first <= last; first++) ARENA_PUSH(p->arena, at, count, capacity) = (int32_t)first;
    } while (accept_mark(p, ','));
    pick->at = at;
    pick->count = count;
    return expect_mark(p, ']');
}

static bool parse_prune(Parser *p, Prune *prune) {
    int64_t rows = 1, columns = 1;
    if (!expect_int(p, 1, (int64_t)MAX_ELEMENTS, &prune->keep)) return false;
    if (!accept_word(p, "of") || !expect_int(p, 1, (int64_t)MAX_ELEMENTS, &prune->of)) return fail(p, "expected prune KEEP of COUNT");
    if (accept_word(p, "blocks") && (!expect_int(p, 1, 64, &rows) || !accept_word(p, "by") || !expect_int(p, 1, 1 << 20, &columns)))
        return fail(p, "expected blocks ROWS by COLUMNS");
    prune->rows = (int)rows;
    prune->columns = (int)columns;
    return true;
}

static bool parse_weight_parts(Parser *p, Weight *weight) {
    for (;;) {
        if (accept_word(p, "from")) {
            if (!(weight->tensor = expect(p, T_GLOBAL, "a tensor's @name")) || !parse_type(p, &weight->source, true)) return false;
        } else if (accept_word(p, "index")) {
            if (!expect_large(p, &weight->index)) return false;
        } else if (accept_word(p, "rows")) {
            if (!expect_large(p, &weight->first) || !accept_word(p, "step") || !expect_int(p, 1, (int64_t)MAX_ELEMENTS, &weight->step) ||
                !accept_word(p, "count") || !expect_int(p, 1, (int64_t)MAX_ELEMENTS, &weight->rows))
                return fail(p, "expected rows FIRST step STEP count COUNT");
        } else if (accept_word(p, "transpose")) {
            weight->transpose = true;
        } else if (accept_word(p, "take")) {
            bool rows = accept_word(p, "rows");
            if (!rows && !accept_word(p, "columns")) return fail(p, "expected take rows or take columns");
            if (!parse_pick(p, rows ? &weight->pick_rows : &weight->pick_columns)) return false;
        } else if (accept_word(p, "prune")) {
            if (!parse_prune(p, &weight->prune)) return false;
        } else if (accept_word(p, "rotate")) {
            int64_t block;
            if (!expect_int(p, 1, 1 << 20, &block)) return false;
            weight->rotate = (int)block;
        } else if (accept_word(p, "quantize")) {
            if (!parse_dtype(p, &weight->quantize_to)) return false;
        } else if (accept_word(p, "layout")) {
            if (!parse_layout(p, &weight->layout)) return false;
        } else {
            return true;
        }
    }
}

static bool parse_weight(Parser *p) {
    Weight weight = {.index = -1, .quantize_to = DT_COUNT};
    Token at = p->token;
    if (!(weight.name = expect(p, T_GLOBAL, "a weight's @name")) || !expect_mark(p, ':') || !parse_type(p, &weight.type, true))
        return false;
    weight.tensor = weight.name;
    weight.source = weight.type;
    if (!parse_weight_parts(p, &weight)) return false;
    if (accept_mark(p, '=')) {
        weight.tensor = NULL;
        if (!parse_data(p, &weight)) return false;
    }
    if (names_find(p->module->weight_names, weight.name)) {
        return fail_at(p, &at, "weight @%s is there already", weight.name);
    }
    module_weight(p->module, &weight);
    return true;
}

// ---- functions ------------------------------------------------------------------------------------------------------------

static bool fresh_name(Parser *p, const char *name, const Token *at) {
    if (!names_find(p->func->names, name)) return true;
    return fail_at(p, at, "%%%s is defined twice", name);
}

// What may follow a definition's type.
static bool parse_decisions(Parser *p, Value *param, int64_t *place) {
    if (param && accept_word(p, "layout") && !parse_layout(p, &param->layout)) return false;
    if (param && param->layout >= LAYOUT_SPARSE && !expect_int(p, 1, (int64_t)MAX_ELEMENTS, &param->kept)) return false;
    if (param && param->layout == LAYOUT_BLOCKS) {
        int64_t block;
        if (!(accept_word(p, "by") || fail(p, "expected by")) || !expect_int(p, 1, 1 << 20, &block)) return false;
        param->block = (int)block;
    }
    return !accept_word(p, "at") || expect_large(p, place);
}

static bool parse_argument(Parser *p, bool param) {
    Token at = p->token;
    const char *name = expect(p, T_VALUE, "a %name");
    int64_t count = 0, place = -1;
    Value decided = {.layout = LAYOUT_NONE};
    Type type;
    if (!name || !expect_mark(p, ':')) return false;
    if (param && p->token.kind == T_NUMBER && (!expect_int(p, 1, MAX_ARRAY, &count) || !(accept_word(p, "x") || fail(p, "expected x"))))
        return false;
    if (!parse_type(p, &type, param) || !parse_decisions(p, param ? &decided : NULL, &place) || !fresh_name(p, name, &at)) return false;
    if ((param ? p->func->param_count : p->func->input_count) == MAX_VALUES) return fail(p, "more than %d here", MAX_VALUES);
    Value *value = param ? func_param(p->func, name, type, (int)count) : func_input(p->func, name, type);
    value->layout = decided.layout;
    value->kept = decided.kept;
    value->block = decided.block;
    value->place = place;
    return true;
}

static bool parse_arguments(Parser *p) {
    bool params = false;
    if (!expect_mark(p, '(')) return false;
    for (int n = 0; !is_mark(p, ')'); n++) {
        if (!params && accept_mark(p, ';')) params = true;
        else if (n && !expect_mark(p, ',')) return false;
        if (!parse_argument(p, params)) return false;
    }
    read_token(p);
    return true;
}

static bool parse_head_rest(Parser *p) {
    int64_t rows = 1;
    if (!expect_mark(p, '>')) return false;
    Type returns[MAX_RESULTS];
    int count = 0;
    do {
        if (count == MAX_RESULTS) return fail(p, "more than %d results", MAX_RESULTS);
        if (!parse_type(p, &returns[count++], false)) return false;
    } while (accept_mark(p, ','));
    p->returns = arena_copy(p->arena, returns, sizeof *returns * (size_t)count);
    p->return_count = count;
    if (accept_word(p, "frame") && !expect_large(p, &p->func->frame_bytes)) return false;
    if (accept_word(p, "rows") && !expect_int(p, 1, INT32_MAX, &rows)) return false;
    p->func->row_factor = (int)rows;
    return expect_mark(p, '{');
}

static bool parse_func(Parser *p, bool kernel, bool main) {
    Token at = p->token;
    const char *name = expect(p, T_GLOBAL, "a function's @name");
    bool known = name && names_find(p->module->func_names, name);
    p->func = func_new(p->module, name ? name : "unnamed");   // even after a mistake: its lines are still read
    p->func->kernel = kernel;
    p->func->loc = place(p, &at);
    p->returns = NULL;
    p->return_count = 0;
    p->returned = false;
    if (!name || !parse_arguments(p) || !parse_head_rest(p)) return false;
    if (known) return fail_at(p, &at, "function @%s is there already", name);
    if (p->module->main) return fail_at(p, &at, "main comes last");
    if (main) p->module->main = p->func;
    return true;
}

// ---- nodes ----------------------------------------------------------------------------------------------------------------

typedef struct { const char *names[MAX_RESULTS]; Type types[MAX_RESULTS]; int64_t places[MAX_RESULTS]; int count; } Results;

static bool parse_results(Parser *p, Results *results) {
    do {
        Token at = p->token;
        int i = results->count;
        if (i == MAX_RESULTS) return fail(p, "more than %d results", MAX_RESULTS);
        results->places[i] = -1;
        if (!(results->names[i] = expect(p, T_VALUE, "a %name")) || !expect_mark(p, ':') || !parse_type(p, &results->types[i], false))
            return false;
        if (!parse_decisions(p, NULL, &results->places[i]) || !fresh_name(p, results->names[i], &at)) return false;
        for (int j = 0; j < i; j++)
            if (strcmp(results->names[i], results->names[j]) == 0) return fail(p, "%%%s is defined twice", results->names[i]);
        results->count++;
    } while (accept_mark(p, ','));
    return true;
}

static Weight *find_weight(Parser *p) {
    Token at = p->token;
    const char *name = expect(p, T_GLOBAL, "a weight's @name");
    Weight *weight = name ? names_find(p->module->weight_names, name) : NULL;
    if (name && !weight) {
        fail_at(p, &at, "there is no weight @%s", name);
    }
    return weight;
}

static bool parse_weight_array(Parser *p, Value **value) {
    Weight **weights = NULL;
    int count = 0, capacity = 0;
    read_token(p);
    while (!is_mark(p, ']')) {
        if (count && !expect_mark(p, ',')) return false;
        if (count == MAX_ARRAY) return fail(p, "more than %d weights", MAX_ARRAY);
        Weight *weight = find_weight(p);
        if (!weight) return false;
        if (count && !type_equal(&weight->type, &weights[0]->type)) return fail(p, "the weights of an array have one type");
        ARENA_PUSH(p->arena, weights, count, capacity) = weight;
    }
    if (!count) return fail(p, "an array has at least one weight");
    read_token(p);
    *value = func_weights(p->func, weights, count);
    return true;
}

static bool parse_value(Parser *p, Value **value) {
    *value = NULL;
    if (accept_word(p, "none")) return true;
    if (p->token.kind == T_GLOBAL) {
        Weight *weight = find_weight(p);
        if (weight) *value = func_weights(p->func, &weight, 0);
        return weight;
    }
    if (is_mark(p, '[')) return parse_weight_array(p, value);
    Token at = p->token;
    const char *name = expect(p, T_VALUE, "a value");
    if (!name) return false;
    *value = names_find(p->func->names, name);
    if (*value) return true;
    return fail_at(p, &at, "there is no value %%%s", name);
}

static bool starts_operand(const Parser *p) {
    return p->token.kind == T_VALUE || p->token.kind == T_GLOBAL || is_mark(p, '[') || is_word(p, "none");
}

static bool parse_operands(Parser *p, Value ***operands, int *count) {
    int capacity = 0;
    *operands = NULL;
    *count = 0;
    if (!starts_operand(p)) return true;
    do {
        Value *value;
        if (*count == MAX_OPERAND_LIST) return fail(p, "more than %d operands", MAX_OPERAND_LIST);
        if (!parse_value(p, &value)) return false;
        ARENA_PUSH(p->arena, *operands, *count, capacity) = value;
    } while (accept_mark(p, ','));
    return true;
}

static bool check_results(Parser *p, const Node *node, const Results *results, const Token *at) {
    if (node->result_count != results->count)
        return fail_at(p, at, "%s has %d results, not %d", op_info(node->op)->name, node->result_count, results->count);
    for (int i = 0; i < results->count; i++) {
        if (type_equal(&node->results[i]->type, &results->types[i])) continue;
        Text is = {0}, says = {0};
        type_text(&node->results[i]->type, &is);
        type_text(&results->types[i], &says);
        fail_at(p, at, "%%%s is %s, not %s", results->names[i], is.data, says.data);
        text_free(&is);
        text_free(&says);
        return false;
    }
    return true;
}

static bool parse_operation(Parser *p, const Results *results) {
    Token at = p->token;
    const char *name = expect(p, T_WORD, "an operation");
    if (!name) return false;
    OpId op = op_find(name);
    if (op == OP_COUNT) {
        return fail_at(p, &at, "there is no operation %s", name);
    }
    Value **operands;
    Attr attrs[MAX_ATTRS];
    int operand_count, attr_count;
    if (!parse_operands(p, &operands, &operand_count) || !parse_attrs(p, op_info(op), attrs, &attr_count)) return false;
    const char *label = NULL;
    int64_t frame = -1;
    if (accept_word(p, "label") && !(label = expect(p, T_STRING, "a label in quotes"))) return false;
    if (accept_word(p, "frame") && !expect_large(p, &frame)) return false;
    if (p->token.kind != T_LINE && p->token.kind != T_END) return fail(p, "this does not belong here");
    if (++p->nodes > MAX_NODES) return fail(p, "more than %d operations", MAX_NODES);

    const char *names[MAX_RESULTS] = {0};
    for (int i = 0; i < results->count; i++) names[i] = results->names[i];
    Node *node = func_node(p->func, op, operands, operand_count, attrs, attr_count, names, place(p, &at), p->diags);
    if (!node) {
        p->failed = true;
        return false;
    }
    node->label = label;
    node->frame = frame;
    if (!check_results(p, node, results, &at)) return false;
    for (int i = 0; i < results->count; i++) node->results[i]->place = results->places[i];
    return true;
}

static bool parse_node(Parser *p) {
    Results results = {.count = 0};
    if (parse_results(p, &results) && expect_mark(p, '=') && parse_operation(p, &results)) return true;
    for (int i = 0; i < results.count; i++) {   // so that uses of it are no further errors
        Value *value = ARENA_NEW(p->arena, Value);
        *value =
            (Value){.kind = VALUE_INPUT, .name = results.names[i], .user_name = results.names[i], .type = results.types[i], .place = -1};
        names_add(p->func->names, value->name, value);
    }
    return false;
}

static bool parse_return(Parser *p) {
    Value *values[MAX_RESULTS];
    int count = 0;
    Token at = p->token;
    p->returned = true;
    do {
        if (count == MAX_RESULTS) return fail(p, "more than %d results", MAX_RESULTS);
        if (!parse_value(p, &values[count])) return false;
        if (!values[count] || values[count]->kind == VALUE_WEIGHT) return fail(p, "expected a value");
        count++;
    } while (accept_mark(p, ','));
    func_return(p->func, values, count);
    bool same = count == p->return_count;
    for (int i = 0; same && i < count; i++) same = type_equal(&values[i]->type, &p->returns[i]);
    if (same || !p->return_count) return true;
    return fail_at(p, &at, "this is not what the function's head says it returns");
}

// ---- lines ----------------------------------------------------------------------------------------------------------------

static bool parse_module_line(Parser *p) {
    const char *name = expect(p, T_GLOBAL, "the module's @name");
    if (!name) return false;
    p->module->name = name;
    for (;;) {
        int64_t value;
        int *small = accept_word(p, "tokens") ? &p->module->max_tokens : accept_word(p, "rows") ? &p->module->max_rows :
                     accept_word(p, "sequences") ? &p->module->max_sequences : NULL;
        if (!small && !accept_word(p, "context")) return true;
        if (!expect_int(p, 1, INT32_MAX, &value)) return false;
        if (small) *small = (int)value;
        else p->module->context = value;
    }
}

static bool close_func(Parser *p) {
    if (!p->returned) fail(p, "@%s does not return", p->func->name);
    p->func = NULL;
    return !p->failed;
}

static bool parse_line(Parser *p) {
    if (p->func) {
        if (accept_mark(p, '}')) return close_func(p);
        if (p->returned) return fail(p, "expected } after return");
        if (accept_word(p, "return")) return parse_return(p);
        return parse_node(p);
    }
    if (accept_word(p, "module")) return parse_module_line(p);
    if (accept_word(p, "weight")) return parse_weight(p);
    if (accept_word(p, "func")) return parse_func(p, false, false);
    if (accept_word(p, "kernel")) return parse_func(p, true, false);
    if (accept_word(p, "main")) return parse_func(p, false, true);
    return fail(p, "expected module, weight, func, kernel or main");
}

Module *module_parse(Arena *arena, const char *file, const char *text, size_t length, Diags *diags) {
    Parser p = {
        .arena = arena, .diags = diags, .file = arena_strdup(arena, file), .at = text, .end = text + length, .line_start = text, .line = 1};
    p.module = module_new(arena, "model");
    diags_add_source(diags, file, text, length);
    int before = diags_errors(diags);
    read_token(&p);
    while (p.token.kind != T_END) {
        p.failed = false;
        if (p.token.kind != T_LINE && parse_line(&p) && p.token.kind != T_LINE && p.token.kind != T_END)
            fail(&p, "this does not belong here");
        while (p.token.kind != T_LINE && p.token.kind != T_END) read_token(&p);
        if (p.token.kind == T_LINE) read_token(&p);
        if (diags_errors(diags) - before > 1000) return NULL;
    }
    p.failed = false;
    if (p.func) fail(&p, "the text ends inside @%s", p.func->name);
    if (!p.module->func_count && diags_errors(diags) == before) fail(&p, "there is no function");
    if (diags_errors(diags) > before || !module_verify(p.module, diags)) return NULL;
    return p.module;
}
