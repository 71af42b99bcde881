// Evaluating the tree. Every node visited costs a step; scopes are frames, one for each turn of a loop and each call of a macro.
#include "frontend/chat.h"

#include <string.h>

enum { MOST_DEPTH = 400 };

static JValue eval(Jinja *j, const JNode *node, JFrame *frame);
static void run(Jinja *j, const JNode *node, JFrame *frame);

static JFrame *frame_new(Jinja *j, JFrame *parent) {
    JFrame *frame = jinja_alloc(j, sizeof *frame);
    frame->parent = parent;
    return frame;
}

static void assign(Jinja *j, JFrame *frame, const char *name, JValue value) {
    for (int i = 0; i < frame->count; i++)
        if (!strcmp(frame->names[i], name)) {
            frame->values[i] = value;
            return;
        }
    int count = frame->count;
    j->bytes -= 64;
    ARENA_PUSH(j->arena, frame->names, count, frame->names_capacity) = name;
    ARENA_PUSH(j->arena, frame->values, frame->count, frame->values_capacity) = value;
}

static JValue look_up(const JFrame *frame, const char *name) {
    for (; frame; frame = frame->parent)
        for (int i = 0; i < frame->count; i++)
            if (!strcmp(frame->names[i], name)) return frame->values[i];
    static const char *const functions[] = {"raise_exception", "strftime_now", "range", "namespace", "dict"};
    for (size_t i = 0; i < COUNT_OF(functions); i++)
        if (!strcmp(functions[i], name)) return (JValue){.kind = J_METHOD, .method = {functions[i], NULL}};
    return (JValue){0};
}

static bool spend(Jinja *j, int line) {
    if (--j->steps < 0) jinja_fail(j, line, "it takes too many steps");
    return !j->error;
}

// ---- calls -------------------------------------------------------------------------------------------------------------

static JArgs arguments(Jinja *j, const JNode *node, JFrame *frame) {
    JArgs args = {.count = node->count - 1};
    args.items = jinja_alloc(j, sizeof(JValue) * (size_t)(args.count > 0 ? args.count : 1));
    args.names = jinja_alloc(j, sizeof(char *) * (size_t)(args.count > 0 ? args.count : 1));
    for (int i = 0; i < args.count && !j->error; i++) {
        args.items[i] = eval(j, node->items[i + 1], frame);
        args.names[i] = i + 1 < node->name_count ? node->names[i + 1] : NULL;
    }
    return args;
}

static JValue captured(Jinja *j, const JNode *body, JFrame *frame) {
    Text text = {0}, *out = j->out;
    j->out = &text;
    run(j, body, frame);
    j->out = out;
    return j_take(j, &text);
}

static JValue call_macro(Jinja *j, const JMacro *macro, const JArgs *args) {
    const JNode *node = macro->node;
    JFrame *frame = frame_new(j, macro->frame);
    for (int i = 0; i < node->name_count && !j->error; i++) {
        JValue value = j_arg(args, i, node->names[i]);
        const JNode *otherwise = node->items[i + 1];
        if (value.kind == J_UNDEFINED && otherwise) value = eval(j, otherwise, frame);
        assign(j, frame, node->names[i], value);
    }
    return captured(j, node->items[0], frame);
}

static JValue call(Jinja *j, const JNode *node, JFrame *frame) {
    JValue callee = eval(j, node->items[0], frame);
    JArgs args = arguments(j, node, frame);
    if (j->error) return (JValue){0};
    if (callee.kind == J_MACRO) return call_macro(j, callee.macro, &args);
    if (callee.kind == J_METHOD && callee.method.self) return j_method(j, node->line, *callee.method.self, callee.method.name, &args);
    if (callee.kind == J_METHOD) return j_function(j, node->line, callee.method.name, &args);
    const char *name = node->items[0]->name;
    jinja_fail(j, node->line, "\"%s\" is called but is %s", name ? name : "an expression", j_kind_name(callee));
    return (JValue){0};
}

static JValue attribute(Jinja *j, const JNode *node, JFrame *frame) {
    JValue of = eval(j, node->items[0], frame);
    if (j->error) return of;
    if (of.kind == J_UNDEFINED) {
        const char *name = node->items[0]->name;
        jinja_fail(j, node->line, "\"%s\" of \"%s\" is asked for, which is undefined", node->name, name ? name : "an expression");
        return of;
    }
    if (!(of.kind == J_MAP && of.map->is_namespace) && j_has_method(of, node->name)) {
        JValue *self = jinja_alloc(j, sizeof *self);
        *self = of;
        return (JValue){.kind = J_METHOD, .method = {node->name, self}};
    }
    return of.kind == J_MAP ? j_get_name(of, node->name) : (JValue){0};
}

// ---- expressions -------------------------------------------------------------------------------------------------------

