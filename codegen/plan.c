// Planning: which kernels there are, where every weight lies in the blob and every cache in a page, and how large the arena is; then packing and the
// whole C text. Requires a module that the passes have lowered, fused, laid out and placed.
#include "codegen/plan.h"
#include "codegen/values.h"
#include "ir/prune.h"
#include "runtime/abi.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

extern const char prelude_abi[], prelude_vector[], prelude_math[], prelude_rows[], prelude_attend_pairs[], prelude_product[], prelude_product_sparse[], prelude_product_int[], prelude_product_bf16[], prelude_product_amx[], prelude_probes[], prelude_isa_clang[], prelude_isa_gcc[],
    prelude_supported[], prelude_nvptx[];
extern const char prelude_attend[], prelude_cache[];

FuncPlan *plan_func(const Plan *plan, const Func *func) {
    for (int i = 0; i < plan->module->func_count; i++)
        if (plan->funcs[i].func == func) return &plan->funcs[i];
    return NULL;
}

int param_slot(const Func *func, int param) {
    int slot = 0;
    for (int i = 0; i < param; i++) slot += func->params[i]->count > 0 ? func->params[i]->count : 1;
    return slot;
}

// ---- functions ---------------------------------------------------------------------------------------------------------------------

static const char *function_name(Plan *plan, int index) {
    const Func *f = plan->module->funcs[index];
    const char *id = c_identifier(plan->arena, f->name);
    const char *ending = f->kernel ? "kernel" : "block";   // so that no name of the C library or of the run time is taken
    id = arena_printf(plan->arena, "%s_%s", id, ending);
    for (int i = 0, n = 2; i < index; i++)
        if (!strcmp(plan->funcs[i].name, id)) {
            id = arena_printf(plan->arena, "%s_%d_%s", c_identifier(plan->arena, f->name), n++, ending);
            i = -1;
        }
    return id;
}

static bool kept_alike(const Weight *weight, const Value *param) {
    return prune_row_keeps(weight) == param->kept && (weight->layout == LAYOUT_BLOCKS ? weight->prune.columns : 0) == param->block;
}

// Which weight each parameter is bound to, from main down. All weights of one parameter are stored alike.
static bool bind_parameters(Plan *plan, Diags *diags) {
    const Module *m = plan->module;
    for (int i = m->func_count - 1; i >= 0; i--) {
        FuncPlan *caller = &plan->funcs[i];
        for (int n = 0; n < caller->func->node_count; n++) {
            const Node *node = caller->func->nodes[n];
            if (node->op != OP_CALL && node->op != OP_MOE_EXPERTS) continue;
            const Func *callee = node_attr(node, "block")->func;
            FuncPlan *to = plan_func(plan, callee);
            int first = node_params(node);
            for (int p = 0; p < callee->param_count; p++) {
                const Value *v = node->operands[first + p];
                int weights = v->kind == VALUE_WEIGHT ? (v->count > 0 ? v->count : 1) : 0;
                Weight *w = v->kind == VALUE_WEIGHT ? v->weights[0] : v->kind == VALUE_PARAM ? caller->bound[v->index] : NULL;
                if (!w) continue;
                for (int e = 0; e < (weights ? weights : 1); e++) {
                    const Weight *each = weights ? v->weights[e] : w;
                    if (to->bound[p] && (to->bound[p]->quantize_to != each->quantize_to || to->bound[p]->layout != each->layout ||
                                         (each->layout >= LAYOUT_SPARSE && !kept_alike(each, callee->params[p])))) {
                        diag_error(diags, node->loc, "%s: weights of one parameter are stored in different formats", callee->params[p]->name);
                        return false;
                    }
                    if (!to->bound[p]) to->bound[p] = w;
                    if (to->bound[p] != each || (!weights && caller->several[v->index])) to->several[p] = true;
                }
                to->storage[p] = w->quantize_to;
            }
        }
    }
    return true;
}

