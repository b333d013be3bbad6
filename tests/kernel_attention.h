/* Attention over fp16 KV pages, as kernel tests set it up and judge it. */
#ifndef TESTS_KERNEL_ATTENTION_H
#define TESTS_KERNEL_ATTENTION_H

#include "kernel_fixture.h"

#define ATTENTION_BOUND 2e-3 /* relative, L2, worst sequence: of every attention kernel in f16 */

typedef struct attention {
    uint16_t *k[FIXTURE_MAX_BATCH], *v[FIXTURE_MAX_BATCH]; /* k as stored: rotated */
    uint16_t *q;
    uint16_t *kv; /* the pages */
    size_t kv_bytes;
} attention;

void attention_draw(random_stream *r, const fixture *f, const paged *p, attention *a);
void attention_free(const paged *p, attention *a);

/* What the reference gives: out [batch, heads, head_dim], lse [batch, heads]. */
void attention_expect(const fixture *f, const paged *p, const attention *a, double *out, double *lse);

/* Arguments with fresh, poisoned outputs; the table and tokens_per_split are left to the caller. */
struct xq_kv_attend_params attention_arguments(fixture *f, const paged *p, int splits, uint64_t kv,
                                               const uint16_t *q, bool want_lse);

/* Compares a launch's results with the expected ones, and checks that counters are back at zero. Returns
 * the worst relative error of a sequence. */
double attention_check(fixture *f, const paged *p, const struct xq_kv_attend_params *a,
                       const double *expected, const double *lse);

#endif
