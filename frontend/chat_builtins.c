// Filters, tests, methods and functions of the Jinja interpreter, one table each. What is missing is an error by name.
#include "frontend/chat.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

JValue j_arg(const JArgs *args, int index, const char *name) {
    for (int i = 0; i < args->count; i++)
        if (args->names[i] && !strcmp(args->names[i], name)) return args->items[i];
    return index < args->count && !args->names[index] ? args->items[index] : (JValue){0};
}

static int64_t number_arg(const JArgs *args, int index, const char *name, int64_t otherwise) {
    JValue v = j_arg(args, index, name);
    return v.kind == J_INT ? v.integer : v.kind == J_BOOL ? v.truth : otherwise;
}

// ---- texts ---------------------------------------------------------------------------------------------------------------

static JValue to_text(Jinja *j, JValue v) {
    if (v.kind == J_STRING) return v;
    Text text = {0};
    j_print(j, &text, v, false);
    return j_take(j, &text);
}

static bool in_set(JValue set, char c) {
    if (set.kind == J_STRING) return memchr(set.text, c, set.length) != NULL;
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
}

static JValue stripped(JValue v, JValue set, bool left, bool right) {
    while (left && v.length && in_set(set, *v.text)) v.text++, v.length--;
    while (right && v.length && in_set(set, v.text[v.length - 1])) v.length--;
    return v;
}

typedef enum { UPPER, LOWER, CAPITALIZE, TITLE } Casing;

static JValue cased(Jinja *j, JValue v, Casing casing) {                   // ASCII letters: templates change the case of role names
    JValue copy = j_string(j, v.text, v.length);
    char *text = (char *)copy.text;
    bool first = true;
    for (size_t i = 0; i < copy.length; i++) {
        bool up = casing == UPPER || (first && casing != LOWER), letter = (text[i] | 32) >= 'a' && (text[i] | 32) <= 'z';
        if (letter) text[i] = (char)(up ? text[i] & ~32 : text[i] | 32);
        first = casing == TITLE && !letter;
    }
    return copy;
}

static JValue replaced(Jinja *j, JValue v, JValue from, JValue by, int64_t most) {
    if (from.kind != J_STRING || by.kind != J_STRING || !from.length) {
        jinja_fail(j, 0, "replace takes two texts");
        return v;
    }
    Text out = {0};
    const char *p = v.text, *end = v.text + v.length, *found;
    for (; most && out.length < 1 << 22 && (found = memmem(p, (size_t)(end - p), from.text, from.length));
         p = found + from.length, most--) {
        text_add(&out, p, (size_t)(found - p));
        text_add(&out, by.text, by.length);
    }
    text_add(&out, p, (size_t)(end - p));
    return j_take(j, &out);
}

static JValue split(Jinja *j, JValue v, JValue by, int64_t most) {
    JValue list = j_list(j);
    const char *p = v.text, *end = v.text + v.length, *found;
    if (by.kind == J_STRING && by.length) {
        for (; most && !j->error && (found = memmem(p, (size_t)(end - p), by.text, by.length)); p = found + by.length, most--)
            j_push(j, list, J_STRING_OF(p, (size_t)(found - p)));
        j_push(j, list, J_STRING_OF(p, (size_t)(end - p)));
        return list;
    }
    for (; !j->error; most--) {                                            // by white space
        while (p < end && in_set((JValue){0}, *p)) p++;
        if (p == end) break;
        const char *word = p;
        while (p < end && (!most || !in_set((JValue){0}, *p))) p++;
        j_push(j, list, J_STRING_OF(word, (size_t)(p - word)));
    }
    return list;
}

static JValue split_right(Jinja *j, JValue v, JValue by, int64_t most) {
    JValue all = split(j, v, by, -1);
    int count = all.list->count, keep = most < 0 || most >= count ? 0 : count - (int)most - 1;
    if (!keep || by.kind != J_STRING) return all;
    JValue list = j_list(j);
    JValue head = all.list->items[keep];
    j_push(j, list, J_STRING_OF(v.text, (size_t)(head.text + head.length - v.text)));
    for (int i = keep + 1; i < count; i++) j_push(j, list, all.list->items[i]);
    return list;
}

