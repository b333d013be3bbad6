/* One row of the comparison: an implementation on a layer, checked, counted and timed. */
#include "../autotune/page_codec.h"
#include "../runtime/context.h"
#include "../runtime/half.h"
#include "../runtime/last_error.h"
#include "compare.h"
#include "compare_time.h"
#include "step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *compare_name(xq_implementation implementation)
{
    return implementation == XQ_FP16_KV ? "fp16-kv" : implementation == XQ_UNFUSED ? "unfused" : "fused";
}

static double *doubles(const float *values, size_t count, bool rounded)
{
    double *out = malloc(sizeof *out * (count + 1));
    for (size_t i = 0; out && i < count; i++)
        out[i] = rounded ? half_round(values[i]) : values[i];
    return out;
}

static xq_status no_memory(error *err)
{
    return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a reference");
}

/* -------------------------------------------------------- exact attention */

xq_status compare_exact(const struct compare_task *task, double **exact, error *err)
{
    const struct compare_layer *layer = task->layer;
    const struct cli_shape *s = &task->shape;
    int checked = layer->distinct;
    size_t d = (size_t)s->hidden_size, row = (size_t)s->heads * (size_t)s->head_dim,
           w_count = d * (size_t)s->kv_width;
    size_t x_count = (size_t)layer->tokens * d;
    double *wk = doubles(layer->weights.wk, w_count, false),
           *wv = doubles(layer->weights.wv, w_count, false);
    double *out = malloc(sizeof *out * ((size_t)checked * row + (size_t)s->heads));
    for (int b = 0; b < checked && err->status == XQ_OK; b++) {
        double *x = doubles(layer->x + (size_t)b * x_count, x_count, false);
        double *q = doubles(layer->q + (size_t)b * row, row, false);
        if (!wk || !wv || !out || !x || !q) {
            no_memory(err);
        } else {
            reference_factors factors = {x, x, wk, wv, (int)d, (int)d};
            reference_attend_factors(&task->reference, layer->tokens, &factors, q, out + (size_t)b * row,
                                     out + (size_t)checked * row, err);
        }
        free(x);
        free(q);
    }
    free(wk);
    free(wv);
    if (err->status == XQ_OK)
        *exact = out;
    else
        free(out);
    return err->status;
}

/* --------------------------------------------- reference on the same cache */

/* Expected results of one sequence, from what the cache holds. */
struct expected {
    double *out, *lse;
};

/* fp16-kv: pages hold [2, page, Hkv, dh], keys already rotated. */
static xq_status from_kv_pages(const struct compare_task *task, step *s, int64_t first, uint8_t *page,
                               const double *q, struct expected *e, error *err)
{
    const struct compare_layer *layer = task->layer;
    size_t width = (size_t)task->shape.kv_width, per_page = (size_t)s->info.page_tokens;
    size_t tokens = (size_t)layer->tokens, row = (size_t)task->shape.heads * (size_t)task->shape.head_dim;
    double *k = malloc(sizeof *k * (2 * tokens * width + row)), *v, *rotated;
    if (!k)
        return no_memory(err);
    v = k + tokens * width;
    rotated = v + tokens * width;
    for (size_t t = 0; t < tokens; t += per_page) {
        size_t rows = tokens - t < per_page ? tokens - t : per_page;
        xq_status status = step_read_page(s, first + (int64_t)(t / per_page), page);
        if (status != XQ_OK) {
            free(k);
            return last_error_read(task->context, status, err);
        }
        half_to_doubles(k + t * width, (const uint16_t *)page, rows * width);
        half_to_doubles(v + t * width, (const uint16_t *)page + per_page * width, rows * width);
    }
    memcpy(rotated, q, sizeof *q * row);
    reference_rotate(&task->reference, rotated, 1, task->shape.heads, layer->tokens - 1);
    reference_attend(&task->reference, layer->tokens, k, v, rotated, e->out, e->lse, err);
    free(k);
    return err->status;
}

/* Quantized pages → x̂ of every token, in double precision. */
static xq_status read_streams(const struct compare_task *task, step *s, const page_codec *codec,
                              int64_t first, uint8_t *page, double *const *x_hat, error *err)
{
    int64_t tokens = task->layer->tokens;
    for (int64_t t = 0; t < tokens; t++) {
        if (t % codec->page_tokens == 0) {
            xq_status status = step_read_page(s, first + t / codec->page_tokens, page);
            if (status != XQ_OK)
                return last_error_read(task->context, status, err);
        }
        for (int i = 0; i < codec->streams; i++)
            page_codec_dequantize(codec, i, page, (int)(t % codec->page_tokens),
                                  x_hat[i] + (size_t)t * (size_t)codec->stream[i].width);
    }
    return XQ_OK;
}

