// Where weights lie in the blob: what every token reads comes first, then tables of which a token reads few rows, then the experts, each with all that
// is its own in one piece. Tables and experts begin at pages, large ones at huge pages: a program with less memory than weights maps tables and reads
// experts when they are chosen, piece by piece (runtime/pager.c), and knows from the list made here which pieces there are and how often a token's
// step may come to each. What several experts have in common is read by every token.
#include "codegen/plan.h"
#include <stdlib.h>

enum { PAGE = 4096, HUGE_PAGE = 2 << 20, LARGE = 4 * HUGE_PAGE, LEAST_TABLE = 1 << 20 };
enum { PLACE_DENSE, PLACE_TABLE, PLACE_EXPERT };
enum { NO_EXPERT = -1, SEVERAL_EXPERTS = -2 };

// What is known of each weight; `expert`: the first weight of the one expert that it belongs to.
typedef struct { int id, place, expert, visits; bool rows, whole; } WeightUse;
typedef struct { Weight *const *weights; int count; } Bound;   // what a parameter stands for in one call

static Bound bound_to(const Value *v, const Bound *caller) {
    if (v && v->kind == VALUE_WEIGHT) return (Bound){v->weights, v->count};
    return v && v->kind == VALUE_PARAM ? caller[v->index] : (Bound){0};
}

static void visit_expert(const Node *node, int expert, const Bound *bound, WeightUse *uses) {
    int first = NO_EXPERT;
    for (int o = node_params(node); o < node->operand_count; o++) {
        Bound b = bound_to(node->operands[o], bound);
        if (!b.weights || b.count <= expert) continue;
        WeightUse *use = &uses[b.weights[expert]->id];
        if (first == NO_EXPERT) first = use->id;
        if (use->expert == NO_EXPERT) use->expert = first;
        if (use->expert != first) use->expert = SEVERAL_EXPERTS;
        if (use->id == first) use->visits++;
    }
}

// Each call as the step makes it.
static void visit(Plan *plan, const Func *func, const Bound *bound, WeightUse *uses) {
    for (int n = 0; n < func->node_count; n++) {
        const Node *node = func->nodes[n];
        bool moe = node->op == OP_MOE_EXPERTS;
        if (moe || node->op == OP_CALL) {
            const Func *callee = node_attr(node, "block")->func;
            Bound *inner = ARENA_ARRAY(plan->arena, Bound, callee->param_count);
            for (int p = 0; p < callee->param_count; p++) inner[p] = bound_to(node->operands[node_params(node) + p], bound);
            for (int e = 0; moe && e < (int)node_int(node, "count"); e++) visit_expert(node, e, bound, uses);
            if (!moe) visit(plan, callee, inner, uses);
            continue;
        }
        for (int o = 0; o < node->operand_count; o++) {
            Bound b = bound_to(node->operands[o], bound);
            for (int i = 0; b.weights && i < (b.count > 0 ? b.count : 1); i++)
                if (node->op == OP_EMBEDDING && o == 1) uses[b.weights[i]->id].rows = true;
                else uses[b.weights[i]->id].whole = true;
        }
    }
}

static int compare_uses(const void *a, const void *b) {
    const WeightUse *x = a, *y = b;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    if (x->place == PLACE_EXPERT && x->expert != y->expert) return x->expert < y->expert ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static bool piece_bytes(const Plan *plan, const WeightUse *uses, int count, uint64_t *total, Diags *diags) {
    *total = 0;
    for (int i = 0; i < count; i++) {
        const Weight *w = plan->module->weights[uses[i].id];
        uint64_t bytes;
        if (!packed_bytes(w, &bytes) || !size_mad((*total + 63) / 64 * 64, 1, bytes, (uint64_t)1 << 50, total))
            return diag_error(diags, NOWHERE, "weight %s is too large", w->name), false;
    }
    return true;
}

static void decide(Plan *plan, WeightUse *uses) {
    const Module *m = plan->module;
    for (int i = 0; i < m->weight_count; i++) {
        uint64_t bytes;
        uses[i].place = uses[i].expert >= 0 && !uses[i].whole && !uses[i].rows ? PLACE_EXPERT : PLACE_DENSE;
        if (uses[i].rows && !uses[i].whole && uses[i].expert == NO_EXPERT && packed_bytes(m->weights[i], &bytes) && bytes >= LEAST_TABLE) uses[i].place = PLACE_TABLE;
    }
    for (int i = 0; i < m->weight_count; i++)   // of the weight that an expert is known by
        if (uses[i].place == PLACE_EXPERT) uses[i].visits = uses[uses[i].expert].visits;
}

bool plan_places(Plan *plan, Diags *diags) {
    const Module *m = plan->module;
    WeightUse *uses = ARENA_ARRAY(plan->arena, WeightUse, m->weight_count);
    for (int i = 0; i < m->weight_count; i++) uses[i] = (WeightUse){.id = i, .expert = NO_EXPERT};
    visit(plan, m->main, NULL, uses);
    decide(plan, uses);
    if (m->weight_count) qsort(uses, (size_t)m->weight_count, sizeof *uses, compare_uses);
    plan->offset = ARENA_ARRAY(plan->arena, uint64_t, m->weight_count);
    plan->order = ARENA_ARRAY(plan->arena, int, m->weight_count);
    plan->pieces = ARENA_ARRAY(plan->arena, WeightPiece, m->weight_count);
    bool large = false;
    for (int i = 0, end; i < m->weight_count; i = end) {
        uint64_t bytes, align = large ? HUGE_PAGE : 64;   // what a large piece takes in memory is its own
        for (end = i + 1; uses[i].place == PLACE_EXPERT && end < m->weight_count && uses[end].place == PLACE_EXPERT && uses[end].expert == uses[i].expert;) end++;
        if (!piece_bytes(plan, &uses[i], end - i, &bytes, diags)) return false;
        if (uses[i].place != PLACE_DENSE && !large) align = bytes >= LARGE ? HUGE_PAGE : PAGE;
        large = uses[i].place != PLACE_DENSE && bytes >= LARGE;
        uint64_t at = (uint64_t)round_up((int64_t)plan->weights_bytes, (int64_t)align);
        if (uses[i].place != PLACE_DENSE) plan->pieces[plan->piece_count++] = (WeightPiece){at, bytes, uses[i].visits};
        for (int j = i; j < end; j++) {
            uint64_t own;
            packed_bytes(m->weights[uses[j].id], &own);
            plan->order[j] = uses[j].id;
            plan->offset[uses[j].id] = at = (uint64_t)round_up((int64_t)at, 64);
            at += own;
        }
        plan->weights_bytes = at;
        if (at > (uint64_t)1 << 50) return diag_error(diags, NOWHERE, "the weights are too large"), false;
    }
    plan->weights_bytes = (uint64_t)round_up((int64_t)plan->weights_bytes, PAGE);
    return true;
}

// The pieces, as the program knows them.
void places_print(const Plan *plan, Text *out) {
    if (!plan->piece_count) return;
    text_puts(out, "static const tn_piece tn_pieces[] = {\n");
    for (int i = 0; i < plan->piece_count; i++)
        text_printf(out, "    {%lluULL, %lluULL, %d},\n", (unsigned long long)plan->pieces[i].offset, (unsigned long long)plan->pieces[i].bytes, plan->pieces[i].visits);
    text_puts(out, "};\n");
}
