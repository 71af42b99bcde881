// Types: an element type and up to six sizes, of which the first may be a symbol (T tokens, S sequences, R rows asked for).
#include "ir/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

Type type_of(DType dtype, int rank, const int64_t *dims) {
    Type type = {.dtype = dtype, .rank = rank};
    for (int i = 0; i < rank; i++) type.dims[i] = dims[i];
    return type;
}

bool type_equal(const Type *a, const Type *b) {
    if (a->dtype != b->dtype || a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return false;
    return true;
}

bool type_symbolic(const Type *type) { return type->rank > 0 && type->dims[0] < 0; }

int64_t type_row_elements(const Type *type) {
    int64_t product = 1;
    for (int i = type_symbolic(type) ? 1 : 0; i < type->rank; i++) product *= type->dims[i];
    return product;
}

bool type_valid(const Type *type, bool weight) {
    if ((unsigned)type->dtype >= DT_COUNT || type->rank < 0 || type->rank > MAX_RANK) return false;
    uint64_t product = 1;
    for (int i = 0; i < type->rank; i++) {
        int64_t size = type->dims[i];
        if (i == 0 && !weight && (size == DIM_T || size == DIM_S || size == DIM_R)) continue;
        if (size < 1 || !size_mad(product, (uint64_t)size, 0, MAX_ELEMENTS, &product)) return false;
    }
    return true;
}

bool type_bytes(const Type *type, uint64_t *bytes) {
    if (!type_valid(type, true)) return false;
    const DTypeInfo *info = &dtype_info[type->dtype];
    uint64_t columns = type->rank ? (uint64_t)type->dims[type->rank - 1] : 1, rows = 1, row_bytes;
    for (int i = 0; i + 1 < type->rank; i++) rows *= (uint64_t)type->dims[i];
    if (info->block == 0) row_bytes = columns + sizeof(float);
    else if (columns % (uint64_t)info->block) return false;
    else row_bytes = columns / (uint64_t)info->block * (uint64_t)info->bytes;
    return size_mad(rows, row_bytes, 0, UINT64_MAX, bytes);
}

void dim_text(int64_t size, Text *out) {
    if (size == DIM_T) text_puts(out, "T");
    else if (size == DIM_S) text_puts(out, "S");
    else if (size == DIM_R) text_puts(out, "R");
    else text_printf(out, "%lld", (long long)size);
}

const char *dim_name(int64_t size, char *room) {
    if (size == DIM_T) return "T";
    if (size == DIM_S) return "S";
    if (size == DIM_R) return "R";
    snprintf(room, 24, "%lld", (long long)size);
    return room;
}

void type_text(const Type *type, Text *out) {
    text_printf(out, "%s[", (unsigned)type->dtype < DT_COUNT ? dtype_info[type->dtype].name : "?");
    for (int i = 0; i < type->rank; i++) {
        if (i) text_puts(out, ", ");
        if (type->dtype == DT_CACHE && i == 3 && (uint64_t)type->dims[i] < DT_COUNT) text_puts(out, dtype_info[type->dims[i]].name);
        else dim_text(type->dims[i], out);
    }
    text_puts(out, "]");
}

DType cache_storage(const Type *cache) { return cache->rank > 3 ? (DType)cache->dims[3] : DT_F32; }

void number_text(double value, Text *out) {
    char text[40];
    if (isnan(value)) strcpy(text, "nan");
    else if (isinf(value)) strcpy(text, value < 0 ? "-inf" : "inf");
    else
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, value);
            if (strtod(text, NULL) == value) break;
        }
    text_puts(out, text);
}

DType value_dtype(const Value *value) {
    DType dtype = value->type.dtype;
    if (value->kind != VALUE_PARAM && value->kind != VALUE_WEIGHT) return dtype;
    if (dtype == DT_I8 || dtype == DT_U8 || dtype == DT_I32 || dtype == DT_I64) return DT_I32;
    return dtype == DT_BOOL || dtype == DT_CACHE ? dtype : DT_F32;
}
