// The tuning database (tune_db.h).
#include "driver/tune_db.h"

#include "runtime/cpu.h"
#include "runtime/team.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

// Databases of another layout are refused by number.
enum { LAYOUT = 1, WAIT_TO_READ_MS = 250, WAIT_TO_WRITE_MS = 10000 };

static const char tables[] =
    "CREATE TABLE IF NOT EXISTS kernel (id INTEGER PRIMARY KEY, shape TEXT NOT NULL, target TEXT NOT NULL, cpu TEXT NOT NULL, machine TEXT NOT NULL,"
    " version TEXT NOT NULL, threads INTEGER NOT NULL, UNIQUE (shape, target, cpu, machine, version, threads));"
    "CREATE TABLE IF NOT EXISTS sample (kernel INTEGER NOT NULL, fields INTEGER NOT NULL, rows INTEGER NOT NULL, schedule TEXT NOT NULL, ns REAL NOT NULL);"
    "CREATE INDEX IF NOT EXISTS sample_of ON sample (kernel, fields);"
    "CREATE TABLE IF NOT EXISTS finding (kernel INTEGER NOT NULL, fields INTEGER NOT NULL, schedule TEXT NOT NULL, PRIMARY KEY (kernel, fields));"
    "PRAGMA user_version = 1;";

// ---- where, and for which machine -----------------------------------------------------------------------------------------------

// False: there is no home.
static bool database_folder(Text *folder, const char **home) {
    const char *data = getenv("XDG_DATA_HOME");
    *home = getenv("HOME");
    if (data && *data == '/') return *home = NULL, text_printf(folder, "%s/tenon", data), true;
    if (!*home || **home != '/') return false;
    text_printf(folder, "%s/.local/share/tenon", *home);
    return true;
}

static void add_processor(Text *text) {
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0, family = 0, model = 0;
    if (__get_cpuid(0, &a, &b, &c, &d)) text_printf(text, "%.4s%.4s%.4s", (const char *)&b, (const char *)&d, (const char *)&c);
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        family = (a >> 8 & 15) == 15 ? (a >> 20 & 255) + 15 : a >> 8 & 15;
        model = (a >> 12 & 0xf0) | (a >> 4 & 15);
    }
    text_printf(text, " %u.%u", family, model);
#else
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "re");
    char line[64] = "";
    if (file && fgets(line, sizeof line, file)) line[strcspn(line, "\n")] = 0;
    if (file) fclose(file);
    text_puts(text, *line ? line : "unknown");
#endif
    CpuFeature features[TN_CPU_FEATURES];
    Text usable = {0};
    int count = tn_cpu_features(features, TN_CPU_FEATURES);
    for (int i = 0; i < count; i++)
        if (features[i].usable) text_printf(&usable, "%s ", features[i].name);
    text_printf(text, " features %016llx", (unsigned long long)hash_bytes(usable.data ? usable.data : "", usable.length, 0));
    text_free(&usable);
}

static long cache_size(int name) {
    long bytes = sysconf(name);
    return bytes > 0 ? bytes : 0;
}

// cpu: what one core is; machine: how many there are and what they share.
static void fingerprint(Text *cpu, Text *machine) {
    add_processor(cpu);
    text_printf(cpu, " L1 %ld L2 %ld", cache_size(_SC_LEVEL1_DCACHE_SIZE), cache_size(_SC_LEVEL2_CACHE_SIZE));
    text_printf(machine, "L3 %ld cores %d", cache_size(_SC_LEVEL3_CACHE_SIZE), tn_team_available());
}

static const char *version(Arena *arena) { return arena_printf(arena, "tenon %s space %d", TENON_VERSION, SCHEDULE_SPACE); }

// ---- reading findings -------------------------------------------------------------------------------------------------------------

static bool find_schedule(void *from, const ScheduleKey *key, Schedule *schedule) {
    const TuneBook *book = from;
    bool found = false;
    for (int i = 0; i < book->count; i++)
        if (strcmp(book->findings[i].shape, key->shape) == 0) {
            schedule_take(schedule, &book->findings[i].schedule, book->findings[i].group);
            found = true;
        }
    return found;
}

