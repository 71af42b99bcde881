// Groups nodes into kernels.
//
// Requires that `attention` and `moe` are lowered. Afterwards every function but kernels consists of `call` (to kernels and to block functions)
// and `moe_experts` alone. A kernel is one of
//   linear     linears of one x with one result shape, joined by the elementwise nodes that follow them; perhaps a reshape of x or of the result
//   attend     one attend, perhaps a reshape of its result
//   sequence   one first, last, mean_tokens or keep_rows, and row operations that follow it
//   row        any other operations that look at one row at a time
// An intermediate that something else reads as well ends a linear kernel: its epilogue would have to write it out, and is then no epilogue.
// Groups stay convex: no path leaves a group and comes back, so that each can run as one piece.
#include "passes/passes.h"
#include "passes/fuse.h"

#include <string.h>

bool pass_fuse(Module *module, const PassOptions *options, Diags *diags);

enum {
    SMALL_ROW = 64 * 1024,   // elements: unrelated row operations on longer rows are not put together
    MOST_LINEARS = 8,        // in one kernel: each has an accumulator of its own
};

// ---- what nodes are ----------------------------------------------------------------------------------------------------------------

static bool is_linear(const Node *node) { return node->op == OP_LINEAR || node->op == OP_LINEAR_I8 || node->op == OP_LINEAR_BF16; }
static bool stays(const Node *node) { return node_calls(node); }
static bool is_row_op(const Node *node) { return !is_linear(node) && !stays(node) && node->op != OP_ATTEND && !op_is(node, SEQUENCE); }

// T, S or R: which rows a node runs over. 0: its results have none.
static int64_t row_symbol(const Node *node) {
    for (int i = 0; i < node->operand_count; i++)
        if (node->operands[i] && type_has_rows(&node->operands[i]->type)) return node->operands[i]->type.dims[0];
    for (int i = 0; i < node->result_count; i++)
        if (type_has_rows(&node->results[i]->type)) return node->results[i]->type.dims[0];
    return 0;
}

static int64_t result_symbol(const Node *node) {
    return node->result_count && type_has_rows(&node->results[0]->type) ? node->results[0]->type.dims[0] : row_symbol(node);
}

static Node *node_of(const Fusion *fusion, int i) { return fusion->func->nodes[i]; }

// Follows riders back to the value they reshape.
Value *fusion_beneath(const Fusion *fusion, Value *value) {
    int i;
    while (value && (i = uses_producer(fusion->uses, value)) >= 0 && fusion->rides[i] && node_of(fusion, i)->op == OP_RESHAPE)
        value = node_of(fusion, i)->operands[0];
    return value;
}

// Puts a node into a group.
static void enter(Fusion *fusion, int node, int group) {
    if (fusion->group[node] == group) return;
    fusion->group[node] = group;
    int last = fusion->last[group];
    fusion->ring[node] = last < 0 ? node : fusion->ring[last];
    if (last >= 0) fusion->ring[last] = node;
    fusion->last[group] = node;
}

// ---- convexity -----------------------------------------------------------------------------------------------------------------------

typedef struct { const Fusion *fusion; const bool *inside; bool *seen; int *stack; int depth; } Walk;

static void walk_push(Walk *walk, int node) {
    if (walk->seen[node]) return;
    walk->seen[node] = true;
    walk->stack[walk->depth++] = node;
    if (walk->fusion->group[node] < 0 || walk->inside[node]) return;
    for (int i = walk->fusion->ring[node]; i != node; i = walk->fusion->ring[i])   // a group runs as one: reaching a member reaches all
        if (!walk->seen[i]) {
            walk->seen[i] = true;
            walk->stack[walk->depth++] = i;
        }
}

static void walk_users(Walk *walk, int node) {
    const Node *from = node_of(walk->fusion, node);
    for (int r = 0; r < from->result_count; r++) {
        const UseList *uses = uses_of(walk->fusion->uses, from->results[r]);
        for (int u = 0; u < uses->count; u++)
            if (!(walk->inside[node] && walk->inside[uses->items[u].node])) walk_push(walk, uses->items[u].node);
    }
}

// Does no path lead out of the set and back in, other groups taken as one node each?
static bool convex(const Fusion *fusion, const bool *inside) {
    Arena *scratch = arena_new();
    Walk walk = {fusion, inside, ARENA_ARRAY(scratch, bool, fusion->count), ARENA_ARRAY(scratch, int, fusion->count), 0};
    for (int i = 0; i < fusion->count; i++)
        if (inside[i]) walk_users(&walk, i);
    bool back = false;
    while (walk.depth && !back) {
        int node = walk.stack[--walk.depth];
        back = inside[node];
        walk_users(&walk, node);
    }
    arena_free(scratch);
    return !back;
}

