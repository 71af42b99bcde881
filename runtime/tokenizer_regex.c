// The regex machine: backtracking over code points, leftmost match, first alternative first, as the pre-tokenizers' patterns expect. A
// repeat of one class (by far the most frequent thing in them) is a single operation that leaves one frame, however long it ran. Every
// encode has a budget of steps, in proportion to its text, so that a hostile pattern ends in an error instead of running for ever.
#include "runtime/tokenizer_internal.h"

#include <utf8proc.h>

enum { MOST_FRAMES = 1 << 22 };
enum { RESUME, SHRINK, EXTEND };                 // a frame: go on at pc; first give a code point back; first take one more

static bool class_has(const Tokenizer *t, uint32_t class, uint32_t code) {
    if (code < 128) return t->ascii[class][code / 32] >> code % 32 & 1;
    return class_holds(t, class, code);
}

static bool holds_exactly(const Tokenizer *t, const TokenizerClass *c, uint32_t code) {
    if (c->categories >> utf8proc_category((utf8proc_int32_t)code) & 1) return true;
    const uint32_t *ranges = tokenizer_words(t, TOKENIZER_RANGES) + 2 * (size_t)c->first_range;
    for (uint32_t i = 0; i < c->range_count; i++)
        if (code >= ranges[2 * i] && code <= ranges[2 * i + 1]) return true;
    for (uint32_t i = 0; i < c->child_count; i++)
        if (class_holds(t, c->first_child + i, code)) return true;
    return false;
}

bool class_holds(const Tokenizer *t, uint32_t class, uint32_t code) {
    const TokenizerClass *c = (const TokenizerClass *)t->parts[TOKENIZER_CLASSES] + class;
    bool holds;
    if (c->flags & RX_ALL) {
        holds = true;
        for (uint32_t i = 0; holds && i < c->child_count; i++) holds = class_holds(t, c->first_child + i, code);
    } else {
        holds = holds_exactly(t, c, code);
        if (!holds && c->flags & RX_FOLD && code != 0x130 && code != 0x131) {          // the dotted and dotless i fold to themselves
            uint32_t upper = (uint32_t)utf8proc_toupper((utf8proc_int32_t)code), lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
            holds = holds_exactly(t, c, lower) || holds_exactly(t, c, upper)
                 || holds_exactly(t, c, (uint32_t)utf8proc_tolower((utf8proc_int32_t)upper));
        }
    }
    return holds != ((c->flags & RX_NEGATE) != 0);
}

typedef struct {
    Encoder *encoder;
    const uint32_t *code;
    const char *text, *end;
} Machine;

static bool push(Machine *m, uint32_t pc, const char *at, uint32_t low, uint32_t kind) {
    Encoder *e = m->encoder;
    if (e->stack_count >= MOST_FRAMES) encoder_fail(e, "the tokenizer's pattern needs too much memory on this text");
    if (!encoder_reserve(e, (void **)&e->stack, e->stack_count, &e->stack_capacity, 1, sizeof *e->stack)) return false;
    e->stack[e->stack_count++] = (RegexFrame){pc, (uint32_t)(at - m->text), low, kind};
    return true;
}

static bool spend(Machine *m, uint64_t steps) {
    if (m->encoder->steps > steps) {
        m->encoder->steps -= steps;
        return true;
    }
    m->encoder->steps = 0;
    encoder_fail(m->encoder, "the tokenizer's pattern takes too long on this text");
    return false;
}

static bool take(const Machine *m, uint32_t class, const char **at) {
    const char *next;
    if (*at >= m->end || !class_has(m->encoder->tokenizer, class, code_at(*at, m->end, &next))) return false;
    *at = next;
    return true;
}

static bool repeat(Machine *m, uint32_t pc, const char **at) {
    uint32_t class = m->code[pc + 1], least = m->code[pc + 2], most = m->code[pc + 3], mode = m->code[pc + 4];
    const char *start = *at;
    uint32_t done = 0;
    while (done < least && take(m, class, at)) done++;
    if (done < least || !spend(m, done)) return false;
    if (mode == 1) return done >= most || push(m, pc, *at, done, EXTEND);
    const char *low = *at;
    while (done < most && take(m, class, at)) done++;
    if (!spend(m, (uint64_t)(*at - start))) return false;
    return mode == 2 || *at == low || push(m, pc + 5, *at, (uint32_t)(low - m->text), SHRINK);
}

