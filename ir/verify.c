// The verifier: whatever built or changed a module, this is what holds afterwards.
//
//   names are unique; weights lie within their source; callees come before callers and main is last;
//   a value is defined before it is used, in the function where it is used; weights appear in main only;
//   attributes are those of the op table; result types are what inference says; a kernel runs no function.
#include "ir/dequant.h"
#include "ir/internal.h"
#include "ir/prune.h"

#include <stdlib.h>
#include <string.h>

typedef struct { const void **items; size_t room, count; } Set;   // of pointers

typedef struct {
    const Module *module;
    const Func *func;
    const Node *node;
    Diags *diags;
    Arena *scratch;
    Set funcs, weights, defined;
    NameSet *depths;           // of calls below each function
    bool ok;
} Verify;

// ---- helpers ----------------------------------------------------------------------------------------------------------

static size_t slot(const Set *set, const void *item) {
    size_t at = hash_bytes(&item, sizeof item, 0) & (set->room - 1);
    while (set->items[at] && set->items[at] != item) at = (at + 1) & (set->room - 1);
    return at;
}

static void set_add(Verify *v, Set *set, const void *item) {
    if (set->count * 2 >= set->room) {
        Set larger = {.room = set->room ? set->room * 2 : 64};
        larger.items = ARENA_ARRAY(v->scratch, const void *, larger.room);
        for (size_t i = 0; i < set->room; i++)
            if (set->items[i]) larger.items[slot(&larger, set->items[i])] = set->items[i];
        larger.count = set->count;
        *set = larger;
    }
    size_t at = slot(set, item);
    set->count += !set->items[at];
    set->items[at] = item;
}

static bool set_has(const Set *set, const void *item) { return set->room && item && set->items[slot(set, item)]; }

static bool wrong(Verify *v, const char *format, ...) PRINTF_LIKE(2, 3);
static bool wrong(Verify *v, const char *format, ...) {
    Text text = {0};
    v->ok = false;
    if (v->func) text_printf(&text, "@%s: ", v->func->name);
    if (v->node && v->node->result_count && v->node->results && v->node->results[0])
        text_printf(&text, "%%%s: ", v->node->results[0]->name);
    va_list args;
    va_start(args, format);
    text_vprintf(&text, format, args);
    va_end(args);
    diag(v->diags, DIAG_ERROR, v->node ? v->node->loc : v->func ? v->func->loc : NOWHERE, "%s", text.data);
    text_free(&text);
    return false;
}

static bool good_name(Verify *v, const char *name, const char *what) {
    if (name && *name && strlen(name) <= MAX_NAME) return true;
    return wrong(v, "%s has no name, or one longer than %d bytes", what, MAX_NAME);
}

// ---- weights ------------------------------------------------------------------------------------------------------------

// What slicing and transposing make of the source.
static bool sliced_type(Verify *v, const Weight *weight, Type *type) {
    *type = weight->source;
    if (weight->index >= 0) {
        if (type->rank < 2 || weight->index >= type->dims[0])
            return wrong(v, "weight @%s: index %lld is outside its source", weight->name, (long long)weight->index);
        memmove(type->dims, type->dims + 1, sizeof *type->dims * (size_t)--type->rank);
        type->dims[type->rank] = 0;
    }
    if (weight->step) {
        uint64_t last, limit = type->rank ? (uint64_t)type->dims[0] - 1 : 0;
        bool fits = type->rank > 0 && weight->step > 0 && weight->first >= 0 && weight->rows > 0;
        fits = fits && size_mad((uint64_t)weight->rows - 1, (uint64_t)weight->step, (uint64_t)weight->first, limit, &last);
        if (!fits) return wrong(v, "weight @%s: its rows are outside its source", weight->name);
        type->dims[0] = weight->rows;
    }
    if (weight->transpose) {
        if (type->rank < 2) return wrong(v, "weight @%s: nothing to transpose", weight->name);
        if (dtype_info[type->dtype].block != 1)
            return wrong(v, "weight @%s: blocks of %s cannot be transposed", weight->name, dtype_info[type->dtype].name);
        int64_t size = type->dims[type->rank - 1];
        type->dims[type->rank - 1] = type->dims[type->rank - 2];
        type->dims[type->rank - 2] = size;
    }
    return true;
}

