// Ops on shapes, over a row, and over the rows of a sequence.
#include "ir/eval.h"

#include <math.h>
#include <string.h>

// ---- shapes ---------------------------------------------------------------------------------------------------------------

// An array cut at one dimension: `outer` pieces, each `size` runs of `inner` elements.
typedef struct { int64_t outer, size, inner; int axis; } Cut;

static Cut cut_at(const Eval *eval, const Tensor *tensor, const char *attr) {
    int rank = tensor->type.rank, axis = (int)node_int(eval->node, attr);
    Cut cut = {1, 1, 1, axis < 0 ? axis + rank : axis};
    for (int i = 0; i < rank; i++) *(i < cut.axis ? &cut.outer : i == cut.axis ? &cut.size : &cut.inner) *= tensor->dims[i];
    return cut;
}

// Runs [from, from + count) along the axis of one tensor to runs starting at `to` of another.
static void copy_runs(const Tensor *source, const Cut *a, int64_t from, const Tensor *target, const Cut *b, int64_t to, int64_t count) {
    size_t bytes = element_bytes(source->type.dtype) * (size_t)a->inner;
    for (int64_t o = 0; o < a->outer; o++)
        memcpy((char *)target->data + (size_t)(o * b->size + to) * bytes, (const char *)source->data + (size_t)(o * a->size + from) * bytes,
               (size_t)count * bytes);
}

void eval_RESHAPE(Eval *eval) {
    memcpy(eval->out[0].data, eval->in[0].data, element_bytes(eval->in[0].type.dtype) * (size_t)tensor_elements(&eval->in[0]));
}

void eval_TRANSPOSE(Eval *eval) {
    const Tensor *x = &eval->in[0], *out = &eval->out[0];
    int rank = x->type.rank, a = (int)node_int(eval->node, "a"), b = (int)node_int(eval->node, "b");
    if (a < 0) a += rank;
    if (b < 0) b += rank;
    int64_t strides[MAX_RANK], at[MAX_RANK] = {0}, index = 0, n = tensor_elements(x);
    size_t bytes = element_bytes(x->type.dtype);
    for (int i = rank - 1; i >= 0; i--) strides[i] = i == rank - 1 ? 1 : strides[i + 1] * x->dims[i + 1];
    int64_t swap = strides[a];
    strides[a] = strides[b];
    strides[b] = swap;
    for (int64_t i = 0; i < n; i++) {
        memcpy((char *)out->data + (size_t)i * bytes, (const char *)x->data + (size_t)index * bytes, bytes);
        for (int d = rank - 1; d >= 0; d--) {
            index += strides[d];
            if (++at[d] < out->dims[d]) break;
            index -= strides[d] * out->dims[d];
            at[d] = 0;
        }
    }
}

void eval_CONCAT(Eval *eval) {
    Cut out = cut_at(eval, &eval->out[0], "axis");
    int64_t to = 0;
    for (int i = 0; i < eval->node->operand_count; i++) {
        Tensor part = eval_operand(eval, i);
        Cut cut = cut_at(eval, &part, "axis");
        copy_runs(&part, &cut, 0, &eval->out[0], &out, to, cut.size);
        to += cut.size;
    }
}

void eval_SPLIT(Eval *eval) {
    Cut cut = cut_at(eval, &eval->in[0], "axis");
    int64_t from = 0;
    for (int i = 0; i < eval->node->result_count; i++) {
        Cut part = cut_at(eval, &eval->out[i], "axis");
        copy_runs(&eval->in[0], &cut, from, &eval->out[i], &part, 0, part.size);
        from += part.size;
    }
}

void eval_SLICE(Eval *eval) {
    Cut cut = cut_at(eval, &eval->in[0], "axis"), part = cut_at(eval, &eval->out[0], "axis");
    copy_runs(&eval->in[0], &cut, node_int(eval->node, "from"), &eval->out[0], &part, 0, part.size);
}

// ---- over a row -----------------------------------------------------------------------------------------------------------

typedef enum { BY_SUM, BY_MEAN, BY_MAX, BY_MIN } Reduction;

static void reduce(Eval *eval, Reduction by) {
    Cut cut = cut_at(eval, &eval->in[0], "axis");
    const float *x = eval->in[0].data;
    for (int64_t o = 0; o < cut.outer; o++)
        for (int64_t i = 0; i < cut.inner; i++) {
            double value = by == BY_MAX || by == BY_MIN ? x[o * cut.size * cut.inner + i] : 0;
            for (int64_t s = 0; s < cut.size; s++) {
                double next = x[(o * cut.size + s) * cut.inner + i];
                if (by == BY_MAX) value = next > value ? next : value;
                else if (by == BY_MIN) value = next < value ? next : value;
                else value += next;
            }
            ((float *)eval->out[0].data)[o * cut.inner + i] = (float)(by == BY_MEAN ? value / (double)cut.size : value);
        }
}

void eval_SUM(Eval *eval) { reduce(eval, BY_SUM); }
void eval_MEAN(Eval *eval) { reduce(eval, BY_MEAN); }
void eval_MAX(Eval *eval) { reduce(eval, BY_MAX); }
void eval_MIN(Eval *eval) { reduce(eval, BY_MIN); }

