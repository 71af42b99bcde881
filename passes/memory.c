// Gives every value a place in its function's frame, so that a step needs one arena whose size is known beforehand.
//
// Requires fuse. A frame belongs to one call of a function; it holds what the function's own nodes make and, while it calls a block, the
// block's frame. Offsets are multiples of 64 bytes.
//   - A value has room for max_tokens, max_rows or max_sequences rows, times row_factor: in an expert's function a token has as many rows as
//     slots. An element takes 4 bytes, 1 for i8 and bool.
//   - Inputs and results of a function lie where its caller put them: place -1. Those of main lie in the step's own arrays.
//   - A cache has no place: pages hold it.
//   - Kernels keep nothing between two calls and have no frame: place and frame -1.
// Places of values that live at the same time do not overlap. Large values are placed first, each in the smallest gap that holds it.
#include "passes/passes.h"
#include "passes/rewrite.h"

#include <stdlib.h>

bool pass_memory(Module *module, const PassOptions *options, Diags *diags);

enum { ALIGN = 64 };
#define FRAME_LIMIT ((uint64_t)1 << 46)

// A stretch of bytes needed from one node to another (both included).
typedef struct { int from, to; uint64_t bytes; int64_t offset; Value *value; Node *node; } Piece;
typedef struct { Arena *arena; Func *func; Piece *items; int count, capacity; Diags *diags; } Pieces;

// ---- sizes -----------------------------------------------------------------------------------------------------------------------------

static bool round_up(uint64_t bytes, uint64_t *rounded) {
    if (!size_mad(bytes, 1, ALIGN - 1, FRAME_LIMIT, rounded)) return false;
    *rounded &= ~(uint64_t)(ALIGN - 1);
    return true;
}

static uint64_t rows_of(const Func *func, int64_t symbol) {
    const Module *module = func->module;
    int most = symbol == DIM_T ? module->max_tokens : symbol == DIM_R ? module->max_rows : module->max_sequences;
    return (uint64_t)most * (uint64_t)func->row_factor;
}

static bool value_bytes(const Func *func, const Type *type, uint64_t *bytes) {
    uint64_t rows = type_has_rows(type) ? rows_of(func, type->dims[0]) : 1;
    uint64_t element = type->dtype == DT_BOOL || type->dtype == DT_I8 || type->dtype == DT_U8 ? 1 : type->dtype == DT_BF16 ? 2 : 4;
    return size_mad(rows, (uint64_t)type_row_elements(type), 0, FRAME_LIMIT, bytes) && size_mad(*bytes, element, 0, FRAME_LIMIT, bytes) &&
           round_up(*bytes, bytes);
}

static int64_t slots_of(const Node *node) { return node->operands[0]->type.dims[node->operands[0]->type.rank - 1]; }

// ---- what needs room, and when ---------------------------------------------------------------------------------------------------------

static bool add_piece(Pieces *pieces, Piece piece, bool sized) {
    if (!sized) {
        diag_error(pieces->diags, piece.node->loc, "memory: what '%s' needs here is larger than any memory", pieces->func->name);
        return false;
    }
    ARENA_PUSH(pieces->arena, pieces->items, pieces->count, pieces->capacity) = piece;
    return true;
}

static bool add_values(Pieces *pieces, const Uses *uses, int i) {
    Node *node = pieces->func->nodes[i];
    for (int r = 0; r < node->result_count; r++) {
        Value *value = node->results[r];
        value->place = -1;
        const UseList *list = uses_of(uses, value);
        if (value->type.dtype == DT_CACHE || list->returned) continue;
        Piece piece = {.from = i, .to = i, .value = value, .node = node};
        for (int u = 0; u < list->count; u++)
            if (list->items[u].node > piece.to) piece.to = list->items[u].node;
        bool sized = value_bytes(pieces->func, &value->type, &piece.bytes);
        if (!add_piece(pieces, piece, sized)) return false;
    }
    return true;
}

static bool add_frame(Pieces *pieces, int i) {
    Node *node = pieces->func->nodes[i];
    node->frame = -1;
    if (!node_calls(node)) return true;
    const Func *callee = node_attr(node, "block")->func;
    if (callee->kernel) return true;
    return add_piece(pieces, (Piece){.from = i, .to = i, .node = node, .bytes = (uint64_t)callee->frame_bytes}, true);
}

// ---- placing ---------------------------------------------------------------------------------------------------------------------------

static int larger_first(const void *a, const void *b) {
    const Piece *p = *(Piece *const *)a, *q = *(Piece *const *)b;
    if (p->bytes != q->bytes) return p->bytes < q->bytes ? 1 : -1;
    if (p->from != q->from) return p->from < q->from ? -1 : 1;
    return p < q ? -1 : p > q;
}

