/* kv_attend with every model feature and any queries, compared with double precision: which tokens a query
 * sees, how scores are computed, and how parts of a sequence are joined. */
#include "../../autotune/verify/verify.h"
#include "../support/elements.h"
#include "../support/kernel_fixture.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MASK_WORDS = 3, MOST_QUERIES = 70 };
static const float K_SCALE = 0.0078125f, V_SCALE = 0.015625f; /* e4m3; some values saturate */

struct attend_case {
    int heads, kv_heads, head_dim, page;
    char features[160]; /* members of the spec's model */
    char rest[128];     /* members of the spec */
};

/* One launch: sequences in pages, their queries, and the expected results. */
struct scene {
    fixture *f;
    bool bf16, many, e4m3;
    paged pages;
    int counts[FIXTURE_MAX_BATCH]; /* queries of each sequence */
    int32_t query_indptr[FIXTURE_MAX_BATCH + 1], offsets[FIXTURE_MAX_BATCH];
    int32_t *positions;
    uint32_t *masks;
    uint16_t *q;
    void *kv;
    size_t kv_bytes;
    uint16_t *k[FIXTURE_MAX_BATCH], *v[FIXTURE_MAX_BATCH];
    double *sinks;
    bool has_indptr, has_positions, has_offsets, has_masks, has_sinks;
    double *out, *lse;
};

static int queries_of(const struct scene *s)
{
    return s->query_indptr[s->pages.batch];
}

/* ---------------------------------------------------------------- drawing */

static void draw_rows(struct scene *s, random_stream *r)
{
    const reference_model *m = &s->f->model;
    size_t width = (size_t)(m->kv_heads * m->head_dim);
    s->kv_bytes = kv_row(s->f, s->pages.pool, 0, 0) * 2;
    uint16_t *kv = malloc(s->kv_bytes + 2);
    memset(kv, 0xff, s->kv_bytes); /* NaN in either type */
    s->kv = kv;
    for (int i = 0; i < s->pages.batch; i++) {
        size_t elements = (size_t)s->pages.lengths[i] * width;
        s->k[i] = elements_normals(r, s->bf16, elements, 1);
        s->v[i] = elements_normals(r, s->bf16, elements, 1);
        for (int t = 0; t < s->pages.lengths[i]; t++) {
            int page = paged_page(&s->pages, i, t), slot = t % s->pages.page;
            memcpy(kv + kv_row(s->f, page, 0, slot), s->k[i] + (size_t)t * width, width * 2);
            memcpy(kv + kv_row(s->f, page, 1, slot), s->v[i] + (size_t)t * width, width * 2);
        }
    }
}

/* Makes the pages those of an e4m3 cache. */
static void narrow_rows(struct scene *s)
{
    const size_t width = (size_t)(s->f->model.kv_heads * s->f->model.head_dim);
    uint8_t *codes = kv_narrow(s->f, s->kv, s->pages.pool, s->bf16, K_SCALE, V_SCALE);
    for (int i = 0; i < s->pages.batch; i++) {
        elements_narrow(s->k[i], s->bf16, (size_t)s->pages.lengths[i] * width, K_SCALE, NULL);
        elements_narrow(s->v[i], s->bf16, (size_t)s->pages.lengths[i] * width, V_SCALE, NULL);
    }
    free(s->kv);
    s->kv = codes;
    s->kv_bytes /= 2;
}

/* Draws a tree: the sequence's last tokens are drafts. Each sees itself and some of the drafts before
 * it. */
static void draw_tree(struct scene *s, random_stream *r, int sequence)
{
    int first = s->query_indptr[sequence], count = s->counts[sequence];
    for (int j = 0; j < count; j++) {
        s->positions[first + j] =
            s->offsets[sequence] + s->pages.lengths[sequence] - count + random_between(r, 0, j);
        uint32_t *mask = s->masks + (size_t)(first + j) * MASK_WORDS;
        for (int t = 0; t < count; t++)
            if (t == j || (t < j && random_between(r, 0, 2)))
                mask[t / 32] |= 1u << t % 32;
        mask[MASK_WORDS - 1] |= 0xc0000000u; /* bits beyond the drafts have no meaning */
    }
}

static void draw_positions(struct scene *s, random_stream *r, int sequence)
{
    for (int j = 0; j < s->counts[sequence]; j++)
        s->positions[s->query_indptr[sequence] + j] =
            s->offsets[sequence] + random_between(r, -3, s->pages.lengths[sequence] + 20);
}

