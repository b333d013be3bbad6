/* xq_plan_attend: attends with the queries of each sequence over the cache. */
#include "../base/check.h"
#include "plan.h"

/* ------------------------------------------------------------------ checks */

static bool refuse_call(const char *field, const char *text, error *err)
{
    error_set(err, XQ_ERROR_ARGUMENT, "argument", "%s %s", field, text);
    error_field(err, field);
    return false;
}

static bool optional_pointer(const char *field, uint64_t pointer, error *err)
{
    return !pointer || check_pointer(field, pointer, 4, err);
}

static bool check_cache(const xq_plan *plan, const xq_attend_args *a, error *err)
{
    const struct shape *s = &plan->shape;
    if (shape_is_kv(plan->implementation)) {
        const bool reads_weights =
            plan->vectors[PLAN_K_SCALE] || (plan->vectors[PLAN_SINKS] && !a->without_sinks);
        return check_pointer("pages", a->pages, 128, err) &&
               (!reads_weights || check_pointer("weights", a->weights, 256, err));
    }
    return check_pointer("weights", a->weights, 256, err) &&
           (s->cross_layer ? check_pointer("accumulator", a->accumulator, 128, err)
                           : check_pointer("pages", a->pages, 128, err)) &&
           (!plan_reads_tails(plan) || check_tails(&a->tails, err));
}

/* Returns the argument that asks for the kernels for many queries; NULL: none does. */
static const char *asks_for_many(const xq_attend_args *a)
{
    return a->query_indptr     ? "query_indptr"
           : a->query_position ? "query_position"
           : a->tree_mask      ? "tree_mask"
                               : NULL;
}

static bool check_mask(const xq_attend_args *a, int64_t max_queries, error *err)
{
    if (!a->tree_mask)
        return check_unused("mask_words", a->mask_words, "there is no tree_mask", err);
    if (!a->query_position)
        return refuse_call("query_position", "must not be NULL if there is a tree_mask", err);
    return check_pointer("tree_mask", a->tree_mask, 4, err) &&
           check_range("mask_words", a->mask_words, (max_queries + 31) / 32, INT32_MAX, err);
}

/* Counts the queries, and picks the kernels for them. */
static bool count_queries(struct plan_attend_call *c, error *err)
{
    const xq_plan *plan = c->plan;
    const xq_attend_args *a = c->args;
    const char *many = asks_for_many(a);
    enum plan_queries kind = many || plan->shape.many ? PLAN_MANY : PLAN_ONE;
    if (!plan->variants[kind])
        return refuse_call(
            many, "is for plans with max_queries above 1, or with \"queries\": \"many\" in the spec", err);
    c->queries = a->queries ? a->queries : a->table.batch;
    if (!a->query_indptr && c->queries != a->table.batch)
        return refuse_call("query_indptr", "must not be NULL unless each sequence has one query", err);
    c->kernels = plan_pick(plan, kind, a->table.batch, a->max_tokens);
    const bool one = kind == PLAN_ONE;
    if (!check_limit("queries", c->queries, 1, one ? plan->max_batch : plan->max_total_queries,
                     one ? "max_batch" : "max_total_queries", err) ||
        !(a->query_indptr
              ? check_limit("max_queries", a->max_queries, 0, plan->max_queries, "max_queries", err)
              : check_range("max_queries", a->max_queries, 0, 1, err)))
        return false;
    c->max_queries = c->queries < plan->max_queries ? c->queries : plan->max_queries;
    if (!a->query_indptr)
        c->max_queries = 1;
    else if (a->max_queries)
        c->max_queries = a->max_queries;
    return check_mask(a, c->max_queries, err);
}

static bool check_args(struct plan_attend_call *c, error *err)
{
    const xq_plan *plan = c->plan;
    const xq_attend_args *a = c->args;
    if (!check_limit("max_tokens", a->max_tokens, 0, plan->max_tokens, "max_tokens", err) ||
        !check_table(&a->table, plan->max_batch, err) ||
        !check_range("without_sinks", a->without_sinks, 0, 1, err))
        return false;
    if (a->table.batch == 0) /* rows of q would have no outputs */
        return check_range("queries", a->queries, 0, 0, err);
    return check_pointer("q", a->q, 16, err) && check_pointer("out", a->out, 16, err) &&
           optional_pointer("lse", a->lse, err) && check_cache(plan, a, err) &&
           plan_check_cache(plan, &a->tails, a->accumulator, err) &&
           optional_pointer("query_indptr", a->query_indptr, err) &&
           optional_pointer("query_position", a->query_position, err) &&
           optional_pointer("token_offset", a->token_offset, err) &&
           check_workspace(a->workspace, a->workspace_bytes, plan->workspace.bytes, err) &&
           count_queries(c, err);
}

/* ---------------------------------------------------------------- geometry */

