// --calibrate: every matrix that the passes quantize to integers is rounded by GPTQ (ir/gptq.h), with the second moments of what it is multiplied with
// on a text. Moments take K² floats, so they are gathered for as many matrices at a time as fit the budget: several runs over the text, if need be.
//
// The rounded rows go into a file of the cache, known by model, recipe and text, and are mapped from there: a second compile finds them, and memory
// stays bounded.
#include "driver/calibrate.h"
#include "driver/manifest.h"
#include "ir/prune.h"

#include "codegen/cache.h"
#include "codegen/outfile.h"
#include "runtime/team.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER "tenon calibration 2\n"
enum { HEADER_BYTES = 64, CHUNK_ROWS = 64 };
static const uint64_t moments_budget = (uint64_t)1 << 30;

extern const char calibration_text[], calibration_text_end[];
__asm__(".pushsection .rodata\n.globl calibration_text\n.globl calibration_text_end\ncalibration_text:\n.incbin \"" TENON_CALIBRATION_TEXT
        "\"\ncalibration_text_end:\n.byte 0\n.popsection\n");

bool calibration_text_of(const BuildOptions *options, Text *text, Diags *diags) {
    if (options->calibrate && strcmp(options->calibrate, "default") != 0) return read_text(options->calibrate, text, diags);
    text_add(text, calibration_text, (size_t)(calibration_text_end - calibration_text));
    return true;
}

bool calibration_key(const BuildOptions *options, Text *key) {
    if (options->prune) text_printf(key, "prune %s\n", options->prune);
    if (!options->calibrate) return true;
    Text text = {0};
    Diags *quiet = diags_new();
    bool done = strcmp(options->calibrate, "-") != 0 && calibration_text_of(options, &text, quiet);
    if (done)
        text_printf(key, "calibrate %zu %016llx%016llx\n", text.length, (unsigned long long)hash_bytes(text.data, text.length, 0),
                    (unsigned long long)hash_bytes(text.data, text.length, 1));
    text_free(&text);
    diags_free(quiet);
    return done;
}

// ---- which weights, where in the file ------------------------------------------------------------------------------------------------------

bool calibrated(const Weight *weight) {
    GroupedFormat format;
    return weight->type.rank >= 2 && (row_code_bits(weight->quantize_to) || (weight->quantize_to != DT_COUNT && grouped_format(weight->quantize_to, &format)));
}

static int64_t columns_of(const Weight *weight) { return weight->type.dims[weight->type.rank - 1]; }
static int64_t rows_of(const Weight *weight) { return type_row_elements(&weight->type) / columns_of(weight); }

// Offsets of the weights' rows, by id; the file's length in *length.
static uint64_t *offsets_of(const Module *module, uint64_t *length, Diags *diags) {
    uint64_t *offsets = calloc((size_t)module->weight_count + 1, sizeof *offsets), at = HEADER_BYTES;
    if (!offsets) abort();
    for (int w = 0; w < module->weight_count; w++) {
        const Weight *weight = module->weights[w];
        offsets[w] = at;
        if (!calibrated(weight)) continue;
        if (!size_mad((uint64_t)rows_of(weight), (uint64_t)dtype_row_bytes(weight->quantize_to, columns_of(weight)), at, (uint64_t)1 << 50, &at)) {
            diag_error(diags, NOWHERE, "weight %s is too large to calibrate", weight->name);
            free(offsets);
            return NULL;
        }
        at = (at + 63) & ~(uint64_t)63;
    }
    *length = at;
    return offsets;
}

static void hand_over(Build *build, void *map, uint64_t length, const uint64_t *offsets) {
    Module *module = build->model->module;
    build->calibrated = map;
    build->calibrated_bytes = length;
    for (int w = 0; w < module->weight_count; w++)
        if (calibrated(module->weights[w])) module->weights[w]->quantized = (const char *)map + offsets[w];
}

