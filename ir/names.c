// Sets of names: open addressing over XXH3, grown at half full; memory stays in the arena. Every name remembers the next number to try when
// someone wants it again, so making n equal names unique takes n steps, not n².
#include "ir/internal.h"

#include <string.h>

typedef struct { const char *name; void *item; int next; } Entry;
struct NameSet { Arena *arena; size_t count, room; Entry *entries; };

NameSet *names_new(Arena *arena) {
    NameSet *set = ARENA_NEW(arena, NameSet);
    set->arena = arena;
    set->room = 16;
    set->entries = ARENA_ARRAY(arena, Entry, set->room);
    return set;
}

static Entry *find(const NameSet *set, const char *name) {
    size_t at = hash_bytes(name, strlen(name), 0) & (set->room - 1);
    while (set->entries[at].name && strcmp(set->entries[at].name, name) != 0) at = (at + 1) & (set->room - 1);
    return &set->entries[at];
}

void *names_find(const NameSet *set, const char *name) { return find(set, name)->item; }

static void grow(NameSet *set) {
    Entry *old = set->entries;
    size_t room = set->room;
    set->room *= 2;
    set->entries = ARENA_ARRAY(set->arena, Entry, set->room);
    for (size_t i = 0; i < room; i++)
        if (old[i].name) *find(set, old[i].name) = old[i];
}

bool names_add(NameSet *set, const char *name, void *item) {
    if (set->count * 2 >= set->room) grow(set);
    Entry *entry = find(set, name);
    if (entry->name) return false;
    *entry = (Entry){name, item, 1};
    set->count++;
    return true;
}

const char *names_unique(NameSet *set, const char *wanted, void *item) {
    char *base = arena_strdup(set->arena, wanted);
    if (names_add(set, base, item)) return base;
    size_t length = strlen(base);
    const char *joint = length && base[length - 1] >= '0' && base[length - 1] <= '9' ? "_" : "";
    for (;;) {
        int number = find(set, base)->next++;
        const char *name = arena_printf(set->arena, "%s%s%d", base, joint, number);
        if (names_add(set, name, item)) return name;
    }
}