static bool compare(Jinja *j, int line, const char *sign, JValue a, JValue b) {
    if (!strcmp(sign, "==")) return j_equal(a, b);
    if (!strcmp(sign, "!=")) return !j_equal(a, b);
    if (!strcmp(sign, "in")) return j_contains(j, line, b, a);
    if (!strcmp(sign, "not in")) return !j_contains(j, line, b, a);
    int order = j_order(j, line, a, b);
    if (!strcmp(sign, "<")) return order < 0;
    if (!strcmp(sign, "<=")) return order <= 0;
    return !strcmp(sign, ">") ? order > 0 : order >= 0;
}

static JValue comparison(Jinja *j, const JNode *node, JFrame *frame) {
    JValue left = eval(j, node->items[0], frame);
    for (int i = 0; i < node->name_count && !j->error; i++) {
        JValue right = eval(j, node->items[i + 1], frame);
        if (!compare(j, node->line, node->names[i], left, right)) return J_TRUTH(false);
        left = right;
    }
    return J_TRUTH(true);
}

static JValue collection(Jinja *j, const JNode *node, JFrame *frame) {
    if (node->kind == JN_LIST) {
        JValue list = j_list(j);
        for (int i = 0; i < node->count && !j->error; i++) j_push(j, list, eval(j, node->items[i], frame));
        return list;
    }
    JValue map = j_map(j);
    for (int i = 0; i + 1 < node->count && !j->error; i += 2) {
        JValue key = eval(j, node->items[i], frame);
        j_put(j, map, key, eval(j, node->items[i + 1], frame));
    }
    return map;
}

static JValue slice(Jinja *j, const JNode *node, JFrame *frame) {
    JValue parts[4] = {{0}};
    for (int i = 0; i < 4 && !j->error; i++)
        if (node->items[i]) parts[i] = eval(j, node->items[i], frame);
    return j->error ? (JValue){0} : j_slice(j, node->line, parts[0], parts[1], parts[2], parts[3]);
}

static JValue negative(Jinja *j, const JNode *node, JFrame *frame) {
    JValue v = eval(j, node->items[0], frame);
    if (*node->name == '+') return v;
    return j->error ? v : j_binary(j, node->line, "-", J_NUMBER(0), v);
}

static JValue filtered(Jinja *j, const JNode *node, JFrame *frame) {
    JValue v = eval(j, node->items[0], frame);
    JArgs args = arguments(j, node, frame);
    if (j->error) return (JValue){0};
    if (node->kind == JN_FILTER) return j_filter(j, node->line, node->name, v, &args);
    return J_TRUTH(j_test(j, node->line, node->name, v, &args) != node->negated);
}

static JValue eval_node(Jinja *j, const JNode *node, JFrame *frame) {
    JValue a;
    switch (node->kind) {
    case JN_LITERAL: return node->value;
    case JN_NAME: return look_up(frame, node->name);
    case JN_LIST: case JN_MAP: return collection(j, node, frame);
    case JN_ATTRIBUTE: return attribute(j, node, frame);
    case JN_ITEM:
        a = eval(j, node->items[0], frame);
        return j->error ? a : j_item(j, node->line, a, eval(j, node->items[1], frame));
    case JN_SLICE: return slice(j, node, frame);
    case JN_CALL: return call(j, node, frame);
    case JN_FILTER: case JN_TEST: return filtered(j, node, frame);
    case JN_UNARY: return negative(j, node, frame);
    case JN_BINARY: {
        a = eval(j, node->items[0], frame);
        JValue b = eval(j, node->items[1], frame);
        return j->error ? a : j_binary(j, node->line, node->name, a, b);
    }
    case JN_COMPARE: return comparison(j, node, frame);
    case JN_AND: case JN_OR:
        a = eval(j, node->items[0], frame);
        return j->error || j_true(a) == (node->kind == JN_OR) ? a : eval(j, node->items[1], frame);
    case JN_NOT: return J_TRUTH(!j_true(eval(j, node->items[0], frame)));
    case JN_IF_ELSE:
        if (j_true(eval(j, node->items[0], frame))) return eval(j, node->items[1], frame);
        return node->count > 2 ? eval(j, node->items[2], frame) : (JValue){0};
    default: return (JValue){0};
    }
}

static JValue eval(Jinja *j, const JNode *node, JFrame *frame) {
    if (!spend(j, node->line)) return (JValue){0};
    if (++j->depth > MOST_DEPTH) jinja_fail(j, node->line, "nested deeper than %d", MOST_DEPTH);
    JValue value = j->error ? (JValue){0} : eval_node(j, node, frame);
    j->depth--;
    return value;
}

// ---- statements --------------------------------------------------------------------------------------------------------

static void bind_targets(Jinja *j, const JNode *node, JFrame *frame, JValue value) {
    if (node->name_count == 1) {
        assign(j, frame, node->names[0], value);
        return;
    }
    JValue parts = j_iterate(j, node->line, value);
    if (!j->error && parts.list->count != node->name_count)
        jinja_fail(j, node->line, "%d names for %d values", node->name_count, parts.list->count);
    for (int i = 0; i < node->name_count && !j->error; i++) assign(j, frame, node->names[i], parts.list->items[i]);
}

