/* rope and kv_append: QK-norm and every kind of RoPE, over KV pages, compared with double precision. */
#include "../../runtime/base/e4m3.h"
#include "../../runtime/base/half.h"
#include "../support/elements.h"
#include "../support/kernel_fixture.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rows_case {
    int kv_heads, head_dim, page;
    char features[160]; /* members of the spec's model */
    bool bf16;
};

/* Sequences in pages: keys as they are projected, values, and the positions that rotate the keys. */
struct scene {
    fixture *f;
    bool bf16;
    paged pages;
    int width;
    float *k_norm;
    uint16_t *k[FIXTURE_MAX_BATCH], *v[FIXTURE_MAX_BATCH];
    int64_t *positions[FIXTURE_MAX_BATCH]; /* position of each token */
    int32_t query_indptr[FIXTURE_MAX_BATCH + 1], query_positions[FIXTURE_MAX_BATCH * 40],
        offsets[FIXTURE_MAX_BATCH];
    bool tree;
};

static void draw_positions(struct scene *s, random_stream *r, bool many)
{
    s->tree = many && random_between(r, 0, 2);
    for (int i = 0; i < s->pages.batch; i++) {
        int length = s->pages.lengths[i], count = s->tree ? random_between(r, 0, 40) : 0;
        count = count > length ? length : count;
        s->offsets[i] = random_between(r, 0, 3000);
        s->query_indptr[i + 1] = s->query_indptr[i] + count;
        s->positions[i] = malloc(((size_t)length + 1) * sizeof(int64_t));
        for (int t = 0; t < length; t++) {
            int draft = t - (length - count);
            s->positions[i][t] =
                s->offsets[i] + (draft < 0 ? t : length - count + random_between(r, 0, draft + 3));
            if (draft >= 0)
                s->query_positions[s->query_indptr[i] + draft] = (int32_t)s->positions[i][t];
        }
    }
}

static void scene_draw(struct scene *s, fixture *f, random_stream *r, bool bf16, bool in_order, bool many)
{
    *s = (struct scene){.f = f, .bf16 = bf16, .width = f->model.kv_heads * f->model.head_dim};
    paged_draw(r, &s->pages, 3, f->page, 150, in_order);
    int norms = f->model.norm == REFERENCE_NORM_ROW ? s->width : f->model.head_dim;
    s->k_norm = malloc((size_t)norms * sizeof *s->k_norm);
    for (int i = 0; i < norms; i++)
        s->k_norm[i] = 1 + 0.3f * random_normal(r);
    for (int i = 0; i < s->pages.batch; i++) {
        size_t elements = (size_t)(s->pages.lengths[i] * s->width);
        s->k[i] = elements_normals(r, bf16, elements, 3);
        s->v[i] = elements_normals(r, bf16, elements, 1);
    }
    draw_positions(s, r, many);
}

static void scene_free(struct scene *s)
{
    for (int i = 0; i < s->pages.batch; i++) {
        free(s->k[i]);
        free(s->v[i]);
        free(s->positions[i]);
    }
    free(s->k_norm);
    paged_free(&s->pages);
}

/* Computes the normalized and rotated keys. The reference projects with the identity, which changes
 * nothing. */
static double *expected_keys(const struct scene *s, int sequence)
{
    const reference_model *m = &s->f->model;
    size_t width = (size_t)s->width, all = (size_t)s->pages.lengths[sequence] * width;
    double *x = elements_doubles(s->k[sequence], s->bf16, all), *k = malloc((all + 1) * sizeof *k);
    double *identity = calloc(width * width, sizeof *identity), *norm = malloc(width * sizeof *norm);
    for (size_t i = 0; i < width; i++)
        identity[i * width + i] = 1;
    for (int i = 0; i < (m->norm == REFERENCE_NORM_ROW ? s->width : m->head_dim); i++)
        norm[i] = s->k_norm[i];
    reference_layer layer = {
        .wk = identity, .inner_k = s->width, .latents_k = 1, .latents_v = 1, .k_norm = norm};
    error err = ERROR_INIT;
    cr_assert_eq(reference_keys(m, &layer, s->pages.lengths[sequence], x, s->positions[sequence], k, &err),
                 XQ_OK, "%s", err.message);
    free(x);
    free(identity);
    free(norm);
    return k;
}

