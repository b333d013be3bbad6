#include "expected_cache.h"

#include "../../runtime/base/half.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HALF_NAN 0x7fff

void expected_open(expected_cache *c, gen *g, const char *completed, bool accumulator, int pool)
{
    error err = ERROR_INIT;
    memset(c, 0, sizeof *c);
    cr_assert_eq(
        (accumulator ? page_codec_create_accumulator : page_codec_create)(g, completed, &c->codec, &err),
        XQ_OK, "%s", err.message);
    c->bytes = c->codec->page_bytes * (size_t)pool;
    c->pages = malloc(c->bytes + 1);
    cr_assert(c->pages);
    memset(c->pages, 0xff, c->bytes);
}

void expected_close(expected_cache *c)
{
    page_codec_destroy(c->codec);
    free(c->pages);
}

/* ---------------------------------------------------------------- the quantizer */

/* Compares as PTX does: -0 is less than 0. */
static bool is_less(float a, float b)
{
    return a < b || (a == b && signbit(a) && !signbit(b));
}

static float clamped(float value, int most)
{
    float top = (float)most;
    return isnan(value) || value < 0 ? 0 : value > top ? top : value;
}

/* Handles scales near f16's limit, as runtime/host/quantizer.h defines: n steps of the scale lead from
 * `from` to the end of the range, `from` + `length`, and the sum must not round to infinity. Returns the
 * number of steps in use, and adapts *scale. */
static int find_end(float from, float length, int n, uint16_t *scale)
{
    const uint16_t rounded = *scale;
    for (int steps = n; steps > 0; steps--) {
        if (steps < n)
            *scale = half_from_float(length / (float)steps);
        if (half_to_float(*scale) * (float)steps + from < 65520)
            return steps;
    }
    *scale = (uint16_t)(rounded - 1);
    return n;
}

/* Parameters of one quantization group. */
typedef struct expected_params {
    uint16_t scale, offset; /* f16; the offset is used where zero points are floats */
    int zero;               /* the zero point, where it is an integer */
    int most;               /* the largest code */
} expected_params;

static expected_params find_params(const quantizer *q, const float *values, int count)
{
    const float clip = q->clip > 0 ? q->clip : 1; /* the format of an accumulator has no clip */
    float low = count ? values[0] : 0, high = low;
    bool nan = false;
    for (int i = 0; i < count; i++) {
        nan |= isnan(values[i]);
        low = is_less(values[i], low) ? values[i] : low;
        high = is_less(high, values[i]) ? values[i] : high;
    }
    if (nan)
        return (expected_params){HALF_NAN, HALF_NAN, 0, 0};
    if (q->integer_zero) {
        low = fminf(low, 0);
        high = fmaxf(high, 0);
    }
    const int top = (1 << q->bits) - 1;
    const float span = (high - low) * clip, cut = ((high - low) - span) / 2;
    expected_params p = {half_from_float(span / (float)top), half_from_float(low + cut), 0, top};
    if (p.scale == 0)
        return p;
    if (!q->integer_zero) {
        p.most = find_end(half_to_float(p.offset), span, top, &p.scale);
        return p;
    }
    const float end = (-low > high ? -low : high) * clip;
    int n = find_end(0, end, (int)nearbyintf(end / half_to_float(p.scale)), &p.scale);
    float s = half_to_float(p.scale);
    p.zero = (int)clamped(nearbyintf(-(low * clip) / s), top);
    p.most = s * (float)(top - p.zero) < 65520 ? top : p.zero + n;
    return p;
}

static int find_code(float value, const expected_params *p, bool integer_zero)
{
    float s = half_to_float(p->scale);
    if (s == 0 || isnan(s))
        return 0;
    if (integer_zero)
        return (int)clamped(nearbyintf(value / s) + (float)p->zero, p->most);
    return (int)clamped(nearbyintf((value - half_to_float(p->offset)) / s), p->most);
}

/* Finds a code with feedback, where the kernels multiply by 1 / scale. *e is the error of the code's value,
 * as f16. */
static int feed_back(float value, float moved, const expected_params *p, bool integer_zero, float *e)
{
    const float s = half_to_float(p->scale), offset = integer_zero ? 0 : half_to_float(p->offset);
    int code = 0;
    if (s != 0 && !isnan(s))
        code = (int)clamped(nearbyintf((moved - offset) * (1 / s)) + (float)(integer_zero ? p->zero : 0),
                            p->most);
    *e = half_to_float(
        expected_round_half((float)(s * (float)(code - (integer_zero ? p->zero : 0)) + offset) - value));
    return code;
}

uint16_t expected_round_half(double value)
{
    if (isnan(value))
        return HALF_NAN;
    if (fabs(value) >= 65504)
        return value < 0 ? 0xfbff : 0x7bff;
    uint16_t best = half_from_float((float)value); /* rounded twice: a neighbour may be nearer */
    for (int step = -1; step <= 1; step += 2) {
        uint16_t other = (uint16_t)(best + step);
        if ((other & 0x7fff) > 0x7bff)
            continue;
        double mine = fabs(half_to_float(best) - value), its = fabs(half_to_float(other) - value);
        if (its < mine || (its == mine && !(other & 1)))
            best = other;
    }
    return best;
}

