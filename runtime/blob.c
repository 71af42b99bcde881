// Finding, checking and mapping the blob.
//
// A blob lies in a file at the place its trailer names (the file's last bytes), or is the whole file. Nothing in it is believed: every number is
// compared with the file's size before it is used, the section table with its hash, small sections with theirs. Weights are mapped, not read:
// their bytes are the only ones that are not hashed here (tn_blob_verify does it).
#include "runtime/blob.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

enum { BLOB_PATH = 4096, BLOB_BESIDE = BLOB_PATH + 512, BLOB_SECTIONS = 8 };

typedef struct { const char *key, *value; } BlobRecord;

struct Blob {
    char *file;
    int fd; uint64_t offset;            // where in the file the blob begins
    BlobStamp stamp;
    BlobHeader header;
    const unsigned char *base;          // of the blob
    void *map; size_t map_length;       // from the system page in which it starts
    char *text;                         // meta records, keys and values NUL-terminated
    BlobRecord *records; int record_count;
};

uint64_t tn_hash(const void *bytes, size_t length) { return XXH3_64bits(bytes, length); }

uint64_t tn_blob_table_hash(const BlobHeader *header) {
    uint32_t count = header->section_count < BLOB_SECTIONS ? header->section_count : BLOB_SECTIONS;
    return tn_hash(header->sections, count * sizeof(BlobSection));
}

const char *tn_blob_file(const Blob *blob) { return blob->file; }
uint64_t tn_blob_hash(const Blob *blob) { return blob->header.hash; }

const unsigned char *tn_blob_section(const Blob *blob, int kind, size_t *length) {
    for (uint32_t i = 0; i < blob->header.section_count; i++)
        if (blob->header.sections[i].kind == (uint32_t)kind) {
            *length = blob->header.sections[i].length;
            return blob->base + blob->header.sections[i].offset;
        }
    *length = 0;
    return NULL;
}

int tn_blob_source(const Blob *blob, uint64_t *weights) {
    size_t length;
    *weights = blob->offset + (uint64_t)(tn_blob_section(blob, SECTION_WEIGHTS, &length) - blob->base);
    return blob->fd;
}

const char *tn_blob_meta(const Blob *blob, const char *key, int index) {
    for (int i = 0; i < blob->record_count; i++)
        if (!strcmp(blob->records[i].key, key) && index-- == 0)
            return blob->records[i].value;
    return NULL;
}

void tn_blob_close(Blob *blob) {
    if (!blob)
        return;
    if (blob->map) {
        munmap(blob->map, blob->map_length);
    }
    if (blob->fd >= 0)
        close(blob->fd);
    free(blob->records);
    free(blob->text);
    free(blob->file);
    free(blob);
}

