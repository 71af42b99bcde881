// The dataflow of each block after the passes: kernels as boxes with the fused ops inside, values as lines between them.
//
// A layered drawing (Sugiyama, Tagawa, Toda 1981): a node lies one layer below the lowest that it reads; a line over several layers passes through
// invisible points; the order within a layer follows the neighbours' mean; then positions do, as far as widths allow.
#include "driver/explain.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_NODES = 160, MOST_LINES = 14, LINE = 16, HEADER = 22, GAP_X = 26, GAP_Y = 46, MARGIN = 12, MOST_WIDTH = 46, MOST_FUNCS = 40 };
#define CHARACTER 6.7

typedef struct { const char *text; } Line;
typedef struct {
    const char *title, *class;
    Line lines[MOST_LINES + 1];
    int line_count, first, last;     // the function's nodes that it stands for; first -1: an input, or the results
    bool point;                      // where a long line passes
    int layer;
    double width, height, x, y, order;
} Item;
typedef struct { int from, to, more; const Value *value; bool named; } Edge;   // more: values beside it; named: here their name is written

typedef struct {
    Explain *e;
    Arena *arena;
    const Func *func;
    Item *items;
    int item_count, item_capacity, layers;
    Edge *edges;
    int edge_count, edge_capacity;
    int *item_of;                    // of each node of the function
} Drawing;

// ---- boxes ---------------------------------------------------------------------------------------------------------------

static int add_item(Drawing *d, Item item) {
    ARENA_PUSH(d->arena, d->items, d->item_count, d->item_capacity) = item;
    return d->item_count - 1;
}

static void add_text(Item *item, const char *text) {
    if (item->line_count < MOST_LINES) item->lines[item->line_count++].text = text;
    else item->lines[MOST_LINES].text = "…", item->line_count = MOST_LINES + 1;
}

// A kernel's parameters are named as the call that is drawn names them: one kernel serves several.
static void add_ops(Drawing *d, Item *item, const Func *kernel, const Node *call) {
    for (int n = 0; n < kernel->node_count; n++) {
        const Node *node = kernel->nodes[n];
        if (node->op == OP_CONST || node->op == OP_RESHAPE) continue;
        Text text = {0};
        text_puts(&text, op_info(node->op)->name);
        for (int o = 0; o < node->operand_count; o++)
            if (node->operands[o] && node->operands[o]->kind == VALUE_PARAM) {
                const Value *bound = call->operands[kernel->input_count + node->operands[o]->index];
                text_printf(&text, " %s", bound->kind == VALUE_WEIGHT ? bound->weights[0]->name : bound->name);
            }
        add_text(item, arena_strdup(d->arena, text.data));
        text_free(&text);
    }
}

static const Func *called(const Node *node) { return node->op == OP_CALL || node->op == OP_MOE_EXPERTS ? node_attr(node, "block")->func : NULL; }

// Calls of one block after one another are one box.
static int add_nodes(Drawing *d, int first) {
    const Func *f = d->func, *callee = called(f->nodes[first]);
    const Node *node = f->nodes[first];
    int last = first;
    Item item = {.title = callee ? callee->name : op_info(node->op)->name, .first = first, .class = "other"};
    if (callee && callee->kernel) {
        item.class = kernel_class_name(plan_func(d->e->build->plan, callee));
        add_ops(d, &item, callee, node);
    } else if (callee) {
        item.class = "block";
        while (last + 1 < f->node_count && called(f->nodes[last + 1]) == callee) last++;
        if (node->op == OP_MOE_EXPERTS) {
            const Type *choice = &node->operands[0]->type;
            add_text(&item, arena_printf(d->arena, "%lld of %lld experts a token", (long long)choice->dims[choice->rank - 1], (long long)node_int(node, "count")));
        } else if (last > first) {
            item.title = arena_printf(d->arena, "%s × %d", callee->name, last - first + 1);
            if (node->label) add_text(&item, arena_printf(d->arena, "%s … %s", node->label, f->nodes[last]->label ? f->nodes[last]->label : ""));
        } else if (node->label) add_text(&item, node->label);
    }
    item.last = last;
    int index = add_item(d, item);
    for (int n = first; n <= last; n++) d->item_of[n] = index;
    return last + 1;
}

