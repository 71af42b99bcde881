// Import goldens. Each folder of cases/ is a source: the JSON files of a Hugging Face folder with tensors.txt, or gguf.txt. The test makes
// the weight files (all zeros), imports, and compares with the case's model.yaml and messages.txt; a description is then loaded, so that
// every name and shape of the template is looked up in what the source really holds. `import --update` writes the expected files anew.
//
// tensors.txt: "layers N" and "experts N" say what {layer} and {expert} run over; then a line a tensor: name, type, sizes outermost first.
// gguf.txt: "parts N" makes a split file; also "key NAME TYPE VALUE…", type u32, f32, bool, string (one word), strings, u32s.
#include "../readers/build.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct { char name[160]; char type[16]; int rank; uint64_t sizes[4], bytes, offset; } Tensor;
typedef struct { Tensor tensors[400]; int count, parts; Text keys; uint64_t key_count; } Spec;

static char root[] = "/tmp/tenon-import-XXXXXX";

static void die(const char *what, const char *which) {
    fprintf(stderr, "import test: %s: %s\n", which, what);
    exit(1);
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    Text text = {0};
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;)
        text_add(&text, buffer, n);
    fclose(file);
    text_puts(&text, "");
    return text.data;
}

static void write_text(const char *path, const char *text, size_t length) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(text, 1, length, file) != length || fclose(file) != 0)
        die("cannot write", path);
}

// ---- specifications -----------------------------------------------------------------------------------------------

static void add_tensor(Spec *spec, const char *name, const char *type, char *sizes) {
    if (spec->count == 400)
        die("too many tensors", name);
    Tensor *tensor = &spec->tensors[spec->count++];
    *tensor = (Tensor){.bytes = strcmp(type, "F32") == 0 ? 4 : 2};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    snprintf(tensor->type, sizeof tensor->type, "%s", type);
    for (char *at = sizes, *end; tensor->rank < 4; at = end) {
        uint64_t size = strtoull(at, &end, 10);
        if (end == at)
            break;
        tensor->sizes[tensor->rank++] = size;
        tensor->bytes *= size;
    }
}

// {layer} and {expert} by all their values.
static void expand(Spec *spec, const char *pattern, int layers, int experts, const char *type, char *sizes) {
    static const char *const marks[] = {"{layer}", "{expert}"};
    const int counts[] = {layers, experts};
    for (int m = 0; m < 2; m++) {
        const char *at = strstr(pattern, marks[m]);
        for (int i = 0; at && i < counts[m]; i++) {
            char name[160];
            snprintf(name, sizeof name, "%.*s%d%s", (int)(at - pattern), pattern, i, at + strlen(marks[m]));
            expand(spec, name, layers, experts, type, sizes);
        }
        if (at)
            return;
    }
    add_tensor(spec, pattern, type, sizes);
}

static void put_strings(Text *out, char *words) {
    Text list = {0};
    uint64_t count = 0;
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "), count++)
        put_string(&list, word);
    put_u32(out, 8);
    put_u64(out, count);
    text_add(out, list.data, list.length);
    text_free(&list);
}

static void add_key(Spec *spec, const char *name, const char *type, char *value) {
    Text *out = &spec->keys;
    spec->key_count++;
    if (strcmp(type, "u32") == 0) {
        put_key(out, name, 4);
        put_u32(out, (uint32_t)strtoul(value, NULL, 10));
    } else if (strcmp(type, "f32") == 0) {
        put_key(out, name, 6);
        put_f32(out, strtof(value, NULL));
    } else if (strcmp(type, "bool") == 0) {
        put_key(out, name, 7);
        text_add(out, strcmp(value, "true") == 0 ? "\1" : "\0", 1);
    } else if (strcmp(type, "strings") == 0) {
        put_key(out, name, 9);
        put_strings(out, value);
    } else if (strcmp(type, "u32s") == 0) {
        Text list = {0};
        for (char *at = value, *end; *at; at = *end ? end + 1 : end)
            put_u32(&list, (uint32_t)strtoul(at, &end, 10));
        put_key(out, name, 9);
        put_u32(out, 4);
        put_u64(out, list.length / 4);
        text_add(out, list.data, list.length);
        text_free(&list);
    } else {
        put_key(out, name, 8);
        put_string(out, value);
    }
}

