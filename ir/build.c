// Building: modules, functions, weights, nodes. A node is made whole or not at all: operands and attributes are checked against the op
// table, then inference (infer.c) says what it results in.
#include "ir/internal.h"
#include "ir/prune.h"

#include <math.h>
#include <string.h>

Module *module_new(Arena *arena, const char *name) {
    Module *module = ARENA_NEW(arena, Module);
    module->arena = arena;
    module->name = arena_strdup(arena, name);
    module->context = 2048;
    module->max_tokens = 512;
    module->max_rows = module->max_sequences = 64;
    module->func_names = names_new(arena);
    module->weight_names = names_new(arena);
    return module;
}

Func *func_new(Module *module, const char *name) {
    Func *func = ARENA_NEW(module->arena, Func);
    func->module = module;
    func->name = names_unique(module->func_names, name, func);
    func->row_factor = 1;
    func->names = names_new(module->arena);
    ARENA_PUSH(module->arena, module->funcs, module->func_count, module->func_capacity) = func;
    return func;
}

static Value *value_new(Func *func, ValueKind kind, const char *name, const char *fallback, Type type, int index) {
    Value *value = ARENA_NEW(func->module->arena, Value);
    value->kind = kind;
    value->type = type;
    value->index = index;
    value->place = -1;
    value->name = names_unique(func->names, name ? name : fallback, value);
    if (name) value->user_name = strcmp(name, value->name) == 0 ? value->name : arena_strdup(func->module->arena, name);
    return value;
}

// These lists are short and change rarely: each is copied to grow.
static Value **appended(Arena *arena, Value **values, int count, Value *value) {
    Value **longer = ARENA_ARRAY(arena, Value *, count + 1);
    for (int i = 0; i < count; i++) longer[i] = values[i];
    longer[count] = value;
    return longer;
}

Value *func_input(Func *func, const char *name, Type type) {
    Value *value = value_new(func, VALUE_INPUT, name, "x", type, func->input_count);
    func->inputs = appended(func->module->arena, func->inputs, func->input_count++, value);
    return value;
}

Value *func_param(Func *func, const char *name, Type type, int count) {
    Value *value = value_new(func, VALUE_PARAM, name, "w", type, func->param_count);
    value->count = count;
    func->params = appended(func->module->arena, func->params, func->param_count++, value);
    return value;
}

Value *func_weights(Func *func, Weight **weights, int count) {
    int n = count > 0 ? count : 1;
    Value *value = ARENA_NEW(func->module->arena, Value);
    value->kind = VALUE_WEIGHT;
    value->name = value->user_name = weights[0]->name;
    value->type = weights[0]->type;
    value->count = count;
    value->place = -1;
    value->weights = arena_copy(func->module->arena, weights, sizeof *weights * (size_t)n);
    return value;
}

void func_return(Func *func, Value *const *values, int count) {
    func->results = arena_copy(func->module->arena, values, sizeof *values * (size_t)count);
    func->result_count = count;
}

// ---- weights --------------------------------------------------------------------------------------------------------

static bool text_equal(const char *a, const char *b) { return a == b || (a && b && strcmp(a, b) == 0); }

static bool data_equal(const Weight *a, const Weight *b) {
    if (a->data == b->data) return true;
    uint64_t bytes;
    Type whole = prune_whole_type(a);
    return a->data && b->data && type_bytes(&whole, &bytes) && memcmp(a->data, b->data, bytes) == 0;
}

static bool weight_equal(const Weight *a, const Weight *b) {
    return type_equal(&a->type, &b->type) && text_equal(a->tensor, b->tensor) && type_equal(&a->source, &b->source) &&
           a->index == b->index && a->first == b->first && a->step == b->step && a->rows == b->rows && a->transpose == b->transpose &&
           a->bytes == b->bytes && a->rotate == b->rotate && a->quantize_to == b->quantize_to && a->layout == b->layout && prune_equal(a, b) &&
           data_equal(a, b);
}

Weight *module_weight(Module *module, const Weight *like) {
    const char *name = like->name;
    for (int number = 1;; number++) {
        Weight *there = names_find(module->weight_names, name);
        if (!there) break;
        if (weight_equal(there, like)) return there;
        name = arena_printf(module->arena, "%s.%d", like->name, number);
    }
    Weight *weight = arena_copy(module->arena, like, sizeof *like);
    weight->name = arena_strdup(module->arena, name);
    if (like->tensor) weight->tensor = strcmp(like->tensor, name) == 0 ? weight->name : arena_strdup(module->arena, like->tensor);
    weight->id = module->weight_count;
    names_add(module->weight_names, weight->name, weight);
    ARENA_PUSH(module->arena, module->weights, module->weight_count, module->weight_capacity) = weight;
    return weight;
}