static xq_status from_quantized_pages(const struct compare_task *task, step *s, int64_t first,
                                      uint8_t *page, const double *q, struct expected *e, error *err)
{
    const struct cli_shape *p = &task->shape;
    const struct cli_weights *w = &task->layer->weights;
    int inner_k = p->rank_k, inner_v = p->latent ? p->rank_v : p->rank_k;
    size_t tokens = (size_t)task->layer->tokens, width = (size_t)p->kv_width;
    page_codec *codec = NULL;
    if (page_codec_create(task->generator, xq_plan_spec(s->plan), &codec, err) != XQ_OK)
        return err->status;
    double *x_hat[2] = {malloc(sizeof(double) * tokens * (size_t)inner_k),
                        p->latent ? malloc(sizeof(double) * tokens * (size_t)inner_v) : NULL};
    double *wk = doubles(p->latent ? w->ak : w->wk, (size_t)inner_k * width, true);
    double *wv = doubles(p->latent ? w->av : w->wv, (size_t)inner_v * width, true);
    if (!x_hat[0] || (p->latent && !x_hat[1]) || !wk || !wv) {
        no_memory(err);
    } else if (read_streams(task, s, codec, first, page, x_hat, err) == XQ_OK) {
        reference_factors factors = {x_hat[0], p->latent ? x_hat[1] : x_hat[0], wk, wv, inner_k, inner_v};
        reference_attend_factors(&task->reference, (int64_t)tokens, &factors, q, e->out, e->lse, err);
    }
    free(x_hat[0]);
    free(x_hat[1]);
    free(wk);
    free(wv);
    page_codec_destroy(codec);
    return err->status;
}

/* ----------------------------------------------------------------- errors */

struct scratch {
    uint16_t *out; /* [batch, H, dh] as the kernel wrote it */
    float *lse;    /* [batch, H] */
    uint8_t *page;
    double *got, *q, *expected, *expected_lse; /* got, expected: of the checked sequences */
};

static void scratch_free(struct scratch *m)
{
    free(m->out);
    free(m->lse);
    free(m->page);
    free(m->got);
    free(m->q);
    free(m->expected);
    free(m->expected_lse);
}

static bool scratch_allocate(struct scratch *m, const struct compare_task *task, size_t page_bytes)
{
    size_t heads = (size_t)task->shape.heads, row = heads * (size_t)task->shape.head_dim;
    size_t batch = (size_t)task->layer->batch, checked = (size_t)task->layer->distinct;
    m->out = malloc(sizeof *m->out * batch * row);
    m->lse = malloc(sizeof *m->lse * batch * heads);
    m->page = malloc(page_bytes);
    m->got = malloc(sizeof *m->got * checked * row);
    m->q = malloc(sizeof *m->q * row);
    m->expected = malloc(sizeof *m->expected * checked * row);
    m->expected_lse = malloc(sizeof *m->expected_lse * heads);
    return m->out && m->lse && m->page && m->got && m->q && m->expected && m->expected_lse;
}

static int64_t pages_per_sequence(const struct compare_task *task)
{
    return (task->layer->tokens + task->shape.page - 1) / task->shape.page;
}

static xq_status check(const struct compare_task *task, step *s, struct scratch *m, struct compare_row *row,
                       error *err)
{
    size_t heads = (size_t)task->shape.heads, size = heads * (size_t)task->shape.head_dim;
    int checked = task->layer->distinct;
    xq_status status = step_results(s, task->layer->batch, m->out, m->lse);
    if (status != XQ_OK)
        return last_error_read(task->context, status, err);
    row->lse_error = 0;
    for (int b = 0; b < checked; b++) {
        struct expected e = {m->expected + (size_t)b * size, m->expected_lse};
        int64_t first = (int64_t)b * pages_per_sequence(task);
        half_to_doubles(m->q, task->layer->q16 + (size_t)b * size, size);
        if ((row->implementation == XQ_FP16_KV ? from_kv_pages : from_quantized_pages)(
                task, s, first, m->page, m->q, &e, err) != XQ_OK)
            return err->status;
        for (size_t h = 0; h < heads; h++) {
            double difference = fabs(m->lse[(size_t)b * heads + h] - e.lse[h]);
            row->lse_error = difference <= row->lse_error ? row->lse_error : difference; /* NaN stays */
        }
    }
    half_to_doubles(m->got, m->out, (size_t)checked * size);
    row->kernel_error = reference_error(m->expected, m->got, (size_t)checked * size);
    row->method_error = reference_error(task->exact, m->got, (size_t)checked * size);
    return XQ_OK;
}

/* -------------------------------------------------------------------- run */

enum { APPEND = 16384 }; /* tokens of one append, at most */