// Findings of this machine come last, so that they count.
static int read_findings(TuneBook *book, sqlite3 *db, const Target *target) {
    Text cpu = {0}, machine = {0}, all = {0};
    sqlite3_stmt *query = NULL;
    fingerprint(&cpu, &machine);
    int code = sqlite3_prepare_v2(db,
                                  "SELECT k.shape, f.fields, f.schedule FROM kernel k JOIN finding f ON f.kernel = k.id WHERE k.target = ?1 AND k.cpu = ?2 AND"
                                  " k.version = ?3 ORDER BY k.machine = ?4, k.threads = ?5, k.id, f.fields",
                                  -1, &query, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(query, 1, target->name, -1, SQLITE_STATIC);
        sqlite3_bind_text(query, 2, cpu.data, -1, SQLITE_STATIC);
        sqlite3_bind_text(query, 3, version(book->arena), -1, SQLITE_STATIC);
        sqlite3_bind_text(query, 4, machine.data, -1, SQLITE_STATIC);
        sqlite3_bind_int(query, 5, tn_team_available());
        while ((code = sqlite3_step(query)) == SQLITE_ROW) {
            const char *shape = (const char *)sqlite3_column_text(query, 0), *text = (const char *)sqlite3_column_text(query, 2);
            int group = sqlite3_column_int(query, 1);
            Schedule schedule;
            if (!shape || !text || group < 0 || group >= SCHEDULE_GROUPS || !schedule_parse(text, &schedule)) continue;
            ARENA_PUSH(book->arena, book->findings, book->count, book->capacity).shape = arena_strdup(book->arena, shape);
            book->findings[book->count - 1].group = group;
            book->findings[book->count - 1].schedule = schedule;
            text_printf(&all, "%s\n%d\n%s\n", shape, group, text);
        }
        if (code == SQLITE_DONE) code = SQLITE_OK;
    }
    sqlite3_finalize(query);
    if (all.length) snprintf(book->digest, sizeof book->digest, "%016llx", (unsigned long long)hash_bytes(all.data, all.length, 0));
    text_free(&cpu), text_free(&machine), text_free(&all);
    return code;
}

// A database in a folder that cannot be written is read as a file that nobody changes.
static int open_to_read(const char *path, bool immutable, sqlite3 **db) {
    Text name = {0};
    text_puts(&name, "file:");
    for (const char *c = path; *c; c++)
        text_printf(&name, strchr("%?#", *c) ? "%%%02X" : "%c", (unsigned char)*c);
    if (immutable) text_puts(&name, "?immutable=1");
    int code = sqlite3_open_v2(name.data, db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) sqlite3_busy_timeout(*db, WAIT_TO_READ_MS);
    text_free(&name);
    return code;
}

void tune_book_open(TuneBook *book, const Target *target, const BuildOptions *options, Diags *diags) {
    Text path = {0};
    const char *home;
    *book = (TuneBook){.arena = arena_new()};
    book->book = (ScheduleBook){find_schedule, book};
    if (options->no_tuning || !target_runs_here(target) || !database_folder(&path, &home)) {
        text_free(&path);
        return;
    }
    bool immutable = access(path.data, W_OK) != 0;
    text_puts(&path, "/tuning.db");
    if (access(path.data, F_OK) == 0) {
        sqlite3 *db = NULL;
        int code = open_to_read(path.data, immutable, &db);
        if (code == SQLITE_OK) code = read_findings(book, db, target);
        if (code != SQLITE_OK) {
            if (diags) {
                const char *why = db ? sqlite3_errmsg(db) : "no memory", *busy = "another process holds it; --no-tuning does without";
                Loc file = FILE_LOC(arena_strdup(book->arena, path.data));
                diag(diags, DIAG_WARNING, file, "the tuning database cannot be read, so nothing is tuned: %s", why);
                diag(diags, DIAG_HINT, NOWHERE, "%s", code == SQLITE_BUSY ? busy : "remove it and tune again, or give --no-tuning");
            }
            book->count = 0;
            *book->digest = 0;
        }
        sqlite3_close(db);
    }
    text_free(&path);
}

void tune_book_close(TuneBook *book) {
    arena_free(book->arena);
    *book = (TuneBook){0};
}

// ---- writing ----------------------------------------------------------------------------------------------------------------------

