// The graph before and after each pass: the IR's own text, function by function, with what changed marked.
//
// Text is kept short by saying alike things once: weights whose names differ in numbers are one line with a count, a run of calls that differ in
// numbers shows its first and last. A stage shares the lines of the one before where they are equal, so "unchanged" is a comparison of pointers.
#include "driver/explain.h"

#include "passes/passes.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

// ---- taking a stage --------------------------------------------------------------------------------------------------------

static void add_line(Explain *e, Listing *listing, const char *line, size_t length) {
    ARENA_PUSH(e->arena, listing->lines, listing->count, listing->capacity) = arena_strndup(e->arena, line, length);
}

// Arrays of more than three weights: the first and the last.
static void add_condensed(Explain *e, Listing *listing, const char *line, size_t length) {
    Text out = {0};
    const char *end = line + length;
    for (const char *at = line; at < end;) {
        if (at + 1 < end && at[0] == '[' && at[1] == '@') {
            const char *last = at + 1, *comma = NULL, *close = at;
            int count = 1;
            for (bool quoted = false; close < end && (quoted || *close != ']'); close++) {
                if (*close == '"') quoted = !quoted;
                else if (!quoted && *close == ',') comma = comma ? comma : close, last = close + 2, count++;
            }
            if (count > 3 && close < end) {
                text_add(&out, at, (size_t)(comma - at));
                text_printf(&out, " … ");
                text_add(&out, last, (size_t)(close - last));
                text_printf(&out, ": %d]", count);
                at = close + 1;
                continue;
            }
        }
        text_add(&out, at++, 1);
    }
    add_line(e, listing, out.data ? out.data : "", out.length);
    text_free(&out);
}

// Do two lines differ in numbers alone?
static bool alike(const char *a, const char *b) {
    while (*a && *b) {
        bool number = isdigit((unsigned char)*a) && isdigit((unsigned char)*b);
        if (!number && *a != *b) return false;
        if (!number) a++, b++;
        while (number && isdigit((unsigned char)*a)) a++;
        while (number && isdigit((unsigned char)*b)) b++;
    }
    return !*a && !*b;
}

static void fold_runs(Explain *e, Listing *listing) {
    int kept = 0;
    for (int i = 0; i < listing->count;) {
        int end = i + 1;
        while (end < listing->count && alike(listing->lines[i + (end - i > 1)], listing->lines[end])) end++;
        if (end - i < 5) {
            while (i < end) listing->lines[kept++] = listing->lines[i++];
            continue;
        }
        listing->lines[kept++] = listing->lines[i];
        listing->lines[kept++] = listing->lines[i + 1];
        listing->lines[kept++] = arena_printf(e->arena, "  … and so on: %d more", end - i - 3);
        listing->lines[kept++] = listing->lines[end - 1];
        i = end;
    }
    listing->count = kept;
}

typedef struct { const char *text; int count, order; } WeightLine;

static int by_text(const void *a, const void *b) {
    const WeightLine *p = a, *q = b;
    int order = strcmp(p->text, q->text);
    return order ? order : p->order - q->order;
}

static int by_order(const void *a, const void *b) { return ((const WeightLine *)a)->order - ((const WeightLine *)b)->order; }

static void list_weights(Explain *e, const Module *module, Listing *listing) {
    Arena *scratch = arena_new();
    WeightLine *lines = ARENA_ARRAY(scratch, WeightLine, module->weight_count);
    for (int i = 0; i < module->weight_count; i++) {
        const Weight *w = module->weights[i];
        Text text = {0};
        text_printf(&text, "%s: ", family_name(scratch, w->name));
        type_text(&w->type, &text);
        if (w->quantize_to != DT_COUNT) text_printf(&text, " quantize %s", dtype_info[w->quantize_to].name);
        if (w->layout) text_printf(&text, " layout %s", layout_names[w->layout]);
        lines[i] = (WeightLine){arena_strdup(scratch, text.data), 1, i};
        text_free(&text);
    }
    qsort(lines, (size_t)module->weight_count, sizeof *lines, by_text);
    int kept = 0;
    for (int i = 0; i < module->weight_count; i++)
        if (kept && strcmp(lines[kept - 1].text, lines[i].text) == 0) lines[kept - 1].count++;
        else lines[kept++] = lines[i];
    qsort(lines, (size_t)kept, sizeof *lines, by_order);
    for (int i = 0; i < kept; i++) {
        char count[24] = "";
        if (lines[i].count > 1) snprintf(count, sizeof count, "  × %d", lines[i].count);
        const char *line = arena_printf(scratch, "%s%s", lines[i].text, count);
        add_line(e, listing, line, strlen(line));
    }
    arena_free(scratch);
}

