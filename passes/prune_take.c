// Which units of each free axis stay, and what that makes of the module.
//
// How many stay is one number for all layers of a block, so that they still share a function; which ones, each layer decides by itself. By magnitude a
// unit counts as the product of the norms of its rows and columns in all matrices that have it; calibrated, as the energy that it adds to what the
// matrix behind it makes: Σ x² · |column|². Experts count by all their matrices, over the rows that were sent to them: seldom chosen ones count little.
// Without values (IR text alone) the first stay.
#include "passes/prune.h"
#include "ir/dequant.h"
#include "ir/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct { Weight *const *weights; int count; const Value *array; } Bound;   // what a parameter stands for in one call

typedef struct {
    Axes *axes;
    const PassOptions *options;
    Diags *diags;
    Pick *rows, *columns;     // of each weight by its number
    PtrMap arrays;            // of main's arrays of weights, …
    Pick *taken; int taken_count, taken_capacity;   // … which stay
} Take;

// ---- what a unit counts ------------------------------------------------------------------------------------------------------------------

static int by_name(const void *a, const void *b) { return strcmp(((const SeenColumns *)a)->name, ((const SeenColumns *)b)->name); }

static const float *whole_energy(const PassOptions *options, const Weight *weight) {
    const Importance *importance = options->importance;
    SeenColumns key = {.name = weight->name};
    const SeenColumns *seen = importance && importance->count ? bsearch(&key, importance->items, (size_t)importance->count, sizeof key, by_name) : NULL;
    Type whole = prune_whole_type(weight);
    return seen && whole.rank == 2 && seen->columns == whole.dims[1] ? seen->energy : NULL;
}

const float *prune_energy(const PassOptions *options, const Weight *weight, Arena *arena) {
    const float *whole = whole_energy(options, weight);
    const Pick *pick = &weight->pick_columns;
    if (!whole || !pick->count) return whole;
    float *left = ARENA_ARRAY(arena, float, pick->count);
    for (int64_t i = 0; i < pick->count; i++) left[i] = whole[pick->at[i]];
    return left;
}

// Adds to each unit of the axis the squares of its values, each times the energy of its column.
static void add_squares(const Weight *weight, int axis, int64_t units, const float *energy, double *to) {
    int64_t columns = weight->type.dims[1], rows = weight->type.dims[0], unit = (axis ? columns : rows) / units;
    float *row = malloc((size_t)columns * sizeof *row);
    if (!row) abort();
    for (int64_t r = 0; r < rows; r++) {
        weight_rows_f32(weight, r, 1, row);
        for (int64_t i = 0; i < columns; i++) to[(axis ? i : r) / unit] += (double)row[i] * row[i] * (energy ? (double)energy[i] : 1);
    }
    free(row);
}

static bool readable(const Weight *weight) { return weight->type.rank == 2 && (weight->bytes || weight->data); }

// The rows of a mixture: an expert's matrices are one unit each.
static bool score_experts(const Take *t, const Bound *bound, int64_t units, bool by_energy, double *scores) {
    bool seen = false;
    for (int64_t u = 0; u < units && u < bound->count; u++) {
        const Weight *weight = bound->weights[u];
        const float *energy = whole_energy(t->options, weight);
        double sum = 0;
        if (!readable(weight)) continue;
        seen |= energy != NULL;
        if (!by_energy || energy) add_squares(weight, 0, 1, by_energy ? energy : NULL, &sum);
        scores[u] += by_energy ? sum : log(sum + 1e-300);
    }
    return seen;
}

typedef struct { const AxisMember *member; Bound bound; } Part;   // one matrix, or array of matrices, that has the axis

static bool score(const Take *t, const Part *parts, int count, int e, int64_t units, bool by_energy, double *scores) {
    bool complete = true, any = false;
    double *sums = ARENA_ARRAY(t->axes->arena, double, units);
    memset(scores, 0, sizeof *scores * (size_t)units);
    for (int p = 0; p < count; p++) {
        const AxisMember *m = parts[p].member;
        if (m->axis == COUNT_AXIS) {
            any |= score_experts(t, &parts[p].bound, units, by_energy, scores);
            continue;
        }
        const Weight *weight = parts[p].bound.weights[e < parts[p].bound.count ? e : 0];
        const float *energy = m->column ? whole_energy(t->options, weight) : NULL;
        if (!readable(weight) || (by_energy && !m->column)) continue;
        complete &= !by_energy || energy;
        any |= energy != NULL;
        memset(sums, 0, sizeof *sums * (size_t)units);
        add_squares(weight, m->axis, units, by_energy ? energy : NULL, sums);
        for (int64_t u = 0; u < units; u++) scores[u] += by_energy ? sums[u] : log(sums[u] + 1e-300);
    }
    return complete && any;
}

typedef struct { double score; int32_t unit; } Scored;

static int by_score(const void *a, const void *b) {
    const Scored *x = a, *y = b;
    double s = x->score == x->score ? x->score : -INFINITY, t = y->score == y->score ? y->score : -INFINITY;
    return s != t ? (s < t) - (s > t) : (x->unit > y->unit) - (x->unit < y->unit);
}

