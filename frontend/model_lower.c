// Lowering: the statements of one body, run for one call. A name holds a constant, a value of the graph, a parameter, or poison; a
// statement that made an error in one call is quiet in the next, so a mistake in a block is reported once however many layers run it.
#include "frontend/model.h"

#include <string.h>

const Datum datum_poison = {.kind = DATUM_POISON};

Datum datum_constant(Constant constant) {
    return constant.kind == CONSTANT_POISON ? datum_poison : (Datum){.kind = DATUM_CONSTANT, .constant = constant};
}
Datum datum_value(Value *value) { return (Datum){.kind = DATUM_VALUE, .value = value}; }
Datum datum_slot(Slot *slot) { return (Datum){.kind = DATUM_SLOT, .slot = slot}; }

void frame_error(Frame *frame, const Expr *expr, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(frame->diags, DIAG_ERROR, expr_loc(expr), format, args);
    va_end(args);
    frame->failed = true;
}

void frame_hint(Frame *frame, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(frame->diags, DIAG_HINT, NOWHERE, format, args);
    va_end(args);
}

Variable *frame_variable(Frame *frame, const char *name) {
    for (int i = 0; i < frame->variable_count; i++)
        if (strcmp(frame->variables[i].name, name) == 0) return &frame->variables[i];
    return NULL;
}

void frame_set(Frame *frame, const char *name, Datum datum) {
    Variable *variable = frame_variable(frame, name);
    if (variable) variable->datum = datum;
    else ARENA_PUSH(frame->arena, frame->variables, frame->variable_count, frame->variable_capacity) = (Variable){name, datum};
}

static Value *slot_weights(Frame *frame, Slot *slot) {
    int count = slot->count ? slot->count : 1;
    Weight **weights = ARENA_ARRAY(frame->arena, Weight *, count);
    for (int i = 0; i < count; i++) {
        weights[i] = source_weight(frame, slot->sources[i]);
        if (weights[i]) continue;
        frame->failed = true;                                    // the module is not used: any weight will do
        weights[i] = module_weight(frame->lower->module, &slot->sources[i]->view);
    }
    return func_weights(frame->func, weights, slot->count);
}

// A parameter of the function for this slot, or in main the weights themselves; the same one for the same slot.
Value *frame_slot(Frame *frame, Slot *slot) {
    for (int i = 0; i < frame->bound_count; i++)
        if (frame->bound[i].slot == slot) return frame->bound[i].value;
    Value *value = frame->block->name ? func_param(frame->func, slot->name, slot->type, slot->count) : slot_weights(frame, slot);
    if (frame->block->name) value->origin = slot->origin;
    else value->user_name = slot->name;
    ARENA_PUSH(frame->arena, frame->bound, frame->bound_count, frame->bound_capacity) = (Bound){slot, value};
    return value;
}

// ---- statements ---------------------------------------------------------------------------------------------------

static void assign(Frame *frame, const Statement *statement, Datum value) {
    int count = statement->target_count;
    if (value.kind == DATUM_SLOT && value.slot->unnamed && count == 1) {
        value.slot = arena_copy(frame->lower->arena, value.slot, sizeof *value.slot);
        value.slot->name = statement->targets[0];
        value.slot->unnamed = false;
    }
    if (count == 1) {
        frame_set(frame, statement->targets[0], value);
        return;
    }
    bool spread = value.kind == DATUM_LIST && value.count == count;
    if (!spread && value.kind != DATUM_POISON) {
        frame_error(frame, statement->values[0], "%d names are assigned, but this gives %s", count,
                    value.kind == DATUM_LIST ? arena_printf(frame->arena, "%d values", value.count) : "one value");
    }
    for (int i = 0; i < count; i++) frame_set(frame, statement->targets[i], spread ? value.items[i] : datum_poison);
}