// 0, or -1: a disk that fails, a file that became shorter.
static int blob_read(int fd, const char *file, void *into, size_t length, uint64_t offset, tn_failure *failure) {
    unsigned char *to = into;
    while (length) {
        ssize_t got = pread(fd, to, length, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return tn_fail(failure, TN_BAD_INPUT, "%s: cannot be read at offset %llu: %s", file, (unsigned long long)offset,
                           got ? strerror(errno) : "the file was cut short");
        to += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return 0;
}

// Where in the file the blob is. 1: found; 0: there is none (nothing said); -1: what is there is damaged.
static int blob_locate(int fd, const char *file, uint64_t size, uint64_t *offset, uint64_t *length, BlobHeader *header, tn_failure *failure) {
    BlobTrailer trailer;
    char magic[8];
    uint64_t named = 0;
    if (size < sizeof trailer)
        return 0;
    if (blob_read(fd, file, &trailer, sizeof trailer, size - sizeof trailer, failure))
        return -1;
    bool trailed = !memcmp(trailer.magic, BLOB_TRAILER_MAGIC, 8);
    if (trailed) {
        uint64_t room = size - sizeof trailer;
        if (trailer.version != BLOB_VERSION)
            return tn_fail(failure, TN_BAD_INPUT, "%s: trailer version %u, but this program reads version %d", file, trailer.version, BLOB_VERSION);
        if (trailer.reserved || trailer.offset > room || trailer.length != room - trailer.offset || trailer.offset % BLOB_ALIGN)
            return tn_fail(failure, TN_BAD_INPUT, "%s: damaged trailer: a blob of %llu bytes at offset %llu does not fit a file of %llu bytes",
                           file, (unsigned long long)trailer.length, (unsigned long long)trailer.offset, (unsigned long long)size);
        *offset = trailer.offset;
        *length = trailer.length;
        named = trailer.hash;
    } else {
        if (blob_read(fd, file, magic, sizeof magic, 0, failure))
            return -1;
        if (memcmp(magic, BLOB_MAGIC, 8))
            return 0;
        *offset = 0;
        *length = size;
    }
    if (*length >= BLOB_ALIGN && blob_read(fd, file, header, sizeof *header, *offset, failure))
        return -1;
    if (*length < BLOB_ALIGN)
        return tn_fail(failure, TN_BAD_INPUT, "%s: the blob's header is cut off", file);
    if (memcmp(header->magic, BLOB_MAGIC, 8))
        return tn_fail(failure, TN_BAD_INPUT, "%s: no blob at offset %llu, where the trailer says it is", file, (unsigned long long)*offset);
    if (trailed && named != header->hash)
        return tn_fail(failure, TN_BAD_INPUT, "%s: trailer and header name different blobs", file);
    return 1;
}

static int blob_check_header(const BlobHeader *header, const char *file, uint64_t length, tn_failure *failure) {
    if (header->version != BLOB_VERSION)
        return tn_fail(failure, TN_BAD_INPUT, "%s: blob version %u, but this program reads version %d", file, header->version, BLOB_VERSION);
    if (header->section_count > BLOB_SECTIONS)
        return tn_fail(failure, TN_BAD_INPUT, "%s: %u sections, but a blob has at most %d", file, header->section_count, BLOB_SECTIONS);
    if (header->length != length)
        return tn_fail(failure, TN_BAD_INPUT, "%s: the blob says it has %llu bytes, but %llu are there: the file was cut short or added to",
                       file, (unsigned long long)header->length, (unsigned long long)length);
    if (tn_blob_table_hash(header) != header->hash)
        return tn_fail(failure, TN_BAD_INPUT, "%s: the blob's section table is damaged (its hash does not fit)", file);
    for (uint32_t i = 0; i < header->section_count; i++) {
        const BlobSection *section = &header->sections[i];
        if (section->reserved || section->offset < BLOB_ALIGN || section->offset % BLOB_ALIGN || section->offset > length ||
            section->length > length - section->offset)
            return tn_fail(failure, TN_BAD_INPUT, "%s: section %u (%llu bytes at offset %llu) does not lie in the blob's %llu bytes", file, i,
                           (unsigned long long)section->length, (unsigned long long)section->offset, (unsigned long long)length);
        for (uint32_t j = 0; j < i; j++)
            if (header->sections[j].kind == section->kind)
                return tn_fail(failure, TN_BAD_INPUT, "%s: two sections of kind %u", file, section->kind);
    }
    return 0;
}

static int blob_check_program(const Blob *blob, const tn_program *program, tn_failure *failure) {
    size_t length;
    if (blob->header.hash != program->blob_hash)
        return tn_fail(failure, TN_BAD_INPUT, "%s: these are not the weights of this program: the blob is %016llx, but %s was compiled with %016llx",
                       blob->file, (unsigned long long)blob->header.hash, program->model, program->blob_hash);
    tn_blob_section(blob, SECTION_WEIGHTS, &length);
    if (length != program->weights_bytes)
        return tn_fail(failure, TN_BAD_INPUT, "%s: %zu bytes of weights, but %s was compiled with %llu", blob->file, length, program->model,
                       program->weights_bytes);
    return 0;
}

static int blob_check_section(const Blob *blob, int kind, const char *what, tn_failure *failure) {
    for (uint32_t i = 0; i < blob->header.section_count; i++) {
        const BlobSection *section = &blob->header.sections[i];
        if (section->kind == (uint32_t)kind && tn_hash(blob->base + section->offset, section->length) != section->hash)
            return tn_fail(failure, TN_BAD_INPUT, "%s: the blob's %s section is damaged (its hash does not fit)", blob->file, what);
    }
    return 0;
}

// Reads `key\0`, a length and as many bytes, until the section ends. Values are copied so that each ends in NUL.
static int blob_read_meta(Blob *blob, tn_failure *failure) {
    size_t length, at = 0, used = 0;
    const unsigned char *meta = tn_blob_section(blob, SECTION_META, &length);
    int capacity = 0;
    if (!length)
        return 0;
    blob->text = malloc(length + length / 5 + 1);     // a record has at least 5 bytes besides its value's NUL
    if (!blob->text)
        return tn_fail(failure, TN_BAD_MACHINE, "no memory for %zu bytes of the model's records", length);
    while (at < length) {
        const unsigned char *nul = memchr(meta + at, 0, length - at);
        uint32_t bytes;
        if (!nul || length - (size_t)(nul + 1 - meta) < sizeof bytes)
            return tn_fail(failure, TN_BAD_INPUT, "%s: the blob's records are cut off at byte %zu", blob->file, at);
        size_t value = (size_t)(nul + 1 - meta) + sizeof bytes;
        memcpy(&bytes, nul + 1, sizeof bytes);
        if (bytes > length - value)
            return tn_fail(failure, TN_BAD_INPUT, "%s: record '%.40s' says %u bytes, but %zu are left", blob->file, (const char *)meta + at, bytes,
                           length - value);
        if (blob->record_count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            BlobRecord *grown = realloc(blob->records, (size_t)capacity * sizeof *grown);
            if (!grown)
                return tn_fail(failure, TN_BAD_MACHINE, "no memory for the model's records");
            blob->records = grown;
        }
        BlobRecord *record = &blob->records[blob->record_count++];
        size_t key_bytes = (size_t)(nul + 1 - meta) - at;
        record->key = memcpy(blob->text + used, meta + at, key_bytes);
        used += key_bytes;
        record->value = memcpy(blob->text + used, meta + value, bytes);
        blob->text[used + bytes] = 0;
        used += bytes + 1;
        at = value + bytes;
    }
    return 0;
}

// Maps a file's bytes so that its huge pages are the map's: at an address as far from a huge page's beginning as `from` is. Where there is no room for
// that, anywhere.
static void *blob_map_aligned(int fd, uint64_t from, size_t length) {
    enum { HUGE = 2 << 20 };
    unsigned char *room = length < SIZE_MAX - HUGE ? mmap(NULL, length + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) : MAP_FAILED;
    if (room == MAP_FAILED)
        return mmap(NULL, length, PROT_READ, MAP_SHARED, fd, (off_t)from);
    size_t before = (size_t)((from - (uintptr_t)room) % HUGE), page = (size_t)sysconf(_SC_PAGESIZE), end = before + (length + page - 1) / page * page;
    void *map = mmap(room + before, length, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)from);
    int cause = errno;
    if (map == MAP_FAILED)
        before = end = 0;
    if (before)
        munmap(room, before);
    if (end < length + HUGE)
        munmap(room + end, length + HUGE - end);
    errno = cause;
    return map;
}

static int blob_map(Blob *blob, int fd, uint64_t offset, uint64_t length, tn_failure *failure) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), from = offset - offset % page;
    if (length > SIZE_MAX - page)
        return tn_fail(failure, TN_BAD_MACHINE, "%s: %llu bytes are more than this machine can map", blob->file, (unsigned long long)length);
    blob->map_length = (size_t)(length + (offset - from));
    void *map = blob_map_aligned(fd, from, blob->map_length);
    if (map == MAP_FAILED)
        return tn_fail(failure, TN_BAD_MACHINE, "%s: cannot map %zu bytes: %s", blob->file, blob->map_length, strerror(errno));
    blob->map = map;
    blob->base = (unsigned char *)map + (offset - from);
    return 0;
}

