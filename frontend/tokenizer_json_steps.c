// tokenizer.json, around the model: normalizers and pre-tokenizers become steps, most of them splits at a regex; decoders are applied to
// the vocabulary once, so that decoding is only concatenation; post-processors become the ids before and after a text.
#include "frontend/tokenizer_build.h"

#include <string.h>

enum { MOST_NESTING = 8, MOST_STEPS = 64 };
#define PUNCTUATION "[!-/:-@\\[-`{-~\\p{P}]"

static bool truth(const json_t *object, const char *key, bool otherwise) {
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static const char *string_at(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }

static Piece piece_at(const json_t *object, const char *key, const char *otherwise) {
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? (Piece){json_string_value(value), (uint32_t)json_string_length(value)} : piece_of(otherwise);
}

static const char *type_of(const json_t *object) {
    const char *type = string_at(object, "type");
    return type ? type : "";
}

// {"String": …} or {"Regex": …}
static bool pattern_of(Build *build, json_t *pattern, Piece *literal, int *regex) {
    const char *text = string_at(pattern, "String");
    *regex = -1;
    *literal = (Piece){0};
    if (text) {
        *literal = piece_at(pattern, "String", "");
        return literal->length || build_fail(build, "the tokenizer looks for an empty text");
    }
    text = string_at(pattern, "Regex");
    if (!text) return build_fail(build, "the tokenizer has a pattern that is neither a String nor a Regex");
    *regex = build_regex(build, text, strlen(text));
    return *regex >= 0;
}

// ---- normalizers -----------------------------------------------------------------------------------------------------

static bool base64(Build *build, const char *text, size_t length, Piece *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *bytes = arena_alloc(build->arena, length + 1);
    uint32_t bits = 0, count = 0;
    int held = 0;
    for (size_t i = 0; i < length && text[i] != '='; i++) {
        const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
        if (!digit) return false;
        bits = bits << 6 | (uint32_t)(digit - digits);
        held += 6;
        if (held < 8) continue;
        held -= 8;
        bytes[count++] = (char)(bits >> held & 0xFF);
    }
    *out = (Piece){bytes, count};
    return true;
}

static bool read_charsmap(Build *build, json_t *step) {
    json_t *map = json_object_get(step, "precompiled_charsmap");
    if (json_is_null(map) || (json_is_string(map) && !json_string_length(map))) return true;
    if (build->charsmap.bytes) return build_fail(build, "two precompiled character maps are not supported");
    uint32_t array;
    if (!json_is_string(map) || !base64(build, json_string_value(map), json_string_length(map), &build->charsmap) ||
        build->charsmap.length < 4)
        return build_fail(build, "the precompiled character map is damaged");
    memcpy(&array, build->charsmap.bytes, 4);
    if (array % 4 || array > build->charsmap.length - 4) return build_fail(build, "the precompiled character map is damaged");
    build_normalizer(build, TOKENIZER_MAP_GRAPHEMES);
    return true;
}

static bool read_replace(Build *build, json_t *step) {
    Piece literal;
    int regex;
    if (!pattern_of(build, json_object_get(step, "pattern"), &literal, &regex)) return false;
    TokenizerStep *made = build_normalizer(build, regex < 0 ? TOKENIZER_REPLACE : TOKENIZER_REPLACE_REGEX);
    made->regex = (uint32_t)regex;
    made->text = build_string(build, literal);
    made->by = build_string(build, piece_at(step, "content", ""));
    return true;
}

static void read_bert_normalizer(Build *build, json_t *step) {
    bool lower = truth(step, "lowercase", true);
    if (truth(step, "clean_text", true)) build_normalizer(build, TOKENIZER_CLEAN);
    if (truth(step, "handle_chinese_chars", true)) build_normalizer(build, TOKENIZER_SPACE_CHINESE);
    if (truth(step, "strip_accents", lower)) {
        build_normalizer(build, TOKENIZER_NFD);
        build_normalizer(build, TOKENIZER_STRIP_ACCENTS);
    }
    if (lower) build_normalizer(build, TOKENIZER_LOWERCASE);
}

static bool read_normalizer(Build *build, json_t *step, int depth) {
    static const struct {
        const char *name;
        TokenizerStepKind kind;
    } plain[] = {{"NFC", TOKENIZER_NFC},
                 {"NFD", TOKENIZER_NFD},
                 {"NFKC", TOKENIZER_NFKC},
                 {"NFKD", TOKENIZER_NFKD},
                 {"Lowercase", TOKENIZER_LOWERCASE},
                 {"StripAccents", TOKENIZER_STRIP_ACCENTS},
                 {"Nmt", TOKENIZER_NMT}};
    if (!step || json_is_null(step)) return true;
    const char *type = type_of(step);
    if (depth > MOST_NESTING || build->normalizer_count > MOST_STEPS - 8)
        return build_fail(build, "the tokenizer has too many normalizers");
    for (size_t i = 0; i < COUNT_OF(plain); i++)
        if (!strcmp(type, plain[i].name)) {
            build_normalizer(build, plain[i].kind)->flags = plain[i].kind == TOKENIZER_STRIP_ACCENTS;
            return true;
        }
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(step, "normalizers"), i, item)
            if (!read_normalizer(build, item, depth + 1)) return false;
        return true;
    }
    if (!strcmp(type, "Replace")) return read_replace(build, step);
    if (!strcmp(type, "Precompiled")) return read_charsmap(build, step);
    if (!strcmp(type, "Prepend")) build_normalizer(build, TOKENIZER_PREPEND)->text = build_string(build, piece_at(step, "prepend", ""));
    else if (!strcmp(type, "Strip"))
        build_normalizer(build, TOKENIZER_STRIP)->flags = truth(step, "strip_left", true) + 2u * truth(step, "strip_right", true);
    else if (!strcmp(type, "BertNormalizer")) read_bert_normalizer(build, step);
    else if (!strcmp(type, "ByteLevel")) build->flags |= TOKENIZER_BYTES;
    else return build_fail(build, "the normalizer \"%.40s\" is not supported", type);
    return true;
}

