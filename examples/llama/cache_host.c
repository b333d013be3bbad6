/* A cache whose arithmetic runs on the host. Quantized tokens never change, so their keys and values are
 * computed once. Tokens in an unfinished per-channel group are not quantized yet; their keys and values are
 * computed again when the group is complete. */
#include "cache_host.h"
#include "arithmetic.h"
#include "attention.h"
#include "fail.h"
#include "rope.h"

#include <stdlib.h>
#include <string.h>

typedef struct host_layer {
    xq_weights weights;        /* as kernels see them, rounded */
    xq_quantizer quantizer[2]; /* quantizer of each stream */
    float *feedback[2];        /* feedback matrices of each stream, or NULL */
    float *rounded[7];         /* the rounded matrices in `weights`, which this layer owns */
    float *exact[2]; /* each stream before quantization, [capacity, width]; X in cross-layer caches */
    float *seen[2];  /* each stream as attention sees it, [capacity, width]; NULL in cross-layer caches */
    float *k, *v;    /* [capacity, dkv], keys after RoPE */
} host_layer;

typedef struct host {
    cache interface;
    const config *config;
    const formats *formats;
    host_layer *layers;
    rope rope[2];
    int length, capacity;
    float *accumulator; /* [capacity, d] */
    float *row[3];      /* scratch, [capacity, widest row] each */
} host;

/* The rows of a layer that an append computes: all of [first, end). Tokens from `from` on are new; earlier
 * ones are computed again because their group is now complete. Tokens from `closed` on are in the tail. */
typedef struct span {
    int first, from, closed, end;
} span;

static span span_of(const xq_quantizer *q, int from, int count)
{
    span s = {from, from, from + count, from + count};
    if (q && q->by_channel) {
        if (s.end / q->group > from / q->group) /* a group becomes complete, so its tokens change */
            s.first = from / q->group * q->group;
        s.closed = s.end / q->group * q->group;
        s.closed = s.closed < s.first ? s.first : s.closed;
    }
    return s;
}

static size_t at(int row, int width)
{
    return (size_t)row * (size_t)width;
}

static int dkv_of(const host *h)
{
    return h->config->kv_heads * h->config->head_dim;
}

/* ---------------------------------------------------------------- rounding */

static void simulate(const xq_quantizer *q, int rows, int width, const float *x, float *x_hat)
{
    check(NULL, xq_simulate_cache(q, rows, width, x, x_hat), "xq_simulate_cache");
}

static void to_halves(int rows, int width, const float *x, float *rounded)
{
    xq_quantizer q = XQ_QUANTIZER_INIT;
    q.bits = 16;
    simulate(&q, rows, width, x, rounded);
}

/* ------------------------------------------------------------ keys and values */

/* Applies QK-norm (if any) and RoPE to the projected keys in rows [first, end). */
static void finish_keys(const host *h, int layer, int first, int end)
{
    const config *c = h->config;
    const host_layer *l = &h->layers[layer];
    float *k = l->k + at(first, dkv_of(h));
    if (l->weights.k_norm)
        rms_norm(k, l->weights.k_norm, c->epsilon, (int64_t)(end - first) * c->kv_heads, c->head_dim, k);
    rope_turn(&h->rope[c->sliding[layer]], k, end - first, c->kv_heads, first);
}

/* Computes the keys (or values) of rows [first, end): the stream's rows times w [rank, dkv]. The KV heads
 * of each of `groups` groups have a latent of their own. */
static void rematerialize(const host *h, const float *seen, int width, int groups, const float *w,
                          int first, int end, float *out)
{
    const int dkv = dkv_of(h), rank = width / groups, columns = dkv / groups;
    for (int g = 0; g < groups; g++)
        multiply(seen + at(first, width) + g * rank, width, w + g * columns, dkv, end - first, rank,
                 columns, out + at(first, dkv) + g * columns, dkv);
}

/* Rounds a stream's new rows to f16 and quantizes them. Returns the rows that changed. */
static span store(const format *f, host_layer *l, int stream, int from, int count)
{
    const xq_quantizer *q = &l->quantizer[stream];
    const int width = f->stream[stream].width;
    span s = span_of(q, from, count);
    simulate(q, s.end - s.first, width, l->exact[stream] + at(s.first, width),
             l->seen[stream] + at(s.first, width));
    return s;
}

/* ----------------------------------------------------------------- methods */

static void append_plain(host *h, int layer, const float *x, int count)
{
    const config *c = h->config;
    host_layer *l = &h->layers[layer];
    const int dkv = dkv_of(h), end = h->length + count;
    float *k = l->k + at(h->length, dkv), *v = l->v + at(h->length, dkv);
    multiply(x, c->hidden, l->weights.wk, dkv, count, c->hidden, dkv, k, dkv);
    multiply(x, c->hidden, l->weights.wv, dkv, count, c->hidden, dkv, v, dkv);
    finish_keys(h, layer, h->length, end);
    if (h->formats->layer[layer].method == CACHE_FP16) {
        to_halves(count, dkv, k, k);
        to_halves(count, dkv, v, v);
    }
}

