// Schedules: how a kernel walks its work. Plain data that the tuner may set; nothing in it changes a bit of what is computed.
#ifndef TENON_CODEGEN_SCHEDULE_H
#define TENON_CODEGEN_SCHEDULE_H
#include "ir/target.h"

typedef struct {
    int row_block;      // rows of a task of a linear kernel: 1 … ROW_BLOCK
    int prefetch;       // how many bytes ahead of the weights memory is asked for, where x is int8; 0: not
    int direct_rows;    // x of floats: up to so many rows (0 … 4) weights become floats in registers, for more in scratch
} Schedule;

// What a schedule is chosen for: one linear kernel.
typedef struct {
    const Target *target;
    const char *format;     // of its first weight's panels: w8, g4z8x32h …
    int x_group;            // -1: x is floats; else int8 in groups of so many, 0: whole rows
    int products;           // how many weights multiply the same rows
    long long outputs, k;   // of each
} ScheduleKey;

Schedule schedule_for(const ScheduleKey *key);   // from the built-in table
bool schedule_valid(const Schedule *schedule);   // within the ranges above
#endif
