/* A cache on a device, built the way an engine builds it. All layers with the same spec share a plan. Each
 * layer has its packed weights, pages and tail. All layers share one workspace and, in cross-layer methods,
 * one accumulator. Page i of the sequence is page i of each layer's pool. */
#include "cache_device.h"
#include "arithmetic.h"
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
    uint64_t weights, pages, accumulator;
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
    uint64_t *owned; /* device memory, freed at the end */
    int owned_count, length, capacity, chunk;
    xq_page_table table;
    uint64_t workspace;
    size_t workspace_bytes;
    uint64_t rows, out;                      /* f16: inputs of a call, and outputs of attention */
    uint64_t sequence, position, row_indptr; /* int32, for the piece that is being appended */
    uint64_t slot;                           /* slot number of the only tail: 0 */
} device;

/* ------------------------------------------------------------------ memory */

static uint64_t allocate(device *d, size_t bytes)
{
    uint64_t pointer = 0;
    if (bytes == 0)
        return 0;
    check(d->context, xq_device_alloc(d->context, bytes, &pointer), "xq_device_alloc");
    check(d->context, xq_device_fill(d->context, pointer, 0, bytes), "xq_device_fill");
    d->owned[d->owned_count++] = pointer;
    return pointer;
}

/* Frees all allocations after the first `count`. */
static void release_to(device *d, int count)
{
    while (d->owned_count > count)
        check(d->context, xq_device_free(d->context, d->owned[--d->owned_count]), "xq_device_free");
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

/* ------------------------------------------------------------ f16 numbers */

/* The bits of an f16 value. `value` must be exact in f16. */
static uint16_t half_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return 0x7fff;
    if (magnitude < 0x38800000) { /* subnormal, below 2^-14: counted in units of 2^-24 */
        float scaled = value < 0 ? -value : value;
        return (uint16_t)(sign | (uint32_t)(scaled * 0x1p24f));
    }
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

/* Rounds `count` rows to f16 and writes them to the device. */
static void upload_rows(const device *d, uint64_t to, const float *x, int count, int width)
{
    const size_t values = (size_t)count * (size_t)width;
    xq_quantizer q = XQ_QUANTIZER_INIT;
    float *rounded = room(values, sizeof *rounded);
    uint16_t *halves = room(values, sizeof *halves);
    q.bits = 16;
    check(NULL, xq_simulate_cache(&q, count, width, x, rounded), "xq_simulate_cache");
    for (size_t i = 0; i < values; i++)
        halves[i] = half_bits(rounded[i]);
    upload(d, to, halves, sizeof *halves * values);
    free(halves);
    free(rounded);
}

static void download_rows(const device *d, float *x, uint64_t from, int count, int width)
{
    const size_t values = (size_t)count * (size_t)width;
    uint16_t *halves = room(values, sizeof *halves);
    check(d->context, xq_device_read(d->context, halves, from, sizeof *halves * values), "xq_device_read");
    for (size_t i = 0; i < values; i++)
        x[i] = half_value(halves[i]);
    free(halves);
}

/* ----------------------------------------------------------------- launches */

/* Writes the page table and positions for a sequence of `length` tokens, the last `count` of them new. */
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

/* Arguments that several calls on a layer's cache have in common. */
#define CACHED(d, l)                                                                                       \
    .table = (d)->table, .pages = (l)->pages, .tails = (l)->tails, .accumulator = (l)->accumulator
#define WITH_WEIGHTS(d, l) CACHED(d, l), .weights = (l)->weights
#define WITH_WORKSPACE(d, l)                                                                               \
    WITH_WEIGHTS(d, l), .workspace = (d)->workspace, .workspace_bytes = (d)->workspace_bytes

static void accumulate(device *d, const device_layer *l, int length)
{
    const xq_accumulate_args args = {.struct_size = sizeof args, WITH_WEIGHTS(d, l), .max_tokens = length};
    check(d->context, xq_plan_accumulate(l->plan->plan, &args, NULL), "xq_plan_accumulate");
}

static void device_append(cache *c, int layer, const float *x, int count)
{
    device *d = (device *)c;
    device_layer *l = &d->layers[layer];
    const int length = d->length + count;
    if (length > d->capacity || count > d->chunk)
        fail(EXIT_INPUT,
             "the sequence has %d tokens in pieces of %d; the cache was made for at most %d and %d", length,
             count, d->capacity, d->chunk);
    set_length(d, length, count, l->plan->info.page_tokens);
    upload_rows(d, d->rows, x, count, d->config->hidden);
    const xq_append_args args = {.struct_size = sizeof args,
                                 WITH_WORKSPACE(d, l),
                                 .tokens = count,
                                 .x = d->rows,
                                 .token_sequence = d->sequence,
                                 .token_position = d->position,
                                 .append_indptr = d->row_indptr};
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
    xq_attend_args args = {.struct_size = sizeof args,
                           WITH_WORKSPACE(d, l),
                           .max_tokens = d->length + count,
                           .q = d->rows,
                           .out = d->out};
    if (count > 1) { /* one query is the default */
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

/* Copies the columns of stored rows without the padding at the end of each latent. */
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
    const int kept = d->owned_count;
    uint64_t out[2];
    for (int i = 0; i < 2; i++)
        out[i] = allocate(d, sizeof(uint16_t) * (size_t)all * (size_t)widths[i]);
    const xq_dequantize_args args = {
        .struct_size = sizeof args, CACHED(d, l), .table_entries = entries, .k = out[0], .v = out[1]};
    check(d->context, xq_plan_dequantize(l->plan->plan, &args, NULL), "xq_plan_dequantize");
    float *stored = room((size_t)d->length * (size_t)widths[stream], sizeof *stored);
    download_rows(d, stored, out[stream], d->length, widths[stream]);
    strip_padding(stored, d->length, latents, widths[stream], width, rows);
    free(stored);
    release_to(d, kept);
    return width;
}

static void device_close(cache *c)
{
    device *d = (device *)c;
    release_to(d, 0);
    for (int i = 0; i < d->plan_count; i++)
        xq_plan_destroy(d->plans[i].plan);
    free(d->plans);
    free(d->layers);
    free(d->owned);
    free(d);
}

/* ------------------------------------------------------------------ opening */

/* The plan of a layer's spec. It is created for the first layer with this spec. */
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

static uint64_t upload_weights(device *d, const device_plan *p, sources *s, int layer)
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
            fail(EXIT_USAGE, "--cache %s: runs only on --device host", method_name(f->method));
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
    const uint64_t shared = allocate(d, accumulator);
    for (int i = 0; i < d->config->layers; i++)
        d->layers[i].accumulator = d->layers[i].plan->info.accumulator_page_bytes ? shared : 0;
}

static void open_buffers(device *d)
{
    const size_t heads = (size_t)d->config->heads * (size_t)d->config->head_dim,
                 hidden = (size_t)d->config->hidden;
    const size_t halves = (size_t)d->chunk * (heads > hidden ? heads : hidden), pages = (size_t)d->capacity;
    d->rows = allocate(d, sizeof(uint16_t) * halves);
    d->out = allocate(d, sizeof(uint16_t) * halves);
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
    d->owned = room(3 * (size_t)c->layers + 16, sizeof *d->owned); /* 3 per layer, plus shared ones */
    open_buffers(d);
    open_layers(d, s);
    return &d->interface;
}
