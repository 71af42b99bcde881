// Calls of blocks. A block is elaborated for the call's index values and operand types: first in a module that is thrown away, and when no
// function of an earlier call computes the same, once more in the model's. So layers that differ in nothing but their weights are one
// function, a caller comes after its callees, and what is thrown away costs no memory.
//
// A function's parameters are all that it and its callees need (lambda lifting), so every call in main passes its weights.
#include "frontend/model.h"

#include <string.h>

// What a call gives a block.
typedef struct {
    Datum *inputs;
    Constant *indices;
    bool poison;                   // an input or index is
    bool misplaced;                // an argument has no place: what seems to be missing may be it
} Given;

Block *block_find(Lower *lower, const char *name) {
    for (int i = 0; i < lower->block_count; i++)
        if (strcmp(lower->blocks[i].name, name) == 0) return &lower->blocks[i];
    return NULL;
}

// ---- elaboration --------------------------------------------------------------------------------------------------

static void frame_open(Frame *frame, Lower *lower, Block *block, Module *module, Arena *arena, Scope *scope) {
    *frame = (Frame){.lower = lower, .block = block, .arena = arena, .diags = lower->diags, .scope = scope};
    frame->func = func_new(module, block->name ? block->name : module->name);
    frame->func->loc = block->loc;
    frame->params = ARENA_ARRAY(arena, Datum, block->param_count);
    frame->params_known = ARENA_ARRAY(arena, bool, block->param_count);
}

static bool set_results(Frame *frame) {
    Value **values = ARENA_ARRAY(frame->arena, Value *, frame->result_count);
    for (int i = 0; i < frame->result_count; i++) {
        if (frame->results[i].kind != DATUM_VALUE) return false;
        values[i] = frame->results[i].value;
    }
    func_return(frame->func, values, frame->result_count);
    return true;
}

static Line *return_line(const Block *block) {
    for (int s = 0; s < block->body.count; s++)
        if (block->body.lines[s].statement && block->body.lines[s].statement->returns) return &block->body.lines[s];
    return NULL;
}

static const Expr *return_expr(const Block *block, int i) {
    const Line *line = return_line(block);
    return line ? line->statement->values[i < line->statement->value_count ? i : 0] : NULL;
}

static void check_results(Frame *frame) {
    Line *line = return_line(frame->block);
    if (line && line->bad) frame->diags = frame->lower->mute;
    for (int i = 0; i < frame->result_count; i++) {
        const Datum *datum = &frame->results[i];
        if (datum->kind == DATUM_VALUE) continue;
        const Expr *expr = return_expr(frame->block, i);
        if (datum->kind == DATUM_POISON) frame->failed = true;
        else if (expr)
            frame_error(frame, expr, "%s returns %s, not a value of the graph", frame->block->name ? frame->block->name : "model",
                        datum_describe(frame, datum));
        if (line && datum->kind != DATUM_POISON) line->bad = true;
    }
}

static void run_frame(Frame *frame) {
    Lower *lower = frame->lower;
    run_body(frame, &frame->block->body);
    int errors = diags_errors(lower->diags);
    if (frame->returned) check_results(frame);
    else frame->failed = true;
    lower->nested += diags_errors(lower->diags) - errors;
}

// Runs the block's body into a new function of `module`. False when it cannot be made.
static bool elaborate(Lower *lower, Block *block, const Given *given, Module *module, Arena *arena, Made *made) {
    Scope scope = {.outer = &lower->config};
    for (int i = 0; i < block->index_count; i++) scope_set(arena, &scope, block->indices[i], given->indices[i]);
    Frame frame;
    frame_open(&frame, lower, block, module, arena, &scope);
    for (int i = 0; i < block->input_count; i++) {
        Datum input = given->inputs[i];
        if (input.kind == DATUM_VALUE) input = datum_value(func_input(frame.func, block->inputs[i], input.value->type));
        frame_set(&frame, block->inputs[i], input);
    }
    run_frame(&frame);
    if (frame.failed || given->poison || !set_results(&frame)) return false;
    made->func = frame.func;
    made->slot_count = frame.bound_count;
    made->slots = ARENA_ARRAY(lower->arena, Slot *, frame.bound_count);
    for (int i = 0; i < frame.bound_count; i++) made->slots[i] = frame.bound[i].slot;
    return true;
}

