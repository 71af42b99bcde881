// Parameters: a declaration, for given index values, becomes a tensor's slice, checked against the file. Nothing is looked up before a
// statement that runs speaks of it, so a branch that is not taken needs no weights.
#include "frontend/model.h"

#include <string.h>

enum { MOST_WEIGHT_NAME = 200, MOST_TENSOR_NAME = 255 };

typedef struct { Frame *frame; Param *param; int index; Diags *diags; bool bad; } Lookup;

static void lookup_error(Lookup *lookup, Loc loc, const char *format, ...) PRINTF_LIKE(3, 4);
static void lookup_error(Lookup *lookup, Loc loc, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(lookup->diags, DIAG_ERROR, loc, format, args);
    va_end(args);
    lookup->bad = true;
}

// Declarations speak of config and index values alone.
static Constant field_constant(Lookup *lookup, const Expr *expr) {
    Constant value = constant_expr(lookup->frame->arena, expr, lookup->frame->scope, lookup->diags);
    if (value.kind == CONSTANT_POISON) lookup->bad = true;
    return value;
}

static int64_t field_integer(Lookup *lookup, const Expr *expr, const char *what, int64_t least) {
    Constant value = field_constant(lookup, expr);
    int64_t number = 0;
    if (value.kind == CONSTANT_POISON) return 0;
    if (!constant_integer(&value, &number) || number < least)
        lookup_error(lookup, expr_loc(expr), "%s is a whole number from %lld, not %s", what, (long long)least,
                     constant_describe(lookup->frame->arena, &value));
    return number;
}

static bool declared_shape(Lookup *lookup, Type *type) {
    const Param *param = lookup->param;
    type->rank = param->rank;
    if (!param->shape_list) {
        for (int i = 0; i < param->rank; i++) type->dims[i] = field_integer(lookup, param->shape[i], "a size", 1);
    } else {
        Constant list = field_constant(lookup, param->shape_list);
        if (list.kind != CONSTANT_POISON && (list.kind != CONSTANT_LIST || !list.count || list.count > MAX_RANK))
            lookup_error(lookup, expr_loc(param->shape_list), "a shape is a list of 1 to %d sizes, not %s", MAX_RANK,
                         constant_describe(lookup->frame->arena, &list));
        for (int i = 0; !lookup->bad && i < list.count; i++)
            if (!constant_integer(&list.items[i], &type->dims[i]) || type->dims[i] < 1)
                lookup_error(lookup, expr_loc(param->shape_list), "a size is a whole number from 1, not %s",
                             constant_describe(lookup->frame->arena, &list.items[i]));
        type->rank = list.kind == CONSTANT_LIST ? list.count : 0;
    }
    uint64_t elements = 1;
    for (int i = 0; !lookup->bad && i < type->rank; i++)
        if (!size_mad(elements, (uint64_t)type->dims[i], 0, (uint64_t)1 << 40, &elements))
            lookup_error(lookup, param->loc, "the shape of '%s' is too large", param->name);
    return !lookup->bad;
}

// ---- slices -------------------------------------------------------------------------------------------------------

static const char *shape_text(Arena *arena, const Type *type) {
    Text text = {0};
    text_puts(&text, "[");
    for (int i = 0; i < type->rank; i++) text_printf(&text, i ? ", %lld" : "%lld", (long long)type->dims[i]);
    text_puts(&text, "]");
    const char *out = arena_strdup(arena, text.data);
    text_free(&text);
    return out;
}

static void drop_first(Type *type) {
    for (int i = 1; i < type->rank; i++) type->dims[i - 1] = type->dims[i];
    type->dims[--type->rank] = 0;
}

static void take_index(Lookup *lookup, Weight *weight, Text *name) {
    const Expr *expr = lookup->param->index;
    int64_t index = field_integer(lookup, expr, "index", 0);
    if (lookup->bad) return;
    if (weight->type.rank < 2)
        lookup_error(lookup, expr_loc(expr), "index: tensor '%s' is %s, not a stack", weight->tensor,
                     shape_text(lookup->frame->arena, &weight->type));
    else if (index >= weight->type.dims[0])
        lookup_error(lookup, expr_loc(expr), "index: tensor '%s' has %lld elements, and this is %lld", weight->tensor,
                     (long long)weight->type.dims[0], (long long)index);
    else {
        drop_first(&weight->type);
        weight->index = index;
        text_printf(name, ".%lld", (long long)index);
    }
}