// ---- linear kernels --------------------------------------------------------------------------------------------------------------------

typedef struct {
    Fusion *fusion;
    const Node *anchor;
    Type shape;            // of the anchor's result
    bool *inside, *kept;   // members: being tried, settled
    PtrMap refused;        // nodes that take_in has turned away in this try
} Linear;

static bool free_node(const Fusion *fusion, int i) { return i >= 0 && fusion->group[i] < 0 && !fusion->rides[i]; }

static bool is_epilogue(const Linear *linear, const Node *node) {
    return op_is(node, ELEMENTWISE) && node->op != OP_CONST && node->result_count == 1 && type_equal(&node->results[0]->type, &linear->shape);
}

static bool reads_same_x(const Linear *linear, const Node *node) {
    int inputs = linear->anchor->op == OP_LINEAR_I8 ? 3 : 1;   // codes, their scales and sums
    if (node->op != linear->anchor->op || !type_equal(&node->results[0]->type, &linear->shape)) return false;
    for (int i = 0; i < inputs; i++)
        if (node->operands[i] != linear->anchor->operands[i]) return false;
    return true;
}

static bool bias_like(const Linear *linear, const Value *value) {
    return value_is_weight(value) && value->count == 0 && value->type.rank == 1 && value->type.dims[0] == linear->shape.dims[linear->shape.rank - 1];
}

// A value the kernel may read as it stands: a const, a vector along the last dimension, or an input of exactly the same shape.
static bool readable(const Linear *linear, const Value *value) {
    double number;
    if (const_scalar(value, &number) || bias_like(linear, value)) return true;
    int producer = uses_producer(linear->fusion->uses, value);
    if (producer >= 0 && linear->fusion->rides[producer]) return false;
    return !value_is_weight(value) && type_equal(&value->type, &linear->shape);
}

static int linears_inside(const Linear *linear) {
    int count = 0;
    for (int i = 0; i < linear->fusion->count; i++) count += linear->inside[i] && is_linear(node_of(linear->fusion, i));
    return count;
}

// Takes in the node that makes `value`, with what leads to it, when that is elementwise work over linears of the same x. False, with nothing
// taken, when it is not.
static bool take_in(Linear *linear, const Value *value, int depth) {
    int i = uses_producer(linear->fusion->uses, value);
    if (i >= 0 && linear->inside[i]) return true;
    if (!free_node(linear->fusion, i) || depth > 32 || ptr_map_get(&linear->refused, value->node) >= 0) return false;
    const Node *node = node_of(linear->fusion, i);
    if (is_linear(node)) {
        if (!reads_same_x(linear, node) || linears_inside(linear) == MOST_LINEARS) return false;
        linear->inside[i] = true;
        return true;
    }
    if (!is_epilogue(linear, node)) return false;
    bool *before = arena_copy(linear->fusion->arena, linear->inside, (size_t)linear->fusion->count);
    bool any = false, ok = true;
    for (int k = 0; k < node->operand_count && ok; k++) {
        bool taken = take_in(linear, node->operands[k], depth + 1);
        any |= taken;
        ok = taken || readable(linear, node->operands[k]);
    }
    if (ok && any) linear->inside[i] = true;
    else memcpy(linear->inside, before, (size_t)linear->fusion->count), ptr_map_set(&linear->refused, node, 1);
    return ok && any;
}

static bool reads_inside(const Linear *linear, const Node *node) {
    for (int k = 0; k < node->operand_count; k++) {
        int producer = uses_producer(linear->fusion->uses, node->operands[k]);
        if (producer >= 0 && linear->inside[producer]) return true;
    }
    return false;
}

// How many values of the set something outside it reads.
static int open_values(const Fusion *fusion, const bool *inside) {
    int open = 0;
    for (int i = 0; i < fusion->count; i++) {
        if (!inside[i]) continue;
        for (int r = 0; r < node_of(fusion, i)->result_count; r++) {
            const UseList *uses = uses_of(fusion->uses, node_of(fusion, i)->results[r]);
            bool out = uses->returned;
            for (int u = 0; u < uses->count; u++) out |= !inside[uses->items[u].node];
            open += out;
        }
    }
    return open;
}

