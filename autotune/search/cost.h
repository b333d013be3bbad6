/* Predicts the time of a kernel before it is compiled, from the work that its family states and from the
 * rates of the device. The prediction ranks candidates, so that a search begins with those that are likely
 * to be fast; it does not replace measuring. docs/tuning.md has the formulas.
 *
 * The model counts bytes of device memory, and how many of them are under way at once; bytes through L2,
 * among them the weights that each split reads again; bytes from shared memory; matrix work; issue slots;
 * how many blocks and warps fit on a multiprocessor, by threads, shared memory and registers; how many
 * blocks the busiest multiprocessor runs, which accounts for the last wave; and the joining of splits. */
#ifndef AUTOTUNE_SEARCH_COST_H
#define AUTOTUNE_SEARCH_COST_H

#include "../../runtime/base/error.h"

#include <cjson/cJSON.h>
#include <stdint.h>

/* A device, as far as it is known. A figure of 0 is unknown, and the limit that it sets is left out. */
struct cost_device {
    int multiprocessors;          /* >= 1 */
    int threads_sm, registers_sm; /* of one multiprocessor */
    size_t shared_bytes_sm;
    double clock_hz;                /* 0: 1.5 GHz is assumed */
    double copy_bytes_per_second;   /* bandwidth of device memory, as measured; > 0 */
    double matrix_flops_per_second; /* rate of mma.sync in f16, as measured; > 0 */
};

/* The sizes of one attention call. */
struct cost_load {
    int64_t tokens; /* tokens of each sequence */
    int64_t batch, queries;
};

/* The limits of the model. A kernel takes at least the longest of their times. */
enum cost_limit { COST_MEMORY, COST_LATENCY, COST_L2, COST_SHARED, COST_MATRIX, COST_ISSUE, COST_LIMITS };
extern const char *const cost_limit_names[COST_LIMITS];

struct cost {
    double seconds;            /* of the family's own kernel in one step, all its launches together */
    double times[COST_LIMITS]; /* seconds that each limit would take alone */
    enum cost_limit limit;     /* the limit with the longest time */
    double flops, instructions, l2_bytes; /* of all blocks and launches, without joining splits */
    int64_t blocks;                       /* blocks of one launch */
    int blocks_per_sm;
};

/* `candidate` is one of gen_space's, with "resources" and "work". A candidate whose family states no work
 * costs 0 seconds. Errors: XQ_ERROR_INTERNAL naming the number that the candidate lacks. */
xq_status cost_predict(const cJSON *candidate, const struct cost_device *device,
                       const struct cost_load *load, struct cost *out, error *err);

#endif
