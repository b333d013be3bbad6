/* The quantizer on the host; its results equal those of `append` on a device bit for bit (docs/method.md,
 * docs/layout.md).
 *
 * A group of f16 values shares a scale and a second parameter, its zero. All arithmetic is f32, and each
 * operation is rounded. x saturates to ±65504; codes are clamped to 0 .. 2^bits - 1; ties go to even.
 *
 *   span = (hi - lo) * clip, s = f16(span / (2^bits - 1))
 *
 *   float zero: lo, hi = min, max; zero = f16(lo + (hi - lo - span) / 2)
 *       code = s == 0 ? 0 : rint((x - zero) / s),  x̂ = s * code + zero
 *   integer zero: lo, hi = min(0, min), max(0, max); zero = clamp(rint(-(lo * clip) / s)); 0 where s == 0
 *       code = s == 0 ? 0 : rint(x / s) + zero,    x̂ = s * (code - zero)
 *
 * No level in use stands for more than f16 holds. s is rounded, so it could carry the end of the range to
 * 65520 or beyond, which f16 rounds to infinity. In that case fewer levels are used. Let A be the distance
 * of the range's end from zero (float zero: A = span, and n = 2^bits - 1; integer zero: A = max(-lo, hi) *
 * clip, and n = rint(A / s)). Then n is lowered by one, and s = f16(A / n), until s * n + zero < 65520
 * (integer zero: s * n < 65520), and codes end at n (integer zero: at n + zero, if that is less than
 * 2^bits - 1). For a float zero there may be no such n; then s is the f16 number before f16(span / (2^bits
 * - 1)). So a value of 65504 is cached as 65504 and not as infinity, and kernels need no check.
 *
 * With feedback the channels of a group are quantized one after the other. Channel i is quantized from t
 * instead of x:
 *       t = x + F[i][0]*e[0] + F[i][1]*e[1] + ..., e[j] = f16(s * code[j] + zero - x[j])
 * The sum is taken from the left. The code is computed with the product rint((t - zero) * (1 / s)) and no
 * quotient. lo and hi are those of x.
 *
 * A NaN in a group makes its scale NaN, so that it cannot go unnoticed. A float zero is then NaN as well;
 * codes and integer zeros are 0. */
#ifndef RUNTIME_HOST_QUANTIZER_H
#define RUNTIME_HOST_QUANTIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* How a row of a cached stream is quantized. */
typedef struct quantizer {
    int bits;
    size_t group; /* elements that share a scale; the last group of a latent, or of a row, may be shorter */
    bool integer_zero;
    float clip; /* share of a group's range that codes span; 0: 1, all of it */
    /* A row consists of latents side by side, each of latent_width columns (0: a row is one latent,
     * without padding). Groups of channels begin anew with each latent. The first `rank` columns of a
     * latent hold data. The other columns are padding: they may have any value, have code 0, and do not
     * count in any range. A group that is only padding has scale 0 and zero 0. */
    size_t rank, latent_width;
    /* For groups of channels: [groups, group, group] from runtime/host/feedback.h, f16 values; NULL: none.
     */
    const float *feedback;
} quantizer;

/* The index, within its row, of the group of channels that column c belongs to. */
static inline size_t quantizer_group_of(const quantizer *q, size_t c)
{
    if (q->latent_width == 0)
        return c / q->group;
    size_t of_a_latent = (q->latent_width + q->group - 1) / q->group;
    return c / q->latent_width * of_a_latent + c % q->latent_width / q->group;
}

/* The column after the group of channels that begins with column `begin`, in a row of `width` columns. */
static inline size_t quantizer_group_end(const quantizer *q, size_t begin, size_t width)
{
    size_t end = begin + q->group;
    if (q->latent_width > 0 && end > (begin / q->latent_width + 1) * q->latent_width)
        end = (begin / q->latent_width + 1) * q->latent_width;
    return end < width ? end : width;
}

/* Number of groups of channels in a row of `width` columns. */
static inline size_t quantizer_groups(const quantizer *q, size_t width)
{
    return quantizer_group_of(q, width - 1) + 1;
}

/* Whether column c holds data. */
static inline bool quantizer_is_data(const quantizer *q, size_t c)
{
    return q->latent_width == 0 || c % q->latent_width < q->rank;
}

/* Quantizes one row by groups of channels: x [width] f16 -> codes [width]; scale and zero [groups]. */
void quantizer_encode(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes, uint16_t *scale,
                      uint16_t *zero);

