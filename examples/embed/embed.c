/* Attention over a quantized cache, from a program that uses only xq.h. Two sequences of different lengths
 * each get a prompt with a query for each of its tokens, and then a step of decoding. The outputs are
 * compared with a straightforward computation in double precision over the same dequantized cache.
 *
 *     make && ./embed [DEVICE]        DEVICE as in xq.h, e.g. cuda or sim; default auto
 */
#include "common.h"
#include "reference.h"

enum {
    PAGE = 16,
    BATCH = 2,
    PAGES = 8,  /* pages in the pool */
    ENTRIES = 4 /* entries in the page table */
};

/* A group is 32 tokens of one channel. The newest tokens of a sequence stay unquantized in a tail until
 * their group is complete. */
static const char spec[] = "{" MODEL ", \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 4, "
                           "\"group\": 32, \"axis_k\": \"channel\", \"page\": 16}}";

/* Sequence 0 has a prompt of 36 tokens in pages 5, 2 and 7 of the pool. Sequence 1 has a prompt of 15
 * tokens in page 0. Then each sequence gets one more token. */
static const int prompts[BATCH] = {36, 15};
static const int32_t indptr[BATCH + 1] = {0, 3, 4};
static const int32_t indices[ENTRIES] = {5, 2, 7, 0};
static const int32_t slots[BATCH] = {1, 0}; /* slots in the pool of tails */
enum { PROMPT = 36 + 15, LONGEST = 37 };

/* The layer's plan, and its memory on the device. */
static struct {
    xq_plan *plan;
    xq_plan_info info;
    uint64_t weights, pages, workspace;
    xq_tail_pool tails;
    xq_page_table table;
} layer;
static struct projections projections;

/* ------------------------------------------------------------------- set-up */

static void make_plan(void)
{
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    layer.info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    options.spec_json = spec;
    options.max_batch = BATCH;
    options.max_tokens = 64;
    options.max_append = PROMPT;
    options.max_queries = 36;           /* queries of one sequence: a whole prompt */
    options.max_total_queries = PROMPT; /* queries of all sequences */
    check(xq_plan_create(context, &options, &layer.plan), "xq_plan_create");
    check(xq_plan_query(layer.plan, &layer.info), "xq_plan_query");
}

static void make_cache(void)
{
    layer.pages = allocate(PAGES * layer.info.page_bytes);
    layer.workspace = allocate(layer.info.workspace_bytes);
    layer.tails.pool = allocate(BATCH * layer.info.tail_bytes);
    layer.tails.slots = upload(slots, sizeof slots);
    layer.table.batch = BATCH;
    layer.table.indptr = upload(indptr, sizeof indptr);
    layer.table.indices = upload(indices, sizeof indices);
    layer.table.last_page_len = allocate(BATCH * sizeof(int32_t));
}

/* --------------------------------------------------------------------- steps */

/* Appends random activations: count[s] new tokens of each sequence s, after its first before[s] tokens. */
static void append(const int *before, const int *count)
{
    static uint16_t x[PROMPT * HIDDEN];
    int32_t sequence[PROMPT], position[PROMPT], starts[BATCH + 1] = {0}, last[BATCH], n = 0;
    for (int s = 0; s < BATCH; s++) {
        for (int t = 0; t < count[s]; t++, n++) {
            sequence[n] = s;
            position[n] = before[s] + t;
        }
        starts[s + 1] = n;
        last[s] = (before[s] + count[s] - 1) % PAGE + 1;
    }
    random_halves(x, n * HIDDEN, 2);
    write_device(layer.table.last_page_len, last, sizeof last);
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    args.tokens = n;
    args.x = upload(x, sizeof x[0] * (size_t)n * HIDDEN);
    args.token_sequence = upload(sequence, sizeof sequence[0] * (size_t)n);
    args.token_position = upload(position, sizeof position[0] * (size_t)n);
    args.append_indptr =
        upload(starts, sizeof starts); /* caches with per-channel groups need it, and tails */
    args.tails = layer.tails;
    args.table = layer.table;
    args.pages = layer.pages;
    args.weights = layer.weights;
    args.workspace = layer.workspace;
    args.workspace_bytes = layer.info.workspace_bytes;
    check(xq_plan_append(layer.plan, &args, NULL), "xq_plan_append");
    check(xq_device_synchronize(context), "append"); /* the inputs must outlive the launch */
    const uint64_t inputs[] = {args.x, args.token_sequence, args.token_position, args.append_indptr};
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++)
        release(inputs[i]);
}

