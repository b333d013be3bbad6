#include "cost.h"

#include <math.h>
#include <stdlib.h>

/* Tolerance for rounding of a block's entries, relative to the block's trace. */
static const double tolerance = 1e-5;

static bool refuse_cost(const char *field, error *err)
{
    error_field(err, field);
    return false;
}

/* Checks each entry, and compares it with its mirror. */
static bool check_cost_entries(const char *field, const float *cost, int64_t block, int64_t first,
                               double trace, error *err)
{
    for (int64_t i = 0; i < block; i++)
        for (int64_t j = 0; j < block; j++) {
            const double value = cost[i * block + j], mirror = cost[j * block + i];
            const char *must = !isfinite(value)      ? "be finite"
                               : i == j && value < 0 ? "be at least 0 on the diagonal"
                               : fabs(value - mirror) > tolerance * fmax(trace, 0) ? "be symmetric"
                                                                                   : NULL;
            if (!must)
                continue;
            error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s[%lld, %lld] is %g; costs must %s", field,
                      (long long)(first + i), (long long)j, value, must);
            return refuse_cost(field, err);
        }
    return true;
}

/* Computes row i of the Cholesky factor of a block with `shift` added to its diagonal; false if the sum is
 * not positive definite. */
static bool factor_cost_row(const float *cost, int64_t block, int64_t i, double shift, double *factor)
{
    double *row = factor + i * block;
    for (int64_t j = 0; j <= i; j++) {
        const double *other = factor + j * block;
        double rest = cost[i * block + j] + (i == j ? shift : 0);
        for (int64_t k = 0; k < j; k++)
            rest -= row[k] * other[k];
        if (i == j && !(rest > 0))
            return false;
        row[j] = i == j ? sqrt(rest) : rest / other[j];
    }
    return true;
}

static bool check_cost_block(const char *field, const float *cost, int64_t block, int64_t first,
                             double *factor, error *err)
{
    double trace = 0;
    for (int64_t i = 0; i < block; i++)
        trace += cost[i * (block + 1)];
    if (!check_cost_entries(field, cost, block, first, trace, err))
        return false;
    const double shift = trace > 0 ? tolerance * trace : tolerance;
    for (int64_t i = 0; i < block; i++)
        if (!factor_cost_row(cost, block, i, shift, factor)) {
            error_set(err, XQ_ERROR_ARGUMENT, "argument",
                      "%s is not positive semidefinite in rows %lld to %lld", field, (long long)first,
                      (long long)(first + i));
            return refuse_cost(field, err);
        }
    return true;
}

bool cost_check(const char *field, const float *cost, int64_t cols, int64_t block, error *err)
{
    double *factor = (double *)malloc(sizeof *factor * (size_t)block * (size_t)block);
    if (!factor) {
        error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory");
        return false;
    }
    bool good = true;
    for (int64_t first = 0; good && first < cols; first += block)
        good = check_cost_block(field, cost + first * block, block, first, factor, err);
    free(factor);
    return good;
}
