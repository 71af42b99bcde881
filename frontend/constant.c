// Constants: what config values, conditions, counts, shapes and attributes are made of, and the operators and functions over them.
//
// Numbers are doubles; a size or count is a number without fraction. A mistake is reported once and becomes poison, which swallows what
// follows from it.
#include "frontend/expression.h"
#include "ir/ir.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 40 };
static const Constant poison = {.kind = CONSTANT_POISON};

Constant constant_number(double value) { return (Constant){.kind = CONSTANT_NUMBER, .number = value}; }
Constant constant_bool(bool value) { return (Constant){.kind = CONSTANT_BOOL, .number = value}; }
Constant constant_word(Arena *arena, const char *text) { return (Constant){.kind = CONSTANT_TEXT, .text = arena_strdup(arena, text)}; }

bool constant_integer(const Constant *constant, int64_t *value) {
    if (constant->kind != CONSTANT_NUMBER || fabs(constant->number) > 9007199254740992.0 || constant->number != floor(constant->number))
        return false;
    *value = (int64_t)constant->number;
    return true;
}

bool constant_true(const Constant *constant) {
    switch (constant->kind) {
    case CONSTANT_NONE: case CONSTANT_POISON: return false;
    case CONSTANT_NUMBER: case CONSTANT_BOOL: return constant->number != 0;
    case CONSTANT_TEXT: return constant->text[0] != 0;
    case CONSTANT_LIST: case CONSTANT_RECORD: return constant->count > 0;
    default: return true;
    }
}

bool constant_equal(const Constant *a, const Constant *b) {
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case CONSTANT_NONE: return true;
    case CONSTANT_POISON: return false;
    case CONSTANT_NUMBER: case CONSTANT_BOOL: case CONSTANT_SIZE: return a->number == b->number;
    case CONSTANT_TEXT: return strcmp(a->text, b->text) == 0;
    default: break;
    }
    if (a->count != b->count || (a->kind == CONSTANT_FACTORS && strcmp(a->text, b->text) != 0)) return false;
    for (int i = 0; i < a->count; i++) {
        if (a->names && strcmp(a->names[i], b->names[i]) != 0) return false;
        if (!constant_equal(&a->items[i], &b->items[i])) return false;
    }
    return true;
}

const Constant *constant_field(const Constant *record, const char *name) {
    for (int i = 0; record->names && i < record->count; i++)
        if (strcmp(record->names[i], name) == 0) return &record->items[i];
    return NULL;
}

static void number_text(double value, Text *out) {
    char digits[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value) break;
    }
    text_puts(out, digits);
}

void constant_text(const Constant *constant, Text *out) {
    switch (constant->kind) {
    case CONSTANT_NONE: text_puts(out, "none"); return;
    case CONSTANT_POISON: text_puts(out, "?"); return;
    case CONSTANT_NUMBER: number_text(constant->number, out); return;
    case CONSTANT_BOOL: text_puts(out, constant->number != 0 ? "true" : "false"); return;
    case CONSTANT_SIZE: text_puts(out, constant->number == DIM_T ? "T" : "S"); return;
    case CONSTANT_TEXT: {
        const char *quote = strchr(constant->text, '\'') ? "\"" : "'";
        text_printf(out, "%s%s%s", quote, constant->text, quote);
        return;
    }
    default: break;
    }
    if (constant->kind == CONSTANT_FACTORS) text_puts(out, constant->text);
    text_puts(out, constant->kind == CONSTANT_LIST ? "[" : constant->kind == CONSTANT_RECORD ? "{" : "(");
    for (int i = 0; i < constant->count; i++) {
        if (i) text_puts(out, ", ");
        if (constant->names) text_printf(out, constant->kind == CONSTANT_RECORD ? "%s: " : "%s=", constant->names[i]);
        constant_text(&constant->items[i], out);
    }
    text_puts(out, constant->kind == CONSTANT_LIST ? "]" : constant->kind == CONSTANT_RECORD ? "}" : ")");
}

