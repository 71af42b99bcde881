// The cache folder. Code in it is loaded into the process, so the folder must belong to the user and be writable by nobody else.
#include "codegen/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STALE_SECONDS = 6 * 3600 };

// Makes a folder and those above it.
static bool make_folders(char *path) {
    for (char *at = path + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = '/';
        if (!made) return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

bool cache_open(Cache *cache, uint64_t limit, char *why, size_t why_room) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    Text path = {0};
    *cache = (Cache){.limit = limit};
    if (limit == 0) {
        snprintf(why, why_room, "its size is 0");
        return false;
    }
    if (xdg && *xdg == '/')
        text_printf(&path, "%s/tenon", xdg);
    else if (home && *home == '/')
        text_printf(&path, "%s/.cache/tenon", home);
    else {
        snprintf(why, why_room, "neither XDG_CACHE_HOME nor HOME is set");
        return false;
    }
    struct stat info;
    bool from_home = !(xdg && *xdg == '/');
    if (from_home && stat(home, &info) != 0)   // a home that is not there is not made
        snprintf(why, why_room, "%s: %s", home, strerror(errno));
    else if (!make_folders(path.data) || stat(path.data, &info) != 0)
        snprintf(why, why_room, "%s: %s", path.data, strerror(errno));
    else if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 022))
        snprintf(why, why_room, "%s is not a folder that only you can write", path.data);
    else if (access(path.data, W_OK) != 0)
        snprintf(why, why_room, "%s: %s", path.data, strerror(errno));
    else {
        cache->folder = path.data;
        return true;
    }
    text_free(&path);
    return false;
}

void cache_close(Cache *cache) {
    free(cache->folder);
    *cache = (Cache){0};
}

CacheKey cache_key(const Text *what) {
    return (CacheKey){hash_bytes(what->data, what->length, 0), hash_bytes(what->data, what->length, 0x74656e6f6e)};
}

char *cache_name(const Cache *cache, char kind, CacheKey key, const char *extension) {
    Text path = {0};
    text_printf(&path, "%s/%c-%016llx%016llx%s", cache->folder, kind, (unsigned long long)key.a, (unsigned long long)key.b, extension);
    return path.data;
}

// The time of use is that of access: that of change stays, by which programs that run from the file see that it is the same.
bool cache_touch(const char *path) {
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    return utimensat(AT_FDCWD, path, times, 0) == 0;
}

// ---- trimming -------------------------------------------------------------------------------------------------------

typedef struct {
    char *name;
    uint64_t bytes;
    struct timespec used;
} Entry;

static struct timespec later(struct timespec a, struct timespec b) {
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec) ? a : b;
}

static int by_age(const void *a, const void *b) {
    const struct timespec *x = &((const Entry *)a)->used, *y = &((const Entry *)b)->used;
    if (x->tv_sec != y->tv_sec) return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

static int list_entries(const Cache *cache, Arena *arena, Entry **entries, uint64_t *total) {
    int count = 0, capacity = 0;
    DIR *folder = opendir(cache->folder);
    if (!folder) return 0;
    time_t now = time(NULL);
    for (struct dirent *item; (item = readdir(folder));) {
        struct stat info;
        if (fstatat(dirfd(folder), item->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode)) continue;
        if (item->d_name[0] == '.') {
            if (ends_with(item->d_name, ".part") && now - info.st_mtime > STALE_SECONDS) unlinkat(dirfd(folder), item->d_name, 0);
            continue;
        }
        uint64_t bytes = (uint64_t)info.st_blocks * 512;
        *total += bytes;
        ARENA_PUSH(arena, *entries, count, capacity) =
            (Entry){arena_printf(arena, "%s/%s", cache->folder, item->d_name), bytes, later(info.st_atim, info.st_mtim)};
    }
    closedir(folder);
    return count;
}

void cache_trim(const Cache *cache) {
    Arena *arena = arena_new();
    Entry *entries = NULL;
    uint64_t total = 0;
    int count = list_entries(cache, arena, &entries, &total);
    if (count > 1) qsort(entries, (size_t)count, sizeof *entries, by_age);
    for (int i = 0; i < count && total > cache->limit; i++)
        if (unlink(entries[i].name) == 0) total -= entries[i].bytes;
    arena_free(arena);
}
