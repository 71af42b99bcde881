// Weights beyond memory: a range of addresses as large as all weights, of which only as much is in memory as a budget allows.
//
// What every token reads is read at the start and stays. Tables of which a token reads few rows are mapped. Experts are read into their own addresses
// when a step chooses them (tn_step.page), and those of least use make room: generated code never knows.
#ifndef TENON_RUNTIME_PAGER_H
#define TENON_RUNTIME_PAGER_H
#include <stdbool.h>
#include "runtime/blob.h"

enum { PAGER_OVERHEAD = 32 << 20 };    // code, tokenizer, output rows, libc: what the design allows beside the planned parts

// What a program's weights are, and what they take. Bytes as they lie in memory.
typedef struct {
    unsigned long long weights;        // all
    unsigned long long pinned, tables, experts;
    unsigned long long least;          // of experts: as many of the largest as one token chooses in a layer
    unsigned long long others;         // beside weights: KV cache, arena, overhead
    bool fits;                         // what stays and `least`, in the budget
    unsigned long long room;           // for experts, under the budget
    int expert_count;
    double visits, active;             // of experts, a token: how many, and their bytes
    double kept_hits;                  // the share of visits that find their expert in memory, if experts are chosen alike and those visited most are kept
    double kept_bytes;                 // … and the bytes of the others: what a token reads
} PagerPlan;

// budget: bytes; `others` of them are not for weights.
PagerPlan tn_pager_plan(const tn_program *program, unsigned long long budget, unsigned long long others);
bool tn_pager_needed(const PagerPlan *plan, unsigned long long budget);      // not all weights fit
int tn_pager_fits(const PagerPlan *plan, unsigned long long budget, tn_failure *failure);   // 0, or -1 with what it would take

typedef struct Pager Pager;

// Reads what stays. `room`: bytes for experts. NULL: failure says why.
Pager *tn_pager_new(const tn_program *program, const Blob *blob, unsigned long long room, tn_failure *failure);
void tn_pager_free(Pager *pager);
const unsigned char *tn_pager_weights(const Pager *pager);
int tn_pager_page(const tn_step *step, tn_worker *worker, const unsigned long long *const *p, int params, int experts, tn_group *groups, int from, int count);
void tn_pager_guess(const tn_step *step, const unsigned long long *const *p, int params, int experts, const int *e, int pairs);
int tn_pager_resize(Pager *pager, unsigned long long room, tn_failure *failure);   // between steps; 0, or -1 when not one layer's experts would fit
int tn_pager_end_step(Pager *pager, tn_failure *failure);                   // 0, or -1: the step's results are worth nothing
void tn_pager_count(const Pager *pager, tn_paging *out);

#endif