const char *constant_describe(Arena *arena, const Constant *constant) {
    static const char *const kinds[] = {"none", "the number ", "", "the text ", "a list of ", "a record", "", "rope factors", "a mistake"};
    if (constant->kind == CONSTANT_LIST) return arena_printf(arena, "a list of %d", constant->count);
    if (constant->kind == CONSTANT_NONE || constant->kind == CONSTANT_RECORD || constant->kind >= CONSTANT_FACTORS)
        return kinds[constant->kind];
    Text text = {0};
    constant_text(constant, &text);
    const char *out = arena_printf(arena, "%s%.60s", kinds[constant->kind], text.data);
    text_free(&text);
    return out;
}

bool constant_named(const char *name, Constant *out) {
    if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0) *out = constant_bool(name[0] == 't');
    else if (strcmp(name, "none") == 0) *out = (Constant){.kind = CONSTANT_NONE};
    else if (strcmp(name, "T") == 0) *out = (Constant){.kind = CONSTANT_SIZE, .number = DIM_T};
    else if (strcmp(name, "S") == 0) *out = (Constant){.kind = CONSTANT_SIZE, .number = DIM_S};
    else if (strcmp(name, "pi") == 0) *out = constant_number(3.14159265358979323846);
    else if (strcmp(name, "inf") == 0) *out = constant_number(INFINITY);
    else return false;
    return true;
}

// ---- operators ----------------------------------------------------------------------------------------------------

static Constant need_number(Arena *arena, const Expr *expr, const Constant *value, const char *what, Diags *diags) {
    if (value->kind == CONSTANT_POISON) return poison;
    diag_error(diags, expr_loc(expr), "%s needs a number, not %s", what, constant_describe(arena, value));
    if (value->kind == CONSTANT_SIZE)
        diag(diags, DIAG_HINT, NOWHERE, "%s is known only when the model runs: it can only stand first in a shape",
             value->number == DIM_T ? "T" : "S");
    return poison;
}

Constant constant_unary(Arena *arena, const Expr *expr, Constant a, Diags *diags) {
    if (a.kind == CONSTANT_POISON) return poison;
    if (expr->op == EO_NOT) return constant_bool(!constant_true(&a));
    if (a.kind != CONSTANT_NUMBER) return need_number(arena, expr->items[0], &a, "'-'", diags);
    return constant_number(-a.number);
}

static Constant membership(Arena *arena, const Expr *expr, Constant a, Constant b, Diags *diags) {
    bool found = false;
    if (b.kind == CONSTANT_LIST) {
        for (int i = 0; i < b.count; i++) found = found || constant_equal(&a, &b.items[i]);
    } else if (b.kind == CONSTANT_RECORD && a.kind == CONSTANT_TEXT) {
        found = constant_field(&b, a.text) != NULL;
    } else {
        diag_error(diags, expr_loc(expr->items[1]), "'%s' needs a list, not %s", expr_op_text[expr->op], constant_describe(arena, &b));
        return poison;
    }
    return constant_bool(found == (expr->op == EO_IN));
}

static Constant concatenate(Arena *arena, Constant a, Constant b) {
    Constant list = {.kind = CONSTANT_LIST, .count = a.count + b.count, .items = ARENA_ARRAY(arena, Constant, (int64_t)a.count + b.count)};
    if (a.count) memcpy(list.items, a.items, sizeof *a.items * (size_t)a.count);
    if (b.count) memcpy(list.items + a.count, b.items, sizeof *b.items * (size_t)b.count);
    return list;
}

// A list with a number: item by item.
static Constant each_item(Arena *arena, const Expr *expr, Constant a, Constant b, Diags *diags) {
    Constant out = a.kind == CONSTANT_LIST ? a : b;
    const Constant *items = out.items;
    out.items = ARENA_ARRAY(arena, Constant, out.count);
    for (int i = 0; i < out.count; i++) {
        out.items[i] = a.kind == CONSTANT_LIST ? constant_binary(arena, expr, items[i], b, diags) : constant_binary(arena, expr, a, items[i], diags);
        if (out.items[i].kind == CONSTANT_POISON) return poison;
    }
    return out;
}

