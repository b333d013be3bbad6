/* Shared memory: bounds, initialization, races, bank conflicts. */
#ifndef SIM_SHARED_H
#define SIM_SHARED_H

#include "warp.h"

enum sim_access { SIM_READ, SIM_WRITE, SIM_STRONG_READ, SIM_STRONG_WRITE, SIM_ATOMIC };

/* Adds the passes that an access needs because lanes meet in a bank. */
void sim_shared_count(device_counters *counters, uint32_t mask, const uint32_t address[32], uint32_t bytes);

/* A new block; a warp that arrives at a barrier and goes on; a barrier that completes for the warps in
 * `waiting` (bits). */
void sim_shared_reset(sim_block *block);
void sim_shared_arrive(sim_warp *warp, sim_barrier *barrier);
void sim_shared_barrier(sim_block *block, const sim_barrier *barrier, uint32_t waiting);
void sim_shared_warp_sync(sim_warp *warp);

#endif
