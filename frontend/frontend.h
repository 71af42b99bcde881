// From files to a checked module: the model language, weight files, tokenizers, import.
#ifndef TENON_FRONTEND_FRONTEND_H
#define TENON_FRONTEND_FRONTEND_H
#include "ir/ir.h"
#include "ir/provider.h"

// What a model description says beside its graph.
typedef struct {
    Module *module;                    // verified
    Provider *weights;                 // stays open while the module's weights are read; closed by model_close
    const char *name;
    int64_t context;
    int weights_count; const char **weights_paths;   // as the description names them, resolved against the yaml's folder
    bool shares;                       // it says what is the same
    const char *tokenizer_path;        // resolved against the yaml's folder; NULL: none
    int stop_count; const char **stops;
    // Templates with {text}; NULL when absent. `begin` is put once before a conversation; one with a system message has `system` instead.
    const char *chat_begin, *chat_system, *chat_user, *chat_assistant, *chat_generation;
    int input_count; const char **input_names; int64_t *input_defaults;   // tokens first
} Model;

// Parses, type-checks and looks every parameter up. Reports every mistake. NULL when there was one.
Model *model_load(Arena *arena, const char *path, Diags *diags);
Model *model_load_text(Arena *arena, const char *path, const char *yaml, size_t length, Diags *diags);   // path: for messages and relative files
Model *model_load_declared(Arena *arena, const char *path, Diags *diags);   // no weight file is opened: every tensor is there, as bf16, as it is declared
void model_close(Model *model);

// Weight files. Every tensor's bytes are checked to lie in the file. NULL with errors in diags.
Provider *gguf_open(const char *path, Diags *diags);
Provider *safetensors_open(const char *path, Diags *diags);          // a .safetensors file or a shard index (.json)
Provider *weights_open(const char *const *paths, int count, Diags *diags);   // by content; several files together
Provider *weights_declared(void);                                    // no files: tensors are as a model declares them

// GGUF metadata (for import and tokenizers). A value of a wrong kind reads as absent.
typedef struct Gguf Gguf;
Gguf *gguf_metadata_open(const char *path, Diags *diags);
void gguf_metadata_close(Gguf *gguf);
bool gguf_number(const Gguf *gguf, const char *key, double *value);       // any integer, float or bool
const char *gguf_string(const Gguf *gguf, const char *key, size_t *length);
int64_t gguf_array(const Gguf *gguf, const char *key);                    // its length, -1 when absent or no array
const char *gguf_array_string(const Gguf *gguf, const char *key, int64_t i, size_t *length);
bool gguf_array_number(const Gguf *gguf, const char *key, int64_t i, double *value);

// Equal tensors of a source: what was found, and how the description says it.
typedef struct { const char *name, *as; } EqualPair;
typedef struct {
    int tensors, all_tensors;          // those that are others once more; all that the model reads
    uint64_t bytes, all_bytes;
    int pair_count, pair_capacity; EqualPair *pairs;                       // in import's arena
    void (*progress)(void *context, uint64_t done, uint64_t total); void *context;   // may be NULL
} Equals;
// import: a .gguf or a Hugging Face folder to the text of a plain model.yaml. out_path: weights are named relative to its folder; NULL: absolute.
// `equals` NULL: they are not looked for. A source that is a description stays as it is but for them.
bool import_model(const char *source, const char *out_path, Equals *equals, Text *yaml, Diags *diags);
// A .yaml is loaded; anything else is imported in memory and loaded.
Model *model_open(Arena *arena, const char *path, Diags *diags);

// The bytes of SECTION_TOKENIZER from a tokenizer.json or a .gguf.
bool tokenizer_import(const char *path, Text *out, Diags *diags);
// chat: from a Jinja chat template, by rendering it on probe messages. False (with a warning) when it does not reduce. `begin` (which may hold
// BOS and a default system message) opens a conversation; one with a system message is opened by `system` instead.
typedef struct { char *begin, *system, *user, *assistant, *generation; } ChatTemplates;   // malloc'd, may be NULL
bool chat_reduce(const char *jinja, const char *bos, const char *eos, ChatTemplates *out, Diags *diags);

#endif