Constant constant_binary(Arena *arena, const Expr *expr, Constant a, Constant b, Diags *diags) {
    if (a.kind == CONSTANT_POISON || b.kind == CONSTANT_POISON) return poison;
    switch (expr->op) {
    case EO_EQ: return constant_bool(constant_equal(&a, &b));
    case EO_NE: return constant_bool(!constant_equal(&a, &b));
    case EO_IN: case EO_NOT_IN: return membership(arena, expr, a, b, diags);
    case EO_AND: return constant_true(&a) ? b : a;
    case EO_OR: return constant_true(&a) ? a : b;
    default: break;
    }
    if (expr->op == EO_ADD && a.kind == CONSTANT_LIST && b.kind == CONSTANT_LIST && a.count + b.count < 1000000)
        return concatenate(arena, a, b);
    bool arithmetic = expr->op >= EO_ADD && expr->op <= EO_MOD;
    if (arithmetic && ((a.kind == CONSTANT_LIST && b.kind == CONSTANT_NUMBER) || (a.kind == CONSTANT_NUMBER && b.kind == CONSTANT_LIST)))
        return each_item(arena, expr, a, b, diags);
    const char *what = arena_printf(arena, "'%s'", expr_op_text[expr->op]);
    if (a.kind != CONSTANT_NUMBER) return need_number(arena, expr->items[0], &a, what, diags);
    if (b.kind != CONSTANT_NUMBER) return need_number(arena, expr->items[1], &b, what, diags);
    double x = a.number, y = b.number;
    if ((expr->op == EO_DIV || expr->op == EO_FLOOR_DIV || expr->op == EO_MOD) && y == 0) {
        diag_error(diags, expr_loc(expr->items[1]), "division by zero");
        return poison;
    }
    switch (expr->op) {
    case EO_ADD: return constant_number(x + y);
    case EO_SUB: return constant_number(x - y);
    case EO_MUL: return constant_number(x * y);
    case EO_DIV: return constant_number(x / y);
    case EO_FLOOR_DIV: return constant_number(floor(x / y));
    case EO_MOD: return constant_number(x - y * floor(x / y));
    case EO_LT: return constant_bool(x < y);
    case EO_LE: return constant_bool(x <= y);
    case EO_GT: return constant_bool(x > y);
    default: return constant_bool(x >= y);
    }
}

Constant constant_index(Arena *arena, const Expr *expr, Constant list, Constant index, Diags *diags) {
    if (list.kind == CONSTANT_POISON || index.kind == CONSTANT_POISON) return poison;
    if (list.kind == CONSTANT_RECORD && index.kind == CONSTANT_TEXT) {
        const Constant *field = constant_field(&list, index.text);
        if (field) return *field;
        diag_error(diags, expr_loc(expr->items[1]), "%s has no entry '%s'", expr_source(arena, expr->items[0]), index.text);
        const char *near = nearest_name(index.text, list.names, list.count);
        if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
        return poison;
    }
    int64_t at;
    if (list.kind != CONSTANT_LIST) {
        diag_error(diags, expr_loc(expr->items[0]), "only a list or a record is indexed, and this is %s", constant_describe(arena, &list));
    } else if (!constant_integer(&index, &at)) {
        diag_error(diags, expr_loc(expr->items[1]), "an index is a whole number, not %s", constant_describe(arena, &index));
    } else if (at < -list.count || at >= list.count) {
        diag_error(diags, expr_loc(expr->items[1]), "index %lld is outside a list of %d", (long long)at, list.count);
    } else {
        return list.items[at < 0 ? at + list.count : at];
    }
    return poison;
}

// ---- functions ----------------------------------------------------------------------------------------------------

typedef struct { const char *name, *parameters; } FactorsFunction;   // `=value` after a name: its default; `?`: may be left out

static const FactorsFunction factors_functions[] = {
    {"linear_scale", "factor"},
    {"llama3", "factor low high original"},
    {"yarn", "factor original beta_fast=32 beta_slow=1 truncate=1"},
    {"longrope", "short long original context?"},
};

static const char *const functions[] = {
    "min", "max", "sum", "len", "sqrt", "log", "exp", "floor", "ceil", "round", "abs", "pow",
    "yarn_mscale", "longrope_mscale", "alibi_slopes", "linear_scale", "llama3", "yarn", "longrope",
};

bool constant_function(const char *name) {
    for (size_t i = 0; i < COUNT_OF(functions); i++)
        if (strcmp(functions[i], name) == 0) return true;
    return false;
}

