// Inside chat_reduce: a small interpreter for the Jinja that chat templates are written in.
//
// Everything lives in the arena of one Jinja and is bounded: steps, nesting, memory, output. The first error stops all further work and is
// kept.
#ifndef TENON_FRONTEND_CHAT_H
#define TENON_FRONTEND_CHAT_H

#include "frontend/frontend.h"

typedef struct JValue JValue;
typedef struct JNode JNode;
typedef struct JFrame JFrame;
typedef struct Jinja Jinja;

// ---- values ----------------------------------------------------------------------------------------------------------

typedef enum { J_UNDEFINED, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STRING, J_LIST, J_MAP, J_MACRO, J_METHOD } JKind;

typedef struct { JValue *items; int count, capacity; } JList;
typedef struct { JValue *keys, *values; int count, keys_capacity, values_capacity; bool is_namespace; } JMap;
typedef struct { const JNode *node; JFrame *frame; } JMacro;             // the frame that it was defined in

struct JValue {
    JKind kind;
    union {
        bool truth;
        int64_t integer;
        double number;
        struct { const char *text; size_t length; };                     // UTF-8, or what the template's bytes are
        JList *list;
        JMap *map;
        JMacro *macro;
        struct { const char *name; JValue *self; } method;               // of a value; self NULL: a global function
    };
};

#define J_STRING_OF(bytes, size) ((JValue){.kind = J_STRING, .text = (bytes), .length = (size)})
#define J_TEXT(literal) J_STRING_OF(literal, sizeof(literal) - 1)
#define J_TRUTH(value) ((JValue){.kind = J_BOOL, .truth = (value)})
#define J_NUMBER(value) ((JValue){.kind = J_INT, .integer = (value)})

// ---- the tree --------------------------------------------------------------------------------------------------------

typedef enum {
    // expressions
    JN_LITERAL, JN_NAME, JN_LIST, JN_MAP, JN_ATTRIBUTE, JN_ITEM, JN_SLICE, JN_CALL, JN_FILTER, JN_TEST, JN_UNARY, JN_BINARY, JN_COMPARE,
    JN_AND, JN_OR, JN_NOT, JN_IF_ELSE,
    // statements
    JN_TEXT, JN_OUTPUT, JN_BLOCK, JN_IF, JN_FOR, JN_SET, JN_SET_BLOCK, JN_MACRO, JN_BREAK, JN_CONTINUE, JN_FILTER_BLOCK
} JNodeKind;

// items: operands, or children, in the order that the parser's comments say. A missing operand is NULL.
struct JNode {
    JNodeKind kind;
    int line;
    const char *name;                    // of a variable, attribute, filter, test, operator
    JValue value;                        // LITERAL, TEXT
    bool negated;                        // TEST: is not
    JNode **items; int count, capacity;
    const char **names;                  // CALL, FILTER: keyword of each item (NULL: positional); FOR, SET: targets; MACRO: parameters
    int name_count, names_capacity;
};

struct JFrame { JFrame *parent; const char **names; JValue *values; int count, names_capacity, values_capacity; };

struct Jinja {
    Arena *arena;
    const char *source, *at, *end;       // for the lexer
    int line;
    JFrame *globals;
    Text *out;
    char *error;                         // the first error; everything returns quickly after it
    int error_line;
    int64_t steps, bytes;                // left
    int depth;
    enum { J_GO, J_BREAK, J_CONTINUE } flow;
};

JNode *jinja_parse(Jinja *jinja, const char *source, size_t length);     // NULL with an error
bool jinja_render(Jinja *jinja, const JNode *template, Text *out);
void jinja_fail(Jinja *jinja, int line, const char *format, ...) PRINTF_LIKE(3, 4);

// ---- chat_value.c ----------------------------------------------------------------------------------------------------

void *jinja_alloc(Jinja *jinja, size_t bytes);                           // counted against the limit
JValue j_string(Jinja *jinja, const char *bytes, size_t length);         // copied
JValue j_take(Jinja *jinja, Text *text);                                 // copied, and the text freed
JValue j_list(Jinja *jinja);
JValue j_map(Jinja *jinja);
void j_push(Jinja *jinja, JValue list, JValue item);
void j_put(Jinja *jinja, JValue map, JValue key, JValue value);
JValue j_get(JValue map, JValue key);                                    // undefined when absent
JValue j_get_name(JValue map, const char *key);
bool j_true(JValue value);
bool j_equal(JValue a, JValue b);
int j_order(Jinja *jinja, int line, JValue a, JValue b);                 // <0, 0, >0
bool j_contains(Jinja *jinja, int line, JValue container, JValue item);
bool j_is(JValue string, const char *text);
int64_t j_length(JValue value);                                          // -1: it has none
void j_print(Jinja *jinja, Text *out, JValue value, bool quoted);        // as Python's str (or repr) writes it
void j_json(Jinja *jinja, Text *out, JValue value, int indent, int level);
JValue j_iterate(Jinja *jinja, int line, JValue value);                  // a list of its items
const char *j_kind_name(JValue value);
JValue j_binary(Jinja *jinja, int line, const char *operation, JValue a, JValue b);
JValue j_item(Jinja *jinja, int line, JValue of, JValue key);
JValue j_slice(Jinja *jinja, int line, JValue of, JValue from, JValue to, JValue step);

// ---- chat_builtins.c ---------------------------------------------------------------------------------------------------

typedef struct { JValue *items; const char **names; int count; } JArgs;
// The positional argument `index`, or the one called `name`; undefined when absent.
JValue j_arg(const JArgs *args, int index, const char *name);
JValue j_filter(Jinja *jinja, int line, const char *name, JValue value, const JArgs *args);
bool j_test(Jinja *jinja, int line, const char *name, JValue value, const JArgs *args);
JValue j_method(Jinja *jinja, int line, JValue self, const char *name, const JArgs *args);
bool j_has_method(JValue self, const char *name);
JValue j_function(Jinja *jinja, int line, const char *name, const JArgs *args);

#endif
