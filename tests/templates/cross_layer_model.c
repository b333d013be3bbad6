#include "cross_layer_model.h"

#include "../../autotune/engine/cache.h"
#include "../../autotune/reference/rounding.h"
#include "../../runtime/base/half.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WIDTH = 512 };

static void *room(size_t bytes)
{
    void *memory = malloc(bytes + 1);
    cr_assert_not_null(memory);
    return memory;
}

static float saturated(float value)
{
    return value > 65504 ? 65504 : value < -65504 ? -65504 : value;
}

static int width_of(const model_layer_kind *k)
{
    return k->model.hidden_size;
}

void model_accumulated(const model_layer_kind *k, const page_sequence *accumulator, double *x_hat)
{
    driver_decode(k->accumulator, 0, accumulator, x_hat);
}

/* ----------------------------------------------------------------- deltas */

/* Computes the row that token t is quantized from: X in the base layer, else f16(X - accumulator). */
static void delta_row(const model_layer_kind *k, const double *before, const uint16_t *x, int t,
                      uint16_t *d)
{
    int width = width_of(k);
    for (int c = 0; c < width; c++) {
        size_t i = (size_t)t * (size_t)width + (size_t)c;
        float value = half_to_float(x[i]);
        /* The kernels see the accumulator as f16 numbers, so this subtraction is the same as theirs. */
        d[c] = half_from_float(saturated(k->base ? value : value - (float)rounding_half(before[i])));
    }
}

/* Latent of a delta in double precision; its padding is 0. */
static void latent_row(const model_layer_kind *k, const uint16_t *d, double *latent)
{
    int width = width_of(k), stored = k->codec->stream[0].width;
    for (int j = 0; j < stored; j++) {
        latent[j] = 0;
        for (int c = 0; c < width; c++)
            latent[j] += half_to_float(d[c]) * k->uk[(size_t)c * (size_t)stored + (size_t)j];
    }
}

/* ----------------------------------------------------------------- append */

static void expect_codes(const uint8_t *got, const uint8_t *expected, size_t count, const char *what, int t)
{
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(got[i], expected[i], "%s of token %d, element %zu: %d, must be %d", what, t, i, got[i],
                     expected[i]);
}

static void expect_params(const uint16_t *got, const uint16_t *expected, size_t count, const char *what,
                          int t)
{
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(got[i], expected[i], "%s of token %d, group %zu: %#x, must be %#x", what, t, i, got[i],
                     expected[i]);
}

static void check_row_codes(const model_layer_kind *k, const page_sequence *cache, const uint16_t *d, int t)
{
    const page_stream *s = &k->codec->stream[0];
    size_t width = (size_t)s->width, groups = (size_t)s->groups;
    uint8_t codes[2][MOST_WIDTH];
    uint16_t scale[2][64], zero[2][64];
    const uint8_t *page =
        cache->pool + (size_t)cache->pages[t / k->codec->page_tokens] * k->codec->page_bytes;
    cr_assert(width <= MOST_WIDTH && groups <= 64);
    page_codec_read(k->codec, 0, page, t % k->codec->page_tokens, codes[0], scale[0], zero[0]);
    quantizer_encode(&s->format, d, width, codes[1], scale[1], zero[1]);
    expect_params(scale[0], scale[1], groups, "scale", t);
    expect_params(zero[0], zero[1], groups, "offset", t);
    expect_codes(codes[0], codes[1], width, "code", t);
}

static void check_group_codes(const model_layer_kind *k, const page_sequence *cache, const uint16_t *d,
                              int group)
{
    const page_stream *s = &k->codec->stream[0];
    size_t width = (size_t)s->width, count = width * (size_t)k->codec->group;
    uint8_t *codes = room(2 * count);
    uint16_t *params = room(8 * width);
    int first = group * k->codec->group;
    page_codec_read_group(k->codec, 0, cache, group, codes, params, params + width);
    quantizer_encode_channels(&s->format, d, width, codes + count, params + 2 * width, params + 3 * width);
    expect_params(params, params + 2 * width, width, "scale", first);
    expect_params(params + width, params + 3 * width, width, "offset", first);
    expect_codes(codes, codes + count, count, "code", first);
    free(codes);
    free(params);
}

/* Reads the parameters of token t's elements: one pair for each channel, or for each group of channels. */
static void read_params(const model_layer_kind *k, const page_sequence *cache, int t, uint16_t *scale,
                        uint16_t *zero)
{
    const page_codec *codec = k->codec;
    size_t width = (size_t)codec->stream[0].width;
    uint8_t *codes = room(width * (size_t)codec->group);
    if (codec->stream[0].by_channel)
        page_codec_read_group(codec, 0, cache, t / codec->group, codes, scale, zero);
    else
        page_codec_read(codec, 0,
                        cache->pool + (size_t)cache->pages[t / codec->page_tokens] * codec->page_bytes,
                        t % codec->page_tokens, codes, scale, zero);
    free(codes);
}