static void read_spec(Spec *spec, char *text) {
    int layers = 0, experts = 0;
    for (char *line = text, *next; line && *line; line = next) {
        char name[160], type[16];
        int used = 0;
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        if (sscanf(line, "parts %d", &spec->parts) == 1 || sscanf(line, "layers %d", &layers) == 1
            || sscanf(line, "experts %d", &experts) == 1 || !*line)
            continue;
        if (sscanf(line, "key %159s %15s %n", name, type, &used) == 2)
            add_key(spec, name, type, line + used);
        else if (sscanf(line, "%159s %15s%n", name, type, &used) == 2)
            expand(spec, name, layers, experts, type, line + used);
        else
            die("bad line", line);
    }
}

// The header, then nothing but a size: the data are zeros.
static void write_sparse(const char *path, const Text *header, uint64_t bytes) {
    write_text(path, header->data, header->length);
    if (truncate(path, (off_t)(header->length + bytes)) != 0)
        die("cannot size", path);
}

static void write_safetensors(const Spec *spec, const char *path) {
    Text json = {0}, file = {0};
    uint64_t offset = 0;
    text_puts(&json, "{");
    for (int i = 0; i < spec->count; i++) {
        const Tensor *tensor = &spec->tensors[i];
        text_printf(&json, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", tensor->name, tensor->type);
        for (int d = 0; d < tensor->rank; d++)
            text_printf(&json, "%s%llu", d ? "," : "", (unsigned long long)tensor->sizes[d]);
        text_printf(&json, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset, (unsigned long long)(offset + tensor->bytes));
        offset += tensor->bytes;
    }
    text_puts(&json, "}");
    put_string(&file, json.data);
    write_sparse(path, &file, offset);
    text_free(&json);
    text_free(&file);
}

// Tensors [first, last); only the first part carries the keys.
static void write_gguf(const Spec *spec, const char *path, int first, int last) {
    Text file = {0};
    uint64_t offset = 0;
    put_gguf(&file, 3, (uint64_t)(last - first), (first == 0 ? spec->key_count : 0) + (spec->parts ? 1 : 0));
    if (first == 0)
        text_add(&file, spec->keys.data, spec->keys.length);
    if (spec->parts) {
        put_key(&file, "split.count", 4);
        put_u32(&file, (uint32_t)spec->parts);
    }
    for (int i = first; i < last; i++) {
        const Tensor *tensor = &spec->tensors[i];
        uint64_t inner[4];
        for (int d = 0; d < tensor->rank; d++)
            inner[d] = tensor->sizes[tensor->rank - 1 - d];
        put_tensor(&file, tensor->name, tensor->rank, inner, strcmp(tensor->type, "F32") == 0 ? 0 : 1, offset);
        offset += (tensor->bytes + 31) / 32 * 32;
    }
    put_data(&file, 32, 0);
    write_sparse(path, &file, offset);
    text_free(&file);
}

static void write_gguf_parts(const Spec *spec, const char *name, char *source, size_t room) {
    for (int part = spec->parts; part-- > 0;) {
        snprintf(source, room, "%s/%s-%05d-of-%05d.gguf", root, name, part + 1, spec->parts);
        write_gguf(spec, source, spec->count * part / spec->parts, spec->count * (part + 1) / spec->parts);
    }
    if (!spec->parts)
        write_gguf(spec, source, 0, spec->count);
}

// ---- cases --------------------------------------------------------------------------------------------------------

static void copy_file(const char *from, const char *to) {
    char *text = read_file(from);
    if (text)
        write_text(to, text, strlen(text));
    free(text);
}

static void copy_jsons(const char *folder, const char *to) {
    DIR *dir = opendir(folder);
    char from[600], into[600];
    mkdir(to, 0755);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        size_t length = strlen(entry->d_name);
        snprintf(from, sizeof from, "%s/%s", folder, entry->d_name);
        snprintf(into, sizeof into, "%s/%s", to, entry->d_name);
        if (strcmp(entry->d_name, "1_Pooling") == 0)
            copy_jsons(from, into);
        else if (length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0)
            copy_file(from, into);
    }
    if (dir)
        closedir(dir);
}