static bool stored_as(DType stored, DType source) {
    return stored == source || quantizes_to(stored);
}

static bool verify_pick(Verify *v, const Weight *weight, const Pick *pick, int64_t *size) {
    if (!pick->count) return true;
    bool fits = pick->count > 0 && pick->of <= MAX_PICKED && pick->count <= pick->of && pick->count == *size;
    for (int64_t i = 0; i < pick->count && fits; i++) fits = pick->at[i] >= (i ? pick->at[i - 1] + 1 : 0) && pick->at[i] < pick->of;
    *size = pick->of;
    return fits || wrong(v, "weight @%s: what it takes of its rows or columns is not its size, or not ascending within them", weight->name);
}

// What is zero, and which rows and columns are taken: `type` becomes what it was before.
static bool verify_pruning(Verify *v, const Weight *weight, Type *type) {
    const Prune *prune = &weight->prune;
    *type = weight->type;
    if (weight->pick_rows.count && type->rank != 2) return wrong(v, "weight @%s: rows are taken of matrices", weight->name);
    if (weight->pick_columns.count && type->rank != 1 && type->rank != 2) return wrong(v, "weight @%s: columns are taken of matrices and vectors", weight->name);
    if (weight->pick_columns.count && !verify_pick(v, weight, &weight->pick_columns, &type->dims[type->rank - 1])) return false;
    if (weight->pick_rows.count && !verify_pick(v, weight, &weight->pick_rows, &type->dims[0])) return false;
    if (!prune->keep) return true;
    bool fits = type->rank == 2 && prune->keep > 0 && prune->of >= prune->keep && prune->rows > 0 && 64 % prune->rows == 0 && prune->columns > 0;
    DType stored = weight->quantize_to != DT_COUNT ? weight->quantize_to : weight->type.dtype;
    if (!prune_keeps_zeros(stored)) return wrong(v, "weight @%s is pruned, and %s has no zero of its own", weight->name, dtype_info[stored].name);
    return fits || wrong(v, "weight @%s: pruning keeps some of several blocks of a matrix, whose rows divide 64", weight->name);
}

static bool verify_weight(Verify *v, const Weight *weight, int index) {
    uint64_t bytes;
    Type type;
    if (!good_name(v, weight->name, "a weight")) return false;
    if (weight->id != index || names_find(v->module->weight_names, weight->name) != weight)
        return wrong(v, "weight @%s is not where the module looks for it", weight->name);
    if (!type_valid(&weight->type, true) || !type_bytes(&weight->type, &bytes))
        return wrong(v, "weight @%s: its rows are no whole blocks of %s, or too many", weight->name, dtype_info[weight->type.dtype].name);
    if ((unsigned)weight->quantize_to > DT_COUNT || (unsigned)weight->layout >= LAYOUT_COUNT)
        return wrong(v, "weight @%s: no such type or layout", weight->name);
    if (weight->layout >= LAYOUT_SPARSE && (!weight->prune.keep || weight->rotate))
        return wrong(v, "weight @%s: only what is pruned lies sparse, and only what is not turned", weight->name);
    int64_t columns = weight->type.rank ? weight->type.dims[weight->type.rank - 1] : 1;
    if (weight->layout == LAYOUT_BLOCKS && (weight->prune.rows != 64 || weight->prune.columns < 1 || columns % weight->prune.columns))
        return wrong(v, "weight @%s: only whole blocks of 64 rows lie as blocks", weight->name);
    if (weight->rotate < 0 || (weight->rotate & (weight->rotate - 1)) || (weight->rotate && columns % weight->rotate))
        return wrong(v, "weight @%s: it is rotated in blocks of a power of two that divides its %lld columns", weight->name, (long long)columns);
    Type whole;
    if (!verify_pruning(v, weight, &whole)) return false;
    if (!weight->tensor) {
        bool plain = weight->type.dtype == DT_F32 || weight->type.dtype == DT_I32 || weight->type.dtype == DT_BOOL;
        return (weight->data && plain) || wrong(v, "weight @%s has neither a tensor nor values", weight->name);
    }
    if (!type_valid(&weight->source, true) || !type_bytes(&weight->source, &bytes))
        return wrong(v, "weight @%s: its source is no tensor", weight->name);
    if (!sliced_type(v, weight, &type)) return false;
    if (!stored_as(weight->type.dtype, type.dtype))
        return wrong(v, "weight @%s is %s but its source %s", weight->name, dtype_info[weight->type.dtype].name,
                     dtype_info[type.dtype].name);
    type.dtype = weight->type.dtype;
    return type_equal(&type, &whole) || wrong(v, "weight @%s: its type is not that of its part of the source", weight->name);
}

