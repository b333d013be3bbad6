/* A launch over the worker threads. */
#ifndef SIM_LAUNCH_H
#define SIM_LAUNCH_H

#include "warp.h"

void sim_launch_lock(sim_launch *launch);
void sim_launch_unlock(sim_launch *launch);

/* Position of a block in the grid, x fastest. */
uint64_t sim_block_number(const sim_block *block);

/* Whether a block before this one faulted. Blocks before the one that faulted go on: of several faults, the
 * first block's is reported, whatever the timing. */
bool sim_launch_stopped(sim_block *block);

/* Adds every counter of `from`; launches add up in the same way as the workers of one. */
void sim_counters_add(device_counters *to, const device_counters *from);

/* Runs every block of `launch` and adds what was counted to `counters`. Fails with launch->err filled. */
xq_status sim_launch_run(sim_launch *launch, device_counters *counters);

#endif
