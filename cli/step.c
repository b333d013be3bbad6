#include "step.h"

#include "../autotune/random.h"

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

static xq_status upload_weights(step *s, const struct cli_weights *w)
{
    xq_weights weights = XQ_WEIGHTS_INIT;
    weights.wk = w->wk;
    weights.wv = w->wv;
    weights.uk = w->uk;
    weights.ak = w->ak;
    weights.uv = w->uv;
    weights.av = w->av;
    void *packed = malloc(s->info.weights_bytes + 1);
    if (!packed)
        return XQ_ERROR_MEMORY;
    xq_status status = xq_plan_pack_weights(s->plan, &weights, packed, s->info.weights_bytes);
    if (status == XQ_OK)
        status = xq_device_write(s->context, s->weights, packed, s->info.weights_bytes);
    free(packed);
    return status;
}

static int64_t pages_of(const step *s, int64_t tokens)
{
    return (tokens + s->info.page_tokens - 1) / s->info.page_tokens;
}

static xq_status allocate_tables(step *s, const struct step_size *size)
{
    size_t batch = (size_t)size->max_batch, entries = batch * (size_t)pages_of(s, size->max_tokens);
    s->tables = calloc((size_t)size->tables, sizeof *s->tables);
    if (!s->tables)
        return XQ_ERROR_MEMORY;
    s->table_count = size->tables;
    for (int i = 0; i < size->tables; i++) {
        xq_page_table *t = &s->tables[i].device;
        TRY(xq_device_alloc(s->context, 4 * (batch + 1), &t->indptr));
        TRY(xq_device_alloc(s->context, 4 * (entries ? entries : 1), &t->indices));
        TRY(xq_device_alloc(s->context, 4 * batch, &t->last_page_len));
    }
    return XQ_OK;
}

static xq_status allocate(step *s, const struct step_size *size)
{
    size_t batch = (size_t)size->max_batch, tokens = (size_t)size->max_append;
    size_t width = (size_t)s->info.heads * (size_t)s->info.head_dim;
    const struct {
        uint64_t *pointer;
        size_t bytes;
    } all[] = {
        {&s->pages, (size_t)size->pool_pages * s->info.page_bytes},
        {&s->weights, s->info.weights_bytes},
        {&s->workspace, s->info.workspace_bytes},
        {&s->sequence, 4 * tokens},
        {&s->position, 4 * tokens},
        {&s->x, 2 * tokens * (size_t)s->info.hidden_size},
        {&s->q, 2 * batch * width},
        {&s->out, 2 * batch * width},
        {&s->lse, 4 * batch * (size_t)s->info.heads},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].bytes > 0)
            TRY(xq_device_alloc(s->context, all[i].bytes, all[i].pointer));
    TRY(xq_device_fill(s->context, s->pages, 0xff, all[0].bytes)); /* f16 0xffff is a NaN */
    if (s->info.workspace_bytes > 0)
        TRY(xq_device_fill(s->context, s->workspace, 0, s->info.workspace_bytes));
    return allocate_tables(s, size);
}

xq_status step_open(xq_context *context, const char *spec_json, xq_implementation implementation,
                    const struct step_size *size, const struct cli_weights *weights, uint64_t seed,
                    step *out)
{
    step s = {.context = context, .info = XQ_PLAN_INFO_INIT};
    xq_plan_options options = XQ_PLAN_OPTIONS_INIT;
    options.spec_json = spec_json;
    options.implementation = implementation;
    options.max_batch = size->max_batch;
    options.max_tokens = size->max_tokens;
    options.max_append = size->max_append;
    xq_status status = xq_plan_create(context, &options, &s.plan);
    if (status == XQ_OK)
        status = xq_plan_query(s.plan, &s.info);
    if (status == XQ_OK && !(s.order = shuffled(size->pool_pages, seed)))
        status = XQ_ERROR_MEMORY;
    if (status == XQ_OK)
        status = allocate(&s, size);
    if (status == XQ_OK)
        status = upload_weights(&s, weights);
    if (status == XQ_OK)
        *out = s;
    else
        step_close(&s);
    return status;
}

static void release(const step *s, uint64_t pointer)
{
    if (pointer)
        xq_device_free(s->context, pointer);
}

