// A kernel as C. Strips of columns become loops over 16 lanes with one tail; scalars stay scalar. The text below the prelude is the same for
// every target and compiler.
#include "codegen/kernel.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void index_print(const Kernel *k, const Index *index, Text *out) {
    bool any = false;
    for (int i = 0; i < index->count; i++) {
        const Term *t = &index->terms[i];
        if (!t->coefficient) continue;
        if (any) text_puts(out, t->coefficient < 0 ? " - " : " + ");
        else if (t->coefficient < 0) text_puts(out, "-");
        int64_t c = llabs(t->coefficient);
        // A variable is an int: large strides multiply as long.
        if (c != 1) text_printf(out, "%s * %lld%s", k->variables[t->variable].name, (long long)c, c > 4095 ? "L" : "");
        else text_puts(out, k->variables[t->variable].name);
        any = true;
    }
    if (!any) text_printf(out, "%lld", (long long)index->constant);
    else if (index->constant > 0) text_printf(out, " + %lld", (long long)index->constant);
    else if (index->constant < 0) text_printf(out, " - %lld", -(long long)index->constant);
}

static int64_t lane_coefficient(const Index *index, int lane) {
    int64_t c = 0;
    for (int i = 0; i < index->count; i++)
        if (index->terms[i].variable == lane) c += index->terms[i].coefficient;
    return c;
}

static void print_number(double exact, Text *out) {
    float value = (float)exact;
    if (isinf(value)) text_puts(out, value < 0 ? "-__builtin_inff()" : "__builtin_inff()");
    else if (isnan(value)) text_puts(out, "__builtin_nanf(\"\")");
    else {
        char digits[40];
        snprintf(digits, sizeof digits, "%.9g", (double)value);
        text_printf(out, "%s%sf", digits, strpbrk(digits, ".e") ? "" : ".0");
    }
}

// One lane or 16. `tail`: NULL for a full strip, else how many lanes count.
typedef struct { const Kernel *k; int lane; const char *tail; Text *out; } Printer;

static void print_vector(const Printer *p, const Expr *e);
static void print_scalar(const Printer *p, const Expr *e);

static void print_address(const Printer *p, const Expr *e) {
    text_printf(p->out, "%s + ", p->k->buffers[e->buffer].name);
    index_print(p->k, &e->index, p->out);
}

static void print_element(const Printer *p, const Expr *e) {
    text_printf(p->out, "%s[", p->k->buffers[e->buffer].name);
    index_print(p->k, &e->index, p->out);
    text_puts(p->out, "]");
}

static void print_vector_load(const Printer *p, const Expr *e) {
    int64_t c = lane_coefficient(&e->index, p->lane);
    DType type = p->k->buffers[e->buffer].type;
    const char *n = p->tail ? p->tail : "16";
    if (c == 0) {
        text_puts(p->out, type == DT_F32 ? "tn_splat(" : type == DT_BOOL ? "tn_splat_i(-(" : "tn_splat_i(");
        print_element(p, e);
        text_puts(p->out, type == DT_BOOL ? " != 0))" : ")");
        return;
    }
    if (type == DT_BOOL) {
        text_puts(p->out, "tn_load_bool(");
        print_address(p, e);
        text_printf(p->out, ", %lld, %s)", (long long)c, n);
        return;
    }
    const char *suffix = type == DT_F32 ? "" : "_i";
    if (c == 1) {
        text_printf(p->out, "tn_load%s%s(", suffix, p->tail ? "_n" : "");
        print_address(p, e);
        if (p->tail) text_printf(p->out, ", %s", n);
        text_puts(p->out, ")");
    } else {
        text_printf(p->out, "tn_load%s_strided(", suffix);
        print_address(p, e);
        text_printf(p->out, ", %lld, %s)", (long long)c, n);
    }
}

static void print_call(const Printer *p, const char *name, const Expr *e) {
    text_printf(p->out, "%s(", name);
    for (int i = 0; i < e->count; i++) {
        if (i) text_puts(p->out, ", ");
        print_vector(p, e->args[i]);
    }
    text_puts(p->out, ")");
}

