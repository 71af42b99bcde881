// Calls of operations: arguments are bound to the operands and attributes that ops.def names, by position or by name, and become a node.
//
// An operand is a value, a parameter, `none`, or a number (which becomes a constant of the other operands' type). A node whose operands are
// all parameters or numbers is computed now and becomes a parameter itself (model_fold.c).
#include "frontend/model.h"

#include <string.h>

typedef struct {
    Frame *frame;
    OpId op;
    const OpInfo *info;
    const Expr *call;
    const Datum *args;                     // worked out already, or NULL
    Datum operands[MAX_OPERANDS];
    int given[MAX_OPERANDS];               // which argument; -1: none
    Attr attrs[MAX_ATTRS]; int attr_count;
    const Expr *attr_from[MAX_ATTRS];
    Datum *list; int list_count;           // operands of an op that takes a list
    bool misplaced;                        // an argument has no place: what seems to be missing may be it
    bool bad;
} Call;

static Loc argument_loc(Call *call, int i) {
    const Expr *expr = call->call;
    if (!expr->names[i]) return expr_loc(expr->items[i]);
    return yaml_place(expr->at, expr->name_starts[i], (int)strlen(expr->names[i]));
}

static void call_error(Call *call, Loc loc, const char *format, ...) PRINTF_LIKE(3, 4);
static void call_error(Call *call, Loc loc, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(call->frame->diags, DIAG_ERROR, loc, format, args);
    va_end(args);
    call->bad = call->frame->failed = true;
}

static Datum argument(Call *call, int i) {
    return call->args ? call->args[i] : lower_expr(call->frame, call->call->items[i], NULL, 0);
}

// ---- attributes ---------------------------------------------------------------------------------------------------

static bool choice(const char *choices, const char *word) {
    size_t length = strlen(word);
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, word, length) == 0 && (at[length] == '|' || !at[length])) return true;
    return false;
}

// style=half, type=f32: a bare word that is meant as itself.
static bool bare_word(Call *call, const AttrSpec *spec, const Expr *expr) {
    Constant ignored;
    if ((spec->kind != 'e' && spec->kind != 't') || expr->kind != EX_NAME || frame_variable(call->frame, expr->text)) return false;
    if (spec->kind == 'e' ? choice(spec->choices, expr->text) : dtype_parse(expr->text) != DT_COUNT) return true;
    for (int i = 0; i < call->frame->block->param_count; i++)
        if (strcmp(call->frame->block->params[i].name, expr->text) == 0) return false;
    return !scope_get(call->frame->scope, expr->text, &ignored) && !constant_named(expr->text, &ignored);
}

static const char *choices_text(Call *call, const AttrSpec *spec) {
    if (spec->kind == 't') return "f32, i32, bool, f16 or bf16";
    char *text = arena_strdup(call->frame->arena, spec->choices);
    for (char *at = text; *at; at++)
        if (*at == '|') *at = '/';
    return text;
}

static bool word_attr(Call *call, const AttrSpec *spec, const Expr *expr, const Constant *value, Attr *attr) {
    const char *word = value->kind == CONSTANT_TEXT ? value->text : NULL;
    DType type = word ? dtype_parse(word) : DT_COUNT;
    if (spec->kind == 'e' && word && choice(spec->choices, word)) {
        *attr = attr_text(spec->name, word);
    } else if (spec->kind == 't' && type != DT_COUNT) {
        *attr = attr_number(spec->name, type);
    } else {
        call_error(call, expr_loc(expr), "%s: %s is one of %s, not %s", call->info->name, spec->name, choices_text(call, spec),
                   constant_describe(call->frame->arena, value));
        return false;
    }
    return true;
}

