// The recipes of --quant and what they mean for each matrix.
//
// Left as stored and multiplied in float: products a head, routers, inner sizes whose sums could overflow, formats whose codes are no integers. A
// table that an embedding shares with a linear is stored as the linear wants it. Parameters and weights bound to one another decide together, so
// that one kernel serves all layers.
//
// Defaults, by KL divergence from float32 on SmolLM2 135M and Gemma 3 270M (prose; weights int8 with a scale an output): codes of x with a scale a
// row cost 0.028 and 0.033, in groups of 32 0.005, a row of the rotated x 0.0034 and 0.0029: as Q8_0 weights and groups of 32 do (0.0029, 0.0024), in
// one exact sum over all of K. Weights that keep their own codes cannot be rotated: x in groups of 32 costs 0.002 there. Four-bit weights want a
// minimum and groups: symmetric ones double the error; the tables at both ends have six, and so do keys and values that heads share.
#include "passes/recipe.h"
#include "ir/dequant.h"
#include "passes/routers.h"

#include <stdlib.h>
#include <string.h>

enum { SPARED_BITS = 6 };
enum { SMALLEST_ROTATION = 32, LARGEST_ROTATION = 128 };   // 128 values turn in registers, and gain all but a tenth of what a whole row would

static const RecipeRow recipes[] = {
    {"as-stored", 0, DT_COUNT, 0, false, false, "weights as stored, float32 arithmetic"},
    {"a8", 0, DT_BF16, 0, true, false, "weights as stored, activations int8"},
    {"w8a8", 8, DT_BF16, 0, true, true, "weights int8 with a scale an output (or --group), activations int8"},
    {"w6a8", 6, DT_BF16, 6, true, true, "weights 6-bit with a scale an output, activations int8"},
    {"w5a8", 5, DT_BF16, 5, true, true, "weights 5-bit with a scale an output, activations int8"},
    {"w4a8", 4, DT_BF16, 4, true, true, "weights 4-bit in groups, activations int8"},
    {"w4a16", 4, DT_F16, 4, false, true, "weights 4-bit in groups, float32 arithmetic"},
    {"auto", 8, DT_BF16, 4, true, true, "each class of matrices in the format that a budget of error or size allows"},
    {"bf16", 16, DT_BF16, 0, false, false, "weights bfloat16, and activations where the target multiplies it"},
    {"f16", 16, DT_F16, 0, false, false, "weights binary16"},
};

// ---- reading what was asked for -------------------------------------------------------------------------------------------------------

static bool unknown_recipe(const char *name, Diags *diags) {
    const char *names[COUNT_OF(recipes)];
    Text list = {0};
    for (int i = 0; i < (int)COUNT_OF(recipes); i++) {
        names[i] = recipes[i].name;
        text_printf(&list, i ? ", %s" : "%s", names[i]);
    }
    diag_error(diags, NOWHERE, "there is no quantization '%s'", name);
    const char *near = nearest_name(name, names, COUNT_OF(recipes));
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    else diag(diags, DIAG_HINT, NOWHERE, "it is one of %s", list.data);
    text_free(&list);
    return false;
}

// 32, 64, 128, or `whole` for 0; anything else is -1.
static int group_number(const char *text, const char *whole) {
    if (strcmp(text, whole) == 0) return 0;
    return strcmp(text, "32") == 0 ? 32 : strcmp(text, "64") == 0 ? 64 : strcmp(text, "128") == 0 ? 128 : -1;
}

static bool read_groups(Recipe *recipe, Diags *diags) {
    const PassOptions *options = recipe->options;
    const RecipeRow *row = recipe->row;
    recipe->group = -1;
    recipe->activation = -1;
    bool integers = row->bits == 4 || row->bits == 8, chosen = strcmp(row->name, "auto") == 0;
    if (chosen && options->group) return diag_error(diags, NOWHERE, "--quant auto chooses groups itself"), false;
    if ((options->group || options->symmetric) && !integers)
        return diag_error(diags, NOWHERE, "--quant %s has no groups of weights", row->name), diag(diags, DIAG_HINT, NOWHERE, "w8a8, w4a8 and w4a16 have"), false;
    if (options->symmetric && row->bits != 4 && !chosen) return diag_error(diags, NOWHERE, "--symmetric is for 4-bit weights: others always are"), false;
    recipe->symmetric = options->symmetric;
    if (options->group && (recipe->group = group_number(options->group, "channel")) < 0)
        return diag_error(diags, NOWHERE, "--group is 32, 64, 128 or channel, not '%s'", options->group), false;
    if (options->group && row->bits == 4 && recipe->group == 0)
        return diag_error(diags, NOWHERE, "4-bit weights have groups of 32, 64 or 128, not a scale a channel"), false;
    if (!options->activation_group) return true;
    if (!row->codes) return diag_error(diags, NOWHERE, "--quant %s leaves activations in float", row->name), false;
    if ((recipe->activation = group_number(options->activation_group, "row")) < 0)
        return diag_error(diags, NOWHERE, "--act-group is 32, 64, 128 or row, not '%s'", options->activation_group), false;
    return true;
}