static void append_kivi(host *h, int layer, const float *x, int count)
{
    const config *c = h->config;
    host_layer *l = &h->layers[layer];
    const format *f = &h->formats->layer[layer];
    const int dkv = dkv_of(h), from = h->length;
    float *k = l->exact[0] + at(from, dkv), *v = l->exact[1] + at(from, dkv);
    multiply(x, c->hidden, l->weights.wk, dkv, count, c->hidden, dkv, k, dkv);
    multiply(x, c->hidden, l->weights.wv, dkv, count, c->hidden, dkv, v, dkv);
    if (l->weights.k_norm)
        rms_norm(k, l->weights.k_norm, c->epsilon, (int64_t)count * c->kv_heads, c->head_dim, k);
    span s = store(f, l, 0, from, count);
    memcpy(l->k + at(s.first, dkv), l->seen[0] + at(s.first, dkv),
           sizeof(float) * at(s.end - s.first, dkv));
    rope_turn(&h->rope[c->sliding[layer]], l->k + at(s.first, dkv), s.end - s.first, c->kv_heads, s.first);
    s = store(f, l, 1, from, count);
    memcpy(l->v + at(s.first, dkv), l->seen[1] + at(s.first, dkv),
           sizeof(float) * at(s.end - s.first, dkv));
}

static void append_x(host *h, int layer, const float *x, int count)
{
    host_layer *l = &h->layers[layer];
    const format *f = &h->formats->layer[layer];
    const xq_weights *w = &l->weights;
    const int d = h->config->hidden;
    float *rows = l->exact[0] + at(h->length, d);
    if (f->rotated)
        multiply(x, d, w->uk, d, count, d, d, rows, d);
    else
        memcpy(rows, x, sizeof *x * at(count, d));
    span s = store(f, l, 0, h->length, count);
    rematerialize(h, l->seen[0], d, 1, f->rotated ? w->ak : w->wk, s.first, s.end, l->k);
    rematerialize(h, l->seen[0], d, 1, f->rotated ? w->av : w->wv, s.first, s.end, l->v);
    finish_keys(h, layer, s.first, s.end);
}

static void append_latent(host *h, int layer, const float *x, int count)
{
    host_layer *l = &h->layers[layer];
    const format *f = &h->formats->layer[layer];
    const float *u[2] = {l->weights.uk, l->weights.uv}, *a[2] = {l->weights.ak, l->weights.av};
    for (int i = 0; i < 2; i++) {
        const int d = h->config->hidden, width = f->stream[i].width;
        multiply(x, d, u[i], width, count, d, width, l->exact[i] + at(h->length, width), width);
        span s = store(f, l, i, h->length, count);
        rematerialize(h, l->seen[i], width, f->stream[i].quantizer.latents, a[i], s.first, s.end,
                      i == 0 ? l->k : l->v);
        if (i == 0)
            finish_keys(h, layer, s.first, s.end);
    }
}

/* Quantizes a layer's difference from the accumulator. `change` [rows, d] holds the difference, and
 * receives what the quantized difference adds to the accumulator. */
static void quantize_change(host *h, int layer, float *change, int rows)
{
    const format *f = &h->formats->layer[layer];
    const float *ukv = h->layers[layer].weights.ukv;
    const int d = h->config->hidden, width = f->stream[0].width;
    if (!f->latent) {
        simulate(&h->layers[layer].quantizer[0], rows, width, change, change);
        return;
    }
    float *latents = h->row[1];
    multiply(change, d, ukv, width, rows, d, width, latents, width);
    simulate(&h->layers[layer].quantizer[0], rows, width, latents, latents);
    project(latents, ukv, rows, width, d, change);
}

static void append_cross(host *h, int layer, const float *x, int count)
{
    host_layer *l = &h->layers[layer];
    const format *f = &h->formats->layer[layer];
    const int d = h->config->hidden;
    const span s = span_of(&l->quantizer[0], h->length, count);
    const size_t closed = at(s.closed - s.first, d), all = at(s.end - s.first, d);
    memcpy(l->exact[0] + at(h->length, d), x, sizeof *x * at(count, d));
    const float *exact = l->exact[0] + at(s.first, d);
    float *sum = h->accumulator + at(s.first, d), *change = h->row[0];
    for (size_t i = 0; i < closed; i++)
        change[i] = exact[i] - (f->base ? 0 : sum[i]);
    to_halves(s.closed - s.first, d, change, change);
    quantize_change(h, layer, change, s.closed - s.first);
    for (size_t i = 0; i < closed; i++)
        sum[i] = (f->base ? 0 : sum[i]) + change[i];
    memcpy(sum + closed, exact + closed, sizeof *sum * (all - closed)); /* the tail is X itself */
    simulate(&f->accumulator, s.end - s.first, d, sum, sum);
    rematerialize(h, h->accumulator, d, 1, l->weights.wk, s.first, s.end, l->k);
    rematerialize(h, h->accumulator, d, 1, l->weights.wv, s.first, s.end, l->v);
    finish_keys(h, layer, s.first, s.end);
}

