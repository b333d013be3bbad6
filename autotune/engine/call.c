#include "call.h"

#include "../../runtime/host/pack.h"
#include "../../runtime/launch/plan.h"

#include <stdlib.h>

#define CACHED(C)                                                                                          \
    .table = (C)->table, .pages = (C)->pages, .tails = (C)->tails, .accumulator = (C)->accumulator
#define WORKSPACE(C) .workspace = (C)->workspace, .workspace_bytes = (C)->workspace_bytes

xq_append_args call_append(const call_cache *c)
{
    return (xq_append_args){
        .struct_size = sizeof(xq_append_args), CACHED(c), WORKSPACE(c), .weights = c->weights};
}

xq_accumulate_args call_accumulate(const call_cache *c)
{
    return (xq_accumulate_args){
        .struct_size = sizeof(xq_accumulate_args), CACHED(c), .weights = c->weights};
}

xq_attend_args call_attend(const call_cache *c)
{
    return (xq_attend_args){
        .struct_size = sizeof(xq_attend_args), CACHED(c), WORKSPACE(c), .weights = c->weights};
}

xq_dequantize_args call_dequantize(const call_cache *c)
{
    return (xq_dequantize_args){.struct_size = sizeof(xq_dequantize_args), CACHED(c)};
}

xq_status call_upload_weights(xq_context *context, const xq_plan *plan, const xq_weights *weights,
                              uint64_t *pointer)
{
    const size_t bytes = plan->weights->bytes;
    xq_weights used = *weights;
    void *packed = malloc(bytes + 1);
    if (!packed)
        return XQ_ERROR_MEMORY;
    pack_keep_used(&plan->shape, plan->implementation, &used);
    xq_status status = xq_plan_pack_weights(plan, &used, packed, bytes);
    if (status == XQ_OK)
        status = xq_device_alloc(context, bytes, pointer);
    if (status == XQ_OK)
        status = xq_device_write(context, *pointer, packed, bytes);
    free(packed);
    return status;
}
