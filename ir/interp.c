// The reference interpreter: nodes of a function in order, each by the evaluator of its op (eval_*.c). This file holds what is around them:
// frames, bindings of parameters, calls and experts, and the KV caches.
//
// A function's values live in its frame's arena and go when it returns. Every execution of an attention in a step takes the next cache of
// the state, so a layer that is called six times has six caches.
#include "ir/eval.h"

#include <stdlib.h>
#include <string.h>

// ---- state --------------------------------------------------------------------------------------------------------------

struct InterpState { int sequences, count, capacity; Cache **caches; };

InterpState *interp_state_new(int sequences) {
    InterpState *state = calloc(1, sizeof *state);
    if (!state) abort();
    state->sequences = sequences;
    return state;
}

void interp_state_free(InterpState *state) {
    if (!state) return;
    for (int i = 0; i < state->count; i++) {
        for (int s = 0; s < state->sequences; s++) {
            free(state->caches[i]->sequences[s].k);
            free(state->caches[i]->sequences[s].v);
        }
        free(state->caches[i]->sequences);
        free(state->caches[i]);
    }
    free(state->caches);
    free(state);
}

int state_sequences(const InterpState *state) { return state->sequences; }

Cache *state_cache(Eval *eval, int64_t kv_heads, int64_t k_dims, int64_t v_dims, bool latent) {
    Interp *interp = eval->frame->interp;
    InterpState *state = interp->state;
    if (!state) {
        eval_error(eval, "needs a state to keep keys and values in");
        return NULL;
    }
    int number = interp->next_cache++;
    if (number == state->count) {
        if (state->count == state->capacity) {
            state->capacity = state->capacity ? state->capacity * 2 : 16;
            state->caches = realloc(state->caches, sizeof *state->caches * (size_t)state->capacity);
            if (!state->caches) abort();
        }
        Cache *cache = calloc(1, sizeof *cache);
        if (!cache || !(cache->sequences = calloc((size_t)state->sequences + 1, sizeof *cache->sequences))) abort();
        cache->kv_heads = kv_heads, cache->k_dims = k_dims, cache->v_dims = v_dims, cache->latent = latent;
        state->caches[state->count++] = cache;
    }
    Cache *cache = state->caches[number];
    if (cache->kv_heads == kv_heads && cache->k_dims == k_dims && cache->v_dims == v_dims && cache->latent == latent) return cache;
    eval_error(eval, "the state is of another model");
    return NULL;
}

// ---- tensors --------------------------------------------------------------------------------------------------------------

int64_t tensor_elements(const Tensor *tensor) {
    int64_t product = 1;
    for (int i = 0; i < tensor->type.rank; i++) product *= tensor->dims[i];
    return product;
}

int64_t tensor_columns(const Tensor *tensor) { return tensor->type.rank ? tensor->dims[tensor->type.rank - 1] : 1; }

int64_t tensor_rows(const Tensor *tensor) {
    int64_t product = 1;
    for (int i = 0; i + 1 < tensor->type.rank; i++) product *= tensor->dims[i];
    return product;
}

size_t element_bytes(DType dtype) {
    if (dtype == DT_BOOL || dtype == DT_I8) return 1;
    if (dtype == DT_BF16) return 2;
    return dtype == DT_CACHE ? sizeof(Cache *) : 4;
}

static Tensor tensor_new(const Type *type, const Rows rows[3], Arena *arena) {
    Tensor tensor = {.type = *type};
    bool cache = type->dtype == DT_CACHE;
    for (int i = 0; i < type->rank; i++) tensor.dims[i] = type->dims[i] < 0 ? rows[-1 - type->dims[i]].count : type->dims[i];
    int64_t elements = cache ? 1 : tensor_elements(&tensor);
    tensor.data = arena_alloc(arena, (size_t)elements * element_bytes(type->dtype));
    return tensor;
}

// ---- frames ---------------------------------------------------------------------------------------------------------------

static size_t slot(const Frame *frame, const Value *value) {
    size_t at = hash_bytes(&value, sizeof value, 0) & (frame->room - 1);
    while (frame->keys[at] && frame->keys[at] != value) at = (at + 1) & (frame->room - 1);
    return at;
}

static void define(Frame *frame, const Value *value, Tensor tensor) {
    size_t at = slot(frame, value);
    frame->keys[at] = value;
    frame->values[at] = tensor;
}

