/* The quantizer on the host, bit for bit what `append` does on a device (docs/method.md, docs/layout.md).
 *
 * A group of f16 values shares a scale and a second parameter, its zero. All arithmetic is f32, each
 * operation rounded; x saturates to ±65504; codes are clamped to 0 .. 2^bits - 1, ties go to even.
 *
 *   span = (hi - lo) * clip, s = f16(span / (2^bits - 1))
 *
 *   float zero: lo, hi = min, max; zero = f16(lo + (hi - lo - span) / 2)
 *       code = s == 0 ? 0 : rint((x - zero) / s),  x̂ = s * code + zero
 *   integer zero: lo, hi = min(0, min), max(0, max); zero = clamp(rint(-(lo * clip) / s)); 0 where s == 0
 *       code = s == 0 ? 0 : rint(x / s) + zero,    x̂ = s * (code - zero)
 *
 * No level that is used stands for more than f16 holds: where s, being rounded, would carry the range's end
 * to 65520 or beyond (which f16 rounds to infinity), fewer levels reach it. With A what the end is from
 * zero (float zero: A = span, and n = 2^bits - 1; integer zero: A = max(-lo, hi) * clip, and n = rint(A /
 * s)), n is lowered by one, and s = f16(A / n), until s * n + zero < 65520 (integer zero: s * n < 65520);
 * codes end at n (integer zero: at n + zero, if that is less than 2^bits - 1). A float zero may find no
 * such n; then s is the f16 number before f16(span / (2^bits - 1)). So a value of 65504 is cached as 65504
 * and not as infinity, and kernels need not look.
 *
 * With feedback the channels of a group are quantized one after the other, and instead of x
 *       t = x + F[i][0]*e[0] + F[i][1]*e[1] + ..., e[j] = f16(s * code[j] + zero - x[j])
 * is, a sum from the left, with rint((t - zero) * (1 / s)): no quotient. lo and hi are those of x.
 *
 * A NaN in a group makes its scale NaN (and a float zero NaN; codes and integer zeros 0), so that it cannot
 * go unseen. */
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
    float clip; /* share of a group's range that codes span; 0: all of it, 1 */
    /* A row is latents side by side, each of latent_width columns (0: a row is one latent, without
     * padding). Groups of channels begin anew with each latent. The first `rank` columns of a latent hold
     * data; the rest is padding (any value; code 0), outside of every range. A group of padding alone has
     * scale 0 and zero 0. */
    size_t rank, latent_width;
    /* Groups of channels: [groups, group, group] as runtime/host/feedback.h makes it, f16 values; NULL:
     * none. */
    const float *feedback;
} quantizer;

/* The group of channels that column c belongs to, among those of its row. */
static inline size_t quantizer_group_of(const quantizer *q, size_t c)
{
    if (q->latent_width == 0)
        return c / q->group;
    size_t of_a_latent = (q->latent_width + q->group - 1) / q->group;
    return c / q->latent_width * of_a_latent + c % q->latent_width / q->group;
}

/* The column behind the group of channels that begins with column `begin`, in a row of `width`. */
static inline size_t quantizer_group_end(const quantizer *q, size_t begin, size_t width)
{
    size_t end = begin + q->group;
    if (q->latent_width > 0 && end > (begin / q->latent_width + 1) * q->latent_width)
        end = (begin / q->latent_width + 1) * q->latent_width;
    return end < width ? end : width;
}

/* Groups of channels in a row of `width`. */
static inline size_t quantizer_groups(const quantizer *q, size_t width)
{
    return quantizer_group_of(q, width - 1) + 1;
}

/* Whether column c holds data. */
static inline bool quantizer_is_data(const quantizer *q, size_t c)
{
    return q->latent_width == 0 || c % q->latent_width < q->rank;
}

/* Groups of channels, one row: x [width] f16 -> codes [width]; scale and zero [groups]. */
void quantizer_encode(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes, uint16_t *scale,
                      uint16_t *zero);

