// Pages are made on demand, one at a time, straight from the kernel, so memory grows with the tokens that are really there; a page that a sequence
// gives back serves the next. A page starts zeroed, also when it is used again: what a kernel reads past a sequence's end is then a
// finite number, the same in every run.
#include "runtime/kv.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct KvPool {
    size_t page_bytes, mapped_bytes;     // mapped: rounded up to what mmap gives
    int page_tokens;
    unsigned char **all, **spare;
    int all_count, all_capacity, spare_count;
};

enum { KV_SYSTEM_PAGE = 4096 };

KvPool *tn_kv_new(const tn_program *program, tn_failure *failure) {
    KvPool *pool = calloc(1, sizeof *pool);
    if (!pool) {
        tn_fail(failure, TN_BAD_MACHINE, "no memory for the KV cache");
        return NULL;
    }
    pool->page_bytes = (size_t)program->page_bytes;
    pool->page_tokens = program->page_tokens;
    pool->mapped_bytes = tn_kv_page_bytes(program);
    return pool;
}

void tn_kv_free(KvPool *pool) {
    if (!pool)
        return;
    for (int i = 0; i < pool->all_count; i++)
        munmap(pool->all[i], pool->mapped_bytes);
    free(pool->all);
    free(pool->spare);
    free(pool);
}

int tn_kv_pages(const tn_program *program, int length) {
    return program->page_bytes ? (length + program->page_tokens - 1) / program->page_tokens : 0;
}

size_t tn_kv_page_bytes(const tn_program *program) {
    return ((size_t)program->page_bytes + KV_SYSTEM_PAGE - 1) / KV_SYSTEM_PAGE * KV_SYSTEM_PAGE;
}

size_t tn_kv_bytes(const KvPool *pool) { return (size_t)pool->all_count * pool->mapped_bytes; }

static unsigned char *kv_page(KvPool *pool) {
    if (pool->spare_count) {
        unsigned char *page = pool->spare[--pool->spare_count];
        return memset(page, 0, pool->page_bytes);
    }
    if (pool->all_count == pool->all_capacity) {        // both lists have room for every page, so giving one back cannot fail
        int capacity = pool->all_capacity ? pool->all_capacity * 2 : 64;
        unsigned char **all = realloc(pool->all, (size_t)capacity * sizeof *all);
        if (all)
            pool->all = all;
        unsigned char **spare = all ? realloc(pool->spare, (size_t)capacity * sizeof *spare) : NULL;
        if (!spare)
            return NULL;
        pool->spare = spare;
        pool->all_capacity = capacity;
    }
    void *page = mmap(NULL, pool->mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    return pool->all[pool->all_count++] = page;
}

int tn_kv_reserve(KvPool *pool, PageTable *table, int length, tn_failure *failure) {
    if (!pool->page_bytes)
        return 0;
    int before = table->count, needed = (length + pool->page_tokens - 1) / pool->page_tokens;
    if (needed > table->capacity) {
        int capacity = needed > table->capacity * 2 ? needed : table->capacity * 2;
        unsigned char **pages = realloc(table->pages, (size_t)capacity * sizeof *pages);
        if (!pages)
            return tn_fail(failure, TN_BAD_MACHINE, "no memory for a table of %d KV pages", capacity);
        table->pages = pages;
        table->capacity = capacity;
    }
    while (table->count < needed) {
        unsigned char *page = kv_page(pool);
        if (!page) {
            tn_kv_release(pool, table, before * pool->page_tokens);
            return tn_fail(failure, TN_BAD_MACHINE, "no memory for one more KV page of %zu bytes (%zu bytes are in use); --ctx N bounds the cache",
                           pool->page_bytes, tn_kv_bytes(pool));
        }
        table->pages[table->count++] = page;
    }
    return 0;
}

void tn_kv_release(KvPool *pool, PageTable *table, int length) {
    int keep = pool->page_bytes ? (length + pool->page_tokens - 1) / pool->page_tokens : 0;
    while (table->count > keep)
        pool->spare[pool->spare_count++] = table->pages[--table->count];
    if (!table->count) {
        free(table->pages);
        *table = (PageTable){0};
    }
}
