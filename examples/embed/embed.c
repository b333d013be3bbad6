/* Attention over a quantized cache, from a program that knows only xq.h: appends the tokens of two
 * sequences of different length, attends with one query each, and compares with a straightforward
 * computation in double precision over the same dequantized cache.
 *
 *     make && ./embed [DEVICE]        DEVICE as in xq.h, e.g. cuda or sim; default auto
 */
#include <xq/xq.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HIDDEN = 256,
    HEADS = 4,
    KV_HEADS = 2,
    HEAD_DIM = 64,
    KV_WIDTH = KV_HEADS * HEAD_DIM,
    PAGE = 16,
    BATCH = 2,
    PAGES = 8 /* in the pool */
};
static const double rope_theta = 10000;

static const char spec[] = "{\"model\": {\"hidden_size\": 256, \"num_attention_heads\": 4,"
                           " \"num_key_value_heads\": 2, \"head_dim\": 64, \"rope_theta\": 10000},"
                           " \"cache\": {\"method\": \"x\", \"bits\": 4, \"group\": 64, \"page\": 16}}";

/* Sequence 0 has 37 tokens in pages 5, 2 and 7 of the pool, sequence 1 has 16 in page 0. */
static const int lengths[BATCH] = {37, 16};
static const int32_t indptr[BATCH + 1] = {0, 3, 4};
static const int32_t indices[4] = {5, 2, 7, 0};
static const int32_t last_page_len[BATCH] = {5, 16};
enum { TOKENS = 37 + 16, ENTRIES = 4 };

/* ------------------------------------------------------------------ helpers */

static xq_context *context;

/* Every xq call goes through here: an engine would hand the detail to its own error path. */
static void check(xq_status status, const char *what)
{
    if (status == XQ_OK)
        return;
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    xq_last_error(context, &detail);
    fprintf(stderr, "embed: %s: %s: %s\n", what, xq_status_name(status),
            detail.message ? detail.message : "");
    exit(1);
}

static uint16_t
half_bits(float value) /* finite, within f16's normal range or zero: all that is used here */
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude < 0x38800000) /* below 2^-14: flushed */
        return (uint16_t)sign;
    magnitude += 0xfff + (magnitude >> 13 & 1); /* to nearest, ties to even */
    return (uint16_t)(sign | ((magnitude - 0x38000000) >> 13));
}

static double half_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double magnitude = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static float random_value(void) /* uniform in -1 .. 1 */
{
    return (float)rand() / (float)RAND_MAX * 2 - 1;
}

/* `count` random numbers, as f16 and as what that rounds to. */
static void random_halves(uint16_t *bits, double *values, int count, float scale)
{
    for (int i = 0; i < count; i++) {
        bits[i] = half_bits(random_value() * scale);
        values[i] = half_value(bits[i]);
    }
}

static uint64_t upload(const void *data, size_t bytes)
{
    uint64_t pointer;
    check(xq_device_alloc(context, bytes, &pointer), "xq_device_alloc");
    check(xq_device_write(context, pointer, data, bytes), "xq_device_write");
    return pointer;
}

static uint64_t allocate(size_t bytes)
{
    uint64_t pointer;
    check(xq_device_alloc(context, bytes, &pointer), "xq_device_alloc");
    check(xq_device_fill(context, pointer, 0, bytes), "xq_device_fill");
    return pointer;
}

/* ---------------------------------------------------------------- reference */

static double rows[ENTRIES * PAGE]
                  [HIDDEN]; /* the dequantized cache; row p * PAGE + t is token t of entry p */
static double wk[HIDDEN][KV_WIDTH], wv[HIDDEN][KV_WIDTH];

static void rotate(double *v, int position)
{
    for (int i = 0; i < HEAD_DIM / 2; i++) {
        double angle = position * pow(rope_theta, -2.0 * i / HEAD_DIM), c = cos(angle), s = sin(angle);
        double low = v[i], high = v[i + HEAD_DIM / 2];
        v[i] = low * c - high * s;
        v[i + HEAD_DIM / 2] = high * c + low * s;
    }
}

