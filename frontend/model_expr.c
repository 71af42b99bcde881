// Expressions over constants, parameters and values of the graph. What is known at compile time is worked out here; the rest becomes nodes.
#include "frontend/model.h"

#include <string.h>

static bool is_constant(const Datum *datum) { return datum->kind == DATUM_CONSTANT; }
static bool is_none(const Datum *datum) { return is_constant(datum) && datum->constant.kind == CONSTANT_NONE; }

const char *datum_describe(Frame *frame, const Datum *datum) {
    switch (datum->kind) {
    case DATUM_POISON: return "a mistake";
    case DATUM_CONSTANT: return constant_describe(frame->arena, &datum->constant);
    case DATUM_LIST: return arena_printf(frame->arena, "%d values", datum->count);
    default: break;
    }
    Text text = {0};
    type_text(datum->kind == DATUM_VALUE ? &datum->value->type : &datum->slot->type, &text);
    const char *out = arena_printf(frame->arena, datum->kind == DATUM_VALUE ? "%s" : "a parameter %s", text.data);
    text_free(&text);
    return out;
}

// ---- names --------------------------------------------------------------------------------------------------------

static void unknown_name(Frame *frame, const Expr *expr) {
    frame->failed = true;
    if (frame->lost) return;
    const char **names = NULL;
    int count = 0, capacity = 0;
    for (int i = 0; i < frame->variable_count; i++) ARENA_PUSH(frame->arena, names, count, capacity) = frame->variables[i].name;
    for (int i = 0; i < frame->block->param_count; i++) ARENA_PUSH(frame->arena, names, count, capacity) = frame->block->params[i].name;
    report_unknown(frame->arena, expr, frame->scope, names, count, frame->diags);
    OpId op = op_find(expr->text);
    if ((op != OP_COUNT && !(op_info(op)->flags & INTERNAL)) || block_find(frame->lower, expr->text))
        frame_hint(frame, "'%s' is called: %s(…)", expr->text, expr->text);
}

static Datum lower_name(Frame *frame, const Expr *expr) {
    Variable *variable = frame_variable(frame, expr->text);
    if (variable) return variable->datum;
    for (int i = 0; i < frame->block->param_count; i++)
        if (strcmp(frame->block->params[i].name, expr->text) == 0) return param_datum(frame, i);
    Constant constant;
    if (scope_get(frame->scope, expr->text, &constant) || constant_named(expr->text, &constant)) return datum_constant(constant);
    unknown_name(frame, expr);
    return datum_poison;
}

// ---- truth --------------------------------------------------------------------------------------------------------

// Is it true, as known at compile time? A parameter is true when it is there. 0, 1, or -1 with an error or for poison.
static int truth(Frame *frame, const Expr *expr, const Datum *datum) {
    if (datum->kind == DATUM_POISON) return -1;
    if (datum->kind == DATUM_SLOT) return 1;
    if (is_constant(datum)) return constant_true(&datum->constant);
    frame_error(frame, expr, "a condition must be known at compile time, and this is %s", datum_describe(frame, datum));
    frame_hint(frame, "where(condition, a, b) chooses element by element");
    return -1;
}

// ---- operators ----------------------------------------------------------------------------------------------------

static Datum lower_unary(Frame *frame, const Expr *expr, const char *const *names, int name_count) {
    Datum a = lower_expr(frame, expr->items[0], NULL, 0);
    if (a.kind == DATUM_POISON) return a;
    if (expr->op == EO_NOT) {
        int is = truth(frame, expr->items[0], &a);
        return is < 0 ? datum_poison : datum_constant(constant_bool(!is));
    }
    if (is_constant(&a)) {
        Constant out = constant_unary(frame->arena, expr, a.constant, frame->diags);
        frame->failed = frame->failed || out.kind == CONSTANT_POISON;
        return datum_constant(out);
    }
    return make_node(frame, OP_NEG, &a, 1, NULL, 0, expr, names, name_count);
}

static Datum lower_logic(Frame *frame, const Expr *expr) {
    Datum a = lower_expr(frame, expr->items[0], NULL, 0);
    int left = truth(frame, expr->items[0], &a);
    if (left < 0) return datum_poison;
    if (left == (expr->op == EO_OR)) return a;
    Datum b = lower_expr(frame, expr->items[1], NULL, 0);
    return truth(frame, expr->items[1], &b) < 0 ? datum_poison : b;
}

