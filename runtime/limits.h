// The limits of this machine as this process meets them: what --bench holds the kernels against.
#ifndef TENON_RUNTIME_LIMITS_H
#define TENON_RUNTIME_LIMITS_H
#include "runtime/engine.h"

enum { LIMITS_MOST = 8 };

typedef struct { const char *name; double operations; } LimitPeak;     // operations a second, multiplications and additions

// Bytes and operations a second of the engine's whole team, by the program's own probes (abi.h), each the best of its repetitions. 0: not known.
typedef struct {
    double memory, weights;                    // reading twice the last cache, at least 256 MiB; the mapped weights over and over
    double cache[2];                           // reading 16 and 256 KiB of each thread's own, over and over
    unsigned long long memory_bytes, weights_bytes, cache_bytes[2];    // how much was read for each, in a cache by each thread
    int threads;
    LimitPeak peaks[LIMITS_MOST]; int peak_count;
} Limits;

void tn_limits_measure(const tn_engine *engine, double seconds, Limits *limits);   // `seconds`: for each of its figures
double tn_limits_peak(const Limits *limits, const char *arithmetic);               // NULL, or no such probe: 0
// At which the same `bytes` can be read again and again: of the smallest cache that holds them, else the better of memory and weights.
double tn_limits_read(const Limits *limits, double bytes);
double tn_limits_memory(const tn_engine *engine, size_t most, double seconds);   // bytes a second that its team reads of memory, from more than fits a cache, but at most so much

#endif
