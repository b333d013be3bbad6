/* An error on its way to the caller: filled where a failure is found, handed up unchanged.
 *
 * Functions that can fail take an `error *` (never NULL), fill it with error_set, and return its
 * status. Only the first failure is kept. */
#ifndef RUNTIME_BASE_ERROR_H
#define RUNTIME_BASE_ERROR_H

#include "xq/xq.h"

typedef struct error {
    xq_status status;
    const char *stage;  /* static string; see xq_error_detail */
    char message[1024]; /* one line */
    char field[96];
    char file[512];
    int line;
    char *log; /* heap, or NULL; released by error_clear */
} error;

#define ERROR_INIT                                                                                         \
    {                                                                                                      \
        XQ_OK, 0, "", "", "", 0, 0                                                                         \
    }

/* Fills `err` unless it already holds a failure; returns err->status. */
xq_status error_set(error *err, xq_status status, const char *stage, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Add details to a failure that was just set; each returns err->status. error_within puts the place of the
 * failure in front of the message: "layer 3: ...". */
xq_status error_within(error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
xq_status error_at(error *err, const char *file, int line);
xq_status error_field(error *err, const char *field);
xq_status error_log(error *err, const char *log); /* copied */

void error_clear(error *err);

#endif