static bool affixed(JValue v, JValue affix, bool start) {
    if (affix.kind == J_LIST) {
        for (int i = 0; i < affix.list->count; i++)
            if (affixed(v, affix.list->items[i], start)) return true;
        return false;
    }
    if (affix.kind != J_STRING || affix.length > v.length) return false;
    return !memcmp(start ? v.text : v.text + v.length - affix.length, affix.text, affix.length);
}

static JValue without_affix(JValue v, JValue affix, bool start) {
    if (!affixed(v, affix, start) || affix.kind != J_STRING) return v;
    return J_STRING_OF(start ? v.text + affix.length : v.text, v.length - affix.length);
}

static JValue found_at(JValue v, JValue what) {
    const char *found = what.kind == J_STRING ? memmem(v.text, v.length, what.text, what.length) : NULL;
    return J_NUMBER(found ? j_length(J_STRING_OF(v.text, (size_t)(found - v.text))) : -1);
}

static JValue occurrences(JValue v, JValue what) {
    int64_t n = 0;
    if (what.kind != J_STRING || !what.length) return J_NUMBER(0);
    for (const char *p = v.text, *end = v.text + v.length; (p = memmem(p, (size_t)(end - p), what.text, what.length)); p += what.length)
        n++;
    return J_NUMBER(n);
}

static JValue joined(Jinja *j, JValue list, JValue by, JValue attribute) {
    Text out = {0};
    for (int i = 0; i < list.list->count && !j->error; i++) {
        if (i) j_print(j, &out, by, false);
        JValue item = list.list->items[i];
        j_print(j, &out, attribute.kind == J_UNDEFINED ? item : j_item(j, 0, item, attribute), false);
    }
    return j_take(j, &out);
}

static JValue indented(Jinja *j, JValue v, int64_t width, bool first, bool blank) {
    Text out = {0};
    width = width < 0 ? 0 : width > 1000 ? 1000 : width;
    bool line_start = true, any = false;
    for (size_t i = 0; i < v.length && out.length < 1 << 22; i++) {
        if (line_start && (any || first) && (blank || v.text[i] != '\n')) text_printf(&out, "%*s", (int)width, "");
        text_add(&out, v.text + i, 1);
        line_start = v.text[i] == '\n';
        any |= line_start;
    }
    return j_take(j, &out);
}

// ---- lists ---------------------------------------------------------------------------------------------------------------

static JValue pairs(Jinja *j, int line, JValue map) {
    JValue list = j_list(j);
    if (map.kind != J_MAP && map.kind != J_UNDEFINED) jinja_fail(j, line, "items of %s", j_kind_name(map));
    for (int i = 0; map.kind == J_MAP && i < map.map->count && !j->error; i++) {
        JValue pair = j_list(j);
        j_push(j, pair, map.map->keys[i]);
        j_push(j, pair, map.map->values[i]);
        j_push(j, list, pair);
    }
    return list;
}

static JValue values_of(Jinja *j, JValue map) {
    JValue list = j_list(j);
    for (int i = 0; i < map.map->count; i++) j_push(j, list, map.map->values[i]);
    return list;
}

static JValue reversed(Jinja *j, JValue list) {
    JValue out = j_list(j);
    for (int i = list.list->count; i-- && !j->error;) j_push(j, out, list.list->items[i]);
    return out;
}

static JValue sorted(Jinja *j, int line, JValue list, JValue attribute, bool down) {
    JValue out = j_list(j);
    for (int i = 0; i < list.list->count && !j->error; i++) j_push(j, out, list.list->items[i]);
    for (int i = 1; i < out.list->count && !j->error; i++)                  // insertion: stable; steps bound it
        for (int k = i; k && !j->error; k--) {
            JValue *a = &out.list->items[k - 1], *b = &out.list->items[k];
            JValue x = attribute.kind == J_UNDEFINED ? *a : j_item(j, line, *a, attribute),
                   y = attribute.kind == J_UNDEFINED ? *b : j_item(j, line, *b, attribute);
            int order = j_order(j, line, x, y);
            if (--j->steps < 0) jinja_fail(j, line, "it takes too many steps");
            if (down ? order >= 0 : order <= 0) break;
            JValue swap = *a;
            *a = *b;
            *b = swap;
        }
    return out;
}

