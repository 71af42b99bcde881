// A step is one parallel region; inside it, dependent kernels are separated by barriers of our own, because there are hundreds in a step and each
// must cost little more than the slowest thread: they spin for a bounded time, then sleep on a futex.
//
// With OpenMP (gcc, libgomp) the region is `#pragma omp parallel`, so a compiled program shares its host's threads; how many came is asked inside
// the region, since OMP_THREAD_LIMIT or a surrounding region may allow fewer than were wanted. Without OpenMP (a compiler
// that lacks it, the thread sanitizer) the team keeps POSIX threads. Results do not depend on the number of threads.
//
// When there are more threads than CPUs nobody spins: a waiting thread would take the CPU from the one it waits for.
#include "runtime/team.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

enum { TEAM_MOST_THREADS = 1024, TEAM_SPINS = 4000 };    // spins: some 50 to 150 microseconds of pause instructions

// Arrivals, generation and sleepers lie on lines of their own: the first is written by all, the second read by all.
typedef struct {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint generation;
    _Alignas(64) atomic_int sleepers;
} TeamBarrier;

struct Team {
    TeamBarrier barrier;
    int threads, spins;
    const tn_program *program;
    const tn_step *step;
    unsigned long long *kernel_ns;
    unsigned long long (*now)(void);
    unsigned long long *claims, launches, next_launches;   // launches: before this step; next_launches: after it
#ifndef _OPENMP
    pthread_t *handles;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t begin, done;
    unsigned round;
    int running;
    bool stop;
#endif
};

unsigned long long tn_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (unsigned long long)time.tv_sec * 1000000000ull + (unsigned long long)time.tv_nsec;
}

unsigned long long tn_thread_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (unsigned long long)time.tv_sec * 1000000000ull + (unsigned long long)time.tv_nsec;
}

static inline void team_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static void team_sleep(atomic_uint *word, unsigned value) {
#ifdef __linux__
    syscall(SYS_futex, (unsigned *)word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
#else
    (void)word, (void)value;
    sched_yield();
#endif
}

static void team_wake(atomic_uint *word) {
#ifdef __linux__
    syscall(SYS_futex, (unsigned *)word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#else
    (void)word;
#endif
}

// The last to arrive opens the next generation. A sleeper is counted before it checks the generation, and the opener looks for sleepers after
// having changed it, both sequentially consistent: one of the two sees the other.
static void team_barrier(tn_worker *worker) {
    Team *team = worker->team;
    TeamBarrier *barrier = &team->barrier;
    unsigned generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) + 1 == worker->count) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store(&barrier->generation, generation + 1);
        if (atomic_load(&barrier->sleepers))
            team_wake(&barrier->generation);
        return;
    }
    for (int i = 0; i < team->spins; i++) {
        if (atomic_load_explicit(&barrier->generation, memory_order_acquire) != generation)
            return;
        team_pause();
    }
    atomic_fetch_add(&barrier->sleepers, 1);
    while (atomic_load(&barrier->generation) == generation)
        team_sleep(&barrier->generation, generation);
    atomic_fetch_sub(&barrier->sleepers, 1);
}

static void team_work(Team *team, int index, int count) {
    tn_worker worker = {.index = index, .count = count, .barrier = count > 1 ? team_barrier : NULL, .team = team, .now = team->now, .claims = count > 1 ? team->claims : NULL,
                        .launch = team->launches, .since = team->launches + 1};
    if (team->kernel_ns)
        worker.kernel_ns = team->kernel_ns + (size_t)index * (size_t)team->program->kernel_count;
    team->program->run(team->step, &worker);
    if (index == 0)
        team->next_launches = worker.launch;
}

#ifdef _OPENMP

static bool team_start(Team *team, tn_failure *failure) {
    (void)team, (void)failure;
    return true;
}

static void team_stop(Team *team) { (void)team; }

static void team_region(Team *team) {
#pragma omp parallel num_threads(team->threads)
    team_work(team, omp_get_thread_num(), omp_get_num_threads());
}

#else

typedef struct { Team *team; int index; } TeamMember;

static void *team_member(void *argument) {
    TeamMember member = *(TeamMember *)argument;
    Team *team = member.team;
    free(argument);
    unsigned seen = 0;
    for (;;) {
        pthread_mutex_lock(&team->lock);
        while (team->round == seen && !team->stop)
            pthread_cond_wait(&team->begin, &team->lock);
        seen = team->round;
        bool stop = team->stop;
        pthread_mutex_unlock(&team->lock);
        if (stop)
            return NULL;
        team_work(team, member.index, team->threads);
        pthread_mutex_lock(&team->lock);
        if (--team->running == 0)
            pthread_cond_signal(&team->done);
        pthread_mutex_unlock(&team->lock);
    }
}

static void team_stop(Team *team) {
    pthread_mutex_lock(&team->lock);
    team->stop = true;
    pthread_cond_broadcast(&team->begin);
    pthread_mutex_unlock(&team->lock);
    for (int i = 0; i < team->started; i++)
        pthread_join(team->handles[i], NULL);
    free(team->handles);
    pthread_mutex_destroy(&team->lock);
    pthread_cond_destroy(&team->begin);
    pthread_cond_destroy(&team->done);
}