// The folder of temporary files is no part of a message.
static char *without_root(const char *text) {
    Text out = {0};
    for (const char *at; (at = strstr(text, root)); text = at + strlen(root) + 1)
        text_add(&out, text, (size_t)(at - text));
    text_puts(&out, text);
    return out.data;
}

static bool same(const char *folder, const char *name, const char *got, bool update) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *expected = read_file(path), *plain = without_root(got);
    bool equal = strcmp(expected ? expected : "", plain) == 0;
    if (!equal && update && *plain)
        write_text(path, plain, strlen(plain));
    else if (!equal && update)
        unlink(path);
    else if (!equal)
        fprintf(stderr, "%s differs\n---- expected\n%s---- got\n%s", path, expected ? expected : "", plain);
    free(expected);
    free(plain);
    return equal || update;
}

static void make_source(const char *folder, const char *name, char *source, size_t room) {
    static Spec spec;
    char path[600];
    spec = (Spec){0};
    snprintf(path, sizeof path, "%s/gguf.txt", folder);
    char *gguf = read_file(path);
    snprintf(path, sizeof path, "%s/tensors.txt", folder);
    char *tensors = read_file(path);
    snprintf(source, room, "%s/%s%s", root, name, gguf ? ".gguf" : "");
    if (gguf) {
        read_spec(&spec, gguf);
        write_gguf_parts(&spec, name, source, room);
    } else {
        copy_jsons(folder, source);
        read_spec(&spec, tensors ? tensors : (char[]){""});
        snprintf(path, sizeof path, "%s/model.safetensors", source);
        if (tensors)
            write_safetensors(&spec, path);
    }
    text_free(&spec.keys);
    free(gguf);
    free(tensors);
}

static bool run_case(const char *folder, const char *name, bool update) {
    char source[300], out_path[300];
    make_source(folder, name, source, sizeof source);
    snprintf(out_path, sizeof out_path, "%s/model.yaml", root);
    Diags *diags = diags_new();
    Arena *arena = arena_new();
    Text yaml = {0}, messages = {0};
    bool imported = import_model(source, out_path, NULL, &yaml, diags);
    Model *model = imported ? model_load_text(arena, out_path, yaml.data, yaml.length, diags) : NULL;
    diags_text(diags, &messages);
    bool good = same(folder, "model.yaml", imported ? yaml.data : "", update);
    good = same(folder, "messages.txt", messages.data ? messages.data : "", update) && good;
    if ((model == NULL) != (diags_errors(diags) > 0)) {
        fprintf(stderr, "%s: errors and results disagree\n", folder);
        good = false;
    }
    if (model)
        model_close(model);
    text_free(&yaml);
    text_free(&messages);
    arena_free(arena);
    diags_free(diags);
    return good;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv) {
    bool update = argc > 1 && strcmp(argv[1], "--update") == 0;
    char *names[200], folder[400], command[100];
    int count = 0, failed = 0;
    if (!mkdtemp(root))
        die("cannot make a folder", root);
    DIR *dir = opendir(TEST_DIR "/cases");
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.' && count < 200)
            names[count++] = strdup(entry->d_name);
    closedir(dir);
    qsort(names, (size_t)count, sizeof *names, compare_names);
    for (int i = 0; i < count; i++) {
        snprintf(folder, sizeof folder, "%s/cases/%s", TEST_DIR, names[i]);
        bool good = run_case(folder, names[i], update);
        printf("%s %s\n", good ? "ok  " : "FAIL", names[i]);
        failed += !good;
        free(names[i]);
    }
    snprintf(command, sizeof command, "rm -rf %s", root);
    if (system(command) != 0)
        failed++;
    return failed != 0 || count == 0;
}