// ---- pre-tokenizers ----------------------------------------------------------------------------------------------------

static bool behaviour_of(Build *build, json_t *step, const char *otherwise, uint32_t *flags) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = string_at(step, "behavior");
    if (!name) name = otherwise;
    for (uint32_t i = 0; i < COUNT_OF(names); i++)
        if (!strcmp(name, names[i])) {
            *flags = i | (truth(step, "invert", false) ? TOKENIZER_INVERT : 0);
            return true;
        }
    return build_fail(build, "the split behavior \"%.40s\" is not supported", name);
}

static bool read_split(Build *build, json_t *step) {
    Piece literal;
    int regex;
    uint32_t flags;
    if (!behaviour_of(build, step, "", &flags) || !pattern_of(build, json_object_get(step, "pattern"), &literal, &regex)) return false;
    TokenizerStep *made = build_splitter(build, regex < 0 ? TOKENIZER_SPLIT_TEXT : TOKENIZER_SPLIT);
    made->flags = flags;
    made->regex = (uint32_t)regex;
    made->text = build_string(build, literal);
    return true;
}

static bool read_metaspace(Build *build, json_t *step) {
    const char *scheme = string_at(step, "prepend_scheme");
    Piece mark = piece_at(step, "replacement", "\xE2\x96\x81");
    if (!scheme) scheme = truth(step, "add_prefix_space", true) ? "always" : "never";
    if (strcmp(scheme, "always") && strcmp(scheme, "first") && strcmp(scheme, "never"))
        return build_fail(build, "the prepend scheme \"%.40s\" is not supported", scheme);
    build_splitter(build, TOKENIZER_SPACE_TO)->by = build_string(build, mark);
    if (strcmp(scheme, "never")) {
        TokenizerStep *prefix = build_splitter(build, TOKENIZER_PREFIX_SPACE);
        prefix->text = build_string(build, mark);
        prefix->flags = !strcmp(scheme, "first");
    }
    if (!truth(step, "split", true)) return true;
    TokenizerStep *split = build_splitter(build, TOKENIZER_SPLIT_TEXT);
    split->text = build_string(build, mark);
    split->flags = TOKENIZER_WITH_NEXT;
    return true;
}

static bool read_byte_level(Build *build, json_t *step) {
    if (truth(step, "add_prefix_space", true)) build_splitter(build, TOKENIZER_PREFIX_SPACE)->text = build_string(build, piece_of(" "));
    build->flags |= TOKENIZER_BYTES;
    return !truth(step, "use_regex", true) || build_split(build, BUILD_GPT2_PATTERN, TOKENIZER_ISOLATED);
}

static bool read_fixed_length(Build *build, json_t *step) {
    json_t *length = json_object_get(step, "length");
    json_int_t n = json_is_integer(length) ? json_integer_value(length) : 5;
    if (n < 1 || n > 1000) return build_fail(build, "words of the fixed length %lld are not supported", (long long)n);
    return build_split(build, arena_printf(build->arena, "(?m:.{1,%d})", (int)n), TOKENIZER_ISOLATED);
}

