// A guess at the next layer's experts, for a program that must read them from a file. Before a layer's experts run, the router of the next layer is run on
// what the residual stream is by then: this layer's experts and the next one's attention are left out of it. What it chooses is a hint and no more: reads
// begin while this layer computes, and no bit of the step depends on it.
//
// The guess of a block is a function of its own, made of the kernels that lead from the residual to the choice. The residual is found by what it is for:
// the block's result is made from it, and the choice as well. A block in which there is no such value, or whose choice needs anything else, has no guess.
#include "codegen/plan.h"
#include "codegen/values.h"

static const Node *only_experts(const Func *f) {
    const Node *found = NULL;
    for (int n = 0; n < f->node_count; n++)
        if (f->nodes[n]->op == OP_MOE_EXPERTS) {
            if (found) return NULL;
            found = f->nodes[n];
        }
    return found;
}

typedef struct { const Node **nodes; int count; } Seen;

// Looks at each node once: there are very many ways through a block of several layers.
static bool leads_to(const Value *from, const Value *to, Seen *seen) {
    if (from == to) return true;
    if (!to || to->kind != VALUE_RESULT) return false;
    for (int i = 0; i < seen->count; i++)
        if (seen->nodes[i] == to->node) return false;
    seen->nodes[seen->count++] = to->node;
    for (int o = 0; o < to->node->operand_count; o++)
        if (leads_to(from, to->node->operands[o], seen)) return true;
    return false;
}

// The nodes between, each after what it needs; false: something else is needed, or one is no plain kernel.
static bool collect(const Plan *plan, FuncPlan *f, const Value *to) {
    if (to == f->guess_from) return true;
    if (!to || to->kind != VALUE_RESULT || to->node->op != OP_CALL) return false;
    for (int i = 0; i < f->guess_count; i++)
        if (f->guess_nodes[i] == to->node) return true;
    const FuncPlan *callee = plan_func(plan, node_attr(to->node, "block")->func);
    if (!callee->kernel || callee->kernel->after || callee->cache_bytes) return false;
    for (int o = 0; o < callee->func->input_count; o++)
        if (to->node->operands[o]->type.dtype == DT_CACHE || !collect(plan, f, to->node->operands[o])) return false;
    f->guess_nodes[f->guess_count++] = to->node;
    return true;
}

static uint64_t place_of(const FuncPlan *f, const Value *v, uint64_t *end) {
    uint64_t at = 0;
    for (int i = 0; i < f->guess_count; i++)
        for (int r = 0; r < f->guess_nodes[i]->result_count; r++) {
            const Value *made = f->guess_nodes[i]->results[r];
            if (made == v) return at;
            at = (uint64_t)round_up((int64_t)(at + GUESS_ROWS * row_bytes(&made->type) + 64), 64);
        }
    if (end) *end = at;
    return at;
}

void plan_guesses(Plan *plan) {
    for (int i = 0; i < plan->module->func_count; i++) {
        FuncPlan *f = &plan->funcs[i];
        const Node *moe = only_experts(f->func);
        const Value *out = f->func->result_count ? f->func->results[0] : NULL, *e = moe ? moe->operands[0] : NULL;
        if (!moe || f->func == plan->module->main || !f->func->input_count || !out || out->kind != VALUE_RESULT) continue;
        for (int o = 0; o < out->node->operand_count && !f->guess_from; o++) {
            const Value *v = out->node->operands[o];
            Seen seen = {ARENA_ARRAY(plan->arena, const Node *, f->func->node_count), 0};
            if (!v || v->kind != VALUE_RESULT || !type_equal(&v->type, &f->func->inputs[0]->type) || !leads_to(v, e, &seen)) continue;
            f->guess_nodes = ARENA_ARRAY(plan->arena, const Node *, f->func->node_count);
            f->guess_from = v;
            if (collect(plan, f, e)) continue;
            f->guess_from = NULL;
            f->guess_count = 0;
        }
        uint64_t end = 0;
        if (f->guess_from) place_of(f, NULL, &end);
        if (end > plan->guess_bytes) plan->guess_bytes = end;
    }
}