static bool contains(const Func *f, OpId op) {
    for (int i = 0; i < f->node_count; i++)
        if (f->nodes[i]->op == op) return true;
    return false;
}

static bool projects(const Func *f) { return contains(f, OP_LINEAR) || contains(f, OP_LINEAR_I8) || contains(f, OP_LINEAR_BF16); }

// Scratch lies on a thread's stack, of which Linux gives 8 MiB.
static bool fits_stack(const Kernel *k, Diags *diags) {
    uint64_t bytes = 0;
    for (int i = 0; i < k->buffer_count; i++)
        if (k->buffers[i].place != PLACE_MEMORY) bytes += (uint64_t)k->buffers[i].elements * (k->buffers[i].type == DT_BOOL || k->buffers[i].type == DT_I8 ? 1 : 4);
    if (bytes <= MAX_SCRATCH) return true;
    diag_error(diags, k->func->loc.line || !k->func->node_count ? k->func->loc : k->func->nodes[0]->loc, "%s: %llu bytes between its ops are more than a task can hold (%d)",
               k->name, (unsigned long long)bytes, MAX_SCRATCH);
    return false;
}

static Kernel *kernel_new(const Plan *plan, const FuncPlan *f, const char *name, const Schedule *fixed, Diags *diags) {
    Kernel *k = ARENA_NEW(plan->arena, Kernel);
    k->arena = plan->arena;
    k->func = f->func;
    k->name = name;
    k->target = plan->target;
    k->book = plan->book;
    k->fixed = fixed;
    k->param_storage = f->storage;
    k->rotations = f->rotations;
    k->largest = f->largest;
    k->expert = f->in_expert;
    k->rows_read = ARENA_ARRAY(plan->arena, bool, f->func->param_count);
    bool built = contains(f->func, OP_ATTEND) ? build_attend(k, diags) : projects(f->func) ? build_linear(k, diags) : build_rows(k, diags);
    return built && fits_stack(k, diags) ? k : NULL;
}

static bool plan_kernel(Plan *plan, FuncPlan *f, Diags *diags) {
    f->id = plan->kernel_count++;
    f->entry = f->name;
    f->kernel = kernel_new(plan, f, f->name, NULL, diags);
    if (f->kernel) f->tasks = f->kernel->tasks;
    return f->kernel;
}

// A kernel in several forms of which the step takes the one that tn_choice says: the first, with number 0, is the plan's own.
bool plan_vary(Plan *plan, FuncPlan *f, const Schedule *schedules, int count, Diags *diags) {
    f->forms = ARENA_ARRAY(plan->arena, Kernel *, count + 1);
    f->forms[0] = f->kernel;
    for (int i = 0; i < count; i++) {
        const Schedule *fixed = arena_copy(plan->arena, &schedules[i], sizeof *schedules);
        Kernel *k = f->forms[i + 1] = kernel_new(plan, f, arena_printf(plan->arena, "%s_%d", f->name, i + 1), fixed, diags);
        if (!k) return false;
        if (f->kernel->constants) k->constants = NULL;   // printed with the first
        f->kernel->f32_vectors |= k->f32_vectors;
    }
    f->form_count = count + 1;
    f->tasks = arena_printf(plan->arena, "%s_tasks(a.rows)", f->name);
    f->entry = arena_printf(plan->arena, "%s_any", f->name);
    return true;
}

// Callers come after what they call.
static void mark_experts(Plan *plan) {
    for (int i = plan->module->func_count - 1; i >= 0; i--) {
        const FuncPlan *f = &plan->funcs[i];
        for (int n = 0; n < f->func->node_count; n++) {
            const Node *node = f->func->nodes[n];
            if (node->op == OP_MOE_EXPERTS || (node->op == OP_CALL && f->in_expert)) plan_func(plan, node_attr(node, "block")->func)->in_expert = true;
        }
    }
}

