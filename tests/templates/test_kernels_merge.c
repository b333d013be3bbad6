/* merge: joins the attention over two sets of tokens into one result, compared with double precision. */
#include "../support/elements.h"
#include "../support/kernel_fixture.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct merge_case {
    int head_dim;
    bool bf16;
};

struct sets {
    int rows, width;
    uint16_t *out[2];
    float *lse[2];
    double *expected, *expected_lse;
};

/* Draws log-sum-exps that are near each other, far apart, or minus infinity. The output of a set without
 * tokens is NaN. */
static void draw(struct sets *s, random_stream *r, int rows, int width, bool bf16)
{
    *s = (struct sets){.rows = rows, .width = width};
    double *lse[2], *out[2];
    size_t all = (size_t)(rows * width);
    for (int set = 0; set < 2; set++) {
        s->out[set] = elements_normals(r, bf16, all, 1);
        s->lse[set] = malloc((size_t)rows * sizeof(float));
        lse[set] = malloc((size_t)rows * sizeof(double));
        out[set] = elements_doubles(s->out[set], bf16, all);
        for (int row = 0; row < rows; row++) {
            float value = random_normal(r) * (float)random_choice(r, 3, 1, 10, 200);
            s->lse[set][row] = random_between(r, 0, 4) ? value : -INFINITY;
            lse[set][row] = s->lse[set][row];
            if (isinf(lse[set][row])) {
                memset(s->out[set] + (size_t)(row * width), 0xff, (size_t)width * 2);
                memset(out[set] + (size_t)(row * width), 0, (size_t)width * sizeof(double));
            }
        }
    }
    reference_merge(out[0], lse[0], out[1], lse[1], rows, width);
    s->expected = out[0];
    s->expected_lse = lse[0];
    free(out[1]);
    free(lse[1]);
}

static void sets_free(struct sets *s)
{
    for (int set = 0; set < 2; set++) {
        free(s->out[set]);
        free(s->lse[set]);
    }
    free(s->expected);
    free(s->expected_lse);
}

/* in_place: 0 or 1: the result replaces that set; 2: the result has memory of its own. */
static struct xq_merge_params launch(fixture *f, const test_kernel *k, const struct sets *s, int in_place,
                                     bool want_lse)
{
    size_t bytes = (size_t)(s->rows * s->width) * 2, logarithms = (size_t)s->rows * 4;
    struct xq_merge_params a = {
        .out_a = fixture_upload(f, s->out[0], bytes),
        .out_b = fixture_upload(f, s->out[1], bytes),
        .lse_a = fixture_upload(f, s->lse[0], logarithms),
        .lse_b = fixture_upload(f, s->lse[1], logarithms),
        .rows = s->rows,
    };
    a.out = in_place == 0 ? a.out_a : in_place == 1 ? a.out_b : fixture_filled(f, 0xff, bytes);
    if (want_lse)
        a.lse = in_place == 0 ? a.lse_a : in_place == 1 ? a.lse_b : fixture_filled(f, 0xff, logarithms);
    int block = fixture_constant(k, "rows");
    fixture_launch(f, k, (s->rows + block - 1) / block, 1, 1, &a, sizeof a);
    return a;
}

static void check(fixture *f, const struct sets *s, const struct xq_merge_params *a, bool bf16)
{
    size_t all = (size_t)(s->rows * s->width);
    uint16_t *bits = fixture_download(f, a->out, all * 2);
    double *got = elements_doubles(bits, bf16, all);
    double e = reference_error(s->expected, got, all);
    cr_assert(e <= (bf16 ? 4e-3 : 5e-4), "error %g", e);
    for (size_t i = 0; i < all; i++)
        if (s->expected[i] == 0)
            cr_assert_eq(got[i], 0, "element %zu of a row without tokens is %g", i, got[i]);
    free(bits);
    free(got);
    if (!a->lse)
        return;
    float *lse = fixture_download(f, a->lse, (size_t)s->rows * 4);
    for (int row = 0; row < s->rows; row++) {
        double expected = s->expected_lse[row];
        bool same = isinf(expected) ? lse[row] == -INFINITY
                                    : fabs(lse[row] - expected) <= 1e-5 * fmax(1, fabs(expected));
        cr_assert(same, "log-sum-exp of row %d: %g, not %g", row, (double)lse[row], expected);
    }
    free(lse);
}

ParameterizedTestParameters(kernels_merge, two_sets_become_one)
{
    static struct merge_case cases[] = {{64, false}, {80, true}, {112, false}, {128, true}, {256, false}};
    return cr_make_param_array(struct merge_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct merge_case *c, kernels_merge, two_sets_become_one)
{
    char spec[256];
    snprintf(spec, sizeof spec,
             "{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": 2, \"head_dim\": %d}, "
             "\"dtype\": \"%s\"}",
             c->head_dim, c->bf16 ? "bf16" : "f16");
    fixture f;
    fixture_open(&f, spec);
    const test_kernel *k = fixture_kernel(&f, "merge");
    for (int i = 0; i < 12; i++) {
        random_stream r = random_begin(55, (uint64_t)i);
        struct sets s;
        draw(&s, &r, random_between(&r, 1, 70), c->head_dim, c->bf16);
        struct xq_merge_params a = launch(&f, k, &s, i % 3, i % 4 != 0);
        check(&f, &s, &a, c->bf16);
        fixture_release(&f);
        sets_free(&s);
    }
    fixture_close(&f);
}