// ---- attributes -----------------------------------------------------------------------------------------------------

Attr attr_number(const char *name, double value) { return (Attr){.name = name, .kind = 'f', .number = value}; }
Attr attr_text(const char *name, const char *value) { return (Attr){.name = name, .kind = 'e', .text = value}; }
Attr attr_func(const char *name, Func *func) { return (Attr){.name = name, .kind = 'g', .func = func}; }

Attr attr_sizes(const char *name, const int64_t *sizes, int count) {
    Attr attr = {.name = name, .kind = 's', .size_count = count};
    for (int i = 0; i < count && i < (int)COUNT_OF(attr.sizes); i++) attr.sizes[i] = sizes[i];
    return attr;
}

const Attr *node_attr(const Node *node, const char *name) {
    for (int i = 0; i < node->attr_count; i++)
        if (strcmp(node->attrs[i].name, name) == 0) return &node->attrs[i];
    return NULL;
}

double node_number(const Node *node, const char *name) {
    const Attr *attr = node_attr(node, name);
    return attr ? attr->number : 0;
}

int64_t node_int(const Node *node, const char *name) { return (int64_t)node_number(node, name); }

bool attr_equal(const Attr *a, const Attr *b) {
    if (strcmp(a->name, b->name) != 0 || a->kind != b->kind || a->size_count != b->size_count || a->func != b->func) return false;
    if (memcmp(a->sizes, b->sizes, sizeof *a->sizes * (size_t)a->size_count) != 0 || !text_equal(a->text, b->text)) return false;
    return a->number == b->number || (isnan(a->number) && isnan(b->number));
}

static bool choice_listed(const char *choices, const char *text) {
    size_t length = strlen(text);
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, text, length) == 0 && (at[length] == '|' || !at[length])) return true;
    return false;
}

static const char *kind_name(char kind) {
    switch (kind) {
    case 'i': return "a whole number";
    case 'b': return "true or false";
    case 's': return "a list of sizes";
    case 'e': return "a name";
    case 't': return "an element type";
    case 'g': return "a block";
    default: return "a number";
    }
}

// Numbers may be given as any of f, i, b, t; the kind in the node is the spec's.
static bool attr_fits(const AttrSpec *spec, const Attr *given) {
    bool numeric = given->kind == 'f' || given->kind == 'i' || given->kind == 'b' || given->kind == 't';
    switch (spec->kind) {
    case 'f': return numeric;
    case 'i': return numeric && given->number == floor(given->number) && fabs(given->number) <= 0x1p53;
    case 'b': return numeric && (given->number == 0 || given->number == 1);
    case 't': return numeric && given->number >= 0 && given->number < DT_CACHE;
    case 's': return given->kind == 's' && given->size_count >= 0 && given->size_count <= (int)COUNT_OF(given->sizes);
    case 'e': return given->kind == 'e' && given->text && choice_listed(spec->choices, given->text);
    case 'g': return given->kind == 'g' && given->func;
    }
    return false;
}

static bool unknown_attr(const OpInfo *op, const Attr *given, Loc loc, Diags *diags) {
    const char *names[MAX_ATTRS];
    for (int i = 0; i < op->attr_count; i++) names[i] = op->attrs[i].name;
    diag_error(diags, loc, "%s: takes no argument %s", op->name, given->name);
    const char *near = nearest_name(given->name, names, op->attr_count);
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean %s", near);
    return false;
}

