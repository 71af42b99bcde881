// Makes a kernel of each group of nodes and puts a call in its place.
//
// A kernel is a function of its own: what the group reads from outside becomes an input or a parameter, under the name it had; what others
// read of it becomes a result. A kernel equal to one that exists is that one. The values of the function keep their identity: only who makes
// them changes.
#include "passes/fuse.h"

#include <string.h>

typedef struct { Arena *arena; int count, capacity; Value **items; } Values;

typedef struct {
    Fusion *fusion;
    int group;
    Func *kernel;
    PtrMap copies;          // value of the function → its number in `copied`
    Values copied;
    Values inputs, params;  // of the function: what the call passes
    Values results;         // of the function: what the call makes
} Outline;

static void push(Values *values, Value *value) { ARENA_PUSH(values->arena, values->items, values->count, values->capacity) = value; }

static Node *node_at(const Fusion *fusion, int i) { return fusion->func->nodes[i]; }

// ---- the body ------------------------------------------------------------------------------------------------------------------------

static void remember(Outline *outline, const Value *old, Value *copy) {
    copy->user_name = old->user_name;
    copy->origin = old->origin;
    ptr_map_set(&outline->copies, old, outline->copied.count);
    push(&outline->copied, copy);
}

// The kernel's own value for one of the function's.
static Value *copy_value(Outline *outline, Value *old) {
    if (!old) return NULL;
    int id = ptr_map_get(&outline->copies, old);
    if (id >= 0) return outline->copied.items[id];
    bool weight = value_is_weight(old);
    Value *copy = weight ? func_param(outline->kernel, old->name, old->type, old->count) : func_input(outline->kernel, old->name, old->type);
    if (weight) copy->stored = outline->fusion->stored[bindings_class(outline->fusion->bindings, old)];
    push(weight ? &outline->params : &outline->inputs, old);
    remember(outline, old, copy);
    return copy;
}

static bool copy_node(Outline *outline, int i) {
    const Node *old = node_at(outline->fusion, i);
    Value **operands = ARENA_ARRAY(outline->fusion->arena, Value *, old->operand_count);
    const char **names = ARENA_ARRAY(outline->fusion->arena, const char *, old->result_count);
    bool rider = outline->fusion->rides[i] && old->op == OP_RESHAPE;   // of a reshape that rides too: one is enough
    for (int k = 0; k < old->operand_count; k++) {
        operands[k] = copy_value(outline, rider ? fusion_beneath(outline->fusion, old->operands[k]) : old->operands[k]);
        if (old->operands[k] && !operands[k]) return false;
    }
    for (int r = 0; r < old->result_count; r++) names[r] = old->results[r]->name;
    Node *node = func_node(outline->kernel, old->op, operands, old->operand_count, old->attrs, old->attr_count, names, old->loc, outline->fusion->diags);
    if (!node) return false;
    for (int r = 0; r < old->result_count; r++) remember(outline, old->results[r], node->results[r]);
    return true;
}

static bool read_outside(const Outline *outline, const Value *value) {
    const UseList *uses = uses_of(outline->fusion->uses, value);
    if (uses->returned) return true;
    for (int u = 0; u < uses->count; u++)
        if (outline->fusion->group[uses->items[u].node] != outline->group) return true;
    return false;
}

// The group's nodes and the riders they read, and those read.
static bool *find_body(const Outline *outline) {
    const Fusion *fusion = outline->fusion;
    bool *body = ARENA_ARRAY(fusion->arena, bool, fusion->count);
    for (int i = fusion->count - 1; i >= 0; i--) {
        body[i] |= fusion->group[i] == outline->group;
        for (int k = 0; body[i] && k < node_at(fusion, i)->operand_count; k++) {
            Value *operand = node_at(fusion, i)->operands[k];
            bool rider = fusion->rides[i] && node_at(fusion, i)->op == OP_RESHAPE;
            int producer = uses_producer(fusion->uses, rider ? fusion_beneath(fusion, operand) : operand);
            if (producer >= 0 && fusion->rides[producer]) body[producer] = true;
        }
    }
    return body;
}

static bool copy_group(Outline *outline) {
    const Fusion *fusion = outline->fusion;
    const bool *body = find_body(outline);
    for (int i = 0; i < fusion->count; i++) {
        if (!body[i]) continue;
        if (!copy_node(outline, i)) return false;
        for (int r = 0; r < node_at(fusion, i)->result_count && !fusion->rides[i]; r++)
            if (read_outside(outline, node_at(fusion, i)->results[r])) push(&outline->results, node_at(fusion, i)->results[r]);
    }
    Value **results = ARENA_ARRAY(fusion->arena, Value *, outline->results.count);
    for (int r = 0; r < outline->results.count; r++) results[r] = copy_value(outline, outline->results.items[r]);
    func_return(outline->kernel, results, outline->results.count);
    outline->kernel->kernel = true;
    return true;
}

