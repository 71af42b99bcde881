// A model in this process is an engine with one sequence. A compiled program is asked once what it is (--info --json), its tokenizer is read from its
// blob, and each window is a run of it, `--tokens IDS -n 0 --logits PIPE`, whose rows are read from the pipe as they are wanted: it waits meanwhile.
#include "driver/side.h"

#include "frontend/json.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INFO_LIMIT = 1 << 20, NPY_HEADER = 128, ARGUMENT_LIMIT = 120 << 10 };   // Linux takes arguments of 128 KiB

bool side_is_program(const char *path) {
    Elf64_Ehdr header;
    FILE *file = access(path, X_OK) == 0 ? fopen(path, "rb") : NULL;
    bool program = file && fread(&header, sizeof header, 1, file) == 1 && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_entry != 0;
    if (file) fclose(file);
    return program;
}

// ---- a program beside -----------------------------------------------------------------------------------------------------

static const char *info_text(const json_t *info, const char *key) {
    const char *text = json_string_value(json_object_get(info, key));
    return text ? text : "";
}

// Vocabulary and context from what it says of itself, the tokenizer from its blob.
static bool take_info(Side *side, const char *text, size_t length, Diags *diags) {
    json_t *info = json_parse_object(side->path, text, length, diags);
    if (!info) return false;
    bool language = strcmp(info_text(info, "output"), "row") == 0 && json_is_true(json_object_get(info, "causal"));
    side->width = (int)json_integer_value(json_object_get(info, "width"));
    side->context = (int)json_integer_value(json_object_get(info, "context"));
    snprintf(side->target_name, sizeof side->target_name, "%s", info_text(info, "target"));
    side->target = side->target_name;
    tn_failure failure = {0};
    size_t bytes = 0;
    char why[256] = "";
    if (language && side->width > 0 && (side->blob = tn_blob_open(info_text(info, "file"), NULL, &failure))) {
        const unsigned char *section = tn_blob_section(side->blob, SECTION_TOKENIZER, &bytes);
        if (section && !(side->own_tokenizer = tokenizer_open(section, bytes, why, sizeof why))) diag_error(diags, FILE_LOC(side->path), "%s", why);
        side->tokenizer = side->own_tokenizer;
    } else
        diag_error(diags, FILE_LOC(side->path), "%s", failure.code ? failure.text : "is not a language model: it has no next token to score");
    json_decref(info);
    return diags_errors(diags) == 0;
}

static int open_beside(Side *side, Diags *diags) {
    char number[24], *arguments[] = {(char *)side->path, "--info", "--json", "--ctx", number, NULL};
    snprintf(number, sizeof number, "%d", side->asked_context);
    if (!side->asked_context) arguments[3] = NULL;
    side->beside = true;
    char *text = malloc(INFO_LIMIT);
    size_t length = 0;
    int code = text ? child_ask(side->path, arguments, text, INFO_LIMIT, &length, diags) : EXIT_MACHINE;
    if (code > 0 || (code == EXIT_DONE && !length))
        diag_error(diags, FILE_LOC(side->path), "says nothing of itself (--info --json left with %d): is it a program that tenon compiled?", code);
    bool done = code == EXIT_DONE && length && take_info(side, text, length, diags);
    free(text);
    side->row = done ? malloc((size_t)side->width * sizeof *side->row) : NULL;
    return done && side->row ? EXIT_DONE : code > 0 ? code : EXIT_INPUT;
}