void calibration_release(Build *build) {
    if (build->calibrated) munmap(build->calibrated, (size_t)build->calibrated_bytes);
    build->calibrated = NULL;
}

// ---- rounding ------------------------------------------------------------------------------------------------------------------------------

typedef struct { const Weight *weight; const Moments *moments; DType to; int64_t row; uint8_t *out; double *error; } Chunk;
typedef struct { Calibration *calibration; Chunk *chunks; int64_t chunk_count; Moments **turn; int turn_count; uint8_t *map; const uint64_t *offsets; } Turn;

static void prepare(void *to, int64_t i) {
    Moments *m = ((Turn *)to)->turn[i];
    for (int b = 0; b < m->block_count; b++) {
        gptq_rotate(&m->blocks[b], m->rotation);
        gptq_factor(&m->blocks[b]);
    }
}

// Rounded as it is without moments; the error is that of the weights themselves.
static void round_plainly(const Chunk *chunk, const float *w, int64_t n, int64_t k) {
    int64_t bytes = dtype_row_bytes(chunk->to, k);
    float *back = malloc((size_t)k * sizeof *back);
    if (!back) abort();
    for (int64_t r = 0; r < n; r++) {
        quantize_row(chunk->to, w + r * k, k, chunk->out + r * bytes);
        if (!chunk->error) continue;
        dequantize_row(chunk->to, chunk->out + r * bytes, back, k);
        for (int64_t i = 0; i < k; i++) *chunk->error += ((double)w[r * k + i] - back[i]) * ((double)w[r * k + i] - back[i]);
    }
    free(back);
}

static void round_chunk(void *to, int64_t i) {
    const Chunk *chunk = &((Chunk *)to)[i];
    const Weight *weight = chunk->weight;
    int64_t k = columns_of(weight), n = rows_of(weight) - chunk->row < CHUNK_ROWS ? rows_of(weight) - chunk->row : CHUNK_ROWS;
    float *w = malloc((size_t)(n * k) * sizeof *w);
    if (!w) abort();
    uint8_t *stays = chunk->moments && weight->prune.keep ? malloc((size_t)(n * k)) : NULL;
    if (stays) {
        Weight whole = *weight;   // what is left makes up for what goes
        whole.prune.keep = 0;
        weight_rows_f32(&whole, chunk->row, n, w);
        prune_mask(weight, chunk->row, n, w, stays);
    } else {
        weight_rows_f32(weight, chunk->row, n, w);
    }
    if (chunk->moments) gptq_rows(chunk->to, w, stays, n, k, chunk->moments->blocks, chunk->out, chunk->error);
    else round_plainly(chunk, w, n, k);
    free(w), free(stays);
}

static Chunk *chunks_of(Chunk *chunks, int64_t *count, const Weight *weight, const Moments *moments, DType type, uint8_t *out) {
    int64_t rows = rows_of(weight);
    chunks = realloc(chunks, (size_t)(*count + rows / CHUNK_ROWS + 1) * sizeof *chunks);
    if (!chunks) abort();
    for (int64_t r = 0; r < rows; r += CHUNK_ROWS)
        chunks[(*count)++] = (Chunk){weight, moments, type, r, out + r * dtype_row_bytes(type, columns_of(weight)), NULL};
    return chunks;
}

double calibrate_round(const Weight *weight, const Moments *moments, DType to, void *out, int threads) {
    int64_t count = 0;
    double error = 0;
    Chunk *chunks = chunks_of(NULL, &count, weight, moments, to, out);
    double *errors = calloc((size_t)count + 1, sizeof *errors);
    if (!errors) abort();
    for (int64_t i = 0; i < count; i++) chunks[i].error = &errors[i];
    calibrate_parallel(threads, count, round_chunk, chunks);
    for (int64_t i = 0; i < count; i++) error += errors[i];
    free(errors), free(chunks);
    return error;
}

