// Runs what follows the last attention only on the rows whose output is asked for.
//
// Requires nothing; changes a causal model whose result has a row for each token: the result gets a row for each row asked for ([R, …]).
// The last norm and the head then cost what is asked for, not what a prompt is long. An encoder's result stays as it is.
// `keep_rows` goes where a value leaves the part of main that needs every token: whatever leads to attention, to a gather over a sequence, to
// positions. Blocks without any of these that are called behind it get a version for kept rows. What no result needs is dropped on the way.
#include "passes/passes.h"
#include "passes/rewrite.h"

bool pass_rows(Module *module, const PassOptions *options, Diags *diags);

typedef struct {
    Func *main;
    Arena *scratch;
    Diags *diags;
    Uses *uses;
    bool *needed, *tail;       // node → leads to the result; → can run on kept rows
    PtrMap kept;               // value with a row a token → its number in `by`
    Value **by; int by_count, by_capacity;
    PtrMap whole;              // blocks that need every token
    PtrMap blocks;             // block → its version for kept rows, a number in `versions`
    Func **versions; int version_count, version_capacity;
} Rows;

static bool is_rows(const Type *type) { return type_has_rows(type) && type->dims[0] == DIM_T; }

// ---- which models ------------------------------------------------------------------------------------------------------------------

static void count_attention(const Func *func, int *causal, int *other) {
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        if (node->op == OP_ATTENTION || node->op == OP_ATTEND) *(node_int(node, "causal") ? causal : other) += 1;
    }
}

static bool generates(const Module *module) {
    int causal = 0, other = 0;
    for (int f = 0; f < module->func_count; f++) count_attention(module->funcs[f], &causal, &other);
    const Func *main = module->main;
    return causal && !other && main->result_count == 1 && is_rows(&main->results[0]->type);
}

// ---- where ---------------------------------------------------------------------------------------------------------------------------

// Does this node need every token of the step, or the tokens' own order?
static bool needs_all(const Rows *rows, const Node *node) {
    if (op_is(node, STATE | SEQUENCE) || node->op == OP_MOE || node->op == OP_MOE_EXPERTS || node->op == OP_ROPE || node->op == OP_POSITIONS) return true;
    return node->op == OP_CALL && ptr_map_get(&rows->whole, node_attr(node, "block")->func) >= 0;
}

static void find_whole_blocks(Rows *rows, const Module *module) {
    for (int f = 0; f < module->func_count; f++)   // callees come before callers
        for (int i = 0; i < module->funcs[f]->node_count; i++)
            if (needs_all(rows, module->funcs[f]->nodes[i])) ptr_map_set(&rows->whole, module->funcs[f], 1);
}

static void mark(Rows *rows, const Node *node, bool *set) {
    for (int k = 0; k < node->operand_count; k++) {
        int producer = uses_producer(rows->uses, node->operands[k]);
        if (producer >= 0) set[producer] = true;
    }
}

static void find_tail(Rows *rows) {
    const Func *main = rows->main;
    bool *bound = ARENA_ARRAY(rows->scratch, bool, main->node_count);
    int result = uses_producer(rows->uses, main->results[0]);
    if (result >= 0) rows->needed[result] = true;
    for (int i = main->node_count - 1; i >= 0; i--) {
        bound[i] |= needs_all(rows, main->nodes[i]);
        if (rows->needed[i]) mark(rows, main->nodes[i], rows->needed);
        if (rows->needed[i] && bound[i]) mark(rows, main->nodes[i], bound);
        bool per_token = false;
        for (int r = 0; r < main->nodes[i]->result_count; r++) per_token |= type_has_rows(&main->nodes[i]->results[r]->type);
        rows->tail[i] = rows->needed[i] && !bound[i] && per_token;
    }
}

// ---- rewriting -------------------------------------------------------------------------------------------------------------------------

static void replace_with(Rows *rows, const Value *old, Value *by) {
    ptr_map_set(&rows->kept, old, rows->by_count);
    ARENA_PUSH(rows->scratch, rows->by, rows->by_count, rows->by_capacity) = by;
}

// The value with a row for each row asked for.
static Value *kept_value(Rows *rows, Value *value) {
    if (!value || !is_rows(&value->type)) return value;
    int known = ptr_map_get(&rows->kept, value);
    if (known >= 0) return rows->by[known];
    const char *name[] = {"kept"};
    Loc loc = value->node ? value->node->loc : rows->main->loc;
    Node *keep = func_node(rows->main, OP_KEEP_ROWS, &value, 1, NULL, 0, name, loc, rows->diags);
    if (!keep) return NULL;
    replace_with(rows, value, keep->results[0]);
    return keep->results[0];
}

