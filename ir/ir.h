// The graph IR: a module of functions over values, and the weights they read.
//
// A block of the model is one function for each distinct set of shapes and attributes; the model calls it with the weights of each layer. So
// nothing is unrolled but the calls themselves. `moe` names a function for its expert and passes *arrays* of weights, one element an expert.
// A fused region is a function too (`kernel` is set): passes outline, the interpreter runs it as a call, codegen makes it one kernel.
//
// Text (docs/ir.md): it parses back to itself.
//
//   weight @blk.0.attn_q.weight : q4_1[576, 576]
//   func @decoder(%x: f32[T, 576]; %wq: q4_1[576, 576], %gate: 16 x f32[896, 512]) -> f32[T, 576] {
//     %h: f32[T, 576] = rms_norm %x, %attn_norm {eps=1e-05, offset=0}
//     …
//     return %y
//   }
//   main @model(%tokens: i32[T]) -> f32[T, 49152] {
//     %x: f32[T, 576] = embedding %tokens, @token_embd.weight
//     %x1: f32[T, 576] = call %x, @blk.0.attn_q.weight, [@e0, @e1] {block=@decoder}
//   }
#ifndef TENON_IR_IR_H
#define TENON_IR_IR_H

#include "ir/base.h"

// ---- types --------------------------------------------------------------------------------------------------------

typedef enum {
#define DTYPE(id, name, block, bytes, meaning) DT_##id,
#include "ir/dtypes.def"
#undef DTYPE
    DT_CACHE,   // stands for a KV cache between cache_write and attend; dims: kv_heads, a key's size, a value's size, then, unless it is f32, the DType it keeps
    DT_COUNT
} DType;

typedef struct { const char *name; int block, bytes; const char *meaning; } DTypeInfo;
extern const DTypeInfo dtype_info[DT_COUNT];
DType dtype_parse(const char *name);   // DT_COUNT when there is none

enum { MAX_RANK = 6 };
enum { DIM_T = -1, DIM_S = -2, DIM_R = -3 };   // symbolic sizes; only ever dims[0]

typedef struct { DType dtype; int rank; int64_t dims[MAX_RANK]; } Type;

bool type_equal(const Type *a, const Type *b);
int64_t type_row_elements(const Type *type);   // product of the sizes after a symbolic first one (of all, when there is none)
// Bytes of a tensor whose shape is constant, rows of blocks included; false when it overflows or the last dimension is no multiple of the block.
bool type_bytes(const Type *type, uint64_t *bytes);
void type_text(const Type *type, Text *out);   // f32[T, 576]; cache[3, 64, 64, f16]
DType cache_storage(const Type *cache);        // what a cache keeps keys and values as: f32, f16, bf16, or int8 with a scale a token and head: i8

// How a weight lies in the blob. The layout pass decides; codegen's packer and kernels both read it from here.
typedef enum {
    LAYOUT_NONE,       // not decided yet
    LAYOUT_ROWS,       // row-major f32, i32 or bool: vectors, tables that are only gathered from
    LAYOUT_PANELS,     // panels of 64 outputs, K outermost in a panel: what products read
    LAYOUT_SPARSE,     // such panels of a pruned matrix, without its zeros: masks, and behind them what the rows keep
    LAYOUT_BLOCKS,     // panels of the blocks of columns that pruning kept in each, and which they are
    LAYOUT_COUNT
} Layout;
extern const char *const layout_names[LAYOUT_COUNT];   // none rows panels sparse blocks

// ---- weights ------------------------------------------------------------------------------------------------------

// Which rows or columns of a matrix (or elements of a vector) stay when the others are left out: `count` of `of`, ascending. count 0: all.
typedef struct { int64_t count, of; const int32_t *at; } Pick;

// Which values of a matrix are zero: of every `of` consecutive blocks along a row the `keep` of most weight stay. A block is rows × columns values;
// 1 × 1 with of = K keeps so many values of each row, 2 of 4 is the pattern 2:4. A block's weight is Σ (w · importance of its column)²; of equal
// ones the first stay. Fewer blocks at a row's end than `of` keep as many as they can. keep 0: no zeros.
typedef struct {
    int64_t keep, of;
    int rows, columns;         // of a block; rows divides 64, so that each panel of 64 outputs keeps the same number of blocks
    const float *importance;   // of each column: what calibration saw, not part of the text; NULL: all alike
    const uint8_t *blocks;     // 1 for a block that stays, [bands of rows][blocks along a row]; NULL: found when the rows are read
} Prune;