static Made *find_made(Block *block, const Func *func, uint64_t hash) {
    for (int i = 0; i < block->made_count; i++)
        if (block->made[i]->hash == hash && func_structure_equal(block->made[i]->func, func)) return block->made[i];
    return NULL;
}

static void make(Lower *lower, Block *block, const Given *given, Made *made) {
    Arena *arena = arena_new();
    Module *scratch = module_new(arena, "scratch");
    if (elaborate(lower, block, given, scratch, arena, made)) {
        made->hash = func_structure_hash(made->func);
        Made *same = find_made(block, made->func, made->hash);
        if (same) {
            made->func = same->func;
        } else if (elaborate(lower, block, given, lower->module, arena, made)) {
            ARENA_PUSH(lower->arena, block->made, block->made_count, block->made_capacity) = made;
        } else {
            made->poison = true;
        }
        if (!made->poison && made->slot_count > MOST_FUNC_PARAMS) {
            diag_error(lower->diags, block->loc, "block '%s' and what it calls have %d parameters; at most %d can be passed", block->name,
                       made->slot_count, MOST_FUNC_PARAMS);
            made->poison = true;
        }
    } else {
        made->poison = true;
    }
    arena_free(arena);
}

static void slot_key(const Slot *slot, Text *key) {
    size_t bytes = sizeof *slot->sources * (size_t)(slot->count ? slot->count : 1);
    text_printf(key, "@%s.%d.%llx", slot->sources[0]->view.name, slot->count, (unsigned long long)hash_bytes(slot->sources, bytes, 0));
}

// Everything that the function depends on, as text.
static const char *call_key(Arena *arena, const Block *block, const Given *given) {
    Text key = {0};
    text_puts(&key, block->name);
    for (int i = 0; i < block->index_count; i++) {
        text_puts(&key, ";");
        constant_text(&given->indices[i], &key);
    }
    for (int i = 0; i < block->input_count; i++) {
        const Datum *input = &given->inputs[i];
        text_puts(&key, "|");
        if (input->kind == DATUM_VALUE) type_text(&input->value->type, &key);
        else if (input->kind == DATUM_CONSTANT) constant_text(&input->constant, &key);
        else if (input->kind == DATUM_SLOT) slot_key(input->slot, &key);
        else text_puts(&key, "?");
    }
    const char *out = arena_strdup(arena, key.data);
    text_free(&key);
    return out;
}

static Made *made_for(Frame *frame, Block *block, const Given *given, const Expr *at) {
    Lower *lower = frame->lower;
    const char *key = call_key(frame->arena, block, given);
    Made *made = table_get(lower->calls, key);
    if (made) return made;
    made = ARENA_NEW(lower->arena, Made);
    block->called = true;
    if (block->active) {
        frame_error(frame, at, "block '%s' calls itself", block->name);
        made->poison = true;
        return made;
    }
    if (lower->depth >= MOST_CALL_DEPTH) {
        frame_error(frame, at, "blocks call each other more than %d deep", MOST_CALL_DEPTH);
        made->poison = true;
        return made;
    }
    int errors = diags_errors(lower->diags), nested = lower->nested;
    block->active++;
    lower->depth++;
    if (block->broken) made->poison = true;
    else make(lower, block, given, made);
    lower->depth--;
    block->active--;
    lower->nested = nested + diags_errors(lower->diags) - errors;
    table_set(lower->calls, key, made);
    return made;
}

// ---- arguments ----------------------------------------------------------------------------------------------------

static Loc name_loc(const Expr *call, int i) { return yaml_place(call->at, call->name_starts[i], (int)strlen(call->names[i])); }

static void argument_error(Frame *frame, Loc loc, const char *format, ...) PRINTF_LIKE(3, 4);
static void argument_error(Frame *frame, Loc loc, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(frame->diags, DIAG_ERROR, loc, format, args);
    va_end(args);
    frame->failed = true;
}

