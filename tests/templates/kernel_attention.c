#include "kernel_attention.h"
#include "../support/elements.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Copies rows [length, kv_heads * head_dim] of a sequence's K (which 0) or V (which 1) into the pages. */
static void fill_pages(const fixture *f, const paged *p, int sequence, uint16_t *kv, const uint16_t *rows,
                       int which)
{
    size_t width = (size_t)(f->model.kv_heads * f->model.head_dim);
    for (int t = 0; t < p->lengths[sequence]; t++)
        memcpy(kv + kv_row(f, paged_page(p, sequence, t), which, t % p->page), rows + (size_t)t * width,
               width * sizeof *rows);
}

void attention_draw(random_stream *r, const fixture *f, const paged *p, attention *a)
{
    size_t width = (size_t)(f->model.kv_heads * f->model.head_dim);
    a->kv_bytes = kv_row(f, p->pool, 0, 0) * sizeof(uint16_t);
    a->kv = malloc(a->kv_bytes + 2);
    memset(a->kv, FIXTURE_NAN & 0xff, a->kv_bytes);
    float sharpness = (float)random_choice(r, 3, 1, 2, 6);
    a->q = elements_normals(r, false, (size_t)(p->batch * f->model.heads * f->model.head_dim), sharpness);
    for (int i = 0; i < p->batch; i++) {
        a->k[i] = elements_normals(r, false, (size_t)p->lengths[i] * width, 1.0f);
        a->v[i] = elements_normals(r, false, (size_t)p->lengths[i] * width, 1.0f);
        fill_pages(f, p, i, a->kv, a->k[i], 0);
        fill_pages(f, p, i, a->kv, a->v[i], 1);
    }
}

void attention_free(const paged *p, attention *a)
{
    for (int i = 0; i < p->batch; i++) {
        free(a->k[i]);
        free(a->v[i]);
    }
    free(a->q);
    free(a->kv);
}

struct xq_kv_attend_params attention_arguments(fixture *f, const paged *p, int splits, uint64_t kv,
                                               const uint16_t *q, bool want_lse)
{
    size_t rows = (size_t)(p->batch * f->model.heads), dh = (size_t)f->model.head_dim;
    struct xq_kv_attend_params a = {0};
    a.kv = kv;
    a.q = fixture_upload(f, q, rows * dh * 2);
    a.out = fixture_filled(f, 0xff, rows * dh * 2);
    a.lse = want_lse ? fixture_filled(f, 0xff, rows * 4) : 0;
    a.partial_out = fixture_filled(f, 0xff, rows * (size_t)splits * dh * 2);
    a.partial_lse = fixture_filled(f, 0xff, rows * (size_t)splits * 4);
    a.counters = fixture_filled(f, 0, (size_t)(p->batch * f->model.kv_heads) * 4);
    return a;
}

double attention_check(fixture *f, const paged *p, const struct xq_kv_attend_params *a,
                       const double *expected, const double *lse)
{
    size_t per_sequence = (size_t)(f->model.heads * f->model.head_dim),
           all = per_sequence * (size_t)p->batch;
    uint16_t *halves = fixture_download(f, a->out, all * 2);
    double *out = elements_doubles(halves, false, all), worst = 0;
    for (int i = 0; i < p->batch; i++) {
        size_t at = (size_t)i * per_sequence;
        double e = reference_error(expected + at, out + at, per_sequence);
        cr_assert(e <= ATTENTION_BOUND, "sequence %d of %d tokens: error %g", i, p->lengths[i], e);
        worst = e > worst ? e : worst;
    }
    if (a->lse) {
        float *got = fixture_download(f, a->lse, (size_t)(p->batch * f->model.heads) * 4);
        for (int i = 0; i < p->batch * f->model.heads; i++) {
            bool same =
                isinf(lse[i]) ? got[i] == -INFINITY : fabs(got[i] - lse[i]) <= 2e-3 * fmax(1, fabs(lse[i]));
            cr_assert(same, "log-sum-exp of head %d: %g, not %g", i, (double)got[i], lse[i]);
        }
        free(got);
    }
    int counters = p->batch * f->model.kv_heads;
    int32_t *left = fixture_download(f, a->counters, (size_t)counters * 4);
    for (int i = 0; i < counters; i++)
        cr_assert_eq(left[i], 0, "counter %d is left at %d", i, left[i]);
    free(left);
    free(out);
    free(halves);
    return worst;
}

void attention_expect(const fixture *f, const paged *p, const attention *a, double *out, double *lse)
{
    error err = ERROR_INIT;
    size_t width = (size_t)(f->model.kv_heads * f->model.head_dim),
           per_sequence = (size_t)(f->model.heads * f->model.head_dim);
    for (int i = 0; i < p->batch; i++) {
        int n = p->lengths[i];
        double *k = elements_doubles(a->k[i], false, (size_t)n * width),
               *v = elements_doubles(a->v[i], false, (size_t)n * width);
        double *q = elements_doubles(a->q + (size_t)i * per_sequence, false, per_sequence);
        const reference_queries last = {.count = 1, .q = q, .without_sinks = true};
        cr_assert_eq(reference_attend_queries(&f->model, &(reference_layer){0}, n, k, v, &last,
                                              out + (size_t)i * per_sequence, lse + i * f->model.heads,
                                              &err),
                     XQ_OK);
        free(k);
        free(v);
        free(q);
    }
}
