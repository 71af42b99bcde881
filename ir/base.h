// The ground every room stands on: arenas, growing text, the diagnostics sink, checked sizes.
//
// Memory is owned by arenas: nothing allocated from one is freed alone, and everything goes when the arena goes.
// The user's mistakes go through one sink, `Diags`: several at a time, with place, cause and hint. Running out of
// memory inside the compiler ends the process with a message (exit 3): no caller can do better.
#ifndef TENON_IR_BASE_H
#define TENON_IR_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

// ---- arenas ----------------------------------------------------------------------------------------------------

typedef struct Arena Arena;

Arena *arena_new(void);
void arena_free(Arena *arena);                       // NULL is allowed
void arena_reset(Arena *arena);                      // everything goes; poisoned first in debug builds
void *arena_alloc(Arena *arena, size_t bytes);       // zeroed, aligned to 16 bytes
void *arena_copy(Arena *arena, const void *from, size_t bytes);
char *arena_strdup(Arena *arena, const char *text);
char *arena_strndup(Arena *arena, const char *text, size_t length);
char *arena_printf(Arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);
// Room for one more element in a growing array: returns `items`, moved when full. `*capacity` starts at 0.
void *arena_grow(Arena *arena, void *items, int count, int *capacity, size_t item_bytes);
#define ARENA_NEW(arena, type) ((type *)arena_alloc(arena, sizeof(type)))
#define ARENA_ARRAY(arena, type, n) ((type *)arena_alloc(arena, sizeof(type) * (size_t)((n) > 0 ? (n) : 1)))
// arena_push(arena, items, count, capacity) = element;
#define ARENA_PUSH(arena, items, count, capacity) \
    (*((items) = arena_grow((arena), (items), (count), &(capacity), sizeof *(items)), &(items)[(count)++]))

// ---- growing text (malloc'd; freed by text_free) ------------------------------------------------------------------

typedef struct { char *data; size_t length, capacity; } Text;   // data is NUL-terminated once anything was added

void text_add(Text *text, const char *bytes, size_t length);
void text_puts(Text *text, const char *string);
void text_printf(Text *text, const char *format, ...) PRINTF_LIKE(2, 3);
void text_vprintf(Text *text, const char *format, va_list args);
void text_free(Text *text);

// ---- sizes read from files ----------------------------------------------------------------------------------------

// a*b + c into *out when it neither overflows nor exceeds `limit`. All size arithmetic on anything read from a file goes through here.
bool size_mad(uint64_t a, uint64_t b, uint64_t c, uint64_t limit, uint64_t *out);

uint64_t hash_bytes(const void *bytes, size_t length, uint64_t seed);   // XXH3, 64 bits

// ---- diagnostics --------------------------------------------------------------------------------------------------

typedef struct { const char *file; int line, column, length; } Loc;   // 1-based; line 0: the whole file; file NULL: nowhere

typedef enum { DIAG_ERROR, DIAG_WARNING, DIAG_NOTE, DIAG_HINT } DiagKind;

typedef struct Diags Diags;

Diags *diags_new(void);
void diags_free(Diags *diags);
// The text of a file, so that carets can be drawn; `text` is copied.
void diags_add_source(Diags *diags, const char *file, const char *text, size_t length);
// Messages are lower case without a full stop. A note or hint belongs to the error or warning before it. After 100 errors the rest are
// only counted.
void diag(Diags *diags, DiagKind kind, Loc loc, const char *format, ...) PRINTF_LIKE(4, 5);
void diag_v(Diags *diags, DiagKind kind, Loc loc, const char *format, va_list args);
#define diag_error(diags, loc, ...) diag(diags, DIAG_ERROR, loc, __VA_ARGS__)
#define NOWHERE ((Loc){0})
#define FILE_LOC(path) ((Loc){.file = (path)})
int diags_errors(const Diags *diags);
// All messages as text, in the order of design.md's picture (file:line:col: error: …, the line, the caret); errors of one file sorted by place.
void diags_text(const Diags *diags, Text *out);
void diags_print(const Diags *diags, FILE *to);
// The candidate nearest to `name` by edit distance, or NULL when none is near: for "did you mean".
const char *nearest_name(const char *name, const char *const *candidates, int count);

#endif
