/* Runs xq on a terminal. */
#ifndef TESTS_TERMINAL_H
#define TESTS_TERMINAL_H

/* Runs xq with these arguments on a terminal of 80 columns, which is all three of its standard streams.
 * Returns its output, in which "\n" is "\r\n"; the text lasts until the next call. *status becomes the exit
 * status, or -1 if a signal ended the program. */
const char *terminal_run(int *status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
