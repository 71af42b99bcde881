// The kernel IR. Level 1: tile programs; level 2: kernels, that is a tile program over an index space of tasks. Level 3, the step, is step.c.
//
// A tile program computes one task. It is a list of statements over buffers, loop variables and scalars; it says what happens to tiles and never
// how a machine does it:
//   map      an elementwise expression over a strip of columns, stored to a buffer
//   reduce   a sum, maximum or minimum of an expression over a strip, to a scalar (16 partial results, folded as a tree)
//   let      a scalar from scalars
//   mma      acc[rows][columns] (+)= a[rows][k] · b[k][columns]; b is a packed panel in any storage format; the sum runs over k in order; a is
//            floats, or int8 codes with scales and sums (then all scales are applied within)
//   call     one of the prelude's closed vocabulary (top-k, rotary angles, cache write …)
//   for/end  loops
// A buffer has an element type, a place (memory, scratch, accumulator) and a layout by its strides. Every target prints the same program: only
// `mma` is lowered by what the target has (product_*.c), and all lowerings of one format give the same bits.
#ifndef TENON_CODEGEN_KERNEL_H
#define TENON_CODEGEN_KERNEL_H

#include "codegen/codegen.h"
#include "codegen/schedule.h"

// ---- indices and expressions --------------------------------------------------------------------------------------------

typedef struct { int variable; int64_t coefficient; } Term;
enum { MAX_TERMS = MAX_RANK + 4 };   // a loop a dimension, the row, the head, the panel, the lane
typedef struct { int64_t constant; int count; Term terms[MAX_TERMS]; } Index;   // constant + Σ coefficient · variable

typedef enum { PLACE_MEMORY, PLACE_SCRATCH, PLACE_ACCUMULATOR } Place;

typedef struct {
    const char *name;
    DType type;                // f32, i32, bool or i8
    Place place;
    int64_t elements;          // scratch: how many
    const char *base;          // memory: the C expression it starts at
    bool written;
} Buffer;

typedef enum {
    X_CONST, X_LOAD, X_OP,     // a number, an element of a buffer, an elementwise op of the graph IR
    X_SCALAR,                  // a scalar made by let or reduce
    X_INDEX,                   // an index as int32
} ExprKind;

typedef struct Expr {
    ExprKind kind;
    DType type;                // f32, i32, bool
    OpId op;
    DType cast;                // OP_CAST: to what (f16 and bf16 round and stay f32)
    bool tanh;                 // OP_GELU
    double number, lo, hi;
    int buffer, variable;      // X_LOAD; X_SCALAR
    Index index;               // X_LOAD, X_INDEX
    int count;
    struct Expr *args[3];
} Expr;

// ---- statements -----------------------------------------------------------------------------------------------------------

// How the b operand of an mma lies in memory (pack.c writes it so).
typedef struct {
    DType type;                // f32, f16, bf16, f8…: [k][64] elements; codes: see pack.c
    int group, bits, zero;     // grouped formats: a code is stored in `bits`, its value is code - zero
    bool has_minimum, scale_is_f16;
    const float *table;        // 16 values, or NULL
    const char *name;          // f32, g4x32mh … : names the product function
    bool sparse;               // without what pruning left out: masks, then the rest
    int block, blocks;         // so many blocks of so many k of a panel are there: which ones, as int32, then a panel of them; 0: all
    const char *inner;         // of blocks: the name of that panel's format
} PanelFormat;

typedef enum { S_FOR, S_END, S_MAP, S_REDUCE, S_LET, S_MMA, S_CALL } StmtKind;

typedef struct {
    StmtKind kind;
    int variable;              // for: loop variable; map, reduce: the lane variable; let, reduce: `scalar` holds the result
    int scalar;
    int64_t extent;            // for, map, reduce: how many; mma: k
    const char *extent_text;   // instead of extent: a C expression
    const char *from_text;     // for: the first value (0 when NULL)
    int buffer; Index index;   // map: destination; mma: accumulator
    Expr *expr;
    OpId op;                   // reduce: OP_SUM, OP_MAX, OP_MIN
    int a, b; Index a_index, b_index; int64_t a_stride, b_stride, acc_stride;   // mma
    const char *rows_text;     // mma: how many rows
    int columns; bool accumulate; const PanelFormat *format;
    bool codes; int scales, sums; Index scales_index, sums_index; int64_t scales_stride, sums_stride; int x_group, x_parts;   // mma of int8 codes: x's scales and sums, of which x_parts make a group's
    bool bf16;                 // mma of bf16 x
    const char *text;          // call: the whole call
} Stmt;

