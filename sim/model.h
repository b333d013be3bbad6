/* A modelled time for one launch, from what the software device counted and a GPU's ceilings. It is a
 * roofline: the launch takes as long as the busiest resource needs, perfectly overlapped with the others.
 * So it is a lower bound that a good kernel comes near to, not a prediction for a bad one: latencies that
 * no other work hides, register pressure and instruction dependences are not in it. It exists to compare
 * kernels with each other and with their limit where there is no GPU. */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "ceilings.h"

enum sim_limit {
    SIM_LIMIT_MEMORY, /* device memory: each 32-byte sector touched moves once */
    SIM_LIMIT_L2,     /* L2: every sector requested */
    SIM_LIMIT_SHARED, /* passes through shared memory, 128 bytes per clock and SM */
    SIM_LIMIT_MATRIX, /* matrix units */
    SIM_LIMIT_ISSUE,  /* warp schedulers, and the pipe of each instruction class */
    SIM_LIMITS
};

struct sim_model {
    double seconds; /* overhead + the largest of the times below */
    double overhead;
    double times[SIM_LIMITS];
    enum sim_limit limit; /* which was the largest */
    int blocks_per_sm;    /* resident at once */
};

/* `one_launch`: the counters of this launch alone. Of `launch`, grid, block and shared_bytes are read; give
 * shared_bytes with the kernel's static shared memory included. Never fails: a launch that fits no SM is
 * taken as one block per SM, an empty one costs the overhead. */
void sim_model_evaluate(const struct sim_ceilings *ceilings, const device_counters *one_launch,
                        const device_launch *launch, struct sim_model *out);

#endif
