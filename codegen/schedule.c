// The built-in schedules: what measured best over all shapes. The tuner's findings go before them.
#include "codegen/schedule.h"
#include "codegen/kernel.h"

enum { MOST_PREFETCH = 1 << 16, MOST_DIRECT = 4 };

Schedule schedule_for(const ScheduleKey *key) {
    (void)key;
    return (Schedule){.row_block = ROW_BLOCK, .prefetch = 1024, .direct_rows = MOST_DIRECT};
}

bool schedule_valid(const Schedule *s) {
    return s->row_block >= 1 && s->row_block <= ROW_BLOCK && s->prefetch >= 0 && s->prefetch <= MOST_PREFETCH &&
           s->direct_rows >= 0 && s->direct_rows <= MOST_DIRECT;
}
