// Free axes: the dimensions that exist only between matrices. The neurons of a feed-forward, the heads of an attention and the experts of a mixture are
// all found by the same rule: rows of one matrix, carried by operations that treat each of them alone, end as columns of another, or in a choice of
// experts, and nothing else looks at them. Then any of them can be left out, as rows and columns of the matrices.
//
// Each operation either says which axes it carries over (they are joined) or fixes all it touches. Weights count by class (Bindings): what one layer
// leaves out in number, all layers of the block do.
#include "passes/prune.h"

#include <math.h>
#include <string.h>

// ---- axes --------------------------------------------------------------------------------------------------------------------------------

static int first_axis(Axes *axes, const Value *value) {
    bool weight = value_is_weight(value);
    PtrMap *map = weight ? &axes->classes : &axes->values;
    int class = weight ? bindings_class(axes->bindings, value) : 0;
    const void *key = weight ? (const void *)((uintptr_t)class + 1) : value;
    int first = ptr_map_get(map, key);
    if (first >= 0) return first;
    first = axes->count;
    ptr_map_set(map, key, first);
    for (int i = 0; i <= COUNT_AXIS; i++) {
        int64_t size = i < value->type.rank ? value->type.dims[i] : 0;
        ARENA_PUSH(axes->arena, axes->axes, axes->count, axes->capacity) = (Axis){.parent = first + i, .size = size, .groups = 1};
    }
    return first;
}

int axes_root(const Axes *axes, int id) {
    while (axes->axes[id].parent != id) id = axes->axes[id].parent;
    return id;
}

int axes_of(Axes *axes, const Value *value, int axis) {
    int id = first_axis(axes, value) + axis;
    if (axis == COUNT_AXIS && value->count > 0) {
        Axis *root = &axes->axes[axes_root(axes, id)];
        if (!root->size) root->size = value->count;
    }
    return id;
}

static Axis *root_of(Axes *axes, const Value *value, int axis) {   // until axes are added
    int root = axes_root(axes, axes_of(axes, value, axis));
    return &axes->axes[root];
}

static int last_axis(const Value *value) { return value->type.rank - 1; }

static void join(Axes *axes, int a, int b) {
    int from = axes_root(axes, a), to = axes_root(axes, b);
    if (from == to) return;
    Axis *x = &axes->axes[from], *y = &axes->axes[to];
    x->parent = to;
    int64_t units = x->size < y->size ? x->size : y->size, most = x->size < y->size ? y->size : x->size;
    y->fixed |= x->fixed || units <= 0 || most % units;
    y->size = units;
    y->groups = x->groups > y->groups ? x->groups : y->groups;
    y->heads |= x->heads;
    y->choice |= x->choice;
    y->mixture |= x->mixture;
}

static void join_values(Axes *axes, const Value *a, int i, const Value *b, int j) { join(axes, axes_of(axes, a, i), axes_of(axes, b, j)); }

static void fix(Axes *axes, const Value *value, int axis) { root_of(axes, value, axis)->fixed = true; }

static void fix_all(Axes *axes, const Value *value) {
    for (int i = 0; value && i < value->type.rank; i++) fix(axes, value, i);
    if (value && value_is_weight(value) && value->count > 0) fix(axes, value, COUNT_AXIS);
}

static void fix_node(Axes *axes, const Node *node) {
    for (int i = 0; i < node->operand_count; i++) fix_all(axes, node->operands[i]);
    for (int i = 0; i < node->result_count; i++) fix_all(axes, node->results[i]);
}

static void member(Axes *axes, const Func *func, const Value *value, int axis, bool column) {
    ARENA_PUSH(axes->arena, axes->members, axes->member_count, axes->member_capacity) = (AxisMember){func, value, axis, axes_of(axes, value, axis), column};
}

// ---- what operations carry over -------------------------------------------------------------------------------------------------------------

// All axes but the last `but` of x are those of y.
static void carry(Axes *axes, const Value *x, const Value *y, int but) {
    for (int i = 0; i < x->type.rank - but && i < y->type.rank - but; i++)
        if (x->type.dims[i] > 0) join_values(axes, x, i, y, i);
}

