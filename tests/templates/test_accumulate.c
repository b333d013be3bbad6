/* accumulate: the accumulator of cross-layer methods after a layer, against sums in double precision. */
#include "../../autotune/reference/rounding.h"
#include "../../runtime/base/half.h"
#include "../../runtime/host/quantizer.h"
#include "../support/elements.h"
#include "../support/generator.h"
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
    int hidden;
    char rest[80];   /* further members of the spec, after a comma */
    char cache[200]; /* members of the spec's "cache" */
};

/* A layer: its deltas, the accumulator before it (x), and the transposed Ukv [rank, hidden] of method
 * latent-cl. */
struct layer {
    fixture f;
    const test_kernel *kernel;
    paged paged;
    cache_image deltas, x;
    int hidden, rank;
    bool base, bf16, projects;
    double *ukvt;
    uint64_t packed;
};

static void open_form(const struct form *c, struct layer *l)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": %d, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
             " \"head_dim\": 64, \"rope_theta\": 500000.0}, \"cache\": {%s}%s}",
             c->hidden, c->cache, c->rest);
    memset(l, 0, sizeof *l);
    fixture_open(&l->f, text);
    l->kernel = fixture_kernel(&l->f, "accumulate");
    l->hidden = c->hidden;
    cJSON *spec = cJSON_Parse(l->f.completed);
    l->base = cJSON_IsTrue(generator_member(spec, "cache.base"));
    l->projects = !strcmp(generator_string(spec, "cache.method"), "latent-cl");
    l->bf16 = !strcmp(generator_string(spec, "weights"), "bf16");
    cJSON_Delete(spec);
}

/* Draws Ukv^T [rank, hidden] and packs it (docs/layout.md). */
static void draw_projection(struct layer *l, random_stream *r)
{
    int rows = l->deltas.codec->stream[0].width, columns = l->hidden;
    l->rank = rows;
    l->ukvt = malloc((size_t)(rows * columns) * sizeof *l->ukvt);
    uint16_t *bits = malloc((size_t)(rows * columns) * sizeof *bits);
    for (int i = 0; i < rows * columns; i++) {
        int row = i / columns;
        double value = random_normal(r) / sqrtf((float)rows);
        if (row % l->deltas.codec->stream[0].latent_width >= l->deltas.codec->stream[0].rank)
            value = 0;
        bits[i] = l->bf16 ? rounding_to_bfloat(value) : rounding_to_half(value);
        l->ukvt[i] = l->bf16 ? rounding_bfloat(value) : rounding_half(value);
    }
    void *packed = elements_packed(bits, rows, columns, 2);
    l->packed = fixture_upload(&l->f, packed, (size_t)(rows * columns) * 2);
    free(packed);
    free(bits);
}

static void draw_layer(struct layer *l, random_stream *r, int longest)
{
    paged_draw(r, &l->paged, 3, l->f.page, longest, false);
    cache_image_open(&l->deltas, &l->f, false, &l->paged);
    cache_image_open(&l->x, &l->f, true, &l->paged);
    cache_image_draw(&l->deltas, r);
    if (!l->base)
        cache_image_draw(&l->x, r);
    if (l->projects)
        draw_projection(l, r);
}

static void free_layer(struct layer *l)
{
    cache_image_close(&l->deltas);
    cache_image_close(&l->x);
    paged_free(&l->paged);
    free(l->ukvt);
    l->ukvt = NULL;
    l->packed = 0;
    fixture_release(&l->f);
}

/* Computes a row of X after the layer, before it is rounded, and the largest error that f32 sums may
 * add. */
static void expected_row(const struct layer *l, int sequence, int token, double *row, double *slack)
{
    const page_stream *d = &l->deltas.codec->stream[0];
    bool in_tail = cache_image_in_tail(&l->deltas, 0, sequence, token);
    bool multiplies = l->projects && !in_tail;
    double latent[1024];
    cr_assert_leq(d->width, 1024);
    for (int j = 0; multiplies && j < d->width; j++)
        latent[j] = rounding_half(cache_image_value(&l->deltas, 0, sequence, token, j));
    for (int c = 0; c < l->hidden; c++) {
        double size = 0;
        row[c] = multiplies ? 0 : rounding_half(cache_image_value(&l->deltas, 0, sequence, token, c));
        for (int j = 0; multiplies && j < d->width; j++) {
            double term = latent[j] * l->ukvt[j * l->hidden + c];
            row[c] += term;
            size += fabs(term);
        }
        slack[c] = size * (l->bf16 ? 0x1p-8 : 0x1p-19);
        if (!l->base && !in_tail)
            row[c] += rounding_half(cache_image_value(&l->x, 0, sequence, token, c));
    }
}

