/* Tests activations at the end of f16's range and beyond it, through the whole pipeline on the software
 * device. They are cached, attended over and simulated as ±65504 in every format, and never as infinity. */
#include "../../runtime/base/half.h"

#include <xq/xq.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 64, TOKENS = 64 }; /* one head of D; a group is 64 channels, or 64 tokens */

#define MODEL                                                                                              \
    "\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 1, \"num_key_value_heads\": 1, "            \
    "\"head_dim\": 64, \"rope_theta\": 10000.0}"

typedef struct cached {
    xq_context *context;
    xq_plan *plan;
    xq_plan_info info;
    bool bf16, kv;
    int tokens;
    uint64_t weights, pages, tails, slots, accumulator;
    xq_page_table table;
} cached;

static uint64_t upload(const cached *c, const void *data, size_t bytes)
{
    uint64_t pointer = 0;
    cr_assert_eq(xq_device_alloc(c->context, bytes + 1, &pointer), XQ_OK);
    cr_assert_eq(xq_device_write(c->context, pointer, data, bytes), XQ_OK);
    return pointer;
}

static uint64_t zeros(const cached *c, size_t bytes)
{
    uint64_t pointer = 0;
    cr_assert_eq(xq_device_alloc(c->context, bytes + 1, &pointer), XQ_OK);
    cr_assert_eq(xq_device_fill(c->context, pointer, 0, bytes + 1), XQ_OK);
    return pointer;
}

static void expect_ok(const cached *c, xq_status status)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_last_error(c->context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
}

/* Wk and Wv are equal, with 1e-4 at [0, 0] and [1, 1]. For latents, U is u times the identity, and A is
 * this matrix. */
static void pack(cached *c, float u)
{
    static float w[D * D], identity[D * D];
    memset(w, 0, sizeof w);
    w[0] = w[D + 1] = 1e-4f;
    for (int i = 0; i < D; i++)
        identity[i * D + i] = u;
    xq_weights weights = XQ_WEIGHTS_INIT;
    if (c->info.rank_v && !c->kv) {
        weights.uk = weights.uv = identity;
        weights.ak = weights.av = w;
    } else {
        weights.wk = weights.wv = w;
    }
    void *packed = malloc(c->info.weights_bytes);
    expect_ok(c, xq_plan_pack_weights(c->plan, &weights, packed, c->info.weights_bytes));
    c->weights = upload(c, packed, c->info.weights_bytes);
    free(packed);
}

static cached open_cache(const char *spec, xq_implementation implementation, float u)
{
    cached c = {0};
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_plan_options plan = XQ_PLAN_OPTIONS_INIT;
    options.device = "sim";
    plan.spec_json = spec;
    plan.implementation = implementation;
    plan.max_append = TOKENS;
    cr_assert_eq(xq_context_create(&options, &c.context), XQ_OK);
    expect_ok(&c, xq_plan_create(c.context, &plan, &c.plan));
    c.info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    expect_ok(&c, xq_plan_query(c.plan, &c.info));
    c.kv = implementation == XQ_FP16_KV;
    pack(&c, u);
    return c;
}

static void close_cache(cached *c)
{
    xq_plan_destroy(c->plan);
    xq_context_destroy(c->context);
}

/* Appends x [tokens, D], given in bits of the spec's type. */
static void append(cached *c, const uint16_t *x, int tokens)
{
    int32_t sequence[TOKENS] = {0}, position[TOKENS],
            pages = (tokens + c->info.page_tokens - 1) / c->info.page_tokens;
    int32_t indptr[2] = {0, pages}, rows[2] = {0, tokens}, last = (tokens - 1) % c->info.page_tokens + 1;
    for (int i = 0; i < tokens; i++)
        position[i] = i;
    c->tokens = tokens;
    c->pages = zeros(c, c->info.page_bytes * (size_t)pages);
    c->table = (xq_page_table){1, upload(c, indptr, sizeof indptr), upload(c, position, sizeof position),
                               upload(c, &last, sizeof last)};
    xq_append_args a = XQ_APPEND_ARGS_INIT;
    a.tokens = tokens;
    a.x = upload(c, x, (size_t)tokens * D * 2);
    a.token_sequence = upload(c, sequence, sizeof sequence);
    a.token_position = upload(c, position, sizeof position);
    a.table = c->table;
    a.pages = c->pages;
    a.weights = c->weights;
    if (c->kv) {
        a.workspace = zeros(c, c->info.workspace_bytes);
        a.workspace_bytes = c->info.workspace_bytes;
    }
    if (c->info.needs_append_indptr) {
        c->tails = zeros(c, c->info.tail_bytes);
        c->slots = zeros(c, 4);
        a.append_indptr = upload(c, rows, sizeof rows);
        a.tails = (xq_tail_pool){c->tails, c->slots};
    }
    expect_ok(c, xq_plan_append(c->plan, &a, NULL));
    if (!c->info.accumulator_page_bytes)
        return;
    xq_accumulate_args sum = XQ_ACCUMULATE_ARGS_INIT;
    c->accumulator = zeros(c, c->info.accumulator_page_bytes * (size_t)pages);
    sum.max_tokens = tokens;
    sum.table = c->table;
    sum.pages = c->pages;
    sum.accumulator = c->accumulator;
    expect_ok(c, xq_plan_accumulate(c->plan, &sum, NULL));
}

