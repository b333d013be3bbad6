/* A cache on a device, as an engine has it: plans, one for all layers of a spec; of each layer its packed
 * weights, pages and tail; one workspace and, of cross-layer methods, one accumulator for all. Page i of
 * the sequence is page i of each pool. */
#include "cache_device.h"
#include "fail.h"

#include <stdlib.h>
#include <string.h>

typedef struct device_plan {
    const char *spec;
    xq_plan *plan;
    xq_plan_info info;
} device_plan;

typedef struct device_layer {
    device_plan *plan;
    uint64_t weights, pages;
    xq_tail_pool tails;
} device_layer;

typedef struct device {
    cache interface;
    xq_context *context;
    const config *config;
    const formats *formats;
    device_plan *plans;
    int plan_count;
    device_layer *layers;
    int length, capacity, chunk;
    xq_page_table table;
    uint64_t workspace, accumulator;
    size_t workspace_bytes;
    uint64_t rows, out;                      /* f16: what goes in; what attention gives */
    uint64_t sequence, position, row_indptr; /* int32, of the piece in hand */
    uint64_t slot;                           /* of the only tail: number 0 */
    uint16_t *halves;
} device;

/* ------------------------------------------------------------------ memory */

static uint64_t allocate(const device *d, size_t bytes)
{
    uint64_t pointer = 0;
    if (bytes == 0)
        return 0;
    check(d->context, xq_device_alloc(d->context, bytes, &pointer), "xq_device_alloc");
    check(d->context, xq_device_fill(d->context, pointer, 0, bytes), "xq_device_fill");
    return pointer;
}

static void upload(const device *d, uint64_t to, const void *data, size_t bytes)
{
    check(d->context, xq_device_write(d->context, to, data, bytes), "xq_device_write");
}

static void upload_numbers(const device *d, uint64_t to, int first, int step, int count)
{
    int32_t *numbers = room((size_t)count, sizeof *numbers);
    for (int i = 0; i < count; i++)
        numbers[i] = first + i * step;
    upload(d, to, numbers, sizeof *numbers * (size_t)count);
    free(numbers);
}

static void release(const device *d, uint64_t pointer)
{
    if (pointer)
        check(d->context, xq_device_free(d->context, pointer), "xq_device_free");
}

/* ------------------------------------------------------------ f16 numbers */

/* The bits of a number that f16 holds. */
static uint16_t half_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return 0x7fff;
    if (magnitude < 0x38800000) { /* below 2^-14: in units of 2^-24 */
        float scaled = value < 0 ? -value : value;
        return (uint16_t)(sign | (uint32_t)(scaled * 0x1p24f));
    }
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

