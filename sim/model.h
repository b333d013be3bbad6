/* A modelled time for one launch, from what the software device counted and a GPU's ceilings. It is a
 * roofline: the launch takes as long as the busiest resource needs, perfectly overlapped with the others.
 * So it is a lower bound that a good kernel comes near to, not a prediction for a bad one: latencies that
 * no other work hides, register pressure and instruction dependences are not in it. It exists to compare
 * kernels with each other and with their limit where there is no GPU. */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "ceilings.h"

struct sim_model {
    double seconds; /* times[LIMIT_LAUNCHES] + the largest of the others */
    double times[DEVICE_LIMITS];
    enum device_limit limit; /* which of the others was the largest */
    int blocks_per_sm;       /* resident at once */
};

/* `one_launch`: the counters of this launch alone. Of `launch`, grid, block and shared_bytes are read; give
 * shared_bytes with the kernel's static shared memory included. Never fails: a launch that fits no SM is
 * taken as one block per SM, an empty one costs the overhead. */
void sim_model_evaluate(const struct sim_ceilings *ceilings, const device_counters *one_launch,
                        const device_launch *launch, struct sim_model *out);

#endif