// Fewer threads than asked for are no failure: the team is as large as it became.
static bool team_start(Team *team, tn_failure *failure) {
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->begin, NULL);
    pthread_cond_init(&team->done, NULL);
    team->handles = calloc((size_t)team->threads, sizeof *team->handles);
    if (!team->handles) {
        tn_fail(failure, TN_BAD_MACHINE, "no memory for %d threads", team->threads);
        return false;
    }
    for (int i = 1; i < team->threads; i++) {
        TeamMember *member = malloc(sizeof *member);
        if (!member)
            break;
        *member = (TeamMember){team, i};
        if (pthread_create(&team->handles[team->started], NULL, team_member, member)) {
            free(member);
            break;
        }
        team->started++;
    }
    team->threads = team->started + 1;
    return true;
}

static void team_region(Team *team) {
    pthread_mutex_lock(&team->lock);
    team->running = team->threads - 1;
    team->round++;
    pthread_cond_broadcast(&team->begin);
    pthread_mutex_unlock(&team->lock);
    team_work(team, 0, team->threads);
    pthread_mutex_lock(&team->lock);
    while (team->running)
        pthread_cond_wait(&team->done, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

#endif

void tn_team_run(Team *team, const tn_program *program, const tn_step *step, unsigned long long *kernel_ns) {
    team->program = program;
    team->step = step;
    team->kernel_ns = kernel_ns;
    if (team->threads == 1)
        team_work(team, 0, 1);
    else
        team_region(team);
    team->launches = team->next_launches;
}

Team *tn_team_new(int threads, tn_failure *failure) {
    int available = tn_team_available();
    Team *team = aligned_alloc(64, (sizeof *team + 63) / 64 * 64);
    if (!team) {
        tn_fail(failure, TN_BAD_MACHINE, "no memory for a team of threads");
        return NULL;
    }
    memset(team, 0, sizeof *team);
    team->threads = threads > 0 ? threads : available;
    team->now = tn_now;
    if (team->threads > TEAM_MOST_THREADS)
        team->threads = TEAM_MOST_THREADS;
    team->spins = team->threads > available ? 0 : TEAM_SPINS;
    size_t claims = (size_t)team->threads * 64;
    team->claims = aligned_alloc(64, claims);
    if (team->claims)       // without them each thread does its own share and no more
        memset(team->claims, 0, claims);
    if (team_start(team, failure))
        return team;
    tn_team_free(team);
    return NULL;
}

void tn_team_free(Team *team) {
    if (team) {
        team_stop(team);
        free(team->claims);
    }
    free(team);
}

int tn_team_threads(const Team *team) { return team->threads; }
void tn_team_clock(Team *team, unsigned long long (*now)(void)) { team->now = now; }

// ---- how many CPUs --------------------------------------------------------------------------------------------------------

static bool team_read_line(const char *path, char *line, size_t size) {
    FILE *file = fopen(path, "re");
    bool read = file && fgets(line, (int)size, file);
    if (file)
        fclose(file);
    return read;
}

static void team_quota_v2(const char *folder, double *quota) {
    char path[640], line[64];
    double most, period;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
    if (team_read_line(path, line, sizeof line) && sscanf(line, "%lf %lf", &most, &period) == 2 && most > 0 && period > 0 && most / period < *quota)
        *quota = most / period;
}

static void team_quota_v1(const char *folder, double *quota) {
    char path[640], line[64];
    double most, period;
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", folder);
    if (!team_read_line(path, line, sizeof line) || sscanf(line, "%lf", &most) != 1 || most <= 0)
        return;
    snprintf(path, sizeof path, "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", folder);
    if (team_read_line(path, line, sizeof line) && sscanf(line, "%lf", &period) == 1 && period > 0 && most / period < *quota)
        *quota = most / period;
}

// The smallest quota of this process's cgroup and the ones above it; both hierarchies, seen from the host or from inside a container.
static double team_quota(void) {
    double quota = TEAM_MOST_THREADS;
    char line[512];
    FILE *file = fopen("/proc/self/cgroup", "re");
    team_quota_v2("", &quota);
    team_quota_v1("", &quota);
    while (file && fgets(line, sizeof line, file)) {
        char *controllers = strchr(line, ':'), *folder = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!folder)
            continue;
        *folder++ = 0;
        folder[strcspn(folder, "\n")] = 0;
        controllers++;
        bool v2 = !*controllers, v1 = !strcmp(controllers, "cpu") || strstr(controllers, "cpu,") == controllers || strstr(controllers, ",cpu");
        for (char *slash; (v1 || v2) && (slash = strrchr(folder, '/')) && folder[1]; *slash = 0) {
            if (v2)
                team_quota_v2(folder, &quota);
            else
                team_quota_v1(folder, &quota);
            if (slash == folder)
                break;
        }
    }
    if (file)
        fclose(file);
    return quota;
}

int tn_team_available(void) {
    int count = 0;
    double quota = team_quota();
#ifdef __linux__
    cpu_set_t *set = CPU_ALLOC(TEAM_MOST_THREADS * 8);
    size_t bytes = CPU_ALLOC_SIZE(TEAM_MOST_THREADS * 8);
    if (set && !sched_getaffinity(0, bytes, set))
        count = CPU_COUNT_S(bytes, set);
    if (set)
        CPU_FREE(set);
#endif
    if (count <= 0)
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (quota < count)
        count = (int)(quota + 0.999);
    return count > 0 ? count : 1;
}