/* Chooses the tokens of a split, and with them the number of splits. */
static void set_splits(struct plan_attend_call *c)
{
    const xq_plan *plan = c->plan;
    int64_t group = plan->shape.heads / plan->shape.kv_heads, rows = c->kernels->query_rows;
    int64_t batch = c->args->table.batch, blocks = (c->max_queries * group + rows - 1) / rows;
    /* A sequence with fewer than max_queries queries leaves blocks empty; at most `full` blocks have
     * queries. */
    int64_t full = batch + c->queries * group / rows;
    struct split_load load = {
        .batch = batch,
        .queries = c->queries,
        .blocks = blocks == 1 || batch * blocks < full ? batch * blocks : full,
        .max_tokens = c->args->max_tokens,
    };
    c->blocks = (int32_t)blocks;
    c->tokens_per_split = split_tokens(&c->kernels->split, &load);
    c->splits = split_count(c->args->max_tokens, c->tokens_per_split);
}

/* The arguments of one launch: those of the call, for `count` sequences from `first` on. */
struct part {
    int32_t first, count;
    uint64_t indptr, last_page_len, q, out, lse;
    struct xq_tails tails;
};

static struct part part_of(const struct plan_attend_call *c, int32_t first, int32_t count)
{
    const xq_attend_args *a = c->args;
    const struct shape *s = &c->plan->shape;
    uint64_t ints = (uint64_t)first * 4;
    /* Without query_indptr, rows of q count from the first sequence of the launch. */
    uint64_t heads = a->query_indptr ? 0 : (uint64_t)first * (uint64_t)s->heads;
    return (struct part){
        .first = first,
        .count = count,
        .indptr = a->table.indptr + ints,
        .last_page_len = a->table.last_page_len + ints,
        .q = a->q + heads * (uint64_t)s->head_dim * 2,
        .out = a->out + heads * (uint64_t)s->head_dim * 2,
        .lse = plan_advance(a->lse, heads * 4),
        .tails = plan_reads_tails(c->plan) ? (struct xq_tails){a->tails.pool, a->tails.slots + ints}
                                           : (struct xq_tails){0, 0},
    };
}

/* ---------------------------------------------------------------- launches */

static uint64_t sinks_of(const struct plan_attend_call *c)
{
    return c->args->without_sinks ? 0 : plan_vector(c->plan, c->args->weights, PLAN_SINKS);
}

static xq_status launch_absorb(const struct plan_attend_call *c, const struct part *part, error *err)
{
    const xq_plan *plan = c->plan;
    const struct shape_matrix *m = plan->matrices[PLAN_WK_ABSORB];
    if (!c->kernels->absorb || !m)
        return XQ_OK;
    struct xq_absorb_params params = {
        .queries = plan_queries(c, part->first),
        .q = part->q,
        .wk = plan_matrix(plan, c->args->weights, PLAN_WK_ABSORB),
        .bk = plan_vector(plan, c->args->weights, PLAN_BK_ABSORB),
        .counters = c->args->workspace + plan->workspace.counters,
        .absorbed = c->args->workspace + plan->workspace.absorbed,
        .absorbed_scale = c->args->workspace + plan->workspace.absorbed_scale,
        .absorbed_bias = c->args->workspace + plan->workspace.absorbed_bias,
    };
    uint32_t grid[3] = {(uint32_t)(m->cols / 64), (uint32_t)plan->shape.kv_heads,
                        (uint32_t)(part->count * c->blocks)};
    return plan_launch(c->kernels->absorb, grid, &params, sizeof params, &c->to, err);
}

/* One launch serves all sequences, because sums are in the order of the page table. */
static xq_status launch_key_norms(const struct plan_attend_call *c, error *err)
{
    const xq_plan *plan = c->plan;
    const xq_attend_args *a = c->args;
    if (!plan->kernels[PLAN_KEY_NORMS] || a->max_tokens == 0)
        return XQ_OK;
    struct xq_key_norms_params params = {
        .table = plan_table(&a->table),
        .pages = plan->shape.cross_layer ? a->accumulator : a->pages,
        .tails = part_of(c, 0, a->table.batch).tails,
        .wk = plan_matrix(plan, a->weights, PLAN_WK),
        .bk = plan_vector(plan, a->weights, PLAN_BK),
        .sums = a->workspace + plan->workspace.key_sums,
    };
    int64_t tokens = plan->key_norms_tokens;
    uint32_t grid[3] = {(uint32_t)((a->max_tokens + tokens - 1) / tokens), (uint32_t)plan->shape.kv_heads,
                        (uint32_t)a->table.batch};
    return plan_launch(plan->kernels[PLAN_KEY_NORMS], grid, &params, sizeof params, &c->to, err);
}

