// Programs that tenon compiled, run by tenon: to compare them (side.c), to see whether they are fast enough (latency.c).
#include "driver/child.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool child_start(Child *child, const char *path, char *const arguments[], int out_fd, Diags *diags) {
    int ends[2];
    posix_spawn_file_actions_t actions;
    *child = (Child){.path = path, .pipe = -1};
    if (pipe2(ends, O_CLOEXEC) != 0) return diag_error(diags, NOWHERE, "no pipe: %s", strerror(errno)), false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], out_fd);
    int failed = posix_spawn(&child->process, path, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    child->pipe = ends[0];
    if (!failed) return true;
    close(ends[0]);
    *child = (Child){.path = path, .pipe = -1};
    diag_error(diags, FILE_LOC(path), "cannot be run: %s", strerror(failed));
    return false;
}

int child_stop(Child *child) {
    int status = 0;
    if (child->process <= 0) return EXIT_DONE;
    close(child->pipe);
    child->pipe = -1;
    while (waitpid(child->process, &status, 0) < 0 && errno == EINTR) {}
    child->process = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_INPUT;
}

size_t child_read(const Child *child, void *into, size_t length) {
    size_t at = 0;
    for (ssize_t got; at < length; at += (size_t)got) {
        got = read(child->pipe, (char *)into + at, length - at);
        if (got < 0 && errno == EINTR) got = 0;
        else if (got <= 0) break;
    }
    return at;
}

int child_ask(const char *path, char *const arguments[], char *text, size_t room, size_t *length, Diags *diags) {
    Child child;
    *length = 0;
    if (!child_start(&child, path, arguments, STDOUT_FILENO, diags)) return -1;
    *length = child_read(&child, text, room);
    return child_stop(&child);
}
