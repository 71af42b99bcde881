// Operations on parameters alone become parameters: w + 1, a concatenation, a reshape for another product.
//
// What only moves whole rows stays a view of the file, in its storage format: a slice or split along the first dimension, a transpose of
// the last two. The rest is remembered as an operation on its sources and run by the reference interpreter, on dequantized values, when
// main passes the result to something; steps in between are gone afterwards, and what no layer uses is never computed.
#include "frontend/model.h"
#include "ir/interp.h"

#include <string.h>

// ---- views --------------------------------------------------------------------------------------------------------

static Datum view_slot(Lower *lower, const Slot *from, const Weight *view) {
    Source source = {.op = OP_COUNT, .view = *view, .missing = from->sources[0]->missing};
    return datum_slot(slot_for(lower, from->name, from->origin, source_for(lower, &source)));
}

// Rows [begin, end) of a slot's weight, still in the file.
static Datum view_rows(Lower *lower, const Slot *from, int64_t begin, int64_t end) {
    Weight view = from->sources[0]->view;
    int64_t step = view.step ? view.step : 1;
    view.first = (view.step ? view.first : 0) + begin * step;
    view.step = step;
    view.rows = view.type.dims[0] = end - begin;
    view.name = arena_printf(lower->arena, "%s.%lld-%lld", from->sources[0]->view.name, (long long)begin, (long long)end);
    return view_slot(lower, from, &view);
}

static bool rows_can_be_cut(const Weight *view) {
    return view->tensor && !view->transpose && (view->type.rank > 1 || dtype_info[view->type.dtype].block == 1);
}

static int64_t plain_axis(const Node *node, const char *name, int rank) {
    int64_t axis = node_int(node, name);
    return axis < 0 ? axis + rank : axis;
}

// The node as a view, when it is one.
static bool fold_view(Frame *frame, const Node *node, const Slot *slot, Datum *out) {
    Lower *lower = frame->lower;
    int rank = slot->type.rank;
    const Weight *view = &slot->sources[0]->view;
    if (slot->sources[0]->op != OP_COUNT || !view->tensor) return false;
    if (node->op == OP_SLICE && plain_axis(node, "axis", rank) == 0 && rows_can_be_cut(view)) {
        *out = view_rows(lower, slot, node_int(node, "from"), node_int(node, "to"));
        return true;
    }
    if (node->op == OP_SPLIT && plain_axis(node, "axis", rank) == 0 && rows_can_be_cut(view)) {
        const Attr *sizes = node_attr(node, "sizes");
        *out = (Datum){.kind = DATUM_LIST, .count = sizes->size_count, .items = ARENA_ARRAY(frame->arena, Datum, sizes->size_count)};
        int64_t at = 0;
        for (int i = 0; i < sizes->size_count; at += sizes->sizes[i++]) out->items[i] = view_rows(lower, slot, at, at + sizes->sizes[i]);
        if (out->count == 1) *out = out->items[0];
        return true;
    }
    if (node->op != OP_TRANSPOSE || dtype_info[view->type.dtype].block != 1) return false;
    int64_t a = plain_axis(node, "a", rank), b = plain_axis(node, "b", rank);
    if (a + b != 2 * rank - 3 || a == b) return false;   // the last two
    Weight swapped = *view;
    swapped.type.dims[rank - 1] = view->type.dims[rank - 2];
    swapped.type.dims[rank - 2] = view->type.dims[rank - 1];
    swapped.transpose = !view->transpose;
    swapped.name = arena_printf(lower->arena, "%s.t", view->name);
    *out = view_slot(lower, slot, &swapped);
    return true;
}

// ---- operations ---------------------------------------------------------------------------------------------------

