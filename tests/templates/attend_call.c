#include "attend_call.h"
#include "../support/elements.h"

#include "../../autotune/reference/rounding.h"
#include "../../autotune/reference/seen.h"
#include "../../autotune/verify/verify.h"
#include "../../runtime/base/half.h"
#include "../../runtime/host/pack.h"
#include "../../runtime/plan/spec_view.h"
#include "kernel_attention.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---------------------------------------------------------------- making calls */

struct attend_call attend_call_of(int batch, const struct call_sequence *sequences, bool one)
{
    struct attend_call c = {.batch = batch, .one = one};
    for (int i = 0; i < batch; i++) {
        c.sequences[i] = sequences[i];
        c.indptr[i + 1] = c.indptr[i] + sequences[i].queries;
    }
    c.queries = c.indptr[batch];
    cr_assert_leq(c.queries, ATTEND_MOST_QUERIES);
    return c;
}

void attend_call_causal(struct attend_call *c)
{
    c->has_mask = c->has_positions = true;
    for (int i = 0; i < c->batch; i++)
        for (int j = 0; j < c->sequences[i].queries; j++) {
            int row = c->indptr[i] + j;
            c->positions[row] = c->sequences[i].tokens - c->sequences[i].queries + j;
            for (int t = 0; t <= j; t++)
                c->mask[row * ATTEND_MASK_WORDS + t / 32] |= 1u << t % 32;
        }
}

void attend_call_draft(struct attend_call *c, int i, int child, int parent, int distance)
{
    int row = c->indptr[i] + child, root = c->sequences[i].tokens - c->sequences[i].queries - 1;
    c->positions[row] = (parent < 0 ? root : c->positions[c->indptr[i] + parent]) + distance;
    for (int w = 0; w < ATTEND_MASK_WORDS; w++)
        c->mask[row * ATTEND_MASK_WORDS + w] =
            parent < 0 ? 0 : c->mask[(c->indptr[i] + parent) * ATTEND_MASK_WORDS + w];
    c->mask[row * ATTEND_MASK_WORDS + child / 32] |= 1u << child % 32;
}

/* ---------------------------------------------------------------- one layer */

static void draw_matrix(struct attend_layer *l, int which, random_stream *r, size_t count, double deviation,
                        double mean)
{
    l->matrices[which] = malloc((count + 1) * sizeof(float));
    l->doubles[which] = malloc((count + 1) * sizeof(double));
    for (size_t i = 0; i < count; i++) {
        float value = half_to_float(half_from_float((float)(random_normal(r) * deviation + mean)));
        l->matrices[which][i] = value;
        l->doubles[which][i] = value;
    }
}

/* Whether K and V are products of a cached latent, or of a rotated x, and the matrices ak and av. */
static bool is_factored(const struct shape *s)
{
    return shape_matrix(&s->weights[XQ_FUSED], "uk") != NULL;
}

/* Draws wk or wv, or ak or av, as [rank, dkv], rounded as the kernels see it. The rows from `rank` up to
 * `width` are padding and hold zeros. */
static void draw_projection(struct attend_layer *l, int which, random_stream *r, int rank, int width)
{
    static const char *const names[2][2] = {{"wk", "wv"}, {"ak", "av"}};
    error err = ERROR_INIT;
    size_t kv = (size_t)l->shape.kv_width;
    draw_matrix(l, which, r, (size_t)width * kv, 0.4 / sqrt(width), 0);
    memset(l->doubles[which], 0, (size_t)width * kv * sizeof(double));
    cr_assert_eq(seen_matrix(l->f.completed, XQ_FUSED, names[is_factored(&l->shape)][which],
                             l->matrices[which], (size_t)rank, kv, l->doubles[which], NULL, &err),
                 XQ_OK, "%s", err.message);
}

/* Width of the rows that K or V is made from: the latent of the stream, or the activations. */
static int inner_width(const struct shape *s, int stream)
{
    return s->latent ? s->streams[stream].latent_width : s->hidden_size;
}