/* --------------------------------------------------------------- interface */

static void host_append(cache *c, int layer, const float *x, int count)
{
    host *h = (host *)c;
    const format *f = &h->formats->layer[layer];
    if (h->length + count > h->capacity)
        fail(EXIT_INPUT, "the sequence has %d tokens; the cache was made for at most %d", h->length + count,
             h->capacity);
    if (f->method == CACHE_F32 || f->method == CACHE_FP16) {
        append_plain(h, layer, x, count);
        return;
    }
    if (f->method == CACHE_KIVI) {
        append_kivi(h, layer, x, count);
        return;
    }
    float *rounded = h->row[2];
    to_halves(count, h->config->hidden, x, rounded);
    if (f->cross)
        append_cross(h, layer, rounded, count);
    else if (f->latent)
        append_latent(h, layer, rounded, count);
    else
        append_x(h, layer, rounded, count);
}

static void host_attend(cache *c, int layer, const float *q, int count, float *out)
{
    host *h = (host *)c;
    const config *m = h->config;
    const host_layer *l = &h->layers[layer];
    const bool sliding = m->sliding[layer];
    const attention_shape shape = {m->heads, m->kv_heads, m->head_dim, (float)m->attention_scale,
                                   sliding ? m->window : 0};
    float *turned = h->row[0];
    memcpy(turned, q, sizeof *q * at(count, m->heads * m->head_dim));
    rope_turn(&h->rope[sliding], turned, count, m->heads, h->length);
    attend(&shape, turned, count, l->k, l->v, h->length + count, out);
}

static void host_advance(cache *c, int count)
{
    ((host *)c)->length += count;
}

static void host_reset(cache *c)
{
    ((host *)c)->length = 0;
}

static int host_read(cache *c, int layer, int stream, float *rows)
{
    host *h = (host *)c;
    const format *f = &h->formats->layer[layer];
    const int width = f->cross ? h->config->hidden : f->stream[stream].width;
    if (stream >= f->streams)
        return 0;
    memcpy(rows, f->cross ? h->accumulator : h->layers[layer].seen[stream],
           sizeof *rows * at(h->length, width));
    return width;
}

static void host_close(cache *c)
{
    host *h = (host *)c;
    for (int i = 0; i < h->config->layers; i++) {
        host_layer *l = &h->layers[i];
        float *all[] = {l->exact[0], l->exact[1], l->seen[0],     l->seen[1],
                        l->k,        l->v,        l->feedback[0], l->feedback[1]};
        for (size_t j = 0; j < sizeof all / sizeof all[0]; j++)
            free(all[j]);
        for (size_t j = 0; j < sizeof l->rounded / sizeof l->rounded[0]; j++)
            free(l->rounded[j]);
    }
    for (int i = 0; i < 3; i++)
        free(h->row[i]);
    for (int i = 0; i < 2; i++)
        rope_free(&h->rope[i]);
    free(h->accumulator);
    free(h->layers);
    free(h);
}

/* ----------------------------------------------------------------- opening */

static const float *rounded(host_layer *l, int slot, const char *type, const float *w, int rows, int cols)
{
    if (!w)
        return NULL;
    l->rounded[slot] = room((size_t)rows * (size_t)cols, sizeof(float));
    if (xq_simulate_weights(type, rows, cols, w, l->rounded[slot]) != XQ_OK)
        fail(EXIT_INPUT,
             "--weights: '%s' is not valid, or cannot hold this model's weights; valid: f16, bf16, int8, "
             "e4m3",
             type);
    return l->rounded[slot];
}

/* Rounds the weights as kernels see them. Matrices that rematerialize keys and values have type `type`;
 * matrices that project activations before they are cached have 16 bits. */
