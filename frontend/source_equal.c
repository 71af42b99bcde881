// Tensors of a source that are equal, byte for byte, for `import --share`: each is then read once, as `same:` says it (model_same.c).
//
// Only tensors of one type and shape are compared, by a hash of their bytes and then by the bytes themselves, which stream through the mapped
// files in pieces. The first of equals, in the order in which people number things, is the one that is kept. Where all of a layer (or of an expert)
// equals its counterparts in an earlier one, one line says it of the whole; every line leads to an earlier name, so none goes round in a circle.
#include "frontend/import.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 16 << 20, LARGEST_NUMBER = 4096 };

typedef struct Tensor Tensor;
struct Tensor {
    const TensorInfo *info;
    uint64_t bytes, hash;
    Tensor *kept;        // the first that is equal, perhaps itself; NULL: the model does not read it
    bool said;           // some line says what it equals
};

typedef struct {
    Source *source;
    Equals *equals;
    Tensor *tensors;     // in the provider's order: by name
    int count;
} Search;

// ---- order ------------------------------------------------------------------------------------------------------------------------------

// layers.2 comes before layers.10.
static int compare_names(const char *a, const char *b) {
    for (; *a || *b; a++, b++) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            size_t m = strspn(a, "0123456789"), n = strspn(b, "0123456789");
            int order = m != n ? (m < n ? -1 : 1) : strncmp(a, b, m);
            if (order) return order;
            a += m - 1;
            b += n - 1;
        } else if (*a != *b) {
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        }
    }
    return 0;
}

static int compare_types(const Type *a, const Type *b) {
    if (a->dtype != b->dtype) return a->dtype < b->dtype ? -1 : 1;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return a->dims[i] < b->dims[i] ? -1 : 1;
    return 0;
}

static int by_name(const void *a, const void *b) {
    return compare_names((*(Tensor *const *)a)->info->name, (*(Tensor *const *)b)->info->name);
}

static int by_content(const void *a, const void *b) {
    const Tensor *x = *(Tensor *const *)a, *y = *(Tensor *const *)b;
    int order = compare_types(&x->info->type, &y->info->type);
    return order ? order : x->hash != y->hash ? (x->hash < y->hash ? -1 : 1) : compare_names(x->info->name, y->info->name);
}

// ---- what is equal ----------------------------------------------------------------------------------------------------------------------

static bool same_kind(const Tensor *a, const Tensor *b) { return compare_types(&a->info->type, &b->info->type) == 0; }

static uint64_t hash_tensor(const Search *search, const Tensor *tensor, uint64_t *done, uint64_t all) {
    uint64_t hash = 0;
    for (uint64_t at = 0; at < tensor->bytes; at += PIECE) {
        uint64_t piece = tensor->bytes - at < PIECE ? tensor->bytes - at : PIECE;
        hash = hash_bytes((const char *)tensor->info->bytes + at, (size_t)piece, hash);
        *done += piece;
        if (search->equals->progress) search->equals->progress(search->equals->context, *done, all);
    }
    return hash;
}

// Those that no other tensor can equal are not even read. `list` is sorted by type.
static void hash_all(const Search *search, Tensor **list, int count) {
    uint64_t done = 0, all = 0;
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < count; i++) {
            bool alone = (i == 0 || !same_kind(list[i - 1], list[i])) && (i + 1 == count || !same_kind(list[i], list[i + 1]));
            if (alone) continue;
            if (turn == 0) all += list[i]->bytes;
            else list[i]->hash = hash_tensor(search, list[i], &done, all);
        }
}

static bool equal(const Tensor *a, const Tensor *b) {
    return a->info->bytes == b->info->bytes || memcmp(a->info->bytes, b->info->bytes, (size_t)a->bytes) == 0;
}

// `list` is sorted by content: equal ones follow one another, and between those may be others of the same hash.
static void find_kept(Tensor **list, int count) {
    for (int i = 0, first = 0; i < count; i++) {
        if (list[i]->hash != list[first]->hash || !same_kind(list[i], list[first])) first = i;
        list[i]->kept = list[i];
        for (int k = first; k < i && list[i]->kept == list[i]; k++)
            if (list[k]->kept == list[k] && equal(list[k], list[i])) list[i]->kept = list[k];
    }
}

