/* 16-bit floating point on the host, without a compiler extension: IEEE binary16 ("f16") and bfloat16,
 * as their bits. Rounding is to nearest, ties to even, as the GPU's cvt.rn does. */
#ifndef RUNTIME_BASE_HALF_H
#define RUNTIME_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>

/* Values from 65520 on (65504 and half a unit in the last place) become infinity; a NaN stays a NaN
 * (0x7fff, as on the GPU). */
uint16_t half_from_float(float value);
uint16_t half_from_double(double value); /* one rounding */
float half_to_float(uint16_t bits);

float half_from_bfloat(uint16_t bits); /* bfloat16 -> f32, exact */
uint16_t half_to_bfloat(float value);  /* f32 -> bfloat16; a NaN stays a NaN (0x7fff) */

/* Arrays; source and destination do not overlap. */
void half_from_floats(uint16_t *destination, const float *source, size_t count);
void half_to_doubles(double *destination, const uint16_t *source, size_t count);

/* Rounds a value to f16 and back, as a kernel sees a weight. */
float half_round(float value);

#endif
