// How many parameters a model has. A weight counts once however often it is used; counted once for each use it gives the size of the model whose
// layers share nothing, and the difference is what sharing saves.
//
// For those who make weights (examples/random_weights.py), each tensor's use: the op that reads it, and of the linear maps those that choose
// experts, found by going back from top_k.
#include "driver/parameters.h"
#include "driver/driver.h"

#include <string.h>

static void add_weight(const Weight *weight, uint64_t *elements, uint64_t *bytes) {
    uint64_t size = 0;
    Type type = weight->type;
    type.dtype = weight->source.dtype;
    if (!weight->tensor) return;
    *elements += (uint64_t)type_row_elements(&type);
    if (type_bytes(&type, &size)) *bytes += size;
}

Parameters parameters_count(const Module *module) {
    Parameters p = {0};
    for (int i = 0; i < module->weight_count; i++) {
        add_weight(module->weights[i], &p.elements, &p.bytes);
        p.tensors += module->weights[i]->tensor != NULL;
    }
    for (int i = 0; i < module->main->node_count; i++) {
        const Node *node = module->main->nodes[i];
        for (int o = 0; o < node->operand_count; o++) {
            const Value *v = node->operands[o];
            if (!v || v->kind != VALUE_WEIGHT) continue;
            for (int w = 0; w < (v->count ? v->count : 1); w++) add_weight(v->weights[w], &p.used_elements, &p.used_bytes);
        }
    }
    return p;
}

// A count or a size with three decimals: 13.990 billion, 84.935 million.
static const char *scaled(char text[32], uint64_t number, const char *thousand_million, const char *million) {
    bool large = number >= 1000000000;
    snprintf(text, 32, "%.3f %s", (double)number / (large ? 1e9 : 1e6), large ? thousand_million : million);
    return text;
}

void parameters_line(const Model *model, Text *out) {
    Parameters p = parameters_count(model->module);
    char count[32], bytes[32];
    text_printf(out, "%s: %s parameters in %d weights, %s as stored", model->name, scaled(count, p.elements, "billion", "million"), p.tensors, scaled(bytes, p.bytes, "GB", "MB"));
    if (p.used_bytes > p.bytes)
        text_printf(out, "; unshared they would be %s, %s: sharing saves %.1f %%", scaled(count, p.used_elements, "billion", "million"), scaled(bytes, p.used_bytes, "GB", "MB"),
                    100 * (1 - (double)p.bytes / (double)p.used_bytes));
    text_puts(out, "\n");
}

// ---- what a tensor is for -------------------------------------------------------------------------------------------------------------

// chosen: by the router that it is, experts a token. output: what it makes is added to something, or is what its block returns; attended: and what
// it reads comes from an attention.
typedef struct { OpId op; const char *operand; int chosen; bool output, attended; double offset; } Use;

// The nearest node of this op from which the value comes without another linear map between; NULL: none.
static const Node *maker(const Value *value, OpId op, int depth) {
    if (!value || value->kind != VALUE_RESULT || depth > 16) return NULL;
    if (value->node->op == op) return value->node;
    const Node *found = NULL;
    for (int i = 0; i < value->node->operand_count && !found && value->node->op != OP_LINEAR; i++) found = maker(value->node->operands[i], op, depth + 1);
    return found;
}

// How many of its outputs are chosen; 0: it is no router.
static int chosen(const Func *func, const Node *linear) {
    for (int i = 0; i < func->node_count; i++)
        if (func->nodes[i]->op == OP_TOP_K && maker(func->nodes[i]->operands[0], OP_LINEAR, 0) == linear) return (int)node_int(func->nodes[i], "k");
    return 0;
}

static bool is_output(const Func *func, const Node *linear) {
    const Value *made = linear->results[0];
    for (int i = 0; i < func->result_count && func != func->module->main; i++)
        if (func->results[i] == made) return true;
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        if (node->op == OP_ADD && (node->operands[0] == made || node->operands[1] == made)) return true;
    }
    return false;
}

static void note_uses(const Func *func, Weight *const *const *bound, Use *uses);

