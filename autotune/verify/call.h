/* The calls of a verification case: good ones, and bad ones. */
#ifndef AUTOTUNE_VERIFY_CALL_H
#define AUTOTUNE_VERIFY_CALL_H

#include "memory.h"

xq_status verify_call_append(verify_memory *m, int implementation, int layer, int round, error *err);
xq_status verify_call_accumulate(verify_memory *m, int implementation, int layer, int round, error *err);

/* Attends, twice on the same workspace; out [queries, heads, head_dim] and lse [queries, heads] of the
 * second time. */
xq_status verify_call_attend(verify_memory *m, int implementation, int layer, double *out, float *lse,
                             error *err);

/* Calls with one bad argument each; all must be refused with the argument's name. Adds
 * to *refused; the first that is not is an error (XQ_ERROR_INTERNAL). */
xq_status verify_arguments(verify_memory *m, int implementation, int *refused, error *err);

#endif
