/* Profiles: counts of each instruction of the kernels that are launched. */
#ifndef SIM_PROFILE_H
#define SIM_PROFILE_H

#include "program.h"

/* Counts of one instruction of a program. */
typedef struct sim_tally {
    uint64_t issued; /* by warps */
    uint64_t read_sectors, write_sectors, shared_passes, shared_conflicts;
} sim_tally;

/* Adds the increase of the counters to all members but `issued`. */
void sim_tally_difference(sim_tally *to, const device_counters *before, const device_counters *after);

/* Adds `count` tallies. */
void sim_tally_add(sim_tally *to, const sim_tally *from, int count);

/* The tallies of every kernel that was launched. Programs with the same name and instructions are one
 * kernel. Tallies outlive the modules of their kernels. Zero-initialize. */
typedef struct sim_profile {
    struct sim_profile_kernel *first;
} sim_profile;

/* Finds the tallies of a program, one for each of its instructions, or makes them. They stay valid until
 * sim_profile_clear. Errors: XQ_ERROR_MEMORY. */
xq_status sim_profile_find(sim_profile *profile, const sim_program *program, sim_tally **tallies,
                           error *err);

/* Visits every instruction that was issued: see profile_read of device.h. */
void sim_profile_visit(const sim_profile *profile, device_profile_visit *visit, void *user);

void sim_profile_clear(sim_profile *profile);

#endif
