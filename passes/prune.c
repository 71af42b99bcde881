// Pruning: neurons, heads and experts go, and values of matrices become zero, as --prune says.
//
// Requires the module as the model has it: before quantization, so that codes are made of what is left, and before rows and attention are lowered.
// Structures first (prune_axes.c finds them, prune_take.c takes them out: smaller matrices, a smaller program). Then a pattern of zeros for each matrix
// that only products read (Weight.prune says which values; weight_rows_f32 makes them zero). Zeros cost as much as other values unless a layout says
// otherwise. Tables of tokens, the matrix that makes the logits, routers and whatever else reads a matrix stay whole; the logits' may be named.
#include "passes/prune.h"
#include "passes/recipe.h"
#include "passes/routers.h"
#include "ir/dequant.h"
#include "ir/prune.h"

#include <math.h>

bool pass_prune(Module *module, const PassOptions *options, Diags *diags);

// ---- structures --------------------------------------------------------------------------------------------------------------------------

static const char *const structure_names[] = {[PRUNE_NEURONS] = "neurons", [PRUNE_HEADS] = "heads", [PRUNE_EXPERTS] = "experts"};

// Neurons in whole panels, where there are several; heads and experts by rounding, of each group alike.
static int64_t units_kept(const Axis *axis, PruneKind kind, double rate) {
    int64_t group = axis->size / axis->groups, keep = group - (int64_t)floor((double)group * rate + 0.5);
    int64_t step = kind != PRUNE_NEURONS ? 1 : group >= 128 ? 64 : group >= 32 ? 16 : 1;
    keep = (keep + step / 2) / step * step;
    return (keep < 1 ? 1 : keep) * axis->groups;
}

// Each slot of a mixture's choice needs an expert, and each group of them as many as are summed.
static bool experts_suffice(const Axes *axes, int root, int64_t kept, Diags *diags) {
    const Module *module = axes->module;
    int64_t group = kept / axes->axes[root].groups;
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            int into = node->op == OP_TOP_K ? ptr_map_get(&axes->points, node->results[1]) : -1;
            if (into < 0 || axes_root(axes, into) != root) continue;
            int64_t needed = node_int(node, "k"), groups = node_int(node, "groups");
            if (groups > 1 && node_int(node, "score") > group) needed = node_int(node, "score") * groups;
            if (needed <= kept && (groups <= 1 || needed <= group * node_int(node, "keep"))) continue;
            diag_error(diags, node->loc, "--prune experts: %lld of %lld experts are too few, since a token has %lld of them", (long long)kept,
                       (long long)axes->axes[root].size, (long long)node_int(node, "k"));
            return false;
        }
    return true;
}

static bool set_kept(Axes *axes, int root, PruneKind kind, double rate, int *found, Diags *diags) {
    Axis *axis = &axes->axes[root];
    int64_t kept = units_kept(axis, kind, rate);
    if (kind == PRUNE_EXPERTS && !experts_suffice(axes, root, kept, diags)) return false;
    found[kind] += 1;
    double went = 1 - (double)kept / (double)axis->size;
    if (fabs(went - rate) > 0.05)
        diag(diags, DIAG_WARNING, NOWHERE, "--prune %s=%g: %lld of %lld stay", structure_names[kind], rate, (long long)kept, (long long)axis->size);
    if (kept < axis->size) axis->kept = kept;
    return true;
}

static bool take_structures(Module *module, const PassOptions *options, const PruneSpec *spec, Arena *scratch, Diags *diags) {
    const PruneItem *wanted[] = {[PRUNE_NEURONS] = prune_spec_find(spec, PRUNE_NEURONS), [PRUNE_HEADS] = prune_spec_find(spec, PRUNE_HEADS),
                                 [PRUNE_EXPERTS] = prune_spec_find(spec, PRUNE_EXPERTS)};
    int found[PRUNE_EXPERTS + 1] = {0};
    if (!wanted[PRUNE_NEURONS] && !wanted[PRUNE_HEADS] && !wanted[PRUNE_EXPERTS]) return true;
    Axes axes;
    axes_find(&axes, module, wanted[PRUNE_HEADS] ? wanted[PRUNE_HEADS]->rate : 0, scratch);
    for (int a = 0; a < axes.count; a++) {
        PruneKind kind = axes.axes[a].parent == a ? axes_kind(&axes, a) : PRUNE_NONE;
        if (kind && wanted[kind] && !set_kept(&axes, a, kind, wanted[kind]->rate, found, diags)) return false;
    }
    for (PruneKind kind = PRUNE_NEURONS; kind <= PRUNE_EXPERTS; kind++) {
        if (!wanted[kind] || found[kind]) continue;
        diag_error(diags, NOWHERE, "--prune %s: the model has no %s that nothing else looks at", structure_names[kind], structure_names[kind]);
        return false;
    }
    return prune_take(&axes, options, diags);
}

// ---- zeros -------------------------------------------------------------------------------------------------------------------------------

// What all that is bound to one parameter is read by, and what becomes of it.
typedef struct { bool linear, router, other, output, named; const PruneItem *item; } Matrix;
typedef struct { Module *module; const PassOptions *options; const PruneSpec *spec; Bindings *bindings; Matrix *matrices; Diags *diags; } Zeros;

static Matrix *matrix_of(Zeros *z, const Value *value) { return &z->matrices[bindings_class(z->bindings, value)]; }

