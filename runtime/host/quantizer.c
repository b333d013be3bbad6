#include "quantizer.h"

#include "../base/half.h"
#include "feedback.h"

#include <math.h>

#define HALF_MAX 65504.0f

static float saturated(uint16_t bits)
{
    float x = half_to_float(bits);
    return x > HALF_MAX ? HALF_MAX : x < -HALF_MAX ? -HALF_MAX : x; /* NaN passes */
}

/* ---------------------------------------------------------------- parameters */

/* The end of a group's range that is farthest from x̂ = 0, or, with a float zero, the upper end. It is
 * `span` away from `offset`, at level `count`. */
typedef struct range_end {
    float offset, span, scale, count;
} range_end;

static bool overflows(const range_end *end)
{
    return end->scale * end->count + end->offset >= 65520.0f; /* f16 rounds this to infinity */
}

/* A scale is rounded, so the end may lie beyond the largest f16 value. Then fewer levels are used: the
 * most for which it does not. If no number of levels works, the scale is rounded down. */
static void keep_finite(range_end *end)
{
    const range_end given = *end;
    while (overflows(end) && end->count > 0) {
        end->count -= 1;
        end->scale = half_round(end->span / end->count);
    }
    if (end->count > 0)
        return;
    *end = given;
    end->scale = half_to_float((uint16_t)(half_from_float(given.scale) - 1));
}

static quantizer_levels integer_levels(float lo, float hi, float clip, float top)
{
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    range_end end = {0, fmaxf(-lo, hi) * clip, half_round((hi - lo) * clip / top), 0};
    if (end.scale == 0)
        return (quantizer_levels){.divisor = 1};
    end.count = nearbyintf(end.span / end.scale);
    keep_finite(&end);
    float zero = fminf(nearbyintf(-(lo * clip) / end.scale), top), most = top - zero;
    if (end.scale * most >= 65520.0f)
        most = end.count;
    return (quantizer_levels){end.scale, 0, end.scale, -zero, most};
}

static quantizer_levels float_levels(float lo, float hi, float clip, float top)
{
    const float range = hi - lo, span = range * clip, offset = half_round(lo + (range - span) * 0.5f);
    range_end end = {offset, span, half_round(span / top), top};
    if (end.scale == 0)
        return (quantizer_levels){.offset = offset, .divisor = 1};
    keep_finite(&end);
    return (quantizer_levels){end.scale, offset, end.scale, 0, end.count};
}

quantizer_levels quantizer_find_levels(const quantizer *q, float lo, float hi, bool any, bool nan)
{
    const float top = (float)((1 << q->bits) - 1), clip = q->clip > 0 ? q->clip : 1;
    if (!any)
        return (quantizer_levels){.divisor = 1};
    if (nan)
        return (quantizer_levels){.scale = NAN, .offset = q->integer_zero ? 0 : NAN, .divisor = 1};
    return q->integer_zero ? integer_levels(lo, hi, clip, top) : float_levels(lo, hi, clip, top);
}

static uint16_t zero_bits(const quantizer *q, const quantizer_levels *l)
{
    return q->integer_zero ? (uint16_t)-l->least : half_from_float(l->offset);
}

/* ---------------------------------------------------------------- encoding */

/* The values of one group. Element i is x[i * stride]; it holds data if is_used says so. */
typedef struct group_of {
    const quantizer *q;
    const uint16_t *x;
    size_t count, stride;
    size_t first_column; /* first column of a group of channels */
    bool by_channel;
} group_of;

static bool is_used(const group_of *g, size_t i)
{
    return quantizer_is_data(g->q, g->first_column + (g->by_channel ? 0 : i));
}

static quantizer_levels levels_of(const group_of *g)
{
    bool any = false, nan = false;
    float lo = 0, hi = 0;
    for (size_t i = 0; i < g->count; i++) {
        if (!is_used(g, i))
            continue;
        float value = saturated(g->x[i * g->stride]);
        nan = nan || isnan(value);
        lo = !any || value < lo ? value : lo;
        hi = !any || value > hi ? value : hi;
        any = true;
    }
    return quantizer_find_levels(g->q, lo, hi, any, nan);
}

/* Encodes the channels of a group one after the other. */
static void encode_with_feedback(const group_of *g, const quantizer_levels *l, uint8_t *codes)
{
    const size_t group = g->q->group;
    const float *feedback = g->q->feedback + quantizer_group_of(g->q, g->first_column) * group * group;
    const float inverse = 1 / l->divisor;
    float t[FEEDBACK_MOST_CHANNELS];
    for (size_t i = 0; i < g->count; i++)
        t[i] = saturated(g->x[i]);
    for (size_t i = 0; i < g->count; i++) {
        codes[i] = 0;
        if (!is_used(g, i))
            continue;
        float level = quantizer_level_by(l, inverse, t[i]);
        codes[i] = (uint8_t)(level - l->least);
        quantizer_feed(feedback + i * group, quantizer_error(l, level, saturated(g->x[i])), i + 1, g->count,
                       t);
    }
}

static void encode_group(const group_of *g, uint8_t *codes, uint16_t *scale, uint16_t *zero)
{
    quantizer_levels l = levels_of(g);
    *scale = half_from_float(l.scale);
    *zero = zero_bits(g->q, &l);
    if (g->q->feedback && !g->by_channel) {
        encode_with_feedback(g, &l, codes);
        return;
    }
    for (size_t i = 0; i < g->count; i++) {
        float level = quantizer_level(&l, saturated(g->x[i * g->stride]));
        codes[i * g->stride] = is_used(g, i) ? (uint8_t)(level - l.least) : 0;
    }
}

void quantizer_encode(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes, uint16_t *scale,
                      uint16_t *zero)
{
    for (size_t g = 0, begin = 0, end; begin < width; g++, begin = end) {
        end = quantizer_group_end(q, begin, width);
        group_of group = {q, x + begin, end - begin, 1, begin, false};
        encode_group(&group, codes + begin, scale + g, zero + g);
    }
}

void quantizer_encode_channels(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes,
                               uint16_t *scale, uint16_t *zero)
{
    for (size_t c = 0; c < width; c++) {
        group_of group = {q, x + c, q->group, width, c, true};
        encode_group(&group, codes + c, scale + c, zero + c);
    }
}

/* ---------------------------------------------------------------- decoding */

double quantizer_value(const quantizer *q, int code, uint16_t scale, uint16_t zero)
{
    double s = half_to_float(scale);
    return q->integer_zero ? s * (code - zero) : s * code + (double)half_to_float(zero);
}

uint16_t quantizer_kernel_value(const quantizer *q, int code, uint16_t scale, uint16_t zero)
{
    return half_from_double(quantizer_value(q, code, scale, zero));
}
