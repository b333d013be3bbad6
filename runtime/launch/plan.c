#include "plan.h"
#include "../base/check.h"
#include "../base/descriptor.h"
#include "plan_image.h"

#include <stdlib.h>
#include <string.h>

xq_status plan_result(const xq_plan *plan, error *err)
{
    return err->status == XQ_OK ? XQ_OK : context_fail(plan->context, err);
}

xq_status plan_read_args(void *full, size_t size, size_t first, const void *given, const char *name,
                         error *err)
{
    return descriptor_read(full, size, first, given, name, err);
}

struct xq_matrix plan_matrix(const xq_plan *plan, uint64_t weights, enum plan_matrix which)
{
    const struct shape_matrix *m = plan->matrices[which];
    if (!m)
        return (struct xq_matrix){0, 0};
    return (struct xq_matrix){weights + m->offset,
                              weight_bytes(m->type) == 1 ? weights + m->scale_offset : 0};
}

uint64_t plan_vector(const xq_plan *plan, uint64_t weights, enum plan_vector which)
{
    const struct shape_vector *v = plan->vectors[which];
    return v ? weights + v->offset : 0;
}

bool plan_check_cache(const xq_plan *plan, const xq_tail_pool *tails, uint64_t accumulator, error *err)
{
    static const char no_tails[] = "the plan's tail_bytes is 0",
                      no_accumulator[] = "the plan's accumulator_page_bytes is 0";
    return (plan_has_tails(plan) || (check_unused("tails.pool", tails->pool, no_tails, err) &&
                                     check_unused("tails.slots", tails->slots, no_tails, err))) &&
           ((plan->implementation != XQ_FP16_KV && plan->shape.cross_layer) ||
            check_unused("accumulator", accumulator, no_accumulator, err));
}

struct xq_table plan_table(const xq_page_table *table)
{
    return (struct xq_table){table->indptr, table->indices, table->last_page_len};
}

struct xq_tails plan_tails(const xq_tail_pool *tails)
{
    return (struct xq_tails){tails->pool, tails->slots};
}

uint64_t plan_advance(uint64_t pointer, uint64_t bytes)
{
    return pointer ? pointer + bytes : 0;
}

struct xq_queries plan_queries(const struct plan_attend_call *c, int32_t first)
{
    const xq_attend_args *a = c->args;
    uint64_t ints = (uint64_t)first * 4, rows = a->query_indptr ? 0 : (uint64_t)first;
    return (struct xq_queries){
        .query_indptr = plan_advance(a->query_indptr, ints),
        .query_position = plan_advance(a->query_position, rows * 4),
        .token_offset = plan_advance(a->token_offset, ints),
        .tree_mask = plan_advance(a->tree_mask, rows * (uint64_t)a->mask_words * 4),
        .mask_words = a->tree_mask ? a->mask_words : 0,
        .queries = (int)c->queries,
        .blocks = c->blocks,
    };
}

int64_t plan_entries(const xq_plan *plan, int32_t batch, int64_t max_tokens)
{
    int64_t entries = batch * ((max_tokens + plan->shape.page - 1) / plan->shape.page);
    return entries < plan->max_pages ? entries : plan->max_pages;
}

/* --------------------------------------------------------------- lifetime */

void xq_plan_destroy(xq_plan *plan)
{
    if (!plan)
        return;
    for (int i = 0; i < PLAN_SLOTS; i++)
        kernel_destroy(*plan_slot(plan, i));
    fault_log_close(plan->context, plan->faults);
    free(plan->image);
    context_release(plan->context);
    free(plan);
}

static xq_status save(const xq_plan *plan, void *buffer, size_t capacity, size_t *bytes, error *err)
{
    if (!check_not_null("bytes", bytes, err))
        return err->status;
    if (!buffer && capacity > 0)
        check_not_null("buffer", buffer, err);
    else if (buffer && capacity < plan->image_bytes) {
        error_set(err, XQ_ERROR_ARGUMENT, "argument", "capacity is %zu; the plan's image has %zu bytes",
                  capacity, plan->image_bytes);
        error_field(err, "capacity");
    }
    if (err->status != XQ_OK)
        return err->status;
    if (buffer)
        memcpy(buffer, plan->image, plan->image_bytes);
    *bytes = plan->image_bytes;
    return XQ_OK;
}

xq_status xq_plan_save(const xq_plan *plan, void *buffer, size_t capacity, size_t *bytes)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    save(plan, buffer, capacity, bytes, &err);
    return plan_result(plan, &err);
}

xq_status xq_plan_load(xq_context *context, const void *image, size_t bytes, xq_plan **plan)
{
    if (!context_works(context))
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    /* This comes before the copy, so that a wrong length is not read. */
    if (!check_not_null("image", image, &err) || !check_not_null("plan", plan, &err) ||
        plan_image_check(image, bytes, &err) != XQ_OK)
        return context_fail(context, &err);
    unsigned char *copy = (unsigned char *)malloc(bytes);
    if (!copy) {
        error_set(&err, XQ_ERROR_MEMORY, "argument", "out of memory");
        return context_fail(context, &err);
    }
    memcpy(copy, image, bytes);
    xq_plan *opened = NULL;
    if (plan_from_image(context, copy, bytes, &opened, &err) != XQ_OK)
        return context_fail(context, &err);
    *plan = opened;
    return XQ_OK;
}

/* -------------------------------------------------------------- questions */

xq_status xq_plan_query(const xq_plan *plan, xq_plan_info *info)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    const struct shape *s = &plan->shape;
    bool fp16_kv = plan->implementation == XQ_FP16_KV;
    xq_plan_info full = {
        .struct_size = sizeof full,
        .hidden_size = s->hidden_size,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .page_tokens = s->page,
        .rank_k = fp16_kv ? s->kv_width : s->rank_k,
        .rank_v = fp16_kv ? s->kv_width : s->rank_v,
        .page_bytes = plan->page_bytes,
        .page_align = 128,
        .weights_bytes = plan->weights->bytes,
        .workspace_bytes = plan->workspace.bytes,
        .cache_bytes_per_token = fp16_kv ? (double)s->kv_page_bytes / s->page : s->bytes_per_token,
        .latents = 1,
        .parameters_from = plan->parameters_from,
        .implementation = plan->implementation,
        .max_batch = plan->max_batch,
        .max_tokens = plan->max_tokens,
        .max_pages = plan->max_pages,
        .max_append = plan->max_append,
        .max_queries = plan->max_queries,
        .max_total_queries = plan->max_total_queries,
        .pool_pages = plan->pool_pages,
        .latents_v = 1,
    };
    if (!fp16_kv) {
        full.tail_bytes = s->tail_bytes;
        full.accumulator_page_bytes = s->accumulator_page_bytes;
        full.accumulator_bytes_per_token = s->accumulator_bytes_per_token;
        full.needs_append_indptr = s->by_channel;
        full.latents = s->streams[0].latents;
        full.latents_v = s->streams[s->stream_count - 1].latents;
    }
    descriptor_write(info, &full, sizeof full, DESCRIPTOR_UP_TO(xq_plan_info, tail_bytes), "info", &err);
    return plan_result(plan, &err);
}

const char *xq_plan_spec(const xq_plan *plan)
{
    return plan ? plan->spec : NULL;
}
