#include "../../../runtime/base/half.h"
#include "../../../runtime/base/random.h"
#include "../../../runtime/host/quantizer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NAN_HALF 0x7e00

static uint16_t h(float value)
{
    return half_from_float(value);
}

/* ---------------------------------------------------------------- float zero */

Test(quantizer, codes_scale_and_offset_of_a_ramp)
{
    uint16_t x[16], scale, offset;
    uint8_t codes[16];
    for (int i = 0; i < 16; i++)
        x[i] = h(0.5f * (float)i - 3);
    quantizer_encode(&(quantizer){.bits = 4, .group = 32}, x, 16, codes, &scale, &offset);
    cr_assert_eq(scale, h(0.5f));
    cr_assert_eq(offset, h(-3));
    for (int i = 0; i < 16; i++)
        cr_assert_eq(codes[i], i);
}

static void decode(const quantizer *q, const uint8_t *codes, const uint16_t *scale, const uint16_t *zero,
                   size_t width, double *x_hat)
{
    for (size_t c = 0; c < width; c++)
        x_hat[c] =
            quantizer_value(q, codes[c], scale[quantizer_group_of(q, c)], zero[quantizer_group_of(q, c)]);
}

Test(quantizer, constant_group_has_scale_zero_and_codes_zero)
{
    uint16_t x[4] = {h(2.5f), h(2.5f), h(2.5f), h(2.5f)}, scale, offset;
    uint8_t codes[4] = {9, 9, 9, 9};
    double x_hat[4];
    quantizer_encode(&(quantizer){.bits = 8, .group = 4}, x, 4, codes, &scale, &offset);
    cr_assert_eq(scale, 0);
    decode(&(quantizer){.group = 4}, codes, &scale, &offset, 4, x_hat);
    for (int i = 0; i < 4; i++)
        cr_assert(codes[i] == 0 && x_hat[i] == 2.5);
}

Test(quantizer, range_below_the_smallest_scale_rounds_to_zero_scale)
{
    /* (hi - lo) / 15 is below half of f16's smallest number: the group collapses onto its minimum. */
    uint16_t x[2] = {h(0), 1}, scale, offset;
    uint8_t codes[2];
    quantizer_encode(&(quantizer){.bits = 4, .group = 2}, x, 2, codes, &scale, &offset);
    cr_assert(scale == 0 && offset == 0 && codes[0] == 0 && codes[1] == 0);
}

Test(quantizer, ties_go_to_the_even_code)
{
    uint16_t x[4] = {h(0), h(15), h(2.5f), h(3.5f)}, scale, offset;
    uint8_t codes[4];
    quantizer_encode(&(quantizer){.bits = 4, .group = 4}, x, 4, codes, &scale, &offset);
    cr_assert_eq(scale, h(1));
    cr_assert_eq(codes[1], 15);
    cr_assert_eq(codes[2], 2);
    cr_assert_eq(codes[3], 4);
}

Test(quantizer, a_scale_rounded_down_clamps_to_the_highest_code)
{
    /* f16 rounds 4097 / 255 = 16.0666 down to 16.0625, so that the maximum would be code 255.07. Codes end
     * at 255. */
    for (int top = 1; top < 2048; top++) {
        uint16_t x[2] = {h(0), h((float)top)}, scale, offset;
        uint8_t codes[2];
        quantizer_encode(&(quantizer){.bits = 8, .group = 2}, x, 2, codes, &scale, &offset);
        double ideal = (double)half_to_float(x[1]) / half_to_float(scale);
        cr_assert_eq(codes[1], ideal > 255 ? 255 : (int)nearbyint(ideal), "top %d", top);
    }
}

Test(quantizer, infinities_saturate)
{
    /* With the scale f16(131008 / 15) = 8736, code 15 would be at 65536, beyond f16. 131008 / 8 = 16376 is
     * an f16 number. */
    uint16_t x[3] = {h(-INFINITY), h(INFINITY), h(0)}, scale, offset;
    uint8_t codes[3];
    quantizer_encode(&(quantizer){.bits = 4, .group = 3}, x, 3, codes, &scale, &offset);
    cr_assert_eq(offset, h(-65504));
    cr_assert_eq(scale, h(16376));
    cr_assert_eq(codes[0], 0);
    cr_assert_eq(codes[1], 8);
    cr_assert_eq(codes[2], 4);
}

