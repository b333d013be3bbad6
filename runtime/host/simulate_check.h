/* Checks of the arguments of the simulation (xq_simulate_...). Each returns whether the arguments are
 * good; if they are not, it fills `err` with the field and what would be valid. */
#ifndef RUNTIME_HOST_SIMULATE_CHECK_H
#define RUNTIME_HOST_SIMULATE_CHECK_H

#include "../base/error.h"
#include "../base/weights.h"

#include <stdbool.h>

/* Checks a quantizer for rows of `width` values; *q receives the complete descriptor. */
bool simulate_check_quantizer(const xq_quantizer *given, int64_t width, xq_quantizer *q, error *err);

/* Checks the arguments of xq_simulate_feedback, for a good quantizer; it does not check the values of
 * `a`. */
bool simulate_check_feedback(const xq_quantizer *q, int64_t cols, const float *a, int64_t block,
                             const float *cost, error *err);

/* Checks that values [rows, cols] are finite, with magnitudes below `limit`. */
bool simulate_check_values(const char *field, const float *values, int64_t rows, int64_t cols, float limit,
                           error *err);

bool simulate_check_weights(const char *type, int64_t rows, int64_t cols, enum weight_type *t, error *err);

#endif