// ---- programs and kernels ---------------------------------------------------------------------------------------------------

typedef struct { const char *name; bool scalar; DType type; } Variable;

enum { X_FLOATS = -1, X_BF16 = -2 };

// MAX_PRODUCTS: as many as fuse puts into a kernel.
enum { MAX_PRODUCTS = 8, MAX_SCRATCH = 6 << 20, MAX_EXPRS = 1 << 16 };

enum { KV_PAIRS = 4 };

typedef struct Kernel {
    const Func *func;
    const char *name;
    Arena *arena;
    int buffer_count, buffer_capacity; Buffer *buffers;
    int variable_count, variable_capacity; Variable *variables;
    int stmt_count, stmt_capacity; Stmt *stmts;
    const char *tasks;         // C expression over a->rows: how many tasks
    const char *row_blocks;    // of a linear kernel: C expression over a.rows: blocks of rows, each with every panel
    const char *decode;        // C statements from `task` to the program's outer variables
    const char *constants;     // file-scope constants (frequency tables)
    double weight_bytes, operations;   // a call; a token
    const char *arithmetic;            // in which it multiplies: the name of the probe that bounds it; NULL: f32
    const DType *param_storage;        // of each parameter: what quantize made of it (DT_COUNT: as stored)
    int products[MAX_PRODUCTS]; int product_count;   // parameters whose product function it calls …
    int product_groups[MAX_PRODUCTS];                // … with x in int8 groups of so many (0: whole rows), X_FLOATS or X_BF16
    const Target *target;
    Schedule schedule;                               // of a linear kernel …
    ScheduleKey schedule_key;                        // … chosen for this (shape: NULL for other kernels) …
    bool tuned;                                      // … from the book
    const Schedule *fixed;                           // the one to use; NULL: ask the book, then the built-in table
    const ScheduleBook *book;                        // NULL: there is none
    unsigned f32_vectors;                            // bit v: calls product_f32_v<v>
    bool *rows_read;                                 // of each parameter: gathers rows of its panels
    const int *rotations;                            // of each node: a rope's angles in the arena, by number; -1: it has none there
    bool expert;                                     // it runs for several experts at a time
    int largest;                                     // of this result, each panel's largest value goes where the step wants it; -1: of none
    int expr_count;
    unsigned kv_vectors[KV_PAIRS + 1];               // bit v: calls product_kv_…_v<v>: of caches in f32, f16, bf16, i8; of bf16 with bf16
    struct Kernel *after;                            // NULL, or what must run behind a barrier when it has tasks
    uint64_t partial_bytes;                          // of the arena that it shares with `after` (args.partial)
} Kernel;

int kernel_buffer(Kernel *k, const char *name, DType type, Place place, int64_t elements, const char *base);
int kernel_variable(Kernel *k, const char *name, bool scalar, DType type);
int kernel_loop(Kernel *k, const char *name, int64_t extent);                          // opens a loop, returns its variable
int kernel_loop_text(Kernel *k, const char *name, const char *from, const char *extent);
void kernel_end(Kernel *k);
void kernel_map(Kernel *k, int buffer, Index to, int lane, int64_t extent, const char *extent_text, Expr *expr);
int kernel_reduce(Kernel *k, OpId op, int lane, int64_t extent, Expr *expr);           // returns the scalar
int kernel_let(Kernel *k, const char *name, Expr *expr);
// acc[rows][columns] at `index` of buffer `acc` (+)= a · b, b's rows `b_stride` floats apart (f32), or a packed panel (b_stride 0).
Stmt *kernel_mma(Kernel *k, int acc, Index index, int64_t acc_stride, int a, Index a_index, int64_t a_stride, const char *rows, int b, Index b_index,
                 int64_t b_stride, const PanelFormat *format, int columns, int64_t depth);
void kernel_call(Kernel *k, const char *format, ...) PRINTF_LIKE(2, 3);

