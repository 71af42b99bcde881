// tenon explain: what was built and why, as one HTML file without outside references.
//
// The model goes through the build that compile and run use; this command watches it (BuildOptions.observe) and keeps the graph as each pass
// leaves it. Then the code is compiled and, where the target runs here, run and timed. What the sections say is in a file each:
// explain_passes.c, _graph.c, _kernels.c, _memory.c, _roofline.c, _weights.c. The report's size is bounded: it holds functions, not layers, and
// families of weights before single ones.
#include "driver/explain.h"

#include "codegen/link.h"

#include <string.h>

// ---- watching ------------------------------------------------------------------------------------------------------------

static void observe(void *to, const char *phase, double milliseconds, const Module *module) {
    Explain *e = to;
    ARENA_PUSH(e->arena, e->phases, e->phase_count, e->phase_capacity) = (Phase){arena_strdup(e->arena, phase), milliseconds};
    if (module) stage_take(e, phase, milliseconds, module);
}

// ---- the head of the report ------------------------------------------------------------------------------------------------

static void figure(Text *out, const char *name, const Text *value, const char *under) {
    text_printf(out, "<div><dt>%s</dt><dd>%s", name, value->data);
    if (under && *under) text_printf(out, "<small>%s</small>", under);
    text_puts(out, "</dd></div>\n");
}

static double stored_bytes(const Module *m) {
    double total = 0;
    for (int i = 0; i < m->weight_count; i++) {
        uint64_t bytes;
        if (type_bytes(&m->weights[i]->type, &bytes)) total += (double)bytes;
    }
    return total;
}

static void put_bytes_figure(Text *out, const char *name, double bytes, const char *under) {
    Text value = {0};
    html_bytes(&value, bytes);
    figure(out, name, &value, under);
    text_free(&value);
}

static void put_figures(Explain *e) {
    const Plan *plan = e->build->plan;
    const Module *m = plan->module;
    double elements = 0;
    for (int i = 0; i < m->weight_count; i++) elements += (double)type_row_elements(&m->weights[i]->type);
    Text value = {0}, under = {0};
    text_puts(e->out, "<dl class=\"figures\">\n");
    html_number(&value, elements, "");
    text_printf(&under, "in %d tensors", m->weight_count);
    figure(e->out, "Parameters", &value, under.data);
    put_bytes_figure(e->out, "Weights as stored", stored_bytes(m), "in the model’s files, parts that are used");
    under.length = 0;
    text_printf(&under, "%.2f bits a parameter", elements > 0 ? 8 * (double)plan->weights_bytes / elements : 0);
    put_bytes_figure(e->out, "Weights as packed", (double)plan->weights_bytes, under.data);
    under.length = 0;
    html_bytes(&under, (double)plan->page_bytes);
    text_printf(&under, " a page of %d positions", KV_PAGE);
    put_bytes_figure(e->out, "KV cache a token", (double)plan->page_bytes / KV_PAGE, plan->page_bytes ? under.data : "the model has none");
    under.length = 0;
    text_printf(&under, "%d tokens a step", m->max_tokens);
    put_bytes_figure(e->out, "Arena", (double)plan->arena_bytes, under.data);
    under.length = 0;
    int calls = 0;
    for (int i = 0; i < m->func_count; i++)
        if (plan->funcs[i].kernel) calls += plan->funcs[i].calls;
    text_printf(&under, "%d calls a step", calls);
    value.length = 0;
    text_printf(&value, "%d", plan->kernel_count);
    figure(e->out, "Kernels", &value, under.data);
    text_puts(e->out, "</dl>\n");
    text_free(&value);
    text_free(&under);
}

static void put_row(Text *out, const char *name, const char *value) {
    text_printf(out, "<tr><th>%s</th><td>", name);
    html_text(out, value);
    text_puts(out, "</td></tr>\n");
}

// What the KV cache keeps, from the graph: it may follow from --quant.
static const char *cache_keeps(const Module *module) {
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            if (node->op != OP_CACHE_WRITE) continue;
            DType storage = cache_storage(&node->results[0]->type);
            return storage == DT_I8 ? "int8, a scale a token and head" : dtype_info[storage].name;
        }
    return NULL;
}

