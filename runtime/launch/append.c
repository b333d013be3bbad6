/* xq_plan_append: writes new tokens into their pages. */
#include "../base/check.h"
#include "plan.h"

/* Checks the arguments that only a quantized cache has. */
static bool check_quantized(const xq_plan *plan, const xq_append_args *a, error *err)
{
    const struct shape *s = &plan->shape;
    bool projects = plan->matrices[PLAN_UK] || plan->matrices[PLAN_UKV];
    return (!projects || check_pointer("weights", a->weights, 256, err)) &&
           (!plan_has_tails(plan) ||
            (check_pointer("append_indptr", a->append_indptr, 4, err) && check_tails(&a->tails, err))) &&
           (!s->cross_layer || s->base || check_pointer("accumulator", a->accumulator, 128, err)) &&
           check_unused("rotary_position", a->rotary_position,
                        "a quantized cache is not rotated, and attend takes positions", err);
}

static bool check_fp16_kv(const xq_plan *plan, const xq_append_args *a, error *err)
{
    return check_pointer("weights", a->weights, 256, err) &&
           (!a->rotary_position || check_pointer("rotary_position", a->rotary_position, 4, err)) &&
           check_workspace(a->workspace, a->workspace_bytes, plan->workspace.bytes, err);
}

static bool check_append_args(const xq_plan *plan, const xq_append_args *a, error *err)
{
    if (!check_limit("tokens", a->tokens, 0, plan->max_append, "max_append", err) ||
        !check_table(&a->table, plan->max_batch, err))
        return false;
    if (a->tokens == 0)
        return true;
    return check_limit("table.batch", a->table.batch, 1, plan->max_batch, "max_batch", err) &&
           check_pointer("x", a->x, 16, err) &&
           check_pointer("token_sequence", a->token_sequence, 4, err) &&
           check_pointer("token_position", a->token_position, 4, err) &&
           check_pointer("pages", a->pages, 128, err) &&
           plan_check_cache(plan, &a->tails, a->accumulator, err) &&
           (plan->implementation == XQ_FP16_KV ? check_fp16_kv(plan, a, err)
                                               : check_quantized(plan, a, err));
}

/* Quantizes x, or its projections, or what x adds to the accumulator, into pages: first the streams with
 * per-token groups, then those with per-channel groups. */
static xq_status append_quantized(const xq_plan *plan, const xq_append_args *a,
                                  const struct plan_stream *to, error *err)
{
    const struct shape *s = &plan->shape;
    struct xq_append_params params = {
        .table = plan_table(&a->table),
        .x = a->x,
        .token_sequence = a->token_sequence,
        .token_position = a->token_position,
        .append_indptr = plan_has_tails(plan) ? a->append_indptr : 0,
        .pages = a->pages,
        .tails = plan_has_tails(plan) ? plan_tails(&a->tails) : (struct xq_tails){0, 0},
        .accumulator = s->cross_layer && !s->base ? a->accumulator : 0,
        .uk = plan_matrix(plan, a->weights, s->cross_layer ? PLAN_UKV : PLAN_UK),
        .uv = plan_matrix(plan, a->weights, PLAN_UV),
        .fk = plan_matrix(plan, a->weights, PLAN_FK).data,
        .fv = plan_matrix(plan, a->weights, PLAN_FV).data,
        .tokens = (int)a->tokens,
    };
    uint32_t tiles[3] = {(uint32_t)((a->tokens + 15) / 16), (uint32_t)plan->append_columns, 1};
    if (plan->kernels[PLAN_APPEND] &&
        plan_launch(plan->kernels[PLAN_APPEND], tiles, &params, sizeof params, to, err) != XQ_OK)
        return err->status;
    if (!plan->kernels[PLAN_APPEND_CHANNEL])
        return XQ_OK;
    /* The worst case: all tokens are of one sequence, and the first of them is the last token of a group.
     */
    int64_t groups_most = (a->tokens + plan->append_group - 2) / plan->append_group + 1;
    uint32_t groups[3] = {(uint32_t)groups_most, (uint32_t)plan->append_channel_columns,
                          (uint32_t)a->table.batch};
    for (params.step = 0; params.step < plan->append_steps && err->status == XQ_OK; params.step++)
        plan_launch(plan->kernels[PLAN_APPEND_CHANNEL], groups, &params, sizeof params, to, err);
    return err->status;
}

/* Projects x to K and V, normalizes and rotates K, and writes both without quantizing them. */
static xq_status append_fp16_kv(const xq_plan *plan, const xq_append_args *a, const struct plan_stream *to,
                                error *err)
{
    const struct shape *s = &plan->shape;
    int32_t rows = (int32_t)a->tokens;
    struct plan_product k = {
        .matrix = PLAN_WK,
        .bias = PLAN_BK,
        .weights = a->weights,
        .latents = 1,
        .x = a->x,
        .x_stride = s->hidden_size,
        .y = a->workspace + plan->workspace.new_k,
        .rows = rows,
        .page = rows,
    };
    struct plan_product v = k;
    v.matrix = PLAN_WV;
    v.bias = PLAN_BV;
    v.y = a->workspace + plan->workspace.new_v;
    if (plan_gemm(plan, &k, to, err) != XQ_OK || plan_gemm(plan, &v, to, err) != XQ_OK)
        return err->status;
    struct xq_kv_append_params params = {
        .table = plan_table(&a->table),
        .k = k.y,
        .v = v.y,
        .token_sequence = a->token_sequence,
        .token_position = a->token_position,
        .rotary_position = a->rotary_position,
        .k_norm = plan_vector(plan, a->weights, PLAN_K_NORM),
        .kv = a->pages,
        .tokens = rows,
    };
    uint32_t grid[3] = {(uint32_t)rows, 1, 1};
    return plan_launch(plan->kernels[PLAN_KV_APPEND], grid, &params, sizeof params, to, err);
}

xq_status xq_plan_append(xq_plan *plan, const xq_append_args *args, void *stream)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_append_args a = XQ_APPEND_ARGS_INIT;
    struct plan_stream to = {.stream = stream};
    if (plan_read_args(&a, sizeof a, DESCRIPTOR_UP_TO(xq_append_args, append_indptr), args, "args", &err) ==
            XQ_OK &&
        check_append_args(plan, &a, &err) && (!plan->checks || plan_check_append(plan, &a, &to, &err)) &&
        a.tokens > 0) {
        if (plan->implementation == XQ_FP16_KV)
            append_fp16_kv(plan, &a, &to, &err);
        else
            append_quantized(plan, &a, &to, &err);
    }
    return plan_result(plan, &err);
}
