/* Tests on the fake GPU which parameters fused attention passes to which kernels, for one query of each
 * sequence and for many. */
#include "launch_calls.h"

#include <criterion/criterion.h>

/* ------------------------------------------------------------- fused attend */

Test(launch_attend, fused_attend_is_one_kernel_over_splits_heads_and_sequences)
{
    xq_plan *plan = launch_plan(launch_latent, XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    launch_attend(plan, &a);
    cr_assert_eq(fake->launch_count, 1);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(fake_cuda_launched(fake, 0)->params_bytes, sizeof *p);
    launch_assert_table(&p->table, INDICES);
    cr_assert_eq(p->tokens_per_split, launch_split_tokens(plan, 2, 700));
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->tails.pool, 0);
    cr_assert_eq(p->wk.data, launch_weight(plan, "wk"));
    cr_assert_eq(p->wv.data, launch_weight(plan, "wv"));
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

Test(launch_attend, fused_attend_reads_the_accumulator_of_cross_layer_plans_and_tails_of_others)
{
    xq_plan *plan = launch_plan(launch_delta, XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    a.pages = 0;
    a.tails = (xq_tail_pool){0};
    launch_attend(plan, &a);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(p->pages, ACCUMULATOR);
    cr_assert_eq(p->tails.pool, 0);
    xq_plan_destroy(plan);
    plan = launch_plan(launch_channel, XQ_FUSED);
    a = plan_attend_args(plan);
    a.accumulator = 0;
    launch_attend(plan, &a);
    p = plan_launched(0, "xq_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->tails.pool, TAILS);
    cr_assert_eq(p->tails.slots, SLOTS);
    plan_close(plan);
}

Test(launch_attend, absorbed_columns_are_multiplied_before_attention)
{
    xq_plan *plan = launch_plan(launch_full, XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    launch_attend(plan, &a);
    cr_assert_eq(fake->launch_count, 2);
    const struct xq_absorb_params *b = plan_launched(1, "xq_absorb", 256 / 64, 2, 2);
    cr_assert_eq(b->q, Q);
    cr_assert_eq(b->wk.data, launch_weight(plan, "wk_absorb"));
    cr_assert_eq(b->bk, launch_weight(plan, "bk_absorb"));
    cr_assert_eq(b->counters, WORKSPACE + plan->workspace.counters);
    cr_assert_eq(b->absorbed, WORKSPACE + plan->workspace.absorbed);
    cr_assert_eq(b->absorbed_scale, WORKSPACE + plan->workspace.absorbed_scale);
    cr_assert_eq(b->absorbed_bias, WORKSPACE + plan->workspace.absorbed_bias);
    cr_assert_eq(b->queries.blocks, 1);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(p->absorbed, b->absorbed);
    cr_assert_eq(p->absorbed_scale, b->absorbed_scale);
    cr_assert_eq(p->absorbed_bias, b->absorbed_bias);
    cr_assert_eq(p->bk, launch_weight(plan, "bk"));
    cr_assert_eq(p->bv, launch_weight(plan, "bv"));
    cr_assert_eq(p->sinks, launch_weight(plan, "sinks"));
    a.without_sinks = 1;
    launch_attend(plan, &a);
    p = plan_launched(0, "xq_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(p->sinks, 0);
    plan_close(plan);
}

Test(launch_attend, fused_weights_of_8_bits_come_with_scales)
{
    xq_plan *plan = launch_plan(launch_normed, XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    launch_attend(plan, &a);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(p->wk.scale, WEIGHTS + shape_matrix(plan->weights, "wk")->scale_offset);
    cr_assert_eq(p->wv.scale, WEIGHTS + shape_matrix(plan->weights, "wv")->scale_offset);
    cr_assert_eq(p->k_norm, launch_weight(plan, "k_norm"));
    plan_close(plan);
}

Test(launch_attend, keys_normalized_over_all_heads_are_summed_up_before_attention)
{
    xq_plan *plan = launch_plan(
        "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
        "\"head_dim\": 64, \"qk_norm\": \"row\", \"attention_bias\": true}, "
        "\"cache\": {\"method\": \"x\", \"axis_k\": \"channel\", \"group\": 64}}",
        XQ_FUSED);
    xq_attend_args a = plan_attend_args(plan);
    launch_attend(plan, &a);
    cr_assert_eq(fake->launch_count, 2);
    const struct xq_key_norms_params *n =
        plan_launched(1, "xq_key_norms", (700 + STUB_TILE - 1) / STUB_TILE, 2, 2);
    launch_assert_table(&n->table, INDICES);
    cr_assert_eq(n->pages, PAGES);
    cr_assert_eq(n->tails.pool, TAILS);
    cr_assert_eq(n->wk.data, launch_weight(plan, "wk"));
    cr_assert_eq(n->bk, launch_weight(plan, "bk"));
    cr_assert_eq(n->sums, WORKSPACE + plan->workspace.key_sums);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(p->key_sums, n->sums);
    cr_assert_geq(plan->workspace.bytes - plan->workspace.key_sums, (size_t)plan->max_pages * 64 * 2 * 4);
    a.max_tokens = 0;
    launch_attend(plan, &a);
    cr_assert_eq(fake->launch_count, 3);
    xq_plan_destroy(plan);
    plan = launch_plan(launch_normed, XQ_FUSED); /* normalization over a head is done by attend */
    a = plan_attend_args(plan);
    launch_attend(plan, &a);
    cr_assert_eq(fake->launch_count, 4);
    plan_close(plan);
}

/* ------------------------------------------------------------- many queries */

Test(launch_attend, many_queries_are_blocks_of_rows_of_a_kernel_of_their_own)
{
    xq_plan *plan = launch_plan_for(launch_latent, XQ_FUSED, 120);
    cr_assert_neq(plan->attention[PLAN_ONE][0].attend, plan->attention[PLAN_MANY][0].attend);
    xq_attend_args a = launch_ragged_args(plan);
    a.query_position = QUERY_POSITION;
    a.token_offset = TOKEN_OFFSET;
    a.tree_mask = TREE_MASK;
    a.mask_words = 4;
    launch_attend(plan, &a);
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

    a = launch_ragged_args(
        plan); /* without max_queries, a sequence may have all queries, up to the limit of the plan */
    a.max_queries = 0;
    a.queries = 40;
    launch_attend(plan, &a);
    p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->queries.blocks, 2);
    a.queries = 300;
    launch_attend(plan, &a);
    p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->queries.blocks, 4);
    plan_close(plan);
}

Test(launch_attend, one_query_each_takes_the_kernel_of_one_unless_positions_are_given)
{
    xq_plan *plan = launch_plan_for(launch_full, XQ_FUSED, 8);
    xq_attend_args a = plan_attend_args(plan);
    a.token_offset = TOKEN_OFFSET; /* changes nothing: the query is at the last position */
    launch_attend(plan, &a);
    const struct xq_attend_params *p = plan_launched(0, "xq_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(p->tokens_per_split, launch_split_tokens(plan, 2, 700));
    cr_assert_leq(p->tokens_per_split, STUB_SPLIT);
    a.query_position = QUERY_POSITION;
    launch_attend(plan, &a);
    p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->queries.query_position, QUERY_POSITION);
    cr_assert_eq(p->queries.query_indptr, 0);
    struct split_load load = {2, 2, 2, 700};
    cr_assert_eq(p->tokens_per_split, split_tokens(&plan->attention[PLAN_MANY][0].split, &load));
    xq_plan_destroy(plan);

    /* A spec may ask for the many-query kernel alone. */
    static const char many[] =
        "{" PLAN_MODEL ", \"queries\": \"many\", \"cache\": {\"method\": \"x\", \"rotation\": false}}";
    plan = launch_plan(many, XQ_FUSED);
    cr_assert_null(plan->attention[PLAN_ONE][0].attend);
    a = plan_attend_args(plan);
    launch_attend(plan, &a);
    plan_close(plan);
}

Test(launch_attend, tuning_for_one_query_is_not_that_for_many)
{
    static const char tuned[] =
        "{" PLAN_MODEL
        ", \"cache\": {\"method\": \"x\", \"rotation\": false}, \"tuning\": {\"attend\": {}, "
        "\"append\": {}}}";
    xq_plan *plan = launch_plan_for(tuned, XQ_FUSED, 4);
    cr_assert_not_null(plan->attention[PLAN_MANY][0].attend);
    xq_plan_options o = plan_options(xq_plan_spec(plan), XQ_FUSED); /* a completed spec is a spec */
    o.max_queries = 4;
    xq_plan *again = plan_make_with(&o);
    cr_assert_str_eq(xq_plan_spec(plan), xq_plan_spec(again));
    xq_plan_destroy(again);
    plan_close(plan);
}

/* 40000 sequences have up to two blocks each, and a grid has at most 65535. */
Test(launch_attend, batches_beyond_a_grid_are_cut_into_several_launches)
{
    plan_open_stubs();
    xq_plan_options o = plan_options(launch_full, XQ_FUSED);
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
    launch_attend(plan, &a);
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
Test(launch_attend, one_row_of_q_for_each_sequence_moves_with_it)
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
    launch_attend(plan, &a);
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
