// The kernels: what each computes, what that takes, and its C. Then the lowerings that they share.
#include "driver/explain.h"

#include <string.h>

enum { MOST_C = 4 << 20, MOST_C_EACH = 256 << 10 };   // bytes of C in the report

static const char *const class_names[] = {[KERNEL_PRODUCT] = "product", [KERNEL_ATTENTION] = "attention", [KERNEL_OTHER] = "other"};
const char *kernel_class_name(const FuncPlan *f) { return class_names[kernel_class(f)]; }

const FuncPlan **kernels_in_order(const Explain *e) {
    const Plan *plan = e->build->plan;
    const FuncPlan **kernels = ARENA_ARRAY(e->arena, const FuncPlan *, plan->kernel_count);
    for (int i = 0; i < plan->module->func_count; i++)
        if (plan->funcs[i].kernel) kernels[plan->funcs[i].id] = &plan->funcs[i];
    return kernels;
}

static void put_head(Text *out) {
    text_puts(out, "<div class=\"wide\"><table id=\"kernel-table\"><thead><tr><th class=\"n\">#</th><th>kernel</th><th>in</th><th class=\"n\">calls a step</th>"
                   "<th class=\"n\">weights a call</th><th class=\"n\">bytes a row</th><th class=\"n\">operations a row</th><th class=\"n\">op a byte, T = 1</th></tr></thead><tbody>\n");
}

static void put_row(Explain *e, const FuncPlan *f, const Work *one) {
    Text *out = e->out;
    text_printf(out, "<tr><td class=\"n\">%d</td><td><span class=\"dot %s\"></span><a href=\"#kernel-%d\"><code>", f->id + 1, kernel_class_name(f), f->id + 1);
    html_short(out, f->func->name, 48);
    text_printf(out, "</code></a></td><td>%s", kernel_arithmetic(f));
    text_printf(out, "</td><td class=\"n\">%d</td><td class=\"n\">", f->calls);
    if (f->kernel->weight_bytes > 0) html_bytes(out, f->kernel->weight_bytes);
    else text_puts(out, "–");
    text_puts(out, "</td><td class=\"n\">");
    html_bytes(out, f->cost.row_bytes);
    text_puts(out, "</td><td class=\"n\">");
    if (f->cost.operations > 0) html_number(out, f->cost.operations, "");
    else text_puts(out, "–");
    text_printf(out, "</td><td class=\"n\">%.2f</td></tr>\n", work_bytes(one) > 0 ? one->operations / work_bytes(one) : 0);
}

static void put_signature(Explain *e, const FuncPlan *f) {
    Text *out = e->out;
    const Func *func = f->func;
    text_puts(out, "<p class=\"facts\"><span>reads <code>");
    for (int i = 0; i < func->input_count; i++) {
        Text type = {0};
        type_text(&func->inputs[i]->type, &type);
        text_puts(out, i ? ", " : "");
        html_text(out, func->inputs[i]->name);
        text_puts(out, ": ");
        html_text(out, type.data);
        text_free(&type);
    }
    text_puts(out, "</code></span><span>makes <code>");
    for (int i = 0; i < func->result_count; i++) {
        Text type = {0};
        type_text(&func->results[i]->type, &type);
        text_puts(out, i ? ", " : "");
        html_text(out, type.data);
        text_free(&type);
    }
    text_printf(out, "</code></span><span>multiplies in <b>%s</b></span>", kernel_arithmetic(f));
    if (f->cost.cache_bytes > 0) {
        text_puts(out, "<span>and a cached position: <b>");
        html_bytes(out, f->cost.cache_bytes);
        text_puts(out, "</b>, <b>");
        html_number(out, f->cost.cache_operations, "");
        text_puts(out, "</b> operations a row</span>");
    }
    if (f->experts) text_printf(out, "<span>of <b>%d</b> experts a token takes <b>%d</b></span>", f->experts, f->experts_chosen);
    text_puts(out, "</p>\n<ul class=\"params\">");
    for (int p = 0; p < func->param_count; p++) {
        const Weight *w = f->bound[p];
        DType stored = w && w->quantize_to != DT_COUNT ? w->quantize_to : func->params[p]->type.dtype;
        Text type = {0};
        type_text(&func->params[p]->type, &type);
        text_puts(out, "<li><code>");
        html_text(out, func->params[p]->name);
        text_puts(out, "</code> ");
        html_text(out, type.data);
        text_printf(out, ", packed %s as %s</li>", w ? layout_names[w->layout] : "", dtype_info[w && w->layout == LAYOUT_ROWS ? DT_F32 : stored].name);
        text_free(&type);
    }
    text_puts(out, func->param_count ? "</ul>\n" : "<li>no weights</li></ul>\n");
}

