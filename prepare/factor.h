/* Factors of projections, as the cache methods need them (docs/method.md §2, §4). Matrices are f32 and row
 * major; the algebra runs in double precision. With `rotated`, R (rotation.h) is folded into the factors:
 * U·R and Rᵀ·A; for method latent U·Σ½·R and Rᵀ·Σ^-½·A, so that errors of all columns cost the same. *lost
 * (may be NULL) is the relative part of W that a rank below the full one loses (Frobenius norm); 0 at full
 * rank. Errors: those of svd_factor. */
#ifndef PREPARE_FACTOR_H
#define PREPARE_FACTOR_H

#include "../runtime/base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Method latent: the columns of w [rows, cols] are `groups` blocks, and each block has its own SVD of rank
 * / groups. u [rows, rank] holds the blocks' factors side by side; a is [rank / groups, cols]. */
typedef struct factor_shape {
    int rows, cols, groups, rank;
    bool rotated;
} factor_shape;
xq_status factor_latent(const factor_shape *shape, const float *w, float *u, float *a, double *lost,
                        error *err);

/* Changes factors whose u columns and a rows are already orthogonal in each group to the coordinates that
 * factor_latent chooses: balances and rotates their columns in place. Does nothing unless `rotated`. */
xq_status factor_spread(const factor_shape *shape, float *u, float *a, error *err);

/* Converts from the coordinates of an invertible u [n, n] back: x [rows, n] ← x·u⁻¹. Errors:
 * XQ_ERROR_ARGUMENT for a singular u, XQ_ERROR_MEMORY. */
xq_status factor_turn_back(const float *u, int n, int64_t rows, double *x, error *err);

/* Method latent-cl: the columns of u [rows, rank] are orthonormal and span [Wk | Wv] best (wk, wv [rows,
 * cols]). */
xq_status factor_joint(const factor_shape *shape, const float *wk, const float *wv, float *u, double *lost,
                       error *err);

#endif
