#include "fail.h"
#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void fail(int status, const char *format, ...)
{
    va_list args;
    progress_end();
    fflush(stdout);
    fputs("llama: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(status);
}

void *room(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail(EXIT_INPUT, "out of memory for %zu elements of %zu bytes", count, size);
    return memory;
}
