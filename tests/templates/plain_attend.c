#include "plain_attend.h"

#include "../../autotune/engine/call.h"
#include "../../autotune/reference/rounding.h"
#include "../../runtime/base/half.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* A plan, its device, and sizes of the call. */
struct run {
    const struct plain_attend *a;
    xq_implementation implementation;
    xq_context *context;
    xq_plan *plan;
    xq_plan_info info;
    int tokens, longest, most_queries;
    int32_t *table; /* indptr [batch + 1], last_page_len [batch], slots [batch] */
    int pages;
};

static uint64_t upload(const struct run *r, const void *data, size_t bytes)
{
    uint64_t pointer = 0;
    cr_assert_eq(xq_device_alloc(r->context, bytes, &pointer), XQ_OK);
    if (data)
        cr_assert_eq(xq_device_write(r->context, pointer, data, bytes), XQ_OK);
    else
        cr_assert_eq(xq_device_fill(r->context, pointer, 0xff, bytes), XQ_OK); /* NaN */
    return pointer;
}

static uint64_t upload_values(const struct run *r, const float *values, size_t count)
{
    uint16_t *bits = malloc((count + 1) * sizeof *bits);
    for (size_t i = 0; i < count; i++)
        bits[i] = r->a->bf16 ? rounding_to_bfloat((double)values[i]) : half_from_float(values[i]);
    uint64_t pointer = upload(r, bits, count * 2);
    free(bits);
    return pointer;
}

static void expect_ok(const struct run *r, xq_status status)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_last_error(r->context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
}

static void open_plan(struct run *r)
{
    const struct plain_attend *a = r->a;
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_plan_options plan = XQ_PLAN_OPTIONS_INIT;
    for (int i = 0; i < a->batch; i++) {
        int queries = a->many ? a->indptr[i + 1] - a->indptr[i] : 1;
        r->tokens += a->tokens[i];
        r->longest = a->tokens[i] > r->longest ? a->tokens[i] : r->longest;
        r->most_queries = queries > r->most_queries ? queries : r->most_queries;
    }
    options.device = "sim";
    cr_assert_eq(xq_context_create(&options, &r->context), XQ_OK);
    plan.spec_json = a->spec;
    plan.implementation = r->implementation;
    plan.max_batch = a->batch;
    plan.max_tokens = r->longest;
    plan.max_append = r->tokens;
    plan.max_queries = r->most_queries;
    expect_ok(r, xq_plan_create(r->context, &plan, &r->plan));
    r->info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    expect_ok(r, xq_plan_query(r->plan, &r->info));
}

static xq_page_table upload_table(struct run *r)
{
    const struct plain_attend *a = r->a;
    int32_t *indptr = calloc((size_t)(2 * a->batch + 1), sizeof *indptr), *last = indptr + a->batch + 1;
    for (int i = 0; i < a->batch; i++) {
        int pages = (a->tokens[i] + r->info.page_tokens - 1) / r->info.page_tokens;
        indptr[i + 1] = indptr[i] + pages;
        last[i] = a->tokens[i] - (pages - 1) * r->info.page_tokens;
    }
    r->pages = indptr[a->batch];
    int32_t *indices = malloc(sizeof *indices * (size_t)(r->pages + 1));
    for (int i = 0; i < r->pages; i++)
        indices[i] = r->pages - 1 - i;
    xq_page_table table = {.batch = a->batch,
                           .indptr = upload(r, indptr, (size_t)(a->batch + 1) * 4),
                           .indices = upload(r, indices, (size_t)r->pages * 4),
                           .last_page_len = upload(r, last, (size_t)a->batch * 4)};
    free(indices);
    free(indptr);
    return table;
}

static xq_tail_pool upload_tails(const struct run *r)
{
    int32_t slots[PLAIN_MAX_BATCH];
    for (int i = 0; i < r->a->batch; i++)
        slots[i] = i;
    if (!r->info.tail_bytes)
        return (xq_tail_pool){0, 0};
    return (xq_tail_pool){upload(r, NULL, r->info.tail_bytes * (size_t)r->a->batch),
                          upload(r, slots, (size_t)r->a->batch * 4)};
}

