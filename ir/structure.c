// When do two functions compute the same? Each is written down with its values numbered in order of appearance: operations, types,
// attributes, operands; names, places and locations are left out. Equal text is an equal structure; callees are compared in turn.
#include "ir/internal.h"

#include <string.h>

typedef struct { const Value **items; int *numbers; size_t room; int count; } Numbers;   // value → its number

static size_t slot(const Numbers *numbers, const Value *value) {
    size_t at = hash_bytes(&value, sizeof value, 0) & (numbers->room - 1);
    while (numbers->items[at] && numbers->items[at] != value) at = (at + 1) & (numbers->room - 1);
    return at;
}

static void put(Text *out, const void *bytes, size_t length) { text_add(out, bytes, length); }
static void put_int(Text *out, int64_t number) { put(out, &number, sizeof number); }

static void put_type(Text *out, const Type *type) {
    put_int(out, type->dtype);
    put_int(out, type->rank);
    put(out, type->dims, sizeof *type->dims * (size_t)type->rank);
}

static void define(Numbers *numbers, const Value *value, Text *out) {
    size_t at = slot(numbers, value);
    numbers->items[at] = value;
    numbers->numbers[at] = numbers->count++;
    put_type(out, &value->type);
    put_int(out, value->count);
    put_int(out, value->kind == VALUE_PARAM ? value->layout : 0);
    put_int(out, value->kind == VALUE_PARAM ? value->kept : 0);
    put_int(out, value->kind == VALUE_PARAM ? value->block : 0);
}

static void refer(const Numbers *numbers, const Value *value, Text *out) {
    if (!value) {
        put_int(out, -1);
    } else if (value->kind == VALUE_WEIGHT) {
        put_int(out, -2 - value->count);
        for (int i = 0; i < (value->count ? value->count : 1); i++) put(out, value->weights[i]->name, strlen(value->weights[i]->name) + 1);
    } else {
        size_t at = slot(numbers, value);
        put_int(out, numbers->items[at] ? numbers->numbers[at] : INT64_MIN);
    }
}

// Hashes of callees, each computed once however often it is called.
typedef struct { Arena *arena; NameSet *hashes; } Memo;

static uint64_t hash_func(const Func *func, Memo *memo);

static void put_attr(Text *out, const Attr *attr, Memo *memo) {
    put(out, &attr->number, sizeof attr->number);
    put(out, attr->sizes, sizeof *attr->sizes * (size_t)attr->size_count);
    put_int(out, attr->size_count);
    if (attr->text) put(out, attr->text, strlen(attr->text) + 1);
    if (attr->func) put_int(out, (int64_t)hash_func(attr->func, memo));
}

static void write_down(const Func *func, Text *out, Memo *memo) {
    size_t values = (size_t)func->input_count + (size_t)func->param_count, room = 16;
    for (int n = 0; n < func->node_count; n++) values += (size_t)func->nodes[n]->result_count;
    while (room < values * 2) room *= 2;
    Numbers numbers = {ARENA_ARRAY(memo->arena, const Value *, room), ARENA_ARRAY(memo->arena, int, room), room, 0};

    put_int(out, func->kernel);
    put_int(out, func->input_count);
    put_int(out, func->param_count);
    for (int i = 0; i < func->input_count; i++) define(&numbers, func->inputs[i], out);
    for (int i = 0; i < func->param_count; i++) define(&numbers, func->params[i], out);
    for (int n = 0; n < func->node_count; n++) {
        const Node *node = func->nodes[n];
        put_int(out, node->op);
        put_int(out, node->operand_count);
        for (int i = 0; i < node->operand_count; i++) refer(&numbers, node->operands[i], out);
        for (int i = 0; i < node->attr_count; i++) put_attr(out, &node->attrs[i], memo);
        for (int i = 0; i < node->result_count; i++) define(&numbers, node->results[i], out);
    }
    for (int i = 0; i < func->result_count; i++) refer(&numbers, func->results[i], out);
}

static uint64_t hash_func(const Func *func, Memo *memo) {
    uint64_t *known = names_find(memo->hashes, func->name);
    if (known) return *known;
    Text text = {0};
    write_down(func, &text, memo);
    uint64_t hash = hash_bytes(text.data, text.length, 0);
    text_free(&text);
    names_add(memo->hashes, func->name, arena_copy(memo->arena, &hash, sizeof hash));
    return hash;
}

uint64_t func_structure_hash(const Func *func) {
    Arena *arena = arena_new();
    Memo memo = {arena, names_new(arena)};
    uint64_t hash = hash_func(func, &memo);
    arena_free(arena);
    return hash;
}

static bool equal(const Func *a, const Func *b, Memo *memo, int depth) {
    if (a == b) return true;
    if (depth > MAX_CALL_DEPTH) return false;
    Text at = {0}, bt = {0};
    write_down(a, &at, memo);
    write_down(b, &bt, memo);
    bool same = at.length == bt.length && memcmp(at.data, bt.data, at.length) == 0;
    text_free(&at);
    text_free(&bt);
    // The texts name callees by hash; each distinct pair is looked into once.
    for (int n = 0; same && n < a->node_count; n++)
        for (int i = 0; same && i < a->nodes[n]->attr_count; i++) {
            const Func *af = a->nodes[n]->attrs[i].func, *bf = b->nodes[n]->attrs[i].func;
            if (!af || af == bf) continue;
            const char *pair = arena_printf(memo->arena, "%p %p", (const void *)af, (const void *)bf);
            if (names_add(memo->hashes, pair, memo)) same = equal(af, bf, memo, depth + 1);
        }
    return same;
}

bool func_structure_equal(const Func *a, const Func *b) {
    Arena *arena = arena_new();
    Memo memo = {arena, names_new(arena)};
    // Functions of two modules may share a name, and the memo goes by names: those are compared by hash.
    bool same = a->module == b->module ? equal(a, b, &memo, 0) : func_structure_hash(a) == func_structure_hash(b);
    arena_free(arena);
    return same;
}