static void round_weights(const host *h, host_layer *l, const format *f, const xq_weights *from,
                          const char *type)
{
    const int d = h->config->hidden, dkv = dkv_of(h), rk = f->stream[0].width;
    const int rv = f->stream[f->streams > 1].width; /* method x has one stream for keys and values */
    const char *u_type = strcmp(type, "bf16") == 0 ? "bf16" : "f16";
    l->weights.k_norm = from->k_norm;
    if (f->method < CACHE_X) { /* not rounded; the source keeps them */
        l->weights.wk = from->wk;
        l->weights.wv = from->wv;
        return;
    }
    if (f->method == CACHE_LATENT || f->rotated) {
        l->weights.uk = rounded(l, 2, u_type, from->uk, d, rk);
        l->weights.uv = f->latent ? rounded(l, 3, u_type, from->uv, d, rv) : NULL;
        l->weights.ak = rounded(l, 4, type, from->ak, rk / f->stream[0].quantizer.latents, dkv);
        l->weights.av =
            rounded(l, 5, type, from->av, rv / f->stream[f->streams > 1].quantizer.latents, dkv);
        return;
    }
    l->weights.wk = rounded(l, 0, type, from->wk, d, dkv);
    l->weights.wv = rounded(l, 1, type, from->wv, d, dkv);
    l->weights.ukv = rounded(l, 6, u_type, from->ukv, d, rk);
}

/* Makes a stream's feedback matrices, which add the errors of a group's channels to its later channels.
 * a [rank, cols] is the matrix that the stream is multiplied by. cost [cols, block] weighs errors of the
 * product's columns, as xq_simulate_feedback takes it. */
static void feed_back(host_layer *l, const format *f, int stream, int cols, const float *a, int block,
                      const float *cost)
{
    xq_quantizer *q = &l->quantizer[stream];
    const size_t group = (size_t)q->group, latents = (size_t)q->latents,
                 padded = ((size_t)f->stream[stream].width / latents + 63) / 64 * 64,
                 groups = latents * ((padded + group - 1) / group);
    l->feedback[stream] = room(groups * group * group, sizeof(float)); /* a group fits in a latent here */
    check(NULL, xq_simulate_feedback(q, f->stream[stream].width, cols, a, block, cost, l->feedback[stream]),
          "xq_simulate_feedback");
    q->feedback = l->feedback[stream];
}

static void make_feedback(const host *h, host_layer *l, const format *f, const xq_weights *from)
{
    const size_t d = (size_t)h->config->hidden, dkv = (size_t)dkv_of(h);
    if (f->latent) {
        feed_back(l, f, 0, (int)dkv, from->ak, h->config->head_dim, from->k_cost);
        feed_back(l, f, 1, (int)dkv, from->av, 1, NULL);
        return;
    }
    float *both = room(2 * d * dkv, sizeof *both); /* ak and av side by side */
    for (size_t i = 0; i < d; i++) {
        memcpy(both + 2 * i * dkv, from->ak + i * dkv, sizeof *both * dkv);
        memcpy(both + (2 * i + 1) * dkv, from->av + i * dkv, sizeof *both * dkv);
    }
    feed_back(l, f, 0, (int)(2 * dkv), both, 1, NULL);
    free(both);
}

static void open_layer(host *h, sources *s, int layer)
{
    host_layer *l = &h->layers[layer];
    const format *f = &h->formats->layer[layer];
    const size_t rows = (size_t)h->capacity, dkv = (size_t)dkv_of(h);
    round_weights(h, l, f, sources_layer(s, layer), f->weights);
    for (int i = 0; i < f->streams; i++)
        l->quantizer[i] = f->stream[i].quantizer;
    if (f->feedback)
        make_feedback(h, l, f, sources_layer(s, layer));
    l->k = room(rows * dkv, sizeof(float));
    l->v = room(rows * dkv, sizeof(float));
    for (int i = 0; i < f->streams; i++) {
        int width = f->cross ? h->config->hidden : f->stream[i].width;
        l->exact[i] = room(rows * (size_t)width, sizeof(float));
        if (!f->cross)
            l->seen[i] = room(rows * (size_t)width, sizeof(float));
    }
}

cache *cache_host_open(const config *c, const formats *f, sources *s, int capacity)
{
    host *h = room(1, sizeof *h);
    h->interface = (cache){host_append, host_attend, host_advance, host_reset, host_close, host_read};
    h->config = c;
    h->formats = f;
    h->capacity = capacity;
    h->layers = room((size_t)c->layers, sizeof *h->layers);
    size_t widest = (size_t)c->hidden, heads = (size_t)c->heads * (size_t)c->head_dim;
    widest = heads > widest ? heads : widest;
    for (int i = 0; i < c->layers; i++) {
        size_t width = (size_t)f->layer[i].stream[0].width;
        widest = width > widest ? width : widest;
        open_layer(h, s, i);
    }
    for (int i = 0; i < 3; i++)
        h->row[i] = room((size_t)capacity * widest, sizeof(float));
    h->accumulator = room((size_t)capacity * (size_t)c->hidden, sizeof(float));
    for (int i = 0; i < 2; i++)
        rope_make(&h->rope[i], &c->rope[i], c->head_dim, capacity);
    return &h->interface;
}