static bool sizes_attr(Call *call, const AttrSpec *spec, const Expr *expr, const Constant *value, Attr *attr) {
    Loc loc = expr_loc(expr);
    if (value->kind != CONSTANT_LIST) {
        call_error(call, loc, "%s: %s is a list of sizes such as [T, 8, 64], not %s", call->info->name, spec->name,
                   constant_describe(call->frame->arena, value));
        return false;
    }
    *attr = (Attr){.name = spec->name, .kind = 's'};
    if (value->count > (int)COUNT_OF(attr->sizes)) {
        call_error(call, loc, "%s: %s has more than %zu sizes", call->info->name, spec->name, COUNT_OF(attr->sizes));
        return false;
    }
    for (int i = 0; i < value->count; i++) {
        const Constant *item = &value->items[i];
        int64_t size;
        if (item->kind == CONSTANT_SIZE) size = (int64_t)item->number;
        else if (!constant_integer(item, &size) || size < 1) {
            if (expr->kind == EX_LIST) loc = expr_loc(expr->items[i]);
            call_error(call, loc, "%s: a size is a whole number from 1, T or S, not %s", call->info->name,
                       constant_describe(call->frame->arena, item));
            return false;
        }
        attr->sizes[attr->size_count++] = size;
    }
    return true;
}

static bool number_attr(Call *call, const AttrSpec *spec, const Expr *expr, const Constant *value, Attr *attr) {
    int64_t whole;
    const char *wanted = NULL;
    if (spec->kind == 'b' && value->kind != CONSTANT_BOOL) wanted = "true or false";
    else if (spec->kind == 'i' && !constant_integer(value, &whole)) wanted = "a whole number";
    else if (spec->kind == 'f' && value->kind != CONSTANT_NUMBER) wanted = "a number";
    if (wanted) {
        call_error(call, expr_loc(expr), "%s: %s is %s, not %s", call->info->name, spec->name, wanted,
                   constant_describe(call->frame->arena, value));
        return false;
    }
    *attr = attr_number(spec->name, value->number);
    return true;
}

static void bind_attr(Call *call, int a, int i) {
    const AttrSpec *spec = &call->info->attrs[a];
    const Expr *expr = call->call->items[i];
    if (call->attr_from[a]) {
        call_error(call, argument_loc(call, i), "%s: %s is given twice", call->info->name, spec->name);
        return;
    }
    call->attr_from[a] = expr;
    Datum datum = bare_word(call, spec, expr) ? datum_constant(constant_word(call->frame->arena, expr->text)) : argument(call, i);
    if (datum.kind == DATUM_POISON) {
        call->bad = true;
    } else if (datum.kind != DATUM_CONSTANT) {
        call_error(call, expr_loc(expr), "%s: %s must be known at compile time, and this is %s", call->info->name, spec->name,
                   datum_describe(call->frame, &datum));
    } else if (datum.constant.kind == CONSTANT_NONE && !spec->required) {
        return;   // as if it was not given
    } else {
        Attr attr;
        const Constant *value = &datum.constant;
        bool word = spec->kind == 'e' || spec->kind == 't', sizes = spec->kind == 's', good;
        if (word) good = word_attr(call, spec, expr, value, &attr);
        else good = sizes ? sizes_attr(call, spec, expr, value, &attr) : number_attr(call, spec, expr, value, &attr);
        if (good) call->attrs[call->attr_count++] = attr;
    }
}

static double attr_or(const Call *call, const char *name, double otherwise) {
    for (int i = 0; i < call->attr_count; i++)
        if (strcmp(call->attrs[i].name, name) == 0) return call->attrs[i].number;
    return otherwise;
}

// ---- binding ------------------------------------------------------------------------------------------------------

static void bind_operand(Call *call, int o, int i) {
    if (call->given[o] >= 0) {
        call_error(call, argument_loc(call, i), "%s: %s is given twice", call->info->name, call->info->operands[o].name);
        return;
    }
    call->given[o] = i;
    call->operands[o] = argument(call, i);
    if (call->operands[o].kind == DATUM_POISON) call->bad = true;
}

