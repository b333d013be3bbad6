/* Traffic of the fused kernel: it moves its operands to and from device memory and almost nothing else. One
 * layer of a real model's decode step runs on the software device within seconds. */
#include "../../runtime/launch/plan.h"
#include "../../runtime/plan/toolchain.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>

struct decode {
    xq_context *context;
    xq_plan *plan;
    xq_plan_info info;
    int batch, tokens, queries; /* tokens and queries are those of each sequence */
    device_counters counters;
    double operand_bytes; /* cache, weights that attend reads, queries, output, lse */
    double seconds;       /* time on the host */
};

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t upload(xq_context *context, const void *data, size_t bytes)
{
    uint64_t pointer = 0;
    cr_assert_eq(xq_device_alloc(context, bytes, &pointer), XQ_OK);
    cr_assert_eq(xq_device_write(context, pointer, data, bytes), XQ_OK);
    return pointer;
}

/* Memory in which every f16 number is small, and every code is a small integer. */
static uint64_t filled(xq_context *context, size_t bytes)
{
    uint64_t pointer = 0;
    cr_assert_eq(xq_device_alloc(context, bytes, &pointer), XQ_OK);
    cr_assert_eq(xq_device_fill(context, pointer, 0x21, bytes), XQ_OK);
    return pointer;
}

