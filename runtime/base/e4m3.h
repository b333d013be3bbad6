/* The 8-bit floating-point format e4m3 (OCP 8-bit floating point specification): sign, 4 bits of exponent
 * with bias 7, 3 of mantissa. It has no infinities; 0x7f and 0xff are NaN. */
#ifndef RUNTIME_BASE_E4M3_H
#define RUNTIME_BASE_E4M3_H

#include <stdint.h>

#define E4M3_LARGEST 448.0f /* the largest magnitude */

/* Rounds to nearest even. Magnitudes above the largest saturate; a NaN becomes 0x7f. */
uint8_t e4m3_encode(float value);
float e4m3_decode(uint8_t code);

/* The code that a cache with this scale holds for a value: that of value * (1 / scale), computed in single
 * precision. It is bit for bit the code that kv_append_e4m3 stores. */
static inline uint8_t e4m3_quantize(float value, float scale)
{
    return e4m3_encode(value * (1 / scale));
}

#endif