static void visit_linear(Axes *axes, const Func *func, const Node *node) {
    const Value *x = node->operands[0], *w = node->operands[1], *b = node->operands[2], *y = node->results[0];
    if (w->type.rank != 2 || !value_is_weight(w) || value_is_weight(x)) {
        fix_node(axes, node);
        return;
    }
    carry(axes, x, y, 1);
    join_values(axes, x, last_axis(x), w, 1);
    join_values(axes, y, last_axis(y), w, 0);
    member(axes, func, w, 0, false);
    member(axes, func, w, 1, true);
    if (!b) return;
    join_values(axes, y, last_axis(y), b, 0);
    if (value_is_weight(b)) member(axes, func, b, 0, false);
}

static void visit_elementwise(Axes *axes, const Func *func, const Node *node) {
    const Value *y = node->results[0];
    for (int k = 0; k < node->operand_count; k++) {
        const Value *x = node->operands[k];
        int shift = x ? y->type.rank - x->type.rank : 0;
        for (int i = 0; x && i < x->type.rank; i++) {
            int64_t size = x->type.dims[i];
            if (size <= 0 || (size == 1 && y->type.dims[i + shift] != 1)) continue;   // tokens; broadcast
            join_values(axes, x, i, y, i + shift);
            if (value_is_weight(x)) member(axes, func, x, i, false);
        }
    }
}

static void visit_rows(Axes *axes, const Node *node) {   // norms and rope: a row is seen whole
    const Value *x = node->operands[0], *y = node->results[0];
    for (int k = 1; k < node->operand_count; k++) fix_all(axes, node->operands[k]);
    carry(axes, x, y, 1);
    fix(axes, x, last_axis(x));
    fix(axes, y, last_axis(y));
}

static void visit_softmax(Axes *axes, const Node *node) {
    carry(axes, node->operands[0], node->results[0], 0);
    root_of(axes, node->operands[0], last_axis(node->operands[0]))->choice = true;
}

static void visit_top_k(Axes *axes, const Node *node) {
    const Value *x = node->operands[0];
    Axis *choice = root_of(axes, x, last_axis(x));
    int64_t groups = node_int(node, "groups");
    choice->choice = true;
    if (groups > choice->groups) choice->groups = groups;
    ptr_map_set(&axes->points, node->results[1], axes_of(axes, x, last_axis(x)));
    for (int i = 0; i < 2; i++) {
        carry(axes, x, node->results[i], 1);
        fix(axes, node->results[i], last_axis(node->results[i]));
    }
}

static void visit_gather(Axes *axes, const Node *node) {
    const Value *x = node->operands[0], *e = node->operands[1];
    int into = ptr_map_get(&axes->points, e);
    if (into < 0) fix(axes, x, last_axis(x));
    else join(axes, axes_of(axes, x, last_axis(x)), into);
    carry(axes, x, node->results[0], 1);
    fix(axes, node->results[0], last_axis(node->results[0]));
}

static void visit_moe(Axes *axes, const Func *func, const Node *node) {
    int into = ptr_map_get(&axes->points, node->operands[2]);
    for (int k = 0; k < 2; k++) fix_all(axes, node->operands[k]);
    fix_all(axes, node->results[0]);
    for (int k = 3; k < node->operand_count; k++) {
        const Value *array = node->operands[k];
        if (!array || !value_is_weight(array)) continue;
        int count = axes_of(axes, array, COUNT_AXIS);
        if (into < 0) axes->axes[axes_root(axes, count)].fixed = true;
        else join(axes, count, into);
        member(axes, func, array, COUNT_AXIS, false);
    }
    if (into >= 0) axes->axes[axes_root(axes, into)].mixture = true;
}

// Heads: whole groups that share keys and values; or, where enough would go, the same number of queries of each group.
static void visit_attention(Axes *axes, const Func *func, const Node *node) {
    const Value *q = node->operands[0], *k = node->operands[1], *v = node->operands[2], *y = node->results[0];
    if (!v || q->type.rank != 3 || k->type.rank != 3 || v->type.rank != 3) {
        fix_node(axes, node);
        return;
    }
    int64_t shared = q->type.dims[1] / k->type.dims[1], go = (int64_t)floor((double)shared * axes->heads_rate + 0.5);
    for (int i = 0; i < 3; i++) fix(axes, node->operands[i], 2);
    fix(axes, y, 2);
    join_values(axes, q, 1, y, 1);
    root_of(axes, y, 1)->heads = true;
    for (int i = 3; i < 5; i++) {
        if (!node->operands[i]) continue;
        join_values(axes, node->operands[i], 0, y, 1);
        member(axes, func, node->operands[i], 0, false);
    }
    if (shared > 1 && go >= 1 && go < shared) {
        fix(axes, k, 1);
        fix(axes, v, 1);
        root_of(axes, y, 1)->groups = k->type.dims[1];
    } else {
        join_values(axes, k, 1, y, 1);
        join_values(axes, v, 1, y, 1);
    }
}