// The operation as the only node of a function whose parameters are the slots among its operands.
static Func *fold_func(Arena *arena, OpId op, const Datum *operands, int count, const Attr *attrs, int attr_count, const Expr *at,
                       Diags *diags) {
    Func *func = func_new(module_new(arena, "fold"), "fold");
    Value **values = ARENA_ARRAY(arena, Value *, count);
    DType number = DT_F32;
    for (int i = 0; i < count; i++)
        if (operands[i].kind == DATUM_SLOT && operands[i].slot->type.dtype == DT_I32) number = DT_I32;
    for (int i = 0; i < count; i++) {
        const Datum *datum = &operands[i];
        if (datum->kind == DATUM_SLOT) {
            values[i] = func_param(func, datum->slot->name, datum->slot->type, datum->slot->count);
            values[i]->origin = datum->slot->origin;
        } else if (datum->constant.kind != CONSTANT_NONE) {
            DType type = datum->constant.kind == CONSTANT_BOOL ? DT_BOOL : number;
            Attr constant[] = {attr_number("value", datum->constant.number), attr_number("type", type)};
            Node *node = func_node(func, OP_CONST, NULL, 0, constant, 2, NULL, expr_loc(at), diags);
            if (!node) return NULL;
            values[i] = node->results[0];
        }
    }
    Node *node = func_node(func, op, values, count, attrs, attr_count, NULL, expr_loc(at), diags);
    if (!node) return NULL;
    func_return(func, node->results, node->result_count);
    return func;
}

static const char *fold_key(const Node *node, const Datum *operands, int count, Text *key) {
    text_printf(key, "%s", op_info(node->op)->name);
    for (int i = 0; i < count; i++) {
        text_puts(key, "|");
        if (operands[i].kind == DATUM_SLOT) text_printf(key, "@%s", operands[i].slot->sources[0]->view.name);
        else constant_text(&operands[i].constant, key);
    }
    for (int i = 0; i < node->attr_count; i++) {
        const Attr *attr = &node->attrs[i];
        text_printf(key, ";%s=%.17g %s", attr->name, attr->number, attr->text ? attr->text : "");
        for (int s = 0; s < attr->size_count; s++) text_printf(key, ",%lld", (long long)attr->sizes[s]);
    }
    return key->data;
}

static Datum fold_later(Frame *frame, const Node *node, const Datum *operands, int count, const Expr *at) {
    Lower *lower = frame->lower;
    const Slot *first = NULL;
    Source source = {.op = node->op, .operand_count = count, .attr_count = node->attr_count, .at = at};
    source.operands = arena_copy(lower->arena, operands, sizeof *operands * (size_t)count);
    source.attrs = arena_copy(lower->arena, node->attrs, sizeof *node->attrs * (size_t)node->attr_count);
    for (int i = 0; i < node->attr_count; i++)
        if (source.attrs[i].text) source.attrs[i].text = arena_strdup(lower->arena, source.attrs[i].text);
    for (int i = 0; i < count; i++) {
        if (operands[i].kind != DATUM_SLOT) continue;
        if (!first) first = operands[i].slot;
        const Source *from = operands[i].slot->sources[0];
        source.missing = source.missing || from->missing;
        if (from->depth >= source.depth) source.depth = from->depth + 1;
    }
    if (source.depth > MOST_FOLDS) {
        frame_error(frame, at, "more than %d operations on a parameter follow each other", MOST_FOLDS);
        return datum_poison;
    }
    Datum out = {.kind = DATUM_LIST, .count = node->result_count, .items = ARENA_ARRAY(lower->arena, Datum, node->result_count)};
    for (int i = 0; i < node->result_count; i++) {
        Type type = node->results[i]->type;
        source.result = i;
        source.view = (Weight){.type = type, .source = type, .index = -1, .quantize_to = DT_COUNT};
        source.view.name = arena_printf(lower->arena, "%s.%s", first->sources[0]->view.name, op_info(node->op)->name);
        Slot *slot = slot_for(lower, op_info(node->op)->name, first->origin, source_for(lower, &source));
        slot->unnamed = true;
        out.items[i] = datum_slot(slot);
    }
    return node->result_count == 1 ? out.items[0] : out;
}

