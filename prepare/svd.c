#include "svd.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

/* LAPACK is column major. It reads our row-major W [rows, cols] as Wᵀ = B·Σ·Uᵀ. The left factor B has
 * column k at b + k·cols; the right factor Uᵀ is our row-major U [rows, least]. So no copy has to be
 * transposed. */
struct decomposition {
    double *w, *s, *b, *ut;
    int least; /* min(rows, cols) */
};

static void release(struct decomposition *d)
{
    free(d->w);
    free(d->s);
    free(d->b);
    free(d->ut);
}

static xq_status decompose(const float *w, int rows, int cols, struct decomposition *d, error *err)
{
    size_t count = (size_t)rows * (size_t)cols, least = (size_t)d->least;
    d->w = malloc(sizeof *d->w * count);
    d->s = malloc(sizeof *d->s * least);
    d->b = malloc(sizeof *d->b * (size_t)cols * least);
    d->ut = malloc(sizeof *d->ut * (size_t)rows * least);
    if (!d->w || !d->s || !d->b || !d->ut)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for an SVD of %d x %d", rows,
                         cols);
    for (size_t i = 0; i < count; i++)
        d->w[i] = w[i];
    lapack_int info =
        LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', cols, rows, d->w, cols, d->s, d->b, cols, d->ut, d->least);
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR)
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for an SVD of %d x %d", rows,
                         cols);
    if (info < 0)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "the matrix of an SVD holds NaN");
    if (info > 0)
        return error_set(err, XQ_ERROR_INTERNAL, "argument", "the SVD of a %d x %d matrix did not converge",
                         rows, cols);
    return XQ_OK;
}

/* The sign that makes the largest entry of column k of B positive. */
static double sign_of(const double *column, int count)
{
    int most = 0;
    for (int j = 1; j < count; j++)
        if (fabs(column[j]) > fabs(column[most]) * (1 + 1e-9))
            most = j;
    return column[most] < 0 ? -1 : 1;
}

xq_status svd_factor(const float *w, int rows, int cols, int rank, float *u, float *a, double *lost,
                     error *err)
{
    struct decomposition d = {.least = rows < cols ? rows : cols};
    if (rank < 1 || rank > d.least)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument",
                         "rank %d of a %d x %d matrix is not valid; valid: 1 to %d", rank, rows, cols,
                         d.least);
    if (decompose(w, rows, cols, &d, err) == XQ_OK) {
        double all = 0, dropped = 0;
        for (int k = 0; k < d.least; k++) {
            all += d.s[k] * d.s[k];
            dropped += k >= rank ? d.s[k] * d.s[k] : 0;
        }
        for (int k = 0; k < rank; k++) {
            const double *column = d.b + (size_t)k * (size_t)cols;
            double sign = sign_of(column, cols);
            for (int j = 0; j < cols; j++)
                a[(size_t)k * (size_t)cols + (size_t)j] = (float)(sign * d.s[k] * column[j]);
            for (int i = 0; i < rows; i++)
                u[(size_t)i * (size_t)rank + (size_t)k] =
                    (float)(sign * d.ut[(size_t)i * (size_t)d.least + (size_t)k]);
        }
        if (lost)
            *lost = all > 0 ? sqrt(dropped / all) : 0;
    }
    release(&d);
    return err->status;
}
