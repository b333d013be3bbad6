#include "../../../autotune/reference/rounding.h"
#include "../../../runtime/base/half.h"
#include "../../../runtime/base/random.h"
#include "../../../runtime/host/quantizer.h"

#include <xq/xq.h>

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 70, MOST = 600 };

/* Fills x with values of very different sizes. Some are subnormal in f16, some are equal, some are zero. */
static void fill(float *x, size_t count, uint64_t seed)
{
    random_stream r = random_begin(seed, 1);
    for (size_t i = 0; i < count; i++) {
        int exponent = (int)(i / 97 % 34) - 22;
        x[i] = i % 13 == 0 ? 0 : ldexpf(random_normal(&r), i % 89 < 60 ? exponent : 0);
    }
}

static uint16_t seen_half(float x)
{
    return half_from_double(rounding_saturated((double)half_to_float(half_from_float(x))));
}

static void expect(const float *got, uint16_t bits, const char *what, size_t row, size_t column)
{
    float value = half_to_float(bits);
    cr_assert(got[0] == value || (isnan(got[0]) && isnan(value)), "%s, row %zu, column %zu: %a, must be %a",
              what, row, column, (double)got[0], (double)value);
}

/* ---------------------------------------------------------------- cache */

/* Makes the stored form of a compact row. Padding gets a value that must not matter. */
static void store(const quantizer *q, const float *x, size_t stored, uint16_t *row)
{
    for (size_t c = 0, from = 0; c < stored; c++)
        row[c] = quantizer_is_data(q, c) ? seen_half(x[from++]) : 0x7bff;
}

static void check_rows(const quantizer *q, size_t stored, size_t width, const float *x, const float *x_hat)
{
    uint16_t row[2 * MOST], scale[MOST], zero[MOST];
    uint8_t codes[2 * MOST];
    for (size_t t = 0; t < ROWS; t++) {
        store(q, x + t * width, stored, row);
        quantizer_encode(q, row, stored, codes, scale, zero);
        for (size_t c = 0, at = 0; c < stored; c++)
            if (quantizer_is_data(q, c)) {
                expect(&x_hat[t * width + at],
                       quantizer_kernel_value(q, codes[c], scale[quantizer_group_of(q, c)],
                                              zero[quantizer_group_of(q, c)]),
                       "by token", t, at);
                at++;
            }
    }
}

static void check_channels(const quantizer *q, size_t width, const float *x, const float *x_hat)
{
    uint16_t *rows = calloc(ROWS * width, sizeof *rows), scale[MOST], zero[MOST];
    uint8_t *codes = calloc(ROWS * width, 1);
    size_t whole = ROWS / q->group * q->group;
    for (size_t i = 0; i < ROWS * width; i++)
        rows[i] = seen_half(x[i]);
    for (size_t t = 0; t < whole; t += q->group) {
        quantizer_encode_channels(q, rows + t * width, width, codes, scale, zero);
        for (size_t i = 0; i < q->group * width; i++)
            expect(&x_hat[t * width + i],
                   quantizer_kernel_value(q, codes[i], scale[i % width], zero[i % width]), "by channel",
                   t + i / width, i % width);
    }
    for (size_t i = whole * width; i < ROWS * width; i++)
        expect(&x_hat[i], rows[i], "tail", i / width, i % width);
    free(rows);
    free(codes);
}

static void check(xq_quantizer s, size_t width, float poison)
{
    float *x = calloc(ROWS * width, sizeof *x), *x_hat = calloc(ROWS * width, sizeof *x_hat);
    fill(x, ROWS * width, (uint64_t)(s.bits + s.group));
    x[3 * width + width / 2] = poison;
    cr_assert_eq(xq_simulate_cache(&s, ROWS, (int64_t)width, x, x_hat), XQ_OK);
    size_t latents = s.latents ? (size_t)s.latents : 1;
    quantizer q = {.bits = s.bits, .integer_zero = s.integer_zero, .clip = s.clip, .rank = width / latents};
    q.latent_width = (q.rank + 63) / 64 * 64;
    q.group = s.group ? (size_t)s.group : q.latent_width;
    if (s.by_channel) {
        q.rank = q.latent_width = 0; /* each channel has its own groups, so padding shares none with data */
        check_channels(&q, width, x, x_hat);
    } else {
        if (latents > 1 && q.group > q.latent_width)
            q.group = q.latent_width;
        check_rows(&q, latents * q.latent_width, width, x, x_hat);
    }
    cr_assert_eq(xq_simulate_cache(&s, ROWS, (int64_t)width, x, x), XQ_OK);
    cr_assert_eq(memcmp(x, x_hat, sizeof *x * ROWS * width), 0, "in place");
    free(x);
    free(x_hat);
}

