// tokenizer.json: the vocabulary and the model (BPE, Unigram, WordPiece, WordLevel), added tokens, and the special tokens that the files
// beside it name. What happens to text before and after the model is tokenizer_json_steps.c.
#include "frontend/tokenizer_build.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

static bool truth(const json_t *object, const char *key, bool otherwise) {
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static Piece text_of(Build *build, const json_t *value) {
    if (!json_is_string(value)) return (Piece){0};
    size_t length = json_string_length(value);
    return (Piece){arena_strndup(build->arena, json_string_value(value), length), (uint32_t)length};
}

// ---- vocabularies ------------------------------------------------------------------------------------------------------

static bool id_value(const json_t *value, uint32_t *id) {
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    *id = (uint32_t)n;
    return n >= 0 && n < 1 << 24;
}

static bool largest_added(Build *build, json_t *added, uint32_t *count) {
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token) {
        uint32_t id;
        if (!id_value(json_object_get(token, "id"), &id)) return build_fail(build, "added token %zu has no usable id", i);
        if (id >= *count) *count = id + 1;
    }
    return true;
}

static void set_piece(Build *build, uint32_t id, Piece piece) {
    build->pieces[id] = build->texts[id] = piece;
    build->kinds[id] = TOKENIZER_NORMAL;
}

static bool vocabulary_object(Build *build, json_t *vocab, json_t *added) {
    const char *key;
    json_t *value;
    uint32_t count = 0, id;
    json_object_foreach(vocab, key, value) {
        if (!id_value(value, &id)) return build_fail(build, "the token \"%.80s\" has no usable id", key);
        if (id >= count) count = id + 1;
    }
    if (!largest_added(build, added, &count) || !build_vocabulary(build, count)) return false;
    json_object_foreach(vocab, key, value) {
        id_value(value, &id);
        if (strlen(key) > 1 << 16) return build_fail(build, "token %u is longer than 65536 bytes", id);
        set_piece(build, id, piece_of(arena_strdup(build->arena, key)));
    }
    return true;
}

static bool vocabulary_array(Build *build, json_t *vocab, json_t *added) {
    uint32_t count = (uint32_t)json_array_size(vocab);
    if (!largest_added(build, added, &count) || !build_vocabulary(build, count)) return false;
    size_t i;
    json_t *item;
    double least = 0;
    json_array_foreach(vocab, i, item) {
        json_t *text = json_array_get(item, 0), *score = json_array_get(item, 1);
        if (!json_is_string(text) || !json_is_number(score) || json_string_length(text) > 1 << 16)
            return build_fail(build, "token %zu is not a text and a score", i);
        set_piece(build, (uint32_t)i, text_of(build, text));
        build->scores[i] = json_number_value(score);
        if (build->scores[i] < least) least = build->scores[i];
    }
    build->unk_score = least - 10;                          // an unknown character costs ten more than the rarest piece
    return true;
}

// ---- models --------------------------------------------------------------------------------------------------------------

static bool split_merge(Build *build, json_t *merge, Piece *a, Piece *b) {
    if (json_is_array(merge)) {
        *a = text_of(build, json_array_get(merge, 0));
        *b = text_of(build, json_array_get(merge, 1));
        return json_array_size(merge) == 2 && a->length && b->length;
    }
    Piece whole = text_of(build, merge);
    const char *space = whole.length > 1 ? memchr(whole.bytes, ' ', whole.length) : NULL;
    if (!space) return false;
    *a = (Piece){whole.bytes, (uint32_t)(space - whole.bytes)};
    *b = (Piece){space + 1, (uint32_t)(whole.bytes + whole.length - space - 1)};
    return a->length && b->length;
}

static bool read_bpe(Build *build, json_t *model) {
    size_t i;
    json_t *merge;
    build->model = TOKENIZER_BPE;
    build->prefix = text_of(build, json_object_get(model, "continuing_subword_prefix"));
    build->suffix = text_of(build, json_object_get(model, "end_of_word_suffix"));
    build->unk = build_find(build, text_of(build, json_object_get(model, "unk_token")));
    if (truth(model, "fuse_unk", false)) build->flags |= TOKENIZER_FUSE_UNK;
    if (truth(model, "ignore_merges", false)) build->flags |= TOKENIZER_WHOLE_WORDS;
    json_array_foreach(json_object_get(model, "merges"), i, merge) {
        Piece a, b;
        if (!split_merge(build, merge, &a, &b)) return build_fail(build, "merge %zu is not two pieces", i);
        uint32_t left = build_find(build, a), right = build_find(build, b),
                 drop = b.length > build->prefix.length ? build->prefix.length : 0;
        Piece rest = {b.bytes + drop, b.length - drop};
        uint32_t id = build_find(build, piece_join(build, a, rest, (Piece){0}));
        if (left == NO_ID || right == NO_ID || id == NO_ID)
            return build_fail(build, "merge %zu (\"%.*s\" and \"%.*s\") is not made of tokens", i, (int)(a.length < 40 ? a.length : 40),
                              a.bytes, (int)(b.length < 40 ? b.length : 40), b.bytes);
        build_merge(build, left, right, (uint32_t)i, id);
    }
    return true;
}

