#include "launch_calls.h"

#include <criterion/criterion.h>

const char launch_latent[] = PLAN_LATENT, launch_x[] = PLAN_X;
const char launch_x_rotated[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": true, \"bits\": 8, \"group\": 128}}";
const char launch_channel[] =
    "{" PLAN_MODEL
    ", \"cache\": {\"method\": \"latent\", \"group\": 32, \"axis_k\": \"channel\", \"page\": 32, "
    "\"rank_k\": 128, \"rank_v\": 64}}";
const char launch_delta[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"x-cl\", \"axis_k\": \"channel\", \"page\": 64, "
    "\"group\": 64}}";
const char launch_joint[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"latent-cl\", \"page\": 64, \"group\": 64}}";
const char launch_joint_base[] =
    "{" PLAN_MODEL ", \"cache\": {\"method\": \"latent-cl\", \"page\": 64, \"group\": 64, \"base\": true}}";
const char launch_full[] =
    "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"head_dim\": 64, \"partial_rotary_factor\": 0.5, \"attention_bias\": true, "
    "\"attention_sinks\": true}, \"cache\": {\"method\": \"x\", \"rotation\": false, \"page\": 32}}";
const char launch_normed[] = "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4, "
                             "\"num_key_value_heads\": 2, \"head_dim\": 64, \"qk_norm\": true, "
                             "\"attention_bias\": true, \"attention_sinks\": true}, "
                             "\"cache\": {\"method\": \"latent\", \"groups\": 2, \"rank_k\": 80, "
                             "\"rank_v\": 128, \"page\": 32, \"group\": 64}, \"weights\": \"int8\"}";

xq_plan *launch_plan(const char *spec, xq_implementation implementation)
{
    if (!context)
        plan_open_stubs();
    return plan_make(spec, implementation);
}

xq_plan *launch_plan_for(const char *spec, xq_implementation implementation, int64_t max_queries)
{
    xq_plan_options o = plan_options(spec, implementation);
    o.max_queries = max_queries;
    if (!context)
        plan_open_stubs();
    return plan_make_with(&o);
}

void launch_append(xq_plan *plan, const xq_append_args *a)
{
    cr_assert_eq(xq_plan_append(plan, a, NULL), XQ_OK, "%s", plan_error()->message);
}

void launch_attend(xq_plan *plan, const xq_attend_args *a)
{
    cr_assert_eq(xq_plan_attend(plan, a, NULL), XQ_OK, "%s", plan_error()->message);
}

uint64_t launch_weight(const xq_plan *plan, const char *name)
{
    const struct shape_matrix *m = shape_matrix(plan->weights, name);
    const struct shape_vector *v = shape_vector(plan->weights, name);
    cr_assert(m || v, "%s", name);
    return WEIGHTS + (m ? m->offset : v->offset);
}

void launch_assert_table(const struct xq_table *table, uint64_t indices)
{
    cr_assert_eq(table->indptr, INDPTR);
    cr_assert_eq(table->indices, indices);
    cr_assert_eq(table->last_page_len, LAST);
}

int64_t launch_split_tokens(const xq_plan *plan, int64_t batch, int64_t max_tokens)
{
    struct split_load load = {batch, batch, batch, max_tokens};
    return split_tokens(&plan->attention[PLAN_ONE][0].split, &load);
}

unsigned launch_splits(const xq_plan *plan, int64_t batch, int64_t max_tokens)
{
    return (unsigned)split_count(max_tokens, launch_split_tokens(plan, batch, max_tokens));
}

xq_accumulate_args launch_accumulate_args(const xq_plan *plan)
{
    const call_cache cached = plan_cache(plan);
    xq_accumulate_args a = call_accumulate(&cached);
    a.max_tokens = 700;
    a.accumulator = ACCUMULATOR;
    return a;
}

xq_attend_args launch_ragged_args(const xq_plan *plan)
{
    xq_attend_args a = plan_attend_args(plan);
    a.queries = 150;
    a.max_queries = 100;
    a.query_indptr = QUERY_INDPTR;
    return a;
}

xq_merge_args launch_merge_args(void)
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
