/* The kernels of the unfused pipeline together, compared with double precision. */
#include "../../runtime/base/half.h"
#include "../support/elements.h"
#include "cache_image.h"
#include "kernel_attention.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the whole pipeline */

struct cache_case {
    char method[8];
    int hidden, heads, kv_heads, head_dim, page, bits, group;
};

static struct cache_case cache_cases[] = {
    {"x", 192, 3, 3, 64, 16, 4, 32},        {"x", 320, 2, 2, 128, 64, 8, 128},
    {"latent", 256, 8, 2, 128, 32, 4, 64},  {"latent", 256, 9, 3, 64, 256, 8, 32},
    {"latent", 128, 7, 1, 128, 64, 4, 128},
};

/* Launches a projection of the pipeline: rows of a stream times W, into K or V of fp16 KV pages. */
static void project(fixture *f, const test_kernel *gemm, const paged *p, uint64_t x, int k,
                    const uint16_t *w, uint64_t kv, int which)
{
    int width = f->model.kv_heads * f->model.head_dim;
    void *packed = elements_packed(w, k, width, 2);
    struct xq_gemm_params args = {0};
    args.x = x;
    args.w.data = fixture_upload(f, packed, (size_t)(k * width) * 2);
    args.y = kv + kv_row(f, 0, which, 0) * 2;
    args.page = p->page;
    args.page_stride = (long long)kv_row(f, 1, 0, 0);
    args.row_stride = width;
    args.rows = p->entries * p->page;
    args.k = k;
    args.x_stride = k;
    args.n = width;
    int tile_rows = fixture_constant(gemm, "rows"), tile_cols = fixture_constant(gemm, "cols");
    if (args.rows)
        fixture_launch(f, gemm, (args.rows + tile_rows - 1) / tile_rows,
                       (width + tile_cols - 1) / tile_cols, 1, &args, sizeof args);
    free(packed);
}

ParameterizedTestParameters(kernels_unfused, the_pipeline_matches_the_reference)
{
    return cr_make_param_array(struct cache_case, cache_cases, sizeof cache_cases / sizeof *cache_cases);
}

ParameterizedTest(struct cache_case *c, kernels_unfused, the_pipeline_matches_the_reference)
{
    fixture f;
    fixture_open(&f, fixture_spec(c->method, c->hidden, c->heads, c->kv_heads, c->head_dim, c->page,
                                  c->bits, c->group, ""));
    const test_kernel *unpack = fixture_kernel(&f, "dequantize"), *gemm = fixture_kernel(&f, "gemm");
    const test_kernel *rope = fixture_kernel(&f, "rope"), *attend = fixture_kernel(&f, "kv_attend");
    int width = c->kv_heads * c->head_dim;
    double worst = 0;
    for (int n = 0; n < 6; n++) {
        random_stream r = random_begin(17, (uint64_t)n);
        paged p;
        cache_image image;
        paged_draw(&r, &p, 3, c->page, 200, false);
        cache_image_open(&image, &f, false, &p);
        cache_image_draw(&image, &r);
        const page_stream *key = &image.codec->stream[0],
                          *value = &image.codec->stream[image.codec->streams - 1];
        /* Cached values are as large as 4. The keys are made smaller, so that logits stay moderate. */
        uint16_t *wk =
            elements_normals(&r, false, (size_t)(key->width * width), 0.25f / sqrtf((float)key->width));
        uint16_t *wv =
            elements_normals(&r, false, (size_t)(value->width * width), 1 / sqrtf((float)value->width));
        uint16_t *q = elements_normals(&r, false, (size_t)(p.batch * c->heads * c->head_dim), 2);
        double *wkd = elements_doubles(wk, false, (size_t)(key->width * width)),
               *wvd = elements_doubles(wv, false, (size_t)(value->width * width));

        size_t per_sequence = (size_t)(c->heads * c->head_dim);
        double *expected = malloc(per_sequence * (size_t)p.batch * sizeof *expected);
        double *lse = malloc((size_t)(p.batch * c->heads) * sizeof *lse);
        for (int i = 0; i < p.batch; i++) {
            double *xk = cache_image_rows(&image, 0, i),
                   *xv = cache_image_rows(&image, image.codec->streams - 1, i);
            double *qd = elements_doubles(q + (size_t)i * per_sequence, false, per_sequence);
            const reference_layer layer = {.wk = wkd,
                                           .wv = wvd,
                                           .inner_k = key->width,
                                           .inner_v = value->width,
                                           .latents_k = 1,
                                           .latents_v = 1};
            const reference_queries last = {.count = 1, .q = qd, .without_sinks = true};
            error err = ERROR_INIT;
            cr_assert_eq(reference_attend_layer(&f.model, &layer, p.lengths[i], xk, xv, &last,
                                                expected + (size_t)i * per_sequence, lse + i * c->heads,
                                                &err),
                         XQ_OK);
            free(xk);
            free(xv);
            free(qd);
        }

        struct xq_table table = paged_upload(&f, &p, false);
        uint64_t rows[2], kv = fixture_filled(&f, 0, kv_row(&f, p.entries, 0, 0) * 2);
        cache_image_dequantize(&f, unpack, &image, rows);
        project(&f, gemm, &p, rows[0], key->width, wk, kv, 0);
        project(&f, gemm, &p, rows[image.codec->streams - 1], value->width, wv, kv, 1);
        struct xq_rope_params turn = {.table = table, .kv = kv, .batch = p.batch, .entries = p.entries};
        if (p.entries)
            fixture_launch(&f, rope, p.entries * c->page / 16, c->kv_heads, 1, &turn, sizeof turn);
        int per_split = fixture_constant(attend, "tile_tokens");
        int splits = p.longest ? (p.longest + per_split - 1) / per_split : 1;
        struct xq_kv_attend_params args = attention_arguments(&f, &p, splits, kv, q, true);
        args.table = table;
        args.table.indices = 0;
        args.tokens_per_split = per_split;
        fixture_launch(&f, attend, splits, c->kv_heads, p.batch, &args, sizeof args);
        double e = attention_check(&f, &p, &args, expected, lse);
        worst = e > worst ? e : worst;

        fixture_release(&f);
        free(wk);
        free(wv);
        free(wkd);
        free(wvd);
        free(q);
        free(expected);
        free(lse);
        cache_image_close(&image);
        paged_free(&p);
    }
    cr_log_info("%s, %d bits, head_dim %d: worst error %.2e", c->method, c->bits, c->head_dim, worst);
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}
