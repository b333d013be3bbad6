#include "compare_check.h"

#include "../autotune/engine/cache.h"
#include "../autotune/reference/seen.h"
#include "../runtime/base/e4m3.h"
#include "../runtime/base/half.h"
#include "../runtime/launch/last_error.h"
#include "../runtime/launch/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a reference");
}

static double *doubles(const float *values, size_t count)
{
    double *out = malloc(sizeof *out * (count + 1));
    for (size_t i = 0; out && i < count; i++)
        out[i] = values[i];
    return out;
}

/* Converts 16-bit values of the spec's dtype. */
static void widen(const struct compare_task *task, double *out, const uint16_t *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = task->traits.bfloat ? half_from_bfloat(values[i]) : half_to_float(values[i]);
}

/* ------------------------------------------------------------------ a layer */

/* A layer in the form that the reference takes. It owns all arrays that it points to. */
struct layer_doubles {
    reference_layer layer;
    double *wk, *wv, *vectors[4];
};

static void layer_doubles_free(struct layer_doubles *l)
{
    free(l->wk);
    free(l->wv);
    for (int i = 0; i < 4; i++)
        free(l->vectors[i]);
}

static bool add_vectors(struct layer_doubles *l, const layer_shape *s, const layer_weights *w)
{
    const float *from[4] = {w->bk, w->bv, w->k_norm, w->sinks};
    const size_t counts[4] = {(size_t)s->kv_width, (size_t)s->kv_width, (size_t)s->k_norm,
                              (size_t)s->heads};
    bool ok = true;
    for (int i = 0; i < 4; i++)
        if (from[i]) {
            l->vectors[i] = doubles(from[i], counts[i]);
            ok &= l->vectors[i] != NULL;
        }
    l->layer.bk = l->vectors[0];
    l->layer.bv = l->vectors[1];
    l->layer.k_norm = l->vectors[2];
    l->layer.sinks = l->vectors[3];
    return ok;
}

/* The first of the pages that were handed out to a sequence. */
static int64_t first_page(const struct compare_task *task, int b)
{
    return b * ((task->layer->tokens + task->traits.page - 1) / task->traits.page);
}

static reference_queries queries_of(const struct compare_task *task, const double *q)
{
    return (reference_queries){.count = task->layer->queries, .q = q};
}

static size_t query_values(const struct compare_task *task) /* values in the queries of one sequence */
{
    return (size_t)task->layer->queries * (size_t)task->traits.shape.heads *
           (size_t)task->traits.shape.head_dim;
}

/* Attends with keys k, and with values that are projections of xv by layer->wv. With few queries the rows
 * of xv are weighted before the projection, because projecting all values would be the larger product. */
static xq_status attend_projected(const struct compare_task *task, const reference_layer *layer,
                                  const double *k, const double *xv, const reference_queries *queries,
                                  double *out, double *lse, error *err)
{
    const reference_model *m = &task->reference;
    const int64_t tokens = task->layer->tokens;
    const int width = m->kv_heads * m->head_dim;
    if (queries->count * m->heads < width)
        return reference_attend_rows(m, layer, tokens, k, xv, queries, out, lse, err);
    double *v = malloc(sizeof *v * (size_t)tokens * (size_t)width);
    if (!v)
        no_memory(err);
    else if (reference_values(m, layer, tokens, xv, v, err) == XQ_OK)
        reference_attend_queries(m, layer, tokens, k, v, queries, out, lse, err);
    free(v);
    return err->status;
}

/* Computes keys [tokens, dkv] from rows xk, with token t at position t; caller frees. NULL after an
 * error. */
