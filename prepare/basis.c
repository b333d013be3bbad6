#include "basis.h"

#include "rotation.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is added to the diagonal, of its mean, so that directions which few rows showed count a little; and
 * the least eigenvalue, of the greatest, that is told from zero. */
static const double shrinkage = 1e-3, least_eigenvalue = 1e-7;

/* Of the eigenvalues, as an exponent, what the spread of the latents has; the cost of their errors has the
 * rest. Feedback makes the most of costs that differ, so that less of them need be evened out
 * (docs/prepare.md). */
static const double share_with_feedback = 0.35;

static xq_status no_memory(int n, error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for matrices of %d x %d", n, n);
}

/* out [m, n] = a [m, k] · b [k, n]; with `transposed`, a is [k, m]. */
static void multiply(const double *a, bool transposed, const double *b, int m, int k, int n, double *out)
{
    cblas_dgemm(CblasRowMajor, transposed ? CblasTrans : CblasNoTrans, CblasNoTrans, m, n, k, 1, a,
                transposed ? m : k, b, n, 0, out, n);
}

/* out [n, n] = tᵀ·a·t of t [c, n]; `room` [c, n]. */
static void within(const double *a, const double *t, int c, int n, double *room, double *out)
{
    multiply(a, false, t, c, c, n, room);
    multiply(t, true, room, n, c, n, out);
}

/* ---------------------------------------------------------------- eigenvectors */

/* An eigenvector's sign is free: its largest entry (the first of several) is positive. */
static void fix_sign(double *vector, int n)
{
    int most = 0;
    for (int i = 1; i < n; i++)
        if (fabs(vector[i]) > fabs(vector[most]) * (1 + 1e-9))
            most = i;
    if (vector[most] < 0)
        cblas_dscal(n, -1, vector, 1);
}

/* The symmetric a [n, n] becomes its eigenvectors, one a row; values [n]; both in falling order. */
static xq_status decompose(double *a, int n, double *values, error *err)
{
    lapack_int info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', n, a, n, values);
    if (info == LAPACK_WORK_MEMORY_ERROR)
        return no_memory(n, err);
    if (info < 0)
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "moments of activations hold NaN");
    if (info > 0)
        return error_set(err, XQ_ERROR_INTERNAL, "argument", "eigenvectors of %d x %d did not converge", n,
                         n);
    for (int i = 0; i < n / 2; i++) {
        double *low = a + (size_t)i * (size_t)n, *high = a + (size_t)(n - 1 - i) * (size_t)n,
               value = values[i];
        values[i] = values[n - 1 - i];
        values[n - 1 - i] = value;
        for (int j = 0; j < n; j++) {
            double entry = low[j];
            low[j] = high[j];
            high[j] = entry;
        }
    }
    if (!(values[0] > 0))
        return error_set(err, XQ_ERROR_ARGUMENT, "argument", "moments of activations are zero");
    for (int i = 0; i < n; i++) {
        values[i] = fmax(values[i], values[0] * least_eigenvalue);
        fix_sign(a + (size_t)i * (size_t)n, n);
    }
    return XQ_OK;
}

/* to [n, n] = a, its diagonal a little larger. */
static void shrink(const double *a, int n, double *to)
{
    double trace = 0;
    memcpy(to, a, sizeof *to * (size_t)n * (size_t)n);
    for (int i = 0; i < n; i++)
        trace += a[(size_t)i * (size_t)n + (size_t)i];
    for (int i = 0; i < n; i++)
        to[(size_t)i * (size_t)n + (size_t)i] += shrinkage * trace / n;
}

/* out = Eᵀ·diag(values^power)·E; `room` as large. */
static void power_of(const double *vectors, const double *values, int n, double power, double *room,
                     double *out)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            room[(size_t)i * (size_t)n + (size_t)j] =
                vectors[(size_t)i * (size_t)n + (size_t)j] * pow(values[i], power);
    multiply(vectors, true, room, n, n, n, out);
}

/* ---------------------------------------------------------------- directions */

/* Square matrices of the problem's size, and eigenvalues. */
struct room {
    double *root, *inverse, *vectors, *a, *b, *values;
};

static bool room_create(struct room *r, int n)
{
    size_t count = (size_t)n * (size_t)n;
    r->root = malloc(sizeof *r->root * (5 * count + (size_t)n));
    if (!r->root)
        return false;
    r->inverse = r->root + count;
    r->vectors = r->inverse + count;
    r->a = r->vectors + count;
    r->b = r->a + count;
    r->values = r->b + count;
    return true;
}

/* t [c, rank] and back [rank, c]: the directions that cost least, most important first. */
static xq_status find_directions(const basis_problem *p, struct room *r, double *t, double *back,
                                 error *err)
{
    const int c = p->size;
    shrink(p->covariance, c, r->vectors);
    if (decompose(r->vectors, c, r->values, err) != XQ_OK)
        return err->status;
    power_of(r->vectors, r->values, c, 0.5, r->a, r->root);
    power_of(r->vectors, r->values, c, -0.5, r->a, r->inverse);
    shrink(p->metric, c, r->a);
    multiply(r->root, false, r->a, c, c, c, r->b);
    multiply(r->b, false, r->root, c, c, c, r->vectors);
    if (decompose(r->vectors, c, r->values, err) != XQ_OK)
        return err->status;
    for (int k = 0; k < p->rank; k++) {
        double *to = r->a + (size_t)k * (size_t)c, *from = r->b + (size_t)k * (size_t)c;
        double scale = pow(r->values[k], p->feedback ? share_with_feedback / 2 : 0.25);
        for (int i = 0; i < c; i++) {
            to[i] = r->vectors[(size_t)k * (size_t)c + (size_t)i] * scale;
            from[i] = r->vectors[(size_t)k * (size_t)c + (size_t)i] / scale;
        }
    }
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, c, p->rank, c, 1, r->inverse, c, r->a, c, 0, t,
                p->rank);
    multiply(r->b, false, r->root, p->rank, c, c, back);
    return XQ_OK;
}