// How weights and what they are multiplied with are stored, as far as it was asked for or chosen.
static void put_formats(Explain *e) {
    const BuildOptions *o = e->build->options;   // with what --quant auto chose
    const char *cache = cache_keeps(e->build->model->module);
    put_row(e->out, "Quantization", o->quantize ? o->quantize : "as stored");
    if (o->group) put_row(e->out, "Groups of weights", o->group);
    if (o->activation_group) put_row(e->out, "Groups of activations", o->activation_group);
    if (o->symmetric) put_row(e->out, "4-bit weights", "symmetric");
    if (o->bits && strlen(o->bits) < 400) put_row(e->out, "Bits", o->bits);
    if (o->budget_kl) put_row(e->out, "Budget", arena_printf(e->arena, "KL divergence %s", o->budget_kl));
    if (o->budget_bits) put_row(e->out, "Budget", arena_printf(e->arena, "%s bits a weight", o->budget_bits));
    if (o->calibrate) {
        const char *slash = strrchr(o->calibrate, '/');
        put_row(e->out, "Calibrated on", strcmp(o->calibrate, "default") == 0 ? "the text that comes with Tenon" : slash ? slash + 1 : o->calibrate);
    }
    if (cache) put_row(e->out, "KV cache", cache);
    if (o->no_fusion) put_row(e->out, "Fusion", "left out");
    if (o->sparse) put_row(e->out, "Zeros left out", o->sparse);
}

static void put_build(Explain *e) {
    const Target *target = e->build->target;
    const Model *model = e->build->model;
    char number[64];
    text_puts(e->out, "<div><h3>What was built</h3>\n<table><tbody>\n");
    const char *slash = strrchr(e->path, '/');   // the name alone: a report is passed on
    put_row(e->out, "Source", slash && slash[1] ? slash + 1 : e->path);
    put_row(e->out, "Target", target->name);
    put_row(e->out, "", target_meaning(target));
    put_formats(e);
    snprintf(number, sizeof number, "%lld tokens", (long long)model->context);
    put_row(e->out, "Context", number);
    if (e->options->passes) put_row(e->out, "Only these passes", e->options->passes);
    if (e->options->skip) put_row(e->out, "Passes left out", e->options->skip);
    text_puts(e->out, "<tr><th>Generated C</th><td>");
    html_bytes(e->out, (double)e->c_bytes);
    text_puts(e->out, "</td></tr>\n<tr><th>Machine code</th><td>");
    html_bytes(e->out, (double)e->object_bytes);
    text_puts(e->out, "</td></tr>\n</tbody></table></div>\n");
}

static void put_phases(Explain *e) {
    double total = 0, most = 0;
    for (int i = 0; i < e->phase_count; i++) {
        total += e->phases[i].milliseconds;
        if (e->phases[i].milliseconds > most) most = e->phases[i].milliseconds;
    }
    text_puts(e->out, "<div><h3>Where the time went");
    text_puts(e->out, "<small>");
    html_time(e->out, total * 1e-3);
    text_puts(e->out, " in all</small></h3>\n<table class=\"bars\"><tbody>\n");
    for (int i = 0; i < e->phase_count; i++) {
        text_puts(e->out, "<tr><th>");
        html_text(e->out, e->phases[i].name);
        text_puts(e->out, "</th><td class=\"n\">");
        html_time(e->out, e->phases[i].milliseconds * 1e-3);
        text_printf(e->out, "</td><td class=\"bar\"><svg width=\"100%%\" height=\"10\" aria-hidden=\"true\"><rect width=\"%.2f%%\" height=\"10\" rx=\"1\"/></svg></td></tr>\n",
                    most > 0 ? 100 * e->phases[i].milliseconds / most : 0);
    }
    text_puts(e->out, "</tbody></table></div>\n");
}

