// Regular expressions of pre-tokenizers, compiled for the run time's backtracking machine (runtime/tokenizer_format.h).
//
// The syntax is that of Oniguruma, which tokenizer.json files are written for, as far as such patterns use it: alternation, groups, (?i:),
// classes with \p{…}, nesting and &&, greedy, lazy and possessive quantifiers, look-ahead, look-behind of fixed width, anchors. Everything
// else is an error that names what is not supported. A pattern is parsed into a small tree first, because quantifiers have to know what
// they repeat.
#include "frontend/tokenizer_build.h"

#include <string.h>
#include <strings.h>

enum { MOST_DEPTH = 24, MOST_CODE = 1 << 16, MOST_CLASSES = 4096, MOST_COUNT = 1000, MOST_NODES = 1 << 18, MOST_QUANTIFIERS = 4 };
typedef enum { N_EMPTY, N_CHAR, N_CLASS, N_CAT, N_ALT, N_REPEAT, N_LOOK, N_ASSERT } NodeKind;

typedef struct RxNode RxNode;
struct RxNode {
    NodeKind kind;
    uint32_t a, least, most, mode;               // CHAR: the code point; CLASS: its index; ASSERT: the operation; LOOK: its mode
    RxNode **items; int count, capacity;
};

typedef struct {
    Build *build;
    const char *pattern, *at, *end;
    bool fold, dot_all, failed;
    int depth, emitted;
    uint32_t base;                               // where this program begins in the code
} Parser;

static bool fail(Parser *p, const char *what) {
    if (!p->failed)
        build_fail(p->build, "a pattern of the tokenizer cannot be compiled: %s at column %d of \"%.*s\"", what,
                   (int)(p->at - p->pattern) + 1, (int)(p->end - p->pattern > 400 ? 400 : p->end - p->pattern), p->pattern);
    p->failed = true;
    return false;
}

static RxNode *node_new(Parser *p, NodeKind kind, uint32_t a) {
    RxNode *node = ARENA_NEW(p->build->arena, RxNode);
    node->kind = kind;
    node->a = a;
    return node;
}

static void node_add(Parser *p, RxNode *node, RxNode *item) {
    ARENA_PUSH(p->build->arena, node->items, node->count, node->capacity) = item;
}

static bool accept(Parser *p, const char *text) {
    size_t length = strlen(text);
    if ((size_t)(p->end - p->at) < length || memcmp(p->at, text, length)) return false;
    p->at += length;
    return true;
}

static uint32_t next_code(Parser *p) {
    unsigned char lead = (unsigned char)*p->at;
    int length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (length > p->end - p->at) {
        fail(p, "ill-formed UTF-8");
        p->at = p->end;
        return 0xFFFD;
    }
    uint32_t code = length == 1 ? lead : lead & (0x7Fu >> length);
    for (int i = 1; i < length; i++) code = code << 6 | ((unsigned char)p->at[i] & 0x3Fu);
    p->at += length;
    return code;
}

// ---- classes ---------------------------------------------------------------------------------------------------------

// Categories by utf8proc's numbers.
enum { LU = 1, LL, LT, LM, LO, MN, MC, ME, ND, NL, NO, PC, PD, PS, PE, PI, PF, PO, SM, SC, SK, SO, ZS, ZL, ZP, CC, CF, CS, CO };
#define BITS(from, to) ((2u << (to)) - (1u << (from)))

