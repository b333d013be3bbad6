#include "error.h"
#include "printable.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

xq_status error_set(error *err, xq_status status, const char *stage, const char *format, ...)
{
    if (err->status != XQ_OK)
        return err->status;
    err->status = status;
    err->stage = stage;
    va_list args;
    va_start(args, format);
    printable_format(err->message, sizeof err->message, format, args);
    va_end(args);
    return status;
}

xq_status error_within(error *err, const char *format, ...)
{
    char where[sizeof err->message / 2], whole[sizeof where + sizeof err->message + 2];
    va_list args;
    va_start(args, format);
    printable_format(where, sizeof where, format, args);
    va_end(args);
    snprintf(whole, sizeof whole, "%s: %s", where, err->message);
    printable(err->message, sizeof err->message, whole);
    return err->status;
}

xq_status error_at(error *err, const char *file, int line)
{
    snprintf(err->file, sizeof err->file, "%s", file);
    err->line = line;
    return err->status;
}

xq_status error_field(error *err, const char *field)
{
    snprintf(err->field, sizeof err->field, "%s", field);
    return err->status;
}

xq_status error_log(error *err, const char *log)
{
    free(err->log);
    err->log = log ? strdup(log) : NULL;
    return err->status;
}

void error_clear(error *err)
{
    free(err->log);
    *err = (error)ERROR_INIT;
}