// Takes the newest frame: true with where to go on, false when none above `base` is left.
static bool backtrack(Machine *m, size_t base, uint32_t *pc, const char **at) {
    Encoder *e = m->encoder;
    while (e->stack_count > base && !e->failure) {
        RegexFrame *frame = &e->stack[e->stack_count - 1];
        *at = m->text + frame->at;
        *pc = frame->pc;
        if (frame->kind == RESUME) {
            e->stack_count--;
            return true;
        }
        if (frame->kind == SHRINK) {
            *at = code_before(*at, m->text);
            frame->at = (uint32_t)(*at - m->text);
            if (frame->at <= frame->low) e->stack_count--;
            return true;
        }
        uint32_t class = m->code[frame->pc + 1], most = m->code[frame->pc + 3];
        if (take(m, class, at)) {
            *pc = frame->pc + 5;
            frame->at = (uint32_t)(*at - m->text);
            if (++frame->low >= most) e->stack_count--;
            return true;
        }
        e->stack_count--;
    }
    return false;
}

static bool word_boundary(const Machine *m, const char *at) {
    const char *next;
    bool before = at > m->text && code_is_word(code_at(code_before(at, m->text), m->end, &next));
    return before != (at < m->end && code_is_word(code_at(at, m->end, &next)));
}

static bool assertion(const Machine *m, uint32_t op, const char *at) {
    switch (op) {
    case RX_START: return at == m->text;
    case RX_END: return at == m->end;
    case RX_LINE_START: return at == m->text || at[-1] == '\n';
    case RX_LINE_END: return at == m->end || *at == '\n';
    case RX_END_NEWLINE: return at == m->end || (*at == '\n' && at + 1 == m->end);
    case RX_WORD: return word_boundary(m, at);
    default: return !word_boundary(m, at);
    }
}

static bool match_at(Machine *m, uint32_t pc, const char *at, const char **end);

static bool look(Machine *m, uint32_t pc, const char **at) {
    uint32_t mode = m->code[pc + 1], back = m->code[pc + 2];
    const char *from = *at, *end;
    bool behind = mode == 2 || mode == 3, found = true;
    for (uint32_t i = 0; behind && found && i < back; i++) {
        found = from > m->text;
        if (found) from = code_before(from, m->text);
    }
    found = found && match_at(m, pc + 4, from, &end) && (!behind || end == *at);
    if (mode == 4 && found) *at = end;
    return found == (mode == 0 || mode == 2 || mode == 4);
}

static bool match_at(Machine *m, uint32_t pc, const char *at, const char **end) {
    size_t base = m->encoder->stack_count;
    const char *next;
    while (spend(m, 1)) {
        bool on = true;
        uint32_t op = m->code[pc];
        switch (op) {
        case RX_MATCH:
            m->encoder->stack_count = base;
            *end = at;
            return true;
        case RX_CHAR:
            on = at < m->end && code_at(at, m->end, &next) == m->code[pc + 1];
            if (on) at = next;
            pc += 2;
            break;
        case RX_CLASS:
            on = take(m, m->code[pc + 1], &at);
            pc += 2;
            break;
        case RX_REPEAT:
            on = repeat(m, pc, &at);
            pc += 5;
            break;
        case RX_SPLIT:
            on = push(m, m->code[pc + 2], at, 0, RESUME);
            pc = m->code[pc + 1];
            break;
        case RX_JUMP: pc = m->code[pc + 1]; break;
        case RX_LOOK:
            on = look(m, pc, &at);
            pc = m->code[pc + 3];
            break;
        default:
            on = assertion(m, op, at);
            pc++;
        }
        if (!on && !backtrack(m, base, &pc, &at)) break;
    }
    m->encoder->stack_count = base;
    return false;
}

bool regex_find(Encoder *e, uint32_t index, const char *text, uint32_t length, uint32_t from, Span *match) {
    if (!text) text = "";   // of an empty buffer
    const Tokenizer *t = e->tokenizer;
    TokenizerRegex regex = ((const TokenizerRegex *)t->parts[TOKENIZER_REGEXES])[index];
    Machine m = {e, tokenizer_words(t, TOKENIZER_CODE) + regex.first, text, text + length};
    for (const char *at = text + from, *next, *end; !e->failure; at = next) {
        if (match_at(&m, 0, at, &end)) {
            *match = (Span){(uint32_t)(at - text), (uint32_t)(end - text)};
            return true;
        }
        if (at >= m.end) return false;
        code_at(at, m.end, &next);
    }
    return false;
}