static xq_status launch_fused(const struct plan_attend_call *c, const struct part *part, error *err)
{
    const xq_plan *plan = c->plan;
    const xq_attend_args *a = c->args;
    uint64_t workspace = a->workspace, weights = a->weights;
    bool absorbs = c->kernels->absorb;
    if (launch_absorb(c, part, err) != XQ_OK)
        return err->status;
    struct xq_attend_params params = {
        .table = {part->indptr, a->table.indices, part->last_page_len},
        .queries = plan_queries(c, part->first),
        .pages = plan->shape.cross_layer ? a->accumulator : a->pages,
        .tails = part->tails,
        .wk = plan_matrix(plan, weights, PLAN_WK),
        .wv = plan_matrix(plan, weights, PLAN_WV),
        .bk = plan_vector(plan, weights, PLAN_BK),
        .bv = plan_vector(plan, weights, PLAN_BV),
        .k_norm = plan_vector(plan, weights, PLAN_K_NORM),
        .sinks = sinks_of(c),
        .absorbed = absorbs ? workspace + plan->workspace.absorbed : 0,
        .absorbed_scale = absorbs ? workspace + plan->workspace.absorbed_scale : 0,
        .absorbed_bias = absorbs ? workspace + plan->workspace.absorbed_bias : 0,
        .key_sums = plan->kernels[PLAN_KEY_NORMS] ? workspace + plan->workspace.key_sums : 0,
        .q = part->q,
        .out = part->out,
        .lse = part->lse,
        .partial_out = workspace + plan->workspace.partial_out,
        .partial_lse = workspace + plan->workspace.partial_lse,
        .counters = workspace + plan->workspace.counters,
        .tokens_per_split = (int)c->tokens_per_split,
    };
    uint32_t grid[3] = {(uint32_t)c->splits, (uint32_t)plan->shape.kv_heads,
                        (uint32_t)(part->count * c->blocks)};
    return plan_launch(c->kernels->attend, grid, &params, sizeof params, &c->to, err);
}

/* Attends over pages of keys and values. These are the caller's pages, or those of the workspace, where
 * table entry p is page p. */
static xq_status launch_kv(const struct plan_attend_call *c, const struct part *part, error *err)
{
    const xq_plan *plan = c->plan;
    const xq_attend_args *a = c->args;
    bool own = plan->implementation == XQ_UNFUSED;
    struct xq_kv_attend_params params = {
        .table = {part->indptr, own ? 0 : a->table.indices, part->last_page_len},
        .queries = plan_queries(c, part->first),
        .kv = own ? a->workspace + plan->workspace.kv : a->pages,
        .k_scale = plan_vector(plan, a->weights, PLAN_K_SCALE),
        .v_scale = plan_vector(plan, a->weights, PLAN_V_SCALE),
        .sinks = sinks_of(c),
        .q = part->q,
        .out = part->out,
        .lse = part->lse,
        .partial_out = a->workspace + plan->workspace.partial_out,
        .partial_lse = a->workspace + plan->workspace.partial_lse,
        .counters = a->workspace + plan->workspace.counters,
        .tokens_per_split = (int)c->tokens_per_split,
    };
    uint32_t grid[3] = {(uint32_t)c->splits, (uint32_t)plan->shape.kv_heads,
                        (uint32_t)(part->count * c->blocks)};
    return plan_launch(c->kernels->attend, grid, &params, sizeof params, &c->to, err);
}

/* Makes the launches that come once per call, before attention. */
static xq_status prepare(const struct plan_attend_call *c, error *err)
{
    switch (c->plan->implementation) {
    case XQ_FUSED:
        return launch_key_norms(c, err);
    case XQ_UNFUSED:
        return plan_rematerialize(c, err);
    case XQ_FP16_KV:
    case XQ_FP8_KV:
        break;
    }
    return XQ_OK;
}

/* Makes one launch, or several after one another if the grid has no room for all sequences. */
static xq_status attend(const struct plan_attend_call *c, error *err)
{
    int32_t batch = c->args->table.batch, most = PLAN_MOST_BLOCKS / c->blocks;
    bool fused = c->plan->implementation == XQ_FUSED;
    if (prepare(c, err) != XQ_OK)
        return err->status;
    for (int32_t first = 0; first < batch; first += most) {
        struct part part = part_of(c, first, batch - first < most ? batch - first : most);
        if ((fused ? launch_fused(c, &part, err) : launch_kv(c, &part, err)) != XQ_OK)
            break;
    }
    return err->status;
}

xq_status xq_plan_attend(xq_plan *plan, const xq_attend_args *args, void *stream)
{
    if (!plan)
        return XQ_ERROR_ARGUMENT;
    error err = ERROR_INIT;
    xq_attend_args a = XQ_ATTEND_ARGS_INIT;
    struct plan_attend_call call = {.plan = plan, .args = &a, .to = {.stream = stream}};
    if (plan_read_args(&a, sizeof a, DESCRIPTOR_UP_TO(xq_attend_args, queries), args, "args", &err) ==
            XQ_OK &&
        check_args(&call, &err)) {
        if (a.table.batch > 0)
            set_splits(&call);
        if ((!plan->checks || plan_check_attend(&call, &err)) && a.table.batch > 0)
            attend(&call, &err);
    }
    return plan_result(plan, &err);
}
