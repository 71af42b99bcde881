// Stands in for libutf8proc where a cross compiler lacks it: the toy model has no tokenizer, so none of this is called.
#include <utf8proc.h>

utf8proc_ssize_t utf8proc_map(const utf8proc_uint8_t *text, utf8proc_ssize_t length, utf8proc_uint8_t **out, utf8proc_option_t options) {
    (void)text, (void)length, (void)out, (void)options;
    return UTF8PROC_ERROR_NOMEM;
}
utf8proc_category_t utf8proc_category(utf8proc_int32_t code) { return (void)code, UTF8PROC_CATEGORY_CN; }
utf8proc_int32_t utf8proc_tolower(utf8proc_int32_t code) { return code; }
utf8proc_int32_t utf8proc_toupper(utf8proc_int32_t code) { return code; }
utf8proc_ssize_t utf8proc_encode_char(utf8proc_int32_t code, utf8proc_uint8_t *bytes) { return (void)code, (void)bytes, 0; }
utf8proc_bool utf8proc_grapheme_break_stateful(utf8proc_int32_t before, utf8proc_int32_t after, utf8proc_int32_t *state) {
    return (void)before, (void)after, (void)state, 1;
}
