// Lists of numbers as operands: slopes=[0.5, 0.25], x * [1, 2, 3], linear(x, [[1, 0], [0, 1]]). They become parameters whose numbers stand in the
// description, and are then folded and passed on as those of a file.
#include "frontend/model.h"

#include <string.h>

enum { MOST_NUMBERS = 1 << 20 };

Slot *slot_of_numbers(Lower *lower, const char *name, const char *base, Type type, const float *data) {
    Source source = {.op = OP_COUNT};
    source.view = (Weight){.name = base, .type = type, .source = type, .index = -1, .data = data, .quantize_to = DT_COUNT};
    return slot_for(lower, name, base, source_for(lower, &source));
}

// Sizes of nested lists by their first items; false when it is nothing but brackets or too deep.
static bool list_type(const Constant *list, Type *type) {
    *type = (Type){.dtype = DT_F32};
    for (; list->kind == CONSTANT_LIST; list = &list->items[0]) {
        if (!list->count || type->rank == MAX_RANK) return false;
        type->dims[type->rank++] = list->count;
    }
    return true;
}

// Fills the numbers in row-major order; NULL, or what is wrong.
static const char *fill(Frame *frame, const Constant *item, const Type *type, int depth, float **next) {
    if (depth == type->rank) {
        if (item->kind != CONSTANT_NUMBER) return arena_printf(frame->arena, "is a list of numbers, and one is %s", constant_describe(frame->arena, item));
        *(*next)++ = (float)item->number;
        return NULL;
    }
    if (item->kind != CONSTANT_LIST || item->count != type->dims[depth]) return "is a list of lists that are not equally long";
    const char *problem = NULL;
    for (int i = 0; i < item->count && !problem; i++) problem = fill(frame, &item->items[i], type, depth + 1, next);
    return problem;
}

void list_as_slot(Frame *frame, Datum *datum, const Expr *at) {
    Type type;
    if (datum->kind != DATUM_CONSTANT || datum->constant.kind != CONSTANT_LIST || !list_type(&datum->constant, &type)) return;
    uint64_t numbers = 1;
    for (int i = 0; i < type.rank; i++)
        if (!size_mad(numbers, (uint64_t)type.dims[i], 0, MOST_NUMBERS, &numbers)) {
            frame_error(frame, at, "a list of more than %d numbers belongs in a file of weights", MOST_NUMBERS);
            *datum = datum_poison;
            return;
        }
    float *data = ARENA_ARRAY(frame->lower->arena, float, (int64_t)numbers), *next = data;
    const char *problem = fill(frame, &datum->constant, &type, 0, &next);
    if (problem) {
        frame_error(frame, at, "this %s", problem);
        *datum = datum_poison;
        return;
    }
    const char *name = at->kind == EX_NAME && is_name(at->text) ? arena_strdup(frame->lower->arena, at->text) : "list";
    *datum = datum_slot(slot_of_numbers(frame->lower, name, arena_printf(frame->lower->arena, "list.%s", name), type, data));
}