static void take_rows(Lookup *lookup, Weight *weight, Text *name) {
    const Param *param = lookup->param;
    int64_t from = field_integer(lookup, param->rows[0], "the first row", 0),
            to = field_integer(lookup, param->rows[1], "the end of the rows", 1);
    int64_t step = param->rows_count == 3 ? field_integer(lookup, param->rows[2], "the step of the rows", 1) : 1;
    if (lookup->bad) return;
    if (from >= to) {
        lookup_error(lookup, expr_loc(param->rows[0]), "rows %lld..%lld are none", (long long)from, (long long)to);
    } else if (to > weight->type.dims[0]) {
        lookup_error(lookup, expr_loc(param->rows[1]), "rows %lld..%lld are not within the %lld rows of tensor '%s'", (long long)from,
                     (long long)to, (long long)weight->type.dims[0], weight->tensor);
    } else if (weight->type.rank == 1 && dtype_info[weight->type.dtype].block != 1) {
        lookup_error(lookup, expr_loc(param->rows[0]), "tensor '%s' is stored in blocks of %d and cannot be cut", weight->tensor,
                     dtype_info[weight->type.dtype].block);
    } else {
        weight->first = from;
        weight->step = step;
        weight->rows = (to - from + step - 1) / step;
        weight->type.dims[0] = weight->rows;
        text_printf(name, ".%lld-%lld", (long long)from, (long long)to);
        if (step > 1) text_printf(name, "-%lld", (long long)step);
    }
}

static void take_transposed(Lookup *lookup, Weight *weight, Text *name) {
    const Expr *expr = lookup->param->transpose;
    Constant value = field_constant(lookup, expr);
    int rank = weight->type.rank;
    if (lookup->bad || !constant_true(&value)) return;
    if (rank < 2) {
        lookup_error(lookup, expr_loc(expr), "transpose: '%s' has one dimension", lookup->param->name);
    } else if (dtype_info[weight->type.dtype].block != 1) {
        lookup_error(lookup, expr_loc(expr), "transpose: tensor '%s' is stored in blocks (%s) and cannot be transposed", weight->tensor,
                     dtype_info[weight->type.dtype].name);
    } else {
        int64_t rows = weight->type.dims[rank - 2];
        weight->type.dims[rank - 2] = weight->type.dims[rank - 1];
        weight->type.dims[rank - 1] = rows;
        weight->transpose = true;
        text_puts(name, ".t");
    }
}

// The one size that differs, else the whole list.
static Loc shape_place(const Param *param, const Type *declared, const Type *found) {
    if (param->shape_list) return expr_loc(param->shape_list);
    int differ = -1, count = 0;
    for (int i = 0; found->rank == declared->rank && i < declared->rank; i++)
        if (found->dims[i] != declared->dims[i]) differ = i, count++;
    if (count == 1) return expr_loc(param->shape[differ]);
    Loc loc = expr_loc(param->shape[0]), end = expr_loc(param->shape[param->rank - 1]);
    if (end.line == loc.line) loc.length = end.column + end.length - loc.column;
    return loc;
}

static void check_shape(Lookup *lookup, const Weight *weight, const Type *declared, const TensorInfo *tensor) {
    const Param *param = lookup->param;
    Arena *arena = lookup->frame->arena;
    bool same = weight->type.rank == declared->rank;
    for (int i = 0; same && i < declared->rank; i++) same = weight->type.dims[i] == declared->dims[i];
    if (same) return;
    bool sliced = weight->index >= 0 || weight->step || weight->transpose;
    Loc loc = shape_place(param, declared, &weight->type);
    lookup_error(lookup, loc, "'%s' is %s here, but tensor '%s' is %s%s", param->name, shape_text(arena, declared), tensor->name,
                 shape_text(arena, &weight->type), sliced ? " after slicing" : "");
    if (sliced) diag(lookup->diags, DIAG_NOTE, NOWHERE, "the whole tensor is %s", shape_text(arena, &tensor->type));
    else if (declared->rank == 2 && weight->type.rank == 2 && declared->dims[0] == weight->type.dims[1] &&
             declared->dims[1] == weight->type.dims[0])
        diag(lookup->diags, DIAG_HINT, NOWHERE, "transpose: true swaps the dimensions of a tensor");
}

// ---- looking up ---------------------------------------------------------------------------------------------------

static bool same_data(const Weight *a, const Weight *b) {
    uint64_t bytes;
    return a->data == b->data || (a->data && b->data && type_bytes(&a->type, &bytes) && memcmp(a->data, b->data, bytes) == 0);
}

