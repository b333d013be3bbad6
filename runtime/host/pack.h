/* Weights in the order that the kernels read them (docs/layout.md). */
#ifndef RUNTIME_HOST_PACK_H
#define RUNTIME_HOST_PACK_H

#include "../launch/shape.h"

/* Fills `destination`, which has room for the implementation's packed weights. Everything is checked
 * before anything is written. Errors: XQ_ERROR_ARGUMENT naming the field of xq_weights; XQ_ERROR_MEMORY. */
xq_status pack_weights(const struct shape *shape, xq_implementation implementation,
                       const xq_weights *weights, void *destination, error *err);

/* Sets to NULL the matrices and vectors of a layer that a plan does not pack, because xq_plan_pack_weights
 * refuses them. For callers that have all weights of a layer, and plans of several implementations. */
void pack_keep_used(const struct shape *shape, xq_implementation implementation, xq_weights *weights);

#endif