/* Checks an accumulator of 16-bit values. Where nothing is multiplied, the sums are exact except for one
 * rounding. */
static void check_values(const struct layer *l, const cache_image *after, int i, int t, const double *row,
                         const double *slack)
{
    for (int c = 0; c < l->hidden; c++) {
        double got = cache_image_value(after, 0, i, t, c);
        double want = slack[c] > 0 ? row[c] : rounding_saturated(rounding_half(row[c]));
        double bound = slack[c] > 0 ? slack[c] + fabs(row[c]) * 0x1.01p-11 : 0;
        cr_assert(fabs(got - want) <= bound, "sequence %d of %d tokens, token %d, channel %d: %g, not %g",
                  i, l->paged.lengths[i], t, c, got, row[c]);
    }
}

/* Whether two zero points, or two offsets, are equal. As offsets, -0 and 0 are equal. */
static bool same_zero(const quantizer *q, uint16_t a, uint16_t b)
{
    return q->integer_zero ? a == b : half_to_float(a) == half_to_float(b);
}

/* Checks an accumulator of codes. They equal those of the host quantizer bit for bit where sums are exact;
 * else they are within half a step of the sum. */
static void check_codes(const struct layer *l, const cache_image *after, int i, int t, const double *row,
                        const double *slack)
{
    const quantizer q = after->codec->stream[0].format;
    const page_sequence sequence = cache_image_sequence(after, i);
    size_t width = (size_t)l->hidden, groups = quantizer_groups(&q, width);
    uint16_t *x = malloc(width * sizeof *x), *scale = malloc(groups * 2), *zero = malloc(groups * 2);
    uint8_t *codes = malloc(width);
    for (size_t c = 0; c < width; c++)
        x[c] = rounding_to_half(rounding_saturated(row[c]));
    quantizer_encode(&q, x, width, codes, scale, zero);
    for (int c = 0; c < l->hidden; c++) {
        const size_t group = (size_t)c / q.group;
        const double step = half_to_float(scale[group]);
        unsigned code = page_codec_code(after->codec, 0, &sequence, t, c);
        uint16_t s, z;
        page_codec_params(after->codec, 0, &sequence, t, c, &s, &z);
        if (slack[c] > 0) {
            double got = cache_image_value(after, 0, i, t, c);
            double bound =
                step * (0.51 + (q.integer_zero ? 0.5 : 0)) + 16 * slack[c] + fabs(row[c]) * 0x1p-9;
            cr_assert(fabs(got - row[c]) <= bound, "token %d, channel %d: %g, not %g", t, c, got, row[c]);
            cr_assert(fabs(half_to_float(s) - step) <= step * 0x1p-9 + 16 * slack[c], "scale %g, not %g",
                      half_to_float(s), step);
            continue;
        }
        cr_assert(s == scale[group] && same_zero(&q, z, zero[group]) && code == codes[c],
                  "sequence %d, token %d, channel %d: code %u, scale %04x, zero %04x; not %d, %04x, %04x",
                  i, t, c, code, s, z, codes[c], scale[group], zero[group]);
    }
    free(x);
    free(scale);
    free(zero);
    free(codes);
}

/* Checks that pages that the table does not name, and tile records that hold no token, keep their bytes. */
static void check_untouched(const struct layer *l, const uint8_t *after)
{
    bool *touched = calloc(l->x.pages_size / l->x.codec->tile_bytes + 1, sizeof *touched);
    int tiles = l->paged.page / 16;
    for (int i = 0; i < l->paged.batch; i++)
        for (int t = 0; t < l->paged.lengths[i]; t++)
            touched[paged_page(&l->paged, i, t) * tiles + t % l->paged.page / 16] = true;
    for (size_t b = 0; b < l->x.pages_size; b++)
        cr_assert(touched[b / l->x.codec->tile_bytes] || after[b] == l->x.pages[b],
                  "byte %zu, of no token, was written", b);
    free(touched);
}