static bool same_source(const Source *a, const Source *b) {
    const Weight *x = &a->view, *y = &b->view;
    if (a->op != OP_COUNT || b->op != OP_COUNT) return false;   // operations are kept apart by their own table
    bool tensor = x->tensor && y->tensor ? strcmp(x->tensor, y->tensor) == 0 : x->tensor == y->tensor;
    return tensor && type_equal(&x->type, &y->type) && x->index == y->index && x->first == y->first && x->step == y->step &&
           x->rows == y->rows && x->transpose == y->transpose && same_data(x, y);
}

Source *source_for(Lower *lower, const Source *like) {
    const char *base = like->view.name, *name = base;
    if (strlen(base) > MOST_WEIGHT_NAME)
        name = base = arena_printf(lower->arena, "%.100s.%016llx", base, (unsigned long long)hash_bytes(base, strlen(base), 0));
    for (int number = 1;; number++) {
        Source *there = table_get(lower->sources, name);
        if (!there) break;
        if (same_source(there, like)) return there;
        name = arena_printf(lower->arena, "%s.%d", base, number);
    }
    Source *source = arena_copy(lower->arena, like, sizeof *like);
    source->view.name = name;
    table_set(lower->sources, name, source);
    return source;
}

Slot *slot_for(Lower *lower, const char *name, const char *origin, Source *source) {
    Slot *slot = ARENA_NEW(lower->arena, Slot);
    *slot = (Slot){.name = name, .origin = origin, .type = source->view.type, .sources = ARENA_ARRAY(lower->arena, Source *, 1)};
    slot->sources[0] = source;
    return slot;
}

static const char *nearest_tensor(Lookup *lookup, const char *name) {
    const Provider *provider = lookup->frame->lower->provider;
    const char **names = ARENA_ARRAY(lookup->frame->arena, const char *, provider->count);
    for (int i = 0; i < provider->count; i++) names[i] = provider->tensors[i].name;
    return nearest_name(name, names, provider->count);
}

