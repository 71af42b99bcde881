// Tensors that a description does not name. A bias that a template knows nothing of would be left out in silence otherwise; what is known
// to play no part (saved masks, rotary tables, a vision tower) is listed in the templates under `extra:`.
#include "frontend/import.h"

#include <ctype.h>
#include <string.h>

// Whether `name` is of `pattern`: {anything} stands for digits, * for anything.
static bool name_fits(const char *pattern, const char *name) {
    while (*pattern) {
        const char *close = *pattern == '{' ? strchr(pattern, '}') : NULL;
        if (*pattern == '*') {
            if (!pattern[1])
                return true;
            for (; *name; name++)
                if (name_fits(pattern + 1, name))
                    return true;
            return false;
        }
        if (close) {
            if (!isdigit((unsigned char)*name))
                return false;
            while (isdigit((unsigned char)*name))
                name++;
            pattern = close + 1;
        } else if (*pattern++ != *name++) {
            return false;
        }
    }
    return !*name;
}

// The values of `name:` in the body's parameters.
static int named_tensors(Arena *arena, const char *body, const char ***names) {
    int count = 0, capacity = 0;
    for (const char *at = body; (at = strstr(at, " name: "));) {
        at += 7;
        bool quoted = *at == '"';
        at += quoted;
        size_t length = strcspn(at, quoted ? "\"\n" : ",} \n");
        ARENA_PUSH(arena, *names, count, capacity) = arena_strndup(arena, at, length);
    }
    return count;
}

static bool fits_any(const char *const *patterns, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (name_fits(patterns[i], name))
            return true;
    return false;
}

bool *source_tensors_read(const Source *source, const char *body) {
    const char **names = NULL;
    int count = named_tensors(source->arena, body, &names);
    bool *read = ARENA_ARRAY(source->arena, bool, source->weights->count);
    for (int i = 0; i < source->weights->count; i++)
        read[i] = fits_any(names, count, source->weights->tensors[i].name);
    return read;
}

void source_warn_unused_tensors(Source *source, const char *body, const char *const *extra, int extra_count) {
    const char *first = NULL;
    const bool *read = source_tensors_read(source, body);
    int unused = 0;
    for (int i = 0; i < source->weights->count; i++) {
        const char *name = source->weights->tensors[i].name;
        if (read[i] || fits_any(extra, extra_count, name))
            continue;
        first = unused++ ? first : name;
    }
    if (unused == 1)
        diag(source->diags, DIAG_WARNING, FILE_LOC(source->path), "tensor %s is not used by the description", first);
    else if (unused)
        diag(source->diags, DIAG_WARNING, FILE_LOC(source->path), "%d tensors are not used by the description, %s among them", unused,
             first);
}