/* Reads rows as kernels see them: k, or v if `of_v` is set. */
static void dequantize(const cached *c, bool of_v, float *rows)
{
    const int32_t entries = (c->tokens + c->info.page_tokens - 1) / c->info.page_tokens;
    const size_t bytes = (size_t)(entries * c->info.page_tokens) * D * 2;
    uint16_t *bits = malloc(bytes);
    xq_dequantize_args a = XQ_DEQUANTIZE_ARGS_INIT;
    a.table_entries = entries;
    a.table = c->table;
    a.k = zeros(c, bytes);
    if (c->info.rank_v)
        a.v = zeros(c, bytes);
    if (c->accumulator) {
        a.accumulator = c->accumulator;
    } else {
        a.pages = c->pages;
        a.tails = (xq_tail_pool){c->tails, c->slots};
    }
    expect_ok(c, xq_plan_dequantize(c->plan, &a, NULL));
    cr_assert_eq(xq_device_read(c->context, bits, of_v ? a.v : a.k, bytes), XQ_OK);
    for (int i = 0; i < c->tokens * D; i++)
        rows[i] = c->bf16 ? half_from_bfloat(bits[i]) : half_to_float(bits[i]);
    free(bits);
}

/* Attends with a query of the last token. All its elements are one. */
static void attend(const cached *c, float *out, float *lse)
{
    uint16_t q[D], o[D];
    for (int i = 0; i < D; i++)
        q[i] = half_from_float(1);
    xq_attend_args a = XQ_ATTEND_ARGS_INIT;
    a.max_tokens = c->tokens;
    a.q = upload(c, q, sizeof q);
    a.out = zeros(c, sizeof o);
    a.lse = zeros(c, 4);
    a.table = c->table;
    a.weights = c->weights;
    a.workspace = zeros(c, c->info.workspace_bytes);
    a.workspace_bytes = c->info.workspace_bytes;
    if (c->accumulator) {
        a.accumulator = c->accumulator;
    } else {
        a.pages = c->pages;
        a.tails = (xq_tail_pool){c->tails, c->slots};
    }
    expect_ok(c, xq_plan_attend(c->plan, &a, NULL));
    cr_assert_eq(xq_device_read(c->context, o, a.out, sizeof o), XQ_OK);
    cr_assert_eq(xq_device_read(c->context, lse, a.lse, 4), XQ_OK);
    for (int i = 0; i < D; i++)
        out[i] = half_to_float(o[i]);
}

/* There are two tokens: the first has 65504 in channel 0, the second has 1 in channel 1. */
static void expect_example(const char *spec, xq_implementation implementation)
{
    float out[D], lse, x_hat[TOKENS * D];
    uint16_t x[2 * D] = {0};
    x[0] = half_from_float(65504);
    x[D + 1] = half_from_float(1);
    cached c = open_cache(spec, implementation, 1);
    append(&c, x, 2);
    if (implementation != XQ_FP16_KV) {
        dequantize(&c, false, x_hat);
        cr_expect_eq(x_hat[0], 65504, "%s: %g", spec, x_hat[0]);
        cr_expect_eq(x_hat[D + 1], 1, "%s: %g", spec, x_hat[D + 1]);
        cr_expect_eq(x_hat[1], 0, "%s: %g", spec, x_hat[1]);
    }
    attend(&c, out, &lse);
    cr_expect_float_eq(out[0], 2.8738f, 2e-3 * 2.8738, "%s: %g", spec, out[0]);
    cr_expect_float_eq(out[1], 5.614e-5f, 2e-3 * 5.614e-5 + 0x1p-25, "%s: %g", spec, out[1]);
    for (int i = 2; i < D; i++)
        cr_expect_eq(out[i], 0, "%s: %g", spec, out[i]);
    cr_expect_float_eq(lse, 0.57742f, 4e-3, "%s: %g", spec, lse);
    close_cache(&c);
}

Test(saturated, an_activation_comes_back_as_it_is_in_every_format, .timeout = 600)
{
    static const int bits[] = {2, 3, 4, 8};
    static const char *const zero_points[] = {"float", "integer"};
    for (int i = 0; i < 4 * 2; i++) {
        char spec[400];
        snprintf(spec, sizeof spec,
                 "{" MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"group\": 64, "
                 "\"bits\": %d, \"zero_point\": \"%s\"}}",
                 bits[i % 4], zero_points[i / 4]);
        expect_example(spec, XQ_FUSED);
    }
}

