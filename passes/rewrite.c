// What the passes share. A pass works on plain arrays of nodes; the analyses here are snapshots, made when needed and thrown away with the
// pass's scratch arena, so nothing has to be kept up to date by hand.
#include "passes/rewrite.h"

#include <string.h>

// ---- maps ----------------------------------------------------------------------------------------------------------------

static int ptr_slot(const PtrMap *map, const void *key) {
    uint64_t hash = (uint64_t)(uintptr_t)key * 0x9e3779b97f4a7c15u;
    int slot = (int)((hash >> 33) & (uint64_t)(map->capacity - 1));
    while (map->keys[slot] && map->keys[slot] != key) slot = (slot + 1) & (map->capacity - 1);
    return slot;
}

static void ptr_map_widen(PtrMap *map) {
    PtrMap wider = {.arena = map->arena, .count = map->count, .capacity = map->capacity ? map->capacity * 2 : 64};
    wider.keys = ARENA_ARRAY(map->arena, const void *, wider.capacity);
    wider.values = ARENA_ARRAY(map->arena, int, wider.capacity);
    for (int i = 0; i < map->capacity; i++) {
        if (!map->keys[i]) continue;
        int slot = ptr_slot(&wider, map->keys[i]);
        wider.keys[slot] = map->keys[i];
        wider.values[slot] = map->values[i];
    }
    *map = wider;
}

void ptr_map_set(PtrMap *map, const void *key, int value) {
    if (2 * (map->count + 1) > map->capacity) ptr_map_widen(map);
    int slot = ptr_slot(map, key);
    if (!map->keys[slot]) map->count++;
    map->keys[slot] = key;
    map->values[slot] = value;
}

int ptr_map_get(const PtrMap *map, const void *key) {
    if (!map->capacity || !key) return -1;
    int slot = ptr_slot(map, key);
    return map->keys[slot] ? map->values[slot] : -1;
}

// ---- uses ----------------------------------------------------------------------------------------------------------------

static UseList *use_list(Uses *uses, const Value *value) {
    int id = ptr_map_get(&uses->values, value);
    if (id < 0) {
        id = uses->value_count;
        ptr_map_set(&uses->values, value, id);
        ARENA_PUSH(uses->arena, uses->lists, uses->value_count, uses->value_capacity) = (UseList){0};
    }
    return &uses->lists[id];
}

Uses *uses_new(const Func *func, Arena *arena) {
    Uses *uses = ARENA_NEW(arena, Uses);
    *uses = (Uses){.func = func, .arena = arena, .nodes = {.arena = arena}, .values = {.arena = arena}};
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        ptr_map_set(&uses->nodes, node, i);
        for (int k = 0; k < node->operand_count; k++) {
            if (!node->operands[k]) continue;
            UseList *list = use_list(uses, node->operands[k]);
            ARENA_PUSH(arena, list->items, list->count, list->capacity) = (Use){i, k};
        }
    }
    for (int i = 0; i < func->result_count; i++) use_list(uses, func->results[i])->returned = true;
    return uses;
}

const UseList *uses_of(const Uses *uses, const Value *value) {
    static const UseList none;
    int id = ptr_map_get(&uses->values, value);
    return id < 0 ? &none : &uses->lists[id];
}

int uses_producer(const Uses *uses, const Value *value) {
    return value && value->kind == VALUE_RESULT ? ptr_map_get(&uses->nodes, value->node) : -1;
}

// ---- bindings ------------------------------------------------------------------------------------------------------------

static int binding_id(Bindings *bindings, const void *key) {
    int id = ptr_map_get(&bindings->ids, key);
    if (id >= 0) return id;
    id = bindings->count;
    ptr_map_set(&bindings->ids, key, id);
    ARENA_PUSH(bindings->arena, bindings->parent, bindings->count, bindings->capacity) = id;
    return id;
}

static int binding_root(Bindings *bindings, int id) {
    while (bindings->parent[id] != id) id = bindings->parent[id] = bindings->parent[bindings->parent[id]];
    return id;
}

static void bind(Bindings *bindings, int a, int b) {
    bindings->parent[binding_root(bindings, a)] = binding_root(bindings, b);
}