enum { Q_FIND_KERNEL, Q_NEW_KERNEL, Q_ADD, Q_SAMPLES, Q_CONCLUDE, Q_FINDING, Q_COUNT };
static const char *const queries[Q_COUNT] = {
    [Q_FIND_KERNEL] = "SELECT id FROM kernel WHERE shape = ?1 AND target = ?2 AND cpu = ?3 AND machine = ?4 AND version = ?5 AND threads = ?6",
    [Q_NEW_KERNEL] = "INSERT INTO kernel (shape, target, cpu, machine, version, threads) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
    [Q_ADD] = "INSERT INTO sample (kernel, fields, rows, schedule, ns) VALUES (?1, ?2, ?3, ?4, ?5)",
    [Q_SAMPLES] = "SELECT rows, schedule, ns FROM sample WHERE kernel = ?1 AND fields = ?2 ORDER BY rowid",
    [Q_CONCLUDE] = "INSERT INTO finding (kernel, fields, schedule) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET schedule = excluded.schedule",
    [Q_FINDING] = "SELECT schedule FROM finding WHERE kernel = ?1 AND fields = ?2",
};

struct TuneDb {
    sqlite3 *db;
    Text path, cpu, machine;
    Arena *arena;
    sqlite3_stmt *query[Q_COUNT];
};

static bool make_folders(char *path) {
    for (char *at = path + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = '/';
        if (!made) return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

// The path of a database that can be written; else ":memory:" and a warning.
static void choose_path(TuneDb *db, Diags *diags) {
    const char *home;
    struct stat info;
    const char *why = NULL;
    if (!database_folder(&db->path, &home)) why = "neither XDG_DATA_HOME nor HOME is set";
    else if ((home && stat(home, &info) != 0) || !make_folders(db->path.data) || access(db->path.data, W_OK) != 0) why = strerror(errno);
    if (!why) {
        text_puts(&db->path, "/tuning.db");
        if (access(db->path.data, F_OK) == 0 && access(db->path.data, W_OK) != 0) why = strerror(errno);
    }
    if (!why) return;
    const char *where = db->path.data ? arena_strdup(db->arena, db->path.data) : NULL;
    diag(diags, DIAG_WARNING, where ? FILE_LOC(where) : NOWHERE, "what is measured cannot be kept: %s", why);
    text_free(&db->path);
    text_puts(&db->path, ":memory:");
}

static int layout_of(sqlite3 *db) {
    sqlite3_stmt *query = NULL;
    int number = -1;
    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &query, NULL) == SQLITE_OK && sqlite3_step(query) == SQLITE_ROW) number = sqlite3_column_int(query, 0);
    sqlite3_finalize(query);
    return number;
}

