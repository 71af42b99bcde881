// Eight outputs of a panel at a time (pack_lanes.c).
#ifndef TENON_CODEGEN_PACK_LANES_H
#define TENON_CODEGEN_PACK_LANES_H
#include "codegen/kernel.h"
#include "ir/dequant.h"

enum { LANES = 8 };

typedef struct {
    const PanelLayout *layout;
    int rotate;          // as Weight.rotate: the rows are not rotated yet
    float *rows;         // LANES × k: the rows one after the other; those behind the last are zeros
    float *x;            // LANES × k, aligned to 32 bytes: room for them in lanes
} Lanes;

// Rounds the rows to the panel's format, as quantize_row does, and puts them in as its outputs n … n + count. n is a multiple of LANES.
void lanes_pack_any(const Lanes *lanes, uint8_t *panel, int n, int count);
void lanes_pack_avx2(const Lanes *lanes, uint8_t *panel, int n, int count);   // x86-64 alone
#endif
