/* Judges one quantization group whose exact values are known only within rounding errors, because they come
 * from a projection. */
#ifndef AUTOTUNE_VERIFY_GROUP_H
#define AUTOTUNE_VERIFY_GROUP_H

#include "../../runtime/host/quantizer.h"

/* Element i of each array is at i * stride. */
typedef struct verify_group {
    const quantizer *format;
    size_t count, stride;
    const double *exact,
        *rounding; /* the exact value, and the rounding error that it may have before the quantizer */
    const double *moved, *spread; /* with feedback: the value that is quantized instead, and a bound on its
                                     uncertainty; else NULL */
    const uint8_t *codes;
    uint16_t scale, zero;
} verify_group;

/* The largest distance of a cached value from the exact one, in quantization steps, beyond what rounding
 * explains. For a perfect quantizer it is at most 0.5, or 1 with integer zero points, because the ends of
 * their range may be clamped. It is infinity for a NaN, or if the scale and zero are not those of the
 * values' range. */
double verify_group_steps(const verify_group *g);

/* The largest `verify_group_steps` that passes. */
double verify_group_bound(const quantizer *format);

#endif