Test(simulate, a_cache_holds_what_its_codes_stand_for)
{
    static const struct {
        size_t width;
        int32_t latents, group;
    } shapes[] = {{576, 0, 128}, {192, 1, 128}, {192, 3, 64}, {192, 1, 0}, {96, 2, 64},  {96, 2, 128},
                  {360, 2, 128}, {100, 1, 32},  {130, 2, 32}, {12, 4, 0},  {600, 3, 256}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int bits = 2; bits <= 8; bits += bits < 4 ? 1 : 4)
            for (int integer = 0; integer < 2; integer++) {
                xq_quantizer s = XQ_QUANTIZER_INIT;
                s.bits = bits;
                s.group = shapes[i].group;
                s.latents = shapes[i].latents;
                s.integer_zero = integer;
                s.clip = bits == 8 ? 0 : 0.5f + 0.1f * (float)bits;
                const float poisons[] = {0.5f, 1e6f, -INFINITY, NAN};
                check(s, shapes[i].width, poisons[i % 4]);
                s.by_channel = 1;
                s.group = i % 2 ? 32 : 64;
                check(s, shapes[i].width, poisons[i % 4]);
            }
}

Test(simulate, sixteen_bits_round_to_f16_and_saturate)
{
    float x[8] = {1e6f, -INFINITY, 1 + 0x1p-11f, 1 + 0x3p-11f, 0x1p-25f, 0x1.8p-25f, 65519.0f, -0.0f};
    const float expected[8] = {65504, -65504, 1, 1 + 0x2p-10f, 0, 0x1p-24f, 65504, 0};
    xq_quantizer s = XQ_QUANTIZER_INIT;
    s.bits = 16;
    cr_assert_eq(xq_simulate_cache(&s, 2, 4, x, x), XQ_OK);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(x[i], expected[i], "%d: %a", i, (double)x[i]);
}

Test(simulate, impossible_formats_are_refused)
{
    float x[128] = {0};
    xq_quantizer good = XQ_QUANTIZER_INIT;
    good.bits = 4;
    good.group = 32;
    good.latents = 1;
    good.clip = 1;
    xq_quantizer bad[9];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        bad[i] = good;
    bad[0].bits = 5;
    bad[1].bits = 0;
    bad[2].group = -1;
    bad[3].latents = 3;
    bad[4].latents = -1;
    bad[5].struct_size = 4;
    bad[6].by_channel = 1;
    bad[6].group = 0;
    bad[7].clip = 1.01f;
    bad[8].clip = -0.5f;
    cr_assert_eq(xq_simulate_cache(&good, 1, 64, x, x), XQ_OK);
    cr_assert_eq(xq_simulate_cache(&good, 0, 64, NULL, NULL), XQ_OK);
    cr_assert_eq(xq_simulate_cache(&good, 1, 0, x, x), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_simulate_cache(&good, -1, 64, x, x), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_simulate_cache(&good, 1, 64, NULL, x), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_simulate_cache(NULL, 1, 64, x, x), XQ_ERROR_ARGUMENT);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(xq_simulate_cache(&bad[i], 1, 64, x, x), XQ_ERROR_ARGUMENT, "format %zu", i);
}

/* These calls have no context, so the calling thread asks for the error without one. */
static void expect_refusal(xq_status status, const char *field, const char *text)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(status, XQ_ERROR_ARGUMENT, "%s", field);
    cr_assert_eq(xq_last_error(NULL, &detail), XQ_OK);
    cr_assert_eq(detail.status, XQ_ERROR_ARGUMENT);
    cr_assert_str_eq(detail.field, field, "%s, not %s: %s", detail.field, field, detail.message);
    cr_assert_str_eq(detail.stage, "argument");
    cr_assert(strstr(detail.message, text), "%s: %s", field, detail.message);
}

