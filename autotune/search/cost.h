/* A time for a kernel before it is compiled, from what its family states that it has to do and from what
 * the device can do. It ranks candidates, so that a search begins with those that are likely to be fast; it
 * does not replace measuring. docs/tuning.md has the formulas.
 *
 * The terms: bytes of device memory, and how many of them are under way; bytes through L2, among them the
 * weights that each split reads again; bytes from shared memory; matrix work; issue slots; how many blocks
 * and warps a multiprocessor holds by threads, shared memory and registers; how many blocks the busiest
 * multiprocessor has, which counts the last wave; and joining the splits. */
#ifndef AUTOTUNE_SEARCH_COST_H
#define AUTOTUNE_SEARCH_COST_H

#include "../../runtime/base/error.h"

#include <cjson/cJSON.h>
#include <stdint.h>

/* A device as far as it is known. Where a figure is 0, the limit that it sets is left out. */
struct cost_device {
    int multiprocessors;          /* >= 1 */
    int threads_sm, registers_sm; /* of a multiprocessor */
    size_t shared_bytes_sm;
    double clock_hz;                /* 0: 1.5 GHz */
    double copy_bytes_per_second;   /* > 0; device memory, as measured */
    double matrix_flops_per_second; /* > 0; mma.sync in f16, as measured */
};

/* How attention is called. */
struct cost_load {
    int64_t tokens; /* of each sequence */
    int64_t batch, queries;
};

/* The limits of the model. The largest of their times bounds a kernel. */
enum cost_limit { COST_MEMORY, COST_LATENCY, COST_L2, COST_SHARED, COST_MATRIX, COST_ISSUE, COST_LIMITS };
extern const char *const cost_limit_names[COST_LIMITS];

struct cost {
    double seconds;                       /* of the family's own kernel in a step */
    double times[COST_LIMITS];            /* seconds, each as if the others cost nothing */
    enum cost_limit limit;                /* the largest of them */
    double flops, instructions, l2_bytes; /* of all blocks and launches */
    int64_t blocks;                       /* of a launch */
    int blocks_per_sm;
};

/* `candidate`: one of gen_space, with "resources" and "work". A candidate whose family states no work costs
 * 0 seconds. Errors: XQ_ERROR_INTERNAL naming what the candidate lacks. */
xq_status cost_predict(const cJSON *candidate, const struct cost_device *device,
                       const struct cost_load *load, struct cost *out, error *err);

#endif