static Listing *find_listing(Stage *stage, const char *name, const char *kind) {
    bool weights = strcmp(kind, "weights") == 0;
    for (int i = 0; i < stage->count; i++)
        if (strcmp(stage->listings[i].name, name) == 0 && (strcmp(stage->listings[i].kind, "weights") == 0) == weights) return &stage->listings[i];
    return NULL;
}

static void share_lines(Stage *before, Listing *listing) {
    const Listing *old = before ? find_listing(before, listing->name, listing->kind) : NULL;
    if (!old || old->count != listing->count) return;
    for (int i = 0; i < old->count; i++)
        if (strcmp(old->lines[i], listing->lines[i]) != 0) return;
    listing->lines = old->lines;
}

void stage_take(Explain *e, const char *name, double milliseconds, const Module *module) {
    Stage stage = {.name = arena_strdup(e->arena, name), .milliseconds = milliseconds};
    Stage *before = e->stage_count ? &e->stages[e->stage_count - 1] : NULL;
    Text text = {0};
    module_print(module, &text);
    ARENA_PUSH(e->arena, stage.listings, stage.count, stage.capacity) = (Listing){.name = "weights", .kind = "weights"};
    list_weights(e, module, &stage.listings[0]);
    int func = 0;
    Listing *open = NULL;
    for (const char *line = text.data; line && *line;) {
        size_t length = strcspn(line, "\n");
        const char *kind = !strncmp(line, "func ", 5) ? "func" : !strncmp(line, "kernel ", 7) ? "kernel" : !strncmp(line, "main ", 5) ? "main" : NULL;
        if (kind && func < module->func_count) {
            ARENA_PUSH(e->arena, stage.listings, stage.count, stage.capacity) =
                (Listing){.name = arena_strdup(e->arena, module->funcs[func++]->name), .kind = kind};
            open = &stage.listings[stage.count - 1];
        }
        if (open) add_condensed(e, open, line, length);
        if (open && line[0] == '}') open = NULL;
        line += length + (line[length] == '\n');
    }
    text_free(&text);
    for (int i = 0; i < stage.count; i++) {
        if (strcmp(stage.listings[i].kind, "main") == 0) fold_runs(e, &stage.listings[i]);
        share_lines(before, &stage.listings[i]);
    }
    ARENA_PUSH(e->arena, e->stages, e->stage_count, e->stage_capacity) = stage;
}

// ---- differences -------------------------------------------------------------------------------------------------------------

// Of two lists of texts, the longest common one: keep_a and keep_b say which elements belong to it.
static void common(const char *const *a, int n, const char *const *b, int m, bool *keep_a, bool *keep_b) {
    int head = 0;
    while (head < n && head < m && strcmp(a[head], b[head]) == 0) keep_a[head] = keep_b[head] = true, head++;
    while (n > head && m > head && strcmp(a[n - 1], b[m - 1]) == 0) keep_a[--n] = keep_b[--m] = true;
    size_t rows = (size_t)(n - head) + 1, columns = (size_t)(m - head) + 1;
    if (rows == 1 || columns == 1 || rows * columns > 4000000) return;
    a += head, b += head, keep_a += head, keep_b += head;
    uint16_t *longest = calloc(rows * columns, sizeof *longest);
    if (!longest) return;
    for (size_t i = rows - 1; i-- > 0;)
        for (size_t j = columns - 1; j-- > 0;) {
            uint16_t down = longest[(i + 1) * columns + j], right = longest[i * columns + j + 1];
            longest[i * columns + j] =
                strcmp(a[i], b[j]) == 0 ? (uint16_t)(longest[(i + 1) * columns + j + 1] + 1) : down > right ? down : right;
        }
    for (size_t i = 0, j = 0; i + 1 < rows && j + 1 < columns;)
        if (strcmp(a[i], b[j]) == 0) keep_a[i++] = keep_b[j++] = true;
        else if (longest[(i + 1) * columns + j] >= longest[i * columns + j + 1]) i++;
        else j++;
    free(longest);
}

enum { MOST_WORDS = 600 };