static bool read_pre_tokenizer(Build *build, json_t *step, int depth) {
    if (!step || json_is_null(step)) return true;
    const char *type = type_of(step);
    uint32_t flags;
    if (depth > MOST_NESTING || build->splitter_count > MOST_STEPS - 8)
        return build_fail(build, "the tokenizer has too many pre-tokenizers");
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(step, "pretokenizers"), i, item)
            if (!read_pre_tokenizer(build, item, depth + 1)) return false;
        return true;
    }
    if (build->flags & TOKENIZER_BYTES) return build_fail(build, "the pre-tokenizer \"%.40s\" after ByteLevel is not supported", type);
    if (!strcmp(type, "ByteLevel")) return read_byte_level(build, step);
    if (!strcmp(type, "Split")) return read_split(build, step);
    if (!strcmp(type, "Metaspace")) return read_metaspace(build, step);
    if (!strcmp(type, "Whitespace"))
        return build_split(build, "[\\p{Word}\\x{200C}\\x{200D}]+|[^\\p{Word}\\s\\x{200C}\\x{200D}]+", TOKENIZER_REMOVED | TOKENIZER_INVERT);
    if (!strcmp(type, "WhitespaceSplit")) return build_split(build, "\\s", TOKENIZER_REMOVED);
    if (!strcmp(type, "BertPreTokenizer"))
        return build_split(build, "\\s", TOKENIZER_REMOVED) && build_split(build, PUNCTUATION, TOKENIZER_ISOLATED);
    if (!strcmp(type, "Digits"))
        return build_split(build, "\\p{N}", truth(step, "individual_digits", false) ? TOKENIZER_ISOLATED : TOKENIZER_CONTIGUOUS);
    if (!strcmp(type, "Punctuation")) return behaviour_of(build, step, "Isolated", &flags) && build_split(build, PUNCTUATION, flags);
    if (!strcmp(type, "FixedLength")) return read_fixed_length(build, step);
    if (strcmp(type, "CharDelimiterSplit")) return build_fail(build, "the pre-tokenizer \"%.40s\" is not supported", type);
    Piece delimiter = piece_at(step, "delimiter", "");
    if (!delimiter.length) return build_fail(build, "the pre-tokenizer CharDelimiterSplit has no delimiter");
    build_splitter(build, TOKENIZER_SPLIT_TEXT)->text = build_string(build, delimiter);
    return true;
}

bool build_json_steps(Build *build, json_t *root) {
    if (!read_normalizer(build, json_object_get(root, "normalizer"), 0)) return false;
    bool bytes_already = build->flags & TOKENIZER_BYTES;
    json_t *pre = json_object_get(root, "pre_tokenizer");
    if (bytes_already && pre && !json_is_null(pre))
        return build_fail(build, "a pre-tokenizer after the normalizer ByteLevel is not supported");
    if (!read_pre_tokenizer(build, pre, 0)) return false;
    if (build->flags & TOKENIZER_BYTES) build_byte_level(build);
    return true;
}

// ---- decoders ------------------------------------------------------------------------------------------------------------

static bool has_text(const Build *build, uint32_t id) { return build->texts[id].length > 0; }

static void decode_replace(Build *build, Piece from, Piece by) {
    for (uint32_t id = 0; id < build->count; id++)
        if (has_text(build, id)) build->texts[id] = piece_replace(build, build->texts[id], from, by);
}

