/* The quantizer on the host, bit for bit what `append` does on a device (docs/layout.md).
 *
 * A group of f16 values shares a scale and a second parameter, its zero. All arithmetic is f32; x saturates
 * to ±65504; s = f16((hi - lo) / (2^bits - 1)); codes are clamped to 0 .. 2^bits - 1, ties go to even:
 *   - float zero: lo, hi = min, max; zero = lo, an f16; code = s == 0 ? 0 : rint((x - lo) / s);
 *     x̂ = s * code + lo.
 *   - integer zero: lo, hi = min(0, min), max(0, max); zero = s == 0 ? 0 : clamp(rint(-lo / s)), a code;
 *     code = s == 0 ? 0 : rint(x / s) + zero; x̂ = s * (code - zero).
 *
 * A NaN in a group makes its scale NaN (and a float zero NaN; codes and integer zeros 0), so that it cannot
 * go unseen. */
#ifndef AUTOTUNE_QUANTIZER_H
#define AUTOTUNE_QUANTIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a row of a cached stream is quantized. */
typedef struct quantizer {
    int bits;
    size_t group; /* elements that share a scale; the last group of a row may be shorter */
    bool integer_zero;
    /* Columns that hold data, of each so many: the rest is padding (any value; code 0), outside of every
     * range. A group of padding alone has scale 0 and zero 0. 0: no padding. */
    size_t rank, latent_width;
} quantizer;

static inline size_t quantizer_groups(size_t width, size_t group)
{
    return (width + group - 1) / group;
}

/* Whether column c holds data. */
static inline bool quantizer_is_data(const quantizer *q, size_t c)
{
    return q->latent_width == 0 || c % q->latent_width < q->rank;
}

/* Groups of channels, one row: x [width] f16 -> codes [width]; scale and zero [groups]. */
void quantizer_encode(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes, uint16_t *scale,
                      uint16_t *zero);

/* x̂ [width] in double precision: exact, no rounding. */
void quantizer_decode(const quantizer *q, const uint8_t *codes, const uint16_t *scale, const uint16_t *zero,
                      size_t width, double *x_hat);

/* Groups of tokens: x [group, width] f16 -> codes [group, width]; scale and zero [width], one a channel. */
void quantizer_encode_channels(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes,
                               uint16_t *scale, uint16_t *zero);

/* x̂ of one element. */
double quantizer_value(const quantizer *q, int code, uint16_t scale, uint16_t zero);

/* The same as kernels see it: one rounding, to f16. */
uint16_t quantizer_kernel_value(const quantizer *q, int code, uint16_t scale, uint16_t zero);

#endif