// A value's own id; the weights of an array are bound to it.
static int binding_value(Bindings *bindings, const Value *value) {
    int id = binding_id(bindings, value);
    if (value->kind != VALUE_WEIGHT) return id;
    int count = value->count > 0 ? value->count : 1;
    for (int i = 0; i < count; i++) bind(bindings, binding_id(bindings, value->weights[i]), id);
    return id;
}

static void bind_call(Bindings *bindings, const Node *node) {
    if (!node_calls(node)) return;
    const Func *callee = node_attr(node, "block")->func;
    int first = node_params(node);
    for (int p = 0; p < callee->param_count && first + p < node->operand_count; p++) {
        Value *operand = node->operands[first + p];
        if (operand && value_is_weight(operand))
            bind(bindings, binding_value(bindings, operand), binding_id(bindings, callee->params[p]));
    }
}

Bindings *bindings_new(const Module *module, Arena *arena) {
    Bindings *bindings = ARENA_NEW(arena, Bindings);
    *bindings = (Bindings){.arena = arena, .ids = {.arena = arena}};
    for (int w = 0; w < module->weight_count; w++) binding_id(bindings, module->weights[w]);
    for (int f = 0; f < module->func_count; f++) {
        const Func *func = module->funcs[f];
        for (int p = 0; p < func->param_count; p++) binding_id(bindings, func->params[p]);
        for (int i = 0; i < func->node_count; i++) {
            const Node *node = func->nodes[i];
            for (int k = 0; k < node->operand_count; k++)
                if (node->operands[k] && value_is_weight(node->operands[k])) binding_value(bindings, node->operands[k]);
            bind_call(bindings, node);
        }
    }
    return bindings;
}

int bindings_class(Bindings *bindings, const Value *value) { return binding_root(bindings, binding_value(bindings, value)); }
int bindings_weight(Bindings *bindings, const Weight *weight) { return binding_root(bindings, binding_id(bindings, weight)); }
int bindings_limit(const Bindings *bindings) { return bindings->count; }

// ---- nodes and functions ---------------------------------------------------------------------------------------------------

bool value_is_weight(const Value *value) { return value->kind == VALUE_PARAM || value->kind == VALUE_WEIGHT; }
bool op_is(const Node *node, unsigned flags) { return (op_info(node->op)->flags & flags) != 0; }
bool node_calls(const Node *node) { return node->op == OP_CALL || node->op == OP_MOE || node->op == OP_MOE_EXPERTS; }

static bool has_flags(const Func *func, unsigned flags, PtrMap *seen) {
    if (ptr_map_get(seen, func) >= 0) return false;
    ptr_map_set(seen, func, 1);
    for (int i = 0; i < func->node_count; i++) {
        const Node *node = func->nodes[i];
        if (op_is(node, flags) || (node_calls(node) && has_flags(node_attr(node, "block")->func, flags, seen))) return true;
    }
    return false;
}

bool func_has(const Func *func, unsigned flags) {
    Arena *scratch = arena_new();
    PtrMap seen = {.arena = scratch};
    bool has = has_flags(func, flags, &seen);
    arena_free(scratch);
    return has;
}

bool type_has_rows(const Type *type) { return type->rank > 0 && type->dims[0] < 0; }

bool const_scalar(const Value *value, double *number) {
    if (!value || value->kind != VALUE_RESULT || value->node->op != OP_CONST) return false;
    *number = node_number(value->node, "value");
    return true;
}

static bool same_weights(const Value *a, const Value *b) {
    if (a->kind != VALUE_WEIGHT || b->kind != VALUE_WEIGHT || a->count != b->count) return false;
    return memcmp(a->weights, b->weights, sizeof *a->weights * (size_t)(a->count > 0 ? a->count : 1)) == 0;
}

