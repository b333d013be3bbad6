/* Tests the rounding of columns of weights to 8-bit types: the statements of runtime/base/weights.h. */
#include "../../../runtime/base/e4m3.h"
#include "../../../runtime/base/random.h"
#include "../../../runtime/base/weights.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = WEIGHT_COLUMNS, BLOCK = 64, MOST_ROWS = 65 * BLOCK };

static float w[MOST_ROWS * N], scales[N];
static uint16_t codes[MOST_ROWS * N];

/* Draws columns of which each other one has a mean. */
static void draw(int rows, uint64_t seed)
{
    random_stream r = random_begin(seed, 1);
    for (int i = 0; i < rows * N; i++)
        w[i] = random_normal(&r) + (i % 2 ? 0.3f * (float)(i % N) : 0);
}

static int code_at(int row, int column)
{
    return (int8_t)codes[row * N + column];
}

static float largest_of(int rows, int column)
{
    float largest = 0;
    for (int r = 0; r < rows; r++)
        largest = fmaxf(largest, fabsf(w[r * N + column]));
    return largest;
}

static bool has_16_bits(float x)
{
    int exponent;
    double digits = ldexp(frexp((double)x, &exponent), 16);
    return digits == floor(digits);
}

/* Returns by how much the sum of codes differs from that of weights, in units of the scale. */
static double sum_error(int first, int end, int column)
{
    double sum = 0, exact = 0;
    for (int r = first; r < end; r++) {
        sum += code_at(r, column);
        exact += (double)w[r * N + column];
    }
    return sum - exact / (double)scales[column];
}

/* ---------------------------------------------------------------- int8 */

/* Quotients are rounded to f32, up to 127, which moves a sum by 64 * 2^-18 at most. */
static const double tolerance = 3e-4;

Test(weight_rounding, sums_of_int8_blocks_are_within_half_a_unit)
{
    static const int rows[] = {1, 5, 64, 65, 100, 128, 1000, 4096, 4160};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        draw(rows[i], i);
        weight_encode_columns(WEIGHT_INT8, rows[i], w, scales, codes);
        for (int first = 0; first < rows[i]; first += BLOCK)
            for (int n = 0; n < N; n++) {
                const int end = first + BLOCK < rows[i] ? first + BLOCK : rows[i];
                const double error = sum_error(first, end, n);
                cr_assert_leq(fabs(error), 0.5 + tolerance, "%d rows, from %d, column %d: %g", rows[i],
                              first, n, error);
            }
    }
}

/* The scale is chosen for this, so that the errors of a block's weights cancel. */
Test(weight_rounding, the_sum_of_one_int8_block_is_nearly_exact)
{
    int columns = 0, good = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        draw(BLOCK, seed);
        weight_encode_columns(WEIGHT_INT8, BLOCK, w, scales, codes);
        for (int n = 0; n < N; n++, columns++)
            good += fabs(sum_error(0, BLOCK, n)) < 0.01;
    }
    cr_assert_geq(good, columns * 9 / 10, "%d of %d", good, columns);
}

Test(weight_rounding, int8_codes_move_by_one_at_most_and_the_largest_errors_move)
{
    draw(1000, 3);
    weight_encode_columns(WEIGHT_INT8, 1000, w, scales, codes);
    int moved = 0;
    for (int n = 0; n < N; n++)
        for (int first = 0; first < 1000; first += BLOCK) {
            float least_moved = 1, most_left[2] = {0, 0}; /* errors; of those that stay: below, above */
            int direction = 0;
            for (int r = first; r < 1000 && r < first + BLOCK; r++) {
                const float quotient = w[r * N + n] / scales[n], error = quotient - rintf(quotient);
                const int by = code_at(r, n) - (int)rintf(quotient);
                cr_assert(by == 0 || ((by == 1 || by == -1) && error * (float)by > 0),
                          "[%d, %d] moves by %d", r, n, by);
                cr_assert(by == 0 || direction == 0 || by == direction, "block %d, column %d", first, n);
                direction = by ? by : direction;
                moved += by != 0;
                if (by)
                    least_moved = fminf(least_moved, fabsf(error));
                else
                    most_left[error > 0] = fmaxf(most_left[error > 0], fabsf(error));
            }
            cr_assert(direction == 0 || least_moved >= most_left[direction > 0], "block %d, column %d",
                      first, n);
        }
    cr_assert_gt(moved, 100);
}

Test(weight_rounding, int8_scales_are_candidates_above_the_largest_weight)
{
    for (int rows = 1; rows <= 4096; rows *= 4) {
        draw(rows, 4);
        weight_encode_columns(WEIGHT_INT8, rows, w, scales, codes);
        int larger = 0;
        for (int n = 0; n < N; n++) {
            const float base = largest_of(rows, n) / 127;
            cr_assert(has_16_bits(scales[n]) && scales[n] >= base && scales[n] < base * 1.1001f,
                      "%d rows, column %d: %a of %a", rows, n, (double)scales[n], (double)base);
            larger += scales[n] > base * 1.001f;
        }
        cr_assert_gt(larger, rows == 1 ? -1 : N / 2, "%d rows", rows);
    }
}