/* Groups of tokens: x [group, width] f16 -> codes [group, width]; scale and zero [width], one a channel. */
void quantizer_encode_channels(const quantizer *q, const uint16_t *x, size_t width, uint8_t *codes,
                               uint16_t *scale, uint16_t *zero);

/* x̂ of one element in double precision: exact, no rounding. */
double quantizer_value(const quantizer *q, int code, uint16_t scale, uint16_t zero);

/* The same as kernels see it: one rounding, to f16. */
uint16_t quantizer_kernel_value(const quantizer *q, int code, uint16_t scale, uint16_t zero);

/* ---------------------------------------------------------------- one group, in f32
 * What both quantizing to codes and simulating it are made of. Levels are whole numbers r, code = r -
 * least, x̂ = scale * r + offset: with an integer zero the offset is 0 and -least the zero. */
typedef struct quantizer_levels {
    float scale, offset;
    float divisor; /* the scale; 1 where there is one level alone */
    float least, most;
} quantizer_levels;

/* Of a group whose data lies in lo .. hi, f16 values. `any`: whether it has data; `nan`: whether some of it
 * is NaN. */
quantizer_levels quantizer_find_levels(const quantizer *q, float lo, float hi, bool any, bool nan);

/* The level nearest to a number, which is no infinity. NaN: the least one. No branches, so that loops over
 * it vectorize. */
static inline float quantizer_nearest_level(const quantizer_levels *l, float level)
{
    const float to_integer =
        0x1.8p23f; /* its unit in the last place is 1: adding it rounds, ties to even */
    level = level > l->least ? level : l->least;
    level = level < l->most ? level : l->most;
    return level + to_integer - to_integer;
}

static inline float quantizer_level(const quantizer_levels *l, float x)
{
    return quantizer_nearest_level(l, (x - l->offset) / l->divisor);
}

/* By a product with the inverse of the divisor, as feedback does it. */
static inline float quantizer_level_by(const quantizer_levels *l, float inverse, float x)
{
    return quantizer_nearest_level(l, (x - l->offset) * inverse);
}

/* The f16 value nearest to x; infinity from 65520 on. */
static inline float quantizer_half(float x)
{
    uint32_t bits, power, rounded_bits;
    float magic;
    memcpy(&bits, &x, sizeof bits);
    power = bits & 0x7f800000;
    power = power < 0x38800000 ? 0x38800000 : power; /* 2^-14: subnormals have its unit */
    power = power > 0x47000000 ? 0x47000000 : power; /* 2^15 */
    power += 13u << 23 | 1u << 22; /* 1.5 times 2^13 as much: its unit in the last place is x's in f16 */
    memcpy(&magic, &power, sizeof magic);
    float rounded = x + magic - magic;
    rounded = rounded > 65504.0f ? (float)(1.0 / 0.0) : rounded;
    rounded = rounded < -65504.0f ? (float)(-1.0 / 0.0) : rounded;
    memcpy(&rounded_bits, &rounded, sizeof rounded);
    rounded_bits |= bits & 0x80000000; /* zeros keep their sign */
    memcpy(&rounded, &rounded_bits, sizeof rounded);
    return rounded;
}

/* What a channel's error adds to those after it: of x as `level`. */
static inline float quantizer_error(const quantizer_levels *l, float level, float x)
{
    float e = l->scale * level + l->offset - x;
    e = e > 65504.0f ? 65504.0f : e < -65504.0f ? -65504.0f : e;
    return quantizer_half(e);
}

/* t[first] .. t[end - 1] += row[first] .. * e: products of f16 values, exact. */
static inline void quantizer_feed(const float *row, float e, size_t first, size_t end, float *t)
{
    for (size_t i = first; i < end; i++)
        t[i] += row[i] * e;
}

/* x̂ of a level as kernels see it. scale * r is exact; the sum is rounded to odd, so that rounding it to f16
 * is as if it were the only rounding. */
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
