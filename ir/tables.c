// The tables behind the X-macro files: element types, layouts, and the op table with its operand and attribute specifications parsed.
//
// ops.def gives operands and attributes of an op as short strings; they are read once, at first use, into one static table.
#include "ir/ir.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

const DTypeInfo dtype_info[DT_COUNT] = {
#define DTYPE(id, name, block, bytes, meaning) {name, block, bytes, meaning},
#include "ir/dtypes.def"
#undef DTYPE
    {"cache", 1, 0, "a KV cache between cache_write and attend"},
};

const char *const layout_names[LAYOUT_COUNT] = {"none", "rows", "panels", "sparse", "blocks"};

DType dtype_parse(const char *name) {
    for (int i = 0; i < DT_COUNT; i++)
        if (strcmp(dtype_info[i].name, name) == 0) return (DType)i;
    return DT_COUNT;
}

enum { POOL_BYTES = 8192 };

static struct {
    pthread_once_t once;
    OpInfo ops[OP_COUNT];
    char pool[POOL_BYTES];      // the names, cut out of the specifications
    size_t used;
} table = {
    .once = PTHREAD_ONCE_INIT,
    .ops = {
#define OP(id, name, operands, attributes, flags, meaning) {name, meaning, operands, attributes, flags, 0, 0, {{0}}, {{0}}},
#include "ir/ops.def"
#undef OP
    },
};

static const char *keep(const char *from, size_t length) {
    if (table.used + length + 1 > POOL_BYTES) abort();   // our own table outgrew the pool
    char *to = table.pool + table.used;
    memcpy(to, from, length);
    to[length] = 0;
    table.used += length + 1;
    return to;
}

static void read_operand(OpInfo *op, const char *at, size_t length) {
    if (op->operand_count == MAX_OPERANDS) abort();
    OperandSpec *spec = &op->operands[op->operand_count++];
    if (*at == '=') spec->weight = true, at++, length--;
    if (at[length - 1] == '?') spec->optional = true, length--;
    if (at[length - 1] == '*') spec->variadic = true, length--;
    spec->name = keep(at, length);
}

// name:kind, then (choices) of an enumeration, then =default
static void read_attr(OpInfo *op, const char *at, size_t length) {
    if (op->attr_count == MAX_ATTRS) abort();
    AttrSpec *spec = &op->attrs[op->attr_count++];
    const char *end = at + length, *colon = memchr(at, ':', length);
    spec->name = keep(at, (size_t)(colon - at));
    spec->kind = colon[1];
    at = colon + 2;
    if (at < end && *at == '(') {
        const char *close = memchr(at, ')', (size_t)(end - at));
        spec->choices = keep(at + 1, (size_t)(close - at - 1));
        at = close + 1;
    }
    spec->required = at == end;
    if (spec->required) return;
    const char *value = keep(at + 1, (size_t)(end - at - 1));
    if (spec->kind == 'e') spec->text = value;
    else if (spec->kind == 'b') spec->number = strcmp(value, "true") == 0;
    else if (spec->kind == 't') spec->number = dtype_parse(value);
    else spec->number = strtod(value, NULL);
}

static void read_words(OpInfo *op, const char *text, void (*read)(OpInfo *, const char *, size_t)) {
    while (*text) {
        size_t length = strcspn(text, " ");
        if (length) read(op, text, length);
        text += length + strspn(text + length, " ");
    }
}

static void read_table(void) {
    for (int i = 0; i < OP_COUNT; i++) {
        read_words(&table.ops[i], table.ops[i].operands_text, read_operand);
        read_words(&table.ops[i], table.ops[i].attrs_text, read_attr);
    }
}

const OpInfo *op_info(OpId op) {
    pthread_once(&table.once, read_table);
    return (unsigned)op < OP_COUNT ? &table.ops[op] : NULL;
}

OpId op_find(const char *name) {
    for (int i = 0; i < OP_COUNT; i++)
        if (strcmp(table.ops[i].name, name) == 0) return (OpId)i;
    return OP_COUNT;
}