static bool set_attrs(Node *node, const OpInfo *op, Arena *arena, const Attr *given, int count, Loc loc, Diags *diags) {
    node->attr_count = op->attr_count;
    node->attrs = ARENA_ARRAY(arena, Attr, op->attr_count);
    bool set[MAX_ATTRS] = {false}, ok = true;
    for (int i = 0; i < op->attr_count; i++)
        node->attrs[i] =
            (Attr){.name = op->attrs[i].name, .kind = op->attrs[i].kind, .number = op->attrs[i].number, .text = op->attrs[i].text};
    for (int i = 0; i < count; i++) {
        int a = 0;
        while (a < op->attr_count && strcmp(op->attrs[a].name, given[i].name) != 0) a++;
        if (a == op->attr_count) {
            ok = unknown_attr(op, &given[i], loc, diags);
            continue;
        }
        if (!attr_fits(&op->attrs[a], &given[i])) {
            if (op->attrs[a].kind == 'e') diag_error(diags, loc, "%s: %s is one of %s", op->name, given[i].name, op->attrs[a].choices);
            else diag_error(diags, loc, "%s: %s must be %s", op->name, given[i].name, kind_name(op->attrs[a].kind));
            ok = false;
            continue;
        }
        node->attrs[a] = given[i];
        node->attrs[a].name = op->attrs[a].name;
        node->attrs[a].kind = op->attrs[a].kind;
        if (given[i].text) node->attrs[a].text = arena_strdup(arena, given[i].text);
        set[a] = true;
    }
    for (int a = 0; a < op->attr_count; a++)
        if (op->attrs[a].required && !set[a]) {
            diag_error(diags, loc, "%s: %s is missing", op->name, op->attrs[a].name);
            ok = false;
        }
    return ok;
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

Node *func_node(Func *func, OpId id, Value *const *operands, int operand_count, const Attr *attrs, int attr_count,
                const char *const *names, Loc loc, Diags *diags) {
    Arena *arena = func->module->arena;
    const OpInfo *op = op_info(id);
    Node *node = ARENA_NEW(arena, Node);
    node->op = id;
    node->loc = loc;
    node->frame = -1;
    bool variadic = op->operand_count && op->operands[op->operand_count - 1].variadic;
    node->operand_count = variadic || operand_count > op->operand_count ? operand_count : op->operand_count;
    node->operands = ARENA_ARRAY(arena, Value *, node->operand_count);
    for (int i = 0; i < operand_count; i++) node->operands[i] = operands[i];
    if (!set_attrs(node, op, arena, attrs, attr_count, loc, diags)) return NULL;

    Type types[MAX_RESULTS];
    if (!node_infer(node, types, &node->result_count, diags)) return NULL;
    node->results = ARENA_ARRAY(arena, Value *, node->result_count);
    for (int i = 0; i < node->result_count; i++) {
        node->results[i] = value_new(func, VALUE_RESULT, names ? names[i] : NULL, op->name, types[i], i);
        node->results[i]->node = node;
    }
    ARENA_PUSH(arena, func->nodes, func->node_count, func->node_capacity) = node;
    return node;
}

int node_params(const Node *call) {
    int inputs = node_attr(call, "block")->func->input_count;
    return call->op == OP_MOE ? 3 : call->op == OP_MOE_EXPERTS ? 1 + inputs : inputs;
}

void func_uses(const Func *func, const Value *value, int *nodes, int *returns) {
    *nodes = *returns = 0;
    for (int n = 0; n < func->node_count; n++)
        for (int i = 0; i < func->nodes[n]->operand_count; i++) *nodes += func->nodes[n]->operands[i] == value;
    for (int i = 0; i < func->result_count; i++) *returns += func->results[i] == value;
}

void func_replace_uses(Func *func, Value *old, Value *by) {
    for (int n = 0; n < func->node_count; n++)
        for (int i = 0; i < func->nodes[n]->operand_count; i++)
            if (func->nodes[n]->operands[i] == old) func->nodes[n]->operands[i] = by;
    for (int i = 0; i < func->result_count; i++)
        if (func->results[i] == old) func->results[i] = by;
}

static int node_index(const Func *func, const Node *node) {
    for (int i = 0; i < func->node_count; i++)
        if (func->nodes[i] == node) return i;
    return -1;
}

void func_remove(Func *func, Node *node) {
    int at = node_index(func, node);
    if (at < 0) return;
    func->node_count--;
    memmove(func->nodes + at, func->nodes + at + 1, sizeof *func->nodes * (size_t)(func->node_count - at));
}

void func_move(Func *func, Node *node, const Node *before) {
    int from = node_index(func, node);
    if (from < 0 || node == before) return;
    func_remove(func, node);
    int to = before ? node_index(func, before) : func->node_count;
    if (to < 0) to = func->node_count;
    memmove(func->nodes + to + 1, func->nodes + to, sizeof *func->nodes * (size_t)(func->node_count - to));
    func->nodes[to] = node;
    func->node_count++;
}

// ---- questions about a module -------------------------------------------------------------------------------------

bool module_causal(const Module *module) {
    for (int f = 0; f < module->func_count; f++)
        for (int n = 0; n < module->funcs[f]->node_count; n++) {
            const Node *node = module->funcs[f]->nodes[n];
            bool attention = node->op == OP_ATTENTION || node->op == OP_ATTEND;
            if (attention ? !node_int(node, "causal") : op_info(node->op)->flags & SEQUENCE && node->op != OP_KEEP_ROWS) return false;
        }
    return true;
}