static void draw_weights(struct attend_layer *l, random_stream *r)
{
    const struct shape *s = &l->shape;
    size_t kv = (size_t)s->kv_width;
    int last = s->stream_count - 1, rank_k = inner_width(s, 0), rank_v = inner_width(s, last);
    draw_projection(l, 0, r, s->latent ? s->streams[0].rank : rank_k, rank_k);
    draw_projection(l, 1, r, s->latent ? s->streams[last].rank : rank_v, rank_v);
    draw_matrix(l, 2, r, kv, 1, 0);
    draw_matrix(l, 3, r, kv, 1, 0);
    draw_matrix(l, 4, r, kv, 0.2, 1);
    draw_matrix(l, 5, r, (size_t)s->heads, 2, 0);
    draw_matrix(l, 6, r, (size_t)s->hidden_size * (size_t)(s->hidden_size + s->rank_k + s->rank_v), 0, 0);
    const reference_model *m = &l->f.model;
    l->reference = (reference_layer){
        .wk = l->doubles[0],
        .wv = l->doubles[1],
        .inner_k = rank_k,
        .inner_v = rank_v,
        .latents_k = s->streams[0].latents,
        .latents_v = s->streams[s->stream_count - 1].latents,
        .bk = m->bias ? l->doubles[2] : NULL,
        .bv = m->bias ? l->doubles[3] : NULL,
        .k_norm = m->norm ? l->doubles[4] : NULL,
        .sinks = m->sinks ? l->doubles[5] : NULL,
    };
    xq_weights w = XQ_WEIGHTS_INIT;
    if (is_factored(s)) {
        w.uk = w.uv = l->matrices[6];
        w.ak = l->matrices[0];
        w.av = l->matrices[1];
    } else {
        w.wk = l->matrices[0];
        w.wv = l->matrices[1];
        w.ukv = l->matrices[6];
    }
    w.bk = m->bias ? l->matrices[2] : NULL;
    w.bv = m->bias ? l->matrices[3] : NULL;
    w.k_norm = m->norm ? l->matrices[4] : NULL;
    w.sinks = m->sinks ? l->matrices[5] : NULL;
    error err = ERROR_INIT;
    l->packed = malloc(s->weights[XQ_FUSED].bytes);
    cr_assert_eq(pack_weights(s, XQ_FUSED, &w, l->packed, &err), XQ_OK, "%s: %s", err.field, err.message);
}

static void open_layer(struct attend_layer *l, const char *spec, random_stream *r)
{
    memset(l, 0, sizeof *l);
    error err = ERROR_INIT;
    fixture_open(&l->f, spec);
    struct spec_view view;
    cr_assert_eq(spec_view_read(l->f.completed, &view, &err), XQ_OK, "%s", err.message);
    l->shape = view.shape;
    l->bf16 = strstr(l->f.completed, "\"dtype\":\"bf16\"");
    const bool bf16_weights = strstr(l->f.completed, "\"weights\":\"bf16\"");
    l->bound = verify_bound(XQ_FUSED, l->bf16, bf16_weights ? ROUNDING_BF16 : ROUNDING_F16, false, 1);
    l->attend = fixture_kernel(&l->f, "attend");
    if (l->shape.keys.absorbed_columns)
        l->absorb = fixture_kernel(&l->f, "absorb");
    if (l->shape.key_norm_row)
        l->key_norms = fixture_kernel(&l->f, "key_norms");
    draw_weights(l, r);
}

random_stream attend_case_random(const struct attend_case *m, uint64_t seed)
{
    return random_begin(seed, XXH3_64bits(m->name, strlen(m->name)));
}

void attend_layer_open(struct attend_layer *l, const struct attend_case *m, const char *queries,
                       random_stream *r)
{
    static char spec[1024];
    snprintf(spec, sizeof spec,
             "{\"model\": {\"hidden_size\": 128, %s}, \"cache\": {%s}, "
             "\"queries\": \"%s\"%s}",
             m->model, m->cache, queries, m->rest);
    open_layer(l, spec, r);
}

