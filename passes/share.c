// Equal weights become one weight, equal functions one function, and what nothing uses goes.
//
// Requires nothing. A weight is what it reads: the same tensor with the same slice and transposition, or the same inline values. Functions are
// compared by structure, callees before callers, so that two stacks of equal blocks end in one. Weight.id is the index in the module afterwards.
#include "passes/passes.h"
#include "passes/rewrite.h"
#include "ir/prune.h"

#include <string.h>

bool pass_share(Module *module, const PassOptions *options, Diags *diags);

// ---- weights -------------------------------------------------------------------------------------------------------------------

static uint64_t data_bytes(const Weight *weight) {
    uint64_t bytes = 0;
    Type whole = prune_whole_type(weight);
    return weight->data && type_bytes(&whole, &bytes) ? bytes : 0;
}

static uint64_t weight_hash(const Weight *weight) {
    uint64_t hash = hash_bytes(weight->type.dims, sizeof *weight->type.dims * (size_t)weight->type.rank, weight->type.dtype);
    if (weight->data) return hash_bytes(weight->data, data_bytes(weight), hash);
    int64_t slice[] = {weight->index, weight->first, weight->step, weight->rows, weight->transpose, weight->quantize_to};
    return hash_bytes(slice, sizeof slice, hash_bytes(weight->tensor, strlen(weight->tensor), hash));
}

static bool weight_equal(const Weight *a, const Weight *b) {
    if (!type_equal(&a->type, &b->type) || a->quantize_to != b->quantize_to || a->rotate != b->rotate || !prune_equal(a, b) || !a->data != !b->data) return false;
    if (a->data) return memcmp(a->data, b->data, data_bytes(a)) == 0;
    return a->bytes == b->bytes && strcmp(a->tensor, b->tensor) == 0 && type_equal(&a->source, &b->source) && a->index == b->index &&
           a->first == b->first && a->step == b->step && a->rows == b->rows && a->transpose == b->transpose;
}

typedef struct { uint64_t hash; Weight *weight; } Keyed;

// Finds the first weight equal to this one, or enters it.
static Weight *weight_leader(Keyed *table, int capacity, Weight *weight) {
    uint64_t hash = weight_hash(weight);
    int slot = (int)(hash & (uint64_t)(capacity - 1));
    for (; table[slot].weight; slot = (slot + 1) & (capacity - 1))
        if (table[slot].hash == hash && weight_equal(table[slot].weight, weight)) return table[slot].weight;
    table[slot] = (Keyed){hash, weight};
    return weight;
}

static void share_weights(Module *module, Arena *scratch) {
    int capacity = 64;
    while (capacity < 2 * module->weight_count) capacity *= 2;
    Keyed *table = ARENA_ARRAY(scratch, Keyed, capacity);
    Weight **leader = ARENA_ARRAY(scratch, Weight *, module->weight_count);
    for (int w = 0; w < module->weight_count; w++) {
        module->weights[w]->id = w;
        leader[w] = weight_leader(table, capacity, module->weights[w]);
    }
    for (int i = 0; i < module->main->node_count; i++) {
        Node *node = module->main->nodes[i];
        for (int k = 0; k < node->operand_count; k++) {
            Value *value = node->operands[k];
            if (!value || value->kind != VALUE_WEIGHT) continue;
            for (int n = 0; n < (value->count > 0 ? value->count : 1); n++) value->weights[n] = leader[value->weights[n]->id];
        }
    }
    module_drop_weights(module, scratch);
}

// ---- functions -------------------------------------------------------------------------------------------------------------------

static void call_instead(Module *module, const Func *old, Func *by) {
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            Node *node = module->funcs[f]->nodes[i];
            for (int a = 0; a < node->attr_count; a++)
                if (node->attrs[a].kind == 'g' && node->attrs[a].func == old) node->attrs[a].func = by;
        }
}

static void share_funcs(Module *module, Arena *scratch) {
    uint64_t *hashes = ARENA_ARRAY(scratch, uint64_t, module->func_count);
    for (int f = 0; f < module->func_count; f++) {
        Func *func = module->funcs[f];
        hashes[f] = func_structure_hash(func);
        if (func == module->main) continue;
        for (int g = 0; g < f; g++) {
            if (hashes[g] != hashes[f] || module->funcs[g] == module->main || !func_structure_equal(module->funcs[g], func)) continue;
            call_instead(module, func, module->funcs[g]);
            break;
        }
    }
}

bool pass_share(Module *module, const PassOptions *options, Diags *diags) {
    (void)options;
    Arena *scratch = arena_new();
    share_funcs(module, scratch);
    share_weights(module, scratch);
    arena_free(scratch);
    if (module_sort_funcs(module)) return true;
    diag_error(diags, NOWHERE, "share: functions call one another in a circle");
    return false;
}
