// Lowers `moe` to `moe_experts` and `moe_combine`.
//
// Requires nothing. Afterwards no `moe` is left, and an expert's function looks at one token at a time, so that the tokens of a step can be
// sorted by expert and run together; the weighted sum runs over a token's slots in order, whatever the order the experts ran in.
// What an expert's function makes of its input alone, without its weights, is the same for all experts (int8 codes of x, above all): the caller makes
// it once a token, and the function takes it as an input.
// An expert's function runs in that way alone and calls nothing: one that is called as well (a shared expert of the same shape), or calls other
// blocks, is copied, with what it calls in place.
#include "passes/passes.h"
#include "passes/rewrite.h"

bool pass_moe(Module *module, const PassOptions *options, Diags *diags);

static bool expert_is_local(const Node *node, const Func *expert, Diags *diags) {
    if (!func_has(expert, STATE | SEQUENCE)) return true;
    for (int i = 0; i < expert->node_count; i++) {
        const Node *inner = expert->nodes[i];
        bool called = node_calls(inner) && func_has(node_attr(inner, "block")->func, STATE | SEQUENCE);
        if (!called && !op_is(inner, STATE | SEQUENCE)) continue;
        diag_error(diags, node->loc, "moe: expert '%s' looks at other tokens through '%s'", expert->name, op_info(inner->op)->name);
        diag(diags, DIAG_NOTE, inner->loc, "here; an expert sees the rows that were routed to it, one at a time");
        return false;
    }
    return true;
}

// A function that runs as expert, and what callers do for it: `before`, nodes that were its own, on what it took; then it takes the values `taken`
// (of those nodes, or its former input).
typedef struct { Func *func; Value *x; Node **before; Value **taken; int before_count, taken_count; } Expert;
typedef struct { Arena *arena; PtrMap known; Expert *experts; int count, capacity; Diags *diags; } Lowering;

static bool is_called(const Func *func) {
    const Module *module = func->module;
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            if (node->op == OP_CALL && node_attr(node, "block")->func == func) return true;
        }
    return false;
}

static bool has_calls(const Func *func) {
    for (int i = 0; i < func->node_count; i++)
        if (func->nodes[i]->op == OP_CALL) return true;
    return false;
}

// ---- what is the same for all experts --------------------------------------------------------------------------------------------------

// Does the node read nothing but what is in `common`, or constants?
static bool is_common(const Node *node, const PtrMap *common) {
    bool any = false;
    if (op_is(node, CALL | STATE | SEQUENCE)) return false;
    for (int k = 0; k < node->operand_count; k++) {
        const Value *operand = node->operands[k];
        bool known = operand && ptr_map_get(common, operand) >= 0;
        double number;
        if (operand && !known && !const_scalar(operand, &number)) return false;
        any |= known;
    }
    return any;
}

static void take(Expert *expert, Value *value, Arena *arena) {
    Value **longer = ARENA_ARRAY(arena, Value *, expert->taken_count + 1);
    for (int i = 0; i < expert->taken_count; i++) longer[i] = expert->taken[i];
    longer[expert->taken_count++] = value;
    expert->taken = longer;
}

// The nodes that callers run, with the constants that they read; they leave the function, which takes those of their results that it still reads.
static void move_out(Expert *expert, Arena *arena) {
    Func *func = expert->func;
    PtrMap common = {.arena = arena}, moved = {.arena = arena};
    expert->x = func->inputs[0];
    expert->before = ARENA_ARRAY(arena, Node *, func->node_count);
    ptr_map_set(&common, expert->x, 1);
    for (int i = 0; i < func->node_count; i++) {
        Node *node = func->nodes[i];
        if (!is_common(node, &common)) continue;
        for (int k = 0; k < node->operand_count; k++) {
            double number;
            Value *operand = node->operands[k];
            if (!const_scalar(operand, &number) || ptr_map_get(&moved, operand->node) >= 0) continue;
            expert->before[expert->before_count++] = operand->node;
            ptr_map_set(&moved, operand->node, 0);
        }
        expert->before[expert->before_count++] = node;
        ptr_map_set(&moved, node, 1);
        for (int r = 0; r < node->result_count; r++) ptr_map_set(&common, node->results[r], 1);
    }
    for (int i = 0; i < expert->before_count; i++)
        if (ptr_map_get(&moved, expert->before[i]) == 1) func_remove(func, expert->before[i]);
    int uses, returns;
    func_uses(func, expert->x, &uses, &returns);
    func->input_count = 0;
    for (int i = 0; i < expert->before_count; i++)
        for (int r = 0; r < expert->before[i]->result_count; r++) {
            Value *value = expert->before[i]->results[r];
            int own, given;
            func_uses(func, value, &own, &given);
            if ((!own && !given) || expert->before[i]->op == OP_CONST) continue;
            if (!func->input_count && (uses || returns)) take(expert, expert->x, arena), func->input_count = 1;
            Value *input = func_input(func, value->name, value->type);
            input->name = value->name;   // which has left
            input->user_name = value->user_name;
            func_replace_uses(func, value, input);
            take(expert, value, arena);
        }
    if (!func->input_count) take(expert, expert->x, arena), func->input_count = 1;
}