static Constant call_error(const Expr *call, Diags *diags, const char *message) {
    diag_error(diags, expr_loc(call), "%s %s", call->text, message);
    return poison;
}

// `llama3(factor=8, …)`: the record of its parameters, checked; rope works the vector out when it knows dims and base.
static Constant make_factors(Arena *arena, const Expr *call, const FactorsFunction *function, const Constant *args, int count,
                             Diags *diags) {
    Constant out = {.kind = CONSTANT_FACTORS, .text = function->name};
    const char *names[8];
    char *words = arena_strdup(arena, function->parameters), *rest = NULL;
    bool good = true, used[64] = {0};
    out.names = ARENA_ARRAY(arena, const char *, 8);
    out.items = ARENA_ARRAY(arena, Constant, 8);
    int name_count = 0, position = 0;
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest), position++) {
        char *value = strchr(word, '='), *optional = strchr(word, '?');
        if (value) *value++ = 0;
        if (optional) *optional = 0;
        names[name_count++] = word;
        int given = -1;
        for (int i = 0; i < count && i < 64; i++)
            if (call->names[i] ? strcmp(call->names[i], word) == 0 : i == position) given = i;
        if (given >= 0) used[given] = true;
        if (given < 0 && optional) continue;
        if (given < 0 && !value) {
            diag_error(diags, expr_loc(call), "%s needs %s=", function->name, word);
            good = false;
            continue;
        }
        out.names[out.count] = word;
        out.items[out.count++] = given >= 0 ? args[given] : constant_number(strtod(value, NULL));
    }
    for (int i = 0; i < count; i++) {
        if (i < 64 && used[i]) continue;
        good = false;
        const char *name = call->names[i];
        if (!name) {
            diag_error(diags, expr_loc(call->items[i]), "%s takes %d arguments", function->name, name_count);
            continue;
        }
        diag_error(diags, yaml_place(call->at, call->name_starts[i], (int)strlen(name)), "%s has no argument '%s'", function->name, name);
        const char *near = nearest_name(name, names, name_count);
        if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    }
    return good ? out : poison;
}

// The factor by which yarn and longrope scale queries and keys (transformers' modeling_rope_utils).
static Constant mscale_call(const Expr *call, const double *x, int count, Diags *diags) {
    if (strcmp(call->text, "yarn_mscale") == 0) {
        if (count < 1 || count > 2) return call_error(call, diags, "takes (factor, mscale=1)");
        return constant_number(x[0] <= 1 ? 1 : 0.1 * (count > 1 ? x[1] : 1) * log(x[0]) + 1);
    }
    if (count != 2 || x[0] <= 0 || x[1] <= 1)
        return call_error(call, diags, "takes (factor, original): how much longer the context is, and the original context");
    return constant_number(x[0] <= 1 ? 1 : sqrt(1 + log(x[0]) / log(x[1])));
}

// A slope a head (arXiv 2108.12409): 2^(-max_bias·i/n) for i = 1 … n, n the power of two from `heads` on; where that is more than there are heads,
// those of even i come first and then those of odd i.
static Constant alibi_slopes(Arena *arena, const Expr *call, const double *x, int count, Diags *diags) {
    enum { MOST_HEADS = 65536 };
    double heads = count ? x[0] : 0, max_bias = count > 1 ? x[1] : 8, n = 1;
    if (count < 1 || count > 2 || heads != floor(heads) || heads < 1 || heads > MOST_HEADS)
        return call_error(call, diags, "takes (heads, max_bias=8)");
    while (n < heads) n *= 2;
    Constant out = {.kind = CONSTANT_LIST, .count = (int)heads, .items = ARENA_ARRAY(arena, Constant, (int)heads)};
    for (int i = 0; i < out.count; i++) {
        double at = n == heads ? i + 1 : i < n / 2 ? 2 * (i + 1) : 2 * (i - n / 2) + 1;
        out.items[i] = constant_number(pow(2, -max_bias * at / n));
    }
    return out;
}

static Constant reduce(const Expr *call, const double *x, int count, Diags *diags) {
    if (strcmp(call->text, "sum") == 0) {
        double sum = 0;
        for (int i = 0; i < count; i++) sum += x[i];
        return constant_number(sum);
    }
    if (!count) return call_error(call, diags, "needs at least one number");
    bool least = strcmp(call->text, "min") == 0;
    double best = x[0];
    for (int i = 1; i < count; i++) best = least == (x[i] < best) && x[i] != best ? x[i] : best;
    return constant_number(best);
}

