/* Tests on the fake GPU which parameters append, accumulate, merge and dequantize pass to which kernels.
 * The kernels are stubs that state grids of their own (plan_fixture.h). */
#include "launch_calls.h"

#include <criterion/criterion.h>

/* ------------------------------------------------------------------- append */

Test(launch, append_passes_projections_and_covers_all_tokens)
{
    xq_plan *plan = launch_plan(launch_latent, XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    cr_assert_eq(xq_plan_append(plan, &a, (void *)0x55), XQ_OK, "%s", plan_error()->message);
    cr_assert_eq(fake->launch_count, 1);
    const struct xq_append_params *p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    const struct fake_cuda_launch *l = fake_cuda_launched(fake, 0);
    cr_assert_eq(l->block[0], plan->kernels[PLAN_APPEND]->threads);
    cr_assert_eq(l->shared_bytes, plan->kernels[PLAN_APPEND]->shared_bytes);
    cr_assert_eq(l->stream, (void *)0x55);
    cr_assert_eq(l->params_bytes, sizeof *p);
    launch_assert_table(&p->table, INDICES);
    cr_assert_eq(p->x, X);
    cr_assert_eq(p->token_sequence, SEQUENCE);
    cr_assert_eq(p->token_position, POSITION);
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->uk.data, launch_weight(plan, "uk"));
    cr_assert_eq(p->uv.data, launch_weight(plan, "uv"));
    cr_assert_eq(p->tokens, 40);
    cr_assert(!p->append_indptr && !p->tails.pool && !p->accumulator,
              "what the plan does not use is not passed");
    plan_close(plan);
}

Test(launch, append_of_method_x_needs_no_weights)
{
    xq_plan *plan = launch_plan(launch_x, XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    a.weights = a.workspace = 0;
    launch_append(plan, &a);
    const struct xq_append_params *p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->uk.data, 0);
    cr_assert_eq(p->uv.data, 0);
    plan_close(plan);
}

Test(launch, append_of_rotated_x_needs_them)
{
    xq_plan *plan = launch_plan(launch_x_rotated, XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    launch_append(plan, &a);
    const struct xq_append_params *p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->uk.data, launch_weight(plan, "uk"));
    cr_assert_eq(p->uv.data, 0);
    a.weights = 0;
    cr_assert_eq(xq_plan_append(plan, &a, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "weights");
    plan_close(plan);
}

Test(launch, each_axis_has_an_append_kernel)
{
    xq_plan *plan = launch_plan(launch_channel, XQ_UNFUSED);
    cr_assert_eq(plan_info(plan).needs_append_indptr, 1);
    cr_assert_eq(plan_info(plan).tail_bytes, 32 * 128 * 2);
    xq_append_args a = plan_append_args(plan);
    launch_append(plan, &a);
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
        launch_append(plan, &a);
        plan_launched(0, "xq_append_channel", cases[i].groups, STUB_COLUMN_BLOCKS + 1, 2);
    }
    plan_close(plan);
}

