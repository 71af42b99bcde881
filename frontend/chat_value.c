// Values of the Jinja interpreter: what Python's strings, numbers, lists and dicts do, as far as chat templates see it.
#include "frontend/chat.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TEXT = 1 << 22, MOST_NESTING = 40 };

void jinja_fail(Jinja *jinja, int line, const char *format, ...) {
    va_list args;
    if (jinja->error) return;
    va_start(args, format);
    Text text = {0};
    text_vprintf(&text, format, args);
    va_end(args);
    jinja->error = arena_strndup(jinja->arena, text.data ? text.data : "", text.length);
    jinja->error_line = line;
    text_free(&text);
}

void *jinja_alloc(Jinja *jinja, size_t bytes) {
    jinja->bytes -= (int64_t)bytes + 16;
    if (jinja->bytes < 0) jinja_fail(jinja, 0, "it needs too much memory");
    return arena_alloc(jinja->arena, bytes);
}

JValue j_string(Jinja *jinja, const char *bytes, size_t length) {
    if (length > MOST_TEXT) {
        jinja_fail(jinja, 0, "it makes a text of more than %d bytes", MOST_TEXT);
        length = 0;
    }
    char *copy = jinja_alloc(jinja, length + 1);
    if (length) memcpy(copy, bytes, length);
    return J_STRING_OF(copy, length);
}

JValue j_take(Jinja *jinja, Text *text) {
    JValue value = j_string(jinja, text->data, text->length);
    text_free(text);
    *text = (Text){0};
    return value;
}

JValue j_list(Jinja *jinja) { return (JValue){.kind = J_LIST, .list = jinja_alloc(jinja, sizeof(JList))}; }
JValue j_map(Jinja *jinja) { return (JValue){.kind = J_MAP, .map = jinja_alloc(jinja, sizeof(JMap))}; }

void j_push(Jinja *jinja, JValue list, JValue item) {
    jinja->bytes -= 2 * (int64_t)sizeof item;
    if (jinja->bytes < 0) jinja_fail(jinja, 0, "it needs too much memory");
    if (jinja->error) return;
    ARENA_PUSH(jinja->arena, list.list->items, list.list->count, list.list->capacity) = item;
}

void j_put(Jinja *jinja, JValue map, JValue key, JValue value) {
    JMap *m = map.map;
    for (int i = 0; i < m->count; i++)
        if (j_equal(m->keys[i], key)) {
            m->values[i] = value;
            return;
        }
    jinja->bytes -= 4 * (int64_t)sizeof value;
    if (jinja->bytes < 0) jinja_fail(jinja, 0, "it needs too much memory");
    if (jinja->error) return;
    int count = m->count;
    ARENA_PUSH(jinja->arena, m->keys, count, m->keys_capacity) = key;
    ARENA_PUSH(jinja->arena, m->values, m->count, m->values_capacity) = value;
}

JValue j_get(JValue map, JValue key) {
    for (int i = 0; i < map.map->count; i++)
        if (j_equal(map.map->keys[i], key)) return map.map->values[i];
    return (JValue){0};
}

JValue j_get_name(JValue map, const char *key) { return j_get(map, J_STRING_OF(key, strlen(key))); }

bool j_is(JValue v, const char *text) { return v.kind == J_STRING && v.length == strlen(text) && !memcmp(v.text, text, v.length); }

static bool is_number(JValue v) { return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT; }
static double number(JValue v) { return v.kind == J_FLOAT ? v.number : v.kind == J_BOOL ? v.truth : (double)v.integer; }
static int64_t integer(JValue v) { return v.kind == J_BOOL ? v.truth : v.integer; }

bool j_true(JValue v) {
    switch (v.kind) {
    case J_UNDEFINED: case J_NONE: return false;
    case J_BOOL: return v.truth;
    case J_INT: return v.integer != 0;
    case J_FLOAT: return v.number != 0;
    case J_STRING: return v.length > 0;
    case J_LIST: return v.list->count > 0;
    case J_MAP: return v.map->is_namespace || v.map->count > 0;
    default: return true;
    }
}

static bool equal(JValue a, JValue b, int depth) {
    if (is_number(a) && is_number(b)) return a.kind == J_FLOAT || b.kind == J_FLOAT ? number(a) == number(b) : integer(a) == integer(b);
    if (a.kind != b.kind || depth > MOST_NESTING) return false;
    switch (a.kind) {
    case J_UNDEFINED: case J_NONE: return true;
    case J_STRING: return a.length == b.length && !memcmp(a.text, b.text, a.length);
    case J_LIST:
        if (a.list->count != b.list->count) return false;
        for (int i = 0; i < a.list->count; i++)
            if (!equal(a.list->items[i], b.list->items[i], depth + 1)) return false;
        return true;
    case J_MAP:
        if (a.map->count != b.map->count) return false;
        for (int i = 0; i < a.map->count; i++)
            if (!equal(a.map->values[i], j_get(b, a.map->keys[i]), depth + 1)) return false;
        return true;
    default: return false;
    }
}