// ---- names ---------------------------------------------------------------------------------------------------------------------------

enum { MOST_PARTS = 6 };

static bool part_seen(const char *const *parts, int count, const char *part) {
    for (int i = 0; i < count; i++)
        if (strcmp(parts[i], part) == 0) return true;
    return false;
}

// What the kernel does, in order: linear_silu_linear_mul. Others than linear kernels name each operation once, the first few and the last.
static const char *kernel_name(const Outline *outline) {
    const Func *kernel = outline->kernel;
    const char *parts[MOST_PARTS];
    int count = 0, worth_naming = 0;
    for (int i = 0; i < kernel->node_count; i++) worth_naming += !op_is(kernel->nodes[i], SHAPE) && kernel->nodes[i]->op != OP_CONST;
    bool brief = worth_naming > MOST_PARTS || outline->fusion->kind[outline->group] != GROUP_LINEAR;
    for (int i = 0; i < kernel->node_count; i++) {
        const Node *node = kernel->nodes[i];
        const char *part = op_info(node->op)->name;
        if (node->op == OP_CONST || (worth_naming && op_is(node, SHAPE)) || (brief && part_seen(parts, count, part))) continue;
        if (count == MOST_PARTS) count--;
        parts[count++] = part;
    }
    Text text = {0};
    for (int i = 0; i < count; i++) text_printf(&text, "%s%s", i ? "_" : "", parts[i]);
    if (count == 1 && strcmp(parts[0], "reshape") == 0) text.length = 0, text_puts(&text, "copy");
    const char *name = arena_strdup(outline->fusion->arena, text.data ? text.data : "kernel");
    text_free(&text);
    return name;
}

static bool func_named(const Module *module, const char *name) {
    for (int f = 0; f < module->func_count; f++)
        if (strcmp(module->funcs[f]->name, name) == 0) return true;
    return false;
}

static bool same_kernel(const Func *a, const Func *b) {
    if (!a->kernel || !func_structure_equal(a, b)) return false;
    for (int p = 0; p < a->param_count; p++)
        if (a->params[p]->stored != b->params[p]->stored) return false;
    return true;
}

// The module's kernel equal to the one just built, which otherwise moves out of the workshop.
static Func *adopt(Outline *outline) {
    Module *module = outline->fusion->func->module;
    for (int f = 0; f < module->func_count; f++)
        if (same_kernel(module->funcs[f], outline->kernel)) return module->funcs[f];
    const char *name = kernel_name(outline);
    if (func_named(module, name)) name = arena_printf(outline->fusion->arena, "%s_%s", outline->fusion->func->name, name);
    Func *kernel = func_new(module, name);
    name = kernel->name;
    *kernel = *outline->kernel;
    kernel->name = name;
    kernel->module = module;
    return kernel;
}

// ---- the call ------------------------------------------------------------------------------------------------------------------------

static int anchor_of(const Outline *outline) {
    const Fusion *fusion = outline->fusion;
    int first = -1, rowwise = -1;
    for (int i = 0; i < fusion->count; i++) {
        if (fusion->group[i] != outline->group) continue;
        const Node *node = node_at(fusion, i);
        if (node->op == OP_LINEAR || node->op == OP_LINEAR_I8 || node->op == OP_LINEAR_BF16 || node->op == OP_ATTEND || op_is(node, SEQUENCE)) return i;
        if (first < 0) first = i;
        if (rowwise < 0 && op_is(node, ROWWISE)) rowwise = i;
    }
    return rowwise >= 0 ? rowwise : first;
}

// The matrices a linear kernel multiplies with: "gate, up".
static const char *call_label(const Outline *outline) {
    const Fusion *fusion = outline->fusion;
    Text text = {0};
    for (int i = 0; i < fusion->count; i++) {
        if (fusion->group[i] != outline->group) continue;
        const Node *node = node_at(fusion, i);
        const Value *w = node->op == OP_LINEAR || node->op == OP_LINEAR_BF16 ? node->operands[1] : node->op == OP_LINEAR_I8 ? node->operands[3] : NULL;
        if (w) text_printf(&text, "%s%s", text.length ? ", " : "", w->user_name ? w->user_name : w->name);
    }
    const char *label = text.length ? arena_strdup(fusion->func->module->arena, text.data) : NULL;
    text_free(&text);
    return label;
}

