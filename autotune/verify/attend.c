/* Compares the output of attend with the reference on the same cache. */
#include "../../runtime/base/e4m3.h"
#include "../../runtime/base/half.h"
#include "../engine/cache.h"
#include "checks.h"
#include "layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The rows that one sequence's queries see: xk and xv, or keys and values themselves. */
typedef struct cached {
    double *k, *v; /* v == k where one stream serves both */
    int64_t tokens, offset;
} cached;

static void cached_free(cached *c)
{
    if (c->v != c->k)
        free(c->v);
    free(c->k);
    memset(c, 0, sizeof *c);
}

/* Converts values of the spec's dtype to double precision. */
static void to_doubles(const verify_state *v, double *out, const uint16_t *bits, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (double)(v->spec.bf16 ? half_from_bfloat(bits[i]) : half_to_float(bits[i]));
}

/* The elements of a row of keys and values. */
static size_t kv_width(const verify_state *v)
{
    return (size_t)v->spec.kv_heads * (size_t)v->spec.head_dim;
}

/* Returns a row of pages of keys and values, [2, page, Hkv, dh]: of keys where `which` is 0, of values
 * where it is 1. */
static const uint8_t *kv_row(const verify_state *v, const case_shape *shape, int implementation,
                             const verify_snapshot *cache, int sequence, int t, size_t which)
{
    const size_t page_bytes = v->plans[implementation].info[0].page_bytes,
                 page_tokens = (size_t)v->spec.page;
    const size_t page = (size_t)shape->sequence[sequence].pages[t / v->spec.page],
                 row = which * page_tokens + (size_t)(t % v->spec.page);
    return cache->pages + page * page_bytes + row * (page_bytes / (2 * page_tokens));
}

/* Reads the pages of a sequence, whose elements have the spec's dtype or e4m3. */
static void read_kv(const verify_state *v, const case_shape *shape, int implementation,
                    const verify_snapshot *cache, int sequence, double *k, double *value)
{
    const size_t width = kv_width(v);
    for (int t = 0; t < shape->sequence[sequence].length; t++)
        for (size_t which = 0; which < 2; which++) {
            const uint8_t *row = kv_row(v, shape, implementation, cache, sequence, t, which);
            const double scale = (double)(which ? v->v_scale : v->k_scale);
            double *out = (which ? value : k) + (size_t)t * width;
            if (implementation == XQ_FP16_KV)
                to_doubles(v, out, (const uint16_t *)(const void *)row, width);
            else
                for (size_t i = 0; i < width; i++)
                    out[i] = (double)e4m3_decode(row[i]) * scale;
        }
}

/* Reads the rows of one sequence, and stores them from row `at` on. */
static void read_sequence(const verify_state *v, const case_shape *shape, int implementation,
                          const verify_snapshot *cache, int sequence, size_t at, cached *c)
{
    int length = shape->sequence[sequence].length;
    size_t dkv = (size_t)v->spec.kv_heads * (size_t)v->spec.head_dim;
    if (verify_is_kv(implementation)) {
        read_kv(v, shape, implementation, cache, sequence, c->k + at * dkv, c->v + at * dkv);
    } else if (v->accumulator) {
        page_sequence s = verify_snapshot_accumulator(shape, cache, sequence, length);
        driver_decode(v->accumulator, 0, &s, c->k + at * (size_t)v->accumulator->stream[0].width);
    } else {
        page_sequence s = verify_snapshot_sequence(v, shape, cache, sequence, length);
        driver_decode(v->codec, 0, &s, c->k + at * (size_t)v->codec->stream[0].width);
        if (c->v != c->k)
            driver_decode(v->codec, 1, &s, c->v + at * (size_t)v->codec->stream[1].width);
    }
}