static void print_infix(const Printer *p, const Expr *e, const char *op, void (*print)(const Printer *, const Expr *)) {
    text_puts(p->out, "(");
    print(p, e->args[0]);
    text_printf(p->out, " %s ", op);
    print(p, e->args[1]);
    text_puts(p->out, ")");
}

// Bools are masks of 0 and -1, so that true is the smaller number.
static const char *infix(const Expr *e) {
    bool masks = e->count > 0 && e->args[0]->type == DT_BOOL;
    switch (e->op) {
    case OP_ADD: return e->type == DT_I32 ? NULL : "+";
    case OP_SUB: return e->type == DT_I32 ? NULL : "-";
    case OP_MUL: return e->type == DT_I32 ? NULL : "*";
    case OP_DIV: return "/";
    case OP_LT: return masks ? ">" : "<";
    case OP_LE: return masks ? ">=" : "<=";
    case OP_EQ: return "==";
    case OP_NE: return "!=";
    default: return NULL;
    }
}

static const char *vector_function(const Expr *e) {
    bool ints = e->type == DT_I32;
    switch (e->op) {
    case OP_SILU: return "tn_silu";
    case OP_GELU: return e->tanh ? "tn_gelu_tanh" : "tn_gelu";
    case OP_SIGMOID: return "tn_sigmoid";
    case OP_TANH: return "tn_tanh";
    case OP_EXP: return "tn_exp16";
    case OP_LOG: return "tn_log";
    case OP_SQRT: return "tn_sqrt";
    case OP_ABS: return ints ? "tn_abs_i" : "tn_abs";
    case OP_NEG: return ints ? "tn_neg_i" : "tn_neg";
    case OP_ADD: return "tn_add_i";
    case OP_SUB: return "tn_sub_i";
    case OP_MUL: return "tn_mul_i";
    case OP_MINIMUM: return ints ? "tn_min_i" : "tn_min";
    case OP_MAXIMUM: return ints ? "tn_max_i" : "tn_max";
    case OP_POW: return "tn_pow";
    default: return NULL;
    }
}

static void print_cast(const Printer *p, const Expr *e) {
    const Expr *x = e->args[0];
    const char *open = "", *close = "";
    if (e->cast == DT_F16) open = "tn_round_f16(", close = ")";
    if (e->cast == DT_BF16) open = "tn_round_bf16(", close = ")";
    text_puts(p->out, open);
    if (e->type == DT_F32) {
        if (x->type == DT_I32) text_puts(p->out, "tn_from_int(");
        if (x->type == DT_BOOL) text_puts(p->out, "tn_from_int(-");
        print_vector(p, x);
        if (x->type != DT_F32) text_puts(p->out, ")");
    } else if (e->type == DT_I32) {
        if (x->type == DT_F32) text_puts(p->out, "tn_truncate(");
        if (x->type == DT_BOOL) text_puts(p->out, "(-");
        print_vector(p, x);
        if (x->type != DT_I32) text_puts(p->out, ")");
    } else {
        text_puts(p->out, "(");
        print_vector(p, x);
        text_puts(p->out, x->type == DT_F32 ? " != tn_splat(0.0f))" : " != tn_splat_i(0))");
    }
    text_puts(p->out, close);
}

static void print_vector_op(const Printer *p, const Expr *e) {
    const char *op = infix(e), *name = vector_function(e);
    if (e->op == OP_CAST) print_cast(p, e);
    else if (op) print_infix(p, e, op, print_vector);
    else if (e->op == OP_RELU) {
        text_puts(p->out, "tn_max(");
        print_vector(p, e->args[0]);
        text_puts(p->out, ", tn_splat(0.0f))");
    } else if (e->op == OP_RSQRT) {
        text_puts(p->out, "(tn_splat(1.0f) / tn_sqrt(");
        print_vector(p, e->args[0]);
        text_puts(p->out, "))");
    } else if (e->op == OP_WHERE) print_call(p, e->type == DT_F32 ? "tn_select" : "tn_select_i", e);
    else if (e->op == OP_CLAMP) {
        text_puts(p->out, "tn_min(tn_max(");
        print_vector(p, e->args[0]);
        text_puts(p->out, ", tn_splat(");
        print_number(e->lo, p->out);
        text_puts(p->out, ")), tn_splat(");
        print_number(e->hi, p->out);
        text_puts(p->out, "))");
    } else if (name) print_call(p, name, e);
}

