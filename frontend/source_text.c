// What a source says about text: its tokenizer's special tokens, its chat template, and the texts that end a turn.
//
// A model may end its turn with another token than its eos (chat models of the same base do): ids come from generation_config.json and
// config.json or the GGUF metadata, and end-of-turn tokens that the chat template writes are taken as well when the tokenizer has them.
#include "frontend/import.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>",
                                        "<|end_of_turn|>", "<|eom_id|>", "<|endoftext|>"};

static void add_stop(Source *source, const char *text) {
    if (!text || !*text)
        return;
    for (int i = 0; i < source->stop_count; i++)
        if (strcmp(source->stops[i], text) == 0)
            return;
    ARENA_PUSH(source->arena, source->stops, source->stop_count, source->stop_capacity) = text;
}

// ---- GGUF ---------------------------------------------------------------------------------------------------------

static const char *gguf_token(Source *source, const char *key) {
    double id;
    size_t length;
    if (!gguf_number(source->gguf, key, &id) || !(id >= 0 && id < 1e9))
        return NULL;
    const char *text = gguf_array_string(source->gguf, "tokenizer.ggml.tokens", (int64_t)id, &length);
    return text ? arena_strndup(source->arena, text, length) : NULL;
}

static bool gguf_has_token(const Source *source, const char *text) {
    int64_t count = gguf_array(source->gguf, "tokenizer.ggml.tokens");
    size_t wanted = strlen(text), length;
    for (int64_t i = 0; i < count; i++) {
        const char *token = gguf_array_string(source->gguf, "tokenizer.ggml.tokens", i, &length);
        if (!token)
            return false;
        if (length == wanted && memcmp(token, text, length) == 0)
            return true;
    }
    return false;
}

static void read_gguf_text(Source *source) {
    source->chat_template = gguf_string(source->gguf, "tokenizer.chat_template", NULL);
    source->bos = gguf_token(source, "tokenizer.ggml.bos_token_id");
    source->eos = gguf_token(source, "tokenizer.ggml.eos_token_id");
    add_stop(source, source->eos);
    add_stop(source, gguf_token(source, "tokenizer.ggml.eot_token_id"));
}

// ---- a folder -----------------------------------------------------------------------------------------------------

static json_t *optional_object(Source *source, const char *name, bool *good) {
    const char *path = arena_printf(source->arena, "%s/%s", source->path, name);
    struct stat status;
    if (stat(path, &status) != 0)
        return NULL;
    json_t *object = json_read_object(path, source->diags);
    *good = *good && object;
    return object;
}

static void add_token(Source *source, int64_t id, const json_t *text) {
    if (json_is_string(text))
        ARENA_PUSH(source->arena, source->tokens, source->token_count, source->token_capacity) =
            (struct SourceToken){id, arena_strdup(source->arena, json_string_value(text))};
}

static bool read_added_tokens(Source *source, json_t *config) {
    const char *id;
    json_t *token;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), id, token)
        add_token(source, strtoll(id, NULL, 10), json_object_get(token, "content"));
    if (source->token_count || !source->tokenizer)
        return true;
    json_t *tokenizer = json_read_object(source->tokenizer, source->diags);
    if (!tokenizer)
        return false;
    json_t *added = json_object_get(tokenizer, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        add_token(source, json_integer_value(json_object_get(token, "id")), json_object_get(token, "content"));
    }
    json_decref(tokenizer);
    return true;
}

static const char *added_token(const Source *source, int64_t id) {
    for (int i = 0; i < source->token_count; i++)
        if (source->tokens[i].id == id)
            return source->tokens[i].text;
    return NULL;
}

static bool folder_has_token(const Source *source, const char *text) {
    for (int i = 0; i < source->token_count; i++)
        if (strcmp(source->tokens[i].text, text) == 0)
            return true;
    return false;
}

static const char *token_text(Source *source, const json_t *token) {
    if (json_is_object(token))
        token = json_object_get(token, "content");
    return json_is_string(token) ? arena_strdup(source->arena, json_string_value(token)) : NULL;
}

static void add_stop_ids(Source *source, const json_t *ids) {
    if (json_is_integer(ids))
        add_stop(source, added_token(source, json_integer_value(ids)));
    for (size_t i = 0; i < json_array_size(ids); i++)
        if (json_is_integer(json_array_get(ids, i)))
            add_stop(source, added_token(source, json_integer_value(json_array_get(ids, i))));
}

// chat_template.jinja, or tokenizer_config.json's chat_template: text, or several of which one is the default.
static const char *folder_chat_template(Source *source, const json_t *config) {
    MappedFile file;
    struct stat status;
    const char *path = arena_printf(source->arena, "%s/chat_template.jinja", source->path), *text = NULL;
    if (stat(path, &status) == 0 && file_map(&file, path, source->diags)) {
        if (file.size > 0 && file.size < 1 << 20)
            text = arena_strndup(source->arena, (const char *)file.bytes, (size_t)file.size);
        file_unmap(&file);
        return text;
    }
    const json_t *given = json_object_get(config, "chat_template");
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *one = json_array_get(given, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && strcmp(name, "default") == 0)
            return token_text(source, json_object_get(one, "template"));
    }
    return token_text(source, given);
}

static bool read_folder_text(Source *source) {
    bool good = true;
    json_t *config = optional_object(source, "tokenizer_config.json", &good);
    json_t *special = optional_object(source, "special_tokens_map.json", &good);
    json_t *generation = optional_object(source, "generation_config.json", &good);
    good = good && read_added_tokens(source, config);
    source->chat_template = folder_chat_template(source, config);
    source->bos = token_text(source, json_object_get(config, "bos_token"));
    source->eos = token_text(source, json_object_get(config, "eos_token"));
    if (!source->bos)
        source->bos = token_text(source, json_object_get(special, "bos_token"));
    if (!source->eos)
        source->eos = token_text(source, json_object_get(special, "eos_token"));
    add_stop(source, source->eos);
    add_stop_ids(source, json_object_get(generation, "eos_token_id"));
    add_stop_ids(source, json_object_get(source->root, "eos_token_id"));
    json_decref(config);
    json_decref(special);
    json_decref(generation);
    return good;
}

bool source_read_text(Source *source) {
    if (source->is_gguf)
        read_gguf_text(source);
    else if (!read_folder_text(source))
        return false;
    for (size_t i = 0; source->chat_template && i < COUNT_OF(turn_ends); i++)
        if (strstr(source->chat_template, turn_ends[i])
            && (source->is_gguf ? gguf_has_token(source, turn_ends[i]) : folder_has_token(source, turn_ends[i])))
            add_stop(source, turn_ends[i]);
    return true;
}
