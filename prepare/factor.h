/* Projections as the factors that the cache methods want (docs/method.md §2, §4). Row major, f32; the
 * algebra runs in double precision. With `rotated`, R (rotation.h) is folded in: U·R and Rᵀ·A; of
 * method latent U·Σ½·R and Rᵀ·Σ^-½·A, so that errors of all columns cost the same.
 * *lost (may be NULL): what a rank below the full one loses of W, relative (Frobenius); 0 at full rank.
 * Errors: those of svd_factor. */
#ifndef PREPARE_FACTOR_H
#define PREPARE_FACTOR_H

#include "../runtime/base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Method latent: w [rows, cols] in `groups` blocks of columns, each an SVD of its own of rank / groups.
 * u [rows, rank]: the groups' factors side by side; a [rank / groups, cols]. */
typedef struct factor_shape {
    int rows, cols, groups, rank;
    bool rotated;
} factor_shape;
xq_status factor_latent(const factor_shape *shape, const float *w, float *u, float *a, double *lost,
                        error *err);

/* The coordinates that factor_latent chooses, for factors that are orthogonal already (u's columns and a's
 * rows, in each group): their columns are balanced and rotated, in place. Nothing where not `rotated`. */
xq_status factor_spread(const factor_shape *shape, float *u, float *a, error *err);

/* Back from the coordinates of an invertible u [n, n]: x [rows, n] ← x·u⁻¹. Errors: XQ_ERROR_ARGUMENT for a
 * u that is singular, XQ_ERROR_MEMORY. */
xq_status factor_turn_back(const float *u, int n, int64_t rows, double *x, error *err);

/* Method latent-cl: u [rows, rank], orthonormal columns that span [Wk | Wv] (wk, wv [rows, cols]) best. */
xq_status factor_joint(const factor_shape *shape, const float *wk, const float *wv, float *u, double *lost,
                       error *err);

#endif