// "8", "4g64": bits, and elements of a group or -1.
static bool read_format(const char *at, size_t length, int *bits, int *group) {
    size_t digits = strspn(at, "0123456789");
    digits = digits < length ? digits : length;
    *bits = digits == 1 ? *at - '0' : digits == 2 && memcmp(at, "16", 2) == 0 ? 16 : -1;
    *group = -1;
    if (*bits != 0 && *bits != 4 && *bits != 5 && *bits != 6 && *bits != 8 && *bits != 16) return false;
    if (digits == length) return true;
    char text[8] = "";
    if (at[digits] != 'g' || length - digits > sizeof text || (*bits != 4 && *bits != 8)) return false;
    memcpy(text, at + digits + 1, length - digits - 1);
    return (*group = group_number(text, "")) > 0;
}

static bool read_choices(const char *choices, Diags *diags) {
    for (const char *at = choices; at && *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " "), name = strcspn(at, "= ");
        int bits, group;
        if (!name || name + 1 >= length || !read_format(at + name + 1, length - name - 1, &bits, &group)) {
            diag_error(diags, NOWHERE, "--bits: '%.*s' is not NAME=BITS with 0 (as stored), 4, 5, 6, 8 or 16 bits", (int)length, at);
            return diag(diags, DIAG_HINT, NOWHERE, "4g32, 4g64, 4g128, 8g32 … say groups, too"), false;
        }
        at += length;
    }
    return true;
}

// After a star the rest is tried at each place in turn; only the last star's places, which are enough.
bool name_fits(const char *pattern, size_t length, const char *name) {
    const char *end = pattern + length, *star = NULL, *from = NULL;
    while (*name) {
        if (pattern < end && *pattern == '*') star = ++pattern, from = name;
        else if (pattern < end && *pattern == *name) pattern++, name++;
        else if (star) pattern = star, name = ++from;
        else return false;
    }
    while (pattern < end && *pattern == '*') pattern++;
    return pattern == end;
}

bool chosen_format(const char *choices, const char *name, int *bits, int *group) {
    bool found = false;
    for (const char *at = choices; at && *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " "), end = strcspn(at, "= ");
        if (end < length && name_fits(at, end, name)) found = read_format(at + end + 1, length - end - 1, bits, group);
        at += length;
    }
    return found;
}

static bool names_matrix(const Module *module, const char *pattern, size_t length) {
    for (int w = 0; w < module->weight_count; w++)
        if (module->weights[w]->type.rank >= 2 && name_fits(pattern, length, module->weights[w]->name)) return true;
    return false;
}

static void fits_none(const Module *module, const char *pattern, size_t length, Diags *diags) {
    if (memchr(pattern, '*', length)) return (void)diag_error(diags, NOWHERE, "--bits: '%.*s' fits no matrix", (int)length, pattern);
    Arena *scratch = arena_new();
    const char **names = ARENA_ARRAY(scratch, const char *, module->weight_count + 1);
    int count = 0;
    for (int w = 0; w < module->weight_count; w++)
        if (module->weights[w]->type.rank >= 2) names[count++] = module->weights[w]->name;
    diag_error(diags, NOWHERE, "--bits: no matrix is named '%.*s'", (int)length, pattern);
    const char *near = nearest_name(arena_strndup(scratch, pattern, length), names, count);
    if (near) diag(diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
    arena_free(scratch);
}

bool choices_fit(const char *choices, const Module *module, Diags *diags) {
    bool fit = true;
    for (const char *at = choices; at && *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, "= ");
        if (!names_matrix(module, at, length)) fits_none(module, at, length, diags), fit = false;
        at += strcspn(at, " ");
    }
    return fit;
}

bool recipe_read(Recipe *recipe, const PassOptions *options, Diags *diags) {
    const char *name = options->quantize ? options->quantize : recipes[0].name;
    *recipe = (Recipe){.options = options};
    for (int i = 0; i < (int)COUNT_OF(recipes); i++)
        if (strcmp(name, recipes[i].name) == 0) recipe->row = &recipes[i];
    return recipe->row ? read_groups(recipe, diags) && read_choices(options->choices, diags) : unknown_recipe(name, diags);
}

