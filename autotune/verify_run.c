/* The device's side of a verification case: buffers, appends, one attend, and the results copied back. */
#include "../runtime/half.h"
#include "../runtime/last_error.h"
#include "verify_parts.h"

#include <stdlib.h>
#include <string.h>

/* Device buffers of one case, freed together. */
typedef struct buffers {
    xq_context *context;
    uint64_t pointers[32];
    int count;
    xq_status status;
} buffers;

/* `bytes` of device memory holding `data` (or NaN patterns where NULL); 0 once anything has failed. */
static uint64_t buffer(buffers *b, const void *data, size_t bytes)
{
    uint64_t pointer = 0;
    if (b->status == XQ_OK)
        b->status = xq_device_alloc(b->context, bytes ? bytes : 1, &pointer);
    if (b->status != XQ_OK)
        return 0;
    b->pointers[b->count++] = pointer;
    b->status = data ? xq_device_write(b->context, pointer, data, bytes)
                     : xq_device_fill(b->context, pointer, 0xff, bytes);
    return pointer;
}

static void buffers_free(buffers *b)
{
    for (int i = 0; i < b->count; i++)
        xq_device_free(b->context, b->pointers[i]);
}

void verify_run_free(verify_run *r)
{
    free(r->pages);
    free(r->out);
    free(r->lse);
    memset(r, 0, sizeof *r);
}

static xq_status append_all(verifier *v, int implementation, const case_shape *shape, xq_append_args args)
{
    const uint64_t x = args.x, sequence = args.token_sequence, position = args.token_position;
    for (int i = 0; i < shape->appends; i++) {
        int first = shape->tokens * i / shape->appends, end = shape->tokens * (i + 1) / shape->appends;
        args.tokens = end - first;
        args.x = x + (uint64_t)first * (uint64_t)v->spec.hidden * 2;
        args.token_sequence = sequence + (uint64_t)first * 4;
        args.token_position = position + (uint64_t)first * 4;
        xq_status status = xq_plan_append(v->plan[implementation], &args, NULL);
        if (status != XQ_OK)
            return status;
    }
    return XQ_OK;
}

xq_status verify_run_device(verifier *v, int implementation, const case_shape *shape, const uint8_t *filled,
                            verify_run *out, error *err)
{
    const xq_plan_info *info = &v->info[implementation];
    size_t pool = (size_t)shape->pool_pages * info->page_bytes;
    size_t heads = (size_t)shape->batch * (size_t)v->spec.heads, values = heads * (size_t)v->spec.head_dim;
    buffers b = {.context = v->context};
    xq_append_args append = XQ_APPEND_ARGS_INIT;
    xq_attend_args attend = XQ_ATTEND_ARGS_INIT;
    append.table.batch = shape->batch;
    append.table.indptr = buffer(&b, shape->indptr, (size_t)(shape->batch + 1) * 4);
    append.table.indices = buffer(&b, shape->indices, (size_t)(shape->table_entries + 4) * 4);
    append.table.last_page_len = buffer(&b, shape->last_page_len, (size_t)shape->batch * 4);
    append.x = buffer(&b, shape->x, (size_t)shape->tokens * (size_t)v->spec.hidden * 2);
    append.token_sequence = buffer(&b, shape->token_sequence, (size_t)shape->tokens * 4);
    append.token_position = buffer(&b, shape->token_position, (size_t)shape->tokens * 4);
    append.pages = buffer(&b, filled, pool);
    append.weights = v->device_weights[implementation];
    append.workspace = buffer(&b, NULL, info->workspace_bytes);
    append.workspace_bytes = info->workspace_bytes;
    if (b.status == XQ_OK && info->workspace_bytes)
        b.status = xq_device_fill(v->context, append.workspace, 0, info->workspace_bytes);
    attend.max_tokens = shape->longest;
    attend.q = buffer(&b, shape->q, values * 2);
    attend.out = buffer(&b, NULL, values * 2);
    attend.lse = buffer(&b, NULL, heads * 4);
    attend.table = append.table;
    attend.pages = append.pages;
    attend.weights = append.weights;
    attend.workspace = append.workspace;
    attend.workspace_bytes = append.workspace_bytes;

    if (b.status == XQ_OK && !filled)
        b.status = append_all(v, implementation, shape, append);
    /* Twice: a launch must leave the workspace as it found it. The second output counts. */
    for (int i = 0; i < 2 && b.status == XQ_OK; i++) {
        b.status = xq_device_fill(v->context, attend.out, 0xff, values * 2);
        if (b.status == XQ_OK)
            b.status = xq_plan_attend(v->plan[implementation], &attend, NULL);
    }
    if (b.status == XQ_OK)
        b.status = xq_device_synchronize(v->context);

    out->shape = shape;
    out->pages = malloc(pool);
    out->out = malloc(values * sizeof *out->out);
    out->lse = malloc(heads * sizeof *out->lse);
    uint16_t *halves = malloc(values * sizeof *halves);
    int complete = out->pages && out->out && out->lse && halves;
    if (b.status == XQ_OK && complete)
        b.status = xq_device_read(v->context, out->pages, append.pages, pool);
    if (b.status == XQ_OK && complete)
        b.status = xq_device_read(v->context, halves, attend.out, values * 2);
    if (b.status == XQ_OK && complete)
        b.status = xq_device_read(v->context, out->lse, attend.lse, heads * 4);
    if (b.status != XQ_OK)
        last_error_read(v->context, b.status, err);
    else if (!complete)
        verify_out_of_memory(err);
    else
        half_to_doubles(out->out, halves, values);
    free(halves);
    buffers_free(&b);
    if (err->status != XQ_OK)
        verify_run_free(out);
    return err->status;
}