static void draw_queries(struct scene *s, random_stream *r)
{
    int kind = random_between(r, 0, s->many ? 3 : 1); /* last positions; any positions; a tree; prefill */
    s->has_offsets = random_between(r, 0, 1);
    s->has_indptr = s->many || kind == 1;
    s->has_positions = kind == 1 || kind == 2;
    s->has_masks = kind == 2;
    for (int i = 0; i < s->pages.batch; i++) {
        int length = s->pages.lengths[i], most = !s->many ? 1 : random_choice(r, 3, 1, 5, MOST_QUERIES);
        s->counts[i] = s->has_indptr ? random_between(r, 0, most) : 1;
        if (kind == 3)
            s->counts[i] = length < MOST_QUERIES ? length : MOST_QUERIES;
        if (kind == 2 && s->counts[i] > length)
            s->counts[i] = length;
        s->query_indptr[i + 1] = s->query_indptr[i] + s->counts[i];
        s->offsets[i] = s->has_offsets ? random_between(r, 0, 500) : 0;
    }
    int total = queries_of(s);
    s->positions = calloc((size_t)total + 1, sizeof *s->positions);
    s->masks = calloc((size_t)total * MASK_WORDS + 1, sizeof *s->masks);
    for (int i = 0; i < s->pages.batch; i++)
        if (s->has_masks)
            draw_tree(s, r, i);
        else if (s->has_positions)
            draw_positions(s, r, i);
}

/* ---------------------------------------------------------------- expected results */

static void expect(struct scene *s)
{
    const reference_model *m = &s->f->model;
    size_t per_query = (size_t)(m->heads * m->head_dim), total = (size_t)queries_of(s);
    s->out = calloc(total * per_query + 1, sizeof *s->out);
    s->lse = calloc(total * (size_t)m->heads + 1, sizeof *s->lse);
    reference_layer layer = {.sinks = s->sinks};
    for (int i = 0; i < s->pages.batch; i++) {
        size_t first = (size_t)s->query_indptr[i];
        int64_t positions[MOST_QUERIES];
        for (int j = 0; j < s->counts[i]; j++)
            positions[j] = s->positions[first + (size_t)j];
        double *k =
            elements_doubles(s->k[i], s->bf16, (size_t)(s->pages.lengths[i] * m->kv_heads * m->head_dim));
        double *v =
            elements_doubles(s->v[i], s->bf16, (size_t)(s->pages.lengths[i] * m->kv_heads * m->head_dim));
        double *q = elements_doubles(s->q + first * per_query, s->bf16, (size_t)s->counts[i] * per_query);
        reference_queries queries = {.count = s->counts[i],
                                     .q = q,
                                     .positions = s->has_positions ? positions : NULL,
                                     .token_offset = s->offsets[i],
                                     .tree_mask = s->has_masks ? s->masks + first * MASK_WORDS : NULL,
                                     .mask_words = MASK_WORDS,
                                     .without_sinks = !s->has_sinks};
        error err = ERROR_INIT;
        cr_assert_eq(reference_attend_queries(m, &layer, s->pages.lengths[i], k, v, &queries,
                                              s->out + first * per_query, s->lse + first * (size_t)m->heads,
                                              &err),
                     XQ_OK);
        free(k);
        free(v);
        free(q);
    }
}

static void scene_draw(struct scene *s, fixture *f, random_stream *r, bool bf16, bool many, bool e4m3)
{
    *s = (struct scene){.f = f, .bf16 = bf16, .many = many, .e4m3 = e4m3};
    const reference_model *m = &f->model;
    paged_draw(r, &s->pages, random_between(r, 1, 3), f->page, random_choice(r, 2, 40, 230), false);
    draw_rows(s, r);
    if (e4m3)
        narrow_rows(s);
    draw_queries(s, r);
    float sharpness = (float)random_choice(r, 2, 1, 3);
    s->q = elements_normals(r, bf16, (size_t)(queries_of(s) * m->heads * m->head_dim), sharpness);
    s->has_sinks = m->sinks && random_between(r, 0, 3);
    s->sinks = calloc((size_t)m->heads, sizeof *s->sinks);
    for (int h = 0; h < m->heads; h++)
        s->sinks[h] = (float)(random_normal(r) * 2);
    expect(s);
}

