// Machines with several memory nodes: what all threads read is spread evenly over the nodes that they run on, so that a step reads with the bandwidth
// of all of them. (Threads are not tied to CPUs and a weight's share of a thread depends on their number, so no page belongs to one node.)
// With one node, in a program that runs with one thread, or under a policy that the user has set (numactl), nothing is done.
#ifndef TENON_RUNTIME_NUMA_H
#define TENON_RUNTIME_NUMA_H
#include <stddef.h>

#define NUMA_FOLDER "/sys/devices/system/node"

// The nodes, of the first 64, that have memory and a CPU that this process may use, as bits; `folder`: NUMA_FOLDER, or one like it.
unsigned long long tn_numa_nodes(const char *folder);
// Spreads over the nodes all memory that this thread, and those that it starts, will ask for, and what they will read from files: for programs, not for
// libraries. Whether it was done; failing is no failure.
int tn_numa_spread(unsigned long long nodes);

#endif
