// Reading a file in the background, by threads that each have one read of a few MiB under way: what keeps a disk busy.
//
// A job fills one place in memory. Jobs of a higher rank go first, those of one rank in order. A reader belongs to one thread, but for the
// jobs' own bytes.
#ifndef TENON_RUNTIME_READER_H
#define TENON_RUNTIME_READER_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "runtime/fail.h"

enum { READ_IDLE, READ_WAITING, READ_DONE, READ_FAILED, READ_STOPPED };
enum { READ_LATER, READ_SOON, READ_NOW, READ_RANKS };

// The first three are the caller's, the rest the reader's; zeros at first. `to`, `from` and `bytes` are multiples of 4096.
typedef struct ReadJob {
    unsigned char *to;
    uint64_t from, bytes;          // from: in the file
    atomic_int state;
    int rank;
    bool failed, stopped;
    uint64_t begun, left;          // bytes that some thread has taken on; that are not there yet
    struct ReadJob *next;
} ReadJob;

typedef struct Reader Reader;

// `fd` stays the caller's and open; `file`: its name, for messages.
Reader *tn_reader_new(int fd, const char *file, tn_failure *failure);
void tn_reader_free(Reader *reader);                        // waits for what is under way, drops the rest
void tn_reader_start(Reader *reader, ReadJob *job, int rank);
void tn_reader_raise(Reader *reader, ReadJob *job, int rank);   // of a job that waits
bool tn_reader_waits(Reader *reader, ReadJob *job);          // it has not begun
bool tn_reader_stop(Reader *reader, ReadJob *job);          // true: it had not begun, and is idle again. Else it ends, as READ_STOPPED, with what is under way
void tn_reader_wait(Reader *reader, ReadJob *const *jobs, int count);   // until one of these jobs waits no longer
uint64_t tn_reader_bytes(const Reader *reader);             // read so far
// 0, or -1 with what went wrong first (a read that failed, a file that was cut short); then it is forgotten.
int tn_reader_check(Reader *reader, tn_failure *failure);

#endif
