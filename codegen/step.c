// Level 3: a step as C. Every thread runs it; each kernel's tasks are divided among the team, and a barrier stands between kernels of which one
// needs what the other makes. A block is one function that is given where its inputs, results, weights and caches lie.
#include "codegen/plan.h"
#include "runtime/abi.h"
#include <string.h>

typedef struct {
    const Plan *plan;
    const FuncPlan *f;
    Text *out;
    const Value **caches; uint64_t *cache_at; int cache_count;   // where each cache value lies in the function's share of a page
    const Node **pending; int pending_count;                    // run since the last barrier
    int together, work;                                          // so many calls, from this one on, share their work; where that began
    int *table_rows;                                             // rows printed so far of each function's table of weights
} Step;

// ---- operands as C ---------------------------------------------------------------------------------------------------------------

static int result_of(const Func *f, const Value *v) {
    for (int i = 0; i < f->result_count; i++)
        if (f->results[i] == v) return i;
    return -1;
}

// Where a value lies. A group's rows start at its first, of the function's inputs at its own place there.
static void print_place(const Step *s, const Value *v, bool group) {
    int result = result_of(s->f->func, v);
    if (v->type.dtype == DT_CACHE) {
        text_puts(s->out, "0");
        return;
    }
    if (v->kind == VALUE_INPUT) text_printf(s->out, "in[%d]", v->index);
    else if (result >= 0) text_printf(s->out, "out[%d]", result);
    else text_printf(s->out, "frame + %lld", (long long)v->place);
    if (group) text_printf(s->out, " + (long)groups[g].%s * %llu", v->kind == VALUE_INPUT ? "x" : "first", (unsigned long long)row_bytes(&v->type));
}

// Where a weight lies in the blob: known in main, handed in elsewhere.
static void print_offset(const Step *s, const Value *v, int element) {
    if (v->kind == VALUE_WEIGHT) text_printf(s->out, "%lluULL", (unsigned long long)s->plan->offset[v->weights[element]->id]);
    else if (s->f->expert) text_printf(s->out, "p[%d][groups[g].expert]", v->index);
    else text_printf(s->out, "p[%d]", param_slot(s->f->func, v->index) + element);
}

static const char *rows_of(const Type *type) {
    return type->rank && type->dims[0] == DIM_S ? "s->sequences" : type->rank && type->dims[0] == DIM_R ? "s->rows" : "s->tokens";
}

static const char *kernel_rows(const Func *kernel) {
    for (int i = 0; i < kernel->result_count; i++)
        if (kernel->results[i]->type.dtype != DT_CACHE) return rows_of(&kernel->results[i]->type);
    return "s->tokens";
}

// ---- barriers --------------------------------------------------------------------------------------------------------------------

static bool frame_range(const Step *s, const Value *v, int64_t *from, int64_t *to) {
    if (!v || v->kind != VALUE_RESULT || v->place < 0) return false;
    const Module *m = s->plan->module;
    int64_t rows = v->type.rank && v->type.dims[0] < 0 ? (v->type.dims[0] == DIM_S ? m->max_sequences : v->type.dims[0] == DIM_R ? m->max_rows : m->max_tokens) : 1;
    *from = v->place;
    *to = v->place + rows * s->f->func->row_factor * (int64_t)row_bytes(&v->type);
    return true;
}

static bool touches(const Step *s, const Value *a, const Value *b) {
    int64_t a0, a1, b0, b1;
    if (!a || !b) return false;
    return a == b || (frame_range(s, a, &a0, &a1) && frame_range(s, b, &b0, &b1) && a0 < b1 && b0 < a1);
}

static bool depends(const Step *s, const Node *later, const Node *earlier) {
    for (int r = 0; r < earlier->result_count; r++) {
        for (int o = 0; o < later->operand_count; o++)
            if (touches(s, earlier->results[r], later->operands[o])) return true;
        for (int q = 0; q < later->result_count; q++)
            if (touches(s, earlier->results[r], later->results[q])) return true;
    }
    for (int q = 0; q < later->result_count; q++)
        for (int o = 0; o < earlier->operand_count; o++)
            if (touches(s, later->results[q], earlier->operands[o])) return true;
    return false;
}

