// The roofline (Williams, Waterman, Patterson 2009): how many operations a second a kernel may reach at its operations a byte, and what it reached.
//
// One picture for each way of running a step. The slopes are measured read bandwidths, of memory and of a cache; each level roof an arithmetic,
// measured on registers. A filled point is a kernel that ran, a ring one that did not: it lies on its roof. The limit of a kernel in the table is the
// one that --bench --kernels uses: weights and KV cache from wherever the whole step's fit, operands and results from a cache.
#include "driver/explain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 74, TOP = 18, WIDTH = 690, HEIGHT = 360, RIGHT = 124, BOTTOM = 50 };

typedef struct { double x0, x1, y0, y1; } Frame;   // log10 of the axes' ends

static double place_x(const Frame *f, double intensity) { return LEFT + (log10(intensity) - f->x0) / (f->x1 - f->x0) * WIDTH; }
static double place_y(const Frame *f, double rate) { return TOP + HEIGHT - (log10(rate) - f->y0) / (f->y1 - f->y0) * HEIGHT; }

typedef struct { const FuncPlan *f; Work work; double seconds, bound; int rank; } Point;

static double rate_of(const Point *p) { return p->seconds > 0 ? p->work.operations / p->seconds : p->bound > 0 ? p->work.operations / p->bound : 0; }
static double intensity_of(const Point *p) { return work_bytes(&p->work) > 0 ? p->work.operations / work_bytes(&p->work) : 0; }
static bool drawn(const Point *p) { return rate_of(p) > 0 && intensity_of(p) > 0; }

static Frame frame_of(const Explain *e, const Point *points, int count) {
    const Limits *m = &e->measured.limits;
    Frame f = {-1, 3, 9, 11};
    double top = 1;
    for (int i = 0; i < m->peak_count; i++) {
        if (m->peaks[i].operations > top) top = m->peaks[i].operations;
        double ridge = ceil(log10(m->peaks[i].operations / m->memory) + 0.3);
        if (ridge > f.x1) f.x1 = ridge;
    }
    f.y1 = ceil(log10(top) + 0.1);
    for (int i = 0; i < count; i++) {
        if (!drawn(&points[i])) continue;
        f.x0 = fmin(f.x0, floor(log10(intensity_of(&points[i]))));
        f.x1 = fmax(f.x1, ceil(log10(intensity_of(&points[i])) + 0.05));
        f.y0 = fmin(f.y0, floor(log10(rate_of(&points[i]))));
        f.y1 = fmax(f.y1, ceil(log10(rate_of(&points[i]))));
    }
    f.x0 = fmax(f.x0, -3), f.y0 = fmax(f.y0, 6), f.x1 = fmin(f.x1, 6);
    return f;
}

static void draw_axes(const Frame *f, Text *out) {
    static const char *const units[] = {"1 M", "10 M", "100 M", "1 G", "10 G", "100 G", "1 T", "10 T", "100 T", "1 P"};
    for (int d = (int)f->x0; d <= (int)f->x1; d++) {
        double x = place_x(f, pow(10, d));
        text_printf(out, "<path class=\"grid\" d=\"M%.1f %dv%d\"/><text class=\"mid soft\" x=\"%.1f\" y=\"%d\">%g</text>", x, TOP, HEIGHT, x, TOP + HEIGHT + 18, pow(10, d));
    }
    for (int d = (int)f->y0; d <= (int)f->y1; d++) {
        double y = place_y(f, pow(10, d));
        text_printf(out, "<path class=\"grid\" d=\"M%d %.1fh%d\"/><text class=\"end\" x=\"%d\" y=\"%.1f\">%s</text>", LEFT, y, WIDTH, LEFT - 8, y + 4,
                    d >= 6 && d <= 15 ? units[d - 6] : "");
    }
    text_printf(out, "<text class=\"mid soft\" x=\"%d\" y=\"%d\">operations a byte</text>", LEFT + WIDTH / 2, TOP + HEIGHT + 40);
    text_printf(out, "<text class=\"mid soft\" transform=\"translate(14 %d) rotate(-90)\">operations a second</text>", TOP + HEIGHT / 2);
}

// A bandwidth: operations a second rise with operations a byte.
static void draw_slope(const Frame *f, double bandwidth, double top, const char *name, const char *class, Text *out) {
    if (bandwidth <= 0) return;
    double from = fmax(pow(10, f->x0), pow(10, f->y0) / bandwidth), to = fmin(pow(10, f->x1), top / bandwidth), at = from * pow(to / from, 0.08);
    double angle = -atan2((double)HEIGHT / (f->y1 - f->y0), (double)WIDTH / (f->x1 - f->x0)) * 180 / 3.14159265358979;
    text_printf(out, "<path class=\"%s\" d=\"M%.1f %.1fL%.1f %.1f\"/>", class, place_x(f, from), place_y(f, from * bandwidth), place_x(f, to), place_y(f, to * bandwidth));
    text_printf(out, "<text class=\"label soft\" transform=\"translate(%.1f %.1f) rotate(%.1f)\">%s: ", place_x(f, at), place_y(f, at * bandwidth) - 7, angle, name);
    html_bytes(out, bandwidth);
    text_puts(out, "/s</text>\n");
}

