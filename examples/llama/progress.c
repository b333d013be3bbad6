#include "progress.h"

#include <stdio.h>
#include <unistd.h>

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + 1e-9 * (double)(now.tv_nsec - start->tv_nsec);
}

progress progress_begin(bool quiet, const char *what, int total)
{
    progress p = {.what = what, .total = total, .shows = !quiet && isatty(STDERR_FILENO)};
    clock_gettime(CLOCK_MONOTONIC, &p.start);
    return p;
}

void progress_step(progress *p, int done, double perplexity)
{
    double passed = seconds_since(&p->start), left = passed / done * (p->total - done);
    if (!p->shows || (passed < 2 && !p->shown))
        return;
    p->shown = true;
    fprintf(stderr, "\rllama: %s %d of %d, perplexity %.4f so far, %d:%02d left \033[K", p->what, done,
            p->total, perplexity, (int)left / 60, (int)left % 60);
}

double progress_end(progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    return seconds_since(&p->start);
}