static void note_uses(Zeros *z, Arena *scratch) {
    const Routers *routers = routers_find(z->module, scratch);
    for (int f = 0; f < z->module->func_count; f++)
        for (int i = 0; i < z->module->funcs[f]->node_count; i++) {
            const Node *node = z->module->funcs[f]->nodes[i];
            for (int k = 0; k < node->operand_count; k++) {
                const Value *value = node->operands[k];
                if (!value || !value_is_weight(value) || node_calls(node)) continue;
                Matrix *matrix = matrix_of(z, value);
                bool linear = node->op == OP_LINEAR && k == 1 && value->type.rank == 2;
                matrix->linear |= linear;
                matrix->other |= !linear;
                matrix->router |= linear && routers_has(routers, node);
            }
        }
    const Value *output = output_matrix(z->module);
    if (output) matrix_of(z, output)->output = true;
}

// The first matrix of a class that an item names decides for all of it: one kernel serves all layers.
static bool choose_items(Zeros *z) {
    for (int w = 0; w < z->module->weight_count; w++) {
        const Weight *weight = z->module->weights[w];
        Matrix *matrix = &z->matrices[bindings_weight(z->bindings, weight)];
        const PruneItem *named = weight->type.rank == 2 ? prune_spec_matrix(z->spec, weight->name, false) : NULL;
        if (named && !matrix->named && matrix->linear && matrix->other) {
            diag_error(z->diags, NOWHERE, "--prune: %s is more than the matrix of a product: pruning it would change what else reads it", weight->name);
            return false;
        }
        bool whole = matrix->other || !matrix->linear;
        if (!matrix->named && !whole) matrix->item = prune_spec_matrix(z->spec, weight->name, !matrix->router && !matrix->output);
        matrix->named |= named != NULL;
    }
    return true;
}

static bool names_found(const Zeros *z) {
    bool all = true;
    for (int i = 0; i < z->spec->count; i++) {
        const PruneItem *item = &z->spec->items[i];
        bool found = !item->name;
        for (int w = 0; w < z->module->weight_count && !found; w++)
            found = z->module->weights[w]->type.rank == 2 && name_fits(item->name, (size_t)item->length, z->module->weights[w]->name);
        if (!found) all = (diag_error(z->diags, NOWHERE, "--prune: '%.*s' fits no matrix", item->length, item->name), false);
    }
    return all;
}

static Prune pattern_of(const PruneItem *item, int64_t columns) {
    Prune prune = {.keep = item->keep, .of = item->of, .rows = item->rows, .columns = item->columns};
    if (item->kind == PRUNE_PATTERN) return prune;
    prune.of = (columns + item->columns - 1) / item->columns;
    prune.keep = prune.of - (int64_t)floor((double)prune.of * item->rate + 1e-9);
    return prune;
}

// Norms of the columns; NULL where nothing was seen.
static const float *norms_of(const PassOptions *options, const Weight *weight, Arena *arena) {
    const float *energy = prune_energy(options, weight, arena);
    int64_t columns = weight->type.dims[1];
    if (!energy) return NULL;
    float *norms = ARENA_ARRAY(arena, float, columns);
    for (int64_t i = 0; i < columns; i++) norms[i] = sqrtf(energy[i]);
    return norms;
}

// A type that has a zero of its own: the stored one, or eight bits.
static DType with_zeros(DType from, int64_t columns) { return prune_keeps_zeros(from) ? from : columns % 32 == 0 ? DT_Q8_0 : DT_F16; }

static int make_zeros(Zeros *z) {
    Arena *arena = z->module->arena;
    int count = 0;
    for (int w = 0; w < z->module->weight_count; w++) {
        Weight *weight = z->module->weights[w];
        const PruneItem *item = z->matrices[bindings_weight(z->bindings, weight)].item;
        if (!item) continue;
        Prune prune = pattern_of(item, weight->type.dims[1]);
        if (prune.keep == prune.of) continue;
        weight->prune = prune;
        weight->prune.importance = norms_of(z->options, weight, arena);
        weight->type.dtype = with_zeros(weight->type.dtype, weight->type.dims[1]);
        prune_find_blocks(weight, arena);
        count++;
    }
    return count;
}

static bool prunes_values(const PruneSpec *spec) {
    for (int i = 0; i < spec->count; i++)
        if (spec->items[i].kind < PRUNE_NEURONS) return true;
    return false;
}

static bool zero_values(Module *module, const PassOptions *options, const PruneSpec *spec, Arena *scratch, Diags *diags) {
    if (!prunes_values(spec)) return true;
    Zeros z = {.module = module, .options = options, .spec = spec, .bindings = bindings_new(module, scratch), .diags = diags};
    z.matrices = ARENA_ARRAY(scratch, Matrix, bindings_limit(z.bindings));
    note_uses(&z, scratch);
    if (!names_found(&z) || !choose_items(&z)) return false;
    if (!make_zeros(&z)) return diag_error(diags, NOWHERE, "--prune: there is no matrix in which a value would become zero"), false;
    module_bind_types(module);
    return true;
}

bool pass_prune(Module *module, const PassOptions *options, Diags *diags) {
    PruneSpec spec;
    if (!options->prune) return true;
    if (!prune_spec_read(options->prune, &spec, diags)) return false;
    Arena *scratch = arena_new();
    bool done = take_structures(module, options, &spec, scratch, diags) && zero_values(module, options, &spec, scratch, diags);
    arena_free(scratch);
    return done;
}
