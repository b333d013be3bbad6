/* One line on standard error, and the end: an example has nobody to hand an error to. */
#ifndef LLAMA_FAIL_H
#define LLAMA_FAIL_H

#include <stddef.h>

enum { EXIT_INPUT = 1, EXIT_USAGE = 2, EXIT_DEVICE = 3 };

void fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

/* Memory for count * size bytes, zeroed. Never NULL. */
void *room(size_t count, size_t size);

#endif
