// Rotary angles, once a step. Every layer turns its queries and keys by the same cosines and sines, which depend on a token's position alone: so each
// distinct rotation of a model has a table in the arena, [tokens][cosines, then sines], that main fills before anything reads it. What a kernel computes
// itself are the angles of an expert's rows, which are not the step's, and those whose factors differ from call to call.
#include "codegen/plan.h"
#include <math.h>
#include <string.h>

int64_t rotation_pairs(const Node *rope) {
    int64_t dims = node_int(rope, "dims");
    return (dims < 0 ? rope->operands[0]->type.dims[rope->operands[0]->type.rank - 1] : dims) / 2;
}

void rotation_frequencies(const Node *rope, const char *name, Text *out) {
    int64_t pairs = rotation_pairs(rope);
    double base = node_number(rope, "base");
    text_printf(out, "// base^(-2j/%lld), base %.17g\nstatic const double %s[%lld] = {", (long long)(2 * pairs), base, name, (long long)pairs);
    for (int64_t j = 0; j < pairs; j++) text_printf(out, "%s%.17g", j ? ", " : "", pow(base, -2.0 * (double)j / (double)(2 * pairs)));
    text_puts(out, "};\n");
}

static bool same_bits(double a, double b) { return !memcmp(&a, &b, sizeof a); }

static int rotation_of(Plan *plan, const FuncPlan *f, const Node *rope) {
    const Value *factors = rope->operand_count > 1 ? rope->operands[1] : NULL;
    const Type *x = &rope->operands[0]->type;
    if (f->in_expert || !x->rank || x->dims[0] != DIM_T) return -1;
    if (factors && (factors->kind != VALUE_PARAM || f->several[factors->index] || !f->bound[factors->index])) return -1;
    const Weight *weight = factors ? f->bound[factors->index] : NULL;
    for (int i = 0; i < plan->rotation_count; i++) {
        const Rotation *r = &plan->rotations[i];
        if (r->factors == weight && rotation_pairs(r->rope) == rotation_pairs(rope) && same_bits(node_number(r->rope, "base"), node_number(rope, "base")) &&
            same_bits(node_number(r->rope, "mscale"), node_number(rope, "mscale")))
            return i;
    }
    ARENA_PUSH(plan->arena, plan->rotations, plan->rotation_count, plan->rotation_capacity) = (Rotation){.rope = rope, .factors = weight};
    return plan->rotation_count - 1;
}

void plan_angles(Plan *plan) {
    for (int i = 0; i < plan->module->func_count; i++) {
        FuncPlan *f = &plan->funcs[i];
        if (!f->func->kernel) continue;
        f->rotations = ARENA_ARRAY(plan->arena, int, f->func->node_count);
        for (int n = 0; n < f->func->node_count; n++) f->rotations[n] = f->func->nodes[n]->op == OP_ROPE ? rotation_of(plan, f, f->func->nodes[n]) : -1;
    }
}

uint64_t angles_row(const Rotation *r) { return 2 * (uint64_t)round_up(rotation_pairs(r->rope), 16); }

uint64_t angles_place(Plan *plan, uint64_t at) {
    for (int i = 0; i < plan->rotation_count; i++) {
        Rotation *r = &plan->rotations[i];
        r->offset = at = (uint64_t)round_up((int64_t)at, 64);
        at += (uint64_t)plan->module->max_tokens * angles_row(r) * sizeof(float);
    }
    return at;
}

void angles_print(const Plan *plan, Text *out) {
    for (int i = 0; i < plan->rotation_count; i++) {
        rotation_frequencies(plan->rotations[i].rope, arena_printf(plan->arena, "tn_frequencies_%d", i), out);
        text_printf(out, "#define TN_ANGLES_%d %lluULL   // where its cosines and sines lie in the arena\n", i, (unsigned long long)plan->rotations[i].offset);
    }
}

void angles_print_step(const Plan *plan, Text *out) {
    if (!plan->rotation_count) return;
    text_puts(out, "    {   // rotary angles of each token\n        long first, last;\n        tn_share(w, s->tokens, &first, &last);\n");
    for (int i = 0; i < plan->rotation_count; i++) {
        const Rotation *r = &plan->rotations[i];
        long long pairs = (long long)rotation_pairs(r->rope), row = (long long)angles_row(r);
        text_printf(out, "        for (long t = first; t < last; t++) {\n            float *const cosines = (float *)(s->arena + TN_ANGLES_%d) + t * %lld;\n", i, row);
        text_printf(out, "            tn_angles(cosines, cosines + %lld, %lld, s->position[t], tn_frequencies_%d, ", row / 2, pairs, i);
        if (r->factors) text_printf(out, "(const float *)(s->weights + %lluULL)", (unsigned long long)plan->offset[r->factors->id]);
        else text_puts(out, "0");
        text_printf(out, ", %.17g);\n        }\n", node_number(r->rope, "mscale"));
    }
    text_puts(out, "    }\n    tn_barrier(w);\n");
}