// ---- functions ------------------------------------------------------------------------------------------------------------

static void verify_definition(Verify *v, NameSet *names, const Value *value, ValueKind kind, int index) {
    if (!value) {
        wrong(v, "a value is missing");
        return;
    }
    if (!good_name(v, value->name, "a value")) return;
    uint64_t bytes;
    bool param = kind == VALUE_PARAM;
    if (!names_add(names, value->name, (void *)value)) wrong(v, "%%%s is defined twice", value->name);
    if (value->kind != kind || value->index != index) wrong(v, "%%%s does not know its place", value->name);
    if (!type_valid(&value->type, param) || (param && !type_bytes(&value->type, &bytes))) wrong(v, "%%%s has no valid type", value->name);
    else if (!param && value->type.dtype != DT_F32 && value->type.dtype != DT_I32 && value->type.dtype != DT_BOOL &&
             value->type.dtype != DT_I8 && value->type.dtype != DT_BF16 && value->type.dtype != DT_CACHE)
        wrong(v, "%%%s: a value cannot be %s", value->name, dtype_info[value->type.dtype].name);
    if (value->count < 0 || value->count > MAX_ARRAY || (value->count && !param)) wrong(v, "%%%s is no array", value->name);
    if (value->place < -1 || (unsigned)value->layout >= LAYOUT_COUNT) wrong(v, "%%%s has no valid place or layout", value->name);
    if ((value->layout == LAYOUT_BLOCKS) != (value->block > 0) || value->block < 0 || (value->block && value->kept % value->block))
        wrong(v, "%%%s does not say which blocks of columns are there", value->name);
    if ((value->layout >= LAYOUT_SPARSE) != (value->kept > 0) || value->kept < 0 || (value->kept && (value->type.rank < 1 || value->kept > value->type.dims[value->type.rank - 1])))
        wrong(v, "%%%s does not say how many values of a row are there", value->name);
    set_add(v, &v->defined, value);
}

static void verify_weight_operand(Verify *v, const Value *value) {
    if (v->func != v->module->main) {
        wrong(v, "weights appear in main only; a function takes them as parameters");
        return;
    }
    for (int i = 0; i < (value->count ? value->count : 1); i++) {
        if (!value->weights || !set_has(&v->weights, value->weights[i])) wrong(v, "a weight is not the module's");
        else if (!type_equal(&value->weights[i]->type, &value->type))
            wrong(v, "weight @%s: the operand has another type", value->weights[i]->name);
        else continue;
        return;
    }
}

static bool verify_attrs(Verify *v, const Node *node, const OpInfo *op) {
    if (node->attr_count != op->attr_count) return wrong(v, "%s has %d attributes, not %d", op->name, op->attr_count, node->attr_count);
    for (int i = 0; i < op->attr_count; i++) {
        const Attr *attr = &node->attrs[i];
        if (!attr->name || strcmp(attr->name, op->attrs[i].name) != 0 || attr->kind != op->attrs[i].kind)
            return wrong(v, "%s: attribute %d is not %s", op->name, i, op->attrs[i].name);
        if (attr->kind == 'e' && !attr->text) return wrong(v, "%s: %s is empty", op->name, attr->name);
        if (attr->kind == 'g' && (!attr->func || !set_has(&v->funcs, attr->func)))
            return wrong(v, "%s: its function does not come before this one", op->name);
        if (attr->size_count < 0 || attr->size_count > (int)COUNT_OF(attr->sizes))
            return wrong(v, "%s: %s has too many sizes", op->name, attr->name);
    }
    return true;
}

static void verify_types(Verify *v, Node *node) {
    Type types[MAX_RESULTS];
    int count;
    if (!node_infer(node, types, &count, v->diags)) {
        v->ok = false;
        return;
    }
    if (count != node->result_count) {
        wrong(v, "%s has %d results, not %d", op_info(node->op)->name, count, node->result_count);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (!node->results[i] || type_equal(&types[i], &node->results[i]->type)) continue;
        Text is = {0}, says = {0};
        type_text(&types[i], &is);
        type_text(&node->results[i]->type, &says);
        wrong(v, "%%%s is %s, not %s", node->results[i]->name, is.data, says.data);
        text_free(&is);
        text_free(&says);
    }
}