static void put_head(Explain *e) {
    static const char *const places[][2] = {{"summary", "Summary"}, {"graph", "Dataflow"}, {"passes", "Passes"}, {"kernels", "Kernels"},
                                            {"memory", "Memory"},   {"roofline", "Roofline"},    {"weights", "Weights"}};
    const char *name = e->build->model->name ? e->build->model->name : "model";
    text_puts(e->out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>");
    html_text(e->out, name);
    text_puts(e->out, " — how it was built</title>\n<style>");
    html_style(e->out);
    text_puts(e->out, "</style></head>\n<body>\n<header><p class=\"eyebrow\">tenon explain</p><h1>");
    html_text(e->out, name);
    text_puts(e->out, "</h1><p class=\"lead\">compiled for ");
    html_text(e->out, e->build->target->name);
    text_puts(e->out, ", weights ");
    html_text(e->out, e->options->quantize ? e->options->quantize : "as stored");
    text_puts(e->out, "</p></header>\n<nav aria-label=\"sections\"><div>");
    for (size_t i = 0; i < COUNT_OF(places); i++) text_printf(e->out, "<a href=\"#%s\">%s</a>", places[i][0], places[i][1]);
    text_puts(e->out, "</div></nav>\n<main>\n<section id=\"summary\" style=\"border-top:0;margin-top:0;padding-top:10px\">\n");
    put_figures(e);
    text_puts(e->out, "<div class=\"two\">\n");
    put_build(e);
    put_phases(e);
    text_puts(e->out, "</div>\n</section>\n");
}

static void put_report(Explain *e) {
    put_head(e);
    explain_graph(e);
    explain_passes(e);
    explain_kernels(e);
    explain_memory(e);
    explain_roofline(e);
    explain_weights(e);
    text_puts(e->out, "</main>\n<footer>Written by tenon " TENON_VERSION ". MB are 10⁶ bytes, MiB 2²⁰.</footer>\n<script>");
    html_script(e->out);
    text_puts(e->out, "</script>\n</body></html>\n");
}

// ---- the command -----------------------------------------------------------------------------------------------------------

typedef struct { const char *model, *out; bool unmeasured; BuildOptions build; } Job;

static bool explain(Job *job, Text *html, Diags *diags) {
    Build build;
    Text object = {0}, c = {0};
    Explain e = {.arena = arena_new(), .path = job->model, .options = &job->build, .build = &build, .out = html};
    job->build.observe = observe;
    job->build.observe_to = &e;
    bool done = build_open(&build, job->model, &job->build, diags);
    if (done) {
        plan_emit(build.plan, FLAVOUR_JIT, 0, &c);
        e.c_bytes = c.length;
        done = build_code(&build, EMIT_OBJECT, 0, &object, diags);
        e.object_bytes = object.length;
        scenarios_init(&e);
        if (done && job->unmeasured) e.measured.why = "--no-measure was given";
        else if (done) measure(&e, &object);
        if (done) put_report(&e);
        build_close(&build);
    }
    text_free(&object);
    text_free(&c);
    arena_free(e.arena);
    return done;
}

static int run(const Command *command, int argc, char **argv) {
    Job job = {0};
    build_options_init(&job.build);
    Options options = {.command = command, .arguments = &job.model, .argument_room = 1, .argument_least = 1};
    option_add(&options, "-o", OPTION_TEXT, &job.out, "OUT", "the HTML file to write");
    option_add(&options, "--no-measure", OPTION_FLAG, &job.unmeasured, NULL, "neither run the program nor measure this machine");
    build_options_add(&options, &job.build);
    cache_options_add(&options, &job.build);
    int code = options_parse(&options, argc, argv);
    if (code >= 0) return code;
    if (!job.out || !*job.out) return usage_error(command, "-o OUT is missing");
    Diags *diags = diags_new();
    Text html = {0};
    bool done = explain(&job, &html, diags) && write_file(job.out, html.data, html.length, diags);
    if (done) fprintf(stderr, "%s: %.2f MB\n", job.out, (double)html.length / 1e6);
    text_free(&html);
    int said = finish(diags);
    return done ? said : EXIT_INPUT;
}

const Command explain_command = {
    "explain",
    "MODEL -o OUT.html",
    "what was built and why, as one HTML file",
    "Builds the model as `compile` does and writes what happened: the graph before and after each pass, the kernels with their C, the memory\n"
    "plan over time, a roofline with this machine's limits and the kernels' times, and what each weight became at which error.",
    "  tenon explain smollm2.gguf -o report.html\n  tenon explain model.yaml -o report.html --quant w8a8 --target x86-64-v3\n"
    "  tenon explain model.yaml -o report.html --no-measure\n      the same report from any machine, without times\n",
    run,
};