static void measure_items(Drawing *d) {
    for (int i = 0; i < d->item_count; i++) {
        Item *item = &d->items[i];
        int longest = html_length(item->title) + 1;
        for (int l = 0; l < item->line_count; l++)
            if (html_length(item->lines[l].text) > longest) longest = html_length(item->lines[l].text);
        item->width = (longest < MOST_WIDTH ? longest : MOST_WIDTH) * CHARACTER + 22;
        item->height = HEADER + (item->line_count ? item->line_count * LINE + 6 : 2);
    }
}

// ---- lines -----------------------------------------------------------------------------------------------------------------

static int item_that_makes(const Drawing *d, const Value *value, const int *inputs) {
    if (value->kind == VALUE_INPUT) return inputs[value->index];
    for (int n = 0; n < d->func->node_count; n++)
        if (value->node == d->func->nodes[n]) return d->item_of[n];
    return -1;
}

static void add_edge(Drawing *d, int from, int to, const Value *value) {
    if (from < 0 || from == to) return;
    bool named = false, cache = value->type.dtype == DT_CACHE;
    for (int i = 0; i < d->edge_count; i++) {
        Edge *edge = &d->edges[i];
        named |= edge->value == value;
        if (edge->from != from || edge->to != to || (edge->value->type.dtype == DT_CACHE) != cache) continue;
        edge->more += edge->value != value;   // one line for all that goes the same way
        return;
    }
    ARENA_PUSH(d->arena, d->edges, d->edge_count, d->edge_capacity) = (Edge){from, to, 0, value, !named};
}

static void connect(Drawing *d) {
    const Func *f = d->func;
    int *inputs = ARENA_ARRAY(d->arena, int, f->input_count);
    d->item_of = ARENA_ARRAY(d->arena, int, f->node_count);
    for (int i = 0; i < f->input_count; i++) {
        Text type = {0};
        type_text(&f->inputs[i]->type, &type);
        inputs[i] = add_item(d, (Item){.title = arena_printf(d->arena, "%s: %s", f->inputs[i]->name, type.data), .class = "port", .first = -1, .last = -1});
        text_free(&type);
    }
    for (int n = 0; n < f->node_count;) n = add_nodes(d, n);
    for (int n = 0; n < f->node_count; n++)
        for (int o = 0; o < f->nodes[n]->operand_count; o++) {
            const Value *value = f->nodes[n]->operands[o];
            if (value && (value->kind == VALUE_INPUT || value->kind == VALUE_RESULT)) add_edge(d, item_that_makes(d, value, inputs), d->item_of[n], value);
        }
    for (int r = 0; r < f->result_count; r++) {
        Text type = {0};
        type_text(&f->results[r]->type, &type);
        int port = add_item(d, (Item){.title = arena_printf(d->arena, "result: %s", type.data), .class = "port", .first = -1, .last = -1});
        add_edge(d, item_that_makes(d, f->results[r], inputs), port, f->results[r]);
        text_free(&type);
    }
    measure_items(d);
}

// ---- layers ------------------------------------------------------------------------------------------------------------------

static void find_layers(Drawing *d) {
    for (int round = 0, moved = 1; moved && round <= d->item_count; round++) {
        moved = 0;
        for (int i = 0; i < d->edge_count; i++) {
            int below = d->items[d->edges[i].from].layer + 1;
            if (d->items[d->edges[i].to].layer < below) d->items[d->edges[i].to].layer = below, moved = 1;
        }
    }
    for (int i = 0; i < d->item_count; i++)
        if (d->items[i].layer >= d->layers) d->layers = d->items[i].layer + 1;
    // A line over several layers passes through a point in each. The edges that result join neighbouring layers alone.
    int edges = d->edge_count;
    for (int i = 0; i < edges; i++) {
        Edge edge = d->edges[i];
        int last = d->items[edge.to].layer;
        for (int layer = d->items[edge.from].layer + 1; layer < last; layer++) {
            int point = add_item(d, (Item){.point = true, .layer = layer, .width = 8, .first = -1, .last = -1});
            if (edge.from == d->edges[i].from && edge.to == d->edges[i].to) d->edges[i].to = point;
            else ARENA_PUSH(d->arena, d->edges, d->edge_count, d->edge_capacity) = (Edge){edge.from, point, edge.more, edge.value, false};
            edge.from = point;
        }
        if (edge.from != d->edges[i].from || d->edges[i].to != edge.to) ARENA_PUSH(d->arena, d->edges, d->edge_count, d->edge_capacity) = (Edge){edge.from, edge.to, edge.more, edge.value, false};
    }
}

