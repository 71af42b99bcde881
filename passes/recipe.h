// What --quant asks for, and what becomes of each matrix under it: shared by rotate and quantize, which decide alike.
#ifndef TENON_PASSES_RECIPE_H
#define TENON_PASSES_RECIPE_H
#include "passes/passes.h"
#include "passes/rewrite.h"

// `bits`: of a weight's codes, 16 for bf16 and f16, 0 as stored. `floats`: what 16 bits are, of all or of those that --bits names. `keep_bits`: integer codes of at most so many bits stay as stored too. `codes`:
// int8 codes of x. `rotates`: x and the weights that are quantized anew are rotated.
typedef struct { const char *name; int bits; DType floats; int keep_bits; bool codes, rotates; const char *meaning; } RecipeRow;

typedef struct {
    const RecipeRow *row;
    int group;            // of the weights' scales; 0: a row
    bool symmetric;       // four bits without a minimum
    int activation;       // of x's scales: elements, 0: a row; -1: as suits each product
    const PassOptions *options;
} Recipe;
// False with errors in diags: there is no such quantization, or its groups are none.
bool recipe_read(Recipe *recipe, const PassOptions *options, Diags *diags);

// What `choices` ("NAME=BITS NAME=4g64 …", NAME perhaps with `*`, the last that fits) say of a matrix: group -1, bits alone. False: nothing.
bool chosen_format(const char *choices, const char *name, int *bits, int *group);
bool name_fits(const char *pattern, size_t length, const char *name);   // `*` stands for any text
// The matrix whose product main returns, perhaps through elementwise work; NULL: none.
const Value *output_matrix(const Module *module);
bool choices_fit(const char *choices, const Module *module, Diags *diags);   // false with errors: a NAME fits no matrix

// What all that reads a class of bound weights asks of it.
typedef struct {
    bool linear, float_linear, other, embedding;   // float_linear: some product of it stays in float
    const Weight *first;                           // of it, in the module's order: its name for --quant auto
    int bits, group;                               // the recipe's, or what was chosen for it; bits 0: as stored; group -1: as the recipe has it
    bool pruned;                                   // zeros stay zeros: no minimum, no rotation
    bool spared;                                   // more bits than the recipe's, unasked
    DType to;                                      // what it is stored as, DT_COUNT: as stored
} Class;

typedef struct {
    const Module *module;
    const Recipe *recipe;
    Bindings *bindings;
    Class *classes;
    Arena *scratch;
} Classes;
void classes_find(Classes *classes, const Module *module, const Recipe *recipe, Arena *scratch);

DType class_stored(const Classes *classes, const Class *class);   // DT_COUNT: as stored
bool class_codes(const Classes *classes, const Class *class);     // its products take int8 codes
bool class_bf16(const Classes *classes, const Class *class);      // its products take bf16, where a target multiplies it
// Elements of a group in a row of so many: halved until it divides the row, which is one group where 32 does not (or `group` is 0).
int64_t group_in_row(int64_t group, int64_t columns);
const Class *class_of(const Classes *classes, const Value *value);
// The block of the Hadamard transform that this class of weights, and what is multiplied with them, goes through; 0: none.
int class_rotation(const Classes *classes, const Value *weight);

#endif
