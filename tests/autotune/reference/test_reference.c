#include "../../../autotune/reference/reference.h"

#include <complex.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

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

/* Applies RoPE as a product of complex numbers: element i of a head is the real part, element i + DH/2 the
 * imaginary part. */
static double complex turned(const double *head, int i, int position)
{
    return (head[i] + I * head[i + DH / 2]) * cexp(I * tiny.frequencies[i] * position);
}

/* Computes the attention of one head straight from its formula, one token and one channel at a time. */
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
    const reference_layer layer = {
        .wk = wk, .wv = wv, .inner_k = D, .inner_v = D, .latents_k = 1, .latents_v = 1};
    const reference_queries last = {.count = 1, .q = q};
    cr_assert_eq(reference_attend_layer(&tiny, &layer, TOKENS, x, x, &last, out, lse, &err), XQ_OK);
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
    const reference_queries last = {.count = 1, .q = q};
    cr_assert_eq(reference_attend_queries(&tiny, &(reference_layer){0}, 0, q, q, &last, out, lse, &err),
                 XQ_OK);
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
    const reference_queries last = {.count = 1, .q = q};
    cr_assert_eq(
        reference_attend_queries(&tiny, &(reference_layer){0}, TOKENS, k, k, &last, out, lse, &err), XQ_OK);
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
            MODEL("{\"type\": \"neox\", \"theta\": 1e4, \"scaling\": {\"type\": \"dynamic\"}}"), &m, &err),
        XQ_ERROR_UNSUPPORTED);
    cr_assert_str_eq(
        err.message,
        "model.rope.scaling.type is \"dynamic\"; the reference knows linear, llama3, yarn, longrope");
    error_clear(&err);
    cr_assert_eq(reference_model_read("{}", &m, &err), XQ_ERROR_SPEC);
}