static void print_vector(const Printer *p, const Expr *e) {
    switch (e->kind) {
    case X_CONST:
        if (e->type == DT_F32) {
            text_puts(p->out, "tn_splat(");
            print_number(e->number, p->out);
            text_puts(p->out, ")");
        } else text_printf(p->out, "tn_splat_i(%lld)", (long long)(e->type == DT_BOOL ? -(e->number != 0) : e->number));
        break;
    case X_SCALAR:
        text_printf(p->out, e->type == DT_F32 ? "tn_splat(%s)" : "tn_splat_i(%s)", p->k->variables[e->variable].name);
        break;
    case X_LOAD: print_vector_load(p, e); break;
    case X_INDEX: {
        bool lanes = lane_coefficient(&e->index, p->lane) == 1;
        text_puts(p->out, lanes ? "tn_lanes((int)(" : "tn_splat_i((int)(");
        index_print(p->k, &e->index, p->out);
        text_puts(p->out, "))");
        break;
    }
    case X_OP: print_vector_op(p, e); break;
    }
}

static void print_scalar(const Printer *p, const Expr *e) {
    const char *op = e->kind == X_OP && e->type != DT_BOOL ? infix(e) : NULL;
    if (e->kind == X_CONST && e->type == DT_F32) print_number(e->number, p->out);
    else if (e->kind == X_CONST) text_printf(p->out, "%lld", (long long)e->number);
    else if (e->kind == X_SCALAR) text_puts(p->out, p->k->variables[e->variable].name);
    else if (e->kind == X_LOAD && e->type != DT_BOOL) print_element(p, e);
    else if (e->kind == X_INDEX) {
        text_puts(p->out, "(int)(");
        index_print(p->k, &e->index, p->out);
        text_puts(p->out, ")");
    } else if (op) print_infix(p, e, op, print_scalar);
    else if (e->kind == X_OP && (e->op == OP_SQRT || e->op == OP_RSQRT)) {
        text_puts(p->out, e->op == OP_SQRT ? "tn_sqrt1(" : "(1.0f / tn_sqrt1(");
        print_scalar(p, e->args[0]);
        text_puts(p->out, e->op == OP_SQRT ? ")" : "))");
    } else {   // through the vector form, lane 0
        Printer one = {p->k, -1, "1", p->out};
        text_puts(p->out, "(");
        print_vector(&one, e);
        text_puts(p->out, ")[0]");
    }
}

// ---- statements ---------------------------------------------------------------------------------------------------------------

typedef struct { const Kernel *k; Text *out; int depth; } Writer;

static void indent(const Writer *w) { text_printf(w->out, "%*s", 4 * w->depth, ""); }

static void print_store(const Writer *w, const Stmt *s, const char *tail) {
    const Buffer *b = &w->k->buffers[s->buffer];
    Printer p = {w->k, s->variable, tail, w->out};
    int64_t c = lane_coefficient(&s->index, s->variable);
    const char *suffix = b->type == DT_F32 ? "" : "_i";
    if (b->type == DT_BOOL) text_puts(w->out, "tn_store_bool(");
    else if (c != 1) text_printf(w->out, "tn_store%s_strided(", suffix);
    else text_printf(w->out, "tn_store%s%s(", suffix, tail ? "_n" : "");
    text_printf(w->out, "%s + ", b->name);
    index_print(w->k, &s->index, w->out);
    text_puts(w->out, ", ");
    print_vector(&p, s->expr);
    if (b->type == DT_BOOL || c != 1) text_printf(w->out, ", %lld, %s", (long long)c, tail ? tail : "16");
    else if (tail) text_printf(w->out, ", %s", tail);
    text_puts(w->out, ");\n");
}