Test(simulate, a_refusal_names_the_argument)
{
    float x[128] = {0}, w[4] = {1, NAN, 2, 70000}, cost[64] = {0};
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(xq_last_error(NULL, &detail), XQ_ERROR_ARGUMENT, "nothing has failed yet");
    xq_quantizer good = XQ_QUANTIZER_INIT;
    good.bits = 4, good.group = 32;
    const struct {
        size_t at;
        int32_t value;
        const char *field, *text;
    } integers[] = {
        {offsetof(xq_quantizer, bits), 5, "quantizer.bits", "valid: 2, 3, 4, 8, 16"},
        {offsetof(xq_quantizer, group), -1, "quantizer.group", "valid: 0 to"},
        {offsetof(xq_quantizer, by_channel), 2, "quantizer.by_channel", "valid: 0 to 1"},
        {offsetof(xq_quantizer, integer_zero), -1, "quantizer.integer_zero", "valid: 0 to 1"},
        {offsetof(xq_quantizer, latents), 3, "quantizer.latents", "valid: divisors of width, 64"},
        {offsetof(xq_quantizer, struct_size), 31, "struct_size", "the first had 32 bytes"},
    };
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        xq_quantizer bad = good;
        memcpy((char *)&bad + integers[i].at, &integers[i].value, sizeof integers[i].value);
        expect_refusal(xq_simulate_cache(&bad, 1, 64, x, x), integers[i].field, integers[i].text);
    }
    xq_quantizer bad = good;
    bad.clip = NAN;
    expect_refusal(xq_simulate_cache(&bad, 1, 64, x, x), "quantizer.clip", "valid: 0 to 1");
    bad = good;
    bad.by_channel = 1, bad.group = 0;
    expect_refusal(xq_simulate_cache(&bad, 1, 64, x, x), "quantizer.group", "valid: 1 to");
    expect_refusal(xq_simulate_cache(NULL, 1, 64, x, x), "quantizer", "must not be NULL");
    expect_refusal(xq_simulate_cache(&good, -1, 64, x, x), "rows", "is -1");
    expect_refusal(xq_simulate_cache(&good, 1, 0, x, x), "width", "is 0; valid: 1 to");
    expect_refusal(xq_simulate_cache(&good, 1, 64, NULL, x), "x", "must not be NULL");
    expect_refusal(xq_simulate_cache(&good, 1, 64, x, NULL), "x_hat", "must not be NULL");

    expect_refusal(xq_simulate_feedback(&good, 64, 0, x, 1, NULL, x), "cols", "valid: 1 to");
    expect_refusal(xq_simulate_feedback(&good, 64, 2, NULL, 1, NULL, x), "a", "must not be NULL");
    expect_refusal(xq_simulate_feedback(&good, 64, 2, x, 1, NULL, NULL), "feedback", "must not be NULL");
    cost[1] = -1;
    expect_refusal(xq_simulate_feedback(&good, 64, 2, x, 1, cost, x), "cost", "cost[1, 0] is -1");
    expect_refusal(xq_simulate_feedback(&good, 2, 2, w, 1, NULL, x), "a", "a[0, 1] is nan");
    cost[1] = 1;
    expect_refusal(xq_simulate_feedback(&good, 64, 2, x, 3, cost, x), "block", "is 3; valid: 1 to 2");
    expect_refusal(xq_simulate_feedback(&good, 64, 3, x, 2, cost, x), "block",
                   "valid: divisors of the columns of a latent, 3");
    bad = good;
    bad.latents = 2;
    expect_refusal(xq_simulate_feedback(&bad, 64, 2, x, 2, cost, x), "block", "valid: 1 to 1");
    expect_refusal(xq_simulate_feedback(&bad, 64, 3, x, 1, NULL, x), "cols", "quantizer.latents, 2");

    expect_refusal(xq_simulate_weights("f8", 2, 2, w, x), "type", "is 'f8'; valid: f16, bf16, int8, e4m3");
    expect_refusal(xq_simulate_weights(NULL, 2, 2, w, x), "type", "must not be NULL");
    expect_refusal(xq_simulate_weights("f16", 2, -1, w, x), "cols", "is -1");
    expect_refusal(xq_simulate_weights("f16", 2, 2, w, NULL), "rounded", "must not be NULL");
    expect_refusal(xq_simulate_weights("f16", 2, 2, w, x), "w", "w[0, 1] is nan");
    w[1] = 0;
    expect_refusal(xq_simulate_weights("f16", 2, 2, w, x), "w",
                   "w[1, 1] is 70000; valid: magnitudes below 65520");
    cr_assert_eq(xq_simulate_cache(&good, 1, 64, x, x), XQ_OK);
    cr_assert_eq(xq_last_error(NULL, &detail), XQ_OK, "the last failure stays");
}

static void *fails_elsewhere(void *ignored)
{
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    (void)ignored;
    cr_expect_eq(xq_last_error(NULL, &detail), XQ_ERROR_ARGUMENT, "it is another thread's");
    xq_simulate_weights("f9", 1, 1, NULL, NULL);
    return NULL;
}