static void draw_roofs(const Explain *e, const Frame *f, Text *out) {
    const Limits *m = &e->measured.limits;
    double top = 0, right = pow(10, f->x1);
    for (int i = 0; i < m->peak_count; i++)
        if (m->peaks[i].operations > top) top = m->peaks[i].operations;
    draw_slope(f, m->memory, top, "memory", "roof", out);
    draw_slope(f, m->cache[1], top, "cache", "roof second", out);
    for (int i = 0; i < m->peak_count; i++) {
        double ridge = m->peaks[i].operations / m->memory, y = place_y(f, m->peaks[i].operations), text = y + 4;
        for (int k = 0; k < m->peak_count; k++) {   // of two roofs near one another the lower one's words give way
            double other = place_y(f, m->peaks[k].operations) + 4;
            if (other < text && text - other < 14) text = other + 14;
        }
        text_printf(out, "<path class=\"roof%s\" d=\"M%.1f %.1fH%d\"/><text class=\"soft\" x=\"%d\" y=\"%.1f\">%s ", m->peaks[i].operations < top ? " second" : "",
                    place_x(f, fmin(ridge, right)), y, LEFT + WIDTH, LEFT + WIDTH + 8, text, m->peaks[i].name);
        html_number(out, m->peaks[i].operations, "op/s");
        text_puts(out, "</text>");
    }
}

static int longer_first(const void *a, const void *b) {
    const Point *p = *(const Point *const *)a, *q = *(const Point *const *)b;
    double x = p->seconds > 0 ? p->seconds : p->bound, y = q->seconds > 0 ? q->seconds : q->bound;
    return x != y ? (x < y ? 1 : -1) : p->f->id - q->f->id;
}

// A number beside its point, where no earlier number lies.
static void draw_number(double x, double y, double radius, int number, double (*taken)[2], int *count, Text *out) {
    static const double places[][2] = {{1, 0}, {0, -1}, {0, 1}, {-1, 0}, {0.8, -0.9}, {0.8, 0.9}, {-0.8, -0.9}, {-0.8, 0.9}};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        double at_x = x + places[i][0] * (radius + 9), at_y = y + places[i][1] * (radius + 9);
        bool free_place = true;
        for (int k = 0; k < *count; k++) free_place &= fabs(taken[k][0] - at_x) > 14 || fabs(taken[k][1] - at_y) > 11;
        if (!free_place) continue;
        taken[*count][0] = at_x, taken[(*count)++][1] = at_y;
        text_printf(out, "<text class=\"mid label\" x=\"%.1f\" y=\"%.1f\">%d</text>", at_x, at_y + 4, number);
        return;
    }
}

static void draw_points(const Frame *f, Point *const *order, int count, double step, Text *out) {
    double (*taken)[2] = calloc((size_t)(2 * count + 1), sizeof *taken);
    int taken_count = 0;
    for (int i = 0; i < count; i++) {
        const Point *p = order[i];
        if (!drawn(p)) continue;
        double x = place_x(f, intensity_of(p)), y = place_y(f, rate_of(p));
        x = fmin(fmax(x, LEFT), LEFT + WIDTH), y = fmin(fmax(y, TOP), TOP + HEIGHT);
        double share = p->seconds > 0 && step > 0 ? p->seconds / step : 0, radius = 4 + 14 * sqrt(share < 1 ? share : 1);
        text_printf(out, "<circle class=\"point %s%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>%d ", kernel_class_name(p->f), p->seconds > 0 ? "" : " bound", x, y, radius,
                    p->f->id + 1);
        html_text(out, p->f->func->name);
        text_puts(out, "</title></circle>");
        if (taken) draw_number(x, y, radius, p->f->id + 1, taken, &taken_count, out);
    }
    free(taken);
}

static void put_table(Explain *e, Point *const *order, int count, double step) {
    Text *out = e->out;
    bool ran = step > 0;
    text_puts(out, "<div class=\"wide\"><table><thead><tr><th class=\"n\">#</th><th>kernel</th><th class=\"n\">calls</th><th class=\"n\">bytes</th><th class=\"n\">operations</th>"
                   "<th class=\"n\">op a byte</th><th class=\"n\">limit</th>");
    text_puts(out, ran ? "<th class=\"n\">measured</th><th class=\"n\">of all kernels</th><th class=\"n\">of the limit</th></tr></thead><tbody>\n" : "</tr></thead><tbody>\n");
    for (int i = 0; i < count; i++) {
        const Point *p = order[i];
        text_printf(out, "<tr><td class=\"n\">%d</td><td><span class=\"dot %s\"></span><code>", p->f->id + 1, kernel_class_name(p->f));
        html_short(out, p->f->func->name, 44);
        text_printf(out, "</code></td><td class=\"n\">%d</td><td class=\"n\">", p->work.calls);
        html_bytes(out, work_bytes(&p->work));
        text_puts(out, "</td><td class=\"n\">");
        html_number(out, p->work.operations, "");
        text_printf(out, "</td><td class=\"n\">%.2f</td><td class=\"n\">", intensity_of(p));
        if (p->bound > 0) html_time(out, p->bound);
        else text_puts(out, "–");
        if (ran) {
            text_puts(out, "</td><td class=\"n\">");
            html_time(out, p->seconds);
            text_printf(out, "</td><td class=\"n\">%.1f\xc2\xa0%%</td><td class=\"n\">", 100 * p->seconds / step);
            if (p->seconds > 0 && p->bound > 0) text_printf(out, "%.0f\xc2\xa0%%", 100 * p->bound / p->seconds);
            else text_puts(out, "–");
        }
        text_puts(out, "</td></tr>\n");
    }
    text_puts(out, "</tbody></table></div>\n");
}

