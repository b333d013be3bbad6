/* xq on a terminal. */
#ifndef TESTS_TERMINAL_H
#define TESTS_TERMINAL_H

/* Runs xq with these arguments on a terminal of 80 columns: all three standard streams are it. What it
 * wrote, "\n" as "\r\n", lasts until the next call. *status: of the exit; -1: a signal ended it. */
const char *terminal_run(int *status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