static void barrier(Step *s) {
    if (s->pending_count) text_puts(s->out, "    tn_barrier(w);\n");
    s->pending_count = 0;
}

static void order(Step *s, const Node *node) {
    for (int i = 0; i < s->pending_count; i++)
        if (depends(s, node, s->pending[i])) {
            barrier(s);
            break;
        }
    s->pending[s->pending_count++] = node;
}

// ---- work side by side ---------------------------------------------------------------------------------------------------------------

// What a task of a kernel costs, as C over a.rows, in units of 64 bytes read: its panels, and what its rows multiply meanwhile (about 8 bytes' time a
// value of a row's k in int8, 24 in floats). Only shares depend on it. NULL: every task is alike, and nothing is known of others.
static const char *task_cost(const Step *s, const FuncPlan *f) {
    const ScheduleKey *key = &f->kernel->schedule_key;
    if (!key->shape) return NULL;
    long long panels = (key->outputs + PANEL_WIDTH - 1) / PANEL_WIDTH, bytes = (long long)f->kernel->weight_bytes / panels, row = key->products * key->k * (key->x_group < 0 ? 24 : 8);
    return arena_printf(s->plan->arena, "(%lldL + a.rows * %lldL / (a.rows ? %s : 1))", bytes / 64 + 1, row / 64 + 1, f->kernel->row_blocks);
}

// Products that wait for nothing of each other, such as those of q, k and v, divide the sum of their work, so that no thread gets the odd panel of each.
// `node` is the first since a barrier; s->together becomes how many calls belong together with it, counting others between them.
static void share_together(Step *s, int at) {
    const Func *f = s->f->func;
    int count = 0, last = at;
    s->together = 0;
    for (int i = at; i < f->node_count; i++) {
        const Node *node = f->nodes[i];
        const FuncPlan *callee = node->op == OP_CALL ? plan_func(s->plan, node_attr(node, "block")->func) : NULL;
        bool waits = !callee || !callee->kernel || callee->kernel->after;
        for (int before = at; before < i && !waits; before++) waits = depends(s, node, f->nodes[before]);
        if (waits) break;
        if (task_cost(s, callee)) count++, last = i;
    }
    if (count < 2) return;
    s->together = last + 1 - at;
    text_printf(s->out, "    long work_%d = 0, work_%d_done = 0;\n", at, at);
    for (int i = at; i <= last; i++) {
        const FuncPlan *callee = plan_func(s->plan, node_attr(f->nodes[i], "block")->func);
        if (task_cost(s, callee))
            text_printf(s->out, "    { const struct { int rows; } a = {%s}; work_%d += %s * %s; }\n", kernel_rows(callee->func), at, callee->tasks, task_cost(s, callee));
    }
    s->work = at;
}

// ---- calls ------------------------------------------------------------------------------------------------------------------------

static uint64_t cache_offset(const Step *s, const Value *v) {
    for (int i = 0; i < s->cache_count; i++)
        if (s->caches[i] == v) return s->cache_at[i];
    return 0;
}

static void print_arguments(Step *s, const Node *node, const FuncPlan *callee, uint64_t cache) {
    bool group = s->f->expert;
    if (s->f->expert) text_puts(s->out, "{.step = s, .position = position + groups[g].x, .sequence = sequence + groups[g].x, .rows = groups[g].rows");
    else text_printf(s->out, "{.step = s, .position = s->position, .sequence = s->sequence, .rows = %s", kernel_rows(callee->func));
    text_puts(s->out, ", .in = {");
    for (int i = 0; i < callee->func->input_count; i++) {
        if (i) text_puts(s->out, ", ");
        print_place(s, node->operands[i], group);
    }
    text_puts(s->out, "}, .out = {");
    for (int i = 0; i < node->result_count; i++) {
        if (i) text_puts(s->out, ", ");
        print_place(s, node->results[i], group);
    }
    text_puts(s->out, "}");
    for (int i = 0; i < callee->func->param_count; i++) {
        text_puts(s->out, i ? ", s->weights + " : ", .w = {s->weights + ");
        print_offset(s, node->operands[callee->func->input_count + i], 0);
    }
    if (callee->func->param_count) text_puts(s->out, "}");
    if (!s->f->expert) text_printf(s->out, ", .cache = cache + %lluULL", (unsigned long long)cache);
    if (node == s->plan->output) text_puts(s->out, ", .largest = s->largest");
    if (callee->kernel->after) text_printf(s->out, ", .partial = s->arena + %llu", (unsigned long long)s->plan->partial_offset);
    text_puts(s->out, "};\n");
}

