// Rotary embedding and attention over the KV cache.
//
// A row at position p writes entry p of its sequence's cache; entries behind it are forgotten, so a sequence may be taken back. Scores are
// sums in double: scale, then softcap, then slope·(j − i), then the mask; a sink is one more score that only joins the denominator.
#include "ir/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void eval_ROPE(Eval *eval) {
    const Tensor *x = &eval->in[0];
    Rows rows = eval_symbol_rows(eval, &eval->node->operands[0]->type);
    int64_t size = tensor_columns(x), heads = x->dims[0] ? tensor_rows(x) / x->dims[0] : 0, dims = node_int(eval->node, "dims");
    double base = node_number(eval->node, "base"), mscale = node_number(eval->node, "mscale");
    bool half = strcmp(node_attr(eval->node, "style")->text, "half") == 0;
    const float *factors = eval_vector(eval, 1);
    if (!rows.position) {
        eval_error(eval, "the rows have no positions here");
        return;
    }
    if (dims < 0) dims = size;
    memcpy(eval->out[0].data, x->data, sizeof(float) * (size_t)tensor_elements(x));
    for (int64_t t = 0; t < x->dims[0]; t++)
        for (int64_t j = 0; j < dims / 2; j++) {
            double angle = rows.position[t] * pow(base, -2.0 * (double)j / (double)dims) / (factors ? factors[j] : 1);
            double c = cos(angle) * mscale, s = sin(angle) * mscale;
            int64_t first = half ? j : 2 * j, second = half ? j + dims / 2 : 2 * j + 1;
            for (int64_t h = 0; h < heads; h++) {
                const float *from = (const float *)x->data + (t * heads + h) * size;
                float *to = (float *)eval->out[0].data + (t * heads + h) * size;
                to[first] = (float)(from[first] * c - from[second] * s);
                to[second] = (float)(from[second] * c + from[first] * s);
            }
        }
}

// ---- the cache ------------------------------------------------------------------------------------------------------------

static float *grown(float *values, int64_t capacity, int64_t width) {
    uint64_t bytes;
    if (!size_mad((uint64_t)capacity, (uint64_t)width * sizeof(float), 0, SIZE_MAX / 2, &bytes)) abort();
    values = realloc(values, bytes);
    if (!values) abort();
    return values;
}

// One head's n elements as the cache keeps them; int8: codes times one scale.
static void keep(float *x, int64_t n, DType storage) {
    float largest = 0;
    for (int64_t i = 0; i < n && storage == DT_I8; i++) largest = fmaxf(largest, fabsf(x[i]));
    float scale = largest / 127, inverse = largest > 1e-36f ? 127 / largest : 0;
    for (int64_t i = 0; i < n; i++) {
        uint16_t half = storage == DT_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
        if (storage == DT_F16) x[i] = f16_to_f32(half);
        if (storage == DT_BF16) dequantize_row(DT_BF16, &half, &x[i], 1);
        float code = rintf(x[i] * inverse);
        if (storage == DT_I8) x[i] = (code == code ? code : 0) * scale;   // of NaN 0; an infinity makes the scale, and so all of them, NaN
    }
}

static bool write_entry(Eval *eval, Cache *cache, CacheSequence *sequence, int64_t position, const float *k, const float *v) {
    int64_t k_width = cache->kv_heads * cache->k_dims, v_width = cache->kv_heads * cache->v_dims;
    if (position < 0 || position > sequence->length)
        return eval_error(eval, "position %lld does not follow the %lld that are cached", (long long)position, (long long)sequence->length);
    if (position == sequence->capacity) {
        sequence->capacity = sequence->capacity ? sequence->capacity * 2 : 64;
        sequence->k = grown(sequence->k, sequence->capacity, k_width);
        if (!cache->latent) sequence->v = grown(sequence->v, sequence->capacity, v_width);
    }
    memcpy(sequence->k + position * k_width, k, sizeof *k * (size_t)k_width);
    if (v) memcpy(sequence->v + position * v_width, v, sizeof *v * (size_t)v_width);
    DType storage = eval->node->op == OP_CACHE_WRITE ? cache_storage(&eval->node->results[0]->type) : DT_F32;
    for (int64_t h = 0; h < cache->kv_heads && storage != DT_F32; h++) {
        keep(sequence->k + position * k_width + h * cache->k_dims, cache->k_dims, storage);
        if (v) keep(sequence->v + position * v_width + h * cache->v_dims, cache->v_dims, storage);
    }
    sequence->length = position + 1;
    return true;
}

static bool rows_known(Eval *eval, const Rows *rows) {
    if (!rows->position || !rows->sequence) return eval_error(eval, "the rows have no positions and sequences here");
    for (int64_t t = 0; t < rows->count; t++)
        if (rows->sequence[t] < 0 || rows->sequence[t] >= state_sequences(eval->frame->interp->state))
            return eval_error(eval, "there is no sequence %d", rows->sequence[t]);
    return true;
}

