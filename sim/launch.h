/* Runs a launch on the worker threads. */
#ifndef SIM_LAUNCH_H
#define SIM_LAUNCH_H

#include "warp.h"

void sim_launch_lock(sim_launch *launch);
void sim_launch_unlock(sim_launch *launch);

/* Index of a block in the grid; x runs fastest. */
uint64_t sim_block_number(const sim_block *block);

/* Whether a block of lower index faulted. Blocks below the one that faulted go on, so that of several
 * faults the one of the first block is reported, whatever the timing. */
bool sim_launch_stopped(sim_block *block);

/* Adds every counter of `from` to `to`. The counters of launches add up in the same way as those of the
 * workers of one launch. */
void sim_counters_add(device_counters *to, const device_counters *from);

/* Runs every block of `launch` and adds its counters to `counters`. On failure, launch->err is filled. */
xq_status sim_launch_run(sim_launch *launch, device_counters *counters);

#endif
