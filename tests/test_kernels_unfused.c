/* The kernels of the unfused pipeline, each and together, against double precision. */
#include "../autotune/engine/page_codec.h"
#include "../runtime/base/half.h"
#include "../runtime/quantizer.h"
#include "elements.h"
#include "kernel_attention.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- dequantize, and the whole pipeline */

/* Cache pages with random rows in them, quantized by the host. */
typedef struct cached {
    page_codec *codec;
    gen *generator;
    uint8_t *pages;
    size_t bytes;
} cached;

static void cached_draw(random_stream *r, const fixture *f, const paged *p, cached *c)
{
    error err = ERROR_INIT;
    cr_assert_eq(gen_create(NULL, &c->generator, &err), XQ_OK, "%s", err.message);
    cr_assert_eq(page_codec_create(c->generator, f->completed, &c->codec, &err), XQ_OK, "%s", err.message);
    c->bytes = c->codec->page_bytes * (size_t)p->pool;
    c->pages = malloc(c->bytes + 1);
    memset(c->pages, 0xff, c->bytes); /* scales and offsets of unused slots are NaN */
    for (int s = 0; s < c->codec->streams; s++) {
        int width = c->codec->stream[s].width, groups = c->codec->stream[s].groups;
        uint8_t *codes = malloc((size_t)width);
        uint16_t *scale = malloc((size_t)groups * 2), *offset = malloc((size_t)groups * 2);
        for (int i = 0; i < p->batch; i++)
            for (int t = 0; t < p->lengths[i]; t++) {
                uint16_t *x = fixture_normals(r, (size_t)width, 1);
                quantizer_encode(&c->codec->stream[s].format, x, (size_t)width, codes, scale, offset);
                page_codec_write(c->codec, s, c->pages + c->codec->page_bytes * (size_t)paged_page(p, i, t),
                                 t % p->page, codes, scale, offset);
                free(x);
            }
        free(codes);
        free(scale);
        free(offset);
    }
}

static void cached_free(cached *c)
{
    page_codec_destroy(c->codec);
    gen_destroy(c->generator);
    free(c->pages);
}

/* The rows [length, width] of a sequence in a stream, exact. */
static double *cached_rows(const cached *c, const paged *p, int stream, int sequence)
{
    size_t width = (size_t)c->codec->stream[stream].width;
    double *rows = malloc(((size_t)p->lengths[sequence] * width + 1) * sizeof *rows);
    for (int t = 0; t < p->lengths[sequence]; t++)
        page_codec_dequantize(c->codec, stream,
                              c->pages + c->codec->page_bytes * (size_t)paged_page(p, sequence, t),
                              t % p->page, rows + (size_t)t * width);
    return rows;
}

/* Launches dequantize; the rows of stream s are then at rows[s], all others NaN. */
static void dequantize(fixture *f, const kernel *k, const paged *p, const cached *c, struct xq_table table,
                       uint64_t rows[2])
{
    for (int s = 0; s < 2; s++) {
        size_t width = s < c->codec->streams ? (size_t)c->codec->stream[s].width : 0;
        rows[s] = fixture_filled(f, 0xff, (size_t)(p->entries * p->page) * width * 2);
    }
    struct xq_dequantize_params args = {0};
    args.table = table;
    args.pages = fixture_upload(f, c->pages, c->bytes);
    args.k = rows[0];
    args.v = rows[1];
    args.batch = p->batch;
    args.entries = p->entries;
    if (p->entries)
        fixture_launch(f, k, p->entries * p->page / 16, fixture_constant(k, "column_blocks"), 1, &args,
                       sizeof args);
}

struct cache_case {
    char method[8];
    int hidden, heads, kv_heads, head_dim, page, bits, group;
};

static void check_dequantized(fixture *f, const paged *p, const cached *c, const uint64_t rows[2])
{
    for (int s = 0; s < c->codec->streams; s++) {
        size_t width = (size_t)c->codec->stream[s].width, all = (size_t)(p->entries * p->page) * width;
        uint16_t *got = fixture_download(f, rows[s], all * 2);
        for (int i = 0; i < p->batch; i++) {
            double *expected = cached_rows(c, p, s, i);
            size_t at = (size_t)(p->indptr[i] * p->page) * width, count = (size_t)p->lengths[i] * width;
            size_t end = (size_t)(p->indptr[i + 1] * p->page) * width;
            for (size_t e = 0; e < count; e++) {
                double difference = fabs(half_to_float(got[at + e]) - expected[e]);
                cr_assert(difference <= fabs(expected[e]) * 0x1.01p-11 + 0x1p-25,
                          "stream %d, sequence %d, element %zu: off by %g", s, i, e, difference);
            }
            for (size_t e = at + count; e < end; e++)
                cr_assert_eq(got[e], FIXTURE_NAN, "a row beyond the sequence was written");
            free(expected);
        }
        free(got);
    }
}