/* x * W[:, one head] */
static void project(double *out, const double *x, double (*w)[KV_WIDTH], int kv_head)
{
    for (int i = 0; i < HEAD_DIM; i++) {
        out[i] = 0;
        for (int j = 0; j < HIDDEN; j++)
            out[i] += x[j] * w[j][kv_head * HEAD_DIM + i];
    }
}

static void attend_reference(double *out, const double *q, int sequence, int head)
{
    double query[HEAD_DIM], key[HEAD_DIM], value[HEAD_DIM], scores[TOKENS], sum = 0;
    int length = lengths[sequence], kv_head = head / (HEADS / KV_HEADS);
    memcpy(query, q, sizeof query);
    rotate(query, length - 1);
    for (int t = 0; t < length; t++) {
        project(key, rows[indptr[sequence] * PAGE + t], wk, kv_head);
        rotate(key, t);
        scores[t] = 0;
        for (int i = 0; i < HEAD_DIM; i++)
            scores[t] += query[i] * key[i];
        scores[t] = exp(scores[t] / sqrt(HEAD_DIM));
        sum += scores[t];
    }
    memset(out, 0, sizeof(double) * HEAD_DIM);
    for (int t = 0; t < length; t++) {
        project(value, rows[indptr[sequence] * PAGE + t], wv, kv_head);
        for (int i = 0; i < HEAD_DIM; i++)
            out[i] += scores[t] / sum * value[i];
    }
}

/* --------------------------------------------------------------------- steps */

static xq_plan *make_plan(xq_plan_info *info)
{
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    xq_plan *plan;
    options.spec_json = spec;
    options.max_batch = BATCH;
    options.max_tokens = 64;
    options.max_append = TOKENS;
    check(xq_plan_create(context, &options, &plan), "xq_plan_create");
    check(xq_plan_query(plan, info), "xq_plan_query");
    return plan;
}

static uint64_t make_weights(const xq_plan *plan, size_t bytes)
{
    static float k[HIDDEN][KV_WIDTH], v[HIDDEN][KV_WIDTH];
    for (int i = 0; i < HIDDEN; i++)
        for (int j = 0; j < KV_WIDTH; j++) {
            k[i][j] = (float)(wk[i][j] = half_value(half_bits(random_value() / 16)));
            v[i][j] = (float)(wv[i][j] = half_value(half_bits(random_value() / 16)));
        }
    xq_weights weights = XQ_WEIGHTS_INIT;
    weights.wk = k[0];
    weights.wv = v[0];
    void *packed = malloc(bytes);
    check(xq_plan_pack_weights(plan, &weights, packed, bytes), "xq_plan_pack_weights");
    uint64_t pointer = upload(packed, bytes);
    free(packed);
    return pointer;
}

static void append_all(xq_plan *plan, xq_append_args args)
{
    static uint16_t x[TOKENS * HIDDEN];
    static double unused[TOKENS * HIDDEN];
    int32_t sequence[TOKENS], position[TOKENS];
    int n = 0;
    for (int s = 0; s < BATCH; s++)
        for (int t = 0; t < lengths[s]; t++, n++) {
            sequence[n] = s;
            position[n] = t;
        }
    random_halves(x, unused, TOKENS * HIDDEN, 2);
    args.tokens = TOKENS;
    args.x = upload(x, sizeof x);
    args.token_sequence = upload(sequence, sizeof sequence);
    args.token_position = upload(position, sizeof position);
    check(xq_plan_append(plan, &args, NULL), "xq_plan_append");
    check(xq_device_synchronize(context), "append"); /* the inputs must outlive the launch */
    xq_device_free(context, args.x);
    xq_device_free(context, args.token_sequence);
    xq_device_free(context, args.token_position);
}