Test(weight_rounding, beyond_64_blocks_the_largest_int8_weight_has_the_largest_code)
{
    draw(4097, 5);
    weight_encode_columns(WEIGHT_INT8, 4097, w, scales, codes);
    for (int n = 0; n < N; n++) {
        const float base = largest_of(4097, n) / 127;
        cr_assert(has_16_bits(scales[n]) && scales[n] >= base && scales[n] < base * 1.0001f, "%d", n);
    }
}

Test(weight_rounding, rows_of_zeros_have_int8_codes_of_zero_and_change_nothing)
{
    static uint16_t alone[128 * N];
    for (uint64_t seed = 0; seed < 20; seed++) {
        const int rows = 65 + (int)seed * 3;
        float alone_scales[N];
        draw(128, seed);
        for (int i = 0; i < 128 * N; i++)
            if (i / N % 5 == 2 || i / N >= rows)
                w[i] = 0;
        weight_encode_columns(WEIGHT_INT8, rows, w, alone_scales, alone);
        weight_encode_columns(WEIGHT_INT8, 128, w, scales, codes);
        cr_assert_arr_eq(scales, alone_scales, sizeof scales);
        cr_assert_arr_eq(codes, alone, sizeof *codes * (size_t)(rows * N));
        for (int i = 0; i < 128 * N; i++)
            cr_assert(w[i] != 0 || codes[i] == 0, "row %d", i / N);
    }
}

/* All weights of a column have the same error, so the first ones of each block are moved. */
Test(weight_rounding, constant_int8_columns_keep_their_sums)
{
    memset(w, 0, sizeof w);
    for (int r = 0; r < 100; r++)
        for (int n = 1; n < N; n++)
            w[r * N + n] = (n % 2 ? 1 : -1) * ldexpf((float)n, n - 8);
    weight_encode_columns(WEIGHT_INT8, 100, w, scales, codes);
    cr_assert_eq(scales[0], 0, "a column of zeros");
    for (int n = 0; n < N; n++) {
        for (int r = 0; r < 100; r++) {
            const int last = r < BLOCK ? BLOCK - 1 : 99, nearest = (int)rintf(w[r * N + n] / scales[n]);
            cr_assert_leq(abs(code_at(r, n)), 127);
            cr_assert(n > 0 || code_at(r, n) == 0);
            cr_assert(n == 0 || code_at(r, n) == nearest || r % BLOCK == 0 || code_at(r - 1, n) != nearest,
                      "[%d, %d] is moved, and the one before is not", r, n);
            cr_assert(n == 0 || code_at(last, n) == nearest,
                      "errors are half a unit at most, so not all move");
        }
        if (n == 0)
            continue;
        cr_assert_leq(fabs(sum_error(0, BLOCK, n)), 0.5 + tolerance);
        cr_assert_leq(fabs(sum_error(BLOCK, 100, n)), 0.5 + tolerance);
    }
}

/* All candidates give these sums exactly, which are 0. */
Test(weight_rounding, the_first_int8_scale_is_taken_on_a_tie)
{
    memset(w, 0, sizeof w);
    for (int n = 0; n < N; n++)
        w[n] = -(w[N + n] = (float)(n + 1) / 16);
    weight_encode_columns(WEIGHT_INT8, 2, w, scales, codes);
    for (int n = 0; n < N; n++)
        cr_assert(code_at(0, n) == -127 && code_at(1, n) == 127, "column %d: %d, %d", n, code_at(0, n),
                  code_at(1, n));
}

/* A quotient of subnormal numbers is far from exact. Here it makes all weights 127.25 times the scale, and
 * no code can move up. */
Test(weight_rounding, int8_codes_stay_within_127_where_the_scale_is_subnormal)
{
    for (int i = 0; i < BLOCK * N; i++)
        w[i] = ldexpf(i % 2 ? 32575 : -32575, -149);
    weight_encode_columns(WEIGHT_INT8, BLOCK, w, scales, codes);
    for (int i = 0; i < BLOCK * N; i++)
        cr_assert_eq((int8_t)codes[i], i % 2 ? 127 : -127, "%d: %d", i, (int8_t)codes[i]);
}

/* ---------------------------------------------------------------- other types */

Test(weight_rounding, e4m3_codes_are_nearest_and_the_largest_weight_has_the_largest_code)
{
    draw(200, 6);
    for (int r = 0; r < 200; r++)
        w[r * N + 9] = 0;
    weight_encode_columns(WEIGHT_E4M3, 200, w, scales, codes);
    for (int n = 0; n < N; n++) {
        const float base = largest_of(200, n) / 448;
        cr_assert(has_16_bits(scales[n]) && scales[n] >= base && scales[n] <= base * 1.0001f, "%d", n);
        for (int r = 0; r < 200; r++)
            cr_assert_eq(codes[r * N + n], base > 0 ? e4m3_encode(w[r * N + n] / scales[n]) : 0, "[%d, %d]",
                         r, n);
    }
}

Test(weight_rounding, types_of_16_bits_have_scales_of_1)
{
    draw(3, 7);
    w[5] = 0.5f;
    weight_encode_columns(WEIGHT_F16, 3, w, scales, codes);
    cr_assert_eq(codes[5], 0x3800);
    cr_assert_eq(scales[5], 1);
    weight_encode_columns(WEIGHT_BF16, 3, w, scales, codes);
    cr_assert_eq(codes[5], 0x3f00);
    cr_assert_eq(scales[15], 1);
}