// The callee with this call's weights in its parameters' places.
static void note_call(const Node *node, Weight *const *const *bound, Use *uses) {
    const Func *callee = node_attr(node, "block")->func;
    int first = node_params(node);
    for (int e = 0, count = 1; e < count; e++) {
        Arena *arena = arena_new();
        Weight *const **inner = ARENA_ARRAY(arena, Weight *const *, callee->param_count);
        for (int p = 0; p < callee->param_count; p++) {
            const Value *v = node->operands[first + p];
            inner[p] = v->kind == VALUE_WEIGHT ? v->weights : v->kind == VALUE_PARAM && bound ? bound[v->index] : NULL;
            if (node->op == OP_CALL) continue;
            if (inner[p] && v->count) inner[p] += e;
            if (v->count > count) count = v->count;
        }
        note_uses(callee, inner, uses);
        arena_free(arena);
    }
}

static void note_uses(const Func *func, Weight *const *const *bound, Use *uses) {
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        const OpInfo *info = op_info(node->op);
        if (info->flags & CALL) {
            note_call(node, bound, uses);
            continue;
        }
        for (int o = 0; o < node->operand_count; o++) {
            const Value *v = node->operands[o];
            Weight *const *weights = !v ? NULL : v->kind == VALUE_WEIGHT ? v->weights : v->kind == VALUE_PARAM && bound ? bound[v->index] : NULL;
            if (!weights || uses[weights[0]->id].operand) continue;
            bool variadic = o >= info->operand_count || info->operands[o].variadic;
            bool map = node->op == OP_LINEAR && o == 1;
            uses[weights[0]->id] = (Use){.op = node->op, .operand = variadic ? "" : info->operands[o].name,
                                         .chosen = map ? chosen(func, node) : 0, .output = map && is_output(func, node),
                                         .attended = map && maker(node->operands[0], OP_ATTENTION, 0),
                                         .offset = node->op == OP_RMS_NORM ? node_number(node, "offset") : 0};
        }
    }
}

static const char *use_name(const Use *use) {
    if (!use->operand) return "other";
    if (use->chosen) return "router";
    if (!strcmp(use->operand, "b")) return "bias";
    switch (use->op) {
    case OP_EMBEDDING: return "embedding";
    case OP_LINEAR: return !use->output ? "linear" : use->attended ? "attention output" : "output";
    case OP_RMS_NORM: case OP_LAYER_NORM: return "norm";
    default: return "other";
    }
}

static void tensor_json(const TensorInfo *tensor, const Use *use, Text *out) {
    text_puts(out, "{\"name\": ");
    json_text(out, tensor->name);
    text_printf(out, ", \"type\": \"%s\", \"shape\": [", dtype_info[tensor->type.dtype].name);
    for (int i = 0; i < tensor->type.rank; i++) text_printf(out, i ? ", %lld" : "%lld", (long long)tensor->type.dims[i]);
    text_printf(out, "], \"use\": \"%s\"", use ? use_name(use) : "other");
    if (use && use->chosen) text_printf(out, ", \"chosen\": %d", use->chosen);
    if (use && use->offset != 0) text_printf(out, ", \"offset\": %g", use->offset);
    text_puts(out, "}");
}

void parameters_json(const Model *model, Text *out) {
    const Module *m = model->module;
    const Provider *weights = model->weights;
    Parameters p = parameters_count(m);
    Arena *arena = arena_new();
    Use *uses = ARENA_ARRAY(arena, Use, m->weight_count), **of_tensor = ARENA_ARRAY(arena, Use *, weights ? weights->count : 0);
    note_uses(m->main, NULL, uses);
    for (int i = 0; weights && i < m->weight_count; i++) {
        const Weight *w = m->weights[i];
        const TensorInfo *tensor = w->tensor ? weights->find(model->weights, w->tensor) : NULL;
        if (tensor) of_tensor[tensor - weights->tensors] = &uses[i];
    }
    text_puts(out, "{\"name\": ");
    json_text(out, model->name);
    text_printf(out, ", \"parameters\": %llu, \"bytes\": %llu, \"unshared_parameters\": %llu, \"unshared_bytes\": %llu,\n \"weights\": [",
                (unsigned long long)p.elements, (unsigned long long)p.bytes, (unsigned long long)p.used_elements, (unsigned long long)p.used_bytes);
    for (int i = 0; i < model->weights_count; i++) {
        text_puts(out, i ? ", " : "");
        json_text(out, model->weights_paths[i]);
    }
    text_puts(out, "],\n \"tensors\": [");
    for (int i = 0, n = 0; weights && i < weights->count; i++) {
        if (!weights->declare && !of_tensor[i]) continue;   // a file may hold more than the model uses
        text_puts(out, n++ ? ",\n  " : "\n  ");
        tensor_json(&weights->tensors[i], of_tensor[i], out);
    }
    text_puts(out, "]}\n");
    arena_free(arena);
}
