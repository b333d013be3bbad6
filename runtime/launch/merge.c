/* xq_plan_merge: joins attention over two sets of tokens into attention over both. */
#include "../base/check.h"
#include "plan.h"

static bool check_merge_args(const xq_plan *plan, const xq_merge_args *a, error *err)
{
    if (!check_range("queries", a->queries, 0, INT32_MAX / plan->shape.heads, err))
        return false;
    return a->queries == 0 ||
           (check_pointer("out_a", a->out_a, 16, err) && check_pointer("out_b", a->out_b, 16, err) &&
            check_pointer("lse_a", a->lse_a, 4, err) && check_pointer("lse_b", a->lse_b, 4, err) &&
            check_pointer("out", a->out, 16, err) && (!a->lse || check_pointer("lse", a->lse, 4, err)));
}

xq_status xq_plan_merge(xq_plan *plan, const xq_merge_args *args, void *stream)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_merge_args a = XQ_MERGE_ARGS_INIT;
    struct plan_stream to = {.stream = stream};
    if (plan_read_args(&a, sizeof a, sizeof a, args, "args", &err) == XQ_OK &&
        check_merge_args(plan, &a, &err) && (!plan->checks || plan_check_merge(plan, &to, &err)) &&
        a.queries > 0) {
        int64_t rows = a.queries * plan->shape.heads;
        struct xq_merge_params params = {
            .out_a = a.out_a,
            .out_b = a.out_b,
            .lse_a = a.lse_a,
            .lse_b = a.lse_b,
            .out = a.out,
            .lse = a.lse,
            .rows = (int)rows,
        };
        uint32_t grid[3] = {(uint32_t)((rows + plan->merge_rows - 1) / plan->merge_rows), 1, 1};
        plan_launch(plan->kernels[PLAN_MERGE], grid, &params, sizeof params, &to, &err);
    }
    return plan_result(plan, &err);
}
