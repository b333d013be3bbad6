#include "quantizer.h"

#include "../runtime/half.h"
#include "rounding.h"

#include <math.h>

#define HALF_NAN 0x7fff

static float saturated(uint16_t bits)
{
    return (float)rounding_saturated(half_to_float(bits)); /* exact but for infinities; NaN passes */
}

static float clamped(float code, float top)
{
    return code < 0 ? 0 : code > top ? top : code;
}

/* The values of one group: element i is x[i * stride], data where `used` says so. */
typedef struct group_of {
    const quantizer *q;
    const uint16_t *x;
    size_t count, stride;
    size_t first_column; /* of a group of channels */
    bool by_channel;
} group_of;

static bool is_used(const group_of *g, size_t i)
{
    return quantizer_is_data(g->q, g->first_column + (g->by_channel ? 0 : i));
}

/* Least and greatest of the data; false if there is none. *nan: whether any of it is NaN. */
static bool range(const group_of *g, float *lo, float *hi, bool *nan)
{
    bool any = false;
    *lo = *hi = 0;
    *nan = false;
    for (size_t i = 0; i < g->count; i++) {
        if (!is_used(g, i))
            continue;
        float value = saturated(g->x[i * g->stride]);
        *nan = *nan || isnan(value);
        *lo = !any || value < *lo ? value : *lo;
        *hi = !any || value > *hi ? value : *hi;
        any = true;
    }
    return any;
}

static void encode_group(const group_of *g, uint8_t *codes, uint16_t *scale, uint16_t *zero)
{
    const bool integer = g->q->integer_zero;
    const float top = (float)((1 << g->q->bits) - 1);
    float lo, hi;
    bool nan, any = range(g, &lo, &hi, &nan);
    if (integer) {
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
    }
    const float clip = g->q->clip > 0 ? g->q->clip : 1;
    const float span = (hi - lo) * clip;
    *scale = nan ? HALF_NAN : any ? half_from_float(span / top) : 0;
    float s = half_to_float(*scale), z = 0;
    bool flat = nan || s == 0;
    if (integer) {
        z = flat ? 0 : clamped(nearbyintf(-(lo * clip) / s), top);
        *zero = (uint16_t)z;
    } else {
        *zero = nan ? HALF_NAN : any ? half_from_float(lo + (hi - lo - span) * 0.5f) : 0;
        z = half_to_float(*zero);
    }
    for (size_t i = 0; i < g->count; i++) {
        float x = saturated(g->x[i * g->stride]);
        float code = integer ? nearbyintf(x / s) + z : nearbyintf((x - z) / s);
        codes[i * g->stride] = flat || !is_used(g, i) ? 0 : (uint8_t)clamped(code, top);
    }
}

void quantizer_encode(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes, uint16_t *scale,
                      uint16_t *zero)
{
    for (size_t g = 0, begin = 0; begin < width; g++, begin += q->group) {
        size_t count = width - begin < q->group ? width - begin : q->group;
        group_of group = {q, x + begin, count, 1, begin, false};
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

double quantizer_value(const quantizer *q, int code, uint16_t scale, uint16_t zero)
{
    double s = half_to_float(scale);
    return q->integer_zero ? s * (code - zero) : s * code + (double)half_to_float(zero);
}

uint16_t quantizer_kernel_value(const quantizer *q, int code, uint16_t scale, uint16_t zero)
{
    return rounding_to_half(quantizer_value(q, code, scale, zero));
}

void quantizer_decode(const quantizer *q, const uint8_t *codes, const uint16_t *scale, const uint16_t *zero,
                      size_t width, double *x_hat)
{
    for (size_t c = 0; c < width; c++)
        x_hat[c] = quantizer_value(q, codes[c], scale[c / q->group], zero[c / q->group]);
}
