#include "factor.h"

#include "rotation.h"
#include "svd.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static xq_status no_memory(const factor_shape *s, error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for factors of a %d x %d matrix",
                     s->rows, s->cols);
}

/* x [rows, n] ← x·R; with `transposed`, x is [n, rows] and becomes Rᵀ·x. */
static xq_status rotate(float *x, int rows, int n, bool transposed, error *err)
{
    size_t count = (size_t)rows * (size_t)n;
    double *wide = malloc(sizeof *wide * count);
    if (!wide)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a rotation");
    for (size_t i = 0; i < count; i++) {
        size_t row = i / (size_t)n, col = i % (size_t)n;
        wide[i] = x[transposed ? col * (size_t)rows + row : i];
    }
    if (rotation_apply(wide, rows, n, err) == XQ_OK)
        for (size_t i = 0; i < count; i++) {
            size_t row = i / (size_t)n, col = i % (size_t)n;
            x[transposed ? col * (size_t)rows + row : i] = (float)wide[i];
        }
    free(wide);
    return err->status;
}

/* These copy `cols` columns from a matrix of `stride` columns to a matrix of `cols` columns, and back. The
 * pointer into the wider matrix points to the first of the columns. */
static void take_columns(float *to, const float *from, int rows, int cols, int stride)
{
    for (int r = 0; r < rows; r++)
        memcpy(to + (size_t)r * (size_t)cols, from + (size_t)r * (size_t)stride, sizeof *to * (size_t)cols);
}

static void put_columns(float *to, const float *from, int rows, int cols, int stride)
{
    for (int r = 0; r < rows; r++)
        memcpy(to + (size_t)r * (size_t)stride, from + (size_t)r * (size_t)cols, sizeof *to * (size_t)cols);
}

static double energy(const float *w, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)w[i] * w[i];
    return sum;
}

/* Multiplies column k of u by √σ and row k of a by 1/√σ, where σ is the length of a's row k divided by the
 * mean length of a's rows. An error in any column then costs the same, so that columns may be rotated into
 * each other. */
static void balance(int rows, int rank, int cols, float *u, float *a)
{
    double mean = 0;
    for (int k = 0; k < rank; k++)
        mean += sqrt(energy(a + (size_t)k * (size_t)cols, (size_t)cols)) / rank;
    for (int k = 0; k < rank; k++) {
        float *row = a + (size_t)k * (size_t)cols;
        double sigma = sqrt(energy(row, (size_t)cols)) / mean;
        if (!(sigma > 1e-6)) /* the row is zero or almost zero */
            continue;
        for (int i = 0; i < rows; i++)
            u[(size_t)i * (size_t)rank + (size_t)k] *= (float)sqrt(sigma);
        for (int j = 0; j < cols; j++)
            row[j] /= (float)sqrt(sigma);
    }
}

/* Changes the factors of one group to balanced and rotated coordinates: u [rows, rank], a [rank, cols]. */
static xq_status spread_block(const factor_shape *s, float *u, float *a, error *err)
{
    int cols = s->cols / s->groups, rank = s->rank / s->groups;
    if (!s->rotated)
        return XQ_OK;
    balance(s->rows, rank, cols, u, a);
    if (rotate(u, s->rows, rank, false, err) == XQ_OK)
        rotate(a, cols, rank, true, err);
    return err->status;
}

xq_status factor_latent(const factor_shape *s, const float *w, float *u, float *a, double *lost, error *err)
{
    int cols = s->cols / s->groups, rank = s->rank / s->groups;
    size_t w_count = (size_t)s->rows * (size_t)cols, u_count = (size_t)s->rows * (size_t)rank;
    float *block = malloc(sizeof *block * (w_count + u_count + (size_t)rank * (size_t)cols));
    double all = 0, dropped = 0;
    if (!block)
        return no_memory(s, err);
    float *block_u = block + w_count, *block_a = block_u + u_count;
    for (int g = 0; g < s->groups && err->status == XQ_OK; g++) {
        double part;
        take_columns(block, w + (size_t)g * (size_t)cols, s->rows, cols, s->cols);
        if (svd_factor(block, s->rows, cols, rank, block_u, block_a, &part, err) != XQ_OK)
            break;
        if (spread_block(s, block_u, block_a, err) != XQ_OK)
            break;
        put_columns(u + (size_t)g * (size_t)rank, block_u, s->rows, rank, s->rank);
        put_columns(a + (size_t)g * (size_t)cols, block_a, rank, cols, s->cols);
        all += energy(block, w_count);
        dropped += part * part * energy(block, w_count);
    }
    free(block);
    if (lost && err->status == XQ_OK)
        *lost = all > 0 ? sqrt(dropped / all) : 0;
    return err->status;
}

xq_status factor_spread(const factor_shape *s, float *u, float *a, error *err)
{
    int cols = s->cols / s->groups, rank = s->rank / s->groups;
    size_t u_count = (size_t)s->rows * (size_t)rank;
    float *block_u = malloc(sizeof *block_u * (u_count + (size_t)rank * (size_t)cols));
    if (!block_u)
        return no_memory(s, err);
    float *block_a = block_u + u_count;
    for (int g = 0; g < s->groups && s->rotated; g++) {
        take_columns(block_u, u + (size_t)g * (size_t)rank, s->rows, rank, s->rank);
        take_columns(block_a, a + (size_t)g * (size_t)cols, rank, cols, s->cols);
        if (spread_block(s, block_u, block_a, err) != XQ_OK)
            break;
        put_columns(u + (size_t)g * (size_t)rank, block_u, s->rows, rank, s->rank);
        put_columns(a + (size_t)g * (size_t)cols, block_a, rank, cols, s->cols);
    }
    free(block_u);
    return err->status;
}

/* ---------------------------------------------------------------- rotated activations */

/* LAPACK reads the row-major u as uᵀ, and the rows of x as the columns of xᵀ. It solves uᵀ·yᵀ = xᵀ. */
xq_status factor_turn_back(const float *u, int n, int64_t rows, double *x, error *err)
{
    size_t count = (size_t)n * (size_t)n;
    double *wide = malloc(sizeof *wide * count);
    lapack_int *pivots = malloc(sizeof *pivots * (size_t)n);
    if (!wide || !pivots) {
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a rotation of %d channels", n);
    } else {
        for (size_t i = 0; i < count; i++)
            wide[i] = u[i];
        lapack_int info = LAPACKE_dgesv(LAPACK_COL_MAJOR, n, (lapack_int)rows, wide, n, pivots, x, n);
        if (info != 0)
            error_set(err, info > 0 ? XQ_ERROR_ARGUMENT : XQ_ERROR_INTERNAL, "argument",
                      "uk [%d, %d] has no inverse (LAPACK dgesv: %d)", n, n, (int)info);
    }
    free(wide);
    free(pivots);
    return err->status;
}

xq_status factor_joint(const factor_shape *s, const float *wk, const float *wv, float *u, double *lost,
                       error *err)
{
    size_t rows = (size_t)s->rows, both = 2 * (size_t)s->cols;
    float *w = malloc(sizeof *w * (rows + (size_t)s->rank) * both);
    if (!w)
        return no_memory(s, err);
    put_columns(w, wk, s->rows, s->cols, (int)both);
    put_columns(w + s->cols, wv, s->rows, s->cols, (int)both);
    if (svd_factor(w, s->rows, (int)both, s->rank, u, w + rows * both, lost, err) == XQ_OK && s->rotated)
        rotate(u, s->rows, s->rank, false, err);
    free(w);
    return err->status;
}
