// What each weight became and at which cost: its type as stored, its type and bytes as packed, and how far its values moved.
//
// The error is relative: √(Σ(w − w′)² / Σw²) with w as stored and w′ as packed. Of a large weight evenly spread rows are taken, so that a report on any
// model takes seconds. A weight that is packed as it is stored, or in float32, has no error at all and is not read.
#include "driver/explain.h"

#include "ir/dequant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLED_ELEMENTS = 1 << 18, MOST_ROWS = 20000 };
#define SAMPLED_IN_ALL 2e8   // elements, over all weights

typedef struct {
    const Weight *weight;
    const char *family;
    DType stored, packed;
    uint64_t stored_bytes, bytes;
    int64_t elements;
    double error, signal;   // sums of squares
    bool exact, sampled;
} Row;

// The rows as packed, back as floats. False: there is no saying (a format that is only read).
static bool round_trip(const Weight *w, DType to, int64_t row, const float *from, int64_t n, uint8_t *packed, float *back) {
    size_t bytes = (size_t)dtype_row_bytes(to, n);
    if (w->quantized) memcpy(packed, (const uint8_t *)w->quantized + (size_t)row * bytes, bytes);
    else if (quantizes_to(to)) quantize_row(to, from, n, packed);
    else return false;
    dequantize_row(to, packed, back, n);
    return true;
}

// Rows that are read: all, or evenly spread ones.
static void measure_error(Row *r, double *budget) {
    const Weight *w = r->weight;
    int64_t n = w->type.rank ? w->type.dims[w->type.rank - 1] : 1, rows = n > 0 ? r->elements / n : 0, most = SAMPLED_ELEMENTS / (n > 0 ? n : 1);
    if (*budget < SAMPLED_ELEMENTS) most = 1;
    int64_t take = rows < most || most < 1 ? (rows < 1 ? rows : most < 1 ? 1 : rows) : most;
    float *from = malloc(2 * sizeof *from * (size_t)n);
    uint8_t *packed = malloc((size_t)dtype_row_bytes(r->packed, n) + 64);
    bool done = from && packed && take > 0;
    for (int64_t i = 0; done && i < take; i++) {
        int64_t row = (int64_t)((double)i * (double)rows / (double)take);
        weight_rows_f32(w, row, 1, from);
        done = round_trip(w, r->packed, row, from, n, packed, from + n);
        for (int64_t k = 0; done && k < n; k++) {
            double difference = (double)from[k] - from[n + k];
            r->error += difference * difference;
            r->signal += (double)from[k] * from[k];
        }
    }
    if (!done) r->signal = -1;
    r->sampled = take < rows;
    *budget -= (double)take * (double)n;
    free(from);
    free(packed);
}

static Row describe(Explain *e, const Weight *w, double *budget) {
    Row r = {.weight = w, .family = family_name(e->arena, w->name), .stored = w->tensor ? w->source.dtype : w->type.dtype};
    r.elements = type_row_elements(&w->type);
    bool rows = w->layout == LAYOUT_ROWS;
    r.packed = w->quantize_to != DT_COUNT ? w->quantize_to : rows ? value_dtype(&(Value){.kind = VALUE_WEIGHT, .type = w->type}) : r.stored;
    packed_bytes(w, &r.bytes);
    Type type = w->type;
    type.dtype = r.stored;
    if (!type_bytes(&type, &r.stored_bytes)) r.stored_bytes = 0;
    r.exact = (w->quantize_to == DT_COUNT || w->quantize_to == r.stored) && !w->quantized;
    if (!r.exact && (w->bytes || w->data)) measure_error(&r, budget);
    return r;
}

// ---- tables ---------------------------------------------------------------------------------------------------------------

static void put_error(Text *out, double error, double signal, bool exact, bool sampled) {
    if (exact) text_puts(out, "exact");
    else if (signal <= 0) text_puts(out, signal < 0 ? "–" : "0");
    else {
        double relative = 100 * sqrt(error / signal);
        text_printf(out, relative >= 0.095 ? "%s%.2f\xc2\xa0%%" : "%s%.4f\xc2\xa0%%", sampled ? "≈\xc2\xa0" : "", relative);
    }
}

static void put_cells(Text *out, const Row *r, uint64_t stored_bytes, uint64_t bytes, double elements) {
    text_printf(out, "<td>%s</td><td>%s</td><td>%s</td><td class=\"n\">", dtype_info[r->stored].name, dtype_info[r->packed].name, layout_names[r->weight->layout]);
    html_bytes(out, (double)stored_bytes);
    text_puts(out, "</td><td class=\"n\">");
    html_bytes(out, (double)bytes);
    text_printf(out, "</td><td class=\"n\">%.2f</td><td class=\"n\">", elements > 0 ? 8 * (double)bytes / elements : 0);
}

static const char table_head[] = "<th>stored as</th><th>packed as</th><th>layout</th><th class=\"n\">stored</th><th class=\"n\">packed</th><th class=\"n\">bits a weight</th>"
                                 "<th class=\"n\">relative error</th></tr></thead><tbody>\n";

