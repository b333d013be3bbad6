/* How many blocks of a kernel run at once on one multiprocessor. */
#ifndef RUNTIME_LAUNCH_OCCUPANCY_H
#define RUNTIME_LAUNCH_OCCUPANCY_H

#include "kernel.h"

/* By threads, registers and shared memory (CUDA C++ Programming Guide, "Occupancy"); at least 1. A device
 * that does not state one of these is taken not to limit it. */
xq_status occupancy_blocks_per_sm(const kernel *k, int *blocks, error *err);

#endif
