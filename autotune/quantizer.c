#include "quantizer.h"

#include "../runtime/half.h"

#include <math.h>

#define HALF_MAX 65504.0f
#define HALF_NAN 0x7fff

static float saturated(uint16_t bits)
{
    float value = half_to_float(bits);
    return value > HALF_MAX ? HALF_MAX : value < -HALF_MAX ? -HALF_MAX : value; /* NaN passes */
}

static void encode_group(const uint16_t *x, size_t count, int bits, uint8_t *codes, uint16_t *scale,
                         uint16_t *offset)
{
    float lo = saturated(x[0]), hi = lo, top = (float)((1 << bits) - 1);
    int nan = isnan(lo);
    for (size_t i = 1; i < count; i++) {
        float value = saturated(x[i]);
        nan |= isnan(value);
        lo = value < lo ? value : lo;
        hi = value > hi ? value : hi;
    }
    *offset = nan ? HALF_NAN : half_from_float(lo);
    *scale = nan ? HALF_NAN : half_from_float((hi - lo) / top);
    float s = half_to_float(*scale);
    for (size_t i = 0; i < count; i++) {
        float code = nan || s == 0 ? 0 : nearbyintf((saturated(x[i]) - lo) / s);
        codes[i] = (uint8_t)(code < 0 ? 0 : code > top ? top : code);
    }
}

void quantizer_encode(const uint16_t *x, size_t width, int bits, size_t group, uint8_t *codes,
                      uint16_t *scale, uint16_t *offset)
{
    for (size_t g = 0, begin = 0; begin < width; g++, begin += group) {
        size_t count = width - begin < group ? width - begin : group;
        encode_group(x + begin, count, bits, codes + begin, scale + g, offset + g);
    }
}

void quantizer_decode(const uint8_t *codes, const uint16_t *scale, const uint16_t *offset, size_t width,
                      size_t group, double *x_hat)
{
    for (size_t c = 0; c < width; c++) {
        double s = half_to_float(scale[c / group]), m = half_to_float(offset[c / group]);
        x_hat[c] = s * codes[c] + m;
    }
}
