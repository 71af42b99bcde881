// A hash table from text to pointers, in an arena: open addressing, grown at half full.
#include "frontend/model.h"

#include <string.h>

typedef struct { const char *key; void *item; } Entry;
struct Table { Arena *arena; size_t count, room; Entry *entries; };

Table *table_new(Arena *arena) {
    Table *table = ARENA_NEW(arena, Table);
    *table = (Table){arena, 0, 64, ARENA_ARRAY(arena, Entry, 64)};
    return table;
}

static Entry *find(const Table *table, const char *key) {
    size_t at = hash_bytes(key, strlen(key), 0) & (table->room - 1);
    while (table->entries[at].key && strcmp(table->entries[at].key, key) != 0) at = (at + 1) & (table->room - 1);
    return &table->entries[at];
}

void *table_get(const Table *table, const char *key) { return find(table, key)->item; }

void table_set(Table *table, const char *key, void *item) {
    if (table->count * 2 >= table->room) {
        Table larger = {table->arena, table->count, table->room * 2, ARENA_ARRAY(table->arena, Entry, table->room * 2)};
        for (size_t i = 0; i < table->room; i++)
            if (table->entries[i].key) *find(&larger, table->entries[i].key) = table->entries[i];
        *table = larger;
    }
    Entry *entry = find(table, key);
    if (!entry->key) {
        entry->key = arena_strdup(table->arena, key);
        table->count++;
    }
    entry->item = item;
}
