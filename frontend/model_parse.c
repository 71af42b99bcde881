// From YAML structure to blocks, parameters and statements: everything that does not depend on config values or types. Every scalar is
// parsed here, so that all mistakes of grammar are found, whether or not a statement ever runs.
#include "frontend/model.h"
#include "ir/ir.h"

#include <string.h>

typedef struct { Lower *lower; Arena *arena; Diags *diags; bool good; } Parse;

static void parse_error(Parse *parse, Loc loc, const char *format, ...) PRINTF_LIKE(3, 4);
static void parse_error(Parse *parse, Loc loc, const char *format, ...) {
    va_list args;
    va_start(args, format);
    diag_v(parse->diags, DIAG_ERROR, loc, format, args);
    va_end(args);
    parse->good = false;
}

static void parse_hint(Parse *parse, const char *hint) { diag(parse->diags, DIAG_HINT, NOWHERE, "%s", hint); }

static bool expect_kind(Parse *parse, const Yaml *yaml, YamlKind kind, const char *what) {
    if (yaml->kind == kind && !yaml->poisoned) return true;
    if (!yaml->poisoned) parse_error(parse, yaml->loc, "%s is %s, not %s", what, yaml_kind_name(kind), yaml_kind_name(yaml->kind));
    parse->good = false;
    return false;
}

static bool check_keys(Parse *parse, const Yaml *map, const char *what, const char *const *known, int count) {
    bool good = yaml_check_keys(map, what, known, count, parse->diags);
    parse->good = parse->good && good;
    return good;
}

static bool reserved(const char *name) {
    static const char *const words[] = {"if", "else", "in", "and", "or", "not", "return", "repeat"};
    Constant ignored;
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(words[i], name) == 0) return true;
    return constant_named(name, &ignored);
}

static bool check_name(Parse *parse, const Yaml *yaml, const char *what) {
    if (yaml->poisoned) parse->good = false;
    else if (yaml->kind != YAML_SCALAR || !is_name(yaml->text)) {
        parse_error(parse, yaml->loc, "%s is a name: letters, digits and _", what);
    } else if (reserved(yaml->text)) {
        parse_error(parse, yaml->loc, "'%s' is a word of the language and cannot name %s", yaml->text, what);
    } else if (yaml->length > 100) {
        parse_error(parse, yaml->loc, "the name is too long");
    } else {
        return true;
    }
    return false;
}

static Expr *parse_expr(Parse *parse, const Yaml *yaml, const char *what) {
    if (!expect_kind(parse, yaml, YAML_SCALAR, what)) return NULL;
    Expr *expr = expression_parse(parse->arena, yaml, parse->diags);
    if (!expr) parse->good = false;
    return expr;
}

// A list of names, all different.
static int parse_names(Parse *parse, const Yaml *yaml, const char *what, const char ***names) {
    *names = NULL;
    if (!yaml || !expect_kind(parse, yaml, YAML_LIST, what)) return 0;
    if (yaml->count > MOST_NAMES) {
        parse_error(parse, yaml->loc, "%s has more than %d names", what, MOST_NAMES);
        return 0;
    }
    *names = ARENA_ARRAY(parse->arena, const char *, yaml->count);
    int count = 0;
    for (int i = 0; i < yaml->count; i++) {
        const Yaml *item = yaml->items[i];
        if (!check_name(parse, item, what)) continue;
        bool again = false;
        for (int j = 0; j < count; j++) again = again || strcmp((*names)[j], item->text) == 0;
        if (again) parse_error(parse, item->loc, "'%s' is there twice", item->text);
        else (*names)[count++] = item->text;
    }
    return count;
}