static const struct {
    const char *name;
    uint32_t categories;
} categories[] = {
    {"L", BITS(LU, LO)},
    {"Letter", BITS(LU, LO)},
    {"Lu", 1u << LU},
    {"UppercaseLetter", 1u << LU},
    {"Ll", 1u << LL},
    {"LowercaseLetter", 1u << LL},
    {"Lt", 1u << LT},
    {"TitlecaseLetter", 1u << LT},
    {"Lm", 1u << LM},
    {"ModifierLetter", 1u << LM},
    {"Lo", 1u << LO},
    {"OtherLetter", 1u << LO},
    {"L&", BITS(LU, LT)},
    {"LC", BITS(LU, LT)},
    {"M", BITS(MN, ME)},
    {"Mark", BITS(MN, ME)},
    {"Mn", 1u << MN},
    {"NonspacingMark", 1u << MN},
    {"Mc", 1u << MC},
    {"SpacingMark", 1u << MC},
    {"Me", 1u << ME},
    {"EnclosingMark", 1u << ME},
    {"N", BITS(ND, NO)},
    {"Number", BITS(ND, NO)},
    {"Nd", 1u << ND},
    {"DecimalNumber", 1u << ND},
    {"Digit", 1u << ND},
    {"Nl", 1u << NL},
    {"LetterNumber", 1u << NL},
    {"No", 1u << NO},
    {"OtherNumber", 1u << NO},
    {"P", BITS(PC, PO)},
    {"Punct", BITS(PC, PO)},
    {"Punctuation", BITS(PC, PO)},
    {"Pc", 1u << PC},
    {"Pd", 1u << PD},
    {"Ps", 1u << PS},
    {"Pe", 1u << PE},
    {"Pi", 1u << PI},
    {"Pf", 1u << PF},
    {"Po", 1u << PO},
    {"S", BITS(SM, SO)},
    {"Symbol", BITS(SM, SO)},
    {"Sm", 1u << SM},
    {"Sc", 1u << SC},
    {"Sk", 1u << SK},
    {"So", 1u << SO},
    {"Z", BITS(ZS, ZP)},
    {"Separator", BITS(ZS, ZP)},
    {"Zs", 1u << ZS},
    {"Zl", 1u << ZL},
    {"Zp", 1u << ZP},
    {"C", BITS(CC, CO) | 1u},
    {"Other", BITS(CC, CO) | 1u},
    {"Cc", 1u << CC},
    {"Cf", 1u << CF},
    {"Cs", 1u << CS},
    {"Co", 1u << CO},
    {"Cn", 1u},
    {"Any", BITS(0, CO)},
};

// Sets that are no union of categories. Scripts are those that pre-tokenizers name.
static const uint32_t spaces[] = {9, 13, 32, 32, 0x85, 0x85, 0xA0, 0xA0, 0x1680, 0x1680, 0x2000, 0x200A, 0x2028, 0x2029, 0x202F, 0x202F,
                                  0x205F, 0x205F, 0x3000, 0x3000};
static const uint32_t circled[] = {0x24B6, 0x24E9, 0x1F130, 0x1F149, 0x1F150, 0x1F169, 0x1F170, 0x1F189};    // letters of category So
// Oniguruma's \w also holds the superscripts and fractions of Latin-1.
static const uint32_t word_ranges[] = {0xB2, 0xB3, 0xB9, 0xB9, 0xBC, 0xBE, 0x24B6, 0x24E9,
                                       0x1F130, 0x1F149, 0x1F150, 0x1F169, 0x1F170, 0x1F189};
static const uint32_t han[] = {0x2E80,  0x2E99,  0x2E9B,  0x2EF3,  0x2F00,  0x2FD5,  0x3005,  0x3005,  0x3007,  0x3007,  0x3021,
                               0x3029,  0x3038,  0x303B,  0x3400,  0x4DBF,  0x4E00,  0x9FFF,  0xF900,  0xFA6D,  0xFA70,  0xFAD9,
                               0x16FE2, 0x16FE3, 0x16FF0, 0x16FF1, 0x20000, 0x2A6DF, 0x2A700, 0x2B739, 0x2B740, 0x2B81D, 0x2B820,
                               0x2CEA1, 0x2CEB0, 0x2EBE0, 0x2EBF0, 0x2EE5D, 0x2F800, 0x2FA1D, 0x30000, 0x3134A, 0x31350, 0x323AF};