static uint64_t moments_bytes(const Moments *m) {
    uint64_t bytes = 0;
    for (int64_t at = 0; at < m->k; at += GPTQ_BLOCK) {
        uint64_t n = (uint64_t)(m->k - at < GPTQ_BLOCK ? m->k - at : GPTQ_BLOCK);
        bytes += n * n * sizeof(float);
    }
    return bytes;
}

static void moments_begin(Moments *m) {
    m->block_count = (int)((m->k + GPTQ_BLOCK - 1) / GPTQ_BLOCK);
    m->blocks = calloc((size_t)m->block_count, sizeof *m->blocks);
    for (int b = 0; m->blocks && b < m->block_count; b++) {
        GptqBlock *block = &m->blocks[b];
        block->first = (int64_t)b * GPTQ_BLOCK;
        block->n = m->k - block->first < GPTQ_BLOCK ? m->k - block->first : GPTQ_BLOCK;
        block->h = calloc((size_t)(block->n * block->n), sizeof *block->h);
        block->d = calloc((size_t)block->n, sizeof *block->d);
        if (!block->h || !block->d) abort();
    }
    if (!m->blocks) abort();
}

static void moments_end(Moments *m) {
    for (int b = 0; b < m->block_count; b++) free(m->blocks[b].h), free(m->blocks[b].d);
    free(m->blocks);
    m->blocks = NULL;
}

// The next moments that fit the budget, from `first`: returns where the turn after them begins.
static int take_turn(Calibration *c, Turn *turn, int first) {
    uint64_t bytes = 0;
    turn->turn_count = 0;
    for (; first < c->moments_count; first++) {
        uint64_t more = moments_bytes(&c->moments[first]);
        if (turn->turn_count && bytes + more > moments_budget) break;
        bytes += more;
        moments_begin(&c->moments[first]);
        turn->turn[turn->turn_count++] = &c->moments[first];
    }
    return first;
}

bool calibration_turns(Calibration *c, CalibrationRun *run, bool (*take)(void *to, bool last, Diags *diags), void *to, Diags *diags) {
    Turn turn = {.calibration = c, .turn = calloc((size_t)c->moments_count + 1, sizeof *turn.turn)};
    if (!turn.turn) abort();
    bool done = true;
    for (int first = 0; done && (first < c->moments_count || first == 0);) {
        first = take_turn(c, &turn, first);
        done = !turn.turn_count || calibration_run(run, diags);
        if (done) calibrate_parallel(c->threads, turn.turn_count, prepare, &turn);
        done = done && take(to, first >= c->moments_count, diags);
        for (int i = 0; i < turn.turn_count; i++) moments_end(turn.turn[i]);
        if (!first) break;
    }
    free(turn.turn);
    return done;
}

const Moments *calibration_moments(const Calibration *c, const Weight *weight) { return c->of[weight->id] < 0 ? NULL : &c->moments[c->of[weight->id]]; }

static bool round_turn(void *to, bool last, Diags *diags) {
    (void)diags;
    Turn *turn = to;
    const Calibration *c = turn->calibration;
    turn->chunk_count = 0;
    for (int w = 0; w < c->module->weight_count; w++) {
        const Weight *weight = c->module->weights[w];
        const Moments *m = calibration_moments(c, weight);
        if (calibrated(weight) && (m ? m->blocks != NULL : last))
            turn->chunks = chunks_of(turn->chunks, &turn->chunk_count, weight, m, weight->quantize_to, turn->map + turn->offsets[w]);
    }
    calibrate_parallel(c->threads, turn->chunk_count, round_chunk, turn->chunks);
    return true;
}

static bool round_all(Calibration *c, uint8_t *map, const uint64_t *offsets, Diags *diags) {
    CalibrationRun *run = calibration_run_open(c, diags);
    if (!run) return false;
    Turn turn = {.calibration = c, .map = map, .offsets = offsets};
    bool done = calibration_turns(c, run, round_turn, &turn, diags);
    calibration_run_close(run);
    free(turn.chunks);
    return done;
}

// ---- the file ------------------------------------------------------------------------------------------------------------------------------