static const TensorInfo *find_tensor(Lookup *lookup, const char *name) {
    Lower *lower = lookup->frame->lower;
    return lower->provider ? lower->provider->find(lower->provider, name) : NULL;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

// model.layers.30.norm and model.layers.3.norm: no misspelling, but a layer that is not there.
static bool same_but_digits(const char *a, const char *b) {
    for (;; a++, b++) {
        while (is_digit(*a)) a++;
        while (is_digit(*b)) b++;
        if (*a != *b) return false;
        if (!*a) return true;
    }
}

static const char *index_values(Lookup *lookup) {
    const Block *block = lookup->frame->block;
    Text text = {0};
    for (int i = 0; i < block->index_count; i++) {
        Constant value;
        if (!scope_get(lookup->frame->scope, block->indices[i], &value)) continue;
        text_printf(&text, text.length ? ", %s=" : "%s=", block->indices[i]);
        constant_text(&value, &text);
    }
    const char *out = text.length ? arena_strdup(lookup->frame->arena, text.data) : NULL;
    text_free(&text);
    return out;
}

static void missing_tensor(Lookup *lookup, const char *name) {
    Lower *lower = lookup->frame->lower;
    lookup->bad = true;
    if (!lower->provider) {
        if (lower->provider_failed) return;
        lower->provider_failed = true;
        diag_error(lookup->diags, lookup->param->loc, "'%s' needs tensor '%s', but the model names no weights", lookup->param->name, name);
        diag(lookup->diags, DIAG_HINT, NOWHERE, "add a line such as `weights: model.safetensors`");
        return;
    }
    if (lookup->param->bad) return;   // said before; looking for near names takes time
    diag_error(lookup->diags, lookup->param->pattern->loc, "no tensor '%s' in the weights", name);
    const char *near = nearest_tensor(lookup, name);
    const char *indices = index_values(lookup);
    if (indices) diag(lookup->diags, DIAG_NOTE, NOWHERE, "here %s", indices);
    if (near && !same_but_digits(near, name)) diag(lookup->diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    else if (!lower->provider->count) diag(lookup->diags, DIAG_NOTE, NOWHERE, "the weights hold no tensor at all");
}

// A weight that stands for a missing tensor, so that the types that depend on it are still checked.
static Slot *stand_in(Lookup *lookup, const char *name, Type type) {
    type.dtype = DT_F32;
    Source source = {.op = OP_COUNT, .missing = true};
    source.view = (Weight){.name = name, .type = type, .tensor = name, .source = type, .index = -1, .quantize_to = DT_COUNT};
    lookup->frame->failed = true;
    return slot_for(lookup->frame->lower, lookup->param->name, name, source_for(lookup->frame->lower, &source));
}

// Where there are no files: the least tensor from which the parameter can be cut.
static const TensorInfo *declare_tensor(Lookup *lookup, const char *name, const Type *declared) {
    Provider *provider = lookup->frame->lower->provider;
    const Param *param = lookup->param;
    Type type = *declared;
    type.dtype = DT_BF16;
    Constant transpose = param->transpose ? field_constant(lookup, param->transpose) : constant_bool(false);
    if (constant_true(&transpose) && type.rank >= 2) {
        type.dims[type.rank - 1] = declared->dims[type.rank - 2];
        type.dims[type.rank - 2] = declared->dims[type.rank - 1];
    }
    if (param->rows_count) type.dims[0] = field_integer(lookup, param->rows[1], "the end of the rows", 1);
    if (param->index && type.rank < MAX_RANK) {
        memmove(type.dims + 1, type.dims, sizeof *type.dims * (size_t)type.rank++);
        type.dims[0] = field_integer(lookup, param->index, "index", 0) + 1;
    }
    return lookup->bad ? NULL : provider->declare(provider, name, &type);
}

static Datum find_weight(Lookup *lookup) {
    Frame *frame = lookup->frame;
    Param *param = lookup->param;
    Type declared = {.dtype = DT_F32};
    const char *name = pattern_expand(frame->lower->arena, param->pattern, frame->scope, lookup->diags);
    if (!name) lookup->bad = true;
    else if (strlen(name) > MOST_TENSOR_NAME) {
        lookup_error(lookup, param->pattern->loc, "a tensor's name has at most %d bytes", MOST_TENSOR_NAME);
        return datum_poison;
    } else if (!(name = same_name(frame->lower, name))) {
        lookup_error(lookup, param->pattern->loc, "same: what the tensor of '%s' equals goes round in a circle", param->name);
        return datum_poison;
    }
    if (!declared_shape(lookup, &declared) || !name) return datum_poison;
    bool undeclared = frame->lower->provider && frame->lower->provider->declare && !param->otherwise;
    const TensorInfo *tensor = undeclared ? declare_tensor(lookup, name, &declared) : find_tensor(lookup, name);
    if (undeclared && lookup->bad) return datum_poison;
    if (!tensor && param->otherwise && frame->lower->provider) {
        if (strcmp(param->otherwise, "none") == 0) return datum_constant((Constant){.kind = CONSTANT_NONE});
        for (int i = 0; i < frame->block->param_count; i++)
            if (strcmp(frame->block->params[i].name, param->otherwise) == 0) return param_datum(frame, i);
    }
    if (!tensor) {
        missing_tensor(lookup, name);
        return datum_slot(stand_in(lookup, name, declared));
    }
    Source source = {.op = OP_COUNT};
    Weight weight = {
        .type = tensor->type, .tensor = name, .source = tensor->type, .index = -1, .bytes = tensor->bytes, .quantize_to = DT_COUNT};
    Text full = {0};
    text_puts(&full, name);
    if (param->index) take_index(lookup, &weight, &full);
    if (!lookup->bad && param->rows_count) take_rows(lookup, &weight, &full);
    if (!lookup->bad && param->transpose) take_transposed(lookup, &weight, &full);
    if (!lookup->bad) check_shape(lookup, &weight, &declared, tensor);
    weight.name = arena_strdup(frame->lower->arena, full.data);
    text_free(&full);
    source.view = weight;
    return lookup->bad ? datum_poison : datum_slot(slot_for(frame->lower, param->name, name, source_for(frame->lower, &source)));
}

Datum param_datum(Frame *frame, int index) {
    Lower *lower = frame->lower;
    Param *param = &frame->block->params[index];
    if (frame->params_known[index]) return frame->params[index];
    frame->params_known[index] = true;       // a parameter that falls back on itself is poison
    Lookup lookup = {.frame = frame, .param = param, .index = index, .diags = param->bad ? lower->mute : lower->diags};
    int errors = diags_errors(lower->diags), nested = lower->nested;
    Datum datum = datum_poison;
    bool present = !param->broken;
    if (present && param->when) {
        Constant when = field_constant(&lookup, param->when);
        present = constant_true(&when);
        if (!present && !lookup.bad) datum = datum_constant((Constant){.kind = CONSTANT_NONE});
    }
    if (present) datum = find_weight(&lookup);
    if (lookup.bad) param->bad = true;
    if (datum.kind == DATUM_POISON) frame->failed = true;
    lower->nested = nested + diags_errors(lower->diags) - errors;   // these are the parameter's own, not the statement's
    frame->params[index] = datum;
    return datum;
}