static const struct { const char *name; double (*of)(double); } number_functions[] = {
    {"sqrt", sqrt}, {"log", log}, {"exp", exp}, {"floor", floor}, {"ceil", ceil}, {"round", nearbyint}, {"abs", fabs},
};

static Constant number_call(Arena *arena, const Expr *call, const double *x, int count, Diags *diags) {
    const char *name = call->text;
    if (strcmp(name, "min") == 0 || strcmp(name, "max") == 0 || strcmp(name, "sum") == 0) return reduce(call, x, count, diags);
    if (strstr(name, "mscale")) return mscale_call(call, x, count, diags);
    if (strcmp(name, "alibi_slopes") == 0) return alibi_slopes(arena, call, x, count, diags);
    bool two = strcmp(name, "pow") == 0;
    if (count != (two ? 2 : 1)) return call_error(call, diags, two ? "takes two numbers" : "takes one number");
    double value = two ? pow(x[0], x[1]) : 0;
    for (size_t i = 0; i < COUNT_OF(number_functions); i++)
        if (strcmp(number_functions[i].name, name) == 0) value = number_functions[i].of(x[0]);
    if (isnan(value)) return call_error(call, diags, arena_printf(arena, "of %g is not a number", x[0]));
    return constant_number(value);
}

Constant constant_call(Arena *arena, const Expr *call, const Constant *args, int count, Diags *diags) {
    for (size_t i = 0; i < COUNT_OF(factors_functions); i++)
        if (strcmp(call->text, factors_functions[i].name) == 0) return make_factors(arena, call, &factors_functions[i], args, count, diags);
    for (int i = 0; i < count; i++)
        if (call->names[i] && !(strcmp(call->names[i], "axis") != 0 && (strstr(call->text, "mscale") || strstr(call->text, "alibi")))) {
            diag_error(diags, yaml_place(call->at, call->name_starts[i], (int)strlen(call->names[i])), "%s of numbers has no argument '%s'",
                       call->text, call->names[i]);
            return poison;
        }
    if (strcmp(call->text, "len") == 0) {
        if (count == 1 && (args[0].kind == CONSTANT_LIST || args[0].kind == CONSTANT_RECORD)) return constant_number(args[0].count);
        return call_error(call, diags, "takes one list");
    }
    bool list = count == 1 && args[0].kind == CONSTANT_LIST;
    const Constant *values = list ? args[0].items : args;
    int n = list ? args[0].count : count;
    double *x = ARENA_ARRAY(arena, double, n);
    for (int i = 0; i < n; i++) {
        if (values[i].kind == CONSTANT_POISON) return poison;
        if (values[i].kind != CONSTANT_NUMBER) return need_number(arena, call->items[list ? 0 : i], &values[i], call->text, diags);
        x[i] = values[i].number;
    }
    return number_call(arena, call, x, n, diags);
}

// ---- names --------------------------------------------------------------------------------------------------------

void scope_set(Arena *arena, Scope *scope, const char *name, Constant value) {
    for (int i = 0; i < scope->count; i++)
        if (strcmp(scope->names[i], name) == 0) {
            scope->values[i] = value;
            return;
        }
    int count = scope->count;
    ARENA_PUSH(arena, scope->names, scope->count, scope->capacity) = arena_strdup(arena, name);
    ARENA_PUSH(arena, scope->values, count, scope->value_capacity) = value;
}

bool scope_get(const Scope *scope, const char *name, Constant *value) {
    for (; scope; scope = scope->outer) {
        if (scope->find && scope->find(scope->context, name, value)) return true;
        for (int i = 0; i < scope->count; i++)
            if (strcmp(scope->names[i], name) == 0) {
                *value = scope->values[i];
                return true;
            }
    }
    return false;
}

int scope_names(Arena *arena, const Scope *scope, const char ***names) {
    int count = 0, capacity = 0;
    *names = NULL;
    for (; scope; scope = scope->outer)
        for (int i = 0; i < scope->count; i++) ARENA_PUSH(arena, *names, count, capacity) = scope->names[i];
    return count;
}

