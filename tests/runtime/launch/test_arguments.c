/* Tests which arguments each call refuses, and that the error names the argument at fault. */
#include "launch_calls.h"

#include <criterion/criterion.h>
#include <string.h>

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
    xq_plan *plan = launch_plan(launch_latent, XQ_FP16_KV);
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
    xq_plan *plan = launch_plan(launch_channel, XQ_FUSED);
    assert_appends_refused(plan, by_channel, sizeof by_channel / sizeof by_channel[0]);
    xq_plan_destroy(plan);
    plan = launch_plan(launch_joint, XQ_UNFUSED);
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
    launch_attend(plan, good);
}

Test(arguments, attend_names_what_is_wrong)
{
    xq_plan *plan = launch_plan(launch_latent, XQ_FUSED);
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
    xq_plan_options o = plan_options(launch_latent, XQ_UNFUSED);
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
    xq_attend_args good = launch_ragged_args(plan);
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
    xq_plan *plan = launch_plan(launch_channel, XQ_FUSED);
    xq_attend_args good = plan_attend_args(plan);
    assert_attends_refused(plan, &good, by_channel, 2);
    xq_plan_destroy(plan);
    plan = launch_plan(launch_delta, XQ_UNFUSED);
    good = plan_attend_args(plan);
    assert_attends_refused(plan, &good, cross_layer, 2);
    xq_plan_destroy(plan);
    plan = launch_plan(launch_normed, XQ_FP16_KV);
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
        xq_plan *plan = launch_plan(launch_latent, (xq_implementation)i);
        const xq_attend_args good = plan_attend_args(plan);
        fake->launch_count = 0;
        assert_appends_refused(plan, append_faults, i == XQ_FP16_KV ? 3 : 4);
        assert_attends_refused(plan, &good, attend_faults, 4);
        xq_plan_destroy(plan);
    }
    fake->launch_count = 0;
    xq_plan *plan =
        launch_plan(launch_channel, XQ_FP16_KV); /* its cache has no tails, as the spec's would have */
    assert_appends_refused(plan, append_faults + 1, 1);
    xq_plan_destroy(plan);
    plan = launch_plan(launch_joint, XQ_FUSED);
    xq_accumulate_args sum = launch_accumulate_args(plan);
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
    plan = launch_plan(launch_x, XQ_FUSED);
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
    xq_plan *plan = launch_plan(launch_joint, XQ_FUSED);
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        xq_accumulate_args a = launch_accumulate_args(plan);
        memcpy((char *)&a + mistakes[i].offset, &mistakes[i].value, mistakes[i].size);
        cr_assert_eq(xq_plan_accumulate(plan, &a, NULL), XQ_ERROR_ARGUMENT, "%s was accepted",
                     mistakes[i].field);
        cr_assert_str_eq(plan_error()->field, mistakes[i].field);
    }
    xq_plan_destroy(plan);
    plan = launch_plan(launch_delta, XQ_FUSED);
    xq_accumulate_args a = launch_accumulate_args(plan);
    a.tails.slots = 0;
    cr_assert_eq(xq_plan_accumulate(plan, &a, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "tails.slots");
    xq_plan_destroy(plan);
    const xq_implementation without[] = {XQ_FUSED, XQ_FP16_KV};
    for (int i = 0; i < 2; i++) {
        plan = launch_plan(i ? launch_joint : launch_latent, without[i]);
        a = launch_accumulate_args(plan);
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
    xq_plan *plan = launch_plan(launch_latent, XQ_FUSED);
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        xq_merge_args a = launch_merge_args();
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
    xq_plan *plan = launch_plan(launch_latent, XQ_FUSED);
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

    plan = launch_plan(launch_latent, XQ_FP16_KV);
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
