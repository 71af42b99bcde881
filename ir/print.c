// The IR as text: one line a weight, one line a node, in the module's order, so that equal modules print equally. parse.c reads it back.
#include "ir/internal.h"
#include "ir/prune.h"

#include <stdlib.h>
#include <string.h>

static bool plain(const char *name) {
    if (!*name) return false;
    for (const char *c = name; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("_./-", *c))) return false;
    return true;
}

static void print_string(const char *text, Text *out) {
    text_puts(out, "\"");
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\') text_printf(out, "\\%c", *c);
        else if ((unsigned char)*c < ' ' || *c == 0x7F) text_printf(out, "\\x%02x", (unsigned char)*c);
        else text_add(out, c, 1);
    }
    text_puts(out, "\"");
}

static void print_name(char sigil, const char *name, Text *out) {
    text_add(out, &sigil, 1);
    if (plain(name)) text_puts(out, name);
    else print_string(name, out);
}

static void print_sizes(const int64_t *sizes, int count, Text *out) {
    text_puts(out, "[");
    for (int i = 0; i < count; i++) {
        if (i) text_puts(out, ", ");
        dim_text(sizes[i], out);
    }
    text_puts(out, "]");
}

static void print_float(float value, Text *out) {
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value || value != value) break;
    }
    text_puts(out, value != value ? "nan" : text);
}

static void print_data(const Weight *weight, Text *out) {
    Type whole = prune_whole_type(weight);
    int64_t count = type_row_elements(&whole);
    text_puts(out, " = [");
    for (int64_t i = 0; i < count; i++) {
        if (i) text_puts(out, ", ");
        if (weight->type.dtype == DT_F32) print_float(((const float *)weight->data)[i], out);
        else if (weight->type.dtype == DT_I32) text_printf(out, "%d", ((const int32_t *)weight->data)[i]);
        else text_printf(out, "%d", ((const uint8_t *)weight->data)[i]);
    }
    text_puts(out, "]");
}

// take rows 16 [0:5, 9]: of sixteen, the first six and the tenth.
static void print_pick(const char *what, const Pick *pick, Text *out) {
    if (!pick->count) return;
    text_printf(out, " take %s %lld [", what, (long long)pick->of);
    for (int64_t i = 0, last; i < pick->count; i = last + 1) {
        for (last = i; last + 1 < pick->count && pick->at[last + 1] == pick->at[last] + 1;) last++;
        text_printf(out, i ? ", %d" : "%d", pick->at[i]);
        if (last > i) text_printf(out, ":%d", pick->at[last]);
    }
    text_puts(out, "]");
}

static void print_weight(const Weight *weight, Text *out) {
    text_puts(out, "weight ");
    print_name('@', weight->name, out);
    text_puts(out, " : ");
    type_text(&weight->type, out);
    bool whole = weight->index < 0 && weight->step == 0 && !weight->transpose;
    if (weight->tensor && !(whole && strcmp(weight->tensor, weight->name) == 0 && type_equal(&weight->source, &weight->type))) {
        text_puts(out, " from ");
        print_name('@', weight->tensor, out);
        text_puts(out, " ");
        type_text(&weight->source, out);
    }
    if (weight->index >= 0) text_printf(out, " index %lld", (long long)weight->index);
    if (weight->step)
        text_printf(out, " rows %lld step %lld count %lld", (long long)weight->first, (long long)weight->step, (long long)weight->rows);
    if (weight->transpose) text_puts(out, " transpose");
    print_pick("rows", &weight->pick_rows, out);
    print_pick("columns", &weight->pick_columns, out);
    if (weight->prune.keep) text_printf(out, " prune %lld of %lld", (long long)weight->prune.keep, (long long)weight->prune.of);
    if (weight->prune.keep && (weight->prune.rows > 1 || weight->prune.columns > 1))
        text_printf(out, " blocks %d by %d", weight->prune.rows, weight->prune.columns);
    if (weight->rotate) text_printf(out, " rotate %d", weight->rotate);
    if (weight->quantize_to != DT_COUNT) text_printf(out, " quantize %s", dtype_info[weight->quantize_to].name);
    if (weight->layout) text_printf(out, " layout %s", layout_names[weight->layout]);
    if (!weight->tensor && weight->data) print_data(weight, out);
    text_puts(out, "\n");
}