static void put_code(Explain *e, const FuncPlan *f, size_t *budget) {
    Text c = {0};
    kernel_print(f->kernel, &c);
    size_t length = c.length < MOST_C_EACH ? c.length : MOST_C_EACH;
    if (length > *budget) length = *budget;
    *budget -= length;
    text_puts(e->out, "<pre class=\"c\">");
    html_c(e->out, c.data, length);
    text_puts(e->out, "</pre>\n");
    if (length < c.length) text_printf(e->out, "<p class=\"note\">%zu of %zu bytes are shown; --emit c writes all of it.</p>\n", length, c.length);
    text_free(&c);
}

// What lies between prelude and kernels in the whole text: the lowerings of mma that this model's formats need.
static void put_shared(Explain *e, size_t *budget) {
    static const char *const from_words[] = {"TN_NOINLINE void product_", "TN_INLINE void product_", "static void product_"};
    Text c = {0};
    plan_emit(e->build->plan, FLAVOUR_JIT, 0, &c);
    const char *end = strstr(c.data, "\n// ---- kernels "), *from = NULL;
    for (size_t i = 0; end && i < COUNT_OF(from_words); i++) {
        const char *at = strstr(c.data, from_words[i]);
        if (at && at < end && (!from || at < from)) from = at;
    }
    while (from && from > c.data && !(from[-1] == '\n' && (from - 2 < c.data || from[-2] == '\n' || from[-2] == '}'))) from--;
    size_t length = from ? (size_t)(end - from) : 0;
    if (length && length < *budget && length < MOST_C_EACH) {
        *budget -= length;
        text_puts(e->out, "<details data-name=\"shared products\"><summary><span class=\"kind\">shared</span> <code>products</code> <small>the multiplications that kernels call, one "
                          "for each storage format</small></summary>\n<pre class=\"c\">");
        html_c(e->out, from, length);
        text_puts(e->out, "</pre></details>\n");
    }
    text_free(&c);
}

void explain_kernels(Explain *e) {
    const FuncPlan **kernels = kernels_in_order(e);
    int count = e->build->plan->kernel_count;
    const Work *one = work_of(e, &e->scenarios[0]);
    size_t budget = MOST_C;
    section_begin(e, "kernels", "Kernels",
                  "Each kernel computes one fused region for some rows; its tasks are shared among the threads. A row is a token, or an output that was asked for. "
                  "Bytes and operations are the least that the work needs.");
    text_puts(e->out, "<p class=\"legend\"><span><span class=\"dot product\"></span>products with weights</span><span><span class=\"dot attention\"></span>attention</span>"
                      "<span><span class=\"dot other\"></span>others</span></p>\n");
    put_head(e->out);
    for (int i = 0; i < count; i++) put_row(e, kernels[i], &one[i]);
    text_puts(e->out, "</tbody></table></div>\n<h3>Their C</h3>\n<div class=\"tools\"><span data-search=\"#kernels details\" data-hint=\"find a kernel\"></span><span data-open=\"yes\"></span></div>\n");
    for (int i = 0; i < count; i++) {
        text_printf(e->out, "<details id=\"kernel-%d\" data-name=\"", i + 1);
        html_text(e->out, kernels[i]->func->name);
        text_puts(e->out, "\"><summary><span class=\"kind\">");
        text_printf(e->out, "%d</span> <code>", i + 1);
        html_text(e->out, kernels[i]->func->name);
        text_puts(e->out, "</code> <small>");
        html_short(e->out, plan_describe(e->build->plan, kernels[i], e->arena), 100);
        text_puts(e->out, "</small></summary>\n");
        put_signature(e, kernels[i]);
        put_code(e, kernels[i], &budget);
        text_puts(e->out, "</details>\n");
    }
    put_shared(e, &budget);
    section_end(e);
}
