// One run of a program as its options say; shared by the files that make up tenon_run. Not public.
#ifndef TENON_RUNTIME_RUN_H
#define TENON_RUNTIME_RUN_H
#include "runtime/cli.h"
#include "runtime/engine.h"
#include "runtime/progress.h"

typedef struct { int *ids; int count; char *label; } PromptIds;       // label: for messages: "prompt 2", "questions.txt:7"
typedef struct { PromptIds *all; int count, capacity; } PromptList;

typedef struct Run {
    const tn_program *program;
    const Blob *blob;
    const RunOptions *options;
    tn_engine *engine;
    PromptList prompts;
    unsigned long long began_ns;
    tn_failure failure;
} Run;

// Each returns 0, or -1 with run->failure set.
int tn_run_load_prompts(Run *run);            // prompts.c: from -p, --tokens and --batch, encoded
int tn_run_generate(Run *run);                // run.c
int tn_run_vectors(Run *run);                 // vectors.c: an encoder's output
int tn_run_logits(Run *run, int *sequences);  // vectors.c: --logits for a language model; all prompts are queued and run
int tn_run_chat(Run *run);                    // chat.c
int tn_run_bench(Run *run);                   // bench.c
int tn_run_info(Run *run);                    // info.c; needs no engine

int tn_run_queue(Run *run, int prompt, int want);        // a new sequence with the prompt's tokens, or -1
int tn_run_flush(Run *run);                              // whether standard output took everything
// metrics.c: what a token took and what paging did, as fields of a JSON object, each behind a comma; the latter as a line on standard error.
void tn_run_json_metrics(const Run *run);
void tn_run_show_paging(const Run *run);
tn_generation tn_run_generation(const Run *run);
const char *tn_run_reason(int result);                   // "end", "length", …

// chat.c: a conversation's opening and one message in the model's template, encoded; 0 or -1. `first`: of the conversation.
int tn_chat_encode(Run *run, const char *message, bool first, PromptIds *out);
bool tn_chat_known(const Run *run);

// json.c
void tn_json_string(FILE *to, const char *text, size_t length);      // quoted; ill-formed UTF-8 becomes U+FFFD
void tn_json_number(FILE *to, double number);                        // null when it is not finite
void tn_json_ids(FILE *to, const int *ids, int count);

#endif