static double *keys_of(const struct compare_task *task, const reference_layer *layer, const double *xk,
                       error *err)
{
    const int64_t tokens = task->layer->tokens;
    double *k = malloc(sizeof *k * (size_t)tokens * (size_t)task->traits.shape.kv_width);
    int64_t *positions = malloc(sizeof *positions * (size_t)tokens);
    for (int64_t t = 0; positions && t < tokens; t++)
        positions[t] = t;
    if (!k || !positions)
        no_memory(err);
    else
        reference_keys(&task->reference, layer, tokens, xk, positions, k, err);
    free(positions);
    if (err->status == XQ_OK)
        return k;
    free(k);
    return NULL;
}

/* -------------------------------------------------------- exact attention */

static xq_status exact_sequence(const struct compare_task *task, const reference_layer *layer, int b,
                                double *out, error *err)
{
    size_t x_count = (size_t)task->layer->tokens * (size_t)task->traits.shape.hidden_size;
    size_t values = query_values(task), lses = (size_t)task->layer->queries * (size_t)task->reference.heads;
    double *x = doubles(task->layer->x + (size_t)b * x_count, x_count), *k = NULL;
    double *q = doubles(task->layer->q + (size_t)b * values, values), *lse = malloc(sizeof *lse * lses);
    const reference_queries queries = queries_of(task, q);
    if (!x || !q || !lse)
        no_memory(err);
    else if ((k = keys_of(task, layer, x, err)))
        attend_projected(task, layer, k, x, &queries, out, lse, err);
    free(x);
    free(k);
    free(q);
    free(lse);
    return err->status;
}

xq_status compare_exact(const struct compare_task *task, double **exact, error *err)
{
    const layer_shape *s = &task->traits.shape;
    const layer_weights *w = &task->layer->weights;
    size_t count = (size_t)s->hidden_size * (size_t)s->kv_width;
    struct layer_doubles l = {
        .layer = {.inner_k = s->hidden_size, .inner_v = s->hidden_size, .latents_k = 1, .latents_v = 1},
        .wk = doubles(w->wk, count),
        .wv = doubles(w->wv, count)};
    double *out = malloc(sizeof *out * (size_t)task->layer->distinct * query_values(task));
    l.layer.wk = l.wk;
    l.layer.wv = l.wv;
    if (!add_vectors(&l, s, w) || !l.wk || !l.wv || !out)
        no_memory(err);
    for (int b = 0; b < task->layer->distinct && err->status == XQ_OK; b++)
        exact_sequence(task, &l.layer, b, out + (size_t)b * query_values(task), err);
    layer_doubles_free(&l);
    if (err->status == XQ_OK)
        *exact = out;
    else
        free(out);
    return err->status;
}

/* ----------------------------------------------- reference on the same cache */

/* Wk or Wv as the kernels see it, with rows of zeros for the padding of a latent. */
static double *seen(const struct compare_task *task, const xq_plan *plan, const char *source,
                    const float *w, int rows, int stored, error *err)
{
    size_t dkv = (size_t)task->traits.shape.kv_width;
    double *out = calloc((size_t)stored * dkv, sizeof *out);
    if (!out)
        no_memory(err);
    else
        seen_matrix(xq_plan_spec(plan), plan->implementation, source, w, (size_t)rows, dkv, out, NULL, err);
    return out;
}

