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

/* Rounds one column, or one row: `count` values, `stride` apart. */
static void round_scaled(rounding_type type, const float *w, size_t count, size_t stride, double *rounded)
{
    float most = 0, scale;
    for (size_t i = 0; i < count; i++)
        most = fmaxf(most, fabsf(w[i * stride]));
    scale = most / (type == ROUNDING_INT8 ? 127.0f : 448.0f);
    for (size_t i = 0; i < count; i++) {
        float quotient = scale > 0 ? w[i * stride] / scale : 0;
        double code = type == ROUNDING_INT8 ? fmax(-127, fmin(127, nearbyintf(quotient)))
                                            : rounding_e4m3((double)quotient);
        rounded[i * stride] = (double)scale * code;
    }
}

void rounding_matrix(rounding_type type, const float *w, size_t rows, size_t cols, int by_row,
                     double *rounded)
{
    if (type == ROUNDING_INT8 || type == ROUNDING_E4M3) {
        for (size_t i = 0; i < (by_row ? rows : cols); i++)
            round_scaled(type, w + i * (by_row ? cols : 1), by_row ? cols : rows, by_row ? 1 : cols,
                         rounded + i * (by_row ? cols : 1));
        return;
    }
    for (size_t i = 0; i < rows * cols; i++)
        rounded[i] = type == ROUNDING_F16 ? rounding_half((double)w[i]) : rounding_bfloat((double)w[i]);
}
