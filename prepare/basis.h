/* Coordinates in which a row quantizes well, derived from the moments of such rows (docs/prepare.md,
 * "Calibrated").
 *
 * Rows y of c values are to be cached as latents z = y·to of `rank` columns, and read as y ≈ z·back. An
 * error e of y costs eᵀ·M·e. If z has errors of one size in every column, the cost is least where z's
 * directions are the eigenvectors of M½·S·M½ (S is the second moment of y), scaled by the fourth root of
 * their eigenvalues. Rotating these directions among each other then costs nothing. Rotations serve two
 * purposes:
 *   - The largest directions, counting how often they occur and what their errors cost (the mean, the first
 *     token's outlier, then the directions of most variance), become constants over a whole quantization
 *     group, one direction for each group. The group's offset stores a constant at no cost, so the constant
 *     may be large and its errors small.
 *   - All other directions are spread evenly over the columns of their group, so that no column has
 *     outliers.
 *
 * A lower rank leaves out the directions whose loss costs least. */
#ifndef PREPARE_BASIS_H
#define PREPARE_BASIS_H

#include "../runtime/base/error.h"

#include <stdbool.h>

typedef struct basis_problem {
    int size, rank;       /* c; columns of the latent, at most c */
    const double *second; /* [c, c], S, moments about zero: a component that is large in every row counts */
    const double *metric; /* [c, c], M */
    bool feedback;        /* errors are fed back: then costs may differ more, and the spread less */
    int segments;         /* quantization groups into which the latent's columns fall */
    const int *widths;    /* [segments], columns of each group */
} basis_problem;

/* to is [c, rank] and back [rank, c], row major. back·to is the identity; to·back is the identity at full
 * rank. Errors: XQ_ERROR_ARGUMENT for matrices that are zero or hold NaN; XQ_ERROR_MEMORY;
 * XQ_ERROR_INTERNAL if LAPACK does not converge. */
xq_status basis_calibrate(const basis_problem *problem, double *to, double *back, error *err);

#endif