// Adds epilogue nodes in order; a state with one open value is settled, and the last settled one stands.
static void grow_linear(Linear *linear) {
    Fusion *fusion = linear->fusion;
    for (int i = 0; i < fusion->count; i++) {
        const Node *node = node_of(fusion, i);
        if (linear->inside[i] || !free_node(fusion, i) || !is_epilogue(linear, node) || !reads_inside(linear, node)) continue;
        bool *before = arena_copy(fusion->arena, linear->inside, (size_t)fusion->count);
        linear->refused = (PtrMap){.arena = fusion->arena};
        if (!take_in(linear, node->results[0], 0) || !convex(fusion, linear->inside)) {
            memcpy(linear->inside, before, (size_t)fusion->count);
            continue;
        }
        if (open_values(fusion, linear->inside) == 1) memcpy(linear->kept, linear->inside, (size_t)fusion->count);
    }
}

// The only reader of a group's only open value, when it is a reshape: it can be part of the kernel.
static int final_reshape(const Fusion *fusion, const bool *inside) {
    for (int i = 0; i < fusion->count; i++) {
        if (!inside[i]) continue;
        const UseList *uses = uses_of(fusion->uses, node_of(fusion, i)->results[0]);
        if (uses->count != 1 || uses->returned || inside[uses->items[0].node]) continue;
        int user = uses->items[0].node;
        if (node_of(fusion, user)->op == OP_RESHAPE && free_node(fusion, user)) return user;
    }
    return -1;
}

static int new_group(Fusion *fusion, GroupKind kind) {
    fusion->kind[fusion->group_count] = kind;
    fusion->last[fusion->group_count] = -1;
    return fusion->group_count++;
}

static void settle(Fusion *fusion, GroupKind kind, const bool *inside) {
    int group = new_group(fusion, kind), reshape = final_reshape(fusion, inside);
    for (int i = 0; i < fusion->count; i++)
        if (inside[i] || i == reshape) enter(fusion, i, group);
}

static void group_linears(Fusion *fusion, bool grow) {
    for (int i = 0; i < fusion->count; i++) {
        const Node *node = node_of(fusion, i);
        if (!free_node(fusion, i) || !is_linear(node)) continue;
        Linear linear = {.fusion = fusion, .anchor = node, .shape = node->results[0]->type};
        linear.inside = ARENA_ARRAY(fusion->arena, bool, fusion->count);
        linear.kept = ARENA_ARRAY(fusion->arena, bool, fusion->count);
        linear.inside[i] = linear.kept[i] = true;
        if (grow) grow_linear(&linear);
        settle(fusion, GROUP_LINEAR, linear.kept);
    }
}

// ---- attend and sequence kernels ---------------------------------------------------------------------------------------------------------

static void group_anchors(Fusion *fusion) {
    bool *inside = ARENA_ARRAY(fusion->arena, bool, fusion->count);
    for (int i = 0; i < fusion->count; i++) {
        const Node *node = node_of(fusion, i);
        if (!free_node(fusion, i)) continue;
        if (node->op == OP_ATTEND) {
            inside[i] = true;
            settle(fusion, GROUP_ATTEND, inside);
            inside[i] = false;
        } else if (op_is(node, SEQUENCE)) {
            enter(fusion, i, new_group(fusion, GROUP_SEQUENCE));
        }
    }
}

// ---- riders ------------------------------------------------------------------------------------------------------------------------------

static bool constant_shaped(const Node *node) {
    for (int r = 0; r < node->result_count; r++)
        if (type_has_rows(&node->results[r]->type) || node->results[r]->type.dtype == DT_CACHE) return false;
    return !stays(node);
}

// May a reshape be repeated in each kernel that reads its result? Row kernels may, and linears for their x.
static bool readers_can_reshape(const Fusion *fusion, const Node *reshape) {
    const UseList *uses = uses_of(fusion->uses, reshape->results[0]);
    if (uses->returned) return false;
    for (int u = 0; u < uses->count; u++) {
        const Node *user = node_of(fusion, uses->items[u].node);
        bool x = user->op == OP_LINEAR && uses->items[u].operand == 0;
        if (!x && (!is_row_op(user) || (fusion->group[uses->items[u].node] >= 0 && fusion->kind[fusion->group[uses->items[u].node]] != GROUP_ROW)))
            return false;
    }
    return true;
}

// Reshapes of a value that exists outside kernels (an input, a call's result) move into the kernels that read them.
static void find_riders(Fusion *fusion) {
    for (int i = 0; i < fusion->count; i++) fusion->rides[i] = constant_shaped(node_of(fusion, i));
    for (int i = 0; i < fusion->count; i++) {
        const Node *node = node_of(fusion, i);
        if (node->op != OP_RESHAPE || fusion->rides[i]) continue;
        int producer = uses_producer(fusion->uses, fusion_beneath(fusion, node->operands[0]));
        bool stands = producer < 0 || stays(node_of(fusion, producer));
        fusion->rides[i] = stands && readers_can_reshape(fusion, node);
    }
}

