/* Text that came from outside, made fit for one line on a terminal. */
#ifndef RUNTIME_BASE_PRINTABLE_H
#define RUNTIME_BASE_PRINTABLE_H

#include <stdarg.h>
#include <stddef.h>

/* Copies `text` into `out` (`size` bytes, NUL included) as one line of valid UTF-8. Control characters and
 * bytes that are no UTF-8 become \xNN: a terminal must not obey them. A stretch of more than 400 bytes
 * without a space keeps its two ends with "…" between them, and so does the line where it is too long, so
 * that what follows a long value (the valid ones) is still there. A printable text that fits stays as it
 * is. */
void printable(char *out, size_t size, const char *text);

/* The same of what vprintf would write. */
void printable_format(char *out, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/* Bytes of the character that a text begins with, if a terminal may show it: 0 for those that printable()
 * replaces, and at the end of the text. */
size_t printable_bytes(const char *text);

#endif
