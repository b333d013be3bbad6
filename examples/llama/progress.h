/* A line on a terminal's standard error, once two seconds have passed, that says what is being done. A
 * thread draws it, so that it moves during long calls. There is one: the program does one thing. */
#ifndef LLAMA_PROGRESS_H
#define LLAMA_PROGRESS_H

#include <stdbool.h>

/* Nothing is shown where `quiet`, or where standard error is no terminal. */
void progress_begin(bool quiet);

/* What is done from now on. Nothing without a beginning. */
void progress_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A step of it, until the next one or another progress_say; NULL: none. Any thread. */
void progress_step(const char *step);

/* Erases the line. Also where none was begun. */
void progress_end(void);

/* Seconds of a clock that only goes forwards. */
double progress_seconds(void);

#endif
