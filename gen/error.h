/* An error on its way to the caller: filled where a failure is found, handed up unchanged.
 *
 * Functions that can fail take an `error *` (never NULL), fill it with error_set, and return its
 * status. Only the first failure is kept. */
#ifndef GEN_ERROR_H
#define GEN_ERROR_H

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

/* Adds detail to a failure just set; each returns err->status. */
xq_status error_at(error *err, const char *file, int line);
xq_status error_field(error *err, const char *field);
xq_status error_log(error *err, const char *log); /* copied */

void error_clear(error *err);

#ifdef __clang_analyzer__ /* what the analyzer cannot see from here: a failure stays a failure */
void error_note(const char *, ...);
#define error_set(err, code, ...)                                                                          \
    (error_note(__VA_ARGS__), (err)->status = (err)->status != XQ_OK ? (err)->status : (code))
#define error_at(err, file, line) (error_note(file, line), (err)->status)
#define error_field(err, name)    (error_note(name), (err)->status)
#define error_log(err, text)      (error_note(text), (err)->status)
#endif

#endif
