/* Compares a case with the reference: the caches that it filled, and its outputs. */
#ifndef AUTOTUNE_VERIFY_CHECKS_H
#define AUTOTUNE_VERIFY_CHECKS_H

#include "memory.h"

/* Checks the values that a round of appending cached for a layer. `before` holds the accumulator as append
 * found it; NULL for a first layer. */
xq_status verify_check_append(const verify_state *v, const case_shape *shape, int layer, int round,
                              const verify_snapshot *after, const verify_snapshot *before,
                              verify_result *result, error *err);

/* Checks the accumulator after a layer's deltas were added. */
xq_status verify_check_accumulate(const verify_state *v, const case_shape *shape, int layer, int round,
                                  const verify_snapshot *after, const verify_snapshot *before,
                                  verify_result *result, error *err);

/* Checks the output of attention over a layer's cache. */
xq_status verify_check_attend(const verify_state *v, const case_shape *shape, int implementation, int layer,
                              const verify_snapshot *cache, const double *out, const float *lse,
                              verify_result *result, error *err);

/* Checks fp16 KV pages against exact keys and values. */
xq_status verify_check_kv(const verify_state *v, const case_shape *shape, const verify_snapshot *cache,
                          verify_result *result, error *err);

#endif