static double centre(const Item *item) { return item->x + item->width / 2; }

// The mean place of an item's neighbours above or below; its own when it has none.
static double wanted(const Drawing *d, int item, bool above) {
    double sum = 0, weight = 0;
    for (int i = 0; i < d->edge_count; i++) {
        int mine = above ? d->edges[i].to : d->edges[i].from, other = above ? d->edges[i].from : d->edges[i].to;
        if (mine != item) continue;
        double strength = d->items[item].point && d->items[other].point ? 6 : d->items[other].point || d->items[item].point ? 1 : 2;
        sum += strength * centre(&d->items[other]), weight += strength;
    }
    return weight > 0 ? sum / weight : centre(&d->items[item]);
}

typedef struct { int item; double key; } Ranked;

static int by_key(const void *a, const void *b) {
    const Ranked *p = a, *q = b;
    return p->key != q->key ? (p->key < q->key ? -1 : 1) : p->item - q->item;
}

static int layer_items(const Drawing *d, int layer, Ranked *out) {
    int count = 0;
    for (int i = 0; i < d->item_count; i++)
        if (d->items[i].layer == layer) out[count++] = (Ranked){i, d->items[i].order};
    qsort(out, (size_t)count, sizeof *out, by_key);
    return count;
}

static void pack_layer(Drawing *d, const Ranked *row, int count) {
    double x = 0, total = -GAP_X;
    for (int i = 0; i < count; i++) total += d->items[row[i].item].width + GAP_X;
    x = -total / 2;
    for (int i = 0; i < count; i++) {
        d->items[row[i].item].x = x;
        d->items[row[i].item].order = i;
        x += d->items[row[i].item].width + GAP_X;
    }
}

static void order_layers(Drawing *d, Ranked *row) {
    for (int i = 0; i < d->item_count; i++) d->items[i].order = i;
    for (int layer = 0; layer < d->layers; layer++) pack_layer(d, row, layer_items(d, layer, row));
    for (int sweep = 0; sweep < 10; sweep++)
        for (int step = 0; step < d->layers; step++) {
            bool down = sweep % 2 == 0;
            int layer = down ? step : d->layers - 1 - step, count = layer_items(d, layer, row);
            for (int i = 0; i < count; i++) row[i].key = wanted(d, row[i].item, down);
            qsort(row, (size_t)count, sizeof *row, by_key);
            pack_layer(d, row, count);
        }
}

// Each item as near as may be to where its neighbours want it: the mean of packing from the left and from the right.
static void place_layer(Drawing *d, const Ranked *row, int count, bool above) {
    double *left = ARENA_ARRAY(d->arena, double, count), *right = ARENA_ARRAY(d->arena, double, count);
    for (int i = 0; i < count; i++) {
        const Item *item = &d->items[row[i].item];
        left[i] = right[i] = wanted(d, row[i].item, above) - item->width / 2;
    }
    for (int i = 1; i < count; i++) {
        double least = left[i - 1] + d->items[row[i - 1].item].width + GAP_X;
        if (left[i] < least) left[i] = least;
    }
    for (int i = count - 1; i-- > 0;) {
        double most = right[i + 1] - d->items[row[i].item].width - GAP_X;
        if (right[i] > most) right[i] = most;
    }
    for (int i = 0; i < count; i++) d->items[row[i].item].x = (left[i] + right[i]) / 2;
}

