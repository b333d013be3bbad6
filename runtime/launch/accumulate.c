/* xq_plan_accumulate: adds a layer's deltas to the accumulator of cross-layer methods. */
#include "../base/check.h"
#include "plan.h"

static bool check_accumulate_args(const xq_plan *plan, const xq_accumulate_args *a, error *err)
{
    if (!plan->kernels[PLAN_ACCUMULATE]) {
        error_set(
            err, XQ_ERROR_ARGUMENT, "argument",
            "the plan has no accumulator; valid: methods x-cl and latent-cl, implementations XQ_FUSED "
            "and XQ_UNFUSED");
        error_field(err, "plan");
        return false;
    }
    if (!check_limit("max_tokens", a->max_tokens, 0, plan->max_tokens, "max_tokens", err) ||
        !check_table(&a->table, plan->max_batch, err))
        return false;
    if (a->table.batch == 0 || a->max_tokens == 0)
        return true;
    bool projects = plan->matrices[PLAN_UKVT];
    return check_pointer("pages", a->pages, 128, err) &&
           (!projects || check_pointer("weights", a->weights, 256, err)) &&
           (!plan_has_tails(plan) || check_tails(&a->tails, err)) &&
           check_pointer("accumulator", a->accumulator, 128, err) &&
           plan_check_cache(plan, &a->tails, a->accumulator, err);
}

xq_status xq_plan_accumulate(xq_plan *plan, const xq_accumulate_args *args, void *stream)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_accumulate_args a = XQ_ACCUMULATE_ARGS_INIT;
    struct plan_stream to = {.stream = stream};
    if (plan_read_args(&a, sizeof a, sizeof a, args, "args", &err) == XQ_OK &&
        check_accumulate_args(plan, &a, &err) &&
        (!plan->checks || plan_check_accumulate(plan, &a, &to, &err)) && a.table.batch > 0 &&
        a.max_tokens > 0) {
        int64_t entries = plan_entries(plan, a.table.batch, a.max_tokens);
        struct xq_accumulate_params params = {
            .table = plan_table(&a.table),
            .pages = a.pages,
            .tails = plan_has_tails(plan) ? plan_tails(&a.tails) : (struct xq_tails){0, 0},
            .accumulator = a.accumulator,
            .ukvt = plan_matrix(plan, a.weights, PLAN_UKVT),
            .batch = a.table.batch,
            .entries = (int)entries,
        };
        int64_t tiles = entries * (plan->shape.page / 16);
        uint32_t grid[3] = {(uint32_t)((tiles + plan->accumulate_tiles - 1) / plan->accumulate_tiles),
                            (uint32_t)plan->accumulate_columns, 1};
        plan_launch(plan->kernels[PLAN_ACCUMULATE], grid, &params, sizeof params, &to, &err);
    }
    return plan_result(plan, &err);
}
