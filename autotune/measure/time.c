#include "time.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_INNER = 100 }; /* the most steps of one repeat; a graph may round them up */

xq_status measure_count(device *d, const measure_step *step, device_counters *out, error *err)
{
    if (d->ops->counters_reset(d, err) != XQ_OK || step->launch(step->user, NULL, 0, err) != XQ_OK ||
        d->ops->synchronize(d, err) != XQ_OK)
        return err->status;
    return d->ops->counters(d, out, err);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One repeat launches `inner` steps, one by one or as a graph. */
struct repeat {
    device *device;
    const measure_step *step;
    void *stream;
    device_graph *graph; /* NULL: the steps are launched one by one */
    int inner, next;     /* steps; the copy that the next step works on */
};

static xq_status launch_steps(void *user, void *stream, error *err)
{
    struct repeat *r = user;
    for (int i = 0; i < r->inner; i++) {
        if (r->step->launch(r->step->user, stream, r->next, err) != XQ_OK)
            return err->status;
        r->next = (r->next + 1) % r->step->copies;
    }
    return XQ_OK;
}

static xq_status launch(struct repeat *r, error *err)
{
    return r->graph ? r->device->ops->graph_launch(r->graph, r->stream, err)
                    : launch_steps(r, r->stream, err);
}

/* Measures the seconds of one step in each of `repeats` runs, in ascending order. */
static xq_status run(struct repeat *r, int repeats, double *seconds, error *err)
{
    device *d = r->device;
    for (int i = 0; i < repeats; i++)
        if (d->ops->mark(d, r->stream, 2 * i, err) != XQ_OK || launch(r, err) != XQ_OK ||
            d->ops->mark(d, r->stream, 2 * i + 1, err) != XQ_OK)
            return err->status;
    if (d->ops->synchronize(d, err) != XQ_OK)
        return err->status;
    for (int i = 0; i < repeats; i++) {
        double milliseconds;
        if (d->ops->elapsed(d, 2 * i, 2 * i + 1, &milliseconds, err) != XQ_OK)
            return err->status;
        seconds[i] = milliseconds * 1e-3 / r->inner;
    }
    qsort(seconds, (size_t)repeats, sizeof *seconds, ascending);
    return XQ_OK;
}

/* Runs single steps, and decides how many steps a repeat has. */
static xq_status warm_up(struct repeat *r, const measure_repeats *how, error *err)
{
    double seconds[MEASURE_MOST_REPEATS];
    r->inner = 1;
    if (run(r, how->warm_up, seconds, err) != XQ_OK)
        return err->status;
    if (how->repeat_seconds > 0)
        r->inner = (int)fmin(ceil(how->repeat_seconds / fmax(seconds[how->warm_up / 2], 1e-6)), MOST_INNER);
    return XQ_OK;
}

static xq_status time_repeats(struct repeat *r, int repeats, measure_times *out, error *err)
{
    double seconds[MEASURE_MOST_REPEATS];
    if (run(r, repeats, seconds, err) != XQ_OK)
        return err->status;
    out->median = (seconds[(repeats - 1) / 2] + seconds[repeats / 2]) / 2;
    out->low = seconds[repeats / 4];
    out->high = seconds[repeats - 1 - repeats / 4];
    return XQ_OK;
}

static xq_status time_one_by_one(struct repeat *r, const measure_repeats *how, measure_times *out,
                                 error *err)
{
    const bool sim = r->device->properties.is_sim;
    if (!sim && warm_up(r, how, err) != XQ_OK)
        return err->status;
    return time_repeats(r, sim ? 1 : how->repeats, out, err);
}

xq_status measure_time(device *d, const measure_step *step, const measure_repeats *how, measure_times *out,
                       error *err)
{
    struct repeat r = {.device = d, .step = step, .inner = 1};
    measure_turn turn = measure_watch_begin(how->watch, d);
    time_one_by_one(&r, how, out, err);
    measure_watch_end(how->watch, d, &turn);
    return err->status;
}

/* Rounds steps up to whole rounds of the copies, so that a graph that is launched again begins with the
 * copy that follows its last one. */
static int whole_rounds(int steps, int copies)
{
    return (steps + copies - 1) / copies * copies;
}

static xq_status time_graph(struct repeat *r, const measure_repeats *how, measure_times *out, error *err)
{
    double ignored[MEASURE_MOST_REPEATS];
    device *d = r->device;
    if (warm_up(r, how, err) != XQ_OK) /* the first launch of a kernel may load it; a graph cannot */
        return err->status;
    r->next = 0;
    r->inner = whole_rounds(r->inner, r->step->copies);
    if (d->ops->graph_record(d, r->stream, launch_steps, r, &r->graph, err) == XQ_OK &&
        run(r, how->warm_up, ignored, err) == XQ_OK)
        time_repeats(r, how->repeats, out, err);
    if (r->graph)
        d->ops->graph_destroy(r->graph);
    return err->status;
}

/* Waits before it destroys the stream, even after a failure, because its launches use memory that the
 * caller may release. */
static void end_stream(device *d, void *stream)
{
    error ignored = ERROR_INIT; /* already reported, or reported by the next call */
    d->ops->synchronize(d, &ignored);
    error_clear(&ignored);
    d->ops->stream_destroy(d, stream);
}

xq_status measure_time_in_graph(device *d, const measure_step *step, const measure_repeats *how,
                                measure_times *out, error *err)
{
    struct repeat r = {.device = d, .step = step};
    if (!d->properties.graphs)
        return error_set(err, XQ_ERROR_UNSUPPORTED, "device", "%s has no graphs", d->properties.name);
    if (d->ops->stream_create(d, &r.stream, err) != XQ_OK)
        return err->status;
    measure_turn turn = measure_watch_begin(how->watch, d);
    time_graph(&r, how, out, err);
    measure_watch_end(how->watch, d, &turn);
    end_stream(d, r.stream);
    return err->status;
}