// A kernel's tasks are divided by themselves, or with those of the kernels that it shares work with.
static void print_launch(const Step *s, const FuncPlan *callee) {
    const char *cost = s->together > 0 ? task_cost(s, callee) : NULL;
    if (!cost) {
        text_printf(s->out, "        tn_launch(w, %d, %s, &a, tn_alike(%s));\n", callee->id, callee->entry, callee->tasks);
        return;
    }
    text_printf(s->out, "        const tn_tasks tasks = {work_%d, work_%d_done, %s, %s};\n", s->work, s->work, callee->tasks, cost);
    text_printf(s->out, "        tn_launch(w, %d, %s, &a, tasks);\n        work_%d_done += tasks.n * tasks.each;\n", callee->id, callee->entry, s->work);
}

static void print_kernel_call(Step *s, const Node *node, int index, const FuncPlan *callee, uint64_t *cache_used) {
    uint64_t cache = *cache_used;
    for (int o = 0; o < callee->func->input_count; o++)
        if (node->operands[o]->type.dtype == DT_CACHE) cache = cache_offset(s, node->operands[o]);
    for (int r = 0; r < node->result_count; r++)
        if (node->results[r]->type.dtype == DT_CACHE) {
            s->caches[s->cache_count] = node->results[r];
            s->cache_at[s->cache_count++] = *cache_used;
            *cache_used += cache_bytes(&node->results[r]->type);
        }
    const Kernel *k = callee->kernel;
    for (int i = 0; i < s->pending_count && k->after; i++)   // there is one room for partial results
        if (plan_func(s->plan, node_attr(s->pending[i], "block")->func)->kernel->after) barrier(s);
    order(s, node);
    if (s->pending_count == 1 && !s->f->expert) share_together(s, index);
    text_printf(s->out, "    {   // %s\n", plan_describe(s->plan, callee, s->plan->arena));
    if (!s->f->expert) {
        text_puts(s->out, "        const tn_args a = ");
        print_arguments(s, node, callee, cache);
        print_launch(s, callee);
        s->together--;
        if (k->after)
            text_printf(s->out, "        const long after = %s;\n        if (after) {\n            tn_barrier(w);\n"
                                "            tn_launch(w, %d, %s, &a, tn_alike(after));\n        }\n", k->after->tasks, callee->id, k->after->name);
        text_puts(s->out, "    }\n");
        return;
    }
    // Every group's tasks are one list, divided by what they cost: an expert of few rows reads as many bytes as one of many. Lists lie on the stack.
    enum { MOST_CALLS = 256 };
    const char *cost = task_cost(s, callee) ? task_cost(s, callee) : "1";
    int most = callee->experts < MOST_CALLS ? callee->experts : MOST_CALLS;
    text_printf(s->out, "        tn_args calls[%d];\n        tn_part parts[%d] = {{0, 0}};\n        for (int g = from, n = 0; g < to; g++) {\n            const tn_args a = ", most, most + 1);
    print_arguments(s, node, callee, 0);
    text_printf(s->out, "            const long tasks = %s;\n            calls[n++] = a;\n            parts[n] = (tn_part){parts[n - 1].tasks + tasks, parts[n - 1].cost + tasks * %s};\n"
                        "            if (n < %d && g + 1 < to) continue;\n            tn_launch_list(w, %d, %s, calls, parts, n);\n            n = 0;\n        }\n    }\n",
                callee->tasks, cost, most, callee->id, callee->entry);
}

