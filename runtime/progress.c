// A bar is a courtesy to whoever waits and watches: nothing is drawn on what is no terminal, nor for what is soon done.
#include "runtime/progress.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "runtime/team.h"

enum { PROGRESS_WIDTH = 30 };

void tn_progress_begin(Progress *progress, const char *what) {
    *progress = (Progress){.what = what, .began_ns = tn_now(), .on = isatty(STDERR_FILENO)};
}

void tn_progress_show(void *argument, uint64_t done, uint64_t total) {
    Progress *progress = argument;
    char bar[PROGRESS_WIDTH + 1];
    uint64_t now = progress->on ? tn_now() : 0;
    if (!progress->on || !total || now - progress->began_ns < 500000000u || now - progress->drawn_ns < 50000000u)
        return;
    double share = done < total ? (double)done / (double)total : 1;
    int full = (int)(share * PROGRESS_WIDTH);
    memset(bar, '.', PROGRESS_WIDTH);
    memset(bar, '#', (size_t)full);
    bar[PROGRESS_WIDTH] = 0;
    fprintf(stderr, "\r%s [%s] %3d%%", progress->what, bar, (int)(share * 100));
    fflush(stderr);
    progress->drawn_ns = now;
    progress->drawn = true;
}

void tn_progress_end(Progress *progress) {
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    progress->drawn = false;
}