static bool read_unigram(Build *build, json_t *model) {
    build->model = TOKENIZER_UNIGRAM;
    build->flags |= TOKENIZER_FUSE_UNK;
    for (uint32_t id = 0; id < build->count; id++)
        if (!isfinite(build->scores[id])) return build_fail(build, "the score of token %u is no number", id);
    uint32_t unk;
    if (id_value(json_object_get(model, "unk_id"), &unk) && unk < build->count) build->unk = unk;
    return true;
}

static bool read_wordpiece(Build *build, json_t *model) {
    json_t *longest = json_object_get(model, "max_input_chars_per_word"), *prefix = json_object_get(model, "continuing_subword_prefix");
    build->model = TOKENIZER_WORDPIECE;
    build->prefix = json_is_string(prefix) ? text_of(build, prefix) : piece_of("##");
    build->longest_word = json_is_integer(longest) && json_integer_value(longest) >= 0 && json_integer_value(longest) < UINT32_MAX
                        ? (uint32_t)json_integer_value(longest) : 100;
    json_t *unk = json_object_get(model, "unk_token");
    build->unk = build_find(build, json_is_string(unk) ? text_of(build, unk) : piece_of("[UNK]"));
    return true;
}

static bool read_model(Build *build, json_t *model, json_t *added) {
    json_t *vocab = json_object_get(model, "vocab");
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!type)                                              // old files leave it out
        type = json_is_array(vocab) ? "Unigram" : json_object_get(model, "merges") ? "BPE"
             : json_object_get(model, "max_input_chars_per_word") ? "WordPiece" : "WordLevel";
    if (!json_is_object(vocab) && !json_is_array(vocab)) return build_fail(build, "the tokenizer's model has no vocabulary");
    if (json_is_object(vocab) ? !vocabulary_object(build, vocab, added) : !vocabulary_array(build, vocab, added)) return false;
    build_map(build);
    if (truth(model, "byte_fallback", false) && build_byte_fallback(build)) build->flags |= TOKENIZER_BYTE_FALLBACK;
    if (!strcmp(type, "BPE")) return read_bpe(build, model);
    if (!strcmp(type, "Unigram")) return read_unigram(build, model);
    if (!strcmp(type, "WordPiece")) return read_wordpiece(build, model);
    if (strcmp(type, "WordLevel"))
        return build_fail(build, "the tokenizer model \"%.40s\" is not supported (BPE, Unigram, WordPiece and WordLevel are)", type);
    build->model = TOKENIZER_WORDLEVEL;
    build->unk = build_find(build, text_of(build, json_object_get(model, "unk_token")));
    return true;
}

// ---- added tokens --------------------------------------------------------------------------------------------------------

static void lowercase_ascii(Build *build, Piece *piece) {
    char *lower = arena_strndup(build->arena, piece->bytes, piece->length);
    for (uint32_t i = 0; i < piece->length; i++)
        if (lower[i] >= 'A' && lower[i] <= 'Z') lower[i] = (char)(lower[i] + 32);
    piece->bytes = lower;
}

// A token that is looked for in normalized text is normalized itself: what the steps do to plain text is done here.
static Piece normalized(Build *build, Piece content) {
    for (int i = 0; i < build->normalizer_count; i++) {
        const TokenizerStep *step = &build->normalizers[i];
        Piece text = {build->strings.data + step->text.offset, step->text.length},
              by = {build->strings.data + step->by.offset, step->by.length};
        if (step->kind == TOKENIZER_LOWERCASE) lowercase_ascii(build, &content);
        else if (step->kind == TOKENIZER_PREPEND) content = piece_join(build, text, content, (Piece){0});
        else if (step->kind == TOKENIZER_REPLACE) content = piece_replace(build, content, text, by);
    }
    return content;
}

