/* The cost of a step on a device: its time, which a GPU measures and the software device models, and the
 * software device's counters. */
#ifndef AUTOTUNE_MEASURE_TIME_H
#define AUTOTUNE_MEASURE_TIME_H

#include "watch.h"

/* A step is a series of launches on one stream, e.g. those of one layer's attention. */
typedef struct measure_step {
    /* Launches the step on copy number `copy` of the data that it works on. Does not wait. */
    xq_status (*launch)(void *user, void *stream, int copy, error *err);
    void *user;
    int copies; /* copies of the data, taken in turn so that L2 does not hold what the next step reads; at
                   least 1 */
} measure_step;

/* How a step is repeated on a GPU. */
typedef struct measure_repeats {
    int warm_up, repeats;  /* each at most MEASURE_MOST_REPEATS; warm_up > 0 if repeat_seconds > 0 */
    double repeat_seconds; /* a repeat has as many steps as take this long, at most 100; a graph rounds them
                              up to a multiple of the copies. 0: one step */
    measure_watch *watch;  /* watches the whole measurement; NULL: none */
} measure_repeats;

enum { MEASURE_MOST_REPEATS = 32 };

/* Seconds of one step: the median over the repeats, and the quartiles. */
typedef struct measure_times {
    double median, low, high;
} measure_times;

/* Warms up, and then times the repeats between events, step after step on the default stream. A kernel that
 * is shorter than its launch on the host appears to take as long as the launch. The software device runs
 * the step once, because its times are modelled and always the same. Errors: those of the step,
 * XQ_ERROR_DEVICE. */
xq_status measure_time(device *d, const measure_step *step, const measure_repeats *repeats,
                       measure_times *out, error *err);

/* Times steps within a graph, as an engine's decoding runs them: the host launches all steps of a repeat at
 * once. A graph holds every copy equally often. Errors: those of measure_time; XQ_ERROR_UNSUPPORTED for a
 * device without graphs (device_properties). */
xq_status measure_time_in_graph(device *d, const measure_step *step, const measure_repeats *repeats,
                                measure_times *out, error *err);

/* Runs the step once, waits for it, and reads the counters. Errors: those of the step; XQ_ERROR_UNSUPPORTED
 * on a GPU, which has no counters. */
xq_status measure_count(device *d, const measure_step *step, device_counters *out, error *err);

#endif