void report_unknown(Arena *arena, const Expr *expr, const Scope *scope, const char *const *more, int more_count, Diags *diags) {
    const char **names;
    int count = scope_names(arena, scope, &names), capacity = count;
    const char **all = ARENA_ARRAY(arena, const char *, (int64_t)count + more_count);
    if (count) memcpy(all, names, sizeof *all * (size_t)count);
    for (int i = 0; i < more_count; i++) all[capacity++] = more[i];
    diag_error(diags, expr_loc(expr), "unknown name '%s'", expr->text);
    const char *near = nearest_name(expr->text, all, capacity);
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
}

// ---- evaluation ---------------------------------------------------------------------------------------------------

static Constant expr_list(Arena *arena, const Expr *expr, const Scope *scope, Diags *diags) {
    Constant list = {.kind = CONSTANT_LIST, .count = expr->count, .items = ARENA_ARRAY(arena, Constant, expr->count)};
    for (int i = 0; i < expr->count; i++) {
        list.items[i] = constant_expr(arena, expr->items[i], scope, diags);
        if (list.items[i].kind == CONSTANT_POISON) list.kind = CONSTANT_POISON;
    }
    return list;
}

static Constant expr_call(Arena *arena, const Expr *expr, const Scope *scope, Diags *diags) {
    bool bad = false;
    Constant *args = ARENA_ARRAY(arena, Constant, expr->count);
    for (int i = 0; i < expr->count; i++) {
        args[i] = constant_expr(arena, expr->items[i], scope, diags);
        bad = bad || args[i].kind == CONSTANT_POISON;
    }
    if (constant_function(expr->text)) return bad ? poison : constant_call(arena, expr, args, expr->count, diags);
    Loc loc = yaml_place(expr->at, expr->start, (int)strlen(expr->text));
    if (op_find(expr->text) != OP_COUNT) diag_error(diags, loc, "%s works on values, and here only constants are known", expr->text);
    else diag_error(diags, loc, "there is no function '%s'", expr->text);
    const char *near = nearest_name(expr->text, functions, COUNT_OF(functions));
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    return poison;
}

Constant constant_expr(Arena *arena, const Expr *expr, const Scope *scope, Diags *diags) {
    Constant value = poison;
    switch (expr->kind) {
    case EX_NUMBER: return constant_number(expr->number);
    case EX_TEXT: return (Constant){.kind = CONSTANT_TEXT, .text = expr->text};
    case EX_LIST: return expr_list(arena, expr, scope, diags);
    case EX_CALL: return expr_call(arena, expr, scope, diags);
    case EX_UNARY: return constant_unary(arena, expr, constant_expr(arena, expr->items[0], scope, diags), diags);
    case EX_NAME:
        if (scope_get(scope, expr->text, &value) || constant_named(expr->text, &value)) return value;
        report_unknown(arena, expr, scope, NULL, 0, diags);
        return poison;
    case EX_INDEX:
        value = constant_expr(arena, expr->items[0], scope, diags);
        return constant_index(arena, expr, value, constant_expr(arena, expr->items[1], scope, diags), diags);
    case EX_IF:
        value = constant_expr(arena, expr->items[1], scope, diags);
        if (value.kind == CONSTANT_POISON) return poison;
        return constant_expr(arena, expr->items[constant_true(&value) ? 0 : 2], scope, diags);
    default: break;
    }
    value = constant_expr(arena, expr->items[0], scope, diags);
    if (value.kind == CONSTANT_POISON) return poison;
    if (expr->op == EO_AND && !constant_true(&value)) return value;
    if (expr->op == EO_OR && constant_true(&value)) return value;
    return constant_binary(arena, expr, value, constant_expr(arena, expr->items[1], scope, diags), diags);
}