// Where a weight's bytes come from: a tensor of a file (or bytes in memory), then rows first, first+step, … of its first dimension,
// or element `index` of its first dimension; then, if said, the last two dimensions swapped. Of that, pruning may pick some rows and columns and
// make some values zero; then it is rotated. What is read through weight_rows_f32 is the end of it.
typedef struct {
    const char *name;          // unique in the module: the tensor's name, with its slice when it has one
    Type type;                 // after slicing, transposing and picking: what the graph sees
    const char *tensor;        // the source tensor's name, or NULL when `data` holds the values (dequantized f32, i32 or bool, row-major)
    Type source;               // the source tensor's type
    int64_t index;             // -1, or the element of the source's first dimension that is taken
    int64_t first, step, rows; // the rows taken (after index): first + i·step, i < rows; step 0: all rows
    bool transpose;            // the last two dimensions are swapped after slicing (only for block size 1)
    const void *bytes;         // the source tensor's bytes (mapped file or memory), NULL in IR text without files
    const void *data;
    Pick pick_rows;            // of a matrix
    Pick pick_columns;         // of a matrix, or elements of a vector
    Prune prune;
    int rotate;                // each row is Hadamard-transformed in blocks of this many (0: not); weight_rows_f32 does it
    DType quantize_to;         // what the quantize pass decided: DT_COUNT to keep as stored, else the type codegen stores
    const void *quantized;     // NULL (quantize_row says how), or the rows in that type, as calibration made them
    Layout layout;             // what the layout pass decided
    int id;                    // index in the module
} Weight;

// ---- functions ----------------------------------------------------------------------------------------------------

typedef enum {
#define OP(id, name, operands, attributes, flags, meaning) OP_##id,
#include "ir/ops.def"
#undef OP
    OP_COUNT
} OpId;

enum { ELEMENTWISE = 1, ROWWISE = 2, SHAPE = 4, TOKEN = 8, SEQUENCE = 16, STATE = 32, CALL = 64, INTERNAL = 128 };

typedef struct { const char *name; bool weight, optional, variadic; } OperandSpec;
typedef struct { const char *name; char kind; bool required; double number; const char *text; const char *choices; } AttrSpec;   // kind as in ops.def
enum { MAX_OPERANDS = 6, MAX_ATTRS = 8 };
typedef struct {
    const char *name, *meaning, *operands_text, *attrs_text;
    unsigned flags;
    int operand_count, attr_count;
    OperandSpec operands[MAX_OPERANDS];
    AttrSpec attrs[MAX_ATTRS];
} OpInfo;
const OpInfo *op_info(OpId op);          // parsed from ops.def once
OpId op_find(const char *name);          // OP_COUNT when there is none

typedef struct Node Node;
typedef struct Func Func;
typedef struct Module Module;

typedef enum { VALUE_INPUT, VALUE_PARAM, VALUE_RESULT, VALUE_WEIGHT } ValueKind;

typedef struct Value {
    ValueKind kind;
    const char *name;          // without sigil; unique in its function; the user's name where there is one
    const char *user_name;     // the name as it was given, before it was made unique; NULL when none was given
    const char *origin;        // VALUE_PARAM: a tensor it stands for, for messages; may be NULL
    Type type;
    int count;                 // VALUE_PARAM and VALUE_WEIGHT: 0 plain, n > 0 an array of n weights of this type
    Node *node;                // VALUE_RESULT: who makes it
    int index;                 // which input, parameter or result
    Weight **weights;          // VALUE_WEIGHT: max(count, 1) of them (only in main)
    Layout layout;             // VALUE_PARAM: of every weight bound to it
    int64_t kept;              // VALUE_PARAM, LAYOUT_SPARSE: so many values of each row are there, at most; LAYOUT_BLOCKS: just so many …
    int block;                 // … in blocks of so many
    DType stored;              // VALUE_PARAM of a kernel, from `fuse` on: what the passes store the weights bound to it as, as the weights say; DT_COUNT: as they come
    int64_t place;             // memory pass: byte offset in the function's frame; -1: none. Text: `%h: f32[T, 576] at 4096 = …`
} Value;
DType value_dtype(const Value *value);   // what an op sees: f32, i32, bool, i8 or cache, whatever the storage