// Where activations are rounded already, keys and values are too; floats elsewhere.
const char *cache_format(const PassOptions *options) {
    if (options->kv) return options->kv;
    for (int i = 0; options->quantize && i < (int)COUNT_OF(recipes); i++)
        if (strcmp(options->quantize, recipes[i].name) == 0) return recipes[i].codes || recipes[i].floats == DT_BF16 ? "bf16" : "f32";
    return "f32";
}

bool quantization_valid(const PassOptions *options, Diags *diags) {
    Recipe recipe;
    return recipe_read(&recipe, options, diags);
}

// ---- what may change ------------------------------------------------------------------------------------------------------------------

// The type with codes of so many bits in groups of so many (0: a row).
static DType coded_type(int bits, int group, bool symmetric) {
    static const struct { int bits, group; bool symmetric; DType type; } types[] = {
        {8, 0, false, DT_W8}, {6, 0, false, DT_W6}, {5, 0, false, DT_W5}, {8, 32, false, DT_Q8_0}, {8, 64, false, DT_W8G64}, {8, 128, false, DT_W8G128},
        {4, 32, false, DT_Q4_1}, {4, 64, false, DT_W4MG64}, {4, 128, false, DT_W4MG128},
        {4, 32, true, DT_Q4_0}, {4, 64, true, DT_W4G64}, {4, 128, true, DT_W4G128},
    };
    for (int i = 0; i < (int)COUNT_OF(types); i++)
        if (types[i].bits == bits && types[i].group == group && types[i].symmetric == symmetric) return types[i].type;
    return DT_COUNT;
}

int64_t group_in_row(int64_t group, int64_t columns) {
    while (group > 32 && columns % group) group /= 2;
    return !group || columns % group ? columns : group;
}

// What a matrix of this type would be stored as under the recipe: DT_COUNT as it is. Rows that no group divides have one scale, and eight bits for it.
static DType stored_under(const Recipe *recipe, const Class *class, const Type *w) {
    GroupedFormat format;
    int bits = class->bits, group = class->group;
    if (group < 0) group = bits == 4 ? 32 : 0;
    if (class->group < 0 && recipe->group >= 0 && bits == recipe->row->bits) group = recipe->group;   // --group is for the recipe's own bits
    bool coded = grouped_format(w->dtype, &format);
    if (!bits || (coded && format.bits <= recipe->row->keep_bits)) return DT_COUNT;
    if (coded && class->spared) {   // codes that are fewer than eight bits and multiplied as they are stay; others lose nothing in eight
        if (format.bits <= SPARED_BITS && !format.table && format.group % 32 == 0) return DT_COUNT;
        bits = 8;
    }
    if (bits == 16) return w->dtype == recipe->row->floats ? DT_COUNT : recipe->row->floats;
    int64_t columns = w->dims[w->rank - 1];
    if (group) group = (int)group_in_row(group, columns);
    if ((group || bits < 8) && columns % 32) bits = 8, group = 0;
    DType to = coded_type(bits, group, (recipe->symmetric || class->pruned) && bits == 4);
    return w->dtype == to ? DT_COUNT : to;
}

// Whether x can be int8 for this product: codes that are integers, groups that fit, sums within int32.
static bool takes_codes(const Recipe *recipe, const Class *class, const Node *linear) {
    const Type *w = &linear->operands[1]->type;
    int64_t inner = w->dims[w->rank - 1], group = group_in_row(recipe->activation > 0 ? recipe->activation : 0, inner);
    DType to = stored_under(recipe, class, w), as = to == DT_COUNT ? w->dtype : to;
    GroupedFormat format;
    if (!recipe->row->codes || w->rank != 2 || inner % 4 || inner >= INT64_C(0x80000000) / (127 * 256)) return false;
    if (grouped_format(as, &format)) return !format.table && (format.group % group == 0 || group % format.group == 0);
    return row_code_bits(as) > 0;
}

static void note_use(Classes *classes, const Node *node, int operand, bool router) {
    const Value *value = node->operands[operand];
    if (!value || !value_is_weight(value) || node_calls(node)) return;
    Class *class = &classes->classes[bindings_class(classes->bindings, value)];
    if (node->op == OP_LINEAR && operand == 1) {
        class->linear = true;
        class->float_linear |= router || !takes_codes(classes->recipe, class, node);
        class->to = stored_under(classes->recipe, class, &value->type);
        class->other |= router;
    } else if (node->op == OP_EMBEDDING && operand == 1) {
        class->embedding = true;
    } else {
        class->other = true;
    }
}