static bool begin_beside(Side *side, const int *ids, int count, Diags *diags) {
    Text list = {0};
    char threads[24], context[24], header[NPY_HEADER];
    char *arguments[12] = {(char *)side->path, "--tokens", NULL, "-n", "0", "--logits", "/proc/self/fd/3"};
    int n = 7;
    for (int i = 0; i < count; i++) text_printf(&list, "%s%d", i ? "," : "", ids[i]);
    arguments[2] = list.data;
    snprintf(threads, sizeof threads, "%d", side->threads);
    snprintf(context, sizeof context, "%d", side->asked_context);
    if (side->threads) arguments[n++] = "--threads", arguments[n++] = threads;
    if (side->asked_context) arguments[n++] = "--ctx", arguments[n++] = context;
    bool done = list.length < ARGUMENT_LIMIT;
    if (!done) diag_error(diags, NOWHERE, "a window of %d tokens is too long for a command line; --ctx N makes windows shorter", count);
    done = done && child_start(&side->child, side->path, arguments, 3, diags);
    text_free(&list);
    if (!done) return false;
    if (child_read(&side->child, header, sizeof header) == sizeof header && memcmp(header, "\x93NUMPY", 6) == 0) return true;
    int code = child_stop(&side->child);
    diag_error(diags, FILE_LOC(side->path), "gave no logits (exit code %d)", code);
    return false;
}

static bool rows_beside(Side *side, int count, void (*take)(void *, const float *), void *to, Diags *diags) {
    for (int i = 0; i < count; i++) {
        size_t bytes = (size_t)side->width * sizeof *side->row;
        if (child_read(&side->child, side->row, bytes) != bytes) {
            int code = child_stop(&side->child);
            diag_error(diags, FILE_LOC(side->path), "ended in the middle of a window (exit code %d)", code);
            return false;
        }
        take(to, side->row);
    }
    return true;
}

// ---- both -----------------------------------------------------------------------------------------------------------------

int side_open(Side *side, const char *path, const BuildOptions *build, int threads, int context, Diags *diags) {
    *side = (Side){.path = path, .threads = threads, .asked_context = context, .sequence = -1};
    if (side_is_program(path)) return open_beside(side, diags);
    int code;
    if (!program_open(&side->program, path, build, &code, diags)) return code;
    tn_failure failure = {0};
    tn_open_options options = {.threads = threads, .context = context, .weights = tn_blob_file(side->program.blob)};
    side->engine = tn_open_blob(&side->program.program, side->program.blob, &options, &failure);
    if (!side->engine) {
        diag_error(diags, FILE_LOC(path), "%s", failure.text);
        return failure.code;
    }
    side->context = tn_context(side->engine);
    side->width = tn_width(side->engine);
    side->target = side->program.program.target;
    side->tokenizer = side->engine->tokenizer;
    if (side->program.program.out_kind == TN_PER_ROW) return EXIT_DONE;
    diag_error(diags, FILE_LOC(path), "is not a language model: it has no next token to score");
    return EXIT_INPUT;
}

void side_close(Side *side) {
    child_stop(&side->child);
    free(side->row);
    tokenizer_close(side->own_tokenizer);
    tn_blob_close(side->blob);
    tn_close(side->engine);
    program_close(&side->program);
    *side = (Side){0};
}

bool side_begin(Side *side, const int *ids, int count, Diags *diags) {
    tn_failure failure = {0};
    if (side->beside) return begin_beside(side, ids, count, diags);
    side->sequence = tn_sequence_new(side->engine, &failure);
    if (side->sequence < 0) diag_error(diags, FILE_LOC(side->path), "%s", failure.text);
    return side->sequence >= 0;
}

bool side_rows(Side *side, const int *ids, int count, void (*take)(void *to, const float *row), void *to, Diags *diags) {
    if (side->beside) return rows_beside(side, count, take, to, diags);
    tn_failure failure = {0};
    bool done = tn_add(side->engine, side->sequence, ids, count, TN_WANT_ALL, &failure) == 0;
    while (done && tn_pending(side->engine) > 0) {
        int rows = tn_run(side->engine, &failure);
        done = rows >= 0;
        for (int i = 0; i < rows; i++) take(to, tn_rows(side->engine)[i].values);
    }
    if (!done) diag_error(diags, FILE_LOC(side->path), "%s", failure.text);
    return done;
}

bool side_end(Side *side, Diags *diags) {
    if (side->sequence >= 0) tn_sequence_free(side->engine, side->sequence);
    side->sequence = -1;
    if (!side->beside || side->child.process <= 0) return true;
    int code = child_stop(&side->child);
    if (code != EXIT_DONE) diag_error(diags, FILE_LOC(side->path), "left with exit code %d after its last row", code);
    return code == EXIT_DONE;
}
