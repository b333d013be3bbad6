/* The last error of each thread that used a context. */
#ifndef RUNTIME_LAUNCH_LAST_ERROR_H
#define RUNTIME_LAUNCH_LAST_ERROR_H

#include "context.h"

/* The calling thread's last failure on the context as an error of the caller's own, for code that works
 * over the public API: `status` is what the failing call returned. Returns it. */
xq_status last_error_read(const xq_context *context, xq_status status, error *err);

/* The same as context_fail, for calls that take no context: keeps the error for the calling thread, clears
 * *err, and returns its status. */
xq_status last_error_keep(error *err);

void last_error_free_all(xq_context *context);

#endif