static Constant evaluate(Arena *arena, const Yaml *value, const Scope *scope, int depth, Diags *diags) {
    if (value->poisoned) return poison;
    if (depth > MOST_DEPTH) {
        diag_error(diags, value->loc, "the value is nested too deeply");
        return poison;
    }
    if (value->kind == YAML_SCALAR) {
        Expr *expr = expression_parse(arena, value, diags);
        Constant word;
        if (!expr) return poison;
        if (expr->kind == EX_NAME && !scope_get(scope, expr->text, &word) && !constant_named(expr->text, &word))
            return constant_word(arena, expr->text);
        return constant_expr(arena, expr, scope, diags);
    }
    Constant out = {.kind = value->kind == YAML_LIST ? CONSTANT_LIST : CONSTANT_RECORD, .count = value->count};
    out.items = ARENA_ARRAY(arena, Constant, value->count);
    if (value->kind == YAML_MAP) out.names = ARENA_ARRAY(arena, const char *, value->count);
    bool bad = false;
    for (int i = 0; i < value->count; i++) {
        if (out.names) out.names[i] = value->keys[i]->text;
        out.items[i] = evaluate(arena, value->items[i], scope, depth + 1, diags);
        bad = bad || out.items[i].kind == CONSTANT_POISON;
    }
    return bad ? poison : out;
}

bool constant_evaluate(Arena *arena, const Yaml *value, const Scope *scope, Constant *out, Diags *diags) {
    *out = evaluate(arena, value, scope, 0, diags);
    return out->kind != CONSTANT_POISON;
}

static void collect_names(Arena *arena, const Expr *expr, const char ***names, int *count, int *capacity) {
    Constant ignored;
    bool known = expr->kind != EX_NAME || constant_named(expr->text, &ignored);
    for (int i = 0; i < *count && !known; i++) known = strcmp((*names)[i], expr->text) == 0;
    if (!known) ARENA_PUSH(arena, *names, *count, *capacity) = expr->text;
    for (int i = 0; i < expr->count; i++) collect_names(arena, expr->items[i], names, count, capacity);
}

int expression_names(Arena *arena, const Yaml *scalar, const char ***names, Diags *diags) {
    *names = NULL;
    if (scalar->kind != YAML_SCALAR) {
        diag_error(diags, scalar->loc, "expected an expression, not %s", yaml_kind_name(scalar->kind));
        return -1;
    }
    Expr *expr = expression_parse(arena, scalar, diags);
    if (!expr) return -1;
    int count = 0, capacity = 0;
    collect_names(arena, expr, names, &count, &capacity);
    return count;
}

// ---- patterns -----------------------------------------------------------------------------------------------------

static bool pattern_part(Arena *arena, const Yaml *scalar, int *at, const Scope *scope, Text *out, Diags *diags) {
    Expr *expr = pattern_part_parse(arena, scalar, at, diags);
    if (!expr) return false;
    Constant value = constant_expr(arena, expr, scope, diags);
    if (value.kind == CONSTANT_POISON) return false;
    if (value.kind == CONSTANT_TEXT) text_puts(out, value.text);
    else if (value.kind == CONSTANT_NUMBER) constant_text(&value, out);
    else diag_error(diags, expr_loc(expr), "a name can contain a number or a text, not %s", constant_describe(arena, &value));
    return value.kind == CONSTANT_TEXT || value.kind == CONSTANT_NUMBER;
}

const char *pattern_expand(Arena *arena, const Yaml *scalar, const Scope *scope, Diags *diags) {
    if (scalar->poisoned) return NULL;
    if (scalar->kind != YAML_SCALAR) {
        diag_error(diags, scalar->loc, "expected a name, not %s", yaml_kind_name(scalar->kind));
        if (scalar->kind == YAML_MAP) diag(diags, DIAG_HINT, NOWHERE, "quote a pattern that starts with {");
        return NULL;
    }
    Text out = {0};
    const char *text = scalar->text;
    bool good = true;
    for (int i = 0; good && text[i];) {
        if ((text[i] == '{' || text[i] == '}') && text[i + 1] == text[i]) {
            text_add(&out, text + i, 1);
            i += 2;
        } else if (text[i] == '{') {
            i++;
            good = pattern_part(arena, scalar, &i, scope, &out, diags);
        } else if (text[i] == '}') {
            diag_error(diags, yaml_place(scalar, i, 1), "'}' without '{' before it");
            diag(diags, DIAG_HINT, NOWHERE, "{{ and }} stand for braces");
            good = false;
        } else {
            text_add(&out, text + i++, 1);
        }
    }
    const char *result = good ? arena_strndup(arena, out.data ? out.data : "", out.length) : NULL;
    text_free(&out);
    return result;
}
