/* Scores, masks and softmax of the reference. */
#if !defined(__clang__)
#pragma GCC optimize("O3") /* sums over tokens */
#endif

#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- positions */

/* The first token that is a draft; without a tree, the number of tokens. */
static int64_t first_draft(const reference_queries *queries, int64_t tokens)
{
    if (!queries->tree_mask)
        return tokens;
    return tokens > queries->count ? tokens - queries->count : 0;
}

static int64_t query_position(const reference_queries *queries, int64_t tokens, int64_t j)
{
    return queries->positions ? queries->positions[j] : queries->token_offset + tokens - queries->count + j;
}

void reference_token_positions(const reference_queries *queries, int64_t tokens, int64_t *positions)
{
    int64_t drafts = first_draft(queries, tokens);
    for (int64_t t = 0; t < tokens; t++)
        positions[t] = t < drafts ? queries->token_offset + t : query_position(queries, tokens, t - drafts);
}

/* ---------------------------------------------------------------- one query, one head */

/* A query, and the tokens of its sequence. */
typedef struct view {
    const reference_model *model;
    const reference_queries *queries;
    int64_t tokens, drafts, query, position;
    const int64_t *token_positions;
} view;

static bool sees(const view *w, int64_t t)
{
    int64_t distance = w->position - w->token_positions[t];
    if (w->model->window && distance >= w->model->window)
        return false;
    if (t < w->drafts)
        return distance >= 0;
    int64_t draft = t - w->drafts;
    return w->queries->tree_mask[w->query * w->queries->mask_words + draft / 32] >> draft % 32 & 1;
}

static double score(const view *w, int head, const double *q, const double *k, int64_t t)
{
    const reference_model *m = w->model;
    double s = 0;
    for (int i = 0; i < m->head_dim; i++)
        s += q[i] * k[i];
    s *= m->scale;
    if (m->softcap > 0)
        s = m->softcap * tanh(s / m->softcap);
    if (m->alibi)
        s += m->slopes[head] * (double)(w->token_positions[t] - w->position);
    return s;
}

/* The rows that a head's probabilities are applied to: row t is `width` numbers at data + t * stride. */
typedef struct weighed {
    const double *data;
    size_t stride, width;
} weighed;

/* Computes one head. scores [tokens] is scratch; head h reads KV head h / (heads / kv_heads). `sink` is
 * NULL if there is none. Returns the tokens' share of all weights: less than 1 only with a sink, or 0 if no
 * token is seen. */
static double attend_head(const view *w, int head, const double *q, const double *k, const weighed *v,
                          const double *sink, double *scores, double *out, double *lse)
{
    const reference_model *m = w->model;
    size_t stride = (size_t)m->kv_heads * (size_t)m->head_dim;
    size_t kv = (size_t)(head / (m->heads / m->kv_heads)) * (size_t)m->head_dim;
    double most = -INFINITY, sum = 0, of_sink = 0;
    for (int64_t t = 0; t < w->tokens; t++) {
        scores[t] = sees(w, t) ? score(w, head, q, k + (size_t)t * stride + kv, t) : -INFINITY;
        most = scores[t] > most || isnan(scores[t]) ? scores[t] : most;
    }
    memset(out, 0, sizeof *out * v->width);
    *lse = most;
    if (most == -INFINITY)
        return 0;
    most = sink && *sink > most ? *sink : most;
    sum = of_sink = sink ? exp(*sink - most) : 0;
    for (int64_t t = 0; t < w->tokens; t++) {
        double weight = exp(scores[t] - most);
        if (weight == 0)
            continue; /* a token that is not seen must not matter, even if its row is NaN */
        sum += weight;
        for (size_t i = 0; i < v->width; i++)
            out[i] += weight * v->data[(size_t)t * v->stride + i];
    }
    for (size_t i = 0; i < v->width; i++)
        out[i] /= sum;
    *lse = most + log(sum);
    return (sum - of_sink) / sum;
}

/* Computes one head from values [tokens, kv_heads, head_dim]. */
static void attend_values(const view *w, int head, const double *q, const double *k, const double *v,
                          const double *sink, double *scores, double *out, double *lse)
{
    const reference_model *m = w->model;
    size_t width = (size_t)m->head_dim, kv = (size_t)(head / (m->heads / m->kv_heads)) * width;
    attend_head(w, head, q, k, &(weighed){v + kv, (size_t)m->kv_heads * width, width}, sink, scores, out,
                lse);
}

/* Computes one head from the rows of which values are made: sums the weighted rows into `row` [inner_v],
 * and projects the sum. */