static const uint32_t hiragana[] = {0x3041, 0x3096, 0x309D, 0x309F, 0x1B001, 0x1B11F, 0x1B132, 0x1B132, 0x1B150, 0x1B152, 0x1F200, 0x1F200};
static const uint32_t katakana[] = {0x30A1,  0x30FA,  0x30FD,  0x30FF,  0x31F0,  0x31FF,  0x32D0,  0x32FE,  0x3300,  0x3357,
                                    0xFF66,  0xFF6F,  0xFF71,  0xFF9D,  0x1AFF0, 0x1AFF3, 0x1AFF5, 0x1AFFB, 0x1AFFD, 0x1AFFE,
                                    0x1B000, 0x1B000, 0x1B120, 0x1B122, 0x1B155, 0x1B155, 0x1B164, 0x1B167};
static const uint32_t hangul[] = {0x1100, 0x11FF, 0x302E, 0x302F, 0x3131, 0x318E, 0x3200, 0x321E, 0x3260, 0x327E,
                                  0xA960, 0xA97C, 0xAC00, 0xD7A3, 0xD7B0, 0xD7C6, 0xD7CB, 0xD7FB, 0xFFA0, 0xFFBE,
                                  0xFFC2, 0xFFC7, 0xFFCA, 0xFFCF, 0xFFD2, 0xFFD7, 0xFFDA, 0xFFDC};
static const uint32_t ascii[] = {0, 127};
static const uint32_t hex[] = {'0', '9', 'A', 'F', 'a', 'f'};
#define WORD_CATEGORIES (BITS(LU, LO) | BITS(MN, ME) | 1u << ND | 1u << NL | 1u << PC)

static const struct {
    const char *name;
    uint32_t categories;
    const uint32_t *ranges;
    int words;
} sets[] = {
    {"Space", 0, spaces, COUNT_OF(spaces)},
    {"WhiteSpace", 0, spaces, COUNT_OF(spaces)},
    {"Word", WORD_CATEGORIES, circled, COUNT_OF(circled)},
    {"ASCII", 0, ascii, COUNT_OF(ascii)},
    {"XDigit", 0, hex, COUNT_OF(hex)},
    {"Han", 0, han, COUNT_OF(han)},
    {"Hiragana", 0, hiragana, COUNT_OF(hiragana)},
    {"Katakana", 0, katakana, COUNT_OF(katakana)},
    {"Hangul", 0, hangul, COUNT_OF(hangul)},
};

static void add_range(Parser *p, TokenizerClass *c, uint32_t from, uint32_t to) {
    Build *b = p->build;
    if (!c->range_count) c->first_range = (uint32_t)b->range_count / 2;
    ARENA_PUSH(b->arena, b->ranges, b->range_count, b->range_capacity) = from;
    ARENA_PUSH(b->arena, b->ranges, b->range_count, b->range_capacity) = to;
    c->range_count++;
}

static uint32_t class_add(Parser *p, TokenizerClass c) {
    Build *b = p->build;
    if (b->class_count >= MOST_CLASSES) fail(p, "too many character classes");
    ARENA_PUSH(b->arena, b->classes, b->class_count, b->class_capacity) = c;
    return (uint32_t)b->class_count - 1;
}

static TokenizerClass set_class(Parser *p, uint32_t mask, const uint32_t *ranges, int words, bool negate) {
    TokenizerClass c = {.categories = mask};
    for (int i = 0; i < words; i += 2) add_range(p, &c, ranges[i], ranges[i + 1]);
    if (negate) c.flags |= RX_NEGATE;
    return c;
}

static TokenizerClass named_class(Parser *p, const char *name, size_t length, bool negate) {
    char plain[32];
    size_t n = 0;
    if (length && *name == '^') {
        negate = !negate;
        name++;
        length--;
    }
    for (size_t i = 0; i < length && n + 1 < sizeof plain; i++)
        if (name[i] != '_' && name[i] != ' ' && name[i] != '-') plain[n++] = name[i];
    plain[n] = 0;
    for (size_t i = 0; i < COUNT_OF(categories); i++)
        if (!strcasecmp(plain, categories[i].name)) return set_class(p, categories[i].categories, NULL, 0, negate);
    for (size_t i = 0; i < COUNT_OF(sets); i++)
        if (!strcasecmp(plain, sets[i].name)) return set_class(p, sets[i].categories, sets[i].ranges, sets[i].words, negate);
    fail(p, arena_printf(p->build->arena, "the character property \"%s\" is not supported", plain));
    return (TokenizerClass){0};
}