static void verify_node(Verify *v, NameSet *names, Node *node) {
    if ((unsigned)node->op >= OP_COUNT) {
        wrong(v, "there is no such operation");
        return;
    }
    const OpInfo *op = op_info(node->op);
    bool ok = verify_attrs(v, node, op);
    for (int i = 0; i < node->operand_count; i++) {
        const Value *value = node->operands[i];
        if (!value) continue;
        if (value->kind == VALUE_WEIGHT) verify_weight_operand(v, value);
        else if (!set_has(&v->defined, value)) ok = wrong(v, "%s uses %%%s before it is defined", op->name, value->name);
    }
    if (op->flags & CALL && v->func->kernel) ok = wrong(v, "a kernel cannot run a function");
    if (node->frame < -1) wrong(v, "no valid frame");
    if (ok) verify_types(v, node);
    for (int i = 0; i < node->result_count; i++) {
        verify_definition(v, names, node->results[i], VALUE_RESULT, i);
        if (node->results[i] && node->results[i]->node != node) wrong(v, "%%%s does not know its node", node->results[i]->name);
    }
}

static void verify_depth(Verify *v, const Func *func) {
    int depth = 0;
    for (int n = 0; n < func->node_count; n++)
        for (int i = 0; i < func->nodes[n]->attr_count; i++) {
            const Func *callee = func->nodes[n]->attrs[i].func;
            const int *below = callee ? names_find(v->depths, callee->name) : NULL;
            if (below && *below + 1 > depth) depth = *below + 1;
        }
    if (depth > MAX_CALL_DEPTH) wrong(v, "functions are nested deeper than %d", MAX_CALL_DEPTH);
    names_add(v->depths, func->name, arena_copy(v->scratch, &depth, sizeof depth));
}

static void verify_func(Verify *v, const Func *func) {
    v->func = func;
    v->defined = (Set){0};
    NameSet *names = names_new(v->scratch);
    if (!good_name(v, func->name, "a function")) return;
    if (names_find(v->depths, func->name)) wrong(v, "there are two functions of this name");
    if (func->module != v->module) wrong(v, "belongs to another module");
    if (func->row_factor < 1 || func->frame_bytes < 0) wrong(v, "has no valid frame");
    for (int i = 0; i < func->input_count; i++) verify_definition(v, names, func->inputs[i], VALUE_INPUT, i);
    for (int i = 0; i < func->param_count; i++) verify_definition(v, names, func->params[i], VALUE_PARAM, i);
    for (int i = 0; i < func->node_count; i++) {
        v->node = func->nodes[i];
        verify_node(v, names, func->nodes[i]);
    }
    v->node = NULL;
    if (func->result_count < 1) wrong(v, "returns nothing");
    for (int i = 0; i < func->result_count; i++)
        if (!func->results[i] || func->results[i]->kind == VALUE_WEIGHT || !set_has(&v->defined, func->results[i]))
            wrong(v, "returns a value that is not its own");
        else if (func->results[i]->kind == VALUE_PARAM) wrong(v, "returns its parameter %%%s", func->results[i]->name);
    if (func == v->module->main && func->param_count) wrong(v, "main has no parameters");
    verify_depth(v, func);
    set_add(v, &v->funcs, func);
    v->func = NULL;
}

bool module_verify(const Module *module, Diags *diags) {
    Arena *scratch = arena_new();
    Verify v = {.module = module, .diags = diags, .scratch = scratch, .depths = names_new(scratch), .ok = true};
    for (int i = 0; i < module->weight_count; i++) {
        verify_weight(&v, module->weights[i], i);
        set_add(&v, &v.weights, module->weights[i]);
    }
    for (int i = 0; i < module->func_count; i++) verify_func(&v, module->funcs[i]);
    if (module->main && (!module->func_count || module->funcs[module->func_count - 1] != module->main))
        wrong(&v, "main is not the last function");
    if (module->context < 1 || module->max_tokens < 1 || module->max_rows < 1 || module->max_sequences < 1)
        wrong(&v, "the sizes of a step must be positive");
    arena_free(scratch);
    return v.ok;
}
