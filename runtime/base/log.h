/* Messages to the user's log callback. */
#ifndef RUNTIME_BASE_LOG_H
#define RUNTIME_BASE_LOG_H

#include "xq/xq.h"

typedef struct logger {
    xq_log_callback callback; /* may be NULL: messages are dropped */
    void *user;
} logger;

void log_message(const logger *log, xq_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
