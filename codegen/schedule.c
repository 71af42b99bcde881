// The built-in schedules: what measured best over all shapes. The tuner's findings go before them. And the space in which it looks.
#include "codegen/schedule.h"
#include "codegen/kernel.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PREFETCH = 1 << 16, MOST_DIRECT = 4, MOST_PANELS = 1 << 20, MOST_VALUES = 8 };

Schedule schedule_for(const ScheduleKey *key) {
    // Matrix tiles eat weights faster than memory gives them: each must meet many rows. What is asked for ahead comes into the second-level cache: the
    // first has too few lines in flight to be told of 8 KB (Intel: a sixth more read by one thread than asking for the first; AMD alike or better).
    // Two streams of unequal pace (masks, values) need telling everywhere.
    bool tiles = key->target->tile_i8;
    return (Schedule){.row_block = tiles ? MOST_ROW_BLOCK : ROW_BLOCK, .prefetch_one = tiles || key->sparse ? 8192 : 0, .prefetch = 8192, .direct_rows = MOST_DIRECT};
}

// ---- the fields --------------------------------------------------------------------------------------------------------------

typedef enum { WHERE_ALWAYS, WHERE_CODES, WHERE_FLOATS } Where;   // x is int8 codes or bf16; or floats

typedef struct {
    const char *name;
    size_t offset;
    int least, most;
    ScheduleGroup group;
    Where where;
    int count, values[MOST_VALUES];   // to be tried, beside the built-in one
} Field;

#define FIELD(name) #name, offsetof(Schedule, name)
static const Field fields[] = {
    {FIELD(row_block), 1, MOST_ROW_BLOCK, GROUP_MANY, WHERE_ALWAYS, 6, {32, 48, 64, 96, 256, 512}},
    {FIELD(panels), 0, MOST_PANELS, GROUP_MANY, WHERE_ALWAYS, 4, {0, 1, 3, 8}},
    {FIELD(prefetch_one), 0, MOST_PREFETCH, GROUP_ONE, WHERE_CODES, 6, {0, 512, 1024, 2048, 4096, 8192}},
    {FIELD(prefetch), 0, MOST_PREFETCH, GROUP_FEW, WHERE_CODES, 6, {0, 512, 1024, 2048, 4096, 8192}},
    {FIELD(direct_rows), 0, MOST_DIRECT, GROUP_FEW, WHERE_FLOATS, 3, {0, 1, 4}},
};

static int *field_in(Schedule *s, const Field *f) { return (int *)(void *)((char *)s + f->offset); }
static int field_of(const Schedule *s, const Field *f) { return *(const int *)(const void *)((const char *)s + f->offset); }

bool schedule_equal(const Schedule *a, const Schedule *b) {
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (field_of(a, &fields[i]) != field_of(b, &fields[i])) return false;
    return true;
}

void schedule_take(Schedule *to, const Schedule *from, ScheduleGroup group) {
    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (fields[i].group == group) *field_in(to, &fields[i]) = field_of(from, &fields[i]);
}

void schedule_text(const Schedule *s, Text *out) {
    for (size_t i = 0; i < COUNT_OF(fields); i++) text_printf(out, "%s%s=%d", i ? " " : "", fields[i].name, field_of(s, &fields[i]));
}

bool schedule_parse(const char *text, Schedule *schedule) {
    unsigned seen = 0;
    for (const char *at = text; *at; at += *at == ' ') {
        size_t name = strcspn(at, "="), i = 0;
        while (i < COUNT_OF(fields) && (strlen(fields[i].name) != name || strncmp(fields[i].name, at, name) != 0)) i++;
        if (i == COUNT_OF(fields) || at[name] != '=' || seen >> i & 1) return false;
        char *end;
        long value = strtol(at + name + 1, &end, 10);
        if (end == at + name + 1 || (*end && *end != ' ') || value < fields[i].least || value > fields[i].most) return false;
        *field_in(schedule, &fields[i]) = (int)value;
        seen |= 1u << i;
        at = end;
    }
    return seen == (1u << COUNT_OF(fields)) - 1;
}

// ---- the arms ----------------------------------------------------------------------------------------------------------------

const int *schedule_rows(const ScheduleKey *key, ScheduleGroup group) {
    static const int one[] = {1, 0}, few[] = {4, 8, 0}, few_floats[] = {1, 4, 8, 0}, many[] = {64, 512, 0};
    return group == GROUP_MANY ? many : group == GROUP_ONE ? one : key->x_group == X_FLOATS ? few_floats : few;
}

// Values that come to the same as another are left out.
static bool field_varies(const ScheduleKey *key, const Field *f, int value) {
    if (f->where != WHERE_ALWAYS && (f->where == WHERE_FLOATS) != (key->x_group == X_FLOATS)) return false;
    if (f->offset == offsetof(Schedule, row_block)) return key->target->tile_i8 ? value >= 64 : value <= ROW_BLOCK;
    return f->offset != offsetof(Schedule, panels) || value < (key->outputs + PANEL_WIDTH - 1) / PANEL_WIDTH;
}

int schedule_arms(const ScheduleKey *key, ScheduleGroup group, Schedule arms[MAX_ARMS]) {
    int count = 1;
    arms[0] = schedule_for(key);
    if (group == GROUP_MANY && key->few_rows) return count;
    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        if (fields[i].group != group) continue;
        int before = count, own = field_of(&arms[0], &fields[i]);
        for (int v = 0; v < fields[i].count; v++)
            for (int a = 0; a < before && fields[i].values[v] != own && field_varies(key, &fields[i], fields[i].values[v]) && count < MAX_ARMS; a++) {
                arms[count] = arms[a];
                *field_in(&arms[count++], &fields[i]) = fields[i].values[v];
            }
    }
    return count;
}
