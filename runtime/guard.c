// A mapped file that is cut short, or whose disk fails, raises SIGBUS when the missing part is read. This turns it into a message that names file
// and offset, and exit code 1. It holds for every mapped file, since /proc/self/maps says what lies at an address.
//
// The handler allocates nothing and calls only what a handler may. Of several threads that fail at once the first speaks; the others wait for the
// end. What is to be done before that is the one mutable global of the run time: a signal handler can be told nothing.
#include "runtime/blob.h"
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic(GuardEnd) guard_end;
static atomic_flag guard_speaking = ATOMIC_FLAG_INIT;

typedef struct { uint64_t offset; char path[PATH_MAX]; } GuardPlace;

static uint64_t guard_number(const char **text, unsigned base) {
    uint64_t number = 0;
    for (;; ++*text) {
        char c = **text;
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : base;
        if (digit >= base)
            return number;
        number = number * base + digit;
    }
}

// A line of /proc/self/maps: from-to rights offset device inode path. Whether the address lies in that part of a file.
static bool guard_line(const char *line, uint64_t address, GuardPlace *place) {
    uint64_t from = guard_number(&line, 16), to, offset;
    if (*line++ != '-')
        return false;
    to = guard_number(&line, 16);
    if (address < from || address >= to || !(line = strchr(line, '/')))      // the first '/' begins the path
        return false;
    const char *path = line;
    for (int spaces = 0; spaces < 3; line--)                                 // back over the padding, inode and device, to the offset's end
        if (line[-1] == ' ' && line[-2] != ' ')
            spaces++;
    while (line[-1] != ' ')
        line--;
    offset = guard_number(&line, 16);
    place->offset = offset + (address - from);
    size_t length = strlen(path);
    memcpy(place->path, path, length < PATH_MAX ? length + 1 : PATH_MAX);
    place->path[PATH_MAX - 1] = 0;
    return true;
}

static bool guard_find(uint64_t address, GuardPlace *place) {
    static char line[PATH_MAX + 256];         // of the one thread that speaks
    char buffer[4096];
    size_t length = 0;
    bool found = false;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t got; fd >= 0 && !found && (got = read(fd, buffer, sizeof buffer)) > 0;)
        for (ssize_t i = 0; i < got && !found; i++) {
            if (buffer[i] != '\n') {
                if (length + 1 < sizeof line)
                    line[length++] = buffer[i];
                continue;
            }
            line[length] = 0;
            length = 0;
            found = guard_line(line, address, place);
        }
    if (fd >= 0)
        close(fd);
    return found;
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
    static GuardPlace place;
    struct stat now;
    (void)context;
    while (atomic_flag_test_and_set(&guard_speaking))
        pause();
    if (info->si_code != BUS_ADRERR || !guard_find((uint64_t)(uintptr_t)info->si_addr, &place)) {
        atomic_flag_clear(&guard_speaking);
        signal(signal_number, SIG_DFL);       // not ours: the fault repeats and ends the process
        return;
    }
    bool there = !stat(place.path, &now);
    guard_say("error: ");
    guard_say(place.path);
    guard_say(": cannot be read at offset ");
    guard_say_number(place.offset);
    guard_say(!there                                   ? ": the file was cut short while it was in use, or its disk failed\n"
              : (uint64_t)now.st_size <= place.offset ? ": the file was cut short while it was in use\n"
                                                       : ": its disk failed\n");
    GuardEnd end = atomic_load(&guard_end);
    if (end)
        end();
    _exit(TN_BAD_INPUT);
}

void tn_guard_at_end(GuardEnd end) { atomic_store(&guard_end, end); }

void tn_guard_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = guard_on_bus;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