// Appends this step's keys (operand k) and values (operand v, or none) to the next execution's cache.
static Cache *write_cache(Eval *eval, int k, int v) {
    bool latent = !eval_has(eval, v);
    const Tensor *keys = &eval->in[k], *values = &eval->in[v];
    Rows rows = eval->frame->rows[-1 - DIM_T];
    int64_t v_dims = latent ? node_int(eval->node, "v_dims") : values->dims[2], k_width = keys->dims[1] * keys->dims[2],
            v_width = keys->dims[1] * v_dims;
    Cache *cache = state_cache(eval, keys->dims[1], keys->dims[2], v_dims, latent);
    if (!cache || !rows_known(eval, &rows)) return NULL;
    for (int64_t t = 0; t < rows.count; t++)
        if (!write_entry(eval, cache, &cache->sequences[rows.sequence[t]], rows.position[t], (const float *)keys->data + t * k_width,
                         latent ? NULL : (const float *)values->data + t * v_width))
            return NULL;
    return cache;
}

void eval_CACHE_WRITE(Eval *eval) { *(Cache **)eval->out[0].data = write_cache(eval, 0, 1); }

// ---- attention ------------------------------------------------------------------------------------------------------------

typedef struct {
    const Cache *cache;
    bool causal;
    int64_t window, heads;
    double scale, softcap;
    const float *sinks, *slopes;
    double *scores;            // room for the longest sequence
} Attention;

static double dot(const float *a, const float *b, int64_t n) {
    double lanes[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int l = 0; l < 4; l++) lanes[l] += (double)a[i + l] * b[i + l];
    for (; i < n; i++) lanes[0] += (double)a[i] * b[i];
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

// One head of one row at position i of its sequence.
static void attend_head(const Attention *a, const CacheSequence *sequence, int64_t i, int64_t h, const float *q, float *to) {
    const Cache *cache = a->cache;
    int64_t kv = h / (a->heads / cache->kv_heads), k_width = cache->kv_heads * cache->k_dims, v_width = cache->kv_heads * cache->v_dims;
    int64_t from = a->window && i - a->window + 1 > 0 ? i - a->window + 1 : 0, end = sequence->length;
    if (a->causal && i + 1 < end) end = i + 1;
    if (a->window && i + a->window < end) end = i + a->window;
    double largest = a->sinks ? a->sinks[h] : -INFINITY;
    for (int64_t j = from; j < end; j++) {
        double score = dot(q, sequence->k + j * k_width + kv * cache->k_dims, cache->k_dims) * a->scale;
        if (a->softcap > 0) score = a->softcap * tanh(score / a->softcap);
        if (a->slopes) score += a->slopes[h] * (double)(j - i);
        a->scores[j] = score;
        if (score > largest) largest = score;
    }
    double total = a->sinks ? exp(a->sinks[h] - largest) : 0;
    double *sums = a->scores + sequence->length;
    memset(sums, 0, sizeof *sums * (size_t)cache->v_dims);
    const float *values = cache->latent ? sequence->k + kv * cache->k_dims : sequence->v + kv * cache->v_dims;
    for (int64_t j = from; j < end; j++) {
        double p = exp(a->scores[j] - largest);
        const float *v = values + j * (cache->latent ? k_width : v_width);
        total += p;
        for (int64_t d = 0; d < cache->v_dims; d++) sums[d] += p * v[d];
    }
    for (int64_t d = 0; d < cache->v_dims; d++) to[d] = (float)(sums[d] / total);
}

static void attend(Eval *eval, const Cache *cache, int sinks, int slopes) {
    const Node *node = eval->node;
    const Tensor *q = &eval->in[0];
    Rows rows = eval_symbol_rows(eval, &node->operands[0]->type);
    if (!cache || !rows_known(eval, &rows)) return;
    int64_t longest = 0;
    for (int s = 0; s < state_sequences(eval->frame->interp->state); s++)
        if (cache->sequences[s].length > longest) longest = cache->sequences[s].length;
    Attention a = {.cache = cache, .causal = node_int(node, "causal"), .window = node_int(node, "window"), .heads = q->dims[1],
                   .scale = node_number(node, "scale"), .softcap = node_number(node, "softcap"),
                   .sinks = eval_vector(eval, sinks), .slopes = eval_vector(eval, slopes),
                   .scores = ARENA_ARRAY(eval->arena, double, longest + cache->v_dims)};
    if (a.scale == 0) a.scale = 1 / sqrt((double)cache->k_dims);
    for (int64_t t = 0; t < rows.count; t++)
        for (int64_t h = 0; h < a.heads; h++)
            attend_head(&a, &cache->sequences[rows.sequence[t]], rows.position[t], h,
                        (const float *)q->data + (t * a.heads + h) * cache->k_dims,
                        (float *)eval->out[0].data + (t * a.heads + h) * cache->v_dims);
}

void eval_ATTENTION(Eval *eval) {
    Cache *cache = write_cache(eval, 1, 2);
    if (cache) attend(eval, cache, 3, 4);
}

void eval_ATTEND(Eval *eval) { attend(eval, *(Cache **)eval->in[1].data, 2, 3); }
