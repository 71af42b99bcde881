// HTML for tenon explain: escaping, numbers, colours of C and IR text. Everything that comes from a file goes through html_text.
//
// The report is XML as well (every tag closed, every attribute quoted), so that a strict parser can check it.
#include "driver/explain.h"

#include <ctype.h>
#include <string.h>

#define EMBED(name, path)                                                                                                                  \
    __asm__(".pushsection .rodata\n.globl " #name "\n.globl " #name "_end\n" #name ":\n.incbin \"" path "\"\n" #name                       \
            "_end:\n.byte 0\n.popsection\n");                                                                                              \
    extern const char name[], name##_end[]

EMBED(explain_style, TENON_EXPLAIN_FOLDER "/report.css");
EMBED(explain_script, TENON_EXPLAIN_FOLDER "/report.js");

void html_style(Text *out) { text_add(out, explain_style, (size_t)(explain_style_end - explain_style)); }
void html_script(Text *out) { text_add(out, explain_script, (size_t)(explain_script_end - explain_script)); }

// ---- text ----------------------------------------------------------------------------------------------------------------

// Bytes of the UTF-8 character at `at`, 0 when it is none or one that XML does not take.
static int character(const unsigned char *at, size_t left) {
    if (*at < 0x80) return *at >= 0x20 && *at != 0x7f ? 1 : *at == '\n' || *at == '\t';
    int length = *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : 2;
    if (*at < 0xc2 || *at > 0xf4 || (size_t)length > left) return 0;
    uint32_t code = *at & (0x7f >> length);
    for (int i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    bool overlong = code < (length == 2 ? 0x80u : length == 3 ? 0x800u : 0x10000u);
    bool surrogate = code >= 0xd800 && code < 0xe000, control = code < 0xa0 || (code & 0xfffe) == 0xfffe;
    return overlong || surrogate || control || code > 0x10ffff ? 0 : length;
}

void html_textn(Text *out, const char *text, size_t length) {
    const unsigned char *at = (const unsigned char *)text, *end = at + length;
    while (at < end) {
        int n = character(at, (size_t)(end - at));
        if (n == 0) text_puts(out, "\xef\xbf\xbd"), n = 1;
        else if (*at == '<') text_puts(out, "&lt;");
        else if (*at == '>') text_puts(out, "&gt;");
        else if (*at == '&') text_puts(out, "&amp;");
        else if (*at == '"') text_puts(out, "&quot;");
        else if (*at == '\'') text_puts(out, "&#39;");
        else text_add(out, (const char *)at, (size_t)n);
        at += n;
    }
}

void html_text(Text *out, const char *text) { html_textn(out, text ? text : "", text ? strlen(text) : 0); }

int html_length(const char *text) {
    int length = 0;
    for (; *text; text++) length += ((unsigned char)*text & 0xc0) != 0x80;
    return length;
}

// Where character `n` begins.
static const char *nth(const char *text, int n) {
    while (*text && n > 0) {
        text++;
        while (((unsigned char)*text & 0xc0) == 0x80) text++;
        n--;
    }
    return text;
}

void html_short(Text *out, const char *text, int most) {
    int length = html_length(text);
    if (length <= most) {
        html_text(out, text);
        return;
    }
    int head = (most - 1) / 2, tail = most - 1 - head;
    html_textn(out, text, (size_t)(nth(text, head) - text));
    text_puts(out, "…");
    html_text(out, nth(text, length - tail));
}

const char *family_name(Arena *arena, const char *name) {
    char *family = arena_strdup(arena, name), *to = family;
    for (const char *at = name; *at;) {
        bool number = isdigit((unsigned char)*at) && (at == name || !isalnum((unsigned char)at[-1]));
        const char *end = at;
        while (number && isdigit((unsigned char)*end)) end++;
        if (number && !isalpha((unsigned char)*end)) *to++ = '#', at = end;
        else *to++ = *at++;
    }
    *to = 0;
    return family;
}

// ---- numbers -----------------------------------------------------------------------------------------------------------------

static void three_digits(Text *out, double value) {
    text_printf(out, value >= 99.95 ? "%.0f" : value >= 9.995 ? "%.1f" : "%.2f", value);
}

void html_bytes(Text *out, double bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while (bytes >= 999.5 && unit < 4) bytes /= 1000, unit++;
    if (unit == 0) text_printf(out, "%.0f", bytes);
    else three_digits(out, bytes);
    text_printf(out, "\xc2\xa0%s", units[unit]);
}

void html_number(Text *out, double number, const char *unit) {
    static const char *const scales[] = {"", "k", "M", "G", "T"};
    int scale = 0;
    while (number >= 999.5 && scale < 4) number /= 1000, scale++;
    if (scale == 0 && number == (double)(int)number) text_printf(out, "%.0f", number);
    else three_digits(out, number);
    if (scale || *unit) text_printf(out, "\xc2\xa0%s%s", scales[scale], unit);
}

void html_time(Text *out, double seconds) {
    if (seconds >= 0.9995) three_digits(out, seconds), text_puts(out, "\xc2\xa0s");
    else if (seconds >= 0.9995e-3) three_digits(out, seconds * 1e3), text_puts(out, "\xc2\xa0ms");
    else three_digits(out, seconds * 1e6), text_puts(out, "\xc2\xa0µs");
}

// ---- C -------------------------------------------------------------------------------------------------------------------------

static bool is_keyword(const char *word, size_t length) {
    static const char *const words[] = {"void", "int", "long", "float", "double", "char", "short", "signed", "unsigned", "const", "static",
                                        "struct", "enum", "typedef", "for", "if", "else", "while", "do", "return", "break", "continue",
                                        "restrict", "sizeof", "extern", "inline", "volatile", "switch", "case", "default", "union"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strlen(words[i]) == length && memcmp(words[i], word, length) == 0) return true;
    return false;
}

static size_t token_end(const char *at, size_t left) {
    size_t n = 1;
    if (left > 1 && at[0] == '/' && at[1] == '/')
        while (n < left && at[n] != '\n') n++;
    else if (left > 1 && at[0] == '/' && at[1] == '*') {
        for (n = 2; n < left && !(at[n - 1] == '*' && at[n] == '/' && n > 2); n++) continue;
        n += n < left;
    } else if (*at == '"' || *at == '\'') {
        for (; n < left && at[n] != *at && at[n] != '\n'; n++) n += at[n] == '\\' && n + 1 < left;
        n += n < left;
    } else if (isdigit((unsigned char)*at))
        while (n < left && (isalnum((unsigned char)at[n]) || at[n] == '.' || ((at[n] == '-' || at[n] == '+') && strchr("eEpP", at[n - 1])))) n++;
    else if (isalpha((unsigned char)*at) || *at == '_')
        while (n < left && (isalnum((unsigned char)at[n]) || at[n] == '_')) n++;
    return n;
}

void html_c(Text *out, const char *text, size_t length) {
    for (size_t at = 0; at < length;) {
        size_t n = token_end(text + at, length - at);
        const char *token = text + at, *tag = NULL;
        if (n > 1 && token[0] == '/') tag = "i";
        else if (*token == '"') tag = "q";
        else if (isdigit((unsigned char)*token)) tag = "u";
        else if (is_keyword(token, n)) tag = "b";
        else if (n > 3 && memcmp(token, "tn_", 3) == 0) tag = "em";
        if (tag) text_printf(out, "<%s>", tag);
        html_textn(out, token, n);
        if (tag) text_printf(out, "</%s>", tag);
        at += n;
    }
}

// ---- IR ------------------------------------------------------------------------------------------------------------------------

// `  %y: type = op operands {attributes} …`: the op stands out, attributes and what passes noted step back.
void html_ir(Text *out, const char *line) {
    const char *equals = strstr(line, " = ");
    bool head = *line != ' ' && strchr(line, '(') && strchr(line, '{');
    if (head) {
        size_t word = strcspn(line, " ");
        text_puts(out, "<b>");
        html_textn(out, line, word);
        text_puts(out, "</b>");
        html_text(out, line + word);
        return;
    }
    if (!equals) {
        html_text(out, line);
        return;
    }
    size_t op = strcspn(equals + 3, " ");
    html_textn(out, line, (size_t)(equals + 3 - line));
    text_puts(out, "<b>");
    html_textn(out, equals + 3, op);
    text_puts(out, "</b>");
    const char *rest = equals + 3 + op, *attributes = strstr(rest, " {");
    html_textn(out, rest, attributes ? (size_t)(attributes - rest) : strlen(rest));
    if (!attributes) return;
    text_puts(out, "<i>");
    html_text(out, attributes);
    text_puts(out, "</i>");
}

// ---- sections --------------------------------------------------------------------------------------------------------------------

void section_begin(Explain *e, const char *id, const char *title, const char *lead) {
    text_printf(e->out, "<section id=\"%s\"><h2>%s</h2>\n", id, title);
    if (lead) text_printf(e->out, "<p class=\"lead\">%s</p>\n", lead);
}

void section_end(Explain *e) { text_puts(e->out, "</section>\n"); }