static int place_of(const char *name, const char *const *names, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

static void no_such_argument(Frame *frame, const Block *block, const Expr *call, int i) {
    const char *names[2 * MOST_NAMES];
    int count = 0;
    for (int n = 0; n < block->input_count; n++) names[count++] = block->inputs[n];
    for (int n = 0; n < block->index_count; n++) names[count++] = block->indices[n];
    argument_error(frame, name_loc(call, i), "block '%s' has no input or index '%s'", block->name, call->names[i]);
    const char *near = nearest_name(call->names[i], names, count);
    if (near) frame_hint(frame, "did you mean '%s'?", near);
    else if (!count) frame_hint(frame, "the block declares none");
}

static Constant index_value(Frame *frame, const Block *block, int index, const Expr *expr) {
    const char *what = arena_printf(frame->arena, "index '%s'", block->indices[index]);
    Constant value = lower_constant(frame, expr, what);
    if (value.kind == CONSTANT_NUMBER || value.kind == CONSTANT_TEXT || value.kind == CONSTANT_BOOL || value.kind == CONSTANT_POISON)
        return value;
    frame_error(frame, expr, "index '%s' is a number or a text, not %s", block->indices[index], constant_describe(frame->arena, &value));
    return (Constant){.kind = CONSTANT_POISON};
}

static bool input_fits(Frame *frame, const Block *block, int i, const Datum *datum, const Expr *expr) {
    if (datum->kind != DATUM_LIST) return true;
    frame_error(frame, expr, "%s: input '%s' is one value, and this is %d", block->name, block->inputs[i], datum->count);
    return false;
}

// Binds a call's arguments to the block's inputs and indices. `skip`: argument numbers that are not the block's (moe's own).
static void bind_arguments(Frame *frame, const Block *block, const Expr *call, Given *given, bool *index_given) {
    bool *input_given = ARENA_ARRAY(frame->arena, bool, block->input_count);
    given->inputs = ARENA_ARRAY(frame->arena, Datum, block->input_count);
    for (int i = 0; i < call->count; i++) {
        int input = call->names[i] ? place_of(call->names[i], block->inputs, block->input_count) : i;
        int index = call->names[i] ? place_of(call->names[i], block->indices, block->index_count) : -1;
        if (index >= 0) {
            if (index_given[index]) argument_error(frame, name_loc(call, i), "index '%s' is given twice", call->names[i]);
            given->indices[index] = index_value(frame, block, index, call->items[i]);
            index_given[index] = true;
        } else if (input < 0) {
            no_such_argument(frame, block, call, i);
            lower_expr(frame, call->items[i], NULL, 0);
            given->poison = given->misplaced = true;
        } else if (input >= block->input_count) {
            argument_error(frame, expr_loc(call->items[i]), "block '%s' takes %d input%s, and this is one more", block->name,
                           block->input_count, block->input_count == 1 ? "" : "s");
            if (block->index_count) frame_hint(frame, "indices are named: %s=", block->indices[0]);
            given->poison = given->misplaced = true;
        } else if (input_given[input]) {
            argument_error(frame, expr_loc(call->items[i]), "input '%s' is given twice", block->inputs[input]);
            given->poison = true;
        } else {
            given->inputs[input] = lower_expr(frame, call->items[i], NULL, 0);
            input_given[input] = true;
            if (!input_fits(frame, block, input, &given->inputs[input], call->items[i])) given->inputs[input] = datum_poison;
        }
    }
    for (int i = 0; i < block->input_count; i++) {
        if (!input_given[i] && !given->misplaced)
            argument_error(frame, expr_loc(call), "%s: input '%s' is missing", block->name, block->inputs[i]);
        given->poison = given->poison || !input_given[i] || given->inputs[i].kind == DATUM_POISON;
    }
}

static bool indices_complete(Frame *frame, const Block *block, const Expr *call, const Given *given, const bool *index_given) {
    bool good = true;
    for (int i = 0; i < block->index_count; i++) {
        if (!index_given[i] && !given->misplaced) {
            argument_error(frame, expr_loc(call), "%s: index '%s' is missing", block->name, block->indices[i]);
            frame_hint(frame, "give it by name: %s=", block->indices[i]);
        }
        good = good && index_given[i] && given->indices[i].kind != CONSTANT_POISON;
    }
    return good;
}

static const char *label_text(Lower *lower, const Block *block, const Given *given) {
    if (!block->index_count) return NULL;
    Text text = {0};
    for (int i = 0; i < block->index_count; i++) {
        text_printf(&text, i ? ", %s=" : "%s=", block->indices[i]);
        if (given->indices[i].kind == CONSTANT_TEXT) text_puts(&text, given->indices[i].text);
        else constant_text(&given->indices[i], &text);
    }
    const char *label = arena_strdup(lower->module->arena, text.data);
    text_free(&text);
    return label;
}

// ---- calls --------------------------------------------------------------------------------------------------------

// The node's results; in main its label says which layer this is (a block's function may serve several).
static Datum finish_call(Frame *frame, Node *node, const char *label) {
    if (!node) {
        frame->failed = true;
        return datum_poison;
    }
    node->label = frame->block->name ? NULL : label;
    if (node->result_count == 1) return datum_value(node->results[0]);
    Datum list = {.kind = DATUM_LIST, .count = node->result_count, .items = ARENA_ARRAY(frame->arena, Datum, node->result_count)};
    for (int i = 0; i < node->result_count; i++) list.items[i] = datum_value(node->results[i]);
    return list;
}

Datum lower_call(Frame *frame, Block *block, const Expr *call, const char *const *names, int name_count) {
    Given given = {.indices = ARENA_ARRAY(frame->arena, Constant, block->index_count)};
    bool *index_given = ARENA_ARRAY(frame->arena, bool, block->index_count);
    bind_arguments(frame, block, call, &given, index_given);
    if (!indices_complete(frame, block, call, &given, index_given)) {
        frame->failed = true;
        return datum_poison;
    }
    Made *made = made_for(frame, block, &given, call);
    if (made->poison || given.poison) {
        frame->failed = true;
        return datum_poison;
    }
    Value **operands = ARENA_ARRAY(frame->arena, Value *, (int64_t)block->input_count + made->slot_count);
    int count = 0;
    for (int i = 0; i < block->input_count; i++)
        if (given.inputs[i].kind == DATUM_VALUE) operands[count++] = given.inputs[i].value;
    for (int i = 0; i < made->slot_count; i++) operands[count++] = frame_slot(frame, made->slots[i]);
    const char *all_names[MOST_RESULTS] = {NULL};
    for (int i = 0; i < name_count && i < MOST_RESULTS; i++) all_names[i] = names[i];
    Attr attr = attr_func("block", made->func);
    Node *node = func_node(frame->func, OP_CALL, operands, count, &attr, 1, all_names, expr_loc(call), frame->diags);
    return finish_call(frame, node, label_text(frame->lower, block, &given));
}

// ---- moe ----------------------------------------------------------------------------------------------------------

typedef struct {
    Block *block;
    const Expr *block_expr, *count_expr;
    Datum operands[3];             // x, w, e
    int64_t count;
    int expert;                    // the block's index that numbers the experts
    bool bad;
} Experts;

static void moe_error(Frame *frame, Experts *experts, Loc loc, const char *message) {
    argument_error(frame, loc, "moe: %s", message);
    experts->bad = true;
}

static void moe_block(Frame *frame, Experts *experts, const Expr *expr) {
    experts->block_expr = expr;
    experts->block = expr->kind == EX_NAME ? block_find(frame->lower, expr->text) : NULL;
    if (experts->block) return;
    const char *names[MOST_BLOCKS], *near = NULL;
    for (int i = 0; i < frame->lower->block_count; i++) names[i] = frame->lower->blocks[i].name;
    if (expr->kind == EX_NAME) near = nearest_name(expr->text, names, frame->lower->block_count);
    moe_error(frame, experts, expr_loc(expr), "the fourth argument is the name of the expert's block");
    if (near) frame_hint(frame, "did you mean '%s'?", near);
}

static void moe_count(Frame *frame, Experts *experts, const Expr *expr) {
    experts->count_expr = expr;
    Constant count = lower_constant(frame, expr, "count");
    if (count.kind == CONSTANT_POISON) experts->bad = true;
    else if (!constant_integer(&count, &experts->count) || experts->count < 1 || experts->count > MOST_EXPERTS)
        moe_error(frame, experts, expr_loc(expr), arena_printf(frame->arena, "count is a whole number within 1 … %d", MOST_EXPERTS));
}

// Arguments of moe itself; returns those that are the block's indices through `rest`.
static void moe_arguments(Frame *frame, Experts *experts, const Expr *call, bool *rest) {
    static const char *const own[] = {"x", "w", "e", "block", "count"};
    bool seen[5] = {false};
    for (int i = 0; i < call->count; i++) {
        int place = call->names[i] ? place_of(call->names[i], own, 5) : i;
        if (place < 0) {
            rest[i] = true;
            continue;
        }
        if (place > 4 || seen[place]) {
            moe_error(frame, experts, expr_loc(call->items[i]),
                      place > 4 ? "takes x, w, e, a block and count=; indices are named" : "an argument is given twice");
            continue;
        }
        seen[place] = true;
        if (place == 3) moe_block(frame, experts, call->items[i]);
        else if (place == 4) moe_count(frame, experts, call->items[i]);
        else {
            experts->operands[place] = lower_expr(frame, call->items[i], NULL, 0);
            if (experts->operands[place].kind == DATUM_VALUE || experts->operands[place].kind == DATUM_POISON) continue;
            moe_error(frame, experts, expr_loc(call->items[i]), arena_printf(frame->arena, "%s is a value of the graph, not %s", own[place],
                                                                             datum_describe(frame, &experts->operands[place])));
            experts->operands[place] = datum_poison;
        }
    }
    for (int i = 0; i < 5; i++)
        if (!seen[i]) moe_error(frame, experts, expr_loc(call), arena_printf(frame->arena, "%s is missing", own[i]));
}

static void moe_indices(Frame *frame, Experts *experts, const Expr *call, const bool *rest, Given *given) {
    Block *block = experts->block;
    bool *index_given = ARENA_ARRAY(frame->arena, bool, block->index_count);
    for (int i = 0; i < call->count; i++) {
        if (!rest[i]) continue;
        int index = place_of(call->names[i], block->indices, block->index_count);
        if (index < 0) {
            no_such_argument(frame, block, call, i);
            experts->bad = true;
            continue;
        }
        given->indices[index] = index_value(frame, block, index, call->items[i]);
        index_given[index] = true;
        experts->bad = experts->bad || given->indices[index].kind == CONSTANT_POISON;
    }
    int missing = 0;
    for (int i = 0; i < block->index_count; i++)
        if (!index_given[i]) experts->expert = i, missing++;
    if (missing == 1) return;
    moe_error(frame, experts, expr_loc(experts->block_expr),
              missing ? "all indices of the block but one are given; that one numbers the experts"
                      : "one index of the block is left to number the experts");
    diag(frame->diags, DIAG_NOTE, block->loc, "block '%s' has %d %s, and %d of them given here", block->name, block->index_count,
         block->index_count == 1 ? "index" : "indices", block->index_count - missing);
}

// One function for all experts, and an array of weights for each of its parameters.
static bool moe_gather(Frame *frame, Experts *experts, Given *given, const Expr *call, Func **func, Slot ***slots, int *slot_count) {
    Lower *lower = frame->lower;
    Slot ***of = ARENA_ARRAY(frame->arena, Slot **, experts->count);
    *func = NULL;
    for (int64_t i = 0; i < experts->count; i++) {
        given->indices[experts->expert] = constant_number((double)i);
        Made *made = made_for(frame, experts->block, given, call);
        if (made->poison) return false;
        if (*func && made->func != *func) {
            argument_error(frame, expr_loc(experts->block_expr), "moe: expert %lld differs from expert 0 in shapes, types or operations",
                           (long long)i);
            return false;
        }
        *func = made->func;
        *slot_count = made->slot_count;
        of[i] = made->slots;
    }
    *slots = ARENA_ARRAY(lower->arena, Slot *, *slot_count);
    for (int s = 0; s < *slot_count; s++) {
        Slot *slot = ARENA_NEW(lower->arena, Slot);
        *slot = *of[0][s];
        if (slot->count) {
            argument_error(frame, expr_loc(experts->block_expr), "moe: an expert cannot have experts of its own");
            return false;
        }
        slot->count = (int)experts->count;
        slot->sources = ARENA_ARRAY(lower->arena, Source *, experts->count);
        for (int64_t i = 0; i < experts->count; i++) slot->sources[i] = of[i][s]->sources[0];
        (*slots)[s] = slot;
    }
    return true;
}

// A choice among more experts than there are would run others than were chosen.
static void moe_choice(Frame *frame, Experts *experts) {
    const Value *e = experts->operands[2].kind == DATUM_VALUE ? experts->operands[2].value : NULL;
    if (experts->bad || !e || e->kind != VALUE_RESULT || e->node->op != OP_TOP_K) return;
    const Type *scores = &e->node->operands[0]->type;
    int64_t among = scores->dims[scores->rank - 1];
    if (among > experts->count)
        moe_error(frame, experts, expr_loc(experts->count_expr), arena_printf(frame->arena, "e chooses among %lld, and count says %lld experts", (long long)among, (long long)experts->count));
}

static Node *moe_node(Frame *frame, const Experts *experts, Func *func, Slot **slots, int slot_count, const Expr *call,
                      const char *const *names, int name_count) {
    Value **operands = ARENA_ARRAY(frame->arena, Value *, (int64_t)slot_count + 3);
    for (int i = 0; i < 3; i++) operands[i] = experts->operands[i].value;
    for (int i = 0; i < slot_count; i++) operands[3 + i] = frame_slot(frame, slots[i]);
    const char *all_names[MOST_RESULTS] = {name_count ? names[0] : NULL};
    Attr attrs[] = {attr_func("block", func), attr_number("count", (double)experts->count)};
    return func_node(frame->func, OP_MOE, operands, slot_count + 3, attrs, 2, all_names, expr_loc(call), frame->diags);
}

Datum lower_moe(Frame *frame, const Expr *call, const char *const *names, int name_count) {
    Experts experts = {0};
    bool *rest = ARENA_ARRAY(frame->arena, bool, call->count);
    moe_arguments(frame, &experts, call, rest);
    Given given = {0};
    Func *func = NULL;
    Slot **slots = NULL;
    int slot_count = 0;
    if (experts.block) {
        Block *block = experts.block;
        given.indices = ARENA_ARRAY(frame->arena, Constant, block->index_count);
        given.inputs = experts.operands;
        given.poison = experts.operands[0].kind == DATUM_POISON;
        if (block->input_count != 1) moe_error(frame, &experts, expr_loc(experts.block_expr), "the expert's block has one input");
        moe_indices(frame, &experts, call, rest, &given);
        if (!experts.bad && !moe_gather(frame, &experts, &given, call, &func, &slots, &slot_count)) experts.bad = true;
    }
    moe_choice(frame, &experts);
    for (int i = 0; i < 3; i++) experts.bad = experts.bad || experts.operands[i].kind == DATUM_POISON;
    if (experts.bad || !func) {
        frame->failed = true;
        return datum_poison;
    }
    given.indices[experts.expert] = (Constant){.kind = CONSTANT_TEXT, .text = "*"};
    return finish_call(frame, moe_node(frame, &experts, func, slots, slot_count, call, names, name_count),
                       label_text(frame->lower, experts.block, &given));
}

// ---- main ---------------------------------------------------------------------------------------------------------

static void check_main(Frame *frame) {
    const Expr *expr = return_expr(frame->block, 0);
    if (frame->result_count != 1) {
        frame_error(frame, expr, "the model returns one value, not %d", frame->result_count);
        return;
    }
    const Type *type = &frame->results[0].value->type;
    bool rows = type->rank >= 2 && (type->dims[0] == DIM_T || type->dims[0] == DIM_S) && type->dtype == DT_F32;
    if (rows) return;
    frame_error(frame, expr, "the model returns f32[T, n] or f32[S, n]: a row for each token or sequence, not %s",
                datum_describe(frame, &frame->results[0]));
}

bool lower_main(Lower *lower, const char *const *inputs, int input_count) {
    Frame frame;
    Arena *arena = arena_new();
    Module *module = lower->module;
    frame_open(&frame, lower, &lower->main, module, arena, &lower->config);
    Type ids = {.dtype = DT_I32, .rank = 1, .dims = {DIM_T}};
    for (int i = 0; i < input_count; i++) frame_set(&frame, inputs[i], datum_value(func_input(frame.func, inputs[i], ids)));
    if (lower->main.broken) frame.failed = true;
    else run_frame(&frame);
    if (!frame.failed) check_main(&frame);
    bool good = !frame.failed && set_results(&frame);
    int at = 0;
    while (at < module->func_count && module->funcs[at] != frame.func) at++;
    memmove(module->funcs + at, module->funcs + at + 1, sizeof *module->funcs * (size_t)(module->func_count - at - 1));
    module->funcs[module->func_count - 1] = frame.func;   // main comes last
    module->main = frame.func;
    arena_free(arena);
    return good;
}
