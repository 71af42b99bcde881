// Rope scaling: the vector by which rotary frequencies base^(-2i/dims) are divided, worked out at compile time.
//
// The formulas are those of transformers' modeling_rope_utils, solved for the divisor:
//   linear_scale  factor for every frequency
//   llama3        1 for short waves, factor for long ones, between them the inverse is interpolated (Llama 3.1)
//   yarn          the same idea, by the number of rotations over the original context (arXiv 2309.00071)
//   longrope      given lists, one for the original context and one for longer ones (arXiv 2402.13753); the model's `context` chooses
#include "frontend/model.h"

#include <math.h>
#include <string.h>

enum { MOST_DIMS = 65536 };
#define PI 3.14159265358979323846

static double field(const Constant *factors, const char *name, double otherwise) {
    const Constant *value = constant_field(factors, name);
    return value && (value->kind == CONSTANT_NUMBER || value->kind == CONSTANT_BOOL) ? value->number : otherwise;
}

static void llama3(const Constant *factors, const double *frequency, int64_t n, double *out) {
    double factor = field(factors, "factor", 1), low = field(factors, "low", 1), high = field(factors, "high", 4),
           original = field(factors, "original", 8192);
    for (int64_t i = 0; i < n; i++) {
        double wave = 2 * PI / frequency[i];
        double smooth = (original / wave - low) / (high - low);
        out[i] = wave > original / low ? factor : wave < original / high ? 1 : 1 / ((1 - smooth) / factor + smooth);
    }
}

static double yarn_dim(double rotations, double dims, double base, double original) {
    return dims * log(original / (rotations * 2 * PI)) / (2 * log(base));
}

static void yarn(const Constant *factors, int64_t dims, double base, double *out) {
    double factor = field(factors, "factor", 1), original = field(factors, "original", 4096);
    double low = yarn_dim(field(factors, "beta_fast", 32), (double)dims, base, original);
    double high = yarn_dim(field(factors, "beta_slow", 1), (double)dims, base, original);
    if (field(factors, "truncate", 1) != 0) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, (double)dims - 1);
    if (low == high) high += 0.001;
    for (int64_t i = 0; i < dims / 2; i++) {
        double keep = 1 - fmin(fmax(((double)i - low) / (high - low), 0), 1);
        out[i] = 1 / ((1 - keep) / factor + keep);
    }
}

static const char *longrope(Frame *frame, const Constant *factors, int64_t n, double *out) {
    double context = field(factors, "context", (double)frame->lower->context);
    const char *which = context > field(factors, "original", 0) ? "long" : "short";
    const Constant *list = constant_field(factors, which);
    if (!list || list->kind != CONSTANT_LIST || list->count != n)
        return arena_printf(frame->arena, "'%s' is a list of %lld numbers, half of the rotated dimensions, not %s", which, (long long)n,
                            list ? constant_describe(frame->arena, list) : "absent");
    for (int64_t i = 0; i < n; i++) {
        if (list->items[i].kind != CONSTANT_NUMBER) return arena_printf(frame->arena, "'%s' is a list of numbers", which);
        out[i] = list->items[i].number;
    }
    return NULL;
}

static const char *check_numbers(Frame *frame, const Constant *factors) {
    for (int i = 0; i < factors->count; i++) {
        const Constant *item = &factors->items[i];
        bool list = strcmp(factors->names[i], "short") == 0 || strcmp(factors->names[i], "long") == 0;
        if (list ? item->kind != CONSTANT_LIST : item->kind != CONSTANT_NUMBER && item->kind != CONSTANT_BOOL)
            return arena_printf(frame->arena, "%s is %s, not %s", factors->names[i], list ? "a list" : "a number",
                                constant_describe(frame->arena, item));
    }
    return NULL;
}

Slot *rope_factors(Frame *frame, const Constant *factors, int64_t dims, double base, const Expr *at) {
    Lower *lower = frame->lower;
    const char *problem = check_numbers(frame, factors);
    if (!problem && (dims < 2 || dims % 2 || dims > MOST_DIMS))
        problem = arena_printf(frame->arena, "dims=%lld is not even", (long long)dims);
    if (!problem && !(base > 1)) problem = "rope's base must be above 1";
    if (problem) {
        frame_error(frame, at, "%s: %s", factors->text, problem);
        return NULL;
    }
    Text key = {0};
    text_printf(&key, "rope %lld %.17g %lld ", (long long)dims, base, (long long)lower->context);
    constant_text(factors, &key);
    Slot *known = table_get(lower->folds, key.data);
    int64_t n = dims / 2;
    double *frequency = ARENA_ARRAY(frame->arena, double, n), *out = ARENA_ARRAY(frame->arena, double, n);
    for (int64_t i = 0; i < n; i++) frequency[i] = pow(base, -2.0 * (double)i / (double)dims);
    if (known) {
        text_free(&key);
        return known;
    }
    if (strcmp(factors->text, "llama3") == 0) llama3(factors, frequency, n, out);
    else if (strcmp(factors->text, "yarn") == 0) yarn(factors, dims, base, out);
    else if (strcmp(factors->text, "longrope") == 0) problem = longrope(frame, factors, n, out);
    else
        for (int64_t i = 0; i < n; i++) out[i] = field(factors, "factor", 1);
    float *data = ARENA_ARRAY(lower->arena, float, n);
    for (int64_t i = 0; i < n && !problem; i++) {
        data[i] = (float)out[i];
        if (!isfinite(data[i]) || data[i] <= 0) problem = "gives a factor that is no positive number";
    }
    Slot *slot = NULL;
    if (problem) frame_error(frame, at, "%s: %s", factors->text, problem);
    else {
        Type type = {.dtype = DT_F32, .rank = 1, .dims = {n}};
        slot = slot_of_numbers(lower, "factors", arena_printf(lower->arena, "rope.%s.%lld", factors->text, (long long)dims), type, data);
        slot->origin = arena_strdup(lower->arena, factors->text);
        table_set(lower->folds, key.data, slot);
    }
    text_free(&key);
    return slot;
}