bool j_equal(JValue a, JValue b) { return equal(a, b, 0); }

const char *j_kind_name(JValue v) {
    static const char *const names[] = {"undefined", "none",   "a truth value", "an integer", "a number",
                                        "a text",    "a list", "a mapping",     "a macro",    "a function"};
    return names[v.kind];
}

int j_order(Jinja *jinja, int line, JValue a, JValue b) {
    if (is_number(a) && is_number(b)) return number(a) < number(b) ? -1 : number(a) > number(b);
    if (a.kind == J_STRING && b.kind == J_STRING) {
        int order = memcmp(a.text, b.text, a.length < b.length ? a.length : b.length);
        return order ? order : a.length < b.length ? -1 : a.length > b.length;
    }
    jinja_fail(jinja, line, "%s cannot be compared with %s", j_kind_name(a), j_kind_name(b));
    return 0;
}

bool j_contains(Jinja *jinja, int line, JValue container, JValue item) {
    switch (container.kind) {
    case J_STRING:
        if (item.kind == J_STRING) return !item.length || memmem(container.text, container.length, item.text, item.length) != NULL;
        break;
    case J_LIST:
        for (int i = 0; i < container.list->count; i++)
            if (j_equal(container.list->items[i], item)) return true;
        return false;
    case J_MAP:
        for (int i = 0; i < container.map->count; i++)
            if (j_equal(container.map->keys[i], item)) return true;
        return false;
    case J_UNDEFINED: return false;
    default: break;
    }
    jinja_fail(jinja, line, "%s is looked for in %s", j_kind_name(item), j_kind_name(container));
    return false;
}

static size_t step(const char *text, size_t length, size_t at) {               // to the next code point
    at++;
    while (at < length && ((unsigned char)text[at] & 0xC0) == 0x80) at++;
    return at;
}

int64_t j_length(JValue v) {
    int64_t n = 0;
    switch (v.kind) {
    case J_UNDEFINED: return 0;
    case J_LIST: return v.list->count;
    case J_MAP: return v.map->count;
    case J_STRING:
        for (size_t at = 0; at < v.length; at = step(v.text, v.length, at)) n++;
        return n;
    default: return -1;
    }
}

JValue j_iterate(Jinja *jinja, int line, JValue v) {
    JValue list;
    if (v.kind == J_LIST) return v;
    list = j_list(jinja);
    if (v.kind == J_MAP) {
        for (int i = 0; i < v.map->count; i++) j_push(jinja, list, v.map->keys[i]);
    } else if (v.kind == J_STRING) {
        for (size_t at = 0, next; at < v.length && !jinja->error; at = next) {
            next = step(v.text, v.length, at);
            j_push(jinja, list, J_STRING_OF(v.text + at, next - at));
        }
    } else if (v.kind != J_UNDEFINED) {
        jinja_fail(jinja, line, "%s cannot be gone through", j_kind_name(v));
    }
    return list;
}

// ---- text -----------------------------------------------------------------------------------------------------------------