void attend_layer_close(struct attend_layer *l)
{
    for (int i = 0; i < 7; i++) {
        free(l->matrices[i]);
        free(l->doubles[i]);
    }
    free(l->packed);
    fixture_close(&l->f);
}

/* ---------------------------------------------------------------- one call on the device */

/* Makes a table of shuffled pages for sequences of the call's lengths. */
static void page_sequences(random_stream *r, paged *p, const struct attend_call *c, int page)
{
    memset(p, 0, sizeof *p);
    p->batch = c->batch;
    p->page = page;
    for (int i = 0; i < c->batch; i++) {
        int length = p->lengths[i] = c->sequences[i].tokens, pages = (length + page - 1) / page;
        p->longest = length > p->longest ? length : p->longest;
        p->indptr[i + 1] = p->indptr[i] + pages;
        p->last_page_len[i] = pages ? length - (pages - 1) * page : -7;
    }
    p->entries = p->indptr[c->batch];
    p->pool = p->entries + 2;
    p->indices = malloc(sizeof *p->indices * (size_t)(p->pool + 1));
    for (int i = 0; i < p->pool; i++)
        p->indices[i] = i;
    random_shuffle(r, p->indices, (size_t)p->pool);
    for (int i = p->entries; i <= p->pool; i++)
        p->indices[i] = 0x7ffffff0;
}

static struct xq_queries upload_queries(struct attend_layer *l, const struct attend_call *c, int blocks)
{
    fixture *f = &l->f;
    struct xq_queries q = {.queries = c->queries, .blocks = blocks};
    if (!c->one)
        q.query_indptr = fixture_upload(f, c->indptr, (size_t)(c->batch + 1) * 4);
    if (c->has_positions)
        q.query_position = fixture_upload(f, c->positions, (size_t)c->queries * 4);
    if (c->has_offsets)
        q.token_offset = fixture_upload(f, c->offsets, (size_t)c->batch * 4);
    if (c->has_mask) {
        q.tree_mask = fixture_upload(f, c->mask, (size_t)(c->queries * ATTEND_MASK_WORDS) * 4);
        q.mask_words = ATTEND_MASK_WORDS;
    }
    return q;
}

static struct xq_matrix matrix(const struct attend_layer *l, const char *name)
{
    const struct shape_matrix *m = shape_matrix(&l->shape.weights[XQ_FUSED], name);
    return (struct xq_matrix){m ? l->weights + m->offset : 0,
                              m && m->scale_offset ? l->weights + m->scale_offset : 0,
                              m && m->sum_rows ? l->weights + m->sum_offset : 0};
}

static uint64_t vector(const struct attend_layer *l, const char *name)
{
    const struct shape_vector *v = shape_vector(&l->shape.weights[XQ_FUSED], name);
    return v ? l->weights + v->offset : 0;
}

/* Launches the kernels in the runtime's order: `absorb` and `key_norms`, where the layer has them, come
 * before `attend`. */