/* Holds one matrix at a time, because matrices in double precision are the largest arrays here. */
static xq_status attend_decoded(const struct compare_task *task, const xq_plan *plan,
                                const page_codec *codec, const page_sequence *cached,
                                const reference_queries *queries, double *out, double *lse, error *err)
{
    bool factored = layer_is_factored(&task->traits.shape);
    int last = codec->streams - 1;
    const page_stream *k = &codec->stream[0], *v = &codec->stream[last];
    struct layer_doubles l = {.layer = {.inner_k = k->latent_width,
                                        .inner_v = v->latent_width,
                                        .latents_k = k->latents,
                                        .latents_v = v->latents}};
    const layer_weights *w = &task->layer->weights;
    bool ok = add_vectors(&l, &task->traits.shape, w);
    size_t width = (size_t)(k->width > v->width ? k->width : v->width);
    double *x = malloc(sizeof *x * (size_t)cached->length * width), *keys = NULL;
    if (!ok || !x)
        no_memory(err);
    else
        l.layer.wk = l.wk = seen(task, plan, factored ? "ak" : "wk", factored ? w->ak : w->wk, k->rank,
                                 k->latent_width, err);
    if (err->status == XQ_OK) {
        driver_decode(codec, 0, cached, x);
        keys = keys_of(task, &l.layer, x, err);
    }
    free(l.wk);
    l.layer.wk = l.wk = NULL;
    if (err->status == XQ_OK)
        l.layer.wv = l.wv = seen(task, plan, factored ? "av" : "wv", factored ? w->av : w->wv, v->rank,
                                 v->latent_width, err);
    if (err->status == XQ_OK) {
        driver_decode(codec, last, cached, x);
        attend_projected(task, &l.layer, keys, x, queries, out, lse, err);
    }
    free(x);
    free(keys);
    layer_doubles_free(&l);
    return err->status;
}

static xq_status attend_quantized(const struct compare_task *task, driver *d, const page_sequence *cached,
                                  const reference_queries *queries, double *out, double *lse, error *err)
{
    const xq_plan *plan = d->layers[d->layer_count - 1].plan;
    bool cross = layer_is_cross(&task->traits.shape);
    page_codec *codec = NULL;
    if ((cross ? page_codec_create_accumulator : page_codec_create)(task->generator, xq_plan_spec(plan),
                                                                    &codec, err) == XQ_OK &&
        codec)
        attend_decoded(task, plan, codec, cached, queries, out, lse, err);
    page_codec_destroy(codec);
    return err->status;
}

/* Reads the current cache of a sequence, or its accumulator for a cross-layer method. */
static xq_status read_cache(const struct compare_task *task, driver *d, int b, int64_t first,
                            struct compare_cached *out, error *err)
{
    const int layer = d->layer_count - 1;
    const xq_plan_info *info = &d->layers[layer].info;
    const int64_t tokens = task->layer->tokens;
    const size_t pages = (size_t)((tokens + info->page_tokens - 1) / info->page_tokens);
    const bool cross = layer_is_cross(&task->traits.shape);
    xq_status status = cross ? driver_read_accumulated(d, layer, first, tokens, &out->cache)
                             : driver_read_cache(d, layer, 0, b, first, tokens, &out->cache);
    out->pages_bytes = pages * (cross ? info->accumulator_page_bytes : info->page_bytes);
    out->tail_bytes = cross ? 0 : info->tail_bytes;
    out->outs = query_values(task);
    out->lses = (size_t)task->layer->queries * (size_t)task->traits.shape.heads;
    return status == XQ_OK ? XQ_OK : last_error_read(task->context, status, err);
}

/* Reads elements of a page of the last layer's keys or values, from number `first` on. */
static void read_elements(const struct compare_task *task, const driver *d, const void *page, size_t first,
                          float scale, double *out, size_t count)
{
    if (d->layers[d->layer_count - 1].info.implementation == XQ_FP16_KV)
        widen(task, out, (const uint16_t *)page + first, count);
    else
        for (size_t i = 0; i < count; i++)
            out[i] = (double)e4m3_decode(((const uint8_t *)page)[first + i]) * (double)scale;
}

/* Reads a KV cache, whose pages hold [2, page, Hkv, dh], into k, v [tokens, dkv]. */
static xq_status read_kv_pages(const struct compare_task *task, driver *d, int64_t first, double *k,
                               double *v, error *err)
{
    const xq_plan_info *info = &d->layers[d->layer_count - 1].info;
    size_t width = (size_t)task->traits.shape.kv_width, per_page = (size_t)info->page_tokens;
    size_t tokens = (size_t)task->layer->tokens;
    const struct compare_scales none = {0}, *scales = task->scales ? task->scales : &none;
    void *page = malloc(info->page_bytes);
    if (!page)
        return no_memory(err);
    for (size_t t = 0; t < tokens && err->status == XQ_OK; t += per_page) {
        size_t rows = tokens - t < per_page ? tokens - t : per_page;
        xq_status status = driver_read_page(d, d->layer_count - 1, first + (int64_t)(t / per_page), page);
        if (status != XQ_OK) {
            last_error_read(task->context, status, err);
            break;
        }
        read_elements(task, d, page, 0, scales->k, k + t * width, rows * width);
        read_elements(task, d, page, per_page * width, scales->v, v + t * width, rows * width);
    }
    free(page);
    return err->status;
}

