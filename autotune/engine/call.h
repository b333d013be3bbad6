/* Arguments of calls, filled for the driver and for the verifier, which are both engines. */
#ifndef AUTOTUNE_ENGINE_CALL_H
#define AUTOTUNE_ENGINE_CALL_H

#include "xq/xq.h"

/* A layer's plan and cache, and the table of a call. An engine may give every call all of it, whether the
 * call reads it or not (xq/xq.h, Conventions). Members that the plan has no use for are 0. */
typedef struct call_cache {
    xq_plan *plan;
    xq_page_table table;
    uint64_t pages, weights, workspace, accumulator;
    size_t workspace_bytes;
    xq_tail_pool tails;
} call_cache;

/* Descriptors with these members set. */
xq_append_args call_append(const call_cache *c);
xq_accumulate_args call_accumulate(const call_cache *c);
xq_attend_args call_attend(const call_cache *c);
xq_dequantize_args call_dequantize(const call_cache *c);

/* Packs what the plan uses of `weights` into device memory of its own. */
xq_status call_upload_weights(xq_context *context, const xq_plan *plan, const xq_weights *weights,
                              uint64_t *pointer);

#endif
