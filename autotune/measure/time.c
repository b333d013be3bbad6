#include "time.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_INNER = 100 }; /* steps of one repeat */

xq_status measure_count(device *d, const measure_step *step, device_counters *out, error *err)
{
    if (d->ops->counters_reset(d, err) != XQ_OK || step->launch(step->user, 0, err) != XQ_OK ||
        d->ops->synchronize(d, err) != XQ_OK)
        return err->status;
    return d->ops->counters(d, out, err);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static xq_status launch(const measure_step *step, int count, int *next, error *err)
{
    for (int i = 0; i < count; i++) {
        if (step->launch(step->user, *next, err) != XQ_OK)
            return err->status;
        *next = (*next + 1) % step->copies;
    }
    return XQ_OK;
}

/* Seconds of one step in each of `repeats` runs of `inner` steps, ascending. */
static xq_status run(device *d, const measure_step *step, int repeats, int inner, int *next,
                     double *seconds, error *err)
{
    for (int r = 0; r < repeats; r++)
        if (d->ops->mark(d, NULL, 2 * r, err) != XQ_OK || launch(step, inner, next, err) != XQ_OK ||
            d->ops->mark(d, NULL, 2 * r + 1, err) != XQ_OK)
            return err->status;
    if (d->ops->synchronize(d, err) != XQ_OK)
        return err->status;
    for (int r = 0; r < repeats; r++) {
        double milliseconds;
        if (d->ops->elapsed(d, 2 * r, 2 * r + 1, &milliseconds, err) != XQ_OK)
            return err->status;
        seconds[r] = milliseconds * 1e-3 / inner;
    }
    qsort(seconds, (size_t)repeats, sizeof *seconds, ascending);
    return XQ_OK;
}

xq_status measure_time(device *d, const measure_step *step, const measure_repeats *how, measure_times *out,
                       error *err)
{
    double seconds[MEASURE_MOST_REPEATS];
    const bool sim = d->properties.is_sim;
    int next = 0, inner = 1, repeats = sim ? 1 : how->repeats;
    if (!sim && run(d, step, how->warm_up, 1, &next, seconds, err) != XQ_OK)
        return err->status;
    if (!sim && how->repeat_seconds > 0)
        inner = (int)fmin(ceil(how->repeat_seconds / fmax(seconds[how->warm_up / 2], 1e-6)), MOST_INNER);
    if (run(d, step, repeats, inner, &next, seconds, err) != XQ_OK)
        return err->status;
    out->median = (seconds[(repeats - 1) / 2] + seconds[repeats / 2]) / 2;
    out->low = seconds[repeats / 4];
    out->high = seconds[repeats - 1 - repeats / 4];
    return XQ_OK;
}