/* ---------------------------------------------------------------- writing */

static page_sequence sequence_of(const expected_cache *c, const int32_t *pages)
{
    return (page_sequence){.pool = c->pages, .pages = pages, .length = INT_MAX};
}

static void put_params(const expected_cache *c, int stream, const page_sequence *s, int t, int channel,
                       const expected_params *p)
{
    const bool integer_zero = c->codec->stream[stream].format.integer_zero;
    page_codec_set_params(c->codec, stream, s, t, channel, p->scale,
                          integer_zero ? (uint16_t)p->zero : p->offset);
}

int expected_feedback_room(const page_codec *codec)
{
    size_t most = 0;
    for (int i = 0; i < codec->streams; i++)
        if (!codec->stream[i].by_channel && codec->stream[i].format.group > most)
            most = codec->stream[i].format.group;
    return (int)most;
}

/* Writes group `group` of a token, which holds channels begin .. end, one channel after the other. */
static void write_fed_group(expected_cache *c, int stream, const page_sequence *sequence, int t, int group,
                            int begin, int end, const uint16_t *row, const expected_params *p)
{
    const page_stream *s = &c->codec->stream[stream];
    const int room = expected_feedback_room(c->codec);
    float moved[256], e;
    for (int i = begin; i < end; i++)
        moved[i - begin] = half_to_float(row[i]);
    for (int j = begin; j < end; j++) {
        int code = feed_back(half_to_float(row[j]), moved[j - begin], p, s->format.integer_zero, &e);
        bool padding = expected_is_padding(s, j);
        const float *row_of = c->feedback[stream] + (group * room + j - begin) * room;
        page_codec_set_code(c->codec, stream, sequence, t, j, padding ? 0 : (unsigned)code);
        for (int i = j + 1; i < end && !padding; i++)
            moved[i - begin] += row_of[i - begin] * e;
    }
}

void expected_write_token(expected_cache *c, int stream, const int32_t *pages, int t, const uint16_t *row)
{
    const page_stream *s = &c->codec->stream[stream];
    const page_sequence sequence = sequence_of(c, pages);
    const int bits = s->format.bits, step = bits == 16 ? 64 : (int)s->format.group;
    float *values = malloc((size_t)s->width * sizeof *values);
    for (int begin = 0, end, group = 0; begin < s->width; begin = end, group++) {
        const int latent_end = (begin / s->latent_width + 1) * s->latent_width;
        int count = 0;
        end = begin + step < latent_end ? begin + step : latent_end;
        expected_params p = {0};
        for (int i = begin; i < end; i++)
            if (!expected_is_padding(s, i))
                values[count++] = half_to_float(row[i]);
        if (bits < 16) {
            p = find_params(&s->format, values, count);
            put_params(c, stream, &sequence, t, begin, &p);
        }
        for (int i = begin; i < end && !c->feedback[stream]; i++) {
            int code = bits == 16 ? row[i]
                       : expected_is_padding(s, i)
                           ? 0
                           : find_code(half_to_float(row[i]), &p, s->format.integer_zero);
            page_codec_set_code(c->codec, stream, &sequence, t, i, (unsigned)code);
        }
        if (c->feedback[stream])
            write_fed_group(c, stream, &sequence, t, group, begin, end, row, &p);
    }
    free(values);
}

void expected_write_group(expected_cache *c, int stream, const int32_t *pages, int group,
                          const uint16_t *values)
{
    const page_stream *s = &c->codec->stream[stream];
    const page_sequence sequence = sequence_of(c, pages);
    const int count = c->codec->group, first = group * count;
    float *column = malloc((size_t)count * sizeof *column);
    for (int i = 0; i < s->width; i++) {
        for (int t = 0; t < count; t++)
            column[t] = expected_is_padding(s, i) ? 0 : half_to_float(values[t * s->width + i]);
        expected_params p = find_params(&s->format, column, count);
        put_params(c, stream, &sequence, first, i, &p);
        for (int t = 0; t < count; t++)
            page_codec_set_code(c->codec, stream, &sequence, first + t, i,
                                (unsigned)find_code(column[t], &p, s->format.integer_zero));
    }
    free(column);
}

/* ---------------------------------------------------------------- reading */

double expected_value(const expected_cache *c, int stream, const int32_t *pages, int t, int channel,
                      double *scale)
{
    const page_sequence sequence = sequence_of(c, pages);
    const unsigned code = page_codec_code(c->codec, stream, &sequence, t, channel);
    uint16_t step, zero;
    if (c->codec->stream[stream].format.bits == 16)
        return half_to_float((uint16_t)code);
    page_codec_params(c->codec, stream, &sequence, t, channel, &step, &zero);
    if (scale)
        *scale = half_to_float(step);
    return quantizer_value(&c->codec->stream[stream].format, (int)code, step, zero);
}

uint16_t expected_half(const expected_cache *c, int stream, const int32_t *pages, int t, int channel)
{
    return expected_round_half(expected_value(c, stream, pages, t, channel, NULL));
}
