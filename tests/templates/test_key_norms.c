/* Sums of squares of the rows of K (templates/key_norms.cu.lt), compared with double precision. */
#include "../../runtime/base/half.h"
#include "../../runtime/host/pack.h"
#include "../../runtime/plan/spec_view.h"
#include "cache_image.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { HIDDEN = 192, HEADS = 3, WEIGHTS = 1024 * 768 /* no matrix here is larger */ };

struct form {
    char name[32];
    int head_dim;
    bool bias;
    char cache[160]; /* members of the spec's "cache" */
};

static const char *spec_of(const struct form *c)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"head_dim\": %d, "
             "\"qk_norm\": \"row\", \"attention_bias\": %s}, \"cache\": {%s}, \"weights\": \"f16\"}",
             HIDDEN, HEADS, c->head_dim, c->bias ? "true" : "false", c->cache);
    return text;
}

/* The share of one head in a token's sum of squares. `w` is [rank, HEADS * columns]. */
static double expected_sum(const cache_image *image, int sequence, int token, int head, int columns,
                           const double *w, const float *bias)
{
    const page_stream *s = &image->codec->stream[0];
    int latent = head / (HEADS / (s->width / s->latent_width));
    double sum = 0;
    for (int c = head * columns; c < (head + 1) * columns; c++) {
        double k = bias ? (double)bias[c] : 0;
        for (int i = 0; i < s->rank; i++)
            k += cache_image_value(image, 0, sequence, token, latent * s->latent_width + i) *
                 w[i * HEADS * columns + c];
        sum += k * k;
    }
    return sum;
}

static void check_sums(fixture *f, const cache_image *image, uint64_t sums, int columns, const double *w,
                       const float *bias)
{
    const paged *p = image->paged;
    size_t count = (size_t)(p->entries * p->page) * HEADS;
    const float *got = fixture_download(f, sums, count * sizeof *got);
    for (int i = 0; i < p->batch; i++)
        for (int t = 0; t < (p->indptr[i + 1] - p->indptr[i]) * p->page; t++)
            for (int h = 0; h < HEADS; h++) {
                double sum = (double)got[(p->indptr[i] * p->page + t) * HEADS + h];
                if (t >= p->lengths[i]) {
                    cr_assert(isnan(sum), "a row beyond the sequence was written");
                    continue;
                }
                double expected = expected_sum(image, i, t, h, columns, w, bias);
                cr_assert(fabs(sum - expected) <= 2e-3 * expected,
                          "sequence %d, token %d, head %d: %g, not %g", i, t, h, sum, expected);
            }
    free((void *)got);
}

static void check_once(fixture *f, const struct form *c, const test_kernel *k, random_stream *r)
{
    paged p;
    paged_draw(r, &p, 3, f->page, 300, false);
    cache_image image;
    cache_image_open(&image, f, false, &p);
    cache_image_draw(&image, r);
    const page_stream *s = &image.codec->stream[0];
    int columns = c->head_dim, width = HEADS * columns;
    float *zeros = calloc(WEIGHTS, sizeof *zeros), *weights = calloc(WEIGHTS, sizeof *weights);
    double *exact = calloc(WEIGHTS, sizeof *exact);
    for (int i = 0; i < s->rank * width; i++) {
        weights[i] = half_to_float(half_from_float(random_normal(r) * 0.1f));
        exact[i] = (double)weights[i];
    }
    float bias[HEADS * 256];
    for (int i = 0; i < width; i++)
        bias[i] = random_normal(r);
    struct spec_view view;
    error err = ERROR_INIT;
    cr_assert_eq(spec_view_read(f->completed, &view, &err), XQ_OK, "%s", err.message);
    xq_weights given = {sizeof given, .wk = weights, .wv = zeros, .uk = zeros, .ak = weights,
                        .uv = zeros,  .av = zeros,   .bk = bias,  .bv = zeros, .k_norm = zeros};
    const struct shape_weights *layout = &view.shape.weights[XQ_FUSED];
    uint8_t *packed = malloc(layout->bytes);
    cr_assert_eq(pack_weights(&view.shape, XQ_FUSED, &given, packed, &err), XQ_OK, "%s", err.message);
    uint64_t device_weights = fixture_upload(f, packed, layout->bytes);

    struct xq_key_norms_params args = {0};
    args.table = paged_upload(f, &p, false);
    args.pages = fixture_upload(f, image.pages, image.pages_size);
    args.tails = cache_image_upload_tails(f, &image);
    args.wk.data = device_weights + shape_matrix(layout, "wk")->offset;
    args.bk = c->bias ? device_weights + shape_vector(layout, "bk")->offset : 0;
    args.sums = fixture_filled(f, 0xff, (size_t)(p.entries * p.page) * HEADS * sizeof(float));
    int tile = fixture_constant(k, "tile_tokens");
    fixture_launch(f, k, p.longest / tile + 1, HEADS, p.batch, &args, sizeof args);
    check_sums(f, &image, args.sums, columns, exact, c->bias ? bias : NULL);

    fixture_release(f);
    free(packed);
    free(exact);
    free(weights);
    free(zeros);
    cache_image_close(&image);
    paged_free(&p);
}

static struct form forms[] = {
    {"x", 64, false, "\"method\": \"x\", \"rotation\": false, \"group\": 64, \"page\": 16"},
    {"x, bias, head_dim 80", 80, true, "\"method\": \"x\", \"rotation\": false, \"bits\": 8, \"page\": 64"},
    {"head_dim 256", 256, false,
     "\"method\": \"x\", \"rotation\": false, \"bits\": 2, \"group\": 32, \"page\": 48"},
    {"latent per channel", 128, true,
     "\"method\": \"latent\", \"rank_k\": 64, \"axis_k\": \"channel\", \"group\": 32, \"page\": 16"},
    {"grouped, padded latents", 112, false,
     "\"method\": \"latent\", \"rank_k\": 126, \"rank_v\": 126, \"groups\": 3, \"page\": 32"},
};

ParameterizedTestParameters(key_norms, sums_match_double_precision)
{
    return cr_make_param_array(struct form, forms, sizeof forms / sizeof *forms, NULL);
}

ParameterizedTest(struct form *c, key_norms, sums_match_double_precision)
{
    fixture f;
    fixture_open(&f, spec_of(c));
    const test_kernel *k = fixture_kernel(&f, "key_norms");
    random_stream r = random_begin(7, (uint64_t)c->head_dim);
    for (int i = 0; i < 3; i++)
        check_once(&f, c, k, &r);
    fixture_close(&f);
}