static BlobStamp blob_stamp(const struct stat *status) { return (BlobStamp){(uint64_t)status->st_size, status->st_mtim}; }

// 1: open; 0: the file holds no blob, or is not there (nothing said); -1: failure set.
static int blob_try(const char *file, const char *shown, const tn_program *program, Blob **out, tn_failure *failure) {
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    struct stat status = {0};
    uint64_t offset = 0, length = 0;
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : tn_fail(failure, TN_BAD_INPUT, "%s: %s", shown, strerror(errno));
    int found = 0;
    Blob *blob = calloc(1, sizeof *blob);
    if (blob) {
        blob->file = strdup(shown);
        blob->fd = fd;
    } else
        close(fd);
    if (!blob || !blob->file)
        found = tn_fail(failure, TN_BAD_MACHINE, "no memory");
    else if (!fstat(fd, &status) && S_ISREG(status.st_mode))
        found = blob_locate(fd, shown, (uint64_t)status.st_size, &offset, &length, &blob->header, failure);
    if (blob) {
        blob->offset = offset;
        blob->stamp = blob_stamp(&status);
    }
    if (found > 0 && (blob_check_header(&blob->header, shown, length, failure) || blob_map(blob, fd, offset, length, failure) ||
                      (program && blob_check_program(blob, program, failure)) || blob_check_section(blob, SECTION_META, "record", failure) ||
                      blob_check_section(blob, SECTION_TOKENIZER, "tokenizer", failure) || blob_read_meta(blob, failure)))
        found = -1;
    if (found > 0)
        *out = blob;
    else
        tn_blob_close(blob);
    return found;
}