static void run_statement(Frame *frame, const Statement *statement) {
    Datum *values = ARENA_ARRAY(frame->arena, Datum, statement->value_count);
    bool single = statement->value_count == 1;
    for (int i = 0; i < statement->value_count; i++) {
        bool has_name = single ? statement->target_count > 0 : i < statement->target_count;
        const char *const *names = has_name ? &statement->targets[single ? 0 : i] : NULL;
        values[i] = lower_expr(frame, statement->values[i], names, !has_name ? 0 : single ? statement->target_count : 1);
    }
    if (statement->returns) {
        frame->returned = true;
        frame->results = values;
        frame->result_count = statement->value_count;
        if (single && values[0].kind == DATUM_LIST) {
            frame->results = values[0].items;
            frame->result_count = values[0].count;
        }
    } else if (single) {
        assign(frame, statement, values[0]);
    } else {
        assign(frame, statement, (Datum){.kind = DATUM_LIST, .count = statement->value_count, .items = values});
    }
}

// What a line that cannot run would have defined. Of a line that could not be read at all nothing is known: then no name is unknown.
static void poison_line(Frame *frame, const Line *line) {
    const Statement *statement = line->statement;
    frame->failed = true;
    if (!statement && !line->body.count) frame->lost = true;
    if (statement && statement->returns) frame->returned = true;
    for (int t = 0; statement && t < statement->target_count; t++) frame_set(frame, statement->targets[t], datum_poison);
    for (int i = 0; !statement && i < line->body.count; i++) poison_line(frame, &line->body.lines[i]);
}

static bool run_repeat(Frame *frame, Line *line) {
    Lower *lower = frame->lower;
    Constant times = line->times ? lower_constant(frame, line->times, "a repeat's count") : (Constant){.kind = CONSTANT_POISON};
    int64_t count = 0;
    if (times.kind != CONSTANT_POISON && (!constant_integer(&times, &count) || count < 0))
        frame_error(frame, line->times, "a repeat's count is a whole number from 0, not %s", constant_describe(frame->arena, &times));
    else if (times.kind != CONSTANT_POISON && count > MOST_TURNS - lower->turns)
        frame_error(frame, line->times, "the model repeats more than %d times", MOST_TURNS);
    else if (times.kind != CONSTANT_POISON) {
        Scope inner = {.outer = frame->scope}, *outer = frame->scope;
        frame->scope = &inner;
        bool good = true;
        for (int64_t i = 0; good && i < count; i++) {
            lower->turns++;
            if (line->index) scope_set(frame->arena, &inner, line->index, constant_number((double)i));
            good = run_body(frame, &line->body);
        }
        frame->scope = outer;
        return good;
    }
    poison_line(frame, line);
    return true;
}

// One step, quiet when it made an error in an earlier call. Errors of other statements that it runs (a block's body) are not its own.
static bool run_line(Frame *frame, Line *line) {
    Lower *lower = frame->lower;
    Diags *outer = frame->diags;
    int errors = diags_errors(lower->diags), nested = lower->nested;
    bool good = true;
    frame->diags = line->bad ? lower->mute : lower->diags;
    if (line->statement && !line->statement->broken) run_statement(frame, line->statement);
    else if (!line->statement && line->times) good = run_repeat(frame, line);
    else poison_line(frame, line);
    if (diags_errors(lower->diags) - errors > lower->nested - nested) line->bad = true;
    // The lines of a repeat report for themselves; to the statement around them nothing of theirs is its own.
    frame->diags = outer;
    return good;
}

bool run_body(Frame *frame, const Body *body) {
    Lower *lower = frame->lower;
    for (int i = 0; i < body->count && !frame->returned; i++) {
        if (++lower->statements > MOST_STATEMENTS) {
            if (lower->statements == MOST_STATEMENTS + 1) {
                diag_error(lower->diags, body->lines[i].loc, "the model is too large: more than %d statements run", MOST_STATEMENTS);
                lower->nested++;
            }
            frame->failed = true;
            return false;
        }
        int before = diags_errors(lower->diags), nested = lower->nested;
        if (!run_line(frame, &body->lines[i])) return false;
        if (diags_errors(lower->diags) != before) lower->nested = nested + diags_errors(lower->diags) - before;
    }
    return true;
}