/* Checks every slot of all pages: it holds the expected row, or is unchanged. */
static double check_pages(const struct scene *s, const uint16_t *kv)
{
    size_t width = (size_t)s->width;
    const paged *p = &s->pages;
    bool *used = calloc((size_t)(p->pool * p->page) + 1, 1);
    double worst = 0;
    for (int i = 0; i < p->batch; i++) {
        double *keys = expected_keys(s, i),
               *got = malloc(((size_t)p->lengths[i] * width + 1) * sizeof *got);
        for (int t = 0; t < p->lengths[i]; t++) {
            int page = paged_page(p, i, t), slot = t % p->page;
            double *row = elements_doubles(kv + kv_row(s->f, page, 0, slot), s->bf16, width);
            memcpy(got + (size_t)t * width, row, width * sizeof *row);
            free(row);
            cr_assert_arr_eq(kv + kv_row(s->f, page, 1, slot), s->v[i] + (size_t)t * width, width * 2,
                             "values of token %d", t);
            used[page * p->page + slot] = true;
        }
        double e = reference_error(keys, got, (size_t)p->lengths[i] * width);
        cr_assert(e <= (s->bf16 ? 4e-3 : 5e-4), "sequence %d of %d tokens: error %g", i, p->lengths[i], e);
        worst = e > worst ? e : worst;
        free(keys);
        free(got);
    }
    for (int slot = 0; slot < p->pool * p->page; slot++)
        for (int which = 0; which < 2 && !used[slot]; which++) {
            const uint16_t *row = kv + kv_row(s->f, slot / p->page, which, slot % p->page);
            for (size_t c = 0; c < width; c++)
                cr_assert_eq(row[c], FIXTURE_NAN, "an unused slot was written");
        }
    free(used);
    return worst;
}

static const char *spec_of(const struct rows_case *c)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d%s%s}, \"cache\": {\"method\": \"x\", \"rotation\": false, \"page\": %d}, "
             "\"dtype\": \"%s\"}",
             c->kv_heads, c->kv_heads, c->head_dim, *c->features ? ", " : "", c->features, c->page,
             c->bf16 ? "bf16" : "f16");
    return text;
}

static uint64_t upload_norm(const struct scene *s)
{
    if (s->f->model.norm == REFERENCE_NO_NORM)
        return 0;
    int norms = s->f->model.norm == REFERENCE_NORM_ROW ? s->width : s->f->model.head_dim;
    return fixture_upload(s->f, s->k_norm, (size_t)norms * 4);
}

/* ---------------------------------------------------------------- rope */

static double rope_once(struct scene *s, const test_kernel *k, bool many)
{
    fixture *f = s->f;
    const paged *p = &s->pages;
    size_t bytes = kv_row(f, p->pool, 0, 0) * 2, width = (size_t)s->width;
    uint16_t *kv = malloc(bytes + 2);
    memset(kv, 0xff, bytes);
    for (int i = 0; i < p->batch; i++)
        for (int t = 0; t < p->lengths[i]; t++) {
            int page = paged_page(p, i, t), slot = t % p->page;
            memcpy(kv + kv_row(f, page, 0, slot), s->k[i] + (size_t)t * width, width * 2);
            memcpy(kv + kv_row(f, page, 1, slot), s->v[i] + (size_t)t * width, width * 2);
        }
    uint32_t mask = 0;
    struct xq_rope_params a = {
        .table = paged_upload(f, p, true),
        .kv = fixture_upload(f, kv, bytes),
        .k_norm = upload_norm(s),
        .batch = p->batch,
        .entries = p->entries + 2, /* an upper bound, since the host may not know more */
    };
    a.queries.token_offset = fixture_upload(f, s->offsets, (size_t)p->batch * 4);
    if (many) {
        size_t drafts = (size_t)s->query_indptr[p->batch];
        a.queries.query_indptr = fixture_upload(f, s->query_indptr, (size_t)(p->batch + 1) * 4);
        a.queries.query_position = fixture_upload(f, s->query_positions, drafts * 4);
        a.queries.tree_mask = s->tree ? fixture_upload(f, &mask, 4) : 0;
        a.queries.mask_words = 2;
    }
    fixture_launch(f, k, a.entries * p->page / 16, fixture_constant(k, "head_blocks"), 1, &a, sizeof a);
    uint16_t *got = fixture_download(f, a.kv, bytes);
    double e = check_pages(s, got);
    free(kv);
    free(got);
    fixture_release(f);
    return e;
}