static bool no_arrays(Frame *frame, const Datum *operands, int count, const Expr *at) {
    for (int i = 0; i < count; i++)
        if (operands[i].kind == DATUM_SLOT && operands[i].slot->count) {
            frame_error(frame, at, "an array of experts' parameters can only be passed to moe");
            return false;
        }
    return true;
}

Datum fold_node(Frame *frame, OpId op, const Datum *operands, int count, const Attr *attrs, int attr_count, const Expr *at) {
    Lower *lower = frame->lower;
    Arena *arena = arena_new();
    Datum out = datum_poison;
    Text key = {0};
    Func *func = no_arrays(frame, operands, count, at) ? fold_func(arena, op, operands, count, attrs, attr_count, at, frame->diags) : NULL;
    if (func) {
        const Node *node = func->results[0]->node;
        Datum *known = table_get(lower->folds, fold_key(node, operands, count, &key));
        if (known) {
            out = *known;
        } else {
            if (count != 1 || !fold_view(frame, node, operands[0].slot, &out)) out = fold_later(frame, node, operands, count, at);
            Datum kept = out;
            kept.items = out.count ? arena_copy(lower->arena, out.items, sizeof *out.items * (size_t)out.count) : NULL;
            if (out.kind != DATUM_POISON) table_set(lower->folds, key.data, arena_copy(lower->arena, &kept, sizeof kept));
        }
    }
    text_free(&key);
    arena_free(arena);
    if (out.kind == DATUM_POISON) frame->failed = true;
    return out;
}

// ---- computing ----------------------------------------------------------------------------------------------------

// Of numbers that are not there yet (weights_declared) the result is not there either: a type with a name.
static Weight *compute_type(const Source *source, Arena *arena) {
    Weight *result = arena_copy(arena, &source->view, sizeof source->view);
    result->tensor = result->name;
    return result;
}

// The source's numbers: a weight that lives as long as `arena`. NULL with an error.
static const Weight *compute(Frame *frame, Source *source, Arena *arena) {
    if (source->made) return source->made;
    if (source->op == OP_COUNT) return &source->view;
    Arena *scratch = arena_new();
    Func *func = fold_func(scratch, source->op, source->operands, source->operand_count, source->attrs, source->attr_count, source->at,
                           frame->diags);
    Weight *result = NULL;
    bool unknown = false;
    Weight ***bound = ARENA_ARRAY(scratch, Weight **, source->operand_count);
    for (int i = 0, params = 0; func && i < source->operand_count; i++) {
        if (source->operands[i].kind != DATUM_SLOT) continue;
        bound[params] = ARENA_ARRAY(scratch, Weight *, 1);
        bound[params][0] = (Weight *)compute(frame, source->operands[i].slot->sources[0], scratch);
        const Weight *operand = bound[params++][0];
        if (!operand) func = NULL;
        else if (!operand->bytes && !operand->data) unknown = true;
    }
    Tensor *tensors = ARENA_ARRAY(scratch, Tensor, MOST_RESULTS);
    int32_t first[1] = {0};
    Step step = {.first = first};
    uint64_t bytes = 0;
    if (func && unknown) result = compute_type(source, arena);
    else if (func && type_bytes(&source->view.type, &bytes) &&
        interp_func(func, NULL, &step, NULL, (Weight *const *const *)bound, tensors, scratch, frame->diags)) {
        result = arena_copy(arena, &source->view, sizeof source->view);
        result->data = arena_copy(arena, tensors[source->result].data, bytes);
    }
    arena_free(scratch);
    return result;
}

Weight *source_weight(Frame *frame, Source *source) {
    Lower *lower = frame->lower;
    if (source->made || source->missing) return source->made;
    const Weight *weight = compute(frame, source, lower->module->arena);
    if (weight) source->made = module_weight(lower->module, weight);
    return source->made;
}
