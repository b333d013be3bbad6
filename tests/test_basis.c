/* Calibrated coordinates: exact at full rank, constant where rows are large, even elsewhere. */
#include "../autotune/random.h"
#include "../prepare/basis.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { C = 96, ROWS = 600 };

/* Rows with a mean, one direction of much variance, and noise; their moments. */
struct rows {
    double y[ROWS][C], mean[C], covariance[C * C], second[C * C], metric[C * C];
};

static struct rows *make_rows(uint64_t seed)
{
    struct rows *r = calloc(1, sizeof *r);
    double offset[C], direction[C];
    random_stream s = random_begin(seed, 0);
    for (int i = 0; i < C; i++) {
        offset[i] = 3 * random_normal(&s);
        direction[i] = random_normal(&s);
        r->metric[i * C + i] = exp(random_normal(&s));
    }
    for (int t = 0; t < ROWS; t++) {
        double along = 4 * random_normal(&s);
        for (int i = 0; i < C; i++) {
            r->y[t][i] = offset[i] + along * direction[i] + exp(-0.05 * i) * random_normal(&s);
            r->mean[i] += r->y[t][i] / ROWS;
        }
    }
    for (int t = 0; t < ROWS; t++)
        for (int i = 0; i < C; i++)
            for (int j = 0; j < C; j++) {
                r->second[i * C + j] += r->y[t][i] * r->y[t][j] / ROWS;
                r->covariance[i * C + j] += (r->y[t][i] - r->mean[i]) * (r->y[t][j] - r->mean[j]) / ROWS;
            }
    return r;
}

static void calibrate(const struct rows *r, int rank, int segments, const int *widths, double *to, double *back)
{
    const basis_problem problem = {C, rank, r->covariance, r->second, r->metric, segments, widths};
    error err = ERROR_INIT;
    cr_assert_eq(basis_calibrate(&problem, to, back, &err), XQ_OK, "%s", err.message);
}

Test(basis, full_rank_loses_nothing)
{
    static double to[C * C], back[C * C];
    static const int widths[] = {64, 32};
    struct rows *r = make_rows(1);
    calibrate(r, C, 2, widths, to, back);
    for (int i = 0; i < C; i++)
        for (int j = 0; j < C; j++) {
            double sum = 0;
            for (int k = 0; k < C; k++)
                sum += to[i * C + k] * back[k * C + j];
            cr_assert_float_eq(sum, i == j, 1e-8, "%d, %d: %g", i, j, sum);
        }
    free(r);
}
