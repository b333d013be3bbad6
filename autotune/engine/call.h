/* Fills the arguments of calls, for the driver and for the verifier: both act as engines. */
#ifndef AUTOTUNE_ENGINE_CALL_H
#define AUTOTUNE_ENGINE_CALL_H

#include "xq/xq.h"

/* A layer's plan and cache, and the page table of a call. An engine may give every call all of these,
 * whether or not the call reads them (xq/xq.h, Conventions). Members that the plan does not use are 0. */
typedef struct call_cache {
    xq_plan *plan;
    xq_page_table table;
    uint64_t pages, weights, workspace, accumulator;
    size_t workspace_bytes;
    xq_tail_pool tails;
} call_cache;

/* These return descriptors in which the above members are set. */
xq_append_args call_append(const call_cache *c);
xq_accumulate_args call_accumulate(const call_cache *c);
xq_attend_args call_attend(const call_cache *c);
xq_dequantize_args call_dequantize(const call_cache *c);

/* Packs the weights that the plan uses into device memory of their own. */
xq_status call_upload_weights(xq_context *context, const xq_plan *plan, const xq_weights *weights,
                              uint64_t *pointer);

#endif