static int split_words(Arena *arena, const char *line, const char **words) {
    int count = 0;
    while (*line && count < MOST_WORDS) {
        size_t space = strspn(line, " "), length = space + strcspn(line + space, " ,();{}");
        if (length == space && line[length]) length++;   // a mark of its own
        if (count == MOST_WORDS - 1) length = strlen(line);
        words[count++] = arena_strndup(arena, line, length);
        line += length;
    }
    return count;
}

// A changed line as one, when most of it stayed: what went and what came are marked in it.
static bool changed_line(Text *out, const char *old, const char *new) {
    Arena *scratch = arena_new();
    const char **a = ARENA_ARRAY(scratch, const char *, MOST_WORDS), **b = ARENA_ARRAY(scratch, const char *, MOST_WORDS);
    bool *keep_a = ARENA_ARRAY(scratch, bool, MOST_WORDS), *keep_b = ARENA_ARRAY(scratch, bool, MOST_WORDS);
    int n = split_words(scratch, old, a), m = split_words(scratch, new, b), kept = 0;
    common(a, n, b, m, keep_a, keep_b);
    for (int i = 0; i < n; i++) kept += keep_a[i];
    bool most = 2 * kept >= n;
    if (most) {
        text_puts(out, "<span class=\"chg\">");
        for (int i = 0, j = 0; i < n || j < m;) {
            bool went = i < n && !keep_a[i], came = !went && j < m && !keep_b[j];
            const char *tag = went ? "del" : "ins";
            if (!went && !came) {
                html_text(out, b[j]);
                i++, j++;
                continue;
            }
            text_printf(out, "<%s>", tag);
            while (went ? i < n && !keep_a[i] : j < m && !keep_b[j]) html_text(out, went ? a[i++] : b[j++]);
            text_printf(out, "</%s>", tag);
        }
        text_puts(out, "</span>");
    }
    arena_free(scratch);
    return most;
}

static void marked_line(Text *out, const char *tag, const char *line) {
    text_printf(out, "<%s class=\"line\">", tag);
    html_ir(out, line);
    text_printf(out, "</%s>", tag);
}

static void plain_line(Text *out, const char *line) {
    text_puts(out, "<span>");
    html_ir(out, line);
    text_puts(out, "</span>");
}

static void put_listing(Text *out, const Listing *listing, const char *tag) {
    text_puts(out, "<pre class=\"ir\"><code>");
    for (int i = 0; i < listing->count; i++)
        if (tag) marked_line(out, tag, listing->lines[i]);
        else plain_line(out, listing->lines[i]);
    text_puts(out, "</code></pre>\n");
}

static void put_changes(Text *out, const Listing *old, const Listing *new) {
    Arena *scratch = arena_new();
    bool *keep_a = ARENA_ARRAY(scratch, bool, old->count), *keep_b = ARENA_ARRAY(scratch, bool, new->count);
    common(old->lines, old->count, new->lines, new->count, keep_a, keep_b);
    text_puts(out, "<pre class=\"ir\"><code>");
    for (int i = 0, j = 0; i < old->count || j < new->count;) {
        int gone = i, come = j;
        while (gone < old->count && !keep_a[gone]) gone++;
        while (come < new->count && !keep_b[come]) come++;
        bool paired = gone - i == come - j;
        for (; paired && i < gone; i++, j++)
            if (!changed_line(out, old->lines[i], new->lines[j])) marked_line(out, "del", old->lines[i]), marked_line(out, "ins", new->lines[j]);
        for (; i < gone; i++) marked_line(out, "del", old->lines[i]);
        for (; j < come; j++) marked_line(out, "ins", new->lines[j]);
        if (i < old->count && j < new->count) plain_line(out, new->lines[j]), i++, j++;
    }
    text_puts(out, "</code></pre>\n");
    arena_free(scratch);
}

// ---- the section -----------------------------------------------------------------------------------------------------------------

static void listing_name(Text *out, const Listing *listing) {
    text_printf(out, "<span class=\"kind\">%s</span> <code>", listing->kind);
    html_text(out, strcmp(listing->kind, "weights") == 0 ? "" : listing->name);
    text_puts(out, "</code>");
}

