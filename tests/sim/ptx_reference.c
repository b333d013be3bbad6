#include "ptx_reference.h"

#include <math.h>
#include <string.h>

const struct ptx_format ptx_f32 = {8, 23, true, 0x7fffffff};
const struct ptx_format ptx_f16 = {5, 10, true, 0x7fff};
const struct ptx_format ptx_bf16 = {8, 7, true, 0x7fff};
const struct ptx_format ptx_e4m3 = {4, 3, false, 0x7f};
const struct ptx_format ptx_e5m2 = {5, 2, true, 0x7f};

static int bias(const struct ptx_format *format)
{
    return (1 << (format->exponent_bits - 1)) - 1;
}

static uint32_t sign_bit(const struct ptx_format *format)
{
    return 1u << (format->exponent_bits + format->mantissa_bits);
}

double ptx_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint64_t ptx_double_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

double ptx_decode(uint32_t bits, const struct ptx_format *format)
{
    uint32_t mantissa = bits & ((1u << format->mantissa_bits) - 1);
    uint32_t top = (1u << format->exponent_bits) - 1;
    uint32_t exponent = bits >> format->mantissa_bits & top;
    double magnitude;
    if (exponent == top && format->has_infinity)
        magnitude = mantissa ? NAN : INFINITY;
    else if (!format->has_infinity && (bits & (sign_bit(format) - 1)) == format->nan)
        magnitude = NAN;
    else if (exponent == 0)
        magnitude = ldexp(mantissa, 1 - bias(format) - format->mantissa_bits);
    else
        magnitude = ldexp(mantissa + (double)(1u << format->mantissa_bits),
                          (int)exponent - bias(format) - format->mantissa_bits);
    return bits & sign_bit(format) ? -magnitude : magnitude;
}

bool ptx_is_nan(uint32_t bits, const struct ptx_format *format)
{
    return isnan(ptx_decode(bits, format));
}

static uint32_t largest_bits(const struct ptx_format *format)
{
    uint32_t all = sign_bit(format) - 1;
    return format->has_infinity ? all - (1u << format->mantissa_bits) : all - 1;
}

double ptx_largest(const struct ptx_format *format)
{
    return ptx_decode(largest_bits(format), format);
}

static double round_units(double units, bool negative, enum ptx_rounding rounding)
{
    double low = floor(units), rest = units - low;
    bool up = false;
    switch (rounding) {
    case RN:
        up = rest > 0.5 || (rest == 0.5 && fmod(low, 2) == 1);
        break;
    case RZ:
        break;
    case RM:
        up = negative && rest > 0;
        break;
    case RP:
        up = !negative && rest > 0;
        break;
    }
    return low + up;
}

uint32_t ptx_encode(double value, const struct ptx_format *format, enum ptx_rounding rounding)
{
    if (isnan(value))
        return format->nan;
    uint32_t sign = signbit(value) ? sign_bit(format) : 0;
    uint32_t infinity = format->has_infinity ? largest_bits(format) + 1 : format->nan;
    double magnitude = fabs(value);
    if (isinf(value))
        return sign | infinity;
    if (magnitude == 0)
        return sign;
    int exponent = ilogb(magnitude);
    if (exponent < 1 - bias(format))
        exponent = 1 - bias(format);
    double units = round_units(ldexp(magnitude, format->mantissa_bits - exponent), sign, rounding);
    double rounded = ldexp(units, exponent - format->mantissa_bits);
    if (rounded > ptx_largest(format)) {
        bool outward = rounding == RN || (rounding == RM && sign) || (rounding == RP && !sign);
        return sign | (outward ? infinity : largest_bits(format));
    }
    uint32_t one = 1u << format->mantissa_bits;
    if (units < one)
        return sign | (uint32_t)units;
    if (units == 2.0 * one) {
        units = one;
        exponent++;
    }
    return sign | (uint32_t)(exponent + bias(format)) << format->mantissa_bits | ((uint32_t)units - one);
}

/* `rounded` is the nearest double to an exact value; `error` has the sign of exact - rounded. */
static double to_odd(double rounded, double error)
{
    uint64_t bits = ptx_double_bits(rounded);
    if (error == 0 || !isfinite(rounded) || bits & 1)
        return rounded;
    return ptx_double((error > 0) == (rounded > 0) ? bits + 1 : bits - 1);
}

double ptx_add(double x, double y)
{
    double sum = x + y;
    if (!isfinite(sum))
        return sum;
    double part = sum - x;
    double lost_x = x - (sum - part);
    double lost_y = y - part;
    return to_odd(sum, lost_x + lost_y);
}

double ptx_fma(double x, double y, double z)
{
    return ptx_add(x * y, z); /* the product of two 24-bit numbers is exact */
}

double ptx_divide(double x, double y)
{
    double quotient = x / y;
    if (!isfinite(quotient) || y == 0 || isinf(y))
        return quotient;
    double remainder = fma(-quotient, y, x);
    return to_odd(quotient, y > 0 ? remainder : -remainder);
}

double ptx_square_root(double x)
{
    double root = sqrt(x);
    if (!isfinite(root) || root == 0)
        return root;
    return to_odd(root, fma(-root, root, x));
}

double ptx_min(double x, double y, bool nan)
{
    if (isnan(x) || isnan(y))
        return nan ? NAN : isnan(x) ? y : x;
    if (x == 0 && y == 0)
        return signbit(x) ? x : y;
    return x < y ? x : y;
}

double ptx_max(double x, double y, bool nan)
{
    return -ptx_min(-x, -y, nan);
}

double ptx_saturate(double x)
{
    return isnan(x) || x <= 0 ? 0 : x > 1 ? 1 : x;
}

double ptx_relu(double x)
{
    return isnan(x) ? x : x <= 0 ? 0 : x;
}

uint32_t ptx_flush(uint32_t f32_bits)
{
    return (f32_bits & 0x7f800000) == 0 ? f32_bits & 0x80000000 : f32_bits;
}

double ptx_round_integer(double x, enum ptx_rounding rounding)
{
    if (!isfinite(x) || fabs(x) >= 0x1p53)
        return x;
    return copysign(round_units(fabs(x), signbit(x), rounding), x);
}

uint64_t ptx_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}
