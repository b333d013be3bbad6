/* The last error of each thread that used a context. */
#ifndef RUNTIME_LAUNCH_LAST_ERROR_H
#define RUNTIME_LAUNCH_LAST_ERROR_H

#include "context.h"

/* Copies the calling thread's last failure on the context into `err`, for code that works over the public
 * API. `status` is what the failing call returned; the function returns it. */
xq_status last_error_read(const xq_context *context, xq_status status, error *err);

/* Does what context_fail does, for calls that take no context: keeps the error for the calling thread,
 * clears *err, and returns the status. */
xq_status last_error_keep(error *err);

void last_error_free_all(xq_context *context);

#endif
