/* Computes how many blocks of a kernel run at once on one multiprocessor. */
#ifndef RUNTIME_LAUNCH_OCCUPANCY_H
#define RUNTIME_LAUNCH_OCCUPANCY_H

#include "kernel.h"

/* The number that threads, registers and shared memory allow (CUDA C++ Programming Guide, "Occupancy"); at
 * least 1. A resource that the device does not state is taken as no limit. */
xq_status occupancy_blocks_per_sm(const kernel *k, int *blocks, error *err);

#endif