bool node_same(const Node *a, const Node *b) {
    if (a->op != b->op || a->operand_count != b->operand_count || a->result_count != b->result_count) return false;
    for (int k = 0; k < a->operand_count; k++) {
        const Value *p = a->operands[k], *q = b->operands[k];
        if (p != q && !(p && q && same_weights(p, q))) return false;
    }
    for (int i = 0; i < a->attr_count; i++) {
        const Attr *p = &a->attrs[i], *q = &b->attrs[i];
        if (p->number != q->number || p->func != q->func || p->size_count != q->size_count || (p->text && strcmp(p->text, q->text) != 0)) return false;
        if (memcmp(p->sizes, q->sizes, sizeof *p->sizes * (size_t)p->size_count) != 0) return false;
    }
    return true;
}

Node *node_insert(Func *func, int at, OpId op, Value *const *operands, int operand_count, const Attr *attrs, int attr_count,
                  const char *const *names, Loc loc, Diags *diags) {
    Node *node = func_node(func, op, operands, operand_count, attrs, attr_count, names, loc, diags);
    if (!node) return NULL;
    int last = func->node_count - 1;
    memmove(&func->nodes[at + 1], &func->nodes[at], sizeof *func->nodes * (size_t)(last - at));
    func->nodes[at] = node;
    return node;
}

// ---- order of functions ----------------------------------------------------------------------------------------------------

enum { SORT_OPEN = 1, SORT_DONE = 2 };
typedef struct { PtrMap state; Func **order; int count; } Sort;

static bool sort_visit(Sort *sort, Func *func) {
    int state = ptr_map_get(&sort->state, func);
    if (state == SORT_DONE) return true;
    if (state == SORT_OPEN) return false;
    ptr_map_set(&sort->state, func, SORT_OPEN);
    for (int i = 0; i < func->node_count; i++)
        if (node_calls(func->nodes[i]) && !sort_visit(sort, node_attr(func->nodes[i], "block")->func)) return false;
    ptr_map_set(&sort->state, func, SORT_DONE);
    sort->order[sort->count++] = func;
    return true;
}

void module_bind_types(Module *module) {
    for (int f = module->func_count - 1; f >= 0; f--)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            for (int k = 0; k < node->operand_count; k++)
                if (node->operands[k] && node->operands[k]->kind == VALUE_WEIGHT) node->operands[k]->type.dtype = node->operands[k]->weights[0]->type.dtype;
            if (node->op != OP_CALL && node->op != OP_MOE) continue;
            Func *callee = node_attr(node, "block")->func;
            int first = node->op == OP_CALL ? callee->input_count : 3;
            for (int p = 0; p < callee->param_count; p++)
                if (node->operands[first + p]) callee->params[p]->type.dtype = node->operands[first + p]->type.dtype;
        }
}

void module_drop_weights(Module *module, Arena *scratch) {
    bool *used = ARENA_ARRAY(scratch, bool, module->weight_count);
    for (int i = 0; i < module->main->node_count; i++)
        for (int k = 0; k < module->main->nodes[i]->operand_count; k++) {
            const Value *value = module->main->nodes[i]->operands[k];
            if (!value || value->kind != VALUE_WEIGHT) continue;
            for (int n = 0; n < (value->count > 0 ? value->count : 1); n++) used[value->weights[n]->id] = true;
        }
    int kept = 0;
    for (int w = 0; w < module->weight_count; w++)
        if (used[w]) module->weights[kept++] = module->weights[w];
    module->weight_count = kept;
    for (int w = 0; w < kept; w++) module->weights[w]->id = w;
}

bool module_sort_funcs(Module *module) {
    Arena *scratch = arena_new();
    Sort reach = {.state = {.arena = scratch}, .order = ARENA_ARRAY(scratch, Func *, module->func_count)};
    Sort sort = {.state = {.arena = scratch}, .order = ARENA_ARRAY(scratch, Func *, module->func_count)};
    bool sorted = sort_visit(&reach, module->main);
    for (int f = 0; sorted && f < module->func_count; f++)   // an order that is right already stays
        if (module->funcs[f] != module->main && ptr_map_get(&reach.state, module->funcs[f]) == SORT_DONE) sort_visit(&sort, module->funcs[f]);
    if (sorted) sort_visit(&sort, module->main);
    if (sorted) {
        memcpy(module->funcs, sort.order, sizeof *module->funcs * (size_t)sort.count);
        module->func_count = sort.count;
    }
    arena_free(scratch);
    return sorted;
}