void eval_SOFTMAX(Eval *eval) {
    int64_t rows = tensor_rows(&eval->in[0]), n = tensor_columns(&eval->in[0]);
    double *powers = ARENA_ARRAY(eval->arena, double, n);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)eval->in[0].data + r * n;
        double largest = x[0], total = 0;
        for (int64_t i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
        for (int64_t i = 0; i < n; i++) total += powers[i] = exp(x[i] - largest);
        for (int64_t i = 0; i < n; i++) ((float *)eval->out[0].data)[r * n + i] = (float)(powers[i] / total);
    }
}

// The largest of n not yet taken, ties to the lower index; -1 when all are taken.
static int64_t largest_free(const float *x, const uint8_t *taken, int64_t n) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || x[i] > x[best])) best = i;
    return best;
}

// Marks as taken every group but the `keep` whose `score` largest sum highest.
static void drop_groups(Eval *eval, const float *x, int64_t n, int64_t groups, uint8_t *taken) {
    int64_t size = n / groups, keep = node_int(eval->node, "keep");
    bool pairs = node_int(eval->node, "score") == 2;
    float *score = ARENA_ARRAY(eval->arena, float, groups);
    uint8_t *kept = ARENA_ARRAY(eval->arena, uint8_t, groups);
    for (int64_t g = 0; g < groups; g++) {
        const float *part = x + g * size;
        int64_t first = largest_free(part, taken + g * size, size);
        taken[g * size + first] = 1;
        int64_t second = largest_free(part, taken + g * size, size);
        taken[g * size + first] = 0;
        score[g] = part[first] + (pairs && second >= 0 ? part[second] : 0);
    }
    for (int64_t i = 0; i < keep; i++) kept[largest_free(score, kept, groups)] = 1;
    for (int64_t i = 0; i < n; i++) taken[i] = !kept[i / size];
}

void eval_TOP_K(Eval *eval) {
    int64_t rows = tensor_rows(&eval->in[0]), n = tensor_columns(&eval->in[0]), k = node_int(eval->node, "k"),
            groups = node_int(eval->node, "groups");
    uint8_t *taken = ARENA_ARRAY(eval->arena, uint8_t, n);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)eval->in[0].data + r * n;
        float *values = (float *)eval->out[0].data + r * k;
        int32_t *indices = (int32_t *)eval->out[1].data + r * k;
        double total = 0;
        memset(taken, 0, (size_t)n);
        if (groups > 1) drop_groups(eval, x, n, groups, taken);
        for (int64_t i = 0; i < k; i++) {
            int64_t best = largest_free(x, taken, n);
            taken[best] = 1;
            values[i] = x[best];
            indices[i] = (int32_t)best;
            total += x[best];
        }
        if (node_int(eval->node, "normalize"))
            for (int64_t i = 0; i < k; i++) values[i] = (float)(values[i] / total);
    }
}

void eval_GATHER(Eval *eval) {
    const Tensor *x = &eval->in[0], *e = &eval->in[1];
    int64_t rows = tensor_rows(e), n = tensor_columns(x), k = tensor_columns(e);
    bool one = x->type.rank != e->type.rank || tensor_rows(x) == 1;   // the same row for all
    size_t bytes = element_bytes(x->type.dtype);
    for (int64_t i = 0; i < rows * k; i++) {
        int32_t index = ((const int32_t *)e->data)[i];
        if (index < 0 || index >= n) {
            eval_error(eval, "index %d is outside the %lld columns", index, (long long)n);
            return;
        }
        memcpy((char *)eval->out[0].data + (size_t)i * bytes, (const char *)x->data + (size_t)((one ? 0 : i / k * n) + index) * bytes,
               bytes);
    }
}

// ---- tokens and sequences -------------------------------------------------------------------------------------------------

void eval_POSITIONS(Eval *eval) {
    Rows rows = eval->frame->rows[-1 - DIM_T];
    if (!rows.position) eval_error(eval, "the rows have no positions here");
    else memcpy(eval->out[0].data, rows.position, sizeof *rows.position * (size_t)rows.count);
}

static void take_row(Eval *eval, int64_t from, int64_t to) {
    size_t bytes = element_bytes(eval->in[0].type.dtype) * (size_t)type_row_elements(&eval->node->results[0]->type);
    memcpy((char *)eval->out[0].data + (size_t)to * bytes, (const char *)eval->in[0].data + (size_t)from * bytes, bytes);
}

void eval_FIRST(Eval *eval) {
    const Step *step = eval->frame->interp->step;
    for (int s = 0; s < step->sequences; s++) take_row(eval, step->first[s], s);
}

void eval_LAST(Eval *eval) {
    const Step *step = eval->frame->interp->step;
    for (int s = 0; s < step->sequences; s++) take_row(eval, step->first[s + 1] - 1, s);
}

void eval_MEAN_TOKENS(Eval *eval) {
    const Step *step = eval->frame->interp->step;
    int64_t width = type_row_elements(&eval->node->results[0]->type);
    for (int s = 0; s < step->sequences; s++)
        for (int64_t i = 0; i < width; i++) {
            double sum = 0;
            for (int t = step->first[s]; t < step->first[s + 1]; t++) sum += ((const float *)eval->in[0].data)[t * width + i];
            ((float *)eval->out[0].data)[s * width + i] = (float)(sum / (step->first[s + 1] - step->first[s]));
        }
}

void eval_KEEP_ROWS(Eval *eval) {
    const Step *step = eval->frame->interp->step;
    for (int r = 0; r < step->rows; r++) take_row(eval, step->keep[r], r);
}