static void place(Drawing *d) {
    Ranked *row = ARENA_ARRAY(d->arena, Ranked, d->item_count);
    order_layers(d, row);
    for (int sweep = 0; sweep < 24; sweep++)
        for (int step = 0; step < d->layers; step++) {
            bool down = sweep % 2 == 0;
            int layer = down ? step : d->layers - 1 - step;
            place_layer(d, row, layer_items(d, layer, row), down);
        }
    double y = MARGIN, least = 1e18;
    for (int layer = 0; layer < d->layers; layer++) {
        double tallest = 0;
        int count = layer_items(d, layer, row);
        for (int i = 0; i < count; i++)
            if (d->items[row[i].item].height > tallest) tallest = d->items[row[i].item].height;
        for (int i = 0; i < count; i++) {
            Item *item = &d->items[row[i].item];
            if (item->point) item->height = tallest, item->y = y;
            else item->y = y + (tallest - item->height) / 2;
            if (item->x < least) least = item->x;
        }
        y += tallest + GAP_Y;
    }
    for (int i = 0; i < d->item_count; i++) d->items[i].x += MARGIN - least;
}

// ---- drawing -------------------------------------------------------------------------------------------------------------------

// Lines leave and enter a box spread out in the order of what they lead to.
static double port(const Drawing *d, int edge, bool leaving) {
    int item = leaving ? d->edges[edge].from : d->edges[edge].to, before = 0, count = 0;
    const Item *box = &d->items[item];
    if (box->point) return centre(box);
    double own = centre(&d->items[leaving ? d->edges[edge].to : d->edges[edge].from]);
    for (int i = 0; i < d->edge_count; i++) {
        if ((leaving ? d->edges[i].from : d->edges[i].to) != item) continue;
        double other = centre(&d->items[leaving ? d->edges[i].to : d->edges[i].from]);
        before += other < own || (other == own && i < edge);
        count++;
    }
    double room = box->width - 28, spread = count > 1 ? room / (count - 1) : 0;
    if (spread > 34) spread = 34;
    return centre(box) + (before - (count - 1) / 2.0) * spread;
}

static void draw_edge(const Drawing *d, int index, Text *out) {
    const Edge *edge = &d->edges[index];
    const Item *from = &d->items[edge->from], *to = &d->items[edge->to];
    bool cache = edge->value->type.dtype == DT_CACHE;
    double x0 = port(d, index, true), y0 = from->y + from->height, x1 = port(d, index, false), y1 = to->y, bend = (y1 - y0) / 2;
    text_printf(out, "<path class=\"edge%s\"%s d=\"M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f", cache ? " cache" : "", to->point ? "" : " marker-end=\"url(#arrow)\"", x0, y0, x0, y0 + bend,
                x1, y1 - bend, x1, to->point ? y1 : y1 - 1);
    if (to->point) text_printf(out, "V%.1f", y1 + to->height);
    text_puts(out, "\"><title>");
    html_text(out, edge->value->name);
    text_puts(out, ": ");
    Text type = {0};
    type_text(&edge->value->type, &type);
    html_text(out, type.data);
    text_free(&type);
    text_puts(out, "</title></path>\n");
}

static void draw_name(const Drawing *d, int index, Text *out) {
    const Edge *edge = &d->edges[index];
    const Item *from = &d->items[edge->from];
    if (!edge->named || from->point || strcmp(from->class, "port") == 0) return;
    text_printf(out, "<text class=\"value\" x=\"%.1f\" y=\"%.1f\">", port(d, index, true) + 5, from->y + from->height + 14);
    html_short(out, edge->value->name, 18);
    if (edge->more) text_printf(out, " + %d", edge->more);
    text_puts(out, "</text>\n");
}

