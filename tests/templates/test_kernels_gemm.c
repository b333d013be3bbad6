/* gemm with activations and weights of every type, compared with double precision. */
#include "../../autotune/reference/rounding.h"
#include "../../runtime/base/half.h"
#include "../support/elements.h"
#include "../support/kernel_fixture.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gemm_case {
    char dtype[8], weights[8];
    bool bias;
    char tuning[128];
};

/* Random weights of one type: packed bits, scales of the columns, and values [k, n]. */
struct weights {
    int bytes;
    void *packed;
    float *scale;
    double *values;
};

static void draw_weights(struct weights *w, random_stream *r, const char *type, int k, int n)
{
    bool int8 = !strcmp(type, "int8"), e4m3 = !strcmp(type, "e4m3"), bf16 = !strcmp(type, "bf16");
    size_t all = (size_t)k * (size_t)n;
    uint16_t *wide = elements_normals(r, bf16, all, 0.1f);
    uint8_t *narrow = malloc(all);
    w->values = elements_doubles(wide, bf16, all);
    w->scale = malloc((size_t)n * sizeof *w->scale);
    w->bytes = int8 || e4m3 ? 1 : 2;
    for (int c = 0; c < n; c++)
        w->scale[c] = c % 7 == 3 ? 0 : ldexpf((float)random_between(r, 500, 1000), int8 ? -19 : -20);
    for (size_t i = 0; i < all && w->bytes == 1; i++) {
        if (int8) {
            int code = random_between(r, -127, 127);
            narrow[i] = (uint8_t)code;
            w->values[i] = code;
        } else { /* OCP 8-bit floating point, section 5.3; no NaN */
            int exponent = random_between(r, 0, 15),
                fraction = random_between(r, 0, exponent == 15 ? 6 : 7);
            int sign = random_between(r, 0, 1);
            narrow[i] = (uint8_t)(sign << 7 | exponent << 3 | fraction);
            w->values[i] = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
            w->values[i] *= sign ? -1 : 1;
        }
        w->values[i] *= w->scale[i % (size_t)n];
    }
    w->packed = elements_packed(w->bytes == 1 ? (void *)narrow : wide, k, n, w->bytes);
    free(wide);
    free(narrow);
}

/* Multiplies rows that have a stride, into rows and pages that have strides. Elements between them must not
 * be written. */
static double multiply_once(fixture *f, const test_kernel *gemm, random_stream *r,
                            const struct gemm_case *c, int rows, int k, int n, int latents)
{
    bool bf16 = !strcmp(c->dtype, "bf16");
    struct weights w;
    const int columns = latents * n;
    draw_weights(&w, r, c->weights, k, columns);
    int x_stride = latents * k + 8 * random_between(r, 0, 3);
    uint16_t *x = elements_normals(r, bf16, (size_t)(rows * x_stride), 1);
    float *bias = malloc((size_t)columns * sizeof *bias);
    for (int i = 0; i < columns; i++)
        bias[i] = random_normal(r);
    bool has_bias = c->bias && random_between(r, 0, 3);
    struct xq_gemm_params a = {0};
    a.page = random_between(r, 0, 1) ? rows : 16 * random_between(r, 1, 4);
    a.row_stride = columns + 8 * random_between(r, 0, 2);
    a.page_stride = (long long)a.row_stride * a.page * random_between(r, 1, 2);
    size_t elements = (size_t)a.page_stride * (size_t)((rows + a.page - 1) / a.page);
    a.x = fixture_upload(
        f, x, (size_t)((rows - 1) * x_stride + latents * k) * 2); /* nothing after the last row */
    a.w.data = fixture_upload(f, w.packed, (size_t)(k * columns * w.bytes));
    a.w.scale = w.bytes == 1 ? fixture_upload(f, w.scale, (size_t)columns * 4) : 0;
    a.bias = has_bias ? fixture_upload(f, bias, (size_t)columns * 4) : 0;
    a.y = fixture_filled(f, 0xff, elements * 2);
    a.rows = rows;
    a.k = k;
    a.n = n;
    a.x_stride = x_stride;
    int tile_rows = fixture_constant(gemm, "rows"), tile_cols = fixture_constant(gemm, "cols");
    fixture_launch(f, gemm, (rows + tile_rows - 1) / tile_rows, (n + tile_cols - 1) / tile_cols, latents,
                   &a, sizeof a);

    uint16_t *y = fixture_download(f, a.y, elements * 2);
    size_t written = 0, all = (size_t)(rows * columns);
    double *expected = calloc(all, sizeof *expected), *got = malloc(all * sizeof *got);
    for (int row = 0; row < rows; row++) {
        double *xd = elements_doubles(x + row * x_stride, bf16, (size_t)(latents * k));
        uint16_t *place = y + row / a.page * a.page_stride + row % a.page * a.row_stride;
        double *yd = elements_doubles(place, bf16, (size_t)columns);
        for (int i = 0; i < columns; i++) {
            double sum = has_bias ? bias[i] : 0;
            for (int j = 0; j < k; j++) /* the columns of a latent multiply its part of x */
                sum += xd[i / n * k + j] * w.values[j * columns + i];
            expected[row * columns + i] = sum;
            got[row * columns + i] = yd[i];
        }
        free(xd);
        free(yd);
    }
    for (size_t i = 0; i < elements; i++)
        written += y[i] != FIXTURE_NAN;
    cr_assert_eq(written, all, "elements besides the result were written");
    double e = reference_error(expected, got, all);
    cr_assert(e <= (bf16 || !strcmp(c->weights, "bf16") ? 4e-3 : 1e-3), "%d x %d x %d: error %g", rows, k,
              n, e);
    fixture_release(f);
    free(w.packed);
    free(w.scale);
    free(w.values);
    free(x);
    free(bias);
    free(y);
    free(expected);
    free(got);
    return e;
}

