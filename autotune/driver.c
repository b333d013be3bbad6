#include "driver.h"

#include "random.h"

#include <stdlib.h>
#include <string.h>

#define TRY(call)                                                                                          \
    do {                                                                                                   \
        xq_status try_status = (call);                                                                     \
        if (try_status != XQ_OK)                                                                           \
            return try_status;                                                                             \
    } while (0)

/* ---------------------------------------------------------------- opening */

/* A permutation of 0 .. count-1. */
static int32_t *shuffled(int64_t count, uint64_t seed)
{
    int32_t *order = malloc(sizeof *order * (size_t)(count + 1));
    random_stream random = random_begin(seed, 0);
    for (int64_t i = 0; order && i < count; i++)
        order[i] = (int32_t)i;
    if (order)
        random_shuffle(&random, order, (size_t)count);
    return order;
}

xq_status driver_open(xq_context *context, const driver_size *size, uint64_t seed, driver *out)
{
    driver d = {.context = context, .size = *size};
    if (d.size.max_queries < 1)
        d.size.max_queries = 1;
    d.order = shuffled(size->pool_pages, seed);
    d.tables = calloc((size_t)size->tables, sizeof *d.tables);
    if (!d.order || !d.tables) {
        free(d.order);
        free(d.tables);
        return XQ_ERROR_MEMORY;
    }
    *out = d;
    return XQ_OK;
}

static void release(driver *d, uint64_t pointer)
{
    if (pointer)
        xq_device_free(d->context, pointer);
}

void driver_close(driver *d)
{
    const uint64_t shared[] = {d->accumulator,   d->workspace, d->x,   d->sequence, d->position,
                               d->append_indptr, d->q,         d->out, d->lse,      d->query_indptr,
                               d->query_position};
    if (!d->context)
        return;
    xq_device_synchronize(d->context);
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++)
        release(d, shared[i]);
    for (int i = 0; i < d->layer_count; i++) {
        release(d, d->layers[i].pages);
        release(d, d->layers[i].tails);
        release(d, d->layers[i].weights);
    }
    for (int i = 0; d->tables && i < d->size.tables; i++) {
        release(d, d->tables[i].device.indptr);
        release(d, d->tables[i].device.indices);
        release(d, d->tables[i].device.last_page_len);
        release(d, d->tables[i].slots);
    }
    for (int i = 0; i < d->plan_count; i++) {
        xq_plan_destroy(d->plans[i].plan);
        free(d->plans[i].spec);
    }
    free(d->plans);
    free(d->layers);
    free(d->tables);
    free(d->order);
    *d = (driver){0};
}

/* --------------------------------------------------------------- a layer */

static int64_t pages_of(const driver *d, int64_t tokens)
{
    int page = d->layers[0].info.page_tokens;
    return (tokens + page - 1) / page;
}

/* Device memory full of NaN, whichever type reads it. */
static xq_status poisoned(driver *d, size_t bytes, uint64_t *pointer)
{
    if (bytes == 0)
        return XQ_OK;
    TRY(xq_device_alloc(d->context, bytes, pointer));
    return xq_device_fill(d->context, *pointer, 0xff, bytes);
}

static xq_status allocate_table(driver *d, driver_table *t)
{
    size_t batch = (size_t)d->size.max_batch, entries = batch * (size_t)pages_of(d, d->size.max_tokens);
    TRY(poisoned(d, 4 * (batch + 1), &t->device.indptr));
    TRY(poisoned(d, 4 * (entries ? entries : 1), &t->device.indices));
    TRY(poisoned(d, 4 * batch, &t->device.last_page_len));
    return poisoned(d, 4 * batch, &t->slots);
}

/* What all layers share; sizes are those of the first. */
static xq_status allocate_shared(driver *d, const xq_plan_info *info)
{
    size_t batch = (size_t)d->size.max_batch, tokens = (size_t)d->size.max_append;
    size_t queries = batch * (size_t)d->size.max_queries;
    d->heads = (size_t)info->heads;
    d->head_dim = (size_t)info->head_dim;
    TRY(poisoned(d, 2 * tokens * (size_t)info->hidden_size, &d->x));
    TRY(poisoned(d, 4 * tokens, &d->sequence));
    TRY(poisoned(d, 4 * tokens, &d->position));
    TRY(poisoned(d, 4 * (batch + 1), &d->append_indptr));
    TRY(poisoned(d, 2 * queries * d->heads * d->head_dim, &d->q));
    TRY(poisoned(d, 2 * queries * d->heads * d->head_dim, &d->out));
    TRY(poisoned(d, 4 * queries * d->heads, &d->lse));
    TRY(poisoned(d, 4 * (batch + 1), &d->query_indptr));
    TRY(poisoned(d, 4 * queries, &d->query_position));
    for (int i = 0; i < d->size.tables; i++)
        TRY(allocate_table(d, &d->tables[i]));
    return XQ_OK;
}

