// Inside import: what a source says, and what a template makes of it.
//
// A source is a .gguf or a Hugging Face folder; both are asked the same questions. A template (architectures/*.yaml) is the model language plus
// where each config value and tensor name comes from in either kind of source; docs/add-an-architecture.md describes it.
#ifndef TENON_FRONTEND_IMPORT_H
#define TENON_FRONTEND_IMPORT_H
#include "frontend/json.h"
#include "frontend/language.h"

typedef struct { const char *name, *text; size_t length; } Architecture;
extern const Architecture architectures[];   // the embedded templates; "common" is not one of them but says what no template reads
extern const int architecture_count;

// ---- sources ------------------------------------------------------------------------------------------------------

typedef struct {
    Arena *arena;
    Diags *diags;
    bool is_gguf;
    const char *path;                    // the .gguf or the folder, as given, without a trailing slash
    const char *described_by;            // what messages call the source of config values: path/config.json or the .gguf
    Gguf *gguf;
    json_t *root, *config;               // config.json; config: it or its text_config
    Provider *weights;
    int weight_file_count; const char **weight_files;   // the file, its splits, or the shard index
    const char *tokenizer;               // path, or NULL
    const char *chat_template, *bos, *eos;              // NULL when there is none
    int stop_count, stop_capacity; const char **stops;
    int kind_count; const char **kinds;  // what templates match: architectures, model_type, general.architecture
    bool has_sentence_pooling;
    int used_count, used_capacity; const char **used;   // keys that the template asked for
} Source;

// Opens everything; NULL with errors. Closed by source_close whatever came of it; the arena stays the caller's.
Source *source_open(Arena *arena, const char *path, Diags *diags);
void source_close(Source *source);
// A config value by its (dotted) key. False when absent or null. The key counts as read either way.
bool source_value(Source *source, const char *key, Constant *value);
// Reports every key that says something about the model, is not in `ignored` (names, or prefixes ending in *), and was not asked for.
bool source_check_unused(Source *source, const char *const *ignored, int count, const char *architecture);
const TensorInfo *source_tensor(const Source *source, const char *name);

// source_text.c: the tokenizer, the chat template and the texts that end a turn.
void source_read_text(Source *source);
bool source_token_exists(const Source *source, const char *text);

// ---- templates ----------------------------------------------------------------------------------------------------

typedef struct Template Template;
// The template whose `match` names the source's kind; NULL with an error that lists what is supported.
Template *template_pick(Source *source);
// Writes config, context, blocks and model of the plain description. False with errors.
bool template_write(Template *template, Text *out);

#endif