// The best of each group, ascending.
static int32_t *best_units(Arena *arena, const Axis *axis, const double *scores) {
    int64_t group = axis->size / axis->groups, keep = axis->kept / axis->groups, count = 0;
    Scored *sorted = ARENA_ARRAY(arena, Scored, group);
    bool *stays = ARENA_ARRAY(arena, bool, axis->size);
    int32_t *best = ARENA_ARRAY(arena, int32_t, axis->kept);
    for (int64_t g = 0; g < axis->groups; g++) {
        for (int64_t u = 0; u < group; u++) sorted[u] = (Scored){scores[g * group + u], (int32_t)(g * group + u)};
        qsort(sorted, (size_t)group, sizeof *sorted, by_score);
        for (int64_t u = 0; u < keep; u++) stays[sorted[u].unit] = true;
    }
    for (int64_t u = 0; u < axis->size; u++)
        if (stays[u]) best[count++] = (int32_t)u;
    return best;
}

// ---- for each call -----------------------------------------------------------------------------------------------------------------------

static bool differs(const Pick *a, const Pick *b) { return a->count != b->count || memcmp(a->at, b->at, sizeof *a->at * (size_t)a->count) != 0; }

static Pick pick_of(Arena *arena, const Axis *axis, const int32_t *units, int64_t size) {
    int64_t unit = size / axis->size;
    int32_t *at = ARENA_ARRAY(arena, int32_t, axis->kept * unit);
    for (int64_t i = 0; i < axis->kept * unit; i++) at[i] = (int32_t)(units[i / unit] * unit + i % unit);
    return (Pick){axis->kept * unit, size, at};
}

static bool note(Take *t, Pick *there, const Pick *pick, const char *name) {
    if (there->count && differs(there, pick)) {
        diag_error(t->diags, NOWHERE, "--prune: %s is read with different matrices in different places, which would leave out different parts of it", name);
        return false;
    }
    *there = *pick;
    return true;
}

static bool note_weight(Take *t, const Axis *axis, const int32_t *units, const Weight *weight, int at) {
    Pick pick = pick_of(t->axes->module->arena, axis, units, weight->type.dims[at]);
    return note(t, weight->type.rank == 2 && at == 0 ? &t->rows[weight->id] : &t->columns[weight->id], &pick, weight->name);
}

static bool note_array(Take *t, const Axis *axis, const int32_t *units, const Bound *bound) {
    Pick pick = pick_of(t->axes->arena, axis, units, axis->size);
    int at = ptr_map_get(&t->arrays, bound->array);
    if (at >= 0) return note(t, &t->taken[at], &pick, bound->weights[0]->name);
    ptr_map_set(&t->arrays, bound->array, t->taken_count);
    ARENA_PUSH(t->axes->arena, t->taken, t->taken_count, t->taken_capacity) = pick;
    return true;
}

static bool decide(Take *t, int root, const Part *parts, int count, int e) {
    const Axis *axis = &t->axes->axes[root];
    double *scores = ARENA_ARRAY(t->axes->arena, double, axis->size);
    if (!t->options->importance || !score(t, parts, count, e, axis->size, true, scores)) score(t, parts, count, e, axis->size, false, scores);
    const int32_t *units = best_units(t->axes->arena, axis, scores);
    bool ok = true;
    for (int p = 0; p < count && ok; p++) {
        const Bound *bound = &parts[p].bound;
        if (parts[p].member->axis == COUNT_AXIS) ok = note_array(t, axis, units, bound);
        else ok = note_weight(t, axis, units, bound->weights[e < bound->count ? e : 0], parts[p].member->axis);
    }
    return ok;
}

static Bound bound_to(const Value *value, const Bound *params) {
    if (value->kind == VALUE_PARAM) return params[value->index];
    return (Bound){value->weights, value->count > 0 ? value->count : 1, value};
}

static bool listed(const Part *parts, int count, const AxisMember *m) {
    for (int p = 0; p < count; p++)
        if (parts[p].member->value == m->value && parts[p].member->axis == m->axis) return true;
    return false;
}

static bool decide_func(Take *t, const Func *func, const Bound *params, int root) {
    Axes *axes = t->axes;
    Part *parts = ARENA_ARRAY(axes->arena, Part, axes->member_count);
    int count = 0, tuples = 1;
    for (int i = 0; i < axes->member_count; i++) {
        const AxisMember *m = &axes->members[i];
        if (m->func != func || axes_root(axes, m->id) != root || listed(parts, count, m)) continue;
        parts[count++] = (Part){m, bound_to(m->value, params)};
        if (m->axis != COUNT_AXIS && parts[count - 1].bound.count > tuples) tuples = parts[count - 1].bound.count;
    }
    bool ok = true;
    for (int e = 0; e < tuples && count && ok; e++) ok = decide(t, root, parts, count, e);
    return ok;
}