/* The largest magnitude; NaN and infinity, which no scale serves, are left out. */
static double largest(const double *values, size_t count, double most)
{
    for (size_t i = 0; i < count; i++)
        if (isfinite(values[i]))
            most = fmax(most, fabs(values[i]));
    return most;
}

/* The scale with which the code of 448 stands for `most`. Where `most` is zero, or so small that the scale
 * would be below 1e-30, the scale is 1. */
static float scale_of(double most)
{
    const float scale = (float)(most / (double)E4M3_LARGEST);
    return scale >= 1e-30f ? scale : 1;
}

xq_status compare_find_scales(const struct compare_task *task, driver *d, struct compare_scales *scales,
                              error *err)
{
    const size_t width = (size_t)task->traits.shape.kv_width, most = (size_t)task->layer->tokens * width;
    double *k = malloc(sizeof *k * most), *v = malloc(sizeof *v * most), most_k = 0, most_v = 0;
    if (!k || !v)
        no_memory(err);
    for (int b = 0; b < task->layer->distinct && err->status == XQ_OK; b++) {
        struct compare_layer layer = *task->layer;
        struct compare_task own = *task;
        layer.tokens = compare_length(task->layer, b);
        own.layer = &layer;
        if (read_kv_pages(&own, d, first_page(task, b), k, v, err) == XQ_OK) {
            most_k = largest(k, (size_t)layer.tokens * width, most_k);
            most_v = largest(v, (size_t)layer.tokens * width, most_v);
        }
    }
    free(k);
    free(v);
    if (err->status == XQ_OK)
        *scales = (struct compare_scales){true, scale_of(most_k), scale_of(most_v)};
    return err->status;
}

static xq_status attend_kv(const struct compare_task *task, driver *d, int64_t first,
                           const reference_queries *queries, double *out, double *lse, error *err)
{
    const struct compare_layer *layer = task->layer;
    size_t count = (size_t)layer->tokens * (size_t)task->traits.shape.kv_width;
    double *k = malloc(sizeof *k * count), *v = malloc(sizeof *v * count), *sinks = NULL;
    if (layer->weights.sinks)
        sinks = doubles(layer->weights.sinks, (size_t)task->traits.shape.heads);
    const reference_layer vectors = {.sinks = sinks};
    if (!k || !v || (layer->weights.sinks && !sinks))
        no_memory(err);
    else if (read_kv_pages(task, d, first, k, v, err) == XQ_OK)
        reference_attend_queries(&task->reference, &vectors, layer->tokens, k, v, queries, out, lse, err);
    free(k);
    free(v);
    free(sinks);
    return err->status;
}

/* Computes the results of one sequence from its cache. `cached` is a copy of the cache where it is
 * quantized. */
static xq_status compute(const struct compare_task *task, driver *d, const page_sequence *cached, int b,
                         int64_t first, double *out, double *lse, error *err)
{
    size_t values = query_values(task);
    double *q = malloc(sizeof *q * values);
    const reference_queries queries = queries_of(task, q);
    if (!q)
        return no_memory(err);
    widen(task, q, task->layer->q16 + (size_t)(b % task->layer->texts) * values, values);
    if (cached->pool)
        attend_quantized(task, d, cached, &queries, out, lse, err);
    else
        attend_kv(task, d, first, &queries, out, lse, err);
    free(q);
    return err->status;
}