static void unknown_argument(Call *call, int i) {
    const char *names[MAX_OPERANDS + MAX_ATTRS + 1], *name = call->call->names[i];
    int count = 0;
    for (int o = 0; o < call->info->operand_count; o++) names[count++] = call->info->operands[o].name;
    for (int a = 0; a < call->info->attr_count; a++) names[count++] = call->info->attrs[a].name;
    call->misplaced = true;
    if (call->op == OP_ROPE) names[count++] = "scaling";
    call_error(call, argument_loc(call, i), "%s has no argument '%s'", call->info->name, name);
    const char *near = nearest_name(name, names, count);
    if (near) {
        frame_hint(call->frame, "did you mean '%s'?", near);
        return;
    }
    Text text = {0};
    for (int n = 0; n < count; n++) text_printf(&text, n ? ", %s" : "%s", names[n]);
    frame_hint(call->frame, "it takes: %s", text.data ? text.data : "nothing");
    text_free(&text);
}

static const char *usage_hint(const OpInfo *info) {
    if (strcmp(info->name, "max") == 0) return "maximum(a, b) takes the larger of two values";
    if (strcmp(info->name, "min") == 0) return "minimum(a, b) takes the smaller of two values";
    return NULL;
}

static void bind_named(Call *call, int i, int *scaling) {
    const char *name = call->call->names[i];
    for (int o = 0; o < call->info->operand_count; o++)
        if (strcmp(call->info->operands[o].name, name) == 0) {
            bind_operand(call, o, i);
            return;
        }
    for (int a = 0; a < call->info->attr_count; a++)
        if (strcmp(call->info->attrs[a].name, name) == 0) {
            bind_attr(call, a, i);
            return;
        }
    if (call->op == OP_ROPE && strcmp(name, "scaling") == 0) *scaling = i;
    else unknown_argument(call, i);
}

static void bind(Call *call, int *scaling) {
    int operand_count = call->info->operand_count, attr_count = call->info->attr_count;
    for (int i = 0; i < call->call->count; i++) {
        if (call->call->names[i]) bind_named(call, i, scaling);
        else if (i < operand_count) {
            bind_operand(call, i, i);
            if (call->op == OP_CONCAT && call->operands[i].kind != DATUM_LIST && call->operands[i].kind != DATUM_POISON) break;
        }
        else if (i < operand_count + attr_count) bind_attr(call, i - operand_count, i);
        else {
            call_error(call, argument_loc(call, i), "%s takes at most %d arguments", call->info->name, operand_count + attr_count);
            break;
        }
    }
}

// Every operand is there and can be one; required attributes are there.
static void check_bound(Call *call) {
    Frame *frame = call->frame;
    for (int o = 0; o < call->info->operand_count; o++) {
        const OperandSpec *spec = &call->info->operands[o];
        const Datum *datum = &call->operands[o];
        bool none = datum->kind == DATUM_CONSTANT && datum->constant.kind == CONSTANT_NONE;
        if (call->given[o] < 0) {
            if (spec->optional || call->misplaced) continue;
            call_error(call, expr_loc(call->call), "%s: %s is missing", call->info->name, spec->name);
            continue;
        }
        const Expr *expr = call->call->items[call->given[o]];
        if (datum->kind == DATUM_POISON || spec->variadic || (none && spec->optional)) continue;
        if (none) {
            call_error(call, expr_loc(expr), "%s: %s is absent here", call->info->name, spec->name);
        } else if (datum->kind == DATUM_LIST) {
            call_error(call, expr_loc(expr), "%s: %s is one value, and this is %d", call->info->name, spec->name, datum->count);
            frame_hint(frame, "give the values names: a, b = %s", expr_source(frame->arena, expr));
        } else if (datum->kind == DATUM_CONSTANT && datum->constant.kind != CONSTANT_NUMBER && datum->constant.kind != CONSTANT_BOOL &&
                   !(datum->constant.kind == CONSTANT_FACTORS && call->op == OP_ROPE)) {
            call_error(call, expr_loc(expr), "%s: %s is a value, not %s", call->info->name, spec->name, datum_describe(frame, datum));
        } else if (datum->kind == DATUM_CONSTANT && datum->constant.kind != CONSTANT_FACTORS && spec->weight) {
            call_error(call, expr_loc(expr), "%s: %s is a parameter, not %s", call->info->name, spec->name, datum_describe(frame, datum));
            const char *attr = call->info->attr_count ? call->info->attrs[0].name : NULL;
            call->misplaced = true;
            if (attr && call->given[o] == o) frame_hint(frame, "arguments after the operands are named: %s=", attr);
        }
    }
    for (int a = 0; a < call->info->attr_count; a++)
        if (call->info->attrs[a].required && !call->attr_from[a] && !call->misplaced)
            call_error(call, expr_loc(call->call), "%s: %s= is missing", call->info->name, call->info->attrs[a].name);
}

