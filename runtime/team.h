// The team: the threads that run a step together.
#ifndef TENON_RUNTIME_TEAM_H
#define TENON_RUNTIME_TEAM_H
#include "runtime/fail.h"

typedef struct Team Team;

Team *tn_team_new(int threads, tn_failure *failure);   // 0: tn_team_available()
void tn_team_free(Team *team);
int tn_team_threads(const Team *team);
void tn_team_clock(Team *team, unsigned long long (*now)(void));   // with which kernels are timed, instead of tn_now
// Runs one step on all threads and returns when all are done. kernel_ns: NULL, or [threads][kernel_count], to which times are added.
void tn_team_run(Team *team, const tn_program *program, const tn_step *step, unsigned long long *kernel_ns);

int tn_team_available(void);              // CPUs this process may use: its affinity mask, bounded by its cgroups' CPU quota
unsigned long long tn_now(void);          // nanoseconds of a monotonic clock
unsigned long long tn_thread_now(void);   // nanoseconds that this thread has run, without the time that others took from it

#endif