static JValue unique(Jinja *j, int line, JValue list) {
    JValue out = j_list(j);
    for (int i = 0; i < list.list->count && !j->error; i++) {
        if ((j->steps -= out.list->count) < 0) jinja_fail(j, line, "it takes too many steps");
        if (!j_contains(j, line, out, list.list->items[i])) j_push(j, out, list.list->items[i]);
    }
    return out;
}

static JArgs rest(const JArgs *args, int from) {
    return from >= args->count ? (JArgs){0} : (JArgs){args->items + from, args->names + from, args->count - from};
}

// map(attribute=…), map(filter, …)
static JValue mapped(Jinja *j, int line, JValue list, const JArgs *args) {
    JValue out = j_list(j), attribute = j_arg(args, 99, "attribute"), name = j_arg(args, 0, "filter");
    JArgs others = rest(args, 1);
    if (attribute.kind == J_UNDEFINED && name.kind != J_STRING) jinja_fail(j, line, "map takes an attribute or a filter");
    for (int i = 0; i < list.list->count && !j->error; i++) {
        JValue item = list.list->items[i];
        if (attribute.kind != J_UNDEFINED) item = j_item(j, line, item, attribute);
        else item = j_filter(j, line, arena_strndup(j->arena, name.text, name.length), item, &others);
        j_push(j, out, item);
    }
    return out;
}

// select(test, …), reject(test, …); selectattr(attribute, test, …), rejectattr(…)
static JValue selected(Jinja *j, int line, JValue list, const JArgs *args, bool by_attribute, bool keep) {
    JValue out = j_list(j), attribute = j_arg(args, 0, ""), test = j_arg(args, by_attribute, "");
    JArgs others = rest(args, by_attribute + 1);
    for (int i = 0; i < list.list->count && !j->error; i++) {
        JValue item = list.list->items[i], value = by_attribute ? j_item(j, line, item, attribute) : item;
        bool passes =
            test.kind == J_STRING ? j_test(j, line, arena_strndup(j->arena, test.text, test.length), value, &others) : j_true(value);
        if (passes == keep) j_push(j, out, item);
    }
    return out;
}

static JValue total(Jinja *j, int line, JValue list) {
    JValue sum = J_NUMBER(0);
    for (int i = 0; i < list.list->count && !j->error; i++) sum = j_binary(j, line, "+", sum, list.list->items[i]);
    return sum;
}

static JValue extreme(Jinja *j, int line, JValue list, int sign) {
    JValue best = {0};
    for (int i = 0; i < list.list->count && !j->error; i++)
        if (!i || sign * j_order(j, line, list.list->items[i], best) > 0) best = list.list->items[i];
    return best;
}

// ---- filters -------------------------------------------------------------------------------------------------------------

static JValue list_filter(Jinja *j, int line, const char *name, JValue v, const JArgs *args) {
    JValue list = j_iterate(j, line, v);
    if (j->error) return list;
    int count = list.list->count;
    if (!strcmp(name, "first")) return count ? list.list->items[0] : (JValue){0};
    if (!strcmp(name, "last")) return count ? list.list->items[count - 1] : (JValue){0};
    if (!strcmp(name, "list")) return list;
    if (!strcmp(name, "join")) return joined(j, list, to_text(j, j_arg(args, 0, "d")), j_arg(args, 1, "attribute"));
    if (!strcmp(name, "map")) return mapped(j, line, list, args);
    if (!strcmp(name, "select")) return selected(j, line, list, args, false, true);
    if (!strcmp(name, "reject")) return selected(j, line, list, args, false, false);
    if (!strcmp(name, "selectattr")) return selected(j, line, list, args, true, true);
    if (!strcmp(name, "rejectattr")) return selected(j, line, list, args, true, false);
    if (!strcmp(name, "reverse")) return reversed(j, list);
    if (!strcmp(name, "unique")) return unique(j, line, list);
    if (!strcmp(name, "sum")) return total(j, line, list);
    if (!strcmp(name, "min")) return extreme(j, line, list, -1);
    if (!strcmp(name, "max")) return extreme(j, line, list, 1);
    return sorted(j, line, list, j_arg(args, 2, "attribute"), j_true(j_arg(args, 0, "reverse")));
}