static void put_scenario(Explain *e, int scenario) {
    const Scenario *s = &e->scenarios[scenario];
    const Measured *m = &e->measured;
    const FuncPlan **kernels = kernels_in_order(e);
    const Work *work = work_of(e, s);
    int count = e->build->plan->kernel_count;
    double step = m->step_seconds[scenario], bound = 0, memory = 0, sum = 0;   // sum: of the kernels' times
    for (int i = 0; i < count; i++) memory += work[i].memory;
    Point *points = ARENA_ARRAY(e->arena, Point, count), **order = ARENA_ARRAY(e->arena, Point *, count);
    for (int i = 0; i < count; i++) {
        points[i] = (Point){.f = kernels[i], .work = work[i], .seconds = m->seconds[scenario] ? m->seconds[scenario][i] : 0};
        points[i].bound = kernel_bound(e, kernels[i], &work[i], memory);
        bound += points[i].bound;
        sum += points[i].seconds;
        order[i] = &points[i];
    }
    qsort(order, (size_t)count, sizeof *order, longer_first);
    text_printf(e->out, "<div data-tab=\"%s\"><h3>%s</h3>\n<p class=\"facts\"><span>%s</span>", s->name, s->name, s->meaning);
    if (step > 0) {
        text_puts(e->out, "<span>measured <b>");
        html_time(e->out, step);
        text_printf(e->out, "</b>, %.1f tokens a second</span>", s->tokens / step);
    }
    if (bound > 0) {
        text_puts(e->out, "<span>the limits allow <b>");
        html_time(e->out, bound);
        text_puts(e->out, "</b></span>");
    }
    text_puts(e->out, "</p>\n");
    if (m->here) {
        Frame f = frame_of(e, points, count);
        int width = LEFT + WIDTH + RIGHT, height = TOP + HEIGHT + BOTTOM;
        text_printf(e->out, "<div class=\"wide\"><svg class=\"chart\" role=\"img\" aria-label=\"roofline at %s\" viewBox=\"0 0 %d %d\">\n", s->name, width, height);
        draw_axes(&f, e->out);
        draw_roofs(e, &f, e->out);
        draw_points(&f, order, count, sum, e->out);
        text_puts(e->out, "</svg></div>\n");
    }
    put_table(e, order, count, sum);
    text_puts(e->out, "</div>\n");
}

void explain_roofline(Explain *e) {
    const Measured *m = &e->measured;
    section_begin(e, "roofline", "Roofline",
                  "Left of a ridge a kernel waits for memory, right of it for arithmetic. A point’s area is its share of the kernels’ time. Kernels whose data stays in a cache "
                  "may rise above memory’s slope.");
    if (m->here) {
        const Limits *l = &m->limits;
        text_printf(e->out, "<p class=\"facts\"><span>measured here on <b>%d thread%s</b></span><span>reading memory <b>", l->threads, l->threads == 1 ? "" : "s");
        html_bytes(e->out, l->memory);
        text_puts(e->out, "/s</b></span><span>a cache <b>");
        html_bytes(e->out, l->cache[1]);
        text_puts(e->out, "/s</b></span><span>these weights again and again <b>");
        html_bytes(e->out, l->weights);
        text_puts(e->out, "/s</b></span>");
        for (int i = 0; i < l->peak_count; i++) {
            text_printf(e->out, "<span>%s <b>", l->peaks[i].name);
            html_number(e->out, l->peaks[i].operations, "op/s");
            text_puts(e->out, "</b></span>");
        }
        text_puts(e->out, "</p>\n");
    } else
        text_puts(e->out, "<p class=\"note\">There is no picture without this machine’s limits, which were not measured; the tables hold what each kernel needs.</p>\n");
    if (m->why) {
        text_puts(e->out, "<p class=\"note\">Not everything was measured: ");
        html_text(e->out, m->why);
        text_puts(e->out, ".</p>\n");
    }
    text_puts(e->out, "<div data-tabs=\"roofline\">\n");
    for (int i = 0; i < SCENARIOS; i++) put_scenario(e, i);
    text_puts(e->out, "</div>\n");
    section_end(e);
}
