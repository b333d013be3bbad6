/* Computes the errors of a row against double precision. */
#ifndef CLI_COMPARE_CHECK_H
#define CLI_COMPARE_CHECK_H

#include "../autotune/engine/driver.h"
#include "compare.h"

/* Waits for the step of the driver's last layer, and fills three errors over the distinct sequences.
 * kernel_error is against attention over the very same cache: pages, tails and accumulator as they are on
 * the device, weights as packed. method_error is against task->exact. lse_error and
 * lse_abs_error are those of the log-sum-exps, over the same cache. */
xq_status compare_check(const struct compare_task *task, driver *d, struct compare_row *row, error *err);

/* The scales of fp8-kv, from a driver whose last layer is of XQ_FP16_KV and holds the task's texts. */
xq_status compare_find_scales(const struct compare_task *task, driver *d, struct compare_scales *scales,
                              error *err);

#endif
