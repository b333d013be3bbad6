/* The unfused pipeline up to attention: it computes the fp16 keys and values of the whole cache into the
 * workspace. */
#include "plan.h"

/* Step 1: dequantizes pages and tails, or the accumulator, to rows of f16. */
static xq_status dequantize(const struct plan_attend_call *c, int64_t entries, error *err)
{
    const xq_attend_args *a = c->args;
    xq_dequantize_args args = {
        .table_entries = entries,
        .table = a->table,
        .pages = a->pages,
        .k = a->workspace + c->plan->workspace.rows_k,
        .v = a->workspace + c->plan->workspace.rows_v,
        .tails = a->tails,
        .accumulator = a->accumulator,
    };
    return plan_dequantize(c->plan, &args, &c->to, err);
}

/* Step 2: projects the rows to keys or values, in pages of the workspace. */
static xq_status project(const struct plan_attend_call *c, int64_t entries, uint64_t kv, error *err)
{
    const xq_plan *plan = c->plan;
    const struct shape *s = &plan->shape;
    int64_t half_page = (int64_t)s->page * s->kv_width; /* elements: a page's keys, then its values */
    struct plan_product k = {
        .matrix = PLAN_WK,
        .bias = PLAN_BK,
        .weights = c->args->weights,
        .latents = s->streams[0].latents,
        .x = c->args->workspace + plan->workspace.rows_k,
        .x_stride = s->cross_layer ? s->hidden_size : s->rank_k,
        .y = kv,
        .rows = entries * s->page,
        .page = s->page,
        .page_stride = 2 * half_page,
    };
    struct plan_product v = k;
    v.matrix = PLAN_WV;
    v.bias = PLAN_BV;
    v.x = c->args->workspace + plan->workspace.rows_v;
    v.latents = s->streams[s->stream_count - 1].latents;
    v.x_stride = s->latent ? s->rank_v : k.x_stride;
    v.y = kv + (uint64_t)half_page * 2;
    if (plan_gemm(plan, &k, &c->to, err) != XQ_OK)
        return err->status;
    return plan_gemm(plan, &v, &c->to, err);
}

/* Step 3: normalizes and rotates the keys in place. */
static xq_status rotate(const struct plan_attend_call *c, int64_t entries, uint64_t kv, error *err)
{
    const xq_plan *plan = c->plan;
    if (!plan->kernels[PLAN_ROPE])
        return XQ_OK;
    struct xq_rope_params params = {
        .table = plan_table(&c->args->table),
        .queries = plan_queries(c, 0),
        .kv = kv,
        .k_norm = plan_vector(plan, c->args->weights, PLAN_K_NORM),
        .batch = c->args->table.batch,
        .entries = (int)entries,
    };
    uint32_t grid[3] = {(uint32_t)(entries * (plan->shape.page / 16)), (uint32_t)plan->rope_heads, 1};
    return plan_launch(plan->kernels[PLAN_ROPE], grid, &params, sizeof params, &c->to, err);
}

xq_status plan_rematerialize(const struct plan_attend_call *c, error *err)
{
    int64_t entries = plan_entries(c->plan, c->args->table.batch, c->args->max_tokens);
    uint64_t kv = c->args->workspace + c->plan->workspace.kv;
    if (entries > 0 && dequantize(c, entries, err) == XQ_OK && project(c, entries, kv, err) == XQ_OK)
        rotate(c, entries, kv, err);
    return err->status;
}
