/* Coordinates in which a row quantizes well, from what is known of such rows (docs/prepare.md,
 * "Calibrated").
 *
 * Rows y of c values are to be cached as latents z = y·to of `rank` columns, and read as y ≈ z·back, where
 * an error e of y costs eᵀ·M·e. Of all z with errors of one size in every column, those cost least whose
 * directions are the eigenvectors of M½·S·M½ (S the second moment of y), scaled by the fourth root of their
 * eigenvalues. Rotating them among each other then costs nothing, and is used twice:
 *   - what is largest, counting how often it comes and what its errors cost (the mean, the first token's
 *     outlier, then the directions of most variance), becomes a constant over a whole quantization group,
 * one direction a group. The group's offset holds it for free, so that it may be large and its errors
 * small;
 *   - all else is spread evenly over the columns of its group, so that none has outliers.
 * A lower rank leaves out the directions whose loss costs least. */
#ifndef PREPARE_BASIS_H
#define PREPARE_BASIS_H

#include "../runtime/base/error.h"

#include <stdbool.h>

typedef struct basis_problem {
    int size, rank;       /* c; columns of the latent, at most c */
    const double *second; /* [c, c], S, about zero: what is large in every row counts */
    const double *metric; /* [c, c], M */
    bool feedback;        /* errors are fed back: costs may then differ more, and the spread less */
    int segments;         /* quantization groups that the latent's columns fall into */
    const int *widths;    /* [segments], columns of each */
} basis_problem;

/* to [c, rank], back [rank, c], row major; back·to is the identity, and to·back is at full rank.
 * Errors: XQ_ERROR_ARGUMENT for matrices that are zero or hold NaN; XQ_ERROR_MEMORY; XQ_ERROR_INTERNAL when
 * LAPACK does not converge. */
xq_status basis_calibrate(const basis_problem *problem, double *to, double *back, error *err);

#endif
