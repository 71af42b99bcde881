// The contract between passes and code generation, written a second time as a check.
#include "contract.h"

#include <string.h>

#define WRONG(...) return text_printf(problem, __VA_ARGS__), false

static unsigned flags(const Node *node) { return op_info(node->op)->flags; }
static bool is_linear(const Node *node) { return node->op == OP_LINEAR || node->op == OP_LINEAR_I8 || node->op == OP_LINEAR_BF16; }
static bool is_weight(const Value *value) { return value->kind == VALUE_PARAM || value->kind == VALUE_WEIGHT; }
static bool has_rows(const Type *type) { return type->rank && type->dims[0] < 0; }

static bool returned(const Func *func, const Value *value) {
    for (int i = 0; i < func->result_count; i++)
        if (func->results[i] == value) return true;
    return false;
}

// ---- kernels -----------------------------------------------------------------------------------------------------------------------------

static const Value *behind_reshape(const Value *x) {
    return x->kind == VALUE_RESULT && x->node->op == OP_RESHAPE ? x->node->operands[0] : x;
}

static bool epilogue_operand(const Value *value, const Type *shape) {
    if (value->kind == VALUE_PARAM) return value->type.rank == 1 && value->type.dims[0] == shape->dims[shape->rank - 1];
    return (value->kind == VALUE_RESULT && value->node->op == OP_CONST) || type_equal(&value->type, shape);
}

static bool linear_kernel(const Func *kernel, Text *problem) {
    const Node *anchor = NULL;
    for (int i = 0; i < kernel->node_count && !anchor; i++)
        if (is_linear(kernel->nodes[i])) anchor = kernel->nodes[i];
    const Type *shape = &anchor->results[0]->type;
    for (int i = 0; i < kernel->node_count; i++) {
        const Node *node = kernel->nodes[i];
        if (is_linear(node)) {
            for (int k = 0; k < (node->op == OP_LINEAR_I8 ? 2 : 1); k++) {
                const Value *x = behind_reshape(node->operands[k]);
                if (x->kind != VALUE_INPUT || x != behind_reshape(anchor->operands[k])) WRONG("%s: linears read different x, or no input", kernel->name);
            }
            if (node->op != anchor->op || !type_equal(&node->results[0]->type, shape)) WRONG("%s: linears of different shapes", kernel->name);
        } else if (node->op == OP_RESHAPE) {
            bool before = node->operands[0]->kind == VALUE_INPUT;
            if (!before && (!returned(kernel, node->results[0]) || !type_equal(&node->operands[0]->type, shape)))
                WRONG("%s: a reshape in the middle", kernel->name);
        } else if (node->op != OP_CONST) {
            if (!(flags(node) & ELEMENTWISE) || !type_equal(&node->results[0]->type, shape)) WRONG("%s: %s in an epilogue", kernel->name, op_info(node->op)->name);
            for (int k = 0; k < node->operand_count; k++)
                if (!epilogue_operand(node->operands[k], shape)) WRONG("%s: operand %d of %s does not fit", kernel->name, k, op_info(node->op)->name);
        }
    }
    return true;
}

static bool row_kernel(const Func *kernel, int sequences, Text *problem) {
    int64_t symbol = 0;
    for (int i = 0; i < kernel->node_count; i++) {
        const Node *node = kernel->nodes[i];
        for (int r = 0; r < node->result_count; r++) {
            const Type *type = &node->results[r]->type;
            if (!has_rows(type)) continue;
            if (symbol && symbol != type->dims[0]) WRONG("%s: rows of different kinds", kernel->name);
            symbol = type->dims[0];
        }
    }
    for (int i = 0; i < kernel->input_count && !symbol; i++)   // a cache_write alone results in no rows
        if (has_rows(&kernel->inputs[i]->type)) symbol = kernel->inputs[i]->type.dims[0];
    if (sequences > 1) WRONG("%s: gathers twice", kernel->name);
    if (!symbol) WRONG("%s: has no rows", kernel->name);
    return true;
}

static bool check_kernel(const Func *kernel, Text *problem) {
    int linears = 0, attends = 0, sequences = 0, others = 0;
    for (int i = 0; i < kernel->node_count; i++) {
        const Node *node = kernel->nodes[i];
        if (flags(node) & CALL) WRONG("%s: a call in a kernel", kernel->name);
        linears += is_linear(node);
        attends += node->op == OP_ATTEND;
        sequences += (flags(node) & SEQUENCE) != 0;
        others += !is_linear(node) && node->op != OP_ATTEND && node->op != OP_RESHAPE;
    }
    if (linears && (attends || sequences)) WRONG("%s: two kinds of kernel in one", kernel->name);
    if (linears) return linear_kernel(kernel, problem);
    if (attends) {
        if (attends > 1 || others || kernel->nodes[0]->op != OP_ATTEND) WRONG("%s: more than one attend and a reshape of its result", kernel->name);
        return true;
    }
    return row_kernel(kernel, sequences, problem);
}