static struct xq_attend_params launch(struct attend_layer *l, const struct attend_call *c,
                                      const cache_image *image, const uint16_t *q, int per_split,
                                      bool with_sinks)
{
    fixture *f = &l->f;
    const struct shape *s = &l->shape;
    int rows = fixture_constant(l->attend, "query_rows"), group = s->heads / s->kv_heads, most = 1;
    for (int i = 0; i < c->batch; i++)
        most = c->sequences[i].queries > most ? c->sequences[i].queries : most;
    int blocks = (most * group + rows - 1) / rows,
        splits = (image->paged->longest + per_split - 1) / per_split;
    splits = splits ? splits : 1;
    size_t heads = (size_t)(c->queries * s->heads), dh = (size_t)s->head_dim;
    size_t all_rows = (size_t)(c->batch * blocks * s->kv_heads * rows);
    l->weights = fixture_upload(f, l->packed, s->weights[XQ_FUSED].bytes);
    struct xq_attend_params a = {
        .table = paged_upload(f, image->paged, false),
        .queries = upload_queries(l, c, blocks),
        .pages = fixture_upload(f, image->pages, image->pages_size),
        .tails = cache_image_upload_tails(f, image),
        .wk = matrix(l, "wk"),
        .wv = matrix(l, "wv"),
        .bk = vector(l, "bk"),
        .bv = vector(l, "bv"),
        .k_norm = vector(l, "k_norm"),
        .sinks = with_sinks ? vector(l, "sinks") : 0,
        .q = fixture_upload(f, q, heads * dh * 2),
        .out = fixture_filled(f, 0xff, heads * dh * 2),
        .lse = fixture_filled(f, 0xff, heads * 4),
        .partial_out = fixture_filled(f, 0xff, heads * (size_t)splits * dh * 2),
        .partial_lse = fixture_filled(f, 0xff, heads * (size_t)splits * 4),
        .counters = fixture_filled(f, 0, (size_t)(c->batch * blocks * s->kv_heads) * 4),
        .tokens_per_split = per_split,
    };
    if (l->absorb) {
        int width = inner_width(s, 0);
        struct xq_absorb_params b = {
            .queries = a.queries,
            .q = a.q,
            .wk = matrix(l, "wk_absorb"),
            .bk = vector(l, "bk_absorb"),
            .counters = a.counters,
            .absorbed = fixture_filled(f, 0xff, all_rows * (size_t)width * 2),
            .absorbed_scale = fixture_filled(f, 0xff, all_rows * (size_t)width / 64 * 4),
            .absorbed_bias = fixture_filled(f, 0xff, all_rows * 4),
        };
        fixture_launch(f, l->absorb, width / 64, s->kv_heads, c->batch * blocks, &b, sizeof b);
        a.absorbed = b.absorbed;
        a.absorbed_scale = b.absorbed_scale;
        a.absorbed_bias = b.absorbed_bias;
    }
    if (l->key_norms) {
        struct xq_key_norms_params n = {
            .table = a.table, .pages = a.pages, .tails = a.tails, .wk = a.wk, .bk = a.bk};
        int tile = fixture_constant(l->key_norms, "tile_tokens");
        n.sums =
            fixture_filled(f, 0xff, (size_t)(image->paged->entries * image->paged->page * s->kv_heads) * 4);
        fixture_launch(f, l->key_norms, image->paged->longest / tile + 1, s->kv_heads, c->batch, &n,
                       sizeof n);
        a.key_sums = n.sums;
    }
    for (int repeat = 0; repeat < 2; repeat++) /* the first launch sets the counters back to zero */
        fixture_launch(f, l->attend, splits, s->kv_heads, c->batch * blocks, &a, sizeof a);
    return a;
}

/* ---------------------------------------------------------------- judging */

static void expect(struct attend_layer *l, const struct attend_call *c, const cache_image *image,
                   const double *q, bool with_sinks, int i, double *out, double *lse)
{
    size_t width = (size_t)(l->shape.heads * l->shape.head_dim);
    int first = c->indptr[i];
    int64_t positions[ATTEND_MOST_QUERIES];
    for (int j = 0; j < c->sequences[i].queries; j++)
        positions[j] = c->positions[first + j];
    reference_queries queries = {
        .count = c->sequences[i].queries,
        .q = q + (size_t)first * width,
        .positions = c->has_positions ? positions : NULL,
        .token_offset = c->has_offsets ? c->offsets[i] : 0,
        .tree_mask = c->has_mask ? c->mask + first * ATTEND_MASK_WORDS : NULL,
        .mask_words = ATTEND_MASK_WORDS,
        .without_sinks = !with_sinks,
    };
    double *xk = cache_image_rows(image, 0, i), *xv = cache_image_rows(image, image->codec->streams - 1, i);
    error err = ERROR_INIT;
    cr_assert_eq(reference_attend_layer(&l->f.model, &l->reference, c->sequences[i].tokens, xk, xv,
                                        &queries, out, lse, &err),
                 XQ_OK, "%s", err.message);
    free(xk);
    free(xv);
}