/* The expected results of one sequence over the contents of its cache: out [queries, H, dh], lse [queries,
 * H]. */
static xq_status expect(const struct compare_task *batch, driver *d, xq_implementation implementation,
                        int b, double *out, double *lse, error *err)
{
    const xq_plan *plan = d->layers[d->layer_count - 1].plan;
    int64_t first = first_page(batch, b);
    struct compare_cached cached = {0};
    struct compare_layer layer = *batch->layer;
    struct compare_task task = *batch;
    layer.tokens = compare_length(batch->layer, b);
    task.layer = &layer;
    if (shape_is_kv(implementation))
        return compute(&task, d, &cached.cache, b, first, out, lse, err);
    if (read_cache(&task, d, b, first, &cached, err) == XQ_OK &&
        !compare_expected_find(task.expected, plan, b, &cached, out, lse) &&
        compute(&task, d, &cached.cache, b, first, out, lse, err) == XQ_OK)
        compare_expected_keep(task.expected, plan, b, &cached, out, lse);
    driver_free_cache(&cached.cache);
    return err->status;
}

/* ----------------------------------------------------------------- errors */

struct scratch {
    uint16_t *out;                         /* [batch, queries, H, dh], as the kernel wrote it */
    float *lse;                            /* [batch, queries, H] */
    double *got, *expected, *expected_lse; /* got and expected are for the checked sequences */
};

static bool scratch_allocate(struct scratch *m, const struct compare_task *task)
{
    size_t lses = (size_t)task->layer->queries * (size_t)task->traits.shape.heads;
    size_t batch = (size_t)task->layer->batch, checked = (size_t)task->layer->distinct;
    m->out = malloc(sizeof *m->out * batch * query_values(task));
    m->lse = malloc(sizeof *m->lse * batch * lses);
    m->got = malloc(sizeof *m->got * checked * query_values(task));
    m->expected = malloc(sizeof *m->expected * checked * query_values(task));
    m->expected_lse = malloc(sizeof *m->expected_lse * lses);
    return m->out && m->lse && m->got && m->expected && m->expected_lse;
}

static void scratch_free(struct scratch *m)
{
    free(m->out);
    free(m->lse);
    free(m->got);
    free(m->expected);
    free(m->expected_lse);
}

static xq_status check(const struct compare_task *task, driver *d, struct scratch *m,
                       struct compare_row *row, error *err)
{
    size_t values = query_values(task), checked = (size_t)task->layer->distinct;
    size_t lses = (size_t)task->layer->queries * (size_t)task->traits.shape.heads;
    xq_status status = driver_results(d, m->out, m->lse);
    if (status != XQ_OK)
        return last_error_read(task->context, status, err);
    row->lse_error = row->lse_abs_error = 0;
    for (size_t b = 0; b < checked; b++) {
        if (expect(task, d, row->implementation, (int)b, m->expected + b * values, m->expected_lse, err) !=
            XQ_OK)
            return err->status;
        for (size_t i = 0; i < lses; i++) {
            double difference = fabs(m->lse[b * lses + i] - m->expected_lse[i]);
            double relative = difference / fmax(1, fabs(m->expected_lse[i]));
            row->lse_error = relative <= row->lse_error ? row->lse_error : relative; /* NaN stays */
            row->lse_abs_error = difference <= row->lse_abs_error ? row->lse_abs_error : difference;
        }
    }
    widen(task, m->got, m->out, checked * values);
    row->kernel_error = reference_error(m->expected, m->got, checked * values);
    row->method_error = task->exact ? reference_error(task->exact, m->got, checked * values) : NAN;
    return XQ_OK;
}

xq_status compare_check(const struct compare_task *task, driver *d, struct compare_row *row, error *err)
{
    struct scratch m = {0};
    if (!scratch_allocate(&m, task))
        no_memory(err);
    else
        check(task, d, &m, row, err);
    scratch_free(&m);
    return err->status;
}