// ---- how it is said ---------------------------------------------------------------------------------------------------------------------

static Tensor *find(const Search *search, const char *name) {
    const TensorInfo *info = source_tensor(search->source, name);
    return info ? &search->tensors[info - search->source->weights->tensors] : NULL;
}

static void say(Search *search, const char *name, const char *as) {
    Equals *equals = search->equals;
    ARENA_PUSH(search->source->arena, equals->pairs, equals->pair_count, equals->pair_capacity) = (EqualPair){name, as};
}

// Whether each tensor read whose name begins with `prefix` (there are several) equals the one named alike after `other`.
static bool all_equal(const Search *search, const Tensor *one, const char *prefix, const char *other, bool mark) {
    size_t length = strlen(prefix);
    int first = (int)(one - search->tensors), count = 0;
    while (first > 0 && strncmp(search->tensors[first - 1].info->name, prefix, length) == 0) first--;
    for (int i = first; i < search->count && strncmp(search->tensors[i].info->name, prefix, length) == 0; i++) {
        Tensor *tensor = &search->tensors[i];
        if (!tensor->kept) continue;
        const Tensor *counterpart = find(search, arena_printf(search->source->arena, "%s%s", other, tensor->info->name + length));
        if (!counterpart || counterpart->kept != tensor->kept) return false;
        count++;
        if (mark) tensor->said = true;
    }
    return count > 1;
}

// The numbers of a name, outermost first: is all that bears this one the same as all that bears an earlier one?
static bool say_of_all(Search *search, Tensor *tensor) {
    Arena *arena = search->source->arena;
    const char *name = tensor->info->name;
    for (const char *at = name; *at; at++) {
        size_t digits = strspn(at, "0123456789");
        if (!digits) continue;
        long number = digits <= 4 && at[digits] == '.' ? strtol(at, NULL, 10) : 0;
        const char *rest = at + digits, *prefix = arena_strndup(arena, name, (size_t)(rest + 1 - name));
        for (long earlier = 0; number <= LARGEST_NUMBER && earlier < number; earlier++) {
            const char *other = arena_printf(arena, "%.*s%ld.", (int)(at - name), name, earlier);
            const Tensor *counterpart = find(search, arena_printf(arena, "%s%s", other, rest + 1));
            if (!counterpart || counterpart->kept != tensor->kept || !all_equal(search, tensor, prefix, other, false)) continue;
            all_equal(search, tensor, prefix, other, true);
            say(search, arena_printf(arena, "%s*", prefix), arena_printf(arena, "%s*", other));
            return true;
        }
        at = rest - 1;
    }
    return false;
}

void source_find_equals(Source *source, const bool *read, Equals *equals) {
    const Provider *provider = source->weights;
    Search search = {source, equals, ARENA_ARRAY(source->arena, Tensor, provider->count), provider->count};
    Tensor **list = ARENA_ARRAY(source->arena, Tensor *, provider->count);
    int count = 0;
    for (int i = 0; i < provider->count; i++) {
        Tensor *tensor = &search.tensors[i];
        tensor->info = &provider->tensors[i];
        if (!read[i] || strchr(tensor->info->name, '*') || !type_bytes(&tensor->info->type, &tensor->bytes) || !tensor->bytes) continue;
        list[count++] = tensor;
        equals->all_bytes += tensor->bytes;
    }
    equals->all_tensors = count;
    qsort(list, (size_t)count, sizeof *list, by_content);
    hash_all(&search, list, count);
    qsort(list, (size_t)count, sizeof *list, by_content);
    find_kept(list, count);
    qsort(list, (size_t)count, sizeof *list, by_name);
    for (int i = 0; i < count; i++) {
        if (list[i]->kept == list[i]) continue;
        equals->tensors++;
        equals->bytes += list[i]->bytes;
        if (!list[i]->said && !say_of_all(&search, list[i])) say(&search, list[i]->info->name, list[i]->kept->info->name);
    }
}
