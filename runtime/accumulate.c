/* xq_plan_accumulate: a layer's deltas into the accumulator. */
#include "plan.h"

xq_status xq_plan_accumulate(xq_plan *plan, const xq_accumulate_args *args, void *stream)
{
    (void)stream;
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_accumulate_args a = XQ_ACCUMULATE_ARGS_INIT;
    if (plan_read_args(&a, sizeof a, args, "args", &err) == XQ_OK)
        error_set(&err, XQ_ERROR_ARGUMENT, "argument", "the plan's method has no accumulator");
    return plan_result(plan, &err);
}