static JValue text_filter(Jinja *j, const char *name, JValue v, const JArgs *args) {
    v = to_text(j, v);
    if (!strcmp(name, "trim")) return stripped(v, j_arg(args, 0, "chars"), true, true);
    if (!strcmp(name, "upper")) return cased(j, v, UPPER);
    if (!strcmp(name, "lower")) return cased(j, v, LOWER);
    if (!strcmp(name, "capitalize")) return cased(j, v, CAPITALIZE);
    if (!strcmp(name, "title")) return cased(j, v, TITLE);
    if (!strcmp(name, "replace")) return replaced(j, v, j_arg(args, 0, "old"), j_arg(args, 1, "new"), number_arg(args, 2, "count", -1));
    if (!strcmp(name, "indent"))
        return indented(j, v, number_arg(args, 0, "width", 4), j_true(j_arg(args, 1, "first")), j_true(j_arg(args, 2, "blank")));
    if (!strcmp(name, "int")) return J_NUMBER(v.length ? strtoll(arena_strndup(j->arena, v.text, v.length), NULL, 10) : 0);
    if (!strcmp(name, "float")) return (JValue){.kind = J_FLOAT, .number = strtod(arena_strndup(j->arena, v.text, v.length), NULL)};
    return v;                                                              // string, safe
}

static bool listed(const char *name, const char *const *names) {
    for (; *names; names++)
        if (!strcmp(name, *names)) return true;
    return false;
}

JValue j_filter(Jinja *j, int line, const char *name, JValue v, const JArgs *args) {
    static const char *const texts[] = {"trim",   "upper", "lower", "capitalize", "title", "replace",
                                        "indent", "int",   "float", "string",     "safe",  NULL};
    static const char *const lists[] = {"first",      "last",    "list",   "join", "map", "select", "reject", "selectattr",
                                        "rejectattr", "reverse", "unique", "sum",  "min", "max",    "sort",   NULL};
    if (--j->steps < 0) jinja_fail(j, line, "it takes too many steps");
    if (j->error) return v;
    if (!strcmp(name, "default") || !strcmp(name, "d")) {
        bool falsy = j_true(j_arg(args, 1, "boolean")) && !j_true(v);
        return v.kind == J_UNDEFINED || falsy ? j_arg(args, 0, "default_value") : v;
    }
    if (!strcmp(name, "length") || !strcmp(name, "count")) {
        int64_t length = j_length(v);
        if (length < 0) jinja_fail(j, line, "%s has no length", j_kind_name(v));
        return J_NUMBER(length);
    }
    if (!strcmp(name, "tojson")) {
        Text out = {0};
        JValue indent = j_arg(args, 99, "indent");
        j_json(j, &out, v, indent.kind == J_INT && indent.integer >= 0 && indent.integer < 32 ? (int)indent.integer : -1, 0);
        return j_take(j, &out);
    }
    if (!strcmp(name, "items") || !strcmp(name, "dictsort")) {
        JValue all = pairs(j, line, v);
        return *name == 'i' || j->error ? all : sorted(j, line, all, J_NUMBER(0), false);
    }
    if (!strcmp(name, "abs")) return v.kind == J_INT && v.integer < 0 ? j_binary(j, line, "-", J_NUMBER(0), v) : v;
    if (listed(name, texts)) return (*name == 'i' && name[2] == 't' && v.kind == J_INT) ? v : text_filter(j, name, v, args);
    if (listed(name, lists)) return list_filter(j, line, name, v, args);
    jinja_fail(j, line, "the filter \"%s\" is not supported", name);
    return v;
}

// ---- tests ---------------------------------------------------------------------------------------------------------------

