/* Models the time of one launch from what the software device counted and from the ceilings of a GPU. The
 * model is a roofline: the launch takes as long as its busiest resource needs, perfectly overlapped with
 * the others. So the time is a lower bound that a good kernel comes near to, not a prediction for a bad
 * kernel. It leaves out latencies that no other work hides, register pressure and instruction dependences.
 * It exists to compare kernels with each other and with their limit where there is no GPU. */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "ceilings.h"

struct sim_model {
    double seconds; /* times[LIMIT_LAUNCHES] + the largest of the others */
    double times[DEVICE_LIMITS];
    enum device_limit limit; /* which of the other times is the largest */
    int blocks_per_sm;       /* blocks that are resident on an SM at once */
};

/* `one_launch` holds the counters of this launch alone. Only grid, block and shared_bytes of `launch` are
 * read; shared_bytes must include the kernel's static shared memory. The call never fails: a launch whose
 * blocks do not fit an SM is modelled with one block per SM, and an empty launch costs the overhead. */
void sim_model_evaluate(const struct sim_ceilings *ceilings, const device_counters *one_launch,
                        const device_launch *launch, struct sim_model *out);

#endif
