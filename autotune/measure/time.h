/* The cost of a step on a device: its time, which a GPU measures and the software device models, and the
 * counters of the software device. */
#ifndef AUTOTUNE_MEASURE_TIME_H
#define AUTOTUNE_MEASURE_TIME_H

#include "watch.h"

/* A step: launches on one stream, e.g. of one layer's attention. */
typedef struct measure_step {
    /* Launches the step on copy number `copy` of what it works on, and does not wait. */
    xq_status (*launch)(void *user, void *stream, int copy, error *err);
    void *user;
    int copies; /* taken in turn, so that L2 does not hold what the next step reads; at least 1 */
} measure_step;

/* How a step is repeated on a GPU. */
typedef struct measure_repeats {
    int warm_up, repeats;  /* repeats: at most MEASURE_MOST_REPEATS */
    double repeat_seconds; /* steps of a repeat take at least this long; 0: one step */
    measure_watch *watch;  /* goes around all of it; NULL: none */
} measure_repeats;

enum { MEASURE_MOST_REPEATS = 32 };

/* Seconds of one step: the median of the repeats, and their quartiles. */
typedef struct measure_times {
    double median, low, high;
} measure_times;

/* Warms up, and times the repeats between events, step after step on the default stream. A kernel that is
 * shorter than its launch by the host takes as long as that. The software device runs the step once, since
 * its times are modelled and always the same. Errors: those of the step, XQ_ERROR_DEVICE. */
xq_status measure_time(device *d, const measure_step *step, const measure_repeats *repeats,
                       measure_times *out, error *err);

/* The same for steps within a graph, as an engine's decoding runs them: the host launches all steps of a
 * repeat at once. A graph holds every copy equally often. Errors: also XQ_ERROR_UNSUPPORTED for a device
 * without graphs (device_properties). */
xq_status measure_time_in_graph(device *d, const measure_step *step, const measure_repeats *repeats,
                                measure_times *out, error *err);

/* Runs the step once, and waits for it. Errors: those of the step; XQ_ERROR_UNSUPPORTED on a GPU, which
 * does not count. */
xq_status measure_count(device *d, const measure_step *step, device_counters *out, error *err);

#endif
