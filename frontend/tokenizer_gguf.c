// Tokenizers of .gguf files. The metadata name a model ("gpt2", "llama", "bert", "t5") and, for byte-level BPE, a pre-tokenizer by name
// only: what each name means is the table below.
#include "frontend/tokenizer_build.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };
#define SPACE_MARK "\xE2\x96\x81"                                        // U+2581, sentencepiece's space

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LLAMA3_PATTERN                                                                                                                     \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2_PATTERN CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER_WORD "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define LOWER_WORD "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define CASED_REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

typedef struct {
    const char *names;                       // separated by spaces
    const char *patterns[4];                 // each a splitter that isolates its matches
    bool whole_words, nfc;
} PreTokenizer;

static const PreTokenizer pre_tokenizers[] = {
    {"gpt-2 gpt2 phi-2 mpt olmo roberta-bpe jina-es jina-de jina-v2-es jina-v2-de jina-v2-code gigachat jais trillion granite-docling "
     "exaone4",
     {BUILD_GPT2_PATTERN},
     false,
     false},
    {"smollm starcoder refact command-r codeshell exaone minerva-7b", {"\\p{N}", BUILD_GPT2_PATTERN}, false, false},
    {"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral dbrx smaug-bpe midm-2.0", {LLAMA3_PATTERN}, true, false},
    {"qwen2 stablelm2 deepseek-r1-qwen megrez hunyuan-dense", {QWEN2_PATTERN}, false, true},
    {"gpt-4o llama4 o200k", {UPPER_WORD CONTRACTIONS "?|" LOWER_WORD CONTRACTIONS "?|\\p{N}{1,3}" CASED_REST}, false, false},
    {"tekken", {UPPER_WORD "|" LOWER_WORD "|\\p{N}" CASED_REST}, true, false},
    {"deepseek-coder",
     {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+|\\p{N}"},
     false,
     false},
    {"deepseek-v3",
     {"\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*"
      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
     false,
     false},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", BUILD_GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
    {"falcon", {"[\\p{P}\\$\\+<=>\\^~\\|`]+", BUILD_GPT2_PATTERN, "[0-9][0-9][0-9]"}, false, false},
    {"bloom poro-chat gpt3-finnish",
     {" ?[^(\\s|.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C)]+"},
     false,
     false},
};

static bool listed(const char *names, const char *name) {
    size_t length = strlen(name);
    for (const char *p = names; length && (p = strstr(p, name)); p += length)
        if ((p == names || p[-1] == ' ') && (p[length] == ' ' || !p[length])) return true;
    return false;
}

static uint32_t id_of(const Build *build, const Gguf *gguf, const char *name) {
    double value;
    const char *key = arena_printf(build->arena, "tokenizer.ggml.%s_token_id", name);
    return gguf_number(gguf, key, &value) && value >= 0 && value < build->count ? (uint32_t)value : NO_ID;
}

static bool says(const Gguf *gguf, const char *key, bool otherwise) {
    double value;
    return gguf_number(gguf, key, &value) ? value != 0 : otherwise;
}

static bool read_vocabulary(Build *build, const Gguf *gguf) {
    int64_t count = gguf_array(gguf, "tokenizer.ggml.tokens");
    if (count < 0) return build_fail(build, "has no tokenizer (tokenizer.ggml.tokens)");
    if (count > UINT32_MAX || !build_vocabulary(build, (uint32_t)count)) return false;
    for (uint32_t id = 0; id < build->count; id++) {
        size_t length;
        const char *text = gguf_array_string(gguf, "tokenizer.ggml.tokens", id, &length);
        double type = TYPE_NORMAL, score = 0;
        if (!text || length > 1 << 16) return build_fail(build, "token %u is no text, or an endless one", id);
        gguf_array_number(gguf, "tokenizer.ggml.token_type", id, &type);
        gguf_array_number(gguf, "tokenizer.ggml.scores", id, &score);
        Piece piece = {arena_strndup(build->arena, text, length), (uint32_t)length};
        build->pieces[id] = build->texts[id] = piece;
        build->scores[id] = score;
        build->kinds[id] = type == TYPE_UNUSED ? TOKENIZER_UNUSED : TOKENIZER_NORMAL;
        if (type == TYPE_CONTROL || type == TYPE_UNKNOWN) build_added(build, piece, id, TOKENIZER_ADDED_SPECIAL, false);
        else if (type == TYPE_USER) build_added(build, piece, id, 0, false);
    }
    build_map(build);
    build->unk = id_of(build, gguf, "unknown");
    build->bos = id_of(build, gguf, "bos");
    build->eos = id_of(build, gguf, "eos");
    return true;
}

// ---- byte-level BPE ----------------------------------------------------------------------------------------------------

static bool read_merges(Build *build, const Gguf *gguf) {
    int64_t count = gguf_array(gguf, "tokenizer.ggml.merges");
    if (count < 0) return build_fail(build, "has no merges (tokenizer.ggml.merges)");
    for (int64_t i = 0; i < count; i++) {
        size_t length;
        const char *merge = gguf_array_string(gguf, "tokenizer.ggml.merges", i, &length);
        const char *space = merge && length > 1 ? memchr(merge + 1, ' ', length - 1) : NULL;
        if (!space) return build_fail(build, "merge %lld is not two pieces", (long long)i);
        Piece a = {merge, (uint32_t)(space - merge)}, b = {space + 1, (uint32_t)(merge + length - space - 1)};
        uint32_t left = build_find(build, a), right = build_find(build, b), id = build_find(build, piece_join(build, a, b, (Piece){0}));
        if (left != NO_ID && right != NO_ID && id != NO_ID) build_merge(build, left, right, (uint32_t)i, id);
    }
    return true;
}

static bool read_pre_tokenizer(Build *build, const Gguf *gguf) {
    size_t length;
    const char *text = gguf_string(gguf, "tokenizer.ggml.pre", &length);
    if (!text) return build_fail(build, "does not say which pre-tokenizer it wants (tokenizer.ggml.pre)");
    const char *name = arena_strndup(build->arena, text, length);
    const PreTokenizer *pre = NULL;
    for (size_t i = 0; i < COUNT_OF(pre_tokenizers) && !pre; i++)
        if (listed(pre_tokenizers[i].names, name)) pre = &pre_tokenizers[i];
    if (!pre) {
        build_fail(build, "the pre-tokenizer \"%s\" is not supported", name);
        diag(build->diags, DIAG_HINT, NOWHERE, "use the model's tokenizer.json: it spells its pre-tokenizer out");
        return false;
    }
    if (pre->nfc) build_normalizer(build, TOKENIZER_NFC);
    if (says(gguf, "tokenizer.ggml.add_space_prefix", false))
        build_splitter(build, TOKENIZER_PREFIX_SPACE)->text = build_string(build, piece_of(" "));
    for (size_t i = 0; i < COUNT_OF(pre->patterns) && pre->patterns[i]; i++)
        if (!build_split(build, pre->patterns[i], TOKENIZER_ISOLATED)) return false;
    if (pre->whole_words) build->flags |= TOKENIZER_WHOLE_WORDS;
    return true;
}

static bool read_gpt2(Build *build, const Gguf *gguf) {
    build->model = TOKENIZER_BPE;
    if (!read_merges(build, gguf) || !read_pre_tokenizer(build, gguf)) return false;
    build_byte_level(build);
    build->unk = NO_ID;                                                  // every byte has a token
    return true;
}

// ---- sentencepiece -------------------------------------------------------------------------------------------------------

static int compare_doubles_down(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static uint32_t rank_of(const double *sorted, uint32_t count, double score) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sorted[middle] > score) low = middle + 1;
        else high = middle;
    }
    return low;
}

