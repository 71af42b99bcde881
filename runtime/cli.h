// The options with which a model is run: one parser for compiled programs and for `tenon run` (and bench, eval), so that the same words mean the
// same everywhere.
//
// A command with options of its own (`tenon run MODEL --target T -p …`) walks argv and offers each place to tn_options_take; what that does not
// know either is reported by tn_options_unknown with both lists of names. tn_options_check looks at the whole.
#ifndef TENON_RUNTIME_CLI_H
#define TENON_RUNTIME_CLI_H
#include <stdbool.h>
#include <stdio.h>
#include "runtime/blob.h"

enum { TN_MAX_STOPS = 32 };

typedef struct { const char *text; bool ids; } RunPrompt;         // ids: TEXT is a list of token ids

typedef struct RunOptions {
    RunPrompt *prompts; int prompt_count;    // -p and --tokens, in order; several make a batch. Freed by tn_options_free
    const char *batch;                       // --batch FILE; "-": standard input
    const char *logits, *weights;            // files
    const char *targets;                     // set by a program for several targets: their names
    const char *system;                      // --system TEXT; NULL: the template's own opening
    unsigned long long memory;               // tn_open_options.memory
    int n;                                   // -n; -1: until an end or the context is full
    int ctx, threads, chunk;                 // 0: default
    double latency;                          // --bench: milliseconds; 0: no bound
    int prefill, decode_at, batches;         // --bench: tokens of a prompt, one more context, most sequences; 0: default
    tn_sampling sampling;                    // default: temperature 0
    const char *stops[TN_MAX_STOPS]; int stop_count;
    bool chat, bench, info, json, help, version, ignore_end, kernels, quick, verify;
} RunOptions;

void tn_options_init(RunOptions *options);
void tn_options_free(RunOptions *options);
// How many of argv from `at` on belong to a run option (0: not one of ours; -1: one of ours with a bad or missing value, failure says which).
int tn_options_take(RunOptions *options, int argc, char *const *argv, int at, tn_failure *failure);
bool tn_options_known(const char *name);                                // "--threads": a run option
// Always -1: unknown option, with the nearest name among ours and `others` ("--quant", …; may be NULL).
int tn_options_unknown(const char *argument, const char *const *others, int other_count, tn_failure *failure);
int tn_options_check(const RunOptions *options, tn_failure *failure);   // 0, or -1: options that exclude each other
void tn_options_help(FILE *to);                                         // the lines for `--help`

// Runs a program with its blob as the options say: generation, batch, chat, encoder, --logits, --info, --bench. Messages go to standard error.
// The blob stays the caller's. Returns the exit code.
int tenon_run(const tn_program *program, const Blob *blob, const RunOptions *options);

#endif