// Tokens are drawn from the output of a projection to the vocabulary: its kernel also says the largest of each block, so that few blocks are looked at.
static void find_output(Plan *plan) {
    const Func *main = plan->module->main;
    const Value *out = main->results[0];
    const Node *node = out->kind == VALUE_RESULT ? out->node : NULL;
    FuncPlan *f = node && node->op == OP_CALL && out->type.rank == 2 && out->type.dims[0] == DIM_R ? plan_func(plan, node_attr(node, "block")->func) : NULL;
    if (!f || !f->func->kernel || !projects(f->func)) return;
    for (int r = 0; r < node->result_count; r++) {
        const Value *made = through_reshape(f->func->results[r]);
        if (node->results[r] == out && made->type.rank == 2 && made->type.dtype == DT_F32) f->largest = r, plan->output = node;
    }
}

static bool lies_with_caller(const Func *func, const Value *value) {
    bool result = value->type.dtype == DT_CACHE;   // pages hold it
    for (int r = 0; r < func->result_count; r++) result |= func->results[r] == value;
    return result;
}

static bool reads_panels(const Node *node) {
    bool coded = node->op == OP_LINEAR_I8, product = coded || node->op == OP_LINEAR || node->op == OP_LINEAR_BF16;
    const Value *w = product ? node->operands[coded ? 3 : 1] : NULL;
    for (int i = 0; i < node->operand_count; i++)
        if (node->operands[i] && node->operands[i] != w && node->operands[i]->kind == VALUE_PARAM && node->operands[i]->layout >= LAYOUT_SPARSE) return false;
    return !w || w->kind != VALUE_PARAM || w->layout == LAYOUT_PANELS || w->layout == LAYOUT_BLOCKS || (w->layout == LAYOUT_SPARSE && coded);
}

// Passes may be left out by name: code is made of what fuse, layout and memory leave.
static bool lowered(const Func *func, Diags *diags) {
    for (int n = 0; n < func->node_count; n++) {
        const Node *node = func->nodes[n];
        const char *missing = NULL;
        bool call = node->op == OP_CALL || node->op == OP_MOE_EXPERTS;
        if (func->kernel) missing = reads_panels(node) ? NULL : "layout";
        else if (!call) missing = "fuse";
        else if (node->frame < 0 && (node->op == OP_MOE_EXPERTS || !node_attr(node, "block")->func->kernel)) missing = "memory";
        for (int r = 0; r < node->result_count && call && !missing; r++)
            if (node->results[r]->place < 0 && !lies_with_caller(func, node->results[r])) missing = "memory";
        if (missing) return diag_error(diags, node->loc, "'%s' is not lowered; run pass '%s' first", op_info(node->op)->name, missing), false;
    }
    return true;
}

static bool plan_functions(Plan *plan, Diags *diags) {
    const Module *m = plan->module;
    plan->funcs = ARENA_ARRAY(plan->arena, FuncPlan, m->func_count);
    for (int i = 0; i < m->func_count; i++) {
        FuncPlan *f = &plan->funcs[i];
        const Func *func = f->func = m->funcs[i];
        if (!lowered(func, diags)) return false;
        f->name = function_name(plan, i);
        f->largest = -1;
        f->slots = param_slot(func, func->param_count);
        f->bound = ARENA_ARRAY(plan->arena, Weight *, func->param_count);
        f->several = ARENA_ARRAY(plan->arena, bool, func->param_count);
        f->storage = ARENA_ARRAY(plan->arena, DType, func->param_count);
        for (int p = 0; p < func->param_count; p++) f->storage[p] = DT_COUNT;
        for (int n = 0; n < func->node_count; n++) {   // callees come before callers
            const Node *node = func->nodes[n];
            for (int r = 0; r < node->result_count; r++)
                if (node->op == OP_CACHE_WRITE) f->cache_bytes += cache_bytes(&node->results[r]->type);
            if (node->op != OP_CALL && node->op != OP_MOE_EXPERTS) continue;
            FuncPlan *callee = plan_func(plan, node_attr(node, "block")->func);
            if (node->op == OP_MOE_EXPERTS) {
                callee->expert = f->has_moe = true;
                if (func->row_factor > 1 || callee->has_moe) {
                    diag_error(diags, node->loc, "moe inside an expert is not supported");
                    return false;
                }
            }
            f->has_moe |= callee->has_moe;
            f->cache_bytes += callee->cache_bytes;
        }
    }
    mark_experts(plan);
    find_output(plan);
    return bind_parameters(plan, diags);
}

