/* Tables and rows as docs/engines tells engines to use them, on the software device: a scratch sequence for
 * padding, layers that share blocks, and tokens that are written again. */
#include "../support/elements.h"
#include "xq/xq.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WIDTH = 256,
    HEADS = 4,
    KV_HEADS = 2,
    HEAD_DIM = 64,
    PAGE = 16,
    POOL = 12,
    LAYERS = 3,
    BATCH = 2,
    FIRST = 37, /* tokens of the two sequences */
    SECOND = 18,
    TOKENS = FIRST + SECOND,
    PADDING = 5,
    ROWS = TOKENS + PADDING,
    OUT = HEADS * HEAD_DIM
};

static xq_context *context;
static xq_plan *plan;
static xq_plan_info info;
static uint64_t weights, workspace, x, q, out, pool;

static void check(xq_status status)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    if (status != XQ_OK)
        xq_last_error(context, &detail);
    cr_assert_eq(status, XQ_OK, "%s", detail.message);
}

/* Allocates device memory with a copy of `data`, or with zeros if `data` is NULL. */
static uint64_t upload(const void *data, size_t bytes)
{
    uint64_t pointer;
    check(xq_device_alloc(context, bytes, &pointer));
    check(data ? xq_device_write(context, pointer, data, bytes)
               : xq_device_fill(context, pointer, 0, bytes));
    return pointer;
}

static uint64_t normals(random_stream *r, size_t count)
{
    uint16_t *values = elements_normals(r, false, count, 1);
    uint64_t pointer = upload(values, count * sizeof *values);
    free(values);
    return pointer;
}

static void open_plan(const char *zero_point)
{
    char spec[512];
    snprintf(spec, sizeof spec,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d}, \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 4, "
             "\"page\": %d, \"zero_point\": \"%s\"}}",
             WIDTH, HEADS, KV_HEADS, HEAD_DIM, PAGE, zero_point);
    xq_context_options where = XQ_CONTEXT_OPTIONS_INIT;
    where.device = "sim";
    cr_assert_eq(xq_context_create(&where, &context), XQ_OK);
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = spec;
    options.max_batch = BATCH + 1;
    options.max_tokens = 64;
    options.max_append = options.max_queries = options.max_total_queries = ROWS;
    options.pool_pages = POOL * LAYERS;
    check(xq_plan_create(context, &options, &plan));
    info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    check(xq_plan_query(plan, &info));

    static float wk[WIDTH * KV_HEADS * HEAD_DIM], wv[WIDTH * KV_HEADS * HEAD_DIM];
    random_stream r = random_begin(7, 0);
    for (int i = 0; i < WIDTH * KV_HEADS * HEAD_DIM; i++) {
        wk[i] = random_normal(&r) / 16;
        wv[i] = random_normal(&r) / 16;
    }
    xq_weights matrices = XQ_WEIGHTS_INIT;
    matrices.wk = wk;
    matrices.wv = wv;
    void *packed = malloc(info.weights_bytes);
    check(xq_plan_pack_weights(plan, &matrices, packed, info.weights_bytes));
    weights = upload(packed, info.weights_bytes);
    free(packed);
    workspace = upload(NULL, info.workspace_bytes);
    x = normals(&r, ROWS * WIDTH);
    q = normals(&r, ROWS * OUT);
    out = upload(NULL, ROWS * OUT * sizeof(uint16_t));
    pool = upload(NULL, POOL * LAYERS * info.page_bytes);
}

static void close_plan(void)
{
    xq_plan_destroy(plan);
    xq_context_destroy(context);
}

/* The table of the two sequences, and of a third one for padding. Page numbers are multiples of `step`. */
static xq_page_table table_of(int batch, int step)
{
    const int32_t indptr[] = {0, 3, 5, 6}, last[] = {FIRST - 2 * PAGE, SECOND - PAGE, PAGE};
    int32_t indices[] = {4, 2, 9, 7, 1, 0};
    for (int i = 0; i < 6; i++)
        indices[i] *= step;
    return (xq_page_table){batch, upload(indptr, sizeof indptr), upload(indices, sizeof indices),
                           upload(last, sizeof last)};
}

/* Appends `rows` rows of x to the table's sequences, in order. Rows beyond the tokens are padding. */
static void append(xq_page_table table, uint64_t pages, int rows)
{
    int32_t sequence[ROWS], position[ROWS];
    for (int i = 0; i < ROWS; i++) {
        sequence[i] = (i >= FIRST) + (i >= TOKENS);
        position[i] = i - (i >= TOKENS ? TOKENS : i >= FIRST ? FIRST : 0);
    }
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    args.tokens = rows;
    args.x = x;
    args.token_sequence = upload(sequence, sizeof sequence);
    args.token_position = upload(position, sizeof position);
    args.table = table;
    args.pages = pages;
    check(xq_plan_append(plan, &args, NULL));
}

