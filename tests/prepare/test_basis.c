/* Calibrated coordinates: they are exact at full rank, constant where rows are large, and even
 * elsewhere. */
#include "../../prepare/basis.h"
#include "../../runtime/base/random.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { C = 96, ROWS = 600 };

/* Rows that have a mean, one direction of large variance, and noise; and their moments. */
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

static basis_problem problem_of(const struct rows *r, int rank, int segments, const int *widths)
{
    return (basis_problem){.size = C,
                           .rank = rank,
                           .second = r->second,
                           .metric = r->metric,
                           .segments = segments,
                           .widths = widths};
}

static void calibrate(const struct rows *r, int rank, int segments, const int *widths, double *to,
                      double *back)
{
    const basis_problem problem = problem_of(r, rank, segments, widths);
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

/* The offset of a group holds a constant, which therefore costs no bits, however large it is. */
Test(basis, constants_are_larger_than_what_their_errors_cost_asks_for)
{
    static double to[C * C], back[C * C];
    static const int widths[] = {C};
    struct rows *r = make_rows(8);
    double spread = 0, spreads = 0, cost = 0, costs = 0;
    calibrate(r, C, 1, widths, to, back);
    for (int i = 0; i < C; i++) {
        double common = 0, own = r->metric[i * C + i];
        for (int k = 0; k < C; k++) {
            common += back[k * C + i];
            costs += own * back[k * C + i] * back[k * C + i];
        }
        cost += own * common * common / C;
    }
    for (int t = 0; t < ROWS; t++) {
        double sum = 0;
        for (int k = 0; k < C; k++) {
            double z = 0;
            for (int i = 0; i < C; i++)
                z += r->y[t][i] * to[i * C + k];
            sum += z;
            spreads += z * z / ROWS;
        }
        spread += sum * sum / C / ROWS;
    }
    double ratio = spread / cost, of_others = (spreads - spread) / (costs - cost);
    cr_assert_gt(ratio, 100 * of_others, "%g against %g", ratio, of_others);
    free(r);
}

/* The mean is in every row, and the variance does not show it. */
Test(basis, a_lower_rank_keeps_the_mean)
{
    static double to[C * C], back[C * C];
    static const int widths[] = {64};
    struct rows *r = make_rows(7);
    double latent[64] = {0}, lost = 0, all = 0;
    calibrate(r, 64, 1, widths, to, back);
    for (int i = 0; i < C; i++)
        for (int k = 0; k < 64; k++)
            latent[k] += r->mean[i] * to[i * 64 + k];
    for (int i = 0; i < C; i++) {
        double kept = 0;
        for (int k = 0; k < 64; k++)
            kept += latent[k] * back[k * C + i];
        lost += r->metric[i * C + i] * pow(kept - r->mean[i], 2);
        all += r->metric[i * C + i] * pow(r->mean[i], 2);
    }
    cr_assert_lt(lost, 1e-3 * all, "%g of the mean is lost", lost / all);
    free(r);
}

/* Measures how evenly latents are spread over all directions: 1 for an even spread, 1 / C for a single
 * direction. */
static double evenness(const struct rows *r, const double *to)
{
    static double half[C * C], spread[C * C];
    double trace = 0, squares = 0;
    for (int i = 0; i < C * C; i++)
        half[i] = spread[i] = 0;
    for (int i = 0; i < C; i++)
        for (int j = 0; j < C; j++)
            for (int k = 0; k < C; k++)
                half[i * C + k] += r->covariance[i * C + j] * to[j * C + k];
    for (int i = 0; i < C; i++)
        for (int j = 0; j < C; j++)
            for (int k = 0; k < C; k++)
                spread[j * C + k] += to[i * C + j] * half[i * C + k];
    for (int i = 0; i < C; i++)
        trace += spread[i * C + i];
    for (int i = 0; i < C * C; i++)
        squares += spread[i] * spread[i];
    return trace * trace / (C * squares);
}

/* Feedback compensates for costs that differ, so that the spread can be evened out instead. */
Test(basis, with_feedback_latents_are_spread_more_evenly)
{
    static double to[2][C * C], back[2][C * C];
    static const int widths[] = {64, 32};
    struct rows *r = make_rows(6);
    for (int feedback = 0; feedback < 2; feedback++) {
        basis_problem problem = problem_of(r, C, 2, widths);
        error err = ERROR_INIT;
        problem.feedback = feedback;
        cr_assert_eq(basis_calibrate(&problem, to[feedback], back[feedback], &err), XQ_OK, "%s",
                     err.message);
    }
    for (int i = 0; i < C; i++)
        for (int j = 0; j < C; j++) {
            double sum = 0;
            for (int k = 0; k < C; k++)
                sum += to[1][i * C + k] * back[1][k * C + j];
            cr_assert_float_eq(sum, i == j, 1e-8, "%d, %d: %g", i, j, sum);
        }
    cr_assert_gt(evenness(r, to[1]), 1.1 * evenness(r, to[0]), "%g and %g", evenness(r, to[1]),
                 evenness(r, to[0]));
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
        basis_problem problem = problem_of(r, C, 1, widths);
        problem.second = wrong[i];
        error err = ERROR_INIT;
        cr_assert_eq(basis_calibrate(&problem, to, back, &err), XQ_ERROR_ARGUMENT);
        cr_assert(strstr(err.message, "activations"), "%s", err.message);
        error_clear(&err);
    }
    free(r);
}