Index index_constant(int64_t value);
Index index_variable(int variable, int64_t coefficient);
Index index_add(Index a, Index b);
Index index_scale(Index a, int64_t by);

Expr *expr_number(Kernel *k, double value);
Expr *expr_load(Kernel *k, int buffer, Index index);
Expr *expr_scalar(Kernel *k, int variable);
Expr *expr_index(Kernel *k, Index index);
Expr *expr_op(Kernel *k, OpId op, Expr *a, Expr *b, Expr *c);

// Level 1 builders, by anchor. False with an error when the kernel holds something that cannot be built.
bool build_rows(Kernel *k, Diags *diags);
bool build_linear(Kernel *k, Diags *diags);
bool build_attend(Kernel *k, Diags *diags);
void product_print_kv(int storage, int vectors, Text *out);     // products with a cache: index in kv_vectors

// print_c.c
void kernel_print(const Kernel *k, Text *out);
void index_print(const Kernel *k, const Index *index, Text *out);

// product_float.c, product_int.c: the lowering of mma for a format, printed once a program
const char *product_name(const Stmt *mma, Arena *arena);
void product_print_f32(int vectors, Text *out);
void product_print_format(const PanelFormat *format, Text *out);   // what a panel's values are as floats; before the next two
void product_print_float(const PanelFormat *format, Text *out);
void panel_row_print(const PanelFormat *format, Text *out);        // one output's weights as floats (embedding)
bool product_takes_codes(const PanelFormat *format);               // can it be multiplied with int8 codes?
void product_print_int(const PanelFormat *format, int x_group, Text *out);
void product_print_bf16(Text *out);
void product_print_blocks(const PanelFormat *format, int x_group, Text *out);   // through the product of the blocks' format

// pack.c
typedef struct {
    PanelFormat format;
    int64_t outputs, k, heads;     // heads: 1 for rank 2
    int64_t kept;                  // values of a row that are multiplied
    int64_t panels;                // a head
    uint64_t dense_bytes;          // of a panel with all its values
    uint64_t panel_bytes, bytes;
} PanelLayout;
// Of a weight of this type: rank 2 [outputs, k] or 3 [heads, outputs, k]. `kept`, `block`: of a sparse one, how many values of a row are there at most, or in
// blocks; else 0. False when the bytes overflow, or when it cannot lie so.
bool panel_layout(Arena *arena, const Type *type, DType quantize_to, int64_t kept, int block, PanelLayout *out);
int panel_index_bytes(const PanelFormat *format);             // of the numbers of its blocks
PanelFormat panel_inner(const PanelFormat *format);           // of blocks: the format of the panel that they make
int64_t panel_padded(const PanelFormat *format, int64_t k);   // so many values of k a panel has room for
int panel_head_bytes(const PanelFormat *format);   // of a group's scales and minimums
int panel_unit(const PanelFormat *format);         // so many values of k lie together
bool packed_bytes(const Weight *weight, uint64_t *bytes);
// A packed weight is a run of parts of one size: panels, or rows. Any of them can be packed alone, by several threads at once.
typedef struct { int64_t count; uint64_t bytes, elements; } PackParts;   // how many; the size of each; about how many elements one is made of
bool pack_parts(const Weight *weight, PackParts *parts);
bool pack_some(const Weight *weight, int64_t first, int64_t count, uint8_t *to);   // count × parts.bytes
bool pack_weight(const Weight *weight, bool (*write)(void *to, const void *bytes, size_t length), void *to);

enum { PANEL_WIDTH = 64, ROW_BLOCK = 96, MOST_ROW_BLOCK = 512, KV_BLOCK = 64, KV_PAGE = 256 };
static inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// plan.c: what the builders ask of the plan
const char *c_type(DType type);                                    // float, int, signed char, tn_u8
uint64_t row_bytes(const Type *type);                              // of one row of a value, as it lies in the arena
uint64_t cache_bytes(const Type *cache);                           // of a cache's share of a KV page
const Value *through_reshape(const Value *value);                  // what a chain of reshapes renames
int64_t rotation_pairs(const Node *rope);                          // angles.c: how many angles; and their frequencies as a table of doubles
void rotation_frequencies(const Node *rope, const char *name, Text *out);
bool kernel_panel(const Kernel *k, int param, PanelLayout *out);   // how a parameter's panels lie

#endif