static bool append_call(Outline *outline) {
    const Fusion *fusion = outline->fusion;
    if (!outline->results.count) return true;   // nobody reads it
    Func *kernel = adopt(outline);
    for (int p = 0; p < outline->params.count; p++) push(&outline->inputs, outline->params.items[p]);
    Attr block = attr_func("block", kernel);
    Loc loc = node_at(fusion, anchor_of(outline))->loc;
    Node *call = func_node(fusion->func, OP_CALL, outline->inputs.items, outline->inputs.count, &block, 1, NULL, loc, fusion->diags);
    if (!call) return false;
    call->label = call_label(outline);
    for (int r = 0; r < call->result_count; r++) {
        if (!type_equal(&call->results[r]->type, &outline->results.items[r]->type)) {
            diag_error(fusion->diags, loc, "internal error: fuse: kernel '%s' changes the type of %%%s", kernel->name, outline->results.items[r]->name);
            return false;
        }
        call->results[r] = outline->results.items[r];   // their `node` follows when all is done: it is still read
    }
    return true;
}

static bool outline_group(Fusion *fusion, int group) {
    Values none = {.arena = fusion->arena};
    Outline outline = {.fusion = fusion, .group = group, .copies = {.arena = fusion->arena}, .copied = none, .inputs = none, .params = none, .results = none};
    outline.kernel = func_new(fusion->workshop, "kernel");
    return copy_group(&outline) && append_call(&outline);
}

// A node that stays (a call of a block) must read values that exist outside kernels.
static bool keep_node(Fusion *fusion, int i) {
    Func *func = fusion->func;
    Node *node = func->nodes[i];
    for (int k = 0; k < node->operand_count; k++) {
        int producer = uses_producer(fusion->uses, node->operands[k]);
        bool input = node->op != OP_CALL || k < node_attr(node, "block")->func->input_count;
        bool weight = node->operands[k] && value_is_weight(node->operands[k]) && input && node->op == OP_CALL;
        if (!weight && (producer < 0 || !fusion->rides[producer])) continue;
        diag_error(fusion->diags, node->loc, "fuse: %%%s is given to a block but does not depend on the tokens", node->operands[k]->name);
        return false;
    }
    ARENA_PUSH(func->module->arena, func->nodes, func->node_count, func->node_capacity) = node;
    return true;
}

// ---- order ---------------------------------------------------------------------------------------------------------------------------

static bool operands_ready(const Fusion *fusion, int i, int group, const bool *done) {
    const Node *node = node_at(fusion, i);
    for (int k = 0; k < node->operand_count; k++) {
        int producer = uses_producer(fusion->uses, fusion_beneath(fusion, node->operands[k]));   // other riders read nothing that is made here
        bool ready = producer < 0 || done[producer] || fusion->rides[producer] || (group >= 0 && fusion->group[producer] == group);
        if (!ready) return false;
    }
    return true;
}

static bool item_ready(const Fusion *fusion, int i, const bool *done) {
    int group = fusion->group[i];
    if (group < 0) return operands_ready(fusion, i, group, done);
    for (int j = 0; j < fusion->count; j++)
        if (fusion->group[j] == group && !operands_ready(fusion, j, group, done)) return false;
    return true;
}

static int next_item(const Fusion *fusion, const bool *done) {
    for (int i = 0; i < fusion->count; i++)
        if (!done[i] && !fusion->rides[i] && item_ready(fusion, i, done)) return i;
    return -1;
}

bool outline(Fusion *fusion) {
    Func *func = fusion->func;
    bool *done = ARENA_ARRAY(fusion->arena, bool, fusion->count);
    int left = 0;
    for (int i = 0; i < fusion->count; i++) left += !fusion->rides[i];
    while (left) {
        int item = next_item(fusion, done);
        if (item < 0) return diag_error(fusion->diags, func->loc, "internal error: fuse: the groups of '%s' form a circle", func->name), false;
        int group = fusion->group[item];
        if (!(group < 0 ? keep_node(fusion, item) : outline_group(fusion, group))) return false;
        for (int i = 0; i < fusion->count; i++)
            if (i == item || (group >= 0 && fusion->group[i] == group)) done[i] = true, left--;
    }
    func->node_count -= fusion->count;   // the old nodes go, the calls behind them stay
    memmove(func->nodes, func->nodes + fusion->count, sizeof *func->nodes * (size_t)func->node_count);
    for (int i = 0; i < func->node_count; i++)
        for (int r = 0; r < func->nodes[i]->result_count; r++) {
            func->nodes[i]->results[r]->node = func->nodes[i];
            func->nodes[i]->results[r]->index = r;
        }
    return true;
}