/* One workspace serves all layers, one after the other. */
static xq_status grow_workspace(driver *d, size_t bytes)
{
    if (bytes <= d->workspace_bytes)
        return XQ_OK;
    release(d, d->workspace);
    d->workspace = 0;
    d->workspace_bytes = 0;
    TRY(xq_device_alloc(d->context, bytes, &d->workspace));
    d->workspace_bytes = bytes;
    return xq_device_fill(d->context, d->workspace, 0, bytes);
}

static xq_status upload_weights(driver *d, driver_layer *l, const xq_weights *weights)
{
    void *packed = malloc(l->info.weights_bytes + 1);
    if (!packed)
        return XQ_ERROR_MEMORY;
    xq_status status = xq_plan_pack_weights(l->plan, weights, packed, l->info.weights_bytes);
    if (status == XQ_OK)
        status = xq_device_alloc(d->context, l->info.weights_bytes, &l->weights);
    if (status == XQ_OK)
        status = xq_device_write(d->context, l->weights, packed, l->info.weights_bytes);
    free(packed);
    return status;
}

/* The plan of an earlier layer with this spec, or a new one. */
static xq_status find_plan(driver *d, const char *spec_json, xq_implementation implementation,
                           xq_plan **plan)
{
    for (int i = 0; i < d->plan_count; i++)
        if (d->plans[i].implementation == implementation && strcmp(d->plans[i].spec, spec_json) == 0) {
            *plan = d->plans[i].plan;
            return XQ_OK;
        }
    driver_plan *plans = realloc(d->plans, sizeof *plans * (size_t)(d->plan_count + 1));
    if (!plans)
        return XQ_ERROR_MEMORY;
    d->plans = plans;
    driver_plan new = {strdup(spec_json), implementation, NULL};
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = spec_json;
    options.implementation = implementation;
    options.max_batch = d->size.max_batch;
    options.max_tokens = d->size.max_tokens;
    options.max_append = d->size.max_append;
    options.max_queries = d->size.max_queries;
    xq_status status = new.spec ? xq_plan_create(d->context, &options, &new.plan) : XQ_ERROR_MEMORY;
    if (status != XQ_OK) {
        free(new.spec);
        return status;
    }
    d->plans[d->plan_count++] = new;
    *plan = new.plan;
    return XQ_OK;
}

xq_status driver_add_layer(driver *d, const char *spec_json, xq_implementation implementation,
                           const xq_weights *weights)
{
    driver_layer *layers = realloc(d->layers, sizeof *layers * (size_t)(d->layer_count + 1));
    if (!layers)
        return XQ_ERROR_MEMORY;
    d->layers = layers;
    driver_layer *l = &layers[d->layer_count];
    *l = (driver_layer){.info = XQ_PLAN_INFO_INIT};
    TRY(find_plan(d, spec_json, implementation, &l->plan));
    TRY(xq_plan_query(l->plan, &l->info));
    d->layer_count++;
    if (!d->x)
        TRY(allocate_shared(d, &l->info));
    TRY(grow_workspace(d, l->info.workspace_bytes));
    size_t pages = (size_t)d->size.pool_pages, slots = (size_t)d->size.tables * (size_t)d->size.max_batch;
    TRY(poisoned(d, pages * l->info.page_bytes, &l->pages));
    TRY(poisoned(d, slots * l->info.tail_bytes, &l->tails));
    if (!d->accumulator)
        TRY(poisoned(d, pages * l->info.accumulator_page_bytes, &d->accumulator));
    return upload_weights(d, l, weights);
}

/* ---------------------------------------------------------------- working */

/* Sequence i of table t has the tail (t + 1) * max_batch - 1 - i: in another order than the sequences. */
static int32_t slot_of(const driver *d, int table, int sequence)
{
    return (table + 1) * d->size.max_batch - 1 - sequence;
}