static int by_family(const void *a, const void *b) {
    const Row *p = *(const Row *const *)a, *q = *(const Row *const *)b;
    int order = strcmp(p->family, q->family);
    if (!order) order = (int)p->stored - (int)q->stored;
    if (!order) order = (int)p->packed - (int)q->packed;
    return order ? order : p->weight->id - q->weight->id;
}

static bool one_family(const Row *a, const Row *b) { return strcmp(a->family, b->family) == 0 && a->stored == b->stored && a->packed == b->packed; }

static void put_families(Explain *e, const Row **order, int count) {
    Text *out = e->out;
    text_printf(out, "<h3>By kind</h3>\n<div class=\"wide\"><table><thead><tr><th>weights</th><th class=\"n\">tensors</th>%s", table_head);
    for (int i = 0; i < count;) {
        int end = i;
        Row sum = *order[i];
        uint64_t stored = 0, bytes = 0;
        double elements = 0, worst = -1;
        sum.error = sum.signal = 0;
        for (; end < count && one_family(order[i], order[end]); end++) {
            const Row *r = order[end];
            stored += r->stored_bytes, bytes += r->bytes, elements += (double)r->elements;
            if (r->signal > 0) sum.error += r->error, sum.signal += r->signal;
            if (r->signal < 0 && sum.signal == 0) sum.signal = -1;
            sum.exact &= r->exact, sum.sampled |= r->sampled;
            if (r->signal > 0 && r->error / r->signal > worst) worst = r->error / r->signal;
        }
        text_puts(out, "<tr><td><code>");
        html_text(out, sum.family);
        text_printf(out, "</code></td><td class=\"n\">%d</td>", end - i);
        put_cells(out, &sum, stored, bytes, elements);
        put_error(out, sum.error, sum.signal, sum.exact, sum.sampled);
        if (worst >= 0 && end - i > 1) text_printf(out, " <small>(worst %.2f\xc2\xa0%%)</small>", 100 * sqrt(worst));
        text_puts(out, "</td></tr>\n");
        i = end;
    }
    text_puts(out, "</tbody></table></div>\n");
}

static void put_all(Explain *e, const Row *rows, int count) {
    Text *out = e->out;
    text_printf(out, "<details%s><summary>Every weight <small>%d tensors</small></summary>\n", count <= 40 ? " open=\"open\"" : "", count);
    text_printf(out, "<div class=\"tools\"><span data-search=\"#weight-table tbody tr\" data-hint=\"find a weight\"></span></div>\n"
                     "<div class=\"wide\"><table id=\"weight-table\"><thead><tr><th>weight</th><th>shape</th>%s", table_head);
    for (int i = 0; i < count && i < MOST_ROWS; i++) {
        const Row *r = &rows[i];
        text_puts(out, "<tr><td><code>");
        html_text(out, r->weight->name);
        text_puts(out, "</code></td><td>");
        for (int d = 0; d < r->weight->type.rank; d++) text_printf(out, "%s%lld", d ? " × " : "", (long long)r->weight->type.dims[d]);
        text_puts(out, "</td>");
        put_cells(out, r, r->stored_bytes, r->bytes, (double)r->elements);
        put_error(out, r->error, r->signal, r->exact, r->sampled);
        if (r->weight->quantized) text_puts(out, " <small>calibrated</small>");
        if (r->weight->rotate) text_puts(out, " <small>rotated</small>");
        text_puts(out, "</td></tr>\n");
    }
    text_puts(out, "</tbody></table></div>\n");
    if (count > MOST_ROWS) text_printf(out, "<p class=\"note\">The first %d of %d are listed; all are in the table by kind.</p>\n", MOST_ROWS, count);
    text_puts(out, "</details>\n");
}

void explain_weights(Explain *e) {
    const Module *m = e->build->model->module;
    Row *rows = ARENA_ARRAY(e->arena, Row, m->weight_count);
    const Row **order = ARENA_ARRAY(e->arena, const Row *, m->weight_count);
    double budget = SAMPLED_IN_ALL;
    bool calibrated = false, exact = true;
    for (int i = 0; i < m->weight_count; i++) {
        rows[i] = describe(e, m->weights[i], &budget);
        order[i] = &rows[i];
        calibrated |= m->weights[i]->quantized != NULL;
        exact &= rows[i].exact;
    }
    qsort(order, (size_t)m->weight_count, sizeof *order, by_family);
    section_begin(e, "weights", "What was quantized to what",
                  "The relative error compares packed with stored values: the root of Σ(w − w′)² over Σw². ≈ marks a sample of evenly spread rows. Packed bytes include what fills "
                  "up the last panel.");
    if (exact) text_puts(e->out, "<p class=\"note\">Every weight keeps its stored values exactly.</p>\n");
    if (calibrated)
        text_puts(e->out, "<p class=\"note\">Calibrated weights were scaled, rotated or rounded for the least error of their layer’s output, so that the error of their values, "
                          "which stands here, is not what was made small.</p>\n");
    if (e->build->chosen_table) {
        text_puts(e->out, "<p class=\"note\">Formats were chosen by what each matrix alone costs at the model’s output:</p>\n<pre>");
        html_text(e->out, e->build->chosen_table);
        text_puts(e->out, "</pre>\n");
    }
    put_families(e, order, m->weight_count);
    put_all(e, rows, m->weight_count);
    section_end(e);
}
