// The model language's lower half, shared by model descriptions, architecture templates and import: YAML structure with places, and the
// scalar language (numbers, words, lists, records, expressions over names).
//
// From YAML only structure is taken; a scalar is text until the scalar language reads it. Everything returned lives in the arena given.
// Errors go to `diags` with their place; a function that reported one returns NULL or false.
#ifndef TENON_FRONTEND_LANGUAGE_H
#define TENON_FRONTEND_LANGUAGE_H

#include "ir/base.h"

// ---- YAML structure -----------------------------------------------------------------------------------------------

typedef enum { YAML_SCALAR, YAML_LIST, YAML_MAP } YamlKind;

typedef struct Yaml Yaml;
struct Yaml {
    YamlKind kind;
    Loc loc;                       // of its first character; length: of a scalar on its first line, else 1
    const char *text;              // YAML_SCALAR: its text, unquoted; never contains a NUL
    size_t length;
    bool quoted;                   // 'x', "x" or a block scalar
    bool poisoned;                 // an alias stood here: its error was reported
    const struct YamlFile *file;   // private to yaml_tree.c: where it stands in the file's text, to draw carets inside it
    size_t source, source_length;
    const uint32_t *places;
    int count;                     // YAML_LIST, YAML_MAP
    Yaml **keys, **items;          // keys are scalars, all different
};

// One document. Refuses anchors, aliases, merge keys, tags, duplicate keys, other documents, keys that are no scalars, deep nesting.
// The text is added to diags as a source. NULL with errors.
Yaml *yaml_read(Arena *arena, const char *file, const char *text, size_t length, Diags *diags);
// The same, but mistakes that leave a tree (all but broken syntax) give it, so that the mistakes in what it says can be reported too.
Yaml *yaml_read_anyway(Arena *arena, const char *file, const char *text, size_t length, Diags *diags);
const Yaml *yaml_get(const Yaml *map, const char *key);                      // NULL when absent, or when `map` is NULL or no map
// Every key of the map is one of `known`, else an error with "did you mean". `what`: "a parameter has no key 'nmae'".
bool yaml_check_keys(const Yaml *map, const char *what, const char *const *known, int count, Diags *diags);
Loc yaml_place(const Yaml *scalar, int offset, int length);    // of a piece of a scalar's text
bool yaml_ends_at_comma(const Yaml *scalar);                   // an unquoted item of a flow list or map, with another after it
const char *yaml_kind_name(YamlKind kind);                                   // "a scalar", "a list", "a map"

// ---- constants ----------------------------------------------------------------------------------------------------

typedef enum {
    CONSTANT_NONE,       // none
    CONSTANT_NUMBER,
    CONSTANT_BOOL,       // number: 0 or 1
    CONSTANT_TEXT,       // 'half', or a bare word as a whole config value
    CONSTANT_LIST,
    CONSTANT_RECORD,
    CONSTANT_SIZE,       // T, S: number is DIM_T or DIM_S
    CONSTANT_FACTORS,    // llama3(…), yarn(…) …: a record with `text` its kind; rope computes them
    CONSTANT_POISON,     // stands for a value whose error was reported: makes no further errors
} ConstantKind;

typedef struct Constant Constant;
struct Constant {
    ConstantKind kind;
    double number;
    const char *text;
    int count;                     // LIST, RECORD, FACTORS
    const char **names;            // RECORD, FACTORS
    Constant *items;
};

Constant constant_number(double value);
Constant constant_bool(bool value);
Constant constant_word(Arena *arena, const char *text);
bool constant_integer(const Constant *constant, int64_t *value);             // a number without fraction, at most 2^53
bool constant_true(const Constant *constant);                                // none, false, 0, "" and empty lists are false
bool constant_equal(const Constant *a, const Constant *b);
const Constant *constant_field(const Constant *record, const char *name);    // NULL when absent
void constant_text(const Constant *constant, Text *out); // as the language writes it: 1e-06, true, 'half', [1, 2], {a: 1}

// ---- names --------------------------------------------------------------------------------------------------------

// Names and what they stand for. `find`, when set, is asked before the table: config values can be worked out when needed, in any order. It
// returns false for a name it does not know. The table's names serve "did you mean" too.
typedef struct Scope Scope;
struct Scope {
    const Scope *outer;
    int count, capacity;
    const char **names;
    Constant *values;
    int value_capacity;
    bool (*find)(void *context, const char *name, Constant *value);
    void *context;
};

void scope_set(Arena *arena, Scope *scope, const char *name, Constant value);   // replaces one of the same name in this scope
bool scope_get(const Scope *scope, const char *name, Constant *value);          // looks outward

// ---- evaluation ---------------------------------------------------------------------------------------------------

// A config value, default, condition or count. A scalar is an expression (`hidden // heads`, `1e6`, `"min(a, b)"`), and a single word that
// names nothing is that word as text (`half`); a YAML list or map of such is a list or record.
bool constant_evaluate(Arena *arena, const Yaml *value, const Scope *scope, Constant *out, Diags *diags);
// The names that a scalar's expression uses (each once), in order; -1 when it is no expression (with errors).
int expression_names(Arena *arena, const Yaml *scalar, const char ***names, Diags *diags);
// "model.layers.{layer}.mlp.{2*layer + 1}": each {expression} replaced by its value; {{ and }} are braces. NULL with errors.
const char *pattern_expand(Arena *arena, const Yaml *scalar, const Scope *scope, Diags *diags);

#endif