static void draw_item(const Drawing *d, const Item *item, Text *out) {
    if (item->point) return;
    const Func *callee = item->first >= 0 ? called(d->func->nodes[item->first]) : NULL;
    const FuncPlan *plan = callee ? plan_func(d->e->build->plan, callee) : NULL;
    if (plan && plan->kernel) text_printf(out, "<a href=\"#kernel-%d\">", plan->id + 1);
    text_printf(out, "<g class=\"node %s\"><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"4\"/><text class=\"mono head\" x=\"%.1f\" y=\"%.1f\">", item->class, item->x,
                item->y, item->width, item->height, item->x + 10, item->y + 16);
    html_short(out, item->title, MOST_WIDTH);
    text_puts(out, "</text>");
    if (item->line_count) text_printf(out, "<path class=\"grid\" d=\"M%.1f %.1fh%.1f\"/>", item->x + 1, item->y + HEADER + 0.5, item->width - 2);
    for (int l = 0; l < item->line_count; l++) {
        text_printf(out, "<text class=\"mono soft\" x=\"%.1f\" y=\"%.1f\">", item->x + 10, item->y + HEADER + LINE * (l + 1) - 1);
        html_short(out, item->lines[l].text, MOST_WIDTH);
        text_puts(out, "</text>");
    }
    text_puts(out, plan && plan->kernel ? "</g></a>\n" : "</g>\n");
}

static void draw(const Drawing *d, Text *out) {
    double width = 0, height = 0;
    for (int i = 0; i < d->item_count; i++) {
        const Item *item = &d->items[i];
        if (item->x + item->width > width) width = item->x + item->width;
        if (item->y + item->height > height) height = item->y + item->height;
    }
    text_printf(out, "<div class=\"wide\"><svg role=\"img\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\"><title>", width + MARGIN, height + MARGIN, width + MARGIN,
                height + MARGIN);
    html_text(out, d->func->name);
    text_puts(out, "</title>\n");
    for (int i = 0; i < d->edge_count; i++) draw_edge(d, i, out);
    for (int i = 0; i < d->item_count; i++) draw_item(d, &d->items[i], out);
    for (int i = 0; i < d->edge_count; i++) draw_name(d, i, out);
    text_puts(out, "</svg></div>\n");
}

static void put_func(Explain *e, const Func *func) {
    Drawing d = {.e = e, .arena = arena_new(), .func = func};
    text_puts(e->out, "<div class=\"drawing\"><h3><code>");
    html_text(e->out, func->name);
    int calls = plan_func(e->build->plan, func)->calls;
    if (func == func->module->main) text_puts(e->out, "</code> <small>the whole step</small></h3>\n");
    else text_printf(e->out, "</code> <small>called %d time%s a step</small></h3>\n", calls, calls == 1 ? "" : "s");
    connect(&d);
    if (d.item_count > MOST_NODES) text_printf(e->out, "<p class=\"note\">It has %d kernels, too many to draw; its text is below.</p>\n", d.item_count);
    else {
        find_layers(&d);
        place(&d);
        draw(&d, e->out);
    }
    text_puts(e->out, "</div>\n");
    arena_free(d.arena);
}

void explain_graph(Explain *e) {
    const Module *m = e->build->model->module;
    int drawn = 0, blocks = 0;
    section_begin(e, "graph", "What runs: kernels and what flows between them",
                  "A box is a kernel with the operations that were fused into it, and the weights that they read; a line is a value in the arena, a dashed line the KV cache.");
    text_puts(e->out, "<svg width=\"0\" height=\"0\" class=\"shared\" aria-hidden=\"true\"><defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path class=\"arrow\" d=\"M0 1L8 4L0 7z\"/></marker></defs></svg>\n<div class=\"drawings\">\n");
    put_func(e, m->main);
    for (int i = m->func_count - 1; i >= 0; i--) {
        if (m->funcs[i]->kernel || m->funcs[i] == m->main) continue;
        blocks++;
        if (drawn++ < MOST_FUNCS) put_func(e, m->funcs[i]);
    }
    text_puts(e->out, "</div>\n");
    if (blocks > MOST_FUNCS) text_printf(e->out, "<p class=\"note\">%d more blocks are not drawn; their text is below.</p>\n", blocks - MOST_FUNCS);
    section_end(e);
}
