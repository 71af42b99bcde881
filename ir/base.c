// The ground: arenas as chains of blocks, growing text, checked sizes, hashing, the nearest name.
//
// An arena hands out zeroed memory from the end of its newest block; an allocation that does not fit gets a block of its own size or of the
// usual one, whichever is larger. Running out of memory ends the process (exit 3), so no caller checks.
#define XXH_INLINE_ALL
#include "ir/base.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { BLOCK_BYTES = 64 * 1024, ALIGNMENT = 16, POISON = 0xDB };

typedef struct Block {
    struct Block *next;
    size_t used, room;
    _Alignas(ALIGNMENT) unsigned char bytes[];
} Block;

struct Arena { Block *blocks; };

static void *no_memory(size_t bytes) {
    fprintf(stderr, "tenon: error: out of memory (%zu bytes asked for)\n", bytes);
    exit(3);
}

static Block *block_new(size_t room) {
    if (room > SIZE_MAX - sizeof(Block)) no_memory(room);
    Block *block = calloc(1, sizeof(Block) + room);
    if (!block) no_memory(room);
    block->room = room;
    return block;
}

Arena *arena_new(void) {
    Arena *arena = calloc(1, sizeof *arena);
    return arena ? arena : no_memory(sizeof *arena);
}

static void blocks_free(Block *block) {
    while (block) {
        Block *next = block->next;
#ifndef NDEBUG
        memset(block->bytes, POISON, block->used);
#endif
        free(block);
        block = next;
    }
}

void arena_free(Arena *arena) {
    if (!arena) return;
    blocks_free(arena->blocks);
    free(arena);
}

void arena_reset(Arena *arena) {
    blocks_free(arena->blocks);
    arena->blocks = NULL;
}

void *arena_alloc(Arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2) no_memory(bytes);
    bytes = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    Block *top = arena->blocks;
    if (!top || top->room - top->used < bytes) {
        Block *fresh = block_new(bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES);
        // A large piece goes behind the block in use, which may still have room for small ones.
        if (top && bytes > BLOCK_BYTES / 4) {
            fresh->next = top->next;
            top->next = fresh;
        } else {
            fresh->next = top;
            arena->blocks = fresh;
        }
        top = fresh;
    }
    void *at = top->bytes + top->used;
    top->used += bytes;
    return at;
}

void *arena_copy(Arena *arena, const void *from, size_t bytes) {
    void *to = arena_alloc(arena, bytes);
    if (bytes) memcpy(to, from, bytes);
    return to;
}

char *arena_strndup(Arena *arena, const char *text, size_t length) {
    char *to = arena_alloc(arena, length + 1);
    if (length) memcpy(to, text, length);
    return to;
}

char *arena_strdup(Arena *arena, const char *text) { return arena_strndup(arena, text, strlen(text)); }

char *arena_printf(Arena *arena, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *to = arena_alloc(arena, (size_t)(length < 0 ? 0 : length) + 1);
    if (length > 0) vsnprintf(to, (size_t)length + 1, format, again);
    va_end(again);
    return to;
}

void *arena_grow(Arena *arena, void *items, int count, int *capacity, size_t item_bytes) {
    if (count < *capacity) return items;
    if (*capacity > INT32_MAX / 2) no_memory(SIZE_MAX);
    int larger = *capacity ? *capacity * 2 : 8;
    if (larger <= count) larger = count + 1;
    void *to = arena_alloc(arena, (size_t)larger * item_bytes);
    if (count) memcpy(to, items, (size_t)count * item_bytes);
    *capacity = larger;
    return to;
}

// ---- text ---------------------------------------------------------------------------------------------------------

static void text_room(Text *text, size_t more) {
    if (more > SIZE_MAX / 2 - text->length) no_memory(more);
    size_t need = text->length + more + 1;
    if (need <= text->capacity) return;
    size_t larger = text->capacity * 2 > need ? text->capacity * 2 : need + 64;
    char *data = realloc(text->data, larger);
    if (!data) no_memory(larger);
    text->data = data;
    text->capacity = larger;
}

void text_add(Text *text, const char *bytes, size_t length) {
    text_room(text, length);
    if (length) memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = 0;
}

void text_puts(Text *text, const char *string) { text_add(text, string, strlen(string)); }

void text_vprintf(Text *text, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    if (length > 0) {
        text_room(text, (size_t)length);
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

void text_printf(Text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    text_vprintf(text, format, args);
    va_end(args);
}

void text_free(Text *text) {
    free(text->data);
    *text = (Text){0};
}

// ---- sizes, hashes, names -------------------------------------------------------------------------------------------

bool size_mad(uint64_t a, uint64_t b, uint64_t c, uint64_t limit, uint64_t *out) {
    uint64_t product, sum;
    if (__builtin_mul_overflow(a, b, &product) || __builtin_add_overflow(product, c, &sum) || sum > limit) return false;
    *out = sum;
    return true;
}

uint64_t hash_bytes(const void *bytes, size_t length, uint64_t seed) { return XXH3_64bits_withSeed(bytes, length, seed); }

enum { NAME_LIMIT = 63 };

// Edits (insert, remove, replace, swap of neighbours) that turn a into b.
static int edit_distance(const char *a, const char *b) {
    int rows[3][NAME_LIMIT + 1];
    int n = (int)strlen(a), m = (int)strlen(b);
    int *before = rows[0], *last = rows[1], *row = rows[2];
    for (int j = 0; j <= m; j++) last[j] = j;
    for (int i = 1; i <= n; i++) {
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best) best = before[j - 2] + 1;
            row[j] = best;
        }
        int *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[m];
}

const char *nearest_name(const char *name, const char *const *candidates, int count) {
    if (strlen(name) > NAME_LIMIT) return NULL;
    int limit = (int)strlen(name) / 3 + 1, best = limit + 1;
    const char *nearest = NULL;
    for (int i = 0; i < count; i++) {
        if (!candidates[i] || strlen(candidates[i]) > NAME_LIMIT) continue;
        int distance = edit_distance(name, candidates[i]);
        if (distance < best && distance < (int)strlen(candidates[i]) && 2 * distance <= (int)strlen(candidates[i])) best = distance, nearest = candidates[i];
    }
    return nearest;
}