/* Attends with random queries, count[s] at the last tokens of each sequence s, and reads their outputs. */
static void attend(const int *count, uint16_t *q, uint16_t *out)
{
    int32_t starts[BATCH + 1] = {0};
    for (int s = 0; s < BATCH; s++)
        starts[s + 1] = starts[s] + count[s];
    size_t bytes = sizeof *q * (size_t)starts[BATCH] * ROW;
    random_halves(q, starts[BATCH] * ROW, 3);
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = LONGEST;
    args.q = upload(q, bytes);
    args.out = allocate(bytes);
    args.table = layer.table;
    args.pages = layer.pages;
    args.tails = layer.tails;
    args.weights = layer.weights;
    args.workspace = layer.workspace;
    args.workspace_bytes = layer.info.workspace_bytes;
    if (starts[BATCH] != BATCH) { /* one query per sequence is the default */
        args.queries = starts[BATCH];
        args.query_indptr = upload(starts, sizeof starts);
    }
    check(xq_plan_attend(layer.plan, &args, NULL), "xq_plan_attend");
    check(xq_device_read(context, out, args.out, bytes), "attend");
    release(args.q);
    release(args.out);
    release(args.query_indptr);
}

/* The cache as the kernels see it, for the reference. Row p * PAGE + t is token t of entry p of the page
 * table. */
static double rows[ENTRIES * PAGE][HIDDEN];

static void read_cache(void)
{
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    args.table_entries = ENTRIES;
    args.table = layer.table;
    args.pages = layer.pages;
    args.tails = layer.tails;
    read_rows(layer.plan, args, ENTRIES * PAGE, rows);
}

/* The relative error of attention. Sequence s has length[s] tokens and count[s] queries at the last of
 * them. */
static double relative_error(const int *length, const int *count)
{
    static uint16_t q[PROMPT * ROW], out[PROMPT * ROW];
    struct deviation error = {0, 0};
    int row = 0;
    attend(count, q, out);
    read_cache();
    for (int s = 0; s < BATCH; s++)
        for (int j = 0; j < count[s]; j++, row++)
            compare_attention(&error, &projections, q + row * ROW, out + row * ROW, rows + indptr[s] * PAGE,
                              length[s] - count[s] + j);
    return relative(&error);
}

int main(int argc, char **argv)
{
    const int none[BATCH] = {0, 0}, one[BATCH] = {1, 1}, lengths[BATCH] = {prompts[0] + 1, prompts[1] + 1};
    open_context(argc, argv);
    make_plan();
    layer.weights = random_projections(layer.plan, &projections);
    make_cache();
    append(none, prompts);
    double prefill = relative_error(prompts, prompts);
    append(prompts, one);
    double decode = relative_error(lengths, one);
    printf("cache           %.1f bytes per token, %zu per sequence; fp16 keys and values would take %d per "
           "token\n",
           layer.info.cache_bytes_per_token, layer.info.tail_bytes, 2 * KV_WIDTH * 2);
    printf("relative error  prompt %.2e, decoding %.2e against double precision on the same cache\n",
           prefill, decode);

    const uint64_t all[] = {
        layer.weights,     layer.pages,        layer.workspace,     layer.tails.pool,
        layer.tails.slots, layer.table.indptr, layer.table.indices, layer.table.last_page_len};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(all[i]);
    xq_plan_destroy(layer.plan);
    xq_context_destroy(context);
    return prefill < 2e-3 && decode < 2e-3 ? 0 : 1; /* NaN fails too */
}