static void scene_free(struct scene *s)
{
    for (int i = 0; i < s->pages.batch; i++) {
        free(s->k[i]);
        free(s->v[i]);
    }
    paged_free(&s->pages);
    free(s->positions);
    free(s->masks);
    free(s->kv);
    free(s->q);
    free(s->sinks);
    free(s->out);
    free(s->lse);
}

/* ---------------------------------------------------------------- launching and judging */

static struct xq_kv_attend_params arguments(struct scene *s, int splits, int blocks)
{
    fixture *f = s->f;
    const reference_model *m = &f->model;
    size_t total = (size_t)queries_of(s), rows = total * (size_t)m->heads, dh = (size_t)m->head_dim;
    float *sinks = malloc((size_t)m->heads * sizeof *sinks);
    for (int h = 0; h < m->heads; h++)
        sinks[h] = (float)s->sinks[h];
    struct xq_kv_attend_params a = {
        .table = paged_upload(f, &s->pages, false),
        .kv = fixture_upload(f, s->kv, s->kv_bytes),
        .k_scale = s->e4m3 ? fixture_upload(f, &K_SCALE, 4) : 0,
        .v_scale = s->e4m3 ? fixture_upload(f, &V_SCALE, 4) : 0,
        .sinks = s->has_sinks ? fixture_upload(f, sinks, (size_t)m->heads * 4) : 0,
        .q = fixture_upload(f, s->q, rows * dh * 2),
        .out = fixture_filled(f, 0xff, rows * dh * 2),
        .lse = fixture_filled(f, 0xff, rows * 4),
        .partial_out = fixture_filled(f, 0xff, rows * (size_t)splits * dh * 2),
        .partial_lse = fixture_filled(f, 0xff, rows * (size_t)splits * 4),
        .counters = fixture_filled(f, 0, (size_t)(s->pages.batch * blocks * m->kv_heads) * 4),
    };
    size_t batch = (size_t)s->pages.batch;
    a.queries.blocks = blocks;
    a.queries.queries = (int)total;
    a.queries.mask_words = MASK_WORDS;
    if (s->has_indptr)
        a.queries.query_indptr = fixture_upload(f, s->query_indptr, (batch + 1) * 4);
    if (s->has_positions)
        a.queries.query_position = fixture_upload(f, s->positions, total * 4);
    if (s->has_offsets)
        a.queries.token_offset = fixture_upload(f, s->offsets, batch * 4);
    if (s->has_masks)
        a.queries.tree_mask = fixture_upload(f, s->masks, total * MASK_WORDS * 4);
    free(sinks);
    return a;
}

static void check_logarithms(struct scene *s, uint64_t lse, double bound)
{
    int rows = queries_of(s) * s->f->model.heads;
    float *got = fixture_download(s->f, lse, (size_t)rows * 4);
    for (int i = 0; i < rows; i++) {
        double expected = s->lse[i];
        bool same = isinf(expected) ? got[i] == -INFINITY
                                    : fabs(got[i] - expected) <= bound * fmax(1, fabs(expected));
        cr_assert(same, "log-sum-exp of row %d: %g, not %g", i, (double)got[i], expected);
    }
    free(got);
}

/* Returns the largest error of any sequence. Rows whose query sees no token must be zeros. */
static double check_outputs(struct scene *s, uint64_t out, double bound)
{
    const reference_model *m = &s->f->model;
    size_t dh = (size_t)m->head_dim, heads = (size_t)m->heads, rows = (size_t)queries_of(s) * heads;
    uint16_t *bits = fixture_download(s->f, out, rows * dh * 2);
    double *got = elements_doubles(bits, s->bf16, rows * dh), worst = 0;
    for (size_t row = 0; row < rows; row++)
        for (size_t d = 0; d < dh && isinf(s->lse[row]); d++)
            cr_assert_eq(got[row * dh + d], 0, "row %zu sees nothing, and has %g", row, got[row * dh + d]);
    for (int i = 0; i < s->pages.batch; i++) {
        size_t at = (size_t)s->query_indptr[i] * heads * dh, count = (size_t)s->counts[i] * heads * dh;
        double e = reference_error(s->out + at, got + at, count);
        cr_assert(e <= bound, "sequence %d of %d tokens and %d queries: error %g", i, s->pages.lengths[i],
                  s->counts[i], e);
        worst = e > worst ? e : worst;
    }
    free(bits);
    free(got);
    return worst;
}