// sentencepiece merges the neighbours whose union has the best score: so every way to cut a piece in two is a merge with that score's rank.
static void merges_from_scores(Build *build) {
    double *sorted = arena_copy(build->arena, build->scores, build->count * sizeof *sorted);
    qsort(sorted, build->count, sizeof *sorted, compare_doubles_down);
    for (uint32_t id = 0; id < build->count; id++) {
        Piece piece = build->pieces[id];
        uint32_t rank = rank_of(sorted, build->count, build->scores[id]);
        for (uint32_t cut = 1; cut < piece.length && cut < 256; cut++) {
            if (((unsigned char)piece.bytes[cut] & 0xC0) == 0x80) continue;
            uint32_t left = build_find(build, (Piece){piece.bytes, cut});
            if (left == NO_ID) continue;
            uint32_t right = build_find(build, (Piece){piece.bytes + cut, piece.length - cut});
            if (right != NO_ID) build_merge(build, left, right, rank, id);
        }
    }
}

static void add_replace(Build *build, const char *text, const char *by) {
    TokenizerStep *step = build_normalizer(build, TOKENIZER_REPLACE);
    step->text = build_string(build, piece_of(text));
    step->by = build_string(build, piece_of(by));
}

static void spaces_in_texts(Build *build) {
    for (uint32_t id = 0; id < build->count; id++)
        if (build->kinds[id] == TOKENIZER_NORMAL)
            build->texts[id] = piece_replace(build, build->texts[id], piece_of(SPACE_MARK), piece_of(" "));
}

