/* Tests on the fake GPU which parameters the unfused pipeline, and attention over 16-bit and 8-bit KV
 * pages, pass to which kernels. */
#include "launch_calls.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* ----------------------------------------------------------- unfused attend */

Test(launch_unfused, unfused_attend_is_dequantize_two_products_rope_and_attention)
{
    xq_plan *plan = launch_plan(launch_latent, XQ_UNFUSED);
    xq_attend_args a = plan_attend_args(plan);
    launch_attend(plan, &a);
    cr_assert_eq(fake->launch_count, 5);
    unsigned entries = 2 * 22; /* entries of 32 tokens, for 700 tokens in each of 2 sequences */
    const struct xq_dequantize_params *d =
        plan_launched(4, "xq_dequantize", entries * 2, STUB_COLUMN_BLOCKS, 1);
    launch_assert_table(&d->table, INDICES);
    cr_assert_eq(d->pages, PAGES);
    cr_assert_eq(d->k, WORKSPACE + plan->workspace.rows_k);
    cr_assert_eq(d->v, WORKSPACE + plan->workspace.rows_v);
    cr_assert_eq(d->batch, 2);
    cr_assert_eq(d->entries, (int)entries);
    for (int v = 0; v < 2; v++) { /* keys, then values */
        const struct xq_gemm_params *g =
            plan_launched(3 - v, "xq_gemm", entries * 32 / STUB_GEMM_ROWS, 128 / STUB_GEMM_COLS, 1);
        cr_assert_eq(g->x, v ? d->v : d->k);
        cr_assert_eq(g->w.data, launch_weight(plan, v ? "wv" : "wk"));
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
        plan_launched(0, "xq_kv_attend", launch_splits(plan, 2, 700), 2, 2);
    launch_assert_table(&p->table, 0); /* entry p is page p of the workspace */
    cr_assert_eq(p->kv, WORKSPACE + plan->workspace.kv);
    plan_close(plan);
}

Test(launch_unfused, unfused_latents_multiply_the_columns_of_their_group)
{
    xq_plan *plan = launch_plan(launch_normed, XQ_UNFUSED);
    xq_attend_args a = plan_attend_args(plan);
    launch_attend(plan, &a);
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
        cr_assert_eq(g->bias, launch_weight(plan, i == 0 ? "bk" : "bv"));
        cr_assert_eq(g->y, WORKSPACE + plan->workspace.kv + (i == 0 ? 0 : 2 * 32 * 128));
        cr_assert_eq(g->row_stride, 128);
    }
    const struct xq_rope_params *r = plan_launched(1, "xq_rope", entries * 2, STUB_HEAD_BLOCKS, 1);
    cr_assert_eq(r->k_norm, launch_weight(plan, "k_norm"));
    const struct xq_kv_attend_params *p =
        plan_launched(0, "xq_kv_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(p->sinks, launch_weight(plan, "sinks"));
    plan_close(plan);
}

Test(launch_unfused, unfused_method_x_takes_both_products_from_the_same_rows)
{
    xq_plan *plan = launch_plan(launch_x, XQ_UNFUSED);
    xq_attend_args a = plan_attend_args(plan);
    launch_attend(plan, &a);
    const struct xq_gemm_params *k = (const void *)fake_cuda_launched(fake, 3)->params;
    const struct xq_gemm_params *v = (const void *)fake_cuda_launched(fake, 2)->params;
    cr_assert_eq(k->x, v->x);
    cr_assert_eq(k->k, 256);
    cr_assert_eq(v->k, 256);
    cr_assert_eq(v->w.data, launch_weight(plan, "wv"));
    plan_close(plan);
}

Test(launch_unfused, unfused_attend_of_cross_layer_plans_starts_from_the_accumulator)
{
    static const char narrow[] =
        "{" PLAN_MODEL
        ", \"cache\": {\"method\": \"latent-cl\", \"rank_k\": 64, \"page\": 64, \"group\": 64}}";
    xq_plan *plan = launch_plan_for(narrow, XQ_UNFUSED, 5);
    cr_assert_geq(plan->workspace.kv - plan->workspace.rows_k, (size_t)plan->max_pages * 64 * 256 * 2);
    xq_attend_args a = plan_attend_args(plan);
    a.pages = 0;
    a.queries = 9;
    a.query_indptr = QUERY_INDPTR;
    a.query_position = QUERY_POSITION;
    a.token_offset = TOKEN_OFFSET;
    launch_attend(plan, &a);
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

Test(launch_unfused, rope_also_serves_normalization_alone)
{
    static const char unrotated[] =
        "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, "
        "\"num_key_value_heads\": 2, \"head_dim\": 64, "
        "\"rope\": {\"type\": \"none\"}%s}, \"cache\": {\"method\": \"x\", \"rotation\": false}}";
    char spec[512];
    for (int norm = 0; norm < 2; norm++) {
        snprintf(spec, sizeof spec, unrotated, norm ? ", \"qk_norm\": true" : "");
        xq_plan *plan = launch_plan(spec, XQ_UNFUSED);
        xq_attend_args a = plan_attend_args(plan);
        launch_attend(plan, &a);
        cr_assert_str_eq(fake_cuda_launched(fake, 1)->name, norm ? "xq_rope" : "xq_gemm");
        xq_plan_destroy(plan);
    }
    plan_close(NULL);
}

/* ------------------------------------------------------------------ fp16 KV */

Test(launch_unfused, fp16_kv_projects_then_appends_and_attends_over_its_pages)
{
    xq_plan *plan = launch_plan(launch_latent, XQ_FP16_KV);
    xq_append_args a = plan_append_args(plan);
    launch_append(plan, &a);
    cr_assert_eq(fake->launch_count, 3);
    for (int v = 0; v < 2; v++) {
        const struct xq_gemm_params *g = plan_launched(2 - v, "xq_gemm_kv", 1, 2, 1);
        cr_assert_eq(g->x, X);
        cr_assert_eq(g->w.data, launch_weight(plan, v ? "wv" : "wk"));
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
    launch_attend(plan, &b);
    const struct xq_kv_attend_params *p =
        plan_launched(0, "xq_kv_attend", launch_splits(plan, 2, 700), 2, 2);
    cr_assert_eq(fake->launch_count, 4);
    launch_assert_table(&p->table, INDICES);
    cr_assert_eq(p->kv, PAGES);
    plan_close(plan);
}

Test(launch_unfused, fp16_kv_adds_biases_normalizes_and_has_sinks)
{
    xq_plan *plan = launch_plan(launch_normed, XQ_FP16_KV);
    xq_append_args a = plan_append_args(plan);
    launch_append(plan, &a);
    const struct xq_gemm_params *g = plan_launched(1, "xq_gemm_kv", 1, 2, 1);
    cr_assert_eq(g->bias, launch_weight(plan, "bv"));
    cr_assert_eq(g->w.scale, 0,
                 "projections of a KV cache have 16 bits, though the spec's weights are int8");
    const struct xq_kv_append_params *k = plan_launched(0, "xq_kv_append", 40, 1, 1);
    cr_assert_eq(k->k_norm, launch_weight(plan, "k_norm"));
    xq_attend_args b = plan_attend_args(plan);
    launch_attend(plan, &b);
    const struct xq_kv_attend_params *p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->sinks, launch_weight(plan, "sinks"));
    b.weights = 0;
    b.without_sinks = 1;
    launch_attend(plan, &b);
    p = (const void *)fake_cuda_launched(fake, 0)->params;
    cr_assert_eq(p->sinks, 0);
    plan_close(plan);
}

/* ------------------------------------------------------------------- fp8 KV */

Test(launch_unfused, fp8_kv_appends_and_attends_in_units_of_its_scales)
{
    xq_plan *plan = launch_plan(launch_latent, XQ_FP8_KV);
    cr_assert_eq(plan->page_bytes * 2, plan->shape.kv_page_bytes);
    xq_append_args a = plan_append_args(plan);
    launch_append(plan, &a);
    cr_assert_eq(fake->launch_count, 3);
    const struct xq_kv_append_params *k = plan_launched(0, "xq_kv_append_e4m3", 40, 1, 1);
    cr_assert_eq(k->kv, PAGES);
    cr_assert_eq(k->rotary_position, ROTARY);
    cr_assert_eq(k->k_scale, launch_weight(plan, "k_scale"));
    cr_assert_eq(k->v_scale, launch_weight(plan, "v_scale"));
    xq_attend_args b = plan_attend_args(plan);
    launch_attend(plan, &b);
    const struct xq_kv_attend_params *p =
        plan_launched(0, "xq_kv_attend_e4m3", launch_splits(plan, 2, 700), 2, 2);
    launch_assert_table(&p->table, INDICES);
    cr_assert_eq(p->kv, PAGES);
    cr_assert_eq(p->k_scale, launch_weight(plan, "k_scale"));
    cr_assert_eq(p->v_scale, launch_weight(plan, "v_scale"));
    b.weights = 0; /* unlike fp16 keys and values, codes mean nothing without scales */
    cr_assert_eq(xq_plan_attend(plan, &b, NULL), XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(plan_error()->field, "weights");
    plan_close(plan);
}