static void open_plan(struct decode *d, const char *spec)
{
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    xq_plan_options plan = XQ_PLAN_OPTIONS_INIT;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    options.device = "sim";
    cr_assert_eq(xq_context_create(&options, &d->context), XQ_OK);
    plan.spec_json = spec;
    plan.max_batch = d->batch;
    plan.max_tokens = d->tokens;
    plan.max_queries = d->queries;
    xq_status status = xq_plan_create(d->context, &plan, &d->plan);
    xq_last_error(d->context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    d->info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    cr_assert_eq(xq_plan_query(d->plan, &d->info), XQ_OK);
}

/* The bytes of Wk and Wv that attend reads, with scales, and with sums where codes are operands. */
static double weights_bytes(const xq_plan *plan)
{
    double bytes = 0;
    for (int i = 0; i < 2; i++) {
        const struct shape_matrix *m = plan->matrices[i ? PLAN_WV : PLAN_WK];
        const int wide = weight_bytes(m->type),
                  groups = m->sum_rows ? (m->rows + m->sum_rows - 1) / m->sum_rows : 0;
        bytes +=
            (double)m->rows * m->cols * wide + (wide == 1 ? 4.0 * m->cols : 0) + 4.0 * groups * m->cols;
    }
    return bytes;
}

/* Runs one attend over `batch` sequences of `tokens` tokens. Each has `queries` queries, at its last
 * tokens. Pages are in reverse order. */
static struct decode decode(const char *spec, int batch, int tokens, int queries)
{
    struct decode d = {.batch = batch, .tokens = tokens, .queries = queries};
    open_plan(&d, spec);
    const int page = d.info.page_tokens, pages = (tokens + page - 1) / page, entries = batch * pages;
    int32_t *table = calloc((size_t)(2 * batch + 1 + entries), sizeof *table);
    int32_t *last = table + batch + 1, *indices = last + batch;
    for (int i = 0; i < batch; i++) {
        table[i + 1] = (i + 1) * pages;
        last[i] = tokens - (pages - 1) * page;
    }
    for (int i = 0; i < entries; i++)
        indices[i] = entries - 1 - i;

    size_t values = (size_t)(batch * queries) * (size_t)d.info.heads * (size_t)d.info.head_dim;
    size_t logarithms = (size_t)(batch * queries) * (size_t)d.info.heads * 4;
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = tokens;
    args.q = filled(d.context, values * 2);
    args.out = filled(d.context, values * 2);
    args.lse = filled(d.context, logarithms);
    args.table.batch = batch;
    args.table.indptr = upload(d.context, table, (size_t)(batch + 1) * 4);
    args.table.last_page_len = upload(d.context, last, (size_t)batch * 4);
    args.table.indices = upload(d.context, indices, (size_t)entries * 4);
    args.pages = filled(d.context, (size_t)entries * d.info.page_bytes);
    args.weights = filled(d.context, d.info.weights_bytes);
    args.workspace = filled(d.context, d.info.workspace_bytes);
    args.workspace_bytes = d.info.workspace_bytes;
    cr_assert_eq(xq_device_fill(d.context, args.workspace, 0, d.info.workspace_bytes), XQ_OK);
    if (queries > 1) {
        for (int i = 0; i <= batch; i++)
            table[i] = i * queries;
        args.queries = batch * queries;
        args.query_indptr = upload(d.context, table, (size_t)(batch + 1) * 4);
    }
    free(table);

    device *gpu = d.context->device;
    error err = ERROR_INIT;
    cr_assert_eq(gpu->ops->counters_reset(gpu, &err), XQ_OK);
    double started = seconds_now();
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_status status = xq_plan_attend(d.plan, &args, NULL);
    xq_last_error(d.context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
    cr_assert_eq(xq_device_synchronize(d.context), XQ_OK);
    d.seconds = seconds_now() - started;
    cr_assert_eq(gpu->ops->counters(gpu, &d.counters, &err), XQ_OK);

    d.operand_bytes = (double)batch * tokens * d.info.cache_bytes_per_token + weights_bytes(d.plan) +
                      (double)(2 * values * 2 + logarithms);
    return d;
}

static void close_decode(struct decode *d)
{
    xq_plan_destroy(d->plan);
    xq_context_destroy(d->context);
}

/* The unique sectors must be within `share` of the operands, and not fewer, since all operands are needed.
 */
static void expect_operands_and(const struct decode *d, double share)
{
    double bytes = 32.0 * (double)(d->counters.read_sectors_unique + d->counters.write_sectors_unique);
    double requested = 32.0 * (double)(d->counters.read_sectors + d->counters.write_sectors);
    cr_log_info("operands %.0f bytes; unique sectors %.4f of that, requested %.2f; %.2f s",
                d->operand_bytes, bytes / d->operand_bytes, requested / d->operand_bytes, d->seconds);
    cr_expect_leq(bytes, (1 + share) * d->operand_bytes, "%.0f bytes moved, operands are %.0f", bytes,
                  d->operand_bytes);
    cr_expect_geq(bytes, d->operand_bytes, "%.0f bytes moved, operands are %.0f", bytes, d->operand_bytes);
    cr_expect_geq(requested, bytes);
}

static void expect_only_operands(const struct decode *d)
{
    expect_operands_and(d, 0.05);
}

/* Where both latents are by head and weights are int8, operands are few, and partial results of splits are
 * more of the traffic. */
static void expect_few_operands(const struct decode *d)
{
    expect_operands_and(d, 0.12);
}

Test(attend_traffic, llama_3_8b_latent_moves_only_its_operands_in_ten_seconds, .timeout = 120)
{
    struct decode d = decode(
        "{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"groups\": 1}, "
        "\"weights\": \"f16\"}",
        1, 1024, 1);
    expect_only_operands(&d);
    cr_expect_lt(d.seconds, 10.0, "one layer took %.1f s", d.seconds);
    /* K = L Ak for all tokens, and at most 15 % more for scores, values and the output projection. */
    double k = 2.0 * 1024 * 1024 * 1024, flops = (double)d.counters.matrix_flops[MATRIX_F16];
    cr_expect(flops >= k && flops <= 1.15 * k, "%.3g matrix FLOP, K alone is %.3g", flops, k);
    close_decode(&d);
}

/* The default: codes are operands. */
Test(attend_traffic, latents_by_head_move_only_their_operands, .timeout = 120)
{
    struct decode d = decode("{\"model\": \"llama-3.1-8b\", \"cache\": {\"bits\": 4}}", 1, 1024, 1);
    expect_few_operands(&d);
    close_decode(&d);
}

/* With one latent for the keys of each KV head, K takes an eighth of the matrix work. */
Test(attend_traffic, keys_by_head_move_only_their_operands, .timeout = 120)
{
    struct decode d =
        decode("{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent\", \"bits\": 4, "
               "\"groups_k\": 8, \"groups_v\": 1}, \"weights\": \"f16\"}",
               1, 1024, 1);
    expect_only_operands(&d);
    double k = 2.0 * 1024 * 1024 * 128, flops = (double)d.counters.matrix_flops[MATRIX_F16];
    cr_expect(flops >= k && flops <= 2.2 * k, "%.3g matrix FLOP, K alone is %.3g", flops, k);
    close_decode(&d);
}

Test(attend_traffic, a_batch_moves_only_its_operands, .timeout = 120)
{
    struct decode d = decode(
        "{\"model\": \"llama-3.2-1b\", \"cache\": {\"method\": \"latent\", \"bits\": 8}}", 3, 700, 1);
    expect_only_operands(&d);
    close_decode(&d);
}

Test(attend_traffic, method_x_moves_only_its_operands, .timeout = 120)
{
    struct decode d = decode("{\"model\": {\"hidden_size\": 1024, \"num_attention_heads\": 8, "
                             "\"num_key_value_heads\": 8, \"head_dim\": 128, \"rope_theta\": 10000.0}, "
                             "\"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 4}}",
                             1, 1024, 1);
    expect_only_operands(&d);
    close_decode(&d);
}

Test(attend_traffic, smollm2_moves_only_its_operands, .timeout = 120)
{
    struct decode d = decode("{\"model\": \"smollm2-135m\", \"cache\": {\"bits\": 4}}", 1, 1024, 1);
    expect_few_operands(&d);
    close_decode(&d);
}

/* ---------------------------------------------------------------- several queries */

/* Keys are rematerialized once for a block of rows, however many queries it has. */
Test(attend_traffic, speculative_queries_share_the_keys, .timeout = 240)
{
    static const char spec[] =
        "{\"model\": \"llama-3.1-8b\", \"cache\": {\"method\": \"latent\", \"bits\": 4, \"groups\": 1}, "
        "\"weights\": \"f16\"}";
    struct decode one = decode(spec, 1, 1024, 1), eight = decode(spec, 1, 1024, 8);
    double k = 2.0 * 1024 * 1024 * 1024, flops = (double)eight.counters.matrix_flops[MATRIX_F16];
    cr_log_info("one query %.1f us, eight %.1f us (modelled); %.2f times the matrix work",
                one.counters.modelled_seconds * 1e6, eight.counters.modelled_seconds * 1e6,
                flops / (double)one.counters.matrix_flops[MATRIX_F16]);
    /* The rest is scores, values and the output projection of 32 rows for each KV head. */
    cr_expect(flops >= k && flops <= 1.6 * k, "%.3g matrix FLOP, K alone is %.3g", flops, k);
    close_decode(&one);
    close_decode(&eight);
}

/* The queries are a chunk of a prompt: the last 256 of 1024 tokens. */
Test(attend_traffic, a_chunk_of_a_prompt_reads_the_cache_once_a_block_from_l2, .timeout = 240)
{
    struct decode d = decode(
        "{\"model\": \"llama-3.2-1b\", \"cache\": {\"method\": \"latent\", \"bits\": 4}}", 1, 1024, 256);
    double bytes = 32.0 * (double)(d.counters.read_sectors_unique + d.counters.write_sectors_unique);
    cr_log_info("%.1f us (modelled), %.3g matrix FLOP, %.3f of the operands' bytes",
                d.counters.modelled_seconds * 1e6, (double)d.counters.matrix_flops[MATRIX_F16],
                bytes / d.operand_bytes);
    cr_expect_leq(bytes, 1.05 * d.operand_bytes, "%.0f bytes moved, operands are %.0f", bytes,
                  d.operand_bytes);
    close_decode(&d);
}
