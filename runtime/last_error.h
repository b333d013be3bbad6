/* The last error of each thread that used a context. */
#ifndef RUNTIME_LAST_ERROR_H
#define RUNTIME_LAST_ERROR_H

#include "context.h"

void last_error_free_all(xq_context *context);

#endif
