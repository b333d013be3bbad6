/* Projections as products of two factors (method.md §2): W ≈ U·A, U with orthonormal columns, A = Σ·Bᵀ. */
#ifndef PREPARE_SVD_H
#define PREPARE_SVD_H

#include "../runtime/base/error.h"

/* w [rows, cols] → u [rows, rank], a [rank, cols], row major; singular values in falling order, computed
 * in double precision. A component's sign is free: here the largest entry of each row of A (the first of
 * several) is positive, so that the same W gives the same factors everywhere.
 * *lost (may be NULL): ‖W - U·A‖ / ‖W‖ (Frobenius) of exact factors, 0 at full rank.
 * Errors: XQ_ERROR_ARGUMENT for a rank outside 1 .. min(rows, cols); XQ_ERROR_MEMORY;
 * XQ_ERROR_INTERNAL when LAPACK does not converge (finite matrices do). */
xq_status svd_factor(const float *w, int rows, int cols, int rank, float *u, float *a, double *lost,
                     error *err);

#endif
