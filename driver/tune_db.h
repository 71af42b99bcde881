// The tuning database: $XDG_DATA_HOME/tenon/tuning.db (~/.local/share), SQLite with a write-ahead log.
//
// A kernel in it is a shape (schedule.h), a target, a processor and a version of tenon's schedule space. It has samples, one a measured step, each
// stored when it is made, so that a tuner that is killed goes on where it was; and findings, one a group of fields, which are what compile and run use.
// A processor is known by what CPUID says (vendor, family, model, features), its caches and its number of cores, never by a name.
#ifndef TENON_DRIVER_TUNE_DB_H
#define TENON_DRIVER_TUNE_DB_H
#include "codegen/schedule.h"
#include "codegen/codegen.h"
#include "driver/driver.h"

// ---- what compile and run read ------------------------------------------------------------------------------------------------

// The findings for a target on this processor; on another number of cores with other shared caches they count where there are none of its own.
typedef struct {
    Arena *arena;
    struct { const char *shape; ScheduleGroup group; Schedule schedule; } *findings;
    int count, capacity;
    char digest[40];       // of them all; empty: there are none
    ScheduleBook book;     // refers to this struct
} TuneBook;

// What is wrong with the database is a warning (diags may be NULL: it is not said), and then there are no findings.
void tune_book_open(TuneBook *book, const Target *target, const BuildOptions *options, Diags *diags);
void tune_book_close(TuneBook *book);

// ---- what tune writes -----------------------------------------------------------------------------------------------------------

typedef struct TuneDb TuneDb;
TuneDb *tune_db_open(Diags *diags);   // NULL with errors; in memory, with a warning, where nothing can be written
void tune_db_close(TuneDb *db);
const char *tune_db_path(const TuneDb *db);

// Each returns false when the database fails; tune_db_error says how.
bool tune_db_kernel(TuneDb *db, const ScheduleKey *key, int threads, int64_t *id);   // makes it when it is not there
bool tune_db_forget(TuneDb *db, int64_t kernel);
bool tune_db_add(TuneDb *db, int64_t kernel, ScheduleGroup group, int rows, const Schedule *schedule, double ns);
bool tune_db_samples(TuneDb *db, int64_t kernel, ScheduleGroup group, void (*each)(void *to, int rows, const Schedule *schedule, double ns), void *to);
bool tune_db_conclude(TuneDb *db, int64_t kernel, ScheduleGroup group, const Schedule *schedule);
bool tune_db_finding(TuneDb *db, int64_t kernel, ScheduleGroup group, bool *found, Schedule *schedule);
bool tune_db_begin(TuneDb *db);       // the additions until tune_db_commit are one transaction
bool tune_db_commit(TuneDb *db);
const char *tune_db_error(const TuneDb *db);
#endif