static struct rows_case cases[] = {
    {3, 64, 16, "", false},
    {2, 80, 32, "", true},
    {4, 128, 64, "", false},
    {2, 128, 64, "\"qk_norm\": true", false},
    {3, 64, 16, "\"qk_norm\": \"row\", \"rms_norm_eps\": 0.1", false},
    {2, 96, 16, "\"rope\": {\"type\": \"interleaved\"}", false},
    {2, 80, 16, "\"rope\": {\"type\": \"neox\", \"rotary_dim\": 20}", false},
    {1, 96, 48, "\"rope\": {\"type\": \"neox\", \"rotary_dim\": 24}, \"qk_norm\": true", true},
    {2, 112, 16, "\"rope\": {\"type\": \"interleaved\", \"rotary_dim\": 36}", false},
    {2, 128, 16, "\"rope\": {\"type\": \"neox\", \"rotary_dim\": 64}", false},
    {1, 160, 32, "\"qk_norm\": true", false},
    {1, 192, 16, "\"rope\": {\"type\": \"neox\", \"rotary_dim\": 48}, \"qk_norm\": \"row\"", false},
    {2, 256, 16, "\"qk_norm\": \"row\", \"rope\": {\"type\": \"none\"}", false},
};

/* ---------------------------------------------------------------- kv_append */

/* Checks that kv_append_e4m3 writes what kv_append wrote, quantized, bit for bit, and nothing else. */
static void append_narrow(struct scene *s, const test_kernel *k, struct xq_kv_append_params a,
                          const uint16_t *wide, random_stream *r)
{
    fixture *f = s->f;
    const size_t part = kv_row(f, 0, 1, 0), count = kv_row(f, s->pages.pool, 0, 0);
    float scale[2]; /* some values saturate, and some become 0 */
    for (int i = 0; i < 2; i++)
        scale[i] = expf((float)random_between(r, -9, 0)) * 0.3f;
    a.k_scale = fixture_upload(f, &scale[0], 4);
    a.v_scale = fixture_upload(f, &scale[1], 4);
    a.kv = fixture_filled(f, 0xff, count);
    if (a.tokens)
        fixture_launch(f, k, a.tokens, 1, 1, &a, sizeof a);
    uint8_t *got = fixture_download(f, a.kv, count);
    for (size_t i = 0; i < count; i++) {
        float value = s->bf16 ? half_from_bfloat(wide[i]) : half_to_float(wide[i]);
        uint8_t code = wide[i] == FIXTURE_NAN ? 0xff : e4m3_quantize(value, scale[i / part % 2]);
        cr_assert_eq(got[i], code, "element %zu: %g in units of %g is %02x, not %02x", i, (double)value,
                     (double)scale[i / part % 2], got[i], code);
    }
    free(got);
}