static void print_operand(const Value *value, Text *out) {
    if (!value) {
        text_puts(out, "none");
    } else if (value->kind != VALUE_WEIGHT) {
        print_name('%', value->name, out);
    } else if (!value->count) {
        print_name('@', value->weights[0]->name, out);
    } else {
        text_puts(out, "[");
        for (int i = 0; i < value->count; i++) {
            if (i) text_puts(out, ", ");
            print_name('@', value->weights[i]->name, out);
        }
        text_puts(out, "]");
    }
}

static void print_attr(const Attr *attr, Text *out) {
    text_printf(out, "%s=", attr->name);
    switch (attr->kind) {
    case 'i': text_printf(out, "%lld", (long long)attr->number); break;
    case 'b': text_puts(out, attr->number != 0 ? "true" : "false"); break;
    case 't': text_puts(out, dtype_info[(int)attr->number].name); break;
    case 'e': text_puts(out, attr->text); break;
    case 's': print_sizes(attr->sizes, attr->size_count, out); break;
    case 'g': print_name('@', attr->func->name, out); break;
    default: number_text(attr->number, out);
    }
}

// %name: type, and what the layout and memory passes decided about it.
static void print_definition(const Value *value, Text *out) {
    print_name('%', value->name, out);
    text_puts(out, ": ");
    if (value->count) text_printf(out, "%d x ", value->count);
    type_text(&value->type, out);
    if (value->kind == VALUE_PARAM && value->layout) text_printf(out, " layout %s", layout_names[value->layout]);
    if (value->kept) text_printf(out, " %lld", (long long)value->kept);
    if (value->block) text_printf(out, " by %d", value->block);
    if (value->place >= 0) text_printf(out, " at %lld", (long long)value->place);
}

static void print_node(const Node *node, Text *out) {
    text_puts(out, "  ");
    for (int i = 0; i < node->result_count; i++) {
        if (i) text_puts(out, ", ");
        print_definition(node->results[i], out);
    }
    text_printf(out, " = %s", op_info(node->op)->name);
    int operands = node->operand_count;
    while (operands > 0 && !node->operands[operands - 1]) operands--;
    for (int i = 0; i < operands; i++) {
        text_puts(out, i ? ", " : " ");
        print_operand(node->operands[i], out);
    }
    for (int i = 0; i < node->attr_count; i++) {
        text_puts(out, i ? ", " : " {");
        print_attr(&node->attrs[i], out);
    }
    if (node->attr_count) text_puts(out, "}");
    if (node->label) {
        text_puts(out, " label ");
        print_string(node->label, out);
    }
    if (node->frame >= 0) text_printf(out, " frame %lld", (long long)node->frame);
    text_puts(out, "\n");
}

static void print_func(const Func *func, bool main, Text *out) {
    text_puts(out, main ? "\nmain " : func->kernel ? "\nkernel " : "\nfunc ");
    print_name('@', func->name, out);
    text_puts(out, "(");
    for (int i = 0; i < func->input_count; i++) {
        if (i) text_puts(out, ", ");
        print_definition(func->inputs[i], out);
    }
    for (int i = 0; i < func->param_count; i++) {
        text_puts(out, i ? ", " : func->input_count ? "; " : ";");
        print_definition(func->params[i], out);
    }
    text_puts(out, ") -> ");
    for (int i = 0; i < func->result_count; i++) {
        if (i) text_puts(out, ", ");
        type_text(&func->results[i]->type, out);
    }
    if (func->frame_bytes) text_printf(out, " frame %lld", (long long)func->frame_bytes);
    if (func->row_factor != 1) text_printf(out, " rows %d", func->row_factor);
    text_puts(out, " {\n");
    for (int i = 0; i < func->node_count; i++) print_node(func->nodes[i], out);
    text_puts(out, "  return ");
    for (int i = 0; i < func->result_count; i++) {
        if (i) text_puts(out, ", ");
        print_operand(func->results[i], out);
    }
    text_puts(out, "\n}\n");
}

void module_print(const Module *module, Text *out) {
    text_puts(out, "module ");
    print_name('@', module->name, out);
    text_printf(out, " context %lld tokens %d rows %d sequences %d\n", (long long)module->context, module->max_tokens, module->max_rows,
                module->max_sequences);
    if (module->weight_count) text_puts(out, "\n");
    for (int i = 0; i < module->weight_count; i++) print_weight(module->weights[i], out);
    for (int i = 0; i < module->func_count; i++) print_func(module->funcs[i], module->funcs[i] == module->main, out);
}
