/* Weights as kernels see them: rounded to the type in which they are packed. */
#ifndef AUTOTUNE_REFERENCE_SEEN_H
#define AUTOTUNE_REFERENCE_SEEN_H

#include "rounding.h"

#include <stdbool.h>

/* Rounds the caller's matrix `source` ("wk", "wv", "ak" or "av") for a plan with this completed spec: w
 * [rows, cols] → out, exact. 8-bit types have one scale for each packed column. A rematerialized column of
 * K has its own scale. The columns of K that the fused kernel absorbs into the query are packed transposed,
 * so each of their rows has a scale. *type (may be NULL) is the type in which the matrix is packed. Errors:
 * XQ_ERROR_SPEC, XQ_ERROR_MEMORY. */
xq_status seen_matrix(const char *completed_json, xq_implementation implementation, const char *source,
                      const float *w, size_t rows, size_t cols, double *out, rounding_type *type,
                      error *err);

/* Whether all implementations see the same matrices: no column of K is absorbed, or weights are rounded
 * without scales. */
bool seen_alike(const char *completed_json);

#endif
