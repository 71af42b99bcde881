// Golden tests of the model language: every tests/language/errors/NAME.yaml gives the diagnostics in NAME.expected, and every
// models/NAME.yaml the IR text (or, where it only warns, both). `--update` writes the expected files; a NAME argument runs that case alone.
//
// Weights come from lines of the description itself: `#: model.layers.{0..3}.wq.weight bf16 [64, 64]` declares four tensors of small
// numbers. A models/NAME.path file names a description elsewhere in the tree, and NAME.tensors has its lines.
#include "frontend/model.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

typedef struct { Provider provider; Arena *arena; int capacity; TensorInfo *tensors; } Made_up;

static const TensorInfo *find(Provider *provider, const char *name) {
    for (int i = 0; i < provider->count; i++)
        if (strcmp(provider->tensors[i].name, name) == 0) return &provider->tensors[i];
    return NULL;
}

// Bytes that are small numbers in any float format.
static void *make_bytes(Arena *arena, const Type *type) {
    uint64_t bytes;
    if (!type_bytes(type, &bytes)) return NULL;
    unsigned char *data = arena_alloc(arena, bytes);
    if (type->dtype == DT_F32)
        for (uint64_t i = 0; i < bytes / 4; i++) ((float *)data)[i] = (float)(i % 7) / 8;
    return data;
}

static void add_tensors(Made_up *made, const char *name, Type type) {
    const char *open = strchr(name, '{');
    if (!open) {
        TensorInfo info = {arena_strdup(made->arena, name), type, make_bytes(made->arena, &type), "made up", 0};
        ARENA_PUSH(made->arena, made->tensors, made->provider.count, made->capacity) = info;
        return;
    }
    char *end;
    long from = strtol(open + 1, &end, 10), to = strtol(end + 2, &end, 10);
    for (long i = from; i <= to; i++) add_tensors(made, arena_printf(made->arena, "%.*s%ld%s", (int)(open - name), name, i, end + 1), type);
}

static void read_tensors(Made_up *made, const char *text, const char *mark) {
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char name[200], dtype[16];
        int used = 0;
        if (strncmp(line, mark, strlen(mark)) != 0 || sscanf(line + strlen(mark), " %199s %15s [%n", name, dtype, &used) != 2 || !used)
            continue;
        Type type = {.dtype = dtype_parse(dtype)};
        const char *at = line + strlen(mark) + used;
        while (*at != ']' && type.rank < MAX_RANK) {
            char *end;
            type.dims[type.rank++] = strtoll(at, &end, 10);
            at = end + strspn(end, ", ");
        }
        add_tensors(made, name, type);
    }
    made->provider.tensors = made->tensors;
    made->provider.find = find;
}

static bool read_file(const char *path, Text *text) {
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    char piece[4096];
    size_t n;
    text->length = 0;
    text_puts(text, "");
    while ((n = fread(piece, 1, sizeof piece, file)) > 0) text_add(text, piece, n);
    fclose(file);
    return true;
}

static void run_case(const char *folder, const char *name, bool errors, Text *out) {
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Text yaml = {0}, extra = {0};
    Made_up made = {.arena = arena};
    char path[600], shown[300];
    snprintf(path, sizeof path, "%s/%s.path", folder, name);
    snprintf(shown, sizeof shown, "%s.yaml", name);
    if (read_file(path, &extra)) {
        extra.data[strcspn(extra.data, "\n")] = 0;
        snprintf(path, sizeof path, "%s/%s", SOURCE_DIR, extra.data);
    } else {
        snprintf(path, sizeof path, "%s/%s.yaml", folder, name);
    }
    read_file(path, &yaml);
    snprintf(path, sizeof path, "%s/%s.tensors", folder, name);
    if (read_file(path, &extra)) read_tensors(&made, extra.data, "");
    read_tensors(&made, yaml.data ? yaml.data : "", "#:");
    bool weights = made.provider.count || !strstr(yaml.data, "weights:");
    Model *model = model_build(arena, shown, yaml.data, yaml.length, weights && made.provider.count ? &made.provider : NULL, diags);
    diags_text(diags, out);
    if (model && !errors) module_print(model->module, out);
    if (model && errors) text_puts(out, "no error\n");
    if (!model && diags_errors(diags) == 0) text_puts(out, "failed without an error\n");
    model_close(model);
    text_free(&yaml);
    text_free(&extra);
    diags_free(diags);
    arena_free(arena);
}

// 0 when it is as expected.
static int check_case(const char *folder, const char *name, bool errors, bool update) {
    Text out = {0}, expected = {0};
    char path[600];
    text_puts(&out, "");
    run_case(folder, name, errors, &out);
    snprintf(path, sizeof path, "%s/%s.expected", folder, name);
    bool same = read_file(path, &expected) && strcmp(expected.data, out.data) == 0;
    if (!same && update) {
        FILE *file = fopen(path, "wb");
        fwrite(out.data, 1, out.length, file);
        fclose(file);
        printf("wrote %s\n", path);
    } else if (!same) {
        printf("---- %s: expected\n%s---- got\n%s", path, expected.data ? expected.data : "(no file)\n", out.data);
    }
    text_free(&out);
    text_free(&expected);
    return !same && !update;
}

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int run_folder(const char *kind, bool errors, bool update, const char *only, int *cases) {
    char folder[500], *names[1000];
    snprintf(folder, sizeof folder, "%s/%s", TEST_DIR, kind);
    DIR *directory = opendir(folder);
    int count = 0, failed = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory)) && count < 1000;) {
        char *dot = strrchr(entry->d_name, '.');
        if (!dot || (strcmp(dot, ".yaml") != 0 && strcmp(dot, ".path") != 0)) continue;
        *dot = 0;
        if (!only || strcmp(only, entry->d_name) == 0) names[count++] = strdup(entry->d_name);
    }
    if (directory) closedir(directory);
    qsort(names, (size_t)count, sizeof *names, compare);
    for (int i = 0; i < count; i++) {
        failed += check_case(folder, names[i], errors, update);
        free(names[i]);
    }
    *cases += count;
    return failed;
}

int main(int argc, char **argv) {
    bool update = false;
    const char *only = NULL;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--update") == 0) update = true;
        else only = argv[i];
    int cases = 0, failed = run_folder("errors", true, update, only, &cases) + run_folder("models", false, update, only, &cases);
    printf("%d cases, %d wrong\n", cases, failed);
    return failed != 0 || !cases;
}
