#include "../autotune/quantizer.h"
#include "../autotune/reference.h"
#include "../runtime/half.h"

#include <complex.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define NAN_HALF 0x7e00

static uint16_t h(float value)
{
    return half_from_float(value);
}

/* ---------------------------------------------------------------- quantizer */

Test(quantizer, codes_scale_and_offset_of_a_ramp)
{
    uint16_t x[16], scale, offset;
    uint8_t codes[16];
    for (int i = 0; i < 16; i++)
        x[i] = h(0.5f * (float)i - 3);
    quantizer_encode(x, 16, 4, 32, codes, &scale, &offset);
    cr_assert_eq(scale, h(0.5f));
    cr_assert_eq(offset, h(-3));
    for (int i = 0; i < 16; i++)
        cr_assert_eq(codes[i], i);
}

Test(quantizer, constant_group_has_scale_zero_and_codes_zero)
{
    uint16_t x[4] = {h(2.5f), h(2.5f), h(2.5f), h(2.5f)}, scale, offset;
    uint8_t codes[4] = {9, 9, 9, 9};
    double x_hat[4];
    quantizer_encode(x, 4, 8, 4, codes, &scale, &offset);
    cr_assert_eq(scale, 0);
    quantizer_decode(codes, &scale, &offset, 4, 4, x_hat);
    for (int i = 0; i < 4; i++)
        cr_assert(codes[i] == 0 && x_hat[i] == 2.5);
}

Test(quantizer, range_below_the_smallest_scale_rounds_to_zero_scale)
{
    /* (hi - lo) / 15 is below half of f16's smallest number: the group collapses onto its minimum. */
    uint16_t x[2] = {h(0), 1}, scale, offset;
    uint8_t codes[2];
    quantizer_encode(x, 2, 4, 2, codes, &scale, &offset);
    cr_assert(scale == 0 && offset == 0 && codes[0] == 0 && codes[1] == 0);
}

Test(quantizer, ties_go_to_the_even_code)
{
    uint16_t x[4] = {h(0), h(15), h(2.5f), h(3.5f)}, scale, offset;
    uint8_t codes[4];
    quantizer_encode(x, 4, 4, 4, codes, &scale, &offset);
    cr_assert_eq(scale, h(1));
    cr_assert_eq(codes[1], 15);
    cr_assert_eq(codes[2], 2);
    cr_assert_eq(codes[3], 4);
}

Test(quantizer, a_scale_rounded_down_clamps_to_the_highest_code)
{
    /* 4097 / 255 = 16.0666 rounds to 16.0625: the maximum would be code 255.07, and with luck 255.5. */
    for (int top = 1; top < 2048; top++) {
        uint16_t x[2] = {h(0), h((float)top)}, scale, offset;
        uint8_t codes[2];
        quantizer_encode(x, 2, 8, 2, codes, &scale, &offset);
        double ideal = (double)half_to_float(x[1]) / half_to_float(scale);
        cr_assert_eq(codes[1], ideal > 255 ? 255 : (int)nearbyint(ideal), "top %d", top);
    }
}

Test(quantizer, infinities_saturate)
{
    uint16_t x[3] = {h(-INFINITY), h(INFINITY), h(0)}, scale, offset;
    uint8_t codes[3];
    quantizer_encode(x, 3, 4, 3, codes, &scale, &offset);
    cr_assert_eq(offset, h(-65504));
    cr_assert_eq(scale, h(131008.0f / 15));
    cr_assert_eq(codes[0], 0);
    cr_assert_eq(codes[1], 15);
}

Test(quantizer, a_nan_poisons_its_group_and_no_other)
{
    uint16_t x[4] = {NAN_HALF, h(1), h(2), h(4)}, scale[2], offset[2];
    uint8_t codes[4];
    double x_hat[4];
    for (int at = 0; at < 2; at++) {
        x[at] = NAN_HALF;
        x[1 - at] = h(1);
        quantizer_encode(x, 4, 4, 2, codes, scale, offset);
        quantizer_decode(codes, scale, offset, 4, 2, x_hat);
        cr_assert(isnan(x_hat[0]) && isnan(x_hat[1]));
        cr_assert(x_hat[2] == 2 && fabs(x_hat[3] - 4) < 1e-2);
    }
}

