// Memory over time: which value lies where in the arena while which kernels run, and what the weights' section is made of.
//
// Time runs from left to right, a column a kernel. A run of calls of one block is drawn once, its first call; a narrow column stands for the
// others. A value is a box from the kernel that makes it to the last that reads it, as high as its bytes.
#include "driver/explain.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 400, MOST_BOXES = 2000 };

typedef struct { const char *name, *block; bool rest; } Column;
typedef struct { const char *name, *kind; Text type; int from, to; uint64_t offset, bytes; } Box;
typedef struct {
    Explain *e;
    Arena *arena;
    Column *columns;
    int column_count, column_capacity;
    Box *boxes;
    int box_count, box_capacity;
    bool full;
} Timeline;

static uint64_t place_bytes(const Func *func, const Value *value) {
    const Module *m = func->module;
    int64_t symbol = value->type.rank ? value->type.dims[0] : 0;
    int rows = symbol == DIM_T ? m->max_tokens : symbol == DIM_R ? m->max_rows : symbol == DIM_S ? m->max_sequences : 1;
    return (uint64_t)rows * (uint64_t)(symbol < 0 ? func->row_factor : 1) * row_bytes(&value->type);
}

static int add_column(Timeline *t, const char *name, const char *block, bool rest) {
    if (t->column_count >= MOST_COLUMNS) {
        t->full = true;
        return t->column_count - 1;
    }
    ARENA_PUSH(t->arena, t->columns, t->column_count, t->column_capacity) = (Column){name, block, rest};
    return t->column_count - 1;
}

static void add_box(Timeline *t, Box box) {
    if (t->box_count >= MOST_BOXES) t->full = true;
    else ARENA_PUSH(t->arena, t->boxes, t->box_count, t->box_capacity) = box;
}

static bool is_call(const Node *node) { return node->op == OP_CALL || node->op == OP_MOE_EXPERTS; }

static const Func *callee_of(const Node *node) { return is_call(node) ? node_attr(node, "block")->func : NULL; }

static void add_func(Timeline *t, const Func *func, uint64_t base, int depth);

// The columns of one node; `after` is how many calls like it follow.
static void add_node(Timeline *t, const Func *func, const Node *node, uint64_t base, int depth) {
    const Func *callee = callee_of(node);
    if (!callee || callee->kernel || depth > 8) {
        add_column(t, callee ? callee->name : op_info(node->op)->name, func == func->module->main ? NULL : func->name, false);
        return;
    }
    uint64_t at = base + (node->frame > 0 ? (uint64_t)node->frame : 0);
    add_func(t, callee, at, depth + 1);
}

static void add_func(Timeline *t, const Func *func, uint64_t base, int depth) {
    int *begin = ARENA_ARRAY(t->arena, int, func->node_count), *end = ARENA_ARRAY(t->arena, int, func->node_count);
    for (int n = 0; n < func->node_count;) {
        const Func *callee = callee_of(func->nodes[n]);
        int last = n;
        while (callee && !callee->kernel && last + 1 < func->node_count && callee_of(func->nodes[last + 1]) == callee) last++;
        begin[n] = t->column_count;
        add_node(t, func, func->nodes[n], base, depth);
        end[n] = t->column_count - 1;
        if (last > n) {
            int rest = add_column(t, arena_printf(t->arena, "%d more of %s", last - n, callee->name), NULL, true);
            for (int i = n + 1; i <= last; i++) begin[i] = end[i] = rest;
        }
        n = last + 1;
    }
    for (int n = 0; n < func->node_count; n++)
        for (int r = 0; r < func->nodes[n]->result_count; r++) {
            const Value *value = func->nodes[n]->results[r];
            if (value->place < 0 || value->type.dtype == DT_CACHE) continue;
            int to = end[n];
            for (int u = n + 1; u < func->node_count; u++)
                for (int o = 0; o < func->nodes[u]->operand_count; o++)
                    if (func->nodes[u]->operands[o] == value && end[u] > to) to = end[u];
            if (begin[n] == to && t->columns[to].rest) continue;   // inside the calls that are not drawn
            Box box = {value->name, "held", {0}, begin[n], to, base + (uint64_t)value->place, place_bytes(func, value)};
            if (callee_of(func->nodes[n]) && !callee_of(func->nodes[n])->kernel && begin[n] < end[n]) box.from = end[n];   // its block writes it at the end
            type_text(&value->type, &box.type);
            add_box(t, box);
        }
}

// ---- drawing ---------------------------------------------------------------------------------------------------------------------