void step_close(step *s)
{
    const uint64_t all[] = {s->pages, s->weights, s->workspace, s->sequence, s->position,
                            s->x,     s->q,       s->out,       s->lse};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(s, all[i]);
    for (int i = 0; i < s->table_count; i++) {
        release(s, s->tables[i].device.indptr);
        release(s, s->tables[i].device.indices);
        release(s, s->tables[i].device.last_page_len);
    }
    free(s->tables);
    if (s->plan)
        xq_plan_destroy(s->plan);
    free(s->order);
    *s = (step){0};
}

/* ---------------------------------------------------------------- working */

xq_status step_set_table(step *s, int table, int batch, const int64_t *lengths, const int64_t *first)
{
    struct step_table *t = &s->tables[table];
    int64_t entries = 0, longest = 0;
    for (int i = 0; i < batch; i++) {
        entries += pages_of(s, lengths[i]);
        longest = lengths[i] > longest ? lengths[i] : longest;
    }
    int32_t *indptr = malloc(sizeof *indptr * (size_t)(2 * batch + 1 + entries));
    if (!indptr)
        return XQ_ERROR_MEMORY;
    int32_t *last = indptr + batch + 1, *indices = last + batch;
    indptr[0] = 0;
    for (int i = 0; i < batch; i++) {
        int64_t pages = pages_of(s, lengths[i]);
        indptr[i + 1] = indptr[i] + (int32_t)pages;
        last[i] = pages ? (int32_t)(lengths[i] - (pages - 1) * s->info.page_tokens) : 0;
        for (int64_t p = 0; p < pages; p++)
            indices[indptr[i] + p] = s->order[first[i] + p];
    }
    t->device.batch = batch;
    t->entries = entries;
    t->longest = longest;
    xq_status status = xq_device_write(s->context, t->device.indptr, indptr, 4 * (size_t)(batch + 1));
    if (status == XQ_OK && entries > 0)
        status = xq_device_write(s->context, t->device.indices, indices, 4 * (size_t)entries);
    if (status == XQ_OK)
        status = xq_device_write(s->context, t->device.last_page_len, last, 4 * (size_t)batch);
    free(indptr);
    return status;
}

xq_status step_append(step *s, int table, int64_t count, const uint16_t *x, const int32_t *sequence,
                      const int32_t *position)
{
    xq_append_args args = XQ_APPEND_ARGS_INIT;
    TRY(xq_device_write(s->context, s->x, x, 2 * (size_t)count * (size_t)s->info.hidden_size));
    TRY(xq_device_write(s->context, s->sequence, sequence, 4 * (size_t)count));
    TRY(xq_device_write(s->context, s->position, position, 4 * (size_t)count));
    args.tokens = count;
    args.x = s->x;
    args.token_sequence = s->sequence;
    args.token_position = s->position;
    args.table = s->tables[table].device;
    args.pages = s->pages;
    args.weights = s->weights;
    args.workspace = s->workspace;
    args.workspace_bytes = s->info.workspace_bytes;
    TRY(xq_plan_append(s->plan, &args, NULL));
    return xq_device_synchronize(s->context);
}

xq_status step_set_queries(step *s, int batch, const uint16_t *q)
{
    size_t rows = (size_t)batch * (size_t)s->info.heads, bytes = 2 * rows * (size_t)s->info.head_dim;
    TRY(xq_device_write(s->context, s->q, q, bytes));
    TRY(xq_device_fill(s->context, s->out, 0xff, bytes));
    return xq_device_fill(s->context, s->lse, 0xff, 4 * rows);
}

xq_status step_attend(step *s, int table)
{
    xq_attend_args args = XQ_ATTEND_ARGS_INIT;
    args.max_tokens = s->tables[table].longest;
    args.q = s->q;
    args.out = s->out;
    args.lse = s->lse;
    args.table = s->tables[table].device;
    args.pages = s->pages;
    args.weights = s->weights;
    args.workspace = s->workspace;
    args.workspace_bytes = s->info.workspace_bytes;
    return xq_plan_attend(s->plan, &args, NULL);
}

xq_status step_results(step *s, int batch, uint16_t *out, float *lse)
{
    size_t rows = (size_t)batch * (size_t)s->info.heads;
    TRY(xq_device_synchronize(s->context));
    TRY(xq_device_read(s->context, out, s->out, 2 * rows * (size_t)s->info.head_dim));
    return xq_device_read(s->context, lse, s->lse, 4 * rows);
}

xq_status step_read_page(step *s, int64_t number, void *page)
{
    return xq_device_read(s->context, page, s->pages + (uint64_t)s->order[number] * s->info.page_bytes,
                          s->info.page_bytes);
}
