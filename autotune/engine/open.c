/* Opens and closes a driver and its layers. */
#include "../../runtime/base/random.h"
#include "call.h"
#include "private.h"

#include <stdlib.h>
#include <string.h>

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

void driver_release(driver *d, uint64_t pointer)
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
        driver_release(d, shared[i]);
    for (int i = 0; i < d->layer_count; i++) {
        driver_release(d, d->layers[i].pages);
        driver_release(d, d->layers[i].tails);
        driver_release(d, d->layers[i].weights);
    }
    for (int i = 0; d->tables && i < d->size.tables; i++) {
        driver_release(d, d->tables[i].device.indptr);
        driver_release(d, d->tables[i].device.indices);
        driver_release(d, d->tables[i].device.last_page_len);
        driver_release(d, d->tables[i].slots);
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

int64_t driver_pages(const driver *d, int64_t tokens)
{
    int page = d->layers[0].info.page_tokens;
    return (tokens + page - 1) / page;
}

xq_status driver_poisoned(driver *d, size_t bytes, uint64_t *pointer)
{
    if (bytes == 0)
        return XQ_OK;
    TRY(xq_device_alloc(d->context, bytes, pointer));
    return xq_device_fill(d->context, *pointer, 0xff, bytes);
}

static xq_status allocate_table(driver *d, driver_table *t)
{
    size_t batch = (size_t)d->size.max_batch, entries = batch * (size_t)driver_pages(d, d->size.max_tokens);
    TRY(driver_poisoned(d, 4 * (batch + 1), &t->device.indptr));
    TRY(driver_poisoned(d, 4 * (entries ? entries : 1), &t->device.indices));
    TRY(driver_poisoned(d, 4 * batch, &t->device.last_page_len));
    return driver_poisoned(d, 4 * batch, &t->slots);
}

/* Allocates the arrays that all layers share. Their sizes follow from the first layer. */
static xq_status allocate_shared(driver *d, const xq_plan_info *info)
{
    size_t batch = (size_t)d->size.max_batch, tokens = (size_t)d->size.max_append;
    size_t queries = batch * (size_t)d->size.max_queries;
    d->heads = (size_t)info->heads;
    d->head_dim = (size_t)info->head_dim;
    TRY(driver_poisoned(d, 2 * tokens * (size_t)info->hidden_size, &d->x));
    TRY(driver_poisoned(d, 4 * tokens, &d->sequence));
    TRY(driver_poisoned(d, 4 * tokens, &d->position));
    TRY(driver_poisoned(d, 4 * (batch + 1), &d->append_indptr));
    TRY(driver_poisoned(d, 2 * queries * d->heads * d->head_dim, &d->q));
    TRY(driver_poisoned(d, 2 * queries * d->heads * d->head_dim, &d->out));
    TRY(driver_poisoned(d, 4 * queries * d->heads, &d->lse));
    TRY(driver_poisoned(d, 4 * (batch + 1), &d->query_indptr));
    TRY(driver_poisoned(d, 4 * queries, &d->query_position));
    for (int i = 0; i < d->size.tables; i++)
        TRY(allocate_table(d, &d->tables[i]));
    return XQ_OK;
}

/* One workspace serves all layers, because they run one after the other. */
static xq_status grow_workspace(driver *d, size_t bytes)
{
    if (bytes <= d->workspace_bytes)
        return XQ_OK;
    driver_release(d, d->workspace);
    d->workspace = 0;
    d->workspace_bytes = 0;
    TRY(xq_device_alloc(d->context, bytes, &d->workspace));
    d->workspace_bytes = bytes;
    return xq_device_fill(d->context, d->workspace, 0, bytes);
}

/* Finds the plan of an earlier layer with this spec and implementation, or makes a new one. */
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
    TRY(driver_poisoned(d, pages * l->info.page_bytes, &l->pages));
    TRY(driver_poisoned(d, slots * l->info.tail_bytes, &l->tails));
    if (!d->accumulator)
        TRY(driver_poisoned(d, pages * l->info.accumulator_page_bytes, &d->accumulator));
    return call_upload_weights(d->context, l->plan, weights, &l->weights);
}

xq_status driver_change_layer(driver *d, int layer, const char *spec_json, xq_implementation implementation,
                              const xq_weights *weights)
{
    driver_layer *l = &d->layers[layer];
    driver_release(d, l->weights);
    l->weights = 0;
    TRY(find_plan(d, spec_json, implementation, &l->plan));
    TRY(xq_plan_query(l->plan, &l->info));
    TRY(grow_workspace(d, l->info.workspace_bytes));
    return call_upload_weights(d->context, l->plan, weights, &l->weights);
}