enum { LEFT = 76, TOP = 12, HEIGHT = 340, BOTTOM = 166, COLUMN = 46, MOST_COLUMN = 92, REST = 30, WANTED = 960 };

// Columns are as wide as the page allows.
static int column_width(const Timeline *t, int column) {
    int width = t->column_count ? WANTED / t->column_count : COLUMN;
    return t->columns[column].rest ? REST : width < COLUMN ? COLUMN : width > MOST_COLUMN ? MOST_COLUMN : width;
}

static int column_x(const Timeline *t, int column) {
    int x = LEFT;
    for (int i = 0; i < column; i++) x += column_width(t, i);
    return x;
}

static void draw_axis(Text *out, uint64_t total, int right) {
    double step = 1;
    while ((double)total / step > 6) step *= 2;
    if (step < 1024) step = 1024;
    for (double at = 0; at <= (double)total; at += step) {
        double y = TOP + HEIGHT - at / (double)total * HEIGHT;
        text_printf(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" class=\"end\">", LEFT, y, right, LEFT - 8, y + 4);
        if (at == 0) text_puts(out, "0");
        else if (at >= 1 << 20) text_printf(out, "%g MiB", at / (1 << 20));
        else text_printf(out, "%g KiB", at / 1024);
        text_puts(out, "</text>");
    }
}

static void draw_columns(const Timeline *t, Text *out) {
    const char *block = NULL;
    int began = 0;
    for (int i = 0; i <= t->column_count; i++) {
        int x = column_x(t, i);
        const char *own = i < t->column_count ? t->columns[i].block : NULL;
        if (block && (!own || strcmp(own, block) != 0)) {
            text_printf(out, "<path class=\"brace\" d=\"M%d %dv5H%dv-5\"/><text x=\"%d\" y=\"%d\" class=\"mid strong\">", began + 3, TOP + HEIGHT + 132, x - 3, (began + x) / 2,
                        TOP + HEIGHT + 154);
            html_short(out, block, (x - began) / 7 > 4 ? (x - began) / 7 : 4);
            text_puts(out, "</text>");
        }
        if (own && (!block || strcmp(own, block) != 0)) began = x;
        block = own;
        if (i == t->column_count) break;
        int width = column_width(t, i);
        if (t->columns[i].rest) text_printf(out, "<rect class=\"rest\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>", x, TOP, width, HEIGHT);
        text_printf(out, "<path class=\"tick\" d=\"M%d %dv%d\"/><text class=\"end\" transform=\"translate(%d %d) rotate(-50)\">", x, TOP, HEIGHT, x + width / 2 + 4, TOP + HEIGHT + 14);
        html_short(out, t->columns[i].name, 21);
        text_puts(out, "<title>");
        html_text(out, t->columns[i].name);
        text_puts(out, "</title></text>\n");
    }
}

static void draw_box(const Timeline *t, const Box *box, uint64_t total, Text *out) {
    double y = TOP + HEIGHT - (double)(box->offset + box->bytes) / (double)total * HEIGHT, height = (double)box->bytes / (double)total * HEIGHT;
    int x = column_x(t, box->from), width = column_x(t, box->to + 1) - x;
    int room = (width - 8) / 7;
    text_printf(out, "<g class=\"box %s\"><title>", box->kind);
    html_text(out, box->name);
    text_printf(out, " %s, bytes %llu to %llu, ", box->type.data ? box->type.data : "", (unsigned long long)box->offset, (unsigned long long)(box->offset + box->bytes));
    html_bytes(out, (double)box->bytes);
    text_printf(out, "</title><rect x=\"%d.5\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" rx=\"2\"/>", x + 1, y + 0.5, width - 3, height > 2 ? height - 1 : 1.0);
    if (height >= 13 && room >= 2) {
        text_printf(out, "<text x=\"%d\" y=\"%.1f\">", x + 6, y + (height >= 20 ? 14 : height / 2 + 4));
        html_short(out, box->name, room);
        text_puts(out, "</text>");
    }
    text_puts(out, "</g>\n");
}

static void draw_timeline(Timeline *t, Text *out) {
    const Plan *plan = t->e->build->plan;
    uint64_t total = plan->arena_bytes ? plan->arena_bytes : 1;
    int right = column_x(t, t->column_count);
    text_printf(out, "<div class=\"wide\"><svg role=\"img\" aria-label=\"the arena over time\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n", right + 16,
                TOP + HEIGHT + BOTTOM, right + 16, TOP + HEIGHT + BOTTOM);
    draw_axis(out, total, right);
    draw_columns(t, out);
    for (int i = 0; i < t->box_count; i++) draw_box(t, &t->boxes[i], total, out);
    text_printf(out, "<path class=\"axis\" d=\"M%d %dV%dH%d\"/></svg></div>\n", LEFT, TOP, TOP + HEIGHT, right);
    if (t->full) text_puts(out, "<p class=\"note\">Only the first part of the step is drawn.</p>\n");
}

