/* Weights as kernels see them: rounded to the type they are packed in. */
#ifndef AUTOTUNE_REFERENCE_SEEN_H
#define AUTOTUNE_REFERENCE_SEEN_H

#include "rounding.h"

#include <stdbool.h>

/* The caller's matrix `source` ("wk", "wv", "ak" or "av") of a plan with this completed spec: w [rows,
 * cols] → out, exact. 8-bit types have a scale for each packed column: of a rematerialized column of K, its
 * own; of the columns that the fused kernel absorbs into the query, which are packed transposed, one a row.
 * *type (may be NULL): what they are packed in. Errors: XQ_ERROR_SPEC, XQ_ERROR_MEMORY. */
xq_status seen_matrix(const char *completed_json, xq_implementation implementation, const char *source,
                      const float *w, size_t rows, size_t cols, double *out, rounding_type *type,
                      error *err);

/* Whether all implementations see the same matrices: where no column of K is absorbed, or weights are
 * rounded without scales. */
bool seen_alike(const char *completed_json);

#endif
