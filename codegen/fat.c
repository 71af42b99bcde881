// Programs for several targets: the order of the targets, whether their plans can share a blob, and the C text that lists them.
//
// A target's numerics may differ from another's (AMX multiplies bf16 in its own order), its weights may not: one blob in one packing. What the
// packer writes follows from a weight's type, layout, stored type and values, so these are what is compared.
#include "codegen/fat.h"

#include "codegen/plan.h"
#include "codegen/targets/targets.h"
#include "ir/prune.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

extern const char prelude_abi[];

// ---- targets --------------------------------------------------------------------------------------------------------

static bool takes_part(const Target *target, const Target *first, Diags *diags) {
    if (strncmp(target->triple, "nvptx", 5) == 0) {
        diag_error(diags, NOWHERE, "%s is a GPU: it has no place in a program for several targets", target->name);
        return false;
    }
    if (strcmp(target->triple, first->triple) == 0) return true;
    diag_error(diags, NOWHERE, "%s (%s) and %s (%s) do not go into one program", first->name, first->triple, target->name, target->triple);
    diag(diags, DIAG_HINT, NOWHERE, "compile once for each instruction set architecture");
    return false;
}

int targets_parse(const char *list, const Target *targets[MAX_VARIANTS], Diags *diags) {
    int count = 0;
    for (const char *at = list;;) {
        char name[64];
        size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        const Target *target = target_find(name, diags);
        if (!target || (strchr(list, ',') && !takes_part(target, count ? targets[0] : target, diags))) return 0;
        int place = 0; // behind all that rank higher
        while (place < count && targets[place] != target && target_rank(targets[place]) > target_rank(target)) place++;
        if (place == count || targets[place] != target) {
            if (count == MAX_VARIANTS) {
                diag_error(diags, NOWHERE, "more than %d targets", MAX_VARIANTS);
                return 0;
            }
            memmove(&targets[place + 1], &targets[place], (size_t)(count - place) * sizeof *targets);
            targets[place] = target;
            count++;
        }
        at += length;
        if (*at++ != ',') return count;
    }
}

const char *targets_text(const Target *const *targets, int count, Arena *arena) {
    const char *text = "";
    for (int i = 0; i < count; i++) text = arena_printf(arena, "%s%s%s", text, i ? "," : "", targets[i]->name);
    return text;
}

const char *variant_symbol(const Target *target, Arena *arena) {
    char *symbol = arena_printf(arena, "tenon_variant_%s", target->name);
    for (char *c = symbol; *c; c++)
        if (!isalnum((unsigned char)*c)) *c = '_';
    return symbol;
}

// ---- one blob -------------------------------------------------------------------------------------------------------

static bool same_data(const Weight *a, const Weight *b) {
    uint64_t bytes;
    return a->data == b->data || (a->data && b->data && type_bytes(&a->type, &bytes) && memcmp(a->data, b->data, bytes) == 0);
}

static bool same_type(const Type *a, const Type *b) {
    return a->dtype == b->dtype && a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

// What of two weights differs; NULL: nothing. (How calibration rounded them is known to the first alone, which packs for all.)
static const char *difference(const Weight *a, const Weight *b) {
    if (strcmp(a->name, b->name) != 0) return "order";
    if (!same_type(&a->type, &b->type)) return "type";
    if (a->layout != b->layout) return "layout";
    if (a->quantize_to != b->quantize_to) return "quantization";
    if (a->rotate != b->rotate || !prune_equal(a, b) || !same_data(a, b)) return "values";
    return NULL;
}

bool plans_agree(const Plan *first, const Plan *other, Diags *diags) {
    const Module *m = first->module, *n = other->module;
    const char *differs = m->weight_count == n->weight_count ? NULL : "number";
    int at = 0;
    for (; !differs && at < m->weight_count; at++) {
        differs = difference(m->weights[at], n->weights[at]);
        if (!differs && first->offset[at] != other->offset[at]) differs = "place";
        if (differs) break;
    }
    if (!differs && first->weights_bytes == other->weights_bytes) return true;
    diag_error(diags, NOWHERE, "%s and %s cannot share one file of weights: the %s%s%s differs", first->target->name, other->target->name,
               differs ? differs : "size", at < m->weight_count ? " of " : " of the weights", at < m->weight_count ? m->weights[at]->name : "");
    diag(diags, DIAG_HINT, NOWHERE, "compile once for each of the two");
    return false;
}

// ---- the list -------------------------------------------------------------------------------------------------------

void plans_emit_choice(const Plan *const *plans, int count, uint64_t blob_hash, Text *out) {
    Arena *arena = arena_new();
    const Target *targets[MAX_VARIANTS];
    text_puts(out, prelude_abi);
    text_printf(out, "\n#define TN_BLOB_HASH %lluULL\n", (unsigned long long)blob_hash);
    for (int i = 0; i < count; i++) {
        targets[i] = plans[i]->target;
        text_printf(out, "extern const tn_program %s __attribute__((visibility(\"hidden\")));\n", variant_symbol(targets[i], arena));
    }
    text_puts(out, "static const tn_program *const tn_variants[] = {");
    for (int i = 0; i < count; i++) text_printf(out, "&%s, ", variant_symbol(targets[i], arena));
    text_puts(out, "0};\n");
    program_print(plans[0], targets_text(targets, count, arena), ".variants = tn_variants", out);
    arena_free(arena);
}
