/* The quantizer on the host, bit for bit what `append` does on a device (method.md §2; docs/spec.md).
 *
 * A row of f16 values is cut into groups of `group` channels (the last may be shorter). Per group:
 *   x saturates to ±65504; offset m = min, scale s = f16((max - min) / (2^bits - 1)), f32 arithmetic;
 *   code = s == 0 ? 0 : clamp(round_half_even((x - m) / s), 0, 2^bits - 1);   x̂ = s * code + m.
 * A NaN in a group makes its scale and offset NaN (codes 0), so that it cannot go unseen. */
#ifndef AUTOTUNE_QUANTIZER_H
#define AUTOTUNE_QUANTIZER_H

#include <stddef.h>
#include <stdint.h>

static inline size_t quantizer_groups(size_t width, size_t group)
{
    return (width + group - 1) / group;
}

/* x [width] f16 -> codes [width], scale and offset [groups] f16. */
void quantizer_encode(const uint16_t *x, size_t width, int bits, size_t group, uint8_t *codes,
                      uint16_t *scale, uint16_t *offset);

/* x̂ [width] in double precision: exact, no rounding. */
void quantizer_decode(const uint8_t *codes, const uint16_t *scale, const uint16_t *offset, size_t width,
                      size_t group, double *x_hat);

#endif
