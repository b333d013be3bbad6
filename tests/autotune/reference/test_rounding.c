#include "../../../autotune/reference/rounding.h"
#include "../../../runtime/base/half.h"
#include "../../../runtime/base/random.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static float bfloat(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

Test(rounding, agrees_with_half_c_on_every_f16_and_between)
{
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        double low = half_to_float((uint16_t)bits);
        double high = bits == 0x7bff ? 65536 : (double)half_to_float((uint16_t)(bits + 1));
        cr_assert_eq(rounding_to_half(low), bits);
        cr_assert_eq(rounding_to_half(-low), bits | 0x8000);
        for (int i = 1; i < 4; i++) {
            double between = low + (high - low) * i / 4; /* i == 2 is a tie */
            cr_assert_eq(rounding_to_half(between), half_from_float((float)between), "%a", between);
        }
    }
    cr_assert_eq(rounding_to_half(INFINITY), 0x7c00);
    cr_assert_eq(rounding_to_half(-1e30), 0xfc00);
    cr_assert_eq(rounding_to_half(NAN), 0x7fff);
}

Test(rounding, every_bf16_is_itself_and_ties_go_to_even)
{
    for (uint32_t bits = 0; bits < 0x7f80; bits++)
        cr_assert_eq(rounding_to_bfloat((double)bfloat((uint16_t)bits)), bits);
    cr_assert_eq(rounding_bfloat(1 + 0x1p-8), 1);
    cr_assert_eq(rounding_bfloat(1 + 0x3p-8), 1 + 0x1p-6);
    cr_assert_eq(rounding_bfloat(1 + 0x1p-8 + 0x1p-20), 1 + 0x1p-7);
}

Test(rounding, bf16_activations_saturate_as_f16)
{
    cr_assert_eq(rounding_bfloat_to_half(rounding_to_bfloat(1e30)), 0x7bff);
    cr_assert_eq(rounding_bfloat_to_half(0xff80), 0xfbff, "-inf");
    cr_assert_eq(rounding_bfloat_to_half(0x7fc0), 0x7fff, "NaN");
    cr_assert_eq(rounding_bfloat_to_half(0x3f80), 0x3c00, "1");
    cr_assert_eq(rounding_bfloat_to_half(rounding_to_bfloat(0x1p-26)), 0, "below f16's subnormals");
}

/* The 8-bit type has 126 magnitudes besides zero: subnormals k/512, then (8 + k)/8 * 2^e up to 448. */
Test(rounding, e4m3_is_the_nearest_of_its_numbers)
{
    double numbers[128];
    int count = 0;
    for (int k = 0; k < 8; k++)
        numbers[count++] = k / 512.0;
    for (int e = -6; e <= 8; e++)
        for (int k = 8; k < 16 && !(e == 8 && k == 15); k++)
            numbers[count++] = ldexp(k / 8.0, e);
    cr_assert_eq(count, 127);
    cr_assert_eq(numbers[count - 1], 448);
    for (int i = 0; i + 1 < count; i++) {
        double middle = (numbers[i] + numbers[i + 1]) / 2;
        cr_assert_eq(rounding_e4m3(numbers[i]), numbers[i]);
        cr_assert_eq(rounding_e4m3(nextafter(middle, 0)), numbers[i]);
        cr_assert_eq(rounding_e4m3(nextafter(middle, 1e3)), numbers[i + 1]);
        cr_assert_eq(rounding_e4m3(-middle), i % 2 ? -numbers[i + 1] : -numbers[i]);
    }
    cr_assert_eq(rounding_e4m3(1e9), 448);
    cr_assert_eq(rounding_e4m3(-INFINITY), -448);
}

Test(rounding, e4m3_weights_have_a_scale_for_each_column)
{
    const float w[6] = {448, 0, 1, 17, 0, -896};         /* columns (448, 17), zeros, (1, -896) */
    const double expected[6] = {448, 0, 1, 16, 0, -896}; /* scales 1, 0 and 2; 17 is a tie */
    double rounded[6];
    rounding_matrix(ROUNDING_E4M3, w, 2, 3, 0, rounded);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(rounded[i], expected[i], "%d: %g", i, rounded[i]);
}

/* Sums of these columns are multiples of the largest weight / 127, so this is the scale: 1, 0 and 2. */
Test(rounding, codes_of_int8_weights_have_the_sum_of_the_weights)
{
    const float w[5][3] = {
        {127, 0, 1}, {10.375f, 0, -254}, {20.375f, 0, 0.5f}, {30.25f, 0, 0.5f}, {0, 0, 0}};
    const double expected[5][3] = {{127, 0, 2}, {11, 0, -254}, {20, 0, 0}, {30, 0, 0}, {0, 0, 0}};
    double rounded[5][3];
    rounding_matrix(ROUNDING_INT8, w[0], 5, 3, 0, rounded[0]);
    for (int i = 0; i < 15; i++)
        cr_assert_eq(rounded[i / 3][i % 3], expected[i / 3][i % 3], "%d: %g", i, rounded[i / 3][i % 3]);
}

/* The sum of the weights, 127.25, is no multiple of the first candidate, 1. */
Test(rounding, scales_of_int8_weights_make_sums_whole)
{
    const float w[3] = {127, 9.5f, -9.25f};
    double rounded[3];
    rounding_matrix(ROUNDING_INT8, w, 3, 1, 0, rounded);
    cr_assert_float_eq(rounded[0] + rounded[1] + rounded[2], 127.25, 0.01);
    cr_assert_lt(fabs(rounded[0] - 127), 0.51);
}

Test(rounding, a_scale_for_each_row_is_that_of_the_transposed)
{
    float w[12], t[12];
    double rounded[12], by_row[12];
    random_stream r = random_begin(1, 1);
    for (int i = 0; i < 12; i++)
        w[i] = t[i % 4 * 3 + i / 4] = random_normal(&r);
    for (int type = ROUNDING_F16; type <= ROUNDING_E4M3; type++) {
        rounding_matrix((rounding_type)type, w, 3, 4, 1, by_row);
        rounding_matrix((rounding_type)type, t, 4, 3, 0, rounded);
        for (int i = 0; i < 12; i++) {
            cr_assert_eq(by_row[i], rounded[i % 4 * 3 + i / 4]);
            cr_assert_float_eq(by_row[i], (double)w[i], type == ROUNDING_E4M3 ? 0.2 : 0.03);
        }
    }
}

Test(rounding, types_have_the_names_of_specs)
{
    rounding_type type;
    error err = ERROR_INIT;
    cr_assert_eq(rounding_type_named("e4m3", &type, &err), XQ_OK);
    cr_assert_eq(type, ROUNDING_E4M3);
    cr_assert_eq(rounding_type_named("fp8", &type, &err), XQ_ERROR_SPEC);
    cr_assert_str_eq(err.message, "weights: 'fp8' is not known; valid: f16, bf16, int8, e4m3");
}