static bool walk(Take *t, const Func *func, const Bound *params) {
    Axes *axes = t->axes;
    for (int a = 0; a < axes->count; a++)
        if (axes->axes[a].parent == a && axes->axes[a].kept && !decide_func(t, func, params, a)) return false;
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        if (node->op != OP_CALL && node->op != OP_MOE) continue;
        const Func *callee = node_attr(node, "block")->func;
        int first = node->op == OP_CALL ? callee->input_count : 3;
        Bound *inner = ARENA_ARRAY(axes->arena, Bound, callee->param_count);
        for (int p = 0; p < callee->param_count; p++)
            if (node->operands[first + p]) inner[p] = bound_to(node->operands[first + p], params);
        if (!walk(t, callee, inner)) return false;
    }
    return true;
}

// ---- the module that is left -------------------------------------------------------------------------------------------------------------

static int64_t left_of(Axes *axes, const Value *value, int axis, int64_t size) {
    int id = axes_root(axes, axes_of(axes, value, axis));
    const Axis *root = &axes->axes[id];
    return root->kept ? size / root->size * root->kept : size;
}

static void shrink_value(Take *t, Value *value) {
    for (int i = 0; i < value->type.rank; i++)
        if (value->type.dims[i] > 0) value->type.dims[i] = left_of(t->axes, value, i, value->type.dims[i]);
    if (value_is_weight(value) && value->count > 0) value->count = (int)left_of(t->axes, value, COUNT_AXIS, value->count);
}

// A type of whole blocks for columns that come from other blocks: its own where it can be made anew, else one of about as many bits.
static DType remade(DType from, int64_t columns) {
    GroupedFormat format;
    if (dtype_info[from].block == 1) return from;
    if (quantizes_to(from) && columns % dtype_info[from].block == 0) return from;
    if (columns % 32) return DT_F16;
    return grouped_format(from, &format) && format.bits <= 4 ? DT_Q4_1 : DT_Q8_0;
}

static void shrink_weights(Take *t) {
    Module *module = t->axes->module;
    for (int w = 0; w < module->weight_count; w++) {
        Weight *weight = module->weights[w];
        weight->pick_rows = t->rows[w];
        weight->pick_columns = t->columns[w];
        if (weight->pick_rows.count) weight->type.dims[0] = weight->pick_rows.count;
        if (!weight->pick_columns.count) continue;
        int last = weight->type.rank - 1;
        weight->type.dims[last] = weight->pick_columns.count;
        weight->type.dtype = remade(weight->type.dtype, weight->type.dims[last]);
    }
}

static void shrink_array(Take *t, Value *value) {
    int at = ptr_map_get(&t->arrays, value);
    if (at < 0) return;
    Weight **left = ARENA_ARRAY(t->axes->module->arena, Weight *, t->taken[at].count);
    for (int64_t i = 0; i < t->taken[at].count; i++) left[i] = value->weights[t->taken[at].at[i]];
    value->weights = left;
}

static void shrink_node(Take *t, PtrMap *seen, Node *node) {
    for (int k = 0; k < node->operand_count; k++) {   // main's weights: each value once, its array with it
        Value *value = node->operands[k];
        if (!value || value->kind != VALUE_WEIGHT || ptr_map_get(seen, value) >= 0) continue;
        ptr_map_set(seen, value, 1);
        shrink_array(t, value);
        shrink_value(t, value);
    }
    if (node->op == OP_RESHAPE) {
        Attr *shape = (Attr *)node_attr(node, "shape");
        for (int i = 0; i < shape->size_count; i++)
            if (shape->sizes[i] > 0) shape->sizes[i] = left_of(t->axes, node->results[0], i, shape->sizes[i]);
    } else if (node->op == OP_MOE && node->operand_count > 3) {
        for (int a = 0; a < node->attr_count; a++)
            if (strcmp(node->attrs[a].name, "count") == 0) node->attrs[a].number = (double)left_of(t->axes, node->operands[3], COUNT_AXIS, (int64_t)node->attrs[a].number);
    }
}

static bool infer_anew(Func *func, Diags *diags) {
    Type results[64];
    for (int i = 0; i < func->node_count; i++) {
        Node *node = func->nodes[i];
        int count = 0;
        if (!node_infer(node, results, &count, diags)) return false;
        for (int r = 0; r < node->result_count && r < count; r++) node->results[r]->type = results[r];
    }
    return true;
}

bool prune_take(Axes *axes, const PassOptions *options, Diags *diags) {
    Module *module = axes->module;
    Take t = {.axes = axes, .options = options, .diags = diags, .arrays = {.arena = axes->arena}};
    t.rows = ARENA_ARRAY(axes->arena, Pick, module->weight_count);
    t.columns = ARENA_ARRAY(axes->arena, Pick, module->weight_count);
    if (!walk(&t, module->main, NULL)) return false;
    PtrMap seen = {.arena = axes->arena};
    for (int f = 0; f < module->func_count; f++) {
        Func *func = module->funcs[f];
        for (int p = 0; p < func->param_count; p++) shrink_value(&t, func->params[p]);
        for (int i = 0; i < func->node_count; i++) shrink_node(&t, &seen, func->nodes[i]);
    }
    shrink_weights(&t);
    module_drop_weights(module, axes->arena);
    module_bind_types(module);
    for (int f = 0; f < module->func_count; f++)
        if (!infer_anew(module->funcs[f], diags)) return false;
    return true;
}