// \s \S \d \D \w \W \h \H \p{…} \P{…}, the backslash being read already. False: it is something else.
static bool class_escape(Parser *p, TokenizerClass *c) {
    if (p->at >= p->end) return false;
    char letter = *p->at;
    switch (letter) {
    case 's': case 'S': *c = set_class(p, 0, spaces, COUNT_OF(spaces), letter == 'S'); break;
    case 'd': case 'D': *c = set_class(p, 1u << ND, NULL, 0, letter == 'D'); break;
    case 'w': case 'W': *c = set_class(p, WORD_CATEGORIES, word_ranges, COUNT_OF(word_ranges), letter == 'W'); break;
    case 'h': case 'H': *c = set_class(p, 0, hex, COUNT_OF(hex), letter == 'H'); break;
    case 'p': case 'P': {
        const char *name = p->at + 1, *close = name + 1;
        if (name < p->end && *name == '{') {
            name++;
            close = name < p->end ? memchr(name, '}', (size_t)(p->end - name)) : NULL;
        }
        if (!close || close > p->end || name >= p->end) {
            fail(p, "\\p without a name");
            *c = (TokenizerClass){0};
            p->at = p->end;
            return true;
        }
        *c = named_class(p, name, (size_t)(close - name), letter == 'P');
        p->at = close + (name[-1] == '{');
        return true;
    }
    default: return false;
    }
    p->at++;
    return true;
}

static uint32_t hex_code(Parser *p, int digits) {
    uint32_t code = 0;
    bool braces = accept(p, "{");
    int n = 0;
    for (; p->at < p->end && (braces || n < digits); n++, p->at++) {
        char c = *p->at;
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) break;
        code = code << 4 | (uint32_t)digit;
        if (code > 0x10FFFF) break;
    }
    if (!n || code > 0x10FFFF || (braces && !accept(p, "}"))) fail(p, "a wrong code point");
    return code;
}