static JValue loop_value(Jinja *j, const JList *items, int i) {
    JValue loop = j_map(j);
#define LOOP(name, value) j_put(j, loop, J_TEXT(name), value)
    LOOP("index", J_NUMBER(i + 1));
    LOOP("index0", J_NUMBER(i));
    LOOP("revindex", J_NUMBER(items->count - i));
    LOOP("revindex0", J_NUMBER(items->count - i - 1));
    LOOP("first", J_TRUTH(i == 0));
    LOOP("last", J_TRUTH(i + 1 == items->count));
    LOOP("length", J_NUMBER(items->count));
    if (i) LOOP("previtem", items->items[i - 1]);
    if (i + 1 < items->count) LOOP("nextitem", items->items[i + 1]);
#undef LOOP
    return loop;
}

static void run_for(Jinja *j, const JNode *node, JFrame *frame) {
    JValue items = j_iterate(j, node->line, eval(j, node->items[0], frame));
    if (node->items[1]) {                                        // for … if: loop counts only what passes
        JValue kept = j_list(j);
        for (int i = 0; i < items.list->count && !j->error; i++) {
            JFrame *turn = frame_new(j, frame);
            bind_targets(j, node, turn, items.list->items[i]);
            if (j_true(eval(j, node->items[1], turn))) j_push(j, kept, items.list->items[i]);
        }
        items = kept;
    }
    if (j->error) return;
    int count = items.list->count;
    for (int i = 0; i < count && !j->error && j->flow != J_BREAK; i++) {
        JFrame *turn = frame_new(j, frame);
        bind_targets(j, node, turn, items.list->items[i]);
        assign(j, turn, "loop", loop_value(j, items.list, i));
        run(j, node->items[2], turn);
        if (j->flow == J_CONTINUE) j->flow = J_GO;
    }
    j->flow = J_GO;
    if (!count && node->items[3]) run(j, node->items[3], frame);
}

static void run_if(Jinja *j, const JNode *node, JFrame *frame) {
    for (int i = 0; i + 1 < node->count && !j->error; i += 2)
        if (j_true(eval(j, node->items[i], frame))) {
            run(j, node->items[i + 1], frame);
            return;
        }
    if (node->count % 2 && !j->error) run(j, node->items[node->count - 1], frame);
}

// A captured text put through the filters whose innermost operand is the node `text`.
static JValue through_filters(Jinja *j, const JNode *node, JFrame *frame) {
    JValue text = captured(j, node->items[0], frame_new(j, frame));
    node->items[1]->value = text;
    return j->error ? text : eval(j, node->items[2], frame);
}

static void run_set(Jinja *j, const JNode *node, JFrame *frame) {
    JValue value = node->kind == JN_SET ? eval(j, node->items[0], frame) : through_filters(j, node, frame);
    if (j->error) return;
    if (!node->name) {
        bind_targets(j, node, frame, value);
        return;
    }
    JValue of = look_up(frame, node->names[0]);
    if (of.kind != J_MAP || !of.map->is_namespace) jinja_fail(j, node->line, "\"%s\" is no namespace", node->names[0]);
    else j_put(j, of, J_STRING_OF(node->name, strlen(node->name)), value);
}

static void run(Jinja *j, const JNode *node, JFrame *frame) {
    if (!spend(j, node->line) || j->flow != J_GO) return;
    if (++j->depth > MOST_DEPTH) jinja_fail(j, node->line, "nested deeper than %d", MOST_DEPTH);
    switch (node->kind) {
    case JN_TEXT: j_print(j, j->out, node->value, false); break;
    case JN_OUTPUT: {
        JValue value = eval(j, node->items[0], frame);
        if (!j->error) j_print(j, j->out, value, false);
        break;
    }
    case JN_BLOCK:
        for (int i = 0; i < node->count && !j->error && j->flow == J_GO; i++) run(j, node->items[i], frame);
        break;
    case JN_IF: run_if(j, node, frame); break;
    case JN_FOR: run_for(j, node, frame); break;
    case JN_SET: case JN_SET_BLOCK: run_set(j, node, frame); break;
    case JN_FILTER_BLOCK: j_print(j, j->out, through_filters(j, node, frame), false); break;
    case JN_MACRO: {
        JMacro *macro = jinja_alloc(j, sizeof *macro);
        *macro = (JMacro){node, frame};
        assign(j, frame, node->name, (JValue){.kind = J_MACRO, .macro = macro});
        break;
    }
    case JN_BREAK: j->flow = J_BREAK; break;
    case JN_CONTINUE: j->flow = J_CONTINUE; break;
    default: break;
    }
    j->depth--;
}

bool jinja_render(Jinja *j, const JNode *template, Text *out) {
    j->out = out;
    j->depth = 0;
    j->flow = J_GO;
    run(j, template, frame_new(j, j->globals));
    return !j->error;
}
