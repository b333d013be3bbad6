/* xq_plan_attend: one query per sequence over the cache. */
#include "check.h"
#include "plan.h"

static bool check_args(const xq_plan *plan, const xq_attend_args *a, error *err)
{
    if (!check_range("max_tokens", a->max_tokens, 0, plan->max_tokens, err) ||
        !check_table(&a->table, plan->max_batch, err))
        return false;
    if (a->table.batch == 0)
        return true;
    bool needs_weights = plan->implementation != XQ_FP16_KV;
    return check_pointer("q", a->q, 16, err) && check_pointer("out", a->out, 16, err) &&
           (!a->lse || check_pointer("lse", a->lse, 4, err)) &&
           check_pointer("pages", a->pages, 128, err) &&
           (!needs_weights || check_pointer("weights", a->weights, 256, err)) &&
           check_workspace(a->workspace, a->workspace_bytes, plan->workspace.bytes, err);
}

/* The grid of an attention kernel, and the tokens of a split. */
static int set_grid(const xq_plan *plan, const xq_attend_args *a, uint32_t grid[3])
{
    int64_t tokens = split_tokens(&plan->split, a->table.batch, a->max_tokens);
    grid[0] = (uint32_t)split_count(a->max_tokens, tokens);
    grid[1] = (uint32_t)plan->shape.kv_heads;
    grid[2] = (uint32_t)a->table.batch;
    return (int)tokens;
}

static xq_status attend_fused(const xq_plan *plan, const xq_attend_args *a, void *stream, error *err)
{
    uint32_t grid[3];
    struct xq_attend_params params = {
        .table = plan_table(&a->table),
        .pages = a->pages,
        .wk = {plan_matrix(plan, a->weights, "wk"), 0},
        .wv = {plan_matrix(plan, a->weights, "wv"), 0},
        .q = a->q,
        .out = a->out,
        .lse = a->lse,
        .partial_out = a->workspace + plan->workspace.partial_out,
        .partial_lse = a->workspace + plan->workspace.partial_lse,
        .counters = a->workspace + plan->workspace.counters,
        .tokens_per_split = set_grid(plan, a, grid),
    };
    return kernel_launch(plan->kernels[PLAN_ATTEND], grid, &params, sizeof params, stream, err);
}

/* Attention over fp16 KV pages at `kv`; `indices` 0: table entry p is page p. */
static xq_status attend_kv(const xq_plan *plan, const xq_attend_args *a, uint64_t kv, uint64_t indices,
                           void *stream, error *err)
{
    uint32_t grid[3];
    struct xq_kv_attend_params params = {
        .table = {a->table.indptr, indices, a->table.last_page_len},
        .kv = kv,
        .q = a->q,
        .out = a->out,
        .lse = a->lse,
        .partial_out = a->workspace + plan->workspace.partial_out,
        .partial_lse = a->workspace + plan->workspace.partial_lse,
        .counters = a->workspace + plan->workspace.counters,
        .tokens_per_split = set_grid(plan, a, grid),
    };
    return kernel_launch(plan->kernels[PLAN_KV_ATTEND], grid, &params, sizeof params, stream, err);
}

/* Pages to rows of f16: step 1. */
static xq_status dequantize(const xq_plan *plan, const xq_attend_args *a, int64_t entries, void *stream,
                            error *err)
{
    struct xq_dequantize_params params = {
        .table = plan_table(&a->table),
        .pages = a->pages,
        .k = a->workspace + plan->workspace.rows_k,
        .v = a->workspace + plan->workspace.rows_v,
        .batch = a->table.batch,
        .entries = (int)entries,
    };
    uint32_t grid[3] = {(uint32_t)(entries * (plan->shape.page / 16)), (uint32_t)plan->dequantize_columns,
                        1};
    return kernel_launch(plan->kernels[PLAN_DEQUANTIZE], grid, &params, sizeof params, stream, err);
}

/* Rows to keys and values, in pages of the workspace: step 2. */
static xq_status rematerialize(const xq_plan *plan, const xq_attend_args *a, int64_t entries, uint64_t kv,
                               void *stream, error *err)
{
    const struct shape *s = &plan->shape;
    int64_t half_page = (int64_t)s->page * s->kv_width; /* elements: a page's keys, then its values */
    int64_t rows = entries * s->page;
    uint64_t wk = plan_matrix(plan, a->weights, "wk");
    uint64_t wv = plan_matrix(plan, a->weights, "wv");
    if (plan_gemm(plan, a->workspace + plan->workspace.rows_k, wk, s->rank_k, kv, rows, s->page,
                  2 * half_page, stream, err) != XQ_OK)
        return err->status;
    return plan_gemm(plan, a->workspace + plan->workspace.rows_v, wv, s->latent ? s->rank_v : s->rank_k,
                     kv + (uint64_t)half_page * 2, rows, s->page, 2 * half_page, stream, err);
}

/* Rotates the keys in place: step 3. */
static xq_status rotate(const xq_plan *plan, const xq_attend_args *a, int64_t entries, uint64_t kv,
                        void *stream, error *err)
{
    if (!plan->kernels[PLAN_ROPE])
        return XQ_OK;
    struct xq_rope_params params = {
        .table = plan_table(&a->table),
        .kv = kv,
        .batch = a->table.batch,
        .entries = (int)entries,
    };
    uint32_t grid[3] = {(uint32_t)(entries * (plan->shape.page / 16)), (uint32_t)plan->shape.kv_heads, 1};
    return kernel_launch(plan->kernels[PLAN_ROPE], grid, &params, sizeof params, stream, err);
}

static xq_status attend_unfused(const xq_plan *plan, const xq_attend_args *a, void *stream, error *err)
{
    /* The host does not know indptr[batch]; no more entries than this are possible, and kernels skip those
     * beyond the table's end. */
    int64_t pages = (a->max_tokens + plan->shape.page - 1) / plan->shape.page;
    int64_t entries = a->table.batch * pages < plan->max_pages ? a->table.batch * pages : plan->max_pages;
    uint64_t kv = a->workspace + plan->workspace.kv;
    if (entries > 0 && (dequantize(plan, a, entries, stream, err) != XQ_OK ||
                        rematerialize(plan, a, entries, kv, stream, err) != XQ_OK ||
                        rotate(plan, a, entries, kv, stream, err) != XQ_OK))
        return err->status;
    return attend_kv(plan, a, kv, 0, stream, err);
}

xq_status xq_plan_attend(xq_plan *plan, const xq_attend_args *args, void *stream)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_attend_args a = XQ_ATTEND_ARGS_INIT;
    if (plan_read_args(&a, sizeof a, args, "args", &err) == XQ_OK && check_args(plan, &a, &err) &&
        a.table.batch > 0) {
        if (plan->implementation == XQ_FUSED)
            attend_fused(plan, &a, stream, &err);
        else if (plan->implementation == XQ_UNFUSED)
            attend_unfused(plan, &a, stream, &err);
        else
            attend_kv(plan, &a, a.pages, a.table.indices, stream, &err);
    }
    return plan_result(plan, &err);
}