static void print_accumulate(const Writer *w, const Stmt *s, const char *tail) {
    Printer p = {w->k, s->variable, tail, w->out};
    const char *name = w->k->variables[s->scalar].name;
    text_printf(w->out, "%s_v = ", name);
    if (tail) text_printf(w->out, "tn_select(tn_lanes(0) < tn_splat_i(%s), ", tail);
    if (s->op == OP_SUM) {
        text_printf(w->out, "%s_v + ", name);
        print_vector(&p, s->expr);
    } else {
        text_printf(w->out, "%s(%s_v, ", s->op == OP_MAX ? "tn_max" : "tn_min", name);
        print_vector(&p, s->expr);
        text_puts(w->out, ")");
    }
    if (tail) text_printf(w->out, ", %s_v)", name);
    text_puts(w->out, ";\n");
}

// The strips of an extent: full ones in a loop, then a tail.
static void print_strips(const Writer *w, const Stmt *s, void (*body)(const Writer *, const Stmt *, const char *tail)) {
    const char *j = w->k->variables[s->variable].name;
    if (s->extent_text) {
        indent(w);
        text_printf(w->out, "for (int %s = 0; %s < %s; %s += 16) {\n", j, j, s->extent_text, j);
        indent(w);
        text_printf(w->out, "    if (%s + 16 <= %s) ", j, s->extent_text);
        body(w, s, NULL);
        indent(w);
        text_puts(w->out, "    else ");
        char tail[64];
        snprintf(tail, sizeof tail, "%s - %s", s->extent_text, j);
        body(w, s, tail);
        indent(w);
        text_puts(w->out, "}\n");
        return;
    }
    int64_t full = s->extent / 16 * 16, rest = s->extent - full;
    if (full) {
        indent(w);
        text_printf(w->out, "for (int %s = 0; %s < %lld; %s += 16) ", j, j, (long long)full, j);
        body(w, s, NULL);
    }
    if (rest) {
        char tail[24];
        snprintf(tail, sizeof tail, "%lld", (long long)rest);
        indent(w);
        text_printf(w->out, "{ const int %s = %lld; ", j, (long long)full);
        body(w, s, tail);
        w->out->length--;   // the body's newline
        text_puts(w->out, " }\n");
    }
}

static void print_map(const Writer *w, const Stmt *s) {
    const Buffer *b = &w->k->buffers[s->buffer];
    if (s->extent != 1 || s->extent_text) {
        print_strips(w, s, print_store);
        return;
    }
    Printer p = {w->k, -1, NULL, w->out};
    Index at = s->index;
    for (int i = 0; i < at.count; i++)
        if (at.terms[i].variable == s->variable) at.terms[i].coefficient = 0;
    indent(w);
    text_printf(w->out, "{ const int %s = 0; (void)%s; ", w->k->variables[s->variable].name, w->k->variables[s->variable].name);
    text_printf(w->out, "%s[", b->name);
    index_print(w->k, &at, w->out);
    text_puts(w->out, b->type == DT_BOOL ? "] = (tn_u8)(0 != " : "] = ");
    print_scalar(&p, s->expr);
    text_puts(w->out, b->type == DT_BOOL ? "); }\n" : "; }\n");
}

static void print_reduce(const Writer *w, const Stmt *s) {
    const char *name = w->k->variables[s->scalar].name;
    const char *fold = s->op == OP_SUM ? "tn_sum16" : s->op == OP_MAX ? "tn_max16" : "tn_min16";
    const char *start = s->op == OP_SUM ? "0.0f" : s->op == OP_MAX ? "-__builtin_inff()" : "__builtin_inff()";
    indent(w);
    text_printf(w->out, "tn_v %s_v = tn_splat(%s);\n", name, start);
    print_strips(w, s, print_accumulate);
    indent(w);
    text_printf(w->out, "const float %s = %s(%s_v);\n", name, fold, name);
}

static void print_at(const Writer *w, int buffer, const Index *index) {
    text_printf(w->out, "%s + ", w->k->buffers[buffer].name);
    index_print(w->k, index, w->out);
}

