// Manifests let a warm run start without reading the model: the key says which model was asked for and how, the manifest says of which
// files the program was made then, and what they were like. When each still is, the program is still right.
//
// A file's identity is its size, time of change and inode; a model description is small and often touched, so that it counts by its text.
#include "driver/manifest.h"
#include "driver/calibrate.h"

#include "codegen/compile.h"

#include <dirent.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC "tenon cache 1\n"
enum { DESCRIPTION_LIMIT = 1 << 20, MAX_WEIGHT_FILES = 1024 };

// ---- this tenon -----------------------------------------------------------------------------------------------------

// The linker's hash of this executable, from its notes in memory.
static int add_build_id(struct dl_phdr_info *info, size_t size, void *to) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_NOTE) continue;
        const unsigned char *at = (const unsigned char *)(info->dlpi_addr + segment->p_vaddr), *end = at + segment->p_memsz;
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            ElfW(Nhdr) note;
            memcpy(&note, at, sizeof note);
            const unsigned char *name = at + sizeof note, *bytes = name + ((note.n_namesz + 3) & ~3u);
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(name, "GNU", 4) == 0)
                for (unsigned b = 0; b < note.n_descsz; b++) text_printf(to, "%02x", bytes[b]);
            at = bytes + ((note.n_descsz + 3) & ~3u);
        }
    }
    return 1; // the first object is the program itself
}

// Another tenon may pack, round and choose otherwise.
static void add_tenon(Text *text) {
    text_puts(text, "tenon " TENON_VERSION " ");
    dl_iterate_phdr(add_build_id, text);
    text_puts(text, "\n");
}

static bool add_identity(Text *text, const char *path) {
    struct stat info;
    if (strchr(path, '\n') || stat(path, &info) != 0) return false;
    text_printf(text, "stat %llu %lld.%09ld %llu %llu %s\n", (unsigned long long)info.st_size, (long long)info.st_mtim.tv_sec,
                info.st_mtim.tv_nsec, (unsigned long long)info.st_ino, (unsigned long long)info.st_dev, path);
    return true;
}

bool manifest_key(const char *path, const Target *target, const BuildOptions *options, Text *key) {
    char full[PATH_MAX], library[PATH_MAX + 64];
    if (!realpath(path, full) || strchr(full, '\n')) return false;
    add_tenon(key);
    text_printf(key, "abi %d\nmodel %s\ntarget %s\n", TN_ABI, full, target->name);
    text_printf(key, "kv %s\n", options->kv ? options->kv : "-");
    text_printf(key, "quant %s\npasses %s\nskip %s\n", options->quantize ? options->quantize : "", options->passes ? options->passes : "",
                options->skip ? options->skip : "");
    text_printf(key, "groups %s %s%s\n", options->group ? options->group : "-", options->activation_group ? options->activation_group : "-",
                options->symmetric ? " symmetric" : "");
    text_printf(key, "step %d %d\n", options->step_tokens, options->step_sequences);
    if (options->no_fusion) text_puts(key, "no fusion\n");
    if (options->sparse) text_printf(key, "sparse %s\n", options->sparse);
    text_printf(key, "bits %s budget %s %s\n", options->bits ? options->bits : "-", options->budget_bits ? options->budget_bits : "-",
                options->budget_kl ? options->budget_kl : "-");
    if (!calibration_key(options, key)) return false;
    return beside_program(BACKEND_LIBRARY, library, sizeof library) && add_identity(key, library);
}

// ---- the files --------------------------------------------------------------------------------------------------------

// By its text when it is small enough to be a description.
static bool add_description(Text *text, const char *path) {
    struct stat info;
    if (stat(path, &info) != 0 || strchr(path, '\n')) return false;
    if (!S_ISREG(info.st_mode) || info.st_size > DESCRIPTION_LIMIT) return add_identity(text, path);
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    char *bytes = malloc((size_t)info.st_size + 1);
    size_t n = bytes ? fread(bytes, 1, (size_t)info.st_size + 1, file) : 0;
    fclose(file);
    text_printf(text, "text %016llx%016llx %s\n", (unsigned long long)hash_bytes(bytes, n, 0), (unsigned long long)hash_bytes(bytes, n, 1),
                path);
    free(bytes);
    return true;
}