static xq_status read_cached(const verify_state *v, const case_shape *shape, int implementation,
                             const verify_snapshot *cache, int sequence, cached *c, error *err)
{
    bool shared = shape->kind == CASE_SHARED, two = verify_is_kv(implementation) || v->spec.latent;
    int prefix = shared ? shape->sequence[0].length : 0;
    size_t dkv = (size_t)v->spec.kv_heads * (size_t)v->spec.head_dim, widest = dkv;
    for (int s = 0; s < v->codec->streams; s++)
        widest = (size_t)v->codec->stream[s].width > widest ? (size_t)v->codec->stream[s].width : widest;
    widest = (size_t)v->spec.hidden > widest ? (size_t)v->spec.hidden : widest;
    c->tokens = prefix + shape->sequence[sequence].length;
    c->offset = shared ? 0 : shape->sequence[sequence].offset;
    c->k = malloc(((size_t)c->tokens * widest + 1) * sizeof *c->k);
    c->v = two ? malloc(((size_t)c->tokens * widest + 1) * sizeof *c->v) : c->k;
    if (!c->k || !c->v) {
        cached_free(c);
        return verify_out_of_memory(err);
    }
    if (shared)
        read_sequence(v, shape, implementation, cache, 0, 0, c);
    read_sequence(v, shape, implementation, cache, sequence, (size_t)prefix, c);
    return XQ_OK;
}

/* ---------------------------------------------------------------- comparison */

static bool all_nan(const double *values, size_t count)
{
    bool nan = true;
    for (size_t i = 0; i < count; i++)
        nan = nan && isnan(values[i]);
    return nan;
}

/* The error of `count` values. The outputs of queries that see a NaN must be all NaN, in both arrays. */
static double error_of(const double *expected, const double *got, size_t count)
{
    if (all_nan(expected, count))
        return all_nan(got, count) ? 0 : INFINITY;
    return reference_error(expected, got, count);
}

static void compare_query(const verify_state *v, const double *expected, const double *expected_lse,
                          const double *out, const float *lse, verify_part *part)
{
    size_t heads = (size_t)v->spec.heads;
    double e = error_of(expected, out, heads * (size_t)v->spec.head_dim);
    if (!(e <= part->out_error))
        part->out_error = e;
    for (size_t h = 0; h < heads; h++) {
        double got = (double)lse[h];
        bool same = got == expected_lse[h] || (isnan(got) && isnan(expected_lse[h])); /* -inf, NaN */
        double difference = same ? 0 : fabs(got - expected_lse[h]) / fmax(1, fabs(expected_lse[h]));
        if (!(difference <= part->lse_error))
            part->lse_error = isnan(difference) ? INFINITY : difference;
    }
}

/* The queries of one sequence, with room for their results. */
typedef struct asked {
    reference_queries queries;
    double *q, *out, *lse;
    int64_t *positions;
} asked;

static void asked_free(asked *a)
{
    free(a->q);
    free(a->positions);
}

static xq_status ask(const verify_state *v, const case_shape *shape, const case_sequence *s, int64_t offset,
                     asked *a, error *err)
{
    size_t row = (size_t)v->spec.heads * (size_t)v->spec.head_dim, n = (size_t)s->queries;
    const uint16_t *bits = shape->q + (size_t)s->first_query * row;
    a->q = malloc((2 * n * row + n * (size_t)v->spec.heads + 1) * sizeof *a->q);
    a->positions = malloc((n + 1) * sizeof *a->positions);
    if (!a->q || !a->positions) {
        asked_free(a);
        return verify_out_of_memory(err);
    }
    a->out = a->q + n * row;
    a->lse = a->out + n * row;
    to_doubles(v, a->q, bits, n * row);
    for (size_t j = 0; j < n; j++)
        a->positions[j] = shape->query_position[s->first_query + (int)j];
    a->queries = (reference_queries){.count = s->queries,
                                     .q = a->q,
                                     .positions = a->positions,
                                     .token_offset = offset,
                                     .mask_words = shape->mask_words};
    if (shape->tree)
        a->queries.tree_mask = shape->tree_mask + (size_t)s->first_query * (size_t)shape->mask_words;
    return XQ_OK;
}

static xq_status check_sequence(const verify_state *v, const case_shape *shape, int implementation,
                                const verify_snapshot *cache, const reference_layer *layer, int sequence,
                                const double *out, const float *lse, verify_part *part, error *err)
{
    const case_sequence *s = &shape->sequence[sequence];
    const size_t heads = (size_t)v->spec.heads, row = heads * (size_t)v->spec.head_dim;
    cached c = {0};
    asked a = {0};
    if (s->queries == 0 || read_cached(v, shape, implementation, cache, sequence, &c, err) != XQ_OK)
        return err->status;
    if (ask(v, shape, s, c.offset, &a, err) == XQ_OK) {
        if (verify_is_kv(implementation))
            reference_attend_queries(&v->model, layer, c.tokens, c.k, c.v, &a.queries, a.out, a.lse, err);
        else
            reference_attend_layer(&v->model, layer, c.tokens, c.k, c.v, &a.queries, a.out, a.lse, err);
        for (size_t j = 0; j < (size_t)s->queries && err->status == XQ_OK; j++) {
            size_t query = (size_t)s->first_query + j;
            compare_query(v, a.out + j * row, a.lse + j * heads, out + query * row, lse + query * heads,
                          part);
        }
        asked_free(&a);
    }
    cached_free(&c);
    return err->status;
}