// ---- row kernels -------------------------------------------------------------------------------------------------------------------------

static bool *members(const Fusion *fusion, int a, int b) {
    bool *inside = ARENA_ARRAY(fusion->arena, bool, fusion->count);
    for (int i = 0; i < fusion->count; i++) inside[i] = fusion->group[i] >= 0 && (fusion->group[i] == a || fusion->group[i] == b);
    return inside;
}

// Joins group `b` to group `a` when the whole stays convex.
static bool join(Fusion *fusion, int a, int b) {
    if (a == b || !convex(fusion, members(fusion, a, b))) return false;
    for (int i = 0; i < fusion->count; i++)
        if (fusion->group[i] == b) enter(fusion, i, a);
    return true;
}

static void start_rows(Fusion *fusion) {
    for (int i = 0; i < fusion->count; i++)
        if (free_node(fusion, i) && is_row_op(node_of(fusion, i))) enter(fusion, i, new_group(fusion, GROUP_ROW));
}

// A row operation joins the group that makes one of its operands: the one that gathers over sequences when there is one, else all it can.
static void join_producers(Fusion *fusion) {
    for (int i = 0; i < fusion->count; i++) {
        const Node *node = node_of(fusion, i);
        if (fusion->group[i] < 0 || fusion->kind[fusion->group[i]] != GROUP_ROW) continue;
        for (int wanted = GROUP_SEQUENCE; wanted >= GROUP_ROW; wanted--)
            for (int k = 0; k < node->operand_count && fusion->kind[fusion->group[i]] == GROUP_ROW; k++) {
                int producer = uses_producer(fusion->uses, node->operands[k]);
                if (producer < 0 || fusion->group[producer] < 0) continue;
                int group = fusion->group[producer];
                if ((int)fusion->kind[group] == wanted && result_symbol(node_of(fusion, producer)) == row_symbol(node))
                    join(fusion, group, fusion->group[i]);
            }
    }
}

// Row groups that read the same values or are ready at the same time run together: one kernel for q's and k's norm and rope.
static void group_levels(const Fusion *fusion, int *level) {
    memset(level, 0, sizeof *level * (size_t)fusion->count);   // node → longest chain of kernels that leads to it
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < fusion->count; i++) {
            int best = level[i];
            for (int k = 0; k < node_of(fusion, i)->operand_count; k++) {
                int producer = uses_producer(fusion->uses, node_of(fusion, i)->operands[k]);
                if (producer < 0) continue;
                bool same = fusion->group[i] >= 0 && fusion->group[producer] == fusion->group[i];
                int step = same || fusion->rides[producer] ? 0 : 1;
                if (level[producer] + step > best) best = level[producer] + step;
            }
            if (fusion->group[i] >= 0)
                for (int j = fusion->ring[i]; j != i; j = fusion->ring[j])
                    if (level[j] > best) best = level[j];
            changed |= best != level[i];
            level[i] = best;
        }
    }
}

static bool small_rows(const Fusion *fusion, int group) {
    for (int i = 0; i < fusion->count; i++) {
        if (fusion->group[i] != group) continue;
        for (int r = 0; r < node_of(fusion, i)->result_count; r++)
            if (node_of(fusion, i)->results[r]->type.dtype != DT_CACHE && type_row_elements(&node_of(fusion, i)->results[r]->type) > SMALL_ROW)
                return false;
    }
    return true;
}

static void join_neighbours(Fusion *fusion) {
    int *level = ARENA_ARRAY(fusion->arena, int, fusion->count);
    group_levels(fusion, level);
    for (int i = 0; i < fusion->count; i++) {
        int a = fusion->group[i];
        if (a < 0 || fusion->kind[a] != GROUP_ROW || !small_rows(fusion, a)) continue;
        for (int j = i + 1; j < fusion->count; j++) {
            int b = fusion->group[j];
            if (b < 0 || b == a || fusion->kind[b] != GROUP_ROW || level[i] != level[j] || !small_rows(fusion, b)) continue;
            if (row_symbol(node_of(fusion, i)) == row_symbol(node_of(fusion, j))) join(fusion, a, b);
        }
    }
}