// concat([a, b], axis=-1): the operands are the items of a list.
static void bind_list(Call *call) {
    int o = call->info->operand_count - 1;
    if (call->given[o] < 0 || call->operands[o].kind == DATUM_POISON) return;
    const Expr *expr = call->call->items[call->given[o]];
    if (call->operands[o].kind != DATUM_LIST || !call->operands[o].count) {
        call_error(call, expr_loc(expr), "%s takes a list of values: %s([a, b])", call->info->name, call->info->name);
        return;
    }
    call->list = call->operands[o].items;
    call->list_count = call->operands[o].count;
    for (int i = 0; i < call->list_count; i++)
        if (call->list[i].kind != DATUM_VALUE && call->list[i].kind != DATUM_SLOT) {
            const Expr *at = expr->kind == EX_LIST ? expr->items[i] : expr;
            call_error(call, expr_loc(at), "%s: each of the list is a value, not %s", call->info->name,
                       datum_describe(call->frame, &call->list[i]));
            return;
        }
}

// factors=llama3(…), scaling=record: now that dims and base are known, a vector.
static void bind_rope(Call *call, int scaling) {
    Frame *frame = call->frame;
    Constant factors = {.kind = CONSTANT_NONE};
    const Expr *from = call->call;
    if (scaling >= 0) {
        double mscale = 1;
        from = call->call->items[scaling];
        Datum record = argument(call, scaling);
        if (call->given[1] >= 0) call_error(call, argument_loc(call, scaling), "rope: scaling and factors are both given");
        if (record.kind == DATUM_POISON) call->bad = true;
        else if (record.kind != DATUM_CONSTANT)
            call_error(call, expr_loc(from), "rope: scaling is a record, not %s", datum_describe(frame, &record));
        else if (!rope_scaling(frame, &record.constant, from, &factors, &mscale)) call->bad = true;
        else if (mscale != 1 && attr_or(call, "mscale", 0) == 0) call->attrs[call->attr_count++] = attr_number("mscale", mscale);
    } else if (call->given[1] >= 0 && call->operands[1].kind == DATUM_CONSTANT) {
        factors = call->operands[1].constant;
        from = call->call->items[call->given[1]];
    }
    if (call->bad || factors.kind != CONSTANT_FACTORS || call->operands[0].kind == DATUM_CONSTANT) return;
    const Type *type = call->operands[0].kind == DATUM_VALUE ? &call->operands[0].value->type : &call->operands[0].slot->type;
    double dims = attr_or(call, "dims", -1);
    if (dims == -1) dims = type->rank ? (double)type->dims[type->rank - 1] : 0;
    Slot *slot = rope_factors(frame, &factors, (int64_t)dims, attr_or(call, "base", 0), from);
    if (slot) call->operands[1] = datum_slot(slot);
    else call->bad = true;
}

Datum lower_op(Frame *frame, OpId op, const Expr *expr, const Datum *args, const char *const *names, int name_count) {
    Call *call = ARENA_NEW(frame->arena, Call);   // not on the stack: calls are nested
    *call = (Call){.frame = frame, .op = op, .info = op_info(op), .call = expr, .args = args};
    int scaling = -1, count = call->info->operand_count;
    for (int o = 0; o < MAX_OPERANDS; o++) {
        call->given[o] = -1;
        call->operands[o] = datum_constant((Constant){.kind = CONSTANT_NONE});
    }
    bind(call, &scaling);
    for (int o = 0; o < call->info->operand_count; o++)
        if (call->given[o] >= 0 && !call->info->operands[o].variadic) {
            list_as_slot(frame, &call->operands[o], expr->items[call->given[o]]);
            call->bad = call->bad || call->operands[o].kind == DATUM_POISON;
        }
    check_bound(call);
    if (op == OP_CONCAT) bind_list(call);
    if (op == OP_ROPE && !call->bad) bind_rope(call, scaling);
    if (call->bad) {
        frame->failed = true;
        return datum_poison;
    }
    if (call->list) return make_node(frame, op, call->list, call->list_count, call->attrs, call->attr_count, expr, names, name_count);
    while (count > 0 && call->operands[count - 1].kind == DATUM_CONSTANT && call->operands[count - 1].constant.kind == CONSTANT_NONE) count--;
    Datum out = make_node(frame, op, call->operands, count, call->attrs, call->attr_count, expr, names, name_count);
    if (out.kind == DATUM_POISON && usage_hint(call->info) && expr->count > 1 && !expr->names[1])
        frame_hint(frame, "%s", usage_hint(call->info));
    return out;
}