// A character after a backslash.
static uint32_t escaped_code(Parser *p) {
    if (p->at >= p->end) {
        fail(p, "a backslash at the end");
        return 0;
    }
    char c = *p->at;
    static const char names[] = "ntrfvae0";
    static const char codes[] = "\n\t\r\f\v\a\033\0";
    const char *found = c ? strchr(names, c) : NULL;
    if (found) {
        p->at++;
        return (unsigned char)codes[found - names];
    }
    if (c == 'x' || c == 'u') {
        p->at++;
        return hex_code(p, c == 'x' ? 2 : 4);
    }
    if ((c >= '1' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) {
        fail(p, arena_printf(p->build->arena, "\\%c is not supported", c));
        p->at++;
        return 0;
    }
    return next_code(p);
}

typedef struct { TokenizerClass items[64]; uint32_t count; } ClassList;

static void list_add(Parser *p, ClassList *list, TokenizerClass c) {
    if (list->count == COUNT_OF(list->items)) fail(p, "too many classes inside a class");
    else list->items[list->count++] = c;
}

static TokenizerClass adopt(Parser *p, TokenizerClass parent, const ClassList *children) {
    if (children->count) parent.first_child = (uint32_t)p->build->class_count;
    parent.child_count = children->count;
    for (uint32_t i = 0; i < children->count; i++) class_add(p, children->items[i]);
    return parent;
}

static TokenizerClass parse_class(Parser *p);

// One item of a class. Ranges go to a plain list first: those of one class must stand together.
static void class_item(Parser *p, ClassList *children, uint32_t (**ranges)[2], int *count, int *capacity) {
    TokenizerClass c;
    if (accept(p, "[:")) {
        const char *close = memmem(p->at, (size_t)(p->end - p->at), ":]", 2);
        if (!close) {
            fail(p, "a class [: without :]");
            return;
        }
        bool punct = close - p->at == 5 && !memcmp(p->at, "punct", 5);              // wider than \p{Punct}
        c = punct ? set_class(p, BITS(PC, PO) | BITS(SM, SO), NULL, 0, false) : named_class(p, p->at, (size_t)(close - p->at), false);
        list_add(p, children, c);
        p->at = close + 2;
        return;
    }
    if (accept(p, "[")) {
        list_add(p, children, parse_class(p));
        return;
    }
    bool escape = accept(p, "\\");
    if (escape && class_escape(p, &c)) {
        list_add(p, children, c);
        return;
    }
    uint32_t from = escape && accept(p, "b") ? 8 : escape ? escaped_code(p) : next_code(p), to = from;
    if (p->end - p->at >= 2 && *p->at == '-' && p->at[1] != ']') {
        p->at++;
        to = accept(p, "\\") ? escaped_code(p) : next_code(p);
        if (to < from) fail(p, "a range that runs backwards");
    }
    ARENA_PUSH(p->build->arena, *ranges, *count, *capacity)[0] = from;
    (*ranges)[*count - 1][1] = to;
}

// After the opening bracket, up to and with the closing one.
static TokenizerClass parse_class(Parser *p) {
    if (++p->depth > MOST_DEPTH) fail(p, "classes nested too deeply");
    bool negate = accept(p, "^"), first = true, any_and = false;
    ClassList ands = {.count = 0}, children = {.count = 0};
    uint32_t (*ranges)[2] = NULL;
    int count = 0, capacity = 0;
    TokenizerClass result = {0};
    for (bool closed = false; !closed && !p->failed; first = false) {
        if (p->at >= p->end) {
            fail(p, "a class without ]");
            break;
        }
        closed = !first && accept(p, "]");
        bool and = !closed && accept(p, "&&");
        if (!closed && !and) {
            class_item(p, &children, &ranges, &count, &capacity);
            continue;
        }
        TokenizerClass part = {.flags = p->fold ? RX_FOLD : 0};
        for (int i = 0; i < count; i++) add_range(p, &part, ranges[i][0], ranges[i][1]);
        part = adopt(p, part, &children);
        children.count = 0;
        count = 0;
        any_and |= and;
        if (any_and) list_add(p, &ands, part);
        else result = part;
    }
    if (any_and) result = adopt(p, (TokenizerClass){.flags = RX_ALL}, &ands);
    if (negate) result.flags ^= RX_NEGATE;
    p->depth--;
    return result;
}

// ---- the tree --------------------------------------------------------------------------------------------------------

static RxNode *parse_alternation(Parser *p);

static RxNode *class_node(Parser *p, TokenizerClass c) { return node_new(p, N_CLASS, class_add(p, c)); }

static RxNode *char_node(Parser *p, uint32_t code) {
    bool letter = code >= 0x80 || ((code | 32) >= 'a' && (code | 32) <= 'z');
    if (!p->fold || !letter) return node_new(p, N_CHAR, code);
    TokenizerClass c = {.flags = RX_FOLD};
    add_range(p, &c, code, code);
    return class_node(p, c);
}

// Options inside (? … : or ): i, m, x; s. False on something else.
static bool group_options(Parser *p, bool *fold, bool *dot_all) {
    bool on = true;
    for (; p->at < p->end && *p->at != ':' && *p->at != ')'; p->at++) {
        if (*p->at == '-') on = false;
        else if (*p->at == 'i') *fold = on;
        else if (*p->at == 'm' || *p->at == 's') *dot_all = on;
        else return fail(p, "this kind of group is not supported");
    }
    return p->at < p->end || fail(p, "a group without )");
}

static RxNode *parse_group(Parser *p) {
    static const struct { const char *text; int mode; } looks[] = {{"?=", 0}, {"?!", 1}, {"?<=", 2}, {"?<!", 3}, {"?>", 4}};
    bool fold = p->fold, dot_all = p->dot_all;
    int mode = -1;
    for (size_t i = 0; i < COUNT_OF(looks) && mode < 0; i++)
        if (accept(p, looks[i].text)) mode = looks[i].mode;
    if (mode < 0 && (accept(p, "?<") || accept(p, "?P<"))) {
        while (p->at < p->end && *p->at != '>') p->at++;
        if (!accept(p, ">")) fail(p, "a group's name without >");
    } else if (mode < 0 && accept(p, "?")) {
        group_options(p, &p->fold, &p->dot_all);
        if (accept(p, ")")) return node_new(p, N_EMPTY, 0);      // for the rest of the group around it
        accept(p, ":");
    }
    RxNode *inside = parse_alternation(p);
    if (!accept(p, ")")) fail(p, "a group without )");
    p->fold = fold;
    p->dot_all = dot_all;
    if (mode < 0) return inside;
    RxNode *look = node_new(p, N_LOOK, (uint32_t)mode);
    node_add(p, look, inside);
    return look;
}

static RxNode *parse_escape(Parser *p) {
    static const struct {
        char letter;
        RegexOp op;
    } asserts[] = {{'A', RX_START}, {'z', RX_END}, {'Z', RX_END_NEWLINE}, {'b', RX_WORD}, {'B', RX_NOT_WORD}};
    TokenizerClass c;
    if (class_escape(p, &c)) return class_node(p, c);
    for (size_t i = 0; p->at < p->end && i < COUNT_OF(asserts); i++)
        if (*p->at == asserts[i].letter) {
            p->at++;
            return node_new(p, N_ASSERT, asserts[i].op);
        }
    return char_node(p, escaped_code(p));
}

static RxNode *parse_atom(Parser *p) {
    if (accept(p, "(")) return parse_group(p);
    if (accept(p, "[")) return class_node(p, parse_class(p));
    if (accept(p, "\\")) return parse_escape(p);
    if (accept(p, "^")) return node_new(p, N_ASSERT, RX_LINE_START);
    if (accept(p, "$")) return node_new(p, N_ASSERT, RX_LINE_END);
    if (accept(p, ".")) {
        TokenizerClass c = {.flags = RX_NEGATE};
        if (!p->dot_all) add_range(p, &c, '\n', '\n');
        return class_node(p, c);
    }
    if (p->at < p->end && strchr("*+?", *p->at)) fail(p, "a quantifier without anything to repeat");
    return char_node(p, next_code(p));
}

static bool read_number(const char **at, const char *end, uint32_t *number) {
    const char *start = *at;
    *number = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at)
        if (*number <= MOST_COUNT) *number = *number * 10 + (uint32_t)(**at - '0');
    return *at > start;
}