/* All levels must be finite. The ranges end at f16's limit or near it, also where rounding to a level goes
 * up. */
static void expect_finite_levels(const quantizer *q, float lo, float hi)
{
    const quantizer_levels l = quantizer_find_levels(q, lo, hi, true, false);
    const float zero = -l.least, top = (float)((1 << q->bits) - 1), ends[] = {lo, hi};
    cr_assert(zero >= 0 && zero <= top && zero + l.most <= top && l.most >= 0, "%d bits, %g .. %g", q->bits,
              lo, hi);
    for (float level = l.least; level <= l.most; level++)
        cr_assert(isfinite(quantizer_level_value(&l, level)), "%d bits, %g .. %g: level %g is %g", q->bits,
                  lo, hi, level, quantizer_level_value(&l, level));
    for (int i = 0; i < 2 && q->clip == 1; i++) {
        const float off = quantizer_level_value(&l, quantizer_level(&l, ends[i])) - ends[i];
        cr_assert_leq(fabsf(off), l.scale * (q->integer_zero ? 1.0f : 0.5f), "%d bits, %g .. %g", q->bits,
                      lo, hi);
    }
}

Test(quantizer, no_level_is_beyond_f16)
{
    static const float clips[] = {1, 0.9999f, 0.999f, 0.7f};
    static const int widths[] = {2, 3, 4, 8};
    random_stream r = random_begin(5, 1);
    for (int i = 0; i < 4 * 2 * 4; i++) {
        quantizer q = {.bits = widths[i % 4], .integer_zero = i / 4 % 2, .clip = clips[i / 8]};
        for (int k = 0; k < 20000; k++) {
            const float end =
                random_between(&r, 0, 1) ? 65504 : half_round((float)random_between(&r, 30000, 65504));
            float other = half_to_float((uint16_t)random_between(&r, 0, 0x7bff));
            other = random_between(&r, 0, 1) ? other : -other;
            expect_finite_levels(&q, fminf(other, end), fmaxf(other, end));
            expect_finite_levels(&q, fminf(-other, -end), fmaxf(-other, -end));
        }
    }
}

/* A group has one saturated activation among zeros, in every format. */
Test(quantizer, a_saturated_value_is_cached_as_it_is)
{
    static const int widths[] = {2, 3, 4, 8};
    for (int i = 0; i < 4 * 2 * 2; i++) {
        quantizer q = {.bits = widths[i % 4], .group = 64, .integer_zero = i / 4 % 2};
        const float value = i / 8 ? -65504 : 65504;
        uint16_t x[64] = {0}, scale, zero;
        uint8_t codes[64];
        x[0] = h(value);
        quantizer_encode(&q, x, 64, codes, &scale, &zero);
        cr_assert_eq(half_to_float(quantizer_kernel_value(&q, codes[0], scale, zero)), value);
        for (int c = 1; c < 64; c++) {
            const float cached = half_to_float(quantizer_kernel_value(&q, codes[c], scale, zero));
            cr_assert_leq(fabsf(cached), value > 0 || q.integer_zero ? 0 : 128, "%d bits: %g", q.bits,
                          cached);
        }
    }
}

Test(quantizer, a_nan_poisons_its_group_and_no_other)
{
    uint16_t x[4] = {NAN_HALF, h(1), h(2), h(4)}, scale[2], offset[2];
    uint8_t codes[4];
    double x_hat[4];
    for (int at = 0; at < 2; at++) {
        x[at] = NAN_HALF;
        x[1 - at] = h(1);
        quantizer_encode(&(quantizer){.bits = 4, .group = 2}, x, 4, codes, scale, offset);
        decode(&(quantizer){.group = 2}, codes, scale, offset, 4, x_hat);
        cr_assert(isnan(x_hat[0]) && isnan(x_hat[1]));
        cr_assert(x_hat[2] == 2 && fabs(x_hat[3] - 4) < 1e-2);
    }
}

