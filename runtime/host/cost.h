/* The cost of errors of columns, together with errors of other columns, as feedback takes it (feedback.h):
 * symmetric blocks. */
#ifndef RUNTIME_HOST_COST_H
#define RUNTIME_HOST_COST_H

#include "../base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Checks cost [cols, block], where block divides cols: all entries are finite, and each block is symmetric
 * and positive semidefinite, within rounding to f32. `err` has the field and the first entry that fails. */
bool cost_check(const char *field, const float *cost, int64_t cols, int64_t block, error *err);

#endif