Test(quantizer, last_group_may_be_shorter)
{
    uint16_t x[5] = {h(0), h(15), h(0), h(30), h(7)}, scale[3], offset[3];
    uint8_t codes[5];
    cr_assert_eq(quantizer_groups(5, 2), 3);
    cr_assert_eq(quantizer_groups(576, 128), 5);
    quantizer_encode(x, 5, 4, 2, codes, scale, offset);
    cr_assert(scale[0] == h(1) && scale[1] == h(2) && scale[2] == 0 && offset[2] == h(7));
    cr_assert(codes[3] == 15 && codes[4] == 0);
}

Test(quantizer, error_is_at_most_half_a_step)
{
    enum { WIDTH = 192 };
    uint16_t x[WIDTH], scale[2], offset[2];
    uint8_t codes[WIDTH];
    double x_hat[WIDTH];
    srand48(5);
    for (int bits = 4; bits <= 8; bits += 4) {
        for (int c = 0; c < WIDTH; c++)
            x[c] = h((float)(drand48() * 8 - 4));
        quantizer_encode(x, WIDTH, bits, 128, codes, scale, offset);
        quantizer_decode(codes, scale, offset, WIDTH, 128, x_hat);
        for (int c = 0; c < WIDTH; c++) {
            double step = half_to_float(scale[c / 128]);
            /* the scale's own rounding may leave the maximum short by up to 2^-11 of the range */
            double slack = 0.5 * step + step * (1 << bits) * 0x1p-11;
            cr_assert_leq(fabs(x_hat[c] - half_to_float(x[c])), slack);
        }
    }
}

/* ---------------------------------------------------------------- reference */

#define D      6
#define HEADS  4
#define KV     2
#define DH     4
#define TOKENS 5

static const reference_model tiny = {
    .hidden_size = D,
    .heads = HEADS,
    .kv_heads = KV,
    .head_dim = DH,
    .scale = 0.5,
    .pairs = 2,
    .frequencies = {1.0, 0.01},
};

static void fill(double *data, size_t count)
{
    for (size_t i = 0; i < count; i++)
        data[i] = drand48() * 2 - 1;
}

/* RoPE as a product of complex numbers: element i of a head is the real part, i + DH/2 the imaginary. */
static double complex turned(const double *head, int i, int position)
{
    return (head[i] + I * head[i + DH / 2]) * cexp(I * tiny.frequencies[i] * position);
}

/* The attention of one head written straight from its formula, one token and one channel at a time. */
static void naive(const double *x, const double *wk, const double *wv, const double *q, int head,
                  double *out, double *lse)
{
    double total = 0, weighted[DH] = {0};
    for (int t = 0; t < TOKENS; t++) {
        double key[DH] = {0}, value[DH] = {0}, score = 0;
        int kv = head / (HEADS / KV);
        for (int j = 0; j < DH; j++)
            for (int c = 0; c < D; c++) {
                key[j] += x[t * D + c] * wk[c * KV * DH + kv * DH + j];
                value[j] += x[t * D + c] * wv[c * KV * DH + kv * DH + j];
            }
        for (int i = 0; i < DH / 2; i++)
            score += creal(turned(q + head * DH, i, TOKENS - 1) * conj(turned(key, i, t)));
        total += exp(tiny.scale * score);
        for (int j = 0; j < DH; j++)
            weighted[j] += exp(tiny.scale * score) * value[j];
    }
    for (int j = 0; j < DH; j++)
        out[j] = weighted[j] / total;
    *lse = log(total);
}

Test(reference, equals_the_formula_written_out)
{
    double x[TOKENS * D], wk[D * KV * DH], wv[D * KV * DH], q[HEADS * DH];
    double out[HEADS * DH], lse[HEADS], expected[DH], expected_lse;
    error err = ERROR_INIT;
    srand48(1);
    fill(x, TOKENS * D);
    fill(wk, D * KV * DH);
    fill(wv, D * KV * DH);
    fill(q, HEADS * DH);
    reference_factors factors = {x, x, wk, wv, D, D};
    cr_assert_eq(reference_attend_factors(&tiny, TOKENS, &factors, q, out, lse, &err), XQ_OK);
    for (int head = 0; head < HEADS; head++) {
        naive(x, wk, wv, q, head, expected, &expected_lse);
        cr_assert_lt(reference_error(expected, out + head * DH, DH), 1e-13);
        cr_assert_float_eq(lse[head], expected_lse, 1e-13);
    }
}