static double attend_once(struct scene *s, const test_kernel *k, random_stream *r)
{
    fixture *f = s->f;
    int group = f->model.heads / f->model.kv_heads, block_rows = fixture_constant(k, "query_rows"),
        most = 1;
    for (int i = 0; i < s->pages.batch; i++)
        most = s->counts[i] > most ? s->counts[i] : most;
    int blocks = s->many ? (most * group + block_rows - 1) / block_rows : 1;
    int per_split = fixture_constant(k, "tile_tokens") * random_choice(r, 3, 1, 2, 20);
    int splits = s->pages.longest ? (s->pages.longest + per_split - 1) / per_split : 1;
    struct xq_kv_attend_params a = arguments(s, splits, blocks);
    a.tokens_per_split = per_split;
    double bound = verify_bound(XQ_FP16_KV, s->bf16, ROUNDING_F16, false, 1), worst = 0;
    for (int repeat = 0; repeat < 2; repeat++) { /* both on the same workspace */
        fixture_launch(f, k, splits, f->model.kv_heads, s->pages.batch * blocks, &a, sizeof a);
        worst = check_outputs(s, a.out, bound);
        check_logarithms(s, a.lse, bound);
    }
    int counters = s->pages.batch * blocks * f->model.kv_heads;
    int32_t *left = fixture_download(f, a.counters, (size_t)counters * 4);
    for (int i = 0; i < counters; i++)
        cr_assert_eq(left[i], 0, "counter %d is left at %d", i, left[i]);
    free(left);
    fixture_release(f);
    return worst;
}

static const char *spec_of(const struct attend_case *c, bool bf16, bool many)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"model\": {\"hidden_size\": 64, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
             "\"head_dim\": %d%s%s}, \"cache\": {\"method\": \"x\", \"rotation\": false, \"page\": %d}, "
             "\"dtype\": \"%s\", \"queries\": \"%s\"%s%s}",
             c->heads, c->kv_heads, c->head_dim, *c->features ? ", " : "", c->features, c->page,
             bf16 ? "bf16" : "f16", many ? "many" : "one", *c->rest ? ", " : "", c->rest);
    return text;
}

static void attend_scenes_on(const char *device_name, const struct attend_case *c, bool bf16, bool many,
                             bool e4m3, int scenes)
{
    fixture f;
    fixture_open_on(&f, device_name, spec_of(c, bf16, many));
    const test_kernel *k = fixture_kernel(&f, e4m3 ? "kv_attend_e4m3" : "kv_attend");
    double worst = 0;
    for (int i = 0; i < scenes; i++) {
        random_stream r = random_begin(77, (uint64_t)(c->heads * 1000 + c->head_dim * 10 + i));
        struct scene s;
        scene_draw(&s, &f, &r, bf16, many, e4m3);
        double e = attend_once(&s, k, &r);
        worst = e > worst ? e : worst;
        scene_free(&s);
    }
    cr_log_info("heads %d/%d of %d, %s, %s%s, queries %s: worst error %.2e", c->heads, c->kv_heads,
                c->head_dim, c->features, bf16 ? "bf16" : "f16", e4m3 ? " over e4m3" : "",
                many ? "many" : "one", worst);
    if (c->head_dim % 32 == 0) /* otherwise the outputs of two rows meet at their ends */
        cr_expect_eq(fixture_counters(&f).shared_conflicts, 0, "bank conflicts");
    fixture_close(&f);
}

static void attend_scenes(const struct attend_case *c, bool bf16, bool many, int scenes)
{
    attend_scenes_on("sim", c, bf16, many, false, scenes);
}

/* ---------------------------------------------------------------- tests */

static struct attend_case cases[] = {
    {8, 2, 64, 16, "", ""},
    {7, 1, 128, 64, "", ""},
    {4, 4, 64, 48, "\"sliding_window\": 37", ""},
    {6, 2, 128, 16, "\"attn_logit_softcapping\": 5.0, \"attention_scale\": 0.05", ""},
    {10, 2, 64, 32, "\"attention_sinks\": true, \"sliding_window\": 128", ""},
    {12, 3, 64, 16, "\"alibi\": true", ""},
    {6, 6, 64, 32, "\"alibi\": true, \"alibi_scale\": 0.125", ""},
    {5, 1, 80, 32, "\"rope\": {\"type\": \"neox\", \"rotary_dim\": 20}", ""},
    {4, 2, 96, 16, "\"rope\": {\"type\": \"interleaved\", \"attention_factor\": 1.3}", ""},
    {6, 1, 112, 64, "\"rope\": {\"type\": \"neox\", \"rotary_dim\": 32, \"attention_factor\": 0.9}", ""},
    {2, 2, 160, 16, "\"rope\": {\"type\": \"none\"}", ""},
    {3, 1, 192, 32, "\"rope\": {\"type\": \"interleaved\", \"rotary_dim\": 64}", ""},
    {4, 1, 256, 64, "\"sliding_window\": 16, \"attn_logit_softcapping\": 50.0", ""},
    {128, 1, 64, 16, "", ""},
};

