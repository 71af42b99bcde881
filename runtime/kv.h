// The paged KV cache: pages that hold all caches of page_tokens positions of one sequence.
#ifndef TENON_RUNTIME_KV_H
#define TENON_RUNTIME_KV_H
#include "runtime/fail.h"

typedef struct { unsigned char **pages; int count, capacity; } PageTable;    // of one sequence: page i holds positions i·page_tokens …

typedef struct KvPool KvPool;

KvPool *tn_kv_new(const tn_program *program, tn_failure *failure);
void tn_kv_free(KvPool *pool);                                               // after every table was released
// Makes sure that the first `length` positions have pages. 0, or -1 when memory is short; then the table is as it was.
int tn_kv_reserve(KvPool *pool, PageTable *table, int length, tn_failure *failure);
void tn_kv_release(KvPool *pool, PageTable *table, int length);              // gives back the pages beyond the first `length` positions
int tn_kv_pages(const tn_program *program, int length);                      // pages for so many positions
size_t tn_kv_page_bytes(const tn_program *program);                          // what one page takes from the system
size_t tn_kv_bytes(const KvPool *pool);                                      // of all pages ever made: pages are kept for the next sequence

#endif