bool j_test(Jinja *j, int line, const char *name, JValue v, const JArgs *args) {
    static const struct {
        const char *name;
        unsigned kinds;
    } kinds[] = {{"undefined", 1u << J_UNDEFINED},
                 {"none", 1u << J_NONE},
                 {"boolean", 1u << J_BOOL},
                 {"integer", 1u << J_INT},
                 {"float", 1u << J_FLOAT},
                 {"number", 1u << J_INT | 1u << J_FLOAT | 1u << J_BOOL},
                 {"string", 1u << J_STRING},
                 {"mapping", 1u << J_MAP},
                 {"iterable", 1u << J_STRING | 1u << J_LIST | 1u << J_MAP | 1u << J_UNDEFINED},
                 {"sequence", 1u << J_STRING | 1u << J_LIST | 1u << J_MAP | 1u << J_UNDEFINED},
                 {"callable", 1u << J_MACRO | 1u << J_METHOD}};
    static const struct {
        const char *name, *sign;
    } signs[] = {{"equalto", "=="}, {"eq", "=="}, {"ne", "!="},      {"lt", "<"},         {"gt", ">"},
                 {"le", "<="},      {"ge", ">="}, {"lessthan", "<"}, {"greaterthan", ">"}};
    if (--j->steps < 0) jinja_fail(j, line, "it takes too many steps");
    // A date would make the same model compile differently tomorrow: templates that ask first fall back to their fixed one.
    if (!strcmp(name, "defined"))
        return v.kind != J_UNDEFINED && !(v.kind == J_METHOD && !v.method.self && !strcmp(v.method.name, "strftime_now"));
    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        if (!strcmp(name, kinds[i].name)) return kinds[i].kinds >> v.kind & 1;
    JValue other = j_arg(args, 0, "other");
    for (size_t i = 0; i < COUNT_OF(signs); i++) {
        if (strcmp(name, signs[i].name)) continue;
        if (signs[i].sign[1] == '=' && signs[i].sign[0] != '<' && signs[i].sign[0] != '>')
            return j_equal(v, other) == (signs[i].sign[0] == '=');
        int order = j_order(j, line, v, other);
        return signs[i].sign[0] == '<' ? order < 0 || (signs[i].sign[1] && !order) : order > 0 || (signs[i].sign[1] && !order);
    }
    if (!strcmp(name, "in")) return j_contains(j, line, other, v);
    if (!strcmp(name, "true") || !strcmp(name, "false")) return v.kind == J_BOOL && v.truth == (*name == 't');
    bool number = v.kind == J_INT;
    if (!strcmp(name, "odd") || !strcmp(name, "even")) return number && (v.integer % 2 != 0) == (*name == 'o');
    if (!strcmp(name, "divisibleby"))
        return number && other.kind == J_INT && other.integer && other.integer != -1 && v.integer % other.integer == 0;
    jinja_fail(j, line, "the test \"%s\" is not supported", name);
    return false;
}

// ---- methods -------------------------------------------------------------------------------------------------------------

static const char *const string_methods[] = {"strip", "lstrip",     "rstrip",       "split",        "rsplit",  "startswith", "endswith",
                                             "upper", "lower",      "capitalize",   "title",        "replace", "find",       "count",
                                             "join",  "splitlines", "removeprefix", "removesuffix", "isdigit", NULL};
static const char *const map_methods[] = {"get", "items", "keys", "values", NULL};
static const char *const list_methods[] = {"index", "count", NULL};

bool j_has_method(JValue self, const char *name) {
    if (self.kind == J_STRING) return listed(name, string_methods);
    if (self.kind == J_MAP) return listed(name, map_methods);
    return self.kind == J_LIST && listed(name, list_methods);
}

static JValue split_lines(Jinja *j, JValue v) {
    JValue lines = split(j, v, J_TEXT("\n"), -1);
    if (!v.length || v.text[v.length - 1] == '\n') lines.list->count--;
    return lines;
}

static bool all_digits(JValue v) {
    for (size_t i = 0; i < v.length; i++)
        if (v.text[i] < '0' || v.text[i] > '9') return false;
    return v.length > 0;
}