// ---- nodes --------------------------------------------------------------------------------------------------------

static DType seen_as(DType stored) {
    return stored == DT_I32 || stored == DT_BOOL || stored == DT_CACHE || stored == DT_I8 ? stored : DT_F32;
}

// What a number among the operands is: as the others when it fits them.
static DType number_type(const Datum *operands, int count, int except, double value) {
    for (int i = 0; i < count; i++) {
        if (i == except || (operands[i].kind != DATUM_VALUE && operands[i].kind != DATUM_SLOT)) continue;
        DType type = seen_as(operands[i].kind == DATUM_VALUE ? operands[i].value->type.dtype : operands[i].slot->type.dtype);
        if (type == DT_I32 && value == (double)(int32_t)value) return DT_I32;
        if (type == DT_F32) return DT_F32;
    }
    return DT_F32;
}

static Value *number_value(Frame *frame, const Constant *constant, DType type, const Expr *at) {
    Attr attrs[] = {attr_number("value", constant->number), attr_number("type", constant->kind == CONSTANT_BOOL ? DT_BOOL : type)};
    Node *node = func_node(frame->func, OP_CONST, NULL, 0, attrs, 2, NULL, expr_loc(at), frame->diags);
    return node ? node->results[0] : NULL;
}

static bool foldable(OpId op, const Datum *operands, int count) {
    if (op_info(op)->flags & (SEQUENCE | STATE | CALL)) return false;
    bool slots = false;
    for (int i = 0; i < count; i++) {
        if (operands[i].kind == DATUM_VALUE) return false;
        slots = slots || operands[i].kind == DATUM_SLOT;
    }
    return slots;
}

Datum make_node(Frame *frame, OpId op, const Datum *operands, int count, const Attr *attrs, int attr_count, const Expr *at,
                const char *const *names, int name_count) {
    if (foldable(op, operands, count)) return fold_node(frame, op, operands, count, attrs, attr_count, at);
    Value **values = ARENA_ARRAY(frame->arena, Value *, count);
    for (int i = 0; i < count; i++) {
        const Datum *datum = &operands[i];
        if (datum->kind == DATUM_VALUE) values[i] = datum->value;
        else if (datum->kind == DATUM_SLOT) values[i] = frame_slot(frame, datum->slot);
        else if (datum->kind == DATUM_CONSTANT && datum->constant.kind != CONSTANT_NONE)
            values[i] = number_value(frame, &datum->constant, number_type(operands, count, i, datum->constant.number), at);
    }
    const char *all_names[MOST_RESULTS] = {NULL};
    for (int i = 0; i < name_count && i < MOST_RESULTS; i++) all_names[i] = names[i];
    Loc loc = expr_loc(at);
    Node *node = func_node(frame->func, op, values, count, attrs, attr_count, all_names, loc, frame->diags);
    if (!node) {
        frame->failed = true;
        return datum_poison;
    }
    if (node->result_count == 1) return datum_value(node->results[0]);
    Datum list = {.kind = DATUM_LIST, .count = node->result_count, .items = ARENA_ARRAY(frame->arena, Datum, node->result_count)};
    for (int i = 0; i < node->result_count; i++) list.items[i] = datum_value(node->results[i]);
    return list;
}