static bool prepare(TuneDb *db, Diags *diags) {
    const char *at = arena_strdup(db->arena, db->path.data);
    int code = sqlite3_open_v2(db->path.data, &db->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (code == SQLITE_OK) {
        sqlite3_busy_timeout(db->db, WAIT_TO_WRITE_MS);
        int layout = layout_of(db->db);
        if (layout > LAYOUT) {
            diag_error(diags, FILE_LOC(at), "the tuning database has layout %d, which this tenon does not know", layout);
            diag(diags, DIAG_HINT, NOWHERE, "a newer tenon made it; XDG_DATA_HOME names another place");
            return false;
        }
        code = sqlite3_exec(db->db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;", NULL, NULL, NULL);
        if (code == SQLITE_OK && layout < LAYOUT) code = sqlite3_exec(db->db, tables, NULL, NULL, NULL);
    }
    for (int i = 0; i < Q_COUNT && code == SQLITE_OK; i++) code = sqlite3_prepare_v2(db->db, queries[i], -1, &db->query[i], NULL);
    if (code == SQLITE_OK) return true;
    diag_error(diags, FILE_LOC(at), "the tuning database cannot be used: %s", db->db ? sqlite3_errmsg(db->db) : "no memory");
    diag(diags, DIAG_HINT, NOWHERE, code == SQLITE_BUSY ? "another process holds it" : "remove it, and all is measured anew");
    return false;
}

TuneDb *tune_db_open(Diags *diags) {
    Arena *arena = arena_new();
    TuneDb *db = ARENA_NEW(arena, TuneDb);
    db->arena = arena;
    fingerprint(&db->cpu, &db->machine);
    choose_path(db, diags);
    if (prepare(db, diags)) return db;
    tune_db_close(db);
    return NULL;
}

void tune_db_close(TuneDb *db) {
    if (!db) return;
    for (int i = 0; i < Q_COUNT; i++) sqlite3_finalize(db->query[i]);
    sqlite3_close(db->db);
    text_free(&db->path), text_free(&db->cpu), text_free(&db->machine);
    arena_free(db->arena);
}

const char *tune_db_path(const TuneDb *db) { return db->path.data; }
const char *tune_db_error(const TuneDb *db) { return sqlite3_errmsg(db->db); }
bool tune_db_begin(TuneDb *db) { return sqlite3_exec(db->db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK; }
bool tune_db_commit(TuneDb *db) { return sqlite3_exec(db->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK; }

static bool finish_query(sqlite3_stmt *query, int code) {
    sqlite3_reset(query);
    sqlite3_clear_bindings(query);
    return code == SQLITE_DONE || code == SQLITE_ROW;
}

static sqlite3_stmt *kernel_query(TuneDb *db, int which, const ScheduleKey *key, int threads) {
    sqlite3_stmt *query = db->query[which];
    sqlite3_bind_text(query, 1, key->shape, -1, SQLITE_STATIC);
    sqlite3_bind_text(query, 2, key->target->name, -1, SQLITE_STATIC);
    sqlite3_bind_text(query, 3, db->cpu.data, -1, SQLITE_STATIC);
    sqlite3_bind_text(query, 4, db->machine.data, -1, SQLITE_STATIC);
    sqlite3_bind_text(query, 5, version(db->arena), -1, SQLITE_STATIC);
    sqlite3_bind_int(query, 6, threads);
    return query;
}

bool tune_db_kernel(TuneDb *db, const ScheduleKey *key, int threads, int64_t *id) {
    sqlite3_stmt *query = kernel_query(db, Q_NEW_KERNEL, key, threads);
    if (!finish_query(query, sqlite3_step(query))) return false;
    query = kernel_query(db, Q_FIND_KERNEL, key, threads);
    int code = sqlite3_step(query);
    *id = code == SQLITE_ROW ? sqlite3_column_int64(query, 0) : -1;
    return finish_query(query, code) && *id >= 0;
}

bool tune_db_forget(TuneDb *db, int64_t kernel) {
    long long id = kernel;
    char *text = sqlite3_mprintf("BEGIN; DELETE FROM sample WHERE kernel = %lld; DELETE FROM finding WHERE kernel = %lld; COMMIT", id, id);
    bool done = text && sqlite3_exec(db->db, text, NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_free(text);
    return done;
}

static sqlite3_stmt *group_query(TuneDb *db, int which, int64_t kernel, ScheduleGroup group) {
    sqlite3_bind_int64(db->query[which], 1, kernel);
    sqlite3_bind_int(db->query[which], 2, (int)group);
    return db->query[which];
}

static void bind_schedule(sqlite3_stmt *query, int at, const Schedule *schedule) {
    Text text = {0};
    schedule_text(schedule, &text);
    sqlite3_bind_text(query, at, text.data, (int)text.length, SQLITE_TRANSIENT);
    text_free(&text);
}

bool tune_db_add(TuneDb *db, int64_t kernel, ScheduleGroup group, int rows, const Schedule *schedule, double ns) {
    sqlite3_stmt *query = group_query(db, Q_ADD, kernel, group);
    sqlite3_bind_int(query, 3, rows);
    bind_schedule(query, 4, schedule);
    sqlite3_bind_double(query, 5, ns);
    return finish_query(query, sqlite3_step(query));
}

bool tune_db_samples(TuneDb *db, int64_t kernel, ScheduleGroup group, void (*each)(void *to, int rows, const Schedule *schedule, double ns), void *to) {
    sqlite3_stmt *query = group_query(db, Q_SAMPLES, kernel, group);
    int code;
    while ((code = sqlite3_step(query)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(query, 1);
        Schedule schedule;
        double ns = sqlite3_column_double(query, 2);
        if (text && ns > 0 && schedule_parse(text, &schedule)) each(to, sqlite3_column_int(query, 0), &schedule, ns);
    }
    return finish_query(query, code);
}

bool tune_db_conclude(TuneDb *db, int64_t kernel, ScheduleGroup group, const Schedule *schedule) {
    sqlite3_stmt *query = group_query(db, Q_CONCLUDE, kernel, group);
    bind_schedule(query, 3, schedule);
    return finish_query(query, sqlite3_step(query));
}

bool tune_db_finding(TuneDb *db, int64_t kernel, ScheduleGroup group, bool *found, Schedule *schedule) {
    sqlite3_stmt *query = group_query(db, Q_FINDING, kernel, group);
    int code = sqlite3_step(query);
    const char *text = code == SQLITE_ROW ? (const char *)sqlite3_column_text(query, 0) : NULL;
    *found = text && schedule_parse(text, schedule);
    return finish_query(query, code);
}