/* ---------------------------------------------------------------- placement */

/* Entry i of vector j of n orthonormal ones, of which the first is constant and no entry is above √(2/n):
 * Hadamard's matrix of the largest power of two that divides n, times the cosine transform of the rest. */
static double even_entry(int n, int j, int i)
{
    int size = n & -n, rest = n / size;
    double hadamard = __builtin_parity((unsigned)(j / rest & i / rest)) ? -1 : 1;
    int frequency = j % rest;
    return hadamard / sqrt(size) * sqrt((frequency ? 2.0 : 1.0) / rest) *
           cos(M_PI * (i % rest + 0.5) * frequency / rest);
}

/* Direction k goes to vector *vector of segment *segment. The first go to the constants; the others by
 * turns, each segment in proportion to its width. */
static void place(const basis_problem *p, int k, int *used, int *segment, int *vector)
{
    int best = k;
    if (k >= p->segments) {
        best = 0;
        for (int s = 1; s < p->segments; s++)
            if ((int64_t)used[s] * p->widths[best] < (int64_t)used[best] * p->widths[s])
                best = s;
    }
    *segment = best;
    *vector = used[best]++;
}

/* place [rank, rank]: row k is where direction k goes. */
static void make_placement(const basis_problem *p, int *used, double *placement)
{
    memset(placement, 0, sizeof *placement * (size_t)p->rank * (size_t)p->rank);
    memset(used, 0, sizeof *used * (size_t)p->segments);
    for (int k = 0; k < p->rank; k++) {
        int segment, vector, first = 0;
        place(p, k, used, &segment, &vector);
        for (int s = 0; s < segment; s++)
            first += p->widths[s];
        for (int i = 0; i < p->widths[segment]; i++)
            placement[(size_t)k * (size_t)p->rank + (size_t)(first + i)] =
                rotation_sign((uint64_t)k + 1) * even_entry(p->widths[segment], vector, i);
    }
}

/* to [c, rank], back [rank, c]: t and from, turned so that what is large in every row is constant over a
 * segment. */
static xq_status turn(const basis_problem *p, const double *t, const double *from, struct room *r,
                      double *to, double *back, error *err)
{
    const int c = p->size, rank = p->rank;
    int *used = malloc(sizeof *used * (size_t)p->segments);
    if (!used)
        return no_memory(rank, err);
    within(p->second, t, c, rank, r->a, r->vectors);
    if (decompose(r->vectors, rank, r->values, err) == XQ_OK) {
        make_placement(p, used, r->b);
        multiply(r->vectors, true, r->b, rank, rank, rank, r->root); /* the turn */
        multiply(t, false, r->root, c, rank, rank, to);
        multiply(r->root, true, from, rank, rank, c, back);
    }
    free(used);
    return err->status;
}

/* First what is kept: the directions that cost most to lose, about zero, for the mean and the first token's
 * outlier would be lost too. Then the coordinates in it, as of a problem of its own. */
static xq_status calibrate_part(const basis_problem *p, struct room *r, double *t, double *from, double *to,
                                double *back, error *err)
{
    const int c = p->size, n = p->rank;
    const size_t count = (size_t)n * (size_t)n;
    basis_problem whole = *p;
    whole.covariance = p->second;
    if (find_directions(&whole, r, t, from, err) != XQ_OK)
        return err->status;
    double *moments = malloc(sizeof *moments * 5 * count);
    if (!moments)
        return no_memory(n, err);
    double *turned_from = moments + 3 * count, *turned_to = moments + 4 * count;
    within(p->covariance, t, c, n, r->a, moments);
    within(p->second, t, c, n, r->a, moments + count);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, c, n, c, 1, p->metric, c, from, c, 0, r->a, n);
    multiply(from, false, r->a, n, c, n, moments + 2 * count);
    whole = *p;
    whole.size = n;
    whole.covariance = moments;
    whole.second = moments + count;
    whole.metric = moments + 2 * count;
    if (basis_calibrate(&whole, turned_to, turned_from, err) == XQ_OK) {
        multiply(t, false, turned_to, c, n, n, to);
        multiply(turned_from, false, from, n, n, c, back);
    }
    free(moments);
    return err->status;
}

xq_status basis_calibrate(const basis_problem *p, double *to, double *back, error *err)
{
    size_t count = (size_t)p->size * (size_t)p->rank;
    double *t = malloc(sizeof *t * 2 * count);
    struct room room = {0};
    if (!t || !room_create(&room, p->size))
        no_memory(p->size, err);
    else if (p->rank < p->size)
        calibrate_part(p, &room, t, t + count, to, back, err);
    else if (find_directions(p, &room, t, t + count, err) == XQ_OK)
        turn(p, t, t + count, &room, to, back, err);
    free(room.root);
    free(t);
    return err->status;
}
