/* Arguments of the simulation (xq_simulate_...). Each returns whether they are good, and fills `err`, with
 * the field and what would be valid, when they are not. */
#ifndef RUNTIME_HOST_SIMULATE_CHECK_H
#define RUNTIME_HOST_SIMULATE_CHECK_H

#include "../base/error.h"
#include "../base/weights.h"

#include <stdbool.h>

/* A format for rows of `width` values; *q receives it whole. */
bool simulate_check_quantizer(const xq_quantizer *given, int64_t width, xq_quantizer *q, error *err);

/* For xq_simulate_feedback, of a good quantizer: all but the values of `a`. */
bool simulate_check_feedback(const xq_quantizer *q, int64_t cols, const float *a, int64_t block,
                             const float *cost, error *err);

/* Values [rows, cols] are finite, and smaller than `limit`. */
bool simulate_check_values(const char *field, const float *values, int64_t rows, int64_t cols, float limit,
                           error *err);

bool simulate_check_weights(const char *type, int64_t rows, int64_t cols, enum weight_type *t, error *err);

#endif
