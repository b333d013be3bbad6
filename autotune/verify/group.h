/* Judging one quantization group whose exact values are known only within rounding: a projection's. */
#ifndef AUTOTUNE_VERIFY_GROUP_H
#define AUTOTUNE_VERIFY_GROUP_H

#include "../../runtime/host/quantizer.h"

/* Element i of each array is at i * stride. */
typedef struct verify_group {
    const quantizer *format;
    size_t count, stride;
    const double *exact,
        *rounding; /* the value, and what rounding before the quantizer may have changed it by */
    const double *moved,
        *spread; /* with feedback, what is quantized instead, and what it is known within; else NULL */
    const uint8_t *codes;
    uint16_t scale, zero;
} verify_group;

/* The largest distance of a cached value from the exact one, in quantization steps, beyond what rounding
 * explains: at most 0.5 (1 with integer zero points, whose range ends may be clamped) of a perfect
 * quantizer. Infinity for a NaN, or a scale that is not that of the values' range. */
double verify_group_steps(const verify_group *g);

/* Of the above, what is within bounds. */
double verify_group_bound(const quantizer *format);

#endif