bool check_fused(const Module *module, Text *problem) {
    for (int f = 0; f < module->func_count; f++) {
        const Func *func = module->funcs[f];
        if (func->kernel && !check_kernel(func, problem)) return false;
        for (int i = 0; i < func->node_count && !func->kernel; i++)
            if (func->nodes[i]->op != OP_CALL && func->nodes[i]->op != OP_MOE_EXPERTS)
                WRONG("%s: %s is not in a kernel", func->name, op_info(func->nodes[i]->op)->name);
        for (int r = 0; r < func->result_count; r++)
            if (func->results[r]->kind != VALUE_RESULT) WRONG("%s: hands back what it got", func->name);
    }
    return true;
}

// ---- memory --------------------------------------------------------------------------------------------------------------------------------

typedef struct { int from, to; int64_t offset, bytes; const char *name; } Piece;

static int64_t bytes_of(const Func *func, const Type *type) {
    const Module *module = func->module;
    int64_t rows = 1;
    if (has_rows(type)) rows = (type->dims[0] == DIM_T ? module->max_tokens : type->dims[0] == DIM_R ? module->max_rows : module->max_sequences) * func->row_factor;
    return rows * type_row_elements(type) * (type->dtype == DT_I8 || type->dtype == DT_BOOL ? 1 : 4);
}

static int last_use(const Func *func, const Value *value, int from) {
    int last = from;
    for (int i = 0; i < func->node_count; i++)
        for (int k = 0; k < func->nodes[i]->operand_count; k++)
            if (func->nodes[i]->operands[k] == value) last = i > last ? i : last;
    return last;
}

static bool check_frame(const Func *func, Text *problem) {
    Piece pieces[4096];
    int count = 0;
    for (int i = 0; i < func->node_count && count < 4000; i++) {
        const Node *node = func->nodes[i];
        const Func *callee = node_attr(node, "block")->func;
        for (int r = 0; r < node->result_count; r++) {
            const Value *value = node->results[r];
            bool none = returned(func, value) || value->type.dtype == DT_CACHE;
            if (none != (value->place < 0)) WRONG("%s: %%%s has%s place", func->name, value->name, none ? " a" : " no");
            if (!none) pieces[count++] = (Piece){i, last_use(func, value, i), value->place, bytes_of(func, &value->type), value->name};
        }
        if (callee->kernel) continue;
        int64_t bytes = callee->frame_bytes;
        if (node->frame < 0) WRONG("%s: a call of %s without a frame", func->name, callee->name);
        pieces[count++] = (Piece){i, i, node->frame, bytes, callee->name};
    }
    for (int a = 0; a < count; a++) {
        if (pieces[a].offset % 64 || pieces[a].offset + pieces[a].bytes > func->frame_bytes) WRONG("%s: %s lies outside the frame", func->name, pieces[a].name);
        for (int b = 0; b < a; b++) {
            bool together = pieces[a].from <= pieces[b].to && pieces[b].from <= pieces[a].to;
            bool overlap = pieces[a].offset < pieces[b].offset + pieces[b].bytes && pieces[b].offset < pieces[a].offset + pieces[a].bytes;
            if (together && overlap) WRONG("%s: %s and %s overlap", func->name, pieces[a].name, pieces[b].name);
        }
    }
    return true;
}

bool check_memory(const Module *module, Text *problem) {
    for (int f = 0; f < module->func_count; f++)
        if (!module->funcs[f]->kernel && !check_frame(module->funcs[f], problem)) return false;
    return true;
}

// ---- layout --------------------------------------------------------------------------------------------------------------------------------

static Layout layout_of(const Value *value) { return value->kind == VALUE_PARAM ? value->layout : value->weights[0]->layout; }

bool check_layout(const Module *module, Text *problem) {
    for (int f = 0; f < module->func_count; f++)
        for (int i = 0; i < module->funcs[f]->node_count; i++) {
            const Node *node = module->funcs[f]->nodes[i];
            for (int k = 0; k < node->operand_count; k++) {
                const Value *value = node->operands[k];
                if (!value || !is_weight(value)) continue;
                Layout wanted = (node->op == OP_LINEAR && k == 1) || (node->op == OP_LINEAR_I8 && k == 3) ? LAYOUT_PANELS : LAYOUT_ROWS;
                if (node->op == OP_CALL) {
                    const Func *callee = node_attr(node, "block")->func;
                    wanted = callee->params[k - callee->input_count]->layout;
                } else if (node->op == OP_MOE_EXPERTS) {
                    wanted = node_attr(node, "block")->func->params[k - node_params(node)]->layout;
                }
                bool table = node->op == OP_EMBEDDING && layout_of(value) == LAYOUT_PANELS;
                if (layout_of(value) != wanted && !table) WRONG("%s: %s lies wrong for %s", module->funcs[f]->name, value->name, op_info(node->op)->name);
                for (int n = 1; value->kind == VALUE_WEIGHT && n < value->count; n++)
                    if (value->weights[n]->layout != value->weights[0]->layout) WRONG("%s: weights of one array lie differently", module->funcs[f]->name);
            }
        }
    return true;
}
