// Inside the model language: a parsed description, and the state of lowering it into the graph IR. Private to frontend/model_*.c.
//
// A description is parsed once into blocks, parameters and statements. Lowering runs main's statements; a call elaborates its block for the
// given index values and operand types into a function, and reuses the function of an earlier call when it comes out the same.
#ifndef TENON_FRONTEND_MODEL_H
#define TENON_FRONTEND_MODEL_H

#include "frontend/expression.h"
#include "frontend/frontend.h"

enum {
    MOST_CONFIG = 2000, MOST_BLOCKS = 1000, MOST_PARAMS = 500, MOST_NAMES = 64, MOST_TURNS = 100000, MOST_STATEMENTS = 2000000,
    MOST_CALL_DEPTH = 16, MOST_EXPERTS = 4096, MOST_FUNC_PARAMS = 1000, MOST_RESULTS = 64, MOST_FOLDS = 64,
};

// ---- a parsed description -----------------------------------------------------------------------------------------

typedef struct Line Line;
typedef struct { int count; Line *lines; } Body;
struct Line {
    Statement *statement;          // NULL: a repeat
    Loc loc;
    const char *index;             // repeat; may be NULL
    Expr *times;
    Body body;
    bool bad;                      // made an error in some call: further ones are not repeated
};

typedef struct {
    const char *name;
    Loc loc;
    const Yaml *pattern;           // name:
    Expr **shape; int rank;        // shape: [a, b]
    Expr *shape_list;              // shape: an expression that gives a list
    Expr *index, *transpose, *when, *rows[3];
    int rows_count;                // 0: no rows
    const char *otherwise;         // or:
    Loc otherwise_loc;
    bool broken;                   // the declaration has an error: its value is poison
    bool bad;                      // made an error in some call
    bool mentioned;                // some statement speaks of it
} Param;

typedef struct Made Made;
typedef struct {
    const char *name;              // NULL: main
    Loc loc;
    int index_count;  const char **indices;
    int input_count;  const char **inputs;
    int param_count;  Param *params;
    Body body;
    bool broken;                   // its declaration has an error: calls give poison
    bool called;
    int active;                    // calls being elaborated
    int made_count, made_capacity; Made **made;   // distinct functions
} Block;

// ---- values while lowering ----------------------------------------------------------------------------------------

// Where a parameter's numbers come from: a view of a tensor, numbers in memory, or an operation on other sources, which is computed when
// main passes it somewhere. The same numbers are the same source.
typedef struct Source Source;
struct Source {
    Weight view;                   // name, type; and the tensor or data, unless it is an operation
    OpId op;                       // OP_COUNT: a view
    int operand_count; struct Datum *operands;   // slots and constants
    int attr_count; Attr *attrs;
    int result;                    // which of the operation's results
    int depth;                     // of operations on operations
    const Expr *at;
    bool missing;                  // stands for a tensor that is not there
    Weight *made;                  // the module's weight, once main passes it
};

// A parameter, or an array of one for each expert.
typedef struct {
    const char *name, *origin;     // the user's name; a tensor
    Type type;
    int count;                     // 0 plain
    Source **sources;              // max(count, 1)
    bool unnamed;                  // an operation's result: takes the name of the variable it is assigned to
} Slot;

typedef enum { DATUM_POISON, DATUM_CONSTANT, DATUM_VALUE, DATUM_SLOT, DATUM_LIST } DatumKind;
typedef struct Datum Datum;
struct Datum {
    DatumKind kind;
    Constant constant;
    Value *value;
    Slot *slot;
    int count; Datum *items;       // LIST: several values
};

// What a block became for one call: a function and what its parameters stand for.
struct Made { Func *func; uint64_t hash; int slot_count; Slot **slots; bool poison; };

typedef struct Table Table;

typedef struct {
    Arena *arena, *scratch;        // the model's; the lowering's
    Diags *diags, *mute;           // mute swallows what was said before
    Module *module;
    Provider *provider;            // NULL: weights could not be opened; nothing is looked up
    bool provider_failed;          // its error was reported
    Loc weights_loc;
    int64_t context;
    Scope config;
    int block_count; Block *blocks;
    Block main;
    Table *calls, *folds, *sources;   // sources by name
    Table *same; int same_count;      // names of tensors that are others
    int turns, statements, depth, nested;   // nested: errors that belong to other statements than the current one
} Lower;

