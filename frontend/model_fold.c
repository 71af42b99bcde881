// Operations on parameters alone are computed now and become parameters: w + 1, a concatenation, a reshape for another product.
//
// What only moves whole rows stays a view of the file, in its storage format: a slice or split along the first dimension, a transpose of the last two.
// The rest is run by the reference interpreter on the dequantized values.
#include "frontend/model.h"
#include "ir/interp.h"

#include <string.h>

// ---- views --------------------------------------------------------------------------------------------------------

static double attr_value(const Node *node, const char *name) { return node_number(node, name); }

static Slot *slot_of_weight(Lower *lower, const Slot *from, const Weight *weight) {
    Slot *slot = ARENA_NEW(lower->arena, Slot);
    *slot = (Slot){.name = from->name, .origin = from->origin, .type = weight->type, .weights = ARENA_ARRAY(lower->arena, Weight *, 1)};
    slot->weights[0] = module_weight(lower->module, weight);
    return slot;
}

// Rows [from, to) of a slot's weight, still in the file.
static Slot *view_rows(Lower *lower, const Slot *from, int64_t begin, int64_t end) {
    Weight weight = *from->weights[0];
    int64_t step = weight.step ? weight.step : 1;
    weight.first = (weight.step ? weight.first : 0) + begin * step;
    weight.step = step;
    weight.rows = weight.type.dims[0] = end - begin;
    weight.name = arena_printf(lower->arena, "%s.%lld-%lld", from->weights[0]->name, (long long)begin, (long long)end);
    return slot_of_weight(lower, from, &weight);
}

static bool rows_can_be_cut(const Slot *slot) {
    const Weight *weight = slot->weights[0];
    return weight->tensor && !weight->transpose && !slot->count && (weight->type.rank > 1 || dtype_info[weight->type.dtype].block == 1);
}

static int64_t plain_axis(const Node *node, const char *name, int rank) {
    int64_t axis = node_int(node, name);
    return axis < 0 ? axis + rank : axis;
}

// The node as a view, when it is one.
static bool fold_view(Frame *frame, const Node *node, const Slot *slot, Datum *out) {
    Lower *lower = frame->lower;
    int rank = slot->type.rank;
    const Weight *weight = slot->weights[0];
    if (node->op == OP_SLICE && plain_axis(node, "axis", rank) == 0 && rows_can_be_cut(slot)) {
        *out = datum_slot(view_rows(lower, slot, (int64_t)attr_value(node, "from"), (int64_t)attr_value(node, "to")));
        return true;
    }
    if (node->op == OP_SPLIT && plain_axis(node, "axis", rank) == 0 && rows_can_be_cut(slot)) {
        const Attr *sizes = node_attr(node, "sizes");
        *out = (Datum){.kind = DATUM_LIST, .count = sizes->size_count, .items = ARENA_ARRAY(frame->arena, Datum, sizes->size_count)};
        int64_t at = 0;
        for (int i = 0; i < sizes->size_count; at += sizes->sizes[i++]) out->items[i] = datum_slot(view_rows(lower, slot, at, at + sizes->sizes[i]));
        if (out->count == 1) *out = out->items[0];
        return true;
    }
    if (node->op != OP_TRANSPOSE || !weight->tensor || dtype_info[weight->type.dtype].block != 1) return false;
    int64_t a = plain_axis(node, "a", rank), b = plain_axis(node, "b", rank);
    if (a + b != 2 * rank - 3 || a == b) return false;   // the last two
    Weight swapped = *weight;
    swapped.type.dims[rank - 1] = weight->type.dims[rank - 2];
    swapped.type.dims[rank - 2] = weight->type.dims[rank - 1];
    swapped.transpose = !weight->transpose;
    swapped.name = arena_printf(lower->arena, "%s.t", weight->name);
    *out = datum_slot(slot_of_weight(lower, slot, &swapped));
    return true;
}

// ---- computing ----------------------------------------------------------------------------------------------------

typedef struct { Func *func; Value **operands; Weight **bound; int count; Node *node; } Fold;

// The node in a function of its own, whose parameters are the operands.
static bool fold_build(Frame *frame, Arena *arena, OpId op, const Datum *operands, int count, const Attr *attrs, int attr_count, const Expr *at, Fold *fold) {
    *fold = (Fold){.func = func_new(module_new(arena, "fold"), "fold"), .operands = ARENA_ARRAY(arena, Value *, count), .bound = ARENA_ARRAY(arena, Weight *, count)};
    DType number = DT_F32;
    for (int i = 0; i < count; i++)
        if (operands[i].kind == DATUM_SLOT && operands[i].slot->type.dtype == DT_I32) number = DT_I32;
    for (int i = 0; i < count; i++) {
        const Datum *datum = &operands[i];
        if (datum->kind == DATUM_SLOT) {
            if (datum->slot->count) {
                frame_error(frame, at, "an array of experts' parameters can only be passed to moe");
                return false;
            }
            fold->operands[i] = func_param(fold->func, datum->slot->name, datum->slot->type, 0);
            fold->operands[i]->origin = datum->slot->origin;
            fold->bound[fold->count++] = datum->slot->weights[0];
        } else if (datum->constant.kind == CONSTANT_NUMBER || datum->constant.kind == CONSTANT_BOOL) {
            DType type = datum->constant.kind == CONSTANT_BOOL ? DT_BOOL : number;
            Attr constant[] = {attr_number("value", datum->constant.number), attr_number("type", type)};
            Node *node = func_node(fold->func, OP_CONST, NULL, 0, constant, 2, NULL, expr_loc(at), frame->diags);
            if (!node) return false;
            fold->operands[i] = node->results[0];
        }
    }
    fold->node = func_node(fold->func, op, fold->operands, count, attrs, attr_count, NULL, expr_loc(at), frame->diags);
    if (!fold->node) return false;
    func_return(fold->func, fold->node->results, fold->node->result_count);
    return true;
}