bool eval_error(Eval *eval, const char *format, ...) {
    Text text = {0};
    va_list args;
    va_start(args, format);
    text_vprintf(&text, format, args);
    va_end(args);
    diag_error(eval->frame->interp->diags, eval->node->loc, "%s: %s", op_info(eval->node->op)->name, text.data);
    text_free(&text);
    eval->ok = false;
    return false;
}

static Weight *const *bound(const Frame *frame, const Value *value) {
    if (value && value->kind == VALUE_WEIGHT) return value->weights;
    return value && value->kind == VALUE_PARAM ? frame->params[value->index] : NULL;
}

Weight *const *eval_weights(const Eval *eval, int operand) {
    return operand < eval->node->operand_count ? bound(eval->frame, eval->node->operands[operand]) : NULL;
}

bool eval_has(const Eval *eval, int operand) { return operand < eval->node->operand_count && eval->node->operands[operand]; }

// Rows of a weight as the program will hold them: rounded when the quantize pass said so.
static void stored_rows(const Weight *weight, int64_t row, int64_t n, float *to) {
    int64_t columns = weight->type.rank ? weight->type.dims[weight->type.rank - 1] : 1;
    DType stored = weight->quantize_to != DT_COUNT ? weight->quantize_to : weight->type.dtype;
    if (weight->quantized) {
        int64_t bytes = dtype_row_bytes(stored, columns);
        for (int64_t r = 0; r < n; r++) dequantize_row(stored, (const char *)weight->quantized + (row + r) * bytes, to + r * columns, columns);
        return;
    }
    weight_rows_f32(weight, row, n, to);
    bool as_it_is = !weight->rotate && !weight->prune.keep && !weight->pick_columns.count && stored == (weight->tensor ? weight->source.dtype : weight->type.dtype);
    if (as_it_is || !quantizes_to(stored)) return;
    void *rounded = malloc((size_t)dtype_row_bytes(stored, columns));
    if (!rounded) abort();
    for (int64_t r = 0; r < n; r++) {
        quantize_row(stored, to + r * columns, columns, rounded);
        dequantize_row(stored, rounded, to + r * columns, columns);
    }
    free(rounded);
}

void eval_rows(const Eval *eval, int operand, int64_t row, int64_t n, float *to) {
    Weight *const *weights = eval_weights(eval, operand);
    if (weights) {
        stored_rows(weights[0], row, n, to);
        return;
    }
    const Tensor *tensor = &eval->in[operand];
    int64_t columns = tensor_columns(tensor);
    memcpy(to, (const float *)tensor->data + row * columns, sizeof *to * (size_t)(n * columns));
}

const float *eval_vector(Eval *eval, int operand) { return eval_has(eval, operand) ? eval->in[operand].data : NULL; }

Rows eval_symbol_rows(const Eval *eval, const Type *type) {
    if (type->rank && type->dims[0] < 0) return eval->frame->rows[-1 - type->dims[0]];
    return (Rows){.count = 1};
}

// A weight as a tensor: f32, i32 or bool by what an op sees of it.
static Tensor weight_tensor(const Frame *frame, const Value *value) {
    const Weight *weight = bound(frame, value)[0];
    Type type = value->type;
    type.dtype = value_dtype(value);
    Tensor tensor = tensor_new(&type, frame->rows, frame->arena);
    int64_t rows = tensor_rows(&tensor), columns = tensor_columns(&tensor), elements = rows * columns;
    bool exact = type.dtype == DT_I32 && (weight->tensor ? weight->source.dtype : weight->type.dtype) == DT_I32;
    for (int64_t r = 0; exact && r < rows; r++) {   // a float could not hold every i32
        const void *bytes = weight_row_bytes(weight, r);
        exact = bytes != NULL;
        if (exact) memcpy((int32_t *)tensor.data + r * columns, bytes, sizeof(int32_t) * (size_t)columns);
    }
    if (exact) return tensor;
    float *values = type.dtype == DT_F32 ? tensor.data : ARENA_ARRAY(frame->arena, float, elements);
    stored_rows(weight, 0, rows, values);
    for (int64_t i = 0; i < elements; i++) {
        if (type.dtype == DT_I32) ((int32_t *)tensor.data)[i] = (int32_t)values[i];
        if (type.dtype == DT_BOOL) ((uint8_t *)tensor.data)[i] = values[i] != 0;
    }
    return tensor;
}

