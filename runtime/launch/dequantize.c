/* xq_plan_dequantize: writes out the cache as the kernels see it. */
#include "../base/check.h"
#include "plan.h"

static bool check_dequantize_args(const xq_plan *plan, const xq_dequantize_args *a, error *err)
{
    if (plan->implementation == XQ_FP16_KV) {
        error_set(
            err, XQ_ERROR_UNSUPPORTED, "argument",
            "a plan with implementation XQ_FP16_KV has no quantized cache; valid: XQ_FUSED, XQ_UNFUSED");
        error_field(err, "implementation");
        return false;
    }
    int64_t most =
        plan->max_pages < INT32_MAX / plan->shape.page ? plan->max_pages : INT32_MAX / plan->shape.page;
    if (!check_range("table_entries", a->table_entries, 0, most, err) ||
        !check_table(&a->table, plan->max_batch, err))
        return false;
    const struct shape *s = &plan->shape;
    return a->table_entries == 0 ||
           (check_limit("table.batch", a->table.batch, 1, plan->max_batch, "max_batch", err) &&
            (s->cross_layer ? check_pointer("accumulator", a->accumulator, 128, err)
                            : check_pointer("pages", a->pages, 128, err)) &&
            (!plan_reads_tails(plan) || check_tails(&a->tails, err)) &&
            plan_check_cache(plan, &a->tails, a->accumulator, err) && check_pointer("k", a->k, 16, err) &&
            (s->latent ? check_pointer("v", a->v, 16, err)
                       : check_unused("v", a->v, "one stream is cached, which k receives", err)));
}

xq_status plan_dequantize(const xq_plan *plan, const xq_dequantize_args *a, const struct plan_stream *to,
                          error *err)
{
    const struct shape *s = &plan->shape;
    struct xq_dequantize_params params = {
        .table = plan_table(&a->table),
        .pages = s->cross_layer ? a->accumulator : a->pages,
        .tails = plan_reads_tails(plan) ? plan_tails(&a->tails) : (struct xq_tails){0, 0},
        .k = a->k,
        .v = a->v,
        .batch = a->table.batch,
        .entries = (int)a->table_entries,
    };
    uint32_t grid[3] = {(uint32_t)(a->table_entries * (s->page / 16)), (uint32_t)plan->dequantize_columns,
                        1};
    return plan_launch(plan->kernels[PLAN_DEQUANTIZE], grid, &params, sizeof params, to, err);
}

xq_status xq_plan_dequantize(xq_plan *plan, const xq_dequantize_args *args, void *stream)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_dequantize_args a = XQ_DEQUANTIZE_ARGS_INIT;
    struct plan_stream to = {.stream = stream};
    if (plan_read_args(&a, sizeof a, DESCRIPTOR_UP_TO(xq_dequantize_args, tails), args, "args", &err) ==
            XQ_OK &&
        check_dequantize_args(plan, &a, &err) &&
        (!plan->checks || plan_check_dequantize(plan, &a, &to, &err)) && a.table_entries > 0) {
        plan_dequantize(plan, &a, &to, &err);
    }
    return plan_result(plan, &err);
}
