// Inside import: what a source says, and what a template makes of it.
//
// A source is a .gguf or a Hugging Face folder; both are asked the same questions. A template (architectures/*.yaml) is the model language
// plus where each config value and tensor name comes from in either kind of source; docs/add-an-architecture.md describes it.
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
    int token_count, token_capacity; struct SourceToken { int64_t id; const char *text; } *tokens;   // of a folder: added tokens
    int used_count, used_capacity; const char **used;   // keys that the template asked for
} Source;

// Opens everything; NULL with errors. Closed by source_close whatever came of it; the arena stays the caller's.
Source *source_open(Arena *arena, const char *path, Diags *diags);
void source_close(Source *source);
// A config value by its (dotted) key. False when absent or null. The key counts as read either way.
bool source_value(Source *source, const char *key, Constant *value);
// A key with a dot was complained of: what else its record says is not worth a message.
void source_settle(Source *source, const char *key);
// Reports every key that says something about the model, is not in `ignored` (names, or prefixes ending in *), and was not asked for.
bool source_check_unused(Source *source, const char *const *ignored, int count, const char *architecture);
// source_unused.c: a warning when tensors are named neither in the body nor in `extra` (with *).
void source_warn_unused_tensors(Source *source, const char *body, const char *const *extra, int extra_count);
bool *source_tensors_read(const Source *source, const char *body);   // for each of the provider's: whether the body names it
// source_equal.c: which of the tensors read are equal, as `same:` has it.
void source_find_equals(Source *source, const bool *read, Equals *equals);
const TensorInfo *source_tensor(const Source *source, const char *name);

// source_text.c: the tokenizer's special tokens, the chat template and the texts that end a turn. False with errors.
bool source_read_text(Source *source);

// ---- templates ----------------------------------------------------------------------------------------------------

typedef struct Template Template;
// The template whose `match` names the source's kind; NULL with an error that lists what is supported.
Template *template_pick(Source *source);
const char *template_name(const Template *template);
// Works every config value out, checks what has to hold, and rewrites the body for this source. False with errors.
bool template_resolve(Template *template);
int64_t template_context(const Template *template, int64_t *made_for);   // what is written, and what the model was made for
void template_write_config(const Template *template, Text *out);
const char *template_body(const Template *template);
void template_write_body(const Template *template, Text *out);           // blocks and model

// template_text.c: the body's text for one source. `choose` gives the rank of a key of a source map ({hf: …, gguf: …}): 0 is best, -1: not
// this source.
typedef struct {
    Arena *arena;
    void *context;
    int (*choose)(void *context, const char *key, size_t length);
    bool (*is_choice)(void *context, const char *key, size_t length);   // a key that makes a map a source map
    // A condition of a `when:`: 1 true, 0 false, -1 with an error.
    int (*condition)(void *context, const char *text);
    bool (*is_none)(void *context, const char *name);                   // a config value that is none
    const char *prefix;
} BodyRewrite;
bool body_rewrite(const BodyRewrite *rewrite, const char *text, size_t length, Text *out);
bool text_uses_name(const char *text, const char *name);                // as a whole word

#endif