xq_status verify_check_attend(const verify_state *v, const case_shape *shape, int implementation, int layer,
                              const verify_snapshot *cache, const double *out, const float *lse,
                              verify_result *result, error *err)
{
    verify_layer weights;
    if (verify_layer_create(v, implementation, layer, &weights, err) != XQ_OK)
        return err->status;
    for (int i = case_first_attended(shape); i < shape->sequences && err->status == XQ_OK; i++)
        check_sequence(v, shape, implementation, cache, &weights.layer, i, out, lse,
                       &result->part[implementation], err);
    verify_layer_free(&weights);
    return err->status;
}

/* ---------------------------------------------------------------- contents of KV caches */

static double worse(double a, double b)
{
    return a > b || isnan(a) ? a : b;
}

xq_status verify_check_kv(const verify_state *v, const case_shape *shape, const verify_snapshot *cache,
                          verify_result *result, error *err)
{
    const size_t dkv = (size_t)v->spec.kv_heads * (size_t)v->spec.head_dim, d = (size_t)v->spec.hidden;
    verify_layer weights;
    cached c = {0};
    double *expected = malloc((2 * dkv + d) * sizeof *expected);
    if (!expected)
        return verify_out_of_memory(err);
    if (verify_layer_create(v, XQ_FP16_KV, 0, &weights, err) != XQ_OK) {
        free(expected);
        return err->status;
    }
    double *x = expected + 2 * dkv;
    case_shape whole = *shape; /* each sequence by itself, the prefix too */
    whole.kind = CASE_PLAIN;
    for (int i = 0; i < shape->sequences && err->status == XQ_OK; i++) {
        int length = shape->sequence[i].length;
        if (read_cached(v, &whole, XQ_FP16_KV, cache, i, &c, err) != XQ_OK)
            break;
        for (int t = 0; t<length; t += length - t> 1 && t + 37 >= length ? length - 1 - t : 37) {
            int64_t position = case_token_position(shape, i, t);
            for (size_t j = 0; j < d; j++)
                x[j] = (double)half_to_float(
                    case_domain(&v->spec, shape->x[0][(size_t)(shape->first_token[i] + t) * d + j]));
            if (reference_keys(&v->model, &weights.layer, 1, x, &position, expected, err) == XQ_OK)
                reference_values(&v->model, &weights.layer, 1, x, expected + dkv, err);
            double ek = error_of(expected, c.k + (size_t)t * dkv, dkv);
            double ev = error_of(expected + dkv, c.v + (size_t)t * dkv, dkv);
            result->kv_error = worse(worse(ek, ev), result->kv_error);
        }
        cached_free(&c);
    }
    verify_layer_free(&weights);
    free(expected);
    return err->status;
}

void verify_check_kv_codes(const verify_state *v, const case_shape *shape, const verify_snapshot *fp16,
                           const verify_snapshot *fp8, verify_result *result)
{
    const size_t width = kv_width(v);
    for (int i = 0; i < shape->sequences; i++)
        for (int t = 0; t < shape->sequence[i].length; t++)
            for (size_t which = 0; which < 2; which++) {
                const uint16_t *bits =
                    (const uint16_t *)(const void *)kv_row(v, shape, XQ_FP16_KV, fp16, i, t, which);
                const uint8_t *codes = kv_row(v, shape, XQ_FP8_KV, fp8, i, t, which);
                const float scale = which ? v->v_scale : v->k_scale;
                for (size_t j = 0; j < width; j++) {
                    float value = v->spec.bf16 ? half_from_bfloat(bits[j]) : half_to_float(bits[j]);
                    result->kv_mismatches += codes[j] != e4m3_quantize(value, scale);
                }
            }
}
