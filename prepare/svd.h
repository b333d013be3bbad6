/* Factors of projections (method.md §2): W ≈ U·A, where U has orthonormal columns, and A = Σ·Bᵀ. */
#ifndef PREPARE_SVD_H
#define PREPARE_SVD_H

#include "../runtime/base/error.h"

/* Factors w [rows, cols] into u [rows, rank] and a [rank, cols], row major, in double precision. Singular
 * values are in falling order. A component's sign is free: here the largest entry of each row of A (the
 * first of several) is positive, so that the same W gives the same factors everywhere. *lost (may be NULL)
 * is ‖W - U·A‖ / ‖W‖ (Frobenius norm) of the exact factors, 0 at full rank. Errors: XQ_ERROR_ARGUMENT for a
 * rank outside 1 .. min(rows, cols), or for a NaN in W; XQ_ERROR_MEMORY; XQ_ERROR_INTERNAL if LAPACK does
 * not converge (for finite matrices it does). */
xq_status svd_factor(const float *w, int rows, int cols, int rank, float *u, float *a, double *lost,
                     error *err);

#endif