static void print_places(Step *s, Value *const *values, int count, const char *type) {
    text_printf(s->out, "(%s[]){", type);
    for (int i = 0; i < count; i++) {
        if (i) text_puts(s->out, ", ");
        print_place(s, values[i], false);
    }
    text_puts(s->out, count ? "}" : "0}");
}

static void print_block_call(Step *s, const Node *node, const FuncPlan *callee, uint64_t *cache_used) {
    barrier(s);
    text_printf(s->out, "    %s(s, w, frame + %lld, ", callee->name, (long long)(node->frame < 0 ? 0 : node->frame));
    print_places(s, node->operands, callee->func->input_count, "const tn_u8 *const");
    text_puts(s->out, ", ");
    print_places(s, node->results, node->result_count, "tn_u8 *const");
    if (s->f->func == s->plan->module->main && callee->slots) {
        int index = (int)(callee - s->plan->funcs);
        text_printf(s->out, ", %s_weights[%d]", callee->name, s->table_rows[index]++);
    } else {
        text_puts(s->out, ", (const tn_u64[]){");
        for (int p = 0; p < callee->func->param_count; p++) {
            const Value *v = node->operands[callee->func->input_count + p];
            for (int e = 0; e < (v->count > 0 ? v->count : 1); e++) {
                print_offset(s, v, e);
                text_puts(s->out, ", ");
            }
        }
        text_puts(s->out, "0}");
    }
    text_printf(s->out, ", cache + %lluULL, ", (unsigned long long)*cache_used);
    if (s->f->func == s->plan->module->main) guess_print_next(s->plan, node, s->out);
    else text_puts(s->out, "0");
    text_printf(s->out, ");%s", node->label ? "   // " : "");
    text_in_comment(node->label, s->out);
    text_puts(s->out, "\n");
    for (int r = 0; r < node->result_count; r++)
        if (node->results[r]->type.dtype == DT_CACHE) text_puts(s->out, "#error a cache cannot leave its block\n");
    *cache_used += callee->cache_bytes;
}

// Where an expert's weights lie: of each of its parameters, an offset an expert.
static void print_expert_weights(Step *s, const Node *node, const FuncPlan *callee, int count) {
    text_puts(s->out, "(const tn_u64 *const[]){");
    for (int p = 0; p < callee->func->param_count; p++) {
        const Value *v = node->operands[node_params(node) + p];
        if (v->kind == VALUE_PARAM && v->count > 0) {
            text_printf(s->out, "p + %d, ", param_slot(s->f->func, v->index));
            continue;
        }
        text_puts(s->out, "(const tn_u64[]){");
        for (int i = 0; i < count; i++) {
            if (i) text_puts(s->out, ", ");
            print_offset(s, v, v->count > 0 ? i : 0);
        }
        text_puts(s->out, "}, ");
    }
    text_puts(s->out, "0}");
}

