// A bounded folder of files that can be made again: compiled code and packed weights.
//
// Files are immutable: they get their name by rename, when whole, so any number of processes may read, add and remove at once. What is
// opened stays readable when another process removes it. A file that is gone between look-up and opening is a miss, never an error.
#ifndef TENON_CODEGEN_CACHE_H
#define TENON_CODEGEN_CACHE_H
#include "ir/base.h"

typedef struct {
    char *folder;
    uint64_t limit;
} Cache;

// $XDG_CACHE_HOME/tenon, or ~/.cache/tenon, made when missing. False: there is no such place that is ours alone (the reason in `why`).
bool cache_open(Cache *cache, uint64_t limit, char *why, size_t why_room);
void cache_close(Cache *cache);
typedef struct {
    uint64_t a, b;
} CacheKey;
CacheKey cache_key(const Text *what);                                                 // 128 bits of hash
char *cache_name(const Cache *cache, char kind, CacheKey key, const char *extension); // a full path, malloc'd
bool cache_touch(const char *path);                                                   // it is there, and now the most recently used
// Removes the least recently used files until all together fit the limit, and what killed processes left half-written.
void cache_trim(const Cache *cache);

#endif
