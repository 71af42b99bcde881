// Random modules through the passes, one after another: after each the interpreter must compute what it computed before, and after the last
// what code generation relies on must hold. Two steps are run, a prompt of several sequences and one token more for each.
//
//   pass_random [COUNT [FIRST_SEED]]
#include "contract.h"
#include "generator.h"
#include "ir/interp.h"
#include "passes/passes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCES = 3, MOST_TOKENS = 12, STEPS = 2 };

typedef struct { Tensor results[STEPS]; Type type; } Outcome;
typedef struct { int tokens, rows; int32_t position[MOST_TOKENS], sequence[MOST_TOKENS], first[SEQUENCES + 1], keep[MOST_TOKENS]; } Plan;

// Prompts of 4, 1 and 3 tokens, then one each; every other row's output is asked for.
static void plan_step(Plan *plan, int step) {
    static const int lengths[] = {4, 1, 3};
    *plan = (Plan){0};
    for (int s = 0; s < SEQUENCES; s++) {
        plan->first[s] = plan->tokens;
        for (int i = 0; i < (step ? 1 : lengths[s]); i++) {
            plan->position[plan->tokens] = (step ? lengths[s] : 0) + i;
            plan->sequence[plan->tokens++] = s;
        }
    }
    plan->first[SEQUENCES] = plan->tokens;
    for (int t = 0; t < plan->tokens; t += 2) plan->keep[plan->rows++] = t;
}

static bool run_module(const Module *module, Outcome *outcome, Arena *arena, Diags *diags) {
    InterpState *state = interp_state_new(SEQUENCES);
    bool ok = true;
    for (int s = 0; ok && s < STEPS; s++) {
        Plan *plan = ARENA_NEW(arena, Plan);
        plan_step(plan, s);
        Step step = {plan->tokens, SEQUENCES, plan->rows, plan->position, plan->sequence, plan->first, plan->keep};
        Random random = {99 + (uint64_t)s};
        Tensor inputs[2];
        for (int i = 0; i < module->main->input_count; i++) {
            const Type *type = &module->main->inputs[i]->type;
            inputs[i] = (Tensor){.type = *type};
            memcpy(inputs[i].dims, type->dims, sizeof type->dims);
            inputs[i].dims[0] = plan->tokens;
            int64_t n = plan->tokens * type_row_elements(type);
            inputs[i].data = arena_alloc(arena, (size_t)n * 4);
            for (int64_t j = 0; j < n; j++)
                if (type->dtype == DT_I32) ((int32_t *)inputs[i].data)[j] = random_below(&random, 11);
                else ((float *)inputs[i].data)[j] = random_float(&random);
        }
        ok = interp_run(module, state, &step, inputs, &outcome->results[s], arena, diags);
    }
    outcome->type = module->main->results[0]->type;
    interp_state_free(state);
    return ok;
}

static bool near(float a, float b, float scale) { return a == b || (isnan(a) && isnan(b)) || fabsf(a - b) <= 1e-5f * scale; }

// `now` may hold only the rows asked for.
static bool agree(const Outcome *before, const Outcome *now) {
    for (int s = 0; s < STEPS; s++) {
        Plan plan;
        plan_step(&plan, s);
        const float *a = before->results[s].data, *b = now->results[s].data;
        int64_t columns = type_row_elements(&before->type), rows = now->results[s].dims[0];
        bool kept = now->type.dims[0] == DIM_R && before->type.dims[0] == DIM_T;
        float scale = 1;
        for (int64_t i = 0; i < before->results[s].dims[0] * columns; i++)
            if (isfinite(a[i]) && fabsf(a[i]) > scale) scale = fabsf(a[i]);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++)
                if (!near(a[(kept ? plan.keep[r] : r) * columns + c], b[r * columns + c], scale)) return false;
    }
    return true;
}

static bool complain(uint64_t seed, const char *pass, const char *what, const Diags *diags) {
    printf("FAIL seed %llu: %s: %s\n", (unsigned long long)seed, pass, what);
    if (diags) diags_print(diags, stdout);
    return false;
}

static bool contract_holds(const Module *module, const char *pass, uint64_t seed) {
    Text problem = {0};
    bool ok = true;
    if (strcmp(pass, "fuse") == 0) ok = check_fused(module, &problem);
    if (strcmp(pass, "layout") == 0) ok = check_layout(module, &problem);
    if (strcmp(pass, "memory") == 0) ok = check_fused(module, &problem) && check_layout(module, &problem) && check_memory(module, &problem);
    if (!ok) complain(seed, pass, problem.data, NULL);
    text_free(&problem);
    return ok;
}

// A module whose attributes and weights clash on purpose is refused by layout or fuse with a message; that is no mistake.
static bool refused(const Diags *diags) {
    Text text = {0};
    diags_text(diags, &text);
    bool known = text.data && (strstr(text.data, "is read by") || strstr(text.data, "does not depend on the tokens"));
    text_free(&text);
    return known;
}

static void count_ops(const Module *module, int *ops) {
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) ops[module->funcs[f]->nodes[i]->op]++;
}

static bool one_module(uint64_t seed, const char *quantize, int *refusals, int *ops) {
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Module *module = generate_module(arena, seed, diags);
    Outcome before, now;
    bool ok = module ? run_module(module, &before, arena, diags) : false;
    if (module) count_ops(module, ops);
    if (!ok) complain(seed, "generator", "the module does not verify or run", diags);
    bool only_some = seed % 3 == 0;   // a third of the modules skips some optimisations
    for (int p = 0; ok && p < pass_count; p++) {
        if (only_some && passes[p].level && (seed >> p) & 4) continue;
        PassOptions options = {.only = passes[p].name, .quantize = quantize, .kv = "f32", .verify = true};
        if (!run_passes(module, &options, diags)) {
            if (refused(diags)) *refusals += 1;
            else ok = complain(seed, passes[p].name, "failed", diags);
            break;
        }
        if (!run_module(module, &now, arena, diags)) ok = complain(seed, passes[p].name, "the module does not run any more", diags);
        else if (strcmp(passes[p].name, "quantize") == 0 && quantize) before = now;   // other numbers from here on
        else if (!agree(&before, &now)) ok = complain(seed, passes[p].name, "the result changed", NULL);
        ok = ok && contract_holds(module, passes[p].name, seed);
    }
    diags_free(diags);
    arena_free(arena);
    return ok;
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 300, failed = 0, refusals = 0;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    static const char *const quantize[] = {NULL, "w8a8", NULL, "bf16", "f16"};
    int ops[OP_COUNT] = {0};
    for (int i = 0; i < count && failed < 10; i++)
        failed += !one_module(first + (uint64_t)i, quantize[(first + (uint64_t)i) % COUNT_OF(quantize)], &refusals, ops);
    for (int o = 0; o < OP_COUNT; o++) printf("%s %d%s", op_info(o)->name, ops[o], o % 8 == 7 || o == OP_COUNT - 1 ? "\n" : ", ");
    printf("%d random modules through %d passes, %d refused with a message, %d failed\n", count, pass_count, refusals, failed);
    return failed != 0;
}
