// Two system calls, without libnuma. A page of a mapped file lies where the policy of the thread that first read or wrote it put it, and stays there as
// long as the system caches it: so a program sets its policy before it touches its weights, and the next one finds them spread. (mbind does not
// govern the pages of files.)
#include "runtime/numa.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

enum { NUMA_NODES = 64, NUMA_CPUS = 8192, NUMA_LINE = 4096 };

// "0-3,8,10-11": calls `each` for every range.
static void numa_ranges(const char *text, void (*each)(void *to, int first, int last), void *to) {
    for (const char *at = text; *at >= '0' && *at <= '9';) {
        char *end;
        long first = strtol(at, &end, 10), last = first;
        if (*end == '-')
            last = strtol(end + 1, &end, 10);
        if (first >= 0 && last >= first && last < NUMA_CPUS)
            each(to, (int)first, (int)last);
        at = *end == ',' ? end + 1 : end;
    }
}

static int numa_read(const char *folder, const char *name, char line[NUMA_LINE]) {
    char path[512];
    snprintf(path, sizeof path, "%.400s/%s", folder, name);
    FILE *file = fopen(path, "re");
    int read = file && fgets(line, NUMA_LINE, file);
    if (file)
        fclose(file);
    return read;
}

static void numa_add_nodes(void *to, int first, int last) {
    for (int node = first; node <= last && node < NUMA_NODES; node++)
        *(unsigned long long *)to |= 1ull << node;
}

#ifdef __linux__
typedef struct { cpu_set_t *set; size_t bytes; int found; } NumaCpus;

static void numa_find_cpus(void *to, int first, int last) {
    NumaCpus *cpus = to;
    for (int cpu = first; cpu <= last; cpu++)
        cpus->found |= CPU_ISSET_S(cpu, cpus->bytes, cpus->set) != 0;
}

unsigned long long tn_numa_nodes(const char *folder) {
    char line[NUMA_LINE], name[32];
    unsigned long long memory = 0, nodes = 0;
    if (!numa_read(folder, "has_memory", line))
        return 0;
    numa_ranges(line, numa_add_nodes, &memory);
    if (!(memory & (memory - 1)))
        return memory;
    NumaCpus cpus = {.set = CPU_ALLOC(NUMA_CPUS), .bytes = CPU_ALLOC_SIZE(NUMA_CPUS)};
    for (int node = 0; cpus.set && !sched_getaffinity(0, cpus.bytes, cpus.set) && node < NUMA_NODES; node++) {
        cpus.found = 0;
        snprintf(name, sizeof name, "node%d/cpulist", node);
        if ((memory >> node & 1) && numa_read(folder, name, line))
            numa_ranges(line, numa_find_cpus, &cpus);
        nodes |= (unsigned long long)cpus.found << node;
    }
    if (cpus.set)
        CPU_FREE(cpus.set);
    return nodes;
}

enum { NUMA_DEFAULT = 0, NUMA_INTERLEAVE = 3 };    // linux/mempolicy.h

int tn_numa_spread(unsigned long long nodes) {
    int policy = NUMA_DEFAULT;
    if (!(nodes & (nodes - 1)) || syscall(SYS_get_mempolicy, &policy, NULL, 0ul, NULL, 0ul) || policy != NUMA_DEFAULT)
        return 0;
    return !syscall(SYS_set_mempolicy, NUMA_INTERLEAVE, &nodes, NUMA_NODES + 1ul);    // the kernel takes one bit fewer than it is told of
}
#else
unsigned long long tn_numa_nodes(const char *folder) {
    (void)folder, (void)numa_ranges, (void)numa_read, (void)numa_add_nodes;
    return 0;
}

int tn_numa_spread(unsigned long long nodes) { return (void)nodes, 0; }
#endif