/* Appends all tokens of all sequences, in any order. `narrow` is kv_append_e4m3. */
static double append_once(struct scene *s, const test_kernel *k, const test_kernel *narrow,
                          random_stream *r)
{
    fixture *f = s->f;
    const paged *p = &s->pages;
    size_t width = (size_t)s->width, bytes = kv_row(f, p->pool, 0, 0) * 2;
    int tokens = 0, next = 0;
    for (int i = 0; i < p->batch; i++)
        tokens += p->lengths[i];
    int32_t *order = malloc(sizeof(int32_t) * ((size_t)tokens + 1)),
            *sequence = calloc((size_t)tokens + 1, 4);
    int32_t *place = calloc((size_t)tokens + 1, 4), *rotary = calloc((size_t)tokens + 1, 4);
    uint16_t *keys = malloc(((size_t)tokens * width + 1) * 2),
             *values = malloc(((size_t)tokens * width + 1) * 2);
    for (int i = 0; i < tokens; i++)
        order[i] = i;
    random_shuffle(r, order, (size_t)tokens);
    for (int i = 0; i < p->batch; i++)
        for (int t = 0; t < p->lengths[i]; t++) {
            int at = order[next++];
            sequence[at] = i;
            place[at] = t;
            rotary[at] = (int32_t)s->positions[i][t];
            memcpy(keys + (size_t)at * width, s->k[i] + (size_t)t * width, width * 2);
            memcpy(values + (size_t)at * width, s->v[i] + (size_t)t * width, width * 2);
        }
    struct xq_kv_append_params a = {
        .table = paged_upload(f, p, false),
        .k = fixture_upload(f, keys, (size_t)tokens * width * 2),
        .v = fixture_upload(f, values, (size_t)tokens * width * 2),
        .token_sequence = fixture_upload(f, sequence, (size_t)tokens * 4),
        .token_position = fixture_upload(f, place, (size_t)tokens * 4),
        .rotary_position = fixture_upload(f, rotary, (size_t)tokens * 4),
        .k_norm = upload_norm(s),
        .kv = fixture_filled(f, 0xff, bytes),
        .tokens = tokens,
    };
    if (tokens)
        fixture_launch(f, k, tokens, 1, 1, &a, sizeof a);
    uint16_t *got = fixture_download(f, a.kv, bytes);
    double e = check_pages(s, got);
    append_narrow(s, narrow, a, got, r);
    free(order);
    free(sequence);
    free(place);
    free(rotary);
    free(keys);
    free(values);
    free(got);
    fixture_release(f);
    return e;
}

/* ---------------------------------------------------------------- both */

/* Runs six scenes of one kernel, rope or kv_append, on a software device. */
static void scenes(const struct rows_case *c, const char *kernel_name, const char *device_name, bool many)
{
    const bool rope = strcmp(kernel_name, "rope") == 0;
    fixture f;
    fixture_open_on(&f, device_name, spec_of(c));
    const test_kernel *k = fixture_kernel(&f, kernel_name),
                      *narrow = rope ? NULL : fixture_kernel(&f, "kv_append_e4m3");
    double worst = 0;
    for (int n = 0; n < 6; n++) {
        random_stream r = random_begin(rope ? 21 : 22, (uint64_t)n);
        struct scene s;
        scene_draw(&s, &f, &r, c->bf16, rope, many);
        double e = rope ? rope_once(&s, k, many) : append_once(&s, k, narrow, &r);
        worst = e > worst ? e : worst;
        scene_free(&s);
    }
    if (!*c->features && c->head_dim % 64 == 0)
        cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    cr_log_info("%d heads of %d, %s: worst error %.2e", c->kv_heads, c->head_dim, c->features, worst);
    fixture_close(&f);
}

ParameterizedTestParameters(kernels_rows, rope_matches_the_reference)
{
    return cr_make_param_array(struct rows_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct rows_case *c, kernels_rows, rope_matches_the_reference)
{
    scenes(c, "rope", "sim", false);
}

ParameterizedTestParameters(kernels_rows, rope_turns_drafts_to_their_queries_positions)
{
    return cr_make_param_array(struct rows_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct rows_case *c, kernels_rows, rope_turns_drafts_to_their_queries_positions)
{
    scenes(c, "rope", "sim", true);
}

ParameterizedTestParameters(kernels_rows, kv_append_matches_the_reference)
{
    return cr_make_param_array(struct rows_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct rows_case *c, kernels_rows, kv_append_matches_the_reference)
{
    scenes(c, "kv_append", "sim", true);
}

/* sm_80 has no instruction that makes e4m3. */
ParameterizedTestParameters(kernels_rows, kv_append_quantizes_alike_where_no_instruction_does)
{
    static struct rows_case few[] = {
        {4, 128, 64, "", false},
        {2, 80, 32, "", true},
        {1, 160, 32, "\"qk_norm\": true", false},
    };
    return cr_make_param_array(struct rows_case, few, sizeof few / sizeof *few);
}

ParameterizedTest(struct rows_case *c, kernels_rows, kv_append_quantizes_alike_where_no_instruction_does)
{
    scenes(c, "kv_append", "sim:a100", true);
}