// The words of a WordPiece text are put apart by spaces; its cleanup takes some of them away again.
void build_wordpiece_texts(Build *build, Piece prefix, bool cleanup) {
    static const char *const joined[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
    for (uint32_t id = 0; id < build->count; id++) {
        Piece text = build->texts[id];
        if (!has_text(build, id)) continue;
        if (prefix.length && text.length >= prefix.length && !memcmp(text.bytes, prefix.bytes, prefix.length)) {
            build->texts[id] = (Piece){text.bytes + prefix.length, text.length - prefix.length};
            continue;
        }
        text = piece_join(build, piece_of(" "), text, (Piece){0});
        if (cleanup)
            for (size_t i = 0; i < COUNT_OF(joined); i++)
                text = piece_replace(build, text, piece_of(arena_printf(build->arena, " %s", joined[i])), piece_of(joined[i]));
        build->texts[id] = text;
    }
    build->flags |= TOKENIZER_DROP_SPACE;
}

static bool decode_strip(Build *build, json_t *decoder) {
    json_t *start = json_object_get(decoder, "start"), *stop = json_object_get(decoder, "stop");
    if (json_integer_value(start) == 0 && json_integer_value(stop) == 0) return true;
    if (!piece_is(piece_at(decoder, "content", ""), " ") || json_integer_value(start) != 1 || json_integer_value(stop) != 0)
        return build_fail(build, "the decoder Strip is supported for one space at the start only");
    build->flags |= TOKENIZER_DROP_SPACE;
    return true;
}

static void decode_metaspace(Build *build, json_t *decoder) {
    const char *scheme = string_at(decoder, "prepend_scheme");
    decode_replace(build, piece_at(decoder, "replacement", "\xE2\x96\x81"), piece_of(" "));
    if (scheme ? strcmp(scheme, "never") != 0 : truth(decoder, "add_prefix_space", true)) build->flags |= TOKENIZER_DROP_SPACES;
}

static bool read_decoder(Build *build, json_t *decoder, int depth) {
    const char *type = type_of(decoder);
    if (depth > MOST_NESTING) return build_fail(build, "the tokenizer's decoders are nested too deeply");
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(decoder, "decoders"), i, item)
            if (!read_decoder(build, item, depth + 1)) return false;
        return true;
    }
    if (!strcmp(type, "Fuse") || !strcmp(type, "ByteLevel")) return true;
    if (!strcmp(type, "Strip")) return decode_strip(build, decoder);
    if (!strcmp(type, "ByteFallback")) {
        build_byte_fallback(build);
    } else if (!strcmp(type, "Metaspace")) {
        decode_metaspace(build, decoder);
    } else if (!strcmp(type, "WordPiece")) {
        build_wordpiece_texts(build, piece_at(decoder, "prefix", "##"), truth(decoder, "cleanup", true));
    } else if (!strcmp(type, "BPEDecoder")) {
        decode_replace(build, piece_at(decoder, "suffix", "</w>"), piece_of(" "));
    } else if (!strcmp(type, "Replace") && string_at(json_object_get(decoder, "pattern"), "String")) {
        decode_replace(build, piece_at(json_object_get(decoder, "pattern"), "String", ""), piece_at(decoder, "content", ""));
    } else {
        return build_fail(build, "the decoder \"%.40s\" is not supported", type);
    }
    return true;
}

bool build_json_decoder(Build *build, json_t *decoder) {
    if (decoder && !json_is_null(decoder)) return read_decoder(build, decoder, 0);
    if (!(build->flags & TOKENIZER_BYTES))
        build_wordpiece_texts(build, (Piece){0}, false); // without a decoder, tokens are joined by spaces
    return true;
}

// ---- post-processors -----------------------------------------------------------------------------------------------------

static bool add_surrounding(Build *build, json_t *id, bool before) {
    json_int_t n = json_is_integer(id) ? json_integer_value(id) : -1;
    if (n < 0 || n >= build->count) return build_fail(build, "the post-processor names a token that does not exist");
    if (before) ARENA_PUSH(build->arena, build->before, build->before_count, build->before_capacity) = (uint32_t)n;
    else ARENA_PUSH(build->arena, build->after, build->after_count, build->after_capacity) = (uint32_t)n;
    return true;
}

static bool read_template(Build *build, json_t *post) {
    json_t *specials = json_object_get(post, "special_tokens"), *item;
    size_t i, k;
    bool before = true;
    json_array_foreach(json_object_get(post, "single"), i, item) {
        const char *special = string_at(json_object_get(item, "SpecialToken"), "id");
        if (json_object_get(item, "Sequence")) {
            if (!before) return build_fail(build, "a post-processor that repeats the text is not supported");
            before = false;
            continue;
        }
        json_t *ids = json_object_get(special ? json_object_get(specials, special) : NULL, "ids"), *id;
        if (!json_is_array(ids)) return build_fail(build, "the post-processor names a token that does not exist");
        json_array_foreach(ids, k, id)
            if (!add_surrounding(build, id, before)) return false;
    }
    return true;
}

static bool read_post(Build *build, json_t *post, int depth) {
    if (!post || json_is_null(post)) return true;
    const char *type = type_of(post);
    if (depth > MOST_NESTING) return build_fail(build, "the tokenizer's post-processors are nested too deeply");
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(post, "processors"), i, item)
            if (!read_post(build, item, depth + 1)) return false;
        return true;
    }
    if (!strcmp(type, "ByteLevel")) return true;                                             // it only moves offsets
    if (!strcmp(type, "TemplateProcessing")) return read_template(build, post);
    if (strcmp(type, "BertProcessing") && strcmp(type, "RobertaProcessing"))
        return build_fail(build, "the post-processor \"%.40s\" is not supported", type);
    return add_surrounding(build, json_array_get(json_object_get(post, "cls"), 1), true)
        && add_surrounding(build, json_array_get(json_object_get(post, "sep"), 1), false);
}

bool build_json_post(Build *build, json_t *post) { return read_post(build, post, 0); }
