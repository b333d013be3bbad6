/* xq_plan_merge: joins attention over two sets of tokens. */
#include "plan.h"

xq_status xq_plan_merge(xq_plan *plan, const xq_merge_args *args, void *stream)
{
    (void)stream;
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_merge_args a = XQ_MERGE_ARGS_INIT;
    if (plan_read_args(&a, sizeof a, args, "args", &err) == XQ_OK)
        error_set(&err, XQ_ERROR_UNSUPPORTED, "argument", "merging is not supported yet");
    return plan_result(plan, &err);
}
