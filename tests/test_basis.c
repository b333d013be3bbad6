/* Calibrated coordinates: exact at full rank, constant where rows are large, even elsewhere. */
#include "../autotune/random.h"
#include "../prepare/basis.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static void calibrate(const struct rows *r, int rank, int segments, const int *widths, double *to,
                      double *back)
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

Test(basis, what_is_large_in_every_row_is_constant_over_a_group)
{
    static double to[C * C], back[C * C];
    static const int widths[] = {32, 64};
    struct rows *r = make_rows(2);
    double latent[C] = {0}, spread = 0, size = 0;
    calibrate(r, C, 2, widths, to, back);
    for (int i = 0; i < C; i++)
        for (int k = 0; k < C; k++)
            latent[k] += r->mean[i] * to[i * C + k];
    for (int k = 0, s = 0; s < 2; k += widths[s++]) {
        double level = 0;
        for (int i = k; i < k + widths[s]; i++)
            level += latent[i] / widths[s];
        for (int i = k; i < k + widths[s]; i++) {
            spread += pow(latent[i] - level, 2);
            size += pow(latent[i], 2);
        }
    }
    cr_assert_lt(spread, 0.02 * size, "of the mean %g is no constant", spread / size);
    free(r);
}

Test(basis, rows_are_spread_evenly_over_the_columns_of_a_group)
{
    static double to[C * C], back[C * C];
    static const int widths[] = {64, 32};
    struct rows *r = make_rows(3);
    calibrate(r, C, 2, widths, to, back);
    for (int first = 0, s = 0; s < 2; first += widths[s++]) {
        double least = INFINITY, most = 0;
        for (int k = first; k < first + widths[s]; k++) {
            double variance = 0;
            for (int i = 0; i < C; i++)
                for (int j = 0; j < C; j++)
                    variance += to[i * C + k] * r->covariance[i * C + j] * to[j * C + k];
            least = fmin(least, variance);
            most = fmax(most, variance);
        }
        cr_assert_lt(most, 3 * least, "columns' variances are %g to %g", least, most);
    }
    free(r);
}

Test(basis, a_lower_rank_keeps_what_costs_most)
{
    static double to[C * C], back[C * C];
    static const int widths[] = {64};
    struct rows *r = make_rows(4);
    double cost = 0, all = 0;
    calibrate(r, 64, 1, widths, to, back);
    for (int t = 0; t < ROWS; t++) {
        double latent[64] = {0}, y[C] = {0};
        for (int i = 0; i < C; i++)
            for (int k = 0; k < 64; k++)
                latent[k] += (r->y[t][i] - r->mean[i]) * to[i * 64 + k];
        for (int k = 0; k < 64; k++)
            for (int i = 0; i < C; i++)
                y[i] += latent[k] * back[k * C + i];
        for (int i = 0; i < C; i++) {
            cost += r->metric[i * C + i] * pow(y[i] - (r->y[t][i] - r->mean[i]), 2);
            all += r->metric[i * C + i] * pow(r->y[t][i] - r->mean[i], 2);
        }
    }
    cr_assert_lt(cost, 1e-3 * all, "%g of what counts is lost", cost / all);
    free(r);
}

Test(basis, nothing_to_go_by_is_refused)
{
    static double to[C * C], back[C * C];
    static const int widths[] = {C};
    struct rows *r = make_rows(5);
    const double *wrong[2];
    static double zeros[C * C], nan[C * C];
    for (int i = 0; i < C * C; i++)
        nan[i] = NAN;
    wrong[0] = zeros;
    wrong[1] = nan;
    for (int i = 0; i < 2; i++) {
        const basis_problem problem = {C, C, wrong[i], r->second, r->metric, 1, widths};
        error err = ERROR_INIT;
        cr_assert_eq(basis_calibrate(&problem, to, back, &err), XQ_ERROR_ARGUMENT);
        cr_assert(strstr(err.message, "activations"), "%s", err.message);
        error_clear(&err);
    }
    free(r);
}
