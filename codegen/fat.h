// One program for several targets: each target's code, compiled alone, over one blob.
//
// A target's C defines its tn_program under a name of its own (TN_MODEL); a further small C text, compiled for the baseline, defines tn_model as
// the list of them. At start the run time takes the first that the processor can run (runtime/choose.c).
#ifndef TENON_CODEGEN_FAT_H
#define TENON_CODEGEN_FAT_H
#include "codegen/codegen.h"

enum { MAX_VARIANTS = 16 };

// The targets that a comma-separated list names, best first, each once. 0: with errors (an unknown one; more than one instruction set architecture).
int targets_parse(const char *list, const Target *targets[MAX_VARIANTS], Diags *diags);
const char *targets_text(const Target *const *targets, int count, Arena *arena);   // "amx,x86-64-v3"

// The name of a target's tn_program in such a program: tenon_variant_x86_64_v3.
const char *variant_symbol(const Target *target, Arena *arena);
// Both plans read the same weights at the same places, so that one blob serves both. False: said in diags.
bool plans_agree(const Plan *first, const Plan *other, Diags *diags);
// The C of tn_model: what all have in common, and the list of variants, in this order.
void plans_emit_choice(const Plan *const *plans, int count, uint64_t blob_hash, Text *out);

#endif