static call_cache upload_cache(struct run *r)
{
    call_cache c = {.plan = r->plan, .table = upload_table(r), .tails = upload_tails(r)};
    c.pages = upload(r, NULL, (size_t)r->pages * r->info.page_bytes);
    expect_ok(r, call_upload_weights(r->context, r->plan, &r->a->weights, &c.weights));
    c.workspace_bytes = r->info.workspace_bytes;
    c.workspace = upload(r, NULL, c.workspace_bytes);
    expect_ok(r, xq_device_fill(r->context, c.workspace, 0, c.workspace_bytes));
    return c;
}

static void append(const struct run *r, const call_cache *cached)
{
    const struct plain_attend *a = r->a;
    int32_t *sequence = malloc(sizeof *sequence * 3 * (size_t)(r->tokens + 1)),
            *place = sequence + r->tokens, *rotary = place + r->tokens, indptr[PLAIN_MAX_BATCH + 1] = {0};
    for (int i = 0, row = 0; i < a->batch; i++) {
        for (int t = 0; t < a->tokens[i]; t++, row++) {
            sequence[row] = i;
            place[row] = t;
            rotary[row] = a->offset[i] + t;
        }
        indptr[i + 1] = row;
    }
    xq_append_args args = call_append(cached);
    args.tokens = r->tokens;
    args.x = upload_values(r, a->x, (size_t)r->tokens * (size_t)r->info.hidden_size);
    args.token_sequence = upload(r, sequence, (size_t)r->tokens * 4);
    args.token_position = upload(r, place, (size_t)r->tokens * 4);
    args.rotary_position = r->implementation >= XQ_FP16_KV ? upload(r, rotary, (size_t)r->tokens * 4) : 0;
    args.append_indptr = r->info.needs_append_indptr ? upload(r, indptr, (size_t)(a->batch + 1) * 4) : 0;
    expect_ok(r, xq_plan_append(r->plan, &args, NULL));
    free(sequence);
}

static xq_attend_args attend_args(const struct run *r, const call_cache *cached)
{
    const struct plain_attend *a = r->a;
    const size_t row = (size_t)r->info.heads * (size_t)r->info.head_dim, queries = (size_t)a->queries;
    xq_attend_args args = call_attend(cached);
    args.max_tokens = r->longest;
    args.q = upload_values(r, a->q, queries * row);
    args.out = upload(r, NULL, queries * row * 2);
    args.lse = upload(r, NULL, queries * (size_t)r->info.heads * 4);
    args.token_offset = upload(r, a->offset, (size_t)a->batch * 4);
    if (a->many) {
        args.queries = a->queries;
        args.query_indptr = upload(r, a->indptr, (size_t)(a->batch + 1) * 4);
        args.query_position = upload(r, a->position, queries * 4);
    }
    if (a->tree_mask) {
        args.mask_words = a->mask_words;
        args.tree_mask = upload(r, a->tree_mask, queries * (size_t)a->mask_words * 4);
    }
    return args;
}

uint64_t plain_seed(const char *name)
{
    uint64_t seed = 0;
    for (; *name; name++)
        seed = 31 * seed + (unsigned char)*name;
    return seed;
}

void plain_attend(const struct plain_attend *a, xq_implementation implementation, float *out, float *lse)
{
    struct run r = {.a = a, .implementation = implementation};
    open_plan(&r);
    const call_cache cached = upload_cache(&r);
    const xq_attend_args args = attend_args(&r, &cached);
    append(&r, &cached);
    expect_ok(&r, xq_plan_attend(r.plan, &args, NULL));
    expect_ok(&r, xq_device_synchronize(r.context));
    size_t heads = (size_t)(a->queries * r.info.heads), values = heads * (size_t)r.info.head_dim;
    uint16_t *bits = malloc((values + 1) * sizeof *bits);
    expect_ok(&r, xq_device_read(r.context, bits, args.out, values * 2));
    expect_ok(&r, xq_device_read(r.context, lse, args.lse, heads * 4));
    for (size_t i = 0; i < values; i++)
        out[i] = a->bf16 ? (float)half_from_bfloat(bits[i]) : half_to_float(bits[i]);
    free(bits);
    xq_plan_destroy(r.plan);
    xq_context_destroy(r.context);
}