/* Compares a family's products with the reference. `weights` are those of the spec. */
static void check_products(const struct gemm_case *c, const char *weights, const char *family)
{
    char spec[512];
    snprintf(spec, sizeof spec,
             "{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 2, \"head_dim\": 64, "
             "\"attention_bias\": %s}, \"dtype\": \"%s\", \"weights\": \"%s\", \"tuning\": {%s}}",
             c->bias ? "true" : "false", c->dtype, weights, c->tuning);
    fixture f;
    fixture_open(&f, spec);
    const test_kernel *gemm = fixture_kernel(&f, family);
    static const int rows[] = {1, 15, 17, 64, 130, 200};
    double worst = 0;
    for (int i = 0; i < 12; i++) {
        random_stream r = random_begin(11, (uint64_t)i);
        double e = multiply_once(&f, gemm, &r, c, rows[i % 6], 64 * random_between(&r, 1, 5),
                                 16 * random_between(&r, 1, 20), 1 + i % 3);
        worst = e > worst ? e : worst;
    }
    cr_log_info("%s: %s, weights %s: worst error %.2e", family, c->dtype, c->weights, worst);
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}

ParameterizedTestParameters(kernels_gemm, every_type_matches_the_reference)
{
    static struct gemm_case cases[] = {
        {"f16", "f16", true, "\"gemm\": {}"},
        {"f16", "f16", false,
         "\"gemm\": {\"rows\": 32, \"cols\": 64, \"warp_rows\": 16, \"warp_cols\": 64, \"stages\": 5}"},
        {"f16", "f16", true,
         "\"gemm\": {\"rows\": 32, \"cols\": 256, \"warp_rows\": 16, \"warp_cols\": 32, \"stages\": 2}"},
        {"bf16", "f16", true, ""},
        {"f16", "bf16", false, ""},
        {"bf16", "bf16", true, ""},
        {"f16", "int8", true, ""},
        {"bf16", "int8", false,
         "\"gemm\": {\"rows\": 64, \"cols\": 64, \"warp_rows\": 32, \"warp_cols\": 16}"},
        {"f16", "e4m3", false, ""},
        {"bf16", "e4m3", true,
         "\"gemm\": {\"rows\": 32, \"cols\": 256, \"warp_rows\": 16, \"warp_cols\": 64, \"stages\": 2}"},
    };
    return cr_make_param_array(struct gemm_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct gemm_case *c, kernels_gemm, every_type_matches_the_reference)
{
    check_products(c, c->weights, "gemm");
}

Test(kernels_gemm, projections_of_kv_caches_have_16_bits_whatever_the_weights_are)
{
    check_products(&(struct gemm_case){"f16", "f16", true, ""}, "int8", "gemm_kv");
    check_products(&(struct gemm_case){"bf16", "f16", false, ""}, "e4m3", "gemm_kv");
    check_products(&(struct gemm_case){"bf16", "bf16", true, ""}, "bf16", "gemm_kv");
}