// ---- records ------------------------------------------------------------------------------------------------------

static const Constant *either(const Constant *record, const char *name, const char *other) {
    const Constant *value = constant_field(record, name);
    return value && value->kind != CONSTANT_NONE ? value : constant_field(record, other);
}

static void add(Constant *factors, const char *name, const Constant *value) {
    if (!value || value->kind == CONSTANT_NONE) return;
    factors->names[factors->count] = name;
    factors->items[factors->count++] = *value;
}

static double yarn_scale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1; }

static double record_mscale(Frame *frame, const Constant *record, const char *kind, const Constant *factors) {
    const Constant *given = constant_field(record, "attention_factor");
    if (given && given->kind == CONSTANT_NUMBER) return given->number;
    double factor = field(record, "factor", 1), original = field(factors, "original", 0);
    if (strcmp(kind, "yarn") == 0) {
        double mscale = field(record, "mscale", 0), all = field(record, "mscale_all_dim", 0);
        return mscale != 0 && all != 0 ? yarn_scale(factor, mscale) / yarn_scale(factor, all) : yarn_scale(factor, 1);
    }
    if (strcmp(kind, "longrope") != 0 || original <= 1) return 1;
    if (!constant_field(record, "factor")) factor = field(factors, "context", (double)frame->lower->context) / original;
    return factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original));
}

bool rope_scaling(Frame *frame, const Constant *record, const Expr *at, Constant *factors, double *mscale) {
    *mscale = 1;
    *factors = (Constant){.kind = CONSTANT_NONE};
    if (record->kind == CONSTANT_NONE) return true;
    if (record->kind == CONSTANT_FACTORS) {
        *factors = *record;
        return true;
    }
    const Constant *type = record->kind == CONSTANT_RECORD ? either(record, "rope_type", "type") : NULL;
    if (!type || type->kind != CONSTANT_TEXT) {
        frame_error(frame, at, "scaling is a record with `type` and its numbers, not %s", constant_describe(frame->arena, record));
        return false;
    }
    const char *kind = strcmp(type->text, "linear") == 0 ? "linear_scale" : strcmp(type->text, "su") == 0 ? "longrope" : type->text;
    static const char *const kinds[] = {"linear_scale", "llama3", "yarn", "longrope", "default", "none"};
    bool found = false;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) found = found || strcmp(kinds[i], kind) == 0;
    if (!found) {
        frame_error(frame, at, "there is no rope scaling '%s'", type->text);
        frame_hint(frame, "types are linear, llama3, yarn, longrope and default");
        return false;
    }
    if (strcmp(kind, "default") == 0 || strcmp(kind, "none") == 0) return true;
    *factors = (Constant){.kind = CONSTANT_FACTORS, .text = kind, .names = ARENA_ARRAY(frame->arena, const char *, 10),
                          .items = ARENA_ARRAY(frame->arena, Constant, 10)};
    add(factors, "factor", constant_field(record, "factor"));
    add(factors, "low", either(record, "low", "low_freq_factor"));
    add(factors, "high", either(record, "high", "high_freq_factor"));
    add(factors, "original", either(record, "original", "original_max_position_embeddings"));
    add(factors, "beta_fast", constant_field(record, "beta_fast"));
    add(factors, "beta_slow", constant_field(record, "beta_slow"));
    add(factors, "truncate", constant_field(record, "truncate"));
    add(factors, "short", either(record, "short", "short_factor"));
    add(factors, "long", either(record, "long", "long_factor"));
    bool needs_factor = strcmp(kind, "longrope") != 0, needs_original = strcmp(kind, "linear_scale") != 0;
    const char *missing = needs_factor && !constant_field(factors, "factor") ? "factor"
                        : needs_original && !constant_field(factors, "original") ? "original" : NULL;
    if (missing) frame_error(frame, at, "scaling of type %s needs %s", type->text, missing);
    else *mscale = record_mscale(frame, record, kind, factors);
    return !missing;
}