Test(saturated, every_pipeline_attends_over_it, .timeout = 600)
{
    static const char x[] =
        "{" MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"group\": 64}}";
    expect_example(x, XQ_UNFUSED);
    expect_example(x, XQ_FP16_KV);
    expect_example("{" MODEL ", \"cache\": {\"method\": \"latent\", \"clip\": 1, \"group\": 64}}",
                   XQ_FUSED);
    expect_example(
        "{" MODEL
        ", \"cache\": {\"method\": \"latent\", \"clip\": 1, \"group\": 64, \"axis_k\": \"channel\", "
        "\"page\": 64}}",
        XQ_FUSED); /* both tokens are in the tail */
    expect_example("{" MODEL ", \"cache\": {\"method\": \"x-cl\", \"base\": true, \"group\": 64, "
                   "\"accumulator_bits\": 8, \"bits\": 2}}",
                   XQ_FUSED);
    expect_example("{" MODEL ", \"cache\": {\"method\": \"x-cl\", \"base\": true, \"group\": 64, "
                   "\"accumulator_bits\": 4, \"bits\": 3, \"zero_point\": \"integer\"}}",
                   XQ_UNFUSED);
}

/* Checks the rows of a full group, by token and by channel. Some values reach f16's limit through a
 * product, others are infinite. */
static void expect_rows(const char *spec, float u, const uint16_t *x, const float *expected)
{
    static float k[TOKENS * D], v[TOKENS * D];
    cached c = open_cache(spec, XQ_FUSED, u);
    c.bf16 = strstr(spec, "bf16");
    append(&c, x, TOKENS);
    dequantize(&c, false, k);
    if (c.info.rank_v)
        dequantize(&c, true, v);
    for (int t = 0; t < TOKENS; t++) {
        cr_expect_eq(k[t * D], expected[t], "%s: token %d: %g, not %g", spec, t, k[t * D], expected[t]);
        if (c.info.rank_v)
            cr_expect_eq(v[t * D], expected[t], "%s: v of token %d: %g", spec, t, v[t * D]);
    }
    close_cache(&c);
}

/* Sets channel 0 of every eighth token, from token 3 on. If `both`, every second one of these is
 * negative. */
static void fill(uint16_t *x, float *expected, bool both, uint16_t positive, uint16_t negative, float limit)
{
    memset(x, 0, sizeof *x * TOKENS * D);
    for (int t = 0; t < TOKENS; t++) {
        const bool large = t % 8 == 3, turned = both && t % 16 == 11;
        x[t * D] = !large ? 0 : turned ? negative : positive;
        expected[t] = !large ? 0 : turned ? -limit : limit;
    }
}

Test(saturated, products_infinities_and_wide_types_saturate, .timeout = 600)
{
    static uint16_t x[TOKENS * D];
    float expected[TOKENS];
    fill(x, expected, true, half_from_float(30000), half_from_float(-30000), 65504);
    expect_rows("{" MODEL ", \"cache\": {\"method\": \"latent\", \"clip\": 1, \"group\": 64, "
                "\"zero_point\": \"integer\"}}",
                4, x, expected);
    expect_rows("{" MODEL ", \"cache\": {\"method\": \"latent\", \"clip\": 1, \"group\": 64, "
                "\"zero_point\": \"integer\", \"feedback\": true, \"bits\": 3}}",
                4, x, expected);
    fill(x, expected, true, half_from_float(INFINITY), half_from_float(-INFINITY), 65504);
    expect_rows("{" MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"group\": 64, "
                "\"bits\": 8, \"zero_point\": \"integer\"}}",
                1, x, expected);
    fill(x, expected, true, half_to_bfloat(1e30f), half_to_bfloat(-1e30f), 65536); /* 65504 as bf16 */
    expect_rows("{" MODEL ", \"cache\": {\"method\": \"x-cl\", \"base\": true, \"group\": 64, \"bits\": 2, "
                "\"accumulator_bits\": 4, \"zero_point\": \"integer\"}, \"dtype\": \"bf16\"}",
                1, x, expected);
    fill(x, expected, false, half_from_float(30000), 0, 65504);
    for (int integer = 0; integer < 2; integer++)
        expect_rows(integer ? "{" MODEL
                              ", \"cache\": {\"method\": \"latent\", \"clip\": 1, \"axis_k\": \"channel\", "
                              "\"axis_v\": \"channel\", \"page\": 64, \"group\": 64, "
                              "\"zero_point\": \"integer\"}}"
                            : "{" MODEL
                              ", \"cache\": {\"method\": \"latent\", \"clip\": 1, \"axis_k\": \"channel\", "
                              "\"axis_v\": \"channel\", \"page\": 64, \"group\": 64}}",
                    4, x, expected);
}
