// The grammar of scalars: expressions and statements, with the place of every piece. Private to the model language.
#ifndef TENON_FRONTEND_EXPRESSION_H
#define TENON_FRONTEND_EXPRESSION_H

#include "frontend/language.h"

typedef enum { EX_NUMBER, EX_TEXT, EX_NAME, EX_LIST, EX_CALL, EX_INDEX, EX_UNARY, EX_BINARY, EX_IF } ExprKind;

typedef enum {
    EO_ADD, EO_SUB, EO_MUL, EO_DIV, EO_FLOOR_DIV, EO_MOD, EO_LT, EO_LE, EO_GT, EO_GE, EO_EQ, EO_NE, EO_IN, EO_NOT_IN, EO_AND, EO_OR,
    EO_NOT, EO_NEG, EO_COUNT
} ExprOp;
extern const char *const expr_op_text[EO_COUNT];

typedef struct Expr Expr;
struct Expr {
    ExprKind kind;
    ExprOp op;                     // UNARY, BINARY
    const Yaml *at;                // the scalar it stands in
    int start, length;             // in the scalar's text
    int depth;
    double number;                 // NUMBER
    const char *text;              // TEXT, NAME, CALL: the function's name
    int count;                     // LIST; CALL: arguments; INDEX: what, index; UNARY; BINARY; IF: then, condition, else
    Expr **items;
    const char **names;            // CALL: a name or NULL for each argument
    int *name_starts;
};

typedef struct {
    const Yaml *at;
    bool returns, broken;          // broken: the expression could not be read, the targets could
    int target_count;
    const char **targets;
    int *target_starts;
    Expr **values;                 // one, or for `return a, b` several
    int value_count;
} Statement;

// NULL with an error.
Expr *expression_parse(Arena *arena, const Yaml *scalar, Diags *diags);
Statement *statement_parse(Arena *arena, const Yaml *scalar, Diags *diags);   // see `broken`
// `a..b` or `a..b..step` into two or three expressions; 0 with an error.
int range_parse(Arena *arena, const Yaml *scalar, Expr *parts[3], Diags *diags);
// The expression of a pattern's `{expression}` that starts at `*at` of its text; `*at` moves behind the `}`.
Expr *pattern_part_parse(Arena *arena, const Yaml *scalar, int *at, Diags *diags);
Loc expr_loc(const Expr *expr);
const char *expr_source(Arena *arena, const Expr *expr);   // as written
bool is_name(const char *text);

// Constants under the language's operators and functions (constant.c). They report errors and then give CONSTANT_POISON.
bool constant_named(const char *name, Constant *out);      // true, false, none, T, S, pi, inf
Constant constant_unary(Arena *arena, const Expr *expr, Constant a, Diags *diags);
Constant constant_binary(Arena *arena, const Expr *expr, Constant a, Constant b, Diags *diags);
Constant constant_index(Arena *arena, const Expr *expr, Constant list, Constant index, Diags *diags);
bool constant_function(const char *name);                  // a scalar function's name
// `names` as in Expr; arguments are no poison.
Constant constant_call(Arena *arena, const Expr *expr, const Constant *args, int count, Diags *diags);
Constant constant_expr(Arena *arena, const Expr *expr, const Scope *scope, Diags *diags);
const char *constant_describe(Arena *arena, const Constant *constant);       // "the number 3", "a list of 4"
// "unknown name 'x'", with the nearest of the scope's names
void report_unknown(Arena *arena, const Expr *expr, const Scope *scope, const char *const *more, int more_count, Diags *diags);
int scope_names(Arena *arena, const Scope *scope, const char ***names);

#endif
