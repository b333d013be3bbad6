/* What errors of columns cost together, as feedback takes it (feedback.h): symmetric blocks. */
#ifndef RUNTIME_HOST_COST_H
#define RUNTIME_HOST_COST_H

#include "../base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* cost [cols, block], of which block divides cols: finite, symmetric and positive semidefinite, each within
 * rounding to f32. `err` has the field and the first entry that is not. */
bool cost_check(const char *field, const float *cost, int64_t cols, int64_t block, error *err);

#endif
