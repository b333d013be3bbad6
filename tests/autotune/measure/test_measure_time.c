/* Tests the timing of a step on a device whose clock the test controls. */
#include "../../../autotune/measure/time.h"

#include <criterion/criterion.h>
#include <string.h>

enum { COPIES = 3 };

struct clock {
    device device;
    int streams, graphs; /* numbers of existing objects */
    int recording;       /* steps recorded so far; -1: no recording is in progress */
    int in_graph;        /* steps in the graph */
    int copies[512];     /* the copy that each step of the graph uses */
    int launches[COPIES], launched, synchronized;
    int at_mark[64];         /* launches before each mark */
    double step_seconds[64]; /* duration of a step after mark 2 * i; 0 stands for 1 ms */
    bool fails;              /* whether the step fails */
};

static xq_status mark(device *d, void *stream, int index, error *err)
{
    struct clock *c = (struct clock *)d;
    cr_assert_eq(stream, c->streams ? (void *)c : NULL);
    cr_assert(index >= 0 && index < 64);
    c->at_mark[index] = c->launched;
    return err->status;
}

static xq_status elapsed(device *d, int from, int to, double *milliseconds, error *err)
{
    struct clock *c = (struct clock *)d;
    double step = c->step_seconds[from / 2] > 0 ? c->step_seconds[from / 2] : 1e-3;
    cr_assert_eq(to, from + 1);
    cr_assert_gt(c->synchronized, 0);
    *milliseconds = 1e3 * step * (c->at_mark[to] - c->at_mark[from]);
    return err->status;
}

static xq_status synchronize(device *d, error *err)
{
    ((struct clock *)d)->synchronized++;
    return err->status;
}

static xq_status launch(void *user, void *stream, int copy, error *err)
{
    struct clock *c = user;
    cr_assert(copy >= 0 && copy < COPIES);
    cr_assert_eq(stream, c->streams ? (void *)c : NULL);
    if (c->recording >= 0) {
        c->copies[c->recording++] = copy;
    } else {
        c->launches[copy]++;
        c->launched++;
    }
    return c->fails ? error_set(err, XQ_ERROR_DEVICE, "device", "the step fails") : XQ_OK;
}

static xq_status stream_create(device *d, void **stream, error *err)
{
    ((struct clock *)d)->streams++;
    *stream = d;
    return err->status;
}

static void stream_destroy(device *d, void *stream)
{
    cr_expect_eq(stream, (void *)d);
    ((struct clock *)d)->streams--;
}

static xq_status graph_record(device *d, void *stream, device_record *record, void *user,
                              device_graph **out, error *err)
{
    struct clock *c = (struct clock *)d;
    c->recording = 0;
    record(user, stream, err);
    c->in_graph = c->recording;
    c->recording = -1;
    if (err->status != XQ_OK)
        return err->status;
    c->graphs++;
    *out = (device_graph *)d;
    return XQ_OK;
}

static xq_status graph_launch(device_graph *graph, void *stream, error *err)
{
    struct clock *c = (struct clock *)graph;
    cr_expect_eq(stream, (void *)c);
    for (int i = 0; i < c->in_graph; i++)
        c->launches[c->copies[i]]++;
    c->launched += c->in_graph;
    return err->status;
}

static void graph_destroy(device_graph *graph)
{
    ((struct clock *)graph)->graphs--;
}

static struct clock make_clock(void)
{
    static const device_ops ops = {.mark = mark,
                                   .elapsed = elapsed,
                                   .synchronize = synchronize,
                                   .stream_create = stream_create,
                                   .stream_destroy = stream_destroy,
                                   .graph_record = graph_record,
                                   .graph_launch = graph_launch,
                                   .graph_destroy = graph_destroy};
    return (struct clock){.device = {.ops = &ops, .properties.graphs = true}, .recording = -1};
}

static measure_times time_it(struct clock *c, const measure_repeats *repeats)
{
    measure_times times;
    error err = ERROR_INIT;
    const measure_step step = {launch, c, COPIES};
    cr_assert_eq(measure_time(&c->device, &step, repeats, &times, &err), XQ_OK, "%s", err.message);
    return times;
}

static void expect_near(double a, double b)
{
    cr_expect(a > b * 0.999999 && a < b * 1.000001, "%g is not %g", a, b);
}

Test(measure_time, gives_median_and_quartiles)
{
    struct clock c = make_clock();
    for (int i = 0; i < 8; i++)
        c.step_seconds[i] = 1e-3 * (8 - i); /* from 8 down to 1 ms, so they are not sorted */
    measure_times t = time_it(&c, &(measure_repeats){.warm_up = 2, .repeats = 8});
    expect_near(t.median, 4.5e-3);
    expect_near(t.low, 3e-3);
    expect_near(t.high, 6e-3);
    cr_expect_eq(c.launched, 2 + 8);
}

