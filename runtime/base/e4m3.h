/* The 8-bit floating-point format e4m3 (OCP 8-bit floating point specification): sign, 4 bits of exponent
 * with bias 7, 3 of mantissa. It has no infinities; 0x7f and 0xff are NaN. */
#ifndef RUNTIME_BASE_E4M3_H
#define RUNTIME_BASE_E4M3_H

#include <stdint.h>

#define E4M3_LARGEST 448.0f /* the largest magnitude */

/* Rounds to nearest even. What is larger than the largest magnitude saturates; a NaN becomes 0x7f. */
uint8_t e4m3_encode(float value);
float e4m3_decode(uint8_t code);

/* What a cache holds of a value with this scale, bit for bit as kv_append_e4m3 quantizes it: the code of
 * value * (1 / scale), in single precision. */
static inline uint8_t e4m3_quantize(float value, float scale)
{
    return e4m3_encode(value * (1 / scale));
}

#endif