/* Half a step of the quantizer, and the amount by which rounding its parameters to f16 moves a value. The
 * largest code stands for offset + (2^b - 1) * scale. */
static double half_step(const model_layer_kind *k, uint16_t scale, uint16_t zero)
{
    double offset = k->codec->stream[0].format.integer_zero ? 0 : fabs(half_to_float(zero));
    return half_to_float(scale) * (0.5 + (1 << k->codec->bits) * 0x1p-11) + 1e-3 * offset + 1e-4;
}

static void check_row_values(const model_layer_kind *k, const page_sequence *cache, const uint16_t *d,
                             int t)
{
    const page_stream *s = &k->codec->stream[0];
    double latent[MOST_WIDTH], got[MOST_WIDTH];
    uint16_t scale[MOST_WIDTH], zero[MOST_WIDTH];
    latent_row(k, d, latent);
    page_codec_dequantize_token(k->codec, 0, cache, t, got);
    read_params(k, cache, t, scale, zero);
    for (int c = 0; c < s->width; c++) {
        size_t own = (size_t)c, at = s->by_channel ? own : quantizer_group_of(&s->format, own);
        cr_assert_leq(fabs(got[c] - latent[c]), half_step(k, scale[at], zero[at]),
                      "latent of token %d, channel %d: %g, must be %g", t, c, got[c], latent[c]);
    }
}

/* The rows of a stream's tail must hold X itself. */
static void check_tail(const model_layer_kind *k, const page_sequence *cache, const uint16_t *x)
{
    size_t width = (size_t)width_of(k);
    for (int t = page_codec_tail_begin(k->codec, 0, cache); t < cache->length; t++)
        cr_assert_eq(memcmp(page_codec_tail_row(k->codec, 0, cache, t), x + (size_t)t * width, 2 * width),
                     0, "the tail's token %d is not the activations", t);
}

void model_check_append(const model_layer_kind *k, const page_sequence *cache, const double *before,
                        const uint16_t *x, int begin)
{
    bool by_channel = k->codec->stream[0].by_channel;
    int group = k->codec->group, width = width_of(k);
    /* A group of tokens is quantized when it is full. */
    int first = by_channel ? begin / group * group : begin;
    int end = by_channel ? cache->length / group * group : cache->length;
    uint16_t *d = room(2 * (size_t)width * (size_t)(end > first ? end - first : 0));
    for (int t = first; t < end; t++)
        delta_row(k, before, x, t, d + (size_t)(t - first) * (size_t)width);
    for (int t = first; t < end; t++) {
        const uint16_t *row = d + (size_t)(t - first) * (size_t)width;
        if (k->latent)
            check_row_values(k, cache, row, t);
        else if (!by_channel)
            check_row_codes(k, cache, row, t);
        else if (t % group == 0)
            check_group_codes(k, cache, row, t / group);
    }
    if (by_channel)
        check_tail(k, cache, x);
    free(d);
}

/* ------------------------------------------------------------- accumulate */

/* Computes the row that the accumulator must hold for a token, before it is rounded and stored. */
static void accumulated_row(const model_layer_kind *k, const page_sequence *cache, const double *before,
                            const uint16_t *x, int t, double *row)
{
    int width = width_of(k), stored = k->codec->stream[0].width;
    double delta[MOST_WIDTH];
    if (k->codec->stream[0].by_channel && t >= page_codec_tail_begin(k->codec, 0, cache)) {
        for (int c = 0; c < width; c++)
            row[c] = half_to_float(x[(size_t)t * (size_t)width + (size_t)c]);
        return;
    }
    page_codec_dequantize_token(k->codec, 0, cache, t, delta);
    for (int j = 0; j < stored; j++)
        delta[j] = rounding_half(delta[j]); /* as in the kernels: exact in f32, rounded once */
    for (int c = 0; c < width; c++) {
        double sum = k->base ? 0 : rounding_half(before[(size_t)t * (size_t)width + (size_t)c]);
        if (!k->latent)
            sum += delta[c];
        for (int j = 0; k->latent && j < stored; j++)
            sum += delta[j] * k->uk[(size_t)c * (size_t)stored + (size_t)j];
        row[c] = sum;
    }
}