// {n} {n,} {n,m} {,m}; anything else is a literal brace.
static bool read_interval(Parser *p, uint32_t *least, uint32_t *most) {
    const char *at = p->at + 1;
    bool low = read_number(&at, p->end, least);
    *most = *least;
    if (at < p->end && *at == ',') {
        at++;
        bool high = read_number(&at, p->end, most);
        if (!low && !high) return false;
        if (!high) *most = NO_ID;
    } else if (!low) {
        return false;
    }
    if (at >= p->end || *at != '}') return false;
    p->at = at + 1;
    if (*least > MOST_COUNT || (*most > MOST_COUNT && *most != NO_ID) || *least > *most) fail(p, "a wrong count of repetitions");
    return true;
}

static RxNode *parse_quantified(Parser *p) {
    RxNode *node = parse_atom(p);
    for (int quantifiers = 0; p->at < p->end && !p->failed; quantifiers++) {
        uint32_t least = 0, most = NO_ID, mode = 0;
        bool interval = *p->at == '{';
        if (*p->at == '?') most = 1;
        else if (*p->at == '+') least = 1;
        else if (interval ? !read_interval(p, &least, &most) : *p->at != '*') break;
        if (!interval) p->at++;
        if (quantifiers == MOST_QUANTIFIERS) fail(p, "too many quantifiers in a row");
        if (accept(p, "?")) mode = 1;
        else if (!interval && accept(p, "+")) mode = 2;
        RxNode *repeat = node_new(p, N_REPEAT, 0);
        repeat->least = least;
        repeat->most = most;
        repeat->mode = mode;
        node_add(p, repeat, node);
        node = repeat;
    }
    return node;
}