// All regular files of a folder whose names end so (NULL: all), in the order of their names.
static bool add_folder(Text *text, const char *folder, const char *end) {
    struct dirent **items;
    int count = scandir(folder, &items, NULL, alphasort);
    bool done = count >= 0;
    for (int i = 0; i < count; i++) {
        size_t length = strlen(items[i]->d_name), tail = end ? strlen(end) : 0;
        Text path = {0};
        struct stat info;
        text_printf(&path, "%s/%s", folder, items[i]->d_name);
        if (length >= tail && strcmp(items[i]->d_name + length - tail, end ? end : "") == 0 && stat(path.data, &info) == 0 &&
            S_ISREG(info.st_mode))
            done = add_identity(text, path.data) && done;
        text_free(&path);
        free(items[i]);
    }
    if (count >= 0) free(items);
    return done;
}

// A weight file, and the shard indices that may lie beside it.
static bool add_weights(Text *text, const char *file) {
    char full[PATH_MAX];
    if (!realpath(file, full) || !add_identity(text, full)) return false;
    *strrchr(full, '/') = 0;
    return add_folder(text, *full ? full : "/", ".index.json");
}

// Each file once: tensors of one file mostly come together, so the last one is looked at first.
static bool add_weight_files(Text *text, const Provider *weights) {
    const char *seen[MAX_WEIGHT_FILES];
    int count = 0;
    for (int i = 0; i < weights->count; i++) {
        const char *file = weights->tensors[i].file;
        int at = count - 1;
        while (at >= 0 && file && strcmp(seen[at], file) != 0) at--;
        if (!file || at >= 0) continue;
        if (count == MAX_WEIGHT_FILES || !add_weights(text, file)) return false;
        seen[count++] = file;
    }
    return true;
}

bool manifest_files(const char *path, const Model *model, Text *files) {
    char full[PATH_MAX];
    struct stat info;
    if (!realpath(path, full) || stat(full, &info) != 0) return false;
    add_tenon(files);
    if (!(S_ISDIR(info.st_mode) ? add_folder(files, full, NULL) : add_description(files, full))) return false;
    if (model->weights && !add_weight_files(files, model->weights)) return false;
    char tokenizer[PATH_MAX];
    return !model->tokenizer_path || (realpath(model->tokenizer_path, tokenizer) && add_identity(files, tokenizer));
}

// ---- the manifest -----------------------------------------------------------------------------------------------------

void manifest_write(Text *out, const Text *key, const Text *files, const char *code, const char *blob) {
    text_puts(out, MAGIC);
    text_printf(out, "%zu\n", key->length);
    text_add(out, key->data, key->length);
    text_printf(out, "code %s\nblob %s\n", code, blob);
    text_add(out, files->data, files->length);
}

// The rest of the line when it begins so.
static const char *after(const char *line, const char *word) {
    size_t length = strlen(word);
    return strncmp(line, word, length) == 0 ? line + length : NULL;
}

// The file of this line, or this tenon, is still what the line says. The line is made again and compared.
static bool still(const char *line) {
    const char *path = line;
    Text own = {0};
    add_tenon(&own);
    bool tenon = strncmp(own.data, line, own.length - 1) == 0 && !line[own.length - 1];
    text_free(&own);
    if (tenon) return true;
    for (int spaces = after(line, "text ") ? 2 : 5; spaces > 0 && path; spaces--) path = (path = strchr(path, ' ')) ? path + 1 : NULL;
    if (!path) return false;
    Text now = {0};
    bool same = after(line, "text ") ? add_description(&now, path) : add_identity(&now, path);
    same = same && now.length == strlen(line) + 1 && strncmp(now.data, line, now.length - 1) == 0;
    text_free(&now);
    return same;
}

static bool plain_name(const char *name) { return name && *name && *name != '.' && !strchr(name, '/'); }

bool manifest_read(const char *file, const Text *key, char **code, char **blob) {
    Diags *quiet = diags_new();
    Text text = {0}, head = {0};
    *code = *blob = NULL;
    text_printf(&head, MAGIC "%zu\n", key->length);
    text_add(&head, key->data, key->length);
    bool same = read_text(file, &text, quiet) && text.length > head.length && memcmp(text.data, head.data, head.length) == 0;
    for (char *line = same ? text.data + head.length : NULL, *next; line && *line && same; line = next) {
        char *end = strchr(line, '\n');
        if (!end) {
            same = false;
            break;
        }
        *end = 0;
        next = end + 1;
        if (after(line, "code ") && !*code)
            *code = strdup(after(line, "code "));
        else if (after(line, "blob ") && !*blob)
            *blob = strdup(after(line, "blob "));
        else
            same = still(line);
    }
    same = same && plain_name(*code) && plain_name(*blob);
    if (!same) {
        free(*code), free(*blob);
        *code = *blob = NULL;
    }
    text_free(&head);
    text_free(&text);
    diags_free(quiet);
    return same;
}