xq_status driver_set_table(driver *d, int table, int batch, const int64_t *lengths, const int64_t *first)
{
    driver_table *t = &d->tables[table];
    int page_tokens = d->layers[0].info.page_tokens;
    int64_t entries = 0, longest = 0;
    for (int i = 0; i < batch; i++) {
        entries += pages_of(d, lengths[i]);
        longest = lengths[i] > longest ? lengths[i] : longest;
    }
    int32_t *indptr = malloc(sizeof *indptr * (size_t)(3 * batch + 1 + entries));
    if (!indptr)
        return XQ_ERROR_MEMORY;
    int32_t *last = indptr + batch + 1, *slots = last + batch, *indices = slots + batch;
    indptr[0] = 0;
    for (int i = 0; i < batch; i++) {
        int64_t pages = pages_of(d, lengths[i]);
        indptr[i + 1] = indptr[i] + (int32_t)pages;
        last[i] = pages ? (int32_t)(lengths[i] - (pages - 1) * page_tokens) : 0;
        slots[i] = slot_of(d, table, i);
        for (int64_t p = 0; p < pages; p++)
            indices[indptr[i] + p] = d->order[first[i] + p];
    }
    t->device.batch = batch;
    t->entries = entries;
    t->longest = longest;
    xq_status status = xq_device_write(d->context, t->device.indptr, indptr, 4 * (size_t)(batch + 1));
    if (status == XQ_OK && entries > 0)
        status = xq_device_write(d->context, t->device.indices, indices, 4 * (size_t)entries);
    if (status == XQ_OK)
        status = xq_device_write(d->context, t->device.last_page_len, last, 4 * (size_t)batch);
    if (status == XQ_OK)
        status = xq_device_write(d->context, t->slots, slots, 4 * (size_t)batch);
    free(indptr);
    return status;
}

static xq_tail_pool tails_of(const driver *d, int layer, int table)
{
    return (xq_tail_pool){d->layers[layer].tails, d->layers[layer].tails ? d->tables[table].slots : 0};
}

/* The accumulator where the layer's plan has one. */
static uint64_t accumulator_of(const driver *d, int layer)
{
    return d->layers[layer].info.accumulator_page_bytes ? d->accumulator : 0;
}

/* Rows of x of each sequence, from the sequences of the rows. */
static xq_status set_append_indptr(driver *d, int table, int64_t count, const int32_t *sequence)
{
    int batch = d->tables[table].device.batch;
    int32_t *indptr = calloc((size_t)batch + 1, sizeof *indptr);
    if (!indptr)
        return XQ_ERROR_MEMORY;
    for (int64_t i = 0; i < count; i++)
        indptr[sequence[i] + 1]++;
    for (int i = 0; i < batch; i++)
        indptr[i + 1] += indptr[i];
    xq_status status = xq_device_write(d->context, d->append_indptr, indptr, 4 * (size_t)(batch + 1));
    free(indptr);
    return status;
}

xq_status driver_append(driver *d, int layer, int table, int64_t count, const uint16_t *x,
                        const int32_t *sequence, const int32_t *position)
{
    const driver_layer *l = &d->layers[layer];
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    TRY(xq_device_write(d->context, d->x, x, 2 * (size_t)count * (size_t)l->info.hidden_size));
    TRY(xq_device_write(d->context, d->sequence, sequence, 4 * (size_t)count));
    TRY(xq_device_write(d->context, d->position, position, 4 * (size_t)count));
    if (l->info.needs_append_indptr)
        TRY(set_append_indptr(d, table, count, sequence));
    args.tokens = count;
    args.x = d->x;
    args.token_sequence = d->sequence;
    args.token_position = d->position;
    args.table = d->tables[table].device;
    args.pages = l->pages;
    args.weights = l->weights;
    args.workspace = d->workspace;
    args.workspace_bytes = d->workspace_bytes;
    args.append_indptr = l->info.needs_append_indptr ? d->append_indptr : 0;
    args.tails = tails_of(d, layer, table);
    args.accumulator = accumulator_of(d, layer);
    TRY(xq_plan_append(l->plan, &args, NULL));
    return xq_device_synchronize(d->context);
}

xq_status driver_accumulate(driver *d, int layer, int table)
{
    const driver_layer *l = &d->layers[layer];
    xq_accumulate_args args = XQ_ACCUMULATE_ARGS_INIT;
    args.max_tokens = d->tables[table].longest;
    args.table = d->tables[table].device;
    args.pages = l->pages;
    args.weights = l->weights;
    args.tails = tails_of(d, layer, table);
    args.accumulator = d->accumulator;
    return xq_plan_accumulate(l->plan, &args, NULL);
}

