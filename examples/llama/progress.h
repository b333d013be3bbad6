/* A line on a terminal's standard error, with the time left, for work longer than two seconds. */
#ifndef LLAMA_PROGRESS_H
#define LLAMA_PROGRESS_H

#include <stdbool.h>
#include <time.h>

typedef struct progress {
    struct timespec start;
    const char *what;
    int total;
    bool shows, shown;
} progress;

progress progress_begin(bool quiet, const char *what, int total);
void progress_step(progress *p, int done, double perplexity);

/* Seconds since the beginning. */
double progress_end(progress *p);

#endif
