// Inside tokenizer import: a tokenizer under construction, filled from a tokenizer.json or a .gguf, then packed into SECTION_TOKENIZER's
// bytes.
#ifndef TENON_FRONTEND_TOKENIZER_BUILD_H
#define TENON_FRONTEND_TOKENIZER_BUILD_H

#include "frontend/json.h"
#include "runtime/tokenizer_format.h"

#define NO_ID TOKENIZER_NONE

typedef struct { const char *bytes; uint32_t length; } Piece;
typedef struct { Piece piece; uint32_t id; } Entry;
typedef struct { Piece content; uint32_t id, flags; bool normalized; } Added;
typedef struct { uint32_t left; TokenizerMerge merge; } BuildMerge;

typedef struct {
    Arena *arena;
    Diags *diags;
    const char *path;

    TokenizerModel model;
    uint32_t flags, unk, bos, eos, longest_word;
    double unk_score;
    Piece prefix, suffix;
    uint32_t count;                                   // ids
    Piece *pieces;                                    // [count]: what the model matches; no bytes: nothing
    Piece *texts;                                     // [count]: what it decodes to
    uint8_t *kinds;                                   // [count]
    double *scores;                                   // [count], Unigram and sentencepiece BPE
    uint32_t byte_ids[256];
    BuildMerge *merges; int merge_count, merge_capacity;
    Added *added; int added_count, added_capacity;
    TokenizerStep *normalizers; int normalizer_count, normalizer_capacity;
    TokenizerStep *splitters; int splitter_count, splitter_capacity;
    TokenizerRegex *regexes; int regex_count, regex_capacity;
    uint32_t *code; int code_count, code_capacity;
    TokenizerClass *classes; int class_count, class_capacity;
    uint32_t *ranges; int range_count, range_capacity;                 // words: two a range
    Text strings;
    Piece charsmap;
    uint32_t *before, *after, *ends;                  // prefix and suffix ids; ends of generation
    int before_count, before_capacity, after_count, after_capacity, end_count, end_capacity;

    Entry *map; uint32_t map_size;                    // piece to id, open addressing
} Build;

bool build_fail(Build *build, const char *format, ...) PRINTF_LIKE(2, 3);            // an error about the file; false

Piece piece_of(const char *text);
bool piece_is(Piece piece, const char *text);
Piece piece_join(Build *build, Piece a, Piece b, Piece c);
Piece piece_replace(Build *build, Piece piece, Piece from, Piece by);

// The vocabulary: room for ids 0 … count-1, then one piece an id. False when there are too many.
bool build_vocabulary(Build *build, uint32_t count);
void build_map(Build *build);                                                        // after all pieces are there
uint32_t build_find(const Build *build, Piece piece);
void build_merge(Build *build, uint32_t left, uint32_t right, uint32_t rank, uint32_t id);
void build_added(Build *build, Piece content, uint32_t id, uint32_t flags, bool normalized);   // marks the id's kind too
void build_end(Build *build, uint32_t id);                                           // once each; NO_ID is passed over

TokenizerString build_string(Build *build, Piece piece);
TokenizerStep *build_normalizer(Build *build, TokenizerStepKind kind);
TokenizerStep *build_splitter(Build *build, TokenizerStepKind kind);
bool build_split(Build *build, const char *regex, uint32_t flags);                   // a splitter at a regex
#define BUILD_GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

// Compiles a regular expression; its index, or -1 with an error.
int build_regex(Build *build, const char *pattern, size_t length);

// Byte-level vocabularies spell bytes in an alphabet of printable characters. False when the piece has others: it is then left as it is.
bool byte_level_decode(Build *build, Piece piece, Piece *bytes);
// Pieces and texts of normal tokens into bytes; byte_ids from the pieces of one byte.
void build_byte_level(Build *build);
// byte_ids from the tokens <0x00> … <0xFF>, whose text becomes the byte.
bool build_byte_fallback(Build *build);
// Texts of WordPiece: words put apart by spaces, pieces with the prefix joined to what is before them.
void build_wordpiece_texts(Build *build, Piece prefix, bool cleanup);
// Ends of generation known by their names, among special tokens.
void build_known_ends(Build *build);

bool build_from_json(Build *build, json_t *root);
bool build_json_steps(Build *build, json_t *root);                                   // normalizer and pre_tokenizer
bool build_json_decoder(Build *build, json_t *decoder);
bool build_json_post(Build *build, json_t *post);
void build_json_specials(Build *build);                                              // eos and bos from the files beside it
bool build_from_gguf(Build *build, const Gguf *gguf);

bool build_pack(Build *build, Text *out);

#endif
