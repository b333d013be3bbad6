#include "fail.h"
#include "progress.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void fail(int status, const char *format, ...)
{
    char message[2048];
    va_list args;
    progress_end();
    fflush(stdout);
    va_start(args, format);
    int length = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fputs("llama: ", stderr);
    for (const char *c = message; *c; c++) /* user input may hold control characters: escape them */
        if (iscntrl((unsigned char)*c))
            fprintf(stderr, "\\x%02x", (unsigned char)*c);
        else
            fputc(*c, stderr);
    fputs(length >= (int)sizeof message ? "...\n" : "\n", stderr);
    exit(status);
}

void *room(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail(EXIT_INPUT, "out of memory for %zu elements of %zu bytes", count, size);
    return memory;
}
