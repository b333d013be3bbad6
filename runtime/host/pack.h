/* Weights in the order that the kernels read them (docs/layout.md). */
#ifndef RUNTIME_HOST_PACK_H
#define RUNTIME_HOST_PACK_H

#include "../launch/shape.h"

/* Fills `destination`, of as many bytes as the implementation's packed weights have. Everything is checked
 * before anything is written. Errors: XQ_ERROR_ARGUMENT naming the field of xq_weights; XQ_ERROR_MEMORY. */
xq_status pack_weights(const struct shape *shape, xq_implementation implementation,
                       const xq_weights *weights, void *destination, error *err);

/* Leaves of a layer's matrices and vectors those that a plan packs: xq_plan_pack_weights refuses others.
 * For callers that have all of a layer, and plans of several implementations. */
void pack_keep_used(const struct shape *shape, xq_implementation implementation, xq_weights *weights);

#endif