// A row kernel that only reshapes would copy: where all its readers can reshape for themselves, they do.
static void dissolve_copies(Fusion *fusion) {
    for (int i = 0; i < fusion->count; i++) {
        const Node *node = node_of(fusion, i);
        if (fusion->group[i] < 0 || fusion->kind[fusion->group[i]] != GROUP_ROW || node->op != OP_RESHAPE) continue;
        if (fusion->ring[i] != i || !readers_can_reshape(fusion, node)) continue;
        fusion->group[i] = -1;
        fusion->rides[i] = true;
    }
}

// ---- results that nothing in the function makes ------------------------------------------------------------------------------------------

// A result must be made by a kernel of its own function, once: an input handed back, or a value returned twice, is copied.
static bool copy_results(Func *func, Diags *diags) {
    for (int r = 0; r < func->result_count; r++) {
        Value *value = func->results[r];
        bool copy = value->kind != VALUE_RESULT;
        for (int q = 0; q < r; q++) copy |= func->results[q] == value;
        if (!type_has_rows(&value->type)) {
            diag_error(diags, func->loc, "fuse: the result %%%s of '%s' does not depend on the tokens", value->name, func->name);
            return false;
        }
        if (!copy) continue;
        Attr shape = attr_sizes("shape", value->type.dims, value->type.rank);
        const char *name[] = {value->name};
        Node *node = func_node(func, OP_RESHAPE, &value, 1, &shape, 1, name, func->loc, diags);
        if (!node) return false;
        func->results[r] = node->results[0];
    }
    return true;
}

static bool lowered(const Func *func, Diags *diags) {
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        if (node->op != OP_ATTENTION && node->op != OP_MOE) continue;
        const char *name = op_info(node->op)->name;
        diag_error(diags, node->loc, "fuse: '%s' is not lowered; run pass '%s' first", name, name);
        return false;
    }
    return true;
}

static bool fused(const Func *func) {
    for (int i = 0; i < func->node_count; i++)
        if (!stays(func->nodes[i])) return false;
    return true;
}

static bool fuse_func(Func *func, const Fusion *all, bool join_ops, Diags *diags) {
    if (!lowered(func, diags) || !copy_results(func, diags)) return false;
    if (fused(func)) return true;
    Arena *scratch = arena_new();
    Fusion fusion = *all;
    fusion.func = func, fusion.arena = scratch, fusion.count = func->node_count, fusion.diags = diags;
    fusion.uses = uses_new(func, scratch);
    fusion.group = ARENA_ARRAY(scratch, int, fusion.count);
    fusion.rides = ARENA_ARRAY(scratch, bool, fusion.count);
    fusion.kind = ARENA_ARRAY(scratch, GroupKind, fusion.count);
    fusion.ring = ARENA_ARRAY(scratch, int, fusion.count);
    fusion.last = ARENA_ARRAY(scratch, int, fusion.count);
    for (int i = 0; i < fusion.count; i++) fusion.group[i] = -1;
    find_riders(&fusion);
    group_linears(&fusion, join_ops);
    group_anchors(&fusion);
    start_rows(&fusion);
    if (join_ops) {
        join_producers(&fusion);
        join_neighbours(&fusion);
    }
    dissolve_copies(&fusion);
    bool ok = outline(&fusion);
    arena_free(scratch);
    return ok;
}

// What the weights of each class are stored as.
static DType *find_stored(Bindings *bindings, const Module *module, Arena *arena) {
    DType *stored = ARENA_ARRAY(arena, DType, bindings_limit(bindings));
    for (int c = 0; c < bindings_limit(bindings); c++) stored[c] = DT_COUNT;
    for (int w = 0; w < module->weight_count; w++) stored[bindings_weight(bindings, module->weights[w])] = module->weights[w]->quantize_to;
    return stored;
}

bool pass_fuse(Module *module, const PassOptions *options, Diags *diags) {
    Module *workshop = module_new(module->arena, "workshop");
    Arena *scratch = arena_new();
    Bindings *bindings = bindings_new(module, scratch);
    const DType *stored = find_stored(bindings, module, scratch);
    const Fusion all = {.bindings = bindings, .stored = stored, .workshop = workshop};
    int count = module->func_count;
    bool done = true;
    for (int f = 0; f < count; f++)   // of kernels that are there already
        for (int p = 0; module->funcs[f]->kernel && p < module->funcs[f]->param_count; p++)
            module->funcs[f]->params[p]->stored = stored[bindings_class(bindings, module->funcs[f]->params[p])];
    for (int f = 0; f < count && done; f++) {
        Func *func = module->funcs[f];
        done = func->kernel || fuse_func(func, &all, !options->no_fusion, diags);
    }
    arena_free(scratch);
    return done && module_sort_funcs(module);
}