/* The cache as the kernels see it, for the reference. */
static void read_cache(xq_plan *plan, const xq_page_table *table, uint64_t pages)
{
    static uint16_t bits[ENTRIES * PAGE][HIDDEN];
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    args.table_entries = ENTRIES;
    args.table = *table;
    args.pages = pages;
    args.k = allocate(sizeof bits);
    check(xq_plan_dequantize(plan, &args, NULL), "xq_plan_dequantize");
    check(xq_device_read(context, bits, args.k, sizeof bits), "xq_device_read");
    xq_device_free(context, args.k);
    for (int r = 0; r < ENTRIES * PAGE; r++)
        for (int c = 0; c < HIDDEN; c++)
            rows[r][c] = half_value(bits[r][c]);
}

static double relative_error(const uint16_t *out, const double *q)
{
    double difference = 0, norm = 0, expected[HEAD_DIM];
    for (int s = 0; s < BATCH; s++)
        for (int h = 0; h < HEADS; h++) {
            const int at = (s * HEADS + h) * HEAD_DIM;
            attend_reference(expected, q + at, s, h);
            for (int i = 0; i < HEAD_DIM; i++) {
                difference += pow(half_value(out[at + i]) - expected[i], 2);
                norm += pow(expected[i], 2);
            }
        }
    return sqrt(difference / norm);
}

int main(int argc, char **argv)
{
    static uint16_t q[BATCH * HEADS * HEAD_DIM], out[BATCH * HEADS * HEAD_DIM];
    static double q_values[BATCH * HEADS * HEAD_DIM];
    xq_context_options options = XQ_CONTEXT_OPTIONS_INIT;
    options.device = argc > 1 ? argv[1] : "auto";
    check(xq_context_create(&options, &context), "xq_context_create");
    xq_device_info device = XQ_DEVICE_INFO_INIT;
    check(xq_context_device(context, &device), "xq_context_device");

    xq_plan_info info = XQ_PLAN_INFO_INIT;
    xq_plan *plan = make_plan(&info);
    uint64_t weights = make_weights(plan, info.weights_bytes);
    uint64_t pages = allocate(PAGES * info.page_bytes);
    uint64_t workspace = allocate(info.workspace_bytes);
    xq_page_table table = {BATCH, upload(indptr, sizeof indptr), upload(indices, sizeof indices),
                           upload(last_page_len, sizeof last_page_len)};

    xq_append_args append = XQ_APPEND_ARGS_INIT;
    append.table = table;
    append.pages = pages;
    append.weights = weights;
    append.workspace = workspace;
    append.workspace_bytes = info.workspace_bytes;
    append_all(plan, append);

    random_halves(q, q_values, BATCH * HEADS * HEAD_DIM, 3);
    xq_attend_args attend = XQ_ATTEND_ARGS_INIT;
    attend.max_tokens = 37;
    attend.q = upload(q, sizeof q);
    attend.out = allocate(sizeof out);
    attend.table = table;
    attend.pages = pages;
    attend.weights = weights;
    attend.workspace = workspace;
    attend.workspace_bytes = info.workspace_bytes;
    check(xq_plan_attend(plan, &attend, NULL), "xq_plan_attend");
    check(xq_device_read(context, out, attend.out, sizeof out), "attend");

    read_cache(plan, &table, pages);
    double error = relative_error(out, q_values);
    printf("device          %s\n", device.name);
    printf("cache           %.1f bytes per token; fp16 keys and values would take %d\n",
           info.cache_bytes_per_token, 2 * KV_WIDTH * 2);
    printf("relative error  %.2e against double precision on the same cache\n", error);

    const uint64_t all[] = {
        weights, pages, workspace, table.indptr, table.indices, table.last_page_len, attend.q, attend.out};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        xq_device_free(context, all[i]);
    xq_plan_destroy(plan);
    xq_context_destroy(context);
    return error < 2e-3 ? 0 : 1; /* NaN fails too */
}
