// Pages are made on demand, from slabs that the system fills as they are touched, so memory grows with the tokens that are really there; a page that a
// sequence gives back serves the next. A step reads a little of every page for each layer, more addresses than a table of small system pages holds, so
// slabs ask for huge ones: such reads gain up to a half, and a prompt waits for fewer faults. A page that is used again holds what was there: no bit
// depends on what lies past a sequence's end, whatever it is, and clearing pages would cost a prompt a hundredth.
#include "runtime/kv.h"
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

struct KvPool {
    size_t page_bytes, mapped_bytes;     // mapped: rounded up to what mmap gives
    int page_tokens, slab_pages;         // a slab's pages follow one another in `all`
    size_t slab_bytes;
    unsigned char **all, **spare;
    int all_count, all_capacity, spare_count;
};

enum { KV_SYSTEM_PAGE = 4096, KV_HUGE_PAGE = 2 << 20, KV_SLAB = 32 << 20 };

// Huge pages begin at multiples of their size: what the system gives around them goes back.
static unsigned char *kv_slab(size_t bytes) {
    unsigned char *all = mmap(NULL, bytes + KV_HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    const size_t before = (KV_HUGE_PAGE - (uintptr_t)all % KV_HUGE_PAGE) % KV_HUGE_PAGE;
    if (before)
        munmap(all, before);
    munmap(all + before + bytes, KV_HUGE_PAGE - before);
#ifdef MADV_HUGEPAGE
    madvise(all + before, bytes, MADV_HUGEPAGE);         // refused: small ones
#endif
    return all + before;
}

KvPool *tn_kv_new(const tn_program *program, tn_failure *failure) {
    KvPool *pool = calloc(1, sizeof *pool);
    if (!pool) {
        tn_fail(failure, TN_BAD_MACHINE, "no memory for the KV cache");
        return NULL;
    }
    pool->page_bytes = (size_t)program->page_bytes;
    pool->page_tokens = program->page_tokens;
    pool->mapped_bytes = tn_kv_page_bytes(program);
    pool->slab_pages = pool->mapped_bytes && pool->mapped_bytes < KV_SLAB ? (int)(KV_SLAB / pool->mapped_bytes) : 1;
    pool->slab_bytes = ((size_t)pool->slab_pages * pool->mapped_bytes + KV_HUGE_PAGE - 1) / KV_HUGE_PAGE * KV_HUGE_PAGE;
    return pool;
}

void tn_kv_free(KvPool *pool) {
    if (!pool)
        return;
    for (int i = 0; i < pool->all_count; i += pool->slab_pages)
        munmap(pool->all[i], pool->slab_bytes);
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
    if (pool->spare_count)
        return pool->spare[--pool->spare_count];
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
    unsigned char *page = pool->all_count % pool->slab_pages ? pool->all[pool->all_count - 1] + pool->mapped_bytes : kv_slab(pool->slab_bytes);
    if (!page)
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