static void count_calls(Plan *plan, const Func *func, int times) {
    for (int n = 0; n < func->node_count; n++) {
        const Node *node = func->nodes[n];
        if (node->op != OP_CALL && node->op != OP_MOE_EXPERTS) continue;
        FuncPlan *callee = plan_func(plan, node_attr(node, "block")->func);
        callee->calls += times;
        if (!callee->kernel) count_calls(plan, callee->func, times);
    }
}

// ---- where things lie ---------------------------------------------------------------------------------------------------------------

// Of the rows gathered for experts: where each input's lie, and where those end, followed by position and sequence of each.
uint64_t gather_place(const Plan *plan, const Node *experts, int input) {
    uint64_t slots = (uint64_t)experts->operands[0]->type.dims[1], pairs = (uint64_t)plan->module->max_tokens * slots, at = plan->gather_offset;
    for (int i = 0; i < input; i++) at += (uint64_t)round_up((int64_t)(pairs * row_bytes(&node_attr(experts, "block")->func->inputs[i]->type)) + 64, 64);   // int8 products read up to 64 bytes past a row
    return at;
}

// Behind main's frame: rows gathered for experts, with position and sequence of each; partial results of attention; rotary angles.
static void plan_arena(Plan *plan) {
    const Module *m = plan->module;
    uint64_t gather = plan->gather_offset = (uint64_t)round_up(m->main->frame_bytes, 64);
    for (int i = 0; i < m->func_count; i++)
        for (int n = 0; n < m->funcs[i]->node_count; n++) {
            const Node *node = m->funcs[i]->nodes[n];
            if (node->op != OP_MOE_EXPERTS) continue;
            uint64_t end = gather_place(plan, node, node_attr(node, "block")->func->input_count) + 8 * (uint64_t)m->max_tokens * (uint64_t)node->operands[0]->type.dims[1];
            if (end > gather) gather = end;
        }
    plan->partial_offset = (uint64_t)round_up((int64_t)gather, 64);
    uint64_t partial = 0;
    for (int i = 0; i < m->func_count; i++)
        if (plan->funcs[i].kernel && plan->funcs[i].kernel->partial_bytes > partial) partial = plan->funcs[i].kernel->partial_bytes;
    plan->guess_offset = (uint64_t)round_up((int64_t)(plan->partial_offset + partial), 64);
    plan->arena_bytes = (uint64_t)round_up((int64_t)angles_place(plan, plan->guess_offset + plan->guess_bytes) + 4096, 4096);   // int8 products read up to 64 bytes past a row
}

Plan *plan_new(const Module *module, const Target *target, const char *const *input_names, const int64_t *input_defaults, int input_count,
               Diags *diags) {
    return plan_new_tuned(module, target, input_names, input_defaults, input_count, NULL, diags);
}