Test(quantizer, last_group_may_be_shorter)
{
    uint16_t x[5] = {h(0), h(15), h(0), h(30), h(7)}, scale[3], offset[3];
    uint8_t codes[5];
    cr_assert_eq(quantizer_groups(&(quantizer){.group = 2}, 5), 3);
    cr_assert_eq(quantizer_groups(&(quantizer){.group = 128}, 576), 5);
    quantizer_encode(&(quantizer){.bits = 4, .group = 2}, x, 5, codes, scale, offset);
    cr_assert(scale[0] == h(1) && scale[1] == h(2) && scale[2] == 0 && offset[2] == h(7));
    cr_assert(codes[3] == 15 && codes[4] == 0);
}

Test(quantizer, groups_of_channels_end_with_their_latent)
{
    /* There are two latents of six columns, of which five hold data. Groups of four columns split each
     * latent into 4 and 2 columns. */
    const quantizer q = {.bits = 2, .group = 4, .rank = 5, .latent_width = 6};
    static const size_t own[12] = {0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3};
    uint16_t x[12], scale[4], offset[4];
    uint8_t codes[12];
    cr_assert_eq(quantizer_groups(&q, 12), 4);
    for (size_t c = 0; c < 12; c++) {
        cr_assert_eq(quantizer_group_of(&q, c), own[c]);
        x[c] = h((float)((own[c] + 1) * (c % 2 ? 3 : 0)) + 10 * (float)own[c]);
    }
    cr_assert_eq(quantizer_group_end(&q, 0, 12), 4);
    cr_assert_eq(quantizer_group_end(&q, 4, 12), 6);
    cr_assert_eq(quantizer_group_end(&q, 6, 12), 10);
    cr_assert_eq(quantizer_group_end(&q, 10, 11), 11);
    quantizer_encode(&q, x, 12, codes, scale, offset);
    for (size_t g = 0; g < 4; g++) {
        const bool single = g % 2; /* the other column of the group is padding */
        cr_assert_eq(scale[g], single ? 0 : h((float)g + 1), "group %zu", g);
        cr_assert_eq(offset[g], h(10 * (float)g), "group %zu", g);
    }
}

Test(quantizer, error_is_at_most_half_a_step)
{
    enum { WIDTH = 192 };
    uint16_t x[WIDTH], scale[2], offset[2];
    uint8_t codes[WIDTH];
    double x_hat[WIDTH];
    srand48(5);
    for (int bits = 2; bits <= 8; bits += bits < 4 ? 1 : 4) {
        for (int c = 0; c < WIDTH; c++)
            x[c] = h((float)(drand48() * 8 - 4));
        quantizer_encode(&(quantizer){.bits = bits, .group = 128}, x, WIDTH, codes, scale, offset);
        decode(&(quantizer){.group = 128}, codes, scale, offset, WIDTH, x_hat);
        for (int c = 0; c < WIDTH; c++) {
            double step = half_to_float(scale[c / 128]);
            /* the scale's own rounding may leave the maximum short by up to 2^-11 of the range */
            double slack = 0.5 * step + step * (1 << bits) * 0x1p-11;
            cr_assert_leq(fabs(x_hat[c] - half_to_float(x[c])), slack);
        }
    }
}

/* ---------------------------------------------------------------- integer zero */

static const quantizer integer4 = {.bits = 4, .group = 4, .integer_zero = true};

Test(quantizer, integer_zero_is_the_code_of_zero)
{
    /* The range -3 .. 12 gives step 1 and zero point 3. */
    uint16_t x[4] = {h(-3), h(12), h(0), h(4.5f)}, scale, zero;
    uint8_t codes[4];
    double x_hat[4];
    quantizer_encode(&integer4, x, 4, codes, &scale, &zero);
    cr_assert(scale == h(1) && zero == 3);
    cr_assert(codes[0] == 0 && codes[1] == 15 && codes[2] == 3);
    cr_assert_eq(codes[3], 7, "4.5 is a tie, and goes to 4");
    decode(&integer4, codes, &scale, &zero, 4, x_hat);
    cr_assert(x_hat[0] == -3 && x_hat[1] == 12 && x_hat[2] == 0 && x_hat[3] == 4);
}

