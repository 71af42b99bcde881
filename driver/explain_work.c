// What each kernel reads, writes and computes in one step of three kinds, from what the plan says of it (codegen/cost.c): the roofline's bytes and
// operations. Of experts, as many are read as tokens choose on average when they choose evenly.
#include "driver/explain.h"

#include <math.h>
#include <string.h>

void scenarios_init(Explain *e) {
    const Module *m = e->build->model->module;
    bool causal = module_causal(m);
    int context = m->context < 1 << 30 ? (int)m->context : 1 << 30, most = m->max_tokens < context ? m->max_tokens : context;
    int batch = m->max_sequences < 16 ? m->max_sequences : 16, prompt = most < 512 ? most : 512;
    if (batch > most) batch = most;
    int before = context > DECODE_CONTEXT ? DECODE_CONTEXT : context - 1;
    Arena *a = e->arena;
    if (causal) {
        e->scenarios[0] = (Scenario){"T = 1", arena_printf(a, "one sequence generates a token, after %d", before), 1, 1, 1, before + 1, false};
        e->scenarios[1] = (Scenario){arena_printf(a, "T = %d", batch), arena_printf(a, "%d sequences generate a token each, after %d", batch, before), batch,
                                     batch, batch, before + 1, false};
        e->scenarios[2] = (Scenario){arena_printf(a, "T = %d", prompt), arena_printf(a, "a prompt of %d tokens, output of the last one", prompt), prompt, 1, 1,
                                     prompt, true};
        return;
    }
    const int lengths[SCENARIOS] = {1, batch, prompt};
    for (int i = 0; i < SCENARIOS; i++)
        e->scenarios[i] = (Scenario){arena_printf(a, "T = %d", lengths[i]), arena_printf(a, "one text of %d token%s", lengths[i], lengths[i] == 1 ? "" : "s"),
                                     lengths[i], lengths[i], 1, lengths[i], true};
}

static double rows_of(const Scenario *s, const Func *func) {
    for (int i = 0; i < func->result_count; i++) {
        const Type *type = &func->results[i]->type;
        if (type->dtype != DT_CACHE && type->rank) return type->dims[0] == DIM_S ? s->sequences : type->dims[0] == DIM_R ? s->rows : s->tokens;
    }
    return s->tokens;
}

// Positions that a row sees, on average.
static double attended(const Explain *e, const Scenario *s, const FuncPlan *f) {
    double context = s->context;
    if (s->prompt && e->build->plan->causal) context = (context + 1) / 2;
    return f->cost.window > 0 && f->cost.window < context ? f->cost.window : context;
}

static Work kernel_work(const Explain *e, const Scenario *s, const FuncPlan *f) {
    double rows = rows_of(s, f->func), weights = f->kernel->weight_bytes;
    if (f->experts) {
        double share = (double)f->experts_chosen / f->experts;
        weights *= f->experts * (1 - pow(1 - (share < 1 ? share : 1), rows));
        rows *= f->experts_chosen;
    }
    double seen = f->cost.window > 0 && f->cost.window < s->context && !s->prompt ? f->cost.window : s->context;
    double memory = weights + f->cost.cache_bytes * seen * s->sequences;
    double operations = rows * (f->cost.operations + f->cost.cache_operations * attended(e, s, f));
    return (Work){memory * f->calls, rows * f->cost.row_bytes * f->calls, operations * f->calls, f->calls};
}

Work *work_of(const Explain *e, const Scenario *scenario) {
    const Plan *plan = e->build->plan;
    Work *work = ARENA_ARRAY(e->arena, Work, plan->kernel_count);
    for (int i = 0; i < plan->module->func_count; i++)
        if (plan->funcs[i].kernel) work[plan->funcs[i].id] = kernel_work(e, scenario, &plan->funcs[i]);
    return work;
}

KernelClass kernel_class(const FuncPlan *f) {
    KernelClass class = KERNEL_OTHER;
    for (int n = 0; n < f->func->node_count; n++) {
        if (f->func->nodes[n]->op == OP_ATTEND) return KERNEL_ATTENTION;
        if (strncmp(op_info(f->func->nodes[n]->op)->name, "linear", 6) == 0) class = KERNEL_PRODUCT;
    }
    return class;
}

const char *kernel_arithmetic(const FuncPlan *f) { return f->kernel->arithmetic ? f->kernel->arithmetic : "f32"; }

double work_bytes(const Work *work) { return work->memory + work->rows; }

// Weights and KV cache come from wherever the whole step's have room, rows from the nearest cache that holds a call's: as --bench reckons.
double kernel_bound(const Explain *e, const FuncPlan *f, const Work *work, double step_memory) {
    const Limits *limits = &e->measured.limits;
    if (!e->measured.here || work->calls <= 0) return 0;
    double peak = tn_limits_peak(limits, kernel_arithmetic(f)), read = tn_limits_read(limits, step_memory);
    double near = tn_limits_read(limits, fmin(work->rows / work->calls, (double)limits->cache_bytes[1]));
    double memory = read > 0 ? work->memory / read : 0, arithmetic = peak > 0 ? work->operations / peak : 0, rows = near > 0 ? work->rows / near : 0;
    return fmax(memory, fmax(arithmetic, rows));
}
