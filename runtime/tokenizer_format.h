// The bytes of SECTION_TOKENIZER: written by the compiler's front end, read in place by the run time.
//
// A text becomes ids in four stages, each of them data: added tokens are cut out; the rest is normalized by a list of steps, cut into words
// by another list of steps, and each word is given to the model (BPE, Unigram, WordPiece, WordLevel). All family lore (which regex, which
// normalizer) is resolved when the bytes are written: here are only tries, tables and small programs. Little-endian, every part aligned
// to 8.
#ifndef TENON_RUNTIME_TOKENIZER_FORMAT_H
#define TENON_RUNTIME_TOKENIZER_FORMAT_H

#include <stdint.h>

#define TOKENIZER_MAGIC "TENONTOK"
enum { TOKENIZER_VERSION = 1 };
#define TOKENIZER_NONE UINT32_MAX                     // no id, no string, no regex

typedef enum { TOKENIZER_BPE = 1, TOKENIZER_UNIGRAM, TOKENIZER_WORDPIECE, TOKENIZER_WORDLEVEL } TokenizerModel;

enum {                                                // TokenizerHeader.flags
    TOKENIZER_BYTES = 1,                              // BPE symbols are bytes, not characters (byte-level BPE)
    TOKENIZER_BYTE_FALLBACK = 2,                      // an unknown character becomes its bytes' tokens (part BYTE_IDS)
    TOKENIZER_FUSE_UNK = 4,                           // neighbouring unknown characters are one unknown token
    TOKENIZER_WHOLE_WORDS = 8,                        // a word that is in the vocabulary is taken whole (BPE: ignore_merges)
    TOKENIZER_DROP_SPACE = 16,                        // decode: one space at the head of the text is dropped
    TOKENIZER_DROP_SPACES = 32,                       // decode: the first token's spaces are dropped
};

typedef struct { uint32_t offset, length; } TokenizerPart;        // bytes, from the start
typedef struct { uint32_t offset, length; } TokenizerString;      // bytes, in part STRINGS

enum {
    TOKENIZER_TEXT_INDEX,      // u32 [count + 1]: where each id's bytes begin in TEXT, as they stand in decoded text
    TOKENIZER_TEXT,
    TOKENIZER_KINDS,           // u8 [count]: TokenizerKind
    TOKENIZER_TRIE,            // TokenizerNode []: the model's pieces (BPE: those of one symbol, all with WHOLE_WORDS). Node 0 is the root
    TOKENIZER_RAW_TRIE,        // added tokens that are looked for before normalization; a node's value is an index into ADDED
    TOKENIZER_ADDED_TRIE,      // added tokens that are looked for after it
    TOKENIZER_ADDED,           // TokenizerAdded []
    TOKENIZER_MERGE_INDEX,     // u32 [count + 1]: where the merges of each left id begin in MERGES
    TOKENIZER_MERGES,          // TokenizerMerge [], increasing by `right` within one left id
    TOKENIZER_SCORES,          // f64 [count] (Unigram)
    TOKENIZER_BYTE_IDS,        // u32 [256]: the token of each byte (TOKENIZER_NONE: none)
    TOKENIZER_NORMALIZERS,     // TokenizerStep []
    TOKENIZER_SPLITTERS,       // TokenizerStep []
    TOKENIZER_REGEXES,         // TokenizerRegex []
    TOKENIZER_CODE,            // u32 []: regex programs
    TOKENIZER_CLASSES,         // TokenizerClass []
    TOKENIZER_RANGES,          // u32 pairs: first and last code point
    TOKENIZER_STRINGS,
    TOKENIZER_CHARSMAP,        // sentencepiece's precompiled map: u32 size of the double array, the array, NUL-terminated replacements
    TOKENIZER_PREFIX,          // u32 []: ids before a text
    TOKENIZER_SUFFIX,          // u32 []: ids after it
    TOKENIZER_ENDS,            // u32 []: ids that end a generation
    TOKENIZER_PARTS
};

typedef struct {
    char magic[8];
    uint32_t version, length;             // of all bytes
    uint32_t model, flags;
    uint32_t count;                       // ids are 0 … count-1
    uint32_t unk, bos, eos;               // or TOKENIZER_NONE
    uint32_t longest_word;                // WordPiece: a longer word (in characters) is unknown
    uint32_t reserved;
    double unk_score;                     // Unigram
    TokenizerString prefix, suffix;       // BPE, WordPiece: put before every piece of a word but the first ("##"), after the last ("</w>")
    TokenizerPart parts[TOKENIZER_PARTS];
} TokenizerHeader;