typedef struct { const char *name; Datum datum; } Variable;
typedef struct { Slot *slot; Value *value; } Bound;

// One function under construction.
typedef struct {
    Lower *lower;
    Block *block;
    Func *func;
    Arena *arena;                  // what is gone with the frame
    Diags *diags;                  // of the current statement: the sink, or mute
    Scope *scope;
    int variable_count, variable_capacity; Variable *variables;
    Datum *params; bool *params_known;
    int bound_count, bound_capacity; Bound *bound;
    bool failed;                   // the function cannot be made
    bool lost;                     // a line could not be read: any name may be one it defines
    bool returned;
    Datum *results; int result_count;
} Frame;

// model_parse.c: false when something is wrong with the structure; what could be read is there.
bool parse_blocks(Lower *lower, const Yaml *root);
// model_lower.c
bool run_body(Frame *frame, const Body *body);
Variable *frame_variable(Frame *frame, const char *name);
void frame_set(Frame *frame, const char *name, Datum datum);
Value *frame_slot(Frame *frame, Slot *slot);               // the slot as a value of this function
void frame_error(Frame *frame, const Expr *expr, const char *format, ...) PRINTF_LIKE(3, 4);
void frame_hint(Frame *frame, const char *format, ...) PRINTF_LIKE(2, 3);
// model_expr.c
Datum lower_expr(Frame *frame, const Expr *expr, const char *const *names, int name_count);
Constant lower_constant(Frame *frame, const Expr *expr, const char *what);   // poison with an error when it is not known at compile time
Datum datum_constant(Constant constant);
Datum datum_value(Value *value);
Datum datum_slot(Slot *slot);
const char *datum_describe(Frame *frame, const Datum *datum);
extern const Datum datum_poison;
// model_same.c
bool parse_same(Lower *lower, const Yaml *root);                      // false with errors
const char *same_name(const Lower *lower, const char *name);          // the tensor that it is, perhaps itself; NULL: the names go round in a circle
// model_param.c
Datum param_datum(Frame *frame, int index);
// The source that equals `like`, or a new one under that name or a variant of it.
Source *source_for(Lower *lower, const Source *like);
Slot *slot_for(Lower *lower, const char *name, const char *origin, Source *source);
// model_list.c: numbers in memory as a parameter; a list of numbers (or of equally long lists of them) becomes one, all else stays as it is.
Slot *slot_of_numbers(Lower *lower, const char *name, const char *base, Type type, const float *data);
void list_as_slot(Frame *frame, Datum *datum, const Expr *at);
// model_op.c
// `args`: the call's arguments when they are worked out already, else NULL.
Datum lower_op(Frame *frame, OpId op, const Expr *call, const Datum *args, const char *const *names, int name_count);
// The node, folded when all operands are parameters. operands[i] may be a constant none (absent) or a number.
Datum make_node(Frame *frame, OpId op, const Datum *operands, int operand_count, const Attr *attrs, int attr_count, const Expr *at,
                const char *const *names, int name_count);
// model_call.c
Block *block_find(Lower *lower, const char *name);
Datum lower_call(Frame *frame, Block *block, const Expr *call, const char *const *names, int name_count);
Datum lower_moe(Frame *frame, const Expr *call, const char *const *names, int name_count);
bool lower_main(Lower *lower, const char *const *inputs, int input_count);
// model_fold.c
Weight *source_weight(Frame *frame, Source *source);   // computes it when needed; NULL with an error
Datum fold_node(Frame *frame, OpId op, const Datum *operands, int operand_count, const Attr *attrs, int attr_count, const Expr *at);
// model_rope.c: the vector by which frequencies are divided, [dims / 2]; NULL with an error. A `scaling` record gives factors and mscale.
Slot *rope_factors(Frame *frame, const Constant *factors, int64_t dims, double base, const Expr *at);
bool rope_scaling(Frame *frame, const Constant *record, const Expr *at, Constant *factors, double *mscale);
// model_load.c
Model *model_build(Arena *arena, const char *path, const char *yaml, size_t length, Provider *given, Diags *diags);

// table.c: text to pointers
Table *table_new(Arena *arena);
void *table_get(const Table *table, const char *key);
void table_set(Table *table, const char *key, void *item);   // key is copied

#endif