static void accumulate(struct layer *l)
{
    struct xq_accumulate_params args = {0};
    args.table = paged_upload(&l->f, &l->paged, false);
    args.pages = fixture_upload(&l->f, l->deltas.pages, l->deltas.pages_size);
    args.tails = cache_image_upload_tails(&l->f, &l->deltas);
    args.accumulator = fixture_upload(&l->f, l->x.pages, l->x.pages_size);
    args.ukvt.data = l->packed;
    args.batch = l->paged.batch;
    args.entries = l->paged.entries + 3; /* an upper bound: the grid may be larger than the table */
    int tiles = args.entries * l->paged.page / 16, block = fixture_constant(l->kernel, "tiles");
    fixture_launch(&l->f, l->kernel, (tiles + block - 1) / block,
                   fixture_constant(l->kernel, "column_blocks"), 1, &args, sizeof args);
    uint8_t *pages = fixture_download(&l->f, args.accumulator, l->x.pages_size);
    check_untouched(l, pages);

    double *row = malloc((size_t)l->hidden * sizeof *row),
           *slack = malloc((size_t)l->hidden * sizeof *slack);
    cache_image after = l->x;
    after.pages = pages;
    for (int i = 0; i < l->paged.batch; i++)
        for (int t = 0; t < l->paged.lengths[i]; t++) {
            expected_row(l, i, t, row, slack);
            if (after.codec->stream[0].format.bits == 16)
                check_values(l, &after, i, t, row, slack);
            else
                check_codes(l, &after, i, t, row, slack);
        }
    free(row);
    free(slack);
    free(pages);
}

// clang-format off
static struct form forms[] = {
    {"x-cl", 320, "", TEXT("method": "x-cl", "bits": 2, "group": 128, "page": 64)},
    {"x-cl, base", 320, "", TEXT("method": "x-cl", "bits": 4, "group": 128, "page": 64, "base": true)},
    {"x-cl, channels", 192, "",
     TEXT("method": "x-cl", "bits": 3, "group": 32, "page": 16, "axis_k": "channel")},
    {"x-cl, channels, base", 128, "",
     TEXT("method": "x-cl", "bits": 8, "group": 64, "page": 256, "axis_k": "channel", "base": true)},
    {"x-cl, 8 bits", 320, "",
     TEXT("method": "x-cl", "bits": 2, "group": 32, "page": 32, "accumulator_bits": 8)},
    {"x-cl, 4 bits, integer", 192, "",
     TEXT("method": "x-cl", "bits": 4, "group": 64, "page": 16, "accumulator_bits": 4,
         "zero_point": "integer")},
    {"x-cl, 4 bits, groups of 128", 576, "",
     TEXT("method": "x-cl", "bits": 3, "group": 128, "page": 64, "accumulator_bits": 4)},
    {"x-cl, 8 bits, groups of 256, integer", 320, "",
     TEXT("method": "x-cl", "bits": 3, "group": 256, "page": 64, "accumulator_bits": 8,
         "zero_point": "integer", "axis_k": "channel")},
    {"x-cl, 4 bits, rows", 576, "",
     TEXT("method": "x-cl", "bits": 4, "group": "row", "page": 48, "accumulator_bits": 4)},
    {"x-cl, 8 bits, rows, integer, base", 832, "",
     TEXT("method": "x-cl", "bits": 4, "group": "row", "page": 16, "accumulator_bits": 8,
         "zero_point": "integer", "base": true)},
    {"latent-cl", 320, "", TEXT("method": "latent-cl", "bits": 3, "group": 128, "page": 64)},
    {"latent-cl, base", 256, "",
     TEXT("method": "latent-cl", "bits": 4, "group": 64, "page": 16, "rank_k": 128, "base": true)},
    {"latent-cl, channels, padded", 192, "",
     TEXT("method": "latent-cl", "bits": 2, "group": 32, "page": 32, "rank_k": 100, "axis_k": "channel")},
    {"latent-cl, 8 bits", 320, "",
     TEXT("method": "latent-cl", "bits": 4, "group": 32, "page": 64, "accumulator_bits": 8)},
    {"latent-cl, 4 bits, integer", 320, "",
     TEXT("method": "latent-cl", "bits": 4, "group": 256, "page": 64, "accumulator_bits": 4,
         "zero_point": "integer", "axis_k": "channel")},
    {"latent-cl, 8 bits, rows of 192", 448, "",
     TEXT("method": "latent-cl", "bits": 8, "group": "row", "page": 64, "accumulator_bits": 8,
         "rank_k": 192)},
    {"latent-cl, bf16 weights", 192, BF16_WEIGHTS,
     TEXT("method": "latent-cl", "bits": 3, "group": 128, "page": 64)},
    {"latent-cl, small blocks", 192,
     ", \"tuning\": {\"accumulate\": {\"warps\": 2, \"m_tiles\": 1, \"stages\": 4}}",
     TEXT("method": "latent-cl", "bits": 3, "group": 128, "page": 64)},
    {"x-cl, 8 warps", 576, ", \"tuning\": {\"accumulate\": {\"warps\": 8}}",
     TEXT("method": "x-cl", "bits": 4, "group": 64, "page": 64, "accumulator_bits": 8)},
};
// clang-format on

