#include "rounding.h"

#include <math.h>
#include <string.h>

#define HALF_MAX 65504.0
#define E4M3_MAX 448.0
#define NAN_BITS 0x7fff
#define BIAS     1023 /* bias of a double's exponent */

/* Rounds x to `digits` significant bits; the least normal exponent is `least`. Overflow is not checked. */
static double to_digits(double x, int digits, int least)
{
    uint64_t bits;
    double shift;
    if (x == 0 || !isfinite(x))
        return x;
    memcpy(&bits, &x, sizeof bits);
    int64_t exponent = (int64_t)(bits >> 52 & 0x7ff) - BIAS; /* |x| in [2^exponent, 2^(exponent + 1)) */
    exponent = exponent < least ? least : exponent;
    if (exponent > 900)
        return x; /* beyond the range of every type */
    /* A unit is the last place of the result. Adding 1.5 * 2^52 units makes one unit the last place of the
     * sum, so the addition rounds, ties to even. */
    bits = (uint64_t)(exponent - (digits - 1) + 52 + BIAS) << 52 | (uint64_t)1 << 51;
    memcpy(&shift, &bits, sizeof shift);
    double rounded = (x + shift) - shift;
    return rounded == 0 ? copysign(0, x) : rounded;
}

double rounding_saturated(double x)
{
    return x > HALF_MAX ? HALF_MAX : x < -HALF_MAX ? -HALF_MAX : x;
}

double rounding_half(double x)
{
    double r = to_digits(x, 11, -14);
    return r > HALF_MAX ? INFINITY : r < -HALF_MAX ? -INFINITY : r;
}

double rounding_bfloat(double x)
{
    return to_digits(x, 8, -126);
}

double rounding_e4m3(double x)
{
    double r = to_digits(x, 4, -6);
    return r > E4M3_MAX ? E4M3_MAX : r < -E4M3_MAX ? -E4M3_MAX : r;
}

/* The bits of a number that the type holds exactly. `digits` includes the hidden bit; exponents are biased
 * by `bias`. */
static uint16_t bits_of(double x, int digits, int bias)
{
    int exponent, fraction = digits - 1;
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x))
        return NAN_BITS;
    if (isinf(x))
        return (uint16_t)(sign | (2 * bias + 1) << fraction);
    double magnitude = fabs(x);
    frexp(magnitude, &exponent);
    exponent += bias - 1;
    if (magnitude == 0 || exponent < 1) /* subnormal */
        return (uint16_t)(sign | (int)ldexp(magnitude, bias - 1 + fraction));
    int significand = (int)ldexp(magnitude, bias + fraction - exponent);
    return (uint16_t)(sign | exponent << fraction | (significand & ((1 << fraction) - 1)));
}

uint16_t rounding_to_half(double x)
{
    return bits_of(rounding_half(x), 11, 15);
}

uint16_t rounding_to_bfloat(double x)
{
    return bits_of(rounding_bfloat(x), 8, 127);
}

uint16_t rounding_bfloat_to_half(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return rounding_to_half(rounding_saturated(value));
}

/* ---------------------------------------------------------------- weights */

xq_status rounding_type_named(const char *name, rounding_type *type, error *err)
{
    static const char *const names[] = {"f16", "bf16", "int8", "e4m3"};
    for (size_t i = 0; name && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) {
            *type = (rounding_type)i;
            return XQ_OK;
        }
    return error_set(err, XQ_ERROR_SPEC, "spec", "weights: '%s' is not known; valid: f16, bf16, int8, e4m3",
                     name ? name : "(none)");
}

/* Rounds up to 16 significant bits. */
static float up_to_16_bits(float value)
{
    int exponent;
    const double fraction = frexp((double)value, &exponent);
    return (float)ldexp(ceil(ldexp(fraction, 16)), exponent - 16);
}

/* One column, or one row, of a matrix: `count` values, `stride` apart. */
typedef struct line {
    const float *w;
    size_t count, stride;
} line;

/* Returns the number that a scale is rounded up from: the largest magnitude divided by the largest code. */
static float largest_quotient(const line *l, float largest_code)
{
    float most = 0;
    for (size_t i = 0; i < l->count; i++)
        most = fmaxf(most, fabsf(l->w[i * l->stride]));
    return most / largest_code;
}