static OpId op_of(ExprOp op, bool *swap) {
    static const OpId ops[EO_COUNT] = {
        [EO_ADD] = OP_ADD,   [EO_SUB] = OP_SUB,   [EO_MUL] = OP_MUL,  [EO_DIV] = OP_DIV,      [EO_FLOOR_DIV] = OP_COUNT,
        [EO_MOD] = OP_COUNT, [EO_LT] = OP_LT,     [EO_LE] = OP_LE,    [EO_GT] = OP_LT,        [EO_GE] = OP_LE,
        [EO_EQ] = OP_EQ,     [EO_NE] = OP_NE,     [EO_IN] = OP_COUNT, [EO_NOT_IN] = OP_COUNT, [EO_AND] = OP_COUNT,
        [EO_OR] = OP_COUNT,  [EO_NOT] = OP_COUNT, [EO_NEG] = OP_COUNT};
    *swap = op == EO_GT || op == EO_GE;
    return ops[op];
}

static Datum lower_binary(Frame *frame, const Expr *expr, const char *const *names, int name_count) {
    if (expr->op == EO_AND || expr->op == EO_OR) return lower_logic(frame, expr);
    Datum operands[2] = {lower_expr(frame, expr->items[0], NULL, 0), lower_expr(frame, expr->items[1], NULL, 0)};
    if (operands[0].kind == DATUM_POISON || operands[1].kind == DATUM_POISON) return datum_poison;
    if (is_constant(&operands[0]) && is_constant(&operands[1])) {
        Constant out = constant_binary(frame->arena, expr, operands[0].constant, operands[1].constant, frame->diags);
        frame->failed = frame->failed || out.kind == CONSTANT_POISON;
        return datum_constant(out);
    }
    if ((expr->op == EO_EQ || expr->op == EO_NE) && (is_none(&operands[0]) || is_none(&operands[1])))
        return datum_constant(constant_bool(expr->op == EO_NE));   // is the parameter there?
    for (int i = 0; i < 2; i++) {
        list_as_slot(frame, &operands[i], expr->items[i]);
        if (operands[i].kind == DATUM_POISON) return datum_poison;
    }
    for (int i = 0; i < 2; i++)
        if (operands[i].kind == DATUM_LIST ||
            (is_constant(&operands[i]) && operands[i].constant.kind != CONSTANT_NUMBER && operands[i].constant.kind != CONSTANT_BOOL)) {
            frame_error(frame, expr->items[i], "'%s' needs a number or a value here, not %s", expr_op_text[expr->op],
                        datum_describe(frame, &operands[i]));
            if (operands[i].kind == DATUM_LIST)
                frame_hint(frame, "give the values names: a, b = %s", expr_source(frame->arena, expr->items[i]));
            if (is_none(&operands[i])) frame_hint(frame, "%s is absent here", expr_source(frame->arena, expr->items[i]));
            return datum_poison;
        }
    bool swap;
    OpId op = op_of(expr->op, &swap);
    if (op == OP_COUNT) {
        frame_error(frame, expr, "'%s' works on numbers known at compile time only", expr_op_text[expr->op]);
        return datum_poison;
    }
    if (swap) {
        Datum first = operands[0];
        operands[0] = operands[1];
        operands[1] = first;
    }
    return make_node(frame, op, operands, 2, NULL, 0, expr, names, name_count);
}

static Datum lower_index(Frame *frame, const Expr *expr) {
    Datum list = lower_expr(frame, expr->items[0], NULL, 0), index = lower_expr(frame, expr->items[1], NULL, 0);
    if (list.kind == DATUM_POISON || index.kind == DATUM_POISON) return datum_poison;
    if (!is_constant(&index)) {
        frame_error(frame, expr->items[1], "an index must be known at compile time, and this is %s", datum_describe(frame, &index));
        frame_hint(frame, "gather(x, e) takes elements by computed indices");
        return datum_poison;
    }
    if (is_constant(&list)) {
        Constant out = constant_index(frame->arena, expr, list.constant, index.constant, frame->diags);
        frame->failed = frame->failed || out.kind == CONSTANT_POISON;
        return datum_constant(out);
    }
    int64_t at;
    if (list.kind != DATUM_LIST) {
        frame_error(frame, expr->items[0], "only a list is indexed, and this is %s", datum_describe(frame, &list));
        frame_hint(frame, "slice(x, from, to, axis=-1) takes a part of a value");
    } else if (!constant_integer(&index.constant, &at) || at < -list.count || at >= list.count) {
        frame_error(frame, expr->items[1], "index %s is not within %d values", expr_source(frame->arena, expr->items[1]), list.count);
    } else {
        return list.items[at < 0 ? at + list.count : at];
    }
    return datum_poison;
}

static Datum lower_list(Frame *frame, const Expr *expr) {
    Datum *items = ARENA_ARRAY(frame->arena, Datum, expr->count);
    Constant *constants = ARENA_ARRAY(frame->arena, Constant, expr->count);
    bool all_constant = true, bad = false;
    for (int i = 0; i < expr->count; i++) {
        items[i] = lower_expr(frame, expr->items[i], NULL, 0);
        constants[i] = items[i].constant;
        all_constant = all_constant && is_constant(&items[i]);
        bad = bad || items[i].kind == DATUM_POISON;
    }
    if (bad) return datum_poison;
    if (all_constant) return datum_constant((Constant){.kind = CONSTANT_LIST, .count = expr->count, .items = constants});
    return (Datum){.kind = DATUM_LIST, .count = expr->count, .items = items};
}