const Value *output_matrix(const Module *module) {
    const Value *value = module->main->result_count ? module->main->results[0] : NULL;
    while (value && value->kind == VALUE_RESULT && op_is(value->node, ELEMENTWISE) && value->node->operand_count) value = value->node->operands[0];
    bool linear = value && value->kind == VALUE_RESULT && value->node->op == OP_LINEAR && value_is_weight(value->node->operands[1]);
    return linear ? value->node->operands[1] : NULL;
}

static void spare(Classes *classes, const Value *weight) {
    Class *class = &classes->classes[bindings_class(classes->bindings, weight)];
    class->bits = SPARED_BITS;
    class->spared = true;
}

// The matrix behind keys or values, through what is done to each head.
static void spare_behind(Classes *classes, const Value *value) {
    while (value && value->kind == VALUE_RESULT && op_is(value->node, SHAPE | ROWWISE) && value->node->operand_count) value = value->node->operands[0];
    if (!value || value->kind != VALUE_RESULT || value->node->op != OP_LINEAR) return;
    if (value_is_weight(value->node->operands[1])) spare(classes, value->node->operands[1]);
}

// Where matrices get four bits, the table of tokens and the one that makes logits get six: an error there is the output's own. So do those that make
// keys and values which several heads share: small, and many read their error.
static void spare_some(Classes *classes) {
    const Module *module = classes->module;
    const Value *output = output_matrix(module);
    if (output) spare(classes, output);
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            if (node->op == OP_EMBEDDING && value_is_weight(node->operands[1])) spare(classes, node->operands[1]);
            if (node->op != OP_ATTENTION || node->operands[0]->type.dims[1] <= node->operands[1]->type.dims[1]) continue;
            spare_behind(classes, node->operands[1]);
            spare_behind(classes, node->operands[2]);
        }
}

static void choose_bits(Classes *classes) {
    const Module *module = classes->module;
    bool *named = ARENA_ARRAY(classes->scratch, bool, bindings_limit(classes->bindings));
    for (int c = 0; c < bindings_limit(classes->bindings); c++) classes->classes[c].bits = classes->recipe->row->bits, classes->classes[c].group = -1;
    if (classes->recipe->row->bits == 4) spare_some(classes);
    for (int w = 0; w < module->weight_count; w++) {
        int c = bindings_weight(classes->bindings, module->weights[w]);
        Class *class = &classes->classes[c];
        if (!class->first) class->first = module->weights[w];
        class->pruned |= module->weights[w]->prune.keep > 0;
        if (!named[c]) named[c] = chosen_format(classes->recipe->options->choices, module->weights[w]->name, &class->bits, &class->group);
        if (named[c]) class->spared = false;
    }
}

void classes_find(Classes *classes, const Module *module, const Recipe *recipe, Arena *scratch) {
    *classes = (Classes){.module = module, .recipe = recipe, .scratch = scratch, .bindings = bindings_new(module, scratch)};
    classes->classes = ARENA_ARRAY(scratch, Class, bindings_limit(classes->bindings));
    choose_bits(classes);
    const Routers *routers = routers_find(module, scratch);
    for (int f = 0; f < module->func_count; f++) {
        const Func *func = module->funcs[f];
        for (int i = 0; i < func->node_count; i++)
            for (int k = 0; k < func->nodes[i]->operand_count; k++) note_use(classes, func->nodes[i], k, routers_has(routers, func->nodes[i]));
    }
}

const Class *class_of(const Classes *classes, const Value *value) { return &classes->classes[bindings_class(classes->bindings, value)]; }

static bool is_float(DType type) { return type == DT_BF16 || type == DT_F16; }

// Int8 storage for the sake of int8 arithmetic only where that is done.
DType class_stored(const Classes *classes, const Class *class) {
    bool wanted = class->linear && !class->other && (is_float(class->to) || !classes->recipe->row->codes || !class->float_linear);
    return wanted ? class->to : DT_COUNT;
}

bool class_codes(const Classes *classes, const Class *class) {
    return classes->recipe->row->codes && class->linear && !class->float_linear && !class->other;
}

// Where activations are narrow, and 16 bits were asked for.
bool class_bf16(const Classes *classes, const Class *class) {
    const RecipeRow *row = classes->recipe->row;
    return row->floats == DT_BF16 && class->bits == 16 && class->linear && !class->other;
}

int class_rotation(const Classes *classes, const Value *weight) {
    const Class *class = class_of(classes, weight);
    if (weight->type.rank < 2) return 0;
    int64_t columns = weight->type.dims[weight->type.rank - 1], block = columns & -columns;
    DType to = class_stored(classes, class);
    if (!classes->recipe->row->rotates || class->pruned || to == DT_COUNT || is_float(to)) return 0;
    return block < SMALLEST_ROTATION ? 0 : block > LARGEST_ROTATION ? LARGEST_ROTATION : (int)block;
}
