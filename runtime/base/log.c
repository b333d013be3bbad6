#include "log.h"
#include "printable.h"

#include <stdarg.h>

void log_message(const logger *log, xq_log_level level, const char *format, ...)
{
    if (!log->callback)
        return;
    char line[1024];
    va_list args;
    va_start(args, format);
    printable_format(line, sizeof line, format, args);
    va_end(args);
    log->callback(log->user, level, line);
}
