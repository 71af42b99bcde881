// Threads that read pieces of a file, past the system's page cache where it lets them: what is read here is kept by us, and a copy in the cache would
// count against the same memory. Jobs lie in a list for each rank; a thread takes the next few MiB of the first job that has any.
//
// What goes wrong first is kept, with the place in the file, until somebody asks.
#include "runtime/reader.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READER_THREADS = 8, READER_PIECE = 2 << 20, READER_STACK = 256 << 10 };

struct Reader {
    int fd, direct;                // direct: the same file past the page cache; -1: it cannot be
    char *file;
    pthread_t threads[READER_THREADS];
    int thread_count;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    ReadJob *first[READ_RANKS];
    bool stop;
    _Atomic uint64_t bytes;
    tn_failure failure;            // the first
};

static void reader_fail(Reader *reader, uint64_t offset, const char *why) {
    pthread_mutex_lock(&reader->lock);
    tn_fail(&reader->failure, TN_BAD_INPUT, "%s: cannot be read at offset %llu: %s", reader->file, (unsigned long long)offset, why);
    pthread_mutex_unlock(&reader->lock);
}

static bool reader_read(Reader *reader, unsigned char *to, uint64_t from, uint64_t bytes) {
    while (bytes) {
        int direct = __atomic_load_n(&reader->direct, __ATOMIC_RELAXED);
        ssize_t got = pread(direct >= 0 ? direct : reader->fd, to, (size_t)bytes, (off_t)from);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EINVAL && direct >= 0) {       // a file system that wants other alignments, or none of this
            __atomic_store_n(&reader->direct, -1, __ATOMIC_RELAXED);
            continue;
        }
        if (got <= 0) {
            reader_fail(reader, from, got ? strerror(errno) : "the file was cut short while it was in use");
            return false;
        }
        if (direct < 0)
            posix_fadvise(reader->fd, (off_t)from, got, POSIX_FADV_DONTNEED);
        to += got;
        from += (uint64_t)got;
        bytes -= (uint64_t)got;
        atomic_fetch_add(&reader->bytes, (uint64_t)got);
    }
    return true;
}

static void reader_remove(Reader *reader, ReadJob *job) {
    for (ReadJob **at = &reader->first[job->rank]; *at; at = &(*at)->next)
        if (*at == job) {
            *at = job->next;
            return;
        }
}

static void reader_append(Reader *reader, ReadJob *job) {
    ReadJob **at = &reader->first[job->rank];
    while (*at)
        at = &(*at)->next;
    *at = job;
    job->next = NULL;
}

// With the lock held: the next piece of a job; a job all of whose pieces are taken leaves its list.
static ReadJob *reader_take(Reader *reader, uint64_t *at, uint64_t *bytes) {
    ReadJob *job = NULL;
    for (int rank = READ_RANKS - 1; rank >= 0 && !job; rank--)
        job = reader->first[rank];
    if (!job)
        return NULL;
    *at = job->begun;
    *bytes = job->bytes - job->begun < READER_PIECE ? job->bytes - job->begun : READER_PIECE;
    job->begun += *bytes;
    if (job->begun == job->bytes)
        reader_remove(reader, job);
    return job;
}

static void *reader_thread(void *argument) {
    Reader *reader = argument;
    pthread_mutex_lock(&reader->lock);
    while (!reader->stop) {
        uint64_t at, bytes;
        ReadJob *job = reader_take(reader, &at, &bytes);
        if (!job) {
            pthread_cond_wait(&reader->work, &reader->lock);
            continue;
        }
        pthread_mutex_unlock(&reader->lock);
        bool well = reader_read(reader, job->to + at, job->from + at, bytes);
        pthread_mutex_lock(&reader->lock);
        job->failed |= !well;
        job->left -= bytes;
        if (!job->left) {
            atomic_store(&job->state, job->failed ? READ_FAILED : job->stopped ? READ_STOPPED : READ_DONE);
            pthread_cond_broadcast(&reader->done);
        }
    }
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

Reader *tn_reader_new(int fd, const char *file, tn_failure *failure) {
    Reader *reader = calloc(1, sizeof *reader);
    char path[40];
    pthread_attr_t attributes;
    if (!reader || !(reader->file = strdup(file))) {
        free(reader);
        tn_fail(failure, TN_BAD_MACHINE, "no memory");
        return NULL;
    }
    reader->fd = fd;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    reader->direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->work, NULL);
    pthread_cond_init(&reader->done, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, READER_STACK);
    for (int i = 0; i < READER_THREADS; i++)
        if (!pthread_create(&reader->threads[reader->thread_count], &attributes, reader_thread, reader))
            reader->thread_count++;
    pthread_attr_destroy(&attributes);
    if (reader->thread_count)
        return reader;
    tn_fail(failure, TN_BAD_MACHINE, "no thread can be started to read %s", file);
    tn_reader_free(reader);
    return NULL;
}

