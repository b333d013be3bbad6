/* Shared memory: bounds, initialization, races, bank conflicts. */
#ifndef RUNTIME_SIM_SHARED_H
#define RUNTIME_SIM_SHARED_H

#include "warp.h"

enum sim_access { SIM_READ, SIM_WRITE, SIM_STRONG_READ, SIM_STRONG_WRITE, SIM_ATOMIC };

/* Checks and records an access of `bytes` at address[lane] by the lanes of `mask`. */
enum sim_outcome sim_shared_access(sim_warp *warp, uint32_t mask, const uint32_t address[32],
                                   uint32_t bytes, enum sim_access access);

/* cp.async wrote the bytes but nobody may touch them; and, `done`, its lane may. */
enum sim_outcome sim_shared_pending(sim_warp *warp, uint32_t mask, const uint32_t address[32],
                                    uint32_t bytes);
void sim_shared_done(sim_warp *warp, uint32_t mask, const uint32_t address[32], uint32_t bytes);

/* Rows of ldmatrix: `rows` addresses of 16 bytes, all read (or written) by the whole warp. */
enum sim_outcome sim_shared_rows(sim_warp *warp, int rows, const uint32_t address[32],
                                 enum sim_access access);

/* Adds the passes that an access needs because lanes meet in a bank. */
void sim_shared_count(device_counters *counters, uint32_t mask, const uint32_t address[32], uint32_t bytes);

/* A new block; a warp that arrives at a barrier and goes on; a barrier that completes for the warps in
 * `waiting` (bits). */
void sim_shared_reset(sim_block *block);
void sim_shared_arrive(sim_warp *warp, sim_barrier *barrier);
void sim_shared_barrier(sim_block *block, const sim_barrier *barrier, uint32_t waiting);
void sim_shared_warp_sync(sim_warp *warp);

#endif