// What normalization takes out of the text cannot be a piece of it: control tokens, byte tokens, unused ones.
static void hide_reserved(Build *build) {
    for (uint32_t id = 0; id < build->count; id++)
        if (build->kinds[id] == TOKENIZER_SPECIAL || build->kinds[id] == TOKENIZER_UNUSED) build->pieces[id] = (Piece){0};
    for (int byte = 0; byte < 256; byte++)
        if (build->byte_ids[byte] != NO_ID) build->pieces[build->byte_ids[byte]] = (Piece){0};
}

static bool read_llama(Build *build, const Gguf *gguf) {
    build->model = TOKENIZER_BPE;
    build->flags |= TOKENIZER_FUSE_UNK;
    spaces_in_texts(build);
    if (build_byte_fallback(build)) build->flags |= TOKENIZER_BYTE_FALLBACK;
    hide_reserved(build);
    merges_from_scores(build);
    if (says(gguf, "tokenizer.ggml.add_space_prefix", true)) {
        build_normalizer(build, TOKENIZER_PREPEND)->text = build_string(build, piece_of(SPACE_MARK));
        build->flags |= TOKENIZER_DROP_SPACE;
    }
    add_replace(build, " ", SPACE_MARK);
    return true;
}

static bool read_charsmap(Build *build, const Gguf *gguf) {
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    int64_t count = gguf_array(gguf, key);
    if (count <= 4) return true;
    if (count > 1 << 24) return build_fail(build, "the character map is larger than 16 MB");
    char *bytes = arena_alloc(build->arena, (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        double value;
        if (!gguf_array_number(gguf, key, i, &value)) return build_fail(build, "the character map is not made of bytes");
        bytes[i] = (char)(unsigned char)(int)value;
    }
    build->charsmap = (Piece){bytes, (uint32_t)count};
    build_normalizer(build, TOKENIZER_MAP_LONGEST);
    return true;
}

static bool read_t5(Build *build, const Gguf *gguf) {
    build->model = TOKENIZER_UNIGRAM;
    build->flags |= TOKENIZER_FUSE_UNK | TOKENIZER_DROP_SPACE;
    double least = 0;
    for (uint32_t id = 0; id < build->count; id++) {
        if (!isfinite(build->scores[id])) return build_fail(build, "the score of token %u is no number", id);
        if (build->kinds[id] == TOKENIZER_NORMAL && build->scores[id] < least) least = build->scores[id];
    }
    build->unk_score = least - 10;
    if (!read_charsmap(build, gguf)) return false;
    if (says(gguf, "tokenizer.ggml.remove_extra_whitespaces", true)) {
        build_normalizer(build, TOKENIZER_STRIP)->flags = 3;
        int regex = build_regex(build, " {2,}", 5);
        if (regex < 0) return false;
        TokenizerStep *step = build_normalizer(build, TOKENIZER_REPLACE_REGEX);
        step->regex = (uint32_t)regex;
        step->by = build_string(build, piece_of(" "));
    }
    if (says(gguf, "tokenizer.ggml.add_space_prefix", true))
        build_normalizer(build, TOKENIZER_PREPEND)->text = build_string(build, piece_of(SPACE_MARK));
    add_replace(build, " ", SPACE_MARK);
    spaces_in_texts(build);
    if (build_byte_fallback(build)) build->flags |= TOKENIZER_BYTE_FALLBACK;
    hide_reserved(build);
    return true;
}

// ---- WordPiece -----------------------------------------------------------------------------------------------------------

// Pieces that begin a word are written with sentencepiece's mark, the others without: back to ## for what goes on.
static bool read_bert(Build *build) {
    static const TokenizerStepKind steps[] = {TOKENIZER_CLEAN, TOKENIZER_SPACE_CHINESE, TOKENIZER_NFD, TOKENIZER_STRIP_ACCENTS,
                                              TOKENIZER_LOWERCASE};
    build->model = TOKENIZER_WORDPIECE;
    build->prefix = piece_of("##");
    build->longest_word = 100;
    Piece mark = piece_of(SPACE_MARK);
    for (uint32_t id = 0; id < build->count; id++) {
        Piece piece = build->pieces[id];
        if (build->kinds[id] != TOKENIZER_NORMAL) continue;
        bool begins = piece.length > mark.length && !memcmp(piece.bytes, mark.bytes, mark.length);
        if (begins) piece = (Piece){piece.bytes + mark.length, piece.length - mark.length};
        build->texts[id] = build->pieces[id] = begins ? piece : piece_join(build, build->prefix, piece, (Piece){0});
    }
    build_wordpiece_texts(build, build->prefix, true);
    hide_reserved(build);
    for (size_t i = 0; i < COUNT_OF(steps); i++) build_normalizer(build, steps[i]);
    return build_split(build, "\\s", TOKENIZER_REMOVED) && build_split(build, "[!-/:-@\\[-`{-~\\p{P}]", TOKENIZER_ISOLATED);
}

// ---- what surrounds a text -----------------------------------------------------------------------------------------------

static void read_surroundings(Build *build, const Gguf *gguf, const char *model) {
    bool bert = !strcmp(model, "bert"), bos = bert || !strcmp(model, "llama"), eos = bert || !strcmp(model, "t5");
    size_t length;
    const char *pre = gguf_string(gguf, "tokenizer.ggml.pre", &length);
    if (pre && !strcmp(model, "gpt2")) bos = listed("llama-bpe llama3 llama-v3 tekken pixtral", arena_strndup(build->arena, pre, length));
    uint32_t begin = build->bos, end = build->eos;
    if (bert) {
        begin = id_of(build, gguf, "cls") != NO_ID ? id_of(build, gguf, "cls") : begin;
        end = id_of(build, gguf, "seperator") != NO_ID ? id_of(build, gguf, "seperator") : id_of(build, gguf, "separator");
    }
    if (says(gguf, "tokenizer.ggml.add_bos_token", bos) && begin != NO_ID)
        ARENA_PUSH(build->arena, build->before, build->before_count, build->before_capacity) = begin;
    if (says(gguf, "tokenizer.ggml.add_eos_token", eos) && end != NO_ID)
        ARENA_PUSH(build->arena, build->after, build->after_count, build->after_capacity) = end;
    build_end(build, build->eos);
    build_end(build, id_of(build, gguf, "eot"));
    build_end(build, id_of(build, gguf, "eom"));
    build_known_ends(build);
}

bool build_from_gguf(Build *build, const Gguf *gguf) {
    size_t length;
    const char *text = gguf_string(gguf, "tokenizer.ggml.model", &length);
    if (!text) return build_fail(build, "has no tokenizer (tokenizer.ggml.model)");
    const char *model = arena_strndup(build->arena, text, length);
    if (!read_vocabulary(build, gguf)) return false;
    bool done;
    if (!strcmp(model, "gpt2")) done = read_gpt2(build, gguf);
    else if (!strcmp(model, "llama")) done = read_llama(build, gguf);
    else if (!strcmp(model, "t5")) done = read_t5(build, gguf);
    else if (!strcmp(model, "bert")) done = read_bert(build);
    else return build_fail(build, "the tokenizer \"%s\" is not supported (gpt2, llama, t5 and bert are)", model);
    if (done) read_surroundings(build, gguf, model);
    return done;
}
