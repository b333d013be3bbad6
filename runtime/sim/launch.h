/* A launch over the worker threads. */
#ifndef RUNTIME_SIM_LAUNCH_H
#define RUNTIME_SIM_LAUNCH_H

#include "warp.h"

void sim_launch_lock(sim_launch *launch);
void sim_launch_unlock(sim_launch *launch);

/* Runs every block of `launch` and adds what was counted to `counters`. Fails with launch->err filled. */
xq_status sim_launch_run(sim_launch *launch, device_counters *counters);

#endif
