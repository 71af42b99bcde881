// What passes and schedules may know of a machine: plain data, made by codegen/targets/ or by probing this machine.
#ifndef TENON_IR_TARGET_H
#define TENON_IR_TARGET_H
#include "ir/base.h"

typedef struct Target {
    const char *name;              // generic, x86-64-v3, x86-64-v4, amx, armv8.2-a+dotprod …
    const char *triple;            // x86_64-linux-gnu, aarch64-linux-gnu
    int vector_bits;               // of float arithmetic; 0: scalar
    int vector_registers;
    bool dot_u8s8, dot_s8s8;       // 4-way int8 dot products into int32 without saturation
    bool dot_bf16;                 // 2-way bf16 dot products into f32 (vdpbf16ps)
    bool mmla_i8;                  // 2 × 8 by 8 × 2 int8 matrix products into int32 (SMMLA, USMMLA)
    bool expand;                   // values from the front of a vector to where a mask has bits (vpexpandb, vpexpandw)
    bool tile_i8, tile_bf16;       // matrix tiles (AMX: 16 rows × 64 bytes)
    uint64_t l1_bytes, l2_bytes;   // per core
    double read_bandwidth;         // bytes per second of all cores; 0: not measured
} Target;
#endif