static float half_value(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023,
             bits;
    float value = (float)mantissa * 0x1p-24f;
    if (exponent == 0)
        return sign ? -value : value;
    bits = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounds `count` rows to f16 and writes them. */
static void upload_rows(const device *d, uint64_t to, const float *x, int count, int width)
{
    const size_t values = (size_t)count * (size_t)width;
    xq_quantizer q = XQ_QUANTIZER_INIT;
    float *rounded = room(values, sizeof *rounded);
    q.bits = 16;
    check(NULL, xq_simulate_cache(&q, count, width, x, rounded), "xq_simulate_cache");
    for (size_t i = 0; i < values; i++)
        d->halves[i] = half_bits(rounded[i]);
    upload(d, to, d->halves, sizeof *d->halves * values);
    free(rounded);
}

static void download_rows(const device *d, float *x, uint64_t from, int count, int width)
{
    const size_t values = (size_t)count * (size_t)width;
    check(d->context, xq_device_read(d->context, d->halves, from, sizeof *d->halves * values),
          "xq_device_read");
    for (size_t i = 0; i < values; i++)
        x[i] = half_value(d->halves[i]);
}

/* ----------------------------------------------------------------- launches */

/* The sequence has `length` tokens, of which the last `count` are new. */
static void set_length(const device *d, int length, int count, int page_tokens)
{
    const int32_t pages[] = {0, (length + page_tokens - 1) / page_tokens},
                  last = (length - 1) % page_tokens + 1;
    const int32_t rows[] = {0, count};
    upload(d, d->table.indptr, pages, sizeof pages);
    upload(d, d->table.last_page_len, &last, sizeof last);
    upload(d, d->row_indptr, rows, sizeof rows);
    upload_numbers(d, d->position, length - count, 1, count);
}

/* The accumulator where the layer's plan has one. */
static uint64_t accumulator_of(const device *d, const device_layer *l)
{
    return l->plan->info.accumulator_page_bytes ? d->accumulator : 0;
}

static void accumulate(device *d, const device_layer *l, int length)
{
    xq_accumulate_args args = XQ_ACCUMULATE_ARGS_INIT;
    args.max_tokens = length;
    args.table = d->table;
    args.pages = l->pages;
    args.weights = l->weights;
    args.tails = l->tails;
    args.accumulator = d->accumulator;
    check(d->context, xq_plan_accumulate(l->plan->plan, &args, NULL), "xq_plan_accumulate");
}

static void device_append(cache *c, int layer, const float *x, int count)
{
    device *d = (device *)c;
    device_layer *l = &d->layers[layer];
    const int length = d->length + count;
    if (length > d->capacity || count > d->chunk)
        fail(EXIT_INPUT, "a sequence of %d tokens in pieces of %d; the cache was made for %d and %d",
             length, count, d->capacity, d->chunk);
    set_length(d, length, count, l->plan->info.page_tokens);
    upload_rows(d, d->rows, x, count, d->config->hidden);
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    args.tokens = count;
    args.x = d->rows;
    args.token_sequence = d->sequence;
    args.token_position = d->position;
    args.append_indptr = d->row_indptr;
    args.table = d->table;
    args.pages = l->pages;
    args.weights = l->weights;
    args.workspace = d->workspace;
    args.workspace_bytes = d->workspace_bytes;
    args.tails = l->tails;
    args.accumulator = accumulator_of(d, l);
    check(d->context, xq_plan_append(l->plan->plan, &args, NULL), "xq_plan_append");
    if (d->formats->layer[layer].cross)
        accumulate(d, l, length);
}

static void device_attend(cache *c, int layer, const float *q, int count, float *out)
{
    device *d = (device *)c;
    device_layer *l = &d->layers[layer];
    const int width = d->config->heads * d->config->head_dim;
    upload_rows(d, d->rows, q, count, width);
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = d->length + count;
    args.q = d->rows;
    args.out = d->out;
    args.table = d->table;
    args.pages = l->pages;
    args.weights = l->weights;
    args.workspace = d->workspace;
    args.workspace_bytes = d->workspace_bytes;
    args.tails = l->tails;
    args.accumulator = accumulator_of(d, l);
    if (count > 1) { /* one query needs no more */
        args.queries = count;
        args.query_indptr = d->row_indptr;
    }
    check(d->context, xq_plan_attend(l->plan->plan, &args, NULL), "xq_plan_attend");
    download_rows(d, out, d->out, count, width);
}

static void device_advance(cache *c, int count)
{
    ((device *)c)->length += count;
}

static void device_reset(cache *c)
{
    ((device *)c)->length = 0;
}

/* ---------------------------------------------------------------- inspection */

/* The columns of a stored row that are no padding. */
static void strip_padding(const float *stored, int rows, int latents, int stored_width, int width,
                          float *out)
{
    const int rank = width / latents, latent_width = stored_width / latents;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < width; c++)
            *out++ = stored[r * stored_width + c / rank * latent_width + c % rank];
}

static int device_read(cache *c, int layer, int stream, float *rows)
{
    device *d = (device *)c;
    const device_layer *l = &d->layers[layer];
    const format *f = &d->formats->layer[layer];
    if (stream >= f->streams)
        return 0;
    const int width = f->cross ? d->config->hidden : f->stream[stream].width;
    const int latents =
        f->cross || f->stream[stream].quantizer.latents < 1 ? 1 : f->stream[stream].quantizer.latents;
    const xq_plan_info *info = &l->plan->info;
    const int widths[] = {f->cross ? d->config->hidden : info->rank_k, info->rank_v};
    const int entries = (d->length + info->page_tokens - 1) / info->page_tokens,
              all = entries * info->page_tokens;
    uint64_t out[2];
    for (int i = 0; i < 2; i++)
        out[i] = allocate(d, sizeof(uint16_t) * (size_t)all * (size_t)widths[i]);
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    args.table_entries = entries;
    args.table = d->table;
    args.pages = l->pages;
    args.tails = l->tails;
    args.accumulator = accumulator_of(d, l);
    args.k = out[0];
    args.v = info->rank_v ? out[1] : 0;
    check(d->context, xq_plan_dequantize(l->plan->plan, &args, NULL), "xq_plan_dequantize");
    float *stored = room((size_t)d->length * (size_t)widths[stream], sizeof *stored);
    uint16_t *halves = d->halves;
    d->halves = room((size_t)d->length * (size_t)widths[stream], sizeof *d->halves);
    download_rows(d, stored, out[stream], d->length, widths[stream]);
    free(d->halves);
    d->halves = halves;
    strip_padding(stored, d->length, latents, widths[stream], width, rows);
    free(stored);
    release(d, out[0]);
    release(d, out[1]);
    return width;
}