Test(quantizer, integer_range_always_contains_zero)
{
    uint16_t above[4] = {h(30), h(15), h(20), h(16)}, below[4] = {h(-30), h(-15), h(-20), h(-16)};
    uint16_t scale, zero;
    uint8_t codes[4];
    quantizer_encode(&integer4, above, 4, codes, &scale, &zero);
    cr_assert(scale == h(2) && zero == 0 && codes[0] == 15 && codes[3] == 8);
    quantizer_encode(&integer4, below, 4, codes, &scale, &zero);
    cr_assert(scale == h(2) && zero == 15 && codes[0] == 0 && codes[3] == 7);
}

Test(quantizer, integer_zero_of_a_group_of_zeros_or_nan)
{
    uint16_t x[4] = {0, 0, 0x8000, 0}, scale = 9, zero = 9;
    uint8_t codes[4] = {9, 9, 9, 9};
    quantizer_encode(&integer4, x, 4, codes, &scale, &zero);
    cr_assert(scale == 0 && zero == 0 && codes[0] == 0 && codes[2] == 0);
    x[3] = NAN_HALF;
    x[1] = h(5);
    quantizer_encode(&integer4, x, 4, codes, &scale, &zero);
    cr_assert(isnan(half_to_float(scale)) && zero == 0 && codes[1] == 0);
    cr_assert(isnan(quantizer_value(&integer4, codes[1], scale, zero)));
}

Test(quantizer, integer_infinities_saturate)
{
    uint16_t x[4] = {h(INFINITY), h(-INFINITY), 0, 0}, scale, zero;
    uint8_t codes[4];
    quantizer_encode(&integer4, x, 4, codes, &scale, &zero);
    cr_assert_eq(scale, h(131008.0f / 15));
    cr_assert_eq(zero, 7, "65504 / 8736 (the scale as f16) is 7.498");
    cr_assert(codes[0] == 14 && codes[1] == 0 && codes[2] == 7);
}

/* ---------------------------------------------------------------- clipping */

Test(quantizer, clipped_codes_span_the_middle_of_the_range)
{
    /* The range is -10 .. 20. Its middle three fifths are -4 .. 14, in steps of 6. */
    quantizer q = {.bits = 2, .group = 5, .clip = 0.6f};
    uint16_t x[5] = {h(-10), h(20), h(2), h(6), h(-4)}, scale, zero;
    uint8_t codes[5];
    double x_hat[5];
    quantizer_encode(&q, x, 5, codes, &scale, &zero);
    cr_assert(scale == h(6) && zero == h(-4), "scale %g, zero %g", half_to_float(scale),
              half_to_float(zero));
    cr_assert(codes[0] == 0 && codes[1] == 3 && codes[2] == 1 && codes[3] == 2 && codes[4] == 0);
    decode(&q, codes, &scale, &zero, 5, x_hat);
    cr_assert(x_hat[0] == -4 && x_hat[1] == 14);
}

Test(quantizer, a_clipped_integer_zero_point_keeps_zero)
{
    /* The range is -2 .. 4. Its middle half is -1 .. 2, in steps of 1, with zero point 1. */
    quantizer q = {.bits = 2, .group = 4, .integer_zero = true, .clip = 0.5f};
    uint16_t x[4] = {h(-2), h(4), h(0), h(1)}, scale, zero;
    uint8_t codes[4];
    quantizer_encode(&q, x, 4, codes, &scale, &zero);
    cr_assert(scale == h(1) && zero == 1);
    cr_assert(codes[0] == 0 && codes[1] == 3 && codes[2] == 1 && codes[3] == 2);
    cr_assert_eq(quantizer_value(&q, codes[2], scale, zero), 0);
}

Test(quantizer, a_clipped_constant_group_stays_exact)
{
    quantizer q = {.bits = 2, .group = 3, .clip = 0.6f};
    uint16_t x[3] = {h(1.3f), h(1.3f), h(1.3f)}, scale, zero;
    uint8_t codes[3];
    quantizer_encode(&q, x, 3, codes, &scale, &zero);
    cr_assert(scale == 0 && zero == x[0] && codes[0] == 0);
}