static void print_values(const Plan *plan, const FuncPlan *f, Value *const *values, int count, Text *out) {
    for (int i = 0; i < count; i++)
        if (values[i] == f->guess_from) text_puts(out, i ? ", x" : "x");
        else text_printf(out, "%ss->arena + %llu", i ? ", " : "", (unsigned long long)(plan->guess_offset + place_of(f, values[i], NULL)));
}

void guess_print(const Plan *plan, const FuncPlan *f, Text *out) {
    const Node *moe = only_experts(f->func);
    const Value *e = moe->operands[0];
    const Func *expert = node_attr(moe, "block")->func;
    int experts = (int)node_int(moe, "count"), params = 0;
    text_printf(out, "// %s: what its router would choose for x\nTN_NOINLINE void %s_guess(const tn_step *s, tn_worker *w, const tn_u8 *x, const tn_u64 *p) {\n", f->name, f->name);
    for (int i = 0; i < f->guess_count; i++) {
        const Node *node = f->guess_nodes[i];
        const FuncPlan *callee = plan_func(plan, node_attr(node, "block")->func);
        text_puts(out, "    {\n        const tn_args a = {.step = s, .position = s->position, .sequence = s->sequence, .rows = s->tokens, .in = {");
        print_values(plan, f, node->operands, callee->func->input_count, out);
        text_puts(out, "}, .out = {");
        print_values(plan, f, node->results, node->result_count, out);
        text_puts(out, "}");
        for (int p = 0; p < callee->func->param_count; p++)
            text_printf(out, "%ss->weights + p[%d]", p ? ", " : ", .w = {", param_slot(f->func, node->operands[callee->func->input_count + p]->index));
        if (callee->func->param_count) text_puts(out, "}");
        text_printf(out, "};\n        tn_launch(w, %d, %s, &a, tn_alike(%s));\n    }\n    tn_barrier(w);\n", callee->id, callee->entry, callee->tasks);
    }
    text_puts(out, "    if (!w->index) s->guess(s, (const tn_u64 *const[]){");
    for (int p = 0; p < expert->param_count; p++)
        if (moe->operands[node_params(moe) + p]->count > 0) text_printf(out, "p + %d, ", param_slot(f->func, moe->operands[node_params(moe) + p]->index)), params++;
    text_printf(out, "0}, %d, %d, (const int *)(s->arena + %llu), s->tokens * %lld);\n}\n\n", params, experts, (unsigned long long)(plan->guess_offset + place_of(f, e, NULL)),
                (long long)e->type.dims[e->type.rank - 1]);
}

// The call of main behind this one whose block has a guess, or NULL; `row`: its place among main's calls of that block.
static const FuncPlan *next_guess(const Plan *plan, const Node *node, int *row) {
    const Func *main = plan->module->main;
    int at = 0;
    while (at < main->node_count && main->nodes[at] != node) at++;
    for (int n = at + 1; n < main->node_count; n++) {
        const FuncPlan *callee = main->nodes[n]->op == OP_CALL ? plan_func(plan, node_attr(main->nodes[n], "block")->func) : NULL;
        if (!callee || !callee->guess_from) continue;
        *row = 0;
        for (int i = 0; i < n; i++) *row += main->nodes[i]->op == OP_CALL && node_attr(main->nodes[i], "block")->func == callee->func;
        return callee;
    }
    return NULL;
}

// The argument `next` of a block that main calls.
void guess_print_next(const Plan *plan, const Node *node, Text *out) {
    int row;
    const FuncPlan *next = next_guess(plan, node, &row);
    if (next) text_printf(out, "&(const tn_next){%s_guess, %s_weights[%d]}", next->name, next->name, row);
    else text_puts(out, "0");
}
