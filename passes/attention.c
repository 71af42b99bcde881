// Lowers `attention` to `cache_write` and `attend`.
//
// Requires nothing. Afterwards no `attention` is left: the keys and values of this step go into the cache first, then the queries attend over
// all that the cache holds, so a step of many tokens and a step of one are the same computation. The scale is explicit, as is what the
// cache keeps: keys and values are rounded to `--kv`, or to what suits the quantization, as they are written.
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <math.h>

bool pass_attention(Module *module, const PassOptions *options, Diags *diags);

static bool lower(Func *func, int at, const char *kv, Diags *diags) {
    Node *node = func->nodes[at];
    Value *q = node->operands[0], *k = node->operands[1], *v = node->operands[2];
    Attr kept[] = {*node_attr(node, "v_dims"), attr_text("kv", kv)};
    const char *cache_name[] = {"cache"};
    Node *write = node_insert(func, at, OP_CACHE_WRITE, (Value *[]){k, v}, 2, kept, COUNT_OF(kept), cache_name, node->loc, diags);
    if (!write) return false;
    double scale = node_number(node, "scale");
    if (scale == 0) scale = 1 / sqrt((double)k->type.dims[k->type.rank - 1]);
    Attr attrs[] = {*node_attr(node, "causal"), *node_attr(node, "window"), attr_number("scale", scale), *node_attr(node, "softcap")};
    Value *operands[] = {q, write->results[0], node->operands[3], node->operands[4]};
    const char *name[] = {node->results[0]->name};
    Node *attend = node_insert(func, at + 1, OP_ATTEND, operands, COUNT_OF(operands), attrs, COUNT_OF(attrs), name, node->loc, diags);
    if (!attend) return false;
    attend->label = node->label;
    attend->results[0]->name = node->results[0]->name;
    func_replace_uses(func, node->results[0], attend->results[0]);
    func_remove(func, node);
    return true;
}

bool pass_attention(Module *module, const PassOptions *options, Diags *diags) {
    const char *kv = cache_format(options);
    for (int f = 0; f < module->func_count; f++) {
        Func *func = module->funcs[f];
        for (int i = 0; i < func->node_count; i++)
            if (func->nodes[i]->op == OP_ATTENTION && !lower(func, i, kv, diags)) return false;
    }
    return true;
}