ParameterizedTestParameters(accumulate, adds_a_layer_once_to_every_token)
{
    return cr_make_param_array(struct form, forms, sizeof forms / sizeof *forms);
}

ParameterizedTest(struct form *c, accumulate, adds_a_layer_once_to_every_token)
{
    struct layer l;
    open_form(c, &l);
    for (int n = 0; n < 6; n++) {
        random_stream r = random_begin(23, (uint64_t)n);
        draw_layer(&l, &r, n < 4 ? l.f.group + 50 : 300);
        accumulate(&l);
        free_layer(&l);
    }
    fixture_close(&l.f);
}

/* ---------------------------------------------------------------- special values */

/* Fills a 16-bit accumulator and its deltas: every value of every token is the same. */
static void fill(struct layer *l, uint16_t scale, uint16_t offset, uint16_t before)
{
    for (int i = 0; i < l->paged.batch; i++) {
        const page_sequence deltas = cache_image_sequence(&l->deltas, i),
                            x = cache_image_sequence(&l->x, i);
        for (int t = 0; t < l->paged.lengths[i]; t++)
            for (int c = 0; c < l->hidden; c++) {
                page_codec_set_params(l->deltas.codec, 0, &deltas, t, c, scale, offset);
                page_codec_set_code(l->x.codec, 0, &x, t, c, before);
            }
    }
}

Test(accumulate, sums_saturate_and_keep_a_nan)
{
    static const struct {
        float offset, before, after;
    } cases[] = {
        {60000, 60000, 65504}, {-60000, -65504, -65504}, {60000, -60000, 0}, {NAN, 1, NAN}, {1, NAN, NAN}};
    struct layer l;
    open_form(&forms[0], &l);
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        random_stream r = random_begin(29, n);
        draw_layer(&l, &r, 100);
        fill(&l, 0, half_from_float(cases[n].offset), half_from_float(cases[n].before));
        struct xq_accumulate_params args = {.table = paged_upload(&l.f, &l.paged, false),
                                            .pages =
                                                fixture_upload(&l.f, l.deltas.pages, l.deltas.pages_size),
                                            .accumulator = fixture_upload(&l.f, l.x.pages, l.x.pages_size),
                                            .batch = l.paged.batch,
                                            .entries = l.paged.entries};
        if (l.paged.entries)
            fixture_launch(&l.f, l.kernel, args.entries * l.paged.page / 16,
                           fixture_constant(l.kernel, "column_blocks"), 1, &args, sizeof args);
        cache_image after = l.x;
        after.pages = fixture_download(&l.f, args.accumulator, l.x.pages_size);
        for (int i = 0; i < l.paged.batch; i++)
            for (int t = 0; t < l.paged.lengths[i]; t++)
                for (int c = 0; c < l.hidden; c++) {
                    double got = cache_image_value(&after, 0, i, t, c);
                    cr_assert(isnan(cases[n].after) ? isnan(got) : got == cases[n].after, "case %zu: %g", n,
                              got);
                }
        free(after.pages);
        free_layer(&l);
    }
    fixture_close(&l.f);
}

Test(accumulate, is_refused_where_there_is_no_accumulator)
{
    error err = ERROR_INIT;
    gen_kernel rendered;
    char *spec = generator_complete("{\"model\": \"llama-3.1-8b\"}");
    cr_assert_eq(gen_render(generator(), spec, "accumulate", &rendered, &err), XQ_ERROR_UNSUPPORTED);
    cr_assert(strstr(err.message, "has no accumulator"), "%s", err.message);
    error_clear(&err);
    free(spec);
}