static void device_close(cache *c)
{
    device *d = (device *)c;
    for (int i = 0; i < d->config->layers; i++) {
        release(d, d->layers[i].weights);
        release(d, d->layers[i].pages);
        release(d, d->layers[i].tails.pool);
    }
    const uint64_t all[] = {d->table.indptr, d->table.indices, d->table.last_page_len,
                            d->workspace,    d->accumulator,   d->rows,
                            d->out,          d->sequence,      d->position,
                            d->row_indptr,   d->slot};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(d, all[i]);
    for (int i = 0; i < d->plan_count; i++)
        xq_plan_destroy(d->plans[i].plan);
    free(d->plans);
    free(d->layers);
    free(d->halves);
    free(d);
}

/* ------------------------------------------------------------------ opening */

/* The plan of a spec: made once. */
static device_plan *plan_of(device *d, const format *f)
{
    for (int i = 0; i < d->plan_count; i++)
        if (strcmp(d->plans[i].spec, f->spec) == 0)
            return &d->plans[i];
    device_plan *p = &d->plans[d->plan_count++];
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = p->spec = f->spec;
    options.implementation = f->method == CACHE_FP16 ? XQ_FP16_KV : XQ_FUSED;
    options.max_tokens = d->capacity;
    options.max_append = d->chunk;
    options.max_queries = d->chunk;
    check(d->context, xq_plan_create(d->context, &options, &p->plan), "xq_plan_create");
    p->info = (xq_plan_info)XQ_PLAN_INFO_INIT;
    check(d->context, xq_plan_query(p->plan, &p->info), "xq_plan_query");
    return p;
}

static uint64_t upload_weights(const device *d, const device_plan *p, sources *s, int layer)
{
    const size_t bytes = p->info.weights_bytes;
    uint64_t weights = allocate(d, bytes);
    const void *mapped = sources_packed(s, p->plan, layer);
    if (mapped) {
        upload(d, weights, mapped, bytes);
        return weights;
    }
    void *packed = room(bytes, 1);
    check(d->context, xq_plan_pack_weights(p->plan, sources_layer(s, layer), packed, bytes),
          "xq_plan_pack_weights");
    upload(d, weights, packed, bytes);
    free(packed);
    return weights;
}

static void open_layers(device *d, sources *s)
{
    size_t accumulator = 0;
    for (int i = 0; i < d->config->layers; i++) {
        const format *f = &d->formats->layer[i];
        if (!f->spec)
            fail(EXIT_USAGE, "--cache %s runs on --device host alone", method_name(f->method));
        device_layer *l = &d->layers[i];
        l->plan = plan_of(d, f);
        const xq_plan_info *info = &l->plan->info;
        const size_t pages = (size_t)((d->capacity + info->page_tokens - 1) / info->page_tokens);
        l->weights = upload_weights(d, l->plan, s, i);
        l->pages = allocate(d, pages * info->page_bytes);
        if (info->tail_bytes)
            l->tails = (xq_tail_pool){allocate(d, info->tail_bytes), d->slot};
        if (info->workspace_bytes > d->workspace_bytes)
            d->workspace_bytes = info->workspace_bytes;
        if (pages * info->accumulator_page_bytes > accumulator)
            accumulator = pages * info->accumulator_page_bytes;
    }
    d->workspace = allocate(d, d->workspace_bytes);
    d->accumulator = allocate(d, accumulator);
}

static void open_buffers(device *d)
{
    const size_t heads = (size_t)d->config->heads * (size_t)d->config->head_dim,
                 hidden = (size_t)d->config->hidden;
    const size_t halves = (size_t)d->chunk * (heads > hidden ? heads : hidden), pages = (size_t)d->capacity;
    d->halves = room(halves, sizeof *d->halves);
    d->rows = allocate(d, sizeof *d->halves * halves);
    d->out = allocate(d, sizeof *d->halves * halves);
    d->sequence = allocate(d, sizeof(int32_t) * (size_t)d->chunk);
    d->position = allocate(d, sizeof(int32_t) * (size_t)d->chunk);
    d->row_indptr = allocate(d, 2 * sizeof(int32_t));
    d->slot = allocate(d, sizeof(int32_t));
    d->table.batch = 1;
    d->table.indptr = allocate(d, 2 * sizeof(int32_t));
    d->table.last_page_len = allocate(d, sizeof(int32_t));
    d->table.indices = allocate(d, sizeof(int32_t) * pages);
    upload_numbers(d, d->table.indices, 0, 1, (int)pages);
}

cache *cache_device_open(xq_context *context, const config *c, const formats *f, sources *s, int capacity,
                         int chunk)
{
    device *d = room(1, sizeof *d);
    d->interface =
        (cache){device_append, device_attend, device_advance, device_reset, device_close, device_read};
    d->context = context;
    d->config = c;
    d->formats = f;
    d->capacity = capacity;
    d->chunk = chunk;
    d->plans = room((size_t)c->layers, sizeof *d->plans);
    d->layers = room((size_t)c->layers, sizeof *d->layers);
    open_buffers(d);
    open_layers(d, s);
    return &d->interface;
}