Test(launch, deltas_are_taken_from_the_accumulator)
{
    xq_plan *plan = launch_plan(launch_delta, XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    launch_append(plan, &a);
    cr_assert_eq(fake->launch_count, 1, "no stream is per token");
    const struct xq_append_params *p = plan_launched(0, "xq_append_channel", 2, STUB_COLUMN_BLOCKS + 1, 2);
    cr_assert_eq(p->accumulator, ACCUMULATOR);
    cr_assert_eq(p->uk.data, 0);
    xq_plan_destroy(plan);

    plan = launch_plan(launch_joint, XQ_FUSED);
    a = plan_append_args(plan);
    launch_append(plan, &a);
    p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->accumulator, ACCUMULATOR);
    cr_assert_eq(p->uk.data, launch_weight(plan, "ukv"));
    cr_assert_eq(p->uv.data, 0);
    xq_plan_destroy(plan);

    plan = launch_plan(launch_joint_base, XQ_FUSED);
    a.accumulator = 0; /* the base layer starts the accumulator */
    launch_append(plan, &a);
    p = plan_launched(0, "xq_append", 3, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(p->accumulator, 0);
    plan_close(plan);
}

Test(launch, append_by_channel_takes_as_many_steps_as_its_kernel_says)
{
    xq_plan *plan = launch_plan(
        "{" PLAN_MODEL ", \"cache\": {\"method\": \"x-cl\", \"axis_k\": \"channel\", \"page\": 64, "
        "\"group\": 64, \"base\": true}}",
        XQ_FUSED);
    xq_append_args a = plan_append_args(plan);
    launch_append(plan, &a);
    cr_assert_eq(fake->launch_count, STUB_STEPS);
    for (int step = 0; step < STUB_STEPS; step++) {
        const struct xq_append_params *p =
            plan_launched(STUB_STEPS - 1 - step, "xq_append_channel", 2, STUB_COLUMN_BLOCKS + 1, 2);
        cr_assert_eq(p->step, step);
    }
    plan_close(plan);
}

/* --------------------------------------------------------------- accumulate */

Test(launch, accumulate_covers_every_tile_of_the_table)
{
    xq_plan *plan = launch_plan(launch_joint, XQ_UNFUSED);
    xq_accumulate_args a = launch_accumulate_args(plan);
    cr_assert_eq(xq_plan_accumulate(plan, &a, (void *)0x66), XQ_OK, "%s", plan_error()->message);
    unsigned entries = 2 * 11; /* entries of 64 tokens, for 700 tokens in each of 2 sequences */
    const struct xq_accumulate_params *p = plan_launched(
        0, "xq_accumulate", (entries * 4 + STUB_SUM_TILES - 1) / STUB_SUM_TILES, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(fake_cuda_launched(fake, 0)->stream, (void *)0x66);
    launch_assert_table(&p->table, INDICES);
    cr_assert_eq(p->pages, PAGES);
    cr_assert_eq(p->accumulator, ACCUMULATOR);
    cr_assert_eq(p->ukvt.data, launch_weight(plan, "ukvt"));
    cr_assert_eq(p->tails.pool, 0);
    cr_assert_eq(p->batch, 2);
    cr_assert_eq(p->entries, (int)entries);
    a.max_tokens = 0;
    cr_assert_eq(xq_plan_accumulate(plan, &a, NULL), XQ_OK);
    cr_assert_eq(fake->launch_count, 1, "nothing to accumulate");
    xq_plan_destroy(plan);

    plan = launch_plan(launch_delta, XQ_FUSED);
    a = launch_accumulate_args(plan);
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
    xq_plan *plan = launch_plan(launch_joint, XQ_FUSED);
    xq_plan_info info = plan_info(plan);
    cr_assert_eq(info.accumulator_page_bytes, 64 * 256 * 2);
    cr_assert_eq(info.accumulator_bytes_per_token, 512);
    cr_assert_eq(info.rank_k, 256);
    cr_assert_eq(info.rank_v, 0);
    cr_assert_eq(info.tail_bytes, 0);
    xq_plan_destroy(plan);
    plan = launch_plan(launch_delta, XQ_FP16_KV); /* the baseline has neither accumulator nor tail */
    info = plan_info(plan);
    cr_assert_eq(info.accumulator_page_bytes, 0);
    cr_assert_eq(info.tail_bytes, 0);
    cr_assert_eq(info.needs_append_indptr, 0);
    plan_close(plan);
}

/* --------------------------------------------------------------- other calls */

Test(launch, nothing_to_do_launches_nothing)
{
    xq_plan *plan = launch_plan(launch_latent, XQ_UNFUSED);
    xq_append_args a = plan_append_args(plan);
    a.tokens = 0;
    a.x = 0;
    launch_append(plan, &a);
    xq_attend_args b = plan_attend_args(plan);
    b.table = (xq_page_table){0};
    b.q = b.out = 0;
    launch_attend(plan, &b);
    cr_assert_eq(fake->launch_count, 0);
    b.queries = 1; /* a query without a sequence */
    cr_assert_eq(xq_plan_attend(plan, &b, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "queries");
    b = plan_attend_args(plan);
    b.max_tokens = 0; /* all sequences empty: outputs are still written */
    launch_attend(plan, &b);
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
    xq_plan *plan = launch_plan(launch_latent, XQ_UNFUSED);
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

    plan = launch_plan_for(launch_full, XQ_FUSED, 100);
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
    xq_plan *plan = launch_plan(launch_channel, XQ_FUSED);
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
    plan = launch_plan(launch_delta, XQ_UNFUSED);
    a.pages = a.v = 0;
    a.accumulator = ACCUMULATOR;
    cr_assert_eq(xq_plan_dequantize(plan, &a, NULL), XQ_OK, "%s", plan_error()->message);
    d = plan_launched(0, "xq_dequantize", 20, STUB_COLUMN_BLOCKS, 1);
    cr_assert_eq(d->pages, ACCUMULATOR);
    cr_assert_eq(d->tails.pool, 0);
    cr_assert_eq(d->v, 0);
    plan_close(plan);
}

Test(launch, every_implementation_merges_rows_of_heads)
{
    for (int i = XQ_FUSED; i <= XQ_FP16_KV; i++) {
        xq_plan *plan = launch_plan(launch_latent, (xq_implementation)i);
        xq_merge_args a = launch_merge_args();
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