// ---- weights by size ---------------------------------------------------------------------------------------------------------------

typedef struct { const char *name; int count; uint64_t bytes; } Family;

static int by_name(const void *a, const void *b) { return strcmp(((const Family *)a)->name, ((const Family *)b)->name); }

static int larger_first(const void *a, const void *b) {
    const Family *p = a, *q = b;
    return p->bytes != q->bytes ? (p->bytes < q->bytes ? 1 : -1) : strcmp(p->name, q->name);
}

static void draw_weights(Explain *e, Arena *arena) {
    const Module *m = e->build->model->module;
    Family *families = ARENA_ARRAY(arena, Family, m->weight_count);
    for (int i = 0; i < m->weight_count; i++) {
        uint64_t bytes = 0;
        packed_bytes(m->weights[i], &bytes);
        families[i] = (Family){family_name(arena, m->weights[i]->name), 1, bytes};
    }
    qsort(families, (size_t)m->weight_count, sizeof *families, by_name);
    int count = 0;
    for (int i = 0; i < m->weight_count; i++)
        if (count && strcmp(families[count - 1].name, families[i].name) == 0) families[count - 1].count++, families[count - 1].bytes += families[i].bytes;
        else families[count++] = families[i];
    qsort(families, (size_t)count, sizeof *families, larger_first);
    double total = e->build->plan->weights_bytes ? (double)e->build->plan->weights_bytes : 1;
    text_puts(e->out, "<table class=\"bars\"><thead><tr><th>weights</th><th class=\"n\">tensors</th><th class=\"n\">bytes</th><th class=\"n\">share</th><th></th></tr></thead><tbody>\n");
    enum { MOST = 24 };
    uint64_t others = 0;
    for (int i = 0; i < count; i++) {
        if (i >= MOST) {
            others += families[i].bytes;
            continue;
        }
        double share = (double)families[i].bytes / total;
        text_puts(e->out, "<tr><td><code>");
        html_text(e->out, families[i].name);
        text_printf(e->out, "</code></td><td class=\"n\">%d</td><td class=\"n\">", families[i].count);
        html_bytes(e->out, (double)families[i].bytes);
        text_printf(e->out, "</td><td class=\"n\">%.1f\xc2\xa0%%</td><td class=\"bar\"><svg width=\"100%%\" height=\"10\" aria-hidden=\"true\"><rect width=\"%.2f%%\" height=\"10\" rx=\"1\"/></svg></td></tr>\n",
                    100 * share, 100 * (double)families[i].bytes / (families[0].bytes ? (double)families[0].bytes : 1));
    }
    if (count > MOST) {
        text_printf(e->out, "<tr><td>%d others</td><td></td><td class=\"n\">", count - MOST);
        html_bytes(e->out, (double)others);
        text_printf(e->out, "</td><td class=\"n\">%.1f\xc2\xa0%%</td><td></td></tr>\n", 100 * (double)others / total);
    }
    text_puts(e->out, "</tbody></table>\n");
}

void explain_memory(Explain *e) {
    const Plan *plan = e->build->plan;
    const Module *m = plan->module;
    Arena *arena = arena_new();
    Timeline t = {.e = e, .arena = arena};
    section_begin(e, "memory", "Memory over time",
                  "One arena holds every value of a step. Two values may have the same bytes when they do not live at the same time. Point at a box for its exact place.");
    add_func(&t, m->main, 0, 0);
    if (plan->partial_offset > plan->gather_offset)
        add_box(&t, (Box){"rows gathered for experts", "scratch", {0}, 0, t.column_count - 1, plan->gather_offset, plan->partial_offset - plan->gather_offset});
    text_printf(e->out, "<h3>The arena: ");
    html_bytes(e->out, (double)plan->arena_bytes);
    text_printf(e->out, " <small>for %d tokens, %d rows of output, %d sequences a step</small></h3>\n", m->max_tokens, m->max_rows, m->max_sequences);
    draw_timeline(&t, e->out);
    for (int i = 0; i < t.box_count; i++) text_free(&t.boxes[i].type);
    text_puts(e->out, "<h3>The weights’ section: ");
    html_bytes(e->out, (double)plan->weights_bytes);
    text_puts(e->out, "</h3>\n");
    draw_weights(e, arena);
    arena_free(arena);
    section_end(e);
}