static RxNode *parse_alternation(Parser *p) {
    RxNode *alternation = node_new(p, N_ALT, 0), *branch = node_new(p, N_CAT, 0);
    bool fold = p->fold, dot_all = p->dot_all;
    if (++p->depth > MOST_DEPTH) fail(p, "groups nested too deeply");
    while (p->at < p->end && *p->at != ')' && !p->failed) {
        if (accept(p, "|")) {
            node_add(p, alternation, branch);
            branch = node_new(p, N_CAT, 0);
        } else {
            node_add(p, branch, parse_quantified(p));
        }
    }
    node_add(p, alternation, branch);
    p->depth--;
    p->fold = fold;
    p->dot_all = dot_all;
    return alternation->count == 1 ? branch : alternation;
}

// ---- code ------------------------------------------------------------------------------------------------------------

// The least and most code points that a node takes; most: NO_ID when there is no limit.
static void widths(const RxNode *node, uint32_t *least, uint32_t *most) {
    *least = *most = node->kind == N_CHAR || node->kind == N_CLASS;
    for (int i = 0; i < node->count && node->kind != N_LOOK; i++) {
        uint32_t low, high;
        widths(node->items[i], &low, &high);
        if (node->kind == N_ALT) {
            *least = i == 0 || low < *least ? low : *least;
            *most = i == 0 || high > *most ? high : *most;
            continue;
        }
        uint64_t times_low = node->kind == N_REPEAT ? node->least : 1, times_high = node->kind == N_REPEAT ? node->most : 1;
        uint64_t sum = *least + low * times_low;
        *least = sum < NO_ID ? (uint32_t)sum : NO_ID - 1;
        bool endless = high == NO_ID || times_high == NO_ID || *most == NO_ID || *most + high * times_high >= NO_ID;
        *most = endless ? NO_ID : (uint32_t)(*most + high * times_high);
    }
}

static uint32_t here(const Parser *p) { return (uint32_t)p->build->code_count - p->base; }

static uint32_t emit(Parser *p, uint32_t word) {
    if (p->build->code_count >= MOST_CODE) fail(p, "the pattern is too large");
    else ARENA_PUSH(p->build->arena, p->build->code, p->build->code_count, p->build->code_capacity) = word;
    return here(p) - 1;
}

static void patch(Parser *p, uint32_t place, uint32_t word) { p->build->code[p->base + place] = word; }

static void emit_node(Parser *p, const RxNode *node);

// A repeat of one class: a character becomes one, once.
static void emit_simple_repeat(Parser *p, const RxNode *node, RxNode *one) {
    if (one->kind == N_CHAR) {
        TokenizerClass c = {0};
        add_range(p, &c, one->a, one->a);
        one->a = class_add(p, c);
        one->kind = N_CLASS;
    }
    emit(p, RX_REPEAT);
    emit(p, one->a);
    emit(p, node->least);
    emit(p, node->most);
    emit(p, node->mode);
}

// SPLIT with the body first (greedy) or last (lazy); the place of the other target is returned, to be patched.
static uint32_t emit_choice(Parser *p, bool lazy) {
    emit(p, RX_SPLIT);
    uint32_t first = emit(p, 0), second = emit(p, 0);
    patch(p, lazy ? second : first, here(p));
    return lazy ? first : second;
}

