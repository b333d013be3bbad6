#include "compare_time.h"
#include "../runtime/last_error.h"

#include "../runtime/context.h"

#include <math.h>
#include <stdlib.h>

#define SECTOR 32.0 /* bytes */

static xq_status failed(const struct compare_task *task, xq_status status, error *err)
{
    return last_error_read(task->context, status, err);
}

xq_status compare_step(driver *d, int table)
{
    int layer = d->layer_count - 1;
    xq_status status =
        d->layers[layer].info.accumulator_page_bytes ? driver_accumulate(d, layer, table) : XQ_OK;
    return status == XQ_OK ? driver_attend(d, layer, table) : status;
}

xq_status compare_count(const struct compare_task *task, driver *driven, struct compare_row *row,
                        error *err)
{
    device *d = task->context->device;
    device_counters c;
    if (d->ops->counters_reset(d, err) != XQ_OK)
        return err->status;
    xq_status status = compare_step(driven, 0);
    if (status == XQ_OK)
        status = xq_device_synchronize(task->context);
    if (status != XQ_OK)
        return failed(task, status, err);
    if (d->ops->counters(d, &c, err) != XQ_OK)
        return err->status;
    row->counted = true;
    row->read_bytes = SECTOR * (double)c.read_sectors_unique;
    row->write_bytes = SECTOR * (double)c.write_sectors_unique;
    row->l2_read_bytes = SECTOR * (double)c.read_sectors;
    row->l2_write_bytes = SECTOR * (double)c.write_sectors;
    for (int i = 0; i < MATRIX_TYPES; i++)
        row->matrix_flops += (double)c.matrix_flops[i];
    row->launches = (int)c.launches;
    row->seconds = row->seconds_low = row->seconds_high = c.modelled_seconds;
    return XQ_OK;
}

/* ----------------------------------------------------------------- timing */

enum { WARM_UP = 5, REPEATS = 30 };
#define REPEAT_SECONDS 300e-6 /* of launches between two events, so that the events' own cost is small */

/* Launches `count` steps, on one cache after the other. */
static xq_status launch(driver *driven, int copies, int count, int *next)
{
    for (int i = 0; i < count; i++) {
        xq_status status = compare_step(driven, *next);
        if (status != XQ_OK)
            return status;
        *next = (*next + 1) % copies;
    }
    return XQ_OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one step in each of `repeats` runs of `inner` steps. */
static xq_status run(const struct compare_task *task, driver *driven, int copies, int repeats, int inner,
                     int *next, double *seconds, error *err)
{
    device *d = task->context->device;
    for (int r = 0; r < repeats; r++) {
        if (d->ops->mark(d, NULL, 2 * r, err) != XQ_OK)
            return err->status;
        xq_status status = launch(driven, copies, inner, next);
        if (status != XQ_OK)
            return failed(task, status, err);
        if (d->ops->mark(d, NULL, 2 * r + 1, err) != XQ_OK)
            return err->status;
    }
    xq_status status = xq_device_synchronize(task->context);
    if (status != XQ_OK)
        return failed(task, status, err);
    for (int r = 0; r < repeats; r++) {
        double milliseconds;
        if (d->ops->elapsed(d, 2 * r, 2 * r + 1, &milliseconds, err) != XQ_OK)
            return err->status;
        seconds[r] = milliseconds * 1e-3 / inner;
    }
    return XQ_OK;
}

xq_status compare_time(const struct compare_task *task, driver *driven, int copies, struct compare_row *row,
                       error *err)
{
    double seconds[REPEATS];
    int next = 0;
    if (run(task, driven, copies, WARM_UP, 1, &next, seconds, err) != XQ_OK)
        return err->status;
    qsort(seconds, WARM_UP, sizeof *seconds, ascending);
    double inner = ceil(REPEAT_SECONDS / fmax(seconds[WARM_UP / 2], 1e-6));
    if (run(task, driven, copies, REPEATS, inner > 100 ? 100 : (int)inner, &next, seconds, err) != XQ_OK)
        return err->status;
    qsort(seconds, REPEATS, sizeof *seconds, ascending);
    row->measured = true;
    row->seconds = (seconds[REPEATS / 2 - 1] + seconds[REPEATS / 2]) / 2;
    row->seconds_low = seconds[REPEATS / 4];
    row->seconds_high = seconds[REPEATS - 1 - REPEATS / 4];
    return XQ_OK;
}
