/* Launches on the fake GPU: exactly which parameters each call passes to which kernels, and which arguments
 * it refuses. The kernels are stubs that state grids of their own (plan_fixture.h). */
#include "../../support/plan_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char latent[] = PLAN_LATENT, x_only[] = PLAN_X;
static const char x_rotated[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": true, \"bits\": 8, \"group\": 128}}";
static const char channel[] =
    "{" PLAN_MODEL
    ", \"cache\": {\"method\": \"latent\", \"group\": 32, \"axis_k\": \"channel\", \"page\": 32, "
    "\"rank_k\": 128, \"rank_v\": 64}}";
static const char delta[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"x-cl\", \"axis_k\": \"channel\", \"page\": 64, "
    "\"group\": 64}}";
static const char joint[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"latent-cl\", \"page\": 64, \"group\": 64}}";
static const char joint_base[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"latent-cl\", \"page\": 64, \"group\": 64, \"base\": true}}";
/* Biases and sinks add vectors to the weights, and there are absorbed columns. */
static const char full[] =
    "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"head_dim\": 64, \"partial_rotary_factor\": 0.5, \"attention_bias\": true, "
    "\"attention_sinks\": true}, \"cache\": {\"method\": \"x\", \"rotation\": false, \"page\": 32}}";
static const char normed[] = "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, "
                             "\"num_key_value_heads\": 2, \"head_dim\": 64, \"qk_norm\": true, "
                             "\"attention_bias\": true, \"attention_sinks\": true}, "
                             "\"cache\": {\"method\": \"latent\", \"groups\": 2, \"rank_k\": 80, "
                             "\"rank_v\": 128, \"page\": 32, \"group\": 64}, \"weights\": \"int8\"}";

static xq_plan *make(const char *spec, xq_implementation implementation)
{
    if (!context)
        plan_open_stubs();
    return plan_make(spec, implementation);
}

static xq_plan *make_many(const char *spec, xq_implementation implementation, int64_t max_queries)
{
    xq_plan_options o = plan_options(spec, implementation);
    o.max_queries = max_queries;
    if (!context)
        plan_open_stubs();
    return plan_make_with(&o);
}

static void append(xq_plan *plan, const xq_append_args *a)
{
    cr_assert_eq(xq_plan_append(plan, a, NULL), XQ_OK, "%s", plan_error()->message);
}

static void attend(xq_plan *plan, const xq_attend_args *a)
{
    cr_assert_eq(xq_plan_attend(plan, a, NULL), XQ_OK, "%s", plan_error()->message);
}

static uint64_t weight(const xq_plan *plan, const char *name)
{
    const struct shape_matrix *m = shape_matrix(plan->weights, name);
    const struct shape_vector *v = shape_vector(plan->weights, name);
    cr_assert(m || v, "%s", name);
    return WEIGHTS + (m ? m->offset : v->offset);
}

static void assert_table(const struct xq_table *table, uint64_t indices)
{
    cr_assert_eq(table->indptr, INDPTR);
    cr_assert_eq(table->indices, indices);
    cr_assert_eq(table->last_page_len, LAST);
}

static int64_t tokens_of_one(const xq_plan *plan, int64_t batch, int64_t max_tokens)
{
    struct split_load load = {batch, batch, batch, max_tokens};
    return split_tokens(&plan->attention[PLAN_ONE][0].split, &load);
}

static unsigned splits_of_one(const xq_plan *plan, int64_t batch, int64_t max_tokens)
{
    return (unsigned)split_count(max_tokens, tokens_of_one(plan, batch, max_tokens));
}

/* ------------------------------------------------------------------- append */

Test(launch, append_passes_projections_and_covers_all_tokens)
{
    xq_plan *plan = make(latent, XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    cr_assert_eq(xq_plan_append(plan, &a, (void *)0x55), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(fake->launch_count, 1);
    const struct xq_append_params *p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, 0);
    cr_assert_eq(l->block[0], plan->kernels[PLAN_APPEND]->threads);
    cr_assert_eq(l->shared_bytes, plan->kernels[PLAN_APPEND]->shared_bytes);
    cr_assert_eq(l->stream, (void *)0x55);
    cr_assert_eq(l->params_bytes, sizeof *p);
    assert_table(&p->table, INDICES);
    cr_assert_eq(p->x, X);
    cr_assert_eq(p->token_sequence, SEQUENCE);
    cr_assert_eq(p->token_position, POSITION);
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->uk.data, weight(plan, "uk"));
    cr_assert_eq(p->uv.data, weight(plan, "uv"));
    cr_assert_eq(p->tokens, 40);
    cr_assert(!p->append_indptr && !p->tails.pool && !p->accumulator,
              "what the plan does not use is not passed");
    plan_close(plan);
}

Test(launch, append_of_method_x_needs_no_weights)
{
    xq_plan *plan = make(x_only, XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    a.weights = a.workspace = 0;
    append(plan, &a);
    const struct xq_append_params *p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->uk.data, 0);
    cr_assert_eq(p->uv.data, 0);
    plan_close(plan);
}

Test(launch, append_of_rotated_x_needs_them)
{
    xq_plan *plan = make(x_rotated, XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    append(plan, &a);
    const struct xq_append_params *p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->uk.data, weight(plan, "uk"));
    cr_assert_eq(p->uv.data, 0);
    a.weights = 0;
    cr_assert_eq(xq_plan_append(plan, &a, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "weights");
    plan_close(plan);
}

Test(launch, each_axis_has_an_append_kernel)
{
    xq_plan *plan = make(channel, XQ_UNFUSED);
    cr_assert_eq(plan_info(plan).needs_append_indptr, 1);
    cr_assert_eq(plan_info(plan).tail_bytes, 32 * 128 * 2);
    xq_append_args a = plan_append_args(plan);
    append(plan, &a);
    cr_assert_eq(fake->launch_count, 2);
    const struct xq_append_params *p = plan_launched(1, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    const struct xq_append_params *c = plan_launched(0, "xq_append_channel", 3, STUB_COLUMN_BLOCKS + 1, 2);
    cr_assert_arr_eq(p, c, sizeof *p);
    cr_assert_eq(p->append_indptr, APPEND_INDPTR);
    cr_assert_eq(p->tails.pool, TAILS);
    cr_assert_eq(p->tails.slots, SLOTS);
    /* 33 tokens may begin with the last token of a group, and then fill exactly one more group. */
    const struct {
        int tokens;
        unsigned groups;
    } cases[] = {{1, 1}, {2, 2}, {33, 2}, {34, 3}, {65, 3}, {66, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        a.tokens = cases[i].tokens;
        append(plan, &a);
        plan_launched(0, "xq_append_channel", cases[i].groups, STUB_COLUMN_BLOCKS + 1, 2);
    }
    plan_close(plan);
}

Test(launch, deltas_are_taken_from_the_accumulator)
{
    xq_plan *plan = make(delta, XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    append(plan, &a);
    cr_assert_eq(fake->launch_count, 1, "no stream is per token");
    const struct xq_append_params *p = plan_launched(0, "xq_append_channel", 2, STUB_COLUMN_BLOCKS + 1, 2);
    cr_assert_eq(p->accumulator, ACCUMULATOR);
    cr_assert_eq(p->uk.data, 0);
    xq_plan_destroy(plan);

    plan = make(joint, XQ_FUSED);
    a = plan_append_args(plan);
    append(plan, &a);
    p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->accumulator, ACCUMULATOR);
    cr_assert_eq(p->uk.data, weight(plan, "ukv"));
    cr_assert_eq(p->uv.data, 0);
    xq_plan_destroy(plan);

    plan = make(joint_base, XQ_FUSED);
    a.accumulator = 0; /* the base layer starts the accumulator */
    append(plan, &a);
    p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->accumulator, 0);
    plan_close(plan);
}

Test(launch, append_by_channel_takes_as_many_steps_as_its_kernel_says)
{
    xq_plan *plan =
        make("{" PLAN_MODEL ", \"cache\": {\"method\": \"x-cl\", \"axis_k\": \"channel\", \"page\": 64, "
             "\"group\": 64, \"base\": true}}",
             XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    append(plan, &a);
    cr_assert_eq(fake->launch_count, STUB_STEPS);
    for (int step = 0; step < STUB_STEPS; step++) {
        const struct xq_append_params *p =
            plan_launched(STUB_STEPS - 1 - step, "xq_append_channel", 2, STUB_COLUMN_BLOCKS + 1, 2);
        cr_assert_eq(p->step, step);
    }
    plan_close(plan);
}

/* --------------------------------------------------------------- accumulate */

static xq_accumulate_args accumulate_args(const xq_plan *plan)
{
    const call_cache cached = plan_cache(plan);
    xq_accumulate_args a = call_accumulate(&cached);
    a.max_tokens = 700;
    a.accumulator = ACCUMULATOR;
    return a;
}

Test(launch, accumulate_covers_every_tile_of_the_table)
{
    xq_plan *plan = make(joint, XQ_UNFUSED);
    xq_accumulate_args a = accumulate_args(plan);
    cr_assert_eq(xq_plan_accumulate(plan, &a, (void *)0x66), XQ_OK, "%s", plan_error()->message);
    unsigned entries = 2 * 11; /* entries of 64 tokens, for 700 tokens in each of 2 sequences */
    const struct xq_accumulate_params *p = plan_launched(
        0, "xq_accumulate", (entries * 4 + STUB_SUM_TILES - 1) / STUB_SUM_TILES, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(fake_cuda_launched(fake, 0)->stream, (void *)0x66);
    assert_table(&p->table, INDICES);
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->accumulator, ACCUMULATOR);
    cr_assert_eq(p->ukvt.data, weight(plan, "ukvt"));
    cr_assert_eq(p->tails.pool, 0);
    cr_assert_eq(p->batch, 2);
    cr_assert_eq(p->entries, (int)entries);
    a.max_tokens = 0;
    cr_assert_eq(xq_plan_accumulate(plan, &a, NULL), XQ_OK);
    cr_assert_eq(fake->launch_count, 1, "nothing to accumulate");
    xq_plan_destroy(plan);

    plan = make(delta, XQ_FUSED);
    a = accumulate_args(plan);
    a.weights = 0;
    cr_assert_eq(xq_plan_accumulate(plan, &a, NULL), XQ_OK, "%s", plan_error()->message);
    p = plan_launched(0, "xq_accumulate", (entries * 4 + STUB_SUM_TILES - 1) / STUB_SUM_TILES,
                      STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->tails.pool, TAILS);
    cr_assert_eq(p->tails.slots, SLOTS);
    plan_close(plan);
}

Test(launch, info_of_a_cross_layer_plan_states_its_accumulator)
{
    xq_plan *plan = make(joint, XQ_FUSED);
    xq_plan_info info = plan_info(plan);
    cr_assert_eq(info.accumulator_page_bytes, 64 * 256 * 2);
    cr_assert_eq(info.accumulator_bytes_per_token, 512);
    cr_assert_eq(info.rank_k, 256);
    cr_assert_eq(info.rank_v, 0);
    cr_assert_eq(info.tail_bytes, 0);
    xq_plan_destroy(plan);
    plan = make(delta, XQ_FP16_KV); /* the baseline has neither accumulator nor tail */
    info = plan_info(plan);
    cr_assert_eq(info.accumulator_page_bytes, 0);
    cr_assert_eq(info.tail_bytes, 0);
    cr_assert_eq(info.needs_append_indptr, 0);
    plan_close(plan);
}

/* ------------------------------------------------------------- fused attend */

Test(launch, fused_attend_is_one_kernel_over_splits_heads_and_sequences)
{
    xq_plan *plan = make(latent, XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    attend(plan, &a);
    cr_assert_eq(fake->launch_count, 1);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(fake_cuda_launched(fake, 0)->params_bytes, sizeof *p);
    assert_table(&p->table, INDICES);
    cr_assert_eq(p->tokens_per_split, tokens_of_one(plan, 2, 700));
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->tails.pool, 0);
    cr_assert_eq(p->wk.data, weight(plan, "wk"));
    cr_assert_eq(p->wv.data, weight(plan, "wv"));
    cr_assert_eq(p->wk.scale, 0);
    cr_assert(!p->bk && !p->bv && !p->k_norm && !p->sinks && !p->absorbed && !p->absorbed_bias);
    cr_assert_eq(p->q, Q);
    cr_assert_eq(p->out, OUT);
    cr_assert_eq(p->lse, LSE);
    cr_assert_eq(p->counters, WORKSPACE + plan->workspace.counters);
    cr_assert_eq(p->partial_out, WORKSPACE + plan->workspace.partial_out);
    cr_assert_eq(p->partial_lse, WORKSPACE + plan->workspace.partial_lse);
    cr_assert_eq(p->queries.queries, 2);
    cr_assert_eq(p->queries.blocks, 1);
    cr_assert(!p->queries.query_indptr && !p->queries.query_position && !p->queries.tree_mask);
    plan_close(plan);
}

Test(launch, fused_attend_reads_the_accumulator_of_cross_layer_plans_and_tails_of_others)
{
    xq_plan *plan = make(delta, XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    a.pages = 0;
    a.tails = (xq_tail_pool){0};
    attend(plan, &a);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(p->pages, ACCUMULATOR);
    cr_assert_eq(p->tails.pool, 0);
    xq_plan_destroy(plan);
    plan = make(channel, XQ_FUSED);
    a = plan_attend_args(plan);
    a.accumulator = 0;
    attend(plan, &a);
    p = plan_launched(0, "xq_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->tails.pool, TAILS);
    cr_assert_eq(p->tails.slots, SLOTS);
    plan_close(plan);
}

Test(launch, absorbed_columns_are_multiplied_before_attention)
{
    xq_plan *plan = make(full, XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    attend(plan, &a);
    cr_assert_eq(fake->launch_count, 2);
    const struct xq_absorb_params *b = plan_launched(1, "xq_absorb", 256 / 64, 2, 2);
    cr_assert_eq(b->q, Q);
    cr_assert_eq(b->wk.data, weight(plan, "wk_absorb"));
    cr_assert_eq(b->bk, weight(plan, "bk_absorb"));
    cr_assert_eq(b->counters, WORKSPACE + plan->workspace.counters);
    cr_assert_eq(b->absorbed, WORKSPACE + plan->workspace.absorbed);
    cr_assert_eq(b->absorbed_scale, WORKSPACE + plan->workspace.absorbed_scale);
    cr_assert_eq(b->absorbed_bias, WORKSPACE + plan->workspace.absorbed_bias);
    cr_assert_eq(b->queries.blocks, 1);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(p->absorbed, b->absorbed);
    cr_assert_eq(p->absorbed_scale, b->absorbed_scale);
    cr_assert_eq(p->absorbed_bias, b->absorbed_bias);
    cr_assert_eq(p->bk, weight(plan, "bk"));
    cr_assert_eq(p->bv, weight(plan, "bv"));
    cr_assert_eq(p->sinks, weight(plan, "sinks"));
    a.without_sinks = 1;
    attend(plan, &a);
    p = plan_launched(0, "xq_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(p->sinks, 0);
    plan_close(plan);
}

Test(launch, fused_weights_of_8_bits_come_with_scales)
{
    xq_plan *plan = make(normed, XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    attend(plan, &a);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(p->wk.scale, WEIGHTS + shape_matrix(plan->weights, "wk")->scale_offset);
    cr_assert_eq(p->wv.scale, WEIGHTS + shape_matrix(plan->weights, "wv")->scale_offset);
    cr_assert_eq(p->k_norm, weight(plan, "k_norm"));
    plan_close(plan);
}

Test(launch, keys_normalized_over_all_heads_are_summed_up_before_attention)
{
    xq_plan *plan =
        make("{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
             "\"head_dim\": 64, \"qk_norm\": \"row\", \"attention_bias\": true}, "
             "\"cache\": {\"method\": \"x\", \"axis_k\": \"channel\", \"group\": 64}}",
             XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    attend(plan, &a);
    cr_assert_eq(fake->launch_count, 2);
    const struct xq_key_norms_params *n =
        plan_launched(1, "xq_key_norms", (700 + STUB_TILE - 1) / STUB_TILE, 2, 2);
    assert_table(&n->table, INDICES);
    cr_assert_eq(n->pages, PAGES);
    cr_assert_eq(n->tails.pool, TAILS);
    cr_assert_eq(n->wk.data, weight(plan, "wk"));
    cr_assert_eq(n->bk, weight(plan, "bk"));
    cr_assert_eq(n->sums, WORKSPACE + plan->workspace.key_sums);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(p->key_sums, n->sums);
    cr_assert_geq(plan->workspace.bytes - plan->workspace.key_sums, (size_t)plan->max_pages * 64 * 2 * 4);
    a.max_tokens = 0;
    attend(plan, &a);
    cr_assert_eq(fake->launch_count, 3);
    xq_plan_destroy(plan);
    plan = make(normed, XQ_FUSED); /* normalization over a head is done by attend */
    a = plan_attend_args(plan);
    attend(plan, &a);
    cr_assert_eq(fake->launch_count, 4);
    plan_close(plan);
}

/* ------------------------------------------------------------- many queries */

static xq_attend_args ragged_args(const xq_plan *plan)
{
    xq_attend_args a = plan_attend_args(plan);
    a.queries = 150;
    a.max_queries = 100;
    a.query_indptr = QUERY_INDPTR;
    return a;
}

Test(launch, many_queries_are_blocks_of_rows_of_a_kernel_of_their_own)
{
    xq_plan *plan = make_many(latent, XQ_FUSED, 120);
    cr_assert_neq(plan->attention[PLAN_ONE][0].attend, plan->attention[PLAN_MANY][0].attend);
    xq_attend_args a = ragged_args(plan);
    a.query_position = QUERY_POSITION;
    a.token_offset = TOKEN_OFFSET;
    a.tree_mask = TREE_MASK;
    a.mask_words = 4;
    attend(plan, &a);
    /* 100 queries with 2 heads for each KV head are 200 rows, which are 4 blocks of 64. */
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, 0);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", l->grid[0], 2, 2 * 4);
    cr_assert_eq(p->queries.query_indptr, QUERY_INDPTR);
    cr_assert_eq(p->queries.query_position, QUERY_POSITION);
    cr_assert_eq(p->queries.token_offset, TOKEN_OFFSET);
    cr_assert_eq(p->queries.tree_mask, TREE_MASK);
    cr_assert_eq(p->queries.mask_words, 4);
    cr_assert_eq(p->queries.queries, 150);
    cr_assert_eq(p->queries.blocks, 4);
    cr_assert_eq(l->grid[0], (unsigned)split_count(700, p->tokens_per_split));

    a = ragged_args(
        plan); /* without max_queries, a sequence may have all queries, up to the limit of the plan */
    a.max_queries = 0;
    a.queries = 40;
    attend(plan, &a);
    p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->queries.blocks, 2);
    a.queries = 300;
    attend(plan, &a);
    p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->queries.blocks, 4);
    plan_close(plan);
}

Test(launch, one_query_each_takes_the_kernel_of_one_unless_positions_are_given)
{
    xq_plan *plan = make_many(full, XQ_FUSED, 8);
    xq_attend_args a = plan_attend_args(plan);
    a.token_offset = TOKEN_OFFSET; /* changes nothing: the query is at the last position */
    attend(plan, &a);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(p->tokens_per_split, tokens_of_one(plan, 2, 700));
    cr_assert_leq(p->tokens_per_split, STUB_SPLIT);
    a.query_position = QUERY_POSITION;
    attend(plan, &a);
    p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->queries.query_position, QUERY_POSITION);
    cr_assert_eq(p->queries.query_indptr, 0);
    struct split_load load = {2, 2, 2, 700};
    cr_assert_eq(p->tokens_per_split, split_tokens(&plan->attention[PLAN_MANY][0].split, &load));
    xq_plan_destroy(plan);

    /* A spec may ask for the many-query kernel alone. */
    static const char many[] =
        "{" PLAN_MODEL ", \"queries\": \"many\", \"cache\": {\"method\": \"x\", \"rotation\": false}}";
    plan = make(many, XQ_FUSED);
    cr_assert_null(plan->attention[PLAN_ONE][0].attend);
    a = plan_attend_args(plan);
    attend(plan, &a);
    plan_close(plan);
}

Test(launch, tuning_for_one_query_is_not_that_for_many)
{
    static const char tuned[] =
        "{" PLAN_MODEL
        ", \"cache\": {\"method\": \"x\", \"rotation\": false}, \"tuning\": {\"attend\": {}, "
        "\"append\": {}}}";
    xq_plan *plan = make_many(tuned, XQ_FUSED, 4);
    cr_assert_not_null(plan->attention[PLAN_MANY][0].attend);
    xq_plan_options o = plan_options(xq_plan_spec(plan), XQ_FUSED); /* a completed spec is a spec */
    o.max_queries = 4;
    xq_plan *again = plan_make_with(&o);
    cr_assert_str_eq(xq_plan_spec(plan), xq_plan_spec(again));
    xq_plan_destroy(again);
    plan_close(plan);
}

/* 40000 sequences have up to two blocks each, and a grid has at most 65535. */
Test(launch, batches_beyond_a_grid_are_cut_into_several_launches)
{
    plan_open_stubs();
    xq_plan_options o = plan_options(full, XQ_FUSED);
    o.max_batch = 40000;
    o.max_queries = 60;
    xq_plan *plan = plan_make_with(&o);
    xq_attend_args a = plan_attend_args(plan);
    a.max_tokens = 100;
    a.table.batch = 40000;
    a.queries = 90000;
    a.query_indptr = QUERY_INDPTR;
    a.query_position = QUERY_POSITION;
    a.token_offset = TOKEN_OFFSET;
    attend(plan, &a);
    cr_assert_eq(fake->launch_count, 4);
    const unsigned first = 32767;
    plan_launched(3, "xq_absorb", 4, 2, 2 * first);
    const struct xq_attend_params *p = plan_launched(2, "xq_attend", 1, 2, 2 * first);
    cr_assert_eq(p->queries.query_indptr, QUERY_INDPTR);
    const struct xq_absorb_params *b = plan_launched(1, "xq_absorb", 4, 2, 2 * (40000 - first));
    p = plan_launched(0, "xq_attend", 1, 2, 2 * (40000 - first));
    cr_assert_eq(p->table.indptr, INDPTR + 4 * first);
    cr_assert_eq(p->table.last_page_len, LAST + 4 * first);
    cr_assert_eq(p->table.indices, INDICES);
    cr_assert_eq(p->queries.query_indptr, QUERY_INDPTR + 4 * first);
    cr_assert_eq(p->queries.token_offset, TOKEN_OFFSET + 4 * first);
    cr_assert_eq(p->queries.query_position, QUERY_POSITION);
    cr_assert_eq(p->queries.queries, 90000);
    cr_assert_eq(p->q, Q);
    cr_assert_eq(p->out, OUT);
    cr_assert_eq(b->q, Q);
    plan_close(plan);
}

/* Without an indptr the rows of q are counted from the first sequence, so q moves too. An MQA model with
 * 128 heads has two blocks for one query. */
Test(launch, one_row_of_q_for_each_sequence_moves_with_it)
{
    static const char mqa[] =
        "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 128, \"num_key_value_heads\": 1, "
        "\"head_dim\": 64}, \"queries\": \"many\", \"cache\": {\"method\": \"x\", \"rotation\": false, "
        "\"axis_k\": \"channel\", \"group\": 64}}";
    plan_open_stubs();
    xq_plan_options o = plan_options(mqa, XQ_FUSED);
    o.max_batch = 40000;
    xq_plan *plan = plan_make_with(&o);
    xq_attend_args a = plan_attend_args(plan);
    a.max_tokens = 10;
    a.table.batch = 40000;
    a.query_position = QUERY_POSITION;
    a.tree_mask = TREE_MASK;
    a.mask_words = 3;
    attend(plan, &a);
    const uint64_t first = 32767;
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", 1, 1, 2 * (unsigned)(40000 - first));
    cr_assert_eq(p->q, Q + first * 128 * 64 * 2);
    cr_assert_eq(p->out, OUT + first * 128 * 64 * 2);
    cr_assert_eq(p->lse, LSE + first * 128 * 4);
    cr_assert_eq(p->queries.query_position, QUERY_POSITION + first * 4);
    cr_assert_eq(p->queries.tree_mask, TREE_MASK + first * 3 * 4);
    cr_assert_eq(p->tails.pool, TAILS);
    cr_assert_eq(p->tails.slots, SLOTS + first * 4);
    plan_close(plan);
}

/* ----------------------------------------------------------- unfused attend */

Test(launch, unfused_attend_is_dequantize_two_products_rope_and_attention)
{
    xq_plan *plan = make(latent, XQ_UNFUSED);
    xq_attend_args a = plan_attend_args(plan);
    attend(plan, &a);
    cr_assert_eq(fake->launch_count, 5);
    unsigned entries = 2 * 22; /* entries of 32 tokens, for 700 tokens in each of 2 sequences */
    const struct xq_dequantize_params *d =
        plan_launched(4, "xq_dequantize", entries * 2, STUB_COLUMN_BLOCKS, 1);
    assert_table(&d->table, INDICES);
    cr_assert_eq(d->pages, PAGES);
    cr_assert_eq(d->k, WORKSPACE + plan->workspace.rows_k);
    cr_assert_eq(d->v, WORKSPACE + plan->workspace.rows_v);
    cr_assert_eq(d->batch, 2);
    cr_assert_eq(d->entries, (int)entries);
    for (int v = 0; v < 2; v++) { /* keys, then values */
        const struct xq_gemm_params *g =
            plan_launched(3 - v, "xq_gemm", entries * 32 / STUB_GEMM_ROWS, 128 / STUB_GEMM_COLS, 1);
        cr_assert_eq(g->x, v ? d->v : d->k);
        cr_assert_eq(g->w.data, weight(plan, v ? "wv" : "wk"));
        cr_assert_eq(g->w.scale, 0);
        cr_assert_eq(g->bias, 0);
        cr_assert_eq(g->y, WORKSPACE + plan->workspace.kv + (v ? 2 * 32 * 128 : 0));
        cr_assert_eq(g->page_stride, 2 * 32 * 128);
        cr_assert_eq(g->rows, (int)entries * 32);
        cr_assert_eq(g->k, v ? 64 : 128);
        cr_assert_eq(g->x_stride, g->k);
        cr_assert_eq(g->n, 128);
        cr_assert_eq(g->page, 32);
        cr_assert_eq(g->row_stride, 128);
    }
    const struct xq_rope_params *r = plan_launched(1, "xq_rope", entries * 2, STUB_HEAD_BLOCKS, 1);
    cr_assert_eq(r->kv, WORKSPACE + plan->workspace.kv);
    cr_assert_eq(r->entries, (int)entries);
    const struct xq_kv_attend_params *p =
        plan_launched(0, "xq_kv_attend", splits_of_one(plan, 2, 700), 2, 2);
    assert_table(&p->table, 0); /* entry p is page p of the workspace */
    cr_assert_eq(p->kv, WORKSPACE + plan->workspace.kv);
    plan_close(plan);
}

Test(launch, unfused_latents_multiply_the_columns_of_their_group)
{
    xq_plan *plan = make(normed, XQ_UNFUSED);
    xq_attend_args a = plan_attend_args(plan);
    attend(plan, &a);
    cr_assert_eq(fake->launch_count, 1 + 2 + 1 + 1);
    unsigned entries = 2 * 22;
    const struct xq_dequantize_params *d =
        plan_launched(4, "xq_dequantize", entries * 2, STUB_COLUMN_BLOCKS, 1);
    for (unsigned i = 0; i < 2; i++) { /* keys, then values, of two groups */
        const struct xq_gemm_params *g =
            plan_launched(3 - (int)i, "xq_gemm", entries * 32 / STUB_GEMM_ROWS, 1, 2);
        const struct shape_matrix *m = shape_matrix(plan->weights, i == 0 ? "wk" : "wv");
        cr_assert_eq(g->x, i == 0 ? d->k : d->v);
        cr_assert_eq(g->x_stride, 128);
        cr_assert_eq(g->k, 64);
        cr_assert_eq(g->n, 64);
        cr_assert_eq(g->w.data, WEIGHTS + m->offset);
        cr_assert_eq(g->w.scale, WEIGHTS + m->scale_offset);
        cr_assert_eq(g->bias, weight(plan, i == 0 ? "bk" : "bv"));
        cr_assert_eq(g->y, WORKSPACE + plan->workspace.kv + (i == 0 ? 0 : 2 * 32 * 128));
        cr_assert_eq(g->row_stride, 128);
    }
    const struct xq_rope_params *r = plan_launched(1, "xq_rope", entries * 2, STUB_HEAD_BLOCKS, 1);
    cr_assert_eq(r->k_norm, weight(plan, "k_norm"));
    const struct xq_kv_attend_params *p =
        plan_launched(0, "xq_kv_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(p->sinks, weight(plan, "sinks"));
    plan_close(plan);
}

Test(launch, unfused_method_x_takes_both_products_from_the_same_rows)
{
    xq_plan *plan = make(x_only, XQ_UNFUSED);
    xq_attend_args a = plan_attend_args(plan);
    attend(plan, &a);
    const struct xq_gemm_params *k = (const void *)fake_cuda_launched(fake, 3)->params;
    const struct xq_gemm_params *v = (const void *)fake_cuda_launched(fake, 2)->params;
    cr_assert_eq(k->x, v->x);
    cr_assert_eq(k->k, 256);
    cr_assert_eq(v->k, 256);
    cr_assert_eq(v->w.data, weight(plan, "wv"));
    plan_close(plan);
}

Test(launch, unfused_attend_of_cross_layer_plans_starts_from_the_accumulator)
{
    static const char narrow[] =
        "{" PLAN_MODEL
        ", \"cache\": {\"method\": \"latent-cl\", \"rank_k\": 64, \"page\": 64, \"group\": 64}}";
    xq_plan *plan = make_many(narrow, XQ_UNFUSED, 5);
    cr_assert_geq(plan->workspace.kv - plan->workspace.rows_k, (size_t)plan->max_pages * 64 * 256 * 2);
    xq_attend_args a = plan_attend_args(plan);
    a.pages = 0;
    a.queries = 9;
    a.query_indptr = QUERY_INDPTR;
    a.query_position = QUERY_POSITION;
    a.token_offset = TOKEN_OFFSET;
    attend(plan, &a);
    const struct xq_dequantize_params *d = (const void *)fake_cuda_launched(fake, 4)->params;
    cr_assert_eq(d->pages, ACCUMULATOR);
    const struct xq_gemm_params *g = (const void *)fake_cuda_launched(fake, 3)->params;
    cr_assert_eq(g->k, 256);
    cr_assert_eq(g->x_stride, 256);
    const struct xq_rope_params *r = (const void *)fake_cuda_launched(fake, 1)->params;
    cr_assert_eq(r->queries.token_offset, TOKEN_OFFSET);
    cr_assert_eq(r->queries.query_indptr, QUERY_INDPTR);
    const struct xq_kv_attend_params *p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->queries.query_position, QUERY_POSITION);
    cr_assert_eq(p->queries.queries, 9);
    cr_assert_eq(p->queries.blocks, 1);
    plan_close(plan);
}

Test(launch, rope_also_serves_normalization_alone)
{
    static const char unrotated[] =
        "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, "
        "\"num_key_value_heads\": 2, \"head_dim\": 64, "
        "\"rope\": {\"type\": \"none\"}%s}, \"cache\": {\"method\": \"x\", \"rotation\": false}}";
    char spec[512];
    for (int norm = 0; norm < 2; norm++) {
        snprintf(spec, sizeof spec, unrotated, norm ? ", \"qk_norm\": true" : "");
        xq_plan *plan = make(spec, XQ_UNFUSED);
        xq_attend_args a = plan_attend_args(plan);
        attend(plan, &a);
        cr_assert_str_eq(fake_cuda_launched(fake, 1)->name, norm ? "xq_rope" : "xq_gemm");
        xq_plan_destroy(plan);
    }
    plan_close(NULL);
}

/* ------------------------------------------------------------------ fp16 KV */

Test(launch, fp16_kv_projects_then_appends_and_attends_over_its_pages)
{
    xq_plan *plan = make(latent, XQ_FP16_KV);
    xq_append_args a = plan_append_args(plan);
    append(plan, &a);
    cr_assert_eq(fake->launch_count, 3);
    for (int v = 0; v < 2; v++) {
        const struct xq_gemm_params *g = plan_launched(2 - v, "xq_gemm", 1, 2, 1);
        cr_assert_eq(g->x, X);
        cr_assert_eq(g->w.data, weight(plan, v ? "wv" : "wk"));
        cr_assert_eq(g->y, WORKSPACE + (v ? plan->workspace.new_v : plan->workspace.new_k));
        cr_assert_eq(g->rows, 40);
        cr_assert_eq(g->page, 40);
        cr_assert_eq(g->k, 256);
        cr_assert_eq(g->x_stride, 256);
    }
    const struct xq_kv_append_params *k = plan_launched(0, "xq_kv_append", 40, 1, 1);
    cr_assert_eq(k->k, WORKSPACE + plan->workspace.new_k);
    cr_assert_eq(k->v, WORKSPACE + plan->workspace.new_v);
    cr_assert_eq(k->kv, PAGES);
    cr_assert_eq(k->rotary_position, ROTARY);
    cr_assert_eq(k->k_norm, 0);
    xq_attend_args b = plan_attend_args(plan);
    b.weights = 0;
    attend(plan, &b);
    const struct xq_kv_attend_params *p =
        plan_launched(0, "xq_kv_attend", splits_of_one(plan, 2, 700), 2, 2);
    cr_assert_eq(fake->launch_count, 4);
    assert_table(&p->table, INDICES);
    cr_assert_eq(p->kv, PAGES);
    plan_close(plan);
}

Test(launch, fp16_kv_adds_biases_normalizes_and_has_sinks)
{
    xq_plan *plan = make(normed, XQ_FP16_KV);
    xq_append_args a = plan_append_args(plan);
    append(plan, &a);
    const struct xq_gemm_params *g = plan_launched(1, "xq_gemm", 1, 2, 1);
    cr_assert_eq(g->bias, weight(plan, "bv"));
    cr_assert_eq(g->w.scale, WEIGHTS + shape_matrix(plan->weights, "wv")->scale_offset);
    const struct xq_kv_append_params *k = plan_launched(0, "xq_kv_append", 40, 1, 1);
    cr_assert_eq(k->k_norm, weight(plan, "k_norm"));
    xq_attend_args b = plan_attend_args(plan);
    attend(plan, &b);
    const struct xq_kv_attend_params *p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->sinks, weight(plan, "sinks"));
    b.weights = 0;
    b.without_sinks = 1;
    attend(plan, &b);
    p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->sinks, 0);
    plan_close(plan);
}

/* ------------------------------------------------------------------- fp8 KV */

Test(launch, fp8_kv_appends_and_attends_in_units_of_its_scales)
{
    xq_plan *plan = make(latent, XQ_FP8_KV);
    cr_assert_eq(plan->page_bytes * 2, plan->shape.kv_page_bytes);
    xq_append_args a = plan_append_args(plan);
    append(plan, &a);
    cr_assert_eq(fake->launch_count, 3);
    const struct xq_kv_append_params *k = plan_launched(0, "xq_kv_append_e4m3", 40, 1, 1);
    cr_assert_eq(k->kv, PAGES);
    cr_assert_eq(k->rotary_position, ROTARY);
    cr_assert_eq(k->k_scale, weight(plan, "k_scale"));
    cr_assert_eq(k->v_scale, weight(plan, "v_scale"));
    xq_attend_args b = plan_attend_args(plan);
    attend(plan, &b);
    const struct xq_kv_attend_params *p =
        plan_launched(0, "xq_kv_attend_e4m3", splits_of_one(plan, 2, 700), 2, 2);
    assert_table(&p->table, INDICES);
    cr_assert_eq(p->kv, PAGES);
    cr_assert_eq(p->k_scale, weight(plan, "k_scale"));
    cr_assert_eq(p->v_scale, weight(plan, "v_scale"));
    b.weights = 0; /* unlike fp16 keys and values, codes mean nothing without scales */
    cr_assert_eq(xq_plan_attend(plan, &b, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "weights");
    plan_close(plan);
}

/* --------------------------------------------------------------- other calls */

Test(launch, nothing_to_do_launches_nothing)
{
    xq_plan *plan = make(latent, XQ_UNFUSED);
    xq_append_args a = plan_append_args(plan);
    a.tokens = 0;
    a.x = 0;
    append(plan, &a);
    xq_attend_args b = plan_attend_args(plan);
    b.table = (xq_page_table){0};
    b.q = b.out = 0;
    attend(plan, &b);
    cr_assert_eq(fake->launch_count, 0);
    b.queries = 1; /* a query without a sequence */
    cr_assert_eq(xq_plan_attend(plan, &b, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "queries");
    b = plan_attend_args(plan);
    b.max_tokens = 0; /* all sequences empty: outputs are still written */
    attend(plan, &b);
    cr_assert_eq(fake->launch_count, 1);
    plan_launched(0, "xq_kv_attend", 1, 2, 2);
    plan_close(plan);
}

/* Checks the size of one region. Regions are in the order of struct plan_workspace. If a plan lacks the
 * next region, that one begins where the one after it begins. */
static void assert_room(size_t from, size_t to, size_t bytes, const char *what)
{
    cr_assert_geq(to - from, bytes, "%s has %zu bytes, and needs %zu", what, to - from, bytes);
    cr_assert_eq(from % 256, 0);
}

Test(launch, regions_of_the_workspace_do_not_overlap)
{
    xq_plan *plan = make(latent, XQ_UNFUSED);
    const struct plan_workspace *w = &plan->workspace;
    size_t partials = (size_t)plan->attention[PLAN_ONE][0].split.partials, pages = (size_t)plan->max_pages;
    cr_assert_eq(pages, 3 * 32);
    assert_room(w->counters, w->partial_out, 3 * 2 * 4, "counters");
    assert_room(w->partial_out, w->partial_lse, partials * 4 * 64 * 2, "partial_out");
    assert_room(w->partial_lse, w->rows_k, partials * 4 * 4, "partial_lse");
    assert_room(w->rows_k, w->rows_v, pages * 32 * 128 * 2, "rows_k");
    assert_room(w->rows_v, w->kv, pages * 32 * 64 * 2, "rows_v");
    assert_room(w->kv, w->bytes, pages * 2 * 32 * 128 * 2, "kv");
    xq_plan_destroy(plan);

    plan = make_many(full, XQ_FUSED, 100);
    w = &plan->workspace;
    partials = (size_t)plan->attention[PLAN_MANY][0].split.partials;
    size_t blocks = 3 * 4; /* blocks of 64 rows, for 100 queries of 2 heads in each of 3 sequences */
    assert_room(w->counters, w->partial_out, blocks * 2 * 4, "counters");
    assert_room(w->partial_out, w->partial_lse, partials * 4 * 64 * 2, "partial_out");
    assert_room(w->partial_lse, w->absorbed, partials * 4 * 4, "partial_lse");
    assert_room(w->absorbed, w->absorbed_scale, blocks * 2 * 64 * 256 * 2, "absorbed");
    assert_room(w->absorbed_scale, w->absorbed_bias, blocks * 2 * 64 * 4 * 4, "absorbed_scale");
    assert_room(w->absorbed_bias, w->bytes, blocks * 2 * 64 * 4, "absorbed_bias");
    plan_close(plan);
}

Test(launch, dequantize_reads_pages_and_tails_or_the_accumulator)
{
    xq_plan *plan = make(channel, XQ_FUSED);
    const call_cache cached = plan_cache(plan);
    xq_dequantize_args a = call_dequantize(&cached);
    a.table_entries = 5;
    a.k = X;
    a.v = Q;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_OK, "%s", plan_error()->message);
    const struct xq_dequantize_params *d = plan_launched(0, "xq_dequantize", 10, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(d->pages, PAGES);
    cr_assert_eq(d->tails.pool, TAILS);
    cr_assert_eq(d->tails.slots, SLOTS);
    cr_assert_eq(d->k, X);
    cr_assert_eq(d->v, Q);
    xq_plan_destroy(plan);
    plan = make(delta, XQ_UNFUSED);
    a.pages = a.v = 0;
    a.accumulator = ACCUMULATOR;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_OK, "%s", plan_error()->message);
    d = plan_launched(0, "xq_dequantize", 20, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(d->pages, ACCUMULATOR);
    cr_assert_eq(d->tails.pool, 0);
    cr_assert_eq(d->v, 0);
    plan_close(plan);
}

static xq_merge_args merge_args(void)
{
    xq_merge_args a = XQ_MERGE_ARGS_INIT;
    a.queries = 9;
    a.out_a = OUT;
    a.lse_a = LSE;
    a.out_b = Q;
    a.lse_b = POSITION;
    a.out = X;
    a.lse = LAST;
    return a;
}

Test(launch, every_implementation_merges_rows_of_heads)
{
    for (int i = XQ_FUSED; i <= XQ_FP16_KV; i++) {
        xq_plan *plan = make(latent, (xq_implementation)i);
        xq_merge_args a = merge_args();
        cr_assert_eq(xq_plan_merge(plan, &a, (void *)0x77), XQ_OK, "%s", plan_error()->message);
        const struct xq_merge_params *p = plan_launched(0, "xq_merge", 9 * 4 / STUB_MERGE_ROWS, 1, 1);
        cr_assert_eq(fake_cuda_launched(fake, 0)->stream, (void *)0x77);
        cr_assert_eq(p->out_a, OUT);
        cr_assert_eq(p->lse_a, LSE);
        cr_assert_eq(p->out_b, Q);
        cr_assert_eq(p->lse_b, POSITION);
        cr_assert_eq(p->out, X);
        cr_assert_eq(p->lse, LAST);
        cr_assert_eq(p->rows, 36);
        a.out = OUT; /* in place, without a log-sum-exp */
        a.lse = 0;
        cr_assert_eq(xq_plan_merge(plan, &a, NULL), XQ_OK, "%s", plan_error()->message);
        int launches = fake->launch_count;
        a.queries = 0;
        cr_assert_eq(xq_plan_merge(plan, &a, NULL), XQ_OK, "%s", plan_error()->message);
        cr_assert_eq(fake->launch_count, launches, "nothing to merge");
        xq_plan_destroy(plan);
    }
    plan_close(NULL);
}

/* ---------------------------------------------------------------- arguments */

static void assert_append_refused(xq_plan *plan, const xq_append_args *a, const char *field)
{
    cr_assert_eq(xq_plan_append(plan, a, NULL), XQ_ERROR_ARGUMENT, "%s was accepted", field);
    cr_assert_str_eq(plan_error()->field, field);
    cr_assert_str_eq(plan_error()->stage, "argument");
}

static void assert_appends_refused(xq_plan *plan, const struct plan_mistake *mistakes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        xq_append_args a = plan_append_args(plan);
        memcpy((char *)&a + mistakes[i].offset, &mistakes[i].value, mistakes[i].size);
        assert_append_refused(plan, &a, mistakes[i].field);
    }
    cr_assert_eq(fake->launch_count, 0);
}

Test(arguments, append_names_what_is_wrong)
{
    xq_plan *plan = make(latent, XQ_FP16_KV);
    const struct plan_mistake mistakes[] = {
        {offsetof(xq_append_args, tokens), 101, 8, "tokens"},
        {offsetof(xq_append_args, tokens), (uint64_t)-1, 8, "tokens"},
        {offsetof(xq_append_args, x), 0, 8, "x"},
        {offsetof(xq_append_args, x), X + 8, 8, "x"},
        {offsetof(xq_append_args, token_sequence), SEQUENCE + 2, 8, "token_sequence"},
        {offsetof(xq_append_args, token_position), 0, 8, "token_position"},
        {offsetof(xq_append_args, table.batch), 4, 4, "table.batch"},
        {offsetof(xq_append_args, table.batch), 0, 4, "table.batch"},
        {offsetof(xq_append_args, table.indptr), 0, 8, "table.indptr"},
        {offsetof(xq_append_args, table.indices), INDICES + 1, 8, "table.indices"},
        {offsetof(xq_append_args, table.last_page_len), 0, 8, "table.last_page_len"},
        {offsetof(xq_append_args, pages), PAGES + 64, 8, "pages"},
        {offsetof(xq_append_args, weights), 0, 8, "weights"},
        {offsetof(xq_append_args, workspace), WORKSPACE + 16, 8, "workspace"},
        {offsetof(xq_append_args, workspace_bytes), 100, 8, "workspace_bytes"},
        {offsetof(xq_append_args, rotary_position), ROTARY + 1, 8, "rotary_position"},
        {offsetof(xq_append_args, struct_size), 3, 8, "struct_size"},
    };
    assert_appends_refused(plan, mistakes, sizeof mistakes / sizeof mistakes[0]);
    assert_append_refused(plan, NULL, "args");
    plan_close(plan);
}

Test(arguments, append_asks_for_what_its_method_needs)
{
    const struct plan_mistake by_channel[] = {
        {offsetof(xq_append_args, weights), 0, 8, "weights"},
        {offsetof(xq_append_args, append_indptr), 0, 8, "append_indptr"},
        {offsetof(xq_append_args, append_indptr), APPEND_INDPTR + 2, 8, "append_indptr"},
        {offsetof(xq_append_args, tails.pool), 0, 8, "tails.pool"},
        {offsetof(xq_append_args, tails.pool), TAILS + 64, 8, "tails.pool"},
        {offsetof(xq_append_args, tails.slots), 0, 8, "tails.slots"},
    };
    const struct plan_mistake cross_layer[] = {
        {offsetof(xq_append_args, accumulator), 0, 8, "accumulator"},
        {offsetof(xq_append_args, accumulator), ACCUMULATOR + 16, 8, "accumulator"},
        {offsetof(xq_append_args, weights), 0, 8, "weights"},
    };
    xq_plan *plan = make(channel, XQ_FUSED);
    assert_appends_refused(plan, by_channel, sizeof by_channel / sizeof by_channel[0]);
    xq_plan_destroy(plan);
    plan = make(joint, XQ_UNFUSED);
    assert_appends_refused(plan, cross_layer, sizeof cross_layer / sizeof cross_layer[0]);
    plan_close(plan);
}

static void assert_attend_refused(xq_plan *plan, const xq_attend_args *a, const char *field)
{
    int before = fake->launch_count;
    cr_assert_eq(xq_plan_attend(plan, a, NULL), XQ_ERROR_ARGUMENT, "%s was accepted", field);
    cr_assert_str_eq(plan_error()->field, field, "%s, not %s: %s", plan_error()->field, field,
                     plan_error()->message);
    cr_assert_eq(fake->launch_count, before);
}

static void assert_attends_refused(xq_plan *plan, const xq_attend_args *good,
                                   const struct plan_mistake *mistakes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        xq_attend_args a = *good;
        memcpy((char *)&a + mistakes[i].offset, &mistakes[i].value, mistakes[i].size);
        assert_attend_refused(plan, &a, mistakes[i].field);
    }
    attend(plan, good);
}

Test(arguments, attend_names_what_is_wrong)
{
    xq_plan *plan = make(latent, XQ_FUSED);
    const struct plan_mistake mistakes[] = {
        {offsetof(xq_attend_args, max_tokens), 1001, 8, "max_tokens"},
        {offsetof(xq_attend_args, max_tokens), (uint64_t)-1, 8, "max_tokens"},
        {offsetof(xq_attend_args, q), 0, 8, "q"},
        {offsetof(xq_attend_args, out), OUT + 2, 8, "out"},
        {offsetof(xq_attend_args, lse), LSE + 2, 8, "lse"},
        {offsetof(xq_attend_args, table.batch), (uint32_t)-1, 4, "table.batch"},
        {offsetof(xq_attend_args, table.indices), 0, 8, "table.indices"},
        {offsetof(xq_attend_args, pages), 0, 8, "pages"},
        {offsetof(xq_attend_args, weights), WEIGHTS + 128, 8, "weights"},
        {offsetof(xq_attend_args, workspace), 0, 8, "workspace"},
        {offsetof(xq_attend_args, workspace_bytes), 0, 8, "workspace_bytes"},
        {offsetof(xq_attend_args, without_sinks), 2, 4, "without_sinks"},
        {offsetof(xq_attend_args, token_offset), TOKEN_OFFSET + 1, 8, "token_offset"},
        {offsetof(xq_attend_args, queries), 3, 8, "query_indptr"}, /* 3 queries of 2 sequences */
        {offsetof(xq_attend_args, max_queries), 2, 8, "max_queries"},
        /* A plan with max_queries 1 has no kernel for these. */
        {offsetof(xq_attend_args, query_indptr), QUERY_INDPTR, 8, "query_indptr"},
        {offsetof(xq_attend_args, query_position), QUERY_POSITION, 8, "query_position"},
        {offsetof(xq_attend_args, tree_mask), TREE_MASK, 8, "tree_mask"},
    };
    xq_attend_args good = plan_attend_args(plan);
    good.lse = 0; /* optional */
    assert_attends_refused(plan, &good, mistakes, sizeof mistakes / sizeof mistakes[0]);
    plan_close(plan);
}

Test(arguments, attend_names_what_is_wrong_with_many_queries)
{
    plan_open_stubs();
    xq_plan_options o = plan_options(latent, XQ_UNFUSED);
    o.max_queries = 100;
    o.max_total_queries = 160;
    xq_plan *plan = plan_make_with(&o);
    const struct plan_mistake mistakes[] = {
        {offsetof(xq_attend_args, queries), 161, 8, "queries"},
        {offsetof(xq_attend_args, queries), (uint64_t)-1, 8, "queries"},
        {offsetof(xq_attend_args, max_queries), 101, 8, "max_queries"},
        {offsetof(xq_attend_args, query_indptr), 0, 8, "query_indptr"},
        {offsetof(xq_attend_args, query_indptr), QUERY_INDPTR + 2, 8, "query_indptr"},
        {offsetof(xq_attend_args, query_position), 0, 8, "query_position"}, /* the tree mask needs it */
        {offsetof(xq_attend_args, query_position), QUERY_POSITION + 2, 8, "query_position"},
        {offsetof(xq_attend_args, tree_mask), TREE_MASK + 2, 8, "tree_mask"},
        {offsetof(xq_attend_args, mask_words), 3, 4, "mask_words"}, /* 100 queries have 4 words */
    };
    xq_attend_args good = ragged_args(plan);
    good.query_position = QUERY_POSITION;
    good.tree_mask = TREE_MASK;
    good.mask_words = 4;
    assert_attends_refused(plan, &good, mistakes, sizeof mistakes / sizeof mistakes[0]);
    plan_close(plan);
}

Test(arguments, attend_asks_for_what_its_method_needs)
{
    const struct plan_mistake by_channel[] = {
        {offsetof(xq_attend_args, tails.pool), 0, 8, "tails.pool"},
        {offsetof(xq_attend_args, tails.slots), SLOTS + 2, 8, "tails.slots"},
    };
    const struct plan_mistake cross_layer[] = {
        {offsetof(xq_attend_args, accumulator), 0, 8, "accumulator"},
        {offsetof(xq_attend_args, accumulator), ACCUMULATOR + 64, 8, "accumulator"},
    };
    const struct plan_mistake with_sinks[] = {{offsetof(xq_attend_args, weights), 0, 8, "weights"}};
    xq_plan *plan = make(channel, XQ_FUSED);
    xq_attend_args good = plan_attend_args(plan);
    assert_attends_refused(plan, &good, by_channel, 2);
    xq_plan_destroy(plan);
    plan = make(delta, XQ_UNFUSED);
    good = plan_attend_args(plan);
    assert_attends_refused(plan, &good, cross_layer, 2);
    xq_plan_destroy(plan);
    plan = make(normed, XQ_FP16_KV);
    good = plan_attend_args(plan);
    assert_attends_refused(plan, &good, with_sinks, 1);
    plan_close(plan);
}

/* A correct call has no argument that the plan cannot use. */
Test(arguments, what_would_have_no_effect_is_refused)
{
    const struct plan_mistake append_faults[] = {
        {offsetof(xq_append_args, accumulator), ACCUMULATOR, 8, "accumulator"},
        {offsetof(xq_append_args, tails.pool), TAILS, 8, "tails.pool"},
        {offsetof(xq_append_args, tails.slots), SLOTS, 8, "tails.slots"},
        {offsetof(xq_append_args, rotary_position), ROTARY, 8, "rotary_position"}, /* fp16 KV has it */
    };
    const struct plan_mistake attend_faults[] = {
        {offsetof(xq_attend_args, accumulator), ACCUMULATOR, 8, "accumulator"},
        {offsetof(xq_attend_args, tails.pool), TAILS, 8, "tails.pool"},
        {offsetof(xq_attend_args, tails.slots), SLOTS, 8, "tails.slots"},
        {offsetof(xq_attend_args, mask_words), 1, 4, "mask_words"},
    };
    for (int i = XQ_FUSED; i <= XQ_FP16_KV; i++) {
        xq_plan *plan = make(latent, (xq_implementation)i);
        const xq_attend_args good = plan_attend_args(plan);
        fake->launch_count = 0;
        assert_appends_refused(plan, append_faults, i == XQ_FP16_KV ? 3 : 4);
        assert_attends_refused(plan, &good, attend_faults, 4);
        xq_plan_destroy(plan);
    }
    fake->launch_count = 0;
    xq_plan *plan = make(channel, XQ_FP16_KV); /* its cache has no tails, as the spec's would have */
    assert_appends_refused(plan, append_faults + 1, 1);
    xq_plan_destroy(plan);
    plan = make(joint, XQ_FUSED);
    xq_accumulate_args sum = accumulate_args(plan);
    sum.tails.slots = SLOTS;
    cr_assert_eq(xq_plan_accumulate(plan, &sum, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "tails.slots");
    cr_assert(strstr(plan_error()->message, "valid: 0"), "%s", plan_error()->message);
    xq_plan_destroy(plan);
    xq_dequantize_args look = XQ_DEQUANTIZE_ARGS_INIT;
    look.table_entries = 5;
    look.table = (xq_page_table){2, INDPTR, INDICES, LAST};
    look.pages = PAGES;
    look.k = X;
    look.v = Q;
    plan = make(x_only, XQ_FUSED);
    cr_assert_eq(xq_plan_dequantize(plan, &look, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "v");
    look.v = 0;
    look.accumulator = ACCUMULATOR;
    cr_assert_eq(xq_plan_dequantize(plan, &look, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "accumulator");
    plan_close(plan);
}

Test(arguments, accumulate_names_what_is_wrong)
{
    const struct plan_mistake mistakes[] = {
        {offsetof(xq_accumulate_args, max_tokens), 1001, 8, "max_tokens"},
        {offsetof(xq_accumulate_args, table.batch), 4, 4, "table.batch"},
        {offsetof(xq_accumulate_args, table.indptr), 0, 8, "table.indptr"},
        {offsetof(xq_accumulate_args, pages), 0, 8, "pages"},
        {offsetof(xq_accumulate_args, accumulator), ACCUMULATOR + 8, 8, "accumulator"},
        {offsetof(xq_accumulate_args, weights), 0, 8, "weights"},
        {offsetof(xq_accumulate_args, struct_size), 1, 8, "struct_size"},
    };
    xq_plan *plan = make(joint, XQ_FUSED);
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        xq_accumulate_args a = accumulate_args(plan);
        memcpy((char *)&a + mistakes[i].offset, &mistakes[i].value, mistakes[i].size);
        cr_assert_eq(xq_plan_accumulate(plan, &a, NULL), XQ_ERROR_ARGUMENT, "%s was accepted",
                     mistakes[i].field);
        cr_assert_str_eq(plan_error()->field, mistakes[i].field);
    }
    xq_plan_destroy(plan);
    plan = make(delta, XQ_FUSED);
    xq_accumulate_args a = accumulate_args(plan);
    a.tails.slots = 0;
    cr_assert_eq(xq_plan_accumulate(plan, &a, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "tails.slots");
    xq_plan_destroy(plan);
    const xq_implementation without[] = {XQ_FUSED, XQ_FP16_KV};
    for (int i = 0; i < 2; i++) {
        plan = make(i ? joint : latent, without[i]);
        a = accumulate_args(plan);
        cr_assert_eq(xq_plan_accumulate(plan, &a, NULL), XQ_ERROR_ARGUMENT);
        cr_assert_str_eq(plan_error()->field, "plan");
        xq_plan_destroy(plan);
    }
    cr_assert_eq(fake->launch_count, 0);
    plan_close(NULL);
}

Test(arguments, merge_names_what_is_wrong)
{
    const struct plan_mistake mistakes[] = {
        {offsetof(xq_merge_args, queries), (uint64_t)-1, 8, "queries"},
        {offsetof(xq_merge_args, queries), INT32_MAX, 8, "queries"}, /* times 4 heads */
        {offsetof(xq_merge_args, out_a), 0, 8, "out_a"},
        {offsetof(xq_merge_args, out_b), Q + 8, 8, "out_b"},
        {offsetof(xq_merge_args, lse_a), 0, 8, "lse_a"},
        {offsetof(xq_merge_args, lse_b), POSITION + 2, 8, "lse_b"},
        {offsetof(xq_merge_args, out), 0, 8, "out"},
        {offsetof(xq_merge_args, lse), LAST + 2, 8, "lse"},
    };
    xq_plan *plan = make(latent, XQ_FUSED);
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        xq_merge_args a = merge_args();
        memcpy((char *)&a + mistakes[i].offset, &mistakes[i].value, mistakes[i].size);
        cr_assert_eq(xq_plan_merge(plan, &a, NULL), XQ_ERROR_ARGUMENT, "%s was accepted",
                     mistakes[i].field);
        cr_assert_str_eq(plan_error()->field, mistakes[i].field);
    }
    cr_assert_eq(fake->launch_count, 0);
    plan_close(plan);
}

Test(arguments, dequantize_names_what_is_wrong)
{
    xq_plan *plan = make(latent, XQ_FUSED);
    xq_dequantize_args a = XQ_DEQUANTIZE_ARGS_INIT;
    a.table_entries = 5;
    a.table = (xq_page_table){2, INDPTR, INDICES, LAST};
    a.pages = PAGES;
    a.k = X;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "v");
    a.v = Q;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_OK);
    plan_launched(0, "xq_dequantize", 10, STUB_COLUMN_BLOCKS, 1);
    a.table_entries = 97; /* max_pages is 96 */
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "table_entries");
    xq_plan_destroy(plan);

    plan = make(latent, XQ_FP16_KV);
    a.table_entries = 5;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_ERROR_UNSUPPORTED);
    cr_assert_str_eq(plan_error()->field, "implementation");
    plan_close(plan);
}

Test(arguments, queries_that_no_grid_holds_are_refused_with_the_plan)
{
    plan_open_stubs();
    xq_plan_options o = plan_options(
        "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 128, \"num_key_value_heads\": 1, "
        "\"head_dim\": 64}, \"cache\": {\"method\": \"x\", \"rotation\": false}}",
        XQ_FUSED);
    o.max_batch = 1;
    o.max_queries = 65535 * 64 / 128 + 1;
    xq_plan *plan = NULL;
    cr_assert_eq(xq_plan_create(context, &o, &plan), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "max_queries");
    cr_assert(strstr(plan_error()->message, "1 to 32767"), "%s", plan_error()->message);
    plan_close(NULL);
}