Test(reference, empty_sequence_gives_zeros_and_minus_infinity)
{
    double q[HEADS * DH] = {1}, out[HEADS * DH], lse[HEADS];
    error err = ERROR_INIT;
    cr_assert_eq(reference_attend(&tiny, 0, q, q, q, out, lse, &err), XQ_OK);
    for (int i = 0; i < HEADS * DH; i++)
        cr_assert_eq(out[i], 0);
    for (int i = 0; i < HEADS; i++)
        cr_assert(isinf(lse[i]) && lse[i] < 0);
}

Test(reference, a_nan_key_reaches_the_output)
{
    double k[TOKENS * KV * DH] = {0}, q[HEADS * DH] = {1}, out[HEADS * DH], lse[HEADS];
    error err = ERROR_INIT;
    k[0] = NAN;
    cr_assert_eq(reference_attend(&tiny, TOKENS, k, k, q, out, lse, &err), XQ_OK);
    cr_assert(isnan(out[0]));
}

Test(reference, error_is_relative_and_never_hides_a_nan)
{
    double expected[2] = {3, 4}, got[2] = {3, 4.5}, zero[2] = {0, 0}, bad[2] = {3, NAN};
    cr_assert_float_eq(reference_error(expected, got, 2), 0.1, 1e-15);
    cr_assert_eq(reference_error(zero, zero, 2), 0);
    cr_assert(isinf(reference_error(zero, got, 2)));
    cr_assert(isinf(reference_error(expected, bad, 2)));
    cr_assert(isinf(reference_error(bad, bad, 2)));
}

#define MODEL(rope)                                                                                        \
    "{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "           \
    "\"head_dim\": 64, \"rope\": " rope "}}"

Test(reference, reads_rope_frequencies)
{
    reference_model m;
    error err = ERROR_INIT;
    cr_assert_eq(
        reference_model_read(MODEL("{\"type\": \"neox\", \"theta\": 10000, \"scaling\": null}"), &m, &err),
        XQ_OK);
    cr_assert(m.pairs == 32 && m.scale == 0.125 && m.heads == 4 && m.kv_heads == 2);
    cr_assert_float_eq(m.frequencies[16], 0.01, 1e-15);
    cr_assert_eq(reference_model_read(MODEL("{\"type\": \"none\"}"), &m, &err), XQ_OK);
    cr_assert_eq(m.pairs, 0);
}

Test(reference, llama3_scaling_keeps_fast_and_stretches_slow_frequencies)
{
    reference_model m;
    error err = ERROR_INIT;
    const char *spec =
        MODEL("{\"type\": \"neox\", \"theta\": 500000, \"scaling\": {\"type\": \"llama3\", \"factor\": 32, "
              "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
              "\"original_max_position_embeddings\": 8192}}");
    cr_assert_eq(reference_model_read(spec, &m, &err), XQ_OK);
    cr_assert_eq(m.frequencies[0], 1);
    double slow = pow(500000, -62.0 / 64), middle = pow(500000, -34.0 / 64);
    cr_assert_float_eq(m.frequencies[31], slow / 32, 1e-18);
    double smooth = (8192 * middle / (2 * M_PI) - 1) / 3; /* wavelength between 2048 and 8192 */
    cr_assert(smooth > 0 && smooth < 1);
    cr_assert_float_eq(m.frequencies[17], middle * ((1 - smooth) / 32 + smooth), 1e-15);
}

Test(reference, refuses_what_it_does_not_compute)
{
    reference_model m;
    error err = ERROR_INIT;
    cr_assert_eq(
        reference_model_read(
            MODEL("{\"type\": \"neox\", \"theta\": 1e4, \"scaling\": {\"type\": \"yarn\"}}"), &m, &err),
        XQ_ERROR_UNSUPPORTED);
    cr_assert_str_eq(err.message, "model.rope.scaling.type is \"yarn\"; the reference knows llama3");
    error_clear(&err);
    cr_assert_eq(reference_model_read("{}", &m, &err), XQ_ERROR_SPEC);
}