// A run of axes that becomes a run of others: the outermost of both are the same units, the inner ones stay whole.
static void visit_reshape(Axes *axes, const Node *node) {
    const Value *x = node->operands[0], *y = node->results[0];
    bool symbolic = x->type.rank && y->type.rank && x->type.dims[0] < 0 && y->type.dims[0] < 0;
    if (!symbolic || value_is_weight(x)) {
        fix_node(axes, node);
        return;
    }
    for (int i = 1, j = 1; i < x->type.rank || j < y->type.rank; i++, j++) {
        while (i + 1 < x->type.rank && x->type.dims[i] == 1) fix(axes, x, i++);
        while (j + 1 < y->type.rank && y->type.dims[j] == 1) fix(axes, y, j++);
        if (i >= x->type.rank || j >= y->type.rank) break;
        int outer = i, other = j;
        int64_t a = x->type.dims[i], b = y->type.dims[j];
        while (a != b && (a < b ? i + 1 < x->type.rank : j + 1 < y->type.rank)) {
            if (a < b) a *= x->type.dims[++i], fix(axes, x, i);
            else b *= y->type.dims[++j], fix(axes, y, j);
        }
        join_values(axes, x, outer, y, other);
        if (i > outer && j > other) fix(axes, x, outer);
    }
}

static void visit(Axes *axes, const Func *func, const Node *node) {
    for (int k = 0; k < node->operand_count; k++) {   // indices that anything else reads
        int into = ptr_map_get(&axes->points, node->operands[k]);
        if (into >= 0 && node->op != OP_GATHER && node->op != OP_MOE) axes->axes[axes_root(axes, into)].fixed = true;
    }
    switch (node->op) {
    case OP_LINEAR: visit_linear(axes, func, node); break;
    case OP_RMS_NORM: case OP_LAYER_NORM: case OP_ROPE: visit_rows(axes, node); break;
    case OP_SOFTMAX: visit_softmax(axes, node); break;
    case OP_TOP_K: visit_top_k(axes, node); break;
    case OP_GATHER: visit_gather(axes, node); break;
    case OP_MOE: visit_moe(axes, func, node); break;
    case OP_ATTENTION: visit_attention(axes, func, node); break;
    case OP_RESHAPE: visit_reshape(axes, node); break;
    case OP_CALL:   // parameters count where they are read
        for (int i = 0; i < node->operand_count; i++)
            if (node->operands[i] && !value_is_weight(node->operands[i])) fix_all(axes, node->operands[i]);
        for (int i = 0; i < node->result_count; i++) fix_all(axes, node->results[i]);
        break;
    default:
        if (op_is(node, ELEMENTWISE)) visit_elementwise(axes, func, node);
        else fix_node(axes, node);
    }
}

void axes_find(Axes *axes, Module *module, double heads_rate, Arena *arena) {
    *axes = (Axes){.module = module, .arena = arena, .bindings = bindings_new(module, arena), .heads_rate = heads_rate,
                   .values = {.arena = arena}, .classes = {.arena = arena}, .points = {.arena = arena}};
    for (int f = 0; f < module->func_count; f++) {
        const Func *func = module->funcs[f];
        for (int i = 0; i < func->input_count; i++) fix_all(axes, func->inputs[i]);
        for (int i = 0; i < func->node_count; i++) visit(axes, func, func->nodes[i]);
        for (int i = 0; i < func->result_count; i++) {
            int into = ptr_map_get(&axes->points, func->results[i]);
            if (into >= 0) axes->axes[axes_root(axes, into)].fixed = true;
            fix_all(axes, func->results[i]);
        }
    }
}

PruneKind axes_kind(const Axes *axes, int root) {
    const Axis *axis = &axes->axes[root];
    bool rows = false, columns = false;
    if (axis->fixed || axis->size < 2 || axis->size % axis->groups) return PRUNE_NONE;
    for (int i = 0; i < axes->member_count; i++) {
        if (axes_root(axes, axes->members[i].id) != root) continue;
        rows |= !axes->members[i].column;
        columns |= axes->members[i].column;
    }
    if (axis->mixture) return rows && !columns ? PRUNE_EXPERTS : PRUNE_NONE;
    if (axis->choice || !rows || !columns) return PRUNE_NONE;
    return axis->heads ? PRUNE_HEADS : PRUNE_NEURONS;
}
