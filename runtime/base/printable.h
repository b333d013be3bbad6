/* Makes text that came from outside fit for one line on a terminal. */
#ifndef RUNTIME_BASE_PRINTABLE_H
#define RUNTIME_BASE_PRINTABLE_H

#include <stdarg.h>
#include <stddef.h>

/* Copies `text` into `out` (`size` bytes, NUL included) as one line of valid UTF-8. Control characters and
 * bytes that are not valid UTF-8 become \xNN, so that a terminal cannot obey them. A stretch of more than
 * 400 bytes without a space keeps only its two ends, with "…" between them. A line that is too long is cut
 * in the same way, so that the end of a message, which lists the valid values, survives a long value.
 * Printable text that fits is copied unchanged. */
void printable(char *out, size_t size, const char *text);

/* The same for the text that vprintf would write. */
void printable_format(char *out, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/* Length in bytes of the character that a text begins with, if a terminal may show it. 0 for a character
 * that printable() replaces, and at the end of the text. */
size_t printable_bytes(const char *text);

#endif
