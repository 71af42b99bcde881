// Which values of a pruned matrix stay: what Weight.prune means. weight_rows_f32 (ir/dequant.h) makes the others zero, so whoever reads the matrix through
// it sees the same zeros; quantizing keeps them in the formats that prune_keeps_zeros knows.
#ifndef TENON_IR_PRUNE_H
#define TENON_IR_PRUNE_H
#include "ir/ir.h"

bool prune_keeps_zeros(DType dtype);                            // zero is one of its values in every group, whatever else is in the group
bool prune_equal(const Weight *a, const Weight *b);             // they take the same rows and columns, and make the same values zero
Type prune_whole_type(const Weight *weight);                     // before rows and columns are taken
int64_t prune_row_keeps(const Weight *weight);                  // how many values of a row stay; fewer where the last block is cut short and stays
// `n` rows from `row` of the matrix before it is pruned; stays: n × columns bytes, 1 for what stays.
void prune_mask(const Weight *weight, int64_t row, int64_t n, const float *values, uint8_t *stays);
// Fills Weight.prune.blocks where blocks are larger than one value, so that reading a row needs no other rows. The weight has bytes or data.
void prune_find_blocks(Weight *weight, Arena *arena);
// 1 for each block along a row that stays in this band of rows.
void prune_band(const Weight *weight, int64_t band, uint8_t *stays);
// Of n scores (bits of floats that are not negative: they order as the floats do) the `keep` largest stay; of equal ones the first.
void prune_largest(const uint32_t *scores, int64_t n, int64_t keep, uint8_t *stays);
#endif