Plan *plan_new_tuned(const Module *module, const Target *target, const char *const *input_names, const int64_t *input_defaults, int input_count,
                     const ScheduleBook *book, Diags *diags) {
    Arena *arena = arena_new();
    Plan *plan = ARENA_NEW(arena, Plan);
    plan->arena = arena;
    plan->module = module;
    plan->target = target;
    plan->book = book;
    plan->input_names = input_names;
    plan->input_defaults = input_defaults;
    plan->input_count = input_count;
    plan->causal = module_causal(module);
    bool ok = plan_functions(plan, diags) && plan_places(plan, diags);
    if (ok) plan_angles(plan);
    for (int i = 0; i < module->func_count && ok; i++)
        if (module->funcs[i]->kernel) ok = plan_kernel(plan, &plan->funcs[i], diags);
    if (!ok) {
        plan_free(plan);
        return NULL;
    }
    plan->page_bytes = plan_func(plan, module->main)->cache_bytes;
    count_calls(plan, module->main, 1);
    plan_costs(plan);
    plan_guesses(plan);
    plan->book = NULL;   // is the caller's
    plan_arena(plan);
    return plan;
}

void plan_free(Plan *plan) {
    if (plan) arena_free(plan->arena);
}

// ---- the whole text ---------------------------------------------------------------------------------------------------------------------

// A backslash would take in the next line, a line break end the comment.
void text_in_comment(const char *text, Text *out) {
    for (const char *c = text ? text : ""; *c; c++)
        if ((unsigned char)*c >= 32) text_add(out, *c == '\\' ? "/" : c, 1);
}

const char *plan_describe(const Plan *plan, const FuncPlan *f, Arena *arena) {
    Text text = {0};
    for (int i = 0; i < f->func->node_count; i++) {
        const Node *node = f->func->nodes[i];
        if (node->op == OP_CONST || node->op == OP_RESHAPE) continue;
        text_printf(&text, "%s%s", text.length ? ", " : "", op_info(node->op)->name);
        for (int o = 0; o < node->operand_count; o++)
            if (node->operands[o] && node->operands[o]->kind == VALUE_PARAM) text_printf(&text, " %s", node->operands[o]->name);
    }
    const Loc *loc = &f->func->loc;
    for (int i = 0; i < f->func->node_count && !loc->line; i++) loc = &f->func->nodes[i]->loc;
    const char *file = loc->file ? strrchr(loc->file, '/') : NULL;
    if (loc->line) text_printf(&text, " (%s:%d)", file ? file + 1 : loc->file ? loc->file : "model", loc->line);
    for (char *c = text.data; c && *c; c++)
        if (*c == '"' || *c == '\\' || *c == '\n' || *c == '\r') *c = '\'';
    const char *out = arena_strdup(arena, text.data ? text.data : "");
    text_free(&text);
    (void)plan;
    return out;
}

static bool any_kernel(const Plan *plan, OpId op) {
    for (int i = 0; i < plan->module->func_count; i++)
        if (plan->funcs[i].kernel && contains(plan->funcs[i].func, op)) return true;
    return false;
}

static bool printed_before(const char **names, int *count, const char *name) {
    for (int i = 0; i < *count; i++)
        if (!strcmp(names[i], name)) return true;
    names[(*count)++] = name;
    return false;
}

static bool multiplies_narrow(const Plan *plan) {
    for (int i = 0; i < plan->module->func_count; i++)
        for (int q = 0; plan->funcs[i].kernel && q < plan->funcs[i].kernel->product_count; q++)
            if (plan->funcs[i].kernel->product_groups[q] != X_FLOATS) return true;
    return false;
}

static bool attends_pairs(const Plan *plan) {
    for (int i = 0; i < plan->module->func_count; i++)
        if (plan->funcs[i].kernel && plan->funcs[i].kernel->kv_vectors[KV_PAIRS]) return true;
    return false;
}

// The product of a format with x in groups: floats, bf16 or codes.
static void print_product(const Plan *plan, const PanelFormat *f, int group, const char **names, int *count, Text *out) {
    if (f->block) {
        PanelFormat inner = panel_inner(f);
        print_product(plan, &inner, group, names, count, out);
    } else if (group == X_FLOATS && !printed_before(names, count, f->name)) product_print_format(f, out);
    if (printed_before(names, count, arena_printf(plan->arena, "%s %d", f->name, group))) return;
    if (f->block) product_print_blocks(f, group, out);
    else if (group == X_FLOATS) product_print_float(f, out);
    else if (group == X_BF16) product_print_bf16(out);
    else product_print_int(f, group, out);
}