ParameterizedTestParameters(kernels_queries, one_query_of_a_sequence_matches)
{
    return cr_make_param_array(struct attend_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct attend_case *c, kernels_queries, one_query_of_a_sequence_matches)
{
    attend_scenes(c, false, false, 8);
}

ParameterizedTestParameters(kernels_queries, many_queries_of_a_sequence_match)
{
    return cr_make_param_array(struct attend_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct attend_case *c, kernels_queries, many_queries_of_a_sequence_match)
{
    attend_scenes(c, false, true, 10);
}

ParameterizedTestParameters(kernels_queries, bf16_matches)
{
    static struct attend_case bf16_cases[] = {
        {8, 2, 64, 16, "", ""},
        {6, 2, 128, 16, "\"attn_logit_softcapping\": 5.0, \"attention_sinks\": true", ""},
        {4, 1, 80, 32, "\"rope\": {\"type\": \"interleaved\", \"rotary_dim\": 32}", ""},
    };
    return cr_make_param_array(struct attend_case, bf16_cases, sizeof bf16_cases / sizeof *bf16_cases);
}

ParameterizedTest(struct attend_case *c, kernels_queries, bf16_matches)
{
    attend_scenes(c, true, false, 6);
    attend_scenes(c, true, true, 6);
}

ParameterizedTestParameters(kernels_queries, every_schedule_of_many_queries_matches)
{
    static struct attend_case tuned[] = {
        {8, 2, 64, 16, "", "\"tuning\": {\"kv_attend\": {\"warps\": 8, \"slice\": 32, \"stages\": 2}}"},
        {8, 2, 64, 32, "\"sliding_window\": 50",
         "\"tuning\": {\"kv_attend\": {\"warps\": 2, \"slice\": 64, \"query_tiles\": 1, \"stages\": 4}}"},
        {3, 1, 128, 16, "", "\"tuning\": {\"kv_attend\": {\"warps\": 1, \"slice\": 16, \"stages\": 3}}"},
        {3, 1, 128, 64, "", "\"tuning\": {\"kv_attend\": {\"warps\": 4, \"slice\": 16, \"stages\": 6}}"},
    };
    return cr_make_param_array(struct attend_case, tuned, sizeof tuned / sizeof *tuned);
}

ParameterizedTest(struct attend_case *c, kernels_queries, every_schedule_of_many_queries_matches)
{
    attend_scenes(c, false, true, 6);
}

/* ---------------------------------------------------------------- caches of e4m3 */

ParameterizedTestParameters(kernels_queries, e4m3_matches)
{
    return cr_make_param_array(struct attend_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct attend_case *c, kernels_queries, e4m3_matches)
{
    attend_scenes_on("sim", c, false, false, true, 6);
    attend_scenes_on("sim", c, false, true, true, 6);
}

/* sm_80 has no instruction that widens e4m3, and no architecture has one to bf16. */
ParameterizedTestParameters(kernels_queries, e4m3_matches_where_no_instruction_widens_it)
{
    static struct attend_case few[] = {
        {8, 2, 64, 16, "", ""},
        {6, 2, 128, 16, "\"attn_logit_softcapping\": 5.0, \"attention_sinks\": true", ""},
        {4, 1, 80, 32, "\"rope\": {\"type\": \"interleaved\", \"rotary_dim\": 32}", ""},
        {5, 1, 80, 32, "\"rope\": {\"type\": \"neox\", \"rotary_dim\": 48}", ""},
    };
    return cr_make_param_array(struct attend_case, few, sizeof few / sizeof *few);
}

ParameterizedTest(struct attend_case *c, kernels_queries, e4m3_matches_where_no_instruction_widens_it)
{
    attend_scenes_on("sim:a100", c, false, false, true, 4);
    attend_scenes_on("sim:a100", c, false, true, true, 4);
    attend_scenes_on("sim", c, true, false, true, 4);
    attend_scenes_on("sim", c, true, true, true, 4);
}

ParameterizedTestParameters(kernels_queries, every_schedule_over_e4m3_matches)
{
    static struct attend_case tuned[] = {
        {8, 2, 64, 16, "",
         "\"tuning\": {\"kv_attend_e4m3\": {\"warps\": 8, \"slice\": 32, \"stages\": 2}}"},
        {8, 2, 64, 32, "\"sliding_window\": 50",
         "\"tuning\": {\"kv_attend_e4m3\": {\"warps\": 2, \"slice\": 32, \"query_tiles\": 1, "
         "\"stages\": 4}}"},
        {3, 1, 128, 16, "",
         "\"tuning\": {\"kv_attend_e4m3\": {\"warps\": 1, \"slice\": 16, \"stages\": 3}}"},
        {3, 1, 128, 64, "",
         "\"tuning\": {\"kv_attend_e4m3\": {\"warps\": 4, \"slice\": 16, \"stages\": 6}}"},
    };
    return cr_make_param_array(struct attend_case, tuned, sizeof tuned / sizeof *tuned);
}

ParameterizedTest(struct attend_case *c, kernels_queries, every_schedule_over_e4m3_matches)
{
    if (c->heads != 8 || *c->features) /* the first has slices too long for one query's tiles */
        attend_scenes_on("sim", c, false, false, true, 4);
    attend_scenes_on("sim", c, false, true, true, 4);
}

/* A prompt of 256 tokens with all their queries. Each block of rows reads the tokens that its rows see
 * once, however many warps and matrix tiles share it. */
Test(kernels_queries, a_block_of_rows_reads_what_it_sees_once)
{
    enum { TOKENS = 256, HEAD_DIM = 128, GROUP = 4 };
    static const struct attend_case c = {GROUP, 1, HEAD_DIM, 64, "", ""};
    fixture f;
    fixture_open(&f, spec_of(&c, false, true));
    const test_kernel *k = fixture_kernel(&f, "kv_attend");
    int rows = fixture_constant(k, "query_rows"), blocks = TOKENS * GROUP / rows, tile = rows / GROUP;
    size_t page = kv_row(&f, 1, 0, 0) * 2, queries = (size_t)TOKENS * GROUP * HEAD_DIM * 2;
    const int32_t indptr[2] = {0, TOKENS / 64}, last = 64, query_indptr[2] = {0, TOKENS};
    struct xq_kv_attend_params a = {
        .table = {fixture_upload(&f, indptr, sizeof indptr), 0, fixture_upload(&f, &last, 4)},
        .kv = fixture_filled(&f, 0x21, page * TOKENS / 64),
        .q = fixture_filled(&f, 0x21, queries),
        .out = fixture_filled(&f, 0xff, queries),
        .tokens_per_split = TOKENS,
    };
    a.queries.query_indptr = fixture_upload(&f, query_indptr, sizeof query_indptr);
    a.queries.queries = TOKENS;
    a.queries.blocks = blocks;
    fixture_counters(&f);
    fixture_launch(&f, k, 1, 1, blocks, &a, sizeof a);
    device_counters counted = fixture_counters(&f);
    double seen = 0;
    for (int b = 1; b <= blocks; b++)
        seen += (double)b * tile;                                        /* tokens */
    double least = (seen * 2 * HEAD_DIM * 2 + 2 * (double)queries) / 32; /* queries by half sectors */
    cr_log_info("%d blocks of %d rows: %.3f of the sectors that they need", blocks, rows,
                (double)counted.read_sectors / least);
    cr_expect_geq((double)counted.read_sectors, least);
    cr_expect_leq((double)counted.read_sectors, 1.05 * least);
    cr_expect_eq(counted.shared_conflicts, 0, "bank conflicts");
    /* The matrix work covers only the slices of 32 tokens that a block's rows see. */
    double flops = seen * rows * HEAD_DIM * 4;
    cr_expect_leq((double)counted.matrix_flops[MATRIX_F16], flops * 1.2);
    cr_log_info("matrix work: %.3f of what is seen", (double)counted.matrix_flops[MATRIX_F16] / flops);
    fixture_close(&f);
}