static void print_mma(const Writer *w, const Stmt *s) {
    const Kernel *k = w->k;
    indent(w);
    text_printf(w->out, "%s(", product_name(s, k->arena));
    print_at(w, s->buffer, &s->index);
    text_printf(w->out, ", %lld, ", (long long)s->acc_stride);
    if (s->codes) {
        text_puts(w->out, "(tn_code_rows){");
        print_at(w, s->a, &s->a_index);
        text_puts(w->out, ", ");
        print_at(w, s->scales, &s->scales_index);
        text_puts(w->out, ", ");
        print_at(w, s->sums, &s->sums_index);
        text_printf(w->out, ", %lld, %lld, %lld, %d}", (long long)s->a_stride, (long long)s->scales_stride, (long long)s->sums_stride, s->x_parts);
    } else {
        print_at(w, s->a, &s->a_index);
        text_printf(w->out, ", %lld", (long long)s->a_stride);
    }
    text_printf(w->out, ", %s, ", s->rows_text);
    print_at(w, s->b, &s->b_index);
    if (s->b_stride) text_printf(w->out, ", %lld", (long long)s->b_stride);
    if (s->extent_text) text_printf(w->out, ", %s", s->extent_text);
    else text_printf(w->out, ", %lld", (long long)s->extent);
    const Schedule *how = &k->schedule;
    if (!s->b_stride && (s->codes || s->bf16) && how->prefetch_one != how->prefetch) text_printf(w->out, ", %s == 1 ? %d : %d);\n", s->rows_text, how->prefetch_one, how->prefetch);
    else text_printf(w->out, ", %d);\n", s->b_stride ? s->accumulate : s->codes || s->bf16 ? how->prefetch : how->direct_rows);
}

static void print_stmt(Writer *w, const Stmt *s) {
    const Kernel *k = w->k;
    switch (s->kind) {
    case S_FOR: {
        const char *i = k->variables[s->variable].name;
        indent(w);
        text_printf(w->out, "for (int %s = %s; %s < ", i, s->from_text ? s->from_text : "0", i);
        if (s->extent_text) text_printf(w->out, "%s; %s++) {\n", s->extent_text, i);
        else text_printf(w->out, "%lld; %s++) {\n", (long long)s->extent, i);
        w->depth++;
        break;
    }
    case S_END:
        w->depth--;
        indent(w);
        text_puts(w->out, "}\n");
        break;
    case S_MAP: print_map(w, s); break;
    case S_REDUCE: print_reduce(w, s); break;
    case S_LET: {
        Printer p = {k, -1, NULL, w->out};
        indent(w);
        text_printf(w->out, "const %s %s = ", s->expr->type == DT_F32 ? "float" : "int", k->variables[s->scalar].name);
        print_scalar(&p, s->expr);
        text_puts(w->out, ";\n");
        break;
    }
    case S_MMA: print_mma(w, s); break;
    case S_CALL:
        indent(w);
        text_printf(w->out, "%s;\n", s->text);
        break;
    }
}

void kernel_print(const Kernel *k, Text *out) {
    Writer w = {k, out, 2};
    if (k->constants) text_puts(out, k->constants);
    text_printf(out, "static void %s(const tn_args *a, long first_task, long last_task) {\n", k->name);
    for (int i = 0; i < k->buffer_count; i++)
        if (k->buffers[i].place != PLACE_MEMORY)
            text_printf(out, "    %s %s[%lld] __attribute__((aligned(64)));\n", c_type(k->buffers[i].type), k->buffers[i].name,
                        (long long)k->buffers[i].elements);
    text_puts(out, "    for (long task = first_task; task < last_task; task++) {\n");
    text_puts(out, k->decode);
    for (int i = 0; i < k->buffer_count; i++) {
        const Buffer *b = &k->buffers[i];
        if (b->place == PLACE_MEMORY && b->base)
            text_printf(out, "        %s%s *%s = %s;\n", b->written ? "" : "const ", c_type(b->type), b->name, b->base);
    }
    for (int i = 0; i < k->stmt_count; i++) print_stmt(&w, &k->stmts[i]);
    text_puts(out, "    }\n}\n\n");
}