/* A row whose query sees no token must hold zeros, and its lse must be minus infinity. Returns the relative
 * error of all other rows together. */
static double check_rows(struct attend_layer *l, int queries, const double *out, const float *lse,
                         const double *expected, const double *logarithms)
{
    size_t dh = (size_t)l->shape.head_dim, rows = (size_t)(queries * l->shape.heads), kept = 0;
    double *a = malloc((rows * dh + 1) * sizeof *a), *b = malloc((rows * dh + 1) * sizeof *b);
    for (size_t row = 0; row < rows; row++) {
        double norm = 0;
        for (size_t i = 0; i < dh; i++)
            norm += fabs(expected[row * dh + i]);
        if (norm == 0) {
            for (size_t i = 0; i < dh; i++)
                cr_assert_eq(out[row * dh + i], 0);
            cr_assert_eq(lse[row], -INFINITY, "row %zu sees nothing, its lse is %g", row, (double)lse[row]);
            continue;
        }
        cr_assert(fabs((double)lse[row] - logarithms[row]) <= 2 * l->bound * fmax(1, fabs(logarithms[row])),
                  "row %zu: lse %g, not %g", row, (double)lse[row], logarithms[row]);
        memcpy(a + kept * dh, expected + row * dh, dh * sizeof *a);
        memcpy(b + kept++ * dh, out + row * dh, dh * sizeof *b);
    }
    double e = kept ? reference_error(a, b, kept * dh) : 0;
    free(a);
    free(b);
    return e;
}

/* Rounds the queries to bf16, both as bits and as doubles. */
static void round_to_bfloat(uint16_t *q, double *queries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        q[i] = rounding_to_bfloat(queries[i]);
        queries[i] = half_from_bfloat(q[i]);
    }
}

double attend_judge(struct attend_layer *l, random_stream *r, const struct attend_call *c, int per_split,
                    bool with_sinks)
{
    paged p;
    cache_image image;
    page_sequences(r, &p, c, l->f.page);
    cache_image_open(&image, &l->f, l->shape.cross_layer, &p);
    cache_image_draw(&image, r);
    if (c->spread_scales)
        cache_image_spread_scales(&image);
    size_t width = (size_t)(l->shape.heads * l->shape.head_dim);
    uint16_t *q = elements_normals(r, false, (size_t)c->queries * width, 1);
    double *queries = elements_doubles(q, false, (size_t)c->queries * width);
    if (l->bf16)
        round_to_bfloat(q, queries, (size_t)c->queries * width);
    struct xq_attend_params a = launch(l, c, &image, q, per_split, with_sinks);
    uint16_t *halves = fixture_download(&l->f, a.out, (size_t)c->queries * width * 2);
    double *out = elements_doubles(halves, false, (size_t)c->queries * width), worst = 0;
    for (size_t i = 0; l->bf16 && i < (size_t)c->queries * width; i++)
        out[i] = half_from_bfloat(halves[i]);
    float *lse = fixture_download(&l->f, a.lse, (size_t)(c->queries * l->shape.heads) * 4);
    for (int i = 0; i < c->batch; i++) {
        int first = c->indptr[i], count = c->sequences[i].queries;
        double *expected = malloc(((size_t)count * width + 1) * sizeof *expected),
               *logarithms = malloc((size_t)(count * l->shape.heads + 1) * sizeof *logarithms);
        expect(l, c, &image, queries, with_sinks, i, expected, logarithms);
        double e = check_rows(l, count, out + (size_t)first * width, lse + first * l->shape.heads, expected,
                              logarithms);
        cr_expect_leq(e, l->bound, "sequence %d of %d tokens, %d queries, splits of %d: error %.2e", i,
                      c->sequences[i].tokens, count, per_split, e);
        worst = e > worst ? e : worst;
        free(expected);
        free(logarithms);
    }
    fixture_release(&l->f);
    cache_image_close(&image);
    paged_free(&p);
    free(lse);
    free(out);
    free(halves);
    free(queries);
    free(q);
    return worst;
}