// Large weights that an op reads by row are not made into tensors.
static bool read_by_row(const Node *node, int operand) {
    return ((node->op == OP_LINEAR || node->op == OP_LINEAR_BF16 || node->op == OP_EMBEDDING) && operand == 1) ||
           (node->op == OP_LINEAR_I8 && operand == 3);
}

Tensor eval_operand(Eval *eval, int i) {
    const Value *value = eval->node->operands[i];
    if (bound(eval->frame, value)) return weight_tensor(eval->frame, value);
    return eval->frame->values[slot(eval->frame, value)];
}

static bool run_node(Frame *frame, const Node *node) {
    static void (*const evaluators[OP_COUNT])(Eval *) = {
#define OP(id, name, operands, attributes, flags, meaning) eval_##id,
#include "ir/ops.def"
#undef OP
    };
    Eval eval = {.frame = frame, .node = node, .arena = frame->arena, .ok = true};
    const OpInfo *op = op_info(node->op);
    for (int i = 0; i < op->operand_count && !op->operands[i].variadic && i < node->operand_count; i++)
        if (node->operands[i] && !read_by_row(node, i)) eval.in[i] = eval_operand(&eval, i);
        else if (node->operands[i] && !bound(frame, node->operands[i])) eval.in[i] = eval_operand(&eval, i);
    eval.out = ARENA_ARRAY(frame->arena, Tensor, node->result_count);
    for (int i = 0; i < node->result_count && node->op != OP_CALL; i++)
        eval.out[i] = tensor_new(&node->results[i]->type, frame->rows, frame->arena);
    evaluators[node->op](&eval);
    for (int i = 0; i < node->result_count; i++) define(frame, node->results[i], eval.out[i]);
    return eval.ok;
}

static Tensor copied(const Tensor *tensor, Arena *arena) {
    Tensor copy = *tensor;
    size_t elements = tensor->type.dtype == DT_CACHE ? 1 : (size_t)tensor_elements(tensor);
    copy.data = arena_copy(arena, tensor->data, elements * element_bytes(tensor->type.dtype));
    return copy;
}

bool frame_run(Interp *interp, const Func *func, const Tensor *inputs, Weight *const *const *params, const Rows rows[3], Tensor *results,
               Arena *arena) {
    if (interp->depth == MAX_CALL_DEPTH) {
        diag_error(interp->diags, func->loc, "functions are nested deeper than %d", MAX_CALL_DEPTH);
        return false;
    }
    interp->depth++;
    Frame frame = {.interp = interp, .func = func, .arena = arena_new(), .params = params};
    memcpy(frame.rows, rows, sizeof frame.rows);
    size_t values = (size_t)func->input_count;
    for (int n = 0; n < func->node_count; n++) values += (size_t)func->nodes[n]->result_count;
    for (frame.room = 16; frame.room < values * 2; frame.room *= 2) {}
    frame.keys = ARENA_ARRAY(frame.arena, const Value *, frame.room);
    frame.values = ARENA_ARRAY(frame.arena, Tensor, frame.room);
    for (int i = 0; i < func->input_count; i++) define(&frame, func->inputs[i], inputs[i]);
    bool ok = true;
    for (int n = 0; ok && n < func->node_count; n++) ok = run_node(&frame, func->nodes[n]);
    for (int i = 0; ok && i < func->result_count; i++) results[i] = copied(&frame.values[slot(&frame, func->results[i])], arena);
    arena_free(frame.arena);
    interp->depth--;
    return ok;
}

// ---- calls ----------------------------------------------------------------------------------------------------------------

void eval_CALL(Eval *eval) {
    const Node *node = eval->node;
    const Func *callee = node_attr(node, "block")->func;
    Tensor *inputs = ARENA_ARRAY(eval->arena, Tensor, callee->input_count);
    Weight *const **params = ARENA_ARRAY(eval->arena, Weight *const *, callee->param_count);
    for (int i = 0; i < callee->input_count; i++) inputs[i] = eval_operand(eval, i);
    for (int i = 0; i < callee->param_count; i++) params[i] = eval_weights(eval, callee->input_count + i);
    if (!frame_run(eval->frame->interp, callee, inputs, params, eval->frame->rows, eval->out, eval->arena)) eval->ok = false;
}

