/* A progress line on standard error, shown on terminals once two seconds have passed. A thread draws it, so
 * that it stays current during long calls. The program has one such line. */
#ifndef LLAMA_PROGRESS_H
#define LLAMA_PROGRESS_H

#include <stdbool.h>

/* Starts the line. Nothing is shown if `quiet` is set or standard error is not a terminal. */
void progress_begin(bool quiet);

/* Sets the text of the line. It has no effect before progress_begin. */
void progress_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Adds a step to the text, until the next progress_step or progress_say; NULL removes it. Any thread may
 * call this. */
void progress_step(const char *step);

/* Ends and erases the line. It may be called without progress_begin. */
void progress_end(void);

/* Seconds of a monotonic clock. */
double progress_seconds(void);

#endif
