#include "log.h"

#include <stdarg.h>
#include <stdio.h>

void log_message(const logger *log, xq_log_level level, const char *format, ...)
{
    if (!log->callback)
        return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (char *c = line; *c; c++)
        if (*c == '\n' || *c == '\r')
            *c = ' ';
    log->callback(log->user, level, line);
}