Test(simulate, a_thread_sees_its_own_failures)
{
    float x[4] = {0};
    pthread_t other;
    expect_refusal(xq_simulate_cache(NULL, 1, 4, x, x), "quantizer", "NULL");
    cr_assert_eq(pthread_create(&other, NULL, fails_elsewhere, NULL), 0);
    pthread_join(other, NULL);
    xq_error_detail detail = XQ_ERROR_DETAIL_INIT;
    cr_assert_eq(xq_last_error(NULL, &detail), XQ_OK);
    cr_assert_str_eq(detail.field, "quantizer");
}

/* ---------------------------------------------------------------- rounding */

Test(simulate, the_half_of_a_double_is_rounded_once)
{
    random_stream r = random_begin(4, 1);
    for (int i = 0; i < 200000; i++) {
        double x = ldexp((double)random_normal(&r), i % 45 - 28);
        if (i % 3 == 0) /* almost a tie */
            x = rounding_half(x) + ldexp(1, -12 + i % 7) * (1 + ldexp(i % 5 - 2, -40));
        cr_assert_eq(half_from_double(x), rounding_to_half(x), "%a", x);
        cr_assert_eq(half_from_float(quantizer_half((float)x)), half_from_float((float)x), "%a", x);
    }
    cr_assert_eq(half_from_double(INFINITY), 0x7c00);
    cr_assert_eq(half_from_double(-1e300), 0xfc00);
    cr_assert_eq(half_from_double(NAN), 0x7fff);
}

/* ---------------------------------------------------------------- weights */

static void check_weights(int rows, int cols, uint64_t seed)
{
    static const char *const types[] = {"f16", "bf16", "int8", "e4m3"};
    const size_t count = (size_t)(rows * cols);
    float *w = malloc(count * sizeof *w), *got = malloc(count * sizeof *got);
    float *in_place = malloc(count * sizeof *in_place);
    double *expected = malloc(count * sizeof *expected);
    fill(w, count, seed);
    for (int r = 0; r < rows; r++) {
        w[r * cols + 3] = r % 2 ? 0.3f : -0.3f; /* a column whose sums are zero with any scale */
        w[r * cols + 4] = 0;                    /* a column of zeros, which has no scale */
        w[r * cols + 5] = -0.7f;
        w[r * cols + 6] += 30; /* a column with a large mean */
    }
    for (int type = 0; type < 4; type++) {
        cr_assert_eq(xq_simulate_weights(types[type], rows, cols, w, got), XQ_OK);
        rounding_matrix((rounding_type)type, w, (size_t)rows, (size_t)cols, 0, expected);
        for (size_t i = 0; i < count; i++)
            cr_assert_eq(got[i], (float)expected[i], "%s, [%d, %d], %zu: %a, must be %a", types[type], rows,
                         cols, i, (double)got[i], expected[i]);
        memcpy(in_place, w, count * sizeof *w);
        cr_assert_eq(xq_simulate_weights(types[type], rows, cols, in_place, in_place), XQ_OK);
        cr_assert_arr_eq(in_place, got, count * sizeof *w);
    }
    free(in_place);
    free(expected);
    free(got);
    free(w);
}

Test(simulate, weights_are_what_their_type_holds)
{
    /* int8 has blocks of 64 rows, and another rule from 65 blocks on */
    static const int rows[] = {1, 2, 17, 63, 64, 65, 70, 128, 193, 576, 4096, 4097};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int cols = 7; cols <= 39; cols += 8) /* columns are rounded 16 at a time */
            check_weights(rows[i], cols, (uint64_t)(100 * i) + (uint64_t)cols);
}

Test(simulate, weights_beyond_a_type_are_refused)
{
    float w[4] = {1, 70000, 2, 3}, out[4];
    cr_assert_eq(xq_simulate_weights("f16", 2, 2, w, out), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_simulate_weights("bf16", 2, 2, w, out), XQ_OK);
    cr_assert_eq(xq_simulate_weights("int8", 2, 2, w, out), XQ_OK);
    w[0] = NAN;
    cr_assert_eq(xq_simulate_weights("bf16", 2, 2, w, out), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_simulate_weights("int8", 2, 2, w, out), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_simulate_weights("f8", 2, 2, w, out), XQ_ERROR_ARGUMENT);
    cr_assert_eq(xq_simulate_weights("f16", 0, 2, NULL, NULL), XQ_OK);
}
