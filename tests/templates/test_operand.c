/* Tests how kernels read cached data in every form (templates/lib/operand.cuh): compares dequantize with a
 * plain decoding in double precision. */
#include "../../runtime/base/half.h"
#include "../support/spec_text.h"
#include "cache_image.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct form {
    char name[40];
    char cache[200]; /* members of the spec's "cache" */
    char dtype[8];
    int kv_heads; /* 0 stands for 4 */
};

static const char *spec_of(const struct form *c, int hidden, int kv_heads)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d,"
             " \"head_dim\": 64, \"rope_theta\": 500000.0}, \"cache\": {%s}, \"dtype\": \"%s\"}",
             hidden, kv_heads * 2, kv_heads, c->cache, c->dtype[0] ? c->dtype : "f16");
    return text;
}

/* Whether `got` is `exact` after rounding once to f16 and, for bf16, from f16 once to bf16. */
static bool is_rounded(double got, double exact, bool bf16)
{
    double bound = fabs(exact) * (bf16 ? 0x1.01p-8 + 0x1p-11 : 0x1.01p-11) + 0x1p-25;
    return fabs(got - exact) <= bound;
}

static void check_rows(fixture *f, const cache_image *image, int s, uint64_t rows, bool bf16)
{
    const paged *p = image->paged;
    int width = image->codec->stream[s].width;
    uint16_t *got = fixture_download(f, rows, (size_t)(p->entries * p->page * width) * 2);
    for (int i = 0; i < p->batch; i++) {
        const uint16_t *next = got + (size_t)(p->indptr[i] * p->page) * (size_t)width;
        for (int t = 0; t < (p->indptr[i + 1] - p->indptr[i]) * p->page; t++)
            for (int c = 0; c < width; c++, next++) {
                if (t >= p->lengths[i]) {
                    cr_assert_eq(*next, FIXTURE_NAN, "a row beyond the sequence was written");
                    continue;
                }
                double exact = cache_image_value(image, s, i, t, c),
                       value = bf16 ? half_from_bfloat(*next) : half_to_float(*next);
                cr_assert(is_rounded(value, exact, bf16),
                          "stream %s, sequence %d of %d tokens, token %d, channel %d: %g, not %g",
                          image->codec->stream[s].name, i, p->lengths[i], t, c, value, exact);
            }
    }
    free(got);
}

#define FORM(name, ...)                                                                                    \
    {                                                                                                      \
        name, TEXT(__VA_ARGS__), "", 0                                                                     \
    }
// clang-format off
#define LATENT "method": "latent", "rank_k": 128, "rank_v": 192