typedef struct {
    const char *name;          // from the op's attribute spec
    char kind;                 // f i b e s t g
    double number;             // f, i, b, t (a DType)
    int64_t sizes[MAX_RANK * 4]; int size_count;   // s: DIM_T and so on allowed
    const char *text;          // e
    Func *func;                // g
} Attr;

struct Node {
    OpId op;
    int operand_count; Value **operands;   // NULL: absent
    int result_count;  Value **results;
    int attr_count;    Attr *attrs;        // all of the spec's, defaults filled in, in its order
    Loc loc;
    const char *label;                     // call: the user's indices for messages and names, "layer=3"; may be NULL
    int64_t frame;                         // memory pass: byte offset of the callee's frame in this function's; -1: none
};

struct Func {
    Module *module;
    const char *name;
    bool kernel;                           // a fused region
    int64_t frame_bytes;                   // memory pass: room for its values and its callees' frames
    int row_factor;                        // memory pass: most rows a token has here: 1, or k in an expert's function
    Loc loc;
    int input_count;  Value **inputs;
    int param_count;  Value **params;
    int node_count, node_capacity; Node **nodes;   // in execution order
    int result_count; Value **results;
    struct NameSet *names;                 // of its values; kept by the builder
};

struct Module {
    Arena *arena;
    const char *name;
    int64_t context;                       // the longest sequence
    int max_tokens, max_rows, max_sequences;   // most of T, R and S in one step; the memory pass plans for them (defaults 512, 64, 64)
    int weight_count, weight_capacity; Weight **weights;
    int func_count, func_capacity; Func **funcs;   // callees before callers; main last
    Func *main;
    struct NameSet *func_names, *weight_names;   // kept by the builder
};

// ---- building -----------------------------------------------------------------------------------------------------

Module *module_new(Arena *arena, const char *name);
Func *func_new(Module *module, const char *name);                     // appended; the name is made unique
Value *func_input(Func *func, const char *name, Type type);
Value *func_param(Func *func, const char *name, Type type, int count);
Value *func_weights(Func *func, Weight **weights, int count);         // count 0: one plain weight
Weight *module_weight(Module *module, const Weight *like);            // added, or the equal one that is there
void func_return(Func *func, Value *const *values, int count);        // sets the results
// Appends a node: attributes are given for those that differ from the default; result types are inferred. Returns NULL when the operands do not
// fit, with an error at `loc` in diags (in the user's terms: shapes, names). `names`: a name for each result, or NULL.
Node *func_node(Func *func, OpId op, Value *const *operands, int operand_count, const Attr *attrs, int attr_count,
                const char *const *names, Loc loc, Diags *diags);
bool node_infer(Node *node, Type *results, int *result_count, Diags *diags);   // what its operands and attributes say; room for 64 results
Attr attr_number(const char *name, double value);
Attr attr_text(const char *name, const char *value);
Attr attr_sizes(const char *name, const int64_t *sizes, int count);
Attr attr_func(const char *name, Func *func);
const Attr *node_attr(const Node *node, const char *name);            // never NULL for a name of the spec
double node_number(const Node *node, const char *name);
int64_t node_int(const Node *node, const char *name);
int node_params(const Node *call);                                    // of call, moe or moe_experts: its first operand that is a parameter
void func_uses(const Func *func, const Value *value, int *nodes, int *returns);   // how often used
void func_replace_uses(Func *func, Value *old, Value *by);
void func_remove(Func *func, Node *node);
void func_move(Func *func, Node *node, const Node *before);          // `before` NULL: to the end
bool module_causal(const Module *module);         // no token's result depends on later ones: a prompt may be cut into steps
uint64_t func_structure_hash(const Func *func);   // names and places left out: equal for equal computations (callees by their own hash)
bool func_structure_equal(const Func *a, const Func *b);

// ---- text, verification -------------------------------------------------------------------------------------------

void module_print(const Module *module, Text *out);
// NULL with errors in diags when it does not parse or verify.
Module *module_parse(Arena *arena, const char *file, const char *text, size_t length, Diags *diags);
bool module_verify(const Module *module, Diags *diags);

#endif
