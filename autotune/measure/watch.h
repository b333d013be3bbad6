/* A watch accompanies measurements on a GPU that others may use too. The measurements take turns with those
 * of other processes, and the watch looks at other activity on the GPU before and after them. Nobody else
 * uses the software device, so it is not watched. */
#ifndef AUTOTUNE_MEASURE_WATCH_H
#define AUTOTUNE_MEASURE_WATCH_H

#include "../../runtime/device/device.h"
#include "noticed.h"
#include "nvml.h"
#include "turn.h"

/* Zero-initialize, and set the first two members as needed. */
typedef struct measure_watch {
    measure_waits *waits; /* may be NULL */
    void *user;
    measure_noticed noticed;
    nvml *nvml; /* NULL before the first measurement, and where NVML is not available */
    bool looked_for;
} measure_watch;

/* Call these before and after a measurement. `watch` may be NULL: then nothing is watched. */
measure_turn measure_watch_begin(measure_watch *watch, device *d);
void measure_watch_end(measure_watch *watch, device *d, measure_turn *turn);

/* Releases the resources that measurements opened; `noticed` stays. */
void measure_watch_close(measure_watch *watch);

#endif