Test(measure_time, takes_copies_in_turn)
{
    struct clock c = make_clock();
    time_it(&c, &(measure_repeats){.warm_up = 1, .repeats = 5});
    for (int i = 0; i < COPIES; i++)
        cr_expect_eq(c.launches[i], 2, "copy %d: %d launches", i, c.launches[i]);
}

Test(measure_time, repeats_short_steps_within_a_repeat)
{
    struct clock c = make_clock();
    for (int i = 0; i < 32; i++)
        c.step_seconds[i] = 10e-6;
    measure_times t = time_it(&c, &(measure_repeats){.warm_up = 3, .repeats = 4, .repeat_seconds = 300e-6});
    expect_near(t.median, 10e-6);
    cr_expect_eq(c.launched, 3 + 4 * 30);
    c = make_clock(); /* a repeat has at most a hundred steps */
    for (int i = 0; i < 32; i++)
        c.step_seconds[i] = 1e-9;
    time_it(&c, &(measure_repeats){.warm_up = 3, .repeats = 4, .repeat_seconds = 300e-6});
    cr_expect_eq(c.launched, 3 + 4 * 100);
}

Test(measure_time, runs_once_where_times_are_modelled)
{
    struct clock c = make_clock();
    c.device.properties.is_sim = true;
    measure_times t = time_it(&c, &(measure_repeats){.warm_up = 3, .repeats = 4, .repeat_seconds = 1});
    expect_near(t.low, 1e-3);
    expect_near(t.high, 1e-3);
    cr_expect_eq(c.launched, 1);
}

static struct clock failing(xq_status (*measure)(device *, const measure_step *, const measure_repeats *,
                                                 measure_times *, error *))
{
    struct clock c = make_clock();
    c.fails = true;
    measure_times times;
    error err = ERROR_INIT;
    const measure_step step = {launch, &c, COPIES};
    const measure_repeats repeats = {.warm_up = 2, .repeats = 3};
    cr_assert_eq(measure(&c.device, &step, &repeats, &times, &err), XQ_ERROR_DEVICE);
    cr_expect_str_eq(err.message, "the step fails");
    return c;
}

Test(measure_time, a_failure_of_the_step_is_handed_up)
{
    cr_expect_eq(failing(measure_time).launched, 1);
}

/* ------------------------------------------------------------------ graphs */

static measure_times time_graph(struct clock *c, const measure_repeats *repeats)
{
    measure_times times;
    error err = ERROR_INIT;
    const measure_step step = {launch, c, COPIES};
    cr_assert_eq(measure_time_in_graph(&c->device, &step, repeats, &times, &err), XQ_OK, "%s", err.message);
    cr_expect_eq(c->streams, 0);
    cr_expect_eq(c->graphs, 0);
    return times;
}

Test(measure_time, a_graph_holds_every_copy_equally_often)
{
    struct clock c = make_clock();
    measure_times t = time_graph(&c, &(measure_repeats){.warm_up = 2, .repeats = 4});
    expect_near(t.median, 1e-3);
    cr_expect_eq(c.in_graph, COPIES, "one step is wanted, and each copy must come");
    cr_expect_eq(c.launched, 2 + (2 + 4) * COPIES);
    c = make_clock();
    for (int i = 0; i < 32; i++)
        c.step_seconds[i] = 10e-6;
    t = time_graph(&c, &(measure_repeats){.warm_up = 3, .repeats = 4, .repeat_seconds = 310e-6});
    expect_near(t.median, 10e-6);
    cr_expect_eq(c.in_graph, 33, "31 steps are wanted: whole rounds of the three copies");
    for (int i = 0; i < c.in_graph; i++)
        cr_expect_eq(c.copies[i], i % COPIES);
}

Test(measure_time, a_graph_gives_median_and_quartiles)
{
    struct clock c = make_clock();
    for (int i = 0; i < 8; i++)
        c.step_seconds[i] = 1e-3 * (8 - i);
    measure_times t = time_graph(&c, &(measure_repeats){.warm_up = 2, .repeats = 8});
    expect_near(t.median, 4.5e-3);
    expect_near(t.low, 3e-3);
    expect_near(t.high, 6e-3);
}

Test(measure_time, a_failure_in_a_graph_is_handed_up_and_leaves_nothing_behind)
{
    const struct clock c = failing(measure_time_in_graph);
    cr_expect_eq(c.streams, 0);
    cr_expect_eq(c.graphs, 0);
    cr_expect_gt(c.synchronized, 0, "launches before the failure may still run");
}

Test(measure_time, a_device_without_graphs_is_named)
{
    struct clock c = make_clock();
    c.device.properties.graphs = false;
    strcpy(c.device.properties.name, "a slate");
    measure_times times;
    error err = ERROR_INIT;
    const measure_step step = {launch, &c, COPIES};
    const measure_repeats repeats = {.warm_up = 2, .repeats = 3};
    cr_assert_eq(measure_time_in_graph(&c.device, &step, &repeats, &times, &err), XQ_ERROR_UNSUPPORTED);
    cr_expect_str_eq(err.message, "a slate has no graphs");
}