static bool read_added(Build *build, json_t *added) {
    static const struct {
        const char *name;
        uint32_t flag;
    } flags[] = {{"special", TOKENIZER_ADDED_SPECIAL},
                 {"lstrip", TOKENIZER_LSTRIP},
                 {"rstrip", TOKENIZER_RSTRIP},
                 {"single_word", TOKENIZER_SINGLE_WORD}};
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token) {
        Piece content = text_of(build, json_object_get(token, "content"));
        uint32_t id, set = 0;
        if (!content.bytes || content.length > 1 << 16) return build_fail(build, "added token %zu has no text, or an endless one", i);
        id_value(json_object_get(token, "id"), &id);
        for (size_t k = 0; k < COUNT_OF(flags); k++)
            if (truth(token, flags[k].name, false)) set |= flags[k].flag;
        bool is_normalized = truth(token, "normalized", !(set & TOKENIZER_ADDED_SPECIAL));
        if (is_normalized) content = normalized(build, content);
        Piece text = build->flags & TOKENIZER_BYTES ? content : build->texts[id];
        build_added(build, content, id, set, is_normalized);
        build->texts[id] = text;                            // as the decoder left it
    }
    return true;
}

bool build_from_json(Build *build, json_t *root) {
    json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    if (!json_is_object(model)) {
        build_fail(build, "is not a tokenizer.json: it has no \"model\"");
        return false;
    }
    if (!read_model(build, model, added) || !build_json_steps(build, root)) return false;
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token) {                   // tokens outside the model's vocabulary decode by the same rules
        Piece content = text_of(build, json_object_get(token, "content"));
        uint32_t id;
        id_value(json_object_get(token, "id"), &id);
        if (truth(token, "normalized", !truth(token, "special", false))) build->texts[id] = normalized(build, content);
        else if (build->kinds[id] == TOKENIZER_UNUSED) build->texts[id] = content;
    }
    if (!build_json_decoder(build, json_object_get(root, "decoder")) || !read_added(build, added)) return false;
    if (!build_json_post(build, json_object_get(root, "post_processor"))) return false;
    build_json_specials(build);
    return true;
}

// ---- special tokens, from the files beside it ------------------------------------------------------------------------------

static json_t *beside(Build *build, const char *name) {
    const char *slash = strrchr(build->path, '/');
    const char *path = arena_printf(build->arena, "%.*s%s", slash ? (int)(slash + 1 - build->path) : 0, build->path, name);
    if (access(path, R_OK)) return NULL;
    Diags *quiet = diags_new();                             // whoever needs these files for more reports what is wrong with them
    json_t *root = json_read_object(path, quiet);
    diags_free(quiet);
    return root;
}

static uint32_t token_id(Build *build, json_t *token) {
    if (json_is_object(token)) token = json_object_get(token, "content");
    Piece text = text_of(build, token);
    for (int i = 0; text.bytes && i < build->added_count; i++)
        if (build->added[i].content.length == text.length && !memcmp(build->added[i].content.bytes, text.bytes, text.length))
            return build->added[i].id;
    return build_find(build, text);
}

static void id_or_ids(Build *build, json_t *value) {
    uint32_t id;
    if (id_value(value, &id)) build_end(build, id);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (id_value(json_array_get(value, i), &id)) build_end(build, id);
}

void build_json_specials(Build *build) {
    static const char *const texts[] = {"tokenizer_config.json", "special_tokens_map.json"}, *const ids[] = {"generation_config.json",
                                                                                                             "config.json"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        json_t *root = beside(build, texts[i]);
        if (build->bos == NO_ID) build->bos = token_id(build, json_object_get(root, "bos_token"));
        if (build->eos == NO_ID) build->eos = token_id(build, json_object_get(root, "eos_token"));
        json_decref(root);
    }
    build_end(build, build->eos);
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        json_t *root = beside(build, ids[i]), *eos = json_object_get(root, "eos_token_id");
        uint32_t id, bos;
        id_or_ids(build, eos);
        if (build->eos == NO_ID && id_value(json_is_array(eos) ? json_array_get(eos, 0) : eos, &id) && id < build->count) build->eos = id;
        if (build->bos == NO_ID && id_value(json_object_get(root, "bos_token_id"), &bos) && bos < build->count) build->bos = bos;
        json_decref(root);
    }
    build_known_ends(build);
}