/* Attends with a query for each token. q has `rows` rows, of which the last may be padding. */
static void attend(xq_page_table table, uint64_t pages, int rows, uint16_t *result)
{
    const int32_t query_indptr[] = {0, FIRST, TOKENS};
    check(xq_device_fill(context, out, 0xee, ROWS * OUT * sizeof *result));
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = 64;
    args.q = q;
    args.out = out;
    args.table = table;
    args.pages = pages;
    args.weights = weights;
    args.workspace = workspace;
    args.workspace_bytes = info.workspace_bytes;
    args.queries = rows;
    args.query_indptr = upload(query_indptr, sizeof query_indptr);
    check(xq_plan_attend(plan, &args, NULL));
    check(xq_device_read(context, result, out, ROWS * OUT * sizeof *result));
}

static uint16_t alone[ROWS * OUT], result[ROWS * OUT];

Test(engine_calls, padding_goes_to_a_scratch_sequence)
{
    open_plan("float");
    xq_page_table table = table_of(BATCH, 1), padded = table;
    append(table, pool, TOKENS);
    attend(table, pool, TOKENS, alone);
    check(xq_device_fill(context, pool, 0, POOL * info.page_bytes));
    padded.batch = BATCH + 1;
    append(padded, pool, ROWS);
    attend(table, pool, ROWS, result); /* the same arrays, one sequence less, padding in q */
    cr_assert_eq(memcmp(result, alone, TOKENS * OUT * sizeof *result), 0);
    for (int i = TOKENS * OUT; i < ROWS * OUT; i++)
        cr_assert_eq(result[i], 0xeeee, "a row of padding is written");
    close_plan();
}

Test(engine_calls, layers_share_blocks)
{
    open_plan("float");
    xq_page_table table = table_of(BATCH, 1), blocks = table_of(BATCH, LAYERS);
    append(table, pool, TOKENS);
    attend(table, pool, TOKENS, alone);
    cr_assert_eq(info.page_bytes % info.page_align, 0);
    check(xq_device_fill(context, pool, 0, POOL * LAYERS * info.page_bytes));
    for (int layer = 0; layer < LAYERS; layer++) {
        append(blocks, pool + (uint64_t)layer * info.page_bytes, TOKENS);
        attend(blocks, pool + (uint64_t)layer * info.page_bytes, TOKENS, result);
        cr_assert_eq(memcmp(result, alone, TOKENS * OUT * sizeof *result), 0, "layer %d", layer);
    }
    attend(blocks, pool, TOKENS, result); /* later layers do not change earlier ones */
    cr_assert_eq(memcmp(result, alone, TOKENS * OUT * sizeof *result), 0);
    close_plan();
}

/* Moves accepted drafts of the first sequence to the front of its last rows: rows 33 and 35 go to places 32
 * and 33. */
static void rewrite(xq_page_table table)
{
    const int32_t sequence[] = {0, 0}, position[] = {32, 33};
    for (int i = 0; i < 2; i++) {
        xq_append_args args = XQ_APPEND_ARGS_INIT;
        args.tokens = 1;
        args.x = x + (uint64_t)(33 + 2 * i) * WIDTH * sizeof(uint16_t);
        args.token_sequence = upload(sequence + i, sizeof *sequence);
        args.token_position = upload(position + i, sizeof *position);
        args.table = table;
        args.pages = pool;
        check(xq_plan_append(plan, &args, NULL));
    }
}

static void written_again_is_as_written_once(const char *zero_point)
{
    open_plan(zero_point);
    xq_page_table table = table_of(BATCH, 1);
    size_t bytes = POOL * info.page_bytes;
    unsigned char *again = malloc(bytes), *once = malloc(bytes);
    append(table, pool, TOKENS);
    rewrite(table);
    check(xq_device_read(context, again, pool, bytes));

    /* The same rows are at these places from the beginning, over pages that hold other tokens. */
    uint16_t *rows = malloc(ROWS * WIDTH * sizeof *rows);
    check(xq_device_read(context, rows, x, ROWS * WIDTH * sizeof *rows));
    memmove(rows + 32 * WIDTH, rows + 33 * WIDTH, WIDTH * sizeof *rows);
    memmove(rows + 33 * WIDTH, rows + 35 * WIDTH, WIDTH * sizeof *rows);
    check(xq_device_write(context, x, rows, ROWS * WIDTH * sizeof *rows));
    append(table, pool, TOKENS);
    check(xq_device_read(context, once, pool, bytes));
    cr_assert_eq(memcmp(again, once, bytes), 0);

    check(xq_device_fill(context, pool, 0, bytes));
    append(table, pool, TOKENS);
    check(xq_device_read(context, once, pool, bytes));
    cr_assert_eq(memcmp(again, once, bytes), 0);
    free(rows);
    free(again);
    free(once);
    close_plan();
}

Test(engine_calls, tokens_written_again_are_as_written_once)
{
    written_again_is_as_written_once("float");
    written_again_is_as_written_once("integer");
}
