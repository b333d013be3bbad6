#include "basis.h"

#include "rotation.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The two shrinkages are shares of a matrix's mean diagonal entry. They are added to its diagonal, so that
 * directions which few rows showed, or which cost almost nothing, still count a little. Eigenvalues are
 * raised to at least least_eigenvalue times the greatest one. */
static const double shrinkage_of_rows = 1e-4, shrinkage_of_costs = 1e-3, least_eigenvalue = 1e-7;

/* The part of an eigenvalue, as an exponent, that goes into the variance of its latent; the cost of the
 * latent's errors gets the rest. Feedback works best with costs that differ, so it leaves more of the
 * difference in them (docs/prepare.md). */
static const double share = 0.5, share_with_feedback = 0.35;

/* How much larger a constant direction is made than its share of the spread. A group's offset holds the
 * constant at any size, and the larger the constant, the less its errors cost. But matrices that multiply
 * latents must then cancel it more exactly: 4 is about the most that 8-bit weights allow. */
static const double constant_scale = 4;

static xq_status no_memory(int n, error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for matrices of %d x %d", n, n);
}

/* out [m, n] = a [m, k] · b [k, n]; with `transposed`, a is stored as [k, m]. */
static void multiply(const double *a, bool transposed, const double *b, int m, int k, int n, double *out)
{
    cblas_dgemm(CblasRowMajor, transposed ? CblasTrans : CblasNoTrans, CblasNoTrans, m, n, k, 1, a,
                transposed ? m : k, b, n, 0, out, n);
}

/* ---------------------------------------------------------------- eigenvectors */

/* An eigenvector's sign is free: this makes its largest entry (the first of several) positive. */
static void fix_sign(double *vector, int n)
{
    int most = 0;
    for (int i = 1; i < n; i++)
        if (fabs(vector[i]) > fabs(vector[most]) * (1 + 1e-9))
            most = i;
    if (vector[most] < 0)
        cblas_dscal(n, -1, vector, 1);
}

/* Replaces the symmetric a [n, n] by its eigenvectors, one in each row, and sets values [n]; both in
 * falling order. */
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

/* Copies a [n, n] to `to`, with a slightly larger diagonal. */
static void shrink(const double *a, int n, double shrinkage, double *to)
{
    double trace = 0;
    memcpy(to, a, sizeof *to * (size_t)n * (size_t)n);
    for (int i = 0; i < n; i++)
        trace += a[(size_t)i * (size_t)n + (size_t)i];
    for (int i = 0; i < n; i++)
        to[(size_t)i * (size_t)n + (size_t)i] += shrinkage * trace / n;
}

/* out = Eᵀ·diag(values^power)·E, where E has the eigenvectors as rows. `room` is scratch of the same
 * size. */
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

/* Scratch: square matrices of the problem's size, and eigenvalues. */
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

/* The factor that scales direction k, whose eigenvalue is `value`. Before scaling, an error of size 1 in
 * its coordinate costs 1. */
static double scale_of(const basis_problem *p, int k, double value)
{
    double spread = pow(value, (p->feedback ? share_with_feedback : share) / 2);
    return spread / sqrt(value) * (k < p->segments ? constant_scale : 1);
}

/* Finds the most important directions, in falling order. Row k of r->a [rank, c] gives coordinate k of a
 * row y (their product); a row is rebuilt as the sum of its coordinates times the rows of r->b [rank,
 * c]. */
static xq_status find_directions(const basis_problem *p, struct room *r, error *err)
{
    const int c = p->size;
    shrink(p->metric, c, shrinkage_of_costs, r->vectors);
    if (decompose(r->vectors, c, r->values, err) != XQ_OK)
        return err->status;
    power_of(r->vectors, r->values, c, 0.5, r->a, r->root);
    power_of(r->vectors, r->values, c, -0.5, r->a, r->inverse);
    shrink(p->second, c, shrinkage_of_rows, r->a);
    multiply(r->root, false, r->a, c, c, c, r->b);
    multiply(r->b, false, r->root, c, c, c, r->vectors);
    if (decompose(r->vectors, c, r->values, err) != XQ_OK)
        return err->status;
    multiply(r->vectors, false, r->root, p->rank, c, c, r->a);
    multiply(r->vectors, false, r->inverse, p->rank, c, c, r->b);
    for (int k = 0; k < p->rank; k++) {
        double scale = scale_of(p, k, r->values[k]);
        cblas_dscal(c, scale, r->a + (size_t)k * (size_t)c, 1);
        cblas_dscal(c, 1 / scale, r->b + (size_t)k * (size_t)c, 1);
    }
    return XQ_OK;
}

/* ---------------------------------------------------------------- placement */

/* Entry i of vector j of n orthonormal vectors. Vector 0 is constant, and no entry is larger than √(2/n).
 * The vectors are the Hadamard matrix of the largest power of two that divides n, times the cosine
 * transform of the remaining factor. */
static double even_entry(int n, int j, int i)
{
    int size = n & -n, rest = n / size;
    double hadamard = __builtin_parity((unsigned)(j / rest & i / rest)) ? -1 : 1;
    int frequency = j % rest;
    return hadamard / sqrt(size) * sqrt((frequency ? 2.0 : 1.0) / rest) *
           cos(M_PI * (i % rest + 0.5) * frequency / rest);
}

/* Direction k gets vector *vector of segment *segment. The first directions get the constant vectors, one
 * in each segment. The others are dealt out in turns, to each segment in proportion to its width. */
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

/* placement [rank, rank]: row k is the vector of direction k. */
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

xq_status basis_calibrate(const basis_problem *p, double *to, double *back, error *err)
{
    const int c = p->size, rank = p->rank;
    int *used = malloc(sizeof *used * (size_t)p->segments);
    struct room r = {0};
    if (!used || !room_create(&r, c)) {
        no_memory(c, err);
    } else if (find_directions(p, &r, err) == XQ_OK) {
        make_placement(p, used, r.vectors);
        multiply(r.a, true, r.vectors, c, rank, rank, to);
        multiply(r.vectors, true, r.b, rank, rank, c, back);
    }
    free(r.root);
    free(used);
    return err->status;
}
