/* xq_plan_append: new tokens into their pages. */
#include "check.h"
#include "plan.h"

static bool check_args(const xq_plan *plan, const xq_append_args *a, error *err)
{
    if (!check_range("tokens", a->tokens, 0, plan->max_append, err) ||
        !check_table(&a->table, plan->max_batch, err))
        return false;
    if (a->tokens == 0)
        return true;
    bool fp16_kv = plan->implementation == XQ_FP16_KV;
    return check_range("table.batch", a->table.batch, 1, plan->max_batch, err) &&
           check_pointer("x", a->x, 16, err) &&
           check_pointer("token_sequence", a->token_sequence, 4, err) &&
           check_pointer("token_position", a->token_position, 4, err) &&
           check_pointer("pages", a->pages, 128, err) &&
           (!(fp16_kv || plan->shape.latent) || check_pointer("weights", a->weights, 256, err)) &&
           (!fp16_kv || check_workspace(a->workspace, a->workspace_bytes, plan->workspace.bytes, err));
}

/* Quantize x, or its projections, into pages. */
static xq_status append_quantized(const xq_plan *plan, const xq_append_args *a, void *stream, error *err)
{
    bool latent = plan->shape.latent;
    struct xq_append_params params = {
        .table = plan_table(&a->table),
        .x = a->x,
        .token_sequence = a->token_sequence,
        .token_position = a->token_position,
        .pages = a->pages,
        .uk = {latent ? plan_matrix(plan, a->weights, "uk") : 0, 0},
        .uv = {latent ? plan_matrix(plan, a->weights, "uv") : 0, 0},
        .tokens = (int)a->tokens,
    };
    uint32_t grid[3] = {(uint32_t)((a->tokens + 15) / 16), (uint32_t)plan->append_columns, 1};
    return kernel_launch(plan->kernels[PLAN_APPEND], grid, &params, sizeof params, stream, err);
}

/* Project to K and V, rotate K, write both as they are. */
static xq_status append_fp16_kv(const xq_plan *plan, const xq_append_args *a, void *stream, error *err)
{
    const struct shape *s = &plan->shape;
    uint64_t k = a->workspace + plan->workspace.new_k, v = a->workspace + plan->workspace.new_v;
    int32_t rows = (int32_t)a->tokens;
    uint64_t wk = plan_matrix(plan, a->weights, "wk"), wv = plan_matrix(plan, a->weights, "wv");
    if (plan_gemm(plan, a->x, wk, s->hidden_size, k, rows, rows, 0, stream, err) != XQ_OK ||
        plan_gemm(plan, a->x, wv, s->hidden_size, v, rows, rows, 0, stream, err) != XQ_OK)
        return err->status;
    struct xq_kv_append_params params = {
        .table = plan_table(&a->table),
        .k = k,
        .v = v,
        .token_sequence = a->token_sequence,
        .token_position = a->token_position,
        .kv = a->pages,
        .tokens = rows,
    };
    uint32_t grid[3] = {(uint32_t)rows, 1, 1};
    return kernel_launch(plan->kernels[PLAN_KV_APPEND], grid, &params, sizeof params, stream, err);
}

xq_status xq_plan_append(xq_plan *plan, const xq_append_args *args, void *stream)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_append_args a = XQ_APPEND_ARGS_INIT;
    if (plan_read_args(&a, sizeof a, args, "args", &err) == XQ_OK && check_args(plan, &a, &err) &&
        a.tokens > 0) {
        if (plan->implementation == XQ_FP16_KV)
            append_fp16_kv(plan, &a, stream, &err);
        else
            append_quantized(plan, &a, stream, &err);
    }
    return plan_result(plan, &err);
}
