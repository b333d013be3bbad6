#include "checked_call.h"

#include <criterion/criterion.h>

const struct checked_arrays checked_arrays = {
    .indptr = {0, 2, 2, 4},
    .indices = {3, 1, 0, 5},
    .last_page_len = {8, -7, 1}, /* that of an empty sequence says nothing */
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

/* Tails and an accumulator are refused by plans that have none. */
static xq_tail_pool tails_of(const struct checked_call *c)
{
    return plan_info(c->plan).tail_bytes ? (xq_tail_pool){c->memory, AT(c, slots)} : (xq_tail_pool){0, 0};
}

static uint64_t accumulator_of(const struct checked_call *c)
{
    return plan_info(c->plan).accumulator_page_bytes ? c->memory : 0;
}

static void fill_append(struct checked_call *c, xq_page_table table)
{
    c->append = (xq_append_args)XQ_APPEND_ARGS_INIT;
    c->append.tokens = CHECKED_TOKENS;
    c->append.x = c->append.pages = c->append.weights = c->memory;
    c->append.accumulator = accumulator_of(c);
    c->append.token_sequence = AT(c, token_sequence);
    c->append.token_position = AT(c, token_position);
    c->append.append_indptr = AT(c, append_indptr);
    if (c->plan->implementation == XQ_FP16_KV)
        c->append.rotary_position = AT(c, rotary_position);
    c->append.table = table;
    c->append.tails = tails_of(c);
    c->append.workspace = c->workspace;
    c->append.workspace_bytes = c->workspace_bytes;
}

static void fill_attend(struct checked_call *c, xq_page_table table)
{
    c->attend = (xq_attend_args)XQ_ATTEND_ARGS_INIT;
    c->attend.max_tokens = 64;
    c->attend.q = c->attend.out = c->attend.lse = c->memory;
    c->attend.pages = c->attend.weights = c->memory;
    c->attend.accumulator = accumulator_of(c);
    c->attend.table = table;
    c->attend.tails = tails_of(c);
    c->attend.workspace = c->workspace;
    c->attend.workspace_bytes = c->workspace_bytes;
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
    xq_page_table table = {CHECKED_BATCH, AT(c, indptr), AT(c, indices), AT(c, last_page_len)};
    fill_append(c, table);
    fill_attend(c, table);
    c->accumulate = (xq_accumulate_args)XQ_ACCUMULATE_ARGS_INIT;
    c->accumulate.max_tokens = 64;
    c->accumulate.table = table;
    c->accumulate.tails = tails_of(c);
    c->accumulate.pages = c->accumulate.weights = c->accumulate.accumulator = c->memory;
    c->dequantize = (xq_dequantize_args)XQ_DEQUANTIZE_ARGS_INIT;
    c->dequantize.table_entries = CHECKED_PAGES;
    c->dequantize.table = table;
    c->dequantize.tails = tails_of(c);
    c->dequantize.pages = c->dequantize.k = c->memory;
    c->dequantize.accumulator = accumulator_of(c);
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