static void emit_look(Parser *p, uint32_t mode, const RxNode *inside, const RxNode *repeat) {
    uint32_t least, most = 0;
    if (mode == 2 || mode == 3) {
        widths(inside, &least, &most);
        if (least != most) fail(p, "look-behind of variable width is not supported");
    }
    emit(p, RX_LOOK);
    emit(p, mode);
    emit(p, most);
    uint32_t next = emit(p, 0);
    if (repeat) {
        RxNode greedy = *repeat;
        greedy.mode = 0;
        emit_node(p, &greedy);
    } else {
        emit_node(p, inside);
    }
    emit(p, RX_MATCH);
    patch(p, next, here(p));
}

static void emit_repeat(Parser *p, const RxNode *node) {
    RxNode *body = node->items[0];
    if (body->kind == N_CAT && body->count == 1) body = body->items[0];
    if (body->kind == N_CHAR || body->kind == N_CLASS) {
        emit_simple_repeat(p, node, body);
        return;
    }
    if (node->mode == 2) {
        emit_look(p, 4, NULL, node);
        return;
    }
    uint32_t least, most;
    widths(body, &least, &most);
    for (uint32_t i = 0; i < node->least && !p->failed; i++) emit_node(p, body);
    if (node->most == NO_ID) {
        if (!least) fail(p, "repeating something that may be empty is not supported");
        uint32_t start = here(p), out = emit_choice(p, node->mode == 1);
        emit_node(p, body);
        emit(p, RX_JUMP);
        emit(p, start);
        patch(p, out, here(p));
        return;
    }
    uint32_t count = node->most - node->least, *outs = ARENA_ARRAY(p->build->arena, uint32_t, count);
    for (uint32_t i = 0; i < count && !p->failed; i++) {
        outs[i] = emit_choice(p, node->mode == 1);
        emit_node(p, body);
    }
    for (uint32_t i = 0; i < count && !p->failed; i++) patch(p, outs[i], here(p));
}

static void emit_node(Parser *p, const RxNode *node) {
    if (++p->emitted > MOST_NODES) fail(p, "the pattern is too large");
    if (p->failed) return;
    switch (node->kind) {
    case N_EMPTY: break;
    case N_CHAR:
    case N_CLASS:
        emit(p, node->kind == N_CHAR ? RX_CHAR : RX_CLASS);
        emit(p, node->a);
        break;
    case N_CAT:
        for (int i = 0; i < node->count; i++) emit_node(p, node->items[i]);
        break;
    case N_ALT: {
        uint32_t *ends = ARENA_ARRAY(p->build->arena, uint32_t, node->count);
        for (int i = 0; i < node->count && !p->failed; i++) {
            bool last = i + 1 == node->count;
            uint32_t other = last ? 0 : emit_choice(p, false);
            emit_node(p, node->items[i]);
            if (last) break;
            emit(p, RX_JUMP);
            ends[i] = emit(p, 0);
            if (!p->failed) patch(p, other, here(p));
        }
        for (int i = 0; i + 1 < node->count && !p->failed; i++) patch(p, ends[i], here(p));
        break;
    }
    case N_REPEAT: emit_repeat(p, node); break;
    case N_LOOK: emit_look(p, node->a, node->items[0], NULL); break;
    case N_ASSERT: emit(p, node->a); break;
    }
}

int build_regex(Build *build, const char *pattern, size_t length) {
    Parser p = {.build = build, .pattern = pattern, .at = pattern, .end = pattern + length, .base = (uint32_t)build->code_count};
    if (length > 65536) fail(&p, "the pattern is too long");
    RxNode *tree = p.failed ? NULL : parse_alternation(&p);
    if (!p.failed && p.at < p.end) fail(&p, "a ) without its (");
    if (!p.failed) emit_node(&p, tree);
    if (!p.failed) emit(&p, RX_MATCH);
    if (p.failed) return -1;
    ARENA_PUSH(build->arena, build->regexes, build->regex_count, build->regex_capacity) = (TokenizerRegex){p.base, here(&p)};
    return build->regex_count - 1;
}