static JValue string_method(Jinja *j, int line, JValue s, const char *name, const JArgs *args) {
    JValue a = j_arg(args, 0, "sep"), b = j_arg(args, 1, "");
    if (!strcmp(name, "strip")) return stripped(s, a, true, true);
    if (!strcmp(name, "lstrip")) return stripped(s, a, true, false);
    if (!strcmp(name, "rstrip")) return stripped(s, a, false, true);
    if (!strcmp(name, "split")) return split(j, s, a, number_arg(args, 1, "maxsplit", -1));
    if (!strcmp(name, "rsplit")) return split_right(j, s, a, number_arg(args, 1, "maxsplit", -1));
    if (!strcmp(name, "startswith")) return J_TRUTH(affixed(s, a, true));
    if (!strcmp(name, "endswith")) return J_TRUTH(affixed(s, a, false));
    if (!strcmp(name, "upper")) return cased(j, s, UPPER);
    if (!strcmp(name, "lower")) return cased(j, s, LOWER);
    if (!strcmp(name, "capitalize")) return cased(j, s, CAPITALIZE);
    if (!strcmp(name, "title")) return cased(j, s, TITLE);
    if (!strcmp(name, "replace")) return replaced(j, s, a, b, number_arg(args, 2, "count", -1));
    if (!strcmp(name, "find")) return found_at(s, a);
    if (!strcmp(name, "count")) return occurrences(s, a);
    if (!strcmp(name, "join")) return joined(j, j_iterate(j, line, a), s, (JValue){0});
    if (!strcmp(name, "splitlines")) return split_lines(j, s);
    if (!strcmp(name, "isdigit")) return J_TRUTH(all_digits(s));
    return without_affix(s, a, !strcmp(name, "removeprefix"));
}

JValue j_method(Jinja *j, int line, JValue self, const char *name, const JArgs *args) {
    JValue a = j_arg(args, 0, "key");
    if (j->error) return self;
    if (self.kind == J_STRING) return string_method(j, line, self, name, args);
    if (self.kind == J_MAP) {
        if (!strcmp(name, "items")) return pairs(j, line, self);
        if (!strcmp(name, "keys")) return j_iterate(j, line, self);
        if (!strcmp(name, "values")) return values_of(j, self);
        if (j_contains(j, line, self, a)) return j_get(self, a);
        return args->count > 1 ? j_arg(args, 1, "default") : (JValue){.kind = J_NONE};
    }
    int64_t n = 0;
    bool index = !strcmp(name, "index");
    for (int i = 0; i < self.list->count; i++) {
        if (!j_equal(self.list->items[i], a)) continue;
        if (index) return J_NUMBER(i);
        n++;
    }
    if (index) jinja_fail(j, line, "index of something that is not in the list");
    return J_NUMBER(n);
}

// ---- functions -----------------------------------------------------------------------------------------------------------

static JValue range(Jinja *j, int line, const JArgs *args) {
    JValue list = j_list(j);
    int64_t from = args->count > 1 ? number_arg(args, 0, "", 0) : 0, to = number_arg(args, args->count > 1, "", 0),
            by = number_arg(args, 2, "", 1);
    if (!by) jinja_fail(j, line, "range by zero");
    for (int64_t i = from, n = 0; !j->error && (by > 0 ? i < to : i > to); i += by, n++) {
        if (n > 100000) jinja_fail(j, line, "a range of more than 100000 numbers");
        j_push(j, list, J_NUMBER(i));
        if (by > 0 ? i > INT64_MAX - by : i < INT64_MIN - by) break;
    }
    return list;
}

static JValue today(Jinja *j, const JArgs *args) {
    char text[256];
    time_t now = time(NULL);
    struct tm date;
    JValue format = j_arg(args, 0, "format");
    gmtime_r(&now, &date);
    size_t length = format.kind == J_STRING ? strftime(text, sizeof text, arena_strndup(j->arena, format.text, format.length), &date) : 0;
    return j_string(j, text, length);
}

JValue j_function(Jinja *j, int line, const char *name, const JArgs *args) {
    if (!strcmp(name, "range")) return range(j, line, args);
    if (!strcmp(name, "strftime_now")) return today(j, args);
    if (!strcmp(name, "raise_exception")) {
        JValue said = to_text(j, j_arg(args, 0, "message"));
        jinja_fail(j, line, "it says: %.*s", (int)(said.length > 500 ? 500 : said.length), said.text);
        return (JValue){0};
    }
    JValue map = j_map(j);                                                 // namespace, dict
    map.map->is_namespace = *name == 'n';
    if (args->count && !args->names[0] && args->items[0].kind == J_MAP)
        for (int i = 0; i < args->items[0].map->count; i++) j_put(j, map, args->items[0].map->keys[i], args->items[0].map->values[i]);
    for (int i = 0; i < args->count; i++)
        if (args->names[i]) j_put(j, map, J_STRING_OF(args->names[i], strlen(args->names[i])), args->items[i]);
    return map;
}