static void attend_rows(const view *w, const reference_layer *layer, int head, const double *q,
                        const double *k, const double *xv, const double *sink, double *scores, double *row,
                        double *out, double *lse)
{
    const reference_model *m = w->model;
    const int kv_head = head / (m->heads / m->kv_heads), dkv = m->kv_heads * m->head_dim;
    const size_t inner = (size_t)layer->inner_v, first = (size_t)kv_head * (size_t)m->head_dim;
    const size_t latent = (size_t)(kv_head * layer->latents_v / m->kv_heads) * inner;
    double share =
        attend_head(w, head, q, k, &(weighed){xv + latent, (size_t)layer->latents_v * inner, inner}, sink,
                    scores, row, lse);
    for (int i = 0; i < m->head_dim; i++)
        out[i] = m->bias ? share * layer->bv[first + (size_t)i] : 0;
    for (size_t r = 0; r < inner; r++)
        for (int i = 0; i < m->head_dim; i++)
            out[i] += row[r] * layer->wv[r * (size_t)dkv + first + (size_t)i];
}

/* The attention factor applies to queries and keys. The reference's keys do not have it, so queries get its
 * square. */
static void scale_rotated(const reference_model *m, double *q)
{
    double f = m->attention_factor > 0 ? m->attention_factor * m->attention_factor : 1;
    for (int h = 0; h < m->heads; h++)
        for (int i = 0; i < 2 * m->pairs; i++)
            q[(size_t)h * (size_t)m->head_dim + (size_t)i] *= f;
}

/* Attends over values v, or, if xv is not NULL, over the rows xv. */
static xq_status attend_all(const reference_model *model, const reference_layer *layer, int64_t tokens,
                            const double *k, const double *v, const double *xv,
                            const reference_queries *queries, double *out, double *lse, error *err)
{
    size_t row = (size_t)model->heads * (size_t)model->head_dim, heads = (size_t)model->heads;
    bool sinks = model->sinks && !queries->without_sinks;
    if (sinks && !layer->sinks)
        return error_set(err, XQ_ERROR_INTERNAL, "argument", "the reference lacks sinks");
    if (xv && model->bias && !layer->bv)
        return error_set(err, XQ_ERROR_INTERNAL, "argument", "the reference lacks bv");
    size_t inner = xv ? (size_t)layer->inner_v : 0;
    double *scratch = malloc((row + inner + (size_t)tokens + 1) * sizeof *scratch);
    int64_t *positions = malloc(((size_t)tokens + 1) * sizeof *positions);
    if (!scratch || !positions) {
        free(scratch);
        free(positions);
        return error_set(err, XQ_ERROR_MEMORY, "argument", "out of memory for a reference attention");
    }
    double *q = scratch, *sum = scratch + row, *scores = sum + inner;
    reference_token_positions(queries, tokens, positions);
    view w = {model, queries, tokens, first_draft(queries, tokens), 0, 0, positions};
    for (int64_t j = 0; j < queries->count; j++) {
        w.query = j;
        w.position = query_position(queries, tokens, j);
        memcpy(q, queries->q + (size_t)j * row, row * sizeof *q);
        reference_rotate(model, q, 1, model->heads, w.position);
        scale_rotated(model, q);
        for (int h = 0; h < model->heads; h++) {
            const double *query = q + (size_t)h * (size_t)model->head_dim;
            const double *sink = sinks ? layer->sinks + h : NULL;
            double *to = out + (size_t)j * row + (size_t)h * (size_t)model->head_dim;
            if (xv)
                attend_rows(&w, layer, h, query, k, xv, sink, scores, sum, to, lse + (size_t)j * heads + h);
            else
                attend_values(&w, h, query, k, v, sink, scores, to, lse + (size_t)j * heads + h);
        }
    }
    free(scratch);
    free(positions);
    return XQ_OK;
}

xq_status reference_attend_queries(const reference_model *model, const reference_layer *layer,
                                   int64_t tokens, const double *k, const double *v,
                                   const reference_queries *queries, double *out, double *lse, error *err)
{
    return attend_all(model, layer, tokens, k, v, NULL, queries, out, lse, err);
}

xq_status reference_attend_rows(const reference_model *model, const reference_layer *layer, int64_t tokens,
                                const double *k, const double *xv, const reference_queries *queries,
                                double *out, double *lse, error *err)
{
    return attend_all(model, layer, tokens, k, NULL, xv, queries, out, lse, err);
}

void reference_merge(double *out_a, double *lse_a, const double *out_b, const double *lse_b, int64_t rows,
                     int width)
{
    for (int64_t r = 0; r < rows; r++) {
        double most = lse_a[r] > lse_b[r] ? lse_a[r] : lse_b[r];
        if (most == -INFINITY)
            continue;
        double a = exp(lse_a[r] - most), b = exp(lse_b[r] - most);
        for (int i = 0; i < width; i++) {
            size_t at = (size_t)r * (size_t)width + (size_t)i;
            out_a[at] = (a * out_a[at] + b * out_b[at]) / (a + b);
        }
        lse_a[r] = most + log(a + b);
    }
}