static const char *fold_key(const Fold *fold, const Datum *operands, int count, Text *key) {
    text_printf(key, "%s", op_info(fold->node->op)->name);
    for (int i = 0; i < count; i++) {
        text_puts(key, "|");
        if (operands[i].kind == DATUM_SLOT) text_printf(key, "@%s", operands[i].slot->weights[0]->name);
        else constant_text(&operands[i].constant, key);
    }
    for (int i = 0; i < fold->node->attr_count; i++) {
        const Attr *attr = &fold->node->attrs[i];
        text_printf(key, ";%s=%.17g %s", attr->name, attr->number, attr->text ? attr->text : "");
        for (int s = 0; s < attr->size_count; s++) text_printf(key, ",%lld", (long long)attr->sizes[s]);
    }
    return key->data;
}

// Are the bytes there? A stand-in for a missing tensor has none; then only the type counts.
static bool have_bytes(const Fold *fold) {
    for (int i = 0; i < fold->count; i++)
        if (!fold->bound[i]->bytes && !fold->bound[i]->data) return false;
    return true;
}

static Slot *fold_result(Frame *frame, const Fold *fold, int i, const Tensor *tensor, const char *key) {
    Lower *lower = frame->lower;
    const Type *type = &fold->node->results[i]->type;
    const char *op = op_info(fold->node->op)->name;
    const char *base = fold->bound[0]->name;
    const char *name = arena_printf(lower->arena, "%s.%s%016llx", base, op, (unsigned long long)hash_bytes(key, strlen(key), (uint64_t)i));
    uint64_t bytes;
    if (!type_bytes(type, &bytes)) return NULL;
    void *data = tensor ? arena_copy(lower->module->arena, tensor->data, bytes) : NULL;
    Slot *slot = slot_of_data(lower, name, *type, data);
    slot->name = arena_printf(lower->arena, "%s", op);
    return slot;
}

static bool fold_compute(Frame *frame, Arena *arena, const Fold *fold, const char *key, Datum *out) {
    int results = fold->node->result_count;
    Tensor *tensors = ARENA_ARRAY(arena, Tensor, results);
    bool real = have_bytes(fold);
    if (real) {
        Weight ***params = ARENA_ARRAY(arena, Weight **, fold->count);
        for (int i = 0; i < fold->count; i++) params[i] = &fold->bound[i];
        int32_t first[1] = {0};
        Step step = {.first = first};
        if (!interp_func(fold->func, NULL, &step, NULL, (Weight *const *const *)params, tensors, arena, frame->diags)) return false;
    } else {
        frame->failed = true;
    }
    *out = (Datum){.kind = DATUM_LIST, .count = results, .items = ARENA_ARRAY(frame->lower->arena, Datum, results)};
    for (int i = 0; i < results; i++) {
        Slot *slot = fold_result(frame, fold, i, real ? &tensors[i] : NULL, key);
        if (!slot) return false;
        out->items[i] = datum_slot(slot);
    }
    if (results == 1) *out = out->items[0];
    return true;
}

Datum fold_node(Frame *frame, OpId op, const Datum *operands, int count, const Attr *attrs, int attr_count, const Expr *at) {
    Lower *lower = frame->lower;
    Arena *arena = arena_new();
    Fold fold;
    Datum out = datum_poison;
    Text key = {0};
    if (fold_build(frame, arena, op, operands, count, attrs, attr_count, at, &fold)) {
        Datum *known = table_get(lower->folds, fold_key(&fold, operands, count, &key));
        if (known) {
            out = *known;
        } else if ((count == 1 && fold_view(frame, fold.node, operands[0].slot, &out)) || fold_compute(frame, arena, &fold, key.data, &out)) {
            Datum kept = out;
            kept.items = out.count ? arena_copy(lower->arena, out.items, sizeof *out.items * (size_t)out.count) : NULL;
            table_set(lower->folds, key.data, arena_copy(lower->arena, &kept, sizeof kept));
        }
    }
    text_free(&key);
    arena_free(arena);
    if (out.kind == DATUM_POISON) frame->failed = true;
    return out;
}