static bool among(const char *name, const char *const *names, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

// ---- parameters ---------------------------------------------------------------------------------------------------

static void parse_shape(Parse *parse, Param *param, const Yaml *yaml) {
    if (yaml->kind == YAML_SCALAR) {
        param->shape_list = parse_expr(parse, yaml, "shape");
        param->broken = param->broken || !param->shape_list;
        return;
    }
    if (!expect_kind(parse, yaml, YAML_LIST, "shape") || yaml->count > MAX_RANK || !yaml->count) {
        if (yaml->kind == YAML_LIST) parse_error(parse, yaml->loc, "a shape has 1 to %d sizes, not %d", MAX_RANK, yaml->count);
        param->broken = true;
        return;
    }
    param->shape = ARENA_ARRAY(parse->arena, Expr *, yaml->count);
    for (int i = 0; i < yaml->count; i++) {
        Expr *size = parse_expr(parse, yaml->items[i], "a size");
        if (size) param->shape[param->rank++] = size;
        else param->broken = true;
    }
}

static Expr *parse_field(Parse *parse, Param *param, const Yaml *map, const char *key) {
    const Yaml *yaml = yaml_get(map, key);
    if (!yaml) return NULL;
    Expr *expr = parse_expr(parse, yaml, key);
    if (!expr) param->broken = true;
    return expr;
}

static void parse_param(Parse *parse, Param *param, const Yaml *key, const Yaml *map) {
    static const char *const known[] = {"shape", "name", "rows", "index", "transpose", "when", "or"};
    param->name = key->text;
    param->loc = key->loc;
    param->broken = !expect_kind(parse, map, YAML_MAP, "a parameter");
    if (param->broken) {
        parse_hint(parse, "write: {shape: [rows, columns], name: \"tensor.name\"}");
        return;
    }
    bool known_keys = check_keys(parse, map, "a parameter", known, COUNT_OF(known));
    const Yaml *shape = yaml_get(map, "shape"), *name = yaml_get(map, "name"), *rows = yaml_get(map, "rows"),
               *otherwise = yaml_get(map, "or");
    if (shape) parse_shape(parse, param, shape);
    else if (known_keys) parse_error(parse, key->loc, "parameter '%s' has no shape", key->text);
    param->pattern = name;
    if (!name) {
        if (known_keys) parse_error(parse, key->loc, "parameter '%s' has no name: the tensor that holds it", key->text);
    } else if (name->kind == YAML_MAP && (yaml_get(name, "hf") || yaml_get(name, "gguf"))) {
        parse_error(parse, name->loc, "names for two kinds of files belong to a template");
        parse_hint(parse, "tenon import writes a model with the names of one source");
    } else if (!expect_kind(parse, name, YAML_SCALAR, "name")) {
        if (name->kind == YAML_MAP) parse_hint(parse, "quote a pattern that starts with {");
    }
    param->index = parse_field(parse, param, map, "index");
    param->transpose = parse_field(parse, param, map, "transpose");
    param->when = parse_field(parse, param, map, "when");
    if (rows && expect_kind(parse, rows, YAML_SCALAR, "rows"))
        param->rows_count = range_parse(parse->arena, rows, param->rows, parse->diags);
    if (otherwise && expect_kind(parse, otherwise, YAML_SCALAR, "or")) {
        param->otherwise = otherwise->text;
        param->otherwise_loc = otherwise->loc;
    }
    if (!shape || !name || name->kind != YAML_SCALAR || name->poisoned || (rows && !param->rows_count)) {
        param->broken = true;
        parse->good = false;
    }
}

static void parse_params(Parse *parse, Block *block, const Yaml *yaml) {
    if (!yaml || !expect_kind(parse, yaml, YAML_MAP, "params")) return;
    if (yaml->count > MOST_PARAMS) {
        parse_error(parse, yaml->loc, "a block has at most %d parameters", MOST_PARAMS);
        return;
    }
    block->params = ARENA_ARRAY(parse->arena, Param, yaml->count);
    for (int i = 0; i < yaml->count; i++) {
        const Yaml *key = yaml->keys[i];
        if (!check_name(parse, key, "a parameter")) continue;
        if (among(key->text, block->indices, block->index_count) || among(key->text, block->inputs, block->input_count)) {
            parse_error(parse, key->loc, "'%s' is already the name of an index or input", key->text);
            continue;
        }
        parse_param(parse, &block->params[block->param_count++], key, yaml->items[i]);
    }
    for (int i = 0; i < block->param_count; i++) {
        const char *other = block->params[i].otherwise, *names[MOST_PARAMS];
        bool found = !other || strcmp(other, "none") == 0;
        for (int j = 0; j < block->param_count; j++) {
            names[j] = block->params[j].name;
            found = found || strcmp(names[j], other) == 0;
        }
        if (found) continue;
        parse_error(parse, block->params[i].otherwise_loc, "or: there is no parameter '%s' beside this one", other);
        const char *near = nearest_name(other, names, block->param_count);
        if (near) diag(parse->diags, DIAG_HINT, NOWHERE, "did you mean '%s'?", near);
        block->params[i].broken = true;
    }
}

// ---- bodies -------------------------------------------------------------------------------------------------------

static void mention(Block *block, const Expr *expr) {
    if (expr->kind == EX_NAME)
        for (int i = 0; i < block->param_count; i++)
            if (strcmp(block->params[i].name, expr->text) == 0) block->params[i].mentioned = true;
    for (int i = 0; i < expr->count; i++) mention(block, expr->items[i]);
}

static void check_targets(Parse *parse, Block *block, const Statement *statement, const char *const *repeats, int repeat_count) {
    for (int i = 0; i < statement->target_count; i++) {
        const char *name = statement->targets[i], *what = NULL;
        for (int p = 0; p < block->param_count; p++)
            if (strcmp(block->params[p].name, name) == 0) what = "a parameter";
        if (among(name, block->indices, block->index_count) || among(name, repeats, repeat_count)) what = "an index";
        if (reserved(name)) what = "a word of the language";
        Loc loc = yaml_place(statement->at, statement->target_starts[i], (int)strlen(name));
        if (what) parse_error(parse, loc, "'%s' is %s and cannot be assigned", name, what);
        for (int j = 0; j < i; j++)
            if (strcmp(statement->targets[j], name) == 0) parse_error(parse, loc, "'%s' is assigned twice", name);
    }
}

static Body parse_body(Parse *parse, Block *block, const Yaml *yaml, const char **repeats, int repeat_count);

static bool parse_repeat(Parse *parse, Block *block, Line *line, const Yaml *yaml, const char **repeats, int repeat_count) {
    static const char *const known[] = {"index", "count", "body"};
    if (!expect_kind(parse, yaml, YAML_MAP, "repeat")) return false;
    check_keys(parse, yaml, "repeat", known, COUNT_OF(known));
    const Yaml *index = yaml_get(yaml, "index"), *count = yaml_get(yaml, "count"), *body = yaml_get(yaml, "body");
    if (index && check_name(parse, index, "an index")) {
        line->index = index->text;
        bool taken = among(index->text, block->indices, block->index_count) || among(index->text, repeats, repeat_count);
        for (int p = 0; p < block->param_count; p++) taken = taken || strcmp(block->params[p].name, index->text) == 0;
        if (taken) parse_error(parse, index->loc, "'%s' is already the name of an index or parameter", index->text);
    }
    if (repeat_count == MOST_NAMES) {
        parse_error(parse, yaml->loc, "repeats are nested too deeply");
        return false;
    }
    repeats[repeat_count++] = line->index ? line->index : "";   // so that `return` knows it stands in a repeat
    if (!count) parse_error(parse, line->loc, "repeat has no count");
    else line->times = parse_expr(parse, count, "count");
    if (!body) parse_error(parse, line->loc, "repeat has no body");
    else line->body = parse_body(parse, block, body, repeats, repeat_count);
    if (line->times) mention(block, line->times);
    return line->times != NULL;
}

// A list item that is a map, not a statement: repeat, or a statement that YAML took apart at a colon.
static bool parse_map_line(Parse *parse, Block *block, Line *line, const Yaml *item, const char **repeats, int repeat_count) {
    if (item->count == 1 && strcmp(item->keys[0]->text, "repeat") == 0)
        return parse_repeat(parse, block, line, item->items[0], repeats, repeat_count);
    Loc loc = item->count ? item->keys[0]->loc : item->loc;
    parse_error(parse, loc, "a statement is `names = expression`, `return expression`, or repeat:");
    if (item->count > 1 && yaml_get(item, "repeat")) parse_hint(parse, "index, count and body are indented deeper than repeat");
    else if (item->count && (strchr(item->keys[0]->text, '=') || strncmp(item->keys[0]->text, "return", 6) == 0))
        parse_hint(parse, "a colon and a space cut the line in two: quote it");
    return false;
}

static Body parse_body(Parse *parse, Block *block, const Yaml *yaml, const char **repeats, int repeat_count) {
    Body body = {0};
    if (!expect_kind(parse, yaml, YAML_LIST, "body")) {
        parse_hint(parse, "each statement is a line that starts with '- '");
        return body;
    }
    body.lines = ARENA_ARRAY(parse->arena, Line, yaml->count);
    for (int i = 0; i < yaml->count; i++) {
        const Yaml *item = yaml->items[i];
        Line *line = &body.lines[body.count++];
        line->loc = item->loc;
        if (item->poisoned) {
            line->bad = true;
        } else if (item->kind == YAML_SCALAR) {
            line->statement = statement_parse(parse->arena, item, parse->diags);
            if (!line->statement || line->statement->broken) {
                line->bad = true;
                parse->good = false;
                continue;
            }
            check_targets(parse, block, line->statement, repeats, repeat_count);
            for (int v = 0; v < line->statement->value_count; v++) mention(block, line->statement->values[v]);
            if (!line->statement->returns) continue;
            if (repeat_count) parse_error(parse, item->loc, "return cannot stand in a repeat");
            else if (i + 1 < yaml->count) parse_error(parse, yaml->items[i + 1]->loc, "this is never reached: the line before returns");
        } else if (item->kind == YAML_LIST || !parse_map_line(parse, block, line, item, repeats, repeat_count)) {
            if (item->kind == YAML_LIST)
                parse_error(parse, item->loc, "a statement is `names = expression`, `return expression`, or repeat:");
            line->bad = true;
        }
    }
    return body;
}

static void parse_block_body(Parse *parse, Block *block, const Yaml *map, const char *what) {
    const char *repeats[MOST_NAMES + 1];
    const Yaml *body = yaml_get(map, "body");
    if (!body) {
        parse_error(parse, block->loc, "%s has no body", what);
        block->broken = true;
        return;
    }
    int errors = diags_errors(parse->diags);
    block->body = parse_body(parse, block, body, repeats, 0);
    bool read = diags_errors(parse->diags) == errors;
    bool returns = false;
    for (int i = 0; i < block->body.count; i++) {
        const Line *line = &block->body.lines[i];
        returns = returns || line->bad || (line->statement && line->statement->returns);
    }
    if (!returns) {
        parse_error(parse, body->loc, "%s returns nothing", what);
        parse_hint(parse, "the last statement is `return expression`");
        block->broken = true;
    }
    for (int i = 0; i < block->param_count; i++)
        if (!block->params[i].mentioned && read) {
            bool fallback = false;
            for (int j = 0; j < block->param_count; j++) {
                const char *other = block->params[j].otherwise;
                fallback = fallback || (other && strcmp(other, block->params[i].name) == 0);
            }
            if (!fallback) diag(parse->diags, DIAG_WARNING, block->params[i].loc, "parameter '%s' is never used", block->params[i].name);
        }
}

static void parse_block(Parse *parse, Block *block, const Yaml *key, const Yaml *map) {
    static const char *const known[] = {"index", "inputs", "params", "body"};
    *block = (Block){.name = key->text, .loc = key->loc};
    const char *what = arena_printf(parse->arena, "block '%s'", key->text);
    OpId op = op_find(key->text);
    if ((op != OP_COUNT && !(op_info(op)->flags & INTERNAL)) || constant_function(key->text)) {
        parse_error(parse, key->loc, "'%s' is the name of an operation and cannot name a block", key->text);
    }
    if (!expect_kind(parse, map, YAML_MAP, what)) {
        block->broken = true;
        return;
    }
    check_keys(parse, map, "a block", known, COUNT_OF(known));
    block->index_count = parse_names(parse, yaml_get(map, "index"), "index", &block->indices);
    block->input_count = parse_names(parse, yaml_get(map, "inputs"), "inputs", &block->inputs);
    for (int i = 0; i < block->input_count; i++)
        if (among(block->inputs[i], block->indices, block->index_count))
            parse_error(parse, yaml_get(map, "inputs")->loc, "'%s' is both an index and an input", block->inputs[i]);
    parse_params(parse, block, yaml_get(map, "params"));
    parse_block_body(parse, block, map, what);
}

bool parse_blocks(Lower *lower, const Yaml *root) {
    Parse parse = {lower, lower->arena, lower->diags, true};
    const Yaml *blocks = yaml_get(root, "blocks"), *model = yaml_get(root, "model");
    if (blocks && expect_kind(&parse, blocks, YAML_MAP, "blocks")) {
        if (blocks->count > MOST_BLOCKS) parse_error(&parse, blocks->loc, "there are more than %d blocks", MOST_BLOCKS);
        lower->blocks = ARENA_ARRAY(lower->arena, Block, blocks->count);
        for (int i = 0; i < blocks->count && blocks->count <= MOST_BLOCKS; i++)
            if (check_name(&parse, blocks->keys[i], "a block"))
                parse_block(&parse, &lower->blocks[lower->block_count++], blocks->keys[i], blocks->items[i]);
    }
    static const char *const known[] = {"inputs", "params", "body"};
    lower->main = (Block){.loc = root->loc, .broken = true};
    if (!model) {
        parse_error(&parse, FILE_LOC(root->loc.file), "there is no model");
        parse_hint(&parse, "model: has params: and body:");
    } else if (expect_kind(&parse, model, YAML_MAP, "model")) {
        lower->main = (Block){.loc = model->loc};
        check_keys(&parse, model, "model", known, COUNT_OF(known));
        parse_params(&parse, &lower->main, yaml_get(model, "params"));
        parse_block_body(&parse, &lower->main, model, "model");
    }
    return parse.good;
}