// The lowerings that some kernel calls: products with f32 panels, with each packed format, rows gathered from panels.
static void print_products(const Plan *plan, Text *out) {
    unsigned vectors = 1u << 4;   // packed formats multiply through product_f32_v4
    const char **names = ARENA_ARRAY(plan->arena, const char *, (4 * MAX_PRODUCTS + 2) * plan->kernel_count + 64);
    int count = 0;
    for (int i = 0; i < plan->module->func_count; i++)
        if (plan->funcs[i].kernel) vectors |= plan->funcs[i].kernel->f32_vectors;
    for (int v = 1; v <= 4; v++)
        if (vectors >> v & 1) product_print_f32(v, out);
    for (int storage = 0; storage <= KV_PAIRS; storage++) {
        unsigned kv = 0;
        for (int i = 0; i < plan->module->func_count; i++)
            if (plan->funcs[i].kernel) kv |= plan->funcs[i].kernel->kv_vectors[storage];
        for (int v = 1; v <= 4; v++)
            if (kv >> v & 1) product_print_kv(storage, v, out);
    }
    for (int i = 0; i < plan->module->func_count; i++) {
        const Kernel *k = plan->funcs[i].kernel;
        PanelLayout layout;
        for (int q = 0; k && q < k->product_count; q++)
            if (kernel_panel(k, k->products[q], &layout)) print_product(plan, &layout.format, k->product_groups[q], names, &count, out);
        for (int p = 0; k && p < k->func->param_count; p++)
            if (k->rows_read[p] && kernel_panel(k, p, &layout) && !printed_before(names, &count, arena_printf(plan->arena, "row %s", layout.format.name))) {
                if (!printed_before(names, &count, layout.format.name)) product_print_format(&layout.format, out);
                panel_row_print(&layout.format, out);
            }
    }
}

// How much a kernel's arguments hold.
static void print_limits(const Plan *plan, Text *out) {
    int inputs = 1, results = 1, weights = 1;
    for (int i = 0; i < plan->module->func_count; i++) {
        const Func *f = plan->module->funcs[i];
        if (!f->kernel) continue;
        if (f->input_count > inputs) inputs = f->input_count;
        if (f->result_count > results) results = f->result_count;
        if (f->param_count > weights) weights = f->param_count;
    }
    text_printf(out, "enum { TN_MOST_INPUTS = %d, TN_MOST_RESULTS = %d, TN_MOST_WEIGHTS = %d };   // of any kernel\n", inputs, results, weights);
}

// The other forms of a kernel that has several, and the functions that choose.
static void print_forms(const FuncPlan *f, Text *out) {
    if (!f->form_count) return;
    for (int i = 1; i < f->form_count; i++) kernel_print(f->forms[i], out);
    text_printf(out, "TN_NOINLINE long %s_tasks(long rows) {\n    const struct { long rows; } a = {rows};\n    switch (tn_choice[%d]) {\n", f->name, f->id);
    for (int i = 1; i < f->form_count; i++) text_printf(out, "    case %d: return %s;\n", i, f->forms[i]->tasks);
    text_printf(out, "    }\n    return %s;\n}\nTN_NOINLINE void %s(const tn_args *a, long first_task, long last_task) {\n    switch (tn_choice[%d]) {\n", f->kernel->tasks,
                f->entry, f->id);
    for (int i = 1; i < f->form_count; i++) text_printf(out, "    case %d: %s(a, first_task, last_task); return;\n", i, f->forms[i]->name);
    text_printf(out, "    }\n    %s(a, first_task, last_task);\n}\n\n", f->name);
}