// Every thread makes the list of groups for itself, out of the same choices, so that it knows them without waiting. Where no expert has more than
// one row, it finds it where it lies; else rows are put in order of expert.
static void print_experts(Step *s, const Node *node, const FuncPlan *callee) {
    const Value *e = node->operands[0];
    int slots = (int)e->type.dims[1], count = (int)node_int(node, "count"), inputs = callee->func->input_count;
    barrier(s);
    text_printf(s->out, "    {   // %d of %d experts a token\n        int scratch[%d], *const place = (int *)(", slots, count, 2 * count);
    print_place(s, node->results[1], false);
    text_printf(s->out, ");\n        tn_group groups[%d];\n        const int pairs = %s * %d;\n        long first, last;\n        tn_share(w, pairs, &first, &last);\n", count, rows_of(&e->type), slots);
    text_puts(s->out, "        const int group_count = tn_moe_groups(groups, place, scratch, (const int *)(");
    print_place(s, e, false);
    text_printf(s->out, "), pairs, %d, %d, first, last);\n        const int *position = s->position, *sequence = s->sequence;\n        const tn_u8 *x[] = {", slots, count);
    for (int i = 0; i < inputs; i++) {
        print_place(s, node->operands[1 + i], false);
        text_puts(s->out, i + 1 < inputs ? ", " : "};\n        if (group_count < pairs) {\n");
    }
    for (int i = 0; i < inputs; i++)
        text_printf(s->out, "            x[%d] = tn_moe_gather(s->arena + %llu, x[%d], place, %d, %llu, first, last);\n", i, (unsigned long long)gather_place(s->plan, node, i), i, slots,
                    (unsigned long long)row_bytes(&callee->func->inputs[i]->type));
    unsigned long long positions = gather_place(s->plan, node, inputs), sequences = positions + 4ull * (unsigned long long)s->plan->module->max_tokens * (unsigned long long)slots;
    text_printf(s->out, "            position = (const int *)tn_moe_gather(s->arena + %llu, (const tn_u8 *)position, place, %d, 4, first, last);\n", positions, slots);
    text_printf(s->out, "            sequence = (const int *)tn_moe_gather(s->arena + %llu, (const tn_u8 *)sequence, place, %d, 4, first, last);\n            tn_barrier(w);\n        }\n", sequences, slots);
    text_puts(s->out, "        const tn_u64 *const *const p_expert = ");
    print_expert_weights(s, node, callee, count);
    text_printf(s->out, ";\n        for (int from = 0, to; from < group_count; from = to) {\n            to = tn_paged(s, w, p_expert, %d, %d, groups, from, group_count);\n", callee->func->param_count, count);
    if (s->f->guess_from) {
        text_printf(s->out, "            if (next && s->guess && !from && s->tokens <= %d) next->guess(s, w, ", GUESS_ROWS);
        print_place(s, s->f->guess_from, false);
        text_puts(s->out, ", next->p);\n");
    }
    text_printf(s->out, "            %s(s, w, frame + %lld, x, (tn_u8 *const[]){", callee->name, (long long)node->frame);
    print_place(s, node->results[0], false);
    text_puts(s->out, "}, p_expert, groups, from, to, position, sequence);\n        }\n    }\n");
}

// ---- functions --------------------------------------------------------------------------------------------------------------------

static void print_function(Step *s) {
    const Func *f = s->f->func;
    text_printf(s->out, "// %s", s->f->name);
    for (int i = 0; i < f->param_count; i++) {
        text_printf(s->out, "%s p[%d]: ", i ? "," : ":", s->f->expert ? i : param_slot(f, i));
        text_in_comment(f->params[i]->name, s->out);
    }
    text_printf(s->out, "\nTN_NOINLINE void %s(const tn_step *s, tn_worker *w, tn_u8 *frame, const tn_u8 *const *in, tn_u8 *const *out, ", s->f->name);
    text_puts(s->out, s->f->expert ? "const tn_u64 *const *p, const tn_group *groups, int from, int to, const int *position, const int *sequence) {\n"
                                   : "const tn_u64 *p, tn_u64 cache, const tn_next *next) {\n");
    text_puts(s->out, s->f->expert ? "    (void)frame, (void)p;\n" : "    (void)frame, (void)p, (void)cache, (void)next;\n");
    uint64_t cache = 0;
    if (f == s->plan->module->main) angles_print_step(s->plan, s->out);
    for (int i = 0; i < f->node_count; i++) {
        const Node *node = f->nodes[i];
        const FuncPlan *callee = plan_func(s->plan, node_attr(node, "block")->func);
        if (node->op == OP_MOE_EXPERTS) print_experts(s, node, callee);
        else if (callee->kernel) print_kernel_call(s, node, i, callee, &cache);
        else print_block_call(s, node, callee, &cache);
    }
    barrier(s);
    text_puts(s->out, "}\n\n");
}

