/* Attention over fp16 KV pages: its inputs, and checks of its results, for kernel tests. */
#ifndef TESTS_KERNEL_ATTENTION_H
#define TESTS_KERNEL_ATTENTION_H

#include "../support/kernel_fixture.h"

#define ATTENTION_BOUND 2e-3 /* relative L2 error of a sequence, at most; all f16 attention kernels */

typedef struct attention {
    uint16_t *k[FIXTURE_MAX_BATCH], *v[FIXTURE_MAX_BATCH]; /* k is rotated, as it is stored */
    uint16_t *q;
    uint16_t *kv; /* the pages */
    size_t kv_bytes;
} attention;

void attention_draw(random_stream *r, const fixture *f, const paged *p, attention *a);
void attention_free(const paged *p, attention *a);

/* Computes the reference results: out [batch, heads, head_dim], lse [batch, heads]. */
void attention_expect(const fixture *f, const paged *p, const attention *a, double *out, double *lse);

/* Makes arguments with outputs full of NaN. The caller sets the table and tokens_per_split. */
struct xq_kv_attend_params attention_arguments(fixture *f, const paged *p, int splits, uint64_t kv,
                                               const uint16_t *q, bool want_lse);

/* Compares the results of a launch with the expected ones, and checks that all counters are zero again.
 * Returns the largest relative error of any sequence. */
double attention_check(fixture *f, const paged *p, const struct xq_kv_attend_params *a,
                       const double *expected, const double *lse);

#endif