/* ---------------------------------------------------------------- channels and padding */

Test(quantizer, a_channel_is_quantized_as_a_row_of_its_values)
{
    enum { WIDTH = 5, GROUP = 32 };
    for (int integer = 0; integer < 2; integer++) {
        quantizer q = {.bits = 3, .group = GROUP, .integer_zero = integer, .clip = 0.8f};
        uint16_t x[GROUP * WIDTH], scale[WIDTH], zero[WIDTH], column[GROUP], one_scale, one_zero;
        uint8_t codes[GROUP * WIDTH], one[GROUP];
        random_stream r = random_begin(3, 1);
        for (int i = 0; i < GROUP * WIDTH; i++)
            x[i] = h(random_normal(&r));
        quantizer_encode_channels(&q, x, WIDTH, codes, scale, zero);
        for (int c = 0; c < WIDTH; c++) {
            for (int t = 0; t < GROUP; t++)
                column[t] = x[t * WIDTH + c];
            quantizer_encode(&q, column, GROUP, one, &one_scale, &one_zero);
            cr_assert(one_scale == scale[c] && one_zero == zero[c]);
            for (int t = 0; t < GROUP; t++)
                cr_assert_eq(one[t], codes[t * WIDTH + c]);
        }
    }
}

Test(quantizer, padding_is_outside_of_every_range)
{
    /* Two latents of three columns are stored as four. Of the two groups in each, one holds data and
     * padding. */
    quantizer q = {.bits = 2, .group = 2, .rank = 3, .latent_width = 4};
    uint16_t x[8] = {h(1), h(4), h(2), NAN_HALF, h(-2), h(1), h(5), h(1000)}, scale[4], zero[4];
    uint8_t codes[8];
    quantizer_encode(&q, x, 8, codes, scale, zero);
    cr_assert(scale[0] == h(1) && zero[0] == h(1) && codes[1] == 3);
    cr_assert(scale[1] == 0 && zero[1] == h(2) && codes[2] == 0 && codes[3] == 0);
    cr_assert(scale[2] == h(1) && zero[2] == h(-2));
    cr_assert(scale[3] == 0 && zero[3] == h(5) && codes[7] == 0);
}

Test(quantizer, a_group_of_padding_alone_is_zero)
{
    quantizer q = {.bits = 2, .group = 2, .rank = 1, .latent_width = 4};
    for (int integer = 0; integer < 2; integer++) {
        uint16_t x[4] = {h(-3), h(1), h(2), NAN_HALF}, scale[4] = {9, 9, 9, 9}, zero[4] = {9, 9, 9, 9};
        uint8_t codes[8] = {9, 9, 9, 9, 9, 9, 9, 9};
        uint16_t two[8] = {h(-3), h(1), h(2), NAN_HALF, h(6), h(1), h(2), NAN_HALF};
        q.integer_zero = integer;
        quantizer_encode(&q, x, 4, codes, scale, zero);
        cr_assert(scale[1] == 0 && zero[1] == 0 && codes[1] == 0 && codes[2] == 0 && codes[3] == 0);
        quantizer_encode_channels(&q, two, 4, codes, scale, zero);
        for (int c = 1; c < 4; c++)
            cr_assert(scale[c] == 0 && zero[c] == 0 && codes[c] == 0 && codes[4 + c] == 0);
        cr_assert_neq(scale[0], 0);
    }
}

Test(quantizer, the_value_that_kernels_see_is_rounded_once)
{
    /* 1024 * 3 + 0.75 = 3072.75 is no f16 number: f16 has steps of 2 there. */
    quantizer q = {.bits = 4, .group = 4};
    cr_assert_eq(quantizer_value(&q, 3, h(1024), h(0.75f)), 3072.75);
    cr_assert_eq(half_to_float(quantizer_kernel_value(&q, 3, h(1024), h(0.75f))), 3072);
    cr_assert_eq(half_to_float(quantizer_kernel_value(&q, 3, h(1024), h(1.25f))), 3074);
    cr_assert(isinf(half_to_float(quantizer_kernel_value(&q, 15, h(8000), h(0)))));
}
