// Rows of a weight as the graph sees it: where they lie in the source tensor after `index`, `rows` and `transpose`, and their values.
//
// The source, less its index, is a row-major array whose last dimension is a row. A slice takes some of its first dimension: of a matrix,
// rows; of a stack of matrices, matrices; of a vector, elements.
#include "ir/dequant.h"
#include "ir/prune.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const Weight *weight;
    DType dtype;               // of the source
    const char *bytes;         // of the source, behind `index`
    int rank;                  // of the source, less `index`
    int64_t dims[MAX_RANK];    // likewise, before `rows`
    int64_t row_bytes, columns;
} Source;

int64_t dtype_row_bytes(DType dtype, int64_t n) {
    const DTypeInfo *info = &dtype_info[dtype];
    return info->block ? n / info->block * info->bytes : n + (int64_t)sizeof(float);
}

static Source source_of(const Weight *weight) {
    Source source = {.weight = weight, .dtype = weight->source.dtype, .bytes = weight->bytes, .rank = weight->source.rank};
    const int64_t *dims = weight->source.dims;
    bool indexed = weight->index >= 0;
    source.rank -= indexed;
    int64_t rows = 1;
    for (int i = 0; i < source.rank; i++) source.dims[i] = dims[i + indexed];
    for (int i = 0; i + 1 < source.rank; i++) rows *= source.dims[i];
    source.columns = source.rank ? source.dims[source.rank - 1] : 1;
    source.row_bytes = dtype_row_bytes(source.dtype, source.columns);
    if (indexed && source.bytes) source.bytes += weight->index * rows * source.row_bytes;
    return source;
}

// Which row of the source is row `row` of the slice, before any transposing.
static int64_t sliced_row(const Source *source, int64_t row) {
    const Weight *weight = source->weight;
    if (!weight->step || source->rank < 2) return row;
    int64_t inner = 1;
    for (int i = 1; i + 1 < source->rank; i++) inner *= source->dims[i];
    return (weight->first + row / inner * weight->step) * inner + row % inner;
}

static const char *row_at(const Source *source, int64_t row) { return source->bytes + sliced_row(source, row) * source->row_bytes; }

// A vector's slice takes elements: the whole is dequantized first, blocks being what they are.
static void vector_slice(const Source *source, float *to) {
    float *whole = malloc(sizeof *whole * (size_t)source->columns);
    if (!whole) abort();
    dequantize_row(source->dtype, source->bytes, whole, source->columns);
    for (int64_t i = 0; i < source->weight->rows; i++) to[i] = whole[source->weight->first + i * source->weight->step];
    free(whole);
}

// Rows of the transpose are columns of the slice: read in runs along the source's rows. `row`…`row + n` lie in one matrix.
static void transposed_rows(const Source *source, int64_t matrix, int64_t row, int64_t n, int64_t columns, float *to) {
    enum { RUN = 64 };
    float run[RUN];
    int64_t element = dtype_info[source->dtype].bytes;
    for (int64_t c = 0; c < columns; c++) {
        const char *at = row_at(source, matrix * columns + c) + row * element;
        for (int64_t i = 0; i < n; i += RUN) {
            int64_t length = n - i < RUN ? n - i : RUN;
            dequantize_row(source->dtype, at + i * element, run, length);
            for (int64_t j = 0; j < length; j++) to[(i + j) * columns + c] = run[j];
        }
    }
}

// ---- rows as the graph sees them ---------------------------------------------------------------------------------------------

Type prune_whole_type(const Weight *weight) {
    Type type = weight->type;
    if (weight->pick_columns.count && type.rank >= 1) type.dims[type.rank - 1] = weight->pick_columns.of;
    if (weight->pick_rows.count && type.rank >= 2) type.dims[type.rank - 2] = weight->pick_rows.of;
    return type;
}

static void source_rows(const Weight *weight, const Type *type, int64_t row, int64_t n, float *to) {
    int rank = type->rank;
    int64_t columns = rank ? type->dims[rank - 1] : 1;
    if (!weight->tensor) {
        DType dtype = weight->type.dtype;
        dequantize_row(dtype, (const char *)weight->data + row * dtype_row_bytes(dtype, columns), to, n * columns);
        return;
    }
    Source source = source_of(weight);
    if (weight->transpose) {
        int64_t height = type->dims[rank - 2];
        while (n > 0) {
            int64_t matrix = row / height, here = height - row % height;
            if (here > n) here = n;
            transposed_rows(&source, matrix, row % height, here, columns, to);
            row += here, n -= here, to += here * columns;
        }
    } else if (source.rank < 2 && weight->step) {
        vector_slice(&source, to);
    } else {
        for (int64_t i = 0; i < n; i++) dequantize_row(source.dtype, row_at(&source, row + i), to + i * columns, columns);
    }
}

static void picked_rows(const Weight *weight, int64_t row, int64_t n, float *to) {
    const Pick *rows = &weight->pick_rows, *columns = &weight->pick_columns;
    Type whole = prune_whole_type(weight);
    if (!rows->count && !columns->count) {
        source_rows(weight, &whole, row, n, to);
        return;
    }
    float *all = columns->count ? malloc(sizeof *all * (size_t)columns->of) : NULL;
    if (columns->count && !all) abort();
    for (int64_t r = row; r < row + n; r++) {
        source_rows(weight, &whole, rows->count ? rows->at[r] : r, 1, all ? all : to);
        for (int64_t i = 0; i < columns->count; i++) to[i] = all[columns->at[i]];
        to += columns->count ? columns->count : whole.dims[whole.rank - 1];
    }
    free(all);
}

static void zero_pruned(const Weight *weight, int64_t row, int64_t n, float *to) {
    int64_t elements = n * weight->type.dims[weight->type.rank - 1];
    uint8_t *stays = malloc((size_t)elements);
    if (!stays) abort();
    prune_mask(weight, row, n, to, stays);
    for (int64_t i = 0; i < elements; i++) to[i] = stays[i] ? to[i] : 0;
    free(stays);
}

void weight_rows_f32(const Weight *weight, int64_t row, int64_t n, float *to) {
    int64_t columns = weight->type.rank ? weight->type.dims[weight->type.rank - 1] : 1;
    picked_rows(weight, row, n, to);
    if (weight->prune.keep) zero_pruned(weight, row, n, to);
    for (int64_t r = 0; r < n && weight->rotate; r++) hadamard_row(to + r * columns, columns, weight->rotate);
}

const void *weight_row_bytes(const Weight *weight, int64_t row) {
    int64_t columns = weight->type.rank ? weight->type.dims[weight->type.rank - 1] : 1;
    if (weight->rotate || weight->prune.keep || weight->pick_columns.count) return NULL;
    if (weight->pick_rows.count) row = weight->pick_rows.at[row];
    if (!weight->tensor) return (const char *)weight->data + row * dtype_row_bytes(weight->type.dtype, columns);
    if (weight->transpose || !weight->bytes) return NULL;
    Source source = source_of(weight);
    if (source.rank >= 2 || !weight->step) return row_at(&source, row);
    bool run = weight->step == 1 && dtype_info[source.dtype].block == 1;
    return run ? source.bytes + weight->first * dtype_info[source.dtype].bytes : NULL;
}
