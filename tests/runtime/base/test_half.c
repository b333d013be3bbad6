#include "../../../runtime/base/half.h"

#include <criterion/criterion.h>
#include <math.h>

/* The value of f16 bits from the definition of the format, not from the code under test. */
static double value_of(unsigned bits)
{
    int exponent = (int)(bits >> 10 & 31), mantissa = (int)(bits & 0x3ff);
    double magnitude = exponent == 0 ? ldexp(mantissa, -24) : ldexp(mantissa + 1024, exponent - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
}

Test(half, every_number_converts_exactly_both_ways)
{
    for (unsigned bits = 0; bits < 0x10000; bits++) {
        float value = half_to_float((uint16_t)bits);
        if ((bits & 0x7c00) == 0x7c00) {
            cr_assert((bits & 0x3ff) ? isnan(value) : isinf(value), "bits %04x", bits);
            cr_assert(isnan(value) || (signbit(value) != 0) == (bits >> 15));
            cr_assert_eq(half_from_float(value), isnan(value) ? 0x7fff : bits, "bits %04x", bits);
            continue;
        }
        cr_assert_eq((double)value, value_of(bits), "bits %04x", bits);
        cr_assert_eq(half_from_float(value), bits, "bits %04x", bits);
    }
}

Test(half, rounds_to_nearest_with_ties_to_even)
{
    for (unsigned bits = 0; bits < 0x7c00; bits++) {
        double low = value_of(bits), high = bits == 0x7bff ? 65536 : value_of(bits + 1);
        float middle = (float)((low + high) / 2); /* exact: one more bit than f16 has */
        unsigned even = bits & 1 ? bits + 1 : bits;
        cr_assert_eq(half_from_float(middle), even, "between %04x and the next", bits);
        cr_assert_eq(half_from_float(-middle), even | 0x8000, "between %04x and the next", bits);
        cr_assert_eq(half_from_float(nextafterf(middle, 0)), bits, "below the middle after %04x", bits);
        cr_assert_eq(half_from_float(nextafterf(middle, INFINITY)), bits + 1, "above the middle after %04x",
                     bits);
    }
}

Test(half, extremes_of_float_become_zero_or_infinity)
{
    cr_assert_eq(half_from_float(3.4e38f), 0x7c00);
    cr_assert_eq(half_from_float(-3.4e38f), 0xfc00);
    cr_assert_eq(half_from_float(1e-45f), 0);
    cr_assert_eq(half_from_float(-1e-30f), 0x8000);
}

Test(half, bfloat_is_the_upper_half_of_a_float)
{
    cr_assert_eq(half_from_bfloat(0x3f80), 1.0f);
    cr_assert_eq(half_from_bfloat(0xc049), -3.140625f);
    cr_assert(isnan(half_from_bfloat(0x7fc0)));
}