/* Appends sequence `b` of a table, token after token. */
static xq_status append_sequence(const struct compare_task *task, step *s, int table, int b,
                                 int32_t *sequence, int32_t *position)
{
    const struct compare_layer *layer = task->layer;
    const uint16_t *x = layer->x16 + (size_t)(b % layer->distinct) * (size_t)layer->tokens *
                                         (size_t)task->shape.hidden_size;
    for (int64_t begin = 0; begin < layer->tokens; begin += APPEND) {
        int64_t count = layer->tokens - begin < APPEND ? layer->tokens - begin : APPEND;
        for (int64_t i = 0; i < count; i++) {
            sequence[i] = b;
            position[i] = (int32_t)(begin + i);
        }
        xq_status status = step_append(s, table, count, x + (size_t)begin * (size_t)task->shape.hidden_size,
                                       sequence, position);
        if (status != XQ_OK)
            return status;
    }
    return XQ_OK;
}

/* Fills `copies` caches with the same tokens, in pages of their own. */
static xq_status append_all(const struct compare_task *task, step *s, int copies)
{
    const struct compare_layer *layer = task->layer;
    int64_t *lengths = malloc(2 * sizeof *lengths * (size_t)layer->batch), *first = lengths + layer->batch;
    int32_t *sequence = malloc(2 * sizeof *sequence * APPEND), *position = sequence + APPEND;
    xq_status status = lengths && sequence ? XQ_OK : XQ_ERROR_MEMORY;
    for (int c = 0; status == XQ_OK && c < copies; c++) {
        for (int b = 0; b < layer->batch; b++) {
            lengths[b] = layer->tokens;
            first[b] = (c * (int64_t)layer->batch + b) * pages_per_sequence(task);
        }
        status = step_set_table(s, c, layer->batch, lengths, first);
        for (int b = 0; status == XQ_OK && b < layer->batch; b++)
            status = append_sequence(task, s, c, b, sequence, position);
    }
    free(lengths);
    free(sequence);
    return status;
}

/* Enough caches that a GPU's L2 does not hold them from one repeat to the next. */
static int copies_needed(const struct compare_task *task, xq_implementation implementation)
{
    const device_properties *p = &task->context->device->properties;
    if (p->is_sim)
        return 1;
    double per_token = implementation == XQ_FP16_KV
                           ? 4.0 * task->shape.kv_width
                           : task->shape.bits / 8.0 * (task->shape.rank_k + task->shape.rank_v);
    double bytes =
        per_token * (double)task->layer->batch * (double)pages_per_sequence(task) * task->shape.page;
    double copies = ceil(4 * (double)p->l2_bytes / bytes);
    return copies < 2 ? 2 : copies > 256 ? 256 : (int)copies;
}

static xq_status count_and_time(const struct compare_task *task, step *s, int copies,
                                struct compare_row *row, error *err)
{
    const struct compare_layer *layer = task->layer;
    size_t row_size = (size_t)task->shape.heads * (size_t)task->shape.head_dim;
    uint16_t *q = malloc(sizeof *q * row_size * (size_t)layer->batch);
    if (!q)
        return no_memory(err);
    for (int b = 0; b < layer->batch; b++)
        memcpy(q + (size_t)b * row_size, layer->q16 + (size_t)(b % layer->distinct) * row_size,
               sizeof *q * row_size);
    xq_status status = step_set_queries(s, layer->batch, q);
    free(q);
    if (status != XQ_OK)
        return last_error_read(task->context, status, err);
    if (task->context->device->properties.is_sim)
        return compare_count(task, s, row, err);
    return compare_time(task, s, copies, row, err);
}

xq_status compare_measure(const struct compare_task *task, xq_implementation implementation,
                          struct compare_row *row, error *err)
{
    const struct compare_layer *layer = task->layer;
    int copies = copies_needed(task, implementation);
    struct step_size size = {.max_batch = layer->batch,
                             .max_tokens = layer->tokens,
                             .max_append = layer->tokens < APPEND ? layer->tokens : APPEND,
                             .tables = copies,
                             .pool_pages = copies * (int64_t)layer->batch * pages_per_sequence(task)};
    step s;
    struct scratch m = {0};
    *row = (struct compare_row){.layer = layer->number,
                                .bits = task->shape.bits,
                                .batch = layer->batch,
                                .tokens = layer->tokens,
                                .implementation = implementation};
    xq_status status =
        step_open(task->context, task->spec, implementation, &size, &layer->weights, task->seed, &s);
    if (status != XQ_OK)
        return last_error_read(task->context, status, err);
    row->cache_bytes_per_token = s.info.cache_bytes_per_token;
    row->cache_saving = 4.0 * task->shape.kv_width / row->cache_bytes_per_token;
    compare_limit_of(&task->shape, task->reference.pairs > 0, implementation == XQ_FP16_KV,
                     row->cache_bytes_per_token, layer->tokens, layer->batch, &task->ceilings, &row->limit);
    status = append_all(task, &s, copies);
    if (status != XQ_OK)
        last_error_read(task->context, status, err);
    else if (!scratch_allocate(&m, task, s.info.page_bytes))
        no_memory(err);
    else if (count_and_time(task, &s, copies, row, err) == XQ_OK)
        check(task, &s, &m, row, err);
    scratch_free(&m);
    step_close(&s);
    return err->status;
}