// Everything that the rounded rows depend on.
static char *cached_name(const Build *build, const char *path, const Cache *cache) {
    const BuildOptions *o = build->options;
    Text key = {0};
    text_printf(&key, HEADER "%s %s %s %d %s %s\n", o->quantize ? o->quantize : "", o->group ? o->group : "", o->activation_group ? o->activation_group : "",
                o->symmetric, o->passes ? o->passes : "", o->skip ? o->skip : "");
    text_printf(&key, "%s\n", o->bits ? o->bits : "");
    bool done = manifest_files(path, build->model, &key) && calibration_key(o, &key);
    char *name = done ? cache_name(cache, 'q', cache_key(&key), ".calibration") : NULL;
    text_free(&key);
    return name;
}

static void *map_file(int fd, uint64_t length, bool write) {
    void *map = mmap(NULL, (size_t)length, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    return map == MAP_FAILED ? NULL : map;
}

static bool take_cached(Build *build, const char *name, uint64_t length, const uint64_t *offsets) {
    struct stat info;
    int fd = name && cache_touch(name) ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return false;
    void *map = fstat(fd, &info) == 0 && (uint64_t)info.st_size == length ? map_file(fd, length, false) : NULL;
    close(fd);
    if (map && memcmp(map, HEADER, sizeof HEADER) == 0) return hand_over(build, map, length, offsets), true;
    if (map) munmap(map, (size_t)length);
    return false;
}

static bool make_file(Build *build, const char *path, const char *name, uint64_t length, const uint64_t *offsets, Diags *diags) {
    Calibration c = {.module = build->model->module, .path = path, .options = build->options, .threads = tn_team_available()};
    const char *folder = getenv("TMPDIR");
    Text unnamed = {0};
    text_printf(&unnamed, "%s/tenon.calibration", folder && *folder ? folder : "/tmp");
    OutFile file;
    bool done = calibration_text_of(build->options, &c.text, diags) && outfile_open(&file, name ? name : unnamed.data, diags);
    text_free(&unnamed);
    if (!done) return calibration_close(&c), false;
    errno = posix_fallocate(file.fd, 0, (off_t)length);   // a full disk is a message here, and a signal where it is written through the map
    void *map = errno ? NULL : map_file(file.fd, length, true);
    if (!map) diag_error(diags, FILE_LOC(file.path), "no room for %llu bytes of rounded weights: %s", (unsigned long long)length, strerror(errno));
    done = map && round_all(&c, map, offsets, diags);
    if (done) memcpy(map, HEADER, sizeof HEADER);
    if (done && name) outfile_keep(&file, false, diags);
    else outfile_drop(&file);
    if (done) hand_over(build, map, length, offsets);
    else if (map) munmap(map, (size_t)length);
    calibration_close(&c);
    return done;
}

bool build_calibrate(Build *build, const char *path, Diags *diags) {
    const BuildOptions *options = build->options;
    if (!options->calibrate || build->variant.code_only) return true;
    Cache cache = {0};
    char why[300];
    uint64_t length = 0, *offsets = offsets_of(build->model->module, &length, diags);
    if (!offsets) return false;
    if (length == HEADER_BYTES) {
        if (options->prune) return free(offsets), true;
        diag(diags, DIAG_WARNING, NOWHERE, "--calibrate does nothing: no weight is quantized to integers");
        diag(diags, DIAG_HINT, NOWHERE, "--quant w8a8, w6a8, w5a8, w4a8 and w4a16 quantize");
        return free(offsets), true;
    }
    bool cached = options->cache_size && !options->no_cache && cache_open(&cache, options->cache_size, why, sizeof why);
    char *name = cached ? cached_name(build, path, &cache) : NULL;
    bool done = take_cached(build, name, length, offsets);
    if (!done) {
        done = make_file(build, path, name, length, offsets, diags);
        if (cached) cache_trim(&cache);
    }
    if (cached) cache_close(&cache);
    free(name), free(offsets);
    return done;
}
