// A mapped file that is cut short, or whose disk fails, raises SIGBUS when the missing part is read. This turns it into a message that names file
// and offset, and exit code 1. The table of mappings is the one mutable global of the run time: a signal handler can be told nothing.
//
// A slot is claimed by `base` and published by `length`; the handler reads both with acquire and allocates nothing.
#include "runtime/blob.h"
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

enum { GUARD_SLOTS = 256 };
static struct {
    _Atomic(const char *) base;
    _Atomic size_t length;
    const char *path;
    uint64_t offset;
} guard_slots[GUARD_SLOTS];

void tn_guard_add(const char *path, const void *base, size_t length, uint64_t offset) {
    for (int i = 0; i < GUARD_SLOTS; i++) {
        const char *empty = NULL;
        if (!atomic_compare_exchange_strong(&guard_slots[i].base, &empty, (const char *)base))
            continue;
        guard_slots[i].path = path;
        guard_slots[i].offset = offset;
        atomic_store_explicit(&guard_slots[i].length, length, memory_order_release);
        return;
    }
}

void tn_guard_remove(const void *base) {
    for (int i = 0; i < GUARD_SLOTS; i++)
        if (atomic_load(&guard_slots[i].base) == (const char *)base) {
            atomic_store(&guard_slots[i].length, 0);
            atomic_store(&guard_slots[i].base, NULL);
            return;
        }
}

static void guard_say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        _exit(TN_BAD_INPUT);
}

static void guard_say_number(uint64_t number) {
    char digits[24];
    int at = sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number && at > 0);
    guard_say(digits + at);
}

static void guard_on_bus(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    const char *at = info->si_addr;
    for (int i = 0; i < GUARD_SLOTS; i++) {
        size_t length = atomic_load_explicit(&guard_slots[i].length, memory_order_acquire);
        const char *base = atomic_load(&guard_slots[i].base);
        if (!length || at < base || (size_t)(at - base) >= length)
            continue;
        guard_say("error: ");
        guard_say(guard_slots[i].path);
        guard_say(": cannot be read at offset ");
        guard_say_number(guard_slots[i].offset + (uint64_t)(at - base));
        guard_say(": the file was cut short while it was in use, or its disk failed\n");
        _exit(TN_BAD_INPUT);
    }
    signal(signal_number, SIG_DFL);   // not ours: the fault repeats and ends the process
}

void tn_guard_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = guard_on_bus;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
