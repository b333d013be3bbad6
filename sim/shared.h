/* Checks of shared memory for initialization and races, and the count of its bank conflicts. */
#ifndef SIM_SHARED_H
#define SIM_SHARED_H

#include "warp.h"

enum sim_access { SIM_READ, SIM_WRITE, SIM_STRONG_READ, SIM_STRONG_WRITE, SIM_ATOMIC };

/* Counts the passes that an access makes over the banks, and how many of them are conflicts. */
void sim_shared_count(device_counters *counters, uint32_t mask, const uint32_t address[32], uint32_t bytes);

/* These update the shadow when a block starts, when a warp arrives at a barrier without waiting, when a
 * barrier completes for the warps in `waiting` (a bit each), and at bar.warp.sync. */
void sim_shared_reset(sim_block *block);
void sim_shared_arrive(sim_warp *warp, sim_barrier *barrier);
void sim_shared_barrier(sim_block *block, const sim_barrier *barrier, uint32_t waiting);
void sim_shared_warp_sync(sim_warp *warp);

#endif