static void print_float(Text *out, double value) {
    char text[64];
    for (int digits = 1; digits <= 17; digits++) {                               // the shortest that reads back the same
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    text_puts(out, text);
    if (!strpbrk(text, ".ein")) text_puts(out, ".0");
}

static void print_quoted(Text *out, JValue v) {
    bool doubled = memchr(v.text, '\'', v.length) && !memchr(v.text, '"', v.length);
    char quote = doubled ? '"' : '\'';
    text_add(out, &quote, 1);
    for (size_t i = 0; i < v.length; i++) {
        char c = v.text[i];
        if (c == '\n') text_puts(out, "\\n");
        else if (c == '\t') text_puts(out, "\\t");
        else if (c == '\r') text_puts(out, "\\r");
        else {
            if (c == '\\' || c == quote) text_puts(out, "\\");
            text_add(out, &c, 1);
        }
    }
    text_add(out, &quote, 1);
}

static bool too_much(Jinja *jinja, const Text *out) {
    if (out->length > MOST_TEXT) jinja_fail(jinja, 0, "it writes more than %d bytes", MOST_TEXT);
    return jinja->error != NULL;
}

static void print(Jinja *jinja, Text *out, JValue v, bool quoted, int depth) {
    if (too_much(jinja, out)) return;
    if (depth > MOST_NESTING) {
        jinja_fail(jinja, 0, "a value is nested too deeply");
        return;
    }
    switch (v.kind) {
    case J_UNDEFINED: break;
    case J_NONE: text_puts(out, "None"); break;
    case J_BOOL: text_puts(out, v.truth ? "True" : "False"); break;
    case J_INT: text_printf(out, "%" PRId64, v.integer); break;
    case J_FLOAT: print_float(out, v.number); break;
    case J_STRING:
        if (quoted) print_quoted(out, v);
        else text_add(out, v.text, v.length);
        break;
    case J_LIST:
        text_puts(out, "[");
        for (int i = 0; i < v.list->count; i++) {
            if (i) text_puts(out, ", ");
            print(jinja, out, v.list->items[i], true, depth + 1);
        }
        text_puts(out, "]");
        break;
    case J_MAP:
        text_puts(out, "{");
        for (int i = 0; i < v.map->count; i++) {
            if (i) text_puts(out, ", ");
            print(jinja, out, v.map->keys[i], true, depth + 1);
            text_puts(out, ": ");
            print(jinja, out, v.map->values[i], true, depth + 1);
        }
        text_puts(out, "}");
        break;
    default: jinja_fail(jinja, 0, "%s is written out", j_kind_name(v));
    }
}

void j_print(Jinja *jinja, Text *out, JValue v, bool quoted) { print(jinja, out, v, quoted, 0); }

static void json_string(Text *out, JValue v) {
    text_puts(out, "\"");
    for (size_t i = 0; i < v.length; i++) {
        unsigned char c = (unsigned char)v.text[i];
        if (c == '"' || c == '\\') text_printf(out, "\\%c", c);
        else if (c == '\n') text_puts(out, "\\n");
        else if (c == '\t') text_puts(out, "\\t");
        else if (c == '\r') text_puts(out, "\\r");
        else if (c < 0x20) text_printf(out, "\\u%04x", c);
        else text_add(out, (const char *)&c, 1);
    }
    text_puts(out, "\"");
}

static void json_break(Text *out, int indent, int level, bool comma) {
    if (comma) text_puts(out, indent >= 0 ? "," : ", ");
    if (indent < 0) return;
    text_printf(out, "\n%*s", indent * level, "");
}

void j_json(Jinja *jinja, Text *out, JValue v, int indent, int level) {
    if (too_much(jinja, out)) return;
    bool list = v.kind == J_LIST;
    int count = list ? v.list->count : v.kind == J_MAP ? v.map->count : 0;
    if (level > MOST_NESTING) {
        jinja_fail(jinja, 0, "a value is nested too deeply");
    } else if (v.kind == J_STRING) {
        json_string(out, v);
    } else if (v.kind == J_NONE || v.kind == J_BOOL) {
        text_puts(out, v.kind == J_NONE ? "null" : v.truth ? "true" : "false");
    } else if (list || v.kind == J_MAP) {
        text_puts(out, list ? "[" : "{");
        for (int i = 0; i < count; i++) {
            json_break(out, indent, level + 1, i > 0);
            if (!list) {
                Text key = {0};
                j_print(jinja, &key, v.map->keys[i], false);
                json_string(out, J_STRING_OF(key.data ? key.data : "", key.length));
                text_free(&key);
                text_puts(out, ": ");
            }
            j_json(jinja, out, list ? v.list->items[i] : v.map->values[i], indent, level + 1);
        }
        if (count) json_break(out, indent, level, false);
        text_puts(out, list ? "]" : "}");
    } else if (is_number(v)) {
        print(jinja, out, v, false, 0);
    } else {
        jinja_fail(jinja, 0, "%s is no JSON", j_kind_name(v));
    }
}

// ---- operators -----------------------------------------------------------------------------------------------------------

static JValue join(Jinja *jinja, JValue a, JValue b) {
    Text text = {0};
    j_print(jinja, &text, a, false);
    j_print(jinja, &text, b, false);
    return j_take(jinja, &text);
}

static JValue repeat(Jinja *jinja, JValue text, int64_t times) {
    Text out = {0};
    for (int64_t i = 0; i < times && text.length && !too_much(jinja, &out); i++) text_add(&out, text.text, text.length);
    return j_take(jinja, &out);
}

static JValue whole(Jinja *jinja, int line, const char *operation, int64_t a, int64_t b) {
    int64_t result = 0;
    bool overflow = false;
    if ((*operation == '/' || *operation == '%') && (b == 0 || (b == -1 && a == INT64_MIN))) {
        jinja_fail(jinja, line, "a division by zero");
        return J_NUMBER(0);
    }
    switch (*operation) {
    case '+': overflow = __builtin_add_overflow(a, b, &result); break;
    case '-': overflow = __builtin_sub_overflow(a, b, &result); break;
    case '*':
        if (!operation[1]) {
            overflow = __builtin_mul_overflow(a, b, &result);
            break;
        }
        result = 1;
        if (b < 0) return (JValue){.kind = J_FLOAT, .number = pow((double)a, (double)b)};
        overflow = b > 64 && a != 0 && a != 1 && a != -1;
        for (int64_t i = 0; i < b && i < 64 && !overflow; i++) overflow = __builtin_mul_overflow(result, a, &result);
        if (b > 64 && a == -1 && b % 2) result = -1;
        break;
    case '%': result = a % b + (a % b && (a % b < 0) != (b < 0) ? b : 0); break;
    default: result = a / b - (a % b && (a % b < 0) != (b < 0));                 // '//' rounds down
    }
    if (overflow) jinja_fail(jinja, line, "a number is too large");
    return J_NUMBER(result);
}

JValue j_binary(Jinja *jinja, int line, const char *operation, JValue a, JValue b) {
    if (*operation == '~') return join(jinja, a, b);
    if (is_number(a) && is_number(b)) {
        bool division = !strcmp(operation, "/");
        if (a.kind != J_FLOAT && b.kind != J_FLOAT && !division) return whole(jinja, line, operation, integer(a), integer(b));
        double x = number(a), y = number(b), result = 0;
        if ((*operation == '/' || *operation == '%') && y == 0) jinja_fail(jinja, line, "a division by zero");
        if (*operation == '+') result = x + y;
        else if (*operation == '-') result = x - y;
        else if (*operation == '*') result = operation[1] ? pow(x, y) : x * y;
        else if (*operation == '%') result = x - y * floor(x / y);
        else result = division ? x / y : floor(x / y);
        return (JValue){.kind = J_FLOAT, .number = result};
    }
    if (*operation == '+' && a.kind == J_STRING && b.kind == J_STRING) return join(jinja, a, b);
    if (*operation == '+' && a.kind == J_LIST && b.kind == J_LIST) {
        JValue list = j_list(jinja);
        for (int i = 0; i < a.list->count; i++) j_push(jinja, list, a.list->items[i]);
        for (int i = 0; i < b.list->count; i++) j_push(jinja, list, b.list->items[i]);
        return list;
    }
    if (!strcmp(operation, "*") && a.kind == J_STRING && b.kind == J_INT) return repeat(jinja, a, b.integer);
    if (!strcmp(operation, "*") && a.kind == J_INT && b.kind == J_STRING) return repeat(jinja, b, a.integer);
    jinja_fail(jinja, line, "%s %s %s means nothing", j_kind_name(a), operation, j_kind_name(b));
    return (JValue){0};
}

JValue j_item(Jinja *jinja, int line, JValue of, JValue key) {
    if (of.kind == J_MAP) return j_get(of, key);
    if (of.kind == J_UNDEFINED || of.kind == J_NONE) {
        if (of.kind == J_UNDEFINED) jinja_fail(jinja, line, "a part of something undefined is asked for");
        return (JValue){0};
    }
    if ((of.kind != J_LIST && of.kind != J_STRING) || (key.kind != J_INT && key.kind != J_BOOL)) return (JValue){0};
    JValue list = j_iterate(jinja, line, of);
    int64_t i = integer(key) < 0 ? integer(key) + list.list->count : integer(key);
    return i >= 0 && i < list.list->count ? list.list->items[i] : (JValue){0};
}

static int64_t slice_bound(JValue v, int64_t length, int64_t otherwise, bool backwards) {
    if (v.kind != J_INT && v.kind != J_BOOL) return otherwise;
    int64_t i = integer(v), low = backwards ? -1 : 0, high = backwards ? length - 1 : length;
    if (i < 0) i = i < -length ? low : i + length;
    return i < low ? low : i > high ? high : i;
}

JValue j_slice(Jinja *jinja, int line, JValue of, JValue from, JValue to, JValue by) {
    if (of.kind != J_LIST && of.kind != J_STRING) {
        jinja_fail(jinja, line, "%s cannot be sliced", j_kind_name(of));
        return (JValue){0};
    }
    JValue list = j_iterate(jinja, line, of), result = j_list(jinja);
    int64_t length = list.list->count, step = by.kind == J_INT ? by.integer : 1;
    if (!step || step < -length - 1 || step > length + 1) step = step > 0 ? length + 1 : step < 0 ? -length - 1 : 1;
    int64_t i = slice_bound(from, length, step < 0 ? length - 1 : 0, step < 0),
            end = slice_bound(to, length, step < 0 ? -1 : length, step < 0);
    for (; (step > 0 ? i < end : i > end) && !jinja->error; i += step) j_push(jinja, result, list.list->items[i]);
    if (of.kind == J_LIST) return result;
    Text text = {0};
    for (int k = 0; k < result.list->count; k++) text_add(&text, result.list->items[k].text, result.list->items[k].length);
    return j_take(jinja, &text);
}