static void round_e4m3(const line *l, double *rounded)
{
    const float scale = up_to_16_bits(largest_quotient(l, 448));
    for (size_t i = 0; i < l->count; i++) {
        float quotient = scale > 0 ? l->w[i * l->stride] / scale : 0;
        rounded[i * l->stride] = (double)scale * rounding_e4m3((double)quotient);
    }
}

/* ---------------------------------------------------------------- int8
 * This states the rule of runtime/base/weights.h a second time. Quotients and candidates are f32, and all
 * else is double, because the runtime's choices depend on how they are rounded. */

#define BLOCK       64 /* weights whose codes must have the right sum */
#define MOST_BLOCKS 64

/* Returns the sum of the squares of the distances between the sums of blocks and multiples of the scale. */
static double distance(const double *sums, size_t count, float scale)
{
    double total = 0;
    for (size_t i = 0; i < count; i++) {
        const double steps = sums[i] / (double)scale;
        const double off = (double)scale * (steps - nearbyint(steps));
        const double square = off * off;
        total += square;
    }
    return total;
}

static float int8_scale(const line *l)
{
    const float base = largest_quotient(l, 127);
    float scale = up_to_16_bits(base);
    double sums[MOST_BLOCKS] = {0};
    if (scale == 0 || l->count > (size_t)MOST_BLOCKS * BLOCK)
        return scale;
    const size_t blocks = (l->count + BLOCK - 1) / BLOCK;
    for (size_t i = 0; i < l->count; i++)
        sums[i / BLOCK] += (double)l->w[i * l->stride];
    double least = distance(sums, blocks, scale);
    for (int i = 1; i < 256; i++) {
        const float candidate = up_to_16_bits(base * (1 + (float)i / 2560));
        const double d = distance(sums, blocks, candidate);
        if (d < least) {
            least = d;
            scale = candidate;
        }
    }
    return scale;
}

/* Returns the number of codes in a block that are moved before code i. beyond[j] is the distance by which
 * weight j lies beyond its code, in the direction of the move. The code with the largest distance is moved
 * first, and the first of equals. */
static size_t place_in_order(const double *beyond, size_t count, size_t i)
{
    size_t place = 0;
    for (size_t j = 0; j < count; j++)
        place += j < i ? beyond[j] >= beyond[i] : beyond[j] > beyond[i];
    return place;
}

/* Moves codes of a block by one, so that their sum is the whole number nearest to the sum of the quotients.
 */
static void correct_sum(const double *quotient, double *code, size_t count)
{
    double sum = 0, beyond[BLOCK];
    for (size_t i = 0; i < count; i++)
        sum += quotient[i] - code[i];
    const double moves = fabs(nearbyint(sum)), direction = copysign(1, sum);
    for (size_t i = 0; i < count; i++) {
        beyond[i] = direction * (quotient[i] - code[i]);
        if (fabs(code[i] + direction) > 127)
            beyond[i] = 0;
    }
    for (size_t i = 0; i < count && moves > 0; i++)
        if (beyond[i] > 0 && (double)place_in_order(beyond, count, i) < moves)
            code[i] += direction;
}

static void round_int8(const line *l, double *rounded)
{
    const float scale = int8_scale(l);
    double quotient[BLOCK], code[BLOCK];
    for (size_t first = 0; first < l->count; first += BLOCK) {
        const size_t count = l->count - first < BLOCK ? l->count - first : BLOCK;
        for (size_t i = 0; i < count; i++) {
            const float q = scale > 0 ? l->w[(first + i) * l->stride] / scale : 0;
            quotient[i] = (double)q;
            code[i] = nearbyint(quotient[i]);
        }
        correct_sum(quotient, code, count);
        for (size_t i = 0; i < count; i++)
            rounded[(first + i) * l->stride] = (double)scale * code[i];
    }
}

void rounding_matrix(rounding_type type, const float *w, size_t rows, size_t cols, int by_row,
                     double *rounded)
{
    if (type == ROUNDING_INT8 || type == ROUNDING_E4M3) {
        for (size_t i = 0; i < (by_row ? rows : cols); i++) {
            const size_t first = i * (by_row ? cols : 1);
            const line l = {w + first, by_row ? cols : rows, by_row ? 1 : cols};
            (type == ROUNDING_INT8 ? round_int8 : round_e4m3)(&l, rounded + first);
        }
        return;
    }
    for (size_t i = 0; i < rows * cols; i++)
        rounded[i] = type == ROUNDING_F16 ? rounding_half((double)w[i]) : rounding_bfloat((double)w[i]);
}