// The offsets that main hands to each block, a row a call.
static void print_weight_tables(Step *s) {
    const Func *main = s->plan->module->main;
    for (int i = 0; i < s->plan->module->func_count; i++) {
        const FuncPlan *callee = &s->plan->funcs[i];
        bool any = false;
        for (int n = 0; n < main->node_count; n++) {
            const Node *node = main->nodes[n];
            if (node->op != OP_CALL || node_attr(node, "block")->func != callee->func || callee->kernel || !callee->slots) continue;
            if (!any) text_printf(s->out, "static const tn_u64 %s_weights[][%d] = {\n", callee->name, callee->slots);
            any = true;
            text_puts(s->out, "    {");
            for (int p = 0; p < callee->func->param_count; p++) {
                const Value *v = node->operands[callee->func->input_count + p];
                for (int e = 0; e < (v->count > 0 ? v->count : 1); e++) text_printf(s->out, "%lluULL, ", (unsigned long long)s->plan->offset[v->weights[e]->id]);
            }
            text_printf(s->out, "},%s", node->label ? "   // " : "");
            text_in_comment(node->label, s->out);
            text_puts(s->out, "\n");
        }
        if (any) text_puts(s->out, "};\n");
    }
}

// The rows of the table that a model input's ids index: what they must be below.
static int64_t input_limit(const Plan *plan, const Func *f, const Value *input, int depth) {
    int64_t limit = INT32_MAX;
    for (int n = 0; n < f->node_count && depth < 16; n++) {
        const Node *node = f->nodes[n];
        for (int o = 0; o < node->operand_count; o++) {
            if (node->operands[o] != input) continue;
            int64_t own = INT32_MAX;
            if (node->op == OP_EMBEDDING && o == 0) own = node->operands[1]->type.dims[0];
            if (node->op == OP_CALL && o < node_attr(node, "block")->func->input_count) {
                const Func *callee = node_attr(node, "block")->func;
                own = input_limit(plan, callee, callee->inputs[o], depth + 1);
            }
            if (own < limit) limit = own;
        }
    }
    return limit;
}

static void print_kernel_info(const Step *s, const FuncPlan *f) {
    const Kernel *k = f->kernel;
    const KernelCost *cost = &f->cost;
    const char *rows = kernel_rows(f->func), *per = !strcmp(rows, "s->rows") ? "TN_PER_ROW" : !strcmp(rows, "s->sequences") ? "TN_PER_SEQUENCE" : "TN_PER_TOKEN";
    text_printf(s->out, "    {.name = \"%s\", .what = \"%s\", .weight_bytes = %.0f, .operations = %.0f, .row_bytes = %.0f", f->name, plan_describe(s->plan, f, s->plan->arena),
                k->weight_bytes, cost->operations, cost->row_bytes);
    if (k->arithmetic || k->operations > 0 || cost->cache_operations > 0) text_printf(s->out, ", .arithmetic = \"%s\"", k->arithmetic ? k->arithmetic : "f32");
    if (cost->cache_bytes > 0)
        text_printf(s->out, ", .cache_bytes = %.0f, .cache_operations = %.0f, .window = %d", cost->cache_bytes, cost->cache_operations, cost->window);
    if (f->experts) text_printf(s->out, ", .experts = %d, .slots = %d", f->experts, f->experts_chosen);
    text_printf(s->out, ", .calls = %d, .per = %s},\n", f->calls, per);
}

static void print_program(Step *s) {
    const Plan *plan = s->plan;
    const Module *m = plan->module;
    text_puts(s->out, "static const tn_kernel_info tn_kernels[] = {\n");
    for (int i = 0; i < m->func_count; i++) {
        const FuncPlan *f = &plan->funcs[i];
        if (f->kernel) print_kernel_info(s, f);
    }
    text_puts(s->out, "    {0},\n};\nstatic void tn_step_run(const tn_step *s, tn_worker *w) {\n    const tn_u8 *in[] = {");
    for (int i = 0; i < m->main->input_count; i++) text_printf(s->out, "(const tn_u8 *)s->inputs[%d], ", i);
    text_puts(s->out, "0};\n    tn_u8 *out[] = {(tn_u8 *)s->out};\n");
    text_printf(s->out, "    %s(s, w, s->arena, in, out, 0, 0, 0);\n}\n", plan_func(plan, m->main)->name);
    places_print(plan, s->out);
    program_print(plan, plan->target->name, arena_printf(plan->arena, ".kernel_count = %d, .kernels = tn_kernels, .run = tn_step_run, .needs = tn_needs,\n"
                  "    .probe_count = sizeof tn_probes / sizeof *tn_probes, .probes = tn_probes%s", plan->kernel_count,
                  plan->piece_count ? ",\n    .piece_count = sizeof tn_pieces / sizeof *tn_pieces, .pieces = tn_pieces" : ""), s->out);
}

