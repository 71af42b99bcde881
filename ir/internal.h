// What the files of ir/ share among themselves: sets of names, limits, the state of inference.
#ifndef TENON_IR_INTERNAL_H
#define TENON_IR_INTERNAL_H
#include "ir/ir.h"

// ---- names: a hash table from a name to an item, and unique variants of a name (x, x1, x2) ----------------------------
typedef struct NameSet NameSet;
NameSet *names_new(Arena *arena);
void *names_find(const NameSet *set, const char *name);                            // NULL when it is not there
bool names_add(NameSet *set, const char *name, void *item);                        // false when it was there; the name is not copied
const char *names_unique(NameSet *set, const char *wanted, void *item);            // `wanted`, or a variant that is free; added

// ---- limits on what a module may say: everything below them can be multiplied without care ----------------------------
enum { MAX_RESULTS = 64, MAX_NAME = 255, MAX_VALUES = 1024 /* inputs or parameters of a function */, MAX_ARRAY = 4096 /* weights in one */,
       MAX_CALL_DEPTH = 64, MAX_PICKED = 1 << 18 /* rows or columns of which some are taken */ };
#define MAX_ELEMENTS ((uint64_t)1 << 44)

bool type_valid(const Type *type, bool weight);   // sizes positive, a symbol only in front (never in a weight), within MAX_ELEMENTS
bool type_symbolic(const Type *type);             // the first size is T, S or R
void dim_text(int64_t size, Text *out);
void number_text(double value, Text *out);        // the shortest text that reads back as the same double
bool attr_equal(const Attr *a, const Attr *b);    // functions by pointer

// ---- inference --------------------------------------------------------------------------------------------------------
typedef struct {
    const Node *node;
    const OpInfo *op;
    Type in[MAX_OPERANDS];     // of the operands that the spec names, dtypes as value_dtype says; of an absent one: rank -1
    Type *out;
    int count;                 // results
    bool ok;
    Diags *diags;
} Infer;

#define OP(id, name, operands, attributes, flags, meaning) void infer_##id(Infer *infer);
#include "ir/ops.def"
#undef OP

// An error in the user's terms: "op: …", then a note with the operands' types. Always false.
bool infer_error(Infer *infer, const char *format, ...) PRINTF_LIKE(2, 3);
void infer_hint(Infer *infer, const char *format, ...) PRINTF_LIKE(2, 3);
const char *operand_name(const Infer *infer, int i);     // the user's name of a parameter, else the op's name of the operand
bool has(const Infer *infer, int i);
void infer_result(Infer *infer, Type type);
Type type_of(DType dtype, int rank, const int64_t *dims);
const char *dim_name(int64_t size, char *room);           // room for 24
bool broadcast(Infer *infer, const Type *a, const Type *b, Type *out);
int infer_axis(Infer *infer, const char *attr, int operand);   // normalized; -1 after an error
bool expect_dtype(Infer *infer, int i, DType dtype);
bool expect_vector(Infer *infer, int i, int64_t length, const char *what);

#endif