static bool has_forms(const Plan *plan) {
    for (int i = 0; i < plan->module->func_count; i++)
        if (plan->funcs[i].form_count) return true;
    return false;
}

void plan_emit(const Plan *plan, Flavour flavour, uint64_t blob_hash, Text *out) {
    const Module *m = plan->module;
    text_puts(out, "// ");
    text_in_comment(m->name, out);
    text_printf(out, " for %s, by tenon %s. Below the prelude the text is the same for every target and compiler.\n", plan->target->name, TENON_VERSION);
    text_puts(out, prelude_abi);
    text_puts(out, "\n");
    text_puts(out, prelude_vector);
    if (flavour == FLAVOUR_JIT) text_puts(out, prelude_isa_clang);
    else {
        text_puts(out, "#if defined(__clang__)\n");
        text_puts(out, prelude_isa_clang);
        text_puts(out, "#else\n");
        text_puts(out, prelude_isa_gcc);
        text_puts(out, "#endif\n");
    }
    text_puts(out, "#ifndef TN_HAVE_F16\nTN_INLINE tn_v tn_f16_float(const tn_u8 *p) { return tn_half_bits_float(__builtin_convertvector(*(const tn_h16u *)p, tn_u)); }\n#endif\n");
    text_puts(out, prelude_math);
    print_limits(plan, out);
    text_puts(out, prelude_rows);
    if (any_kernel(plan, OP_ATTEND) || any_kernel(plan, OP_CACHE_WRITE)) text_puts(out, prelude_attend);
    if (any_kernel(plan, OP_CACHE_WRITE)) text_puts(out, prelude_cache);
    text_puts(out, prelude_product);
    text_puts(out, prelude_product_sparse);
    if (multiplies_narrow(plan)) {
        text_puts(out, prelude_product_int);
        text_puts(out, prelude_product_bf16);
        text_puts(out, prelude_product_amx);
    }
    if (attends_pairs(plan)) text_puts(out, prelude_attend_pairs);
    print_products(plan, out);
    if (has_forms(plan)) text_printf(out, "int tn_choice[%d];   // of each kernel: which of its forms runs\n", plan->kernel_count);
    text_puts(out, "\n// ---- kernels ----------------------------------------------------------------------------------------------------------\n\n");
    angles_print(plan, out);
    for (int i = 0; i < m->func_count; i++) {
        const FuncPlan *f = &plan->funcs[i];
        if (!f->kernel) continue;
        text_printf(out, "// %s\n// ", plan_describe(plan, f, plan->arena));
        for (int p = 0; p < f->func->input_count; p++) {
            text_puts(out, p ? ", " : "");
            text_in_comment(f->func->inputs[p]->name, out);
            text_puts(out, ": ");
            type_text(&f->func->inputs[p]->type, out);
        }
        for (int p = 0; p < f->func->result_count; p++) {
            text_puts(out, p ? ", " : " -> ");
            type_text(&f->func->results[p]->type, out);
        }
        if (f->kernel->weight_bytes > 0) text_printf(out, "; %.0f bytes of weights a call, %.0f operations a row", f->kernel->weight_bytes, f->kernel->operations);
        text_puts(out, "\n");
        kernel_print(f->kernel, out);
        print_forms(f, out);
        if (f->kernel->after) kernel_print(f->kernel->after, out);
    }
    if (!strncmp(plan->target->triple, "nvptx64", 7)) {
        text_puts(out, prelude_nvptx);
        for (int i = 0; i < m->func_count; i++)
            if (plan->funcs[i].kernel) text_printf(out, "TN_ENTRY(%s)\n", plan->funcs[i].name);
        return;
    }
    text_printf(out, "#define TN_BLOB_HASH %lluULL\n", (unsigned long long)blob_hash);
    text_puts(out, prelude_supported);
    text_puts(out, prelude_probes);
    step_print(plan, out);
}
