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

/* mantissa >> shift, rounded to nearest, ties to even. */
static uint32_t shift_round(uint32_t mantissa, int shift)
{
    uint32_t kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t half_from_float(float value)
{
    uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff;
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000)
        return 0x7fff;
    if (magnitude >= 0x47800000) /* 2^16 and up */
        return sign | 0x7c00;
    if (magnitude >=
        0x38800000) /* normal; a carry out of the mantissa steps the exponent, up to infinity */
        return sign | (uint16_t)shift_round(magnitude - 0x38000000, 13);
    if (magnitude < 0x33000000) /* below 2^-25: zero */
        return sign;
    int exponent = (int)(magnitude >> 23);
    return sign | (uint16_t)shift_round((magnitude & 0x7fffff) | 0x800000, 126 - exponent);
}

uint16_t half_from_double(double value)
{
    float nearest = (float)value;
    double rest = value - (double)nearest;
    if (!isfinite(nearest) || rest == 0)
        return half_from_float(nearest);
    /* Rounded to odd, f32 has bits enough for its own rounding to go unseen. */
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
                      16); /* a carry steps the exponent, up to infinity */
}

void half_from_floats(uint16_t *destination, const float *source, size_t count)
{
    for (size_t i = 0; i < count; i++)
        destination[i] = half_from_float(source[i]);
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
