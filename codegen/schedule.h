// Schedules: how a kernel walks its work. Plain data that the tuner may set; nothing in it changes a bit of what is computed.
//
// A field is a row of SCHEDULE_FIELDS: its name, and what the tuner tries. Fields of one group matter in the same steps and are tried together, every
// value with every other; groups do not touch one another, so that each is searched by itself.
#ifndef TENON_CODEGEN_SCHEDULE_H
#define TENON_CODEGEN_SCHEDULE_H
#include "ir/target.h"

typedef struct {
    int row_block;      // rows of a task of a linear kernel, at most: 1 … MOST_ROW_BLOCK
    int panels;         // so many panels go through all blocks of rows before the next come; 0: all of them
    int prefetch_one;   // where x is int8 or bf16 and one row: how many bytes ahead of the weights memory is asked for; 0: not
    int prefetch;       // the same for more rows
    int direct_rows;    // x of floats: up to so many rows (0 … 4) weights become floats in registers, for more in scratch
} Schedule;

// What a schedule is chosen for: one linear kernel.
typedef struct {
    const Target *target;
    const char *format;     // of its first weight's panels: w8, g4z8x32h …
    bool sparse;            // … which lie without their zeros
    int x_group;            // -1: x is floats; else int8 in groups of so many, 0: whole rows
    int products;           // how many weights multiply the same rows
    long long outputs, k;   // of each
    const char *shape;      // all that tells it from other kernels, as text: formats, sizes, what follows the product
    bool few_rows;          // it sees only rows whose output is asked for: never many
} ScheduleKey;

// Findings of the tuner: of a kernel of this shape. False: there is none.
typedef struct ScheduleBook { bool (*find)(void *from, const ScheduleKey *key, Schedule *schedule); void *from; } ScheduleBook;

Schedule schedule_for(const ScheduleKey *key);   // from the built-in table
bool schedule_equal(const Schedule *a, const Schedule *b);

// ---- what the tuner tries ---------------------------------------------------------------------------------------------------

// SCHEDULE_SPACE numbers this space: it grows when a field's meaning or what is tried changes, and older findings no longer count.
enum { SCHEDULE_SPACE = 2, MAX_ARMS = 48 };
// How weights come for one row, and for a few; how rows and panels are divided for many.
typedef enum { GROUP_ONE, GROUP_FEW, GROUP_MANY, SCHEDULE_GROUPS } ScheduleGroup;

// The rows of the steps in which a group matters to this kernel, ended by 0.
const int *schedule_rows(const ScheduleKey *key, ScheduleGroup group);
// The schedules of a group to be compared for this kernel; the first is the built-in one. Their count, 1 when there is nothing to choose.
int schedule_arms(const ScheduleKey *key, ScheduleGroup group, Schedule arms[MAX_ARMS]);
// A group's fields from one schedule to another.
void schedule_take(Schedule *to, const Schedule *from, ScheduleGroup group);
void schedule_text(const Schedule *schedule, Text *out);               // row_block=96 panels=0 …
bool schedule_parse(const char *text, Schedule *schedule);             // all fields, valid
#endif