static void put_first(Explain *e, const Stage *stage) {
    Text *out = e->out;
    for (int i = 0; i < stage->count; i++) {
        const Listing *listing = &stage->listings[i];
        text_printf(out, "<details%s><summary>", strcmp(listing->kind, "func") == 0 ? " open=\"open\"" : "");
        listing_name(out, listing);
        text_printf(out, " <small>%d lines</small></summary>\n", listing->count);
        put_listing(out, listing, NULL);
        text_puts(out, "</details>\n");
    }
}

// What a pass did, in a few words; false when nothing.
static bool put_outline(Text *out, Stage *before, Stage *after) {
    int changed = 0, added = 0, removed = 0;
    for (int i = 0; i < after->count; i++) {
        const Listing *old = find_listing(before, after->listings[i].name, after->listings[i].kind);
        if (!old) added++;
        else changed += old->lines != after->listings[i].lines;
    }
    for (int i = 0; i < before->count; i++) removed += !find_listing(after, before->listings[i].name, before->listings[i].kind);
    const char *comma = "";
    if (changed) text_printf(out, "%d changed", changed), comma = ", ";
    if (added) text_printf(out, "%s%d new", comma, added), comma = ", ";
    if (removed) text_printf(out, "%s%d gone", comma, removed);
    if (!changed && !added && !removed) text_puts(out, "unchanged");
    return changed || added || removed;
}

static const char *pass_meaning(const char *name) {
    for (int i = 0; i < pass_count; i++)
        if (strcmp(passes[i].name, name) == 0) return passes[i].meaning;
    return "";
}

// One function's change: `old` NULL when it is new, `new` NULL when it is gone.
static void put_change(Text *out, const Listing *old, const Listing *new, bool open) {
    text_printf(out, "<details%s><summary>", open ? " open=\"open\"" : "");
    listing_name(out, new ? new : old);
    text_printf(out, " <small>%s</small></summary>\n", !old ? "new" : !new ? "gone" : "changed");
    if (old && new) put_changes(out, old, new);
    else put_listing(out, new ? new : old, new ? "ins" : "del");
    text_puts(out, "</details>\n");
}

static bool is_kind(const Listing *listing, const char *kind) { return strcmp(listing->kind, kind) == 0; }

// The changes of kernels, or of everything else. Returns how many there are; `out` NULL: only counts them.
static int put_kinds(Text *out, Stage *before, Stage *after, bool kernels) {
    int count = 0;
    for (int i = 0; i < after->count; i++) {
        const Listing *new = &after->listings[i], *old = find_listing(before, new->name, new->kind);
        if (is_kind(new, "kernel") != kernels || (old && old->lines == new->lines)) continue;
        count++;
        if (out) put_change(out, old, new, is_kind(new, "func"));
    }
    for (int i = 0; i < before->count; i++) {
        const Listing *old = &before->listings[i];
        if (is_kind(old, "kernel") != kernels || find_listing(after, old->name, old->kind)) continue;
        count++;
        if (out) put_change(out, old, NULL, false);
    }
    return count;
}

static void put_stage(Explain *e, Stage *before, Stage *after) {
    Text *out = e->out, outline = {0};
    bool changed = put_outline(&outline, before, after);
    text_printf(out, "<div class=\"pass%s\"><h3><code>%s</code> <span class=\"tag\">%s</span><small>", changed ? "" : " same", after->name, outline.data);
    html_time(out, after->milliseconds * 1e-3);
    text_puts(out, "</small></h3><p>");
    html_text(out, pass_meaning(after->name));
    text_puts(out, "</p>\n");
    put_kinds(out, before, after, false);
    int kernels = put_kinds(NULL, before, after, true);
    if (kernels > 3) text_printf(out, "<details><summary>%d kernels</summary><div class=\"inner\">\n", kernels);
    put_kinds(out, before, after, true);
    if (kernels > 3) text_puts(out, "</div></details>\n");
    text_puts(out, "</div>\n");
    text_free(&outline);
}

void explain_passes(Explain *e) {
    section_begin(e, "passes", "The graph, pass by pass",
                  "A block of the model is one function, called once a layer; weights and calls that differ only in a number are shown once. In each "
                  "pass, lines that came are marked <ins>so</ins> and lines that went <del>so</del>.");
    if (e->stage_count) {
        text_puts(e->out, "<div class=\"pass\"><h3>As the model was read</h3>\n");
        put_first(e, &e->stages[0]);
        text_puts(e->out, "</div>\n");
    }
    for (int i = 1; i < e->stage_count; i++) put_stage(e, &e->stages[i - 1], &e->stages[i]);
    section_end(e);
}