typedef enum { TOKENIZER_NORMAL, TOKENIZER_SPECIAL, TOKENIZER_USER, TOKENIZER_UNUSED } TokenizerKind;

// Children of a node stand together in increasing order of their label, after the node itself.
typedef struct { uint32_t first, value; uint16_t count; uint8_t label, reserved; } TokenizerNode;

typedef struct { uint32_t right, rank, id; } TokenizerMerge;      // the lowest rank is merged first

enum { TOKENIZER_ADDED_SPECIAL = 1, TOKENIZER_LSTRIP = 2, TOKENIZER_RSTRIP = 4, TOKENIZER_SINGLE_WORD = 8 };
typedef struct { uint32_t id, flags; } TokenizerAdded;

typedef enum {
    // normalizers
    TOKENIZER_NFC = 1,
    TOKENIZER_NFD,
    TOKENIZER_NFKC,
    TOKENIZER_NFKD,
    TOKENIZER_LOWERCASE,
    TOKENIZER_STRIP_ACCENTS, // marks are dropped: nonspacing ones; flags 1: all
    TOKENIZER_STRIP,         // flags: 1 left, 2 right
    TOKENIZER_REPLACE,       // text (a literal) by `by`
    TOKENIZER_REPLACE_REGEX, // matches of regex by `by`
    TOKENIZER_PREPEND,       // text, unless empty
    TOKENIZER_CLEAN,
    TOKENIZER_SPACE_CHINESE, // BERT: control characters dropped and white space to ' '; spaces around ideographs
    TOKENIZER_MAP_GRAPHEMES,
    TOKENIZER_MAP_LONGEST, // the charsmap: by grapheme cluster, or by the longest match
    TOKENIZER_NMT,
    // splitters (cut words into words)
    TOKENIZER_SPLIT,        // at matches of regex; flags: TokenizerBehaviour, 16: invert
    TOKENIZER_SPLIT_TEXT,   // at occurrences of `text`, likewise
    TOKENIZER_PREFIX_SPACE, // a word not beginning with `text` gets it; flags: 1: only at the start of the text
    TOKENIZER_SPACE_TO,     // ' ' becomes `by`
} TokenizerStepKind;

typedef enum {
    TOKENIZER_REMOVED,
    TOKENIZER_ISOLATED,
    TOKENIZER_WITH_PREVIOUS,
    TOKENIZER_WITH_NEXT,
    TOKENIZER_CONTIGUOUS
} TokenizerBehaviour;
enum { TOKENIZER_INVERT = 16 };

typedef struct { uint32_t kind, flags, regex, reserved; TokenizerString text, by; } TokenizerStep;

// ---- regular expressions: a backtracking machine over code points ------------------------------------------------
// The words of a program (CODE[first … first+count-1]); targets are relative to `first`. A program ends with RX_MATCH.

typedef struct { uint32_t first, count; } TokenizerRegex;

typedef enum {
    RX_MATCH = 1, // done
    RX_CHAR,      // code point
    RX_CLASS,     // class
    RX_REPEAT,    // class, min, max (TOKENIZER_NONE: no limit), mode: 0 greedy, 1 lazy, 2 possessive
    RX_SPLIT,     // first choice, second choice
    RX_JUMP,      // target
    RX_LOOK,      // mode: 0 ahead, 1 not ahead, 2 behind, 3 not behind, 4 atomic; code points to step back (behind); where to go on. The
                  // sub-program follows, ending in RX_MATCH
    RX_START,     // of the text
    RX_END,
    RX_LINE_START,
    RX_LINE_END,
    RX_END_NEWLINE, // at the end, or before a newline that is the last character
    RX_WORD,
    RX_NOT_WORD, // \b \B
} RegexOp;

// A class holds a code point when its general category's bit is in `categories`, a range holds it, or one of its children (classes of lower
// index, each of one parent) does; RX_ALL: when every child does. RX_FOLD: either case will do. RX_NEGATE turns the answer.
enum { RX_NEGATE = 1, RX_FOLD = 2, RX_ALL = 4 };
typedef struct {
    uint32_t flags, categories, first_range, range_count, first_child, child_count;
} TokenizerClass; // children: consecutive classes
// Bits of `categories`, in utf8proc's order: Cn Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co

#endif
