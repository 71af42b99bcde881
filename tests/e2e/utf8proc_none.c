// For a foreign target whose libutf8proc is not installed: the run time links, and a prompt given as token ids never comes here.
#include <utf8proc.h>

#include <stdio.h>
#include <stdlib.h>

static void none(void) {
    fputs("error: built without Unicode\n", stderr);
    exit(3);
}

utf8proc_category_t utf8proc_category(utf8proc_int32_t c) { return none(), (utf8proc_category_t)c; }
utf8proc_int32_t utf8proc_tolower(utf8proc_int32_t c) { return none(), c; }
utf8proc_int32_t utf8proc_toupper(utf8proc_int32_t c) { return none(), c; }
const utf8proc_property_t *utf8proc_get_property(utf8proc_int32_t c) { return none(), (void)c, NULL; }
utf8proc_ssize_t utf8proc_decompose(const utf8proc_uint8_t *s, utf8proc_ssize_t n, utf8proc_int32_t *b, utf8proc_ssize_t m, utf8proc_option_t o) {
    return none(), (void)s, (void)n, (void)b, (void)m, (utf8proc_ssize_t)o;
}
utf8proc_ssize_t utf8proc_decompose_char(utf8proc_int32_t c, utf8proc_int32_t *b, utf8proc_ssize_t m, utf8proc_option_t o, int *last) {
    return none(), (void)c, (void)b, (void)m, (void)last, (utf8proc_ssize_t)o;
}
utf8proc_ssize_t utf8proc_normalize_utf32(utf8proc_int32_t *b, utf8proc_ssize_t n, utf8proc_option_t o) { return none(), (void)b, (void)o, n; }
utf8proc_ssize_t utf8proc_reencode(utf8proc_int32_t *b, utf8proc_ssize_t n, utf8proc_option_t o) { return none(), (void)b, (void)o, n; }
utf8proc_ssize_t utf8proc_map(const utf8proc_uint8_t *s, utf8proc_ssize_t n, utf8proc_uint8_t **d, utf8proc_option_t o) {
    return none(), (void)s, (void)d, (void)o, n;
}
utf8proc_ssize_t utf8proc_iterate(const utf8proc_uint8_t *s, utf8proc_ssize_t n, utf8proc_int32_t *c) { return none(), (void)s, (void)c, n; }
utf8proc_ssize_t utf8proc_encode_char(utf8proc_int32_t c, utf8proc_uint8_t *d) { return none(), (void)d, c; }
utf8proc_bool utf8proc_grapheme_break_stateful(utf8proc_int32_t a, utf8proc_int32_t b, utf8proc_int32_t *state) {
    return none(), (void)state, a == b;
}
int utf8proc_charwidth(utf8proc_int32_t c) { return none(), (int)c; }
