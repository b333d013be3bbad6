#include "e4m3.h"

#include <math.h>

enum { CODE_NAN = 0x7f, CODE_LARGEST = 0x7e, LEAST_EXPONENT = -6 };

uint8_t e4m3_encode(float value)
{
    if (isnan(value))
        return CODE_NAN;
    uint8_t sign = signbit(value) ? 0x80 : 0;
    float magnitude = fabsf(value);
    if (magnitude >= E4M3_LARGEST)
        return sign | CODE_LARGEST;
    int exponent = magnitude > 0 ? ilogbf(magnitude) : LEAST_EXPONENT;
    if (exponent < LEAST_EXPONENT)
        exponent = LEAST_EXPONENT;
    /* In units of the last place; 16 of them are the next power of two, which the sum carries into. */
    int units = (int)rintf(ldexpf(magnitude, 3 - exponent));
    return sign | (uint8_t)((exponent - LEAST_EXPONENT) * 8 + units);
}

float e4m3_decode(uint8_t code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    if ((code & 0x7f) == CODE_NAN)
        return NAN;
    float magnitude = exponent ? ldexpf((float)(8 + mantissa), exponent - 10)
                               : ldexpf((float)mantissa, LEAST_EXPONENT - 3);
    return code & 0x80 ? -magnitude : magnitude;
}