// The node as it stands before number `at`, or one like it that is there already.
static Node *find_or_insert(Func *func, int *at, const Node *like, Value *const *operands, Arena *arena, Diags *diags) {
    Node wanted = *like;
    wanted.operands = arena_copy(arena, operands, sizeof *operands * (size_t)like->operand_count);
    for (int i = 0; i < *at; i++)
        if (node_same(func->nodes[i], &wanted)) return func->nodes[i];
    const char **names = ARENA_ARRAY(arena, const char *, like->result_count);
    for (int r = 0; r < like->result_count; r++) names[r] = like->results[r]->user_name;
    return node_insert(func, (*at)++, like->op, operands, like->operand_count, like->attrs, like->attr_count, names, like->loc, diags);
}

// What a caller hands to the expert: `values` becomes one value for each of its inputs.
static bool run_before(const Lowering *lowering, const Expert *expert, Func *func, int *at, Value *x, Value **values) {
    PtrMap known = {.arena = lowering->arena};
    int most = 1, count = 1;
    for (int i = 0; i < expert->before_count; i++) most += expert->before[i]->result_count;
    Value **copies = ARENA_ARRAY(lowering->arena, Value *, most);
    copies[0] = x;
    ptr_map_set(&known, expert->x, 0);
    for (int i = 0; i < expert->before_count; i++) {
        const Node *like = expert->before[i];
        Value **operands = ARENA_ARRAY(lowering->arena, Value *, like->operand_count);
        for (int k = 0; k < like->operand_count; k++) operands[k] = like->operands[k] ? copies[ptr_map_get(&known, like->operands[k])] : NULL;
        Node *node = find_or_insert(func, at, like, operands, lowering->arena, lowering->diags);
        if (!node) return false;
        for (int r = 0; r < like->result_count; r++) {
            ptr_map_set(&known, like->results[r], count);
            copies[count++] = node->results[r];
        }
    }
    for (int i = 0; i < expert->taken_count; i++) values[i] = copies[ptr_map_get(&known, expert->taken[i])];
    return true;
}

// ---- lowering --------------------------------------------------------------------------------------------------------------------------

// The function that runs as this expert and as nothing else.
static const Expert *expert_alone(Lowering *lowering, Func *func) {
    int known = ptr_map_get(&lowering->known, func);
    if (known >= 0) return &lowering->experts[known];
    Expert expert = {.func = has_calls(func) || is_called(func) ? func_flat_copy(func, lowering->diags) : func};
    if (!expert.func) return NULL;
    move_out(&expert, lowering->arena);
    ptr_map_set(&lowering->known, func, lowering->count);
    ARENA_PUSH(lowering->arena, lowering->experts, lowering->count, lowering->capacity) = expert;
    return &lowering->experts[lowering->count - 1];
}

static bool lower(Lowering *lowering, Func *func, int at) {
    Diags *diags = lowering->diags;
    Node *node = func->nodes[at];
    Func *block = node_attr(node, "block")->func;
    const Expert *expert = expert_is_local(node, block, diags) ? expert_alone(lowering, block) : NULL;
    if (!expert) return false;
    int params = node_params(node), count = 1 + expert->taken_count + node->operand_count - params;
    Value **operands = ARENA_ARRAY(func->module->arena, Value *, count);
    operands[0] = node->operands[2];   // x w e params… to e inputs… params…
    if (!run_before(lowering, expert, func, &at, node->operands[0], operands + 1)) return false;
    for (int i = params; i < node->operand_count; i++) operands[1 + expert->taken_count + i - params] = node->operands[i];
    Attr attrs[] = {attr_func("block", expert->func), *node_attr(node, "count")};
    const char *names[] = {"slots", "rows"};
    Node *experts = node_insert(func, at, OP_MOE_EXPERTS, operands, count, attrs, COUNT_OF(attrs), names, node->loc, diags);
    if (!experts) return false;
    experts->label = node->label;
    const char *name[] = {node->results[0]->name};
    Value *all[] = {experts->results[0], experts->results[1], node->operands[1]};
    Node *combine = node_insert(func, at + 1, OP_MOE_COMBINE, all, COUNT_OF(all), NULL, 0, name, node->loc, diags);
    if (!combine) return false;
    combine->results[0]->name = node->results[0]->name;
    func_replace_uses(func, node->results[0], combine->results[0]);
    func_remove(func, node);
    return true;
}

bool pass_moe(Module *module, const PassOptions *options, Diags *diags) {
    (void)options;
    Lowering lowering = {.arena = arena_new(), .diags = diags};
    lowering.known.arena = lowering.arena;
    bool ok = true;
    for (int f = 0; f < module->func_count && ok; f++) {
        Func *func = module->funcs[f];
        for (int i = 0; i < func->node_count && ok; i++)
            if (func->nodes[i]->op == OP_MOE) ok = lower(&lowering, func, i);
    }
    arena_free(lowering.arena);
    return ok && module_sort_funcs(module);
}
