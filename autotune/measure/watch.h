/* A watch goes around measurements on a GPU that others may use too. They take turns with the measurements
 * of other processes, and the watch looks at what else goes on there, before and after. Nobody else uses
 * the software device, so it is not watched. */
#ifndef AUTOTUNE_MEASURE_WATCH_H
#define AUTOTUNE_MEASURE_WATCH_H

#include "../../runtime/device/device.h"
#include "noticed.h"
#include "nvml.h"
#include "turn.h"

/* Zero-initialize, and set what is wanted of the first two. */
typedef struct measure_watch {
    measure_waits *waits; /* may be NULL */
    void *user;
    measure_noticed noticed;
    nvml *nvml; /* NULL before the first measurement, and where there is none */
    bool looked_for;
} measure_watch;

/* Around a measurement. NULL is fine: nobody watches. */
measure_turn measure_watch_begin(measure_watch *watch, device *d);
void measure_watch_end(measure_watch *watch, device *d, measure_turn *turn);

/* Releases what measurements opened; `noticed` stays. */
void measure_watch_close(measure_watch *watch);

#endif
