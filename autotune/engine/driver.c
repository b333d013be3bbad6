#include "call.h"
#include "private.h"

#include <stdlib.h>

/* ---------------------------------------------------------------- calls */

/* Sequence i of table t has tail slot (t + 1) * max_batch - 1 - i, so that slots and sequences differ in
 * order. */
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
        entries += driver_pages(d, lengths[i]);
        longest = lengths[i] > longest ? lengths[i] : longest;
    }
    int32_t *indptr = malloc(sizeof *indptr * (size_t)(3 * batch + 1 + entries));
    if (!indptr)
        return XQ_ERROR_MEMORY;
    int32_t *last = indptr + batch + 1, *slots = last + batch, *indices = slots + batch;
    indptr[0] = 0;
    for (int i = 0; i < batch; i++) {
        int64_t pages = driver_pages(d, lengths[i]);
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

static call_cache cache_of(const driver *d, int layer, int table)
{
    const driver_layer *l = &d->layers[layer];
    return (call_cache){
        .plan = l->plan,
        .table = d->tables[table].device,
        .pages = l->pages,
        .weights = l->weights,
        .workspace = d->workspace,
        .workspace_bytes = d->workspace_bytes,
        .accumulator = l->info.accumulator_page_bytes ? d->accumulator : 0,
        .tails = {l->tails, l->tails ? d->tables[table].slots : 0},
    };
}

/* Counts the rows of x for each sequence, from the sequence of each row. */
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

xq_status driver_append_again(driver *d, int layer, int table)
{
    const driver_layer *l = &d->layers[layer];
    const call_cache cache = cache_of(d, layer, table);
    xq_append_args args = call_append(&cache);
    args.tokens = d->appended;
    args.x = d->x;
    args.token_sequence = d->sequence;
    args.token_position = d->position;
    args.append_indptr = l->info.needs_append_indptr ? d->append_indptr : 0;
    return xq_plan_append(l->plan, &args, d->stream);
}

xq_status driver_append(driver *d, int layer, int table, int64_t count, const uint16_t *x,
                        const int32_t *sequence, const int32_t *position)
{
    const driver_layer *l = &d->layers[layer];
    TRY(xq_device_write(d->context, d->x, x, 2 * (size_t)count * (size_t)l->info.hidden_size));
    TRY(xq_device_write(d->context, d->sequence, sequence, 4 * (size_t)count));
    TRY(xq_device_write(d->context, d->position, position, 4 * (size_t)count));
    if (l->info.needs_append_indptr)
        TRY(set_append_indptr(d, table, count, sequence));
    d->appended = count;
    TRY(driver_append_again(d, layer, table));
    return xq_device_synchronize(d->context);
}

xq_status driver_accumulate(driver *d, int layer, int table)
{
    const call_cache cache = cache_of(d, layer, table);
    xq_accumulate_args args = call_accumulate(&cache);
    args.max_tokens = d->tables[table].longest;
    return xq_plan_accumulate(cache.plan, &args, d->stream);
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
    const call_cache cache = cache_of(d, layer, table);
    xq_attend_args args = call_attend(&cache);
    args.max_tokens = d->tables[table].longest;
    args.q = d->q;
    args.out = d->out;
    args.lse = d->lse;
    args.queries = d->rows;
    args.max_queries = d->most_queries;
    args.query_indptr = d->most_queries ? d->query_indptr : 0;
    args.query_position = d->positions ? d->query_position : 0;
    return xq_plan_attend(cache.plan, &args, d->stream);
}

/* ---------------------------------------------------------------- reading results */

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
    const call_cache cache = cache_of(d, layer, table);
    xq_dequantize_args args = call_dequantize(&cache);
    args.table_entries = t->entries;
    xq_status status = driver_poisoned(d, bytes[0], &args.k);
    if (status == XQ_OK)
        status = driver_poisoned(d, bytes[1], &args.v);
    if (status == XQ_OK)
        status = xq_plan_dequantize(l->plan, &args, NULL);
    if (status == XQ_OK)
        status = xq_device_synchronize(d->context);
    if (status == XQ_OK)
        status = xq_device_read(d->context, k, args.k, bytes[0]);
    if (status == XQ_OK && v)
        status = xq_device_read(d->context, v, args.v, bytes[1]);
    driver_release(d, args.k);
    driver_release(d, args.v);
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