xq_status driver_set_queries(driver *d, int batch, const driver_queries *queries)
{
    size_t rows = (size_t)queries->count * d->heads, bytes = 2 * rows * d->head_dim;
    const int32_t *indptr = queries->indptr;
    d->rows = queries->count;
    d->positions = queries->position != NULL;
    d->most_queries = 0;
    for (int i = 0; indptr && i < batch; i++)
        d->most_queries =
            indptr[i + 1] - indptr[i] > d->most_queries ? indptr[i + 1] - indptr[i] : d->most_queries;
    if (indptr)
        TRY(xq_device_write(d->context, d->query_indptr, indptr, 4 * (size_t)(batch + 1)));
    if (queries->position)
        TRY(xq_device_write(d->context, d->query_position, queries->position, 4 * (size_t)queries->count));
    TRY(xq_device_write(d->context, d->q, queries->q, bytes));
    TRY(xq_device_fill(d->context, d->out, 0xff, bytes));
    return xq_device_fill(d->context, d->lse, 0xff, 4 * rows);
}

xq_status driver_attend(driver *d, int layer, int table)
{
    const driver_layer *l = &d->layers[layer];
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = d->tables[table].longest;
    args.q = d->q;
    args.out = d->out;
    args.lse = d->lse;
    args.table = d->tables[table].device;
    args.pages = l->pages;
    args.weights = l->weights;
    args.workspace = d->workspace;
    args.workspace_bytes = d->workspace_bytes;
    args.queries = d->rows;
    args.max_queries = d->most_queries;
    args.query_indptr = d->most_queries ? d->query_indptr : 0;
    args.query_position = d->positions ? d->query_position : 0;
    args.tails = accumulator_of(d, layer) ? (xq_tail_pool){0} : tails_of(d, layer, table);
    args.accumulator = accumulator_of(d, layer);
    return xq_plan_attend(l->plan, &args, NULL);
}

/* ---------------------------------------------------------------- looking */

xq_status driver_results(driver *d, uint16_t *out, float *lse)
{
    size_t count = (size_t)d->rows;
    TRY(xq_device_synchronize(d->context));
    TRY(xq_device_read(d->context, out, d->out, 2 * count * d->heads * d->head_dim));
    return xq_device_read(d->context, lse, d->lse, 4 * count * d->heads);
}

xq_status driver_dequantize(driver *d, int layer, int table, uint16_t *k, uint16_t *v)
{
    const driver_layer *l = &d->layers[layer];
    const driver_table *t = &d->tables[table];
    size_t rows = (size_t)t->entries * (size_t)l->info.page_tokens;
    size_t bytes[2] = {2 * rows * (size_t)l->info.rank_k, v ? 2 * rows * (size_t)l->info.rank_v : 0};
    xq_dequantize_args args = XQ_DEQUANTIZE_ARGS_INIT;
    args.table_entries = t->entries;
    args.table = t->device;
    args.pages = l->pages;
    args.tails = tails_of(d, layer, table);
    args.accumulator = accumulator_of(d, layer);
    xq_status status = poisoned(d, bytes[0], &args.k);
    if (status == XQ_OK)
        status = poisoned(d, bytes[1], &args.v);
    if (status == XQ_OK)
        status = xq_plan_dequantize(l->plan, &args, NULL);
    if (status == XQ_OK)
        status = xq_device_synchronize(d->context);
    if (status == XQ_OK)
        status = xq_device_read(d->context, k, args.k, bytes[0]);
    if (status == XQ_OK && v)
        status = xq_device_read(d->context, v, args.v, bytes[1]);
    release(d, args.k);
    release(d, args.v);
    return status;
}

xq_status driver_read_page(driver *d, int layer, int64_t number, void *page)
{
    const driver_layer *l = &d->layers[layer];
    return xq_device_read(d->context, page, l->pages + (uint64_t)d->order[number] * l->info.page_bytes,
                          l->info.page_bytes);
}

xq_status driver_read_accumulator(driver *d, int layer, int64_t number, void *page)
{
    size_t bytes = d->layers[layer].info.accumulator_page_bytes;
    return xq_device_read(d->context, page, d->accumulator + (uint64_t)d->order[number] * bytes, bytes);
}

xq_status driver_read_tail(driver *d, int layer, int table, int sequence, void *tail)
{
    const driver_layer *l = &d->layers[layer];
    return xq_device_read(d->context, tail,
                          l->tails + (uint64_t)slot_of(d, table, sequence) * l->info.tail_bytes,
                          l->info.tail_bytes);
}
