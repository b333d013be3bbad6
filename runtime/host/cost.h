/* Checks the cost matrices that feedback takes (feedback.h). The columns are divided into blocks, and each
 * block has a symmetric matrix for the errors of its columns. */
#ifndef RUNTIME_HOST_COST_H
#define RUNTIME_HOST_COST_H

#include "../base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Checks cost [cols, block], where block divides cols: all entries are finite, and each block is symmetric
 * and positive semidefinite, within rounding to f32. `err` has the field, and the first entry or the rows
 * that fail. */
bool cost_check(const char *field, const float *cost, int64_t cols, int64_t block, error *err);

#endif
