/* The calls of a verification case: good calls, and calls with bad arguments. */
#ifndef AUTOTUNE_VERIFY_CALL_H
#define AUTOTUNE_VERIFY_CALL_H

#include "memory.h"

xq_status verify_call_append(verify_memory *m, int implementation, int layer, int round, error *err);
xq_status verify_call_accumulate(verify_memory *m, int implementation, int layer, int round, error *err);

/* Attends twice on the same workspace, and returns the second result: out [queries, heads, head_dim], lse
 * [queries, heads]. */
xq_status verify_call_attend(verify_memory *m, int implementation, int layer, double *out, float *lse,
                             error *err);

/* Makes calls with one bad argument each. Each must be refused with the argument's name. Adds the number of
 * refused calls to *refused; the first call that is not refused so is an error (XQ_ERROR_INTERNAL). */
xq_status verify_arguments(verify_memory *m, int implementation, int *refused, error *err);

#endif