static int lower_first(const void *a, const void *b) {
    const Piece *p = *(Piece *const *)a, *q = *(Piece *const *)b;
    if (p->offset != q->offset) return p->offset < q->offset ? -1 : 1;
    return p < q ? -1 : p > q;
}

// The smallest gap between the placed pieces that live at the same time, or the end of the last of them.
static int64_t best_gap(const Piece *piece, Piece *const *placed, int count) {
    int64_t end = 0, best = -1, best_size = INT64_MAX;
    for (int i = 0; i < count; i++) {
        if (placed[i]->to < piece->from || placed[i]->from > piece->to) continue;
        int64_t gap = placed[i]->offset - end;
        if (gap >= (int64_t)piece->bytes && gap < best_size) best = end, best_size = gap;
        int64_t after = placed[i]->offset + (int64_t)placed[i]->bytes;
        if (after > end) end = after;
    }
    return best >= 0 ? best : end;
}

static int64_t place_pieces(Pieces *pieces) {
    Piece **order = ARENA_ARRAY(pieces->arena, Piece *, pieces->count);
    Piece **placed = ARENA_ARRAY(pieces->arena, Piece *, pieces->count);
    for (int i = 0; i < pieces->count; i++) order[i] = &pieces->items[i];
    qsort(order, (size_t)pieces->count, sizeof *order, larger_first);
    int64_t frame = 0;
    for (int i = 0; i < pieces->count; i++) {
        order[i]->offset = best_gap(order[i], placed, i);
        int64_t end = order[i]->offset + (int64_t)order[i]->bytes;
        if (end > frame) frame = end;
        int at = i;
        while (at > 0 && lower_first(&placed[at - 1], &order[i]) > 0) placed[at] = placed[at - 1], at--;
        placed[at] = order[i];
    }
    for (int i = 0; i < pieces->count; i++) {
        Piece *piece = &pieces->items[i];
        if (piece->value) piece->value->place = piece->offset;
        else piece->node->frame = piece->offset;
    }
    return frame;
}

static void no_places(Func *func) {
    func->frame_bytes = 0;
    for (int i = 0; i < func->input_count; i++) func->inputs[i]->place = -1;
    for (int i = 0; i < func->node_count; i++) {
        func->nodes[i]->frame = -1;
        for (int r = 0; r < func->nodes[i]->result_count; r++) func->nodes[i]->results[r]->place = -1;
    }
}

static bool place_func(Func *func, Diags *diags) {
    no_places(func);
    if (func->kernel) return true;
    Arena *scratch = arena_new();
    Pieces pieces = {.arena = scratch, .func = func, .diags = diags};
    const Uses *uses = uses_new(func, scratch);
    bool ok = true;
    for (int i = 0; ok && i < func->node_count; i++) ok = add_values(&pieces, uses, i) && add_frame(&pieces, i);
    if (ok) func->frame_bytes = place_pieces(&pieces);
    if (ok && (uint64_t)func->frame_bytes > FRAME_LIMIT) {
        diag_error(diags, func->loc, "memory: the frame of '%s' is larger than any memory", func->name);
        ok = false;
    }
    arena_free(scratch);
    return ok;
}

// ---- rows a token ------------------------------------------------------------------------------------------------------------------------

// An expert sees a row for each slot of a token; experts within experts multiply. Callers before callees.
static bool find_row_factors(Module *module, Diags *diags) {
    for (int f = 0; f < module->func_count; f++) module->funcs[f]->row_factor = 1;
    for (int f = module->func_count - 1; f >= 0; f--) {
        const Func *func = module->funcs[f];
        for (int i = 0; i < func->node_count; i++) {
            const Node *node = func->nodes[i];
            if (!node_calls(node)) continue;
            Func *callee = node_attr(node, "block")->func;
            uint64_t factor = 1;
            if (!size_mad((uint64_t)func->row_factor, node->op == OP_CALL ? 1 : (uint64_t)slots_of(node), 0, 1 << 20, &factor)) {
                diag_error(diags, node->loc, "memory: experts within experts give a token more than 2^20 rows");
                return false;
            }
            if ((int)factor > callee->row_factor) callee->row_factor = (int)factor;
        }
    }
    return true;
}

bool pass_memory(Module *module, const PassOptions *options, Diags *diags) {
    (void)options;
    if (!find_row_factors(module, diags)) return false;
    for (int f = 0; f < module->func_count; f++)
        if (!place_func(module->funcs[f], diags)) return false;
    return true;
}
