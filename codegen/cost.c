// What each kernel must read, write and compute, from its graph: the least that the work needs, however a schedule does it. `--bench --kernels` holds
// the measured time against it. Products are counted by their builder; here is what is around them. An elementwise op counts one operation an
// element, a reduction one for each element that it reads. Attention's share depends on how many positions a row sees, so it is given for one.
#include "codegen/plan.h"

static double row_elements(const Value *v) { return (double)type_row_elements(&v->type); }

// Rows move through every function alike; a cache's bytes are counted by the position, a parameter's by the call.
static bool is_rows(const Value *v) { return v->type.dtype != DT_CACHE && v->type.rank && v->type.dims[0] < 0; }

static double node_operations(const Node *node) {
    unsigned flags = op_info(node->op)->flags;
    bool product = node->op == OP_LINEAR || node->op == OP_LINEAR_I8 || node->op == OP_LINEAR_BF16 || node->op == OP_LINEAR_ROWS || node->op == OP_ATTEND;
    double most = 0;
    if (product || !(flags & (ELEMENTWISE | ROWWISE))) return 0;      // the rest moves rows and computes nothing
    for (int i = 0; i < node->result_count; i++)
        if (is_rows(node->results[i]) && row_elements(node->results[i]) > most) most = row_elements(node->results[i]);
    if (flags & ELEMENTWISE) return most;
    for (int i = 0; i < node->operand_count; i++)
        if (node->operands[i] && is_rows(node->operands[i]) && row_elements(node->operands[i]) > most) most = row_elements(node->operands[i]);
    return most;
}

static void attend_cost(const Node *node, KernelCost *cost) {
    const Type *queries = &node->operands[0]->type, *cache = &node->operands[1]->type;
    int64_t window = node_int(node, "window");
    cost->cache_bytes = (double)cache_bytes(cache) / KV_PAGE;
    cost->cache_operations = 2.0 * (double)queries->dims[1] * (double)(cache->dims[1] + cache->dims[2]);
    cost->window = window > 0 && window < INT32_MAX ? (int)window : 0;
}

// A row gathered from a table of panels.
static double gathered_bytes(const Kernel *k) {
    double bytes = 0;
    PanelLayout layout;
    for (int p = 0; p < k->func->param_count; p++)
        if (k->rows_read[p] && kernel_panel(k, p, &layout) && layout.outputs > 0)
            bytes += (double)layout.bytes / (double)(layout.outputs * (layout.heads > 0 ? layout.heads : 1));
    return bytes;
}

static KernelCost kernel_cost(const FuncPlan *f) {
    const Func *func = f->func;
    KernelCost cost = {.operations = f->kernel->operations, .row_bytes = gathered_bytes(f->kernel)};
    for (int i = 0; i < func->input_count; i++)
        if (is_rows(func->inputs[i])) cost.row_bytes += (double)row_bytes(&func->inputs[i]->type);
    for (int i = 0; i < func->result_count; i++)
        if (is_rows(func->results[i])) cost.row_bytes += (double)row_bytes(&func->results[i]->type);
    for (int n = 0; n < func->node_count; n++) {
        const Node *node = func->nodes[n];
        cost.operations += node_operations(node);
        if (node->op == OP_ATTEND) attend_cost(node, &cost);
        for (int r = 0; r < node->result_count; r++)
            if (node->op == OP_CACHE_WRITE) cost.row_bytes += (double)cache_bytes(&node->results[r]->type) / KV_PAGE;
    }
    return cost;
}

// What runs for experts, down from the call that chooses them.
static void mark_experts(Plan *plan, const Func *func, int experts, int chosen) {
    for (int n = 0; n < func->node_count; n++) {
        const Node *node = func->nodes[n];
        if (node->op != OP_CALL && node->op != OP_MOE_EXPERTS) continue;
        FuncPlan *callee = plan_func(plan, node_attr(node, "block")->func);
        int of = experts, slots = chosen;
        if (node->op == OP_MOE_EXPERTS) {
            const Type *choice = &node->operands[0]->type;
            of = (int)node_int(node, "count");
            slots = (int)choice->dims[choice->rank - 1];
        }
        if (of > callee->experts) callee->experts = of;   // several mixtures may run one function
        callee->experts_chosen = slots;
        if (!callee->kernel) mark_experts(plan, callee->func, of, slots);
    }
}

void plan_costs(Plan *plan) {
    for (int i = 0; i < plan->module->func_count; i++)
        if (plan->funcs[i].kernel) plan->funcs[i].cost = kernel_cost(&plan->funcs[i]);
    mark_experts(plan, plan->module->main, 0, 0);
}
