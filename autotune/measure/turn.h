/* One measurement at a time on a GPU, whatever process measures: each GPU has a file, which is locked while
 * a measurement runs. It is empty and stays; the kernel unlocks it when its process ends, however it ends.
 *
 * The file is xq-gpu-UUID.lock in $XQ_LOCK_DIR, else in /tmp. Processes in containers share it if they
 * share that folder. Instances of a GPU in MIG mode have UUIDs, and so files, of their own. */
#ifndef AUTOTUNE_MEASURE_TURN_H
#define AUTOTUNE_MEASURE_TURN_H

#include "../../runtime/base/error.h"

#include <stdbool.h>

typedef struct measure_turn {
    int fd; /* -1: there is no lock */
} measure_turn;

/* Told when a measurement has to wait for another one, and when it goes on. */
typedef void measure_waits(void *user, bool waits);

/* Waits for the turn of the GPU with this UUID, "" where it is not known. A file that cannot be had or
 * locked keeps nobody from measuring: then the turn has no lock, and *err says why. `waits` may be NULL.
 * Links are not followed, and of a file that another user made nothing is written. */
measure_turn measure_turn_take(const char *uuid, measure_waits *waits, void *user, error *err);

void measure_turn_end(measure_turn *turn);

#endif
