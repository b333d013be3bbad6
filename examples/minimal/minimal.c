/* The smallest complete program: it caches 20 tokens of one sequence in 4 bits and attends with one query.
 * It is valid C and C++.
 *
 *     cc minimal.c $(pkg-config --cflags --libs xq) -o minimal && ./minimal [DEVICE]
 */
#include <xq/xq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The model has HEADS query heads of HEAD_DIM dimensions, as many KV heads, and activations of width D. */
enum { D = 128, HEADS = 2, HEAD_DIM = 64, TOKENS = 20, PAGE = 16, PAGES = 2 };

static const char spec[] =
    "{\"model\": {\"hidden_size\": 128, \"num_attention_heads\": 2, \"head_dim\": 64},"
    " \"cache\": {\"method\": \"x\", \"rotation\": false, \"bits\": 4, \"page\": 16}}";

static xq_context *context;

/* Every xq call that can fail goes through this function. */
static void check(xq_status status)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    if (status == XQ_OK)
        return;
    xq_last_error(context, &detail);
    fprintf(stderr, "minimal: %s: %s\n", xq_status_name(status), detail.message ? detail.message : "");
    exit(1);
}

static void *host_memory(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory)
        return memory;
    fprintf(stderr, "minimal: out of memory\n");
    exit(1);
}

/* An engine allocates device memory itself; these xq calls are for programs without an allocator. */
static uint64_t allocate(size_t bytes)
{
    uint64_t pointer;
    check(xq_device_alloc(context, bytes, &pointer));
    check(xq_device_fill(context, pointer, 0, bytes)); /* the workspace must begin zeroed */
    return pointer;
}

static uint64_t upload(const void *data, size_t bytes)
{
    uint64_t pointer = allocate(bytes);
    check(xq_device_write(context, pointer, data, bytes));
    return pointer;
}

/* Fills in f16 numbers of both signs whose magnitudes are between 0.5 and 1. */
static void fill_halves(uint16_t *halves, int count)
{
    for (int i = 0; i < count; i++)
        halves[i] = (uint16_t)(0x3800 | ((i * 40503u) >> 3 & 0x3ff) | ((i * 40503u) >> 15 & 1) << 15);
}

/* Returns the device that the argument names, or auto without an argument. The program ends on `--help` and
 * on extra arguments. */
static const char *device_argument(int argc, char **argv)
{
    int asked = argc == 2 && strcmp(argv[1], "--help") == 0;
    if (argc <= 2 && !asked)
        return argc == 2 ? argv[1] : "auto";
    fprintf(asked ? stdout : stderr, "usage: minimal [DEVICE], where DEVICE is auto (default), cuda, "
                                     "cuda:N, sim or sim:GPU\n");
    exit(asked ? 0 : 1);
}

int main(int argc, char **argv)
{
    static float wk[D * HEADS * HEAD_DIM], wv[D * HEADS * HEAD_DIM]; /* y = x * W, row major */
    static uint16_t x[TOKENS * D], q[HEADS * HEAD_DIM], out[HEADS * HEAD_DIM];
    for (int i = 0; i < D; i++)
        wk[i * HEADS * HEAD_DIM + i] = wv[i * HEADS * HEAD_DIM + i] = 1;
    fill_halves(x, TOKENS * D);
    fill_halves(q, HEADS * HEAD_DIM);

    /* 1. Open a device and create a plan: kernels for the spec, compiled now or taken from the kernel
     * cache. */
    xq_context_options device = XQ_CONTEXT_OPTIONS_INIT;
    device.device = device_argument(argc, argv);
    check(xq_context_create(&device, &context));
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = spec;
    options.max_tokens = TOKENS; /* tokens of one sequence */
    options.max_append = TOKENS; /* tokens of one append call */
    xq_plan *plan;
    check(xq_plan_create(context, &options, &plan));

    /* 2. Allocate memory of the sizes that the plan states. */
    xq_plan_info info = XQ_PLAN_INFO_INIT;
    check(xq_plan_query(plan, &info));
    uint64_t pages = allocate(PAGES * info.page_bytes), workspace = allocate(info.workspace_bytes);

    /* 3. Pack the layer's projections on the host and copy the packed bytes to the device. */
    xq_weights weights = XQ_WEIGHTS_INIT;
    weights.wk = wk;
    weights.wv = wv;
    void *packed = host_memory(info.weights_bytes);
    check(xq_plan_pack_weights(plan, &weights, packed, info.weights_bytes));
    uint64_t packed_weights = upload(packed, info.weights_bytes);
    free(packed);

    /* 4. Write the page table: the sequence has pages 0 and 1 of the pool, with 4 tokens in page 1. */
    const int32_t indptr[] = {0, PAGES}, indices[] = {0, 1}, last_page_len[] = {TOKENS - PAGE};
    xq_page_table table;
    table.batch = 1;
    table.indptr = upload(indptr, sizeof indptr);
    table.indices = upload(indices, sizeof indices);
    table.last_page_len = upload(last_page_len, sizeof last_page_len);

    /* 5. Append the activations to the cache. */
    int32_t sequence[TOKENS] = {0}, position[TOKENS];
    for (int t = 0; t < TOKENS; t++)
        position[t] = t;
    xq_append_args append = XQ_APPEND_ARGS_INIT;
    append.tokens = TOKENS;
    append.x = upload(x, sizeof x);
    append.token_sequence = upload(sequence, sizeof sequence);
    append.token_position = upload(position, sizeof position);
    append.table = table;
    append.pages = pages;
    append.weights = packed_weights;
    check(xq_plan_append(plan, &append, NULL));

    /* 6. Attend with a query at the last token. The output has one row per head. */
    xq_attend_args attend = XQ_ATTEND_ARGS_INIT;
    attend.max_tokens = TOKENS;
    attend.q = upload(q, sizeof q);
    attend.out = allocate(sizeof out);
    attend.table = table;
    attend.pages = pages;
    attend.weights = packed_weights;
    attend.workspace = workspace;
    attend.workspace_bytes = info.workspace_bytes;
    check(xq_plan_attend(plan, &attend, NULL));
    check(xq_device_read(context, out, attend.out, sizeof out)); /* waits until the launches are done */

    printf("%.0f bytes a token instead of %d; first outputs, as f16: %04x %04x %04x %04x\n",
           info.cache_bytes_per_token, 2 * 2 * HEADS * HEAD_DIM, out[0], out[1], out[2], out[3]);
    const uint64_t all[] = {
        pages,     workspace,           packed_weights,        table.indptr,          table.indices,
        append.x,  table.last_page_len, append.token_sequence, append.token_position, attend.q,
        attend.out};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        check(xq_device_free(context, all[i]));
    xq_plan_destroy(plan);
    xq_context_destroy(context);
    return 0;
}
