/* Lets one measurement at a time run on a GPU, whichever process measures. Each GPU has a file, which is
 * locked while a measurement runs. The file is empty, and is not removed. The operating system unlocks it
 * when the process that locked it ends, in whatever way.
 *
 * The file is xq-gpu-UUID.lock in $XQ_LOCK_DIR, or else in /tmp. Processes in containers share the lock if
 * they share that folder. Instances of a GPU in MIG mode have their own UUIDs, and so their own files. */
#ifndef AUTOTUNE_MEASURE_TURN_H
#define AUTOTUNE_MEASURE_TURN_H

#include "../../runtime/base/error.h"

#include <stdbool.h>

typedef struct measure_turn {
    int fd; /* -1: there is no lock */
} measure_turn;

/* Called when a measurement has to wait for another one (waits: true), and when it goes on (false). */
typedef void measure_waits(void *user, bool waits);

/* Waits for a turn on the GPU with this UUID ("" where it is not known). If the file cannot be opened or
 * locked, the measurement may run anyway: the turn then has no lock, and *err says why. `waits` may be
 * NULL. Links are not followed, and a file that another user made is not changed. */
measure_turn measure_turn_take(const char *uuid, measure_waits *waits, void *user, error *err);

void measure_turn_end(measure_turn *turn);

#endif