void tn_reader_free(Reader *reader) {
    if (!reader)
        return;
    pthread_mutex_lock(&reader->lock);
    reader->stop = true;
    pthread_cond_broadcast(&reader->work);
    pthread_mutex_unlock(&reader->lock);
    for (int i = 0; i < reader->thread_count; i++)
        pthread_join(reader->threads[i], NULL);
    if (reader->direct >= 0)
        close(reader->direct);
    pthread_mutex_destroy(&reader->lock);
    pthread_cond_destroy(&reader->work);
    pthread_cond_destroy(&reader->done);
    free(reader->file);
    free(reader);
}

void tn_reader_start(Reader *reader, ReadJob *job, int rank) {
    pthread_mutex_lock(&reader->lock);
    job->rank = rank;
    job->failed = job->stopped = false;
    job->begun = 0;
    job->left = job->bytes;
    atomic_store(&job->state, READ_WAITING);
    reader_append(reader, job);
    pthread_cond_broadcast(&reader->work);
    pthread_mutex_unlock(&reader->lock);
}

void tn_reader_raise(Reader *reader, ReadJob *job, int rank) {
    pthread_mutex_lock(&reader->lock);
    if (job->rank < rank && atomic_load(&job->state) == READ_WAITING && job->begun < job->bytes) {
        reader_remove(reader, job);
        job->rank = rank;
        reader_append(reader, job);
    }
    pthread_mutex_unlock(&reader->lock);
}

bool tn_reader_waits(Reader *reader, ReadJob *job) {
    pthread_mutex_lock(&reader->lock);
    bool waits = atomic_load(&job->state) == READ_WAITING && !job->begun;
    pthread_mutex_unlock(&reader->lock);
    return waits;
}

bool tn_reader_stop(Reader *reader, ReadJob *job) {
    pthread_mutex_lock(&reader->lock);
    bool waits = atomic_load(&job->state) == READ_WAITING, begun = job->begun > 0;
    if (waits && job->begun < job->bytes) {
        reader_remove(reader, job);
        job->left -= job->bytes - job->begun;
        job->begun = job->bytes;
        job->stopped = true;
        if (!job->left)
            atomic_store(&job->state, begun ? READ_STOPPED : READ_IDLE);
    }
    pthread_mutex_unlock(&reader->lock);
    return waits && !begun;
}

void tn_reader_wait(Reader *reader, ReadJob *const *jobs, int count) {
    pthread_mutex_lock(&reader->lock);
    for (;;) {
        bool all = count > 0;
        for (int i = 0; i < count && all; i++)
            all = atomic_load(&jobs[i]->state) == READ_WAITING;
        if (!all)
            break;
        pthread_cond_wait(&reader->done, &reader->lock);
    }
    pthread_mutex_unlock(&reader->lock);
}

uint64_t tn_reader_bytes(const Reader *reader) { return atomic_load(&reader->bytes); }

int tn_reader_check(Reader *reader, tn_failure *failure) {
    pthread_mutex_lock(&reader->lock);
    tn_failure found = reader->failure;
    reader->failure = (tn_failure){0};
    pthread_mutex_unlock(&reader->lock);
    return found.code ? tn_fail(failure, found.code, "%s", found.text) : 0;
}