Blob *tn_blob_open(const char *file, const tn_program *program, tn_failure *failure) {
    Blob *blob = NULL;
    if (access(file, F_OK))
        tn_fail(failure, TN_BAD_INPUT, "%s: %s", file, strerror(errno));
    else if (!blob_try(file, file, program, &blob, failure))
        tn_fail(failure, TN_BAD_INPUT, "%s: no weights in this file: it neither starts with nor ends in a blob (was it stripped?)", file);
    return blob;
}

// The file that the program's code was loaded from: the executable, or a shared object. Empty for code made in memory. (Not its data: the linker
// may copy tn_model into the executable that uses a shared object.)
static void blob_image(const tn_program *program, char path[BLOB_PATH]) {
    unsigned long code = (unsigned long)program->run;
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[BLOB_PATH + 128];
    path[0] = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        int at = 0;
        if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &from, &to, &at) < 2 || code < from || code >= to)
            continue;
        if (at && line[at] == '/') {
            line[strcspn(line, "\n")] = 0;
            snprintf(path, BLOB_PATH, "%.4095s", line + at);
        }
        break;
    }
    if (maps)
        fclose(maps);
}

// Emitted C names the file of weights that was written with it, which the program's own name may not tell.
#ifndef TN_WEIGHTS
#define TN_WEIGHTS ""
#endif
enum { BLOB_PLACES = sizeof TN_WEIGHTS > 1 ? 4 : 3 };

static void blob_beside(const char *image, int how, const char *model, char path[BLOB_BESIDE]) {
    const char *slash = strrchr(image, '/'), *name = slash ? slash + 1 : image, *dot = strrchr(name, '.');
    int folder = (int)(name - image), stem = dot && dot != name ? (int)(dot - image) : (int)strlen(image);
    if (how == 0)
        snprintf(path, BLOB_BESIDE, "%s.weights", image);
    else if (how == 1)
        snprintf(path, BLOB_BESIDE, "%.*s.weights", stem, image);
    else if (how == 2)
        snprintf(path, BLOB_BESIDE, "%.*s%.200s.weights", folder, image, model);
    else
        snprintf(path, BLOB_BESIDE, "%.*s%.255s", folder, image, TN_WEIGHTS);
}

Blob *tn_blob_find(const tn_program *program, tn_failure *failure) {
    char self[BLOB_PATH] = "", image[BLOB_PATH], path[BLOB_BESIDE];
    Blob *blob = NULL;
    tn_failure first = {0};
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    blob_image(program, image);
    if (blob_try("/proc/self/exe", self[0] ? self : "/proc/self/exe", program, &blob, &first) > 0)
        return blob;
    if (image[0] && strcmp(image, self) && blob_try(image, image, program, &blob, &first) > 0)
        return blob;
    const char *beside = image[0] ? image : self;
    for (int how = 0; how < BLOB_PLACES; how++) {
        blob_beside(beside, how, program->model, path);
        if (blob_try(path, path, program, &blob, &first) > 0)
            return blob;
    }
    if (first.code)
        tn_fail(failure, first.code, "%s", first.text);
    else
        tn_fail(failure, TN_BAD_INPUT, "the weights of %s are gone: %s has none appended (was it stripped or cut short?) and there is no %s.weights beside "
                "it; name the file that holds them with --weights FILE", program->model, beside, beside);
    return NULL;
}

int tn_blob_verify(const Blob *blob, tn_failure *failure) {
    return blob_check_section(blob, SECTION_WEIGHTS, "weight", failure) || blob_check_section(blob, SECTION_META, "record", failure) ||
           blob_check_section(blob, SECTION_TOKENIZER, "tokenizer", failure) ? -1 : 0;
}

BlobStamp tn_blob_stamp(const Blob *blob) { return blob->stamp; }

int tn_blob_same(const Blob *blob, BlobStamp *stamp, tn_failure *failure) {
    struct stat status;
    if (fstat(blob->fd, &status))
        return tn_fail(failure, TN_BAD_INPUT, "%s: %s", blob->file, strerror(errno));
    BlobStamp now = blob_stamp(&status);
    if (now.size == stamp->size && now.written.tv_sec == stamp->written.tv_sec && now.written.tv_nsec == stamp->written.tv_nsec)
        return 0;
    if (now.size < stamp->size)
        return tn_fail(failure, TN_BAD_INPUT, "%s: cannot be read at offset %llu: the file was cut short while it was in use", blob->file,
                       (unsigned long long)now.size);
    tn_failure damage = {0};
    if (tn_blob_verify(blob, &damage))
        return tn_fail(failure, TN_BAD_INPUT, "%s, while it was in use: something else was written into it", damage.text);
    *stamp = now;
    return 0;
}