static struct form forms[] = {
    FORM("2 bits", LATENT, "bits": 2, "group": 32, "page": 16),
    FORM("3 bits", LATENT, "bits": 3, "group": 64, "page": 48),
    FORM("4 bits", LATENT, "bits": 4, "group": 128, "page": 64),
    FORM("8 bits", LATENT, "bits": 8, "group": 256, "page": 256),
    FORM("2 bits, x", "method": "x", "bits": 2, "group": 64, "page": 32),
    FORM("4 bits, x", "method": "x", "bits": 4, "group": 32, "page": 16),
    FORM("8 bits, x", "method": "x", "bits": 8, "group": 128, "page": 64),
    FORM("3 bits, x", "method": "x", "bits": 3, "group": "row", "page": 16),
    FORM("integer zero, 2 bits", LATENT, "bits": 2, "group": 64, "page": 16, "zero_point": "integer"),
    FORM("integer zero, 3 bits", LATENT, "bits": 3, "group": 32, "page": 32, "zero_point": "integer"),
    FORM("integer zero, 4 bits", LATENT, "bits": 4, "group": "row", "page": 16, "zero_point": "integer"),
    FORM("integer zero, 8 bits", LATENT, "bits": 8, "group": 128, "page": 64, "zero_point": "integer"),
    FORM("channels of k", LATENT, "bits": 4, "group": 32, "page": 128, "axis_k": "channel"),
    FORM("channels of v", LATENT, "bits": 3, "group": 64, "page": 64, "axis_v": "channel"),
    FORM("channels of both, 2 bits", LATENT, "bits": 2, "group": 64, "page": 16, "axis_k": "channel",
         "axis_v": "channel"),
    FORM("channels of both, 8 bits", LATENT, "bits": 8, "group": 128, "page": 32, "axis_k": "channel",
         "axis_v": "channel"),
    FORM("channels of x", "method": "x", "bits": 3, "group": 32, "page": 16, "axis_k": "channel"),
    FORM("channels of k, integer, 2 bits", LATENT, "bits": 2, "group": 32, "page": 32,
         "axis_k": "channel", "zero_point": "integer"),
    FORM("channels of both, integer, 3 bits", LATENT, "bits": 3, "group": 128, "page": 16,
         "axis_k": "channel", "axis_v": "channel", "zero_point": "integer"),
    FORM("channels of both, integer, 4 bits", LATENT, "bits": 4, "group": 32, "page": 64,
         "axis_k": "channel", "axis_v": "channel", "zero_point": "integer"),
    FORM("channels of x, integer, 8 bits", "method": "x", "bits": 8, "group": 64, "page": 256,
         "axis_k": "channel", "zero_point": "integer"),
    FORM("grouped latents", "method": "latent", "rank_k": 128, "rank_v": 256, "groups": 2, "bits": 4,
         "group": 128, "page": 16),
    {"groups that end with their latent",
     TEXT("method": "latent", "rank_k": 380, "rank_v": 300, "groups_k": 2, "groups_v": 3, "bits": 3,
         "group": 128, "page": 16, "zero_point": "integer"),
     "", 6},
    FORM("padded ranks", "method": "latent", "rank_k": 100, "rank_v": 7, "bits": 3, "group": 64,
         "page": 32, "axis_k": "channel"),
    FORM("grouped and padded", "method": "latent", "rank_k": 40, "rank_v": 200, "groups": 4, "bits": 2,
         "group": 128, "page": 64, "axis_v": "channel"),
    FORM("accumulator, 16 bits", "method": "x-cl", "bits": 2, "group": 64, "page": 64, "axis_k": "channel"),
    FORM("accumulator, 8 bits", "method": "latent-cl", "bits": 3, "group": 64, "page": 16,
         "accumulator_bits": 8),
    FORM("accumulator, 4 bits", "method": "x-cl", "bits": 8, "group": "row", "page": 48,
         "accumulator_bits": 4, "zero_point": "integer"),
    {"bf16", "\"method\": \"latent\", \"bits\": 4, \"group\": 64, \"page\": 16, \"axis_k\": \"channel\"",
     "bf16", 0},
};
// clang-format on

ParameterizedTestParameters(operand, every_cached_value_is_rounded_once)
{
    return cr_make_param_array(struct form, forms, sizeof forms / sizeof *forms);
}

ParameterizedTest(struct form *c, operand, every_cached_value_is_rounded_once)
{
    fixture f;
    fixture_open(&f, spec_of(c, 320, c->kv_heads ? c->kv_heads : 4));
    const test_kernel *k = fixture_kernel(&f, "dequantize");
    for (int n = 0; n < 8; n++) {
        random_stream r = random_begin(19, (uint64_t)n);
        paged p;
        cache_image image;
        uint64_t rows[2];
        paged_draw(&r, &p, 3, f.page, n < 6 ? 2 * f.group + 50 : 700, false);
        cache_image_open(&image, &f, strstr(c->cache, "-cl") != NULL, &p);
        cache_image_draw(&image, &r);
        cache_image_dequantize(&f, k, &image, rows);
        for (int s = 0; s < image.codec->streams; s++)
            check_rows(&f, &image, s, rows[s], !strcmp(c->dtype, "bf16"));
        fixture_release(&f);
        cache_image_close(&image);
        paged_free(&p);
    }
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}