static struct cache_case cache_cases[] = {
    {"x", 192, 3, 3, 64, 16, 4, 32},        {"x", 320, 2, 2, 128, 64, 8, 128},
    {"latent", 256, 8, 2, 128, 32, 4, 64},  {"latent", 256, 9, 3, 64, 256, 8, 32},
    {"latent", 128, 7, 1, 128, 64, 4, 128},
};

ParameterizedTestParameters(kernels_unfused, dequantize_rounds_each_cached_value_once)
{
    return cr_make_param_array(struct cache_case, cache_cases, sizeof cache_cases / sizeof *cache_cases);
}

ParameterizedTest(struct cache_case *c, kernels_unfused, dequantize_rounds_each_cached_value_once)
{
    fixture f;
    fixture_open(&f, fixture_spec(c->method, c->hidden, c->heads, c->kv_heads, c->head_dim, c->page,
                                  c->bits, c->group, ""));
    const kernel *k = fixture_kernel(&f, "dequantize");
    for (int n = 0; n < 6; n++) {
        random_stream r = random_begin(13, (uint64_t)n);
        paged p;
        cached pool;
        uint64_t rows[2];
        paged_draw(&r, &p, 3, c->page, 150, false);
        cached_draw(&r, &f, &p, &pool);
        dequantize(&f, k, &p, &pool, paged_upload(&f, &p, false), rows);
        check_dequantized(&f, &p, &pool, rows);
        fixture_release(&f);
        cached_free(&pool);
        paged_free(&p);
    }
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}

/* A projection of the pipeline: rows of a stream times W, into K or V of fp16 KV pages. */
static void project(fixture *f, const kernel *gemm, const paged *p, uint64_t x, int k, const uint16_t *w,
                    uint64_t kv, int which)
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
    const kernel *unpack = fixture_kernel(&f, "dequantize"), *gemm = fixture_kernel(&f, "gemm");
    const kernel *rope = fixture_kernel(&f, "rope"), *attend = fixture_kernel(&f, "kv_attend");
    int width = c->kv_heads * c->head_dim;
    double worst = 0;
    for (int n = 0; n < 6; n++) {
        random_stream r = random_begin(17, (uint64_t)n);
        paged p;
        cached pool;
        paged_draw(&r, &p, 3, c->page, 200, false);
        cached_draw(&r, &f, &p, &pool);
        const page_stream *key = &pool.codec->stream[0],
                          *value = &pool.codec->stream[pool.codec->streams - 1];
        uint16_t *wk = fixture_normals(&r, (size_t)(key->width * width), 1 / sqrtf((float)key->width));
        uint16_t *wv = fixture_normals(&r, (size_t)(value->width * width), 1 / sqrtf((float)value->width));
        uint16_t *q = fixture_normals(&r, (size_t)(p.batch * c->heads * c->head_dim), 2);
        double *wkd = fixture_doubles(wk, (size_t)(key->width * width)),
               *wvd = fixture_doubles(wv, (size_t)(value->width * width));

        size_t per_sequence = (size_t)(c->heads * c->head_dim);
        double *expected = malloc(per_sequence * (size_t)p.batch * sizeof *expected);
        double *lse = malloc((size_t)(p.batch * c->heads) * sizeof *lse);
        for (int i = 0; i < p.batch; i++) {
            double *xk = cached_rows(&pool, &p, 0, i),
                   *xv = cached_rows(&pool, &p, pool.codec->streams - 1, i);
            double *qd = fixture_doubles(q + (size_t)i * per_sequence, per_sequence);
            const reference_layer layer = {
                .wk = wkd, .wv = wvd, .inner_k = key->width, .inner_v = value->width, .latents = 1};
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
        dequantize(&f, unpack, &p, &pool, table, rows);
        project(&f, gemm, &p, rows[0], key->width, wk, kv, 0);
        project(&f, gemm, &p, rows[pool.codec->streams - 1], value->width, wv, kv, 1);
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
        cached_free(&pool);
        paged_free(&p);
    }
    cr_log_info("%s, %d bits, head_dim %d: worst error %.2e", c->method, c->bits, c->head_dim, worst);
    cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}