// Of a tensor, the rows of some (row, slot) pairs.
static Tensor rows_of_pairs(const Tensor *x, const int64_t *chosen, int64_t count, int64_t slots, Arena *arena) {
    Tensor rows = *x;
    rows.dims[0] = count;
    size_t bytes = (size_t)(tensor_elements(x) / (x->dims[0] ? x->dims[0] : 1)) * element_bytes(x->type.dtype);
    char *values = ARENA_ARRAY(arena, char, bytes * (size_t)count + 1);
    for (int64_t i = 0; i < count; i++) memcpy(values + (size_t)i * bytes, (const char *)x->data + (size_t)(chosen[i] / slots) * bytes, bytes);
    rows.data = values;
    return rows;
}

// Runs expert `number` on the rows whose slot chose it; `rows` lists (row, slot) pairs as row·slots + slot.
static bool run_expert(Eval *eval, const Tensor *x, int number, const int64_t *chosen, int64_t count, int64_t slots, float *to) {
    const Node *node = eval->node;
    const Func *callee = node_attr(node, "block")->func;
    Frame *frame = eval->frame;
    Arena *arena = arena_new();
    int symbol = (int)(-1 - x->type.dims[0]), first_param = node_params(node);
    int64_t width = type_row_elements(&callee->results[0]->type);
    Tensor *inputs = ARENA_ARRAY(arena, Tensor, callee->input_count), result;
    for (int i = 0; i < callee->input_count; i++) inputs[i] = rows_of_pairs(&x[i], chosen, count, slots, arena);
    int32_t *position = ARENA_ARRAY(arena, int32_t, count);
    Rows rows[3];
    memcpy(rows, frame->rows, sizeof rows);
    for (int64_t i = 0; i < count && rows[symbol].position; i++) position[i] = rows[symbol].position[chosen[i] / slots];
    rows[symbol] = (Rows){count, rows[symbol].position ? position : NULL, NULL};
    Weight *const **params = ARENA_ARRAY(arena, Weight *const *, callee->param_count);
    for (int i = 0; i < callee->param_count; i++) {
        params[i] = eval_weights(eval, first_param + i);
        if (node->operands[first_param + i]->count) params[i] += number;
    }
    bool ok = frame_run(frame->interp, callee, inputs, params, rows, &result, arena);
    for (int64_t i = 0; ok && i < count; i++)
        memcpy(to + chosen[i] * width, (const float *)result.data + i * width, sizeof *to * (size_t)width);
    arena_free(arena);
    return ok;
}

// Every slot's expert output: [rows, slots, …] into `to`.
static bool run_experts(Eval *eval, int e, int first_input, float *to) {
    const int32_t *expert = eval->in[e].data;
    int64_t slots = eval->in[e].dims[1], pairs = eval->in[e].dims[0] * slots, experts = node_int(eval->node, "count");
    int64_t *chosen = ARENA_ARRAY(eval->arena, int64_t, pairs);
    int inputs = node_attr(eval->node, "block")->func->input_count;
    Tensor *x = ARENA_ARRAY(eval->arena, Tensor, inputs);
    for (int i = 0; i < inputs; i++) x[i] = eval_operand(eval, first_input + i);
    for (int64_t i = 0; i < pairs; i++)
        if (expert[i] < 0 || expert[i] >= experts) return eval_error(eval, "there is no expert %d of %lld", expert[i], (long long)experts);
    for (int number = 0; number < experts; number++) {
        int64_t count = 0;
        for (int64_t i = 0; i < pairs; i++)
            if (expert[i] == number) chosen[count++] = i;
        if (count && !run_expert(eval, x, number, chosen, count, slots, to)) return eval->ok = false;
    }
    return true;
}

// Here rows come in order.
void eval_MOE_EXPERTS(Eval *eval) {
    run_experts(eval, 0, 1, eval->out[0].data);
    int64_t pairs = eval->in[0].dims[0] * eval->in[0].dims[1];
    for (int64_t i = 0; i < pairs; i++) ((int32_t *)eval->out[1].data)[i] = (int32_t)i;
}

static void combine(const float *y, const int32_t *rows, const float *w, int64_t count, int64_t slots, int64_t width, float *to) {
    for (int64_t r = 0; r < count; r++)
        for (int64_t i = 0; i < width; i++) {
            double sum = 0;
            for (int64_t s = r * slots; s < (r + 1) * slots; s++) sum += (double)w[s] * y[(rows ? rows[s] : s) * width + i];
            to[r * width + i] = (float)sum;
        }
}