static void check_stored_halves(const model_layer_kind *k, const page_sequence *after, const double *row,
                                int t)
{
    uint16_t got[MOST_WIDTH];
    page_codec_read_halves(k->accumulator, 0,
                           after->pool + (size_t)after->pages[t / k->accumulator->page_tokens] *
                                             k->accumulator->page_bytes,
                           t % k->accumulator->page_tokens, got);
    for (int c = 0; c < width_of(k); c++) {
        double value = half_to_float(got[c]);
        if (!k->latent)
            cr_assert_eq(got[c], half_from_float(saturated((float)row[c])),
                         "token %d, channel %d: %g, must be %g", t, c, value, row[c]);
        cr_assert_leq(fabs(value - row[c]), fabs(row[c]) * 0x1.1p-11 + 1e-5,
                      "token %d, channel %d: %g, must be %g", t, c, value, row[c]);
    }
}

static void check_stored_codes(const model_layer_kind *k, const page_sequence *after, const double *row,
                               int t)
{
    const page_stream *s = &k->accumulator->stream[0];
    size_t width = (size_t)s->width;
    uint8_t codes[2][MOST_WIDTH];
    uint16_t rounded[MOST_WIDTH], scale[2][64], zero[2][64];
    page_codec_read(k->accumulator, 0,
                    after->pool +
                        (size_t)after->pages[t / k->accumulator->page_tokens] * k->accumulator->page_bytes,
                    t % k->accumulator->page_tokens, codes[0], scale[0], zero[0]);
    for (size_t c = 0; c < width; c++)
        rounded[c] = half_from_float(saturated((float)row[c]));
    quantizer_encode(&s->format, rounded, width, codes[1], scale[1], zero[1]);
    if (!k->latent) {
        expect_params(scale[0], scale[1], (size_t)s->groups, "the accumulator's scale", t);
        expect_params(zero[0], zero[1], (size_t)s->groups, "the accumulator's offset", t);
        expect_codes(codes[0], codes[1], width, "the accumulator's code", t);
    }
    for (size_t c = 0; c < width; c++) {
        size_t g = quantizer_group_of(&s->format, c);
        double step = half_to_float(scale[0][g]);
        double value = quantizer_value(&s->format, codes[0][c], scale[0][g], zero[0][g]);
        cr_assert_leq(fabs(value - row[c]),
                      step * (0.5 + (1 << s->format.bits) * 0x1p-11) + 2e-3 * fabs(row[c]) + 1e-4,
                      "token %d, channel %zu: %g, must be %g", t, c, value, row[c]);
    }
}

void model_check_accumulate(const model_layer_kind *k, const page_sequence *cache, const double *before,
                            const uint16_t *x, const page_sequence *after)
{
    double row[MOST_WIDTH];
    cr_assert_leq(width_of(k), MOST_WIDTH);
    for (int t = 0; t < cache->length; t++) {
        accumulated_row(k, cache, before, x, t, row);
        if (k->accumulator->bits == 16)
            check_stored_halves(k, after, row, t);
        else
            check_stored_codes(k, after, row, t);
    }
}

/* ----------------------------------------------------------------- attend */

static double *decoded(const page_codec *codec, int stream, const page_sequence *cache)
{
    double *x = room(sizeof *x * (size_t)cache->length * (size_t)codec->stream[stream].width);
    driver_decode(codec, stream, cache, x);
    return x;
}

void model_check_attend(const model_layer_kind *k, const page_sequence *cache, int count, const uint16_t *q,
                        const uint16_t *out, const float *lse)
{
    const page_codec *codec = k->cross ? k->accumulator : k->codec;
    size_t values = (size_t)count * (size_t)k->model.heads * (size_t)k->model.head_dim;
    size_t lses = (size_t)count * (size_t)k->model.heads;
    double *xk = decoded(codec, 0, cache), *xv = codec->streams > 1 ? decoded(codec, 1, cache) : xk;
    double *expected = room(sizeof *expected * values), *got = room(sizeof *got * values);
    double *expected_lse = room(sizeof *expected_lse * lses), *query = room(sizeof *query * values);
    error err = ERROR_INIT;
    half_to_doubles(query, q, values);
    half_to_doubles(got, out, values);
    const reference_queries queries = {.count = count, .q = query};
    cr_assert_eq(reference_attend_layer(&k->model, &k->layer, cache->length, xk, xv, &queries, expected,
                                        expected_lse, &err),
                 XQ_OK, "%s", err.message);
    double difference = reference_error(expected, got, values);
    cr_assert_leq(difference, 2e-3, "relative error %g over %d tokens", difference, cache->length);
    for (size_t i = 0; i < lses; i++)
        cr_assert_leq(fabs(lse[i] - expected_lse[i]), 1e-2, "lse %g, must be %g", (double)lse[i],
                      expected_lse[i]);
    if (xv != xk)
        free(xv);
    free(xk);
    free(expected);
    free(got);
    free(expected_lse);
    free(query);
}
