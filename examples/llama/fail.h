/* Errors: `fail` prints one line to standard error and ends the program, because an example has no caller
 * that could handle an error. */
#ifndef LLAMA_FAIL_H
#define LLAMA_FAIL_H

#include <stddef.h>

enum { EXIT_INPUT = 1, EXIT_USAGE = 2, EXIT_DEVICE = 3 };

void fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* Allocates count * size zeroed bytes. Never returns NULL. */
void *room(size_t count, size_t size);

#endif
