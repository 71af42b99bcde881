// Runs stored inputs through a fuzz target: `fuzz_replay_yaml FILE|FOLDER …`. Each must come back, and one whose name begins with `good-`
// must be accepted (so that seeds do not go stale).
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int refused;

static int replay(const char *path) {
    struct stat info;
    if (stat(path, &info)) return perror(path), exit(1), 0;
    if (S_ISDIR(info.st_mode)) {
        struct dirent **entries;
        int count = scandir(path, &entries, NULL, alphasort), run = 0;
        for (int i = 0; i < count; i++) {
            char inner[PATH_MAX];
            snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
            if (entries[i]->d_name[0] != '.') run += replay(inner);
            free(entries[i]);
        }
        if (count >= 0) free(entries);
        return run;
    }
    FILE *file = fopen(path, "rb");
    size_t size = (size_t)info.st_size;
    uint8_t *data = malloc(size + 1);
    if (!file || !data || fread(data, 1, size, file) != size) return perror(path), exit(1), 0;
    fclose(file);
    fprintf(stderr, "%s\n", path);
    const char *name = strrchr(path, '/') + 1;
    if (!fuzz_one(data, size) && strncmp(name, "good-", 5) == 0) {
        fprintf(stderr, "should have been accepted: %s\n", path);
        refused++;
    }
    free(data);
    return 1;
}

int main(int argc, char **argv) {
    int run = 0;
    for (int i = 1; i < argc; i++) {
        char *path = realpath(argv[i], NULL);   // a target may change the current folder
        if (!path) return perror(argv[i]), 1;
        argv[i] = path;
    }
    for (int i = 1; i < argc; i++) run += replay(argv[i]), free(argv[i]);
    printf("%d inputs came back, %d of them wrongly refused\n", run, refused);
    return run == 0 || refused > 0;
}