static Func *kept_block(Rows *rows, Func *block);

// Copies a node into `func` over kept rows; operands without a counterpart are looked up by `kept_value` in main.
static bool retype_node(Rows *rows, Func *func, const Node *old) {
    Value **operands = ARENA_ARRAY(rows->scratch, Value *, old->operand_count);
    Attr *attrs = arena_copy(rows->scratch, old->attrs, sizeof *attrs * (size_t)(old->attr_count ? old->attr_count : 1));
    for (int k = 0; k < old->operand_count; k++) {
        int known = ptr_map_get(&rows->kept, old->operands[k]);
        operands[k] = known >= 0 ? rows->by[known] : func == rows->main ? kept_value(rows, old->operands[k]) : old->operands[k];
        if (old->operands[k] && !operands[k]) return false;
    }
    for (int a = 0; a < old->attr_count; a++) {
        if (attrs[a].kind == 's' && attrs[a].size_count && attrs[a].sizes[0] == DIM_T) attrs[a].sizes[0] = DIM_R;
        if (attrs[a].kind == 'g' && !(attrs[a].func = kept_block(rows, attrs[a].func))) return false;
    }
    Node *node = func_node(func, old->op, operands, old->operand_count, attrs, old->attr_count, NULL, old->loc, rows->diags);
    if (!node) return false;
    node->label = old->label;
    for (int r = 0; r < node->result_count; r++) {
        node->results[r]->name = old->results[r]->name;
        node->results[r]->user_name = old->results[r]->user_name;
        replace_with(rows, old->results[r], node->results[r]);
    }
    return true;
}

static Func *copy_block(Rows *rows, Func *block) {
    Func *copy = func_new(block->module, block->name);
    copy->kernel = block->kernel;
    copy->loc = block->loc;
    for (int i = 0; i < block->input_count; i++) {
        Type type = block->inputs[i]->type;
        if (is_rows(&type)) type.dims[0] = DIM_R;
        replace_with(rows, block->inputs[i], func_input(copy, block->inputs[i]->name, type));
    }
    for (int i = 0; i < block->param_count; i++)
        replace_with(rows, block->params[i], func_param(copy, block->params[i]->name, block->params[i]->type, block->params[i]->count));
    for (int i = 0; i < block->node_count; i++)
        if (!retype_node(rows, copy, block->nodes[i])) return NULL;
    Value **results = ARENA_ARRAY(rows->scratch, Value *, block->result_count);
    for (int r = 0; r < block->result_count; r++) results[r] = rows->by[ptr_map_get(&rows->kept, block->results[r])];
    func_return(copy, results, block->result_count);
    return copy;
}

// A block's version for kept rows; one, however often it is called.
static Func *kept_block(Rows *rows, Func *block) {
    int known = ptr_map_get(&rows->blocks, block);
    if (known >= 0) return rows->versions[known];
    Func *copy = copy_block(rows, block);
    if (!copy) return NULL;
    ptr_map_set(&rows->blocks, block, rows->version_count);
    ARENA_PUSH(rows->scratch, rows->versions, rows->version_count, rows->version_capacity) = copy;
    return copy;
}

static bool rewrite(Rows *rows) {
    Func *main = rows->main;
    int count = main->node_count;
    for (int i = 0; i < count; i++) {   // what needs every token first, in its order; the rest behind it
        Node *node = main->nodes[i];
        if (rows->needed[i] && !rows->tail[i]) ARENA_PUSH(main->module->arena, main->nodes, main->node_count, main->node_capacity) = node;
    }
    for (int i = 0; i < count; i++)
        if (rows->tail[i] && !retype_node(rows, main, main->nodes[i])) return false;
    main->results[0] = kept_value(rows, main->results[0]);
    if (!main->results[0]) return false;
    main->node_count -= count;
    for (int i = 0; i < main->node_count; i++) main->nodes[i] = main->nodes[i + count];
    return true;
}

bool pass_rows(Module *module, const PassOptions *options, Diags *diags) {
    (void)options;
    if (!generates(module)) return true;
    Arena *scratch = arena_new();
    Rows rows = {.main = module->main, .scratch = scratch, .diags = diags, .kept = {.arena = scratch}, .whole = {.arena = scratch}, .blocks = {.arena = scratch}};
    rows.uses = uses_new(module->main, scratch);
    rows.needed = ARENA_ARRAY(scratch, bool, module->main->node_count);
    rows.tail = ARENA_ARRAY(scratch, bool, module->main->node_count);
    find_whole_blocks(&rows, module);
    find_tail(&rows);
    bool ok = rewrite(&rows) && module_sort_funcs(module);
    arena_free(scratch);
    return ok;
}