/* Quantizes one group of tokens: x [group, width] f16 -> codes [group, width]; scale and zero [width], one
 * for each channel. */
void quantizer_encode_channels(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes,
                               uint16_t *scale, uint16_t *zero);

/* Returns x̂ of one element in double precision: exact, no rounding. */
double quantizer_value(const quantizer *q, int code, uint16_t scale, uint16_t zero);

/* The same value as kernels see it: with one rounding, to f16. */
uint16_t quantizer_kernel_value(const quantizer *q, int code, uint16_t scale, uint16_t zero);

/* ---------------------------------------------------------------- one group, in f32
 * Quantizing to codes and simulating it share these functions. A level is a whole number r with code = r -
 * least and x̂ = scale * r + offset. With an integer zero the offset is 0, and the zero is -least. */
typedef struct quantizer_levels {
    float scale, offset;
    float divisor; /* the scale; 1 if there is only one level */
    float least, most;
} quantizer_levels;

/* Finds the levels of a group whose data lies in lo .. hi, f16 values. `any`: the group has data; `nan`:
 * some of it is NaN. */
quantizer_levels quantizer_find_levels(const quantizer *q, float lo, float hi, bool any, bool nan);

/* Returns the level nearest to a number that is not infinite; for a NaN, the least level. It has no
 * branches, so that loops over it vectorize. */
static inline float quantizer_nearest_level(const quantizer_levels *l, float level)
{
    const float to_integer =
        0x1.8p23f; /* its unit in the last place is 1, so adding it rounds, ties to even */
    level = level > l->least ? level : l->least;
    level = level < l->most ? level : l->most;
    return level + to_integer - to_integer;
}

static inline float quantizer_level(const quantizer_levels *l, float x)
{
    return quantizer_nearest_level(l, (x - l->offset) / l->divisor);
}

/* The same with a product by the inverse of the divisor, as feedback does it. */
static inline float quantizer_level_by(const quantizer_levels *l, float inverse, float x)
{
    return quantizer_nearest_level(l, (x - l->offset) * inverse);
}

/* Returns the f16 value nearest to x; infinity from 65520 on. */
static inline float quantizer_half(float x)
{
    uint32_t bits, power, rounded_bits;
    float magic;
    memcpy(&bits, &x, sizeof bits);
    power = bits & 0x7f800000;
    power = power < 0x38800000 ? 0x38800000 : power; /* 2^-14: subnormals have the same unit */
    power = power > 0x47000000 ? 0x47000000 : power; /* 2^15 */
    power += 13u << 23 | 1u << 22; /* 1.5 * 2^13 times that: its last place is x's unit in f16 */
    memcpy(&magic, &power, sizeof magic);
    float rounded = x + magic - magic;
    rounded = rounded > 65504.0f ? (float)(1.0 / 0.0) : rounded;
    rounded = rounded < -65504.0f ? (float)(-1.0 / 0.0) : rounded;
    memcpy(&rounded_bits, &rounded, sizeof rounded);
    rounded_bits |= bits & 0x80000000; /* zeros keep their sign */
    memcpy(&rounded, &rounded_bits, sizeof rounded);
    return rounded;
}

/* The error of quantizing x as `level`, which is fed to the channels after it. */
static inline float quantizer_error(const quantizer_levels *l, float level, float x)
{
    float e = l->scale * level + l->offset - x;
    e = e > 65504.0f ? 65504.0f : e < -65504.0f ? -65504.0f : e;
    return quantizer_half(e);
}

/* Adds row[i] * e to t[i] for i from first to end - 1. Products of f16 values are exact. */
static inline void quantizer_feed(const float *row, float e, size_t first, size_t end, float *t)
{
    for (size_t i = first; i < end; i++)
        t[i] += row[i] * e;
}

/* Returns x̂ of a level as kernels see it. scale * r is exact. The sum is rounded to odd, so that rounding
 * it to f16 gives the same result as a single rounding. */
static inline float quantizer_level_value(const quantizer_levels *l, float level)
{
    float product = l->scale * level, sum = product + l->offset;
    float other = sum - product, rest = (product - (sum - other)) + (l->offset - other);
    uint32_t bits, inexact = rest != 0;
    memcpy(&bits, &sum, sizeof bits);
    bits -= inexact & ((rest < 0) == (sum > 0)); /* toward zero */
    bits |= inexact;
    memcpy(&sum, &bits, sizeof sum);
    return quantizer_half(sum);
}

#endif
