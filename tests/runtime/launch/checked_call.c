#include "checked_call.h"

#include "../../../autotune/engine/call.h"

#include <criterion/criterion.h>

const struct checked_arrays checked_arrays = {
    .indptr = {0, 2, 2, 4},
    .indices = {3, 1, 0, 5},
    .last_page_len = {8, -7, 1}, /* the value of an empty sequence has no meaning */
    .token_sequence = {0, 0, 0, 2, 2},
    .token_position = {37, 38, 39, 31, 32},
    .rotary_position = {137, 138, 139, 31, 32},
    .append_indptr = {0, 3, 3, 5},
    .slots = {4, -1, 2},
    .query_indptr = {0, 2, 2, 4},
    .query_position = {38, 39, 31, 32},
    .token_offset = {100, 0, 0},
    .tree_mask = {1, 3, 1, 3},
};

xq_plan_options checked_options(const char *spec, xq_implementation implementation)
{
    xq_plan_options o = plan_options(spec, implementation);
    o.max_tokens = 96;
    o.max_pages = 5;
    o.max_append = 16;
    o.max_queries = 4;
    o.pool_pages = CHECKED_POOL;
    return o;
}

void checked_write(const struct checked_call *c, const struct checked_arrays *arrays)
{
    cr_assert_eq(xq_device_write(context, c->arrays, arrays, sizeof *arrays), XQ_OK);
}

#define AT(c, member) ((c)->arrays + offsetof(struct checked_arrays, member))

/* Plans without tails or an accumulator refuse them, so they are given only to plans that have them. */
static call_cache cache_of(const struct checked_call *c)
{
    return (call_cache){
        .plan = c->plan,
        .table = {CHECKED_BATCH, AT(c, indptr), AT(c, indices), AT(c, last_page_len)},
        .pages = c->memory,
        .weights = c->memory,
        .workspace = c->workspace,
        .workspace_bytes = c->workspace_bytes,
        .accumulator = plan_info(c->plan).accumulator_page_bytes ? c->memory : 0,
        .tails =
            plan_info(c->plan).tail_bytes ? (xq_tail_pool){c->memory, AT(c, slots)} : (xq_tail_pool){0, 0},
    };
}

static void fill_append(struct checked_call *c)
{
    c->append.tokens = CHECKED_TOKENS;
    c->append.x = c->memory;
    c->append.token_sequence = AT(c, token_sequence);
    c->append.token_position = AT(c, token_position);
    c->append.append_indptr = AT(c, append_indptr);
    if (shape_is_kv(c->plan->implementation))
        c->append.rotary_position = AT(c, rotary_position);
}

static void fill_attend(struct checked_call *c)
{
    c->attend.max_tokens = 64;
    c->attend.q = c->attend.out = c->attend.lse = c->memory;
    c->attend.queries = CHECKED_QUERIES;
    c->attend.query_indptr = AT(c, query_indptr);
    c->attend.query_position = AT(c, query_position);
    c->attend.token_offset = AT(c, token_offset);
}

void checked_open(struct checked_call *c, xq_plan *plan)
{
    c->plan = plan;
    c->workspace_bytes = plan_info(plan).workspace_bytes;
    cr_assert_eq(xq_device_alloc(context, sizeof(struct checked_arrays), &c->arrays), XQ_OK);
    cr_assert_eq(xq_device_alloc(context, c->workspace_bytes, &c->workspace), XQ_OK);
    cr_assert_eq(xq_device_fill(context, c->workspace, 0, c->workspace_bytes), XQ_OK);
    cr_assert_eq(xq_device_alloc(context, 1 << 20, &c->memory), XQ_OK);
    const call_cache cached = cache_of(c);
    c->append = call_append(&cached);
    c->attend = call_attend(&cached);
    c->accumulate = call_accumulate(&cached);
    c->dequantize = call_dequantize(&cached);
    fill_append(c);
    fill_attend(c);
    c->accumulate.max_tokens = 64;
    c->accumulate.accumulator = c->memory;
    c->dequantize.table_entries = CHECKED_PAGES;
    c->dequantize.k = c->memory;
    c->dequantize.v = c->plan->shape.latent ? c->memory : 0;
    checked_write(c, &checked_arrays);
}

xq_status checked_run(const struct checked_call *c, enum checked_kind kind)
{
    switch (kind) {
    case CHECKED_APPEND:
        return xq_plan_append(c->plan, &c->append, NULL);
    case CHECKED_ACCUMULATE:
        return xq_plan_accumulate(c->plan, &c->accumulate, NULL);
    case CHECKED_ATTEND:
        return xq_plan_attend(c->plan, &c->attend, NULL);
    case CHECKED_DEQUANTIZE:
        break;
    }
    return xq_plan_dequantize(c->plan, &c->dequantize, NULL);
}