void program_print(const Plan *plan, const char *targets, const char *code, Text *out) {
    const Module *m = plan->module;
    const Type *result = &m->main->results[0]->type;
    text_puts(out, "static const char *const tn_input_names[] = {");
    for (int i = 0; i < plan->input_count; i++) text_printf(out, "\"%s\", ", plan->input_names[i]);
    text_puts(out, "0};\nstatic const int tn_input_limits[] = {");
    for (int i = 0; i < m->main->input_count; i++) text_printf(out, "%lld, ", (long long)input_limit(plan, m->main, m->main->inputs[i], 0));
    text_puts(out, "0};\nstatic const int tn_input_defaults[] = {");
    for (int i = 0; i < m->main->input_count; i++) text_printf(out, "%lld, ", plan->input_defaults && i < plan->input_count ? (long long)plan->input_defaults[i] : 0);
    text_puts(out, "0};\n");
    const char *kind = result->dims[0] == DIM_S ? "TN_PER_SEQUENCE" : result->dims[0] == DIM_R ? "TN_PER_ROW" : "TN_PER_TOKEN";
    Text name = {0};
    for (const char *c = m->name ? m->name : "model"; *c; c++)
        if (*c == '"' || *c == '\\') text_printf(&name, "\\%c", *c);
        else if ((unsigned char)*c >= 32) text_add(&name, c, 1);
    text_printf(out,
                "#ifndef TN_MODEL\n#define TN_MODEL tn_model\n__attribute__((visibility(\"default\")))\n#else   // one of several targets\n__attribute__((visibility(\"hidden\")))\n#endif\n"
                "const tn_program TN_MODEL = {\n    .abi = TN_ABI, .model = \"%s\", .target = \"%s\", .compiler = \"tenon %s\", .blob_hash = TN_BLOB_HASH,\n"
                "    .weights_bytes = %lluULL, .arena_bytes = %lluULL, .page_bytes = %lluULL, .page_tokens = %d, .context = %lld,\n"
                "    .max_tokens = %d, .max_rows = %d, .max_sequences = %d, .input_count = %d, .input_names = tn_input_names, .input_limits = tn_input_limits, .input_defaults = tn_input_defaults,\n"
                "    .out_kind = %s, .out_width = %lld, .out_blocks = %lld, .causal = %d,\n    %s,\n};\n",
                name.data ? name.data : "model", targets, TENON_VERSION, (unsigned long long)plan->weights_bytes, (unsigned long long)plan->arena_bytes,
                (unsigned long long)plan->page_bytes, KV_PAGE, (long long)m->context, m->max_tokens, m->max_rows, m->max_sequences, m->main->input_count, kind,
                (long long)type_row_elements(result), plan->output ? (long long)(type_row_elements(result) + TN_BLOCK - 1) / TN_BLOCK : 0, plan->causal, code);
    text_free(&name);
}

void step_print(const Plan *plan, Text *out) {
    const Module *m = plan->module;
    Step s = {.plan = plan, .out = out, .table_rows = ARENA_ARRAY(plan->arena, int, m->func_count)};
    text_puts(out, "\n// ---- the step -----------------------------------------------------------------------------------------------------------\n\n");
    print_weight_tables(&s);
    for (int i = 0; i < m->func_count; i++) {
        s.f = &plan->funcs[i];
        if (s.f->kernel) continue;
        int n = s.f->func->node_count;
        s.caches = ARENA_ARRAY(plan->arena, const Value *, 4 * n + 4);
        s.cache_at = ARENA_ARRAY(plan->arena, uint64_t, 4 * n + 4);
        s.pending = ARENA_ARRAY(plan->arena, const Node *, n);
        s.cache_count = s.pending_count = 0;
        print_function(&s);
        if (s.f->guess_from) guess_print(plan, s.f, out);
    }
    print_program(&s);
}