// ---- calls --------------------------------------------------------------------------------------------------------

static Datum unknown_call(Frame *frame, const Expr *expr) {
    const char *names[OP_COUNT + MOST_BLOCKS + 8];
    int count = 0;
    for (int i = 0; i < OP_COUNT; i++)
        if (!(op_info(i)->flags & INTERNAL)) names[count++] = op_info(i)->name;
    for (int i = 0; i < frame->lower->block_count; i++) names[count++] = frame->lower->blocks[i].name;
    names[count++] = "floor";
    names[count++] = "linear_scale";
    names[count++] = "longrope";
    diag_error(frame->diags, yaml_place(expr->at, expr->start, (int)strlen(expr->text)), "there is no operation or block '%s'", expr->text);
    frame->failed = true;
    const char *near = nearest_name(expr->text, names, count);
    if (near) frame_hint(frame, "did you mean '%s'?", near);
    for (int i = 0; i < expr->count; i++) lower_expr(frame, expr->items[i], NULL, 0);   // for the mistakes in them
    return datum_poison;
}

// A scalar function: of constants only. Names that are also operations (sqrt, max …) are those when an argument is no constant.
static Datum lower_function(Frame *frame, const Expr *expr, OpId also, const char *const *names, int name_count) {
    Constant *constants = ARENA_ARRAY(frame->arena, Constant, expr->count);
    Datum *args = ARENA_ARRAY(frame->arena, Datum, expr->count);
    bool bad = false, op = false;
    for (int i = 0; i < expr->count; i++) {
        args[i] = lower_expr(frame, expr->items[i], NULL, 0);
        bad = bad || args[i].kind == DATUM_POISON;
        constants[i] = args[i].constant;
        if (args[i].kind == DATUM_POISON || is_constant(&args[i])) continue;
        op = true;
        if (also != OP_COUNT) continue;
        frame_error(frame, expr->items[i], "%s works on numbers known at compile time, not on %s", expr->text,
                    datum_describe(frame, &args[i]));
        bad = true;
    }
    if (bad) return datum_poison;
    if (op) return lower_op(frame, also, expr, args, names, name_count);
    Constant value = constant_call(frame->arena, expr, constants, expr->count, frame->diags);
    frame->failed = frame->failed || value.kind == CONSTANT_POISON;
    return datum_constant(value);
}

static Datum lower_call_expr(Frame *frame, const Expr *expr, const char *const *names, int name_count) {
    Block *block = block_find(frame->lower, expr->text);
    if (block) return lower_call(frame, block, expr, names, name_count);
    OpId op = op_find(expr->text);
    if (op != OP_COUNT && op_info(op)->flags & INTERNAL) op = OP_COUNT;
    if (constant_function(expr->text)) return lower_function(frame, expr, op, names, name_count);
    if (op == OP_MOE) return lower_moe(frame, expr, names, name_count);
    return op == OP_COUNT ? unknown_call(frame, expr) : lower_op(frame, op, expr, NULL, names, name_count);
}

Datum lower_expr(Frame *frame, const Expr *expr, const char *const *names, int name_count) {
    switch (expr->kind) {
    case EX_NUMBER: return datum_constant(constant_number(expr->number));
    case EX_TEXT: return datum_constant((Constant){.kind = CONSTANT_TEXT, .text = expr->text});
    case EX_NAME: return lower_name(frame, expr);
    case EX_LIST: return lower_list(frame, expr);
    case EX_CALL: return lower_call_expr(frame, expr, names, name_count);
    case EX_INDEX: return lower_index(frame, expr);
    case EX_UNARY: return lower_unary(frame, expr, names, name_count);
    case EX_BINARY: return lower_binary(frame, expr, names, name_count);
    case EX_IF: break;
    }
    Datum condition = lower_expr(frame, expr->items[1], NULL, 0);
    int is = truth(frame, expr->items[1], &condition);
    return is < 0 ? datum_poison : lower_expr(frame, expr->items[is ? 0 : 2], names, name_count);
}

Constant lower_constant(Frame *frame, const Expr *expr, const char *what) {
    Datum datum = lower_expr(frame, expr, NULL, 0);
    if (is_constant(&datum)) return datum.constant;
    if (datum.kind != DATUM_POISON)
        frame_error(frame, expr, "%s must be known at compile time, and this is %s", what, datum_describe(frame, &datum));
    return (Constant){.kind = CONSTANT_POISON};
}
