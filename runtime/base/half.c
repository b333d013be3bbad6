#if !defined(__clang__)
#pragma GCC optimize("O3") /* loops over arrays */
#endif

#include "half.h"

#include <math.h>
#include <string.h>

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float bits_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Has no branches, so that loops over it become vectors. Rounding adds half a unit in the last place, less
 * one if that place is even, and cuts off the rest. A carry out of the mantissa increases the exponent, up
 * to infinity. Numbers below 2^-14 are rounded by an addition whose unit in the last place is that of
 * f16's subnormals. */
static inline uint16_t nearest(float value)
{
    const uint32_t bits = float_bits(value), sign = bits >> 16 & 0x8000;
    const int32_t magnitude = (int32_t)(bits & 0x7fffffff);
    const int32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
    const int32_t tiny = (int32_t)float_bits(bits_float((uint32_t)magnitude) + 0.5f) - 0x3f000000;
    int32_t half = magnitude < 0x38800000 ? tiny : normal;
    half = magnitude >= 0x47800000 ? 0x7c00 : half; /* 2^16 and up */
    return magnitude > 0x7f800000 ? 0x7fff : (uint16_t)((uint32_t)half | sign);
}

uint16_t half_from_float(float value)
{
    return nearest(value);
}

uint16_t half_from_double(double value)
{
    float nearest = (float)value;
    double rest = value - (double)nearest;
    if (!isfinite(nearest) || rest == 0)
        return half_from_float(nearest);
    /* Rounded to odd, f32 has enough bits that its own rounding does not change the result. */
    uint32_t bits = float_bits(nearest);
    if ((rest < 0) == (value > 0))
        bits--;
    return half_from_float(bits_float(bits | 1));
}

float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    if (exponent == 31)
        return bits_float(sign | 0x7f800000 | mantissa << 13);
    if (exponent != 0)
        return bits_float(sign | (exponent + 112) << 23 | mantissa << 13);
    float subnormal = (float)mantissa * 0x1p-24f;
    return sign ? -subnormal : subnormal;
}

float half_from_bfloat(uint16_t bits)
{
    return bits_float((uint32_t)bits << 16);
}

uint16_t half_to_bfloat(float value)
{
    uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >>
                      16); /* a carry increases the exponent, up to infinity */
}

void half_from_floats(uint16_t *destination, const float *source, size_t count)
{
    for (size_t i = 0; i < count; i++)
        destination[i] = nearest(source[i]);
}

void half_to_doubles(double *destination, const uint16_t *source, size_t count)
{
    for (size_t i = 0; i < count; i++)
        destination[i] = half_to_float(source[i]);
}

float half_round(float value)
{
    return half_to_float(half_from_float(value));
}