void eval_MOE_COMBINE(Eval *eval) {
    int64_t count = eval->in[2].dims[0], slots = eval->in[2].dims[1], width = type_row_elements(&eval->node->results[0]->type);
    const int32_t *rows = eval->in[1].data;
    for (int64_t i = 0; i < count * slots; i++)
        if (rows[i] < 0 || rows[i] >= count * slots) {
            eval_error(eval, "there is no row %d of %lld", rows[i], (long long)(count * slots));
            return;
        }
    combine(eval->in[0].data, rows, eval->in[2].data, count, slots, width, eval->out[0].data);
}

void eval_MOE(Eval *eval) {
    int64_t count = eval->in[1].dims[0], slots = eval->in[1].dims[1], width = type_row_elements(&eval->node->results[0]->type);
    float *y = ARENA_ARRAY(eval->arena, float, count * slots * width);
    if (run_experts(eval, 2, 0, y)) combine(y, NULL, eval->in[1].data, count, slots, width, eval->out[0].data);
}

// ---- entry ----------------------------------------------------------------------------------------------------------------

static bool readable(Weight *const *weights, int count, Diags *diags) {
    for (int i = 0; i < (count ? count : 1); i++)
        if (!weights[i] || (weights[i]->tensor ? !weights[i]->bytes : !weights[i]->data)) {
            diag_error(diags, NOWHERE, "weight %s has no values here: the module was read without its weight files",
                       weights[i] ? weights[i]->name : "?");
            return false;
        }
    return true;
}

static bool check_inputs(const Func *func, const Step *step, const Tensor *inputs, const Rows rows[3], Diags *diags) {
    for (int i = 0; i < func->input_count; i++) {
        const Type *type = &func->inputs[i]->type;
        bool fits = type_equal(type, &inputs[i].type) && inputs[i].data;
        for (int d = 0; fits && d < type->rank; d++)
            fits = inputs[i].dims[d] == (type->dims[d] < 0 ? rows[-1 - type->dims[d]].count : type->dims[d]);
        if (fits) continue;
        diag_error(diags, func->loc, "%s: input %s is not what the function takes", func->name, func->inputs[i]->name);
        return false;
    }
    for (int s = 0; s < step->sequences; s++)
        if (step->first && (step->first[s] >= step->first[s + 1] || step->first[s] < 0 || step->first[s + 1] > step->tokens)) {
            diag_error(diags, NOWHERE, "sequence %d has no rows in this step", s);
            return false;
        }
    for (int r = 0; r < step->rows; r++)
        if (step->keep[r] < 0 || step->keep[r] >= step->tokens) {
            diag_error(diags, NOWHERE, "row %d asked for is not in this step", step->keep[r]);
            return false;
        }
    return true;
}

bool interp_func(const Func *func, InterpState *state, const Step *step, const Tensor *inputs, Weight *const *const *params,
                 Tensor *results, Arena *arena, Diags *diags) {
    static const Step nothing = {0};
    if (!step) step = &nothing;
    Rows rows[3] = {{step->tokens, step->position, step->sequence}, {.count = step->sequences}, {.count = step->rows}};
    for (int i = 0; i < func->param_count; i++)
        if (!readable(params[i], func->params[i]->count, diags)) return false;
    for (int n = 0; n < func->node_count; n++)
        for (int i = 0; i < func->nodes[n]->operand_count; i++) {
            const Value *value = func->nodes[n]->operands[i];
            if (value && value->kind == VALUE_WEIGHT && !readable(value->weights, value->count, diags)) return false;
        }
    if (!check_inputs(func, step, inputs, rows, diags)) return false;
    Arena *scratch = arena_new();
    int32_t *position = ARENA_ARRAY(scratch, int32_t, step->rows), *sequence = ARENA_ARRAY(scratch, int32_t, step->rows);
    for (int r = 0; r < step->rows; r++) {
        if (step->position) position[r] = step->position[step->keep[r]];
        if (step->sequence) sequence[r] = step->sequence[step->keep[r]];
    }
    rows[2].position = step->position ? position : NULL;
    rows[2].sequence = step->sequence ? sequence : NULL;
    Interp interp = {.state = state, .step = step, .diags = diags};
    bool ok = frame_run(&interp, func, inputs, params, rows, results, arena);
    arena_free(scratch);
    return ok;
}

bool interp_run(const Module *module, InterpState *state, const Step *step, const Tensor *inputs, Tensor *results, Arena *arena,
                Diags *diags) {
    if (!module->main) {
        diag_error(diags, NOWHERE, "the module has no main");
        return false;
    }
    return interp_func(module->main, state, step, inputs, NULL, results, arena, diags);
}
